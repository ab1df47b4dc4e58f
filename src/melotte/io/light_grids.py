"""Bands of a globular cluster's images brought to one grid of pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.io.image_stacks import SAME_SCALE, Images
from melotte.io.light_planes import LightPlane
from melotte.io.reprojection import reprojected, same_grid


def common_grid(used: Sequence[LightPlane]) -> LightPlane:
    """The band on whose pixels all are laid: the first, unless another's are larger by 2 %.

    On smaller pixels than its own a band's noise would be shared by neighbours, and look too small.

    Raises
    ------
    MelotteValueError
        When pixels differ and a band has no celestial coordinates.
    """
    widest = used[0]
    for one in used[1:]:
        if pixels_along(widest, one) > 1:
            widest = one
    if any(pixels_along(one, widest) > 1 and None in (one.wcs, widest.wcs) for one in used):
        raise MelotteValueError(
            f"{other_scale(used)}, and not both have the celestial coordinates by which one could "
            "be laid on the other"
        )
    return widest


def pixels_along(one: LightPlane, grid: LightPlane) -> float:
    """Pixels of a band along the side of one of the grid's; 1 where they are the same to 2 %."""
    ratio = grid.header.pixel_scale / one.header.pixel_scale
    return 1.0 if math.isnan(ratio) or abs(math.log(ratio)) < SAME_SCALE else ratio


def other_scale(used: Sequence[LightPlane]) -> str:
    """That two bands have different pixels."""
    first, other = used[0], used[-1]
    return (
        f"{other.path}: its pixels in {other.band} are {other.header.pixel_scale:.4g} arcsec and "
        f"those in {first.band} {first.header.pixel_scale:.4g}"
    )


def laid_on(
    values: Images, full: NDArray[np.bool_], one: LightPlane, first: LightPlane
) -> tuple[Images, NDArray[np.bool_]]:
    """Fluxes and saturated pixels of a band on another's grid.

    Parameters
    ----------
    values : array, float32, shape (n_rows, n_columns)
        Flux a pixel.
    full : array of bool, of the same shape
        Saturated pixels; all they touch on the grid is saturated too.
    one, first : LightPlane
        The band, and the one whose grid it comes to.

    Raises
    ------
    MelotteValueError
        When the grids differ and a band has no celestial coordinates.
    MissingExtraError
        When they differ and the package ``reproject`` is not installed.
    """
    shape = (int(first.values.shape[0]), int(first.values.shape[1]))
    if values.shape == shape and same_grid(one.wcs, first.wcs, shape):
        return values, full
    if one.wcs is None or first.wcs is None:
        bare = one if one.wcs is None else first
        raise MelotteValueError(
            f"{bare.path} has no celestial coordinates, and the images in {first.band} and "
            f"{one.band} differ in size; a WCS, or images on the same grid, is needed"
        )
    moved = reprojected(values, one.wcs, first.wcs, shape)
    if not full.any():
        return moved, np.zeros(shape, bool)
    touched = reprojected(full.astype(np.float32), one.wcs, first.wcs, shape)
    return moved, touched > 0
