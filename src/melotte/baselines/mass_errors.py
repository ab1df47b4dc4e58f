"""How wrong masses are: statistics of log10(M_predicted/M_true), and what they do to counts."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.baselines.velocity_dispersion import checked_sets
from melotte.errors import MelotteValueError

Array = NDArray[np.float64]
Predict = Callable[[Array, Array, NDArray[np.int64]], Array]
"""From velocity (km/s), radius (Mpc/h) and offsets to log masses."""

ABUNDANCE_SLOPE = 2.0
"""Power law of the cluster abundance with mass in Ho et al. 2019."""

RATES = (0.6, 0.8)
DRAWS = 10


@dataclass(frozen=True)
class ErrorStatistics:
    """Statistics of errors eps = log10(M_predicted/M_true), dex.

    Parameters
    ----------
    n : int
        Clusters with a prediction.
    n_missing : int
        Clusters without one; they enter no other number.
    median, low, high : float
        Median, and how far the 16th and 84th percentiles lie below and above it (both > 0).
    mean, std : float
    skewness, kurtosis : float
        Third and fourth standardised moment, the latter less 3.
    edgeworth : float
        Relative bias of the abundance; see :func:`edgeworth_bias`.
    """

    n: int
    n_missing: int
    median: float
    low: float
    high: float
    mean: float
    std: float
    skewness: float
    kurtosis: float
    edgeworth: float

    @property
    def width(self) -> float:
        """From the 16th to the 84th percentile, dex."""
        return self.low + self.high


@dataclass(frozen=True)
class Robustness:
    """What leaving galaxies out does to masses: eps_r = log10(M(r)/M(1)), dex.

    Parameters
    ----------
    median, width : float
        Median, and 16-84 percentile range, of eps_r where M(r) is the mean over the draws at one
        rate, as published.
    single_median, single_width : float
        The same with every draw on its own.
    rate_slope : float
        Change of eps_r with log10 r by least squares: 0 for a method that does not lean on the
        number of galaxies, 1 for a mass proportional to it; NaN where all rates are the same.
    by_richness : array, shape (3, 3)
        For the poorest, middle and richest third of the clusters: median number of galaxies,
        median and width of eps_r.
    rate : array, shape (n_clusters,)
        Share of its galaxies that each cluster kept.
    eps : array, shape (n_clusters,)
        eps_r of each, as published; NaN for a cluster that lost its mass.
    single_eps : array, shape (draws, n_clusters)
        That of every draw.
    """

    median: float
    width: float
    single_median: float
    single_width: float
    rate_slope: float
    by_richness: Array
    rate: Array = field(repr=False)
    eps: Array = field(repr=False)
    single_eps: Array = field(repr=False)


def edgeworth_bias(
    std: float, skewness: float, kurtosis: float, slope: float = ABUNDANCE_SLOPE
) -> float:
    """Relative bias of the cluster abundance that non-Gaussian errors cause.

    For an abundance that falls as M^-slope, slope^3 s^3 skewness/6 + slope^4 s^4 kurtosis/24 with
    s = std ln 10, over the abundance that errors of the same width but Gaussian give.

    Parameters
    ----------
    std : float, dex
    skewness, kurtosis : float
        Of a Gaussian 0, 0.
    slope : float

    References
    ----------
    Ho et al. 2019, ApJ 887, 25, after Shaw, Holder & Dudley 2010, ApJ 716, 281. Abbas 2019 prints
    Eq. 7 with 2 in place of 6; the published values come out with 6.
    """
    spread = slope * std * math.log(10)
    return spread**3 * skewness / 6 + spread**4 * kurtosis / 24


def error_statistics(log_predicted: ArrayLike, log_true: ArrayLike) -> ErrorStatistics:
    """Statistics over clusters.

    Parameters
    ----------
    log_predicted, log_true : array, shape (n_clusters,), log10(M200c/(Msun/h))
        NaN predictions are counted and left out.

    Raises
    ------
    MelotteValueError
        When shapes differ, or fewer than two clusters have a prediction.
    """
    predicted, true = np.asarray(log_predicted, float), np.asarray(log_true, float)
    if predicted.shape != true.shape or predicted.ndim != 1:
        raise MelotteValueError(f"shapes {predicted.shape} and {true.shape} must be (n_clusters,)")
    error = (predicted - true)[np.isfinite(predicted) & np.isfinite(true)]
    if len(error) < 2:
        raise MelotteValueError(f"{len(error)} clusters with a predicted mass; 2 are needed")
    low, middle, high = np.percentile(error, [16, 50, 84])
    mean, std = float(error.mean()), float(error.std())
    scaled = (error - mean) / std if std > 0 else np.zeros_like(error)
    skewness = float((scaled**3).mean())
    kurtosis = float((scaled**4).mean() - 3) if std > 0 else 0.0
    return ErrorStatistics(
        n=len(error),
        n_missing=len(predicted) - len(error),
        median=float(middle),
        low=float(middle - low),
        high=float(high - middle),
        mean=mean,
        std=std,
        skewness=skewness,
        kurtosis=kurtosis,
        edgeworth=edgeworth_bias(std, skewness, kurtosis),
    )


def statistics_by_mass(
    log_predicted: ArrayLike, log_true: ArrayLike, edges: ArrayLike
) -> list[ErrorStatistics | None]:
    """Statistics in bins of true mass, None for a bin with fewer than two predictions.

    Parameters
    ----------
    log_predicted, log_true : array, shape (n_clusters,)
    edges : array, shape (n_bins + 1,)
        A bin holds its lower edge.
    """
    predicted, true = np.asarray(log_predicted, float), np.asarray(log_true, float)
    limits = np.asarray(edges, float)
    number = np.searchsorted(limits, true, side="right") - 1
    found: list[ErrorStatistics | None] = []
    for i in range(len(limits) - 1):
        mine = number == i
        enough = np.isfinite(predicted[mine]).sum() >= 2
        found.append(error_statistics(predicted[mine], true[mine]) if enough else None)
    return found


def subsampled(
    offsets: NDArray[np.int64], rate: ArrayLike, generator: np.random.Generator
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Leave galaxies out at random, without replacement.

    Parameters
    ----------
    offsets : array of int64, shape (n_clusters + 1,)
    rate : array, shape (n_clusters,), or one number, 0 to 1
        Share that stays, rounded to whole galaxies and never fewer than one of a cluster.
    generator : numpy Generator

    Returns
    -------
    rows : array of int64
        Galaxies that stay, in their order.
    offsets : array of int64, shape (n_clusters + 1,)
        Of the rows.
    """
    counts = np.diff(offsets)
    share = np.broadcast_to(np.asarray(rate, float), counts.shape)
    left = np.minimum(np.maximum(np.rint(share * counts), 1), counts).astype(np.int64)
    index = np.repeat(np.arange(len(counts)), counts)
    order = np.lexsort((generator.random(len(index)), index))
    rank = np.arange(len(index)) - np.repeat(offsets[:-1], counts)
    rows = np.sort(order[rank < left[index]])
    return rows, np.concatenate([[0], np.cumsum(left)]).astype(np.int64)


def robustness(
    predict: Predict,
    velocity: ArrayLike,
    radius: ArrayLike,
    offsets: ArrayLike,
    generator: np.random.Generator,
    rates: tuple[float, float] = RATES,
    draws: int = DRAWS,
) -> Robustness:
    """How masses change when galaxies are left out.

    Every cluster has one rate, uniform within ``rates``, and ``draws`` samples at that rate.

    Parameters
    ----------
    predict : callable
        From velocities, radii and offsets to log masses (n_clusters,).
    velocity, radius : array, shape (n_galaxies,), km/s and Mpc/h
    offsets : array of int, shape (n_clusters + 1,)
    generator : numpy Generator
    rates : tuple of float, 0 to 1
    draws : int

    References
    ----------
    Ho et al. 2019, ApJ 887, 25, Sect. 5.2; Abbas 2019, Eq. 8 and table 2.
    """
    values, starts = checked_sets(velocity, offsets)
    radii, _ = checked_sets(radius, offsets)
    whole = np.asarray(predict(values, radii, starts), float)
    counts = np.diff(starts)
    rate = generator.uniform(*rates, size=len(counts))
    thinned = np.empty((draws, len(counts)))
    for draw in range(draws):
        rows, new = subsampled(starts, rate, generator)
        thinned[draw] = predict(values[rows], radii[rows], new)
    # Masses are averaged relative to the whole cluster's, so that none overflows.
    relative = thinned - whole
    mean = np.log10((10.0**relative).mean(0))
    usable = np.isfinite(mean)
    if usable.sum() < 6:
        raise MelotteValueError(f"{usable.sum()} clusters keep a mass when thinned; 6 are needed")
    single = relative[:, usable].ravel()
    log_rate = np.log10(rate[usable])
    slope = np.polyfit(log_rate, mean[usable], 1)[0] if np.ptp(log_rate) > 0 else np.nan
    order = np.argsort(counts[usable], kind="stable")
    thirds = [
        [np.median(counts[usable][third]), *_median_width(mean[usable][third])]
        for third in np.array_split(order, 3)
    ]
    return Robustness(
        *_median_width(mean[usable]),
        *_median_width(single),
        float(slope),
        np.array(thirds),
        rate,
        mean,
        relative,
    )


def _median_width(values: Array) -> tuple[float, float]:
    low, middle, high = np.percentile(values, [16, 50, 84])
    return float(middle), float(high - low)
