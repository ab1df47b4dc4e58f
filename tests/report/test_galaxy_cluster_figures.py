"""Figures that compare methods: the numbers drawn are those given."""

from __future__ import annotations

import numpy as np
import pytest
from test_figures import everything_inside

from melotte.errors import MelotteValueError
from melotte.report.galaxy_cluster_figures import (
    error_figure,
    pdf_figure,
    percentiles_in_bins,
    robustness_figure,
)


def planted(spread=0.1, bias=0.0, n=3000, seed=1):
    rng = np.random.default_rng(seed)
    true = rng.uniform(13.5, 15.5, n)
    return true, true + bias + spread * rng.normal(size=n)


def test_percentiles_are_those_of_each_bin():
    rng = np.random.default_rng(2)
    x = rng.uniform(0, 1, 40_000)
    centres, rows = percentiles_in_bins(x, 2 * x + 0.1 * rng.normal(size=len(x)), n_bins=20)
    assert len(centres) == 20
    np.testing.assert_allclose(rows[:, 1], 2 * centres, atol=0.02)
    # Within a bin of 0.05 the line itself adds a uniform spread of 0.1.
    np.testing.assert_allclose(rows[:, 2] - rows[:, 0], 0.209, atol=0.03)
    few, nothing = percentiles_in_bins(np.arange(19), np.arange(19))
    assert len(few) == 0
    assert nothing.shape == (0, 3)


@pytest.mark.parametrize("n", [1, 2, 7])
def test_errors_of_methods_lie_where_they_are(n):
    results = {f"method {k}": planted(bias=0.2 * k, seed=k) for k in range(n)}
    results["method 0"][1][::3] = np.nan
    figure = error_figure(results)
    assert everything_inside(figure)
    shown = [axes for axes in figure.axes if axes.get_visible()]
    assert len(shown) == n
    for k, axes in enumerate(shown):
        middle = next(line for line in axes.lines if line.get_color() == "#222b33").get_ydata()
        np.testing.assert_allclose(middle, 0.2 * k, atol=0.03)
    assert "n = 2000" in shown[0].texts[0].get_text()


def test_a_method_without_a_prediction_keeps_its_panel():
    true, _ = planted()
    figure = error_figure({"none": (true, np.full(len(true), np.nan)), "some": planted()})
    assert "no prediction" in figure.axes[0].texts[0].get_text()


def test_densities_integrate_to_one_and_count_only_the_range():
    true, ours = planted(0.1)
    ours[true > 15] += 5
    figure = pdf_figure({"a": (true, ours), "b": planted(0.2, seed=3)}, 14.0, 15.0)
    assert everything_inside(figure)
    for line, spread in zip(figure.axes[0].lines[:2], (0.1, 0.2), strict=True):
        x, density = np.asarray(line.get_xdata()), np.asarray(line.get_ydata())
        assert np.trapezoid(density, x) == pytest.approx(1, abs=0.03)
        assert density.max() == pytest.approx(1 / (np.sqrt(2 * np.pi) * spread), rel=0.12)
    # Normalised, Gaussian errors of any width fall on the same curve.
    normal, *scaled = figure.axes[1].lines
    middle = np.abs(normal.get_xdata()) < 1.5
    for line in scaled:
        ratio = np.asarray(line.get_ydata())[middle] / np.asarray(normal.get_ydata())[middle]
        np.testing.assert_allclose(ratio, 1, atol=0.2)


def test_robustness_draws_what_is_given_in_order():
    rates = np.array([0.8, 0.2, 0.6])
    medians = np.array([-0.01, -0.2, -0.05])
    lows = medians - np.array([0.02, 0.3, 0.1])
    highs = medians + np.array([0.03, 0.2, 0.1])
    figure = robustness_figure({"one": (rates, medians, lows, highs), "two": (rates,) * 4})
    assert everything_inside(figure)
    width = figure.axes[1].lines[0]
    np.testing.assert_allclose(width.get_xdata(), [0.2, 0.6, 0.8])
    np.testing.assert_allclose(width.get_ydata(), [0.5, 0.2, 0.05])


def test_wrong_arrays_are_refused():
    for draw in (error_figure, pdf_figure, robustness_figure):
        with pytest.raises(MelotteValueError, match="no method"):
            draw({})
    with pytest.raises(MelotteValueError, match="do not fit"):
        error_figure({"a": (np.zeros(3), np.zeros(4))})
    with pytest.raises(MelotteValueError, match="no method has 10 clusters of 20 to 21"):
        pdf_figure({"a": planted()}, 20, 21)
    with pytest.raises(MelotteValueError, match="differ in shape"):
        robustness_figure({"a": (np.zeros(3), np.zeros(3), np.zeros(3), np.zeros(2))})
