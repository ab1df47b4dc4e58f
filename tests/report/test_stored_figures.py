"""Figures that infer wrote find their way into the page of its table."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from melotte.engine.results import InferenceResult
from melotte.errors import MelotteValueError
from melotte.parameters import Parameter
from melotte.report.page import write_result_report
from melotte.report.stored_figures import (
    COMPARISON,
    KINDS,
    LITERATURE,
    LUMINOSITIES,
    MASS_FUNCTION,
    MOST_OBJECTS,
    figure_sections,
    with_figure_folder,
)


def result_table(column, names=("a", "b"), **header):
    n = len(names)
    table = Table({"id": list(names), column: np.zeros(n), "flags": np.zeros(n, dtype=int)})
    table.meta["melotte"] = {"header": header}
    return table


@pytest.fixture
def figures(tmp_path):
    folder = tmp_path / "figures"
    folder.mkdir()
    return folder


def drawn(folder, *names):
    for name in names:
        (folder / name).write_bytes(b"figure of " + name.encode())


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.column)
def test_objects_of_each_kind_are_shown_with_a_caption_once(kind, figures, tmp_path):
    endings = list(kind.captions)
    drawn(figures, *(f"{name}_{one}.png" for name in "ab" for one in endings))
    (section,) = figure_sections(result_table(kind.column, figures="figures"), tmp_path)
    assert section.title == kind.title
    assert [one.path.name for one in section.figures] == [
        f"{name}_{one}.png" for name in "ab" for one in endings
    ]
    shown = [one.caption for one in section.figures]
    assert shown == [*kind.captions.values()] + ["b."] * len(endings)


def test_only_so_many_objects_are_shown(figures, tmp_path):
    names = [f"c {i}" for i in range(MOST_OBJECTS + 3)]
    drawn(figures, *(f"c_{i}_diagram.png" for i in range(MOST_OBJECTS + 3)))
    table = result_table("metallicity_50", names, figures="figures")
    (section,) = figure_sections(table, tmp_path)
    assert len(section.figures) == MOST_OBJECTS
    assert section.text == [f"The first {MOST_OBJECTS} of {MOST_OBJECTS + 3} objects."]


def test_a_comparison_is_shown_where_the_table_was_compared(figures, tmp_path):
    drawn(figures, COMPARISON, LITERATURE, LUMINOSITIES, MASS_FUNCTION)
    plain = result_table("field_magnitude_v", figures="figures")
    first = [one.figures[0].path.name for one in figure_sections(plain, tmp_path)]
    assert first == [LUMINOSITIES, MASS_FUNCTION]
    compared = result_table("field_magnitude_v", figures="figures", compared_with="known.csv")
    sections = list(figure_sections(compared, tmp_path))
    assert [one.figures[0].path.name for one in sections] == [*first, COMPARISON, LITERATURE]
    assert sections[-1].title == "Beside known.csv"


def test_figures_that_are_gone_are_not_missed(figures, tmp_path):
    for table in (
        result_table("metallicity_50"),
        result_table("metallicity_50", figures="elsewhere"),
        result_table("metallicity_50", figures="figures"),
        result_table("log_m200c_50", figures="figures"),
    ):
        assert list(figure_sections(table, tmp_path)) == []
    figures.rmdir()


def test_the_folder_is_found_from_where_the_table_lies(tmp_path):
    result = InferenceResult(
        ("a",), (Parameter("log_age", 6, 10),), np.zeros((1, 5, 1)), np.zeros(1, dtype=int)
    )
    there = with_figure_folder(result, tmp_path / "x" / "drawn", tmp_path / "y" / "t.ecsv")
    assert dict(there.header) == {"figures": "../x/drawn"}
    both = with_figure_folder(
        result, tmp_path / "drawn", tmp_path / "t.ecsv", tmp_path / "tables" / "known.csv"
    )
    assert dict(both.header) == {"figures": "drawn", "compared_with": "known.csv"}


def test_a_page_never_takes_the_place_of_a_figure_that_it_shows(figures, tmp_path, monkeypatch):
    drawn(figures, LUMINOSITIES)
    table = result_table("field_magnitude_v", figures="figures")
    monkeypatch.setattr(
        "melotte.report.result_page.result_sections",
        lambda path: (list(figure_sections(table, path.parent)), {}),
    )
    with pytest.raises(MelotteValueError, match=r"-o .*luminosities.png is an input, which would"):
        write_result_report(tmp_path / "result.ecsv", figures / LUMINOSITIES)
    assert (figures / LUMINOSITIES).read_bytes() == b"figure of luminosities.png"
    page = write_result_report(tmp_path / "result.ecsv", tmp_path / "page.html")
    assert "data:image/png" in page.read_text()
