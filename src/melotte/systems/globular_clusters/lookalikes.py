"""Clusters of the same shape as a library's: larger or smaller, of fewer stars.

A library holds few runs, and a network that sees each many times learns them by heart. A cluster in
equilibrium stays one when its radii are multiplied by s, a share f of its stars, taken at random,
is kept, and its speeds are multiplied by (f / s)^(1/2). It has had another history, so it is a
stand-in for training alone; clusters that a network is judged on are the library's own.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
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
    kept : Tensor, shape (n,)
        Share of the stars that is kept, each system of stars by chance.
    """

    size: Tensor
    kept: Tensor

    @classmethod
    def draw(
        cls, data: DataSettings, area: Area, n: int, generator: torch.Generator
    ) -> Self | None:
        """Draw ``n`` of them; None where clusters are the library's own.

        Parameters
        ----------
        data : DataSettings
            ``size_spread`` and ``least_kept``.
        area : {"training", "validation", "test"}
        n : int
        generator : torch.Generator
        """
        if area != "training" or (data.size_spread == 0 and data.least_kept == 1):
            return None
        device = generator.device
        deviate = torch.randn(n, generator=generator, device=device)
        uniform = torch.rand(n, generator=generator, device=device)
        return cls(10 ** (data.size_spread * deviate), data.least_kept**uniform)

    @property
    def speed(self) -> Tensor:
        """Factor of all velocities, shape (n,)."""
        return (self.kept / self.size).sqrt()

    def of_dark_mass(self, dark: DarkMass) -> DarkMass:
        """Dark mass that is the same part of these clusters as of the snapshots."""
        return replace(dark, mass=dark.mass * self.kept, scale=dark.scale * self.size)
