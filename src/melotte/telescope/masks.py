"""Masks of what must not be in a background: saturated stars, listed clusters and galaxies.

Nothing here reads coordinates of its own: positions on the sky pass through a function that the
caller has, such as the ``world_to_pixel_values`` of an astropy WCS.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from scipy import ndimage
from torch import Tensor

from melotte.errors import MelotteValueError


def circle_mask(shape: tuple[int, int], x: Tensor, y: Tensor, radius: Tensor) -> Tensor:
    """Pixels whose centre lies in any of some circles.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    x, y : Tensor, shape (n,), px
        Columns and rows of the centres, which may lie outside the image; the centre of the first
        pixel is 0. A circle with NaN or of radius 0 masks nothing.
    radius : Tensor, shape (n,) or (), px, >= 0

    Returns
    -------
    BoolTensor, shape ``shape``

    Raises
    ------
    MelotteValueError
        When a radius is below 0.
    """
    flat = torch.zeros_like(torch.as_tensor(x, dtype=torch.float64))
    return ellipse_mask(shape, x, y, radius, radius, flat)


def ellipse_mask(
    shape: tuple[int, int], x: Tensor, y: Tensor, major: Tensor, minor: Tensor, angle: Tensor
) -> Tensor:
    """Pixels whose centre lies in any of some ellipses, such as the outlines of galaxies.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    x, y : Tensor, shape (n,), px
        As in :func:`circle_mask`.
    major, minor : Tensor, shape (n,) or (), px, >= 0
        Half axes.
    angle : Tensor, shape (n,) or (), rad
        Of the major axis, from the columns' axis towards the rows'.

    Returns
    -------
    BoolTensor, shape ``shape``

    Raises
    ------
    MelotteValueError
        When a half axis is below 0.
    """
    given = [torch.as_tensor(one, dtype=torch.float64) for one in (x, y, major, minor, angle)]
    values = torch.stack(torch.broadcast_tensors(*given), dim=-1).reshape(-1, 5).numpy()
    if (values[:, 2:4] < 0).any():
        worst = float(values[:, 2:4].min())
        raise MelotteValueError(f"a mask's radius is {worst:g} px; it must be at least 0")
    mask = np.zeros(shape, dtype=bool)
    for column, row, a, b, theta in values[np.isfinite(values).all(axis=1)].tolist():
        reach = max(a, b)
        rows = slice(max(math.ceil(row - reach), 0), min(math.floor(row + reach) + 1, shape[0]))
        columns = slice(
            max(math.ceil(column - reach), 0), min(math.floor(column + reach) + 1, shape[1])
        )
        if rows.start >= rows.stop or columns.start >= columns.stop or a * b == 0:
            continue
        dy, dx = np.mgrid[rows, columns]
        dy, dx = dy - row, dx - column
        along = dx * math.cos(theta) + dy * math.sin(theta)
        across = dy * math.cos(theta) - dx * math.sin(theta)
        mask[rows, columns] |= (along / a) ** 2 + (across / b) ** 2 <= 1
    return torch.from_numpy(mask)


def sky_mask(
    shape: tuple[int, int],
    ra: Tensor,
    dec: Tensor,
    radius: Tensor,
    to_pixel: Callable[[np.ndarray, np.ndarray], Sequence[np.ndarray]],
    pixel_scale: float,
) -> Tensor:
    """Pixels within an angle of any listed position on the sky.

    Parameters
    ----------
    shape : (int, int)
        Rows and columns.
    ra, dec : Tensor, float64, shape (n,), deg
    radius : Tensor, shape (n,) or (), arcsec, >= 0
    to_pixel : callable
        From right ascension and declination (deg) to columns and rows from 0.
    pixel_scale : float, arcsec, > 0

    Returns
    -------
    BoolTensor, shape ``shape``

    Raises
    ------
    MelotteValueError
        When the pixel scale is not above 0 or a radius is below 0.
    """
    if not pixel_scale > 0:
        raise MelotteValueError(f"pixel_scale {pixel_scale:g} arcsec must be above 0")
    columns, rows = to_pixel(
        np.asarray(ra, dtype=np.float64).reshape(-1), np.asarray(dec, dtype=np.float64).reshape(-1)
    )
    x, y = torch.as_tensor(np.asarray(columns)), torch.as_tensor(np.asarray(rows))
    return circle_mask(shape, x, y, torch.as_tensor(radius, dtype=torch.float64) / pixel_scale)


def saturated_mask(
    images: Tensor, level: float | Sequence[float], grow: float = 5.0, core_factor: float = 0.0
) -> Tensor:
    """Pixels near saturated ones, in any band.

    Parameters
    ----------
    images : Tensor, shape (n_bands, n_rows, n_columns) or (n_rows, n_columns), counts/s
        NaN counts as no value, not as saturated.
    level : float, or one a band, counts/s, > 0
        From which a pixel is saturated: the full well divided by the exposure of one readout.
    grow : float, px, >= 0
        How far around a saturated pixel the mask reaches.
    core_factor : float, >= 0
        The mask reaches further by this many times the radius of each saturated core, so that
        brighter stars lose wider surroundings.

    Returns
    -------
    BoolTensor, shape (n_rows, n_columns)

    Raises
    ------
    MelotteValueError
        When there is not one level, or one for each band, above 0.
    """
    stack = images if images.ndim == 3 else images[None]
    levels = [float(level)] if isinstance(level, int | float) else [float(one) for one in level]
    if len(levels) not in (1, len(stack)) or min(levels) <= 0:
        raise MelotteValueError(
            f"saturation levels {levels} must be one, or one for each of {len(stack)} bands, "
            "and above 0"
        )
    limits = torch.tensor(levels, dtype=stack.dtype, device=stack.device)[:, None, None]
    cores = (stack >= limits).any(dim=0).cpu().numpy()
    if not cores.any():
        return torch.from_numpy(cores)
    mask = _grown(cores, grow)
    if core_factor > 0:
        found: Any = ndimage.label(cores, structure=np.ones((3, 3)))
        labels, every = found[0], np.arange(1, found[1] + 1)
        radius = np.sqrt(ndimage.sum_labels(cores, labels, every) / math.pi)
        centres = np.array(ndimage.center_of_mass(cores, labels, every))
        y, x = torch.from_numpy(centres).unbind(dim=1)
        reach = torch.from_numpy((1 + core_factor) * radius + grow)
        mask |= circle_mask((cores.shape[0], cores.shape[1]), x, y, reach).numpy()
    return torch.from_numpy(mask)


def _grown(mask: np.ndarray, reach: float) -> np.ndarray:
    """Pixels within a distance of a mask's."""
    if reach < 0:
        raise MelotteValueError(f"grow {reach:g} px must be at least 0")
    return np.asarray(ndimage.distance_transform_edt(~mask)) <= reach
