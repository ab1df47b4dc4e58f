"""Stacks of cutouts: FITS cubes, extensions, tables with images, one file a band, HDF5 and npy."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteValueError
from melotte.io.image_headers import match_bands
from melotte.io.image_planes import Planes, planes_of, side_by_side
from melotte.io.image_stacking import stacked, template_stack
from melotte.io.image_stacks import (
    SAME_SCALE,
    STACK_SIZE,
    ExpectedImages,
    ImageOptions,
    Images,
    ImageStack,
    RejectedImage,
    common_scale,
    refuse_unstated,
)
from melotte.io.image_units import counts_factor
from melotte.io.object_names import told_apart
from melotte.io.reprojection import resampled
from melotte.io.table_files import listed

LARGEST_RESCALING = 2.0
"""Ratio of pixel scales, either way, beyond which images are not resampled."""


def read_cutouts(
    source: str | Path | Sequence[str | Path],
    expected: ExpectedImages,
    options: ImageOptions | Mapping[str, Any] | None = None,
) -> Iterator[ImageStack | RejectedImage]:
    """Stamps of objects that somebody cut out, in counts per second.

    One file holds all bands (a FITS or HDF5 or npy array of objects, bands, rows and columns;
    one FITS extension a band; or a FITS table with a column of images a band), or several files
    hold one band each, with the same objects in the same order.

    Larger stamps are cropped about their centre, smaller ones refused. Pixels that are not finite,
    that an extension WHT or MASK marks, or exact zeros of real numbers where they are more than 1 %
    of a stamp, are NaN and ``bad``. Objects come in the files' order.

    Parameters
    ----------
    source : path, or a sequence of paths
    expected : ExpectedImages
    options : ImageOptions or mapping, optional

    Yields
    ------
    ImageStack
        Up to 256 objects.
    RejectedImage
        An object without any value in a band that is needed.

    Raises
    ------
    MelotteFileError
        When a file is missing, damaged or holds no images.
    MelotteValueError
        When bands, scale, unit, exposure, gain or zero point are missing or do not fit, stamps
        are too small, two have one id, or an option is not allowed.
    """
    chosen = options if isinstance(options, ImageOptions) else ImageOptions.parse(options or {})
    paths = [Path(source)] if isinstance(source, str | Path) else [Path(one) for one in source]
    if not paths:
        raise MelotteValueError("no file of images was given; give at least one")
    with ExitStack() as stack:
        parts = [
            part
            for path in paths
            for part in planes_of(path, stack, expected, chosen, len(paths) > 1)
        ]
        yield from _stacks(parts, paths, expected, chosen)


def _stacks(
    parts: Sequence[Planes],
    paths: Sequence[Path],
    expected: ExpectedImages,
    options: ImageOptions,
) -> Iterator[ImageStack | RejectedImage]:
    where = listed([str(path) for path in paths], most=3) if len(paths) > 1 else str(paths[0])
    first = parts[0]
    for part in parts[1:]:
        if part.n != first.n or part.shape != first.shape:
            raise MelotteValueError(
                f"{part.path} holds {part.n} stamps of {side_by_side(part.shape)} px and "
                f"{first.path} {first.n} of {side_by_side(first.shape)}; "
                "every band needs the same objects at the same size"
            )
    stated = [(header, str(part.path)) for part in parts for header in part.headers]
    headers = [
        options.of_plane(one, place, len(stated), path) for place, (one, path) in enumerate(stated)
    ]
    scale = common_scale(
        headers,
        lambda least, most: (
            f"{where}: pixel scales of its bands differ, {least:.4g} to {most:.4g} "
            "arcsec; bring them to one grid first, or give mosaics and positions"
        ),
    )
    refuse_unstated(headers, scale, expected, where)
    allow = options.missing_band == "allow"
    places = match_bands([one.band for one in headers], expected.bands, where, allow)
    used = [None if place is None else headers[place] for place in places]
    factors = [
        math.nan
        if one is None
        else counts_factor(one, expected.zero_points_ab.get(band, math.nan), f"{where}, {band}")
        for band, one in zip(expected.bands, used, strict=True)
    ]
    step, size = resampling_step(scale, expected), expected.size
    if min(first.shape) < size * step * (1 - 1e-3):
        stretched = "" if step == 1 else f" at {expected.pixel_scale:g} arcsec/px"
        raise MelotteValueError(
            f"{where}: stamps of {side_by_side(first.shape)} px at {scale:.4g} arcsec/px are "
            f"smaller than the model's {size}x{size}{stretched}; cut larger ones"
        )
    numbered = _numbered(paths[0], first.n)
    named = next((part for part in parts if part.ids), None)
    ids = told_apart(named.ids, numbered, str(named.path)) if named else numbered
    header: dict[str, Any] = {"sources": [str(path) for path in paths]}
    if step != 1:
        header["resampled_from"] = scale
        scale = scale * step
    template = template_stack(expected, used, scale, **header)
    missing = [place for place, one in enumerate(used) if one is None]
    for start in range(0, first.n, STACK_SIZE):
        rows = slice(start, min(start + STACK_SIZE, first.n))
        every = np.concatenate([part.read(rows) for part in parts], axis=1)
        images = np.full((len(every), len(places), size, size), np.nan, dtype=np.float32)
        for band, (place, factor) in enumerate(zip(places, factors, strict=True)):
            if place is not None:
                # What overflows is no measurement, and infinite values become bad pixels.
                with np.errstate(over="ignore", invalid="ignore"):
                    images[:, band] = _fitted(every[:, place], size, step) * np.float32(factor)
        yield from stacked(images, ids[rows], template, missing, allow)


def resampling_step(scale: float, expected: ExpectedImages) -> float:
    """Side of the model's pixels in pixels of a file; 1 where they are the same to 2 %.

    Raises
    ------
    MelotteValueError
        When one scale is more than twice the other.
    """
    if expected.pixel_scale is None or abs(scale / expected.pixel_scale - 1) <= SAME_SCALE:
        return 1.0
    ratio = expected.pixel_scale / scale
    if not 1 / LARGEST_RESCALING <= ratio <= LARGEST_RESCALING:
        raise MelotteValueError(
            f"the pixel scale {scale:.4g} arcsec is more than {LARGEST_RESCALING:g} times off the "
            f"model's {expected.pixel_scale:g}; images between "
            f"{expected.pixel_scale / LARGEST_RESCALING:g} and "
            f"{expected.pixel_scale * LARGEST_RESCALING:g} arcsec are resampled"
        )
    return ratio


def _fitted(images: Images, size: int, step: float) -> Images:
    """Stamps cropped about their centre, resampled first where the scale differs."""
    n_rows, n_columns = images.shape[-2:]
    if step != 1:
        return resampled(images, (n_columns - 1) / 2, (n_rows - 1) / 2, step, size)
    top, left = (n_rows - size) // 2, (n_columns - size) // 2
    return images[..., top : top + size, left : left + size]


def _numbered(path: Path, n: int) -> tuple[str, ...]:
    stem = path.name.split(".")[0] or path.name
    return tuple(f"{stem}-{number}" for number in range(1, n + 1))
