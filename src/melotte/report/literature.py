"""Literature values of one parameter, with their errors, from a table that a user gives."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from melotte.api import plain_name
from melotte.io.literature_tables import (
    ID_COLUMNS,
    VALUES,
    column_of,
    errors_of,
)
from melotte.io.table_files import TableFile

SOURCES = ("reference", "ref", "source", "method", "bibcode")


@dataclass(frozen=True)
class LiteratureValue:
    """One value of one object.

    Parameters
    ----------
    value : float, the parameter's unit
    lower, upper : float, >= 0
        Errors downwards and upwards; NaN where unknown.
    reference : str
        Who says so; the file's name where the table does not tell.
    """

    value: float
    lower: float
    upper: float
    reference: str


def literature_values(table: TableFile, parameter: str) -> dict[str, list[LiteratureValue]]:
    """Values of a parameter by object.

    Parameters
    ----------
    table : TableFile
        Of :func:`~melotte.io.literature_tables.read_literature`: ``id`` (or ``Cluster``, ``Name``,
        ``key``) and a column named like the parameter. Errors are those of
        :func:`~melotte.io.literature_tables.errors_of`. An object may have several rows, told
        apart by a column ``reference``.
    parameter : str

    Returns
    -------
    dict of str to list of LiteratureValue
        By :func:`melotte.api.plain_name`; empty where the table lacks the columns. Rows without
        a finite value are left out.
    """

    def first(names: tuple[str, ...]) -> str | None:
        return column_of(table, names, parameter)

    key, value = first(ID_COLUMNS), first(VALUES)
    if key is None or value is None:
        return {}
    values = table.numbers(value)
    down, up = errors_of(table, parameter)
    whose = first(SOURCES)
    references = [table.path.stem] * table.n_rows if whose is None else table.text(whose)
    found: dict[str, list[LiteratureValue]] = {}
    for row, name in enumerate(table.text(key)):
        if np.isfinite(values[row]):
            one = LiteratureValue(
                float(values[row]), float(down[row]), float(up[row]), str(references[row])
            )
            found.setdefault(plain_name(str(name)), []).append(one)
    return found
