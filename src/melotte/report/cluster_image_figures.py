"""How well parameters of cluster images are found, and what is selected (Paper II's figures).

Sizes are drawn as logarithms; a parameter is drawn on the scale of its prior.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Figs. 10, 13, 14.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from numpy.typing import ArrayLike, NDArray

from melotte.parameters import on_scale
from melotte.report.style import (
    BLUE,
    GREY,
    INK,
    PINK,
    RED,
    SMALL,
    density_cells,
    label,
    legend_outside,
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
SELECTION = "viridis"
MOCKS = "#d5dadf"
"""Of mock clusters that others are drawn before."""


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
        With ``log_age``, clusters taken for much younger (red) or older (pink) than they are,
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
    figure, axes = new_figure(2.7 * n + 0.3, 2.75 * rows + 0.5, rows, n)
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
    legend_outside(figure, axes[:, 0], "upper left", ncols=min(n, 2), handletextpad=0.1)
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
    density_cells(
        axes, x[finite], y[finite], gridsize=42, extent=(*extent, *extent), rasterized=True
    )
    if wrong is not None:
        edge: dict[str, Any] = {"edgecolors": "white", "linewidths": 0.3, "rasterized": True}
        for sign, colour, text in (
            (-1, RED, "age inferred beyond the 95 % bound: too young"),
            (1, PINK, "too old"),
        ):
            chosen = finite & (wrong == sign)
            axes.scatter(x[chosen], y[chosen], s=7, color=colour, label=text, **edge)
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
            panel.scatter(x, y, s=2, color=MOCKS, linewidths=0, rasterized=True)
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
        first.scatter([], [], s=12, color=one, label=f"empty field, {text}")
    if behind is not None:
        first.scatter([], [], s=12, color=MOCKS, label="mock cluster")
    style: dict[str, Any] = {"ncols": min(2 * len(panels), 4), "handletextpad": 0.1}
    title_style = {"title": "p: probability of a cluster", "title_fontsize": SMALL}
    legend_outside(figure, [first], "upper left", alignment="left", **style, **title_style)
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
