"""The table published | faithful | best: the same statistics of three models, side by side."""

from __future__ import annotations

import html
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from melotte.report.page import PageTable

if TYPE_CHECKING:
    from rich.table import Table

    from melotte.engine.evaluation import Evaluation

STATISTICS = ("bias", "std", "mae", "r2", "p95_abs", "coverage_68", "coverage_95")
HEADER = ("statistic", "published", "faithful here", "this model")


def comparison_rows(evaluation: Evaluation) -> PageTable:
    """Statistics of an evaluation beside the published and the faithful ones.

    Parameters
    ----------
    evaluation : Evaluation
        ``published`` and ``faithful`` have the shape of an evaluation's JSON; what they lack
        stays empty. Statistics of ``extra`` are shown where either of them has the same.

    Returns
    -------
    PageTable
    """
    best = evaluation.as_json()
    columns = (evaluation.published, evaluation.faithful, best)
    rows = []
    for name, entry in best["parameters"].items():
        unit = f" / {entry['unit']}" if entry["unit"] else ""
        for statistic in STATISTICS:
            shown = "" if statistic.startswith(("coverage", "r2")) else unit
            found = [_at(column, "parameters", name, statistic) for column in columns]
            rows.append([f"{name} {statistic}{shown}", *map(_number, found)])
    for statistic in best["classification"]:
        found = [_at(column, "classification", statistic) for column in columns]
        rows.append([statistic, *map(_number, found)])
    for statistic, value in best["extra"].items():
        # Statistics by distance, or by whatever else, have a row each.
        for keys in [(one,) for one in value] if isinstance(value, Mapping) else [()]:
            found = [_at(column, "extra", statistic, *keys) for column in columns]
            if any(value is not None for value in found[:2]):
                rows.append([" ".join([statistic, *keys]), *map(_number, found)])
    return PageTable(HEADER, rows)


def comparison_table(evaluation: Evaluation) -> Table:
    """For the terminal; columns without a single number are left out."""
    from rich.table import Table

    plain = _without_empty(comparison_rows(evaluation))
    table = Table(title=f"{evaluation.preset}: {evaluation.n} mocks, seed {evaluation.seed}")
    for k, name in enumerate(plain.header):
        table.add_column(name, justify="left" if k == 0 else "right")
    last = None
    for row in plain.rows:
        subject = row[0].split()[0]
        if last not in (None, subject):
            table.add_section()
        table.add_row(*row)
        last = subject
    return table


def comparison_html(evaluation: Evaluation) -> str:
    """An HTML ``table`` element."""
    plain = _without_empty(comparison_rows(evaluation))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in plain.header)
    body = "".join(
        "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>\n"
        for row in plain.rows
    )
    return f"<table>\n<thead><tr>{head}</tr></thead>\n<tbody>\n{body}</tbody>\n</table>\n"


def _without_empty(table: PageTable) -> PageTable:
    kept = [
        k
        for k in range(len(table.header))
        if k in (0, len(table.header) - 1) or any(row[k] for row in table.rows)
    ]
    return PageTable(
        [table.header[k] for k in kept], [[row[k] for k in kept] for row in table.rows]
    )


def _at(entry: Any, *keys: str) -> Any:
    for key in keys:
        if not isinstance(entry, Mapping) or key not in entry:
            return None
        entry = entry[key]
    return entry


def _number(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return ""
    return f"{value:.3g}" if abs(value) < 1e4 else f"{value:.4g}"
