"""A user's map of velocity dispersions in the bins that models read."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.dispersion_files import DispersionImage
from melotte.io.light_maps import LightImages
from melotte.io.reprojection import same_grid
from melotte.systems.globular_clusters.settings import BIN_PIXELS, DataSettings
from melotte.telescope.measured_dispersions import squared_error, told_error

LEAST_COVERED = 0.5
"""Part of a bin's area with spectra below which it has no dispersion."""
_POINTS_A_BIN = 8
"""Least points along a bin's side at which a map of dispersions is read."""

Array = NDArray[np.float64]


def known_dispersions(
    images: LightImages,
    data: DataSettings,
    light: NDArray[np.float32],
    corner: tuple[float, float],
    step: float,
) -> dict[str, Tensor]:
    """Dispersions of a cluster's light in bins of its map, where the user has them.

    In a bin, squares of dispersions are averaged by light, as in one spectrum of all of it; pixels
    of the same value and error count as one spectrum, others as independent. Errors are those that
    :func:`melotte.telescope.measured_dispersions.squared_error` reads, which are the usual ones
    where a dispersion is several times its error. Mean velocities are taken to be one: where a
    cluster rotates, that part is missing.

    Parameters
    ----------
    images : LightImages
    data : DataSettings
    light : array, shape (size, size)
        Of the map, sky taken off; NaN counts as none.
    corner : (float, float), px
        Column and row of the map's outer corner in the image, whose first pixel begins at 0.
    step : float
        Side of the map's pixels in the image's.

    Returns
    -------
    dict of str to Tensor, shape (1, n_bins, n_bins), km/s
        ``dispersion`` and ``dispersion_error``, NaN where unknown; none where the model reads no
        dispersions.

    Raises
    ------
    MelotteValueError
        When the model reads no dispersions and there are some, or none lies on the map.
    """
    given = images.dispersions
    if data.dispersion_share == 0:
        if given is not None:
            raise MelotteValueError(f"dispersion {given.path}: the model reads no dispersions")
        return {}
    n_bins = light.shape[0] // BIN_PIXELS
    dispersion = np.full((n_bins, n_bins), np.nan)
    error = dispersion.copy()
    if given is not None:
        side = light.shape[0] / n_bins
        column, row, value, spread, area = _points(given, images, side * step)
        column, row = (column + 0.5 - corner[0]) / step, (row + 0.5 - corner[1]) / step
        inside = (column >= 0) & (row >= 0) & (column < len(light)) & (row < len(light))
        if not inside.any():
            raise MelotteValueError(f"dispersion {given.path}: no spectrum lies on the map")
        column, row, value, spread = (one[inside] for one in (column, row, value, spread))
        weight = np.nan_to_num(light[row.astype(int), column.astype(int)].clip(min=0))
        # Without light a point still tells where there is no other.
        weight = weight + 1e-6 * max(float(weight.max()), 1e-6)
        place = (row // side).astype(int) * n_bins + (column // side).astype(int)
        full = side**2 * step**2
        dispersion, error = _in_bins(place, n_bins, value, spread, weight, area / full)
    return {
        "dispersion": torch.from_numpy(dispersion).float()[None],
        "dispersion_error": torch.from_numpy(error).float()[None],
    }


def _points(
    given: DispersionImage, images: LightImages, bin_side: float
) -> tuple[Array, Array, Array, Array, float]:
    """Column and row in the image, dispersion and error of points, and the area that each covers.

    Pixels as large as bins are cut into parts, so that none falls between two bins.
    """
    known = np.isfinite(given.values)
    rows, columns = (one.astype(float) for one in np.nonzero(known))
    values, errors = (one[known].astype(float) for one in (given.values, given.errors))
    shape = (int(images.images.shape[1]), int(images.images.shape[2]))
    if given.values.shape == shape and same_grid(given.wcs, images.wcs, shape):
        return columns, rows, values, errors, 1.0
    if given.wcs is None or images.wcs is None:
        raise MelotteValueError(
            f"dispersion {given.path}: it is of {given.values.shape} pixels and the image of "
            f"{shape}, so both need celestial coordinates"
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from astropy.wcs.utils import proj_plane_pixel_area

        ratio = proj_plane_pixel_area(given.wcs) / proj_plane_pixel_area(images.wcs)
        parts = max(1, math.ceil(_POINTS_A_BIN * math.sqrt(ratio) / bin_side - 1e-3))
        offset = (np.arange(parts) + 0.5) / parts - 0.5
        down, across = (one.ravel() for one in np.meshgrid(offset, offset, indexing="ij"))
        sky = given.wcs.pixel_to_world(
            (columns[:, None] + across).ravel(), (rows[:, None] + down).ravel()
        )
        column, row = (np.asarray(one, dtype=float) for one in images.wcs.world_to_pixel(sky))
    values, errors = (np.repeat(one, parts**2) for one in (values, errors))
    return column, row, values, errors, ratio / parts**2


def _in_bins(
    place: NDArray[np.int64], n_bins: int, value: Array, spread: Array, weight: Array, area: float
) -> tuple[Array, Array]:
    """Dispersion and error of each bin, shape (n_bins, n_bins); NaN where little is covered."""
    n = n_bins**2
    total = np.bincount(place, weight, n)
    covered = area * np.bincount(place, minlength=n)
    _, spectrum = np.unique(np.stack([value, spread], 1), axis=0, return_inverse=True)
    # Each spectrum has one error, however many pixels of a bin it covers.
    pairs, first, pair = np.unique(
        place * (spectrum.max() + 1) + spectrum.ravel(), return_index=True, return_inverse=True
    )
    share = np.bincount(pair.ravel(), weight, len(pairs)) / total[place[first]]
    own, error = value[first], spread[first]
    squared = np.bincount(place[first], share * own**2, n)
    variance = np.bincount(place[first], (share * squared_error(own, error)) ** 2, n)
    with np.errstate(divide="ignore", invalid="ignore"):
        dispersion = np.where(covered >= LEAST_COVERED, np.sqrt(squared), np.nan)
        uncertainty = told_error(dispersion, np.sqrt(variance))
    return dispersion.reshape(n_bins, n_bins), uncertainty.reshape(n_bins, n_bins)
