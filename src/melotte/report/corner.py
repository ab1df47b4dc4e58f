"""The corner figure: all one- and two-dimensional margins of one posterior."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from melotte.errors import MelotteValueError
from melotte.report.style import BLUE, GREY, INK, ORANGE, SKY, SMALL, label, new_figure, with_unit

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]


def corner_figure(
    samples: ArrayLike,
    names: Sequence[str],
    units: Sequence[str],
    truth: Sequence[float] | None = None,
) -> Figure:
    """All one- and two-dimensional margins of a posterior.

    Parameters
    ----------
    samples : array, shape (n_samples, n_parameters), physical units
        Rows that are not finite are left out.
    names, units : sequence of str, length n_parameters
    truth : sequence of float, optional
        Marked in every panel; NaN where unknown.

    Returns
    -------
    Figure
        Contours hold 68 and 95 %; dashed lines are the 16, 50 and 84 % quantiles.

    Raises
    ------
    MelotteValueError
        When there are fewer than ten finite samples or names do not fit.
    """
    drawn = np.asarray(samples, dtype=float)
    if drawn.ndim != 2 or drawn.shape[1] != len(names) or len(names) != len(units):
        raise MelotteValueError(
            f"samples of shape {drawn.shape} do not fit {len(names)} names and {len(units)} units"
        )
    drawn = drawn[np.isfinite(drawn).all(1)]
    if len(drawn) < 10:
        raise MelotteValueError(f"{len(drawn)} finite samples are too few for a corner figure")
    n = len(names)
    figure, axes = new_figure(1.75 * n + 0.7, 1.75 * n + 0.5, n, n)
    known = [math.nan] * n if truth is None else list(truth)
    limits = [_limits(drawn[:, i], known[i]) for i in range(n)]
    for i in range(n):
        for j in range(n):
            panel = axes[i, j]
            if j > i:
                panel.set_visible(False)
            elif i == j:
                _draw_margin(panel, drawn[:, i], limits[i], known[i])
            else:
                _draw_pair(panel, drawn[:, j], drawn[:, i], limits[j], limits[i])
                for value, line in ((known[j], panel.axvline), (known[i], panel.axhline)):
                    if math.isfinite(value):
                        line(value, color=ORANGE, lw=1.2)
                panel.set_ylim(*limits[i])
            panel.set_xlim(*limits[j])
            panel.xaxis.set_major_locator(MaxNLocator(3, prune="both"))
            if i != j:
                panel.yaxis.set_major_locator(MaxNLocator(3, prune="both"))
            panel.tick_params(axis="x", rotation=35)
            panel.tick_params(labelbottom=i == n - 1, labelleft=j == 0 and i > 0)
            label(
                panel,
                with_unit(names[j], units[j]) if i == n - 1 else "",
                with_unit(names[i], units[i]) if j == 0 and i > 0 else "",
            )
    return figure


def _draw_margin(axes: Axes, values: Array, limits: tuple[float, float], truth: float) -> None:
    axes.hist(values, bins=30, range=limits, histtype="stepfilled", color=SKY, alpha=0.45)
    axes.hist(values, bins=30, range=limits, histtype="step", color=BLUE, lw=1.2)
    low, middle, high = np.quantile(values, [0.16, 0.5, 0.84])
    for value in (low, middle, high):
        axes.axvline(value, color=INK, lw=0.8, ls="--")
    if math.isfinite(truth):
        axes.axvline(truth, color=ORANGE, lw=1.2)
    digits = max(0, 1 - math.floor(math.log10(max(high - low, 1e-12) / 2)))
    digits = min(digits, 6)
    text = rf"${middle:.{digits}f}_{{-{middle - low:.{digits}f}}}^{{+{high - middle:.{digits}f}}}$"
    axes.set_title(text, fontsize=SMALL + 1, color=INK)
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])


def _draw_pair(
    axes: Axes, x: Array, y: Array, x_limits: tuple[float, float], y_limits: tuple[float, float]
) -> None:
    counts, x_edges, y_edges = np.histogram2d(x, y, bins=36, range=[x_limits, y_limits])
    smooth = ndimage.gaussian_filter(counts, 1.6, mode="constant")
    ordered = np.sort(smooth.ravel())[::-1]
    held = np.cumsum(ordered) / max(ordered.sum(), 1e-30)
    heights = [ordered[min(np.searchsorted(held, p), len(ordered) - 1)] for p in (0.95, 0.68)]
    heights = sorted({height for height in heights if height > 0})
    centres = (x_edges[:-1] + x_edges[1:]) / 2, (y_edges[:-1] + y_edges[1:]) / 2
    axes.plot(x, y, ls="none", marker=".", ms=1.2, color=GREY, alpha=0.35, rasterized=True)
    if heights and heights[-1] < smooth.max():
        filled = [*heights, float(smooth.max()) * 1.01]
        colours = ["#cfe5f3", "#7fb8dc"][-len(heights) :]
        axes.contourf(*centres, smooth.T, levels=filled, colors=colours, alpha=0.85)
        axes.contour(*centres, smooth.T, levels=heights, colors=[BLUE], linewidths=1)


def _limits(values: Array, truth: float) -> tuple[float, float]:
    low, high = np.quantile(values, [0.002, 0.998])
    if math.isfinite(truth):
        low, high = min(low, truth), max(high, truth)
    margin = 0.12 * (high - low) or max(abs(low), 1.0) * 0.01
    return float(low - margin), float(high + margin)
