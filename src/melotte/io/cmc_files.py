"""Snapshots of CMC, the Cluster Monte Carlo code: HDF5 tables, and text ``*.snapNNNN.dat.gz``.

HDF5 files hold one table a snapshot, called ``0(t=0Gyr)`` or, in code units, ``0(t=0.00123)``;
text files have a header of numbered names. Columns are named alike but for brackets (``m[MSUN]``,
``m_MSUN``). Written to CMC's source and documentation, not read from a file of a run.

References
----------
Rodriguez et al. 2022, ApJS 258, 22.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.cmc_units import CmcUnits, cmc_units
from melotte.io.simulation_files import (
    SimulationOptions,
    effective_temperature,
    evolved_luminosity,
    members,
    text_numbers,
)
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import read_bytes

OPTIONS = ("time", "metallicity", "conversion")

_KEY = re.compile(r"^(\d+)\(t=([-+.\deE]+?)(Gyr|Myr)?\)$")
_TEXT_TIME = re.compile(rb"^#\s*t=([-+.\deE]+)\s*\[code units\]")
_NUMBERED = re.compile(r"(\d+)[:.]([A-Za-z][\w.\[\]]*)")
_MYR = {"Gyr": 1000.0, "Myr": 1.0}
_NEEDED = ("r", "vr", "vt", "binflag", "m_MSUN", "m0_MSUN", "m1_MSUN", "startype")


def recognises(names: list[str]) -> bool:
    """Whether the tables of an HDF5 file are called as CMC calls snapshots."""
    return any(_KEY.match(name) for name in names)


def recognises_text(head: bytes) -> bool:
    """Whether the first bytes, unpacked, are the header of a text snapshot."""
    return bool(_TEXT_TIME.match(head))


def read(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """Snapshots of an HDF5 file, in order of their numbers.

    Radii and velocities are converted by the run's ``conv.sh``. A binary becomes two rows with the
    same `system`, radius and motion. Temperatures follow from L and R.

    Raises
    ------
    MelotteFileError
        When a table lacks a column.
    MelotteValueError
        When the units are not found.
    """
    import h5py

    units = cmc_units(path, options.conversion)
    with h5py.File(path, "r") as file:
        found = {str(name): match for name in file if (match := _KEY.match(str(name)))}
        for name, match in sorted(found.items(), key=lambda item: int(item[1][1])):
            time = float(match[2]) * (_MYR[match[3]] if match[3] else units.time)
            columns = _hdf5_columns(path, file[name])
            yield _snapshot(path, options, columns, units, time, {"snapshot": name})


def read_text(path: Path, options: SimulationOptions) -> Iterator[StarSnapshot]:
    """The snapshot of a text file, gzipped or not; see :func:`read`."""
    units = cmc_units(path, options.conversion)
    content = read_bytes(path)
    stated = _TEXT_TIME.match(content)
    if stated is None:
        raise MelotteFileError(f"{path}: the first line is not CMC's '# t=... [code units]; ...'")
    header = content[:8192].split(b"\n", 2)[1].decode("ascii", "replace")
    places = {_plain(name): int(number) - 1 for number, name in _NUMBERED.findall(header)}
    table = text_numbers(path, content, ())
    columns = {name: table[:, at] for name, at in places.items() if at < table.shape[1]}
    yield _snapshot(path, options, columns, units, float(stated[1]) * units.time, {})


def _plain(name: str) -> str:
    """``m[MSUN]`` as HDF5 files spell it, ``m_MSUN``."""
    return name.replace("[", "_").replace("]", "").replace(".", "_")


def _hdf5_columns(path: Path, table: Any) -> dict[str, NDArray[np.float64]]:
    """Columns of a compound dataset, or of the group that pandas wraps around one."""
    dataset = table["table"] if hasattr(table, "keys") else table
    rows = dataset[()]
    if rows.dtype.names is None or "r" not in rows.dtype.names:
        raise MelotteFileError(
            f"{path}, {table.name}: no table of named columns (compound rows with 'r', 'm_MSUN', "
            "...), as CMC writes it"
        )
    return {
        _plain(name): rows[name].astype(np.float64)
        for name in rows.dtype.names
        if rows.dtype[name].kind in "biuf"
    }


def _snapshot(
    path: Path,
    options: SimulationOptions,
    columns: Mapping[str, NDArray[np.float64]],
    units: CmcUnits,
    time: float,
    provenance: dict[str, Any],
) -> StarSnapshot:
    missing = [name for name in _NEEDED if name not in columns]
    if missing:
        raise MelotteFileError(f"{path}: CMC's columns {', '.join(missing)} are missing")
    unknown = np.full(len(columns["r"]), np.nan)
    binary = columns["binflag"] == 1

    def both(single: str, first: str, second: str) -> NDArray[np.float64]:
        primary = np.where(binary, columns.get(first, unknown), columns.get(single, unknown))
        return members(primary, columns.get(second, unknown), binary)

    def shared(name: str, unit: float) -> NDArray[np.float64]:
        return members(columns[name] * unit, columns[name] * unit, binary)

    number = np.arange(len(binary), dtype=np.float64)
    luminosity = both("luminosity_LSUN", "bin_star_lum0_LSUN", "bin_star_lum1_LSUN")
    radius = both("radius_RSUN", "bin_star_radius0_RSUN", "bin_star_radius1_RSUN")
    ids = both("id", "id0", "id1")
    return options.snapshot(
        path,
        "cmc",
        both("m_MSUN", "m0_MSUN", "m1_MSUN"),
        both("startype", "bin_startype0", "bin_startype1"),
        time=time,
        radius=shared("r", units.length),
        radial_velocity=shared("vr", units.speed),
        tangential_velocity=np.abs(shared("vt", units.speed)),
        luminosity=evolved_luminosity(luminosity),
        temperature=effective_temperature(luminosity, radius),
        ids=np.where(np.isfinite(ids), ids, -1),
        system=members(number, number, binary),
        provenance=provenance,
    )
