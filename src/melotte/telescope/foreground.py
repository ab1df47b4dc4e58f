"""Stars in front of and behind a cluster, put on its maps."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.sky.apparent_field_stars import ApparentFieldStars
from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.projected_stars import Pointing, ProjectedStars


def field_stars(
    library: ApparentFieldStars,
    density: Tensor,
    limit: float,
    pointing: Pointing,
    grid: MapGrid,
    generator: torch.Generator,
) -> ProjectedStars:
    """Field stars spread evenly over each map and its surroundings.

    Parameters
    ----------
    library : ApparentFieldStars
    density : Tensor, shape (n,), stars/arcmin^2, >= 0
        Brighter than ``limit``.
    limit : float, mag
        In the library's first band.
    pointing : Pointing
    grid : MapGrid
    generator : torch.Generator, on the device of the library and the pointing

    Returns
    -------
    ProjectedStars
        As :func:`placed_field_stars` gives them, to be joined with the cluster's.
    """
    if not bool((density >= 0).all()):
        raise MelotteValueError(f"densities must be 0 or more, found {float(density.min()):g}")
    side = (grid.period * pointing.pixel_scale) / 60
    magnitudes = library.draw(density * side.square(), limit, generator)
    return placed_field_stars(magnitudes, pointing, grid, generator)


def placed_field_stars(
    magnitudes: Ragged, pointing: Pointing, grid: MapGrid, generator: torch.Generator
) -> ProjectedStars:
    """Stars of given apparent magnitudes at random places, as if they were of the cluster.

    Parameters
    ----------
    magnitudes : Ragged, values of shape (n_stars, n_bands), mag
    pointing : Pointing
    grid : MapGrid
    generator : torch.Generator, on the device of the others

    Returns
    -------
    ProjectedStars
        Positions and luminosities are those that give the same picture at the cluster's distance;
        mass and velocity are 0, so that maps of mass stay the cluster's own.
    """
    field = magnitudes.index
    values = magnitudes.values
    side = grid.period * pointing.pixel_scale[field]
    uniform = torch.rand(len(values), 2, generator=generator, device=values.device) - 0.5
    place = uniform * side[:, None] - pointing.centre[field]
    modulus = 5 * torch.log10(pointing.distance[field]) + 10
    nothing = torch.zeros(len(values), device=values.device)
    return ProjectedStars(
        place / pointing.arcsec_per_parsec[field, None],
        10 ** (-0.4 * (values - modulus[:, None])),
        nothing,
        nothing,
        magnitudes.offsets,
    )
