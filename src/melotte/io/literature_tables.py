"""Tables of literature values that results are compared with."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.table_files import TableFile
from melotte.io.tables import read_table

Array = NDArray[np.floating[Any]]

AGES_IN_GYR = ("globular-clusters", "chardin-bianchini")
"""Systems whose literature may give ages in Gyr: those of globular clusters."""

POSITIVE = ("age", "distance", "half_mass_radius", "half_number_radius", "mass_to_light_v")
"""What is above 0 wherever it is known, as are logarithms of ages in years and masses in Msun."""

ID_COLUMNS = ("id", "cluster", "name", "key")
"""Columns, in lower case, that name a table's objects; preferred ones first."""

VALUES = ("{}", "{}_50")
"""Columns of a parameter's values, with its name put in; so are those below."""

ERRORS = ("{}_error", "{}_err", "e_{}", "{}_e", "{}_std", "sigma_{}")
LOWER_ERRORS = ("{}_error_lower", "{}_lower_error", "{}_err_lo", "e_{}_lower", "{}_minus")
UPPER_ERRORS = ("{}_error_upper", "{}_upper_error", "{}_err_hi", "e_{}_upper", "{}_plus")
LOWER_BOUND, UPPER_BOUND = ("{}_16",), ("{}_84",)
_ALL = (*VALUES, *ERRORS, *LOWER_ERRORS, *UPPER_ERRORS, *LOWER_BOUND, *UPPER_BOUND)


def read_literature(
    path: str | Path, system: str = "", units: Mapping[str, str] | None = None
) -> TableFile:
    """A table of literature values in the parameters' units, ages of globulars in both forms.

    Values of a parameter, their errors and bounds are converted to its unit from the one that
    their column states; errors and bounds without one are taken to be in that of the values.

    ``log_age`` (of years) and ``age`` (Gyr, or the unit of its column) are each filled in from the
    other where they are unknown, and so are ``log_age_50`` and ``age_50`` of a table of results.

    Zeros and negative numbers that stand for missing values, such as -99, count as unknown where
    the parameter is above 0 wherever it is known (:data:`POSITIVE`).

    Parameters
    ----------
    path : path
    system : str
        Of the results; ages are filled in for those of :data:`AGES_IN_GYR`.
    units : mapping of str to str, optional
        Unit of each parameter by its name; those without a unit are left as they are.

    Raises
    ------
    MelotteFileError
        When the file cannot be read as a table.
    MelotteValueError
        When a value is no number, or its unit does not convert to the parameter's.
    """
    wanted = dict(units or {})
    if system in AGES_IN_GYR:
        wanted |= {"age": "Gyr", "mass_to_light_v": ""}
    table = read_table(path)
    for parameter, unit in wanted.items():
        if unit:
            table = _in_unit(table, parameter, unit)
    for parameter in wanted:
        if parameter in POSITIVE or parameter.startswith("log_"):
            table = _without_placeholders(table, parameter)
    if system not in AGES_IN_GYR:
        return table
    return _with_both_ages(_with_both_ages(table, "age", "log_age"), "age_50", "log_age_50")


def column_of(table: TableFile, names: tuple[str, ...], parameter: str = "") -> str | None:
    """The first of some columns that a table has, in any case; None where it has none.

    Parameters
    ----------
    table : TableFile
    names : tuple of str
        Such as :data:`VALUES`; ``{}`` stands for the parameter.
    parameter : str
    """
    lower = {name.lower(): name for name in table.columns}
    spelled = (name.format(parameter).lower() for name in names)
    return next((lower[name] for name in spelled if name in lower), None)


def id_column(table: TableFile) -> str:
    """The column that names a table's objects.

    Raises
    ------
    MelotteFileError
        When it has none.
    """
    found = column_of(table, ID_COLUMNS)
    if found is not None:
        return found
    raise MelotteFileError(
        f"{table.path}: needs a column id (or Cluster, Name, key); found "
        f"{', '.join(map(str, table.columns))}"
    )


def errors_of(table: TableFile, parameter: str) -> tuple[Array, Array]:
    """Errors of a parameter's values, downwards and upwards.

    Read from ``NAME_error`` or ``e_NAME`` and the like, or from ``NAME_error_lower`` and
    ``NAME_error_upper``; where a table has none of these, from ``NAME_16`` and ``NAME_84``.

    Parameters
    ----------
    table : TableFile
        Of :func:`read_literature`, with a column of :data:`VALUES`.
    parameter : str

    Returns
    -------
    lower, upper : array, shape (n_rows,), >= 0, the parameter's unit
        NaN where unknown.
    """

    def first(names: tuple[str, ...]) -> str | None:
        return column_of(table, names, parameter)

    value = first(VALUES)
    below, above = first(LOWER_ERRORS) or first(ERRORS), first(UPPER_ERRORS) or first(ERRORS)
    low, high = first(LOWER_BOUND), first(UPPER_BOUND)
    if below is None and above is None and None not in (value, low, high):
        values = table.numbers(str(value))
        return values - table.numbers(str(low)), table.numbers(str(high)) - values
    unknown = np.full(table.n_rows, np.nan)
    down = unknown if below is None else np.abs(table.numbers(below))
    up = unknown if above is None else np.abs(table.numbers(above))
    return down, up


def _in_unit(table: TableFile, parameter: str, unit: str) -> TableFile:
    """The same with the columns of a parameter in a unit."""
    value = column_of(table, VALUES, parameter)
    if value is None:
        return table
    found = (column_of(table, (name,), parameter) for name in _ALL)
    own = [name for name in found if name is not None]
    stated = {name: table.units.get(name) or table.units.get(value, "") for name in own}
    told = replace(table, units={**table.units, **stated})
    columns = {name: told.numbers_in(name, unit) for name in own}
    units = dict.fromkeys(own, unit)
    return replace(table, columns={**table.columns, **columns}, units={**table.units, **units})


def _without_placeholders(table: TableFile, parameter: str) -> TableFile:
    """The same where a parameter that is always above 0 is unknown or above 0."""
    found = (column_of(table, (name,), parameter) for name in VALUES)
    columns: dict[str, Any] = {}
    for name in (one for one in found if one is not None):
        values = table.numbers(name)
        columns[name] = np.where(values > 0, values, np.nan)
        n = int((values <= 0).sum())
        if n:
            logging.getLogger(__name__).warning(
                "%s: %d values of %s are not above 0 and count as unknown", table.path, n, name
            )
    return replace(table, columns={**table.columns, **columns})


def _with_both_ages(table: TableFile, linear: str, logarithmic: str) -> TableFile:
    """The same with both columns, where it has either."""
    found = {name: column_of(table, (name,)) for name in (linear, logarithmic)}
    own = {name: column for name, column in found.items() if column is not None}
    if not own:
        return table
    age = log_age = np.full(table.n_rows, np.nan)
    if linear in own:
        age = table.numbers_in(own[linear], "Gyr")
    if logarithmic in own:
        log_age = table.numbers(own[logarithmic])
    ages = {
        linear: np.where(np.isfinite(age), age, 10 ** (log_age - 9)),
        logarithmic: np.where(np.isfinite(log_age), log_age, np.log10(age) + 9),
    }
    columns = {name: one for name, one in table.columns.items() if name not in own.values()}
    units = {name: one for name, one in table.units.items() if name in columns}
    return replace(table, columns={**columns, **ages}, units={**units, linear: "Gyr"})
