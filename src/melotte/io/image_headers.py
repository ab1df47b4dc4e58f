"""What a FITS header says of an image's band, scale, exposure, unit and zero point."""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteValueError
from melotte.io.table_files import listed, shortened

SQUARE = 0.01
"""Relative difference of a pixel's two sides from which it counts as not square."""

_SCALE_KEYWORDS = ("D001SCAL", "PIXSCALE", "PIXELSCALE", "PIXSCAL1", "PSCALE", "IDCSCALE")
_EXPOSURE_KEYWORDS = ("EXPTIME", "EXPOSURE", "XPOSURE", "ITIME")
_GAIN_KEYWORDS = ("GAIN", "ATODGAIN", "CCDGAIN")
_ZERO_POINT_KEYWORDS = ("ZP_AB", "ABMAGZP", "MAGZPAB")
_NUMBERS = {
    "pixel_scale": _SCALE_KEYWORDS,
    "exposure": (*_EXPOSURE_KEYWORDS, "TEXPTIME"),
    "gain": _GAIN_KEYWORDS,
    "zero_point_ab": (*_ZERO_POINT_KEYWORDS, "PHOTFLAM", "PHOTPLAM"),
}
_BAND_KEYWORDS = ("BAND", "FILTER", "FILTNAM")
_WHEEL_KEYWORDS = ("FILTER1", "FILTER2", "FILTNAM1", "FILTNAM2")
CAMERA_KEYWORDS = (
    *("TELESCOP", "INSTRUME", "DETECTOR", "BUNIT", "PHOTZPT"),
    *_BAND_KEYWORDS,
    *_WHEEL_KEYWORDS,
    *(key for name, keys in _NUMBERS.items() if name != "pixel_scale" for key in keys),
)
"""What a header states of an image whatever the grid of its pixels is."""
_POSITIVE = ("pixel_scale", "exposure")
_COORDINATES = re.compile(r"^(CRPIX|CRVAL|CDELT|CROTA)\d$|^(CD|PC)\d_\d$")
_EMPTY_WHEEL = re.compile(r"^(CLEAR\w*|N/?A|NONE|OPEN|)$")
_FILTER = re.compile(r"(?<![A-Z0-9])(F\d{3,4}(?:W2|W|M|N|LP|X))(?![A-Z0-9])")
_CAMERA = re.compile(r"(ACS|WFC3|WFPC2)_(\w+_)?F\d{3,4}(W2|W|M|N|LP|X)(?![A-Z0-9])")


@dataclass(frozen=True)
class BandHeader:
    """What is known of the pixels of one band; NaN or ``""`` where nothing is.

    Parameters
    ----------
    band : str
        Instrument, detector and filter, such as ``WFC3_UVIS_F336W``, or what of them is stated.
    pixel_scale : float, arcsec
    exposure : float, s
    unit : str
        As written.
    gain : float, electrons per data number
    zero_point_ab : float, mag
        AB magnitude of one of the image's units a second; of one electron a second where the
        image is in units of surface brightness.
    pixel_area : float, sr
        Solid angle of a pixel where the header states one.
    sky_scale : float, arcsec
        Pixel scale by celestial coordinates alone.
    unread : mapping of str to str
        By field: the keyword that holds text or a number out of range, and what is wrong with it.
    """

    band: str = ""
    pixel_scale: float = math.nan
    exposure: float = math.nan
    unit: str = ""
    gain: float = math.nan
    zero_point_ab: float = math.nan
    pixel_area: float = math.nan
    sky_scale: float = math.nan
    unread: Mapping[str, str] = field(default_factory=dict)

    def why_unknown(self, name: str) -> str:
        """In brackets, why a field's keyword is of no use; ``""`` if there is none.

        Parameters
        ----------
        name : str
            A field, such as ``exposure``.
        """
        return f" ({self.unread[name]})" if name in self.unread else ""


def read_band_header(
    header: Mapping[str, Any], plane: int | None = None, path: Path | None = None
) -> BandHeader:
    """What a header says of one band.

    Text in a keyword that should hold a number counts as unknown, and so does a pixel scale or
    exposure that is not above 0.

    Parameters
    ----------
    header : mapping
        Keywords and values, of a FITS header or of attributes written in the same way.
    plane : int, optional
        Number of the band's plane in a cube, from 0: ``BAND1``, ``EXPTIME1``, ``PHOTFLAM1`` ...
        are then those of plane 0, and keywords without a number hold for all planes.
    path : Path, optional
        A filter in the file's name stands in where the header states none.

    Returns
    -------
    BandHeader

    Raises
    ------
    MelotteValueError
        When pixels are not square.
    """
    where = "the header" if path is None else str(path)
    scale = _sky_scale(header, where)
    wrong = {
        name: _wrong(header, keys, plane, name in _POSITIVE) for name, keys in _NUMBERS.items()
    }
    return BandHeader(
        band=header_band(header, plane) or (filter_of(path.name) if path is not None else ""),
        pixel_scale=_stated_scale(header) if math.isnan(scale) else scale,
        exposure=header_exposure(header, plane),
        unit=str(next(_values(header, ("BUNIT",), plane), ("", ""))[1] or "").strip(),
        gain=_number(header, _GAIN_KEYWORDS, plane),
        zero_point_ab=header_zero_point(header, plane),
        pixel_area=_number(header, ("PIXAR_SR",), plane),
        sky_scale=scale,
        unread={name: text for name, text in wrong.items() if text},
    )


def header_band(header: Mapping[str, Any], plane: int | None = None) -> str:
    """The band that a header names, with its instrument where that is stated; ``""`` if none.

    HST's filter wheels (``FILTER1``, ``FILTER2``, one of them clear) are told from cubes whose
    planes are numbered. Band lists in one keyword (``BANDS``) are split at commas.
    """
    several = header.get("BANDS")
    if several is not None and plane is not None:
        names = [name for name in re.split(r"[,;\s]+", str(several)) if name]
        if plane < len(names):
            return plain_band(names[plane])
    name = ""
    if plane is not None:
        name = next(
            (
                str(header[f"{key}{plane + 1}"])
                for key in _BAND_KEYWORDS
                if _has(header, key, plane)
            ),
            "",
        )
    if not name:
        wheels = [
            str(header[key]).strip().upper()
            for key in (*_BAND_KEYWORDS, *_WHEEL_KEYWORDS)
            if key in header and (plane is None or not key[-1].isdigit())
        ]
        name = next((wheel for wheel in wheels if not _EMPTY_WHEEL.match(wheel)), "")
    if not name:
        return band_in(str(header.get("EXTNAME", "")))
    name = plain_band(name)
    instrument = plain_band(str(header.get("INSTRUME", "")))
    if not instrument or name.startswith(instrument) or filter_of(name) != name:
        return name
    detector = plain_band(str(header.get("DETECTOR", "")))
    detector = "" if detector.isdigit() else detector
    return "_".join(part for part in (instrument, detector, name) if part)


def plane_count(header: Mapping[str, Any]) -> int:
    """How many bands a header names for a cube; 0 where it names none or only one of all."""
    several = header.get("BANDS")
    if several is not None:
        return len([name for name in re.split(r"[,;\s]+", str(several)) if name])
    for key in _BAND_KEYWORDS:
        count = 0
        while _has(header, key, count):
            count += 1
        if count > 1:
            return count
    return 0


def plain_band(name: str) -> str:
    """A band's name in capitals with single underscores, ``WFC3/UVIS f336w`` as WFC3_UVIS_F336W."""
    return re.sub(r"[^A-Z0-9]+", "_", name.strip().upper()).strip("_")


def filter_of(name: str) -> str:
    """The filter in a band's or a file's name, such as ``F336W``; ``""`` where there is none."""
    found = _FILTER.findall(plain_band(name).replace("_", " "))
    return found[-1] if found else ""


def band_in(name: str) -> str:
    """The band in the name of a column or extension, with HST's camera where that is there."""
    found = _CAMERA.search(plain_band(name))
    return found.group() if found else filter_of(name)


def match_bands(
    found: Sequence[str], expected: Sequence[str], where: str, allow_missing: bool = False
) -> list[int | None]:
    """Which of the bands found is which of those expected.

    A band without an instrument matches the filter of any instrument; another instrument's filter
    of the same name is another passband and does not match.

    Parameters
    ----------
    found : sequence of str
        Bands of a file; ``""`` for planes without a name.
    expected : sequence of str
        Full names, such as ``WFC3_UVIS_F336W``.
    where : str
        The files, for messages.
    allow_missing : bool
        Whether a band may be absent as long as one is there.

    Returns
    -------
    list of int or None, length n_expected
        Place in ``found`` of each expected band, None where it is absent.

    Raises
    ------
    MelotteValueError
        When a band is found twice, or a band is missing and that is not allowed.
    """
    places: list[int | None] = []
    for band in expected:
        matching = [place for place, name in enumerate(found) if _same_band(name, band, expected)]
        if len(matching) > 1:
            raise MelotteValueError(f"{where}: band {band} is given {len(matching)} times")
        places.append(matching[0] if matching else None)
    absent = [band for band, place in zip(expected, places, strict=True) if place is None]
    if not absent or (allow_missing and len(absent) < len(expected)):
        return places
    named = listed([name or "(unnamed)" for name in found])
    allowed = "" if len(absent) == len(expected) else ", or missing_band=allow to go without"
    raise MelotteValueError(
        f"{where}: no image in {', '.join(absent)}; found: {named}; the model reads "
        f"{', '.join(expected)}; give bands=... if the names are wrong{allowed}"
    )


def _same_band(name: str, band: str, expected: Sequence[str]) -> bool:
    name, band = plain_band(name), plain_band(band)
    if not name or name == band:
        return bool(name)
    alike = [other for other in expected if plain_band(other).split("_")[-1] == name]
    return band.split("_")[-1] == name and len(alike) == 1


def header_pixel_scale(header: Mapping[str, Any], where: str = "the header") -> float:
    """Pixel scale in arcsec from celestial coordinates, or from a keyword; NaN if neither is there.

    Raises
    ------
    MelotteValueError
        When the pixels' sides differ by more than 1 %.
    """
    scale = _sky_scale(header, where)
    return _stated_scale(header) if math.isnan(scale) else scale


def _stated_scale(header: Mapping[str, Any]) -> float:
    """Pixel scale in arcsec by a keyword; NaN where it is not stated or not above 0."""
    scale = _number(header, _SCALE_KEYWORDS)
    return scale if 0 < scale < math.inf else math.nan


def _sky_scale(header: Mapping[str, Any], where: str) -> float:
    """Pixel scale in arcsec from celestial coordinates; NaN without them."""
    if "CTYPE1" in header and "CTYPE2" in header:
        from astropy import wcs as astropy_wcs

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                celestial = astropy_wcs.WCS(_wcs_header(header)).celestial
                matrix = celestial.pixel_scale_matrix
                sides = np.sqrt((np.asarray(matrix) ** 2).sum(0)) if celestial.has_celestial else ()
            # A broken WCS raises errors of many classes; the keywords below may still tell.
            except Exception:
                sides = ()
        if len(sides) == 2 and min(sides) > 0 and not _flat_matrix(header):
            if abs(sides[0] / sides[1] - 1) > SQUARE:
                raise MelotteValueError(
                    f"{where}: its pixels are {sides[0] * 3600:.4g} by {sides[1] * 3600:.4g} "
                    "arcsec; square pixels are needed"
                )
            return float(math.sqrt(sides[0] * sides[1]) * 3600)
    return math.nan


def _flat_matrix(header: Mapping[str, Any]) -> bool:
    """Whether the matrix of the coordinates is all zero, in whose place astropy puts 1 degree."""
    matrix = [key for key in header if re.match(r"^CD\d_\d$", key)]
    return bool(matrix) and all(_number(header, (key,)) == 0 for key in matrix)


def unread_coordinates(header: Mapping[str, Any]) -> str:
    """The first keyword of coordinates with text, and the text; ``""`` if there is none."""
    keys = [key for key in header if _COORDINATES.match(key)]
    return next((f"{key} {header[key]!r}" for key in keys if isinstance(header[key], str)), "")


def _wcs_header(header: Mapping[str, Any]) -> Any:
    """The linear part of the coordinates, which is all that a pixel scale needs."""
    from astropy.io import fits

    kept = fits.Header()
    pattern = re.compile(r"^(NAXIS|CTYPE|CUNIT|CRPIX|CRVAL|CDELT|CROTA|CD|PC)\d|^(NAXIS|WCSAXES)$")
    for key, value in header.items():
        if pattern.match(key) and not isinstance(value, list | tuple):
            text = isinstance(value, str)
            kept[key] = value.replace("-SIP", "").replace("-TPV", "-TAN") if text else value
    return kept


def header_exposure(header: Mapping[str, Any], plane: int | None = None) -> float:
    """Exposure time in s; NaN where it is not stated.

    Images divided by their exposure often state ``EXPTIME`` 1: ``TEXPTIME`` then tells the depth.
    """
    exposure = _number(header, _EXPOSURE_KEYWORDS, plane)
    total = _number(header, ("TEXPTIME",), plane)
    if math.isnan(exposure) or (exposure == 1.0 and total > 0):
        exposure = total
    return exposure if exposure > 0 else math.nan


def header_zero_point(header: Mapping[str, Any], plane: int | None = None) -> float:
    """AB magnitude of one unit a second from PHOTFLAM and PHOTPLAM, or from ZP_AB; NaN otherwise.

    ``m_AB = -2.5 log10(PHOTFLAM) + PHOTZPT - 5 log10(PHOTPLAM) + 18.6921``, PHOTZPT = -21.1.

    References
    ----------
    Sirianni et al. 2005, PASP 117, 1049, Sect. 6; ACS Data Handbook, Sect. 5.1.1.
    """
    given = _number(header, _ZERO_POINT_KEYWORDS, plane)
    if not math.isnan(given):
        return given
    flam = _number(header, ("PHOTFLAM",), plane)
    pivot = _number(header, ("PHOTPLAM",), plane)
    if not (flam > 0 and pivot > 0):
        return math.nan
    reference = _number(header, ("PHOTZPT",), plane)
    reference = -21.1 if math.isnan(reference) else reference
    return -2.5 * math.log10(flam) + reference - 5 * math.log10(pivot) + 18.6921


def _has(header: Mapping[str, Any], key: str, plane: int) -> bool:
    """Whether a keyword numbered for a plane is there and names a band, not an empty wheel."""
    value = header.get(f"{key}{plane + 1}")
    return value is not None and not _EMPTY_WHEEL.match(str(value).strip().upper())


def _values(
    header: Mapping[str, Any], keys: Sequence[str], plane: int | None = None
) -> Iterator[tuple[str, Any]]:
    """Keywords that are there, preferred ones first, with their values for a plane."""
    for key in keys:
        for name in (key,) if plane is None else (f"{key}{plane + 1}", key):
            if header.get(name) is not None:
                yield name, header[name]
                break


def _number(header: Mapping[str, Any], keys: Sequence[str], plane: int | None = None) -> float:
    """The first number; NaN where there is none."""
    for _, value in _values(header, keys, plane):
        try:
            return float(value)
        except (TypeError, ValueError):
            continue
    return math.nan


def _wrong(
    header: Mapping[str, Any], keys: Sequence[str], plane: int | None, positive: bool
) -> str:
    """The first keyword without a number of use, and what is wrong with it; ``""`` if none is."""
    for name, value in _values(header, keys, plane):
        number = _number({name: value}, (name,))
        if isinstance(value, str) and math.isnan(number):
            return f"{name} {shortened(value)!r} is not a number"
        if positive and not 0 < number < math.inf:
            return f"{name} {number:g} is not a number above 0"
    return ""
