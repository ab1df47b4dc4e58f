"""How many galaxies a halo has above a stellar mass, and the stellar masses they have."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.lookup_tables import lookup

REFERENCE_LIMIT = 9.5
"""log10(stellar mass/Msun) above which the occupation counts satellites (Ho et al. 2019)."""

LOG_STELLAR_MASS = (7.0, 12.4, 541)
"""Range and number of log10(stellar mass/Msun) in the table of the mass function."""

CENTRAL_SCATTER = 0.15
"""dex in stellar mass of central galaxies at one halo mass."""


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
    """

    mean_at_1e14: float = 28.0
    slope: float = 0.9
    log_cutoff: float = 12.0
    scatter: float = 0.12
    stellar_mass_slope: float = -1.1
    log_stellar_mass_knee: float = 10.8


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
        return torch.exp(scaling - cutoff + lookup(self._log_above, self._position(log_limit)))

    def counts(self, log_mass: Tensor, log_limit: Tensor, generator: torch.Generator) -> Tensor:
        """Draw numbers of satellites, int64: Poisson about a log-normal mean."""
        normal = torch.randn(log_mass.shape, generator=generator, device=log_mass.device)
        rate = self.mean(log_mass, log_limit) * torch.exp(self.occupation.scatter * normal)
        return torch.poisson(rate, generator=generator).long()

    def stellar_masses(self, log_limit: Tensor, generator: torch.Generator) -> Tensor:
        """Draw log10(stellar mass/Msun) of satellites above each galaxy's own limit."""
        uniform = torch.rand(log_limit.shape, generator=generator, device=log_limit.device)
        wanted = lookup(self._log_above, self._position(log_limit)) + torch.log1p(-uniform)
        # The number above falls with mass: search it reversed.
        rising = self._log_above.flip(0)
        above = torch.searchsorted(rising, wanted.contiguous()).clamp(1, len(rising) - 1)
        low, high = rising[above - 1], rising[above]
        weight = ((wanted - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)
        masses = self._log_stellar.flip(0)
        return torch.maximum(torch.lerp(masses[above - 1], masses[above], weight), log_limit)

    def central_masses(self, log_mass: Tensor, generator: torch.Generator) -> Tensor:
        """Draw log10(stellar mass/Msun) of the central galaxies of haloes.

        References
        ----------
        Moster, Naab & White 2013, MNRAS 428, 3121, Eq. 2 and table 1 at redshift 0.
        """
        x = log_mass - self._log_h - 11.590
        ratio = 2 * 0.0351 / (torch.pow(10.0, -1.376 * x) + torch.pow(10.0, 0.608 * x))
        normal = torch.randn(log_mass.shape, generator=generator, device=log_mass.device)
        return log_mass - self._log_h + torch.log10(ratio) + CENTRAL_SCATTER * normal

    def _position(self, log_stellar_mass: Tensor) -> Tensor:
        low, high, n = LOG_STELLAR_MASS
        return (log_stellar_mass - low) * ((n - 1) / (high - low))
