"""Physical parameters and the prior over them.

A :class:`Parameter` knows its name, unit, range and prior (uniform, log-uniform or a truncated
normal); a :class:`Prior` is a box of them. Networks never see physical values: they work in
the *unit cube*, where every parameter is uniform on [0, 1] under the prior, so that no head can
put mass outside the prior and every loss is on one scale.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from melotte.errors import MelotteValueError

Scale = Literal["linear", "log", "normal"]


@dataclass(frozen=True)
class Parameter:
    """One physical parameter of a system.

    Parameters
    ----------
    name : str
        Column name in result tables, such as ``"log_age"``.
    low, high : float
        Range of the prior, in ``unit``.
    unit : str
        A unit that FITS and VOTable keep (``"kpc"``, ``"mag"``, ``"arcsec"``), or ``""``.
    scale : {"linear", "log", "normal"}
        The prior is uniform in the value, uniform in its logarithm, or a normal distribution of
        mean ``centre`` and standard deviation ``width`` truncated to the range.
    description : str
        What the number is; for a logarithm, of what.
    centre, width : float, optional
        Mean and standard deviation, in ``unit``, where the scale is normal.

    Raises
    ------
    MelotteValueError
        When the range is empty, not finite, or not positive on a logarithmic scale, or when the
        centre and width do not go with the scale.
    """

    name: str
    low: float
    high: float
    unit: str = ""
    scale: Scale = "linear"
    description: str = ""
    centre: float | None = None
    width: float | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.low) and math.isfinite(self.high) and self.low < self.high):
            raise MelotteValueError(
                f"parameter {self.name}: range [{self.low}, {self.high}] is empty or not finite; "
                "low must be below high"
            )
        if self.scale not in ("linear", "log", "normal"):
            raise MelotteValueError(
                f"parameter {self.name}: scale {self.scale!r} is not 'linear', 'log' or 'normal'"
            )
        normal = self.centre is not None and self.width is not None and self.width > 0
        if normal != (self.scale == "normal"):
            raise MelotteValueError(
                f"parameter {self.name}: a normal scale, and no other, needs a centre and a "
                f"width > 0; found scale {self.scale!r}, centre {self.centre}, width {self.width}"
            )
        if self.scale == "log" and self.low <= 0:
            raise MelotteValueError(
                f"parameter {self.name}: a logarithmic scale needs low > 0, found {self.low}"
            )

    def to_unit(self, value: Tensor) -> Tensor:
        """Map physical values to [0, 1] (any shape; NaN stays NaN).

        Values outside the range map outside [0, 1] on the linear and logarithmic scales, and
        may be as far outside as rounding allows on the normal one.
        """
        low, high = self._ends
        if self.scale == "normal":
            cumulative = _normal_cdf((value - self._centre) / self._width)
            return (cumulative - low) / (high - low)
        return ((torch.log(value) if self.scale == "log" else value) - low) / (high - low)

    def from_unit(self, unit_value: Tensor) -> Tensor:
        """Map [0, 1] back to physical values (any shape)."""
        low, high = self._ends
        value = low + (high - low) * unit_value
        if self.scale == "normal":
            value = self._centre + self._width * torch.special.ndtri(value.double())
            return value.to(unit_value.dtype).clamp(self.low, self.high)
        return torch.exp(value) if self.scale == "log" else value

    def log_jacobian(self, value: Tensor) -> Tensor:
        """Natural logarithm of d(unit value)/d(value) at physical values (any shape)."""
        low, high = self._ends
        constant = -math.log(high - low)
        if self.scale == "log":
            return constant - torch.log(value)
        if self.scale == "normal":
            score = (value - self._centre) / self._width
            return constant - 0.5 * score**2 - math.log(self._width * math.sqrt(2 * math.pi))
        return torch.full_like(value, constant)

    @property
    def _centre(self) -> float:
        return self.centre if self.centre is not None else 0.0

    @property
    def _width(self) -> float:
        return self.width if self.width is not None else 1.0

    @property
    def _ends(self) -> tuple[float, float]:
        if self.scale == "log":
            return math.log(self.low), math.log(self.high)
        if self.scale == "normal":
            scores = torch.tensor([self.low, self.high], dtype=torch.float64)
            low, high = _normal_cdf((scores - self._centre) / self._width).tolist()
            return low, high
        return self.low, self.high

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for a model file or a bank."""
        return {
            "name": self.name,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
            "scale": self.scale,
            "description": self.description,
            "centre": self.centre,
            "width": self.width,
        }

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> Parameter:
        """Inverse of :meth:`as_json`.

        Raises
        ------
        MelotteValueError
            When a key is missing, unknown, or of the wrong kind.
        """
        try:
            return cls(**entry)
        except TypeError as error:
            raise MelotteValueError(f"parameter entry {entry!r} is malformed: {error}") from error


def on_scale(parameter: Parameter, values: ArrayLike) -> NDArray[np.float64]:
    """Values of a parameter on the scale of its prior: log10 where that is logarithmic.

    Parameters
    ----------
    parameter : Parameter
    values : array of any shape, the parameter's unit

    Returns
    -------
    array, of the same shape
    """
    given = np.asarray(values, dtype=float)
    return np.log10(given) if parameter.scale == "log" else given


def _normal_cdf(score: Tensor) -> Tensor:
    return torch.special.ndtr(score.double()).to(score.dtype)


class Prior:
    """Independent box prior over several parameters.

    Parameters
    ----------
    parameters : sequence of Parameter
        At least one; names are unique.
    """

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        names = [parameter.name for parameter in parameters]
        if not names or len(set(names)) != len(names):
            raise MelotteValueError(f"a prior needs uniquely named parameters, found {names}")
        self.parameters = tuple(parameters)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    def __len__(self) -> int:
        return len(self.parameters)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw from the prior.

        Parameters
        ----------
        n : int
        generator : torch.Generator, optional
            Its device decides where the draws are made.

        Returns
        -------
        Tensor, shape (n, n_parameters), physical units
        """
        device = generator.device if generator is not None else torch.device("cpu")
        unit = torch.rand(n, len(self), generator=generator, device=device)
        return self.from_unit(unit)

    def log_prob(self, theta: Tensor) -> Tensor:
        """Log density in physical units.

        Parameters
        ----------
        theta : Tensor, shape (..., n_parameters), physical units

        Returns
        -------
        Tensor, shape (...,); ``-inf`` outside the box and where a value is NaN
        """
        inside = self.contains(theta)
        safe = torch.where(inside[..., None], theta, self.from_unit(torch.full_like(theta, 0.5)))
        return torch.where(inside, self.log_jacobian(safe), torch.tensor(-math.inf).to(theta))

    def contains(self, theta: Tensor) -> Tensor:
        """Whether physical values, shape (..., n_parameters), lie in the box; shape (...,)."""
        low = theta.new_tensor([parameter.low for parameter in self.parameters])
        high = theta.new_tensor([parameter.high for parameter in self.parameters])
        return ((theta >= low) & (theta <= high)).all(-1)

    def to_unit(self, theta: Tensor) -> Tensor:
        """Physical values, shape (..., n_parameters), to the unit cube."""
        return torch.stack([p.to_unit(theta[..., i]) for i, p in enumerate(self.parameters)], -1)

    def from_unit(self, unit: Tensor) -> Tensor:
        """Unit cube, shape (..., n_parameters), to physical values."""
        return torch.stack([p.from_unit(unit[..., i]) for i, p in enumerate(self.parameters)], -1)

    def log_jacobian(self, theta: Tensor) -> Tensor:
        """Log determinant of d(unit)/d(theta) at physical values (..., n_parameters)."""
        terms = [p.log_jacobian(theta[..., i]) for i, p in enumerate(self.parameters)]
        return torch.stack(terms, -1).sum(-1)
