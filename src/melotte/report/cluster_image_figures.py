"""How well parameters, class and visibility of cluster images are found (Paper II's figures).

Sizes are drawn as logarithms; a parameter is drawn on the scale of its prior.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Figs. 10-14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from numpy.typing import ArrayLike, NDArray

from melotte.report.style import (
    BLUE,
    COUNT_FLOOR,
    CYCLE,
    DENSITY,
    GREY,
    INK,
    MARKERS,
    RED,
    SMALL,
    dress,
    label,
    legend,
    new_figure,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from melotte.parameters import Parameter

Array = NDArray[np.float64]

BOUND = 0.95
"""Share of the clusters between the dashed lines."""
FAINTEST_SHOWN = 0.1
"""Visibilities below are drawn here."""
CLASS = LinearSegmentedColormap.from_list("class", [INK, "#2b4c6f", BLUE, RED])
SELECTION = "viridis"


def on_scale(parameter: Parameter, values: ArrayLike) -> Array:
    """Values of a parameter on the scale of its prior: log10 where that is logarithmic."""
    given = np.asarray(values, dtype=float)
    return np.log10(given) if parameter.scale == "log" else given


def axis_name(parameter: Parameter) -> str:
    """What an axis of :func:`on_scale` is called."""
    name = with_unit(parameter.name, parameter.unit)
    return f"log10({name.replace(' / ', '/')})" if parameter.scale == "log" else name


def axis_range(parameter: Parameter) -> tuple[float, float]:
    """Ends of a parameter's range on that axis."""
    low, high = on_scale(parameter, [parameter.low, parameter.high])
    return float(low), float(high)


def true_inferred_figure(
    results: Mapping[str, tuple[ArrayLike, ArrayLike]],
    parameters: Sequence[Parameter],
    published: Mapping[str, float] | None = None,
) -> Figure:
    """True against inferred values, with the lines between which 95 % of the clusters lie.

    Parameters
    ----------
    results : mapping of str to (truth, estimate), arrays (n, n_parameters)
        One row of panels for each method, physical units.
    parameters : sequence of Parameter
        With ``log_age``, clusters taken for much younger (red) or older (blue) than they are,
        beyond the 95 % bound of ages, are marked in every panel.
    published : mapping of str to float, optional
        Published 95 % bounds by parameter, drawn dotted, on the axis' scale.

    Returns
    -------
    Figure

    References
    ----------
    Paper II, Figs. 10 and 11.
    """
    n = len(parameters)
    rows = max(len(results), 1)
    figure, axes = new_figure(2.7 * n + 0.3, 2.75 * rows + 0.2, rows, n)
    ages = [i for i, parameter in enumerate(parameters) if parameter.name == "log_age"]
    for row, (title, (truth, estimate)) in enumerate(results.items()):
        true, given = np.asarray(truth, dtype=float), np.asarray(estimate, dtype=float)
        wrong = _misdated(true[:, ages[0]], given[:, ages[0]]) if ages else None
        for i, parameter in enumerate(parameters):
            panel = axes[row, i]
            x, y = on_scale(parameter, true[:, i]), on_scale(parameter, given[:, i])
            bound = None if published is None else published.get(parameter.name)
            _true_inferred(panel, x, y, axis_range(parameter), wrong, bound)
            name = axis_name(parameter)
            label(panel, f"true {name}" if row == rows - 1 else "", f"inferred {name}")
        label(axes[row, 0], title=title)
    return figure


def _misdated(true: Array, given: Array) -> Array:
    """-1 for clusters much too young, 1 for much too old, else 0."""
    error = given - true
    finite = np.isfinite(error)
    bound = np.quantile(np.abs(error[finite]), BOUND) if finite.any() else np.inf
    return np.where(error < -bound, -1, np.where(error > bound, 1, 0))


def _true_inferred(
    axes: Axes,
    x: Array,
    y: Array,
    extent: tuple[float, float],
    wrong: Array | None,
    published: float | None,
) -> None:
    finite = np.isfinite(x) & np.isfinite(y)
    ends = np.array(extent)
    axes.set(xlim=extent, ylim=extent, aspect="equal")
    axes.plot(ends, ends, color=GREY, lw=0.8)
    if published is not None:
        for sign in (-1, 1):
            axes.plot(ends, ends + sign * published, color=GREY, lw=0.9, ls=":")
    if not finite.any():
        return
    axes.hexbin(
        x[finite],
        y[finite],
        gridsize=42,
        extent=(*extent, *extent),
        mincnt=1,
        bins="log",
        vmin=COUNT_FLOOR,
        cmap=DENSITY,
        linewidths=0,
        rasterized=True,
    )
    if wrong is not None:
        for sign, colour in ((-1, RED), (1, BLUE)):
            chosen = finite & (wrong == sign)
            axes.scatter(x[chosen], y[chosen], s=3, color=colour, linewidths=0, rasterized=True)
    bound = float(np.quantile(np.abs(y - x)[finite], BOUND))
    for sign in (-1, 1):
        axes.plot(ends, ends + sign * bound, color=INK, lw=1, ls="--")
    text = f"95 % within {bound:.2f}"
    if published is not None:
        text += f"\npublished {published:.2g} (dotted)"
    axes.annotate(
        text,
        (0.03, 0.97),
        xycoords="axes fraction",
        va="top",
        fontsize=SMALL,
        color=INK,
        bbox={"facecolor": "white", "alpha": 0.8, "linewidth": 0, "pad": 1},
    )


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
        Of the clusters; adds a panel of true against inferred.
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
    true = np.asarray(true_visibility, dtype=float)
    chosen = cluster & np.isfinite(true) & (true > 0)
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
    axes.hexbin(
        held,
        np.clip(given, *ends),
        gridsize=26,
        xscale="log",
        yscale="log",
        extent=extent,
        mincnt=1,
        bins="log",
        vmin=COUNT_FLOOR,
        cmap=DENSITY,
        linewidths=0,
    )
    axes.set(xlim=ends, ylim=ends)
    factor = float(np.quantile(np.abs(np.log10(given / true)), BOUND))
    for sign in (-1, 1):
        axes.plot(ends, ends * 10 ** (sign * factor), color=INK, lw=0.9, ls="--")
    axes.set_title(f"95 % within {factor:.2f} dex", fontsize=SMALL, color=INK, loc="left")


def selection_figure(
    estimate: ArrayLike,
    parameters: Sequence[Parameter],
    visibility: ArrayLike,
    title: str = "",
) -> Figure:
    """Inferred parameters of clusters in pairs, coloured by visibility.

    Parameters
    ----------
    estimate : array, shape (n, n_parameters), physical units
    parameters : sequence of Parameter
    visibility : array, shape (n,), > 0
    title : str

    Returns
    -------
    Figure

    References
    ----------
    Paper II, Fig. 13.
    """
    seen = np.asarray(visibility, dtype=float)
    order = np.argsort(seen, kind="stable")
    figure, panels = _pairs(parameters, title)
    finite = seen[np.isfinite(seen) & (seen > 0)]
    low, high = np.quantile(finite, [0.02, 0.98]) if len(finite) else (0.1, 10.0)
    shown = None
    for panel, x, y in _pair_values(panels, np.asarray(estimate, dtype=float), parameters):
        shown = panel.scatter(
            x[order],
            y[order],
            c=np.clip(seen[order], low, high),
            s=5,
            cmap=SELECTION,
            norm=LogNorm(max(low, 1e-6), max(high, low * 1.01, 1e-5)),
            linewidths=0,
            rasterized=True,
        )
    if shown is not None:
        _bar(figure, shown, list(panels.values()), "visibility")
    return figure


def background_selection_figure(
    estimate: ArrayLike,
    parameters: Sequence[Parameter],
    probability: ArrayLike,
    behind: ArrayLike | None = None,
    title: str = "",
) -> Figure:
    """What is inferred of empty fields, by how much they look like clusters.

    Parameters
    ----------
    estimate : array, shape (n, n_parameters), physical units
    parameters : sequence of Parameter
    probability : array, shape (n,), 0 to 1
        Of a cluster: dots grow with it, and turn blue from 0.5 and red from 0.99 on.
    behind : array, shape (n_mocks, n_parameters), optional
        Inferred parameters of mock clusters, as grey dots.
    title : str

    Returns
    -------
    Figure

    References
    ----------
    Paper II, Fig. 14.
    """
    given = np.asarray(probability, dtype=float)
    colour = np.where(given > 0.99, RED, np.where(given > 0.5, BLUE, INK))
    order = np.argsort(given, kind="stable")
    figure, panels = _pairs(parameters, title)
    if behind is not None:
        for panel, x, y in _pair_values(panels, np.asarray(behind, dtype=float), parameters):
            panel.scatter(x, y, s=2, color="#d5dadf", linewidths=0, rasterized=True)
    for panel, x, y in _pair_values(panels, np.asarray(estimate, dtype=float), parameters):
        panel.scatter(
            x[order],
            y[order],
            c=colour[order].tolist(),
            s=1.5 + 14 * given[order] ** 2,
            linewidths=0,
            rasterized=True,
        )
    first = next(iter(panels.values()))
    for text, one in (("p <= 0.5", INK), ("p > 0.5", BLUE), ("p > 0.99", RED)):
        first.scatter([], [], s=12, color=one, label=text)
    legend(first, loc="upper left", handletextpad=0.1, borderaxespad=0)
    return figure


def coverage_visibility_figure(
    bins: Sequence[str],
    coverage: Mapping[str, Mapping[str, tuple[ArrayLike, ArrayLike]]],
    level: float = 0.68,
) -> Figure:
    """Coverage of central intervals in bins of visibility.

    Parameters
    ----------
    bins : sequence of str
        Names of the bins.
    coverage : mapping of method to mapping of parameter to (fractions, errors), each (n_bins,)
    level : float
        What is right.

    Returns
    -------
    Figure
        One panel a parameter, one curve a method.
    """
    names = list(dict.fromkeys(name for one in coverage.values() for name in one))
    figure, axes = new_figure(2.6 * max(len(names), 1) + 0.4, 2.7, 1, max(len(names), 1))
    place = np.arange(len(bins))
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
        panel.set_ylim(0, 1.02)
        label(panel, "true visibility", f"coverage of {100 * level:.0f} %", with_unit(name, ""))
    legend(axes[0, 0], loc="lower right")
    return figure


def _pairs(
    parameters: Sequence[Parameter], title: str
) -> tuple[Figure, dict[tuple[int, int], Axes]]:
    """Panels of every pair of parameters: the one that is first in the order goes along x."""
    pairs = list(combinations(range(len(parameters)), 2))
    columns = min(len(pairs), 3) or 1
    rows = -(-len(pairs) // columns) or 1
    figure, axes = new_figure(2.9 * columns + 0.7, 2.7 * rows + 0.2, rows, columns)
    for panel in axes.flat[len(pairs) :]:
        panel.set_axis_off()
    found = {}
    for panel, (i, j) in zip(axes.flat, pairs, strict=False):
        panel.set(xlim=axis_range(parameters[i]), ylim=axis_range(parameters[j]))
        label(panel, axis_name(parameters[i]), axis_name(parameters[j]))
        found[i, j] = panel
    label(axes[0, 0], title=title)
    return figure, found


def _pair_values(
    panels: Mapping[tuple[int, int], Axes], values: Array, parameters: Sequence[Parameter]
) -> list[tuple[Axes, Array, Array]]:
    columns = [on_scale(parameter, values[:, i]) for i, parameter in enumerate(parameters)]
    return [(panel, columns[i], columns[j]) for (i, j), panel in panels.items()]


def _bar(figure: Figure, shown: Any, axes: Any, text: str) -> None:
    bar = figure.colorbar(shown, ax=axes, pad=0.01, aspect=30)
    bar.set_label(text, fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
