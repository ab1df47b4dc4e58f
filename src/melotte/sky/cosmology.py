"""Flat cosmology with a cosmological constant: expansion, densities, distances.

Lengths are comoving Mpc/h and masses Msun/h throughout, as in simulations; the Hubble constant
is then 100 km/s/(Mpc/h) and h enters only where angles or magnitudes do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

SPEED_OF_LIGHT = 299_792.458
"""km/s."""

GRAVITATIONAL_CONSTANT = 4.300917e-9
"""Mpc (km/s)^2 / Msun (CODATA 2018 and IAU 2015 solar mass)."""

CRITICAL_DENSITY = 2.77536627e11
"""3 H^2 / (8 pi G) for H = 100 km/s/Mpc, Msun/Mpc^3."""

GROWTH_INDEX = 0.55
"""Linder 2005, PhRvD 72, 043529: growth rate = Omega_m(z)^0.55."""


@dataclass(frozen=True)
class Cosmology:
    """A flat LambdaCDM universe.

    Parameters
    ----------
    h : float
        Hubble constant in units of 100 km/s/Mpc.
    omega_m, omega_b : float
        Density of matter and of baryons today, over critical.
    sigma8 : float
        Linear rms density contrast in spheres of 8 Mpc/h today.
    n_s : float
        Slope of the primordial power spectrum.

    Notes
    -----
    The defaults are those of the MultiDark simulations (Klypin et al. 2016, MNRAS 457, 4340,
    table 1), on which Ho et al. 2019 made their catalogues.
    """

    h: float = 0.6777
    omega_m: float = 0.307115
    omega_b: float = 0.048206
    sigma8: float = 0.8228
    n_s: float = 0.96

    def expansion(self, redshift: Tensor) -> Tensor:
        """H(z) / H(0); any shape, redshift >= 0."""
        return torch.sqrt(self.omega_m * (1 + redshift) ** 3 + 1 - self.omega_m)

    def comoving_hubble_rate(self, redshift: Tensor) -> Tensor:
        """Recession velocity per comoving length, a H(z), km/s/(Mpc/h)."""
        return 100 * self.expansion(redshift) / (1 + redshift)

    def critical_density(self, redshift: Tensor) -> Tensor:
        """Critical density in comoving units, Msun/h/(Mpc/h)^3."""
        return CRITICAL_DENSITY * self.expansion(redshift) ** 2 / (1 + redshift) ** 3

    @property
    def mean_density(self) -> float:
        """Mean density of matter in comoving units (constant), Msun/h/(Mpc/h)^3."""
        return CRITICAL_DENSITY * self.omega_m

    def growth_rate(self, redshift: Tensor) -> Tensor:
        """Logarithmic growth rate of linear density contrast with the scale factor."""
        omega = self.omega_m * (1 + redshift) ** 3 / self.expansion(redshift) ** 2
        return omega**GROWTH_INDEX

    def comoving_distance(self, redshift: Tensor) -> Tensor:
        """Line-of-sight comoving distance, Mpc/h (Hogg 1999, Eq. 15; 16-point Gauss-Legendre).

        Exact to 1e-6 below redshift 1.
        """
        nodes, weights = _gauss_legendre(redshift)
        at = redshift[..., None] * nodes
        integral = (weights / self.expansion(at)).sum(-1) * redshift
        return SPEED_OF_LIGHT / 100 * integral

    def distance_modulus(self, redshift: Tensor) -> Tensor:
        """Apparent minus absolute magnitude, mag, with the true h (redshift > 0)."""
        luminosity = self.comoving_distance(redshift) / self.h * (1 + redshift)
        return 5 * torch.log10(luminosity) + 25


def _gauss_legendre(like: Tensor) -> tuple[Tensor, Tensor]:
    """Nodes and weights on [0, 1], shape (16,)."""
    import numpy as np

    nodes, weights = np.polynomial.legendre.leggauss(16)
    return like.new_tensor(0.5 * (nodes + 1)), like.new_tensor(0.5 * weights)
