"""The table of shipped models."""

from __future__ import annotations

import io

from rich.console import Console

from melotte.api import shipped_models
from melotte.report.tables import models_table


def test_it_fits_a_terminal_of_eighty_columns():
    out = io.StringIO()
    models_table(Console(file=out, width=80))
    text = out.getvalue()
    assert "…" not in text
    assert all(name in text for name in shipped_models())
    # A parameter a row, with four numbers.
    assert text.count(" to ") > 20
