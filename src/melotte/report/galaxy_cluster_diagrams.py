"""Galaxy clusters in projected phase space, their members and where they end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.report.style import (
    GREY,
    INK,
    RED,
    SMALL,
    label,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.collections import PathCollection
    from matplotlib.figure import Figure

    from melotte.report.cluster_galaxies import ClusterGalaxies

Array = NDArray[np.float64]

MEMBER_MAP = "viridis"
PHASE_SPACE_CAPTION = (
    "Galaxies in projected phase space, coloured by the probability that they are members. The "
    "line is where a further galaxy would be a member with probability 0.5: the network is asked "
    "of one probe galaxy after the other, each of the cluster's median stellar mass, where that is "
    "known, and each added alone to the list, at both signs of the velocity. "
    "It is a line of equal chance, not an escape velocity."
)


def phase_space_figure(cluster: ClusterGalaxies) -> Figure:
    """Velocity against projected radius, with memberships and the line where they end.

    Parameters
    ----------
    cluster : ClusterGalaxies
        Galaxies are grey and there is no line where memberships are not known.

    Returns
    -------
    Figure
    """
    figure, axes = new_figure(6.4, 4.8)
    panel = axes[0, 0]
    draw_phase_space(panel, cluster)
    n = len(cluster.velocity)
    size = _dot_size(n)
    if cluster.membership is None:
        panel.scatter(cluster.radius, cluster.velocity, s=size, color=GREY, linewidths=0)
        label(panel, title=f"{cluster.name}   {n} galaxies")
        return figure
    shown = _scatter(
        panel, cluster, np.ones(n, dtype=bool), s=size, edgecolors=INK, linewidths=0.15
    )
    _member_bar(figure, shown, panel)
    label(panel, title=f"{cluster.name}   {n} galaxies, {cluster.membership.sum():.0f} members")
    if cluster.boundary is not None:
        figure.legend(
            *panel.get_legend_handles_labels(),
            loc="outside lower center",
            fontsize=SMALL,
            frameon=False,
            labelcolor=INK,
        )
    return figure


def phase_space_gallery(
    entries: Sequence[tuple[str, ClusterGalaxies, NDArray[np.bool_]]], *, columns: int = 4
) -> Figure:
    """Several clusters of known truth on one page.

    Parameters
    ----------
    entries : sequence of (title, cluster, is_member)
        Clusters with memberships, and which galaxies are members in truth, shape (n_galaxies,):
        dots, and crosses for the others.
    columns : int

    Returns
    -------
    Figure
    """
    rows = max(1, -(-len(entries) // columns))
    figure, axes = new_figure(3.1 * columns + 0.6, 2.9 * rows + 0.3, rows, columns)
    shown = None
    for number, (title, cluster, is_member) in enumerate(entries):
        panel = axes.flat[number]
        draw_phase_space(panel, cluster)
        size = _dot_size(len(cluster.velocity))
        _scatter(panel, cluster, ~is_member, s=1.3 * size, marker="x", linewidths=1.1)
        shown = _scatter(panel, cluster, is_member, s=size, edgecolors=INK, linewidths=0.3)
        panel.set_title(title, fontsize=SMALL, color=INK, loc="left")
        if number % columns:
            panel.set_ylabel("")
        if number + columns < len(entries):
            panel.set_xlabel("")
    for panel in axes.flat[len(entries) :]:
        panel.set_axis_off()
    if shown is not None:
        _member_bar(figure, shown, axes)
    return figure


def draw_phase_space(axes: Axes, cluster: ClusterGalaxies) -> None:
    """Axes of phase space for one cluster, and the line where membership ends."""
    cut = cluster.velocity_cut
    axes.axhline(0, color=GREY, lw=0.7, ls=":", zorder=0)
    axes.set(xlim=(0, cluster.aperture), ylim=(-cut, cut))
    label(axes, f"$R$ / {_radius_unit(cluster)}", "line-of-sight velocity / (km/s)")
    if cluster.boundary is None:
        return
    known = cluster.boundary.radius
    radius = np.linspace(known[0], known[-1], 200)
    speed = cluster.boundary.at(radius)
    # Beyond the cut there is nothing to see, and where none is a member there is no line.
    hidden = (speed >= cut) | (np.concatenate([[1.0], speed[:-1]]) <= 0)
    speed[hidden] = np.nan
    if hidden.all():
        text = "no line: a further galaxy anywhere in the cylinder would likelier be a member"
        if cluster.boundary.speed.max() <= 0:
            text = "no line: a further galaxy anywhere in the cylinder would likelier be none"
        axes.plot([], [], ls="none", label=text)
        return
    for sign in (-1, 1):
        axes.plot(
            radius,
            sign * speed,
            color=RED,
            lw=1.6,
            zorder=3,
            label="a further galaxy here is a member with probability 0.5" if sign > 0 else None,
        )


def _scatter(
    axes: Axes, cluster: ClusterGalaxies, chosen: NDArray[np.bool_], **look: Any
) -> PathCollection:
    """Some galaxies coloured by their member probability, the likeliest on top."""
    membership: Any = cluster.membership
    order = np.argsort(membership, kind="stable")
    order = order[chosen[order]]
    return axes.scatter(
        cluster.radius[order],
        cluster.velocity[order],
        c=membership[order],
        cmap=MEMBER_MAP,
        vmin=0,
        vmax=1,
        zorder=2,
        rasterized=True,
        **look,
    )


def _member_bar(figure: Figure, shown: PathCollection, axes: Any) -> None:
    bar = figure.colorbar(shown, ax=axes, pad=0.01)
    bar.set_label("member probability", fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]


def _dot_size(n: int) -> float:
    """Points squared."""
    return float(np.clip(4000 / max(n, 1), 7, 26))


def _radius_unit(cluster: ClusterGalaxies) -> str:
    kind, _, unit = cluster.lengths.partition(" ")
    return f"({unit}), {kind}" if unit else f"({kind})"
