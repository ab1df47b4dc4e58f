"""Maps of the mass of spheres that no stars stand for: every pixel's share, exactly."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.projected_stars import Pointing

_LEAST_SCALE = 1e-6
"""Pixels; smaller spheres are points."""


def plummer_map(
    mass: Tensor, scale: Tensor, pointing: Pointing, grid: MapGrid | None = None
) -> Tensor:
    """Mass of Plummer's spheres at the clusters' centres in each pixel.

    Parameters
    ----------
    mass : Tensor, shape (n,), Msun
    scale : Tensor, shape (n,), pc, >= 0
        0 puts all of the mass into the pixel of the centre.
    pointing : Pointing
    grid : MapGrid, optional

    Returns
    -------
    Tensor of float32, shape (n, rows, columns), Msun per pixel

    Notes
    -----
    The projected density a^2 / (pi (a^2 + R^2)^2) of Plummer 1911, MNRAS 71, 460, is the mixed
    derivative of

        F(x, y) = (x/s atan(y/s) + y/t atan(x/t)) / (2 pi), s^2 = a^2 + x^2, t^2 = a^2 + y^2,

    so a pixel holds the differences of F between its corners.
    """
    grid = grid or MapGrid()
    pixel = grid.pixel_of(pointing.centre, pointing.pixel_scale).double()
    width = (scale * pointing.arcsec_per_parsec / pointing.pixel_scale).double()
    width = width.clamp(min=_LEAST_SCALE)[:, None, None].square()
    x, y = (
        (torch.arange(many + 1, device=pixel.device) - 0.5 - pixel[:, axis, None])
        for axis, many in ((0, grid.columns), (1, grid.rows))
    )
    x, y = x[:, None, :], y[:, :, None]
    s, t = (width + x.square()).sqrt(), (width + y.square()).sqrt()
    corner = (x / s * torch.atan(y / s) + y / t * torch.atan(x / t)) / (2 * math.pi)
    shares = corner.diff(dim=1).diff(dim=2)
    return (mass.double()[:, None, None] * shares).float()
