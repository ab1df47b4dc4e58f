"""One file of a globular cluster's images: its bands, in units of a source of magnitude 25."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.image_files import (
    chosen_hdu,
    is_image,
    mask_of,
    measured_pixels,
    merged_header,
    open_fits,
    reading_fits,
    science_images,
    weight_of,
)
from melotte.io.image_headers import BandHeader, plain_band, read_band_header
from melotte.io.image_stacks import Images
from melotte.io.image_units import counts_factor, parse_unit
from melotte.io.light_map_options import (
    AB_MINUS_VEGA,
    MAP_BANDS,
    LightMapOptions,
    header_map_band,
    map_band,
    with_zero_point,
)
from melotte.io.reprojection import celestial

FLUX_ZERO_POINT = 25.0
"""Magnitude of a source of flux 1, in the band's own system."""

NANOMAGGY_ZERO_POINT = 22.5
"""AB magnitude of a source of one nanomaggy (SDSS, Legacy Surveys)."""

STACK_ZERO_POINT = 25.0
"""AB magnitude of one count a second in Pan-STARRS's stacks (Waters et al. 2020, ApJS 251, 4)."""


@dataclass(frozen=True)
class LightPlane:
    """One band's image.

    Parameters
    ----------
    path : Path
    band : str
        One of :data:`~melotte.io.light_map_options.MAP_BANDS`.
    values : array, float32, shape (n_rows, n_columns)
        As the file has them, but linear; NaN where there is no value or no weight.
    factor : float
        Flux of a value of 1, in units of a source of magnitude 25 in the band's own system.
    header : BandHeader
    stated : mapping
        All keywords.
    wcs : astropy WCS or None
    """

    path: Path
    band: str
    values: Images
    factor: float
    header: BandHeader
    stated: Mapping[str, Any] = field(repr=False)
    wcs: Any = None


def light_planes(
    path: Path, options: LightMapOptions, files: Sequence[Path] = (), band: str = ""
) -> list[LightPlane]:
    """Images of all bands of a file, in units of a source of magnitude 25.

    Parameters
    ----------
    path : Path
    options : LightMapOptions
    files : sequence of Path
        All files that the options speak of, where those are one band each.
    band : str
        Of the file, where a table says it.
    """
    with open_fits(path) as opened, reading_fits(path):
        return [_plane(path, opened, one) for one in _headers(path, opened, options, files, band)]


def plane_bands(path: Path, options: LightMapOptions, files: Sequence[Path] = ()) -> list[str]:
    """Bands of a file's images, without reading their pixels; parameters as of light_planes."""
    with open_fits(path) as opened, reading_fits(path):
        return [one.band for one in _headers(path, opened, options, files)]


@dataclass(frozen=True)
class _PlaneHeader:
    """Where a band's image is in a file, and what is said of it."""

    hdu: Any
    part: tuple[int, ...]
    band: str
    header: BandHeader
    stated: Mapping[str, Any]


def _headers(
    path: Path, opened: Any, options: LightMapOptions, files: Sequence[Path], band: str = ""
) -> list[_PlaneHeader]:
    """Every band of a file."""
    if options.image.hdu:
        science = [chosen_hdu(opened, options.image.hdu, path)]
    else:
        science = science_images(opened)
    if not science or not is_image(science[0]):
        raise MelotteFileError(f"{path} holds no image")
    named = [one for one in science if header_map_band(one.header)]
    chosen = named if len(named) > 1 else science[:1]
    shape = chosen[0].shape
    cube = len(chosen) == 1 and len(shape) == 3 and shape[0] > 1
    if len(shape) > 3 or (len(shape) == 3 and len(chosen) > 1 and shape[0] > 1):
        raise MelotteValueError(
            f"{path} holds an array of {len(shape)} axes; rows and columns, or bands, rows and "
            "columns are needed"
        )
    n = shape[0] if cube else len(chosen)
    # Options list one value a band: of this file, or of all files.
    several = len(files) > 1 and n == 1
    place, total = (files.index(path), len(files)) if several else (0, n)
    found = []
    for number in range(n):
        hdu = chosen[0 if cube else number]
        part = (number,) if cube else ((0,) if len(hdu.shape) == 3 else ())
        stated = merged_header(opened, hdu)
        found.append(
            _PlaneHeader(
                hdu,
                part,
                *_band_and_header(path, stated, options, place + number, total, band, cube),
                stated,
            )
        )
    return found


def _band_and_header(
    path: Path,
    stated: Mapping[str, Any],
    options: LightMapOptions,
    place: int,
    n: int,
    named: str,
    cube: bool,
) -> tuple[str, BandHeader]:
    """Band ``place`` of ``n``, named by a table, an option or the header, and its zero point."""
    if cube:
        numbered = f"BAND{place + 1}", f"FILTER{place + 1}"
        own = next((stated[key] for key in numbered if key in stated), "")
        band = map_band(str(own)) or _listed_band(stated, place)
    else:
        band = header_map_band(stated)
    header = options.image.of_plane(
        read_band_header(stated, place if cube else None, None), place, n
    )
    if options.image.bands and not named:
        named = header.band
    if named:
        band = map_band(named) or map_band(named.upper())
    if not band:
        found = named or _spelled(stated, header.band, place if cube else None)
        said = f"its band is {found!r}" if found else "it does not state its band"
        raise MelotteValueError(
            f"{path}: {said}; give bands=..., of {', '.join(MAP_BANDS)} (V and B are Johnson's, g "
            "and r Pan-STARRS's; case counts)"
        )
    return band, with_zero_point(replace(header, band=band), stated, band, options, place)


def _plane(path: Path, opened: Any, one: _PlaneHeader) -> LightPlane:
    """A band's image, linear, with its place on the sky."""
    everything = (*(slice(row, row + 1) for row in one.part), slice(None), slice(None))
    beside = weight_of(one.hdu, opened), mask_of(one.hdu, opened, path)
    values = measured_pixels(one.hdu, beside[0], everything, path, beside[1])
    values = values.reshape(one.hdu.shape[-2:])
    values, header = _linear(values, one.header, one.stated)
    factor = _factor(header, one.band, f"{path}, {one.band}")
    wcs = celestial(one.hdu, opened, path, needed=False)
    return LightPlane(path, one.band, values, factor, header, one.stated, wcs)


def _listed_band(stated: Mapping[str, Any], place: int) -> str:
    """Band of a cube's plane from one keyword that lists them."""
    return map_band(_listed_name(stated, place))


def _listed_name(stated: Mapping[str, Any], place: int) -> str:
    names = str(stated.get("BANDS", "")).replace(";", ",").split(",")
    return names[place] if place < len(names) else ""


def _spelled(stated: Mapping[str, Any], band: str, plane: int | None) -> str:
    """A band as the header itself spells it: its v may be Strömgren's, and V is Johnson's."""
    names = [name for key, name in stated.items() if key.startswith(("BAND", "FILT"))]
    if plane is not None:
        numbered = [stated.get(f"{key}{plane + 1}", "") for key in ("BAND", "FILTER", "FILTNAM")]
        names = [_listed_name(stated, plane), *numbered, *names]
    found = (str(name).strip() for name in names)
    return next((name for name in found if plain_band(name) == band), band)


def _linear(
    values: Images, header: BandHeader, stated: Mapping[str, Any]
) -> tuple[Images, BandHeader]:
    """Pan-STARRS's stacks without their compression by asinh, in counts; others as they are.

    References
    ----------
    Waters et al. 2020, ApJS 251, 4, Sect. 6.3.
    """
    if "BSOFTEN" not in stated or "BOFFSET" not in stated:
        return values, header
    compressed = values.astype(np.float64) / (2.5 * math.log10(math.e))
    counts = float(stated["BOFFSET"]) + 2 * float(stated["BSOFTEN"]) * np.sinh(compressed)
    zero_point = header.zero_point_ab
    return counts.astype(np.float32), replace(
        header,
        unit=header.unit or "counts",
        zero_point_ab=STACK_ZERO_POINT if math.isnan(zero_point) else zero_point,
    )


def _factor(header: BandHeader, band: str, where: str) -> float:
    """Flux, in units of a source of magnitude 25, of one of the image's units."""
    one = FLUX_ZERO_POINT + AB_MINUS_VEGA[band]
    if header.unit.strip().lower() in ("nanomaggy", "nanomaggies", "nmgy"):
        header = replace(header, unit="counts/s", zero_point_ab=NANOMAGGY_ZERO_POINT)
    if header.unit:
        unit = parse_unit(header.unit, where)
        if unit.kind in ("jansky", "brightness"):
            return counts_factor(header, one, where)
        spelled = "counts/s" if unit.per_second else "counts"
    elif math.isfinite(header.exposure):
        raise MelotteValueError(
            f"{where}: it states an exposure and no unit; give unit=counts or unit=counts/s"
        )
    else:
        spelled = "counts/s"
    if math.isnan(header.zero_point_ab):
        raise MelotteValueError(
            f"{where}: it states no zero point; give zero_point=MAG, the magnitude of one of its "
            "units a second"
        )
    return counts_factor(replace(header, unit=spelled), one, where)
