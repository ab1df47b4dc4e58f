"""Images brought to another pixel grid with their flux kept."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError, require
from melotte.io.image_files import chosen_hdu, open_fits, pixels, science_images
from melotte.io.image_headers import CAMERA_KEYWORDS, unread_coordinates
from melotte.io.light_map_options import SYSTEM_KEYWORDS, ZERO_POINT_KEYWORDS
from melotte.io.table_files import one_line

TOLERANCE = 1e-3
"""Fraction of an output pixel that may be without a value before it counts as bad."""

TILE = 1024
"""Side in px of the tiles in which a mosaic is reprojected."""

Images = NDArray[np.float32]


def overlap(n_in: int, n_out: int, start: float, step: float) -> NDArray[np.float64]:
    """Length of input pixels inside each output pixel along one axis, shape (n_out, n_in).

    Parameters
    ----------
    n_in, n_out : int, >= 1
    start : float, input px
        Lower edge of the first output pixel; the first input pixel covers 0 to 1.
    step : float, input px, > 0
        Side of an output pixel.
    """
    lower = start + step * np.arange(n_out)[:, None]
    edges = np.arange(n_in)[None]
    shared = np.minimum(lower + step, edges + 1) - np.maximum(lower, edges)
    return np.clip(shared, 0, None)


def resampled(images: NDArray[Any], x: float, y: float, step: float, size: int) -> Images:
    """Stamps about a point with pixels of another size, each given the flux that falls in it.

    Pixels are taken to be evenly filled, so the sum over an area keeps its value to rounding.

    Parameters
    ----------
    images : array, shape (..., n_rows, n_columns)
        Flux a pixel; not finite where there is no value.
    x, y : float, px
        Column and row of the stamps' centre; the centre of the first pixel is 0.
    step : float, > 0
        Side of an output pixel in input pixels.
    size : int, px

    Returns
    -------
    array, float32, shape (..., size, size)
        Flux a pixel, NaN where more than a thousandth of the pixel has no value.
    """
    n_rows, n_columns = images.shape[-2:]
    rows = overlap(n_rows, size, y + 0.5 - step * size / 2, step)
    columns = overlap(n_columns, size, x + 0.5 - step * size / 2, step)
    valid = np.isfinite(images)
    flux = rows @ np.where(valid, images, 0).astype(np.float64) @ columns.T
    covered = rows @ valid.astype(np.float64) @ columns.T / step**2
    with np.errstate(divide="ignore", invalid="ignore"):
        out = np.where(covered > 1 - TOLERANCE, flux / covered, np.nan)
    return out.astype(np.float32)


def reprojected(image: NDArray[Any], wcs: Any, target: Any, shape: tuple[int, int]) -> Images:
    """An image on the grid of other celestial coordinates, turned, scaled and distorted as needed.

    The overlap of pixels on the sphere shares out the flux exactly.

    Parameters
    ----------
    image : array, shape (n_rows, n_columns)
        Flux a pixel; not finite where there is no value.
    wcs, target : astropy WCS
        Coordinates of the image and of the grid wanted.
    shape : (int, int)
        Rows and columns of the grid.

    Returns
    -------
    array, float32, shape ``shape``
        Flux a pixel; NaN outside the image and where a pixel without a value overlaps.

    Raises
    ------
    MissingExtraError
        When the package ``reproject`` is not installed (extra ``images``).
    """
    reproject: Any = require("reproject", "images")
    values = np.where(np.isfinite(image), image, np.nan).astype(np.float64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        density, footprint = reproject.reproject_exact((values, wcs), target, shape_out=shape)
        ratio = _pixel_area(target, shape) / _pixel_area(wcs, image.shape)
    with np.errstate(invalid="ignore"):
        good = (footprint > 1 - TOLERANCE) & np.isfinite(density)
    return np.where(good, density * ratio, np.nan).astype(np.float32)


def same_grid(wcs: Any, target: Any, shape: tuple[int, int], slack: float = 0.1) -> bool:
    """Whether two images of one shape have their corners at the same places, to ``slack`` pixels.

    Images without coordinates (None) of the same shape count as being on one grid.
    """
    if wcs is None or target is None:
        return True
    columns, rows = np.array([0, shape[1] - 1] * 2), np.repeat([0, shape[0] - 1], 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        x, y = wcs.world_to_pixel(target.pixel_to_world(columns, rows))
    return bool(max(np.abs(x - columns).max(), np.abs(y - rows).max()) < slack)


def _pixel_area(wcs: Any, shape: Sequence[int]) -> float:
    """Solid angle (sr) of the pixel at the middle of an image, from its corners on the sphere."""
    row, column = (shape[0] - 1) / 2, (shape[1] - 1) / 2
    corners = wcs.pixel_to_world(
        column + np.array([-0.5, 0.5, 0.5, -0.5]), row + np.array([-0.5, -0.5, 0.5, 0.5])
    )
    points = np.stack([axis.value for axis in corners.cartesian.xyz], axis=-1)
    across, along = points[2] - points[0], points[3] - points[1]
    return float(np.linalg.norm(np.cross(across, along)) / 2)


def reproject_mosaics(
    paths: Sequence[str | Path],
    target: str | Path,
    output: str | Path,
    *,
    hdu: str = "",
    overwrite: bool = False,
) -> None:
    """Bring the images of one band, such as bricks that overlap, to the grid of another image.

    Flux a pixel is kept: overlaps are averaged, pixels that no image covers are NaN. The work
    goes tile by tile; neither the images nor the result lie whole in memory.

    Parameters
    ----------
    paths : sequence of paths
        FITS images of one band and unit, flux or counts per second a pixel, with celestial
        coordinates.
    target : path
        FITS image whose grid is wanted.
    output : path
        FITS file to write: one float32 image with the target's coordinates and the first image's
        filter, exposure, unit and zero point.
    hdu : str
        Number or name of the extension of all files; the first image by default.
    overwrite : bool
        Whether an existing file is replaced.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When a file cannot be read or written, or has no celestial coordinates.
    MissingExtraError
        When the package ``reproject`` is not installed (extra ``images``).
    """
    from contextlib import ExitStack

    from astropy.io import fits

    require("reproject", "images")
    if Path(output).exists() and not overwrite:
        raise MelotteFileError(f"{output} exists already; choose another name or overwrite=True")
    with ExitStack() as stack:
        files = [Path(path) for path in paths]
        if not files:
            raise MelotteValueError("no image was given; give at least one FITS file")
        opened = [stack.enter_context(open_fits(path)) for path in files]
        images = [first_image(one, path, hdu) for one, path in zip(opened, files, strict=True)]
        coordinates = [
            celestial(image, one, path)
            for image, one, path in zip(images, opened, files, strict=True)
        ]
        goal = stack.enter_context(open_fits(Path(target)))
        grid = first_image(goal, Path(target), hdu)
        wanted = celestial(grid, goal, Path(target))
        shape = (int(grid.shape[-2]), int(grid.shape[-1]))
        header = wanted.to_header()
        for card in [*opened[0][0].header.cards, *images[0].header.cards]:
            if card.keyword in _KEPT:
                header[card.keyword] = (card.value, card.comment)
        try:
            _preallocate(Path(output), header, shape)
            with fits.open(output, mode="update", memmap=True) as result:
                written: Any = result[0]
                for top in range(0, shape[0], TILE):
                    for left in range(0, shape[1], TILE):
                        rows = slice(top, min(top + TILE, shape[0]))
                        columns = slice(left, min(left + TILE, shape[1]))
                        written.data[rows, columns] = _tile(
                            images, coordinates, files, wanted, rows, columns
                        )
                    result.flush()
        except OSError as error:
            if isinstance(error, MelotteFileError):
                raise
            raise MelotteFileError(f"{output} cannot be written: {one_line(error)}") from error


_KEPT = frozenset((*CAMERA_KEYWORDS, *ZERO_POINT_KEYWORDS, *SYSTEM_KEYWORDS))


def _preallocate(output: Path, header: Any, shape: tuple[int, int]) -> None:
    """Write a FITS file of the right length without holding its pixels."""
    from astropy.io import fits

    blank = fits.PrimaryHDU(header=header)
    blank.header["BITPIX"] = -32
    blank.header["NAXIS"] = 2
    blank.header.set("NAXIS1", shape[1], after="NAXIS")
    blank.header.set("NAXIS2", shape[0], after="NAXIS1")
    text = blank.header.tostring(padding=True).encode("ascii")
    length = len(text) + -(-4 * shape[0] * shape[1] // 2880) * 2880
    with output.open("wb") as file:
        file.write(text)
        file.truncate(length)


def _tile(
    images: Sequence[Any],
    coordinates: Sequence[Any],
    files: Sequence[Path],
    wanted: Any,
    rows: slice,
    columns: slice,
) -> Images:
    """Mean of the images on one tile of the grid."""
    shape = (rows.stop - rows.start, columns.stop - columns.start)
    goal = wanted[rows, columns]
    total = np.zeros(shape)
    count = np.zeros(shape)
    for image, wcs, path in zip(images, coordinates, files, strict=True):
        part = _window_of(goal, shape, wcs, image.shape)
        if part is None:
            continue
        one = reprojected(pixels(image, part, path), wcs[part], goal, shape)
        good = np.isfinite(one)
        total[good] += one[good]
        count += good
    with np.errstate(invalid="ignore", divide="ignore"):
        return (total / count).astype(np.float32)


def _window_of(
    goal: Any, shape: tuple[int, int], wcs: Any, extent: Sequence[int]
) -> tuple[slice, slice] | None:
    """The part of an image that holds a tile; None when they do not meet."""
    side = np.linspace(-1, 1, 9)
    column = np.concatenate([side, side, -np.ones(9), np.ones(9)]) * shape[1] / 2
    row = np.concatenate([-np.ones(9), np.ones(9), side, side]) * shape[0] / 2
    sky = goal.pixel_to_world(column + (shape[1] - 1) / 2, row + (shape[0] - 1) / 2)
    x, y = (np.asarray(axis) for axis in wcs.world_to_pixel(sky))
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        return None
    margin = 3
    slices = []
    for values, n in ((y, extent[-2]), (x, extent[-1])):
        low = max(math.floor(values.min()) - margin, 0)
        high = min(math.ceil(values.max()) + margin + 1, n)
        if high - low < 2:
            return None
        slices.append(slice(low, high))
    return slices[0], slices[1]


def first_image(opened: Any, path: Path, hdu: str = "") -> Any:
    """The image of a mosaic: the extension named, else ``SCI``, else the first with two axes.

    Weights, masks, errors and the like are passed over.

    Raises
    ------
    MelotteFileError
        When the file has no image of the sky of two axes.
    MelotteValueError
        When the extension named is not there or is no such image.
    """
    if hdu:
        chosen = chosen_hdu(opened, hdu, path)
        if len(getattr(chosen, "shape", ())) != 2:
            raise MelotteValueError(f"{path}: extension {hdu} is no image with two axes")
        return chosen
    science = science_images(opened)
    flat = [one for one in science if len(one.shape) == 2]
    if not flat:
        sides = ", ".join(" x ".join(map(str, one.shape)) for one in science)
        raise MelotteFileError(
            f"{path} has no image with two axes{sides and f' but one of {sides}'}; a mosaic is one "
            "image a band (stamps are read without --mosaic)"
        )
    return next((one for one in flat if one.name == "SCI"), flat[0])


def celestial(hdu: Any, opened: Any, path: Path, needed: bool = True) -> Any:
    """Celestial coordinates of an image with its distortions, or None where it has none.

    Raises
    ------
    MelotteValueError
        When they are needed and absent.
    """
    from astropy.wcs import WCS

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(hdu.header, fobj=opened)
            text = unread_coordinates(hdu.header)
            if wcs.has_celestial and not text:
                return wcs.celestial
            reason = "no celestial coordinates (CTYPE1, CTYPE2)"
            if text:
                reason = f"coordinates that cannot be read ({text} is not a number)"
        # A broken WCS raises errors of many classes.
        except Exception as error:
            reason = f"coordinates that cannot be read ({one_line(error)})"
    if needed:
        raise MelotteValueError(f"{path} has {reason}; a WCS is needed here")
    return None
