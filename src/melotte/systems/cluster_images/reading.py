"""Cluster images from users' files, as the network reads them, flagged where they differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.image_cutouts import read_cutouts
from melotte.io.image_mosaics import read_mosaic_cutouts
from melotte.io.image_positions import PLACES
from melotte.io.image_stacks import ExpectedImages, ImageOptions, ImageStack, RejectedImage
from melotte.systems.base import Observation, RowError
from melotte.systems.cluster_images.dereddening import (
    DUST_TAKEN_OFF,
    MOST_EXTINCTION,
    brightened,
    known_extinctions,
    with_extinctions,
)
from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.passbands import passband
from melotte.telescope.psf import HubblePSF, fwhm
from melotte.telescope.setups import SURVEYS, ImagingSetup, mosaic_blur

SLACK = 0.02
"""Relative difference from a range's ends that still counts as inside."""

_OWN = ("positions", "fwhm", "distance_modulus", "metallicity", "deredden", "deredden_v")
_IMAGE = tuple(one.name for one in fields(ImageOptions))
_ELSEWHERE = ("group_by", "release", "min_probability", "clusters")


@dataclass(frozen=True)
class Circumstances:
    """What a user says of the camera and the galaxy; None where nothing is said.

    Parameters
    ----------
    fwhm : tuple of float, arcsec, or None
        Full width at half maximum of stars, one for all bands or one a band.
    distance_modulus : float, mag, or None
    metallicity : float, [Fe/H], or None
    extinction_v : float, mag, or None
        To take off all images.
    """

    fwhm: tuple[float, ...] | None = None
    distance_modulus: float | None = None
    metallicity: float | None = None
    extinction_v: float | None = None


def observations(
    source: Any, options: Mapping[str, Any], data: DataSettings
) -> Iterator[Observation | RowError]:
    """Images of clusters, in batches of up to 256.

    Parameters
    ----------
    source : path or a sequence of paths
        Files of cutouts; or, with ``positions``, one mosaic a band.
    options : mapping
        ``positions``: table of places to cut out of mosaics; ``fwhm`` (arcsec, one number or one a
        band), ``distance_modulus`` (mag) and ``metallicity`` ([Fe/H]): of the standard set-up of
        the model's galaxy unless given; ``deredden``: column of the positions with the A_V by
        which each cluster is to be brightened before it is measured, objects without one being
        rejected; or ``deredden_v``: one A_V (mag) for all; and the options of
        :class:`~melotte.io.image_stacks.ImageOptions`.
    data : DataSettings
        What the model was trained on.

    Yields
    ------
    Observation or RowError
        See :meth:`~melotte.systems.cluster_images.simulator.ClusterImageSimulator.observe` for
        the fields. Flagged BAD_PIXELS where pixels are unknown, OUT_OF_RANGE where the camera,
        the distance or the metallicity was not trained on.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When a file cannot be read, lacks a band, or an option is unknown or not allowed.
    """
    given = {name: value for name, value in options.items() if value not in (None, {})}
    misplaced = [name for name in _ELSEWHERE if name in given]
    if misplaced:
        raise MelotteValueError(f"{misplaced[0]}: not an option of images of clusters")
    allowed = (*_OWN, *_IMAGE)
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise MelotteValueError(
            f"{unknown[0]!r} is not an option of this model; allowed: {', '.join(allowed)}"
        )
    said = circumstances(given, len(data.bands))
    expected = expected_images(data)
    chosen = ImageOptions.parse({name: one for name, one in given.items() if name in _IMAGE})
    sources = [source] if isinstance(source, str | Path) else list(source)
    dust = None
    if "deredden" in given:
        if "positions" not in given:
            raise MelotteValueError("deredden: needs a table of positions, which has that column")
        dust = known_extinctions(given["positions"], str(given["deredden"]), chosen)
    if "positions" in given:
        places = given["positions"] if dust is None else dust.numbered
        stacks = read_mosaic_cutouts(sources, places, expected, chosen)
    else:
        stacks = read_cutouts(sources, expected, chosen)
    unmeasured: dict[str, Any] = {}
    if "positions" in given:
        unmeasured |= {"x": math.nan, "y": math.nan, "mosaic": ""}
    if dust is not None or said.extinction_v is not None:
        unmeasured[DUST_TAKEN_OFF] = math.nan
    for entry, extinction_v in with_extinctions(stacks, dust):
        if isinstance(entry, RejectedImage):
            yield RowError(entry.id, entry.reason, entry.flags, {**unmeasured, **entry.columns})
        else:
            yield observation_of(entry, said, data, extinction_v)


def expected_images(data: DataSettings) -> ExpectedImages:
    """What files of images must hold for a model; any pixel scale where it was trained on many."""
    low, high = data.camera.pixel_scale
    return ExpectedImages(
        data.bands,
        data.size,
        None if low < high else low,
        {name: passband(name).zero_point_ab for name in data.bands},
        (low, high) if low < high else None,
    )


def circumstances(given: Mapping[str, Any], n_bands: int) -> Circumstances:
    """What options say of the camera and the galaxy, checked.

    Raises
    ------
    MelotteValueError
        When a value is not a number, not one a band, or no extinction.
    """
    widths = None
    if "fwhm" in given:
        widths = _numbers("fwhm", given["fwhm"])
        if len(widths) not in (1, n_bands) or min(widths) <= 0:
            raise MelotteValueError(
                f"fwhm: found {given['fwhm']!r}; needs one positive number, or {n_bands}"
            )
    one = {}
    for name in ("distance_modulus", "metallicity"):
        if name in given:
            values = _numbers(name, given[name])
            if len(values) != 1:
                raise MelotteValueError(f"{name}: found {given[name]!r}; needs one number")
            one[name] = values[0]
    dust = _one_extinction(given) if "deredden_v" in given else None
    return Circumstances(widths, extinction_v=dust, **one)


def observation_of(
    stack: ImageStack,
    said: Circumstances,
    data: DataSettings,
    extinction_v: Tensor | None = None,
) -> Observation:
    """Images with the circumstances that the network is told.

    Parameters
    ----------
    stack : ImageStack
    said : Circumstances
    data : DataSettings
    extinction_v : Tensor, shape (n,), mag, optional
        What to take off each image; by default what is said of all.

    Returns
    -------
    Observation
        The header lists what becomes columns of the result: where each image was cut, and the
        ``mosaic`` that ``x`` and ``y`` are pixels of. Its ``images`` describes the files.
    """
    n, bands = len(stack), stack.bands
    standard = SURVEYS[data.fields.galaxy]
    scale = stack.pixel_scale
    widths = said.fwhm or standard_widths(bands)
    exposure = torch.where(
        torch.isfinite(stack.exposure), stack.exposure, _usual_exposures(bands, standard, data)
    )
    modulus = said.distance_modulus
    metals = said.metallicity
    values = {
        "pixel_scale": scale,
        "distance_modulus": standard.distance_modulus if modulus is None else modulus,
        "metallicity": standard.metallicity if metals is None else metals,
    }
    images = stack.images
    # Places become columns of the result, the rest describes the files.
    places = {name: stack.header[name] for name in PLACES if name in stack.header}
    rest = {name: value for name, value in stack.header.items() if name not in places}
    header: dict[str, Any] = {"images": rest} | {
        name: [float(value) for value in values] for name, values in places.items()
    }
    if "x" in places:
        header["mosaic"] = [rest.pop("grid")] * n
    if extinction_v is None and said.extinction_v is not None:
        extinction_v = torch.full((n,), said.extinction_v)
    if extinction_v is not None:
        images = brightened(images, extinction_v, bands)
        header[DUST_TAKEN_OFF] = extinction_v.tolist()
    flags = stack.flags.clone()
    outside = outside_of_training(values, exposure, widths, data)
    if outside:
        flags |= int(Flag.OUT_OF_RANGE)
        header["outside_training"] = dict.fromkeys(stack.ids, ", ".join(outside))
    fields_ = {name: torch.full((n,), value) for name, value in values.items()}
    per_band = {"exposure": exposure, "fwhm": torch.tensor(widths).expand(len(bands))}
    fields_ |= {name: value.float().expand(n, -1).clone() for name, value in per_band.items()}
    return Observation({"image": images, **fields_}, stack.ids, flags, header)


def standard_widths(bands: Sequence[str]) -> tuple[float, ...]:
    """Widths (FWHM, arcsec) of stars in a drizzled mosaic of these bands."""
    blurs = mosaic_blur(tuple(bands))
    return tuple(
        fwhm(HubblePSF(passband(band).pivot_nm, blur))
        for band, blur in zip(bands, blurs, strict=True)
    )


def outside_of_training(
    values: Mapping[str, float],
    exposure: Tensor,
    widths: Sequence[float],
    data: DataSettings,
) -> tuple[str, ...]:
    """Names of the circumstances that lie outside what was trained on.

    A fixed set-up is allowed differences of a few per cent, and exposures within a factor of two.

    Parameters
    ----------
    values : mapping of str to float
        Of ``pixel_scale``, ``distance_modulus`` and ``metallicity``.
    exposure : Tensor, shape (n_bands,), s
    widths : sequence of float, arcsec
        Full widths at half maximum of stars, one for all bands or one a band.
    data : DataSettings
    """
    camera = data.camera
    found = []
    for name, value in values.items():
        low, high = getattr(camera, name)
        slack = SLACK * abs(low) if name == "pixel_scale" else 0.05
        if not low - slack <= value <= high + slack:
            found.append(name)
    low, high = camera.exposure_factor
    factor = exposure / torch.tensor(camera.exposure)
    if low == high:
        low, high = low / 2, high * 2
    if camera.noise == "exposure" and bool(((factor < low) | (factor > high)).any()):
        found.append("exposure")
    usual = standard_widths(data.bands)
    blurs = mosaic_blur(data.bands)
    each = tuple(widths) * len(data.bands) if len(widths) == 1 else widths
    for band, width, blur, expected in zip(data.bands, each, blurs, usual, strict=True):
        ends = [fwhm(HubblePSF(passband(band).pivot_nm, blur * f)) for f in camera.blur]
        slack = 2.5 * SLACK * expected
        if not ends[0] - slack <= width <= ends[1] + slack:
            found.append("fwhm")
            break
    return tuple(found)


def _usual_exposures(bands: Sequence[str], standard: ImagingSetup, data: DataSettings) -> Tensor:
    known = dict(zip(standard.bands, standard.exposure, strict=True))
    trained = dict(zip(data.bands, data.camera.exposure, strict=True))
    return torch.tensor([known.get(band, trained[band]) for band in bands])


def _one_extinction(given: Mapping[str, Any]) -> float:
    """The A_V, mag, that is to be taken off all images."""
    if "deredden" in given:
        raise MelotteValueError(
            f"deredden_v: one A_V for all does not go with a column of them, {given['deredden']!r}"
        )
    values = _numbers("deredden_v", given["deredden_v"])
    if len(values) != 1 or not 0 <= values[0] <= MOST_EXTINCTION:
        raise MelotteValueError(
            f"deredden_v: found {given['deredden_v']!r}; needs one in [0, {MOST_EXTINCTION:g}] mag"
        )
    return values[0]


def _numbers(name: str, value: Any) -> tuple[float, ...]:
    parts = str(value).split(",") if isinstance(value, str) else value
    try:
        numbers = tuple(
            float(one) for one in (parts if isinstance(parts, list | tuple) else [parts])
        )
    except (TypeError, ValueError):
        raise MelotteValueError(f"{name}: found {value!r}; needs numbers") from None
    if not numbers or not all(math.isfinite(one) for one in numbers):
        raise MelotteValueError(f"{name}: found {value!r}; needs finite numbers")
    return numbers
