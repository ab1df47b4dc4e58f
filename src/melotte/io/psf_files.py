"""Point-spread functions from files: STScI's grids of empirical PSFs, and any FITS image.

The values are returned as they are needed by :class:`melotte.telescope.psf.PSFGrid` and
:class:`melotte.telescope.psf.SampledPSF`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteFileError, MelotteValueError

BLOCK = 2880
"""Bytes of a FITS block."""

EPSF_OVERSAMPLING = 4
"""Samples of STScI's empirical PSFs across a detector's pixel (Anderson 2016, ISR WFC3 2016-12)."""

UVIS_PIXEL = 0.03962
"""Mean native pixel of WFC3/UVIS, arcsec, for which those PSFs hold."""

MARKER = -0.099
"""Values from here down mark samples without data, in border rows."""

SCALE_KEYWORDS = ("PIXELSCL", "PIXSCALE")
"""Header keywords that give arcsec per sample: of STPSF and of Tiny Tim."""


@dataclass(frozen=True)
class PSFGridFile:
    """Effective PSFs at positions of a chip.

    Parameters
    ----------
    images : Tensor of float32, shape (n_y, n_x, n, n)
        Samples without data are 0.
    x : tuple of float, shape (n_x,), pixels, ascending
    y : tuple of float, shape (n_y,), pixels, ascending; a value may stand twice, where one chip
        ends and the next begins
    scale : float, arcsec per sample
    """

    images: Tensor
    x: tuple[float, ...]
    y: tuple[float, ...]
    scale: float


@dataclass(frozen=True)
class PSFImageFile:
    """One PSF.

    Parameters
    ----------
    image : Tensor of float64, shape (n_rows, n_columns)
    scale : float, arcsec per sample
    """

    image: Tensor
    scale: float


def read_psf_grid(
    path: Path | str, *, pixel_scale: float = UVIS_PIXEL, oversampling: int = EPSF_OVERSAMPLING
) -> PSFGridFile:
    """Read a grid of STScI's empirical PSFs (``PSFSTD_*.fits``).

    The header is read card by card and the samples from the bytes that follow: what comes after
    them in some of these files is no valid FITS, and is left alone.

    Parameters
    ----------
    path : path
    pixel_scale : float, arcsec
        Of the detector; the file does not say it.
    oversampling : int
        Samples across a pixel; the file does not say it.

    Returns
    -------
    PSFGridFile

    Raises
    ------
    MelotteFileError
        When the file is missing, truncated or no such grid.
    """
    path = Path(path)
    try:
        content = path.read_bytes()
    except OSError as error:
        raise MelotteFileError(f"{path}: cannot be read ({error.strerror})") from error
    header, start = _header(path, content)
    try:
        n_columns, n_rows, n_psfs = (int(header[f"NAXIS{axis}"]) for axis in (1, 2, 3))
        n_x, n_y = int(header["NXPSFS"]), int(header["NYPSFS"])
        x = tuple(float(header[f"IPSFX{i + 1:02d}"]) for i in range(n_x))
        y = tuple(float(header[f"JPSFY{i + 1:02d}"]) for i in range(n_y))
        bits = int(header["BITPIX"])
    except (KeyError, ValueError) as error:
        raise MelotteFileError(
            f"{path}: no grid of empirical PSFs: its header lacks a proper {error.args[0]}"
        ) from error
    if bits != -32 or n_psfs != n_x * n_y or min(n_x, n_y, n_columns) < 1 or n_columns != n_rows:
        raise MelotteFileError(
            f"{path}: expected {n_x} x {n_y} square PSFs of 32-bit floats, found {n_psfs} of "
            f"{n_rows} x {n_columns} samples with BITPIX {bits}"
        )
    if list(x) != sorted(x) or list(y) != sorted(y):
        raise MelotteFileError(f"{path}: positions must ascend, found x {x} and y {y}")
    count = n_psfs * n_rows * n_columns
    if len(content) < start + 4 * count:
        raise MelotteFileError(
            f"{path}: truncated: {len(content)} bytes, {start + 4 * count} expected"
        )
    values = np.frombuffer(content, ">f4", count, start).astype(np.float32)
    values[values <= MARKER] = 0
    if not np.isfinite(values).all():
        raise MelotteFileError(f"{path}: holds NaN or infinite samples")
    images = torch.from_numpy(values.reshape(n_y, n_x, n_rows, n_columns))
    return PSFGridFile(images, x, y, pixel_scale / oversampling)


def read_psf_image(
    path: Path | str,
    *,
    pixel_scale: float | None = None,
    oversampling: float | None = None,
    extension: int | str | None = None,
) -> PSFImageFile:
    """Read one PSF from a FITS image.

    Parameters
    ----------
    path : path
    pixel_scale : float or None, arcsec
        Of the detector. None takes arcsec per sample from the header (PIXELSCL or PIXSCALE).
    oversampling : float or None
        Samples across a detector's pixel, with ``pixel_scale``; None takes the header's OVERSAMP,
        or 1.
    extension : int, str or None
        Number or name; None takes the first that holds an image.

    Returns
    -------
    PSFImageFile

    Raises
    ------
    MelotteFileError
        When the file is missing, unreadable, or has no such two-dimensional image.
    MelotteValueError
        When the scale is neither given nor in the header, or not above 0.
    """
    from astropy.io import fits

    try:
        with fits.open(path, memmap=False) as file:
            if extension is None:
                found = [hdu for hdu in file if getattr(hdu, "data", None) is not None]
                hdu: Any = found[0] if found else None
            else:
                hdu = file[extension]
            data = None if hdu is None else hdu.data
            header = {} if hdu is None else dict(hdu.header)
    except (OSError, KeyError, IndexError, ValueError, TypeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise MelotteFileError(f"{path}: no PSF can be read ({reason})") from error
    if not isinstance(data, np.ndarray) or data.ndim != 2 or data.dtype.kind not in "fiu":
        shape = getattr(data, "shape", None)
        raise MelotteFileError(
            f"{path}: a PSF is an image of two dimensions, found "
            f"{'no image' if data is None else f'the shape {shape}'}; name another extension"
        )
    image = torch.from_numpy(data.astype(np.float64))
    return PSFImageFile(image, _sample_scale(path, header, pixel_scale, oversampling))


def _sample_scale(
    path: Path | str, header: dict, pixel_scale: float | None, oversampling: float | None
) -> float:
    """Arcsec per sample, from the arguments or the header."""
    if pixel_scale is None:
        if oversampling is not None:
            raise MelotteValueError("oversampling needs the pixel_scale that it divides")
        named = [key for key in SCALE_KEYWORDS if key in header]
        if not named:
            raise MelotteValueError(
                f"{path}: no {' or '.join(SCALE_KEYWORDS)} in the header: give pixel_scale "
                f"(arcsec) and oversampling (samples across a pixel)"
            )
        scale = header[named[0]]
    else:
        samples = header.get("OVERSAMP", 1) if oversampling is None else oversampling
        if not isinstance(samples, int | float) or not samples > 0:
            raise MelotteValueError(f"{path}: oversampling must be above 0, found {samples}")
        scale = pixel_scale / samples
    if not isinstance(scale, int | float) or not 0 < scale < np.inf:
        raise MelotteValueError(f"{path}: arcsec per sample must be above 0, found {scale}")
    return float(scale)


def _header(path: Path, content: bytes) -> tuple[dict[str, str], int]:
    """Values of the primary header's cards, and where the samples begin."""
    if not content.startswith(b"SIMPLE  ="):
        raise MelotteFileError(f"{path}: no FITS file")
    cards: dict[str, str] = {}
    for start in range(0, len(content) - 79, 80):
        card = content[start : start + 80].decode("latin-1")
        if card.rstrip() == "END":
            return cards, (start // BLOCK + 1) * BLOCK
        if card[8:10] == "= ":
            cards[card[:8].strip().upper()] = card[10:].split("/")[0].strip()
    raise MelotteFileError(f"{path}: truncated: its header has no end")
