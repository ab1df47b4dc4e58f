"""One HTML page: provenance that a person can read."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from astropy import units
from astropy.table import Table
from test_figures import everything_inside

from melotte.report.page import write_page
from melotte.report.result_page import distribution_section, flag_section, rows_section


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


def test_distributions_have_readable_axes():
    rng = np.random.default_rng(1)
    names = ["log_age", "extinction_v", "distance", "half_number_radius", "a", "b", "dark_fraction"]
    spread = [1, 1, 1e-4, 1e-3, 300, 1e-5, 0.02]
    table = Table()
    for name, width in zip(names, spread, strict=True):
        middle = 12 + width * rng.random(300)
        for quantile, offset in (("16", -0.1), ("50", 0), ("84", 0.1)):
            table[f"{name}_{quantile}"] = middle + width * offset * rng.random(300)
    for quantile in ("16", "50", "84"):
        table[f"distance_{quantile}"].unit = units.kpc
    figure = distribution_section(table, names).figures[0].figure
    assert everything_inside(figure)
    drawn = [axes for axes in figure.axes if axes.get_visible()]
    assert len(drawn) == 2 * len(names)
    texts = {axes.get_xlabel() for axes in drawn}
    assert {"log(age/yr)", "$A_V$", "distance / kpc", "± of dark fraction"} <= texts
    renderer = figure.canvas.get_renderer()
    for axes in drawn:
        low, high = axes.get_xlim()
        shown = [tick.label1 for tick in axes.xaxis.get_major_ticks() if low <= tick._loc <= high]
        assert len(shown) >= 2
        boxes = [one.get_window_extent(renderer) for one in shown]
        assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))
