"""Scenes as a survey records them: turned, with noise, saturated, smoothed."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from melotte.systems.base import Batch, Observation
from melotte.systems.globular_clusters.mock_settings import ExtinctionSettings, SkySettings
from melotte.systems.globular_clusters.scenes import GlobularScenes
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.map_measurements import NOISE_BLOCK
from melotte.telescope.map_noise import ImagingSurvey, apparent_flux, record
from melotte.telescope.map_smoothing import smoothed


def survey_of(sky: SkySettings, bands: tuple[str, ...]) -> ImagingSurvey:
    """The survey that records; its sky and number of exposures are drawn for each map."""
    n = len(bands)
    return ImagingSurvey(
        bands=bands,
        zero_point=(sky.zero_point,) * n,
        exposure=(sky.exposure,) * n,
        n_exposures=1.0,
        sky_brightness=(sum(sky.brightness) / 2,) * n,
        read_noise=(sky.read_noise,) * n,
        saturation=(sky.saturation,) * n,
        seeing=(sky.saturation_fwhm,) * n,
        pixel_scale=sky.saturation_pixel,
    )


def observe(
    scenes: GlobularScenes, data: DataSettings, generator: torch.Generator, views: int = 1
) -> Batch:
    """Record each scene ``views`` times; views differ in orientation, sky and the image's noise.

    Parameters
    ----------
    scenes : GlobularScenes
    data : DataSettings
    generator : torch.Generator
    views : int

    Returns
    -------
    Batch
        ``observation.data``: ``flux`` (n, n_bands, size, size), in units of a source of magnitude
        25, NaN where saturated or missing; ``noise`` (n, n_bands), standard deviation in a pixel
        without light, 0 for maps without noise and NaN for a missing band; ``pixel_scale`` and
        ``psf_fwhm`` (n,), arcsec; ``dispersion`` and ``dispersion_error`` (n, n_bins, n_bins),
        km/s, where the settings ask for them; ``extinction_v`` and ``extinction_error`` (n,), mag:
        A_V as it is known, where there is dust; ``distance_told`` (n,), kpc, NaN where it is not,
        and ``distance_error`` (n,), as part of it, where some are told. ``targets``:
        ``log_mass_map`` (n, 1, size, size), log10(Msun/px) of the smoothed map of all mass, and
        ``log_light_fov`` (n,). ``group``: the number of the run.
    """
    chosen = torch.arange(len(scenes), device=scenes.theta.device).repeat_interleave(views)
    turn = torch.zeros_like(chosen)
    if views > 1:
        turn = torch.randint(8, chosen.shape, generator=generator, device=chosen.device)
    pointing = scenes.pointing
    distance, pixel_scale = pointing.distance[chosen], pointing.pixel_scale[chosen]
    flux = apparent_flux(turned(scenes.light[chosen], turn), distance)
    noise = torch.zeros_like(flux[..., 0, 0])
    if data.noise == "survey":
        flux, noise = _recorded(flux, pixel_scale, data, generator)
    flux = smoothed(flux, data.smoothing)
    if data.missing_band_share > 0:
        chance = torch.rand(len(chosen), generator=generator, device=chosen.device)
        missing = chance < data.missing_band_share
        flux[missing, 1:] = torch.nan
        noise[missing, 1:] = torch.nan
    fields = {
        "flux": flux,
        "noise": noise,
        "pixel_scale": pixel_scale,
        "psf_fwhm": pointing.psf_fwhm[chosen],
    }
    if data.extinction.mean > 0:
        fields |= _known_extinction(scenes.extinction_v[chosen], data.extinction, generator)
    if data.dispersion_share > 0:
        fields["dispersion"] = turned(scenes.dispersion[chosen], turn)
        fields["dispersion_error"] = turned(scenes.dispersion_error[chosen], turn)
    if data.distance_share is not None:
        fields |= _known_distance(distance, data.distance_share, data.distance_error, generator)
    mass = smoothed(turned(scenes.mass[chosen], turn), data.mass_smoothing)
    targets = {
        "log_mass_map": torch.log10(mass.clamp(min=data.mass_floor))[:, None],
        "log_light_fov": scenes.log_light_fov[chosen],
    }
    return Batch.labelled(Observation(fields), scenes.theta[chosen], targets, scenes.run[chosen])


def extinction_errors(extinction_v: Tensor, relative: Tensor, least: float) -> Tensor:
    """Standard deviations, mag, of values of A_V known to a part of themselves, or to ``least``."""
    return torch.hypot(relative * extinction_v, torch.full_like(extinction_v, least))


def _known_extinction(
    extinction_v: Tensor, settings: ExtinctionSettings, generator: torch.Generator
) -> dict[str, Tensor]:
    """A_V as a catalogue has it, which may be below 0, and its error, mag."""
    n, device = len(extinction_v), extinction_v.device
    uniform = torch.rand(n, generator=generator, device=device)
    low, high = settings.relative_error
    error = extinction_errors(extinction_v, low * (high / low) ** uniform, settings.least_error)
    deviate = torch.randn(n, generator=generator, device=device)
    return {"extinction_v": extinction_v + error * deviate, "extinction_error": error}


def _known_distance(
    distance: Tensor, share: float, error: tuple[float, float], generator: torch.Generator
) -> dict[str, Tensor]:
    """Distances as a catalogue has them, kpc, and their errors as part of them; NaN if untold."""
    n, device = len(distance), distance.device
    chance, uniform = torch.rand(2, n, generator=generator, device=device)
    deviate = torch.randn(n, generator=generator, device=device)
    relative = error[0] * (error[1] / error[0]) ** uniform
    told = distance * (1 + relative * deviate).clamp(min=0.1)
    nothing = torch.full_like(distance, torch.nan)
    return {
        "distance_told": torch.where(chance < share, told, nothing),
        "distance_error": torch.where(chance < share, relative, nothing),
    }


def turned(maps: Tensor, turn: Tensor) -> Tensor:
    """Maps in one of the eight orientations of a square.

    Parameters
    ----------
    maps : Tensor, shape (n, ..., side, side)
    turn : Tensor of int64, shape (n,), 0 to 7
        Quarter turns, and a transposition from 4 on.
    """
    found = maps.clone()
    for number in turn.unique().tolist():
        rows = turn == number
        some = torch.rot90(maps[rows], number % 4, (-2, -1))
        found[rows] = some.transpose(-2, -1) if number >= 4 else some
    return found


def _recorded(
    flux: Tensor, pixel_scale: Tensor, data: DataSettings, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Fluxes, NaN where saturated, and the noise of the sky (n, n_bands)."""
    sky, (n, n_bands) = data.sky, flux.shape[:2]
    uniform = torch.rand(n, 2, generator=generator, device=flux.device)
    low, high = sky.brightness
    level = (low + (high - low) * uniform[:, :1]).expand(n, n_bands).clone()
    level[:, 1:] += sky.colour
    exposures = sky.exposures[0] * (sky.exposures[1] / sky.exposures[0]) ** uniform[:, 1]
    maps = record(
        flux,
        survey_of(sky, data.bands),
        pixel_scale,
        generator,
        sky_brightness=level,
        n_exposures=exposures,
        sky_error=sky.level_error,
    )
    quietest = functional.avg_pool2d(maps.variance, NOISE_BLOCK).amin((-2, -1))
    recorded = maps.flux.masked_fill(maps.saturated[:, None], torch.nan)
    if data.smoothing > 0:
        # A NaN would spread over all of a smoothed map.
        recorded = maps.flux
    return recorded, quietest.sqrt()
