"""What users say of maps of light: bands, sky, noise, seeing, where the cluster is."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Any

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.image_headers import BandHeader
from melotte.io.image_stacks import ImageOptions, option_numbers
from melotte.io.table_files import shortened

MAP_BANDS = ("V", "B", "g", "r")
"""Bands that are read: Johnson's in Vega magnitudes, Pan-STARRS's in AB."""

AB_MINUS_VEGA = {"V": -0.01, "B": -0.13, "g": 0.0, "r": 0.0}
"""AB magnitude of a source that has magnitude 0 in the band's own system (Willmer 2018, ApJS 236,
47, Table 3: the Sun in both systems)."""

MEASURE = "border"
"""Value of the option ``sky`` that has it measured."""

_SHARED = (
    "bands",
    "pixel_scale",
    "exposure",
    "zero_point",
    "unit",
    "hdu",
    "pixel_origin",
    "column",
)
_NUMBERS = ("sky", "noise", "saturation")
_POSITIVE = ("psf_fwhm", "extinction_error", "distance", "distance_error")
_SINGLE = (*_POSITIVE, "ra", "dec", "x", "y", "extinction_v")
FILE_OPTIONS = ("mask", "dispersion")
"""Options that name a file."""

_TOKENS = re.compile(r"[^A-Za-z0-9]+")
_SURVEYS = re.compile(
    r"^(JOHNSON|BESSELL?|COUSINS|HARRIS|PS1?|PAN|STARRS1?|PANSTARRS1?|KPNO|CTIO|ESO|FILTER|BAND|"
    r"HIGH|\d+)$"
)
ZERO_POINT_KEYWORDS = ("MAGZPT", "MAGZERO", "MAGZP", "MAGZEROP", "PHOTZP", "ZEROPNT", "ZP")
"""Where headers state the zero point of an image in V, B, g or r."""
SYSTEM_KEYWORDS = ("MAGSYS", "PHOTSYS", "ZPSYS")
"""Where they state its system."""


@dataclass(frozen=True)
class LightMapOptions:
    """What a user says of images of a globular cluster; it overrides what the files say.

    Parameters
    ----------
    image : ImageOptions
        ``bands``, ``pixel_scale``, ``exposure``, ``zero_point``, ``unit``, ``hdu`` and
        ``pixel_origin``, as for other images; the zero point is in ``zero_point_system``.
    zero_point_system : {"", "vega", "ab"}
        Of the zero points given here; by default Vega for V and B, AB for g and r.
    sky : tuple of float, units of the image a pixel
        To take off, one for all bands or one a band; empty where it is to be measured.
    noise : tuple of float, units of the image
        Standard deviation in a pixel without light, likewise.
    saturation : tuple of float, units of the image
        Value from which pixels are saturated, likewise.
    psf_fwhm : float, arcsec
        Of stars; NaN where it is to be measured.
    ra, dec : float, deg
        Of the cluster's centre.
    x, y : float, px
        The same; the centre of the first pixel is 0.
    size : int, px
        Side of the map to cut, in the model's pixels; 0 for the model's own.
    mask : str
        FITS image on the same grid; pixels that are not 0 are not used.
    dispersion : str
        FITS file with velocity dispersions; see :mod:`melotte.io.dispersion_files`.
    extinction_v, extinction_error : float, mag
        A_V in front of the cluster and its standard deviation; NaN where not given.
    distance, distance_error : float, kpc
        Of the cluster, likewise.
    """

    image: ImageOptions = field(default_factory=ImageOptions)
    zero_point_system: str = ""
    sky: tuple[float, ...] = ()
    noise: tuple[float, ...] = ()
    saturation: tuple[float, ...] = ()
    psf_fwhm: float = math.nan
    ra: float = math.nan
    dec: float = math.nan
    x: float = math.nan
    y: float = math.nan
    size: int = 0
    mask: str = ""
    dispersion: str = ""
    extinction_v: float = math.nan
    extinction_error: float = math.nan
    distance: float = math.nan
    distance_error: float = math.nan

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> LightMapOptions:
        """Options from values as the command line, a table or Python gives them.

        Raises
        ------
        MelotteValueError
            When a name is unknown, a value is not allowed, or half a position is given.
        """
        given = {name: value for name, value in options.items() if value not in (None, "", {})}
        unknown = [name for name in given if name not in OPTION_NAMES]
        if unknown:
            raise MelotteValueError(
                f"{unknown[0]!r} is not an option of maps of light"
                f"{did_you_mean(unknown[0], OPTION_NAMES)}; allowed: {', '.join(OPTION_NAMES)}"
            )
        image = {name: value for name, value in given.items() if name in _SHARED}
        values: dict[str, Any] = {}
        for name, value in given.items():
            if name in _NUMBERS:
                measured = name == "sky" and str(value).strip().lower() == MEASURE
                values[name] = () if measured else option_numbers(name, value)
            elif name in _SINGLE:
                values[name] = _number(name, value, positive=name in _POSITIVE)
            elif name == "size":
                values[name] = _size(value)
            elif name == "zero_point_system":
                values[name] = _system(value, name)
            elif name in FILE_OPTIONS:
                values[name] = str(value)
        chosen = cls(ImageOptions.parse(image), **values)
        chosen._check_position()
        for name in ("noise", "saturation"):
            if name in given:
                option_numbers(name, getattr(chosen, name), positive=True)
        return chosen

    def of_band(self, name: str, place: int, n: int) -> float:
        """``sky``, ``noise`` or ``saturation`` of band ``place`` of ``n``; NaN if not given.

        Raises
        ------
        MelotteValueError
            When neither one value nor one a band is given.
        """
        values = getattr(self, name)
        if len(values) not in (0, 1, n):
            raise MelotteValueError(
                f"{name} lists {len(values)} and there are {n} bands; give one for each or one"
            )
        return values[place if len(values) == n else 0] if values else math.nan

    def _check_position(self) -> None:
        for first, second in (("ra", "dec"), ("x", "y")):
            if math.isnan(getattr(self, first)) != math.isnan(getattr(self, second)):
                raise MelotteValueError(f"{first} and {second} go together: give both or none")
        if not math.isnan(self.dec) and not (-90 <= self.dec <= 90 and -360 <= self.ra <= 360):
            raise MelotteValueError(
                f"ra {self.ra:g}, dec {self.dec:g}: degrees within [-360, 360] and [-90, 90] are "
                "needed"
            )


OPTION_NAMES = (*_SHARED, *(one.name for one in fields(LightMapOptions) if one.name != "image"))
"""Names of all options."""


def map_band(name: str) -> str:
    """One of :data:`MAP_BANDS` that a name means, such as V_BESSEL or g.00000; ``""`` if none.

    Case tells Pan-STARRS's g and r from others' G and R.
    """
    letters = [one for one in _TOKENS.split(name.strip()) if one]
    left = [one for one in letters if not _SURVEYS.match(one.upper())]
    return left[0] if len(left) == 1 and left[0] in MAP_BANDS else ""


def header_map_band(header: Mapping[str, Any]) -> str:
    """Band that a header of an image states; ``""`` where it states none that is read."""
    for key in ("BAND", "FILTER", "FILTNAM", "FPA.FILTER", "FILTER1", "FILTER2", "EXTNAME"):
        found = map_band(str(header.get(key, "")))
        if found:
            return found
    return ""


def with_zero_point(
    one: BandHeader, header: Mapping[str, Any], band: str, options: LightMapOptions, place: int
) -> BandHeader:
    """A band's header with its zero point in AB magnitudes, from the options or any keyword.

    Parameters
    ----------
    one : BandHeader
        As the header alone gives it.
    header : mapping
        All of its keywords.
    band : str
    options : LightMapOptions
        Already put over ``one`` by :meth:`ImageOptions.of_plane`.
    place : int
        Of the band, for the message.

    Raises
    ------
    MelotteValueError
        When a keyword holds no number.
    """
    given = bool(options.image.zero_point)
    if given:
        system = options.zero_point_system or _own_system(band)
        return replace(one, zero_point_ab=one.zero_point_ab + _to_ab(band, system))
    if not math.isnan(one.zero_point_ab):
        return one
    for key in (*ZERO_POINT_KEYWORDS, "FPA.ZP"):
        if key in header:
            value = _number(f"{key} (band {place + 1})", header[key])
            stated = next((header[name] for name in SYSTEM_KEYWORDS if name in header), "")
            system = _system(stated, "MAGSYS") if stated else _own_system(band)
            return replace(one, zero_point_ab=value + _to_ab(band, system))
    return one


def _own_system(band: str) -> str:
    return "vega" if band in ("V", "B") else "ab"


def _to_ab(band: str, system: str) -> float:
    return AB_MINUS_VEGA[band] if system == "vega" else 0.0


def _system(value: Any, name: str) -> str:
    found = str(value).strip().lower().removesuffix("mag").strip()
    if found not in ("vega", "ab"):
        raise MelotteValueError(f"{name} {shortened(str(value))!r} is not one of vega, ab")
    return found


def _size(value: Any) -> int:
    number = _number("size", value)
    if number != int(number) or not 32 <= number <= 4096:
        raise MelotteValueError(f"size {value!r}: a whole number from 32 to 4096 is needed")
    return int(number)


def _number(name: str, value: Any, positive: bool = False) -> float:
    values = option_numbers(name, value, positive)
    if len(values) != 1:
        raise MelotteValueError(f"{name} {shortened(str(value))!r} is not one number")
    return values[0]
