"""The ``models`` command: what is shipped, where it may be trusted, how good it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table

from melotte.api import shipped_models
from melotte.engine.model_files import read_metadata


def models_table(console: Console | None = None) -> None:
    """Print a table of the shipped models, a row for each parameter.

    Parameters
    ----------
    console : rich Console, optional
    """
    console = console or Console()
    shipped = shipped_models()
    if not shipped:
        console.print("no model is shipped with this installation")
        return
    table = Table(
        title="shipped models, judged on held-out mocks",
        title_justify="left",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
    )
    for name, justify in (
        ("model and parameter", "left"),
        ("range", "right"),
        ("MAE", "right"),
        ("R2", "right"),
        ("68 %", "right"),
        ("95 %", "right"),
    ):
        table.add_column(name, justify=justify, no_wrap=True)  # pyright: ignore[reportArgumentType]
    for name, path in shipped.items():
        metadata = read_metadata(path)
        for row in model_rows(name, metadata):
            table.add_row(*row)
        table.add_section()
    console.print(table)
    console.print(
        "MAE: mean absolute error of the median. 68 % and 95 %: share of true values inside the "
        "interval of that name."
    )


def model_rows(name: str, metadata: Mapping[str, Any]) -> list[list[str]]:
    """Text of a model's rows: its name, then a parameter a row.

    Parameters
    ----------
    name : str
    metadata : mapping
        As :func:`melotte.engine.model_files.read_metadata` gives it.

    Returns
    -------
    list of list of str
    """
    metrics = metadata.get("metrics", {}).get("parameters", {})
    rows = [[name, *[""] * 5]]
    for parameter in metadata["parameters"]:
        found = metrics.get(parameter["name"], {})
        rows.append(
            [
                f"  {parameter['name']} {parameter['unit']}".rstrip(),
                f"{parameter['low']:.4g} to {parameter['high']:.4g}",
                *(_number(found.get(key)) for key in ("mae", "r2", "coverage_68", "coverage_95")),
            ]
        )
    return rows


def _number(value: Any) -> str:
    return "–" if value is None else f"{value:.3f}"
