"""Dark mass of mock clusters: how much, and of what form."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Self

import torch
from torch import Tensor

from melotte.sky.dark_mass import plummer_share_within
from melotte.systems.globular_clusters.mock_settings import DarkMassSettings


@dataclass(frozen=True)
class DarkMass:
    """Dark mass of several clusters.

    Parameters
    ----------
    fraction : Tensor, shape (n,)
        Of stars and dark mass together within the stars' half-mass radius; small and not 0 where
        there is none.
    mass : Tensor, shape (n,), Msun
        0 where there is none.
    ratio : Tensor, shape (n,)
        All of it over the mass of all stars.
    scale : Tensor, shape (n,), pc
        Of Plummer's sphere; 0 for a black hole.
    """

    fraction: Tensor
    mass: Tensor
    ratio: Tensor
    scale: Tensor

    def select(self, chosen: Tensor) -> DarkMass:
        """That of some clusters, by their int64 numbers."""
        return DarkMass(*(getattr(self, one.name)[chosen] for one in fields(self)))

    @classmethod
    def draw(
        cls,
        settings: DarkMassSettings,
        stellar_mass: Tensor,
        half_mass_radius: Tensor,
        generator: torch.Generator,
    ) -> Self:
        """Draw the dark mass of clusters.

        Parameters
        ----------
        settings : DarkMassSettings
        stellar_mass : Tensor, shape (n,), Msun
        half_mass_radius : Tensor, shape (n,), pc
        generator : torch.Generator, on their device
        """
        uniform = torch.rand(4, len(stellar_mass), generator=generator, device=stellar_mass.device)
        exists = uniform[0] < settings.share
        central = uniform[1] < settings.central_share
        low, high = settings.central_fraction
        of_hole = low * (high / low) ** uniform[2]
        low, high = settings.diffuse_fraction
        of_sphere = low + (high - low) * uniform[2]
        fraction = torch.where(central, of_hole, of_sphere)
        low, high = settings.diffuse_scale
        scale = half_mass_radius * low * (high / low) ** uniform[3]
        scale = torch.where(central, 0.0, scale)
        # Half of the stars' mass lies within their half-mass radius.
        inner = fraction / (1 - fraction) / 2
        ratio = torch.where(exists, inner / plummer_share_within(half_mass_radius, scale), 0.0)
        return cls(
            torch.where(exists, fraction, settings.none * uniform[2]),
            ratio * stellar_mass,
            ratio,
            scale,
        )
