"""Posteriors: one interface whatever the head, on the unit cube and in physical units."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from melotte.parameters import Prior

SUMMARY_SAMPLES = 500
SUMMARY_SEED = 0
GRID = 1000
"""Intervals of the unit range on which the quantiles of a single parameter are taken."""
ROWS_AT_ONCE = 16_384
"""Samples that pass through a network at once: more falls out of a processor's cache."""


class UnitPosterior(ABC):
    """A batch of posteriors on the unit cube; every method returns the batch as first axis.

    A head's posterior gives densities and samples, and overrides the summaries that it knows in
    closed form; the others are taken from ``SUMMARY_SAMPLES`` samples of a fixed seed. Densities
    are single precision, also under autocast, and finite on the cube's faces: heads count values
    within 1e-6 of a face as being that far from it. They are ``-inf`` outside the cube and where
    a value is NaN.
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
        n_drawn = drawn.shape[1]
        numbers = torch.arange(len(drawn), device=drawn.device)
        best = []
        for part in numbers.split(max(1, ROWS_AT_ONCE // n_drawn)):
            rows = self.select(part.repeat_interleave(n_drawn))
            density = rows.log_prob(drawn[part].flatten(0, 1)).view(len(part), n_drawn)
            best.append(density.argmax(1))
        return drawn[numbers, torch.cat(best)] if best else drawn[:, 0]

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles at levels ``q`` (Q,); shape (batch, Q, n_parameters).

        Of a single parameter, without a generator, they are read off the density on a grid of
        ``GRID`` intervals, and have no noise of sampling.
        """
        if self.n_parameters == 1 and generator is None:
            return self._grid_quantiles(q)
        drawn = self._summary_samples(generator)
        return torch.quantile(drawn, q.to(drawn), dim=1).movedim(0, 1)

    @torch.no_grad()
    def _grid_quantiles(self, q: Tensor) -> Tensor:
        middles = (torch.arange(GRID, device=self.device, dtype=torch.float64) + 0.5) / GRID
        edges = torch.linspace(0, 1, GRID + 1, device=self.device, dtype=torch.float64)
        wanted = q.to(edges)
        found = []
        numbers = torch.arange(len(self), device=self.device)
        for part in numbers.split(max(1, ROWS_AT_ONCE // GRID)):
            rows = self.select(part.repeat_interleave(GRID))
            at = middles.float().repeat(len(part))[:, None]
            density = rows.log_prob(at).view(len(part), GRID).double()
            mass = torch.softmax(density, 1)
            below = torch.cat([torch.zeros_like(mass[:, :1]), mass.cumsum(1)], 1)
            below = below / below[:, -1:]
            level = wanted.expand(len(part), -1).contiguous()
            upper = torch.searchsorted(below, level).clamp(1, GRID)
            low, high = below.gather(1, upper - 1), below.gather(1, upper)
            share = ((level - low) / (high - low).clamp(min=1e-300)).clamp(0, 1)
            found.append(torch.lerp(edges[upper - 1], edges[upper], share))
        joined = torch.cat(found) if found else wanted.new_zeros(0, len(q))
        return joined.float()[..., None]

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

    def log_prob_known(self, theta: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters alone, the others integrated out.

        Parameters
        ----------
        theta : Tensor, shape (batch, n_parameters), physical units
            Anything, NaN too, where not known.
        known : BoolTensor, shape (batch, n_parameters)

        Returns
        -------
        Tensor, shape (batch,); ``-inf`` where a known value is outside the prior or NaN
        """
        middle = self.prior.from_unit(torch.full_like(theta, 0.5))
        filled = torch.where(known, theta, middle)
        inside = self.prior.contains(filled)
        safe = torch.where(inside[:, None], filled, middle)
        density = self.unit.log_prob_known(self.prior.to_unit(safe), known)
        for i, parameter in enumerate(self.prior.parameters):
            slope = parameter.log_jacobian(safe[:, i])
            density = density + torch.where(known[:, i], slope, 0.0)
        return torch.where(inside, density, -torch.inf)

    def mean(self) -> Tensor:
        """Posterior mean, shape (batch, n_parameters), from samples of a fixed seed."""
        generator = torch.Generator(device=self.unit.device).manual_seed(SUMMARY_SEED)
        return self.sample(SUMMARY_SAMPLES, generator).mean(1)

    def mode(self) -> Tensor:
        """Point of highest density on the unit cube, in physical units."""
        return self.prior.from_unit(self.unit.mode())

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles at levels ``q`` (Q,), shape (batch, Q, n_parameters)."""
        return self.prior.from_unit(self.unit.quantile(q, generator))
