"""Light of the field of view: what mocks hold beside what real clusters show, and errors by it.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Figs. 10 and 11, Table 3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import ArrayLike, NDArray

from melotte.report.point_names import name_points
from melotte.report.style import (
    BLUE,
    GREY,
    INK,
    RED,
    SKY,
    SMALL,
    label,
    legend_outside,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.floating[Any]]

ASSUMED_AGE = 12.0
"""Gyr, where no age is known, as in the paper."""
FIELD = 40.0
"""Side of the field of view that the published luminosities are of, arcsec."""
DISTANCE_COLOURS = "viridis_r"
FEWEST_WITHIN, FEWEST_OUTSIDE = 20, 200
"""Mocks that are needed to say that a cluster is within, or outside of, what 99 % of them have: the
whole range of 200 holds 99 %, that of fewer less."""
_SHOWN_MOCKS = 4000
_MOST_NAMES = 12
_ROW: Mapping[str, Any] = {"ncols": 3, "handletextpad": 0.2, "columnspacing": 1.2}


@dataclass(frozen=True)
class PublishedClusters:
    """The 17 real clusters of Table 3, by luminosity of the field of view.

    Parameters
    ----------
    luminosity : array, Lsun_V
    distance : array, kpc
        Harris 2010.
    age : array, Gyr
        VandenBerg et al. 2013; NaN where not given.
    mass_to_light, mass_to_light_error : array, Msun/Lsun
        Baumgardt et al. 2020.
    pidoc_distance, pidoc_age, pidoc_mass_to_light : array
        pi-DOC's.
    """

    luminosity: Array
    distance: Array
    age: Array
    mass_to_light: Array
    mass_to_light_error: Array
    pidoc_distance: Array
    pidoc_age: Array
    pidoc_mass_to_light: Array


_NAN = float("nan")
_TABLE_3 = np.array(
    [
        [341.23, 17.4, 12.25, 2.60, 0.59, 16.8, 13.7, 1.756],
        [681.17, 13.4, _NAN, 1.13, 0.49, 16.2, 14.9, 0.772],
        [1067.21, 26.3, _NAN, 1.40, 0.41, 21.9, 15.1, 1.022],
        [1876.25, 16.0, 12.50, 1.44, 0.30, 17.3, 8.5, 1.217],
        [2026.29, 10.6, _NAN, 2.27, 0.67, 30.1, 4.5, 6.995],
        [5224.34, 10.3, 12.00, 2.01, 0.22, 21.4, 2.1, 1.365],
        [7366.47, 9.4, _NAN, 1.34, 0.35, 12.4, 0.4, 1.755],
        [9888.63, 17.0, 11.50, 1.60, 0.31, 25.6, 1.2, 0.779],
        [10269.37, 19.3, 12.25, 1.66, 0.41, 27.6, 0.4, 1.190],
        [11351.31, 8.1, 13.00, 2.04, 0.17, 17.4, -1.9, 1.094],
        [16612.68, 15.3, _NAN, 1.53, 0.39, 16.9, 0.2, 0.884],
        [25315.31, 12.9, _NAN, 1.47, 0.15, 17.0, -1.0, 0.513],
        [32111.04, 25.2, _NAN, 1.91, 0.46, 26.7, 1.8, 0.412],
        [37269.46, 17.9, 12.25, 1.74, 0.17, 16.8, -0.5, 0.241],
        [42293.77, 41.2, 11.25, 1.52, 0.40, 37.9, 3.5, 0.320],
        [50432.94, 35.0, _NAN, 2.08, 0.42, 27.3, 1.9, 0.272],
        [68421.00, 30.5, _NAN, 1.89, 0.63, 20.3, 0.4, 0.220],
    ]
)
PUBLISHED_CLUSTERS = PublishedClusters(*_TABLE_3.T)


def luminosity_figure(
    luminosity: ArrayLike,
    age: ArrayLike,
    distance: ArrayLike,
) -> Figure:
    """Light of the field of view against age, of mocks and of real clusters (Fig. 10).

    Parameters
    ----------
    luminosity : array, shape (n,), Lsun_V
        Of mocks.
    age : array, shape (n,), Gyr
    distance : array, shape (n,), kpc

    Returns
    -------
    Figure
        Squares are the paper's 17 clusters: filled where their light is within what 99 % of the
        mocks of their distance (within a factor of 1.5) and an age of 10 Gyr or more have, grey
        where there are too few such mocks to tell.
    """
    light, old, far = (np.asarray(one, dtype=float) for one in (luminosity, age, distance))
    figure, axes = new_figure(5.8, 4.5)
    panel = axes[0, 0]
    step = max(1, len(light) // _SHOWN_MOCKS)
    finite = far[np.isfinite(far)]
    low, high = (finite.min(), finite.max()) if len(finite) else (1.0, 100.0)
    norm = LogNorm(max(low, 0.1), max(high, 1.01 * low, 0.2))
    shown = panel.scatter(
        old[::step],
        light[::step],
        c=far[::step],
        s=4,
        cmap=DISTANCE_COLOURS,
        norm=norm,
        linewidths=0,
        rasterized=True,
    )
    bar = figure.colorbar(shown, ax=panel, pad=0.01, aspect=30)
    bar.set_label("distance / kpc", fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL, which="both")
    bar.ax.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    bar.ax.yaxis.set_major_formatter("{x:g}")
    bar.ax.yaxis.set_minor_formatter(NullFormatter())
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    known = PUBLISHED_CLUSTERS
    inside = within_mocks(known.luminosity, known.distance, light, old, far)
    ages = np.where(np.isfinite(known.age), known.age, ASSUMED_AGE)
    few = ~inside & (mocks_beside(known.distance, old, far) < FEWEST_OUTSIDE)
    groups = (
        (inside, INK, INK, "within the mocks' light"),
        (~inside & ~few, "none", INK, "outside of it"),
        (few, "none", GREY, "too few mocks to tell"),
    )
    _published(panel, ages, groups)
    panel.set_yscale("log")
    panel.set_xlim(-0.3, 15)
    label(panel, "age / Gyr", r"light of the field of view / L$_{\odot,V}$")
    title = {"title": f"17 real clusters, {FIELD:g}″:", "title_fontsize": SMALL}
    legend_outside(figure, [panel], "upper left", alignment="left", **title, **_ROW)
    return figure


def measured_light_figure(
    light: ArrayLike,
    distance: ArrayLike,
    inside: ArrayLike | None = None,
    served: Mapping[str, tuple[float, float]] | None = None,
    names: Sequence[str] = (),
) -> Figure:
    """Light of the field of view of measured clusters against distance, with the paper's 17.

    Parameters
    ----------
    light : array, shape (3, n), Lsun_V
        At the distances of ``distance``, so that a cluster is a line on which both grow together.
    distance : array, shape (3, n), kpc
        16, 50 and 84 %; NaN where unknown.
    inside : array of bool, shape (n,), optional
        Clusters that nothing was flagged of: drawn red, the others blue.
    served : mapping, optional
        What the model serves of ``log_luminosity_fov`` and ``distance``: a band, or a field.
    names : sequence of str, optional
        Of the clusters; written beside them where they are few.

    Returns
    -------
    Figure
        Squares are the paper's 17 clusters: filled within what is served, where that is known.
    """
    far, bright = (np.asarray(one, dtype=float) for one in (distance, light))
    good = np.ones(far.shape[1], dtype=bool) if inside is None else np.asarray(inside, dtype=bool)
    figure, axes = new_figure(5.8, 4.6)
    panel = axes[0, 0]
    known, ranges = PUBLISHED_CLUSTERS, served or {}
    held = np.ones(len(known.distance), dtype=bool)
    ends = [(0.0, np.inf), (0.0, np.inf)]
    if "log_luminosity_fov" in ranges:
        low, high = ranges["log_luminosity_fov"]
        ends = [ranges.get("distance", ends[0]), (10.0**low, 10.0**high)]
        for values, (least, most) in zip((known.distance, known.luminosity), ends, strict=True):
            held &= (values >= least) & (values <= most)
    name = f"17 real clusters, {FIELD:g}″"
    groups = ((held, INK, INK, name), (~held, "none", INK, f"{name}: not served"))
    _published(panel, known.distance, groups)
    for chosen, colour, text in ((good, RED, "here"), (~good, BLUE, "here, flagged")):
        rows = chosen & np.isfinite(far[1]) & np.isfinite(bright[1])
        if rows.any():
            panel.plot(far[:, rows], bright[:, rows], color=colour, lw=1.2, zorder=3)
            style: dict[str, Any] = {"s": 60, "marker": "*", "color": colour, "zorder": 4}
            panel.scatter(far[1, rows], bright[1, rows], label=text, **style)
    panel.set(xscale="log", yscale="log")
    if "log_luminosity_fov" in ranges:
        _serve(panel, *ends)
    for axis in (panel.xaxis, panel.yaxis):
        axis.set_minor_formatter(NullFormatter())
    panel.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    panel.xaxis.set_major_formatter("{x:g}")
    label(panel, "distance / kpc", r"light of the field of view / L$_{\odot,V}$")
    legend_outside(figure, [panel], "upper left", ncols=2, handletextpad=0.2)
    if 0 < len(names) <= _MOST_NAMES:
        name_points(panel, names, far[1], bright[1])
    return figure


def _serve(panel: Axes, far: tuple[float, float], light: tuple[float, float]) -> None:
    """Shade what a model serves; of all distances where ``far`` has no end."""
    left, right = panel.get_xlim()
    bottom, top = panel.get_ylim()
    if np.isfinite(far[1]):
        left, right = min(left, far[0] / 1.2), max(right, far[1] * 1.2)
    start, stop = max(far[0], left), min(far[1], right)
    style: dict[str, Any] = {"color": SKY, "alpha": 0.25, "lw": 0, "zorder": 0}
    panel.fill_between([start, stop], *light, label="the model serves", **style)
    panel.set(xlim=(left, right), ylim=(min(bottom, light[0] / 1.5), max(top, light[1] * 1.5)))


def _published(
    panel: Axes, place: Array, groups: Sequence[tuple[NDArray[np.bool_], str, str, str]]
) -> None:
    """The paper's 17 clusters as squares: groups of which, face, edge and what they are."""
    for chosen, face, edge, text in groups:
        if not chosen.any():
            continue
        panel.scatter(
            place[chosen],
            PUBLISHED_CLUSTERS.luminosity[chosen],
            s=26,
            marker="s",
            facecolors=face,
            edgecolors=edge,
            linewidths=1,
            label=f"{text} ({int(chosen.sum())})",
        )


def within_mocks(
    luminosity: Array, distance: Array, light: Array, age: Array, far: Array
) -> NDArray[np.bool_]:
    """Whether old clusters' light is within that of the middle 99 % of old mocks of their distance.

    Parameters
    ----------
    luminosity, distance : array, shape (n,)
        Of clusters.
    light, age, far : array, shape (n_mocks,)
        Light, age (Gyr) and distance (kpc) of mocks.

    Returns
    -------
    array of bool, shape (n,)
        False where there are fewer than ``FEWEST_WITHIN`` such mocks: nothing is known there, nor
        is a cluster proven to be outside by fewer than ``FEWEST_OUTSIDE`` of them.
    """
    found = np.zeros(len(luminosity), dtype=bool)
    for i, (one, place) in enumerate(zip(luminosity, distance, strict=True)):
        near = _near(place, age, far)
        if near.sum() >= FEWEST_WITHIN:
            low, high = np.quantile(light[near], [0.005, 0.995])
            found[i] = low <= one <= high
    return found


def mocks_beside(distance: Array, age: Array, far: Array) -> NDArray[np.int64]:
    """Old mocks of about the distance of clusters, shape (n,), as :func:`within_mocks` asks."""
    return np.array([_near(place, age, far).sum() for place in distance], dtype=np.int64)


def _near(place: float, age: Array, far: Array) -> NDArray[np.bool_]:
    return (age >= 10) & (far < 1.5 * place) & (far > place / 1.5)


def literature_figure(
    estimates: Mapping[str, ArrayLike],
    literature: Mapping[str, ArrayLike],
    luminosity: ArrayLike,
    inside: ArrayLike | None = None,
    with_published: bool = True,
) -> Figure:
    """M/L, age and distance beside the literature, and what is left against light (Fig. 11).

    Parameters
    ----------
    estimates : mapping of str to array, shape (n,) or (3, n)
        ``mass_to_light_v`` (Msun/Lsun), ``age`` (Gyr), ``distance`` (kpc), those that are known;
        16, 50 and 84 % where there are three rows.
    literature : mapping of str to array, shape (n,)
        NaN where unknown.
    luminosity : array, shape (n,), Lsun_V
        Of the field of view.
    inside : array of bool, shape (n,), optional
        Clusters that nothing was flagged of: drawn full.
    with_published : bool
        Show what the paper found of its 17 clusters.

    Returns
    -------
    Figure
    """
    wanted = {
        "mass_to_light_v": ("M/L$_V$", r"(M$_\odot$/L$_\odot$)", "pidoc_mass_to_light"),
        "age": ("age", "Gyr", "pidoc_age"),
        "distance": ("distance", "kpc", "pidoc_distance"),
    }
    names = [name for name in wanted if name in estimates and name in literature]
    n = max(len(names), 1)
    figure, axes = new_figure(3.3 * n + 0.2, 5.8, 2, n, height_ratios=[1.5, 1])
    light = np.asarray(luminosity, dtype=float)
    good = np.ones(len(light), dtype=bool) if inside is None else np.asarray(inside, dtype=bool)
    known = PUBLISHED_CLUSTERS
    for column, name in enumerate(names):
        title, unit, theirs = wanted[name]
        top, below = axes[:, column]
        values = np.atleast_2d(np.asarray(estimates[name], dtype=float))
        low, middle, high = values if len(values) == 3 else np.repeat(values, 3, 0)
        true = np.asarray(literature[name], dtype=float)
        shown = [middle[np.isfinite(true)], true[np.isfinite(true)]]
        if with_published:
            field = {"mass_to_light_v": "mass_to_light"}.get(name, name)
            other, paper = getattr(known, field), getattr(known, theirs)
            other = np.where(np.isfinite(other), other, ASSUMED_AGE)
            marks = {"s": 14, "marker": "s", "facecolors": "none", "edgecolors": GREY}
            top.scatter(other, paper, label="pi-DOC, 2021", **marks)
            below.scatter(known.luminosity, other - paper, **marks)
            shown += [other, paper]
        for chosen, colour, text in ((good, RED, "here"), (~good, BLUE, "here, flagged")):
            rows = chosen & np.isfinite(true) & np.isfinite(middle)
            if not rows.any():
                continue
            error = np.stack([middle - low, high - middle])[:, rows].clip(0)
            style = {"fmt": "o", "ms": 4, "color": colour, "lw": 1}
            top.errorbar(true[rows], middle[rows], error, label=text, **style)
            below.errorbar(light[rows], (true - middle)[rows], error[::-1], **style)
        every = np.concatenate(shown)
        every = every[np.isfinite(every)]
        ends = 1.08 * np.array([min(0.0, every.min(initial=0.0)), every.max(initial=1.0)])
        top.plot(ends, ends, color=GREY, lw=0.9, ls="--")
        # Whole error bars, but one that is very long does not squeeze all the rest.
        longest = high[np.isfinite(high) & np.isfinite(true)].max(initial=0.0)
        tall = np.clip(1.04 * longest, ends[1], 1.6 * ends[1])
        top.set(xlim=(max(ends[0], 0), ends[1]), ylim=(ends[0], tall))
        below.axhline(0, color=GREY, lw=0.9, ls="--")
        below.set_xscale("log")
        label(top, f"literature, {title} / {unit}", f"predicted, {title} / {unit}")
        label(below, r"light of the field / L$_{\odot,V}$", f"residual / {unit}")
        below.set_title("literature - predicted", fontsize=SMALL, color=GREY, loc="left")
    legend_outside(figure, axes[0], "upper left", **_ROW)
    return figure
