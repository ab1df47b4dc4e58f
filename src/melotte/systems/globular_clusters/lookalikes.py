"""Clusters of the same shape as a library's: of other sizes, numbers of stars and metals.

A library holds few runs, and a network that sees each many times learns them by heart. A cluster in
equilibrium stays one when its radii are multiplied by s, the number of its stars by f, and its
speeds by (f / s)^(1/2). For f < 1 a share of its stars, taken at random, is kept; for f > 1 all are
there, and again, in directions of their own, until there are enough. Factors are as often below as
above 1: otherwise a network expects lighter clusters than there are, and its masses come out too
small. The light is that of another metallicity where every star gets the magnitudes of one as far
in its life (:mod:`melotte.sky.relighting`). It has had another history, so it is a stand-in for
training alone; clusters that a network is judged on are the library's own.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Self

import torch
from torch import Tensor

from melotte.systems.areas import Area
from melotte.systems.globular_clusters.dark_mass import DarkMass
from melotte.systems.globular_clusters.settings import DataSettings


@dataclass(frozen=True)
class Lookalikes:
    """What clusters differ in from the snapshots they are made of.

    Parameters
    ----------
    size : Tensor, shape (n,)
        Factor of all radii.
    number : Tensor, shape (n,), at least 0
        Factor of the number of stars: each system of stars is there as often as the whole part
        says, and once more by a chance of what is left.
    metallicity : Tensor, shape (n,), dex
        Added to [Fe/H].
    """

    size: Tensor
    number: Tensor
    metallicity: Tensor

    @classmethod
    def draw(
        cls, data: DataSettings, area: Area, metallicity: Tensor, generator: torch.Generator
    ) -> Self | None:
        """Draw some; None where clusters are the library's own.

        Parameters
        ----------
        data : DataSettings
            ``size_spread``, ``number_factor`` and ``metallicity_spread``.
        area : {"training", "validation", "test"}
        metallicity : Tensor, shape (n,)
            [Fe/H] of the snapshots; that of lookalikes stays within the settings' range.
        generator : torch.Generator
        """
        spreads = data.size_spread, data.number_factor - 1, data.metallicity_spread
        if area != "training" or not any(spreads):
            return None
        n, device = len(metallicity), generator.device
        deviate = torch.randn(n, generator=generator, device=device)
        uniform = torch.rand(n, generator=generator, device=device)
        shift = torch.zeros_like(metallicity)
        if data.metallicity_spread > 0:
            low, high = data.metallicity
            shift = data.metallicity_spread * torch.randn(n, generator=generator, device=device)
            # Turned back at the ends of the range, not piled up there.
            wanted = metallicity + shift
            wanted = torch.where(wanted < low, 2 * low - wanted, wanted)
            wanted = torch.where(wanted > high, 2 * high - wanted, wanted)
            shift = wanted.clamp(low, high) - metallicity
        number = data.number_factor ** (2 * uniform - 1)
        return cls(10 ** (data.size_spread * deviate), number, shift)

    @classmethod
    def same(cls, n: int, device: torch.device | str = "cpu") -> Self:
        """Those that are the snapshots themselves."""
        return cls(
            torch.ones(n, device=device),
            torch.ones(n, device=device),
            torch.zeros(n, device=device),
        )

    def times(self, number: Tensor) -> Lookalikes:
        """The same, of so many times (n,) as many stars."""
        return replace(self, number=self.number * number)

    @property
    def speed(self) -> Tensor:
        """Factor of all velocities, shape (n,)."""
        return (self.number / self.size).sqrt()

    def select(self, chosen: Tensor) -> Lookalikes:
        """Those of some clusters, by their int64 numbers."""
        return Lookalikes(*(getattr(self, one.name)[chosen] for one in fields(self)))

    def of_dark_mass(self, dark: DarkMass) -> DarkMass:
        """Dark mass that is the same part of these clusters as of the snapshots."""
        return replace(dark, mass=dark.mass * self.number, scale=dark.scale * self.size)
