"""Maps of light cut out of users' images about a cluster, without the sky, on a model's pixels."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from melotte.errors import MelotteValueError
from melotte.io.image_cutouts import LARGEST_RESCALING
from melotte.io.image_stacks import SAME_SCALE
from melotte.io.light_maps import LightImages
from melotte.io.light_planes import FLUX_ZERO_POINT
from melotte.io.reprojection import resampled
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.cluster_centres import centre_of_light
from melotte.telescope.map_measurements import filled, noise_level, sky_level, star_width
from melotte.telescope.panstarrs import johnson_maps

MIDDLE = 0.4
"""Share of the pixels within the fifth that shows whether a measured sky falls outwards."""

SAME_PLACE = 2.0
"""Distance between a centre's pixels and its coordinates, arcsec, up to which they agree."""

SKY_UNIT = f"sources of magnitude {FLUX_ZERO_POINT:g}, a pixel of the file"
"""Of the sky in a result's notes; magnitudes are in the band's own system."""

Maps = NDArray[np.float32]


@dataclass(frozen=True)
class CutMaps:
    """Maps of light cut about a cluster.

    Parameters
    ----------
    flux : array, float32, shape (n_bands, size, size)
        In V, or V and B, sky taken off, in units of a source of magnitude 25; NaN where unknown
        or saturated.
    noise : array, float32, shape (n_bands,)
    pixel_scale, psf_fwhm : float, arcsec
    centre : (float, float), px
        Column and row of the cluster in the file's image.
    centre_error : float, arcsec
        Standard deviation along one axis; 0 of a place that was given.
    corner : (float, float), px
        Column and row of the outer corner of the first pixel, in the file's image, whose first
        pixel begins at 0.
    step : float
        Side of a pixel in the file's pixels.
    sky_fall : float
        How much less of the first band's sky the farthest fifth of the image has than the middle
        one, on the map's pixels, as part of the map's light; 0 of a sky that was given.
    notes : dict
        How sky, noise, seeing and centre were found.
    """

    flux: Maps
    noise: NDArray[np.float32]
    pixel_scale: float
    psf_fwhm: float
    centre: tuple[float, float]
    centre_error: float
    corner: tuple[float, float]
    step: float
    sky_fall: float
    notes: dict[str, str]


def cut_maps(images: LightImages, data: DataSettings) -> CutMaps:
    """Maps of a cluster on the model's pixels, without the sky.

    Parameters
    ----------
    images : LightImages
    data : DataSettings
        For the side and the range of pixels.

    Raises
    ------
    MelotteValueError
        When the place is outside the image, or sky, noise or seeing cannot be measured.
    """
    notes: dict[str, str] = {}
    step = pixel_step(images.pixel_scale, data.pixel_scale)
    size = images.options.size or data.size
    try:
        centre, centre_error = _centre(images, notes)
        flux = _without_sky(images, centre, notes)
        levels = _noise(images, flux, notes)
        fwhm = images.psf_fwhm
        if math.isnan(fwhm):
            width = star_width(np.where(images.saturated[0], np.nan, flux[0]), levels[0])
            fwhm = width.fwhm * images.pixel_scale
            notes["psf_fwhm_from"] = f"{width.n_stars} stars, scatter {width.scatter:.2f} px"
        else:
            notes["psf_fwhm_from"] = "given"
    except MelotteValueError as error:
        raise MelotteValueError(f"{images.id}: {error}") from error
    notes["pixels"] = "the file's" if step == 1 else f"{step:g} of the file's a side"
    # Saturated stars are unknown where mocks have them so, and as they are where they do not.
    if data.noise != "none":
        around = ndimage.binary_dilation(images.saturated.any(0), np.ones((3, 3)))
        flux = np.where(around, np.float32(np.nan), flux)
    corner = _corner(centre, size, step)
    middle = corner[0] + size * step / 2 - 0.5, corner[1] + size * step / 2 - 0.5
    cut = resampled(flux, middle[0], middle[1], step, size)
    if not np.isfinite(cut[0]).any():
        raise MelotteValueError(f"{images.id}: no pixel within the map has a value")
    fall = 0.0
    if math.isnan(images.sky[0]):
        # The sky of the farthest fifth is off already.
        light = float(np.nanmean(cut[0])) / step**2
        fall = sky_level(flux[0], centre, MIDDLE) / light if light > 0 else math.inf
    noise = np.array(levels, dtype=np.float32) * np.float32(step)
    scale = images.pixel_scale * step
    if images.bands == ("g", "r"):
        cut, noise = _johnson(cut, noise)
        notes["bands_from"] = "Pan-STARRS g and r by Kostov & Bonev 2018"
    return CutMaps(cut, noise, scale, fwhm, centre, centre_error, corner, step, fall, notes)


def pixel_step(scale: float, trained: tuple[float, float]) -> float:
    """Side of the model's pixels in pixels of a file.

    1 where the file's are within the range; the least whole number that brings smaller ones there;
    a fraction where a model knows one size alone and the file's is within a factor of two of it.
    """
    low, high = trained
    if low * (1 - SAME_SCALE) <= scale <= high * (1 + SAME_SCALE):
        return 1.0
    factor = math.ceil(low * (1 - SAME_SCALE) / scale)
    if factor > 1 and factor * scale <= high * (1 + SAME_SCALE):
        return float(factor)
    if high / low <= 1 + SAME_SCALE and scale <= low * LARGEST_RESCALING:
        return low / scale
    return 1.0


def _centre(images: LightImages, notes: dict[str, str]) -> tuple[tuple[float, float], float]:
    """Column and row of the cluster in the image, and the error along one axis, arcsec."""
    options = images.options
    n_rows, n_columns = images.images.shape[1:]
    placed = _placed_on_sky(images)
    if not math.isnan(options.x):
        origin = options.image.pixel_origin
        column, row = options.x - origin, options.y - origin
        if placed is not None:
            apart = math.hypot(column - placed[0], row - placed[1]) * images.pixel_scale
            if apart > SAME_PLACE:
                raise MelotteValueError(
                    f"x, y and ra, dec are {apart:.3g} arcsec apart; give the right ones alone "
                    "(pixels count from pixel_origin, 0 unless given)"
                )
        notes["centre_from"] = "given"
    elif not math.isnan(options.ra):
        if placed is None:
            raise MelotteValueError("its image has no celestial coordinates; give x and y")
        column, row = placed
        notes["centre_from"] = "given"
    else:
        found = centre_of_light(images.images[0])
        error = found.error * images.pixel_scale
        notes["centre_from"] = f"the light, within {error:.2g} arcsec along an axis"
        return (found.column, found.row), error
    if not (-0.5 <= column <= n_columns - 0.5 and -0.5 <= row <= n_rows - 0.5):
        raise MelotteValueError(
            f"the place given is at column {column:.1f}, row {row:.1f}, outside the image of "
            f"{n_columns} columns and {n_rows} rows"
        )
    return (column, row), 0.0


def _placed_on_sky(images: LightImages) -> tuple[float, float] | None:
    """Column and row of the option's ra and dec; None without them or coordinates."""
    options = images.options
    if math.isnan(options.ra) or images.wcs is None:
        return None
    from astropy.coordinates import SkyCoord

    place = images.wcs.world_to_pixel(SkyCoord(options.ra, options.dec, unit="deg"))
    return float(place[0]), float(place[1])


def _without_sky(images: LightImages, centre: tuple[float, float], notes: dict[str, str]) -> Maps:
    """Images without the sky, given or measured."""
    levels, measured = [], False
    for image, given in zip(images.images, images.sky, strict=True):
        measured |= math.isnan(given)
        levels.append(sky_level(image, centre) if math.isnan(given) else given)
    notes["sky_from"] = "given"
    if measured:
        notes["sky_from"] = "measured on the fifth of the image farthest from the cluster"
    notes["sky"] = ",".join(f"{one:.6g}" for one in levels)
    notes["sky_unit"] = SKY_UNIT
    flux = images.images - np.array(levels, dtype=np.float32)[:, None, None]
    return flux.astype(np.float32)


def _noise(images: LightImages, flux: Maps, notes: dict[str, str]) -> list[float]:
    """Noise of each band in a pixel without light, given or measured."""
    levels = []
    for image, given in zip(flux, images.noise, strict=True):
        levels.append(noise_level(image) if math.isnan(given) else given)
    given = not any(math.isnan(one) for one in images.noise)
    notes["noise_from"] = "given" if given else "scatter of the emptiest parts"
    return levels


def _corner(centre: tuple[float, float], size: int, step: float) -> tuple[float, float]:
    """Outer corner of a map about a place; on the file's pixels where those are kept or joined."""
    first = [one + 0.5 - size * step / 2 for one in centre]
    if step == int(step):
        first = [float(math.floor(one + 0.5)) for one in first]
    return first[0], first[1]


def _johnson(flux: Maps, noise: NDArray[np.float32]) -> tuple[Maps, NDArray[np.float32]]:
    """Maps in V and B, and their noise, from maps in g and r."""
    whole = torch.from_numpy(np.stack([filled(one) for one in flux]))[None]
    maps = johnson_maps(whole)[0].numpy()
    unknown = np.isnan(flux).any(0)
    # The noise is that of g, times what the colour asks for.
    ratio = maps.sum((1, 2)) / max(float(whole[0, 0].sum()), 1e-20)
    maps = np.where(unknown, np.float32(np.nan), maps)
    return maps, (noise[0] * np.where(ratio > 0, ratio, 1.0)).astype(np.float32)
