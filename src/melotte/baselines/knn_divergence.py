"""Kullback-Leibler divergence between distributions that only samples are known of."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

CLOSEST = 1e-12
"""Distances below it count as it: repeated values would have infinite density."""


def knn_divergences(
    first: Array,
    first_offsets: NDArray[np.int64],
    second: Array,
    second_offsets: NDArray[np.int64],
    neighbours: int = 4,
) -> Array:
    """D(p_i || q_j) between every sample of one list and every sample of another, nats.

    Parameters
    ----------
    first : array, shape (n_points, d)
        Samples of p end to end.
    first_offsets : array of int64, shape (n_p + 1,)
    second, second_offsets : likewise
        Samples of q.
    neighbours : int, >= 1
        Every sample must have more points than this.

    Returns
    -------
    array, shape (n_p, n_q)
        May be negative by noise. Entries of a sample with itself have no meaning.

    References
    ----------
    Wang, Kulkarni & Verdu 2009, IEEE Trans. Inf. Theory 55, 2392, Eq. 5 with k for both samples:
    d/n sum log(nu_k/rho_k) + log(m/(n - 1)).

    Raises
    ------
    MelotteValueError
        When a sample has too few points.
    """
    n, m = np.diff(first_offsets), np.diff(second_offsets)
    fewest = min(n.min(initial=neighbours + 1), m.min(initial=neighbours + 1))
    if fewest <= neighbours:
        raise MelotteValueError(
            f"a cluster has {fewest} galaxies; {neighbours + 1} are needed for {neighbours} "
            "neighbours"
        )
    n_p, n_q, dimension = len(n), len(m), first.shape[1]
    own = np.concatenate(
        [_within(first[a:b], neighbours) for a, b in pairwise(first_offsets)] or [np.zeros(0)]
    )
    own_mean = np.add.reduceat(np.log(own), first_offsets[:-1]) / n if n_p else np.zeros(0)
    divergence = np.empty((n_p, n_q))
    distance = _Distances(first)
    for j, (begin, end) in enumerate(pairwise(second_offsets)):
        logs = np.log(distance.to(second[begin:end], neighbours))
        divergence[:, j] = np.add.reduceat(logs, first_offsets[:-1]) / n - own_mean
    return dimension * divergence + np.log(m / (n[:, None] - 1.0))


class _Distances:
    """Distances of fixed points to the k-th nearest point of a sample."""

    def __init__(self, points: Array) -> None:
        self.points = points
        self.order = np.argsort(points[:, 0], kind="stable") if points.shape[1] == 1 else None
        self.ordered = points[self.order, 0] if self.order is not None else points[:, 0]

    def to(self, sample: Array, neighbours: int) -> Array:
        """Distance of every point, shape (n_points,)."""
        if self.order is not None:
            ordered = _along_a_line(self.ordered, np.sort(sample[:, 0]), neighbours)
            found = np.empty_like(ordered)
            found[self.order] = ordered
        else:
            from scipy.spatial import KDTree

            near, _ = KDTree(sample).query(self.points, k=neighbours)
            found = np.reshape(near, (len(self.points), neighbours))[:, -1]
        return np.maximum(found, CLOSEST)


def _along_a_line(points: Array, sample: Array, neighbours: int) -> Array:
    """Distance of ordered points to the k-th nearest of ordered numbers, shape (n_points,).

    The k nearest numbers stand side by side, so that it is the least, over all windows of k, of the
    distance to the window's farther end.
    """
    place = np.searchsorted(sample, points)
    best = np.full(len(points), np.inf)
    for back in range(neighbours + 1):
        start = np.clip(place - back, 0, len(sample) - neighbours)
        below, above = points - sample[start], sample[start + neighbours - 1] - points
        np.minimum(best, np.maximum(below, above), out=best)
    return best


def _within(sample: Array, neighbours: int) -> Array:
    """Distance of each point to the k-th nearest other of its own sample."""
    from scipy.spatial import KDTree

    near, _ = KDTree(sample).query(sample, k=neighbours + 1)
    return np.maximum(np.reshape(near, (len(sample), neighbours + 1))[:, -1], CLOSEST)
