"""One HTML page: provenance that a person can read."""

from __future__ import annotations

import numpy as np
from astropy import units
from astropy.table import Table

from melotte.report.page import write_page
from melotte.report.result_page import flag_section, rows_section


def test_nested_provenance_is_written_line_by_line(tmp_path):
    provenance = {
        "seed": 3,
        "prior": None,
        "reasons": {},
        "preset": {"data": {"distance": [3.0, 150.0], "name": "a <b>", "scale": np.float32(2)}},
        "not known": [float("nan")],
    }
    text = write_page(tmp_path / "p.html", "t", "l", [], provenance).read_text()
    assert "<dt>seed</dt><dd>3</dd>" in text
    assert "<dt>prior</dt><dd>none</dd>" in text
    assert "<dt>reasons</dt><dd>none</dd>" in text
    assert "<pre>data:\n  distance: [3.0, 150.0]\n  name: a &lt;b&gt;\n  scale: 2.0\n</pre>" in text
    assert "[null]" in text


def test_rows_have_units_and_are_counted():
    table = Table({"id": ["a"], "flags": [0]})
    for quantile in ("16", "50", "84"):
        table[f"distance_{quantile}"] = [float(quantile)] * units.kpc
        table[f"log_age_{quantile}"] = [8.0 + float(quantile) / 100]
    section = rows_section(table, ["distance", "log_age"])
    assert list(section.table.header) == ["id", "distance / kpc", "log_age", "flags"]
    assert section.table.rows[0][1] == "50 +34 −34"
    assert flag_section(table).text == ["1 object, 1 without a flag."]
    assert flag_section(table[[0] * 1200]).text == ["1,200 objects, 1,200 without a flag."]
