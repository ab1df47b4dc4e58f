"""A field of a galaxy as a telescope's mosaic shows it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.composite_light import CompositeLight
from melotte.sky.field_scenes import FieldScene, draw_scene
from melotte.sky.field_sources import (
    draw_background_galaxies,
    draw_foreground_stars,
    sersic_stamp,
)
from melotte.sky.galaxy_fields import FieldEnvironment
from melotte.sky.isochrones import StellarGrid
from melotte.telescope.detector_defects import (
    COSMIC_RAYS_PER_MEGAPIXEL,
    bleed,
    cosmic_ray_residuals,
)
from melotte.telescope.detectors import Detector, detector_of
from melotte.telescope.drizzle_noise import mosaic_noise
from melotte.telescope.field_rendering import MARGIN, render_field, wide_size
from melotte.telescope.passbands import counts_per_second, passband
from melotte.telescope.setups import ImagingSetup

SUN_MINUS_V = {
    "WFC3_UVIS_F275W": 2.05,
    "WFC3_UVIS_F336W": 0.60,
    "WFC3_UVIS_F438W": 0.65,
    "WFC3_UVIS_F475W": 0.34,
    "WFC3_UVIS_F555W": 0.03,
    "WFC3_UVIS_F606W": -0.21,
    "WFC3_UVIS_F814W": -0.75,
    "ACS_WFC_F435W": 0.62,
    "ACS_WFC_F475W": 0.33,
    "ACS_WFC_F606W": -0.20,
    "ACS_WFC_F814W": -0.75,
}
"""Vega colour of zodiacal light, taken as the Sun's: this band minus V, mag."""

_SQUARE_DEGREE = 3600.0**2
_PSF_PIXELS = 14.0
"""Pixels over which the noise below a point source counts, when the faintest stars are chosen."""

_COMPOSITES: dict[tuple[str, ...], CompositeLight] = {}


@dataclass(frozen=True)
class FieldImage:
    """A mosaic of one field.

    Parameters
    ----------
    image : Tensor, shape (n_bands, size, size), counts/s per pixel
    saturated : BoolTensor, shape (n_bands, size, size)
    noiseless : Tensor, shape (n_bands, size, size), counts/s per pixel
        Before noise, cosmic rays and saturation; sky included as in ``image``.
    bands : tuple of str
    pixel_scale : float, arcsec
    exposure : tuple of float, s, one for each band
    environment : FieldEnvironment
    n_stars : int
        Stars of the galaxy that were drawn singly.
    """

    image: Tensor
    saturated: Tensor
    noiseless: Tensor
    bands: tuple[str, ...]
    pixel_scale: float
    exposure: tuple[float, ...]
    environment: FieldEnvironment
    n_stars: int


@dataclass(frozen=True)
class FieldOptions:
    """How a mosaic was taken and combined.

    Parameters
    ----------
    exposures : int, >= 1
        That the time was split into: a star saturates in one of them.
    drop : float, > 0
        Side of the drizzled drop in native pixels (``pixfrac``).
    sky_kept : float, in [0, 1]
        Share of the sky's light that is left in the mosaic; its noise stays in any case.
    cosmic_rays : float, hits left per million pixels and band
    background_galaxies, foreground_stars : bool
    star_density : float
        Largest number of the galaxy's stars per million pixels that are drawn singly, about;
        fainter ones are smooth light that fluctuates.

    Raises
    ------
    MelotteValueError
        When a value is outside its range.
    """

    exposures: int = 3
    drop: float = 1.0
    sky_kept: float = 1.0
    cosmic_rays: float = COSMIC_RAYS_PER_MEGAPIXEL
    background_galaxies: bool = True
    foreground_stars: bool = True
    star_density: float = 300_000.0

    def __post_init__(self) -> None:
        if (
            not 1 <= self.exposures < math.inf
            or not 0 < self.drop < math.inf
            or not 0 <= self.cosmic_rays < math.inf
            or not 0 < self.star_density < math.inf
        ):
            raise MelotteValueError(
                "exposures must be at least 1, drop and star_density above 0, cosmic_rays not "
                f"negative and all finite; found {self}"
            )
        if not 0 <= self.sky_kept <= 1:
            raise MelotteValueError(f"sky_kept must be in [0, 1], found {self.sky_kept}")


def simulate_field(
    environment: FieldEnvironment,
    setup: ImagingSetup,
    size: int,
    generator: torch.Generator,
    options: FieldOptions | None = None,
) -> FieldImage:
    """Simulate a mosaic of a galaxy's field.

    Parameters
    ----------
    environment : FieldEnvironment
    setup : ImagingSetup
        Its metallicity is that of clusters and plays no part here. Where it states no read
        noise, the cameras' is taken.
    size : int, pixels along a side, >= 16
    generator : torch.Generator, on the CPU
    options : FieldOptions, optional

    Returns
    -------
    FieldImage

    Raises
    ------
    MelotteValueError
        When the size is too small or a band is unknown.
    """
    if size < 16:
        raise MelotteValueError(f"a field needs at least 16 pixels a side, found {size}")
    options = options or FieldOptions()
    bands, scale = tuple(setup.bands), float(setup.pixel_scale)
    psfs = setup.psfs()
    wide = wide_size(size)
    sky = sky_rate(environment.sky_surface_brightness, bands, scale)
    unit = counts_per_second(torch.full((len(bands),), float(setup.distance_modulus)), bands)
    limit = _noise_limit(sky, setup, options) / unit
    parsec = 10 ** (setup.distance_modulus / 5 + 1) * scale / (180 * 3600 / math.pi)
    most_stars = max(1, int(options.star_density * wide**2 / 1e6))
    scene = draw_scene(environment, _composite(bands), wide, parsec, limit, generator, most_stars)
    positions, flux = scene.positions, scene.light * unit
    area = (wide * scale) ** 2 / _SQUARE_DEGREE
    if options.foreground_stars:
        magnitudes = draw_foreground_stars(
            environment.foreground_stars, area, StellarGrid.shipped(), bands, generator
        )
        places = torch.rand(len(magnitudes), 2, generator=generator) * wide - 0.5
        positions = torch.cat([positions, places])
        flux = torch.cat([flux, counts_per_second(magnitudes, bands)])
    extended = scene.smooth * unit[:, None, None]
    if options.background_galaxies:
        extended = extended + _galaxies(scene, bands, wide, scale, area, generator)
    fluctuation = _fluctuations(scene, unit, generator)
    image = render_field(positions, flux.float(), extended, fluctuation, psfs, scale)
    inner = slice(MARGIN, MARGIN + size)
    light = image[:, inner, inner]
    return _expose(light, sky, setup, options, generator, environment, len(scene.light))


def sky_rate(surface_brightness: float, bands: tuple[str, ...], pixel_scale: float) -> Tensor:
    """Electrons/s per pixel of the zodiacal light, shape (n_bands,).

    Parameters
    ----------
    surface_brightness : float, V mag/arcsec2
    bands : tuple of str
    pixel_scale : float, arcsec

    Raises
    ------
    MelotteValueError
        When a band's colour of the Sun is not known.
    """
    unknown = [band for band in bands if band not in SUN_MINUS_V]
    if unknown:
        raise MelotteValueError(
            f"the sky in {', '.join(unknown)} is not known; it is in {', '.join(SUN_MINUS_V)}"
        )
    magnitude = torch.tensor([surface_brightness + SUN_MINUS_V[band] for band in bands])
    return counts_per_second(magnitude, bands) * pixel_scale**2


def _composite(bands: tuple[str, ...]) -> CompositeLight:
    if bands not in _COMPOSITES:
        _COMPOSITES[bands] = CompositeLight(StellarGrid.shipped(), bands)
    return _COMPOSITES[bands]


def _read_noise(setup: ImagingSetup, camera: Detector, options: FieldOptions) -> float:
    """Electrons in a pixel of the mosaic: the set-up's where it states one, else the camera's."""
    own = camera.read_noise * math.sqrt(options.exposures) * setup.pixel_scale / camera.pixel
    return setup.read_noise or own


def _noise_limit(sky: Tensor, setup: ImagingSetup, options: FieldOptions) -> Tensor:
    """Counts/s of a star at the sky's noise, shape (n_bands,)."""
    exposure = torch.tensor([float(one) for one in setup.exposure])
    reading = [_read_noise(setup, detector_of(band), options) for band in setup.bands]
    variance = sky * exposure + torch.tensor(reading) ** 2
    return torch.sqrt(_PSF_PIXELS * variance) / exposure


def _galaxies(
    scene: FieldScene,
    bands: tuple[str, ...],
    size: int,
    scale: float,
    area: float,
    generator: torch.Generator,
) -> Tensor:
    """Distant galaxies behind the whole screen of dust, shape (n_bands, size, size)."""
    galaxies = draw_background_galaxies(area, generator)
    filters = [passband(band) for band in bands]
    magnitudes = galaxies.ab_magnitudes([one.pivot_nm for one in filters])
    magnitudes = magnitudes - torch.tensor([one.ab_minus_vega for one in filters])
    # Dimmer towards the blue roughly as 1 / wavelength (A_V is at 550 nm).
    dimming = torch.tensor([550.0 / one.pivot_nm for one in filters])
    places = torch.randint(size, (len(magnitudes), 2), generator=generator).tolist()
    image = torch.zeros(len(bands), size, size)
    for i, (row, column) in enumerate(places):
        stamp = sersic_stamp(
            float(galaxies.half_light_radius[i]) / scale,
            float(galaxies.sersic_index[i]),
            float(galaxies.axis_ratio[i]),
            float(galaxies.angle[i]),
            150,
        )
        reach = len(stamp) // 2
        top, left = max(0, row - reach), max(0, column - reach)
        bottom, right = min(size, row + reach + 1), min(size, column + reach + 1)
        part = stamp[top - row + reach : bottom - row + reach]
        part = part[:, left - column + reach : right - column + reach]
        seen = magnitudes[i] + dimming * scene.dust[row, column]
        image[:, top:bottom, left:right] += counts_per_second(seen, bands)[:, None, None] * part
    return image


def _fluctuations(scene: FieldScene, unit: Tensor, generator: torch.Generator) -> Tensor:
    """Star-to-star fluctuations of the smooth light before the PSF, counts/s."""
    covariance = scene.fluctuation.double() * unit.double()[:, None] * unit.double()
    strength = covariance.diagonal().sqrt().clamp(min=1e-30)
    correlation = covariance / strength[:, None] / strength
    correlation += 1e-6 * torch.eye(len(strength), dtype=torch.float64)
    mixing = (torch.linalg.cholesky(correlation) * strength[:, None]).float()
    size = scene.smooth.shape[-1]
    white = torch.randn(len(unit), size * size, generator=generator)
    return (mixing @ white).reshape(-1, size, size) * scene.fluctuation_scale


def _expose(
    light: Tensor,
    sky: Tensor,
    setup: ImagingSetup,
    options: FieldOptions,
    generator: torch.Generator,
    environment: FieldEnvironment,
    n_stars: int,
) -> FieldImage:
    """Sky, saturation, noise and cosmic rays."""
    size = light.shape[-1]
    images, masks = [], []
    for band, name in enumerate(setup.bands):
        exposure, camera = float(setup.exposure[band]), detector_of(name)
        coarser = setup.pixel_scale / camera.pixel
        ceiling = camera.full_well * options.exposures / exposure * coarser**2
        rate, full = bleed(light[band] + sky[band], ceiling)
        dark = camera.dark * coarser**2
        reading = _read_noise(setup, camera, options)
        noise = mosaic_noise(rate + dark, exposure, reading, options.drop / coarser, generator)
        hits = cosmic_ray_residuals(size, exposure, generator, options.cosmic_rays)
        images.append(rate - (1 - options.sky_kept) * sky[band] + noise + hits)
        masks.append(full)
    return FieldImage(
        torch.stack(images),
        torch.stack(masks),
        light + options.sky_kept * sky[:, None, None],
        tuple(setup.bands),
        float(setup.pixel_scale),
        tuple(float(one) for one in setup.exposure),
        environment,
        n_stars,
    )
