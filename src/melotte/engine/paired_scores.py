"""Scores of several estimates of the same objects, and whether one method beats another.

Two methods are compared on the same objects: the bootstrap draws objects, not errors, so that
what is hard for both does not count as a difference.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.engine.point_errors import PointErrors, point_errors
from melotte.errors import MelotteValueError

Array = NDArray[np.float64]


@dataclass(frozen=True)
class PairedDifference:
    """How much better the first of two methods is.

    Parameters
    ----------
    difference : float
        R2 (or mean R2) of the first less that of the second, on all objects.
    low, high : float
        95 % interval over resamples of the objects.
    share_first_wins : float, 0 to 1
        Resamples in which the first is ahead; one in which they tie counts half.
    """

    difference: float
    low: float
    high: float
    share_first_wins: float

    def as_json(self) -> dict[str, float | None]:
        """The four numbers; None where one is not finite."""
        return {name: value if math.isfinite(value) else None for name, value in vars(self).items()}


@dataclass(frozen=True)
class PairedComparison:
    """Two methods on the same objects.

    Parameters
    ----------
    n : int
        Objects with every label.
    mean : PairedDifference
        Of the mean R2 over targets.
    targets : tuple of PairedDifference
        Of each target's R2.
    """

    n: int
    mean: PairedDifference
    targets: tuple[PairedDifference, ...]

    def as_json(self, names: Sequence[str]) -> dict[str, Any]:
        """JSON values, targets under their names."""
        each = {name: one.as_json() for name, one in zip(names, self.targets, strict=True)}
        return {"n": self.n, "mean_r2": self.mean.as_json(), "r2": each}


def target_errors(estimate: ArrayLike, truth: ArrayLike) -> tuple[PointErrors, ...]:
    """R2, mean absolute error, bias and scatter of each target.

    Parameters
    ----------
    estimate, truth : array, shape (n, n_targets), physical units
        Pairs with a value that is not finite are left out of their target.
    """
    given, true = np.asarray(estimate, dtype=float), np.asarray(truth, dtype=float)
    if given.ndim != 2 or given.shape != true.shape:
        raise MelotteValueError(
            f"estimate {given.shape} and truth {true.shape} must have one shape (n, n_targets)"
        )
    return tuple(point_errors(given[:, i], true[:, i]) for i in range(given.shape[1]))


def mean_r2(errors: Sequence[PointErrors]) -> float:
    """Mean R2 over targets."""
    return float(np.mean([one.r2 for one in errors]))


def compare_paired(
    first: ArrayLike, second: ArrayLike, truth: ArrayLike, n_resamples: int = 4000, seed: int = 0
) -> PairedComparison:
    """Bootstrap the difference of two methods' R2 over objects.

    Parameters
    ----------
    first, second, truth : array, shape (n, n_targets), physical units
        Objects of which a label is missing are left out of all targets.
    n_resamples : int, > 0
    seed : int
        The same for every pair of methods: then all see the same resamples.

    Returns
    -------
    PairedComparison

    Raises
    ------
    MelotteValueError
        When shapes differ, fewer than three objects have every label, or an estimate of one of
        them is not finite (leaving it out would reward a method for failing).

    References
    ----------
    Efron & Tibshirani 1993, An Introduction to the Bootstrap, Sect. 8.3 and 13.3 (percentile
    interval).
    """
    one, other = np.asarray(first, dtype=float), np.asarray(second, dtype=float)
    true = np.asarray(truth, dtype=float)
    if true.ndim != 2 or one.shape != true.shape or other.shape != true.shape:
        raise MelotteValueError(
            f"first {one.shape}, second {other.shape} and truth {true.shape} must have one shape "
            "(n, n_targets)"
        )
    if n_resamples < 1:
        raise MelotteValueError(f"n_resamples {n_resamples} must be at least 1")
    labelled = np.isfinite(true).all(1)
    one, other, true = one[labelled], other[labelled], true[labelled]
    n = len(true)
    if n < 3:
        raise MelotteValueError(f"{n} objects have every label; a comparison needs 3")
    failed = int((~np.isfinite(one).all(1)).sum()), int((~np.isfinite(other).all(1)).sum())
    if any(failed):
        raise MelotteValueError(
            f"estimates are not finite: {failed[0]} of the first method, {failed[1]} of the "
            f"second, of {n} objects"
        )
    weight = resample_counts(n, n_resamples, seed)
    whole = _r2(np.ones((1, n)), one, true) - _r2(np.ones((1, n)), other, true)
    drawn = _r2(weight, one, true) - _r2(weight, other, true)
    targets = tuple(_summary(whole[0, i], drawn[:, i]) for i in range(true.shape[1]))
    return PairedComparison(n, _summary(whole[0].mean(), drawn.mean(1)), targets)


def resample_counts(n: int, n_resamples: int, seed: int) -> Array:
    """How often each of ``n`` objects is drawn in each resample, (n_resamples, n)."""
    generator = np.random.default_rng(seed)
    return generator.multinomial(n, np.full(n, 1 / n), size=n_resamples).astype(float)


def _r2(weight: Array, estimate: Array, truth: Array) -> Array:
    """R2 of each resample and target, (n_resamples, n_targets)."""
    total = weight.sum(1, keepdims=True)
    centred = truth - truth.mean(0)
    variance = weight @ centred**2 - (weight @ centred) ** 2 / total
    with np.errstate(divide="ignore", invalid="ignore"):
        return 1 - (weight @ (estimate - truth) ** 2) / variance


def _summary(whole: float, drawn: Array) -> PairedDifference:
    finite = drawn[np.isfinite(drawn)]
    if not len(finite):
        return PairedDifference(float(whole), math.nan, math.nan, math.nan)
    low, high = np.quantile(finite, [0.025, 0.975])
    share = float((finite > 0).mean() + 0.5 * (finite == 0).mean())
    return PairedDifference(float(whole), float(low), float(high), share)
