"""Globular clusters in users' images, as the network reads them, flagged where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.image_cutouts import LARGEST_RESCALING
from melotte.io.image_stacks import SAME_SCALE, RejectedImage
from melotte.io.light_maps import LightImages, cut_coordinates, read_light_maps
from melotte.io.reprojection import resampled
from melotte.systems.base import Observation, RowError
from melotte.systems.globular_clusters.known_dispersions import known_dispersions
from melotte.systems.globular_clusters.known_distance import known_distance
from melotte.systems.globular_clusters.known_extinction import dust_removal, known_extinction
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.telescope.map_measurements import (
    centre_of_light,
    filled,
    noise_level,
    sky_level,
    star_width,
)
from melotte.telescope.map_smoothing import smoothed
from melotte.telescope.panstarrs import johnson_maps

ROOM = 1.5
"""Sides of the map, as part of the image's, from which a measured sky is free of the cluster."""
WIDTH_SLACK = 0.05
"""Relative difference from the ends of the range of seeing that still counts as inside."""

_ELSEWHERE = ("group_by", "release", "min_probability", "clusters", "positions", "deredden")

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
    corner : (float, float), px
        Column and row of the outer corner of the first pixel, in the file's image, whose first
        pixel begins at 0.
    step : float
        Side of a pixel in the file's pixels.
    notes : dict
        How sky, noise, seeing and centre were found.
    """

    flux: Maps
    noise: NDArray[np.float32]
    pixel_scale: float
    psf_fwhm: float
    centre: tuple[float, float]
    corner: tuple[float, float]
    step: float
    notes: dict[str, str]


def observations(
    source: Any, options: Mapping[str, Any], data: DataSettings
) -> Iterator[Observation | RowError]:
    """Maps of globular clusters, one at a time.

    Parameters
    ----------
    source : path or a sequence of paths
        See :func:`melotte.io.light_maps.read_light_maps`.
    options : mapping
        See :class:`melotte.io.light_map_options.LightMapOptions`.
    data : DataSettings
        What the model was trained on.

    Yields
    ------
    Observation or RowError
        See :func:`melotte.systems.globular_clusters.observing.observe` for the fields. Flagged
        BAD_PIXELS where pixels are unknown, OUT_OF_RANGE where pixels, seeing or extinction were
        not trained on. The header's ``light_maps`` says by id how the map was made, ``wcs`` where
        it lies, and ``known`` what a table knows of it.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When a file cannot be read, a band is missing, or an option is unknown or not allowed.
    """
    given = {name: value for name, value in options.items() if value not in (None, {})}
    misplaced = [name for name in _ELSEWHERE if name in given]
    if misplaced:
        raise MelotteValueError(f"{misplaced[0]}: not an option of images of globular clusters")
    sources = [source] if isinstance(source, str | Path) else list(source)
    for found in clusters(read_light_maps(sources, given), data):
        yield found if isinstance(found, RowError) else found[1]


def clusters(
    entries: Iterable[LightImages | RejectedImage], data: DataSettings
) -> Iterator[tuple[LightImages, Observation] | RowError]:
    """Images with what the network is told of them; of a table, an error a cluster without.

    Parameters
    ----------
    entries : iterable of LightImages or RejectedImage
        Of :func:`melotte.io.light_maps.read_light_maps`.
    data : DataSettings

    Raises
    ------
    MelotteValueError
        See :func:`observation_of`, of a cluster that no table lists.
    """
    for entry in entries:
        if isinstance(entry, RejectedImage):
            yield RowError(entry.id, entry.reason, entry.flags)
            continue
        try:
            yield entry, observation_of(entry, data)
        except MelotteValueError as error:
            if not entry.listed:
                raise
            reason = str(error).removeprefix(f"{entry.id}: ")
            yield RowError(entry.id, reason, int(Flag.FAILED))


def observation_of(images: LightImages, data: DataSettings) -> Observation:
    """A cluster's images with what the network is told of them.

    Parameters
    ----------
    images : LightImages
    data : DataSettings

    Raises
    ------
    MelotteValueError
        When a band that the model needs is missing, or sky, noise, seeing or place cannot be
        found.
    """
    cut = cut_maps(images, data)
    n_bands, rows, columns = len(data.bands), *cut.flux.shape[1:]
    if len(cut.flux) < n_bands and data.missing_band_share == 0:
        raise MelotteValueError(
            f"{images.id}: it has no image in {', '.join(data.bands[len(cut.flux) :])}, which the "
            "model reads"
        )
    flux = np.full((n_bands, rows, columns), np.nan, dtype=np.float32)
    noise = np.full(n_bands, np.nan, dtype=np.float32)
    used = min(n_bands, len(cut.flux))
    flux[:used], noise[:used] = cut.flux[:used], cut.noise[:used]
    unknown = bool(np.isnan(flux[:used]).any())
    raised = dust_removal(images.options.extinction_v, data)
    flux, noise = flux * raised[:, None, None], noise * raised
    maps = torch.from_numpy(flux)
    if data.smoothing > 0:
        whole = np.stack([filled(one) if np.isfinite(one).any() else one for one in flux])
        maps = smoothed(torch.from_numpy(whole), data.smoothing)
    if data.noise == "none":
        noise = np.where(np.isnan(noise), noise, np.float32(0))
    fields = {
        "flux": maps[None],
        "noise": torch.from_numpy(noise)[None],
        "pixel_scale": torch.tensor([cut.pixel_scale]),
        "psf_fwhm": torch.tensor([cut.psf_fwhm]),
    }
    dust, too_much = known_extinction(images, data)
    fields |= dust
    distance, too_far = known_distance(images, data)
    fields |= distance
    outside = (*outside_of_training(cut, data), *too_much, *too_far)
    try:
        fields |= known_dispersions(images, data, cut.flux[0], cut.corner, cut.step)
    except MelotteValueError as error:
        raise MelotteValueError(f"{images.id}: {error}") from error
    flags = int(Flag.BAD_PIXELS) * unknown | int(Flag.OUT_OF_RANGE) * bool(outside)
    notes: dict[str, Any] = cut.notes | {
        "bands": ",".join(images.bands),
        "sources": ",".join(images.sources),
        "pixel_scale": cut.pixel_scale,
        "psf_fwhm": cut.psf_fwhm,
        "x": cut.centre[0],
        "y": cut.centre[1],
    }
    if images.dispersions is not None:
        seen = torch.isfinite(fields["dispersion"])
        notes["dispersions"] = f"in {int(seen.sum())} of {seen.numel()} bins"
    if outside:
        notes["outside_training"] = ", ".join(outside)
    header: dict[str, Any] = {"light_maps": {images.id: notes}}
    remarks = _remarks(images, cut, outside)
    if (raised != 1).any():
        remarks.append(
            f"an extinction of A_V = {images.options.extinction_v:g} mag was taken off the light, "
            "for the model knows no dust"
        )
    if images.known:
        header["known"] = {images.id: dict(images.known)}
    if remarks:
        header["remarks"] = {images.id: remarks}
    place = cut_coordinates(images, cut.corner, cut.step, rows)
    if place is not None:
        header |= {"wcs": {images.id: place[0]}, "ra": [place[1]], "dec": [place[2]]}
    return Observation(fields, (images.id,), torch.tensor([flags]), header)


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
        centre = _centre(images, size * step, notes)
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
    noise = np.array(levels, dtype=np.float32) * np.float32(step)
    scale = images.pixel_scale * step
    if images.bands == ("g", "r"):
        cut, noise = _johnson(cut, noise)
        notes["bands_from"] = "Pan-STARRS g and r by Kostov & Bonev 2018"
    return CutMaps(cut, noise, scale, fwhm, centre, corner, step, notes)


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


def outside_of_training(cut: CutMaps, data: DataSettings) -> tuple[str, ...]:
    """What of the camera lies outside what was trained on, with its value."""
    found = []
    low, high = data.pixel_scale
    if not low * (1 - SAME_SCALE) <= cut.pixel_scale <= high * (1 + SAME_SCALE):
        found.append(f"pixel_scale {cut.pixel_scale:.3g} arcsec outside [{low:g}, {high:g}]")
    listed = (*(data.psf_fwhms or ()), *(data.test_psf_fwhms or ()))
    low, high = (min(listed), max(listed)) if listed else data.psf_fwhm
    if not low * (1 - WIDTH_SLACK) <= cut.psf_fwhm <= high * (1 + WIDTH_SLACK):
        found.append(f"psf_fwhm {cut.psf_fwhm:.3g} arcsec outside [{low:g}, {high:g}]")
    return tuple(found)


def _remarks(images: LightImages, cut: CutMaps, outside: tuple[str, ...]) -> list[str]:
    """What a person should know of a map, in plain words."""
    found = [f"not trained on: {one}" for one in outside]
    side = cut.flux.shape[-1] * cut.step
    if "measured" in cut.notes["sky_from"] and min(images.images.shape[1:]) < ROOM * side:
        found.append(
            f"the image is less than {ROOM:g} times as wide as the map, so the sky that was taken "
            "off has the cluster's light in it; give sky=... where it is known"
        )
    n_full = int(images.saturated.any(0).sum())
    if n_full:
        found.append(f"{n_full} saturated pixels in the image")
    lost = float(np.isnan(cut.flux[0]).mean())
    if lost > 0.01:
        found.append(f"{100 * lost:.0f} % of the map's pixels are unknown")
    return found


def _centre(images: LightImages, side: float, notes: dict[str, str]) -> tuple[float, float]:
    """Column and row of the cluster in the image."""
    options = images.options
    n_rows, n_columns = images.images.shape[1:]
    if not math.isnan(options.x):
        origin = options.image.pixel_origin
        column, row = options.x - origin, options.y - origin
        notes["centre_from"] = "given"
    elif not math.isnan(options.ra):
        if images.wcs is None:
            raise MelotteValueError("its image has no celestial coordinates; give x and y")
        from astropy.coordinates import SkyCoord

        place = images.wcs.world_to_pixel(SkyCoord(options.ra, options.dec, unit="deg"))
        column, row = (float(one) for one in place)
        notes["centre_from"] = "given"
    else:
        notes["centre_from"] = "largest concentration of light"
        return centre_of_light(images.images[0], side)
    if not (-0.5 <= column <= n_columns - 0.5 and -0.5 <= row <= n_rows - 0.5):
        raise MelotteValueError(
            f"the place given is at column {column:.1f}, row {row:.1f}, outside the image of "
            f"{n_columns} columns and {n_rows} rows"
        )
    return column, row


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
