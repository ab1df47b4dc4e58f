"""Statistics of mocks for the domain check: normal scores, covariances, axes, thresholds."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

Array = NDArray[np.float64]

FALSE_ALARM = 0.01
N_KNOTS = 129
LARGEST_SCORE = 30.0
VARIANCE_KEPT = 0.99
LARGEST_RANK = 32
FEWEST_GROUPS = 20
"""Of mocks, that are kept together when they are split."""


def normal_scores(values: Array, knots: Array) -> Array:
    """Normal scores of values under the distribution given by quantiles.

    Within the quantiles a score is the normal deviate of the interpolated probability; beyond
    the outermost it goes on linearly, in the slope of the outer tenth, so that values outside
    all mocks keep their distance.

    Parameters
    ----------
    values : array, shape (n, n_summaries)
    knots : array, shape (n_summaries, n_knots), ascending in each row

    Returns
    -------
    array, shape (n, n_summaries)
        Between -30 and 30; NaN where the value is not finite, or the quantiles are not.
    """
    n_knots = knots.shape[1]
    edge = 0.5 / n_knots
    probability = np.linspace(edge, 1 - edge, n_knots)
    end = float(special.ndtri(1 - edge))
    scores = np.full(values.shape, np.nan)
    tenth = max(n_knots // 10, 1)
    inner_end = end - float(special.ndtri(probability[-1 - tenth]))
    for j, quantiles in enumerate(knots):
        if np.isnan(quantiles).any():
            continue
        value = values[:, j]
        # Ties (a fraction that is mostly zero) take the middle of their probabilities.
        left = np.interp(value, quantiles, probability)
        flipped = np.interp(-value, -quantiles[::-1], 1 - probability[::-1])
        score = special.ndtri((left + 1 - flipped) / 2)
        extent = max(quantiles[-1] - quantiles[0], 1e-6 * max(abs(quantiles[0]), 1e-6))
        high = max(quantiles[-1] - quantiles[-1 - tenth], 0.05 * extent) / inner_end
        low = max(quantiles[tenth] - quantiles[0], 0.05 * extent) / inner_end
        score = np.where(value > quantiles[-1], end + (value - quantiles[-1]) / high, score)
        score = np.where(value < quantiles[0], -end - (quantiles[0] - value) / low, score)
        scores[:, j] = np.where(np.isfinite(value), score, np.nan)
    return scores.clip(-LARGEST_SCORE, LARGEST_SCORE)


def halves_of_groups(
    groups: Array | None, n: int, generator: np.random.Generator
) -> list[tuple[NDArray[np.int64], NDArray[np.int64]]] | None:
    """Mocks of either half of the groups, beside those of the other.

    Parameters
    ----------
    groups : array, shape (n,), or None
    n : int
        Mocks.
    generator : numpy Generator
        Of the split.

    Returns
    -------
    list of two pairs of index arrays, or None
        None for fewer than ``FEWEST_GROUPS`` groups, or where each has one mock.
    """
    if groups is None:
        return None
    kinds, group = np.unique(groups, return_inverse=True)
    if not FEWEST_GROUPS <= len(kinds) < n:
        return None
    inside = np.isin(group, generator.permutation(len(kinds))[: len(kinds) // 2])
    first, second = np.flatnonzero(inside), np.flatnonzero(~inside)
    return [(first, second), (second, first)]


def fit_summaries(summaries: Array) -> dict[str, Any]:
    """Quantiles, mean and covariance of the normal scores of summaries.

    Parameters
    ----------
    summaries : array, shape (n, n_summaries)
        NaN where a mock lacks one.

    Returns
    -------
    dict
        ``summary_knots``, ``summary_mean``, ``summary_covariance``, ``summary_missing``, as
        :class:`melotte.engine.domain.DomainReference` holds them.
    """
    known = np.isfinite(summaries)
    edge = 0.5 / N_KNOTS
    levels = np.linspace(edge, 1 - edge, N_KNOTS)
    # Of a band that a model does not read, say.
    absent = ~known.any(0)
    knots = np.full((summaries.shape[1], N_KNOTS), np.nan)
    for j in np.flatnonzero(~absent):
        knots[j] = np.quantile(summaries[known[:, j], j], levels)
    scores = np.where(known, normal_scores(summaries, knots), 0.0)
    mean = scores.sum(0) / known.sum(0).clip(min=1)
    centred = np.where(known, scores - mean, 0.0)
    pairs = known.T.astype(float) @ known
    covariance = centred.T @ centred / pairs.clip(min=1) + np.diag(absent.astype(float))
    return {
        "summary_knots": knots,
        "summary_mean": mean,
        "summary_covariance": _well_conditioned(covariance),
        "summary_missing": 1 - known.mean(0),
    }


def _well_conditioned(covariance: Array) -> Array:
    """Floor the eigenvalues, so that nearly dependent summaries do not rule the distance."""
    scale = np.sqrt(np.diag(covariance).clip(min=1e-4))
    values, vectors = np.linalg.eigh(covariance / np.outer(scale, scale))
    floored = (vectors * values.clip(min=0.02)) @ vectors.T
    return floored * np.outer(scale, scale)


def fit_embedding(embedding: Array) -> dict[str, Any]:
    """Mean, principal axes and spreads of embeddings.

    Parameters
    ----------
    embedding : array, shape (n, n_features)

    Returns
    -------
    dict
        ``embedding_mean``, ``embedding_axes``, ``embedding_scale``, ``embedding_rest``, as
        :class:`melotte.engine.domain.DomainReference` holds them.
    """
    mean = embedding.mean(0)
    variances, axes = np.linalg.eigh(np.cov(embedding, rowvar=False).reshape((len(mean),) * 2))
    variances, axes = variances[::-1].clip(min=0), axes[:, ::-1]
    share = variances.cumsum() / max(variances.sum(), 1e-30)
    rank = int(min(np.searchsorted(share, VARIANCE_KEPT) + 1, LARGEST_RANK, len(mean)))
    # A shrinkage floor, as for the summaries, keeps the faintest axes from ruling.
    scale = np.sqrt(variances[:rank].clip(min=1e-6 * max(variances[0], 1e-12)))
    rest = float(np.sqrt(max(variances[rank:].sum(), 1e-6 * max(variances[0], 1e-12))))
    return {
        "embedding_mean": mean,
        "embedding_axes": axes[:, :rank].copy(),
        "embedding_scale": scale,
        "embedding_rest": np.array([rest]),
    }


def thresholds(distances: Array) -> Array:
    """Quantiles of two distances at one level, such that 1 % of rows exceed either.

    Parameters
    ----------
    distances : array, shape (n, 2)

    Returns
    -------
    array, shape (2,)
    """
    low, high = 0.0, FALSE_ALARM
    for _ in range(40):
        middle = (low + high) / 2
        limits = np.quantile(distances, 1 - middle, axis=0)
        if (distances > limits).any(1).mean() > FALSE_ALARM:
            high = middle
        else:
            low = middle
    return np.quantile(distances, 1 - low, axis=0)


def wilson_hilferty(squared: Array, degrees: Array) -> Array:
    """Normal scores of chi-squared deviates (Wilson & Hilferty 1931, PNAS 17, 684).

    Parameters
    ----------
    squared, degrees : array, shape (n,)
        Deviates and their degrees of freedom; none counts as one.

    Returns
    -------
    array, shape (n,)
    """
    k = np.maximum(degrees, 1.0)
    return (np.cbrt(squared / k) - (1 - 2 / (9 * k))) / np.sqrt(2 / (9 * k))
