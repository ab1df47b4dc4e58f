"""Radial profiles of maps about a centre."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.floating[Any]]

N_BINS = 25
"""Of Chardin & Bianchini 2021, Eq. 3; about 1.1 arcsec wide for 160 pixels of 0.25 arcsec."""


def profile_edges(rows: int, columns: int, n_bins: int = N_BINS) -> Array:
    """Edges of equal bins from the centre to half of the map's diagonal, pixels."""
    return np.linspace(0.0, 0.5 * float(np.hypot(rows, columns)), n_bins + 1)


def mass_centres(mass: ArrayLike) -> Array:
    """Columns and rows of the centres of maps, shape (n, 2), pixels.

    Parameters
    ----------
    mass : array, shape (n, rows, columns), >= 0
        Weighted by its square, so that the core decides.
    """
    weight = np.asarray(mass, dtype=float) ** 2
    total = np.maximum(weight.sum((1, 2)), 1e-300)
    rows, columns = weight.shape[1:]
    across = (weight.sum(1) * np.arange(columns)).sum(1) / total
    down = (weight.sum(2) * np.arange(rows)).sum(1) / total
    return np.stack([across, down], 1)


def radial_profiles(maps: ArrayLike, centres: Array, n_bins: int = N_BINS) -> Array:
    """Mean of the pixels in rings.

    Parameters
    ----------
    maps : array, shape (n, rows, columns)
        Pixels that are not finite are left out.
    centres : array, shape (n, 2), columns and rows
    n_bins : int

    Returns
    -------
    array, shape (n, n_bins)
        NaN for rings outside of the map.

    References
    ----------
    Chardin & Bianchini 2021, MNRAS 504, 5656, Eq. 3.
    """
    total, number = ring_sums(maps, centres, n_bins)
    return np.where(number > 0, total / np.maximum(number, 1), np.nan)


def ring_sums(
    maps: ArrayLike, centres: Array, n_bins: int = N_BINS
) -> tuple[Array, NDArray[np.int64]]:
    """Sums of the pixels in rings, and how many they are.

    Parameters
    ----------
    maps : array, shape (n, rows, columns)
        Pixels that are not finite are left out, and so are those beyond the last ring.
    centres : array, shape (n, 2), columns and rows
    n_bins : int

    Returns
    -------
    sums, numbers : array, shape (n, n_bins)
        0 for rings without pixels.
    """
    values = np.asarray(maps, dtype=float)
    n, rows, columns = values.shape
    width = profile_edges(rows, columns, n_bins)[1]
    across = (np.arange(columns) - centres[:, :1]) ** 2
    down = (np.arange(rows) - centres[:, 1:]) ** 2
    ring = (np.sqrt(down[:, :, None] + across[:, None, :]) / width).astype(np.int64)
    good = np.isfinite(values) & (ring < n_bins)
    key = (np.arange(n)[:, None, None] * n_bins + ring)[good]
    number = np.bincount(key, minlength=n * n_bins)
    total = np.bincount(key, weights=values[good], minlength=n * n_bins).astype(float)
    return total.reshape(n, n_bins), number.reshape(n, n_bins).astype(np.int64)
