"""How good a model and its results are: on mocks it has not seen, and beside literature values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.api.models import load, with_other_mocks
from melotte.api.sources import Paths
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.object_names import plain_name

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.evaluation import Evaluation
    from melotte.engine.model_files import Model
    from melotte.io.table_files import TableFile


def evaluate(
    model: Model | str | Path,
    *,
    bank: Paths | None = None,
    n: int = 5000,
    seed: int = 1,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
) -> Evaluation:
    """Judge a model on mocks it has not seen.

    Parameters
    ----------
    model : Model, shipped name or path
    bank : path or paths, optional
        A fixed bank; otherwise ``n`` mocks are drawn with ``seed``.
    n, seed : int
    overrides : sequence of str
        Data settings of the mocks, where they are to be others than the training's, such as
        ``data.library=mine.h5``; listed in the evaluation's ``extra``.
    progress : bool, optional

    Returns
    -------
    Evaluation

    Raises
    ------
    MelotteValueError
        When a setting is not allowed, or is given with a bank, which has its own.
    """
    from melotte.engine.evaluation import evaluate as run_evaluation

    if isinstance(model, str | Path):
        model = load(model)
    if not overrides:
        return run_evaluation(model, bank=bank, n=n, seed=seed, progress=progress)
    if bank is not None:
        raise MelotteValueError(f"{overrides[0]}: a bank's mocks are made; leave settings out")
    other = with_other_mocks(model, overrides)
    found = run_evaluation(other, n=n, seed=seed, progress=progress)
    return replace(found, extra={**found.extra, "settings": list(overrides)})


def compare(result: Any, literature: str | Path | TableFile) -> Table:
    """Join a result table with a table of literature values.

    Parameters
    ----------
    result : astropy Table, one row an object, with ``id``
    literature : path, or TableFile of :func:`~melotte.io.literature_tables.read_literature`
        A table with an ``id`` column (or ``Cluster``, ``Name``, ``key``) and columns named like
        the parameters, such as ``log_age``, in their units or in stated ones that convert to them;
        for globular clusters ``age`` (Gyr) does as well, see
        :func:`~melotte.io.literature_tables.read_literature`.

    Returns
    -------
    astropy Table
        ``id``, and ``values_as``, ``class_probability`` and ``flags`` where the result has them;
        for each parameter in both ``NAME_50``, ``NAME_16`` and ``NAME_84`` where the result has
        them, ``NAME_literature`` and ``NAME_difference`` (ours minus theirs), in the result's
        unit; and where the literature states errors, ``NAME_literature_lower`` and
        ``NAME_literature_upper`` (errors downwards and upwards, NaN where unknown).

    Raises
    ------
    MelotteFileError
        When the literature table has no such columns or no object in common.
    MelotteValueError
        When a column's unit does not convert.
    """
    import numpy as np
    from astropy.table import Table

    from melotte.io.literature_tables import (
        VALUES,
        column_of,
        errors_of,
        id_column,
        read_literature,
    )

    units = {
        name[:-3]: str(result[name].unit or "") for name in result.colnames if name.endswith("_50")
    }
    table = literature
    if isinstance(table, str | Path):
        provenance = result.meta.get("melotte", {}).get("provenance", {})
        table = read_literature(table, provenance.get("system", ""), units)
    key = id_column(table)
    columns = {name: column_of(table, VALUES, name) for name in units}
    shared = {name: column for name, column in columns.items() if column is not None}
    if not shared:
        raise MelotteFileError(
            f"{table.path}: needs one of the columns {', '.join(units)} to compare; found "
            f"{', '.join(map(str, table.columns))}"
        )
    theirs = {plain_name(str(name)): row for row, name in enumerate(table.text(key))}
    rows = [(row, theirs.get(plain_name(str(name)))) for row, name in enumerate(result["id"])]
    matched = [(ours, other) for ours, other in rows if other is not None]
    if not matched:
        raise MelotteFileError(f"{table.path}: no object in common with the results (column {key})")
    ours, other = (list(part) for part in zip(*matched, strict=True))
    about = ("id", "values_as", "class_probability", "flags")
    kept = [name for name in about if name in result.colnames]
    joined = Table({name: result[name][ours] for name in kept})
    for name, column in shared.items():
        values = table.numbers(column)[other]
        for ends in (f"{name}_16", f"{name}_50", f"{name}_84"):
            if ends in result.colnames:
                joined[ends] = result[ends][ours]
        joined[f"{name}_literature"] = values
        joined[f"{name}_difference"] = np.asarray(result[f"{name}_50"][ours]) - values
        for end, errors in zip(("lower", "upper"), errors_of(table, name), strict=True):
            if np.isfinite(errors[other]).any():
                joined[f"{name}_literature_{end}"] = errors[other]
    return joined
