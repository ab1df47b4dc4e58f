"""Files of images opened without reading them whole; damaged and foreign ones in one line."""

from __future__ import annotations

import gzip
import shutil
import tempfile
import warnings
import zlib
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.io.table_files import one_line, shortened

ALLOWED_IMAGES = "FITS (plain, .gz or .fz), HDF5 or npy"
"""The formats of images, as error messages list them."""

BLANK_SHARE = 0.01
"""Share of exact zeros in an image of real numbers from which they are no measurements."""

_NOT_SCIENCE = ("ERR", "DQ", "WHT", "CTX", "VAR", "MASK", "EXP", "RMS", "IVM")
"""Names of extensions that hold no image of the sky."""

_TILE = 64
"""Side in px of the parts of a whole image in which blank pixels are counted."""

ImageFormat = Literal["fits", "hdf5", "npy"]

_MAGIC: tuple[tuple[bytes, ImageFormat], ...] = (
    (b"SIMPLE  =", "fits"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\x93NUMPY", "npy"),
)


def image_format(path: Path) -> ImageFormat:
    """Kind of an image file, told from its first bytes; a gzipped FITS file is ``"fits"``.

    Raises
    ------
    MelotteFileError
        When the file is missing, a folder, empty, unreadable or none of these kinds.
    """
    head = _first_bytes(path)
    if not head:
        raise MelotteFileError(f"{path} is empty; {ALLOWED_IMAGES} is needed")
    for magic, kind in _MAGIC:
        if head.startswith(magic):
            return kind
    raise MelotteFileError(f"{path} is no file of images; {ALLOWED_IMAGES} is needed")


def _first_bytes(path: Path, n: int = 64) -> bytes:
    try:
        if path.is_dir():
            raise MelotteFileError(f"{path} is a folder; give a file: {ALLOWED_IMAGES}")
        with path.open("rb") as file:
            head = file.read(n)
        if head[:2] != b"\x1f\x8b":
            return head
        with gzip.open(path, "rb") as packed:
            return packed.read(n)
    except FileNotFoundError as error:
        raise MelotteFileError(f"{path} does not exist; give {ALLOWED_IMAGES}") from error
    except (OSError, EOFError, ValueError, zlib.error) as error:
        if isinstance(error, MelotteFileError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise MelotteFileError(f"{shortened(str(path), 200)} cannot be read: {reason}") from error


@contextmanager
def open_fits(path: Path) -> Iterator[Any]:
    """Open a FITS file for reading parts of it; a gzipped one is unpacked into a temporary file.

    Parameters
    ----------
    path : Path

    Yields
    ------
    astropy HDUList
        Memory-mapped; pixels are read by :func:`pixels`.

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated, damaged or no FITS file.
    """
    from astropy.io import fits

    if image_format(path) != "fits":
        raise MelotteFileError(f"{path} is no FITS file; FITS (plain, .gz or .fz) is needed")
    with ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="melotte-"))
        file = stack.enter_context(_unpacked(path, Path(folder)).open("rb"))
        with warnings.catch_warnings(record=True) as heard:
            warnings.simplefilter("always")
            try:
                opened = fits.open(file, memmap=True, do_not_scale_image_data=True)
                stack.callback(opened.close)
                len(opened)
            # A damaged FITS file surfaces as whichever exception astropy's parser stumbles into.
            except Exception as error:
                raise MelotteFileError(
                    f"{path}: the FITS file is truncated or damaged ({one_line(error)})"
                ) from error
        for warning in heard:
            if "truncated" in str(warning.message):
                said = shortened(str(warning.message), 120)
                raise MelotteFileError(
                    f"{path}: the FITS file is truncated ({said}); fetch it again"
                )
        yield opened


def _unpacked(path: Path, folder: Path) -> Path:
    """The file itself, or its content without gzip in a folder."""
    with path.open("rb") as file:
        if file.read(2) != b"\x1f\x8b":
            return path
    plain = folder / "image.fits"
    try:
        with gzip.open(path, "rb") as packed, plain.open("wb") as out:
            shutil.copyfileobj(packed, out, 1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise MelotteFileError(
            f"{path}: the gzip stream is cut short or damaged ({one_line(error)}); "
            "fetch the file again"
        ) from error
    return plain


@contextmanager
def reading_fits(path: Path) -> Iterator[None]:
    """Turn whatever a damaged FITS header makes astropy raise into a MelotteFileError.

    Raises
    ------
    MelotteFileError
        In place of any error that is none of melotte's.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield
        except MelotteError:
            raise
        # Damaged cards surface as whichever exception astropy's parser stumbles into.
        except Exception as error:
            raise MelotteFileError(
                f"{path}: the FITS file is damaged ({one_line(error)}); fetch it again"
            ) from error


def is_image(hdu: Any) -> bool:
    """Whether an HDU holds pixels, compressed or not; shape is read from the header alone."""
    return bool(getattr(hdu, "is_image", False)) and len(getattr(hdu, "shape", ())) >= 2


def chosen_hdu(opened: Any, hdu: int | str, path: Path) -> Any:
    """The extension that the option ``hdu`` names, by number or name.

    Raises
    ------
    MelotteValueError
        When there is none.
    """
    try:
        return opened[int(hdu) if str(hdu).isdigit() else str(hdu)]
    except (KeyError, IndexError) as error:
        names = ", ".join(f"{number} {one.name}".strip() for number, one in enumerate(opened))
        raise MelotteValueError(f"{path} has no extension {hdu!r}; found: {names}") from error


def merged_header(opened: Any, hdu: Any) -> dict[str, Any]:
    """Keywords of an extension, and of the primary header where the extension is silent."""
    merged: dict[str, Any] = {}
    for header in (opened[0].header, hdu.header):
        for keyword in header:
            if keyword and keyword not in ("COMMENT", "HISTORY"):
                value = header[keyword]
                if value is not None and str(value).strip() != "":
                    merged[str(keyword)] = value
    return merged


def pixels(hdu: Any, part: tuple[slice, ...], path: Path) -> NDArray[np.float32]:
    """A part of an image as native float32, read without the rest.

    Plain images are memory-mapped, compressed ones read tile by tile. BSCALE, BZERO and BLANK are
    applied here, since astropy would read all of a scaled image first.

    Raises
    ------
    MelotteFileError
        When the pixels cannot be read or are complex.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            compressed = type(hdu).__name__ == "CompImageHDU"
            raw = np.asarray((hdu.section if compressed else hdu.data)[part])
            values = raw.astype(np.float32)
            scale, zero = hdu.header.get("BSCALE", 1), hdu.header.get("BZERO", 0)
            if (scale, zero) != (1, 0):
                values = (raw.astype(np.float64) * scale + zero).astype(np.float32)
            if raw.dtype.kind in "iu" and "BLANK" in hdu.header:
                values[raw == hdu.header["BLANK"]] = np.nan
            return values
    # Damaged compressed tiles surface as whichever exception the decoder stumbles into.
    except Exception as error:
        raise MelotteFileError(
            f"{path}: its pixels cannot be read ({one_line(error)}); fetch the file again"
        ) from error


def science_images(opened: Any) -> list[Any]:
    """The extensions with an image of the sky, in the file's order."""
    return [one for one in opened if is_image(one) and one.name not in _NOT_SCIENCE]


def weight_of(hdu: Any, opened: Any) -> Any:
    """The extension WHT that goes with an image, of its shape; None if there is none.

    That of the number (EXTVER) of an image called SCI; otherwise, of as many as there are images,
    the one in the same place, and a single one goes with all.
    """
    return _beside(hdu, opened, "WHT")


def mask_of(hdu: Any, opened: Any, path: Path) -> Any:
    """The extension MASK that goes with an image, as WHT does; None if there is none.

    Raises
    ------
    MelotteFileError
        When there are masks, all of another shape.
    """
    mask = _beside(hdu, opened, "MASK")
    others = [one for one in opened if one.name == "MASK" and is_image(one)]
    if mask is None and others and all(one.shape != hdu.shape for one in others):
        raise MelotteFileError(f"{path}: its MASK has another shape than its image")
    return mask


def _beside(hdu: Any, opened: Any, name: str) -> Any:
    found = [one for one in opened if is_image(one) and one.shape == hdu.shape and one.name == name]
    images = [one for one in science_images(opened) if one.shape == hdu.shape]
    if hdu.name == "SCI" and sum((one.name, one.ver) == ("SCI", hdu.ver) for one in images) == 1:
        return next((one for one in found if one.ver == hdu.ver), None)
    if len(found) == len(images):
        return next((one for one, image in zip(found, images, strict=True) if image is hdu), None)
    return found[0] if len(found) == 1 else None


def measured_pixels(
    hdu: Any, weight: Any, part: tuple[slice, ...], path: Path, mask: Any = None
) -> NDArray[np.float32]:
    """A part of an image in its own unit, NaN where it is not known.

    Parameters
    ----------
    hdu : FITS extension
    weight : FITS extension of the same shape, or None
        See :func:`weight_of`; pixels are known where it is above 0.
    part : tuple of slice
        Of each axis.
    path : Path
        For messages.
    mask : FITS extension of the same shape, or None
        See :func:`mask_of`; pixels are known where it is 0.

    Returns
    -------
    array, float32
        NaN also where the image is not finite or blank, see :func:`unfilled`.

    Raises
    ------
    MelotteFileError
        When the pixels cannot be read.
    """
    values = weighed_pixels(hdu, weight, part, path, mask)
    return unfilled(values) if has_real_numbers(hdu) else values


def weighed_pixels(
    hdu: Any, weight: Any, part: tuple[slice, ...], path: Path, mask: Any = None
) -> NDArray[np.float32]:
    """The same with blank pixels as they are."""
    values = pixels(hdu, part, path)
    values[~np.isfinite(values)] = np.nan
    if weight is not None:
        values[~(pixels(weight, part, path) > 0)] = np.nan
    if mask is not None:
        values[pixels(mask, part, path) != 0] = np.nan
    return values


def has_real_numbers(array: Any) -> bool:
    """Whether an image's or array's values are real: exact zeros of integers are measurements."""
    header = getattr(array, "header", None)
    return array.dtype.kind == "f" if header is None else header.get("BITPIX", 0) < 0


def unfilled(images: NDArray[np.float32], tiled: bool = False) -> NDArray[np.float32]:
    """Images of real numbers whose exact zeros are NaN where they are too many to be measured.

    Drizzled mosaics are 0 where no exposure reaches.

    Parameters
    ----------
    images : array, float32, shape (..., n_rows, n_columns)
        Changed in place, each image on its own.
    tiled : bool
        Whether zeros are counted in parts of the size of a stamp, as a field needs it whose border
        is a small share of it.
    """
    n_rows, n_columns = images.shape[-2:]
    side = _TILE if tiled else max(n_rows, n_columns, 1)
    for top in range(0, n_rows, side):
        for left in range(0, n_columns, side):
            part = images[..., top : top + side, left : left + side]
            blank = part == 0
            part[blank & (blank.mean(axis=(-2, -1), keepdims=True) > BLANK_SHARE)] = np.nan
    return images
