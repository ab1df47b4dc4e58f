"""Errors in bins of the predicted value, their mean over bins, and its error by bootstrap.

A user knows what was predicted, not what is true; so errors are counted by prediction. Each bin
weighs the same, however many values it holds.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

HELD = 0.99
"""Share of all values that the bins that count hold, at least."""
RESAMPLES = 400
_STREAM = 41


@dataclass(frozen=True)
class BinMeans:
    """Mean errors of the bins that count.

    Parameters
    ----------
    edges : array, shape (n_bins + 1,)
        Where bins begin, and the end of the last.
    means : array, shape (n_bins,)
    counts : array, shape (n_bins,)
    resamples : array, shape (n_resamples, n_bins)
        Means with the groups drawn anew; NaN where a resample has no value in a bin.
    """

    edges: Array
    means: Array
    counts: Array
    resamples: Array

    def since(self, low: float) -> BinMeans:
        """The bins that begin at ``low`` or above; of none where there are none."""
        first = int(np.searchsorted(self.edges[:-1], low - 1e-9))
        return BinMeans(
            self.edges[first:], self.means[first:], self.counts[first:], self.resamples[:, first:]
        )

    @property
    def mean(self) -> float:
        """Over bins, each with the same weight; NaN without one."""
        return float(self.means.mean()) if len(self.means) else math.nan

    @property
    def error(self) -> float:
        """Standard deviation of the mean over resamples of the groups; NaN for a single group."""
        drawn = self.resampled_means
        return float(drawn.std()) if len(drawn) > 1 else math.nan

    @property
    def resampled_means(self) -> Array:
        """Mean over bins of each resample, shape (n_resamples,); of none where there is no bin."""
        if not len(self.means) or not len(self.resamples):
            return np.zeros(0)
        known = np.isfinite(self.resamples)
        total = np.where(known, self.resamples, 0.0).sum(1)
        return total / np.maximum(known.sum(1), 1)

    def as_json(self) -> dict[str, float]:
        """``mean`` over bins with its ``error``, ``least`` and ``most`` of a bin."""
        some = len(self.means) > 0
        return {
            "mean": self.mean,
            "error": self.error,
            "least": float(self.means.min()) if some else math.nan,
            "most": float(self.means.max()) if some else math.nan,
        }


class BinnedErrors:
    """Collects errors in bins, of any number of values.

    Parameters
    ----------
    edges : array, shape (n_bins + 1,), ascending
        Values outside are left out.

    Raises
    ------
    MelotteValueError
        When the edges do not ascend.
    """

    def __init__(self, edges: ArrayLike) -> None:
        self.edges = np.asarray(edges, dtype=float)
        if self.edges.ndim != 1 or len(self.edges) < 2 or not (np.diff(self.edges) > 0).all():
            raise MelotteValueError("edges of bins must ascend, and there must be two or more")
        self._sums: dict[int, Array] = {}

    def add(self, value: ArrayLike, error: ArrayLike, group: ArrayLike) -> None:
        """Count errors.

        Parameters
        ----------
        value : array, shape (n, ...)
            What is binned: the prediction.
        error : array, the shape of ``value``, >= 0
            Pairs that are not finite are left out.
        group : array of int, shape (n,)
        """
        place, size = (np.asarray(one, dtype=float) for one in (value, error))
        place, size = place.reshape(len(place), -1), size.reshape(len(place), -1)
        n_bins = len(self.edges) - 1
        found = np.searchsorted(self.edges, place, side="right") - 1
        number = np.where(place == self.edges[-1], n_bins - 1, found)
        good = (number >= 0) & (number < n_bins) & np.isfinite(place) & np.isfinite(size)
        names, codes = np.unique(np.asarray(group)[good.any(1)], return_inverse=True)
        whole = np.full(len(place), 0)
        np.place(whole, good.any(1), codes)
        key = (whole[:, None] * n_bins + number)[good]
        many = len(names) * n_bins
        sums = np.zeros((2, many))
        sums[0] = np.bincount(key, weights=size[good], minlength=many)
        sums[1] = np.bincount(key, minlength=many)
        sums = sums.reshape(2, len(names), n_bins)
        for i, name in enumerate(names.tolist()):
            old = self._sums.get(name)
            self._sums[name] = sums[:, i] if old is None else old + sums[:, i]

    @property
    def n_groups(self) -> int:
        """Groups that have any value."""
        return len(self._sums)

    def means(self, n_resamples: int = RESAMPLES, seed: int = 0) -> BinMeans:
        """Mean errors of the bins that hold ``HELD`` of all values, half of the rest at each end.

        Resamples draw the groups in their order, so two collections of the same groups that were
        resampled with the same seed are paired.
        """
        if not self._sums:
            return BinMeans(self.edges[:1], np.zeros(0), np.zeros(0), np.zeros((0, 0)))
        sums, counts = np.stack([self._sums[name] for name in sorted(self._sums)], 1)
        total = counts.sum(0)
        below = total.cumsum() / total.sum()
        tail = (1 - HELD) / 2
        first = int(np.searchsorted(below, tail, side="right"))
        last = int(np.searchsorted(below, 1 - tail)) + 1
        # A bin without a value is no bin.
        filled = np.flatnonzero(total[first:last] > 0) + first
        sums, counts, total = sums[:, filled], counts[:, filled], total[filled]
        edges = np.append(self.edges[filled], self.edges[last])
        means = sums.sum(0) / total
        n = len(sums)
        drawn = np.zeros((0, len(means)))
        if n > 1 and n_resamples > 0:
            rng = np.random.default_rng([seed, _STREAM])
            weight = rng.multinomial(n, np.full(n, 1 / n), n_resamples).astype(float)
            with np.errstate(invalid="ignore", divide="ignore"):
                drawn = (weight @ sums) / (weight @ counts)
        return BinMeans(edges, means, total, drawn)


def percent_error(predicted: ArrayLike, true: ArrayLike) -> Array:
    """``100 |predicted - true| / predicted``, of positive values.

    References
    ----------
    Chardin & Bianchini 2021, MNRAS 504, 5656, Eq. 2.
    """
    given, known = np.asarray(predicted, dtype=float), np.asarray(true, dtype=float)
    return 100 * np.abs(given - known) / given


def ratio_and_error(one: BinMeans, other: BinMeans) -> tuple[float, float]:
    """Mean of one over that of another of the same groups, and its error over paired resamples."""
    if not len(one.means) or not len(other.means) or other.mean == 0:
        return math.nan, math.nan
    first, second = one.resampled_means, other.resampled_means
    if len(first) < 2 or len(first) != len(second):
        return one.mean / other.mean, math.nan
    return one.mean / other.mean, float((first / second).std())
