"""Radial profiles of a predicted map of mass and of the observed light: mass, light, M/L."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.result_maps import DerivedTables
from melotte.engine.results import LEVELS, ResultColumn
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.base import Observation
from melotte.systems.globular_clusters.derived_maps import LEAST_LIGHT
from melotte.systems.globular_clusters.photometry import map_fluxes, map_number
from melotte.systems.globular_clusters.radial_profiles import (
    mass_centres,
    profile_edges,
    ring_sums,
)

Array = NDArray[np.floating[Any]]

DESCRIPTION = (
    "rings about the centre of mass of the map of mass; what lies beyond the last ring is left "
    "out. mass_16 and mass_84 add up quantiles of pixels, as if all pixels of a ring were wrong "
    "together: the network does not tell how their errors hang together, and errors that are "
    "less alike give a narrower band. M/L has no band: mass and light both follow the distance."
)


@dataclass(frozen=True)
class MassProfiles:
    """Profiles of some clusters in equal rings.

    Parameters
    ----------
    centres : array, shape (n, 2), px
        Columns and rows of the rings' centre, from 0.
    edges : array, shape (n, n_bins + 1), arcsec
    area : array, shape (n, n_bins), arcsec2
        Of the pixels in a ring.
    n_pixels : array of int, shape (n, n_bins)
    mass : array, shape (n, n_bins), Msun
        Sum of the pixels' medians.
    low, high : array, shape (n, n_bins), Msun
        Sums of the pixels' 16 and 84 % quantiles; NaN from a network without errors.
    light : array, shape (n, n_bins), Lsun_V
        Smoothed as the mass is, of the pixels whose light is known.
    known : array, shape (n, n_bins)
        Their share; NaN for a ring without pixels.
    mass_to_light_v : array, shape (n, n_bins), Msun/Lsun_V
        Mass over light, both of the pixels whose light is known; NaN where that is below three
        standard deviations of the pixels' noise.
    """

    centres: Array
    edges: Array
    area: Array
    n_pixels: NDArray[np.int64]
    mass: Array
    low: Array
    high: Array
    light: Array
    known: Array
    mass_to_light_v: Array

    @property
    def middle(self) -> Array:
        """Radii halfway through the rings, shape (n, n_bins), arcsec."""
        return (self.edges[:, 1:] + self.edges[:, :-1]) / 2

    def tables(self) -> DerivedTables:
        """As tables of a file of maps."""
        with np.errstate(divide="ignore", invalid="ignore"):
            density = self.mass / self.area
        across, down = (self.centres + 1).T
        return DerivedTables(
            columns={
                "radius_arcsec": ResultColumn(self.middle, "arcsec", "middle of the ring"),
                "inner_arcsec": ResultColumn(self.edges[:, :-1], "arcsec", "inner edge"),
                "outer_arcsec": ResultColumn(self.edges[:, 1:], "arcsec", "outer edge"),
                "area_arcsec2": ResultColumn(self.area, "arcsec2", "of the ring's pixels"),
                "mass": ResultColumn(self.mass, "solMass", "sum of the pixels' medians"),
                "mass_16": ResultColumn(self.low, "solMass", _band(LEVELS[0])),
                "mass_84": ResultColumn(self.high, "solMass", _band(LEVELS[2])),
                "surface_density": ResultColumn(density, "solMass / arcsec2", "mass over area"),
                "light": ResultColumn(self.light, "solLum", _LIGHT),
                "known_share": ResultColumn(self.known, "", "of pixels whose light is known"),
                "mass_to_light_v": ResultColumn(self.mass_to_light_v, "", _RATIO),
            },
            numbers={
                "XCENTRE": ResultColumn(across, "", "px of the maps; the first is 1"),
                "YCENTRE": ResultColumn(down, "", "px of the maps; the first is 1"),
            },
            description=DESCRIPTION,
        )


_LIGHT = (
    "Lsun in V of the pixels whose light is known, smoothed as the mass, at the median distance, "
    "extinction taken off"
)
_RATIO = (
    "Msun/Lsun_V: mass over light, both of the pixels whose light is known; NaN below "
    f"{LEAST_LIGHT:g} sigma of the light"
)


def _band(level: float) -> str:
    return f"sum of the pixels' {100 * level:g} % quantiles: as if all were wrong together"


def mass_profiles(
    observation: Observation, mass_map: MapPosterior | Tensor, light: tuple[Tensor, Tensor]
) -> MassProfiles:
    """Profiles of mass, light and M/L_V in rings about the centre of mass.

    Parameters
    ----------
    observation : Observation
    mass_map : MapPosterior or Tensor, shape (n, 1, rows, columns), log10(Msun/px)
    light : tuple of Tensor
        Of :func:`.derived_maps.smoothed_light`.

    References
    ----------
    Chardin & Bianchini 2021, MNRAS 504, 5656, Eq. 3, of the rings.
    """
    plain = mass_map.mean if isinstance(mass_map, MapPosterior) else mass_map
    log_mass = _pixels(plain)
    mass = 10**log_mass
    centres = mass_centres(mass)
    sums, number = ring_sums(mass, centres)
    low, high = np.full((2, *sums.shape), np.nan)
    if isinstance(mass_map, MapPosterior):
        levels = torch.tensor([LEVELS[0], LEVELS[2]])
        bands = mass_map.quantile(levels.to(plain.device))[:, :, 0]
        low, high = (ring_sums(10 ** _pixels(one), centres)[0] for one in bands.unbind(1))
    solar, noise = (one.numpy() for one in light)
    seen = map_fluxes(observation)[0][:, 0].cpu().isfinite().numpy()
    shining, n_seen = ring_sums(np.where(seen, solar, np.nan), centres)
    under_light = ring_sums(np.where(seen, mass, np.nan), centres)[0]
    scale = map_number(observation, "pixel_scale").double().cpu().numpy()[:, None]
    # The noise of a sum is at most that of its pixels before they were smoothed.
    bright = shining > LEAST_LIGHT * noise[:, None] * np.sqrt(n_seen)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(bright, under_light / shining, np.nan)
        known = np.where(number > 0, n_seen / number, np.nan)
    return MassProfiles(
        centres=centres,
        edges=profile_edges(*log_mass.shape[1:])[None] * scale,
        area=number.astype(float) * scale**2,
        n_pixels=number,
        mass=sums,
        low=low,
        high=high,
        light=shining,
        known=known,
        mass_to_light_v=ratio,
    )


def _pixels(maps: Tensor) -> Array:
    """Maps (n, rows, columns), or with an axis of one map alone, as an array."""
    plain = maps.detach().double().cpu().numpy()
    return plain[:, 0] if plain.ndim == 4 else plain
