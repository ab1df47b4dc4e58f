"""One call to read a users' table, whatever its format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte.errors import MelotteFileError, MelotteValueError, did_you_mean
from melotte.io.binary_tables import from_masked, read_fits, read_parquet, read_votable
from melotte.io.delimited_text import Chooser, read_csv, read_ecsv
from melotte.io.table_files import TableFile, listed, read_bytes, table_format

if TYPE_CHECKING:
    from astropy.table import Table

_READERS: dict[str, Callable[[Path, bytes, Chooser], TableFile]] = {
    "csv": read_csv,
    "ecsv": read_ecsv,
    "fits": read_fits,
    "votable": read_votable,
    "parquet": read_parquet,
}


def read_table(
    source: str | Path | Table, columns: Sequence[str] | Chooser | None = None
) -> TableFile:
    """Read a table of CSV, TSV, ECSV, FITS, VOTable or parquet, gzipped or not.

    The format is told from the content; the name of the file matters only in error messages.

    Parameters
    ----------
    source : str, Path or astropy Table
        A table in memory goes through the same checks; its ``meta["name"]``, or ``table``, stands
        for the name of a file.
    columns : sequence of str, or callable, optional
        The columns to read, spelled as in the file; or a function from the file's names to these.
        All columns by default.

    Returns
    -------
    TableFile
        Arrays of native byte order with missing numbers as NaN, units and metadata.

    Raises
    ------
    MelotteFileError
        When the file is missing, a folder, empty, damaged, truncated, of a foreign kind, names two
        columns alike, or has no rows.
    MelotteValueError
        When a wanted column is not in the file.
    """
    path = table_path(source)

    def choose(names: Sequence[str]) -> Sequence[str]:
        twice = [name for name, count in Counter(names).items() if count > 1]
        if twice:
            raise MelotteFileError(
                f"{path}: column names must differ, found more than one {listed(twice)}"
            )
        chosen = names if columns is None else columns(names) if callable(columns) else columns
        for name in chosen:
            if name not in names:
                raise MelotteValueError(
                    f"{path} has no column {name!r}{did_you_mean(name, names)}; "
                    f"found: {listed(names)}"
                )
        if not chosen:
            raise MelotteValueError(f"{path}: no column was asked for; found: {listed(names)}")
        return list(dict.fromkeys(chosen))

    if isinstance(source, str | Path):
        content = read_bytes(path)
        table = _READERS[table_format(path, content)](path, content, choose)
    else:
        table = _from_memory(path, source, choose)
    if table.n_rows == 0:
        raise MelotteFileError(f"{path} has column names but no rows; at least one is needed")
    return table


def table_path(source: str | Path | Table) -> Path:
    """The path of a file, or a name that stands for it where the table is in memory.

    Raises
    ------
    MelotteValueError
        When the source is neither a path nor an astropy table.
    """
    if isinstance(source, str | Path):
        return Path(source)
    if not hasattr(source, "colnames"):
        raise MelotteValueError(
            f"a {type(source).__name__} is no table; give a path or an astropy Table"
        )
    return Path(str(dict(source.meta or {}).get("name", "table")))


def _from_memory(path: Path, source: Table, choose: Chooser) -> TableFile:
    chosen = choose([str(name) for name in source.colnames])
    given: dict[str, Any] = {name: source[name] for name in chosen}
    units = {name: str(column.unit) for name, column in given.items() if column.unit}
    columns = {}
    for name, column in given.items():
        values = getattr(column, "value", column)
        mask = np.asarray(getattr(column, "mask", False))
        bare = np.ma.getdata(getattr(values, "unmasked", values))
        columns[name] = from_masked(np.ma.MaskedArray(bare, mask))
    metadata = {str(key): str(value) for key, value in dict(source.meta or {}).items()}
    return TableFile(path, "memory", columns, units, metadata)
