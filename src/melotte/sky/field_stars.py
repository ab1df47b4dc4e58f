"""Stars of the Galactic disc that stand in front of, among and behind a cluster.

A fixed library of single disc stars, sorted by absolute magnitude, from which contaminants of a
magnitude-limited member list are drawn: the stars bright enough to be seen at a given distance
and extinction are then one contiguous slice.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import Stars, StellarGrid

OLDEST_LOG_AGE = 10.0
YOUNGEST_LOG_AGE = 7.0


@dataclass(frozen=True)
class FieldStars:
    """Library of disc stars, brightest first.

    Parameters
    ----------
    grid : StellarGrid
    stars : Stars, tensors of shape (n_stars, 1)
    metallicity : Tensor, shape (n_stars, 1), [Fe/H]
    absolute_magnitude : Tensor, shape (n_stars,), mag
        In the band the library was sorted by; rises.
    """

    grid: StellarGrid
    stars: Stars
    metallicity: Tensor
    absolute_magnitude: Tensor

    @classmethod
    def of_the_disc(
        cls, grid: StellarGrid, band: str, n: int, generator: torch.Generator
    ) -> FieldStars:
        """Draw a library: constant star formation, thin-disc metallicities, Kroupa masses.

        Parameters
        ----------
        grid : StellarGrid
        band : str
            Band to sort by.
        n : int
            Stars to draw; those already dead are left out.
        generator : torch.Generator, on the device of ``grid``

        References
        ----------
        Metallicities: normal, mean -0.1 and standard deviation 0.2, after the solar
        neighbourhood of Casagrande et al. 2011, A&A 530, A138.
        """
        device = generator.device
        uniform = torch.rand(3, n, 1, generator=generator, device=device)
        youngest, oldest = 10.0 ** (YOUNGEST_LOG_AGE - 10), 10.0 ** (OLDEST_LOG_AGE - 10)
        log_age = torch.log10(youngest + (oldest - youngest) * uniform[0]) + 10
        normal = torch.randn(n, 1, generator=generator, device=device)
        low, high = grid.metallicity_range
        metallicity = (-0.1 + 0.2 * normal).clamp(max(low, -1.5), high)
        mass = Kroupa2001(0.1, 20.0).quantile(uniform[1]).to(log_age.dtype)
        stars = grid.evolve(mass, log_age, metallicity)
        absolute = grid.magnitudes(stars, torch.zeros_like(mass), [band], metallicity)[:, 0, 0]
        order = torch.argsort(absolute)
        order = order[torch.isfinite(absolute[order])]
        return cls(
            grid,
            stars.select(order),
            metallicity[order],
            absolute[order].contiguous(),
        )

    def count_brighter(self, absolute_limit: Tensor) -> Tensor:
        """Stars of the library brighter than absolute magnitudes (any shape); int64."""
        return torch.searchsorted(self.absolute_magnitude, absolute_limit.contiguous())

    def magnitudes(self, chosen: Tensor, extinction_v: Tensor, bands: Sequence[str]) -> Tensor:
        """Absolute magnitudes of chosen stars behind some dust.

        Parameters
        ----------
        chosen : Tensor of int64, any shape
        extinction_v : Tensor, the shape of ``chosen``, mag
        bands : sequence of str

        Returns
        -------
        Tensor, shape (*chosen.shape, n_bands), mag, extinction included
        """
        flat = chosen.reshape(-1)
        magnitudes = self.grid.magnitudes(
            self.stars.select(flat), extinction_v.reshape(-1, 1), bands, self.metallicity[flat]
        )
        return magnitudes.reshape(*chosen.shape, len(bands))


@lru_cache(maxsize=2)
def disc_library(grid: StellarGrid, band: str, n: int, seed: int) -> FieldStars:
    """The library that :meth:`FieldStars.of_the_disc` draws from a seed, made once and shared."""
    generator = torch.Generator(device=grid.device).manual_seed(seed)
    return FieldStars.of_the_disc(grid, band, n, generator)
