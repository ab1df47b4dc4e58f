"""Shapes of two-dimensional posteriors: how many peaks, how far extended.

Paper II counts bimodal and extended activation maps, by a rule that it does not give. The rule
here: a map is *bimodal* when two separate regions each hold ``LEAST_MASS`` of it and have peaks
at least ``LEAST_PROMINENCE`` times the highest level at which they touch; *extended* when it is
not, and its standard deviation along its longest direction exceeds ``LONG`` bins of the paper's
grid.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Sect. 3.3.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

LEAST_MASS = 0.1
LEAST_PROMINENCE = 2.0
LONG = 2.0
_LEVELS = np.geomspace(0.02, 0.7, 10)
"""Levels, of the highest peak, at which a map is cut into regions."""
_TOUCHING = np.ones((3, 3))


@dataclass(frozen=True)
class MapShapes:
    """Shapes of a batch of maps.

    Parameters
    ----------
    bimodal, extended : array of bool, shape (n,)
    length : array, shape (n,), bins
        Standard deviation along the longest direction.
    """

    bimodal: NDArray[np.bool_]
    extended: NDArray[np.bool_]
    length: Array

    def as_json(self) -> dict[str, float]:
        """Fractions, and the median length."""
        return {
            "bimodal": float(self.bimodal.mean()),
            "extended": float(self.extended.mean()),
            "median_length_bins": float(np.median(self.length)),
        }


def map_shapes(density: ArrayLike) -> MapShapes:
    """Shapes of maps.

    Parameters
    ----------
    density : array, shape (n, n_x, n_y), >= 0
        Mass in each cell, any scale.

    Raises
    ------
    MelotteValueError
        When a map is empty or not finite.
    """
    maps = np.asarray(density, dtype=float)
    total = maps.sum((1, 2), keepdims=True) if maps.ndim == 3 else np.zeros(1)
    if maps.ndim != 3 or not np.isfinite(maps).all() or (maps < 0).any() or (total <= 0).any():
        raise MelotteValueError(
            f"density: needs shape (n, n_x, n_y) of finite maps with mass, found {maps.shape}"
        )
    maps = maps / total
    bimodal = np.array([_is_bimodal(one) for one in maps], dtype=bool)
    length = _lengths(maps)
    return MapShapes(bimodal, ~bimodal & (length > LONG), length)


def sampled_maps(samples: ArrayLike, bins: tuple[int, int], smoothing: float = 0.7) -> Array:
    """Maps from samples.

    Parameters
    ----------
    samples : array, shape (n, n_samples, 2), from 0 to 1
        Places within the ranges that the bins divide; samples outside count to the edge.
    bins : (int, int)
    smoothing : float, bins
        Standard deviation of a Gaussian that evens out the noise of sampling.

    Returns
    -------
    array, shape (n, *bins), each of sum 1
    """
    drawn = np.asarray(samples, dtype=float)
    cells = np.clip((drawn * bins).astype(int), 0, np.array(bins) - 1)
    flat = cells[..., 0] * bins[1] + cells[..., 1]
    size = bins[0] * bins[1]
    flat = flat + size * np.arange(len(flat))[:, None]
    counts = np.bincount(flat.ravel(), minlength=size * len(drawn)).reshape(len(drawn), *bins)
    if smoothing > 0:
        counts = ndimage.gaussian_filter(
            counts.astype(float), (0, smoothing, smoothing), mode="nearest"
        )
    return counts / counts.sum((1, 2), keepdims=True)


def _is_bimodal(density: Array) -> bool:
    highest = density.max()
    for level in _LEVELS:
        cut = level * highest
        labels = np.zeros(density.shape, dtype=np.int32)
        n = int(ndimage.label(density > cut, _TOUCHING, output=labels))  # pyright: ignore
        if n < 2:
            continue
        numbers = np.arange(1, n + 1)
        peaks = np.asarray(ndimage.maximum(density, labels, numbers))
        mass = np.asarray(ndimage.sum_labels(density, labels, numbers))
        if ((peaks >= LEAST_PROMINENCE * cut) & (mass >= LEAST_MASS)).sum() >= 2:
            return True
    return False


def _lengths(maps: Array) -> Array:
    x, y = np.arange(float(maps.shape[1])), np.arange(float(maps.shape[2]))
    along_x, along_y = np.asarray(maps.sum(2)), np.asarray(maps.sum(1))
    mean_x, mean_y = along_x @ x, along_y @ y
    variance_x = along_x @ x**2 - mean_x**2
    variance_y = along_y @ y**2 - mean_y**2
    mixed = np.einsum("nij,i,j->n", maps, x, y) - mean_x * mean_y
    half = (variance_x + variance_y) / 2
    root = np.sqrt(((variance_x - variance_y) / 2) ** 2 + mixed**2)
    return np.sqrt(np.maximum(half + root, 0))
