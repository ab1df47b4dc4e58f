"""One call to read the snapshots of a simulated star cluster, whatever code wrote them."""

from __future__ import annotations

import gzip
import importlib
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError, did_you_mean
from melotte.io.simulation_files import SimulationOptions
from melotte.io.star_snapshots import StarSnapshot
from melotte.io.table_files import one_line

_HEAD_BYTES = 8192


@dataclass(frozen=True)
class _Reader:
    """Where a format is read, and what it is called in messages."""

    module: str
    means: str
    function: str = "read"


FORMATS: dict[str, _Reader] = {
    "nbody6": _Reader("nbody6_files", "NBODY6 OUT3 or NBODY6++ conf.3"),
    "nbody6++gpu": _Reader("nbody6_hdf5", "NBODY6++GPU HDF5"),
    "cmc": _Reader("cmc_files", "CMC HDF5 snapshots"),
    "cmc-text": _Reader("cmc_files", "CMC snap*.dat.gz", "read_text"),
    "cmc-initial": _Reader("cmc_initial_files", "CMC initial conditions"),
    "mocca": _Reader("mocca_files", "MOCCA"),
    "mcluster": _Reader("mcluster_files", "McLuster dat.10"),
    "amuse": _Reader("amuse_files", "AMUSE HDF5"),
    "petar": _Reader("petar_files", "PeTar"),
    "table": _Reader("snapshot_tables", "CSV, TSV, ECSV, FITS, VOTable or parquet"),
}
"""Formats by the names under which a user may ask for them."""


def read_snapshots(
    path: str | Path,
    format: str | None = None,
    *,
    time: float | None = None,
    metallicity: float | None = None,
    column: Mapping[str, str] | None = None,
    unit: Mapping[str, str] | None = None,
    conversion: str | Path | None = None,
    singles: str | Path | None = None,
    binaries: str | Path | None = None,
) -> Iterator[StarSnapshot]:
    """Snapshots of a simulated star cluster, one time after the other.

    Parameters
    ----------
    path : str or Path
    format : str, optional
        A key of :data:`FORMATS`; told from the content without.
    time : float, Myr, optional
        Of files that do not say (MOCCA, tables); goes before what a file says.
    metallicity : float, optional
        [Fe/H], likewise.
    column, unit : mapping of str to str, optional
        Of tables: from melotte's names (``mass``, ``kind``, ``x`` to ``z``, ``vx`` to ``vz``,
        ``radius``, ``radial_velocity``, ``tangential_velocity``, ``luminosity``, ``temperature``,
        ``magnitude_v``, ``magnitude_b``, ``initial_mass``, ``id``, ``system``) to the table's, and
        to units of columns that state none.
    conversion : path, optional
        Of CMC snapshots: the run's ``conv.sh``, where it is not beside them.
    singles, binaries : path, optional
        Of NBODY6 and NBODY6++: stellar evolution (``fort.83``, ``sev.83_*``; ``fort.82``,
        ``bev.82_*``).

    Yields
    ------
    StarSnapshot
        Of a file of many times one after the other: no more than one is held in memory.

    Raises
    ------
    MelotteFileError
        When the file is missing, of no known format, truncated or damaged.
    MelotteValueError
        When the format is unknown, or takes no such option.
    """
    path = Path(path)
    head = _head(path)
    name = snapshot_format(path, head) if format is None else format
    if name not in FORMATS:
        raise MelotteValueError(
            f"no format {name!r} of snapshots{did_you_mean(name, FORMATS)}; "
            f"there are: {', '.join(FORMATS)}"
        )
    reader = FORMATS[name]
    module = importlib.import_module(f"melotte.io.{reader.module}")
    given: dict[str, Any] = {
        "time": time,
        "metallicity": metallicity,
        "column": column or {},
        "unit": unit or {},
        "conversion": conversion,
        "singles": singles,
        "binaries": binaries,
    }
    options = SimulationOptions(**given)
    for one in fields(options):
        if one.name not in module.OPTIONS and given[one.name] not in (None, {}):
            raise MelotteValueError(
                f"{path}: snapshots of {reader.means} take no {one.name}; "
                f"allowed: {', '.join(module.OPTIONS)}"
            )
    return _read(path, reader, getattr(module, reader.function), options)


def _read(path: Path, reader: _Reader, function: Any, options: SimulationOptions) -> Any:
    try:
        yield from function(path, options)
    except MelotteError:
        raise
    except (ArithmeticError, LookupError, OSError, RuntimeError, TypeError, ValueError) as error:
        raise MelotteFileError(
            f"{path} cannot be read as {reader.means}: {one_line(error)}"
        ) from error


def snapshot_format(path: Path, head: bytes) -> str:
    """Which code wrote a file, told from its first bytes.

    Parameters
    ----------
    path : Path
    head : bytes
        The first few thousand bytes, unpacked.

    Returns
    -------
    str
        A key of :data:`FORMATS`; ``"table"`` for whatever is not known.

    Raises
    ------
    MelotteFileError
        When it is an HDF5 file of no known code.
    """
    from melotte.io import cmc_files, nbody6_files, petar_files

    if head.startswith(b"\x89HDF"):
        return _hdf5_format(path)
    if nbody6_files.recognises(head):
        return "nbody6"
    if cmc_files.recognises_text(head):
        return "cmc-text"
    if b"\0" in head and petar_files.recognises(path, head):
        return "petar"
    if petar_files.recognises_text(head):
        return "petar"
    return _text_format(head)


def _text_format(head: bytes) -> str:
    lines = [line for line in head.split(b"\n")[:-1] if not line.startswith(b"#")] or [head]
    words = lines[0].split()
    try:
        [float(word) for word in words]
    except ValueError:
        return "table"
    by_width = {7: "mcluster", 30: "mocca", 40: "mocca"}
    return by_width.get(len(words), "table")


def _hdf5_format(path: Path) -> str:
    import h5py

    from melotte.io import amuse_files, cmc_files, cmc_initial_files, nbody6_hdf5

    try:
        with h5py.File(path, "r") as file:
            names = [str(name) for name in file]
    except OSError as error:
        raise MelotteFileError(f"{path}: damaged HDF5 file ({one_line(error)})") from error
    for name, reader in (
        ("nbody6++gpu", nbody6_hdf5),
        ("cmc-initial", cmc_initial_files),
        ("cmc", cmc_files),
        ("amuse", amuse_files),
    ):
        if reader.recognises(names):
            return name
    found = ", ".join(names[:6]) or "nothing"
    raise MelotteFileError(
        f"{path} is an HDF5 file of no known code; it holds {found}; known: groups Step#N "
        "(NBODY6++GPU), tables N(t=...) and CLUS_OBJ_DATA (CMC), AMUSE_INF or particles (AMUSE)"
    )


def _head(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD_BYTES)
        if head.startswith(b"\x1f\x8b"):
            with gzip.open(path) as file:
                head = file.read(_HEAD_BYTES)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or one_line(error)
        raise MelotteFileError(f"{path} cannot be read: {reason}") from error
    if not head.strip():
        raise MelotteFileError(f"{path} is empty; snapshots of a star cluster are needed")
    return head
