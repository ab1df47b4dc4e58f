"""Densities that take the place of a training prior: normal, uniform, tabulated, or by name.

A name stands for densities that a system offers through its optional method ``named_priors``, one
for each object, because they depend on what was observed (the redshift of a galaxy cluster).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.systems.base import Observation

REACH = 40.0
"""Standard deviations from its mean within which a normal density is looked at."""


class LogDensity(Protocol):
    """A density over one parameter, in the parameter's unit; constants do not matter."""

    @property
    def support(self) -> tuple[float, float]:
        """Where it is, or where it is not negligible."""
        ...

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to a constant (any shape); ``-inf`` where there is none."""
        ...


DensitiesOfObjects = Callable[[Observation], Sequence[LogDensity]]
"""Gives a density for each object of a batch of observations."""

NamedPriors = Mapping[str, Mapping[str, DensitiesOfObjects]]
"""What a system's ``named_priors()`` returns: by name, then by parameter."""


@dataclass(frozen=True)
class Density:
    """A normal or a uniform density."""

    mean: float = 0.0
    sd: float = math.inf
    low: float = -math.inf
    high: float = math.inf

    @property
    def support(self) -> tuple[float, float]:
        """The ends, or ``REACH`` standard deviations about the mean."""
        if math.isinf(self.sd):
            return self.low, self.high
        return self.mean - REACH * self.sd, self.mean + REACH * self.sd

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to a constant (any shape)."""
        inside = (value >= self.low) & (value <= self.high)
        score = (value - self.mean) / self.sd
        return torch.where(inside, -0.5 * score**2, -torch.inf)

    def __str__(self) -> str:
        if math.isinf(self.sd):
            return f"uniform, {self.low:g} to {self.high:g}"
        return f"normal, mean {self.mean:g}, sd {self.sd:g}"


@dataclass(frozen=True)
class TabulatedDensity:
    """A density that is linear in its logarithm between values; none beyond the first and last.

    Parameters
    ----------
    values : tuple of float, rising, at least 2
    log_density : tuple of float, finite, of the same length
        Natural logarithm, up to a constant.

    Raises
    ------
    MelotteValueError
        When the values do not rise, a number is not finite, or the lengths differ.
    """

    values: tuple[float, ...]
    log_density: tuple[float, ...]

    def __post_init__(self) -> None:
        n = len(self.values)
        if n < 2 or len(self.log_density) != n:
            raise MelotteValueError(
                f"a table of {n} values and {len(self.log_density)} log densities; "
                "needs at least 2 of each, and as many"
            )
        if not all(math.isfinite(number) for number in self.values + self.log_density):
            raise MelotteValueError("the table holds a number that is not finite")
        for below, above in zip(self.values[:-1], self.values[1:], strict=True):
            if not below < above:
                raise MelotteValueError(
                    f"values of the table must rise; found {above:g} after {below:g}"
                )

    @property
    def support(self) -> tuple[float, float]:
        """The first and the last value."""
        return self.values[0], self.values[-1]

    def log_prob(self, value: Tensor) -> Tensor:
        """Log density up to a constant (any shape)."""
        at = torch.tensor(self.values, dtype=torch.float64, device=value.device)
        density = torch.tensor(self.log_density, dtype=torch.float64, device=value.device)
        place = value.double().contiguous()
        above = torch.searchsorted(at, place).clamp(1, len(at) - 1)
        low, high = at[above - 1], at[above]
        found = torch.lerp(density[above - 1], density[above], (place - low) / (high - low))
        inside = (place >= at[0]) & (place <= at[-1])
        return torch.where(inside, found, -torch.inf).to(value.dtype)

    def __str__(self) -> str:
        low, high = self.support
        return f"table of {len(self.values)} values, {low:g} to {high:g}"


@dataclass(frozen=True)
class NamedDensity:
    """Densities of a system's named prior over one parameter.

    Parameters
    ----------
    name : str
    of_objects : callable
        Gives a density for each object of a batch.
    """

    name: str
    of_objects: DensitiesOfObjects

    def __str__(self) -> str:
        return self.name
