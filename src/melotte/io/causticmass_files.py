"""Text of galaxies as programs for the caustic technique write and read it: words between blanks.

RCausticMass and the like put names above (``CID dproj vlos zclus``); CausticSNUpy and CausticApp
begin with ``N`` or ``N ra dec cz`` of the cluster, then a line ``ra dec cz`` a galaxy.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from melotte.errors import MelotteFileError
from melotte.io.delimited_text import Chooser, read_csv
from melotte.io.table_files import TableFile, read_bytes, shortened, table_format
from melotte.io.tables import read_table

if TYPE_CHECKING:
    from astropy.table import Table

DELIMITERS = ",\t;|"
CAUSTIC_NAMES = ("ra", "dec", "cz")


@dataclass(frozen=True)
class CausticHeader:
    """The first line of a CausticSNUpy file.

    Parameters
    ----------
    n_galaxies : int
    centre : tuple of float, or None
        Right ascension and declination (deg) and c z (km/s) of the cluster.
    """

    n_galaxies: int
    centre: tuple[float, float, float] | None


def read_galaxy_table(
    source: str | Path | Table, columns: Chooser
) -> tuple[TableFile, CausticHeader | None]:
    """Read any table that :func:`melotte.io.tables.read_table` reads, or text between blanks.

    Parameters
    ----------
    source : str, Path or astropy Table
    columns : callable
        From the file's names to the wanted ones.

    Returns
    -------
    TableFile
    CausticHeader or None
        For a CausticSNUpy file; its columns are ``ra``, ``dec`` and ``cz`` (km/s).

    Raises
    ------
    MelotteFileError
        When the file cannot be read as a table, or holds more or fewer galaxies than it says.
    MelotteValueError
        When a wanted column is not in the file.
    """
    if not isinstance(source, str | Path):
        return read_table(source, columns), None
    path = Path(source)
    content = read_bytes(path)
    if table_format(path, content) != "csv":
        return read_table(path, columns), None
    lines = content.removeprefix(b"\xef\xbb\xbf").decode("utf-8", "replace").splitlines()
    rows = [line for line in lines if line.strip() and not line.lstrip().startswith("#")]
    if not rows or any(mark in rows[0] for mark in DELIMITERS):
        return read_table(path, columns), None
    first = rows[0].split()
    if all(_is_number(word) for word in first):
        return _caustic(path, first, rows, columns)
    table = _between_blanks(path, lines, columns)
    if table.n_rows == 0:
        raise MelotteFileError(f"{path} has column names but no rows; at least one is needed")
    return table, None


def _between_blanks(path: Path, lines: list[str], columns: Chooser) -> TableFile:
    """Read words between blanks as the same text with tabs; line numbers stay those of the file."""
    tabbed = [line if line.lstrip().startswith("#") else "\t".join(line.split()) for line in lines]
    single = [line for line in tabbed if line and not line.startswith("#")]
    if "\t" not in single[0]:
        return read_table(path, columns)
    return read_csv(path, "\n".join([*tabbed, ""]).encode(), columns)


def _caustic(
    path: Path, first: list[str], rows: list[str], columns: Chooser
) -> tuple[TableFile, CausticHeader]:
    if len(first) not in (1, 4) or not float(first[0]).is_integer():
        raise MelotteFileError(
            f"{path}: the first line {shortened(rows[0])!r} holds numbers but is neither 'N' nor "
            "'N ra dec cz'; begin with a line of column names, or as CausticSNUpy does"
        )
    header = CausticHeader(
        int(float(first[0])),
        (float(first[1]), float(first[2]), float(first[3])) if len(first) == 4 else None,
    )
    if len(rows) - 1 != header.n_galaxies:
        raise MelotteFileError(
            f"{path}: the first line says {header.n_galaxies} galaxies and {len(rows) - 1} lines "
            "follow; they must agree"
        )
    if header.n_galaxies < 1:
        raise MelotteFileError(f"{path}: the first line says 0 galaxies; at least one is needed")
    text = "\n".join(["\t".join(CAUSTIC_NAMES), *("\t".join(row.split()) for row in rows[1:]), ""])
    table = read_csv(path, text.encode(), columns)
    units = {name: "km/s" for name in ("cz",) if name in table.columns}
    return replace(table, units=units), header


def _is_number(word: str) -> bool:
    try:
        return bool(np.isfinite(float(word)))
    except ValueError:
        return False
