"""Numbers that maps of light give without a network: fluxes, colour, size, brightest pixel."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.systems.base import Observation

SUMMARIES = (
    "log_flux_v",
    "log_surface_brightness",
    "colour",
    "log_light_radius",
    "brightest_pixel",
    "log_noise",
    "unknown_pixels",
    "log_pixel_scale",
    "log_psf_fwhm",
    "log_dispersion",
)
_CENTRE = 0.25
"""Half side of the middle of a map, as part of its side."""


def map_fluxes(observation: Observation) -> tuple[Tensor, Tensor]:
    """Fluxes of maps (n, n_bands, rows, columns) and their noise (n, n_bands).

    Raises
    ------
    MelotteValueError
        When their shapes do not fit.
    """
    flux, noise = observation.data["flux"], observation.data["noise"]
    if (
        not isinstance(flux, Tensor)
        or not isinstance(noise, Tensor)
        or flux.ndim != 4
        or noise.shape != flux.shape[:2]
    ):
        raise MelotteValueError(
            "flux needs the shape (n, n_bands, rows, columns) and noise (n, n_bands)"
        )
    return flux.float(), noise.float()


def map_number(observation: Observation, name: str) -> Tensor:
    """A number of each map, shape (n,).

    Raises
    ------
    MelotteValueError
        When there is not one a map.
    """
    value: Any = observation.data[name]
    if not isinstance(value, Tensor) or value.shape != (len(observation),):
        raise MelotteValueError(f"{name}: needs one number a map")
    return value.float()


def band_photometry(observation: Observation) -> dict[str, Tensor]:
    """Photometry in each band, all of shape (n, n_bands); NaN for a band without light.

    Returns
    -------
    dict
        ``log_flux``: log10 of the flux of the whole map; ``log_centre``: of the middle quarter,
        ``brightest``: share of the brightest pixel; ``log_radius``: log10 of the root mean square
        distance of the light from its centre along an axis, as part of the map's side.
    """
    flux, _ = map_fluxes(observation)
    rows, columns = flux.shape[-2:]
    light = flux.nan_to_num(0.0)
    total = light.sum((-2, -1))
    good = total > 0
    whole = torch.where(good, total, torch.nan)
    top, left = round(rows * _CENTRE), round(columns * _CENTRE)
    middle = light[..., top : rows - top, left : columns - left].sum((-2, -1))
    along = [
        (torch.arange(many, device=flux.device) + 0.5) / max(rows, columns)
        for many in (rows, columns)
    ]
    variance = torch.zeros_like(total)
    for axis, places in ((-1, along[0]), (-2, along[1])):
        profile = light.sum(axis).clamp(min=0)
        weight = profile / profile.sum(-1, keepdim=True).clamp(min=1e-20)
        mean = (weight * places).sum(-1, keepdim=True)
        variance = variance + 0.5 * (weight * (places - mean).square()).sum(-1)
    return {
        "log_flux": torch.log10(whole),
        "log_centre": torch.log10(torch.where(good & (middle > 0), middle, torch.nan)),
        "brightest": light.amax((-2, -1)) / whole,
        "log_radius": torch.where(good, 0.5 * torch.log10(variance.clamp(min=1e-8)), torch.nan),
    }


def map_summaries(observation: Observation) -> Tensor:
    """Numbers by which an astronomer would notice a strange map, for the domain check.

    Parameters
    ----------
    observation : Observation

    Returns
    -------
    Tensor, shape (n, 10)
        As :data:`SUMMARIES` names them: log10 of the flux in V of the whole field of view and of
        a square arcsec of it; B - V in mag; log10 of the radius of the light, arcsec; share of
        the brightest pixel; log10 of the noise in V a square arcsec; share of unknown pixels in
        V; log10 of pixel and PSF, arcsec; log10 of the median dispersion, km/s. NaN where there
        is none.
    """
    flux, noise = map_fluxes(observation)
    scale, fwhm = (map_number(observation, name) for name in ("pixel_scale", "psf_fwhm"))
    measured = band_photometry(observation)
    rows, columns = flux.shape[-2:]
    log_scale = torch.log10(scale)
    log_flux = measured["log_flux"]
    nothing = torch.full_like(scale, torch.nan)
    colour = 2.5 * (log_flux[:, 0] - log_flux[:, 1]) if flux.shape[1] > 1 else nothing
    dispersion: Any = observation.data.get("dispersion")
    kinematics = nothing
    if dispersion is not None:
        kinematics = torch.log10(dispersion.flatten(1).nanmedian(1).values.clamp(min=0.1))
    log_noise = torch.log10(noise[:, 0] / scale)
    return torch.stack(
        [
            log_flux[:, 0],
            log_flux[:, 0] - 2 * log_scale - torch.log10(scale.new_tensor(rows * columns)),
            colour,
            measured["log_radius"][:, 0]
            + log_scale
            + torch.log10(scale.new_tensor(max(rows, columns))),
            measured["brightest"][:, 0],
            torch.where(noise[:, 0] > 0, log_noise, torch.nan),
            torch.isnan(flux[:, 0]).float().mean((-2, -1)),
            log_scale,
            torch.log10(fwhm),
            kinematics,
        ],
        1,
    )
