"""From maps of light to network input: the same code for mocks and real maps.

Each band's flux is compressed by ``asinh`` in units of the map's own noise; what that unit is, and
whatever else differs between maps, the network is told as *conditions*, with fluxes of the whole
map and of its brightest stars, which pooling would blur.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from melotte.compression import asinh
from melotte.errors import MelotteValueError
from melotte.systems.base import Batch, Field, Observation
from melotte.systems.globular_clusters.bright_stars import n_numbers, star_numbers
from melotte.systems.globular_clusters.kinematics import N_NUMBERS, kinematic_numbers
from melotte.systems.globular_clusters.photometry import (
    band_photometry,
    map_fluxes,
    map_number,
)
from melotte.systems.globular_clusters.settings import DataSettings

_MOST = 10.0
"""Standard deviations beyond which a condition is cut off."""
_DISPERSION = 5.0
"""km/s, beside which dispersions are compressed."""


def measure_constants(batch: Batch) -> dict[str, Any]:
    """Units and spreads of the bands and conditions, and of the target, over mocks.

    Parameters
    ----------
    batch : Batch
        Of training mocks.

    Returns
    -------
    dict
        ``scale`` (n_bands,): the unit of flux of maps without noise; ``spread`` (n_bands,): root
        mean square of compressed fluxes; ``condition_mean`` and ``condition_std``; ``map_mean``
        and ``map_std``: of log10 mass.
    """
    flux, _ = map_fluxes(batch.observation)
    by_band = flux.transpose(0, 1).flatten(1)
    positive = torch.where(by_band > 0, by_band, torch.nan)
    constants: dict[str, Any] = {"scale": positive.nanmedian(1).values.clamp(min=1e-8).tolist()}
    constants["spread"] = [1.0] * flux.shape[1]
    maps, conditions = _features(batch.observation, constants)
    spread = maps[:, : flux.shape[1]].square().mean((0, 2, 3)).sqrt()
    target = batch.targets["log_mass_map"]
    return constants | {
        "spread": spread.clamp(min=1e-3).tolist(),
        "condition_mean": conditions.mean(0).tolist(),
        "condition_std": conditions.std(0).tolist(),
        "map_mean": float(target.mean()),
        "map_std": float(target.std().clamp(min=1e-3)),
    }


def prepared(observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
    """Network input.

    Parameters
    ----------
    observation : Observation
        Maps of any size; NaN where a pixel, a band or a bin is unknown.
    constants : mapping
        Of :func:`measure_constants`.

    Returns
    -------
    dict
        ``maps`` (n, n_channels, rows, columns) and ``conditions`` (n, n_conditions), finite.

    Raises
    ------
    MelotteValueError
        When there are not as many bands as the model reads.
    """
    maps, conditions = _features(observation, constants)
    mean = conditions.new_tensor(constants["condition_mean"])
    spread = conditions.new_tensor(constants["condition_std"])
    # What never varied in training is not read, whatever it is now.
    varies = spread > 1e-4 * (1 + mean.abs())
    scaled = (conditions - mean) / torch.where(varies, spread, 1.0)
    told = torch.where(varies, scaled, 0.0).clamp(-_MOST, _MOST)
    return {"maps": maps, "conditions": told}


def input_sizes(data: DataSettings) -> tuple[int, int]:
    """Numbers of channels and of conditions of :func:`prepared`."""
    n_bands = len(data.bands)
    channels, conditions = 2 * n_bands, 6 * n_bands + 3 + n_numbers(n_bands)
    if data.dispersion_share > 0:
        channels, conditions = channels + 3, conditions + 1 + N_NUMBERS
    if data.extinction.mean > 0:
        conditions += 2
    if data.distance_share is not None:
        conditions += 3
    return channels, conditions


def _features(observation: Observation, constants: Mapping[str, Any]) -> tuple[Tensor, Tensor]:
    """Channels, and conditions as they are."""
    flux, noise = map_fluxes(observation)
    n_bands, rows, columns = flux.shape[1:]
    if n_bands != len(constants["scale"]):
        raise MelotteValueError(
            f"flux: found {n_bands} bands, the model reads {len(constants['scale'])}"
        )
    scale = flux.new_tensor(constants["scale"])
    unit = torch.where(noise > 0, noise, scale)
    known = torch.isfinite(flux)
    spread = flux.new_tensor(constants["spread"])[:, None, None]
    light = asinh(flux.nan_to_num(0.0) / unit[..., None, None]) / spread
    channels = [light, (~known).float()]
    pixel, fwhm = (map_number(observation, name) for name in ("pixel_scale", "psf_fwhm"))
    told = [
        torch.stack([torch.log(pixel), torch.log(fwhm), torch.log(pixel * max(rows, columns))], 1),
        torch.log(unit / pixel[:, None]),
        known.flatten(2).any(2).float(),
        *_brightness(observation),
        star_numbers(observation),
    ]
    if "extinction_v" in observation.data:
        dust = [map_number(observation, one) for one in ("extinction_v", "extinction_error")]
        told.append(torch.stack([dust[0], torch.log(dust[1])], 1))
    if "distance_told" in observation.data:
        distance = [map_number(observation, f"distance_{one}") for one in ("told", "error")]
        given = torch.isfinite(distance[0])
        numbers = torch.log10(torch.stack(distance, 1))
        told += [given[:, None].float(), torch.where(given[:, None], numbers, 0.0)]
    dispersion: Any = observation.data.get("dispersion")
    if dispersion is not None:
        error: Any = observation.data["dispersion_error"]
        seen = torch.isfinite(dispersion) & torch.isfinite(error)
        kinematics = torch.stack([asinh(dispersion / _DISPERSION), asinh(error), seen], 1)
        kinematics = torch.where(seen[:, None], kinematics, 0.0)
        channels.append(functional.interpolate(kinematics, size=(rows, columns)))
        told.append(seen.flatten(1).float().mean(1, keepdim=True))
        told.append(kinematic_numbers(dispersion, error, flux[:, 0]))
    return torch.cat(channels, 1), torch.cat(told, 1).nan_to_num(0.0)


def _brightness(observation: Observation) -> list[Tensor]:
    """Photometry in each band, each (n, n_bands), all logarithms."""
    measured = band_photometry(observation)
    measured["brightest"] = torch.log10(measured["brightest"].clamp(min=1e-5))
    return list(measured.values())
