"""Light of a mixed stellar population: how many stars of which flux a mass formed gives."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.sky.imf import InitialMassFunction, Kroupa2001
from melotte.sky.isochrones import StellarGrid

AGE_STEP = 0.1
LOG_AGE_NODES = torch.arange(66, 102, dtype=torch.float64) * AGE_STEP
"""log10(age / yr) of the populations that a mixture is made of: 6.6 to 10.1 in steps of 0.1."""

METALLICITY_NODES = (-2.0, -1.5, -1.0, -0.75, -0.5, -0.25, 0.0, 0.25, 0.5)
"""[Fe/H] of those populations."""

_MAGNITUDE = 0.4 * math.log(10)


@dataclass(frozen=True)
class StarBins:
    """Stars of a mixture in narrow bins of initial mass; light is in stars of magnitude 0.

    Parameters
    ----------
    number : Tensor of float64, shape (n_bins,), stars per Msun formed in the bin's own population
    log_light : Tensor, shape (n_bins, 2, n_bands)
        ln of the luminosity at the bin's ends, without dust; 0 is a star of absolute
        magnitude 0.
    extinction : Tensor, shape (n_bins, n_bands), A_band / A_V at A_V = 1
    age : Tensor of int64, shape (n_bins,)
        Which of :data:`LOG_AGE_NODES`.
    """

    number: Tensor
    log_light: Tensor
    extinction: Tensor
    age: Tensor

    @property
    def mean_light(self) -> Tensor:
        """Mean luminosity of a bin's stars, without dust, float64, shape (n_bins, n_bands)."""
        low, high = self.log_light.double().unbind(1)
        step = high - low
        small = step.abs() < 1e-4
        growth = torch.where(small, 1 + step / 2, torch.expm1(step) / torch.where(small, 1.0, step))
        return torch.exp(low) * growth

    def weighted(self, mass: Tensor) -> StarBins:
        """The same bins, with numbers for masses formed at each age.

        Parameters
        ----------
        mass : Tensor, shape (n_ages,), Msun
        """
        return StarBins(
            self.number * mass.double()[self.age], self.log_light, self.extinction, self.age
        )

    def where(self, keep: Tensor) -> StarBins:
        """Some of the bins; ``keep`` is a mask or indices."""
        return StarBins(
            self.number[keep], self.log_light[keep], self.extinction[keep], self.age[keep]
        )


class CompositeLight:
    """Numbers and luminosities of stars of mixed age and metallicity.

    Isochrones are read when first needed and kept.

    Parameters
    ----------
    grid : StellarGrid
    bands : sequence of str
        Full names, see :data:`melotte.sky.photometry.SHIPPED_BANDS`.
    imf : InitialMassFunction, optional
        Kroupa 2001 from 0.08 to 120 Msun when not given.
    """

    def __init__(
        self, grid: StellarGrid, bands: Sequence[str], imf: InitialMassFunction | None = None
    ) -> None:
        self.bands = tuple(bands)
        self._grid = grid
        self._imf = imf or Kroupa2001()
        self._populations: dict[tuple[int, int], StarBins] = {}

    def population(self, age: int, metallicity: int) -> StarBins:
        """Stars per Msun formed of one age and metallicity, given as numbers of the nodes."""
        key = (age, metallicity)
        if key not in self._populations:
            self._populations[key] = self._simple_population(age, metallicity)
        return self._populations[key]

    def mixture(self, shares: Tensor) -> StarBins:
        """Stars per Msun formed at each age, over a spread of metallicities.

        Parameters
        ----------
        shares : Tensor, shape (n_ages, n_metallicities)
            Share of each metallicity in the mass formed at each age; rows sum to 1. Shares of 0
            cost nothing.

        Returns
        -------
        StarBins
        """
        parts = []
        for age, metallicity in torch.nonzero(shares > 0).tolist():
            part = self.population(age, metallicity)
            parts.append((part, part.number * float(shares[age, metallicity])))
        return StarBins(
            torch.cat([number for _, number in parts]),
            torch.cat([part.log_light for part, _ in parts]),
            torch.cat([part.extinction for part, _ in parts]),
            torch.cat([part.age for part, _ in parts]),
        )

    def _simple_population(self, age: int, metallicity: int) -> StarBins:
        track = self._grid.isochrone(float(LOG_AGE_NODES[age]), METALLICITY_NODES[metallicity])
        mass = torch.from_numpy(track.initial_mass)
        clear = torch.from_numpy(track.magnitudes(self.bands)).double()
        dusty = torch.from_numpy(track.magnitudes(self.bands, 1.0)).double()
        number = self._imf.cdf(mass).diff() / self._imf.mean_mass
        light = -_MAGNITUDE * clear
        extinction = dusty - clear
        return StarBins(
            number.clamp(min=0),
            torch.stack([light[:-1], light[1:]], 1).float(),
            ((extinction[1:] + extinction[:-1]) / 2).float(),
            torch.full((len(number),), age, dtype=torch.int64),
        )
