"""Dark mass beside a cluster's stars: a central black hole, or Plummer's sphere of dark matter.

A simulated cluster's stars stay where they are and move faster, as stars of the same density would
in the deeper potential. Jeans' equation is linear in the mass, so the dark mass adds a dispersion
of its own to that of the stars,

    rho sigma_x^2 (r) = int_r^inf rho G M_x(s) / s^2 ds,

and a star's velocity is multiplied by f(r), f^2 = 1 + sigma_x^2 / sigma_s^2, where sigma_s^2 is the
same integral over the mass M_s of the stars. rho is the density of stars bright enough to make up
the light of a spectrum. So the virial theorem holds with both masses if it held with one.

Limits: velocities that the dark mass adds are as anisotropic as those that were there; heavier and
lighter stars get the factor of the bright ones; the cluster has not evolved with its dark mass, so
a core that a black hole would have kept wide or a cusp that it would have drawn is not there;
within the innermost node (a hundredth of the half-mass radius) the factor is that of the node.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Self, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError

INNERMOST, OUTERMOST, SHELLS = 0.01, 30.0, 64
"""Radii of the nodes, in half-mass radii, and shells between them, even in the logarithm."""

_Array = TypeVar("_Array", Tensor, NDArray)


def plummer_share_within(radius: Tensor, scale: Tensor) -> Tensor:
    """Part of the mass of Plummer's sphere within a radius.

    Parameters
    ----------
    radius : Tensor, >= 0
    scale : Tensor, shape that broadcasts, >= 0, in the unit of the radius
        0 is a point: all of the mass is within any radius.

    Returns
    -------
    Tensor, the broadcast shape, in [0, 1]

    References
    ----------
    Plummer 1911, MNRAS 71, 460; r^3 / (r^2 + a^2)^(3/2).
    """
    ratio = scale / radius.clamp(min=1e-12)
    return (1 + ratio.square()) ** -1.5


@dataclass(frozen=True)
class ForceShells:
    """What Jeans' integrals need of several clusters, in shells of radius.

    Parameters
    ----------
    half_mass_radius : Tensor, shape (n,), pc
    tracers : Tensor, shape (n, SHELLS)
        Sum of r^-4 over the bright stars of a shell, r in half-mass radii.
    pulled : Tensor, shape (n, SHELLS)
        The same, times the part of the stars' mass that is within each star's radius.
    """

    half_mass_radius: Tensor
    tracers: Tensor
    pulled: Tensor

    def __len__(self) -> int:
        return len(self.half_mass_radius)

    @classmethod
    def measure(
        cls, radius: NDArray, mass: NDArray, bright: NDArray, half_mass_radius: float
    ) -> Self:
        """Shells of one cluster.

        Parameters
        ----------
        radius : array, shape (n_stars,), pc
        mass : array, shape (n_stars,), Msun
        bright : array of bool, shape (n_stars,)
            Stars whose velocities a spectrum shows.
        half_mass_radius : float, pc, > 0

        Raises
        ------
        MelotteValueError
            When no star is bright.
        """
        if not bright.any():
            raise MelotteValueError("Jeans' equation needs bright stars, found none")
        order = np.argsort(radius, kind="stable")
        within = np.empty(len(mass))
        sorted_mass = mass[order].astype(np.float64)
        within[order] = (np.cumsum(sorted_mass) - 0.5 * sorted_mass) / sorted_mass.sum()
        place = np.maximum(radius[bright].astype(np.float64) / half_mass_radius, INNERMOST)
        shell = np.floor(_place_among_nodes(np.log(place))).astype(int).clip(0, SHELLS - 1)
        columns = [
            np.bincount(shell, weight, SHELLS) for weight in (place**-4, place**-4 * within[bright])
        ]
        values = (np.array([half_mass_radius]), columns[0][None], columns[1][None])
        return cls(*(torch.from_numpy(one).double() for one in values))

    @classmethod
    def join(cls, parts: list[ForceShells]) -> ForceShells:
        """The shells of all, end to end."""
        return cls(*(torch.cat([getattr(one, f.name) for one in parts]) for f in fields(cls)))

    def select(self, chosen: Tensor) -> ForceShells:
        """The shells of some clusters, by their int64 numbers."""
        return ForceShells(*(getattr(self, f.name)[chosen] for f in fields(self)))

    def to(self, device: torch.device | str) -> ForceShells:
        """The same on another device."""
        return ForceShells(*(getattr(self, f.name).to(device) for f in fields(self)))

    def velocity_factors(
        self, ratio: Tensor, scale: Tensor, radius: Tensor, cluster: Tensor
    ) -> Tensor:
        """By how much stars move faster than without the dark mass.

        Parameters
        ----------
        ratio : Tensor, shape (n,), >= 0
            Dark mass over the mass of the stars.
        scale : Tensor, shape (n,), pc, >= 0
            Of Plummer's sphere; 0 for a black hole.
        radius : Tensor, shape (n_stars,), pc
        cluster : Tensor of int64, shape (n_stars,)
            The cluster that each star belongs to.

        Returns
        -------
        Tensor of float32, shape (n_stars,), >= 1
            The factor f of every component of the velocity.
        """
        squares = self._squared_factors(ratio, scale).float()
        relative = torch.log(radius / self.half_mass_radius.float()[cluster]).clamp(min=-50)
        place = _place_among_nodes(relative).clamp(0, SHELLS)
        lower = place.long().clamp(max=SHELLS - 1)
        flat = squares.flatten()
        first = cluster * (SHELLS + 1) + lower
        return torch.lerp(flat[first], flat[first + 1], place - lower).sqrt()

    def _squared_factors(self, ratio: Tensor, scale: Tensor) -> Tensor:
        """f^2 at the nodes, shape (n, SHELLS + 1)."""
        step = math.log(OUTERMOST / INNERMOST) / SHELLS
        nodes = torch.arange(SHELLS + 1, device=ratio.device, dtype=torch.float64)
        relative = (scale.double() / self.half_mass_radius)[:, None]
        middle = INNERMOST * torch.exp((nodes[:-1] + 0.5) * step)
        dark = self.tracers * plummer_share_within(middle, relative)
        dark, stars = (_sums_outwards(one) for one in (dark, self.pulled))
        # Beyond the last bright star nothing is seen, and all mass of the stars is within.
        outside = plummer_share_within(INNERMOST * torch.exp(nodes * step), relative)
        share = torch.where(stars > 0, dark / torch.where(stars > 0, stars, 1.0), outside)
        return 1 + ratio.double()[:, None] * share


def _place_among_nodes(log_radius: _Array) -> _Array:
    """Where a natural logarithm of radii, in half-mass radii, lies among the numbered nodes."""
    low = math.log(INNERMOST)
    return (log_radius - low) * (SHELLS / (math.log(OUTERMOST) - low))


def _sums_outwards(shells: Tensor) -> Tensor:
    """Sums of the shells (n, SHELLS) beyond each node, shape (n, SHELLS + 1)."""
    beyond = shells.flip(1).cumsum(1).flip(1)
    return torch.cat([beyond, torch.zeros_like(beyond[:, :1])], 1)
