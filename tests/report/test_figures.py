"""Figures are whole: nothing clipped, nothing global, the numbers drawn are those given."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest
from matplotlib.colors import to_hex

from melotte.engine.calibration import calibrate
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.parameters import Parameter
from melotte.report.figures import (
    corner_figure,
    coverage_figure,
    rank_figure,
    recovery_figure,
    training_figure,
)
from melotte.report.style import curve_style, with_unit

PARAMETERS = (
    Parameter("log_age", 6.0, 10.0),
    Parameter("distance", 0.1, 10.0, unit="kpc", scale="log"),
    Parameter("extinction_v", 0.0, 3.0, unit="mag"),
)


def report(n_parameters=3, stretch=1.0):
    rng = np.random.default_rng(1)
    truth = rng.random((1500, n_parameters))
    datum = truth + 0.1 * rng.normal(size=truth.shape)
    samples = datum[:, None] + 0.1 / stretch * rng.normal(size=(1500, 99, n_parameters))
    names = [p.name for p in PARAMETERS][:n_parameters]
    return calibrate(samples, truth, names)


def everything_inside(figure):
    """All texts and axes lie within the canvas, and no two texts of a panel's edge overlap."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    width, height = figure.canvas.get_width_height()
    for axes in figure.axes:
        if not axes.get_visible():
            continue
        box = axes.get_tightbbox(renderer)
        assert box.x0 > -1
        assert box.y0 > -1
        assert box.x1 < width + 1
        assert box.y1 < height + 1
    boxes = [
        text.get_window_extent(renderer)
        for axes in figure.axes
        if axes.get_visible()
        for text in (axes.xaxis.label, axes.yaxis.label, axes.title, axes._left_title)
        if text.get_text()
    ]
    for i, one in enumerate(boxes):
        assert not any(one.overlaps(other) for other in boxes[i + 1 :])
    return True


def legends_cover_nothing(figure):
    """Legends, of which there are some, lie on the canvas and beside all axes and titles."""
    figure.canvas.draw()
    renderer = figure.canvas.get_renderer()
    panels = [axes for axes in figure.axes if axes.get_visible()]
    legends = [*figure.legends, *(axes.get_legend() for axes in panels if axes.get_legend())]
    boxes = [axes.get_window_extent(renderer) for axes in panels]
    titles = [axes._left_title for axes in panels if axes._left_title.get_text()]
    boxes += [title.get_window_extent(renderer) for title in titles]
    width, height = figure.canvas.get_width_height()
    assert legends
    for legend in legends:
        box = legend.get_window_extent(renderer)
        assert box.x0 > -1
        assert box.y0 > -1
        assert box.x1 < width + 1
        assert box.y1 < height + 1
        assert not any(box.overlaps(other) for other in boxes)
    return True


def recovery_data(n=2000):
    rng = np.random.default_rng(2)
    truth = np.stack([rng.uniform(6, 10, n), 10 ** rng.uniform(-1, 1, n), rng.uniform(0, 3, n)], 1)
    estimate = truth * (1 + 0.02 * rng.normal(size=truth.shape))
    estimate[::7, 1] = np.nan
    return truth, estimate


@pytest.mark.parametrize("n", [1, 3])
def test_recovery(n):
    truth, estimate = recovery_data()
    figure = recovery_figure(truth[:, :n], estimate[:, :n], PARAMETERS[:n])
    assert len(figure.axes) == 3 * n
    assert everything_inside(figure)
    median = figure.axes[n].lines[0].get_ydata()
    assert np.nanmax(np.abs(median)) < 0.08


def test_recovery_shows_a_bias_where_it_is():
    truth, estimate = recovery_data()
    estimate[:, 0] = truth[:, 0] + 0.5
    figure = recovery_figure(truth, estimate, PARAMETERS)
    np.testing.assert_allclose(np.nanmedian(figure.axes[3].lines[0].get_ydata()), 0.5, atol=1e-6)


def test_recovery_of_nothing_known():
    figure = recovery_figure(np.full((5, 3), np.nan), np.zeros((5, 3)), PARAMETERS)
    assert everything_inside(figure)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_coverage(n):
    figure = coverage_figure(report(n))
    assert everything_inside(figure)
    assert len(figure.axes[1].lines) == n + 1


def test_nine_parameters_are_told_apart_in_coverage():
    rng = np.random.default_rng(5)
    truth = rng.random((60, 9))
    samples = truth[:, None] + 0.1 * rng.normal(size=(60, 19, 9))
    names = [f"parameter_{i}" for i in range(9)]
    figure = coverage_figure(calibrate(samples, truth, names))
    assert everything_inside(figure)
    assert legends_cover_nothing(figure)
    (legend,) = figure.legends
    assert [one.get_text() for one in legend.get_texts()] == [f"parameter {i}" for i in range(9)]
    looks = {
        (to_hex(one.get_color()), one.get_linestyle(), one.get_marker())
        for one in legend.get_lines()
    }
    assert len(looks) == 9
    assert figure.axes[0].get_title(loc="left") == "joint (TARP): p unknown (too few mocks)"


def test_styles_of_24_curves_all_differ():
    styles = [curve_style(k) for k in range(24)]
    assert len({(one["color"], one["linestyle"]) for one in styles}) == 24
    # Nor is a marker all that tells two of one colour apart, or the line.
    assert len({(one["color"], one["marker"]) for one in styles}) == 24


def test_coverage_of_an_overconfident_model_lies_below():
    figure = coverage_figure(report(2, stretch=1.5))
    for line in figure.axes[1].lines[:2]:
        assert line.get_ydata()[6] < -0.08


@pytest.mark.parametrize("n", [1, 3])
def test_ranks(n):
    figure = rank_figure(report(n, stretch=1.4))
    assert everything_inside(figure)
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts[0].startswith("overconfident")


def write_log(path, entries):
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries) + '{"event": "ep')
    return path


def epoch(number, loss, best=False):
    return {
        "event": "epoch",
        "epoch": number,
        "mocks": 1000 * number,
        "training_loss": loss,
        "validation_loss": loss + 0.1,
        "best": best,
        "learning_rate": 1e-3,
    }


def test_training_curves(tmp_path):
    entries = [epoch(1, 100.0, True), epoch(2, -1.0, True), epoch(3, 0.0), epoch(4, -1.2, True)]
    entries[2] |= {"training_loss": None, "validation_loss": None}
    log = write_log(tmp_path / "log.jsonl", [{"event": "started"}, *entries])
    figure = training_figure(log)
    assert everything_inside(figure)
    losses = figure.axes[0]
    np.testing.assert_allclose(losses.lines[0].get_ydata(), [100, -1, np.nan, -1.2])
    assert losses.lines[2].get_xdata()[0] == 4
    assert training_figure(write_log(tmp_path / "one.jsonl", [epoch(1, 0.5)]))


def test_a_log_without_epochs_is_refused(tmp_path):
    with pytest.raises(MelotteFileError, match="no epoch"):
        training_figure(write_log(tmp_path / "log.jsonl", [{"event": "written"}]))
    with pytest.raises(MelotteFileError, match="cannot be read"):
        training_figure(tmp_path / "none.jsonl")


@pytest.mark.parametrize("n", [1, 2, 4])
def test_corner(n):
    rng = np.random.default_rng(3)
    samples = rng.normal(size=(500, n)) * 10.0 ** np.arange(-2, n - 2)
    samples[3] = np.nan
    names = [p.name for p in PARAMETERS] + ["metallicity"]
    truth = [0.0] * (n - 1) + [np.nan]
    figure = corner_figure(samples, names[:n], ["kpc"] * n, truth=truth)
    assert everything_inside(figure)
    assert sum(axes.get_visible() for axes in figure.axes) == n * (n + 1) // 2


def test_corner_of_a_constant_parameter():
    samples = np.random.default_rng(4).normal(size=(300, 2))
    samples[:, 1] = 3.0
    assert everything_inside(corner_figure(samples, ["a", "b"], ["", ""]))


def test_corner_refuses_what_it_cannot_draw():
    with pytest.raises(MelotteValueError, match="too few"):
        corner_figure(np.full((50, 2), np.nan), ["a", "b"], ["", ""])
    with pytest.raises(MelotteValueError, match="do not fit"):
        corner_figure(np.zeros((50, 2)), ["a"], [""])


def test_names_as_astronomers_write_them():
    assert with_unit("extinction_v", "mag") == "$A_V$ / mag"
    assert with_unit("half_light_radius", "") == "half light radius"


def test_no_pyplot():
    code = (
        "import sys, melotte.report.figures, melotte.report.evaluation;"
        "sys.exit('pyplot' if 'matplotlib.pyplot' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
