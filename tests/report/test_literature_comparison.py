"""Results beside literature values: joined with errors and classes, in lines and a figure."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.colors import to_hex
from test_figures import everything_inside, legends_cover_nothing

from melotte import api
from melotte.errors import MelotteValueError
from melotte.report.literature_comparison import (
    comparison_figure,
    comparison_lines,
    correlation,
    with_offset,
)
from melotte.report.style import BLUE, RED

UNITS = {"extinction_v": "mag", "log_age": "", "log_mass": ""}


def joined():
    return Table(
        {
            "id": ["a", "b"],
            "log_age_50": [7.0, 8.0],
            "log_age_literature": [7.5, 8.5],
            "log_age_difference": [-0.5, -0.5],
            "extinction_v_50": [1.0, 2.0],
            "extinction_v_literature": [0.8, 1.8],
            "extinction_v_difference": [0.2, 0.2],
        }
    )


@pytest.fixture
def result():
    """Six clusters, of which two look like background."""
    age = np.array([6.8, 7.1, 7.9, 8.4, 9.0, 9.6])
    return Table(
        {
            "id": [f"c{i}" for i in range(6)],
            "class_probability": [0.9, 0.8, 0.99, 0.7, 0.2, 0.4],
            "flags": [0, 0, 4, 0, 1, 0],
            "log_age_16": age - 0.1,
            "log_age_50": age,
            "log_age_84": age + 0.3,
        }
    )


@pytest.fixture
def literature(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text(
        "id,log_age,log_age_error,log_mass\n"
        "c1,7.0,0.2,4\nc0,7.0,,4\nc2,8.1,0.1,4\nc3,8.3,0.3,4\nc4,7.0,0.1,4\nc5,7.5,0.1,4\n"
    )
    return path


def test_a_foreground_is_added_to_the_literatures_extinction_alone():
    moved = with_offset(joined(), "extinction_v", 0.3)
    np.testing.assert_allclose(moved["extinction_v_literature"], [1.1, 2.1])
    np.testing.assert_allclose(moved["extinction_v_difference"], -0.1)
    np.testing.assert_allclose(moved["log_age_difference"], -0.5)
    lacking = joined()
    lacking.remove_column("extinction_v_literature")
    with pytest.raises(MelotteValueError, match="no column extinction_v"):
        with_offset(lacking, "extinction_v", 0.3)


def test_a_correlation_is_pearsons_of_three_or_more():
    assert correlation([1, 2, 3, 4], [2, 4, 6, 8]) == pytest.approx(1)
    assert correlation([1, 2, 3], [3, 2, 1]) == pytest.approx(-1)
    # By hand: deviations (-1, 0, 1) and (-2/3, 1/3, 1/3).
    assert correlation([1, 2, 3, np.nan], [1, 2, 2, 9]) == pytest.approx(np.sqrt(3) / 2)
    assert np.isnan(correlation([1, 2], [1, 2]))
    assert np.isnan(correlation([1, 2, 3], [1, 1, 1]))


def test_errors_and_classes_come_with_the_values(result, literature):
    found = api.compare(result, literature)
    assert found.colnames == [
        "id", "class_probability", "flags", "log_age_16", "log_age_50", "log_age_84",
        "log_age_literature", "log_age_difference", "log_age_literature_lower",
        "log_age_literature_upper",
    ]  # fmt: skip
    np.testing.assert_allclose(found["log_age_literature_lower"], [np.nan, 0.2, 0.1, 0.3, 0.1, 0.1])
    np.testing.assert_allclose(found["log_age_84"], result["log_age_84"])
    literature.write_text("id,log_age,log_age_16,log_age_84\nc1,7.0,6.9,7.4\n")
    found = api.compare(result, literature)
    assert found["log_age_literature_lower"][0] == pytest.approx(0.1)
    assert found["log_age_literature_upper"][0] == pytest.approx(0.4)
    literature.write_text("id,log_age\nc1,7.0\n")
    assert not [one for one in api.compare(result, literature).colnames if one.endswith("_lower")]


def test_lines_say_bias_scatter_and_correlation(result, literature):
    found = api.compare(result, literature)
    r = correlation(found["log_age_literature"], found["log_age_50"])
    (head, line) = comparison_lines(found, "known.csv")
    assert head == "compared with known.csv: 6 objects in common"
    assert line.endswith(f", r = {r:.2f} (6 objects)")
    two = list(comparison_lines(joined(), "it"))[1]
    assert two == "  log_age: ours - theirs = -0.500, scatter 0.000 (2 objects)"


def test_the_figure_says_bias_and_scatter():
    figure = comparison_figure(joined(), UNITS)
    assert everything_inside(figure)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == [
        "2 objects\nours - theirs: +0.20, scatter 0.00",
        "2 objects\nours - theirs: -0.50, scatter 0.00",
    ]
    assert not any(panel.get_legend() for panel in figure.axes)


def test_the_figure_tells_classes_apart_and_has_errors(result, literature):
    found = api.compare(result, literature)
    figure = comparison_figure(found, UNITS)
    assert everything_inside(figure)
    assert legends_cover_nothing(figure)
    (panel,) = figure.axes
    dots = {to_hex(line.get_color()): line for line in panel.lines if line.get_marker() == "o"}
    sure = np.asarray(found["class_probability"]) >= 0.5
    for colour, chosen in ((BLUE, sure), (RED, ~sure)):
        np.testing.assert_allclose(dots[colour].get_xdata(), found["log_age_literature"][chosen])
        np.testing.assert_allclose(dots[colour].get_ydata(), found["log_age_50"][chosen])
    across, along = (one.get_segments() for one in panel.collections[:2])
    lengths = [np.ptp(one[:, 0]) for one in across]
    np.testing.assert_allclose(lengths, [0, 0.4, 0.2, 0.6], atol=1e-9)
    np.testing.assert_allclose([np.ptp(one[:, 1]) for one in along], 0.4)
    r = correlation(found["log_age_literature"], found["log_age_50"])
    assert panel.get_title(loc="left").startswith(f"6 objects, r = {r:.2f}\n")
    texts = [one.get_text() for one in panel.get_legend().get_texts()]
    likely = correlation(found["log_age_literature"][sure], found["log_age_50"][sure])
    assert texts == [f"P(cluster) >= 0.5: 4, r = {likely:.2f}", "P(cluster) < 0.5: 2"]
