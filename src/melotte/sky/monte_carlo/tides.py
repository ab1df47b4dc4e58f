"""The tide of a galaxy on a cluster in a circular orbit: where stars escape, and how slowly."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numba import njit

from melotte.errors import MelotteValueError
from melotte.sky.monte_carlo.potential import orbital_energy, potential_between, shell_below
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR

_RADII = 64
"""At which the volume of phase space at the escape energy is summed."""


@dataclass(frozen=True)
class CircularOrbit:
    """A circular orbit about a galaxy's centre.

    Parameters
    ----------
    radius : float, kpc, > 0
    speed : float, km/s, > 0
    galaxy : "flat" or "point"
        A flat rotation curve (spherical, logarithmic potential) or a point mass.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    radius: float
    speed: float = 220.0
    galaxy: Literal["flat", "point"] = "flat"

    def __post_init__(self) -> None:
        if not (0 < self.radius < math.inf and 0 < self.speed < math.inf):
            raise MelotteValueError(
                f"an orbit needs radius and speed above 0, found {self.radius:g} kpc and "
                f"{self.speed:g} km/s"
            )
        if self.galaxy not in ("flat", "point"):
            raise MelotteValueError(f"galaxy must be 'flat' or 'point', found {self.galaxy!r}")

    @property
    def angular_speed(self) -> float:
        """Of the orbit, km/s/pc."""
        return self.speed / (1000 * self.radius)

    def tidal_radius(self, mass: float) -> float:
        """Distance of the Lagrangian points from a cluster of given mass (Msun), pc.

        References
        ----------
        King 1962, AJ 67, 471: r_t^3 = G M / (4 Omega^2 - kappa^2).
        """
        return (GRAVITY * mass / (self._stretching * self.angular_speed**2)) ** (1 / 3)

    @property
    def _stretching(self) -> float:
        """T = 4 - kappa^2 in units of Omega^2."""
        return 2.0 if self.galaxy == "flat" else 3.0

    def neck_frequencies(self) -> float:
        """Product of the two real frequencies of small motions about a Lagrangian point.

        In units of (km/s/pc)^2: eigenfrequencies of Hill's equations with the cluster as a point
        mass at the distance r_t.
        """
        stretching = self._stretching
        # In units of Omega: x'' - 2 y' = 3 T x, y'' + 2 x' = -T y, z'' = -(1 + T) z.
        middle = 4 - 3 * stretching + stretching
        root = math.sqrt(middle**2 + 12 * stretching**2)
        planar = math.sqrt((middle + root) / 2)
        vertical = math.sqrt(1 + stretching)
        return planar * vertical * self.angular_speed**2


@njit(cache=True)
def escape_times(  # pragma: no cover - compiled
    shells, n, softening, potential, total, tidal_radius, frequencies, times
):
    """Fill in the mean time in which each star leaves through the two necks; inf below the energy.

    Stars above the critical energy -1.5 G M / r_t leave only when they meet one of two openings
    whose area grows with the excess: the flux through two saddles, 2 (2 pi)^2 dE^2 / (2 w_2 w_3),
    against the volume of phase space at that energy (isotropic orbits inside of r_t).

    Parameters
    ----------
    shells, n, softening, potential, total
        As :mod:`melotte.sky.monte_carlo.steps` has them.
    tidal_radius : float, pc
    frequencies : float, (km/s/pc)^2
        Of :meth:`CircularOrbit.neck_frequencies`.
    times : array, Myr
        Changed in place.

    References
    ----------
    MacKay 1990, Phys. Lett. A 145, 425 (flux through a saddle); Fukushige & Heggie 2000,
    MNRAS 318, 753 (times of escape grow as the excess to the power -2).
    """
    radius = shells[0]
    critical = -1.5 * GRAVITY * total / tidal_radius
    volume = 0.0
    step = tidal_radius / _RADII
    for k in range(_RADII):
        at = (k + 0.5) * step
        below = shell_below(at, radius, n)
        depth = critical - potential_between(at, below, radius, softening, potential, n, total)
        if depth > 0:
            volume += 16 * math.pi**2 * at * at * math.sqrt(2 * depth) * step
    for i in range(n):
        excess = orbital_energy(shells, i, softening, potential) - critical
        if excess <= 0:
            times[i] = np.inf
        else:
            times[i] = volume * frequencies / (4 * math.pi**2 * excess**2) / PC_PER_MYR
