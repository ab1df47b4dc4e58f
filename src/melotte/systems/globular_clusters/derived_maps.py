"""Maps that follow from a predicted map of mass and the observed light: mass, and M/L."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.io.star_snapshots import SOLAR_MAGNITUDE_V
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.base import Observation
from melotte.systems.globular_clusters.photometry import map_fluxes
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.map_measurements import filled
from melotte.telescope.map_noise import FLUX_ZERO_POINT
from melotte.telescope.map_smoothing import smoothed

LEAST_LIGHT = 3.0
"""Standard deviations of the noise below which a pixel of light gives no mass over light."""
_NO_FLUX = 1e-12
"""Flux that rounding leaves of none."""


def luminosity(flux: Tensor, distance: Tensor, extinction_v: Tensor | float = 0.0) -> Tensor:
    """Luminosities in V of fluxes at a distance.

    Parameters
    ----------
    flux : Tensor, shape (n, ...)
        In units of a source of magnitude 25 in V.
    distance : Tensor, shape (n,), kpc
    extinction_v : Tensor, shape (n,), or float, mag

    Returns
    -------
    Tensor, the shape of ``flux``, Lsun_V
    """
    modulus = 5 * torch.log10(distance) + 10 + extinction_v
    factor = 10 ** (0.4 * (SOLAR_MAGNITUDE_V + modulus - FLUX_ZERO_POINT))
    return flux * factor.view(-1, *[1] * (flux.ndim - 1)).to(flux)


def smoothed_light(
    observation: Observation, medians: Mapping[str, NDArray[np.float64]], data: DataSettings
) -> tuple[Tensor, Tensor]:
    """Light in V, smoothed as the maps of mass are, at the median distance.

    Parameters
    ----------
    observation : Observation
        Its ``extinction_v``, where it has one, is taken off.
    medians : mapping
        With ``distance`` (n,), kpc.
    data : DataSettings

    Returns
    -------
    light : Tensor, float64, shape (n, rows, columns), Lsun_V
        Unknown pixels are filled from around before the smoothing.
    noise : Tensor, float64, shape (n,), Lsun_V
        Standard deviation of a pixel before the smoothing; next to nothing, but above 0, where it
        is 0 or unknown.
    """
    flux, noise = (one.cpu() for one in map_fluxes(observation))
    light = flux[:, 0].double()
    if data.smoothing == 0:
        whole = np.stack([filled(one) for one in light.numpy()])
        light = smoothed(torch.from_numpy(whole), data.mass_smoothing)
    dust: Any = observation.data.get("extinction_v", 0.0)
    dust = dust.cpu() if isinstance(dust, Tensor) else dust
    distance = torch.as_tensor(medians["distance"])
    least = noise[:, 0].double().nan_to_num(0.0).clamp(min=_NO_FLUX)
    return luminosity(light, distance, dust), luminosity(least, distance, dust)


def derived_maps(
    mass_map: MapPosterior | Tensor, light: tuple[Tensor, Tensor], data: DataSettings
) -> dict[str, tuple[NDArray[np.float32], str, str]]:
    """Mass and M/L_V of each pixel.

    Parameters
    ----------
    mass_map : MapPosterior or Tensor, shape (n, 1, rows, columns), log10(Msun/px)
    light : tuple of Tensor
        Of :func:`smoothed_light`.
    data : DataSettings

    Returns
    -------
    dict
        By name: maps (n, rows, columns), unit, description. The light is smoothed as the mass is,
        over unknown pixels too; M/L is NaN where it is below three standard deviations.
    """
    log_mass = (mass_map.mean if isinstance(mass_map, MapPosterior) else mass_map)[:, 0]
    mass = 10 ** log_mass.double().cpu()
    shining, noise = light
    sigma = data.mass_smoothing
    # A Gaussian leaves white noise smaller by 2 sqrt(pi) standard deviations.
    lowest = LEAST_LIGHT * noise / max(2 * math.sqrt(math.pi) * sigma, 1.0)
    ratio = torch.where(shining > lowest[:, None, None], mass / shining, torch.nan)
    return {
        "mass": (mass.float().numpy(), "solMass", "median mass of a pixel"),
        "mass_to_light_v": (
            ratio.float().numpy(),
            "",
            "Msun/Lsun_V: median mass over smoothed light at the median distance",
        ),
    }
