"""Errors against the truth in bins, and the scatter of clusters of one truth (Paper I's figures).

References
----------
Bialopetravičius, Narbutis & Vansevičius 2019, A&A 621, A103 (Paper I), Figs. 8-11 and Sect. 5.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Ellipse
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError
from melotte.report.style import CYCLE, GREY, INK, RED, SMALL, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

LEVELS = (0.02, 0.25, 0.5, 0.75, 0.98)
"""Ends of whiskers and boxes, and the line in the middle."""
_ANGLES = np.linspace(0, 2 * math.pi, 181)[:-1]


@dataclass(frozen=True)
class BinnedErrors:
    """Errors of one parameter in bins of the truth of another.

    Parameters
    ----------
    centres : array, shape (n_bins,)
        Of the bins of the truth.
    counts : array of int, shape (n_bins,)
    quantiles : array, shape (n_bins, 5): at ``LEVELS``
    std : array, shape (n_bins,)
        About the mean; NaN in bins of fewer than two.
    outside : tuple of arrays
        Errors beyond the whiskers, one array a bin.
    """

    centres: Array
    counts: NDArray[np.int64]
    quantiles: Array
    std: Array
    outside: tuple[Array, ...]


def binned_errors(truth: ArrayLike, error: ArrayLike, edges: ArrayLike) -> BinnedErrors:
    """Box statistics of errors.

    Parameters
    ----------
    truth, error : array, shape (n,)
        Pairs that are not finite are left out, and truths outside the bins too; the last bin
        holds its upper edge.
    edges : array, shape (n_bins + 1,), ascending

    Returns
    -------
    BinnedErrors
    """
    true, wrong = np.asarray(truth, dtype=float), np.asarray(error, dtype=float)
    ends = np.asarray(edges, dtype=float)
    number = np.searchsorted(ends, true, side="right") - 1
    number[true == ends[-1]] = len(ends) - 2
    number[~(np.isfinite(true) & np.isfinite(wrong))] = -1
    parts = [wrong[number == k] for k in range(len(ends) - 1)]
    quantiles = np.array([np.quantile(one, LEVELS) if len(one) else [np.nan] * 5 for one in parts])
    outside = tuple(
        one[(one < q[0]) | (one > q[-1])] for one, q in zip(parts, quantiles, strict=True)
    )
    std = np.array([one.std(ddof=1) if len(one) > 1 else np.nan for one in parts])
    counts = np.array([len(one) for one in parts])
    return BinnedErrors((ends[1:] + ends[:-1]) / 2, counts, quantiles, std, outside)


def box_figure(
    results: Mapping[str, tuple[ArrayLike, ArrayLike]],
    names: Sequence[str],
    edges: Sequence[ArrayLike],
) -> Figure:
    """Errors of every parameter against the truth of every parameter, as boxes.

    Parameters
    ----------
    results : mapping of str to (truth, estimate), arrays (n, n_parameters)
        On the scale of the axes, logarithms of sizes for example; methods stand side by side.
    names : sequence of str, length n_parameters
        For the axes.
    edges : sequence of arrays
        Bins of each parameter.

    Returns
    -------
    Figure
        Boxes from the first to the third quartile with the median, whiskers from the 2nd to the
        98th percentile, the others as dots.

    References
    ----------
    Paper I, Fig. 8.
    """
    binned = {
        title: binned_by_truth(truth, estimate, edges)
        for title, (truth, estimate) in results.items()
    }
    return binned_box_figure(binned, names, edges)


def binned_by_truth(
    truth: ArrayLike, estimate: ArrayLike, edges: Sequence[ArrayLike]
) -> list[list[BinnedErrors]]:
    """Errors of every parameter (rows) in bins of the truth of every parameter (columns).

    Parameters
    ----------
    truth, estimate : array, shape (n, n_parameters)
    edges : sequence of arrays
        Bins of each parameter.
    """
    true = np.asarray(truth, dtype=float)
    error = np.asarray(estimate, dtype=float) - true
    return [
        [binned_errors(true[:, k], error[:, i], ends) for k, ends in enumerate(edges)]
        for i in range(len(edges))
    ]


def binned_box_figure(
    results: Mapping[str, Sequence[Sequence[BinnedErrors]]],
    names: Sequence[str],
    edges: Sequence[ArrayLike],
) -> Figure:
    """:func:`box_figure` of errors that are in bins already, as a file may keep them.

    Parameters
    ----------
    results : mapping of str to BinnedErrors, of every error (rows) against every truth (columns)
    names, edges
        As there.

    Returns
    -------
    Figure
    """
    n = len(names)
    figure, axes = new_figure(3.0 * n + 0.3, 2.4 * n + 0.3, n, n, sharey="row", sharex="col")
    for row in range(n):
        largest = 0.0
        for column in range(n):
            panel = axes[row, column]
            panel.axhline(0, color=GREY, lw=0.8, ls=":")
            for k, rows in enumerate(results.values()):
                found = rows[row][column]
                width = 0.7 * np.diff(np.asarray(edges[column], float)) / len(results)
                shift = (k - (len(results) - 1) / 2) * width * 1.15
                _boxes(panel, found, found.centres + shift, width, CYCLE[k % len(CYCLE)])
                if np.isfinite(found.quantiles).any():
                    largest = max(largest, float(np.nanmax(np.abs(found.quantiles))))
            if row == n - 1:
                label(panel, f"true {names[column]}")
        axes[row, 0].set_ylim(-1.35 * (largest or 1), 1.35 * (largest or 1))
        label(axes[row, 0], y=f"error of {names[row]}")
    for k, title in enumerate(results):
        axes[0, -1].plot([], [], color=CYCLE[k % len(CYCLE)], lw=4, label=title)
    figure.legend(
        *axes[0, -1].get_legend_handles_labels(),
        loc="outside upper right",
        ncols=len(results),
        fontsize=SMALL,
        frameon=False,
        labelcolor=INK,
    )
    return figure


def _boxes(axes: Axes, found: BinnedErrors, places: Array, widths: Array, colour: str) -> None:
    for k, place in enumerate(places):
        if not found.counts[k]:
            continue
        low, first, median, third, high = found.quantiles[k]
        half = widths[k] / 2
        axes.vlines(place, low, high, color=colour, lw=1)
        axes.hlines([low, high], place - half / 2, place + half / 2, color=colour, lw=1)
        axes.fill_between(
            [place - half, place + half], first, third, color=colour, alpha=0.45, lw=0
        )
        axes.hlines(median, place - half, place + half, color=INK, lw=1.3)
        dots = found.outside[k]
        axes.plot(np.full(len(dots), place), dots, ".", ms=1.5, color=colour, rasterized=True)


@dataclass(frozen=True)
class NodeScatter:
    """Where the estimates of clusters of one truth lie, in two parameters.

    Parameters
    ----------
    truth : array, shape (2,)
    mean : array, shape (2,)
    covariance : array, shape (2, 2)
    n : int
    inside : float
        Share of the estimates within one sigma of the mean, 39 % of a normal distribution.
    """

    truth: Array
    mean: Array
    covariance: Array
    n: int
    inside: float

    def outline(self) -> Array:
        """Points (180, 2) of the ellipse of one sigma."""
        circle = np.stack([np.cos(_ANGLES), np.sin(_ANGLES)])
        return self.mean + (self._root() @ circle).T

    def holds(self, points: Array) -> NDArray[np.bool_]:
        """Whether points (n, 2) lie in the ellipse of one sigma."""
        offset = points - self.mean
        return (offset @ np.linalg.pinv(self.covariance) * offset).sum(1) <= 1

    def overlaps(self, other: NodeScatter) -> bool:
        """Whether the two ellipses of one sigma have a point in common."""
        return bool(
            self.holds(other.outline()).any()
            or other.holds(self.outline()).any()
            or self.holds(other.mean[None]).any()
            or other.holds(self.mean[None]).any()
        )

    def _root(self) -> Array:
        values, vectors = np.linalg.eigh(self.covariance)
        return vectors * np.sqrt(np.clip(values, 0, None))


def node_scatter(truth: ArrayLike, estimates: ArrayLike) -> NodeScatter:
    """Mean and covariance of estimates of clusters of one truth.

    Parameters
    ----------
    truth : array, shape (2,)
    estimates : array, shape (n, 2)
        At least three that are finite.

    Raises
    ------
    MelotteValueError
        With fewer.
    """
    given = np.asarray(estimates, dtype=float)
    given = given[np.isfinite(given).all(1)]
    if len(given) < 3:
        raise MelotteValueError(f"{len(given)} finite estimates; a scatter needs 3")
    node = NodeScatter(
        np.asarray(truth, dtype=float), given.mean(0), np.cov(given.T), len(given), math.nan
    )
    inside = float(node.holds(given).mean())
    return NodeScatter(node.truth, node.mean, node.covariance, node.n, inside)


def separable(nodes: Sequence[NodeScatter]) -> int:
    """How many groups can be told apart: the most nodes of which no two ellipses overlap.

    Parameters
    ----------
    nodes : sequence of NodeScatter, at most 16
        Along one axis: the other parameters are the same.

    Raises
    ------
    MelotteValueError
        With more.
    """
    n = len(nodes)
    if n > 16:
        raise MelotteValueError(f"{n} nodes are too many; at most 16 are told apart")
    touching = {(i, j) for i, j in combinations(range(n), 2) if nodes[i].overlaps(nodes[j])}
    for size in range(n, 1, -1):
        for chosen in combinations(range(n), size):
            if not any(pair in touching for pair in combinations(chosen, 2)):
                return size
    return min(n, 1)


def node_figure(
    panels: Mapping[str, Mapping[str, Sequence[NodeScatter]]],
    x: str,
    y: str,
) -> Figure:
    """Nodes of known truth, where their estimates lie on average and how they scatter.

    Parameters
    ----------
    panels : mapping of method to mapping of panel title to nodes
        One row of panels a method.
    x, y : str
        Names of the two parameters.

    Returns
    -------
    Figure
        Dots are truths, arrows biases, ellipses one sigma of the estimates about their mean.

    References
    ----------
    Paper I, Figs. 9-11.
    """
    rows = max(len(panels), 1)
    columns = max((len(one) for one in panels.values()), default=1) or 1
    figure, axes = new_figure(
        2.9 * columns + 0.3, 2.9 * rows + 0.2, rows, columns, sharex=True, sharey=True
    )
    for row, (method, each) in enumerate(panels.items()):
        for column, (title, nodes) in enumerate(each.items()):
            panel = axes[row, column]
            for node in nodes:
                _draw_node(panel, node)
            text = f"{method}: {title}" if column == 0 else title
            panel.set_title(text, fontsize=SMALL + 1, color=INK, loc="left")
            panel.margins(0.12)
            panel.autoscale_view()
            label(panel, x if row == rows - 1 else "", y if column == 0 else "")
    return figure


def _draw_node(axes: Axes, node: NodeScatter) -> None:
    values, vectors = np.linalg.eigh(node.covariance)
    width, height = 2 * np.sqrt(np.clip(values, 0, None))
    angle = math.degrees(math.atan2(vectors[1, 0], vectors[0, 0]))
    axes.add_patch(
        Ellipse(tuple(node.mean), width, height, angle=angle, color=GREY, alpha=0.4, lw=0)
    )
    axes.annotate(
        "",
        tuple(node.mean),
        tuple(node.truth),
        arrowprops={
            "arrowstyle": "->",
            "color": RED,
            "lw": 1,
            "shrinkA": 0,
            "shrinkB": 0,
            "mutation_scale": 6,
        },
    )
    axes.plot(*node.truth, "o", ms=2.6, color=INK)
    axes.plot(*node.outline().T, lw=0.4, color=GREY)
