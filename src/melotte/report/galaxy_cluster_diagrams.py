"""One galaxy cluster in phase space, and its mass beside what others say of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melotte.report.style import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    INK,
    ORANGE,
    RED,
    SKY,
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
    from melotte.report.classical_masses import ClassicalMass
    from melotte.report.cluster_galaxies import ClusterGalaxies
    from melotte.report.literature import LiteratureValue

Array = NDArray[np.float64]

MEMBER_MAP = "viridis"
MOST_ROWS = 12
"""Literature values that are drawn; further ones are counted."""
LONGEST_NAME = 34
LEVELS = (0.16, 0.5, 0.84)
PHASE_SPACE_CAPTION = (
    "Galaxies in projected phase space, coloured by the probability that they are members. The "
    "line is where a further galaxy would be a member with probability 0.5: the network is asked "
    "of one probe galaxy after the other, each added alone to this cluster's list, at both signs "
    "of the velocity. It is a line of equal chance, not an escape velocity."
)
MASS_CAPTION = (
    "Posterior of the mass with its 16, 50 and 84 % quantiles, over the range of the prior. Below "
    "it other values with their errors. The M–σ estimates use the relations that Ho et al. 2019 "
    "publish for MultiDark: that of true members with the dispersion after a Clean cut, and that "
    "of all galaxies in the cylinder; their bars are the relations' scatter."
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
    radius = np.linspace(0, cluster.aperture, 200)
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


def mass_figure(
    name: str,
    samples: ArrayLike,
    parameter: Parameter,
    *,
    literature: Sequence[LiteratureValue] = (),
    classical: Sequence[ClassicalMass] = (),
    flat_prior: bool = True,
) -> Figure:
    """Posterior of the mass, with other values of it below.

    Parameters
    ----------
    name : str
    samples : array, shape (n_samples,)
        Of the posterior, in the parameter's unit.
    parameter : Parameter
        Its range is the prior's.
    literature : sequence of LiteratureValue
    classical : sequence of ClassicalMass
    flat_prior : bool
        Draw the flat prior; not where samples were reweighted by another one.

    Returns
    -------
    Figure
    """
    drawn = np.asarray(samples, dtype=float)
    low, middle, high = np.quantile(drawn, LEVELS)
    rows = [("melotte", middle, middle - low, high - middle, BLUE, "o")]
    rows += [
        (one.reference, one.value, one.lower, one.upper, ORANGE, "s")
        for one in literature[:MOST_ROWS]
    ]
    rows += [(one.method, one.log_mass, one.error, one.error, GREEN, "^") for one in classical]
    figure, axes = new_figure(
        6.0, 2.6 + 0.27 * len(rows) + 0.3, 2, 1, sharex=True, height_ratios=[2.1, 0.27 * len(rows)]
    )
    top, below = axes[:, 0]
    left, right = _limits(parameter, [row[1] for row in rows])
    at = np.linspace(parameter.low, parameter.high, 400)
    density = smooth_density(drawn, at, parameter.low, parameter.high)
    inside = (at >= low) & (at <= high)
    top.fill_between(at[inside], density[inside], color=SKY, alpha=0.45, lw=0)
    top.plot(at, density, color=BLUE, lw=1.5, label="posterior")
    for value in (low, middle, high):
        top.axvline(value, color=INK, lw=0.8, ls="--")
    if flat_prior:
        level = 1 / (parameter.high - parameter.low)
        top.plot([parameter.low, parameter.high], [level] * 2, color=GREY, lw=1.2, label="prior")
    for panel in (top, below):
        for begin, end in ((left, parameter.low), (parameter.high, right)):
            if end > begin:
                panel.axvspan(begin, end, color=FAINT, lw=0, zorder=0)
    digits = 2 if high - low > 0.04 else 3
    label(
        top,
        "",
        "probability density",
        f"{name}   {middle:.{digits}f} +{high - middle:.{digits}f} −{middle - low:.{digits}f}",
    )
    top.set_ylim(0, 1.08 * float(density.max()))
    # The mass may be at either end: the legend goes where the posterior is not.
    legend(top, loc="upper left" if middle > (left + right) / 2 else "upper right")
    for place, (_, value, down, up, colour, marker) in enumerate(rows):
        errors = np.nan_to_num([[down], [up]])
        below.errorbar(
            [value], [place], xerr=errors, color=colour, marker=marker, ms=4.5, capsize=2, lw=1.2
        )
    below.axvspan(low, high, color=SKY, alpha=0.25, lw=0, zorder=0)
    below.set_yticks(range(len(rows)), [_shortened(row[0]) for row in rows])
    below.set(xlim=(left, right), ylim=(len(rows) - 0.4, -0.6))
    below.xaxis.set_major_locator(MaxNLocator(7))
    dress(below)
    label(below, with_unit(parameter.name, parameter.unit))
    hidden = len(literature) - MOST_ROWS
    if hidden > 0:
        below.annotate(
            f"and {hidden} more values", (0.99, 0.02), xycoords="axes fraction", ha="right",
            fontsize=SMALL, color=GREY,
        )  # fmt: skip
    return figure


def smooth_density(samples: ArrayLike, at: ArrayLike, low: float, high: float) -> Array:
    """Kernel density of samples within a range, reflected at its ends, shape of ``at``.

    The bandwidth is 0.9 min(std, half the 16-84 % range) n^-1/5 (Silverman 1986, Eq. 3.31).
    """
    drawn = np.asarray(samples, dtype=float)
    sixteenth, eightyfourth = np.quantile(drawn, [0.16, 0.84])
    spread = min(drawn.std(), (eightyfourth - sixteenth) / 2) or drawn.std() or (high - low) / 100
    width = 0.9 * spread * len(drawn) ** -0.2
    reflected = np.concatenate([drawn, 2 * low - drawn, 2 * high - drawn])
    offset = (np.asarray(at, dtype=float)[:, None] - reflected) / width
    return stats.norm.pdf(offset).sum(1) / (len(drawn) * width)


def _limits(parameter: Parameter, values: Sequence[float]) -> tuple[float, float]:
    """The prior's range, and what lies beyond it."""
    margin = 0.03 * (parameter.high - parameter.low)
    left = min([parameter.low, *(value - 0.2 for value in values)]) - margin
    right = max([parameter.high, *(value + 0.2 for value in values)]) + margin
    return left, right


def _radius_unit(cluster: ClusterGalaxies) -> str:
    kind, _, unit = cluster.lengths.partition(" ")
    return f"({unit}), {kind}" if unit else f"({kind})"


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
