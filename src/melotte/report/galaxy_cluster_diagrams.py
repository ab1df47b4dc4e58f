"""One galaxy cluster in projected phase space, its members and where they end."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
    size = float(np.clip(4000 / max(n, 1), 7, 26))
    if cluster.membership is None:
        panel.scatter(cluster.radius, cluster.velocity, s=size, color=GREY, linewidths=0)
        label(panel, title=f"{cluster.name}   {n} galaxies")
        return figure
    order = np.argsort(cluster.membership)
    shown = panel.scatter(
        cluster.radius[order],
        cluster.velocity[order],
        c=cluster.membership[order],
        s=size,
        cmap=MEMBER_MAP,
        vmin=0,
        vmax=1,
        edgecolors=INK,
        linewidths=0.15,
        zorder=2,
        rasterized=True,
    )
    bar = figure.colorbar(shown, ax=panel, pad=0.01)
    bar.set_label("member probability", fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
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


def _radius_unit(cluster: ClusterGalaxies) -> str:
    kind, _, unit = cluster.lengths.partition(" ")
    return f"({unit}), {kind}" if unit else f"({kind})"
