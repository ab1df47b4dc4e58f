"""Stamps of objects in several bands, as they come out of any file of images."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError, did_you_mean
from melotte.flags import Flag
from melotte.io.image_headers import BandHeader, plain_band
from melotte.io.table_files import shortened

STACK_SIZE = 256
"""Most stamps of one stack."""

SAME_SCALE = 0.02
"""Relative difference of two pixel scales that still count as the same."""

Images = NDArray[np.float32]


@dataclass(frozen=True)
class ExpectedImages:
    """What a model reads.

    Parameters
    ----------
    bands : tuple of str
        Full names of passbands, such as ``WFC3_UVIS_F336W``.
    size : int, px
        Side of a stamp.
    pixel_scale : float, arcsec, or None
        Images at another scale are resampled to this one, flux-conserving; None keeps theirs.
    zero_points_ab : mapping of str to float, mag
        AB magnitude of 1 count/s in each band, for images that state a zero point.
    served_scales : (float, float), arcsec, or None
        Range of pixel scales that a model without a single one was trained on.
    """

    bands: tuple[str, ...]
    size: int
    pixel_scale: float | None = None
    zero_points_ab: Mapping[str, float] = field(default_factory=dict)
    served_scales: tuple[float, float] | None = None


@dataclass(frozen=True)
class ImageOptions:
    """What a user says of files of images; it overrides what the files say.

    Parameters
    ----------
    bands : tuple of str
        Band of each plane, or of each file, in their order.
    pixel_scale : float, arcsec
    exposure : tuple of float, s
        One for all bands, or one a plane or file.
    gain : tuple of float, electrons per data number
        Likewise.
    zero_point : tuple of float, mag
        AB magnitude of one of the image's units a second, likewise.
    unit : str
        See :data:`~melotte.io.image_units.ALLOWED_UNITS`.
    hdu : str
        Number or name of the FITS extension, or the name of the HDF5 data set.
    ids : str
        Column or data set with the objects' names.
    missing_band : {"refuse", "allow"}
        A band that is allowed to be missing is a plane of NaN.
    column : mapping
        From the names ``id``, ``ra``, ``dec``, ``x``, ``y``, ``radius`` to the position table's.
    pixel_origin : {0, 1}
        Pixel coordinate of the centre of the first pixel in columns ``x`` and ``y``.
    """

    bands: tuple[str, ...] = ()
    pixel_scale: float = math.nan
    exposure: tuple[float, ...] = ()
    gain: tuple[float, ...] = ()
    zero_point: tuple[float, ...] = ()
    unit: str = ""
    hdu: str = ""
    ids: str = ""
    missing_band: str = "refuse"
    column: Mapping[str, str] = field(default_factory=dict)
    pixel_origin: int = 0

    @classmethod
    def parse(cls, options: Mapping[str, Any]) -> ImageOptions:
        """Options from values as the command line or Python gives them; None is not given.

        Raises
        ------
        MelotteValueError
            When a name is unknown or a value is not allowed.
        """
        known = {one.name: one for one in fields(cls)}
        values: dict[str, Any] = {}
        for name, value in options.items():
            if name not in known:
                raise MelotteValueError(
                    f"{name!r} is not an option of images{did_you_mean(name, known)}; "
                    f"allowed: {', '.join(known)}"
                )
            if value is None:
                continue
            if name == "bands":
                values[name] = _names(value)
            elif name in ("exposure", "gain", "zero_point"):
                values[name] = option_numbers(name, value, positive=name != "zero_point")
            elif name == "pixel_scale":
                (values[name],) = option_numbers(name, [value], positive=True)
            elif name == "pixel_origin":
                values[name] = _choice(name, value, (0, 1))
            elif name == "missing_band":
                values[name] = _choice(name, value, ("refuse", "allow"))
            elif name == "column":
                values[name] = dict(value)
            else:
                values[name] = str(value)
        return cls(**values)

    def of_plane(self, header: BandHeader, place: int, n: int, where: str = "") -> BandHeader:
        """A band's header with what the user says of plane ``place`` of ``n`` put over it.

        Raises
        ------
        MelotteValueError
            When an option lists neither one value nor one for each plane, or the pixel scale given
            is more than 2 % off that of the celestial coordinates.
        """
        given: dict[str, Any] = {}
        if self.bands:
            given["band"] = _one_of("bands", self.bands, place, n, shared=n == 1)
        for option, quantity in (
            ("exposure", "exposure"),
            ("gain", "gain"),
            ("zero_point", "zero_point_ab"),
        ):
            values = getattr(self, option)
            if values:
                given[quantity] = _one_of(option, values, place, n, shared=True)
        if not math.isnan(self.pixel_scale):
            if abs(self.pixel_scale - header.sky_scale) > SAME_SCALE * header.sky_scale:
                raise MelotteValueError(
                    f"{where or header.band or 'the image'}: pixel_scale={self.pixel_scale:g} is "
                    f"given, and its celestial coordinates say {header.sky_scale:.4g} arcsec; "
                    "leave the option out, or correct the header"
                )
            given["pixel_scale"] = self.pixel_scale
        if self.unit:
            given["unit"] = self.unit
        return replace(header, **given)


@dataclass(frozen=True)
class ImageStack:
    """Stamps of some objects.

    Parameters
    ----------
    images : Tensor, float32, shape (n, n_bands, size, size), counts/s
        NaN where ``bad``.
    bad : BoolTensor, shape (n, n_bands, size, size)
        Pixels without a value: masked, outside the image, or of a missing band.
    ids : tuple of str, length n
    bands : tuple of str, length n_bands
        The model's names.
    pixel_scale : float, arcsec
    exposure : Tensor, float32, shape (n_bands,), s
        NaN where unknown or the band is missing.
    zero_point_offsets : Tensor, float32, shape (n_bands,), mag
        What was added to magnitudes by the image's own zero point; 0 where none was known.
    flags : Tensor, int64, shape (n,)
        BAD_PIXELS where a pixel is bad.
    header : dict
        Units, sources, scale before resampling, positions.
    """

    images: Tensor
    bad: Tensor
    ids: tuple[str, ...]
    bands: tuple[str, ...]
    pixel_scale: float
    exposure: Tensor
    zero_point_offsets: Tensor
    flags: Tensor
    header: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class RejectedImage:
    """An object whose image cannot be used: a flagged row of the result, not an error.

    Parameters
    ----------
    id : str
    reason : str
    flags : int
    columns : mapping of str to float
        What is known of it: ``ra`` and ``dec`` (deg) of an object with a position on the sky.
    """

    id: str
    reason: str
    flags: int = int(Flag.FAILED | Flag.BAD_PIXELS)
    columns: Mapping[str, float] = field(default_factory=dict)


def common_scale(headers: Sequence[BandHeader], complaint: Callable[[float, float], str]) -> float:
    """Pixel scale (arcsec) that all bands share; NaN when none states one.

    Parameters
    ----------
    headers : sequence of BandHeader
    complaint : callable
        What is wrong, given the least and the largest scale, arcsec.

    Raises
    ------
    MelotteValueError
        When two bands differ by more than 2 %.
    """
    known = [one.pixel_scale for one in headers if not math.isnan(one.pixel_scale)]
    if not known:
        return math.nan
    if max(known) > min(known) * (1 + SAME_SCALE):
        raise MelotteValueError(complaint(min(known), max(known)))
    return known[0]


def refuse_unstated(
    headers: Sequence[BandHeader], pixel_scale: float, expected: ExpectedImages, where: str
) -> None:
    """Refuse images that do not say what their pixels are, with all that must be given at once.

    Raises
    ------
    MelotteValueError
        When bands, pixel scale or unit are neither stated nor given.
    """
    lacks: list[tuple[str, str]] = []
    if any(not plain_band(one.band) for one in headers):
        count = "its band" if len(headers) == 1 else f"the bands of its {len(headers)} planes"
        lacks.append((count, f"bands=... (the model reads {','.join(expected.bands)})"))
    if math.isnan(pixel_scale):
        why = headers[0].why_unknown("pixel_scale")
        lacks.append((f"the pixel scale{why}", "pixel_scale=ARCSEC"))
    if any(not one.unit for one in headers):
        lacks.append(("the unit", "unit=electrons/s"))
    if lacks:
        what = " nor ".join(name for name, _ in lacks)
        options = ", ".join(option for _, option in lacks)
        raise MelotteValueError(f"{where} does not state {what}; give {options}")


def _one_of(option: str, values: Sequence[Any], place: int, n: int, shared: bool) -> Any:
    if len(values) == n:
        return values[place]
    if shared and len(values) == 1:
        return values[0]
    raise MelotteValueError(
        f"{option} lists {len(values)} and the images have {n} "
        f"{'plane' if n == 1 else 'planes'}; give one for each{' or one' if shared else ''}"
    )


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else list(value)
    names = tuple(str(part).strip() for part in parts)
    if not names or not all(plain_band(name) for name in names):
        raise MelotteValueError(f"bands {shortened(str(value))!r} are not names between commas")
    return names


def option_numbers(name: str, value: Any, positive: bool = False) -> tuple[float, ...]:
    """Numbers of an option: one, a sequence, or text with commas between them.

    Raises
    ------
    MelotteValueError
        When it holds no number, one that is not finite, or one not above 0 where that is needed.
    """
    parts = value.split(",") if isinstance(value, str) else value
    parts = list(parts) if isinstance(parts, Sequence) else [parts]
    try:
        numbers = tuple(float(part) for part in parts)
    except (TypeError, ValueError) as error:
        text = shortened(",".join(map(str, parts)))
        raise MelotteValueError(
            f"{name} {text!r} is not a number or numbers between commas"
        ) from error
    for number in numbers:
        if not math.isfinite(number) or (positive and number <= 0):
            raise MelotteValueError(
                f"{name} {number:g} must be {'above 0' if positive else 'finite'}"
            )
    return numbers


def _choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    for one in allowed:
        if str(value) == str(one):
            return one
    raise MelotteValueError(
        f"{name} {shortened(str(value))!r} is not one of {', '.join(str(one) for one in allowed)}"
    )
