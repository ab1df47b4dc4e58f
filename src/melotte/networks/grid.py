"""Joint grids: a softmax over the cells of the unit cube, trained on Gaussian soft targets.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Sect. 3: soft targets, and the point
estimate as the weighted average around the peak.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError
from melotte.networks.mlp import perceptron
from melotte.networks.posteriors import UnitPosterior

PEAK_BINS = 3
"""Bins on either side of the peak that the point estimate averages over."""

MOST_CELLS = 1_000_000


class GridHead(nn.Module):
    """Softmax over a joint grid of equal cells.

    Parameters
    ----------
    n_features, n_parameters : int
    bins : sequence of int, or int
        Bins of each parameter.
    softness : float, > 0
        Standard deviation of the Gaussian soft target, in bins; 0 trains on the true cell alone.
    hidden : int
        Width of the two hidden layers.
    """

    def __init__(
        self,
        n_features: int,
        n_parameters: int,
        bins: int | Sequence[int] = 16,
        softness: float = 0.0,
        hidden: int = 256,
    ) -> None:
        super().__init__()
        self.bins = (bins,) * n_parameters if isinstance(bins, int) else tuple(bins)
        if len(self.bins) != n_parameters or min(self.bins) < 2:
            raise MelotteValueError(f"bins {bins}: needs {n_parameters} numbers, each at least 2")
        if math.prod(self.bins) > MOST_CELLS:
            raise MelotteValueError(
                f"bins {self.bins} make {math.prod(self.bins)} cells; at most {MOST_CELLS} allowed"
            )
        self.softness = softness
        self.layers = perceptron(n_features, hidden, math.prod(self.bins))

    def forward(self, features: Tensor) -> GridPosterior:
        """Posteriors of a batch; features of shape (batch, n_features), any float type."""
        with torch.autocast(features.device.type, enabled=False):
            logits = torch.log_softmax(self.layers(features.float()), -1)
            return GridPosterior(logits.unflatten(-1, self.bins), self.softness)


class GridPosterior(UnitPosterior):
    """Piecewise constant densities, made by :class:`GridHead`.

    Parameters
    ----------
    log_mass : Tensor, shape (batch, *bins)
        Log probability of each cell.
    softness : float
        Of the soft target in :meth:`log_prob_known` while gradients are taken, in bins.
    """

    def __init__(self, log_mass: Tensor, softness: float = 0.0) -> None:
        self.log_mass, self.softness = log_mass, softness

    @property
    def bins(self) -> tuple[int, ...]:
        """Bins of each parameter."""
        return tuple(self.log_mass.shape[1:])

    @property
    def n_parameters(self) -> int:
        """Number of parameters."""
        return len(self.bins)

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.log_mass.device

    def __len__(self) -> int:
        return len(self.log_mass)

    def select(self, chosen: Tensor) -> GridPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return GridPosterior(self.log_mass[chosen], self.softness)

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); ``-inf`` outside the cube."""
        inside = ((u >= 0) & (u <= 1)).all(-1)
        rows = torch.arange(len(self), device=u.device)
        density = self.log_mass[(rows, *self._cells(u).unbind(-1))] + math.log(math.prod(self.bins))
        return torch.where(inside, density, -torch.inf)

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters, the others summed over; exact.

        With gradients and a softness, the cross-entropy with the Gaussian soft target takes the
        place of the log density: that is the loss of Paper II.
        """
        soft = self.softness > 0 and torch.is_grad_enabled()
        total = self.log_mass.new_zeros(len(self))
        patterns, which = torch.unique(known, dim=0, return_inverse=True)
        for number, pattern in enumerate(patterns):
            rows = torch.nonzero(which == number)[:, 0]
            axes = [i for i in range(self.n_parameters) if pattern[i]]
            if not axes:
                continue
            others = [1 + i for i in range(self.n_parameters) if not pattern[i]]
            mass = self.log_mass[rows]
            mass = torch.logsumexp(mass, others) if others else mass
            values, bins = u[rows][:, axes], tuple(self.bins[i] for i in axes)
            if soft:
                term = (mass * _soft_target(values, bins, self.softness)).flatten(1).sum(1)
            else:
                cells = self._cells(u)[rows][:, axes]
                term = mass[(torch.arange(len(rows), device=u.device), *cells.unbind(-1))]
            total = total.index_add(0, rows, term + math.log(math.prod(bins)))
        return total

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Samples (batch, n, n_parameters): a cell, then uniform within it."""
        mass = self.log_mass.flatten(1).exp()
        cell = torch.multinomial(mass, n, replacement=True, generator=generator)
        device = self.log_mass.device
        within = torch.rand(len(self), n, self.n_parameters, generator=generator, device=device)
        numbers = torch.stack(torch.unravel_index(cell, self.bins), -1)
        return ((numbers + within) / self._counts()).clamp(0, 1)

    def mean(self) -> Tensor:
        """Posterior mean, exact."""
        return torch.stack(
            [(self._marginal(i) * self._centres(i)).sum(-1) for i in range(self.n_parameters)], -1
        )

    def mode(self) -> Tensor:
        """Average of the cells within ``PEAK_BINS`` bins of the peak, weighted by their mass."""
        mass = self.log_mass.exp()
        peak = torch.unravel_index(mass.flatten(1).argmax(1), self.bins)
        for i, place in enumerate(peak):
            near = (torch.arange(self.bins[i], device=mass.device) - place[:, None]).abs()
            shape = [len(mass)] + [1] * self.n_parameters
            shape[1 + i] = self.bins[i]
            mass = mass * (near <= PEAK_BINS).view(shape)
        local = GridPosterior(torch.log(mass / mass.flatten(1).sum(1).view(-1, *[1] * len(peak))))
        return local.mean()

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Marginal quantiles (batch, Q, n_parameters), exact."""
        del generator
        found = []
        for i in range(self.n_parameters):
            edges = nn.functional.pad(self._marginal(i).cumsum(-1), (1, 0))
            level = q.to(edges).expand(len(self), -1) * edges[:, -1:]
            right = torch.searchsorted(edges.contiguous(), level.contiguous())
            right = right.clamp(1, self.bins[i])
            below, above = edges.gather(1, right - 1), edges.gather(1, right)
            part = ((level - below) / (above - below).clamp(min=1e-12)).clamp(0, 1)
            found.append((right - 1 + part) / self.bins[i])
        return torch.stack(found, -1)

    def _marginal(self, i: int) -> Tensor:
        others = [1 + k for k in range(self.n_parameters) if k != i]
        mass = self.log_mass.exp()
        return mass.sum(others) if others else mass

    def _centres(self, i: int) -> Tensor:
        return (torch.arange(self.bins[i], device=self.log_mass.device) + 0.5) / self.bins[i]

    def _counts(self) -> Tensor:
        return torch.tensor(self.bins, device=self.log_mass.device)

    def _cells(self, u: Tensor) -> Tensor:
        cells = (u.nan_to_num(0.5) * self._counts()).long()
        return torch.minimum(cells.clamp(min=0), self._counts() - 1)


def _soft_target(u: Tensor, bins: tuple[int, ...], softness: float) -> Tensor:
    """Gaussians of ``softness`` bins around ``u`` (batch, n), on the grid, each of sum 1."""
    target = u.new_ones(len(u), *[1] * len(bins))
    for i, n in enumerate(bins):
        distance = torch.arange(n, device=u.device) + 0.5 - u[:, i, None] * n
        weight = torch.softmax(-0.5 * (distance / softness) ** 2, -1)
        shape = [len(u)] + [1] * len(bins)
        shape[1 + i] = n
        target = target * weight.view(shape)
    return target
