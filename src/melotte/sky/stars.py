"""What a star is at a given age: luminosity, temperature, gravity, mass, phase."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

PHASES = {
    -1: "pre-main sequence",
    0: "main sequence",
    2: "subgiant and red giant branch",
    3: "core helium burning",
    4: "early asymptotic giant branch",
    5: "thermally pulsing asymptotic giant branch",
    99: "dead: a dark remnant",
}
"""Evolutionary phases by number: MIST's, and 99 for what no longer shines."""

DEAD = 99


@dataclass(frozen=True)
class Stars:
    """States of stars; every tensor has the shape (..., n_stars).

    Parameters
    ----------
    log_luminosity : Tensor, log10(L / Lsun); -inf for the dead
    log_teff : Tensor, log10(Teff / K); that of the last living star for the dead
    log_g : Tensor, log10(g / (cm / s^2)); likewise
    current_mass : Tensor, Msun; 0 for the dead (see :func:`melotte.sky.remnants.remnant_mass`)
    phase : Tensor of int8, a key of :data:`PHASES`
    alive : BoolTensor
    native_magnitudes : Tensor, shape (..., n_stars, n_bands), mag, optional
        Absolute magnitudes without extinction that a user's own isochrones give.
    """

    log_luminosity: Tensor
    log_teff: Tensor
    log_g: Tensor
    current_mass: Tensor
    phase: Tensor
    alive: Tensor
    native_magnitudes: Tensor | None = None

    @property
    def shape(self) -> torch.Size:
        """The shape (..., n_stars)."""
        return self.log_luminosity.shape

    def select(self, chosen: Any) -> Stars:
        """Index every tensor alike, along the first axes: ``tensor[chosen]``."""
        return self._map(lambda tensor: tensor[chosen])

    def reshape(self, *shape: int) -> Stars:
        """The same stars in another shape."""
        n_axes = self.log_luminosity.ndim
        return self._map(lambda tensor: tensor.reshape(*shape, *tensor.shape[n_axes:]))

    def to(self, device: torch.device | str) -> Stars:
        """The same stars on another device."""
        return self._map(lambda tensor: tensor.to(device))

    def _map(self, change: Callable[[Tensor], Tensor]) -> Stars:
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            changed[field.name] = None if value is None else change(value)
        return Stars(**changed)
