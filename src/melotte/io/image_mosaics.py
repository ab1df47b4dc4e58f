"""Cutouts out of mosaics, one FITS image a band or several bricks of it, at given positions."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.image_cutouts import resampling_step
from melotte.io.image_files import (
    mask_of,
    measured_pixels,
    merged_header,
    open_fits,
    reading_fits,
    weight_of,
)
from melotte.io.image_grids import CORNERS, reference_band, tangent_plane, to_pixel, to_sky
from melotte.io.image_headers import BandHeader, match_bands, plain_band, read_band_header
from melotte.io.image_positions import ImagePositions, read_positions
from melotte.io.image_stacking import SKY, stacked, template_stack
from melotte.io.image_stacks import (
    STACK_SIZE,
    ExpectedImages,
    ImageOptions,
    Images,
    ImageStack,
    RejectedImage,
    refuse_unstated,
)
from melotte.io.image_units import counts_factor
from melotte.io.reprojection import celestial, first_image, reprojected, resampled
from melotte.io.table_files import listed

if TYPE_CHECKING:
    from astropy.table import Table

Array = NDArray[np.float64]

MISALIGNED = 0.1
"""px by which the corners of a stamp may be off another band's pixels and still be copied."""

_MARGIN = 3


@dataclass(frozen=True)
class _Mosaic:
    """One image of one band."""

    path: Path
    hdu: Any
    weight: Any
    mask: Any
    wcs: Any
    header: BandHeader
    factor: float

    @property
    def shape(self) -> tuple[int, int]:
        """Rows and columns."""
        return int(self.hdu.shape[0]), int(self.hdu.shape[1])

    def window(self, top: int, left: int, n_rows: int, n_columns: int) -> Images:
        """A part in counts/s, NaN outside the image and where nothing is known."""
        values = np.full((n_rows, n_columns), np.nan, dtype=np.float32)
        rows = slice(max(top, 0), min(top + n_rows, self.shape[0]))
        columns = slice(max(left, 0), min(left + n_columns, self.shape[1]))
        if rows.stop <= rows.start or columns.stop <= columns.start:
            return values
        part = measured_pixels(self.hdu, self.weight, (rows, columns), self.path, self.mask)
        place = (
            slice(rows.start - top, rows.stop - top),
            slice(columns.start - left, columns.stop - left),
        )
        # What overflows is no measurement, and infinite values become bad pixels.
        with np.errstate(over="ignore", invalid="ignore"):
            values[place] = part * np.float32(self.factor)
        return values


def read_mosaic_cutouts(
    paths: Sequence[str | Path],
    positions: str | Path | Table | ImagePositions,
    expected: ExpectedImages,
    options: ImageOptions | Mapping[str, Any] | None = None,
) -> Iterator[ImageStack | RejectedImage]:
    """Cut stamps in all bands at given positions, in counts per second.

    The grid is that of the first band the model reads, or, for a model of a range of pixel scales,
    of the first whose scale lies in it; the stamp's centre is on the nearest half or whole pixel.
    Bands on the same grid are copied; others are resampled with their flux kept, and those turned
    against it reprojected. Of several images of a band, each object is cut from the one it lies
    deepest inside. Only the pixels that are needed are read; they are NaN where they have no
    weight (WHT), are masked (MASK) or blank.

    Parameters
    ----------
    paths : sequence of paths
        FITS images, plain, gzipped or tile-compressed; at least one a band.
    positions : path, astropy Table or ImagePositions
        ``ra`` and ``dec``, or ``x`` and ``y`` in pixels of the first file.
    expected : ExpectedImages
    options : ImageOptions or mapping, optional

    Yields
    ------
    ImageStack
        Up to 256 objects; the header lists their ``ra`` and ``dec`` (deg) and their ``x`` and
        ``y`` (px, from 0) in the image ``grid``, that of the band whose grid is used.
    RejectedImage
        An object without a position, outside a mosaic or without any value in a band. Stacks and
        these come in the table's order.

    Raises
    ------
    MelotteFileError
        When a file is missing, damaged or holds no image.
    MelotteValueError
        When bands, scale, unit or coordinates are missing or do not fit, or an option is not
        allowed.
    MissingExtraError
        When bands are turned against each other and the package ``reproject`` is not installed
        (extra ``images``).
    """
    chosen = options if isinstance(options, ImageOptions) else ImageOptions.parse(options or {})
    files = [Path(path) for path in paths]
    if not files:
        raise MelotteValueError("no mosaic was given; give one FITS image a band")
    where = listed([str(path) for path in files], most=3)
    table = positions
    if not isinstance(table, ImagePositions):
        table = read_positions(table, chosen.column, chosen.pixel_origin)
    with ExitStack() as stack:
        mosaics = [
            _opened(path, stack, expected, chosen, place, len(files))
            for place, path in enumerate(files)
        ]
        refuse_unstated(
            [one.header for one in mosaics], mosaics[0].header.pixel_scale, expected, where
        )
        names = list(dict.fromkeys(plain_band(one.header.band) for one in mosaics))
        places = match_bands(names, expected.bands, where, chosen.missing_band == "allow")
        bands = [
            []
            if place is None
            else [one for one in mosaics if plain_band(one.header.band) == names[place]]
            for place in places
        ]
        bands = [
            [_with_factor(one, band, expected) for one in ones]
            for band, ones in zip(expected.bands, bands, strict=True)
        ]
        cutter = _Cutter(mosaics[0], bands, expected, chosen.missing_band == "allow", where)
        for start in range(0, len(table), STACK_SIZE):
            yield from cutter.stacks(table, slice(start, min(start + STACK_SIZE, len(table))))


def _opened(
    path: Path,
    stack: ExitStack,
    expected: ExpectedImages,
    options: ImageOptions,
    place: int,
    n: int,
) -> _Mosaic:
    opened = stack.enter_context(open_fits(path))
    with reading_fits(path):
        hdu = first_image(opened, path, options.hdu)
        header = read_band_header(merged_header(opened, hdu), None, path)
        header = options.of_plane(header, place, n, str(path))
        wcs = celestial(hdu, opened, path, needed=False)
        weight, mask = weight_of(hdu, opened), mask_of(hdu, opened, path)
        return _Mosaic(path, hdu, weight, mask, wcs, header, math.nan)


def _with_factor(one: _Mosaic, band: str, expected: ExpectedImages) -> _Mosaic:
    reference = expected.zero_points_ab.get(band, math.nan)
    return replace(one, factor=counts_factor(one.header, reference, str(one.path)))


class _Cutter:
    """Cuts stamps of all bands on the grid of one of them."""

    def __init__(
        self,
        first: _Mosaic,
        bands: Sequence[Sequence[_Mosaic]],
        expected: ExpectedImages,
        allow_empty: bool,
        where: str,
    ) -> None:
        self.first = first
        self.bands = bands
        self.expected = expected
        self.allow_empty = allow_empty
        scales = [[one.header.pixel_scale for one in ones] for ones in bands]
        self.reference = reference_band(scales, expected.served_scales)
        every = [one for ones in bands for one in ones]
        bare = [one for one in [first, *every] if one.wcs is None]
        self.on_sky = not bare
        if bare and (len({one.shape for one in every}) > 1 or any(len(one) > 1 for one in bands)):
            raise MelotteValueError(
                f"{bare[0].path} has no celestial coordinates and {where} differ in size; "
                "a WCS, or one image a band on the same grid, is needed"
            )

    def stacks(self, table: ImagePositions, rows: slice) -> Iterator[ImageStack | RejectedImage]:
        """Stamps of some rows of a table, in its order."""
        ids = table.ids[rows]
        at, sky, located = self._located(table, rows)
        chosen = np.zeros((len(ids), len(self.bands)), dtype=np.int64)
        pixel = np.full((len(ids), 2), np.nan)
        inside = np.zeros(len(ids), dtype=bool)
        for place, ones in enumerate(self.bands):
            if not ones:
                continue
            there = np.stack([at if sky is None else to_pixel(one.wcs, sky) for one in ones])
            extent = np.array([one.shape[::-1] for one in ones])[:, None]
            depth = np.minimum(there + 0.5, extent - 0.5 - there).min(axis=-1)
            depth = np.where(np.isfinite(depth) & located, depth, -np.inf)
            chosen[:, place] = depth.argmax(axis=0)
            if place == self.reference:
                pixel = np.take_along_axis(there, chosen[:, place][None, :, None], 0)[0]
                inside = depth.max(axis=0) > 0
        by_object = {"x": pixel[:, 0], "y": pixel[:, 1]}
        if sky is not None:
            by_object |= {"ra": sky.ra.deg, "dec": sky.dec.deg}

        def combination(row: int) -> tuple[int, ...] | None:
            return tuple(chosen[row].tolist()) if inside[row] else None

        # One stack has one exposure a band, so objects of different bricks go apart.
        for numbers, run in groupby(range(len(ids)), key=combination):
            members = list(run)
            if numbers is None:
                yield from (self._rejected(ids[row], row, by_object, located) for row in members)
                continue
            mosaics = [
                ones[number] if ones else None
                for ones, number in zip(self.bands, numbers, strict=True)
            ]
            yield from self._stack(
                mosaics,
                pixel[members],
                [ids[row] for row in members],
                {name: values[members].tolist() for name, values in by_object.items()},
            )

    def _rejected(
        self, name: str, row: int, by_object: Mapping[str, Array], located: NDArray[np.bool_]
    ) -> RejectedImage:
        """An object that is in no image of the band whose grid is used."""
        if not located[row]:
            return RejectedImage(name, "no position", int(Flag.FAILED))
        band = self.expected.bands[self.reference]
        columns = {key: float(by_object[key][row]) for key in SKY if key in by_object}
        return RejectedImage(name, f"outside the mosaic of {band}", int(Flag.FAILED), columns)

    def _located(self, table: ImagePositions, rows: slice) -> tuple[Array, Any, NDArray[np.bool_]]:
        """Pixels in the first file, sky positions (None without a WCS), and which are known."""
        on_sky = self.on_sky and table.ra is not None and table.dec is not None
        first, second = (table.ra, table.dec) if on_sky else (table.x, table.y)
        if first is None or second is None:
            raise MelotteValueError(
                f"{self.first.path} has no celestial coordinates for columns ra and dec; "
                "give columns x and y"
            )
        given = np.stack([first[rows], second[rows]], axis=-1)
        known = np.asarray(np.isfinite(given).all(axis=-1))
        given = np.where(known[:, None], given, 0.0)
        if on_sky:
            from astropy.coordinates import SkyCoord

            return given, SkyCoord(given[:, 0], given[:, 1], unit="deg", frame="icrs"), known
        return given, to_sky(self.first.wcs, given) if self.on_sky else None, known

    def _stack(
        self,
        mosaics: Sequence[_Mosaic | None],
        pixel: Array,
        ids: Sequence[str],
        by_object: Mapping[str, Sequence[Any]],
    ) -> Iterator[ImageStack | RejectedImage]:
        """Stamps about pixels of the reference band, all bands from one image each."""
        expected, size = self.expected, self.expected.size
        used = [None if one is None else one.header for one in mosaics]
        reference = mosaics[self.reference]
        if reference is None:
            return
        step = resampling_step(reference.header.pixel_scale, expected)
        header: dict[str, Any] = {
            "sources": [str(one.path) if one else "" for one in mosaics],
            "grid": str(reference.path),
        }
        centre = pixel
        if step == 1:
            centre = _nearest(pixel, size) + (size - 1) / 2
        else:
            header["resampled_from"] = reference.header.pixel_scale
        corners = centre[:, None] + size / 2 * step * CORNERS
        sky = to_sky(reference.wcs, corners) if self.on_sky else None
        images = np.full((len(ids), len(mosaics), size, size), np.nan, dtype=np.float32)
        moved: set[str] = set()
        for place, one in enumerate(mosaics):
            if one is None:
                continue
            there = corners
            if sky is not None and one is not reference:
                there = to_pixel(one.wcs, sky)
            for row in np.flatnonzero(np.isfinite(there).all(axis=(1, 2))).tolist():
                target = None if sky is None else sky[row]
                images[row, place], copied = _stamp(one, there[row], target, size)
                if not copied:
                    moved.add(expected.bands[place])
        header["resampled_bands"] = [band for band in expected.bands if band in moved]
        scale = reference.header.pixel_scale * step
        template = template_stack(expected, used, scale, **header)
        absent = [place for place, one in enumerate(mosaics) if one is None]
        yield from stacked(images, ids, template, absent, self.allow_empty, by_object)


def _nearest(pixel: Array, size: int) -> Array:
    """First pixel of stamps about positions; of two as near, the lower whatever the rounding."""
    return np.ceil(pixel - (size - 1) / 2 - 0.5 - 1e-6)


def _stamp(one: _Mosaic, corners: Array, sky: Any, size: int) -> tuple[Images, bool]:
    """A stamp whose outer corners lie at given pixels, and whether its pixels were copied."""
    centre = corners.mean(axis=0)
    first = _nearest(centre, size)
    straight = first + (size - 1) / 2 + CORNERS * size / 2
    if np.abs(corners - straight).max() < MISALIGNED:
        return one.window(int(first[1]), int(first[0]), size, size), True
    low = np.floor(corners.min(axis=0)).astype(int) - _MARGIN
    high = np.ceil(corners.max(axis=0)).astype(int) + _MARGIN + 1
    window = one.window(int(low[1]), int(low[0]), int(high[1] - low[1]), int(high[0] - low[0]))
    along = corners[2] - corners[0]
    step = float(np.sqrt(np.abs(along[0] * along[1]))) / size
    upright = centre + CORNERS * step * size / 2
    if sky is None or np.abs(corners - upright).max() < MISALIGNED:
        x, y = (centre - low).tolist()
        return resampled(window, x, y, step, size), False
    edges = (low + high - 1) / 2 + CORNERS * (high - low) / 2
    here = tangent_plane(to_sky(one.wcs, edges), window.shape)
    return reprojected(window, here, tangent_plane(sky, (size, size)), (size, size)), False
