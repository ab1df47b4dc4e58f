"""Ranks and coverage: how often the truth lies where posteriors of mocks say.

Everything here needs only samples of the posteriors of mocks and their true parameters. Where
mocks share a parent (lines of sight of one cluster, views of one simulation) they are not
independent, and ``group`` makes every standard error cluster-robust.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

_JITTER, _REFERENCES = 1, 2


def sbc_ranks(samples: ArrayLike, truth: ArrayLike) -> NDArray[np.int64]:
    """Rank of the truth among the posterior samples, for simulation-based calibration.

    Parameters
    ----------
    samples : array, shape (n, n_samples, n_parameters)
        Independent draws from each posterior.
    truth : array, shape (n, n_parameters)

    Returns
    -------
    array of int64, shape (n, n_parameters), 0 to n_samples
        Number of samples below the truth: uniform if the posteriors are right. -1 where the
        truth is unknown (NaN) or a sample is not finite.

    References
    ----------
    Talts et al. 2018, arXiv:1804.06788, Algorithm 1.
    """
    drawn, true = checked_shapes(samples, truth)
    ranks = (drawn < true[:, None]).sum(1).astype(np.int64)
    ranks[~(np.isfinite(true) & np.isfinite(drawn).all(1))] = -1
    return ranks


def pit_values(ranks: ArrayLike, n_samples: int, seed: int = 0) -> Array:
    """Probability integral transform of the truth, from ranks, without discreteness.

    Parameters
    ----------
    ranks : array of int, any shape, -1 to n_samples
    n_samples : int
    seed : int
        The value within a rank's interval is drawn at random, which makes the result exactly
        uniform for a right posterior, whatever the number of samples.

    Returns
    -------
    array, same shape, 0 to 1; NaN where the rank is -1
    """
    number = np.asarray(ranks)
    jitter = np.random.default_rng([seed, _JITTER]).random(number.shape)
    return np.where(number < 0, np.nan, (number + jitter) / (n_samples + 1))


def uniformity(pit: ArrayLike, group: ArrayLike | None = None, n_bins: int = 20) -> float:
    """p-value of the hypothesis that values are uniform on [0, 1].

    Parameters
    ----------
    pit : array, shape (n,), 0 to 1
        NaN is ignored.
    group : array of int, shape (n,), optional
        Examples of one group are correlated. Without repeated groups this is Pearson's
        chi-squared test; with them, Hotelling's test on the bins' fractions summed by group.
    n_bins : int

    Returns
    -------
    float, 0 to 1; NaN for fewer than 5 values a bin (or 2 groups a bin)
    """
    values = np.asarray(pit, dtype=float)
    finite = np.isfinite(values)
    codes = group_codes(group, len(values))[finite]
    bins = np.minimum((values[finite] * n_bins).astype(int), n_bins - 1)
    n = len(bins)
    if n < 5 * n_bins:
        return math.nan
    counts = np.bincount(bins, minlength=n_bins)
    groups = np.unique(codes, return_inverse=True)[1]
    n_groups = int(groups.max()) + 1
    if n_groups == n:
        return float(stats.chisquare(counts).pvalue)
    n_free = n_bins - 1
    if n_groups < 2 * n_bins:
        return math.nan
    excess = np.zeros((n_groups, n_bins))
    np.add.at(excess, (groups, bins), 1.0)
    excess -= np.bincount(groups)[:, None] / n_bins
    excess = excess[:, :n_free]
    total = excess.sum(0)
    spread = np.cov(excess, rowvar=False) * n_groups
    hotelling = float(total @ np.linalg.pinv(spread) @ total)
    ratio = hotelling * (n_groups - n_free) / (n_free * (n_groups - 1))
    return float(stats.f.sf(ratio, n_free, n_groups - n_free))


@dataclass(frozen=True)
class ExpectedCoverage:
    """Result of :func:`expected_coverage`.

    Parameters
    ----------
    credibility : tuple of float
        Levels from 0 to 1.
    coverage : tuple of float
        Fraction of mocks whose truth lies in the region of that credibility; equal to
        ``credibility`` for right posteriors, below it on the upper half for overconfident ones.
    area : float
        Mean of coverage less credibility above 0.5: negative for overconfident posteriors.
    p_value : float
        Of the hypothesis that the posteriors are right.
    n : int
        Mocks that counted.
    """

    credibility: tuple[float, ...]
    coverage: tuple[float, ...]
    area: float
    p_value: float
    n: int


def expected_coverage(
    samples: ArrayLike,
    truth: ArrayLike,
    group: ArrayLike | None = None,
    seed: int = 0,
    n_levels: int = 41,
) -> ExpectedCoverage:
    """Joint coverage of all parameters by random points (TARP).

    The credibility of a mock is the fraction of its samples nearer to a random reference point
    than the truth is. References are uniform in the box of the true parameters and do not look
    at the data, so an estimator that returns the prior passes, as it should: it is calibrated.

    Parameters
    ----------
    samples : array, shape (n, n_samples, n_parameters)
        Any affine scale; parameters are brought to the range of the truth. A parameter that is
        far from uniform should be given in the unit cube.
    truth : array, shape (n, n_parameters)
        Mocks with an unknown (NaN) parameter do not count.
    group : array of int, shape (n,), optional
    seed : int
    n_levels : int

    Returns
    -------
    ExpectedCoverage

    References
    ----------
    Lemos et al. 2023, arXiv:2302.03026, Algorithm 2.
    """
    drawn, true = checked_shapes(samples, truth)
    codes = group_codes(group, len(true))
    whole = np.isfinite(true).all(1) & np.isfinite(drawn).all((1, 2))
    drawn, true = drawn[whole], true[whole]
    levels = np.linspace(0, 1, n_levels)
    if not len(true):
        return ExpectedCoverage(tuple(levels), (math.nan,) * n_levels, math.nan, math.nan, 0)
    low, high = true.min(0), true.max(0)
    extent = np.where(high > low, high - low, 1.0)
    drawn, true = (drawn - low) / extent, (true - low) / extent
    rng = np.random.default_rng([seed, _REFERENCES])
    reference = rng.random(true.shape)
    to_truth = np.linalg.norm(true - reference, axis=1)
    to_samples = np.linalg.norm(drawn - reference[:, None], axis=2)
    nearer = (to_samples < to_truth[:, None]).sum(1)
    credibility = pit_values(nearer, drawn.shape[1], seed)
    coverage = (credibility[:, None] <= levels).mean(0)
    area = float((coverage - levels)[levels > 0.5].mean())
    return ExpectedCoverage(
        tuple(levels.tolist()),
        tuple(coverage.tolist()),
        area,
        uniformity(credibility, codes[whole]),
        len(true),
    )


@dataclass(frozen=True)
class Coverage:
    """Fraction of truths in the central interval of a level, and its standard error."""

    level: float
    fraction: float
    error: float


def interval_coverage(
    pit: ArrayLike, level: float = 0.68, group: ArrayLike | None = None
) -> Coverage:
    """Coverage of the central credible interval of a parameter.

    Parameters
    ----------
    pit : array, shape (n,), 0 to 1; NaN is ignored
        From :func:`pit_values`; the truth is in the interval when this lies in the middle
        ``level`` of [0, 1]. Using ranks makes this unbiased for any number of samples.
    level : float, 0 to 1
    group : array of int, shape (n,), optional

    Returns
    -------
    Coverage
        The error is binomial, or the scatter between groups where they repeat.
    """
    values = np.asarray(pit, dtype=float)
    finite = np.isfinite(values)
    inside = (np.abs(values[finite] - 0.5) <= level / 2).astype(float)
    fraction, error = mean_and_error(inside, group_codes(group, len(values))[finite])
    if len(inside) and error == 0:
        # All in or all out: the scatter says nothing, the nominal level does.
        error = math.sqrt(level * (1 - level) / len(inside))
    return Coverage(level, fraction, error)


def mean_and_error(values: ArrayLike, group: ArrayLike | None = None) -> tuple[float, float]:
    """Mean and its standard error, robust to correlation within groups.

    Parameters
    ----------
    values : array, shape (n,)
    group : array of int, shape (n,), optional

    Returns
    -------
    mean, error : float
        The error is that of a ratio estimator with the groups as sampling units; NaN with fewer
        than two groups.

    References
    ----------
    Cochran 1977, Sampling Techniques, Eq. 9A.6 (one-stage cluster sampling).
    """
    numbers = np.asarray(values, dtype=float)
    if not len(numbers):
        return math.nan, math.nan
    mean = float(numbers.mean())
    groups = np.unique(group_codes(group, len(numbers)), return_inverse=True)[1]
    residual = np.bincount(groups, weights=numbers - mean)
    n_groups = len(residual)
    if n_groups < 2:
        return mean, math.nan
    variance = n_groups / (n_groups - 1) * float((residual**2).sum()) / len(numbers) ** 2
    return mean, math.sqrt(variance)


def checked_shapes(samples: ArrayLike, truth: ArrayLike) -> tuple[Array, Array]:
    """Arrays of samples (n, n_samples, n_parameters) and truth (n, n_parameters), or an error."""
    drawn, true = np.asarray(samples, dtype=float), np.asarray(truth, dtype=float)
    if drawn.ndim != 3 or true.ndim != 2 or drawn.shape[::2] != true.shape:
        raise MelotteValueError(
            "samples must have shape (n, n_samples, n_parameters) and truth (n, n_parameters); "
            f"found {drawn.shape} and {true.shape}"
        )
    return drawn, true


def group_codes(group: ArrayLike | None, n: int) -> NDArray[np.int64]:
    """Group numbers, shape (n,); without groups everyone is their own."""
    if group is None:
        return np.arange(n)
    codes = np.asarray(group)
    if codes.shape != (n,):
        raise MelotteValueError(f"group must have shape ({n},), found {codes.shape}")
    return codes
