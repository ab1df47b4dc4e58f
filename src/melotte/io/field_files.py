"""Mosaics of one field, a FITS file a band: written with coordinates, read back with masks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.image_files import (
    has_real_numbers,
    mask_of,
    merged_header,
    open_fits,
    pixels,
    science_images,
    unfilled,
    weighed_pixels,
    weight_of,
)
from melotte.io.image_grids import CORNERS, to_sky
from melotte.io.image_headers import BandHeader, match_bands, read_band_header
from melotte.io.image_units import counts_factor
from melotte.io.reprojection import celestial, same_grid

Images = NDArray[np.float32]

_SPEED_OF_LIGHT = 2.99792458e18
"""Angstrom/s."""


@dataclass(frozen=True)
class Mosaic:
    """Images of one field on one grid of pixels.

    Parameters
    ----------
    image : array of float32, shape (n_bands, n_rows, n_columns), in the files' unit
        NaN where there are no data: not finite, without weight or blank.
    masked : array of bool, shape (n_rows, n_columns)
        Where any band has no data or is flagged in its file's mask.
    headers : tuple of BandHeader, one for each band
    wcs : astropy WCS or None
        Celestial coordinates of the pixels.
    """

    image: Images
    masked: NDArray[np.bool_]
    headers: tuple[BandHeader, ...]
    wcs: Any

    def electrons(self, bands: Sequence[str], zero_points_ab: Sequence[float]) -> Images:
        """The image in electrons/s of given passbands, in their order, whatever the files' units.

        Parameters
        ----------
        bands : sequence of str
            Full names; each must be one of the files'.
        zero_points_ab : sequence of float
            AB magnitude of 1 electron/s in each.

        Returns
        -------
        array of float32, shape (n_bands, n_rows, n_columns)

        Raises
        ------
        MelotteValueError
            When a band is missing or a unit does not convert.
        """
        found = [header.band for header in self.headers]
        chosen = [place for place in match_bands(found, bands, "the mosaic") if place is not None]
        factors = [
            counts_factor(self.headers[place], zero_point, f"the mosaic in {band}")
            for place, zero_point, band in zip(chosen, zero_points_ab, bands, strict=True)
        ]
        return self.image[chosen] * np.array(factors, dtype=np.float32)[:, None, None]


def write_mosaic(
    folder: str | Path,
    image: Images,
    bands: Sequence[str],
    *,
    pixel_scale: float,
    exposure: Sequence[float],
    zero_points_ab: Sequence[float],
    pivot_nm: Sequence[float],
    centre: tuple[float, float],
    masked: NDArray[np.bool_] | None = None,
    name: str = "field",
    provenance: Mapping[str, str | int | float] | None = None,
) -> tuple[Path, ...]:
    """Write a mosaic as FITS files ``<name>_<filter>.fits``, one for each band.

    Parameters
    ----------
    folder : str or Path
        Made when it does not exist; files of the same names are replaced.
    image : array, shape (n_bands, n_rows, n_columns), electrons/s
    bands : sequence of str
        Full names, such as ``"ACS_WFC_F475W"``.
    pixel_scale : float, arcsec
    exposure : sequence of float, s
    zero_points_ab : sequence of float
        AB magnitude of 1 electron/s.
    pivot_nm : sequence of float, nm
    centre : (float, float), degrees
        Right ascension and declination of the image's centre; north is up, east is left.
    masked : array of bool, shape (n_bands, n_rows, n_columns), optional
        Saturated pixels; written as the extension ``MASK``.
    name : str
    provenance : mapping, optional
        Further keywords (at most 8 characters) of the primary header.

    Returns
    -------
    tuple of Path

    Raises
    ------
    MelotteValueError
        When numbers of bands differ.
    MelotteFileError
        When a file cannot be written.
    """
    from astropy.io import fits

    lengths = {len(bands), len(image), len(exposure), len(zero_points_ab), len(pivot_nm)}
    if len(lengths) != 1:
        raise MelotteValueError(
            f"image, bands, exposure, zero_points_ab and pivot_nm must have one entry a band, "
            f"found {sorted(lengths)}"
        )
    folder = Path(folder)
    paths = []
    for i, band in enumerate(bands):
        header = _celestial(image.shape[-2:], pixel_scale, centre).to_header()
        camera, detector, filter_name = [*band.split("_"), "", ""][:3]
        wavelength = 10 * pivot_nm[i]
        # PHOTFLAM in erg/s/cm2/A of 1 electron/s, from its AB magnitude.
        photflam = 10 ** (-0.4 * (zero_points_ab[i] + 48.6)) * _SPEED_OF_LIGHT / wavelength**2
        header.update(
            {
                "TELESCOP": "HST",
                "INSTRUME": camera,
                "DETECTOR": detector,
                "FILTER": filter_name,
                "BAND": band,
                "BUNIT": "ELECTRONS/S",
                "EXPTIME": float(exposure[i]),
                "PIXSCALE": float(pixel_scale),
                "PHOTFLAM": photflam,
                "PHOTPLAM": wavelength,
                "PHOTZPT": -21.1,
                "ORIGIN": "melotte, simulated",
                **(provenance or {}),
            }
        )
        units: list[Any] = [fits.PrimaryHDU(image[i].astype(np.float32), header)]
        if masked is not None:
            units.append(fits.ImageHDU(masked[i].astype(np.uint8), name="MASK"))
        path = folder / f"{name}_{filter_name.lower() or band.lower()}.fits"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            fits.HDUList(units).writeto(path, overwrite=True)
        except OSError as error:
            raise MelotteFileError(f"{path} cannot be written: {error.strerror or error}") from None
        paths.append(path)
    return tuple(paths)


def read_mosaic(paths: Sequence[str | Path]) -> Mosaic:
    """Read mosaics of one field, one file a band, all on one grid of pixels.

    Parameters
    ----------
    paths : sequence of str or Path
        FITS files; the first image of the sky is read. Extensions ``MASK``, not 0 where pixels
        must not be used, and ``WHT``, 0 where there are no data, are honoured; so are the exact
        zeros of real numbers where 1 % of a stamp or more are zeros.

    Returns
    -------
    Mosaic

    Raises
    ------
    MelotteValueError
        When no file is named, or shapes, pixel scales or coordinates differ.
    MelotteFileError
        When a file is missing, damaged or holds no image.
    """
    if not len(paths):
        raise MelotteValueError("name at least one file of a mosaic")
    images, masks, headers, coordinates = [], [], [], []
    whole = (slice(None), slice(None))
    for path in (Path(one) for one in paths):
        with open_fits(path) as opened:
            hdu = next(iter(science_images(opened)), None)
            if hdu is None or len(hdu.shape) != 2:
                raise MelotteFileError(f"{path} holds no two-dimensional image")
            header = merged_header(opened, hdu)
            image = weighed_pixels(hdu, weight_of(hdu, opened), whole, path)
            if has_real_numbers(hdu):
                image = unfilled(image, tiled=True)
            mask = np.isnan(image)
            flagged = mask_of(hdu, opened, path)
            if flagged is not None:
                # Values stay: saturated cores are found by them.
                mask |= pixels(flagged, whole, path) != 0
            coordinates.append(celestial(hdu, opened, path, needed=False) or _wcs_of(header))
        if images and image.shape != images[0].shape:
            raise MelotteValueError(
                f"{path} has {image.shape} pixels, {paths[0]} {images[0].shape}; bring all bands "
                "to one grid first (melotte.io.reprojection.reproject_mosaics)"
            )
        images.append(image)
        masks.append(mask)
        headers.append(read_band_header(header, path=path))
    scales = [one.pixel_scale for one in headers if math.isfinite(one.pixel_scale)]
    if scales and max(scales) > 1.001 * min(scales):
        raise MelotteValueError(
            f"pixel scales differ between the bands ({min(scales):g} to {max(scales):g} arcsec); "
            "bring all bands to one grid first (melotte.io.reprojection.reproject_mosaics)"
        )
    wcs = _common_wcs(paths, coordinates, images[0].shape)
    return Mosaic(np.stack(images), np.any(masks, axis=0), tuple(headers), wcs)


def _common_wcs(
    paths: Sequence[str | Path], coordinates: Sequence[Any], shape: tuple[int, int]
) -> Any:
    """The coordinates of all files that have some; None where none has."""
    known = [(one, path) for one, path in zip(coordinates, paths, strict=True) if one is not None]
    for one, path in known[1:]:
        first, first_path = known[0]
        if not same_grid(one, first, shape):
            corners = (np.array(shape[::-1]) - 1) * (CORNERS + 1) / 2
            here, there = (to_sky(wcs, corners) for wcs in (one, first))
            raise MelotteValueError(
                f"{path} lies up to {here.separation(there).arcsec.max():.3g} arcsec off "
                f"{first_path} by their coordinates; bring all bands to one grid first "
                "(melotte.io.reprojection.reproject_mosaics)"
            )
    return known[0][0] if known else None


def _celestial(shape: Sequence[int], pixel_scale: float, centre: tuple[float, float]) -> Any:
    """Tangential projection about the image's centre; north up, east left."""
    from astropy.wcs import WCS

    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.cunit = ["deg", "deg"]
    wcs.wcs.crval = list(centre)
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-pixel_scale / 3600, pixel_scale / 3600]
    return wcs


def _wcs_of(header: Mapping[str, Any]) -> Any:
    """Celestial coordinates of a header, or None where it has none."""
    from astropy.io import fits
    from astropy.wcs import WCS

    if "CTYPE1" not in header:
        return None
    plain = fits.Header()
    for key, value in header.items():
        if len(key) <= 8:
            plain[key] = value
    return WCS(plain, naxis=2)
