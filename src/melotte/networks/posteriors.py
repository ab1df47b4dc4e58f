"""Posteriors: one interface whatever the head, on the unit cube and in physical units."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from melotte.parameters import Prior

SUMMARY_SAMPLES = 500
SUMMARY_SEED = 0


class UnitPosterior(ABC):
    """A batch of posteriors on the unit cube; every method returns the batch as first axis.

    A head's posterior gives densities and samples, and overrides the summaries that it knows in
    closed form; the others are taken from ``SUMMARY_SAMPLES`` samples of a fixed seed.
    """

    @property
    @abstractmethod
    def n_parameters(self) -> int:
        """Number of parameters."""

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return torch.device("cpu")

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def select(self, chosen: Tensor) -> UnitPosterior:
        """Posteriors of some objects, by their int64 numbers."""

    @abstractmethod
    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); shape (batch,)."""

    @abstractmethod
    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters alone; shape (batch,)."""

    @abstractmethod
    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples, shape (batch, n, n_parameters)."""

    def mean(self) -> Tensor:
        """Posterior mean, shape (batch, n_parameters)."""
        return self._summary_samples().mean(1)

    def mode(self) -> Tensor:
        """Sample of highest density, shape (batch, n_parameters)."""
        drawn = self._summary_samples()
        densities = torch.stack([self.log_prob(one) for one in drawn.unbind(1)], 1)
        best = densities.argmax(1)
        return drawn[torch.arange(len(drawn), device=drawn.device), best]

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles at levels ``q`` (Q,); shape (batch, Q, n_parameters)."""
        drawn = self._summary_samples(generator)
        return torch.quantile(drawn, q.to(drawn), dim=1).movedim(0, 1)

    def _summary_samples(self, generator: torch.Generator | None = None) -> Tensor:
        if generator is None:
            generator = torch.Generator(device=self.device).manual_seed(SUMMARY_SEED)
        return self.sample(SUMMARY_SAMPLES, generator)


class Posterior:
    """A batch of posteriors in physical units.

    Parameters
    ----------
    unit : UnitPosterior
    prior : Prior
    """

    def __init__(self, unit: UnitPosterior, prior: Prior) -> None:
        self.unit, self.prior = unit, prior

    def __len__(self) -> int:
        return len(self.unit)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return self.prior.names

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples, shape (batch, n, n_parameters)."""
        return self.prior.from_unit(self.unit.sample(n, generator))

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in physical units, shape (batch,)."""
        inside = self.prior.contains(theta)
        safe = torch.where(
            inside[:, None], theta, self.prior.from_unit(torch.full_like(theta, 0.5))
        )
        density = self.unit.log_prob(self.prior.to_unit(safe)) + self.prior.log_jacobian(safe)
        return torch.where(inside, density, -torch.inf)

    def mean(self) -> Tensor:
        """Posterior mean, shape (batch, n_parameters), from samples of a fixed seed."""
        generator = torch.Generator(device=self.unit.device).manual_seed(SUMMARY_SEED)
        return self.sample(SUMMARY_SAMPLES, generator).mean(1)

    def mode(self) -> Tensor:
        """Point of highest density on the unit cube, in physical units."""
        return self.prior.from_unit(self.unit.mode())

    def quantile(self, q: Tensor) -> Tensor:
        """Marginal quantiles, shape (batch, Q, n_parameters)."""
        return self.prior.from_unit(self.unit.quantile(q))
