"""Class, visibility and coverage by visibility of cluster images (Paper II's figures).

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Fig. 12 and Sect. 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.report.cluster_image_figures import BOUND
from melotte.report.style import (
    CYCLE,
    GREY,
    INK,
    MARKERS,
    RED,
    SMALL,
    density_cells,
    dress,
    label,
    legend,
    new_figure,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

FAINTEST_SHOWN = 0.1
"""Visibilities below are drawn here."""
ROOM = 0.25
"""How far axes of coverage reach below what is right, at least."""
LEGEND = 0.3
"""Share of the range of coverages that the legend takes below them."""


def class_visibility_figure(
    probability: ArrayLike,
    visibility: ArrayLike,
    is_cluster: ArrayLike,
    true_visibility: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """Probability of a cluster against visibility, for mocks and for empty fields.

    Parameters
    ----------
    probability : array, shape (n,), 0 to 1
    visibility : array, shape (n,), > 0
        Inferred.
    is_cluster : array of bool, shape (n,)
    true_visibility : array, shape (n,), optional
        Of the clusters; adds a panel of true against inferred, both no less than 0.1.
    title : str

    Returns
    -------
    Figure

    References
    ----------
    Paper II, Fig. 12.
    """
    given, seen = np.asarray(probability, dtype=float), np.asarray(visibility, dtype=float)
    seen = np.clip(np.nan_to_num(seen, nan=FAINTEST_SHOWN), FAINTEST_SHOWN, None)
    cluster = np.asarray(is_cluster, dtype=bool)
    figure, axes = new_figure(
        7.0, 5.2, 2, 2, width_ratios=[2.4, 1], height_ratios=[1, 2.2], sharex="col", sharey="row"
    )
    # The corner's axes are its own: true and inferred visibility.
    axes[0, 1].remove()
    main, top, side = axes[1, 0], axes[0, 0], axes[1, 1]
    high = max(float(seen.max(initial=1.0)) * 1.3, 10.0)
    bins = np.geomspace(FAINTEST_SHOWN, high, 36)
    groups = (("empty fields", ~cluster, GREY), ("mock clusters", cluster, RED))
    for name, chosen, colour in groups:
        main.scatter(
            given[chosen],
            seen[chosen],
            s=4,
            color=colour,
            linewidths=0,
            alpha=0.5,
            label=f"{name} ({chosen.sum()})",
            rasterized=True,
            # The faintest lie on the axis, and would be cut in half.
            clip_on=False,
        )
        shown = {"histtype": "step", "color": colour, "lw": 1.3}
        top.hist(given[chosen], bins=np.linspace(0, 1, 41), **shown)
        side.hist(seen[chosen], bins=list(bins), orientation="horizontal", **shown)
    main.axvline(0.5, color=INK, lw=0.8, ls=":")
    main.set(xlim=(-0.01, 1.01), ylim=(FAINTEST_SHOWN, high), yscale="log")
    top.set(yscale="log", ylim=(0.7, 2 * max(len(given), 1)))
    side.set(xscale="log", xlim=(0.7, 2 * max(len(given), 1)))
    label(main, "probability of a cluster", "inferred visibility")
    label(top, "", "number", title)
    label(side, "number")
    legend(main, loc="upper left", markerscale=2)
    if true_visibility is None:
        return figure
    true = np.maximum(np.asarray(true_visibility, dtype=float), FAINTEST_SHOWN)
    chosen = cluster & np.isfinite(true)
    corner = figure.add_subplot(axes[0, 1].get_subplotspec())
    dress(corner)
    _visibilities(corner, true[chosen], seen[chosen], high)
    return figure


def _visibilities(axes: Axes, true: Array, given: Array, high: float) -> None:
    """True against inferred visibility with 95 % bounds of their ratio."""
    ends = np.array([FAINTEST_SHOWN, high])
    axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    axes.plot(ends, ends, color=GREY, lw=0.8)
    label(axes, "true visibility", "inferred")
    if not len(true):
        return
    held = np.clip(true, *ends)
    extent = (*np.log10(ends), *np.log10(ends))
    logarithmic = {"xscale": "log", "yscale": "log", "extent": extent}
    density_cells(axes, held, np.clip(given, *ends), gridsize=26, **logarithmic)
    axes.set(xlim=ends, ylim=ends)
    factor = float(np.quantile(np.abs(np.log10(given / true)), BOUND))
    for sign in (-1, 1):
        axes.plot(ends, ends * 10 ** (sign * factor), color=INK, lw=0.9, ls="--")
    axes.set_title(f"95 % within {factor:.2f} dex", fontsize=SMALL, color=INK, loc="left")


def coverage_visibility_figure(
    bins: Sequence[str],
    coverage: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    level: float = 0.68,
    axis: str = "true visibility",
) -> Figure:
    """Coverage of central intervals in bins of visibility.

    Parameters
    ----------
    bins : sequence of str
        Names of the bins.
    coverage : mapping of method to mapping of parameter to (fractions, errors), each (n_bins,)
    level : float
        What is right.
    axis : str
        What the bins are of.

    Returns
    -------
    Figure
        One panel a parameter, one curve a method.
    """
    names = list(dict.fromkeys(name for one in coverage.values() for name in one))
    figure, axes = new_figure(2.6 * max(len(names), 1) + 0.4, 2.7, 1, max(len(names), 1))
    place = np.arange(len(bins))
    lowest = min((_lowest(*pair) for one in coverage.values() for pair in one.values()), default=1)
    bottom = max(0.0, min(level - ROOM, lowest - LEGEND * (1 - lowest)))
    for panel, name in zip(axes[0], names, strict=False):
        panel.axhline(level, color=GREY, lw=0.9, ls="--")
        for k, (title, each) in enumerate(coverage.items()):
            if name not in each:
                continue
            fraction, error = (np.asarray(one, dtype=float) for one in each[name])
            panel.errorbar(
                place + 0.12 * (k - (len(coverage) - 1) / 2),
                fraction,
                error,
                color=CYCLE[k % len(CYCLE)],
                marker=MARKERS[k % len(MARKERS)],
                ms=4,
                lw=1.2,
                label=title,
            )
        panel.set_xticks(place, bins, rotation=45)
        panel.set_ylim(bottom, 1.02)
        label(panel, axis, f"coverage of {100 * level:.0f} %", with_unit(name, ""))
    legend(axes[0, 0], loc="lower right")
    return figure


def _lowest(fraction: ArrayLike, error: ArrayLike) -> float:
    """Lowest end of the error bars; 1 where there is none."""
    ends = np.asarray(fraction, dtype=float) - np.nan_to_num(np.asarray(error, dtype=float))
    return float(ends[np.isfinite(ends)].min(initial=1.0))
