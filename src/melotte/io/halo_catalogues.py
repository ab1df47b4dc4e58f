"""Haloes and galaxies of cosmological simulations, read from the files that simulators share.

Rockstar's ``hlist`` text (names in the first line, gzipped or not), UniverseMachine's catalogues as
structured ``.npy`` arrays, HDF5, and every table of :func:`melotte.io.tables.read_table`.
"""

from __future__ import annotations

import gzip
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError, did_you_mean
from melotte.io.gaia_columns import matching_name, normalised
from melotte.io.table_files import listed, one_line
from melotte.io.tables import read_table

Array = NDArray[np.float64]

NAMES: dict[str, tuple[str, ...]] = {
    "id": ("id", "halo_id", "haloid", "rockstarid", "rockstar_id"),
    "parent_id": ("upid", "pid", "parent_id", "host_id", "hosthaloid"),
    "x": ("x", "pos_x", "x_mpc_h"),
    "y": ("y", "pos_y", "y_mpc_h"),
    "z": ("z", "pos_z", "z_mpc_h"),
    "vx": ("vx", "vel_x"),
    "vy": ("vy", "vel_y"),
    "vz": ("vz", "vel_z"),
    "mass": ("m200c", "m_200c", "halo_mass_200c", "mvir", "m"),
    "peak_mass": ("mpeak", "mp", "macc"),
    "stellar_mass": ("obs_sm", "stellar_mass", "mstar", "sm"),
}
"""Recognised names, in lower case; the leftmost that a file has counts."""

NO_PARENT = -1
"""Parent of a halo that is no subhalo."""


@dataclass(frozen=True)
class SimulatedHaloes:
    """Haloes or galaxies in a periodic box.

    Parameters
    ----------
    id, parent_id : array of int64, shape (n,)
        The parent is ``-1`` for one that is no subhalo.
    position : array, shape (n, 3), comoving Mpc/h, within the box
    velocity : array, shape (n, 3), km/s, peculiar
    log_mass : array, shape (n,), log10(Msun/h)
        Of the mass column, by default M200c where there is one; NaN without.
    log_peak_mass : array, shape (n,), log10(Msun/h)
    log_stellar_mass : array, shape (n,), log10(Msun)
    box_size : float, comoving Mpc/h
    source : str
        The file.
    columns : mapping of str to str
        From melotte's names to the file's; ``mass`` tells which mass it is.
    """

    id: NDArray[np.int64]
    parent_id: NDArray[np.int64]
    position: Array
    velocity: Array
    log_mass: Array
    log_peak_mass: Array
    log_stellar_mass: Array
    box_size: float
    source: str
    columns: Mapping[str, str]

    def __len__(self) -> int:
        return len(self.id)

    @property
    def host_id(self) -> NDArray[np.int64]:
        """The halo that each belongs to: its parent, or itself, shape (n,)."""
        return np.where(self.parent_id == NO_PARENT, self.id, self.parent_id)

    def select(self, chosen: NDArray[Any]) -> SimulatedHaloes:
        """Some of them, by a mask or by numbers."""
        names = (
            "id", "parent_id", "position", "velocity", "log_mass", "log_peak_mass",
            "log_stellar_mass",
        )  # fmt: skip
        parts = {name: getattr(self, name)[chosen] for name in names}
        return SimulatedHaloes(
            **parts, box_size=self.box_size, source=self.source, columns=self.columns
        )


def read_haloes(
    source: str | Path,
    box_size: float,
    column: Mapping[str, str] | None = None,
    lowest: Mapping[str, float] | None = None,
    hubble: float | None = None,
    any_bound: bool = False,
    lenient: bool = False,
) -> SimulatedHaloes:
    """Read haloes or galaxies of a simulation.

    Parameters
    ----------
    source : str or Path
        Told by its content: numpy, HDF5 (datasets of one length, anywhere in the file), text that
        starts with ``#`` and names between blanks, or any table.
    box_size : float, comoving Mpc/h, > 0
        Positions must lie within it; those at its very edge are wrapped.
    column : mapping, optional
        From melotte's names (``id``, ``parent_id``, ``x``, ``y``, ``z``, ``vx``, ``vy``, ``vz``,
        ``mass``, ``peak_mass``, ``stellar_mass``) to the file's. ``position`` and ``velocity`` may
        name columns of three values, or of six as UniverseMachine's ``pos``.
    lowest : mapping, optional
        Lowest ``mass`` or ``peak_mass`` (Msun/h) or ``stellar_mass`` (Msun) of a row that is kept.
    hubble : float, optional
        Given where halo masses are in Msun and not Msun/h: they are multiplied by it.

    any_bound : bool
        Keep rows that reach any of the bounds, not all; a quantity that the file lacks reaches
        none.
    lenient : bool
        Pass over entries of ``column`` that name columns of other files.

    Returns
    -------
    SimulatedHaloes

    Raises
    ------
    MelotteFileError
        When the file cannot be read, or is a pickle.
    MelotteValueError
        When a column is missing, positions lie outside the box, or a setting is not allowed.
    """
    path = Path(source)
    if not box_size > 0:
        raise MelotteValueError(f"box_size {box_size:g} is not above 0 Mpc/h")
    bounds = dict(lowest or {})
    for name in bounds:
        if name not in ("mass", "peak_mass", "stellar_mass"):
            raise MelotteValueError(f"lowest: {name!r} is not one of mass, peak_mass, stellar_mass")
    columns, found = _columns(path, column or {}, lenient)
    values = {name: np.asarray(columns[theirs]) for name, theirs in found.items()}
    n = len(values["id"])
    nothing = np.full(n, np.nan)
    scale = 1.0 if hubble is None else hubble
    masses = {
        "mass": np.asarray(values.get("mass", nothing), float) * scale,
        "peak_mass": np.asarray(values.get("peak_mass", nothing), float) * scale,
        "stellar_mass": np.asarray(values.get("stellar_mass", nothing), float),
    }
    keep = np.full(n, not (any_bound and bounds))
    for name, bound in bounds.items():
        if any_bound:
            keep |= masses[name] >= bound
            continue
        if name not in found:
            raise MelotteValueError(
                f"{path} has no column for {name}, whose lowest value is given; "
                f"found: {listed(columns)}"
            )
        keep &= masses[name] >= bound
    rows = np.flatnonzero(keep)
    position = _vectors(values, "position", ("x", "y", "z"), 0, rows)
    velocity = _vectors(values, "velocity", ("vx", "vy", "vz"), 3, rows)
    parent = np.asarray(values.get("parent_id", np.full(n, NO_PARENT)))[rows].astype(np.int64)
    logs = {f"log_{name}": _log10(mass[rows]) for name, mass in masses.items()}
    return SimulatedHaloes(
        id=values["id"][rows].astype(np.int64),
        parent_id=np.where(parent < 0, NO_PARENT, parent),
        position=_wrapped(position, box_size, path),
        velocity=velocity,
        **logs,
        box_size=float(box_size),
        source=str(path),
        columns=found,
    )


def _columns(
    path: Path, column: Mapping[str, str], lenient: bool
) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Columns of the file by its names, and which of them hold what."""
    magic = _magic(path)
    if magic.startswith(b"\x93NUMPY"):
        return _numpy(path, column, lenient)
    if magic.startswith(b"\x89HDF"):
        return _hdf5(path, column, lenient)
    if magic.startswith(b"#") and not magic.startswith(b"# %ECSV"):
        return _hlist(path, column, lenient)
    found: dict[str, str] = {}

    def choose(names: Sequence[str]) -> Sequence[str]:
        found.update(_recognised(names, column, path, lenient))
        return list(found.values())

    return read_table(path, choose).columns, found


def _magic(path: Path) -> bytes:
    try:
        with _opened(path) as file:
            return file.read(16)
    except FileNotFoundError as error:
        raise MelotteFileError(f"{path} does not exist; give a halo catalogue") from error
    except (OSError, EOFError) as error:
        raise MelotteFileError(f"{path} cannot be read: {one_line(error)}") from error


def _opened(path: Path) -> BinaryIO:
    with path.open("rb") as file:
        packed = file.read(2) == b"\x1f\x8b"
    return cast(BinaryIO, gzip.open(path, "rb")) if packed else path.open("rb")


def _numpy(
    path: Path, column: Mapping[str, str], lenient: bool
) -> tuple[Mapping[str, Any], dict[str, str]]:
    try:
        table = np.load(path, allow_pickle=False, mmap_mode="r")
    except (ValueError, OSError, EOFError) as error:
        raise MelotteFileError(
            f"{path} is no numpy array that can be read without pickle ({one_line(error)})"
        ) from error
    names = table.dtype.names
    if names is None:
        raise MelotteFileError(
            f"{path} holds an array without column names; save a structured array"
        )
    found = _recognised(names, column, path, lenient)
    return {theirs: table[theirs] for theirs in found.values()}, found


def _hdf5(
    path: Path, column: Mapping[str, str], lenient: bool
) -> tuple[Mapping[str, Any], dict[str, str]]:
    import h5py

    try:
        with h5py.File(path, "r") as file:
            datasets: dict[str, tuple[str, str | None]] = {}

            def visit(name: str, node: Any) -> None:
                if not isinstance(node, h5py.Dataset):
                    return
                for inner in node.dtype.names or ():
                    datasets[inner] = (name, inner)
                if node.dtype.names is None and node.ndim >= 1:
                    datasets[name if name in column.values() else name.split("/")[-1]] = name, None

            file.visititems(visit)
            found = _recognised(list(datasets), column, path, lenient)
            columns: dict[str, Any] = {}
            for theirs in found.values():
                name, inner = datasets[theirs]
                node: Any = file[name]
                columns[theirs] = node[inner] if inner is not None else node[...]
    except OSError as error:
        raise MelotteFileError(f"{path}: the HDF5 file is damaged ({one_line(error)})") from error
    lengths = {theirs: len(values) for theirs, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise MelotteFileError(f"{path}: columns differ in length: {lengths}")
    return columns, found


def _hlist(
    path: Path, column: Mapping[str, str], lenient: bool
) -> tuple[Mapping[str, Any], dict[str, str]]:
    """Text of Rockstar or consistent-trees: ``#scale(0) id(1) ...``, comments, numbers."""
    with _opened(path) as file:
        header = file.readline().decode("utf-8", "replace")
    # Rockstar numbers its columns, and some names hold brackets of their own: "Mvir(2)(10)".
    names = [re.sub(r"\(\d+\)$", "", word) for word in header.lstrip("#").split()]
    found = _recognised(names, column, path, lenient)
    wanted = list(dict.fromkeys(found.values()))
    places = [names.index(theirs) for theirs in wanted]
    kinds = [
        (theirs, np.int64 if theirs in (found["id"], found.get("parent_id")) else np.float64)
        for theirs in wanted
    ]
    with _opened(path) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", errors="replace")
        try:
            table = np.loadtxt(
                text, comments="#", usecols=places, dtype=np.dtype(kinds), ndmin=1, max_rows=None
            )
        except (ValueError, IndexError, EOFError, OSError) as error:
            raise MelotteFileError(f"{path}: {one_line(error)}") from error
    if not len(table):
        raise MelotteFileError(f"{path} has column names but no rows; at least one is needed")
    return {theirs: table[theirs] for theirs in wanted}, found


def _recognised(
    names: Sequence[str], column: Mapping[str, str], path: Path, lenient: bool
) -> dict[str, str]:
    known = (*NAMES, "position", "velocity")
    lower = {name.lower() for name in names}
    found: dict[str, str] = {}
    for name, theirs in column.items():
        if name not in known:
            raise MelotteValueError(
                f"column {name!r} is not a quantity of haloes{did_you_mean(name, known)}; "
                f"known: {listed(known)}"
            )
        if not lenient or theirs.lower() in lower:
            found[name] = matching_name(theirs, names, str(path), f"--column {name}=")
    spelled: dict[str, str] = {}
    for name in names:
        spelled.setdefault(normalised(name), name)
    for quantity, aliases in NAMES.items():
        present = [spelled[alias] for alias in aliases if alias in spelled]
        if quantity not in found and present:
            found[quantity] = present[0]
    if "pos" in spelled and not {"x", "y", "z"} <= found.keys():
        found.setdefault("position", spelled["pos"])
        found.setdefault("velocity", spelled.get("vel", spelled["pos"]))
    for vector, parts in (("position", ("x", "y", "z")), ("velocity", ("vx", "vy", "vz"))):
        missing = [part for part in parts if part not in found]
        if vector in found:
            for part in parts:
                found.pop(part, None)
        elif missing:
            raise MelotteValueError(
                f"{path} has no column for {missing[0]}; found: {listed(names)}; "
                f"map yours with --column {missing[0]}=THEIRS"
            )
    if "id" not in found:
        raise MelotteValueError(
            f"{path} has no column for id; found: {listed(names)}; "
            "map yours with --column id=THEIRS"
        )
    return found


def _vectors(
    values: Mapping[str, Any],
    whole: str,
    parts: tuple[str, ...],
    begin: int,
    rows: NDArray[np.int64],
) -> Array:
    """Three columns, or the three (of six, from ``begin``) of one, as (n_rows, 3)."""
    if whole not in values:
        return np.stack([np.asarray(values[part])[rows].astype(float) for part in parts], axis=1)
    array = np.asarray(values[whole])
    if array.ndim != 2 or array.shape[1] not in (3, 6):
        raise MelotteValueError(f"{whole} must hold three or six values a row, found {array.shape}")
    first = begin if array.shape[1] == 6 else 0
    return array[rows, first : first + 3].astype(float)


def _wrapped(position: Array, box_size: float, path: Path) -> Array:
    # Single precision puts haloes a rounding error outside the box.
    slack = 1e-5 * box_size
    if len(position) and not (
        np.isfinite(position).all()
        and position.min() >= -slack
        and position.max() <= box_size + slack
    ):
        raise MelotteValueError(
            f"{path}: positions from {np.min(position):g} to {np.max(position):g} do not fit a box "
            f"of {box_size:g} Mpc/h; positions in kpc or another box_size?"
        )
    return np.mod(position, box_size)


def _log10(mass: Array) -> Array:
    return np.log10(np.where(mass > 0, mass, np.nan))
