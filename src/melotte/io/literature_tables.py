"""Tables of literature values that results are compared with."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from melotte.errors import MelotteFileError
from melotte.io.galaxy_columns import converted
from melotte.io.table_files import TableFile
from melotte.io.tables import read_table

AGES_IN_GYR = ("globular-clusters", "chardin-bianchini")
"""Systems whose literature may give ages in Gyr: those of globular clusters."""

ID_COLUMNS = ("id", "cluster", "name", "key")
"""Columns, in lower case, that name a table's objects; preferred ones first."""


def read_literature(path: str | Path, system: str = "") -> TableFile:
    """A table of literature values, with the ages of globular clusters in both forms.

    ``log_age`` (of years) and ``age`` (Gyr, or the unit of its column) are each filled in from the
    other where they are unknown, and so are ``log_age_50`` and ``age_50`` of a table of results; an
    age that is not above 0 is unknown.

    Parameters
    ----------
    path : path
    system : str
        Of the results; ages are filled in for those of :data:`AGES_IN_GYR`.

    Raises
    ------
    MelotteFileError
        When the file cannot be read as a table.
    MelotteValueError
        When an age is no number, or its unit is none of time.
    """
    table = read_table(path)
    if system not in AGES_IN_GYR:
        return table
    return _with_both_ages(_with_both_ages(table, "age", "log_age"), "age_50", "log_age_50")


def id_column(table: TableFile) -> str:
    """The column that names a table's objects.

    Raises
    ------
    MelotteFileError
        When it has none.
    """
    lower = {name.lower(): name for name in table.columns}
    for name in ID_COLUMNS:
        if name in lower:
            return lower[name]
    raise MelotteFileError(
        f"{table.path}: needs a column id (or Cluster, Name, key); found "
        f"{', '.join(map(str, table.columns))}"
    )


def _with_both_ages(table: TableFile, linear: str, logarithmic: str) -> TableFile:
    """The same with both columns, where it has either."""
    lower = {name.lower(): name for name in table.columns}
    own = {name: lower[name] for name in (linear, logarithmic) if name in lower}
    if not own:
        return table
    age = log_age = np.full(table.n_rows, np.nan)
    if linear in own:
        age = converted(table, own[linear], "Gyr")
        age = np.where(age > 0, age, np.nan)
    if logarithmic in own:
        log_age = table.numbers(own[logarithmic])
    ages = {
        linear: np.where(np.isfinite(age), age, 10 ** (log_age - 9)),
        logarithmic: np.where(np.isfinite(log_age), log_age, np.log10(age) + 9),
    }
    columns = {name: one for name, one in table.columns.items() if name not in own.values()}
    units = {name: one for name, one in table.units.items() if name in columns}
    return replace(table, columns={**columns, **ages}, units={**units, linear: "Gyr"})
