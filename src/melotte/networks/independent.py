"""Posteriors of independent groups of parameters, side by side."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.networks.posteriors import UnitPosterior


class IndependentPosterior(UnitPosterior):
    """The product of posteriors, each over parameters of its own.

    Parameters
    ----------
    groups : sequence of UnitPosterior
        Over the same objects; their parameters follow one another.

    Raises
    ------
    MelotteValueError
        When there is no group, or their numbers of objects differ.
    """

    def __init__(self, groups: Sequence[UnitPosterior]) -> None:
        sizes = [len(group) for group in groups]
        if len(set(sizes)) != 1:
            raise MelotteValueError(
                f"independent posteriors need the same objects in every group; found {sizes}"
            )
        self.groups = tuple(groups)

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return sum(group.n_parameters for group in self.groups)

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.groups[0].device

    def __len__(self) -> int:
        return len(self.groups[0])

    def select(self, chosen: Tensor) -> IndependentPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return IndependentPosterior([group.select(chosen) for group in self.groups])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); ``-inf`` outside the cube."""
        pairs = zip(self.groups, self._split(u), strict=True)
        return torch.stack([group.log_prob(part) for group, part in pairs]).sum(0)

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters, as exact as that of the groups."""
        triples = zip(self.groups, self._split(u), self._split(known), strict=True)
        terms = [group.log_prob_known(part, mask) for group, part, mask in triples]
        return torch.stack(terms).sum(0)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters)."""
        return torch.cat([group.sample(n, generator) for group in self.groups], -1)

    def mean(self) -> Tensor:
        """Posterior mean (batch, n_parameters)."""
        return torch.cat([group.mean() for group in self.groups], -1)

    def mode(self) -> Tensor:
        """The groups' modes (batch, n_parameters): the mode of a product is theirs."""
        return torch.cat([group.mode() for group in self.groups], -1)

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles (batch, Q, n_parameters)."""
        return torch.cat([group.quantile(q, generator) for group in self.groups], -1)

    def _split(self, values: Tensor) -> tuple[Tensor, ...]:
        return values.split([group.n_parameters for group in self.groups], -1)
