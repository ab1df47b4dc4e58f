"""Autoregressive posteriors: one conditional density after the other, in a fixed order.

``p(u) = prod_i p(u_i | u_<i, features)``. Each factor is a family of densities on [0, 1] whose
settings a small network reads from the features and the parameters before it. The order never
changes, so the marginal of any leading set of parameters is exact: labels that a catalogue does
not give belong last in the order. The features enter each network once an object, not once a
sample, which is most of a sample's cost.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import cast

import torch
from torch import Tensor, nn

from melotte.networks.logit_space import EDGE
from melotte.networks.posteriors import ROWS_AT_ONCE, SUMMARY_SEED, UnitPosterior

MARGINAL_DRAWS = 32
"""Points that stand for the unknown parameters before a known one."""


class Family(ABC):
    """Densities of one parameter on [0, 1], given by ``n_settings`` unconstrained numbers."""

    n_settings: int
    n_uniform: int
    """Uniform numbers that a draw takes."""

    @abstractmethod
    def first_bias(self) -> Tensor:
        """Settings (n_settings,) that an untrained network starts around."""

    @abstractmethod
    def log_density(self, settings: Tensor, u: Tensor) -> Tensor:
        """Log density at ``u`` (...,) in [0, 1], settings of shape (..., n_settings)."""

    @abstractmethod
    def draw(self, settings: Tensor, uniform: Tensor) -> Tensor:
        """Draws (...,) in [0, 1] from uniform numbers (n_uniform, ...)."""


class Conditional(nn.Module):
    """Reads a family's settings from the features and the parameters before.

    Parameters
    ----------
    n_features : int
    n_before : int
        Parameters earlier in the order.
    family : Family
    hidden : int
        Width of the two hidden layers.
    """

    def __init__(self, n_features: int, n_before: int, family: Family, hidden: int) -> None:
        super().__init__()
        self.reads = nn.Linear(n_features, hidden)
        self.before = nn.Linear(n_before, hidden, bias=False) if n_before else None
        inner = nn.Linear(hidden, hidden)
        last = nn.Linear(hidden, family.n_settings)
        self.layers = nn.Sequential(nn.GELU(), inner, nn.GELU(), last)
        with torch.no_grad():
            last.bias.copy_(family.first_bias())

    def read(self, features: Tensor) -> Tensor:
        """What this density takes from the features (batch, n_features), (batch, hidden)."""
        return self.reads(features)

    def forward(self, read: Tensor, before: Tensor) -> Tensor:
        """Settings (..., n_settings) from what was read (..., hidden) and u_<i (..., i)."""
        if self.before is not None:
            # The cube seen from its centre, stretched to unit variance.
            read = read + self.before((before - 0.5) * math.sqrt(12))
        return self.layers(read)


class AutoregressiveHead(nn.Module):
    """Posterior head: one :class:`Conditional` a parameter, all of one family.

    Parameters
    ----------
    n_features, n_parameters : int
    family : Family
    hidden : int
        Width of the two hidden layers of each conditional density.
    """

    def __init__(self, n_features: int, n_parameters: int, family: Family, hidden: int) -> None:
        super().__init__()
        self.family = family
        self.conditionals = nn.ModuleList(
            Conditional(n_features, i, family, hidden) for i in range(n_parameters)
        )

    def forward(self, features: Tensor) -> AutoregressivePosterior:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        with torch.autocast(features.device.type, enabled=False):
            features = features.float()
            reads = [cast(Conditional, one).read(features) for one in self.conditionals]
            return AutoregressivePosterior(self, reads)


class AutoregressivePosterior(UnitPosterior):
    """A batch of posteriors, made by :class:`AutoregressiveHead`.

    Parameters
    ----------
    head : AutoregressiveHead
    reads : list of Tensor, each (batch, hidden)
        What each conditional density took from the features.
    """

    def __init__(self, head: AutoregressiveHead, reads: list[Tensor]) -> None:
        self._head = head
        self._reads = reads

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return len(self._reads)

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self._reads[0].device

    def __len__(self) -> int:
        return len(self._reads[0])

    def select(self, chosen: Tensor) -> AutoregressivePosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return AutoregressivePosterior(self._head, [read[chosen] for read in self._reads])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at points of the cube; ``-inf`` outside and where a value is NaN.

        Parameters
        ----------
        u : Tensor, shape (batch, n_parameters)

        Returns
        -------
        Tensor, shape (batch,)
        """
        inside = ((u >= 0) & (u <= 1)).all(-1)
        return torch.where(inside, self._terms(_tidy(u)).sum(-1), -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor, n_draws: int = MARGINAL_DRAWS) -> Tensor:
        """Log density of the known parameters, the others integrated out.

        Exact for every object whose known parameters come first in the order. For the others,
        the unknown parameters before a known one are averaged over ``n_draws`` points of a
        randomly shifted lattice, mapped through their own densities: the density is estimated
        without bias, its logarithm within O(1/n_draws), and the gradient is that of this
        average, the unknown parameters' densities included. The shifts have a fixed seed: equal
        arguments give equal results.

        Parameters
        ----------
        u : Tensor, shape (batch, n_parameters)
            Anything, NaN too, where not known.
        known : BoolTensor, shape (batch, n_parameters)
        n_draws : int

        Returns
        -------
        Tensor, shape (batch,)
        """
        safe = _tidy(u)
        leading = (known.long().diff(dim=-1) <= 0).all(-1)
        total = torch.where(known, self._terms(safe), 0.0).sum(-1)
        if bool(leading.all()):
            return total
        rows = torch.nonzero(~leading)[:, 0]
        averaged = self.select(rows)._averaged(safe[rows], known[rows], n_draws)
        return total.index_copy(0, rows, averaged)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples; no gradient passes through them.

        Parameters
        ----------
        n : int
        generator : torch.Generator, optional

        Returns
        -------
        Tensor, shape (batch, n, n_parameters), in [0, 1]
        """
        family, size = self._head.family, max(1, ROWS_AT_ONCE // max(n, 1))
        drawn = torch.zeros(len(self), n, 0, device=self.device)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for i in range(self.n_parameters):
                shape = (family.n_uniform, len(self), n)
                uniform = torch.rand(shape, generator=generator, device=self.device)
                new = [
                    family.draw(self._settings(i, drawn[part], part), uniform[:, part])
                    for part in (slice(k, k + size) for k in range(0, len(self), size))
                ]
                column = torch.cat(new) if new else drawn.new_zeros(0, n)
                drawn = torch.cat([drawn, column[..., None]], -1)
        return drawn

    def _terms(self, u: Tensor) -> Tensor:
        """Log density of each parameter given those before it, (batch, n_parameters)."""
        with torch.autocast(u.device.type, enabled=False):
            settings = [
                conditional(read, u[:, :i])
                for i, (conditional, read) in enumerate(
                    zip(self._head.conditionals, self._reads, strict=True)
                )
            ]
            terms = [self._head.family.log_density(s, u[:, i]) for i, s in enumerate(settings)]
            return torch.stack(terms, -1)

    def _settings(self, i: int, before: Tensor, part: slice = slice(None)) -> Tensor:
        """Settings of parameter ``i`` given those before it, (batch, n, i)."""
        return self._head.conditionals[i](self._reads[i][part, None], before)

    def _averaged(self, u: Tensor, known: Tensor, n_draws: int) -> Tensor:
        """Estimate what :meth:`log_prob_known` says, for objects that need the average."""
        family, n = self._head.family, self.n_parameters
        uniform = _shifted_lattice(len(u), n_draws, n * family.n_uniform, u.device)
        uniform = uniform.movedim(-1, 0).unflatten(0, (n, family.n_uniform))
        # Unknown parameters after the last known one integrate to one.
        matters = known.flip(-1).cumsum(-1).flip(-1) > 0
        total = u.new_zeros(len(u), n_draws)
        values = u.new_zeros(len(u), n_draws, 0)
        with torch.autocast(u.device.type, enabled=False):
            for i in range(n):
                settings = self._settings(i, values)
                with torch.no_grad():
                    drawn = _tidy(family.draw(settings, uniform[i]))
                here = known[:, i, None]
                value = torch.where(here, u[:, i, None], drawn)
                term = family.log_density(settings, value)
                # A draw's own density is divided out, which leaves its gradient.
                term = torch.where(here, term, term - term.detach())
                total = total + torch.where(matters[:, i, None], term, 0.0)
                values = torch.cat([values, value[..., None]], -1)
        return torch.logsumexp(total, 1) - math.log(n_draws)


def _tidy(u: Tensor) -> Tensor:
    """Points within the cube, single precision; NaN becomes the middle."""
    return u.float().nan_to_num(0.5).clamp(EDGE, 1 - EDGE)


def _shifted_lattice(batch: int, n: int, dimensions: int, device: torch.device) -> Tensor:
    """Even points of the cube, (batch, n, dimensions): a Kronecker lattice, shifted by object.

    The steps are powers of the root of ``x^(d+1) = x + 1``, which generalises the golden ratio
    (Roberts 2018, "The unreasonable effectiveness of quasirandom sequences").
    """
    root = 2.0
    for _ in range(64):
        root = (1 + root) ** (1 / (dimensions + 1))
    powers = torch.arange(1, dimensions + 1, dtype=torch.float64)
    steps = torch.arange(n, dtype=torch.float64)[:, None] * root**-powers
    generator = torch.Generator().manual_seed(SUMMARY_SEED)
    shifts = torch.rand(batch, 1, dimensions, generator=generator, dtype=torch.float64)
    return ((steps + shifts) % 1).float().to(device)
