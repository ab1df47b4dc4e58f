"""Several networks' posteriors as one: their mixture in equal parts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.networks.posteriors import UnitPosterior


class EnsemblePosterior(UnitPosterior):
    """The mean of the members' densities.

    Where the members agree it is each of them; where they do not, it is wider than any
    (Lakshminarayanan et al. 2017).

    Parameters
    ----------
    members : sequence of UnitPosterior
        At least one, of the same batch and parameters.
    """

    def __init__(self, members: Sequence[UnitPosterior]) -> None:
        if not members:
            raise MelotteValueError("an ensemble needs at least one member")
        self.members = tuple(members)

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return self.members[0].n_parameters

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.members[0].device

    def __len__(self) -> int:
        return len(self.members[0])

    def select(self, chosen: Tensor) -> EnsemblePosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return EnsemblePosterior([member.select(chosen) for member in self.members])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); shape (batch,)."""
        return self._mean([member.log_prob(u) for member in self.members])

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters alone; shape (batch,)."""
        return self._mean([member.log_prob_known(u, known) for member in self.members])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters), as many of each member as of another, shuffled."""
        share = -(-n // len(self.members))
        drawn = torch.cat([member.sample(share, generator) for member in self.members], 1)
        order = torch.rand(drawn.shape[1], generator=generator, device=drawn.device).argsort()
        return drawn[:, order[:n]]

    def _mean(self, logs: list[Tensor]) -> Tensor:
        return torch.logsumexp(torch.stack(logs), 0) - math.log(len(logs))
