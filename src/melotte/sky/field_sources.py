"""What lies before and behind a galaxy: stars of the Milky Way and distant galaxies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.sky.isochrones import StellarGrid

BRIGHTEST_STAR, FAINTEST_STAR = 13.0, 24.0
STAR_SLOPE = 0.22
"""d log10 N / dm of stars of the Milky Way at intermediate latitude."""

BRIGHTEST_GALAXY, FAINTEST_GALAXY = 18.0, 26.5
GALAXIES_AT_24 = 4e4
"""Galaxies per deg2 and magnitude at F814W = 24 AB (Metcalfe et al. 2001, MNRAS 323, 795)."""
GALAXY_SLOPE = 0.33

_REFERENCE_BAND, _REFERENCE_NM = "WFC3_UVIS_F814W", 803.9


@dataclass(frozen=True)
class BackgroundGalaxies:
    """Distant galaxies with Sersic profiles.

    Parameters
    ----------
    magnitude : Tensor, shape (n,), F814W, AB
    spectral_slope : Tensor, shape (n,)
        AB magnitudes that are lost per factor e towards the blue.
    half_light_radius : Tensor, shape (n,), arcsec, along the major axis
    sersic_index : Tensor, shape (n,)
    axis_ratio : Tensor, shape (n,), in (0, 1]
    angle : Tensor, shape (n,), radian
    """

    magnitude: Tensor
    spectral_slope: Tensor
    half_light_radius: Tensor
    sersic_index: Tensor
    axis_ratio: Tensor
    angle: Tensor

    def ab_magnitudes(self, pivot_nm: Sequence[float]) -> Tensor:
        """AB magnitudes at pivot wavelengths in nm, shape (n, n_bands)."""
        steps = torch.log(_REFERENCE_NM / torch.tensor(pivot_nm))
        return self.magnitude[:, None] + self.spectral_slope[:, None] * steps


def draw_background_galaxies(area: float, generator: torch.Generator) -> BackgroundGalaxies:
    """Draw the galaxies behind an area.

    Parameters
    ----------
    area : float, deg2
    generator : torch.Generator, on the CPU

    Returns
    -------
    BackgroundGalaxies
        F814W from 18 to 26.5 AB. Sizes fall with magnitude, 0.35 arcsec at 24, with a scatter of
        0.2 dex; colours are those of a field survey's faint galaxies, F438W - F814W about 1.2.
    """
    magnitude = _magnitudes(
        area * GALAXIES_AT_24 / (GALAXY_SLOPE * math.log(10)) * 10 ** (-GALAXY_SLOPE * 24),
        GALAXY_SLOPE,
        (BRIGHTEST_GALAXY, FAINTEST_GALAXY),
        generator,
    )
    normal = torch.randn(2, len(magnitude), generator=generator)
    uniform = torch.rand(3, len(magnitude), generator=generator)
    return BackgroundGalaxies(
        magnitude,
        (1.9 + 0.8 * normal[0]).clamp(min=0.0),
        10 ** (math.log10(0.35) - 0.13 * (magnitude - 24) + 0.2 * normal[1]),
        torch.where(uniform[0] < 0.25, 4.0, 1.0),
        0.25 + 0.75 * uniform[1],
        math.pi * uniform[2],
    )


def draw_foreground_stars(
    density: float,
    area: float,
    grid: StellarGrid,
    bands: Sequence[str],
    generator: torch.Generator,
) -> Tensor:
    """Apparent magnitudes of the Milky Way's stars in an area.

    Parameters
    ----------
    density : float, per deg2 brighter than F814W = 22
    area : float, deg2
    grid : StellarGrid
    bands : sequence of str
    generator : torch.Generator, on the CPU

    Returns
    -------
    Tensor, shape (n, n_bands), Vega mag
        Dwarfs of 0.15 to 0.85 Msun, [Fe/H] = -0.5 and 10 Gyr; F814W from 13 to 24.
    """
    magnitude = _magnitudes(
        density * area * 10 ** (-STAR_SLOPE * 22),
        STAR_SLOPE,
        (BRIGHTEST_STAR, FAINTEST_STAR),
        generator,
    )
    mass = 0.15 + 0.7 * torch.rand(len(magnitude), 1, generator=generator, dtype=torch.float64)
    old, poor = torch.full((1,), 10.0), torch.full((1,), -0.5)
    stars = grid.evolve(mass.T, old, poor)
    absolute = grid.magnitudes(stars, 0.0, [*bands, _REFERENCE_BAND], poor)[0]
    return (magnitude[:, None] + absolute[:, :-1] - absolute[:, -1:]).float()


def _magnitudes(
    scale: float, slope: float, limits: tuple[float, float], generator: torch.Generator
) -> Tensor:
    """A Poisson number of magnitudes; scale * 10^(slope m) objects are brighter than m."""
    low, high = (scale * 10 ** (slope * limit) for limit in limits)
    number = int(torch.poisson(torch.tensor(high - low), generator=generator))
    brighter = low + (high - low) * torch.rand(number, generator=generator, dtype=torch.float64)
    return (torch.log10(brighter / scale) / slope).float()


def sersic_stamp(
    half_light_radius: float,
    sersic_index: float,
    axis_ratio: float,
    angle: float,
    largest: int,
) -> Tensor:
    """Light per pixel of a galaxy in the middle of a stamp, in sum 1.

    Parameters
    ----------
    half_light_radius : float, pixels
    sersic_index, axis_ratio, angle : float
    largest : int, pixels
        Largest half side; a profile that reaches farther is cut.

    Returns
    -------
    Tensor, shape (2 reach + 1, 2 reach + 1)

    References
    ----------
    Graham & Driver 2005, PASA 22, 118, Eq. 1; b = 2 n - 1/3 + 4 / (405 n) after Ciotti & Bertin
    1999, A&A 352, 447.
    """
    reach = min(largest, max(3, math.ceil((4 + sersic_index) * half_light_radius)))
    # Three samples a pixel resolve the cusps well enough before the PSF blurs them.
    place = torch.arange(3 * (2 * reach + 1)) / 3 + 1 / 3 - reach - 2 / 3
    x, y = place[None], place[:, None]
    along = x * math.cos(angle) + y * math.sin(angle)
    across = (y * math.cos(angle) - x * math.sin(angle)) / axis_ratio
    b = 2 * sersic_index - 1 / 3 + 4 / (405 * sersic_index)
    radius = torch.hypot(along, across) / half_light_radius
    light = torch.exp(-b * radius ** (1 / sersic_index))
    side = 2 * reach + 1
    stamp = light.reshape(side, 3, side, 3).sum((1, 3))
    return stamp / stamp.sum()
