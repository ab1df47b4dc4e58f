"""How many haloes there are, how they cluster, and how concentrated they are.

Mass function, bias and correlation function are tabulated once with colossus (Diemer 2018) and
read by linear interpolation, batched in torch. Masses are M200c in Msun/h, lengths comoving
Mpc/h.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.cosmology import GRAVITATIONAL_CONSTANT, Cosmology
from melotte.sky.lookup_tables import lookup, lookup2d

if TYPE_CHECKING:
    from numpy.typing import NDArray

LOG_MASS_STEP = 0.02
LOG_MASSES = (11.0, 15.8)
"""log10(M200c/(Msun/h)) at the ends of the tables, unless lower masses are asked for."""

LOWEST_LOG_MASS = 9.0
"""Fits to simulations are not carried further down than this."""

REDSHIFT_STEP = 0.05
RADII = (0.1, 100.0, 512)
"""Lowest and highest radius, comoving Mpc/h, of the correlation function, and how many."""

SURVIVAL = (16.0, 1024)
"""Largest -ln(fraction of haloes that are heavier) in the tables of masses, and their entries."""


class HaloStatistics:
    """Halo mass function, bias and linear correlation function over a range of redshifts.

    Parameters
    ----------
    cosmology : Cosmology
    redshift : (float, float)
        Range in which it will be asked; the tables are linear between nodes at most 0.05 apart.
    device : torch.device or str
    log_lowest_mass : float, 9 to 13
        Where the tables begin, log10(M200c/(Msun/h)).

    Raises
    ------
    MelotteValueError
        When the redshifts do not rise from 0 or more, or the lowest mass is outside its range.

    References
    ----------
    Mass function: Tinker et al. 2008, ApJ 688, 709. Bias: Tinker et al. 2010, ApJ 724, 878,
    Eq. 6. Power spectrum: Eisenstein & Hu 1998, ApJ 496, 605. All as computed by colossus
    (Diemer 2018, ApJS 239, 35) for M200c.
    """

    def __init__(
        self,
        cosmology: Cosmology,
        redshift: tuple[float, float],
        device: torch.device | str = "cpu",
        log_lowest_mass: float = LOG_MASSES[0],
    ) -> None:
        low, high = redshift
        if not 0 <= low <= high:
            raise MelotteValueError(f"redshift range {redshift} must be 0 <= lowest <= highest")
        if not LOWEST_LOG_MASS <= log_lowest_mass <= 13:
            raise MelotteValueError(
                f"log_lowest_mass {log_lowest_mass} must be within [{LOWEST_LOG_MASS:g}, 13]"
            )
        self.cosmology = cosmology
        self.device = torch.device(device)
        self._nodes = np.linspace(low, high, 1 + math.ceil((high - low) / REDSHIFT_STEP - 1e-9))
        self._log_mass = np.arange(log_lowest_mass, LOG_MASSES[1] + 1e-6, LOG_MASS_STEP)
        density, bias, growth = _tabulate(
            cosmology, tuple(self._nodes.tolist()), tuple(self._log_mass.tolist())
        )
        correlation = _correlation_today(cosmology)
        self._density = density
        self._bias = bias
        radius = np.geomspace(*RADII)
        enclosed = correlation[0] * radius[0] ** 3 / 3 + _cumulative(
            correlation * radius**2, radius
        )
        along = correlation[0] * radius[0] + _cumulative(correlation, radius)
        self._bias_table = self._tensor(bias)
        self._growth = self._tensor(growth)
        self._correlation = self._tensor(correlation)
        self._mean_correlation = self._tensor(3 * enclosed / radius**3)
        self._along = self._tensor(along)
        self._radius = self._tensor(radius)

    def bias(self, log_mass: Tensor, redshift: Tensor) -> Tensor:
        """Linear bias of haloes of log10(M200c/(Msun/h)) in the range of the tables."""
        column = (log_mass - self._log_mass[0]) / LOG_MASS_STEP
        return lookup2d(self._bias_table, self.row(redshift), column)

    def growth(self, redshift: Tensor) -> Tensor:
        """Linear growth factor, 1 at redshift 0."""
        return lookup(self._growth, self.row(redshift))

    def correlation(self, radius: Tensor, redshift: Tensor) -> Tensor:
        """Linear correlation function of matter, >= 0, at 0.1 to 100 comoving Mpc/h."""
        return self.correlation_today(radius) * self.growth(redshift) ** 2

    def correlation_today(self, radius: Tensor) -> Tensor:
        """:meth:`correlation` at redshift 0."""
        return lookup(self._correlation, self._radial(radius))

    def mean_correlation(self, radius: Tensor, redshift: Tensor) -> Tensor:
        """Mean of the correlation function within a radius."""
        value = lookup(self._mean_correlation, self._radial(radius))
        return value * self.growth(redshift) ** 2

    def correlation_along(self, radius: Tensor) -> Tensor:
        """Integral of today's correlation function over radius from 0 (flat within 0.1), Mpc/h."""
        return lookup(self._along, self._radial(radius))

    def radius_of_integral(self, integral: Tensor) -> Tensor:
        """Inverse of :meth:`correlation_along`, comoving Mpc/h."""
        above = torch.searchsorted(self._along, integral.contiguous())
        above = above.clamp(1, len(self._along) - 1)
        low, high = self._along[above - 1], self._along[above]
        weight = ((integral - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
        return torch.lerp(self._radius[above - 1], self._radius[above], weight)

    def masses(self, low: float, high: float, *, biased: bool = False) -> HaloMasses:
        """Haloes with log mass in [low, high], weighted by their bias if asked.

        Raises
        ------
        MelotteValueError
            When the range leaves the tables, 11 to 15.8 unless they begin lower.
        """
        if not self._log_mass[0] <= low < high <= self._log_mass[-1] + 1e-9:
            raise MelotteValueError(
                f"log_m200c range [{low}, {high}] must lie within "
                f"[{self._log_mass[0]:.1f}, {self._log_mass[-1]:.1f}]"
            )
        fine = np.linspace(low, high, 2 + int((high - low) / LOG_MASS_STEP))
        weight = self._density * self._bias if biased else self._density
        # The abundance falls by decades: interpolate its logarithm.
        rows = [np.exp(np.interp(fine, self._log_mass, np.log(row))) for row in weight]
        totals, survivals, inverses = [], [], []
        for row in rows:
            cumulative = _cumulative(row, fine)
            totals.append(cumulative[-1])
            survivals.append(_survival(cumulative))
            inverses.append(np.interp(np.linspace(0, *SURVIVAL), survivals[-1], fine))
        tables = [self._tensor(np.array(table)) for table in (totals, survivals, inverses)]
        return HaloMasses(self, (low, high), *tables)

    def log_abundance(
        self, redshift: NDArray[np.float64]
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The mass function at some redshifts.

        Parameters
        ----------
        redshift : array, shape (n,)
            Beyond the range of the tables, the nearest end's.

        Returns
        -------
        log_mass : array, shape (n_masses,)
            log10(M200c/(Msun/h)) of the tables, 0.02 apart.
        log_abundance : array, shape (n, n_masses)
            Natural logarithm of dn/dlog10(M), comoving (Mpc/h)^-3, linear between nodes.
        """
        row = self.row(torch.as_tensor(redshift, dtype=torch.float64)).numpy()
        row = row.clip(0, len(self._nodes) - 1)
        below = np.minimum(row.astype(int), max(len(self._nodes) - 2, 0))
        above = np.minimum(below + 1, len(self._nodes) - 1)
        weight = (row - below)[:, None]
        log_density = np.log(self._density)
        return self._log_mass, (1 - weight) * log_density[below] + weight * log_density[above]

    def row(self, redshift: Tensor) -> Tensor:
        """Fractional number of a redshift among the nodes of the tables."""
        if len(self._nodes) == 1:
            return torch.zeros_like(redshift)
        return (redshift - self._nodes[0]) / (self._nodes[1] - self._nodes[0])

    def _radial(self, radius: Tensor) -> Tensor:
        low, high, n = RADII
        return torch.log(radius / low) * ((n - 1) / math.log(high / low))

    def _tensor(self, values: NDArray[np.float64]) -> Tensor:
        return torch.as_tensor(values, dtype=torch.float32, device=self.device)


class HaloMasses:
    """Abundance and masses of the haloes in a range of mass; made by HaloStatistics.masses.

    Parameters
    ----------
    statistics : HaloStatistics
    log_range : (float, float)
        Lowest and highest log10(M200c/(Msun/h)).
    density : Tensor, shape (n_nodes,)
        Haloes per comoving (Mpc/h)^3, each counted with its weight.
    survival : Tensor, shape (n_nodes, n_masses)
        -ln(fraction of haloes heavier) at masses evenly spaced over the range.
    log_mass : Tensor, shape (n_nodes, n_entries)
        log10(M200c/(Msun/h)) at evenly spaced -ln(fraction of haloes heavier).
    """

    def __init__(
        self,
        statistics: HaloStatistics,
        log_range: tuple[float, float],
        density: Tensor,
        survival: Tensor,
        log_mass: Tensor,
    ) -> None:
        self.log_range = log_range
        self._statistics = statistics
        self._density = density
        self._survival = survival
        self._log_mass = log_mass

    def density(self, redshift: Tensor, log_lowest: Tensor | None = None) -> Tensor:
        """Weighted number per comoving (Mpc/h)^3, shape of ``redshift``.

        Parameters
        ----------
        redshift : Tensor
        log_lowest : Tensor, shape of ``redshift``, optional
            Count only haloes heavier than this log10(M200c/(Msun/h)).
        """
        total = lookup(self._density, self._statistics.row(redshift))
        if log_lowest is None:
            return total
        return total * torch.exp(-self._survival_at(redshift, log_lowest))

    def draw(
        self,
        redshift: Tensor,
        generator: torch.Generator,
        log_lowest: Tensor | None = None,
    ) -> Tensor:
        """One log10(M200c/(Msun/h)) for every redshift given, above ``log_lowest`` if given."""
        uniform = torch.rand(redshift.shape, generator=generator, device=redshift.device)
        most, n = SURVIVAL
        survival = -torch.log(1 - uniform)
        if log_lowest is not None:
            # An exponential deviate has no memory: beyond any start it is distributed alike.
            survival = survival + self._survival_at(redshift, log_lowest)
        column = survival * ((n - 1) / most)
        mass = lookup2d(self._log_mass, self._statistics.row(redshift), column)
        return mass if log_lowest is None else torch.maximum(mass, log_lowest)

    def _survival_at(self, redshift: Tensor, log_mass: Tensor) -> Tensor:
        low, high = self.log_range
        column = (log_mass - low) * ((self._survival.shape[1] - 1) / (high - low))
        return lookup2d(self._survival, self._statistics.row(redshift), column)


def virial_radius(log_mass: Tensor, redshift: Tensor, cosmology: Cosmology) -> Tensor:
    """R200c: the mean density within is 200 times critical; comoving Mpc/h."""
    density = 200 * cosmology.critical_density(redshift)
    # float32 holds 10^15, its product with a density it does not.
    cube = torch.pow(10.0, log_mass - 14) / (density / 1e14) * (3 / (4 * math.pi))
    return cube ** (1 / 3)


def circular_velocity(log_mass: Tensor, redshift: Tensor, cosmology: Cosmology) -> Tensor:
    """V200c, the circular velocity at R200c, km/s."""
    radius = virial_radius(log_mass, redshift, cosmology) / (1 + redshift)
    return torch.sqrt(GRAVITATIONAL_CONSTANT * torch.pow(10.0, log_mass) / radius)


def concentration(log_mass: Tensor, redshift: Tensor) -> Tensor:
    """Mean concentration c200c of a halo, without scatter.

    4.9 (M/10^14)^-0.08 ((1+z)/1.117)^-0.47: at redshift 0.117 a power law through the relation of
    Diemer & Joyce 2019, ApJ 871, 168, around cluster masses; the evolution is that of Duffy et al.
    2008, MNRAS 390, L64, table 1 (-0.47).
    """
    return 4.9 * torch.pow(10.0, -0.08 * (log_mass - 14)) * ((1 + redshift) / 1.117) ** -0.47


def growth_factor(cosmology: Cosmology, redshift: float) -> float:
    """Linear growth factor, 1 at redshift 0."""
    with _colossus(cosmology) as universe:
        return float(universe.growthFactor(redshift))


@lru_cache(maxsize=32)
def _tabulate(
    cosmology: Cosmology, redshift: tuple[float, ...], log_mass: tuple[float, ...]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """dn/dlog10(M) and bias (n_nodes, n_masses), and growth (n_nodes,)."""
    from colossus.lss import bias, mass_function

    mass = 10.0 ** np.array(log_mass)
    with _colossus(cosmology) as universe:
        density = [
            mass_function.massFunction(mass, z, mdef="200c", model="tinker08", q_out="dndlnM")
            for z in redshift
        ]
        bias_rows = [bias.haloBias(mass, z, mdef="200c", model="tinker10") for z in redshift]
        growth = [universe.growthFactor(z) for z in redshift]
    return np.array(density) * math.log(10), np.array(bias_rows), np.array(growth)


@lru_cache(maxsize=32)
def _correlation_today(cosmology: Cosmology) -> NDArray[np.float64]:
    """Correlation function of matter at redshift 0, >= 0, at the radii of the tables."""
    with _colossus(cosmology) as universe:
        return np.maximum(universe.correlationFunction(np.geomspace(*RADII), 0.0), 0.0)


@contextmanager
def _colossus(cosmology: Cosmology) -> Iterator[Any]:
    """The cosmology in colossus, which keeps one for the process: the user's is put back."""
    from colossus.cosmology import cosmology as colossus

    before = colossus.current_cosmo
    parameters = {
        "flat": True,
        "H0": 100 * cosmology.h,
        "Om0": cosmology.omega_m,
        "Ob0": cosmology.omega_b,
        "sigma8": cosmology.sigma8,
        "ns": cosmology.n_s,
    }
    try:
        # No persistence: colossus would otherwise keep its tables in the home folder.
        yield colossus.setCosmology("melotte", params=parameters, relspecies=False, persistence="")
    finally:
        colossus.current_cosmo = before


def _cumulative(values: NDArray[np.float64], at: NDArray[np.float64]) -> NDArray[np.float64]:
    """Integral from the first point to each, by the trapezoidal rule."""
    return np.concatenate([[0.0], np.cumsum(0.5 * (values[1:] + values[:-1]) * np.diff(at))])


def _survival(cumulative: NDArray[np.float64]) -> NDArray[np.float64]:
    """-ln(fraction heavier), evenly spaced in which the rare, heavy end is resolved."""
    return -np.log(np.maximum(1 - cumulative / cumulative[-1], 1e-300))
