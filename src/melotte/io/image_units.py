"""From the unit of an image's pixels to counts per second in the model's passbands."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

from melotte.errors import MelotteValueError
from melotte.io.image_headers import BandHeader
from melotte.io.table_files import shortened

ALLOWED_UNITS = "electrons/s, counts/s, electrons, DN/s, DN, counts, MJy/sr, Jy, mJy, uJy or nJy"
"""Units of pixels that convert, as error messages list them."""

LARGEST_OFFSET = 0.3
"""mag by which an image's zero point may differ from the passband's in electrons a second."""

AB_ZERO_FLUX = 3631.0
"""Jy: flux density of AB magnitude 0 (Oke & Gunn 1983, ApJ 266, 713)."""

_STERADIAN = (180 * 3600 / math.pi) ** 2
_FLUXES = {"JY": 1.0, "MJY": 1e-3, "UJY": 1e-6, "NJY": 1e-9}
_NAMES = {
    "ELECTRONS": "electron", "ELECTRON": "electron", "E-": "electron", "E": "electron",
    "PHOTONS": "electron", "PHOTON": "electron",
    "COUNTS": "count", "COUNT": "count", "CTS": "count", "CT": "count", "CNTS": "count",
    "DN": "dn", "ADU": "dn", "DNS": "dn", "ADUS": "dn",
}  # fmt: skip


@dataclass(frozen=True)
class PixelUnit:
    """A unit of pixels.

    Parameters
    ----------
    kind : {"electron", "count", "dn", "jansky", "brightness"}
    per_second : bool
    scale : float
        Jy of one unit, for ``"jansky"``; Jy/sr for ``"brightness"``.
    """

    kind: str
    per_second: bool = False
    scale: float = 1.0


def parse_unit(text: str, where: str) -> PixelUnit:
    """The unit that BUNIT or the option ``unit`` states.

    Raises
    ------
    MelotteValueError
        When it is empty or none that converts.
    """
    bare = re.sub(r"\s+", "", text.strip().strip("[]()'\""))
    # Only the case tells MJy (mega) from mJy (milli); headers all in capitals mean mega.
    milli = bare.startswith("m")
    spelled = re.sub(r"(/PIX(EL)?|\.?PIX(EL)?(\*\*|\^)?-1)$", "", bare.upper())
    spelled, n_rates = re.subn(
        r"(/SECONDS?|/SEC|/S|[.*]?SEC(\*\*|\^)?\(?-1\)?|[.*]?S(\*\*|\^)?\(?-1\)?|(?<=^C)PS)$",
        "",
        spelled,
    )
    if spelled in ("C", "CP") and n_rates:
        spelled = "COUNTS"
    if spelled in _NAMES:
        return PixelUnit(_NAMES[spelled], n_rates > 0)
    if re.fullmatch(r"MJY(/SR|[.*]?SR(\*\*|\^)?-1)", spelled):
        return PixelUnit("brightness", True, 1e-3 if milli else 1e6)
    if spelled in _FLUXES and (spelled != "MJY" or milli):
        return PixelUnit("jansky", True, _FLUXES[spelled])
    said = f"pixels are in {shortened(text)!r}" if text else "the unit of the pixels is not stated"
    raise MelotteValueError(f"{where}: {said}; give unit=..., one of {ALLOWED_UNITS}")


def counts_factor(header: BandHeader, reference_zero_point_ab: float, where: str) -> float:
    """Factor from pixel values to counts (electrons) per second in the model's passband.

    With the image's zero point and the passband's, flux is kept: the factor then also corrects
    another gain, epoch or detector. ``counts/s`` without a zero point are electrons/s; totals are
    divided by the exposure, data numbers multiplied by the gain.

    Parameters
    ----------
    header : BandHeader
    reference_zero_point_ab : float, mag
        AB magnitude of 1 count/s in the model's passband; NaN where unknown.
    where : str
        The file and band, for messages.

    Returns
    -------
    float, > 0

    Raises
    ------
    MelotteValueError
        When the unit does not convert; when a total has no exposure, data numbers have no gain or
        a flux density no zero point; or when the zero point of an image in electrons is more than
        0.3 mag from the passband's, which is another band or a wrong unit.
    """
    unit = parse_unit(header.unit, where)
    offset = reference_zero_point_ab - header.zero_point_ab
    if unit.kind in ("jansky", "brightness"):
        return _flux_factor(unit, header, reference_zero_point_ab, where)
    per_second = 1.0
    if not unit.per_second:
        if not header.exposure > 0:
            raise MelotteValueError(
                f"{where}: pixels are in {header.unit!r} and no exposure is stated"
                f"{header.why_unknown('exposure')}; give exposure=SECONDS"
            )
        per_second = 1 / header.exposure
    if math.isfinite(offset):
        if unit.kind == "electron" and abs(offset) > LARGEST_OFFSET:
            raise MelotteValueError(
                f"{where}: its zero point is AB {header.zero_point_ab:.2f} and the passband's "
                f"{reference_zero_point_ab:.2f} mag for 1 electron/s; more than {LARGEST_OFFSET} "
                "mag apart is another band or unit; correct it with zero_point=MAG or unit=..."
            )
        return per_second * 10 ** (0.4 * offset)
    if unit.kind == "electron" or (unit.kind == "count" and unit.per_second):
        return per_second
    if not header.gain > 0:
        raise MelotteValueError(
            f"{where}: pixels are in {header.unit!r} and no gain is stated"
            f"{header.why_unknown('gain')}; give gain=ELECTRONS_PER_COUNT"
        )
    return per_second * header.gain


def _flux_factor(
    unit: PixelUnit, header: BandHeader, reference_zero_point_ab: float, where: str
) -> float:
    """Counts per second of one unit of flux density or surface brightness."""
    zero_point = reference_zero_point_ab
    if math.isnan(zero_point):
        zero_point = header.zero_point_ab
    if math.isnan(zero_point):
        raise MelotteValueError(
            f"{where}: pixels are in {header.unit!r}, which needs the AB magnitude of 1 electron/s "
            "(PHOTFLAM and PHOTPLAM in the header, or zero_point=MAG)"
            f"{header.why_unknown('zero_point_ab')}"
        )
    jansky = unit.scale
    if unit.kind == "brightness":
        area = header.pixel_area
        if math.isnan(area):
            area = header.pixel_scale**2 / _STERADIAN
        if not area > 0:
            raise MelotteValueError(
                f"{where}: pixels are in {header.unit!r} and their size is not stated"
                f"{header.why_unknown('pixel_scale')}; give pixel_scale=ARCSEC"
            )
        jansky *= area
    return jansky / AB_ZERO_FLUX * 10 ** (0.4 * zero_point)
