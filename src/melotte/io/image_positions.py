"""Tables of positions in mosaics: what is cut out, or masked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.column_options import quantities
from melotte.io.gaia_columns import matching_name, normalised
from melotte.io.table_files import TableFile, listed, one_line, shortened
from melotte.io.tables import read_table, table_path

if TYPE_CHECKING:
    from astropy.table import Table

Array = NDArray[np.float64]

POSITION_NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "name", "cluster_id", "cluster", "object_id", "source_id", "number", "pcid"),
    "ra": ("ra", "raj2000", "ra_deg", "radeg", "ra_icrs", "alpha_j2000", "_raj2000"),
    "dec": ("dec", "dej2000", "decj2000", "dec_deg", "dedeg", "de_icrs", "delta_j2000", "_dej2000"),
    "x": ("x", "x_pixel", "xpix", "xcentroid", "x_centroid", "x_image", "xcen"),
    "y": ("y", "y_pixel", "ypix", "ycentroid", "y_centroid", "y_image", "ycen"),
    "radius": ("radius", "mask_radius", "radius_arcsec"),
}
"""Recognised column names in lower case, preferred ones first."""

PLACES = ("ra", "dec", "x", "y")
"""What a position is told by."""

FROM_ONE = ("x_image", "y_image")
"""Names under which SExtractor writes pixel coordinates that begin at 1."""


@dataclass(frozen=True)
class ImagePositions:
    """Positions of objects, on the sky or in pixels or both.

    Parameters
    ----------
    ids : tuple of str, length n
    ra, dec : array, shape (n,), deg, or None
        ICRS; NaN where missing.
    x, y : array, shape (n,), px, or None
        Column and row in the image; the centre of the first pixel is 0.
    radius : array, shape (n,), arcsec, or None
    """

    ids: tuple[str, ...]
    ra: Array | None = None
    dec: Array | None = None
    x: Array | None = None
    y: Array | None = None
    radius: Array | None = None

    def __len__(self) -> int:
        return len(self.ids)


def read_positions(
    source: str | Path | Table,
    column: Mapping[str, str] | None = None,
    pixel_origin: int = 0,
    radii: bool = False,
) -> ImagePositions:
    """Read positions from any table: ``ra`` and ``dec``, or ``x`` and ``y``.

    Right ascension is in degrees unless its unit says otherwise or it is sexagesimal text, which
    is in hours.

    Parameters
    ----------
    source : path or astropy Table
    column : mapping, optional
        From ``id``, ``ra``, ``dec``, ``x``, ``y``, ``radius`` to the table's names.
    pixel_origin : {0, 1}
        Pixel coordinate of the centre of the first pixel; SExtractor's names (``X_IMAGE``) are
        always from 1.
    radii : bool
        Whether a column is looked for that holds the radius of what is masked; otherwise one is
        read only where ``column`` names it.

    Raises
    ------
    MelotteFileError
        When the table cannot be read.
    MelotteValueError
        When there is no pair of coordinates, a unit does not convert, or a value is no coordinate.
    """
    path = table_path(source)
    recognised: list[dict[str, str]] = []

    def choose(names: Sequence[str]) -> Sequence[str]:
        found = _recognised(names, column, str(path), radii)
        recognised.append(found)
        return list(found.values())

    table = read_table(source, choose)
    found = recognised[-1]
    values: dict[str, Array] = {}
    if {"ra", "dec"} <= found.keys():
        values["ra"] = _angle(table, found["ra"], hours=True)
        values["dec"] = _angle(table, found["dec"], hours=False)
        for name, low, high in (("ra", -360, 360), ("dec", -90, 90)):
            wrong = ~((values[name] >= low) & (values[name] <= high)) & np.isfinite(values[name])
            if wrong.any():
                row = int(np.argmax(wrong))
                raise MelotteValueError(
                    f"{path}: row {row + 1}, column {found[name]!r}: {values[name][row]:g} is "
                    f"outside [{low}, {high}] deg"
                )
    if {"x", "y"} <= found.keys():
        for name in ("x", "y"):
            origin = 1 if normalised(found[name]) in FROM_ONE else pixel_origin
            values[name] = table.numbers(found[name]) - origin
    if "radius" in found:
        values["radius"] = table.numbers_in(found["radius"], "arcsec")
    ids = tuple(str(row + 1) for row in range(table.n_rows))
    if "id" in found:
        named = table.text(found["id"])
        ids = tuple(str(name) or ids[row] for row, name in enumerate(named))
    return ImagePositions(ids, **values)


def _recognised(
    names: Sequence[str], column: Mapping[str, str] | None, where: str, radii: bool
) -> dict[str, str]:
    found = {
        name: matching_name(theirs, names, where, f"--column {name}=")
        for name, theirs in quantities(column, _quantity).items()
    }
    spelled: dict[str, str] = {}
    for name in names:
        if name not in found.values():
            spelled.setdefault(normalised(name), name)
    for quantity, aliases in POSITION_NAMES.items():
        present = [alias for alias in aliases if alias in spelled]
        if quantity not in found and present and (radii or quantity != "radius"):
            found[quantity] = spelled[present[0]]
    if not ({"ra", "dec"} <= found.keys() or {"x", "y"} <= found.keys()):
        raise MelotteValueError(
            f"{where} has no columns ra and dec, nor x and y; found: {listed(names)}; map yours "
            "with --column ra=THEIRS --column dec=THEIRS"
        )
    return found


def _quantity(name: str) -> str:
    spelled = normalised(name)
    for quantity, aliases in POSITION_NAMES.items():
        if spelled == quantity or spelled in aliases:
            return quantity
    raise MelotteValueError(
        f"--column: unknown NAME {name!r}{did_you_mean(name, POSITION_NAMES)}; "
        f"known: {listed(POSITION_NAMES)}"
    )


def _angle(table: TableFile, name: str, hours: bool) -> Array:
    """A column of angles in deg; sexagesimal text is hours for right ascension."""
    column: Any = table.columns[name]
    if column.dtype.kind != "O" or not any(_sexagesimal(value) for value in column):
        return table.numbers_in(name, "deg")
    from astropy import units
    from astropy.coordinates import Angle

    unit = units.hourangle if hours else units.deg
    degrees = np.full(len(column), np.nan)
    for row, value in enumerate(column):
        text = "" if value is None else str(value).strip()
        if not text:
            continue
        try:
            angle: Any = Angle(text, unit=unit)
            degrees[row] = angle.deg
        # Broken angles raise errors of several classes.
        except Exception as error:
            raise MelotteValueError(
                f"{table.path}: row {row + 1}, column {name!r}: {shortened(text)!r} is no angle "
                f"({one_line(error)})"
            ) from error
    return degrees


def _sexagesimal(value: Any) -> bool:
    return value is not None and any(mark in str(value).strip() for mark in ":hd ")
