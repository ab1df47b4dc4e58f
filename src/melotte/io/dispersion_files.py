"""Maps of velocity dispersions, as fits to the spectra of an integral-field unit give them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.image_files import is_image, open_fits, pixels, reading_fits
from melotte.io.reprojection import celestial
from melotte.io.table_files import listed, shortened

Image = NDArray[np.float32]

_DISPERSION = ("DISPERSION", "SIGMA", "DISP", "VELDISP", "VDISP", "VSIGMA")
_ERROR = ("DISPERSION_ERROR", "SIGMA_ERR", "SIGMA_ERROR", "DISP_ERR", "VDISP_ERR", "ERROR", "ERR")
_UNITS = {"": 1.0, "km/s": 1.0, "km s-1": 1.0, "km s**-1": 1.0, "kms-1": 1.0, "m/s": 1e-3}
_LARGEST = 1000.0
"""km/s; more is no globular cluster's, but metres a second or a placeholder."""


@dataclass(frozen=True)
class DispersionImage:
    """Dispersions along the line of sight.

    Parameters
    ----------
    path : Path
    values, errors : array, float32, shape (n_rows, n_columns), km/s
        The instrument's own line profile taken off; NaN where there is no spectrum. Pixels of one
        spectrum, such as those of a Voronoi bin, have the same value and error.
    wcs : astropy WCS or None
    """

    path: Path
    values: Image
    errors: Image
    wcs: Any = None


def read_dispersions(path: str | Path) -> DispersionImage:
    """Read a FITS file with a map of dispersions and one of their errors.

    Parameters
    ----------
    path : path
        Two extensions called ``DISPERSION`` (or ``SIGMA``, ``DISP``, ``VELDISP``) and
        ``DISPERSION_ERROR`` (or ``SIGMA_ERR``, ``DISP_ERR``, ``ERROR``, ``ERR``), or just two
        images, or a cube of two planes, in that order. In km/s unless ``BUNIT`` says m/s.

    Raises
    ------
    MelotteFileError
        When the file is missing or damaged.
    MelotteValueError
        When there are not two images of one shape, no pixel has both values, or one is larger
        than any globular cluster's.
    """
    path = Path(path)
    if not path.is_file():
        raise MelotteFileError(f"{path} does not exist; a map of dispersions is needed here")
    with open_fits(path) as opened, reading_fits(path):
        chosen = _pair(opened, path)
        values, errors = (_kilometres(hdu, part, path) for hdu, part in chosen)
        wcs = celestial(chosen[0][0], opened, path, needed=False)
    if values.shape != errors.shape:
        raise MelotteValueError(
            f"{path}: dispersions of {values.shape} pixels and errors of {errors.shape}"
        )
    known = (values > 0) & (errors > 0) & np.isfinite(values) & np.isfinite(errors)
    if not known.any():
        raise MelotteValueError(f"{path}: no pixel has a dispersion and an error above 0 km/s")
    if values[known].max() > _LARGEST:
        raise MelotteValueError(
            f"{path}: a dispersion of {values[known].max():g} km/s; at most {_LARGEST:g} is "
            "allowed (unknown ones are NaN or 0, and BUNIT states the unit)"
        )
    blank = np.float32(np.nan)
    return DispersionImage(
        path, np.where(known, values, blank), np.where(known, errors, blank), wcs
    )


def _pair(opened: Any, path: Path) -> list[tuple[Any, tuple[int, ...]]]:
    """Where dispersions and errors are: HDU and plane of each."""
    images = [one for one in opened if is_image(one)]
    named = [
        next((one for one in images if one.name.upper() in names), None)
        for names in (_DISPERSION, _ERROR)
    ]
    if None not in named:
        return [(named[0], ()), (named[1], ())]
    if len(images) == 2 and named == [None, None]:
        return [(images[0], ()), (images[1], ())]
    if len(images) == 1 and len(images[0].shape) == 3 and images[0].shape[0] == 2:
        return [(images[0], (0,)), (images[0], (1,))]
    found = listed([f"{one.name or 'unnamed'} {one.shape}" for one in images]) or "no image"
    raise MelotteValueError(
        f"{path}: extensions DISPERSION and DISPERSION_ERROR, or a cube of these two planes, are "
        f"needed; found {found}"
    )


def _kilometres(hdu: Any, part: tuple[int, ...], path: Path) -> Image:
    """A plane in km/s."""
    if len(hdu.shape) - len(part) != 2:
        raise MelotteValueError(f"{path}, {hdu.name}: {len(hdu.shape)} axes; 2 are needed")
    unit = " ".join(str(hdu.header.get("BUNIT", "")).lower().split())
    if unit not in _UNITS:
        raise MelotteValueError(
            f"{path}: BUNIT {shortened(unit)!r} is no unit of dispersions; km/s and m/s are read"
        )
    everything = (*(slice(one, one + 1) for one in part), slice(None), slice(None))
    return pixels(hdu, everything, path).reshape(hdu.shape[-2:]) * np.float32(_UNITS[unit])
