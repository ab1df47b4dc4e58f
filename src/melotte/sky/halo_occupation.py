"""How many galaxies a halo has above a stellar mass, and the stellar masses they have."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.lookup_tables import lookup

REFERENCE_LIMIT = 9.5
"""log10(stellar mass/Msun) above which the occupation counts satellites (Ho et al. 2019)."""

LOG_STELLAR_MASS = (7.0, 12.4, 541)
"""Range and number of log10(stellar mass/Msun) in the table of the mass function."""

LOG_HALO_MASS = (9.0, 15.8, 681)
"""Range and number of log10(M200c/(Msun/h)) in the table that inverts the centrals' masses."""

FAINTEST_CENTRAL = 3.0
"""Scatters by which a central may exceed the mean of its halo's mass and still be counted."""

SURVEY_KNEE = 0.25
"""dex: satellites' knee below the central's mass (Yang, Mo & van den Bosch 2009, ApJ 695, 900)."""


@dataclass(frozen=True)
class CentralRelation:
    """Mean stellar mass of the central galaxy at a halo mass M, with log-normal scatter.

    m = 2 N M / [(M/M1)^-beta + (M/M1)^gamma].

    Parameters
    ----------
    log_halo_mass : float
        log10(M1/Msun).
    efficiency : float
        N, stellar over halo mass at M1.
    low_slope, high_slope : float
        beta and gamma.
    scatter : float, dex
        In stellar mass at one halo mass.

    References
    ----------
    Moster, Naab & White 2013, MNRAS 428, 3121, Eq. 2; the defaults are table 1 at redshift 0.
    """

    log_halo_mass: float = 11.590
    efficiency: float = 0.0351
    low_slope: float = 1.376
    high_slope: float = 0.608
    scatter: float = 0.15


SURVEY_CENTRALS = CentralRelation(log_halo_mass=11.88, efficiency=0.0275)
"""M1 and N fitted so that centrals and satellites together have the stellar mass function of
Baldry et al. 2012, MNRAS 421, 621, from 10^8.5 to 10^11 Msun with the halo mass function of
Tinker et al. 2008 in the MultiDark cosmology."""


@dataclass(frozen=True)
class Occupation:
    """Satellite galaxies of a halo.

    Parameters
    ----------
    mean_at_1e14 : float
        Mean number above 10^9.5 Msun in a halo of 10^14 Msun/h.
    slope : float
        Of that number with halo mass.
    log_cutoff : float
        log10 of the halo mass, Msun/h, below which satellites vanish exponentially.
    scatter : float
        Of ln(mean) between haloes of one mass, beside the Poisson noise.
    stellar_mass_slope, log_stellar_mass_knee : float
        Schechter slope and knee, log10(Msun), of satellites' stellar mass function, in haloes of
        every mass.
    knee_below_central : float, dex, optional
        The knee is at most so far below the mean mass of the halo's central, and numbers are
        those of the knee above at the faint end.
    centrals : CentralRelation
    """

    mean_at_1e14: float = 28.0
    slope: float = 0.9
    log_cutoff: float = 12.0
    scatter: float = 0.12
    stellar_mass_slope: float = -1.1
    log_stellar_mass_knee: float = 10.8
    knee_below_central: float | None = None
    centrals: CentralRelation = CentralRelation()

    def of_surveys(self) -> Occupation:
        """These clusters among haloes of every mass, occupied as surveys of galaxies find them."""
        return replace(self, knee_below_central=SURVEY_KNEE, centrals=SURVEY_CENTRALS)


class HaloOccupation:
    """Numbers and stellar masses of the galaxies of haloes.

    Parameters
    ----------
    occupation : Occupation
    h : float
        Turns halo masses in Msun/h into Msun for the masses of central galaxies.
    device : torch.device or str

    Raises
    ------
    MelotteValueError
        When no galaxy of the stellar mass function is above 10^9.5 Msun.
    """

    def __init__(self, occupation: Occupation, h: float, device: torch.device | str = "cpu"):
        self.occupation = occupation
        self._log_h = math.log10(h)
        low, high, n = LOG_STELLAR_MASS
        log_mass = np.linspace(low, high, n)
        scaled = 10.0 ** (log_mass - occupation.log_stellar_mass_knee)
        density = scaled ** (occupation.stellar_mass_slope + 1) * np.exp(-scaled)
        steps = 0.5 * (density[1:] + density[:-1])
        above = np.concatenate([np.cumsum(steps[::-1])[::-1], [0.0]])
        reference = np.interp(REFERENCE_LIMIT, log_mass, above)
        if not reference > 0:
            raise MelotteValueError(
                f"log_stellar_mass_knee {occupation.log_stellar_mass_knee} leaves no galaxies "
                f"above 10^{REFERENCE_LIMIT} Msun"
            )
        # Logarithm of the number above, relative to 10^9.5; the last entry only bounds the table.
        self._log_above = torch.as_tensor(
            np.log(np.maximum(above / reference, 1e-12)), dtype=torch.float32, device=device
        )
        self._log_stellar = torch.as_tensor(log_mass, dtype=torch.float32, device=device)
        halo = torch.linspace(*LOG_HALO_MASS, dtype=torch.float64, device=device)
        self._halo_masses = halo.float()
        self._mean_central = self.mean_central_mass(halo).float()

    def mean(self, log_mass: Tensor, log_limit: Tensor) -> Tensor:
        """Mean number of satellites above a stellar mass.

        Parameters
        ----------
        log_mass : Tensor, log10(M200c/(Msun/h))
        log_limit : Tensor, broadcastable, log10(Msun), 7 to 12.4
        """
        model = self.occupation
        scaling = math.log(model.mean_at_1e14) + model.slope * math.log(10) * (log_mass - 14)
        cutoff = torch.pow(10.0, model.log_cutoff - log_mass)
        if model.knee_below_central is None:
            return torch.exp(scaling - cutoff + lookup(self._log_above, self._position(log_limit)))
        # The number above a mass depends on its ratio to the knee alone, but for a factor.
        below = self._knee_below(log_mass)
        above = lookup(self._log_above, self._position(log_limit + below))
        faint_end = (model.stellar_mass_slope + 1) * math.log(10) * below
        return torch.exp(scaling - cutoff + above - faint_end)

    def counts(self, log_mass: Tensor, log_limit: Tensor, generator: torch.Generator) -> Tensor:
        """Draw numbers of satellites, int64: Poisson about a log-normal mean."""
        normal = torch.randn(log_mass.shape, generator=generator, device=log_mass.device)
        rate = self.mean(log_mass, log_limit) * torch.exp(self.occupation.scatter * normal)
        return torch.poisson(rate, generator=generator).long()

    def stellar_masses(
        self, log_mass: Tensor, log_limit: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Draw log10(stellar mass/Msun) of satellites above each galaxy's own limit.

        Parameters
        ----------
        log_mass : Tensor, log10(M200c/(Msun/h)) of each galaxy's halo
        log_limit : Tensor, shape of ``log_mass``, log10(Msun)
        generator : torch.Generator
        """
        if self.occupation.knee_below_central is None:
            return self._above(log_limit, generator)
        below = self._knee_below(log_mass)
        return torch.maximum(self._above(log_limit + below, generator) - below, log_limit)

    def central_masses(self, log_mass: Tensor, generator: torch.Generator) -> Tensor:
        """Draw log10(stellar mass/Msun) of the central galaxies of haloes."""
        normal = torch.randn(log_mass.shape, generator=generator, device=log_mass.device)
        return self.mean_central_mass(log_mass) + self.occupation.centrals.scatter * normal

    def mean_central_mass(self, log_mass: Tensor) -> Tensor:
        """Mean log10(stellar mass/Msun) of central galaxies at log10(M200c/(Msun/h))."""
        model = self.occupation.centrals
        x = log_mass - self._log_h - model.log_halo_mass
        turnover = torch.pow(10.0, -model.low_slope * x) + torch.pow(10.0, model.high_slope * x)
        return log_mass - self._log_h + torch.log10(2 * model.efficiency / turnover)

    def lowest_halo_mass(self, log_limit: Tensor) -> Tensor:
        """log10(M200c/(Msun/h)) below which no central is above a stellar mass, log10(Msun).

        That is where the limit is three scatters above the mean; 9 to 15.8.
        """
        mean = log_limit - FAINTEST_CENTRAL * self.occupation.centrals.scatter
        above = torch.searchsorted(self._mean_central, mean.contiguous())
        above = above.clamp(1, len(self._mean_central) - 1)
        low, high = self._mean_central[above - 1], self._mean_central[above]
        weight = ((mean - low) / (high - low)).clamp(0, 1)
        return torch.lerp(self._halo_masses[above - 1], self._halo_masses[above], weight)

    def _knee_below(self, log_mass: Tensor) -> Tensor:
        """How far the knee in a halo is below the highest, dex."""
        model = self.occupation
        assert model.knee_below_central is not None
        knee = self.mean_central_mass(log_mass) - model.knee_below_central
        return (model.log_stellar_mass_knee - knee).clamp(min=0)

    def _above(self, log_limit: Tensor, generator: torch.Generator) -> Tensor:
        """Draw from the stellar mass function with the highest knee, above each limit."""
        uniform = torch.rand(log_limit.shape, generator=generator, device=log_limit.device)
        wanted = lookup(self._log_above, self._position(log_limit)) + torch.log1p(-uniform)
        # The number above falls with mass: search it reversed.
        rising = self._log_above.flip(0)
        above = torch.searchsorted(rising, wanted.contiguous()).clamp(1, len(rising) - 1)
        low, high = rising[above - 1], rising[above]
        weight = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        masses = self._log_stellar.flip(0)
        return torch.maximum(torch.lerp(masses[above - 1], masses[above], weight), log_limit)

    def _position(self, log_stellar_mass: Tensor) -> Tensor:
        low, high, n = LOG_STELLAR_MASS
        return (log_stellar_mass - low) * ((n - 1) / (high - low))
