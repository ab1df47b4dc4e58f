"""Posteriors under another prior than that of the training.

The posterior under a new prior is the old one times the ratio of the priors. For a single
parameter that product is taken on a grid, from the posterior's own density, and has no noise of
sampling, however few samples the new prior would leave. For several parameters the samples are
weighted and drawn again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.object_streams import PRIOR_STREAM, object_generator
from melotte.engine.prior_densities import LogDensity, NamedDensity
from melotte.networks.grid import GridPosterior
from melotte.networks.posteriors import ROWS_AT_ONCE, UnitPosterior
from melotte.parameters import Prior
from melotte.systems.base import Observation

FEW_SAMPLES = 100
"""Effective samples below which a reweighted posterior is not to be trusted."""
CELLS = 1024
"""Of the grid on which the density of a single parameter is reweighted."""
NEGLIGIBLE = 30.0
"""Natural logarithm below the peak at which a cell is left out of the second, finer grid."""
GRID_METHOD = "density on a grid"
SAMPLES_METHOD = "importance weights of samples"

Densities = Mapping[str, LogDensity]
"""New priors of one object, by parameter."""


@dataclass(frozen=True)
class Reweighted:
    """Posteriors of a batch under new priors, in the unit cube.

    Parameters
    ----------
    unit : Tensor, shape (n, n_samples, n_parameters)
        Samples in random order; NaN where the new prior excludes the object.
    effective : array, shape (n,)
        Samples of the old posterior that the new prior leaves, (sum w)^2 / sum w^2 (Kish 1965);
        below ``FEW_SAMPLES`` the new prior and the data hardly agree. 0 where it is excluded.
    independent : array of int, shape (n,)
        How many of ``unit`` are independent.
    quantiles : Tensor, shape (n, n_levels, n_parameters)
    """

    unit: Tensor
    effective: NDArray[np.float64]
    independent: NDArray[np.int64]
    quantiles: Tensor


@dataclass(frozen=True)
class PriorReweighting:
    """Densities that replace the training prior.

    Parameters
    ----------
    prior : Prior
        Under which the model was trained.
    common : dict of str to density
        By parameter, for all objects.
    objects : dict of str to dict of str to density
        By id, then parameter; goes before ``common``.
    """

    prior: Prior
    common: Mapping[str, Any] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def method(self) -> str:
        """How posteriors are reweighted."""
        return GRID_METHOD if len(self.prior) == 1 else SAMPLES_METHOD

    def described(self) -> dict[str, Any]:
        """What the priors are, in words, for the provenance of a result."""
        return {
            "parameters": {name: str(density) for name, density in self.common.items()},
            "objects_with_their_own": len(self.objects),
            "method": self.method,
        }

    def of_objects(self, observation: Observation) -> list[Densities]:
        """New priors of each object of a batch that has ids."""
        offered: dict[NamedDensity, Sequence[LogDensity]] = {}
        found = []
        for i, name in enumerate(observation.ids):
            densities = dict(self.common) | dict(self.objects.get(name, {}))
            for parameter, density in densities.items():
                if isinstance(density, NamedDensity):
                    if density not in offered:
                        offered[density] = density.of_objects(observation)
                    densities[parameter] = offered[density][i]
            found.append(densities)
        return found

    def log_weights(self, unit: Tensor, densities: Densities) -> Tensor:
        """Log of new prior over old, shape (n_values,), of one object.

        Parameters
        ----------
        unit : Tensor, shape (n_values, n_parameters), unit cube
        densities : dict of str to density
        """
        total = torch.zeros(len(unit), dtype=torch.float64)
        value = self.prior.from_unit(unit.double())
        for i, parameter in enumerate(self.prior.parameters):
            if parameter.name in densities:
                total += densities[parameter.name].log_prob(value[:, i])
                total -= parameter.log_jacobian(value[:, i])
        return total

    def resample(
        self,
        unit: Tensor,
        densities: Sequence[Densities],
        ids: Sequence[str],
        seed: int,
        levels: Tensor,
    ) -> Reweighted:
        """Samples drawn again, each with the weight that the new prior gives it.

        Parameters
        ----------
        unit : Tensor, shape (n, n_samples, n_parameters), unit cube
        densities : sequence of dict, length n
            Of each object; see :meth:`of_objects`.
        ids : sequence of str, length n
        seed : int
        levels : Tensor, shape (n_levels,)
            Of the quantiles.

        Returns
        -------
        Reweighted
            By systematic resampling.
        """
        n_samples = unit.shape[1]
        drawn, effective = torch.full_like(unit, torch.nan), np.zeros(len(unit))
        for i, name in enumerate(ids):
            log_weight = self.log_weights(unit[i], densities[i])
            if not (log_weight > -torch.inf).any():
                continue
            weight = torch.softmax(log_weight, 0)
            effective[i] = 1 / float((weight**2).sum())
            generator = object_generator(seed, PRIOR_STREAM, name)
            start = torch.rand(1, generator=generator, dtype=torch.float64)
            comb = (torch.arange(n_samples, dtype=torch.float64) + start) / n_samples
            chosen = torch.searchsorted(weight.cumsum(0), comb).clamp(max=n_samples - 1)
            order = torch.randperm(n_samples, generator=generator)
            drawn[i] = unit[i, chosen[order]]
        quantiles = torch.quantile(drawn, levels.to(drawn), dim=1).movedim(0, 1)
        return Reweighted(drawn, effective, effective.astype(np.int64), quantiles)

    @torch.no_grad()
    def on_grid(
        self,
        posterior: UnitPosterior,
        densities: Sequence[Densities],
        ids: Sequence[str],
        n_samples: int,
        seed: int,
        levels: Tensor,
    ) -> Reweighted:
        """The posterior's density times the weight, of a single parameter.

        The grid spans what the new prior allows, then once more the cells that are not
        negligible: neither narrow priors nor narrow posteriors fall between its cells.

        Parameters
        ----------
        posterior : UnitPosterior, of one parameter, over n objects
        densities, ids, seed, levels
            As in :meth:`resample`.
        n_samples : int
            Samples to draw of each; ``effective`` is out of so many.

        Returns
        -------
        Reweighted
        """
        bounds = torch.stack([self._bounds(one) for one in densities])
        old, log_weight = self._density(posterior, densities, bounds)
        new = old + log_weight
        allowed = (new > -torch.inf).any(1)
        # Normalised densities: the sums are expectations of the weight and of its square.
        width = torch.log((bounds[:, 1] - bounds[:, 0]) / CELLS)
        log_mean = torch.logsumexp(new, 1) + width
        log_square = torch.logsumexp(new + log_weight, 1) + width
        share = torch.exp((2 * log_mean - log_square).clamp(max=0))
        effective = torch.where(allowed, n_samples * share, 0.0).numpy()

        bounds = _zoomed(bounds, new)
        old, log_weight = self._density(posterior, densities, bounds)
        new = torch.where(allowed[:, None], old + log_weight, 0.0)
        grid = GridPosterior(torch.log_softmax(new, 1))
        low, extent = bounds[:, :1, None], (bounds[:, 1:] - bounds[:, :1])[..., None]

        uniform = [
            torch.rand(
                n_samples, generator=object_generator(seed, PRIOR_STREAM, name), dtype=torch.float64
            )
            for name in ids
        ]
        drawn = [grid.select(torch.tensor([i])).quantile(one) for i, one in enumerate(uniform)]
        given = allowed[:, None, None]
        return Reweighted(
            torch.where(given, low + extent * torch.cat(drawn), torch.nan),
            effective,
            np.where(allowed.numpy(), n_samples, 0),
            torch.where(given, low + extent * grid.quantile(levels.double()), torch.nan),
        )

    def _bounds(self, densities: Densities) -> Tensor:
        """Ends in the unit range of where the new prior of one object is, shape (2,)."""
        parameter = self.prior.parameters[0]
        low, high = parameter.low, parameter.high
        if parameter.name in densities:
            first, last = densities[parameter.name].support
            if max(low, first) < min(high, last):
                low, high = max(low, first), min(high, last)
        return parameter.to_unit(torch.tensor([low, high], dtype=torch.float64)).clamp(0, 1)

    def _density(
        self, posterior: UnitPosterior, densities: Sequence[Densities], bounds: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Log density and log weight at the middles of the cells, each (n, ``CELLS``)."""
        middles = (torch.arange(CELLS, dtype=torch.float64) + 0.5) / CELLS
        unit = bounds[:, :1] + (bounds[:, 1:] - bounds[:, :1]) * middles
        found = []
        for part in torch.arange(len(posterior)).split(max(1, ROWS_AT_ONCE // CELLS)):
            rows = posterior.select(part.repeat_interleave(CELLS).to(posterior.device))
            at = unit[part].flatten()[:, None].float().to(posterior.device)
            found.append(rows.log_prob(at).view(len(part), CELLS).cpu().double())
        weights = [
            self.log_weights(row[:, None], one) for row, one in zip(unit, densities, strict=True)
        ]
        return torch.cat(found), torch.stack(weights)


def _zoomed(bounds: Tensor, log_density: Tensor) -> Tensor:
    """Ends, shape (n, 2), of the cells that are not negligible, and one more on either side."""
    peak = log_density.max(1, keepdim=True).values
    kept = (log_density >= peak - NEGLIGIBLE).int()
    first = (kept.argmax(1) - 1).clamp(min=0)
    last = (CELLS + 1 - kept.flip(1).argmax(1)).clamp(max=CELLS)
    ends = torch.stack([first, last], 1) / CELLS
    return bounds[:, :1] + (bounds[:, 1:] - bounds[:, :1]) * ends.double()
