"""Stars of a simulated cluster from any table: CSV, TSV, ECSV, FITS, VOTable or parquet."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError, did_you_mean
from melotte.io.column_options import quantities
from melotte.io.density_centres import centred
from melotte.io.gaia_columns import matching_name, normalised
from melotte.io.simulation_files import SimulationOptions, main_sequence_kind
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import TableFile, listed
from melotte.io.tables import read_table

OPTIONS = ("time", "metallicity", "column", "unit")

NAMES: dict[str, tuple[str, ...]] = {
    "mass": ("m", "mass_msun", "m_msun"),
    "kind": ("kw", "kstar", "k", "type", "stellar_type", "startype", "star_type"),
    "x": ("x1", "pos_x", "x_pc"),
    "y": ("x2", "pos_y", "y_pc"),
    "z": ("x3", "pos_z", "z_pc"),
    "vx": ("v1", "vel_x", "vx_kms"),
    "vy": ("v2", "vel_y", "vy_kms"),
    "vz": ("v3", "vel_z", "vz_kms"),
    "radius": ("r", "r_pc"),
    "radial_velocity": ("vr", "v_r", "vr_kms"),
    "tangential_velocity": ("vt", "v_t", "vt_kms"),
    "luminosity": ("l", "lum", "lbol", "l_lsun", "luminosity_lsun"),
    "temperature": ("teff", "t_eff", "temp"),
    "magnitude_v": ("mag_v", "v", "mv", "m_v", "v_mag"),
    "magnitude_b": ("mag_b", "b", "mb", "m_b", "b_mag"),
    "initial_mass": ("m0", "mass0", "mzams", "m_zams", "m_ini", "mini"),
    "id": ("ids", "name", "nam"),
    "system": ("system_id", "binary_id", "pair"),
}
"""Recognised names by quantity, in lower case with ``-`` and blanks written ``_``."""

UNITS: dict[str, str] = {
    **dict.fromkeys(("mass", "initial_mass"), "Msun"),
    **dict.fromkeys(("x", "y", "z", "radius"), "pc"),
    **dict.fromkeys(("vx", "vy", "vz", "radial_velocity", "tangential_velocity"), "km/s"),
    "luminosity": "Lsun",
    "temperature": "K",
    **dict.fromkeys(("magnitude_v", "magnitude_b"), "mag"),
}
"""Units in which melotte holds quantities; a column without a unit is taken to be in them."""

_PLACE, _MOTION = ("x", "y", "z"), ("vx", "vy", "vz")
_STATED = {"time": "time_myr", "metallicity": "metallicity"}


def snapshot_quantity(name: str) -> str:
    """Melotte's name of a quantity, given that name or any alias.

    Raises
    ------
    MelotteValueError
        When no quantity has that name; the message lists all.
    """
    spelled = normalised(name)
    for quantity, aliases in NAMES.items():
        if spelled == quantity or spelled in aliases:
            return quantity
    raise MelotteValueError(
        f"column: unknown NAME {name!r}{did_you_mean(name, NAMES)}; known: {listed(NAMES, most=40)}"
    )


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The snapshot of a table, one star a row.

    ``mass`` and a place (``x``, ``y``, ``z``, or ``radius``) are needed. Positions are moved to
    the density centre. Time and [Fe/H] are the user's to give, or stand in the table's metadata as
    ``time_myr`` and ``metallicity``. Without a column of types every star is called a
    main-sequence star.

    Raises
    ------
    MelotteFileError
        When the file cannot be read.
    MelotteValueError
        When a column is missing, or a unit does not convert.
    """
    table = read_table(path)
    names = list(table.columns)
    found = _found(names, options.column, str(path))
    if "mass" not in found or not (set(_PLACE) <= set(found) or "radius" in found):
        missing = "mass" if "mass" not in found else "x, y and z, nor for radius"
        raise MelotteValueError(
            f"{path} has no column for {missing}; found: {listed(names)}; "
            "map yours with --column NAME=THEIRS"
        )
    units = dict(table.units)
    for name, unit in options.unit.items():
        quantity = snapshot_quantity(name)
        if quantity not in found:
            raise MelotteValueError(f"{path}: a unit is given for {name}, which has no column")
        units[found[quantity]] = unit
    columns = _converted(replace(table, units=units), found)
    known: dict[str, Any] = {}
    mass = columns.pop("mass")
    if set(_PLACE) <= set(columns):
        position = np.stack([columns.pop(name) for name in _PLACE], axis=1)
        velocity = None
        if set(_MOTION) <= set(columns):
            velocity = np.stack([columns.pop(name) for name in _MOTION], axis=1)
        known["position"], known["velocity"] = centred(position, velocity, mass)
        for name in ("radius", "radial_velocity", "tangential_velocity"):
            columns.pop(name, None)
    for name in (*_PLACE, *_MOTION):
        columns.pop(name, None)
    if "kind" not in found:
        known["provenance"] = {"assumed": "all stars are on the main sequence"}
    kind = table.integers(found["kind"]) if "kind" in found else main_sequence_kind(mass)
    for field, name in (("ids", "id"), ("system", "system")):
        if name in found:
            known[field] = _numbered(table, found[name])
    yield options.snapshot(path, "table", mass, kind, **_stated(table), **columns, **known)


def _found(names: list[str], column: Mapping[str, str], where: str) -> dict[str, str]:
    found = {
        name: matching_name(theirs, names, where, f"--column {name}=")
        for name, theirs in quantities(column, snapshot_quantity).items()
    }
    free = {normalised(name): name for name in names if name not in found.values()}
    for quantity, aliases in NAMES.items():
        present = [alias for alias in (quantity, *aliases) if alias in free]
        if quantity not in found and present:
            found[quantity] = free[present[0]]
    return found


def _converted(table: TableFile, found: Mapping[str, str]) -> dict[str, NDArray[np.float64]]:
    return {
        quantity: table.numbers_in(name, UNITS[quantity])
        for quantity, name in found.items()
        if quantity in UNITS
    }


def _numbered(table: TableFile, name: str) -> NDArray[np.int64]:
    """Whole numbers as they are; texts by the order in which they sort."""
    if table.columns[name].dtype.kind in "iuf":
        return table.integers(name)
    return np.unique(table.text(name).astype(str), return_inverse=True)[1].astype(np.int64)


def _stated(table: TableFile) -> dict[str, float]:
    """Time and metallicity from the metadata."""
    lower = {key.lower(): value for key, value in table.metadata.items()}
    stated = {}
    for name, key in _STATED.items():
        if key in lower:
            try:
                stated[name] = float(lower[key])
            except ValueError as error:
                raise MelotteValueError(
                    f"{table.path}: metadata {key} is {lower[key]!r}, must be a number"
                ) from error
    return stated
