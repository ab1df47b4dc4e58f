"""Is an observation like those the model was trained on? The flag OUT_OF_DOMAIN.

Two distances watch over a row: that of its physical summaries (counts, magnitudes, colours) and
that of the network's embedding from those of the training mocks. Each has a threshold, set on
mocks, of other groups, that were not used to fit the distances so that 1 % of mocks exceed either.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from melotte.engine.domain_statistics import (
    Array,
    fit_embedding,
    fit_summaries,
    halves_of_groups,
    normal_scores,
    thresholds,
    wilson_hilferty,
)
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag

LARGEST_RATIO = 1000.0
NEVER_MISSING = 1e-3
"""A summary that fewer mocks than this lack must not be missing."""
SMALLEST_FIT = 200
_KEYS = (
    "summary_knots",
    "summary_mean",
    "summary_covariance",
    "summary_missing",
    "embedding_mean",
    "embedding_axes",
    "embedding_scale",
    "embedding_rest",
    "thresholds",
)


@dataclass(frozen=True)
class DomainJudgement:
    """What the domain check says of some rows.

    Parameters
    ----------
    flags : array of int64, shape (n,)
        OUT_OF_DOMAIN or 0.
    score : array, shape (n,)
        The larger of the two distances over its threshold; above 1 is out of
        domain. At most 1000.
    contributions : array, shape (n, n_summaries)
        How far each summary is from what the others make one expect, in standard deviations of
        the mocks; NaN where it is missing.
    reasons : tuple of str
        What drove the flag; empty where there is none.
    """

    flags: NDArray[np.int64]
    score: Array
    contributions: Array
    reasons: tuple[str, ...]


@dataclass(frozen=True)
class DomainReference:
    """Statistics of training mocks that the domain check compares with.

    Parameters
    ----------
    summary_knots : array, shape (n_summaries, N_KNOTS)
        Quantiles of each summary at equally spaced probabilities; NaN where no mock has it, which
        is then never looked at.
    summary_mean, summary_covariance : array, shape (n_summaries,) and (n_summaries, n_summaries)
        Of the normal scores of the summaries.
    summary_missing : array, shape (n_summaries,), 0 to 1
        Fraction of mocks without the summary.
    embedding_mean : array, shape (n_features,)
    embedding_axes : array, shape (n_features, rank)
        Principal axes that hold 99 % of the variance.
    embedding_scale : array, shape (rank,)
        Standard deviations along them.
    embedding_rest : array, shape (1,)
        Standard deviation of the distance from their span.
    thresholds : array, shape (2,)
        Of the distances of summaries and of embedding.
    """

    summary_knots: Array
    summary_mean: Array
    summary_covariance: Array
    summary_missing: Array
    embedding_mean: Array
    embedding_axes: Array
    embedding_scale: Array
    embedding_rest: Array
    thresholds: Array

    @classmethod
    def fit(
        cls,
        summaries: ArrayLike | Tensor,
        embedding: ArrayLike | Tensor,
        seed: int = 0,
        groups: ArrayLike | Tensor | None = None,
    ) -> DomainReference:
        """Fit to mocks: distances on a random half, thresholds on the other.

        Mocks of groups, such as those of one evolved cluster, are alike, and an observation
        belongs to none of theirs. From 20 groups on, thresholds are those of distances from the
        mocks of the other half of the groups, and distances are then fitted to all.

        Parameters
        ----------
        summaries : array, shape (n, n_summaries)
            NaN where an observation lacks a summary.
        embedding : array, shape (n, n_features)
        seed : int
            Of the split.
        groups : array of int, shape (n,), optional

        Returns
        -------
        DomainReference
            With n mocks, all different, the false-alarm rate on other mocks is 1 % with a relative
            error of about sqrt(2 / (0.01 n)): 14 % for 10,000.

        Raises
        ------
        MelotteValueError
            For fewer than ``2 * SMALLEST_FIT`` mocks or an embedding that is not finite.
        """
        known, features = _array(summaries), _array(embedding)
        n = len(known)
        if n < 2 * SMALLEST_FIT or len(features) != n:
            raise MelotteValueError(
                f"{n} summaries and {len(features)} embeddings: the domain check needs equally "
                f"many, at least {2 * SMALLEST_FIT}"
            )
        if not np.isfinite(features).all():
            raise MelotteValueError("the embedding of a mock is not finite")
        generator = np.random.default_rng(seed)
        pairs = halves_of_groups(None if groups is None else _array(groups), n, generator)
        if pairs is None:
            order = generator.permutation(n)
            pairs = [(order[: n // 2], order[n // 2 :])]
        fits = [cls._unset(known[fitted], features[fitted]) for fitted, _ in pairs]
        unseen = [
            one.distances(known[held], features[held])[0]
            for one, (_, held) in zip(fits, pairs, strict=True)
        ]
        whole = fits[0] if len(fits) == 1 else cls._unset(known, features)
        return replace(whole, thresholds=thresholds(np.concatenate(unseen)))

    @classmethod
    def _unset(cls, summaries: Array, embedding: Array) -> DomainReference:
        parts = fit_summaries(summaries) | fit_embedding(embedding)
        return cls(**parts, thresholds=np.ones(2))

    def tensors(self) -> dict[str, Tensor]:
        """As float32 tensors, for ``Model.reference``."""
        return {name: torch.as_tensor(getattr(self, name)).float() for name in _KEYS}

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> DomainReference:
        """Inverse of :meth:`tensors`.

        Raises
        ------
        MelotteFileError
            When a statistic is missing.
        """
        missing = [name for name in _KEYS if name not in tensors]
        if missing:
            raise MelotteFileError(f"the model's domain reference lacks {', '.join(missing)}")
        return cls(**{name: _array(tensors[name]) for name in _KEYS})

    def distances(self, summaries: Array, embedding: Array) -> tuple[Array, Array]:
        """Distances of rows from the mocks.

        Parameters
        ----------
        summaries : array, shape (n, n_summaries)
        embedding : array, shape (n, n_features)

        Returns
        -------
        distances : array, shape (n, 2)
            Of summaries and embedding: normal scores of the squared Mahalanobis distance, so
            that rows with missing summaries compare; infinite for values that are infinite, for
            an embedding that is not finite, and where a summary is missing that mocks never lack.
        contributions : array, shape (n, n_summaries)
        """
        squared, degrees, contributions = self._summary_distance(summaries)
        reduced = (embedding - self.embedding_mean) @ self.embedding_axes
        rest = embedding - self.embedding_mean - reduced @ self.embedding_axes.T
        along = ((reduced / self.embedding_scale) ** 2).sum(1)
        across = (rest**2).sum(1) / self.embedding_rest[0] ** 2
        features = wilson_hilferty(along + across, np.full(len(embedding), reduced.shape[1] + 1))
        features = np.where(np.isfinite(embedding).all(1), features, np.inf)
        return np.stack([wilson_hilferty(squared, degrees), features], 1), contributions

    def judge(
        self,
        summaries: ArrayLike | Tensor,
        embedding: ArrayLike | Tensor,
        names: Sequence[str] = (),
    ) -> DomainJudgement:
        """Flag rows that are unlike the mocks, and say why.

        Parameters
        ----------
        summaries : array, shape (n, n_summaries)
        embedding : array, shape (n, n_features)
        names : sequence of str
            Of the summaries, for the reasons.

        Returns
        -------
        DomainJudgement

        Raises
        ------
        MelotteFileError
            When the numbers of summaries or features are not those of the fit: the model file is
            at fault, not a row.
        """
        known, features = _array(summaries), _array(embedding)
        wanted = len(self.summary_mean), len(self.embedding_mean)
        if (known.shape[1], features.shape[1]) != wanted:
            raise MelotteFileError(
                f"{known.shape[1]} summaries and {features.shape[1]} features; the model's domain "
                f"reference holds {wanted[0]} and {wanted[1]}"
            )
        distances, contributions = self.distances(known, features)
        # A threshold may be negative; scores compare on the scale of chi-squared deviates.
        offset = np.minimum(self.thresholds - 1, 0)
        ratio = (distances - offset) / (self.thresholds - offset)
        score = ratio.max(1).clip(0, LARGEST_RATIO)
        outside = score > 1
        flags = np.where(outside, int(Flag.OUT_OF_DOMAIN), 0).astype(np.int64)
        reasons = tuple(
            self._reason(ratio[i], known[i], contributions[i], names) if outside[i] else ""
            for i in range(len(known))
        )
        return DomainJudgement(flags, score, contributions, reasons)

    def _reason(
        self, ratio: Array, summaries: Array, contributions: Array, names: Sequence[str]
    ) -> str:
        if ratio[0] <= 1:
            return "embedding unlike the training mocks"
        lacking = ~np.isfinite(summaries) & (self.summary_missing < NEVER_MISSING)
        j = int(np.argmax(np.where(np.isfinite(contributions), np.abs(contributions), -1)))
        verb = f"is {contributions[j]:+.1f} sigma from the training mocks"
        if lacking.any():
            j, verb = int(np.argmax(lacking)), "is missing or infinite, which no mock's is"
        name = names[j] if j < len(names) else f"summary {j}"
        return f"{name} {verb}"

    def _summary_distance(self, summaries: Array) -> tuple[Array, Array, Array]:
        """Squared Mahalanobis distance, its degrees of freedom, and contributions."""
        score = normal_scores(summaries, self.summary_knots)
        missing = ~np.isfinite(score)
        squared, degrees = np.zeros(len(score)), np.zeros(len(score))
        contributions = np.full(score.shape, np.nan)
        patterns, member = np.unique(missing, axis=0, return_inverse=True)
        for k, pattern in enumerate(patterns):
            rows, present = np.flatnonzero(member.ravel() == k), np.flatnonzero(~pattern)
            if not len(present):
                continue
            precision = np.linalg.inv(self.summary_covariance[np.ix_(present, present)])
            pull = (score[np.ix_(rows, present)] - self.summary_mean[present]) @ precision
            centred = score[np.ix_(rows, present)] - self.summary_mean[present]
            squared[rows] = (pull * centred).sum(1)
            degrees[rows] = len(present)
            contributions[np.ix_(rows, present)] = pull / np.sqrt(np.diag(precision))
        lacking = (missing & (self.summary_missing < NEVER_MISSING)).any(1)
        squared[lacking | np.isinf(summaries).any(1)] = np.inf
        return squared, degrees, contributions


def _array(values: ArrayLike | Tensor) -> Array:
    if isinstance(values, Tensor):
        values = values.detach().cpu().numpy()
    return np.asarray(values, dtype=np.float64)
