"""Priors of the user's own, applied to posteriors after the fact by importance weights.

The file is YAML. A parameter's entry replaces the prior it was trained under, for all objects, or
for one under ``objects``::

    metallicity: {low: -0.2, high: 0.2}        # uniform
    objects:
      NGC 188:
        distance: {mean: 1.85, sd: 0.05}       # normal, in the parameter's unit
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.object_streams import PRIOR_STREAM, object_generator
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.parameters import Parameter, Prior

FEW_SAMPLES = 100
"""Effective samples below which a reweighted posterior is not to be trusted."""


@dataclass(frozen=True)
class Density:
    """A normal or a uniform density, in the parameter's unit; constants do not matter."""

    mean: float = 0.0
    sd: float = math.inf
    low: float = -math.inf
    high: float = math.inf

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to a constant (any shape)."""
        inside = (value >= self.low) & (value <= self.high)
        score = (value - self.mean) / self.sd
        return torch.where(inside, -0.5 * score**2, -torch.inf)


@dataclass(frozen=True)
class PriorReweighting:
    """Densities that replace the training prior.

    Parameters
    ----------
    prior : Prior
        Under which the model was trained.
    common : dict of str to Density
        By parameter, for all objects.
    objects : dict of str to dict of str to Density
        By id, then parameter; goes before ``common``.
    """

    prior: Prior
    common: Mapping[str, Density] = field(default_factory=dict)
    objects: Mapping[str, Mapping[str, Density]] = field(default_factory=dict)

    def log_weights(self, unit: Tensor, name: str) -> Tensor:
        """Log of new prior over old, shape (n_samples,), of one object's samples.

        Parameters
        ----------
        unit : Tensor, shape (n_samples, n_parameters), unit cube
        name : str
            The object's id.
        """
        densities = dict(self.common) | dict(self.objects.get(name, {}))
        total = torch.zeros(len(unit), dtype=torch.float64)
        value = self.prior.from_unit(unit.double())
        for i, parameter in enumerate(self.prior.parameters):
            if parameter.name in densities:
                total += densities[parameter.name].log_prob(value[:, i])
                total -= parameter.log_jacobian(value[:, i])
        return total

    def resample(
        self, unit: Tensor, ids: Sequence[str], seed: int
    ) -> tuple[Tensor, NDArray[np.float64]]:
        """Samples of the reweighted posteriors, and their effective number.

        Parameters
        ----------
        unit : Tensor, shape (n, n_samples, n_parameters), unit cube
        ids : sequence of str, length n
        seed : int

        Returns
        -------
        unit : Tensor, same shape
            Drawn by systematic resampling, in random order; NaN where the new prior excludes
            every sample.
        effective : array, shape (n,)
            (sum w)^2 / sum w^2 (Kish 1965); below ``FEW_SAMPLES`` the result is not reliable.
        """
        n_samples = unit.shape[1]
        drawn, effective = torch.full_like(unit, torch.nan), np.zeros(len(unit))
        for i, name in enumerate(ids):
            log_weight = self.log_weights(unit[i], name)
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
        return drawn, effective


def read_prior_file(path: str | Path, prior: Prior) -> PriorReweighting:
    """Read a file of priors.

    Parameters
    ----------
    path : path
        YAML; see the module's description.
    prior : Prior
        Of the model.

    Raises
    ------
    MelotteFileError
        When the file cannot be read or is not YAML.
    MelotteValueError
        When a parameter is unknown, or a density is malformed or outside the model's range.
    """
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise MelotteFileError(f"prior file {path}: cannot be read ({error})") from error
    except yaml.YAMLError as error:
        line = " ".join(str(error).split())
        raise MelotteFileError(f"prior file {path}: not valid YAML ({line})") from error
    if not isinstance(content, dict) or not content:
        raise MelotteValueError(
            f"prior file {path}: must map parameters ({', '.join(prior.names)}) to densities"
        )
    objects = content.pop("objects", {})
    if not isinstance(objects, dict):
        raise MelotteValueError(f"prior file {path}: objects must map ids to parameters")
    return PriorReweighting(
        prior,
        _densities(content, prior, f"prior file {path}"),
        {
            str(name): _densities(entry, prior, f"prior file {path}: objects.{name}")
            for name, entry in objects.items()
        },
    )


def _densities(content: Any, prior: Prior, where: str) -> dict[str, Density]:
    if not isinstance(content, dict):
        raise MelotteValueError(f"{where}: found {content!r}, not a mapping of parameters")
    known = dict(zip(prior.names, prior.parameters, strict=True))
    unknown = [str(name) for name in content if name not in known]
    if unknown:
        raise MelotteValueError(
            f"{where}: {', '.join(unknown)} is no parameter of this model; "
            f"allowed: {', '.join(prior.names)}"
        )
    return {name: _density(entry, known[name], where) for name, entry in content.items()}


def _density(entry: Any, parameter: Parameter, where: str) -> Density:
    where = f"{where}: {parameter.name}"
    numbers = isinstance(entry, dict) and all(
        isinstance(value, int | float) and math.isfinite(value) for value in entry.values()
    )
    if not numbers or set(entry) not in ({"mean", "sd"}, {"low", "high"}):
        raise MelotteValueError(
            f"{where}: found {entry!r}; allowed: {{mean: m, sd: s}} or {{low: a, high: b}}"
        )
    if "sd" in entry:
        if entry["sd"] <= 0:
            raise MelotteValueError(f"{where}: sd {entry['sd']} must be above 0")
        return Density(mean=float(entry["mean"]), sd=float(entry["sd"]))
    low, high = float(entry["low"]), float(entry["high"])
    if not low < high or high <= parameter.low or low >= parameter.high:
        raise MelotteValueError(
            f"{where}: [{low}, {high}] is empty or does not meet the model's range "
            f"[{parameter.low}, {parameter.high}]"
        )
    return Density(low=low, high=high)
