"""Figures that judge a model: recovery, coverage, ranks and the course of its training."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melotte.errors import MelotteFileError
from melotte.report.corner import corner_figure
from melotte.report.style import (
    BLUE,
    FAINT,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
    SMALL,
    curve_style,
    density_cells,
    label,
    legend,
    legend_outside,
    new_figure,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from melotte.engine.calibration import CalibrationReport, ParameterCalibration
    from melotte.parameters import Parameter

Array = NDArray[np.float64]

__all__ = [
    "corner_figure",
    "coverage_figure",
    "rank_figure",
    "recovery_figure",
    "training_figure",
]
BINS = 16
SMALLEST_BIN = 20
TOO_FEW = " (too few mocks)"
"""Why a p-value is unknown."""
COLUMN = 2.9


def recovery_figure(
    truth: ArrayLike, estimate: ArrayLike, parameters: Sequence[Parameter]
) -> Figure:
    """True against inferred values, and residuals as a function of either.

    Both residual panels show the median and the 68 and 95 % ranges in bins: p(r | true) tells
    where the model errs, p(r | inferred) what a measured value means. A good posterior median is
    pulled towards the middle at the ends of the prior in the first and is flat in the second.

    Parameters
    ----------
    truth, estimate : array, shape (n, n_parameters), physical units
        Rows with a NaN in a parameter are left out of its panels.
    parameters : sequence of Parameter

    Returns
    -------
    Figure
    """
    true, given = np.asarray(truth, dtype=float), np.asarray(estimate, dtype=float)
    n = len(parameters)
    figure, axes = new_figure(
        max(COLUMN * n, 3.2), 6.6, 3, n, height_ratios=[2.2, 1, 1], sharex=False
    )
    for i, parameter in enumerate(parameters):
        finite = np.isfinite(true[:, i]) & np.isfinite(given[:, i])
        one, other = true[finite, i], given[finite, i]
        log = parameter.scale == "log"
        name = with_unit(parameter.name, parameter.unit)
        extent = _range(parameter, log)
        top, by_true, by_given = axes[:, i]
        x, y = (np.log10(one), np.log10(other)) if log else (one, other)
        if len(x):
            density_cells(top, x, y, gridsize=42, extent=(*extent, *extent))
        top.plot(extent, extent, color=RED, lw=1, label="inferred = true")
        top.set(xlim=extent, ylim=extent, aspect="equal")
        prefix = "log10 " if log else ""
        label(top, f"true {prefix}{name}", f"inferred {prefix}{name}")
        if i == 0:
            legend(top, loc="upper left", handlelength=1.2, borderaxespad=0.1)
        # Residuals of a logarithmic parameter are compared as ratios, in dex.
        residual = y - x
        unit = " / dex" if log else f" / {parameter.unit}" if parameter.unit else ""
        _draw_bands(by_true, x, residual, extent)
        _draw_bands(by_given, y, residual, extent)
        label(by_true, f"true {prefix}{name}", f"residual{unit}")
        label(by_given, f"inferred {prefix}{name}", f"residual{unit}")
        if i == 0:
            legend(by_true, loc="upper right", ncols=3, handlelength=1, columnspacing=0.9)
        limit = np.quantile(np.abs(residual), 0.995) if len(residual) else 1.0
        for panel in (by_true, by_given):
            panel.set_ylim(-1.3 * max(limit, 1e-9), 1.3 * max(limit, 1e-9))
    for panel in axes.flat:
        panel.xaxis.set_major_locator(MaxNLocator(5))
        panel.yaxis.set_major_locator(MaxNLocator(5))
    return figure


def coverage_figure(report: CalibrationReport) -> Figure:
    """Coverage against credibility: jointly (TARP), and of each parameter's central intervals.

    Parameters
    ----------
    report : CalibrationReport

    Returns
    -------
    Figure
        The bands are 95 and 99.7 % binomial ranges for right posteriors.
    """
    figure, axes = new_figure(9.6, 3.4, 1, 2, sharey=True)
    joint, single = axes[0]
    level = np.asarray(report.joint.credibility)
    excess = np.asarray(report.joint.coverage) - level
    joint.plot(level, excess, color=INK, lw=1.4)
    drawn = [excess]
    _draw_band(joint, np.linspace(0, 1, 101), report.joint.n)
    _draw_band(single, np.linspace(0, 1, 101), min(one.n for one in report.parameters.values()))
    for k, (name, one) in enumerate(report.parameters.items()):
        credibility, coverage = _central_coverage(one)
        drawn.append(coverage - credibility)
        style: dict[str, Any] = {**curve_style(k), "ms": 4, "lw": 1.4}
        single.plot(credibility, drawn[-1], label=with_unit(name, ""), **style)
    finite = np.concatenate([one[np.isfinite(one)] for one in drawn])
    largest = max(0.02, float(np.abs(finite).max(initial=0)))
    joint.set_ylim(-1.6 * largest, 1.6 * largest)
    label(joint, "credibility", "coverage - credibility")
    label(single, "credibility")
    for panel, title in (
        (joint, f"joint (TARP): {p_text(report.joint.p_value, TOO_FEW)}"),
        (single, "central interval of each parameter"),
    ):
        panel.set_xlim(0, 1)
        panel.axhline(0, color=GREY, lw=0.8, ls="--")
        label(panel, title=title)
    legend_outside(figure, [single], "right center", handlelength=2.4)
    for height, side, text in ((0.98, "top", "too wide"), (0.02, "bottom", "too narrow")):
        joint.annotate(
            text,
            (0.98, height),
            xycoords="axes fraction",
            ha="right",
            va=side,
            fontsize=SMALL,
            color=GREY,
        )
    return figure


def rank_figure(report: CalibrationReport) -> Figure:
    """Histograms of the truth's rank among posterior samples, with the 99 % binomial band.

    A hump means too wide, a valley too narrow, a slope biased posteriors.

    Parameters
    ----------
    report : CalibrationReport

    Returns
    -------
    Figure
    """
    n_columns = min(max(len(report.parameters), 1), 4)
    n_rows = math.ceil(max(len(report.parameters), 1) / n_columns)
    figure, axes = new_figure(2.6 * n_columns + 0.3, 2.3 * n_rows, n_rows, n_columns)
    for panel in axes.flat[len(report.parameters) :]:
        panel.set_visible(False)
    for panel, (name, one) in zip(axes.flat, report.parameters.items(), strict=False):
        counts = np.asarray(one.rank_histogram, dtype=float)
        edges = np.linspace(0, 1, len(counts) + 1)
        low, high = stats.binom.ppf([0.005, 0.995], one.n, 1 / len(counts))
        panel.axhspan(low, high, color=FAINT, zorder=0)
        panel.axhline(one.n / len(counts), color=GREY, lw=0.8, ls="--")
        good = one.verdict == "calibrated"
        panel.stairs(counts, edges, baseline=None, color=BLUE if good else RED, lw=1.4)
        panel.set(xlim=(0, 1), ylim=(0, 1.25 * max(counts.max(initial=1), high)))
        panel.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        label(panel, "rank of the truth", "mocks", with_unit(name, ""))
        panel.annotate(
            f"{one.verdict}, {p_text(one.p_value)}",
            (0.03, 0.97),
            va="top",
            xycoords="axes fraction",
            fontsize=SMALL,
            color=INK,
        )
    return figure


def training_figure(log: str | Path) -> Figure:
    """Loss and learning rate of a training, from its log.

    Parameters
    ----------
    log : path
        ``log.jsonl`` of the run folder; lines that are no epochs are skipped, a last line that
        was cut short too.

    Returns
    -------
    Figure

    Raises
    ------
    MelotteFileError
        When the file cannot be read or holds no epoch.
    """
    epochs = _epochs(Path(log))
    mocks = np.array([one["mocks"] for one in epochs], dtype=float) / 1000
    figure, axes = new_figure(5.4, 4.2, 2, 1, height_ratios=[3, 1], sharex=True)
    losses, rates = axes[:, 0]
    curves: dict[str, Any] = {
        "training": ("training_loss", SKY),
        "validation": ("validation_loss", BLUE),
    }
    shown = []
    for name, (key, colour) in curves.items():
        values = np.array([np.nan if one[key] is None else one[key] for one in epochs], dtype=float)
        shown.append(values)
        losses.plot(mocks, values, color=colour, lw=1.5, marker="o", ms=2.5, label=name)
    best = [k for k, one in enumerate(epochs) if one.get("best")]
    if best:
        losses.plot(
            mocks[best[-1]],
            shown[1][best[-1]],
            marker="*",
            ms=11,
            color=ORANGE,
            ls="none",
            label=f"best, {shown[1][best[-1]]:.3f}",
        )
    # The first epochs may be far above the rest: the view keeps what matters in sight.
    finite = np.concatenate([one[np.isfinite(one)] for one in shown])
    if len(finite):
        low, high = finite.min(), np.quantile(finite, 0.95)
        margin = 0.08 * max(high - low, 1e-3)
        losses.set_ylim(low - margin, high + 2 * margin)
    label(losses, "", "loss")
    legend(losses, loc="upper right")
    learning = [
        np.nan if one.get("learning_rate") is None else one["learning_rate"] for one in epochs
    ]
    rates.plot(mocks, learning, color=GREY, lw=1.3)
    if np.nanmax(learning, initial=0) > 0:
        rates.set_yscale("log")
    label(rates, "thousand mocks seen", "learning rate")
    return figure


def _draw_bands(axes: Axes, x: Array, residual: Array, extent: tuple[float, float]) -> None:
    """Median, 68 and 95 % ranges of the residual in bins of x with equally many mocks."""
    n_bins = max(min(BINS, len(x) // SMALLEST_BIN), 1)
    levels = (0.025, 0.16, 0.5, 0.84, 0.975)
    members = [part for part in np.array_split(np.argsort(x), n_bins) if len(part)]
    rows = np.array([np.quantile(residual[part], levels) for part in members]).reshape(-1, 5)
    centres = np.array([np.median(x[part]) for part in members])
    axes.fill_between(centres, rows[:, 0], rows[:, 4], color=SKY, alpha=0.3, lw=0, label="95 %")
    axes.fill_between(centres, rows[:, 1], rows[:, 3], color=BLUE, alpha=0.35, lw=0, label="68 %")
    axes.plot(centres, rows[:, 2], color=INK, lw=1.3, label="median")
    axes.axhline(0, color=RED, lw=0.8)
    axes.set_xlim(extent)


def _draw_band(axes: Axes, level: Array, n: int) -> None:
    """Where the coverage less the credibility lies for right posteriors, 95 and 99.7 %."""
    if n < 1:
        return
    for tail, colour in ((0.00135, FAINT), (0.025, "#d8dee4")):
        low, high = (stats.binom.ppf(p, n, level) / n - level for p in (tail, 1 - tail))
        axes.fill_between(level, low, high, color=colour, lw=0, zorder=0)


def _central_coverage(one: ParameterCalibration) -> tuple[Array, Array]:
    """Coverage of central intervals that end at edges of the rank histogram's bins."""
    counts = np.asarray(one.rank_histogram, dtype=float)
    half = len(counts) // 2
    folded = counts[:half][::-1] + counts[-half:]
    credibility = 2 * np.arange(1, half + 1) / len(counts)
    return credibility, folded.cumsum() / max(counts.sum(), 1)


def _range(parameter: Parameter, log: bool) -> tuple[float, float]:
    if log:
        return math.log10(parameter.low), math.log10(parameter.high)
    return parameter.low, parameter.high


def p_text(value: float, why: str = "") -> str:
    """``p = 0.12``; where it is NaN that it is unknown, and why."""
    if not math.isfinite(value):
        return f"p unknown{why}"
    return f"p = {value:.2f}" if value >= 0.01 else f"p = {value:.0e}"


def _epochs(path: Path) -> list[dict[str, Any]]:
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise MelotteFileError(f"{path}: cannot be read: {error}") from error
    epochs = []
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        needed = ("mocks", "training_loss", "validation_loss")
        if isinstance(entry, dict) and entry.get("event") == "epoch" and set(needed) <= set(entry):
            epochs.append(entry)
    if not epochs:
        raise MelotteFileError(f"{path}: holds no epoch of a training")
    return epochs
