"""Tables that list images of globular clusters, a row a cluster; units of columns are converted."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.io.image_stacks import RejectedImage, option_numbers
from melotte.io.image_units import PixelUnit, parse_unit
from melotte.io.light_map_options import FILE_OPTIONS, MAP_BANDS, OPTION_NAMES
from melotte.io.light_planes import LightPlane
from melotte.io.table_files import TableFile, listed, shortened
from melotte.io.tables import read_table

TABLE_FILES = ("file", *MAP_BANDS)
"""Columns of a table of images that name files: of all bands, or of one band each."""

KNOWN = "known_"
"""Begins the names of columns of a table that hold known values of parameters."""

_PIXELS = ("px", "pix", "pixel", "pixels")
COLUMN_UNITS: Mapping[str, tuple[str, ...]] = {
    "pixel_scale": ("arcsec", "arcsec / pix"),
    "exposure": ("s",),
    "zero_point": ("mag",),
    "psf_fwhm": ("arcsec",),
    "ra": ("deg",),
    "dec": ("deg",),
    "x": _PIXELS,
    "y": _PIXELS,
    "size": _PIXELS,
    "extinction_v": ("mag",),
    "extinction_error": ("mag",),
    "distance": ("kpc",),
    "distance_error": ("kpc",),
}
"""Units of columns that hold options: what a column without a unit is in, then equal ones."""

_JOINTS = str.maketrans("", "", "()[]_- ")
"""What may stand between the words of a unit."""

IMAGE_COLUMNS = ("sky", "noise", "saturation")
"""Columns in the unit of the image's pixels."""


@dataclass(frozen=True)
class ListedImages:
    """What a row of a table says of a cluster's images.

    Parameters
    ----------
    id : str
    files : mapping of str to Path
        By band; ``""`` is that of one file for all bands.
    options : mapping
        See :class:`~melotte.io.light_map_options.LightMapOptions`; in its units.
    known : mapping of str to float
        Known values of parameters, in the parameters' units.
    image_units : mapping of str to str
        Units that the table states for those of :data:`IMAGE_COLUMNS` that the row gives.
    """

    id: str
    files: Mapping[str, Path]
    options: Mapping[str, Any]
    known: Mapping[str, float]
    image_units: Mapping[str, str]


def listed_images(
    path: Path, ids: Sequence[str], table: TableFile, known_units: Mapping[str, str]
) -> Iterator[ListedImages | RejectedImage]:
    """Clusters that a table lists, one a row.

    Parameters
    ----------
    path : Path
        Files are named from its folder.
    ids : sequence of str
        One a row.
    table : TableFile
        As :func:`image_table` gives it.
    known_units : mapping of str to str
        Units of the model's parameters, ``""`` for those that have none.

    Yields
    ------
    ListedImages
    RejectedImage
        A row with a value that is no number.

    Raises
    ------
    MelotteValueError
        When a column's unit does not convert.
    """
    names = [str(name) for name in table.columns]
    table, system = _zero_point_system(table)
    scales = {
        name: table.unit_scale(name, *COLUMN_UNITS[name]) for name in names if name in COLUMN_UNITS
    }
    known_scales = {
        name: _known_scale(table, name, known_units) for name in names if name.startswith(KNOWN)
    }
    for row, own_id in enumerate(ids):
        cells = {name: _cell(table.columns[name][row]) for name in names}
        cells = {name: value for name, value in cells.items() if value is not None}
        try:
            options = {
                name: _scaled(name, value, scales.get(name, 1.0))
                for name, value in cells.items()
                if name in OPTION_NAMES
            }
            if system and "zero_point" in options:
                _agree(system, options.setdefault("zero_point_system", system))
            for name in set(options) & set(FILE_OPTIONS):
                options[name] = str(path.parent / str(options[name]).strip())
            yield ListedImages(
                own_id,
                {
                    "" if name == "file" else name: path.parent / str(value).strip()
                    for name, value in cells.items()
                    if name in TABLE_FILES
                },
                options,
                {
                    name.removeprefix(KNOWN): scale * _known(name, cells[name])
                    for name, scale in known_scales.items()
                    if name in cells
                },
                {
                    one: table.units[one]
                    for one in IMAGE_COLUMNS
                    if one in cells and one in table.units
                },
            )
        except MelotteError as error:
            yield RejectedImage(own_id, str(error), int(Flag.FAILED))


def image_table(path: Path) -> TableFile:
    """A table of images.

    Raises
    ------
    MelotteFileError
        When it cannot be read, or names no files.
    """
    table = read_table(path)
    names = [str(name) for name in table.columns]
    if not set(names) & set(TABLE_FILES):
        raise MelotteFileError(
            f"{path} is neither an image nor a table of images, with columns file, or V, B, g, r; "
            f"found: {listed(names)}"
        )
    return table


def listed_files(path: Path) -> list[Path]:
    """All files that a table of images names: images, masks and dispersions.

    Raises
    ------
    MelotteFileError, MelotteValueError
        When it cannot be read, or names no files.
    """
    table = image_table(path)
    columns = [
        table.columns[name] for name in (*TABLE_FILES, *FILE_OPTIONS) if name in table.columns
    ]
    cells = [_cell(value) for column in columns for value in column]
    return [path.parent / str(cell).strip() for cell in cells if cell is not None]


def check_image_units(path: Path, stated: Mapping[str, str], planes: Sequence[LightPlane]) -> None:
    """Refuse a level whose unit is not that of the images' pixels.

    Parameters
    ----------
    path : Path
        Of the table, for the message.
    stated : mapping of str to str
        Units, by column.
    planes : sequence of LightPlane

    Raises
    ------
    MelotteValueError
        Names the column, its unit, and the image with its own.
    """
    for name, unit in stated.items():
        for one in planes:
            own = one.header.unit or "counts/s"
            if not _same_unit(unit, own):
                raise MelotteValueError(
                    f"{path}: column {name!r} is in {shortened(unit)!r}; the unit of the pixels of "
                    f"{one.path}, {own}, is needed"
                )


def _zero_point_system(table: TableFile) -> tuple[TableFile, str]:
    """The same with zero points in mag, and the system that their unit states: mag(AB), ABmag."""
    unit = table.units.get("zero_point", "").lower().translate(_JOINTS)
    system = next((one for one in ("ab", "vega") if unit in (f"mag{one}", f"{one}mag")), "")
    if not system:
        return table, ""
    return replace(table, units={**table.units, "zero_point": "mag"}), system


def _agree(stated: str, given: Any) -> None:
    if str(given).strip().lower() != stated:
        raise MelotteValueError(
            f"zero_point_system {shortened(str(given))!r} contradicts the unit of the column "
            f"zero_point, of {stated}"
        )


def _same_unit(one: str, other: str) -> bool:
    """Whether two units of pixels are the same; counts and data numbers are."""
    if one.strip().lower() == other.strip().lower():
        return True
    unit = _pixel_unit(one)
    return unit is not None and unit == _pixel_unit(other)


def _pixel_unit(text: str) -> PixelUnit | None:
    try:
        unit = parse_unit(text, "")
    except MelotteValueError:
        return None
    return PixelUnit("count", unit.per_second) if unit.kind == "dn" else unit


def _known_scale(table: TableFile, name: str, units: Mapping[str, str]) -> float:
    """Factor to the unit of a parameter; 1 for a name that is none, which the model refuses."""
    unit = units.get(name.removeprefix(KNOWN))
    if unit is None or (not unit and table.units.get(name) == "dex"):
        return 1.0
    return table.unit_scale(name, unit)


def _scaled(name: str, value: Any, scale: float) -> Any:
    """An option's value, or values between commas, in the option's unit."""
    if scale == 1:
        return value
    numbers = [scale * one for one in option_numbers(name, value)]
    return numbers if len(numbers) > 1 else numbers[0]


def _known(name: str, value: Any) -> float:
    try:
        return float(value)
    except (TypeError, ValueError):
        raise MelotteValueError(f"{name} {shortened(str(value))!r} is not a number") from None


def _cell(value: Any) -> Any:
    """A value of a table, None where it is empty."""
    value = value.item() if isinstance(value, np.generic) else value
    return None if str(value).strip().lower() in ("", "--", "nan", "none") else value
