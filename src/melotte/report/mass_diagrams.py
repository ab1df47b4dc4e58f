"""Masses of galaxy clusters beside what others say of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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
    SKY,
    SMALL,
    dress,
    label,
    legend,
    new_figure,
    with_unit,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.parameters import Parameter
    from melotte.report.classical_masses import ClassicalMass
    from melotte.report.literature import LiteratureValue

Array = NDArray[np.float64]

MASS = "log_m200c"
MOST_ROWS = 12
"""Literature values that are drawn; further ones are counted."""
LONGEST_NAME = 34
LEVELS = (0.16, 0.5, 0.84)
ASIDE = 0.11
"""Rows of a cluster's values lie this far apart, in clusters."""
MASS_CAPTION = (
    "Posterior of the mass with its 16, 50 and 84 % quantiles, over the range of the prior. Below "
    "it other values with their errors. The M–σ estimates use the relations that Ho et al. 2019 "
    "publish for MultiDark: that of true members with the dispersion after a Clean cut, and that "
    "of all galaxies in the cylinder; their bars are the relations' scatter."
)


@dataclass(frozen=True)
class ClusterMasses:
    """One cluster's mass and other values of it, log10(M200c/(Msun/h)).

    Parameters
    ----------
    name : str
    low, middle, high : float
        16, 50 and 84 % quantiles.
    literature : tuple of LiteratureValue
    classical : tuple of ClassicalMass
    """

    name: str
    low: float
    middle: float
    high: float
    literature: tuple[LiteratureValue, ...] = ()
    classical: tuple[ClassicalMass, ...] = ()


def masses_figure(
    clusters: Sequence[ClusterMasses], low: float, high: float, method: str = "melotte"
) -> Figure:
    """Masses of several clusters, one below the other, with other values of each.

    Parameters
    ----------
    clusters : sequence of ClusterMasses
        At least one.
    low, high : float
        Range of the prior.
    method : str
        Name of what gave the quantiles.

    Returns
    -------
    Figure
    """
    figure, axes = new_figure(6.6, 1.3 + 0.42 * len(clusters))
    panel = axes[0, 0]
    seen: set[str] = set()
    values = [low, high]

    def draw(
        place: float, value: float, down: float, up: float, look: tuple[str, str], kind: str
    ) -> None:
        panel.errorbar(
            [value],
            [place],
            xerr=np.nan_to_num([[down], [up]]),
            color=look[0],
            marker=look[1],
            ms=4.5 if kind == method else 3.5,
            capsize=1.5,
            lw=1.1,
            label=None if kind in seen else kind,
        )
        seen.add(kind)
        values.extend([value - 0.2, value + 0.2])

    for number, one in enumerate(clusters):
        rows = 1 + len(one.literature) + len(one.classical)
        step = min(ASIDE, 0.8 / rows)
        place = number - step * (rows - 1) / 2
        down, up = one.middle - one.low, one.high - one.middle
        draw(place, one.middle, down, up, (BLUE, "o"), method)
        for other in one.literature:
            place += step
            draw(place, other.value, other.lower, other.upper, (ORANGE, "s"), "literature")
        for other in one.classical:
            place += step
            draw(place, other.log_mass, other.error, other.error, (GREEN, "^"), "M–σ, Ho+19")
    left, right = min(values), max(values)
    for begin, end in ((left, low), (high, right)):
        if end > begin:
            panel.axvspan(begin, end, color=FAINT, lw=0, zorder=0)
    panel.set_yticks(range(len(clusters)), [_shortened(one.name) for one in clusters])
    panel.set(xlim=(left, right), ylim=(len(clusters) - 0.4, -0.6))
    panel.xaxis.set_major_locator(MaxNLocator(7))
    label(panel, with_unit(MASS, ""))
    figure.legend(
        *panel.get_legend_handles_labels(), loc="outside upper center", ncols=3, fontsize=SMALL,
        frameon=False, labelcolor=INK,
    )  # fmt: skip
    return figure


def mass_figure(
    name: str,
    samples: ArrayLike,
    parameter: Parameter,
    *,
    literature: Sequence[LiteratureValue] = (),
    classical: Sequence[ClassicalMass] = (),
    flat_prior: bool = True,
    method: str = "melotte",
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
    method : str
        Name of what gave the samples.

    Returns
    -------
    Figure
    """
    drawn = np.asarray(samples, dtype=float)
    low, middle, high = np.quantile(drawn, LEVELS)
    rows = [(method, middle, middle - low, high - middle, BLUE, "o")]
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


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST_NAME else text[: LONGEST_NAME - 1] + "…"
