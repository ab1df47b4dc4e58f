"""Globular clusters in users' images, as the network reads them, flagged where they differ."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from melotte.engine.results import REMARKS
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.image_stacks import SAME_SCALE, RejectedImage
from melotte.io.light_maps import LightImages, cut_coordinates, read_light_maps
from melotte.systems.base import Observation, RowError
from melotte.systems.globular_clusters.known_dispersions import known_dispersions
from melotte.systems.globular_clusters.known_distance import known_distance
from melotte.systems.globular_clusters.known_extinction import dust_removal, known_extinction
from melotte.systems.globular_clusters.map_cutting import CutMaps, cut_maps
from melotte.systems.globular_clusters.settings import BIN_PIXELS, DataSettings
from melotte.telescope.map_measurements import filled
from melotte.telescope.map_smoothing import smoothed

MOST_FALL = 0.03
"""Part of the map's light by which a sky may fall that is thought to be free of the cluster."""
WIDTH_SLACK = 0.05
"""Relative difference from the ends of the range of seeing that still counts as inside."""

_ELSEWHERE = ("group_by", "release", "min_probability", "clusters", "positions", "deredden")


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
    for found in clusters(read_light_maps(sources, given, parameter_units(data)), data):
        yield found if isinstance(found, RowError) else found[1]


def parameter_units(data: DataSettings) -> dict[str, str]:
    """Units of the parameters that columns ``known_NAME`` of a table may hold."""
    return {one.name: one.unit for one in data.cluster_parameters()}


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
    remarks = _remarks(images, cut, outside, data)
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
        if not seen.any():
            remarks.append(
                "the dispersions are not used: they cover less than half of every bin of "
                f"{round(BIN_PIXELS * cut.pixel_scale, 1):g} arcsec"
            )
    if outside:
        notes["outside_training"] = ", ".join(outside)
    header: dict[str, Any] = {"light_maps": {images.id: notes}}
    if (raised != 1).any():
        remarks.append(
            f"an extinction of A_V = {images.options.extinction_v:g} mag was taken off the light, "
            "for the model knows no dust"
        )
    if images.known:
        header["known"] = {images.id: dict(images.known)}
    if remarks:
        header[REMARKS] = {images.id: remarks}
    place = cut_coordinates(images, cut.corner, cut.step, rows)
    if place is not None:
        header |= {"wcs": {images.id: place[0]}, "ra": [place[1]], "dec": [place[2]]}
    return Observation(fields, (images.id,), torch.tensor([flags]), header)


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
    if cut.centre_error > data.offset:
        found.append(
            f"centre off by {cut.centre_error:.2g} arcsec perhaps, more than {data.offset:g}; give "
            "ra and dec, or x and y"
        )
    return tuple(found)


def _remarks(
    images: LightImages, cut: CutMaps, outside: tuple[str, ...], data: DataSettings
) -> list[str]:
    """What a person should know of a map, in plain words."""
    found = [f"not trained on: {one}" for one in outside]
    if data.offset / 2 < cut.centre_error <= data.offset:
        found.append(
            f"the centre that was found is {cut.centre_error:.2g} arcsec uncertain along an axis, "
            f"and models expect it within {data.offset:g}; give ra and dec, or x and y"
        )
    if cut.sky_fall > MOST_FALL:
        found.append(
            "the sky that was taken off has the cluster's light in it: it falls outwards still, by "
            f"{100 * min(cut.sky_fall, 9.99):.0f} % of the map's light; give sky=... where it is "
            "known, or a wider image"
        )
    n_full = int(images.saturated.any(0).sum())
    if n_full:
        found.append(f"{n_full} saturated pixels in the image")
    lost = float(np.isnan(cut.flux[0]).mean())
    if lost > 0.01:
        found.append(f"{100 * lost:.0f} % of the map's pixels are unknown")
    return found
