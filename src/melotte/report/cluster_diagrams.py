"""Colour-magnitude diagrams of clusters with the posterior's isochrones over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from melotte.sky.isochrones import StellarGrid
from melotte.telescope.gaia import gaia_release

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from melotte.systems.open_cluster.stars import ClassifiedStars

N_DRAWN = 60
"""Samples whose isochrones make the band."""
SHAPE = np.array([0.1, 0.3])
"""BP-RP and G, mag, that count as equal lengths across the median isochrone."""
EQUAL_MASS = 0.753
"""2.5 log10(2): how much brighter a pair of equal stars is than one, mag."""
WIDEST_BAND = 2.5
"""Width of the band, in units of ``SHAPE``, beyond which it is not drawn."""
MAIN_SEQUENCE = 0
FARTHEST = 12.0
"""Distances in errors beyond this are drawn at the edge."""
CLASS_STYLES = {
    "single": ("#5c6b7a", "o"),
    "binary": ("#e69f00", "o"),
    "blue straggler": ("#0072b2", "*"),
    "off sequence": ("#cc79a7", "x"),
}
"""Colour and marker of the classes, in the order of their numbers."""
MAIN_BRANCH = "#c8472b"
MEMBER_MAP = "viridis"


def isochrone_curve(
    theta: Sequence[float] | np.ndarray, release: str = "EDR3"
) -> tuple[np.ndarray, np.ndarray]:
    """Apparent colour and magnitude along an isochrone.

    Parameters
    ----------
    theta : (log_age, extinction_v / mag, distance / kpc, metallicity)
    release : str
        Gaia release whose passbands to use.

    Returns
    -------
    bp_rp, g : array, shape (n_points,), mag
        Extinction and distance applied; in order of initial mass.
    """
    path, _, _ = _path(theta, release)
    return path[:, 0], path[:, 1]


def isochrone_band(
    samples: np.ndarray, release: str = "EDR3"
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Median isochrone of posterior samples and the 68 % band around it.

    Isochrones are compared at equal evolutionary points: the median is taken in colour and in
    magnitude there, and the band is 68 % of what the samples deviate across that curve.

    Parameters
    ----------
    samples : array, shape (n_samples, 4)
        (log_age, extinction_v / mag, distance / kpc, metallicity).
    release : str

    Returns
    -------
    middle, low, high : array, shape (n_points, 2), mag
        (BP-RP, G); phases that fewer than half of the samples reach are left out. Where samples
        differ so much that a band across the curve means nothing, its edges are NaN.
    dwarf : bool array, shape (n_points,)
        On the main sequence, or before it.
    """
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), N_DRAWN)).round().astype(int)
    paths = [_path(one, release) for one in samples[chosen]]
    first = min(int(eep[0]) for _, eep, _ in paths)
    last = max(int(eep[-1]) for _, eep, _ in paths)
    table = np.full((len(paths), last - first + 1, 2), np.nan)
    dwarf = np.zeros(last - first + 1, dtype=bool)
    for row, (path, eep, phase) in zip(table, paths, strict=True):
        row[eep - first] = path
        dwarf[eep - first] = phase <= MAIN_SEQUENCE
    reached = np.isfinite(table[..., 0]).mean(0) >= 0.5
    table, dwarf = table[:, reached], dwarf[reached]
    middle = np.nanmedian(table, axis=0)
    along = np.gradient(middle, axis=0) / SHAPE
    length = np.hypot(along[:, 0], along[:, 1])[:, None]
    across = np.stack([-along[:, 1], along[:, 0]], -1) / np.maximum(length, 1e-9)
    offset = ((table - middle) / SHAPE * across).sum(-1)
    low, high = np.nanquantile(offset, [0.16, 0.84], axis=0)
    low[high - low > WIDEST_BAND] = np.nan
    return (
        middle,
        middle + low[:, None] * across * SHAPE,
        middle + high[:, None] * across * SHAPE,
        dwarf,
    )


def draw_diagram(
    axes: Axes,
    stars: np.ndarray,
    samples: np.ndarray,
    *,
    release: str = "EDR3",
    title: str = "",
    found: ClassifiedStars | None = None,
) -> None:
    """Draw members, the median isochrone with its 68 % band, and the equal-mass binaries.

    Parameters
    ----------
    axes : matplotlib Axes
    stars : array, shape (n_stars, 7)
        Columns of a member list: G, BP-RP, ..., membership last (NaN where unknown).
    samples : array, shape (n_samples, 4)
        Posterior samples of (log_age, extinction_v, distance, metallicity).
    release : str
    title : str
    found : ClassifiedStars, optional
        Colours the stars by class; by membership without it.
    """
    g, colour, membership = stars[:, 0], stars[:, 1], stars[:, -1]
    shade = np.where(np.isfinite(membership), membership, 1.0)
    size = float(np.clip(1500 / max(len(g), 1), 4, 18))
    order = np.argsort(shade)
    if found is None:
        axes.scatter(
            colour[order],
            g[order],
            c=shade[order],
            s=size,
            cmap=MEMBER_MAP,
            vmin=0,
            vmax=1.05,
            linewidths=0,
            zorder=2,
            rasterized=True,
        )
    else:
        _draw_classes(axes, colour, g, found, size)
    low, high = np.nanmin(colour), np.nanmax(colour)
    bright, faint = np.nanmin(g), np.nanmax(g)
    middle, left, right, dwarf = isochrone_band(samples, release)
    known = np.flatnonzero(np.isfinite(left[:, 0]))
    for part in np.split(known, np.flatnonzero(np.diff(known) > 1) + 1):
        band = np.concatenate([left[part], right[part[::-1]]])
        axes.fill(*band.T, color=MAIN_BRANCH, alpha=0.22, lw=0, zorder=1)
    axes.plot(*middle.T, color=MAIN_BRANCH, lw=1.3, zorder=4, label="median isochrone, 68 %")
    axes.plot(
        middle[dwarf, 0],
        middle[dwarf, 1] - EQUAL_MASS,
        color=MAIN_BRANCH,
        lw=0.9,
        ls=(0, (4, 2)),
        zorder=4,
        label="equal-mass binaries",
    )
    axes.set_xlim(low - 0.25, high + 0.25)
    axes.set_ylim(faint + 0.4, bright - 0.8)
    axes.set_xlabel("BP − RP / mag")
    axes.set_ylabel("G / mag")
    if title:
        axes.set_title(title, fontsize=9, loc="left")


def cluster_figure(
    name: str,
    stars: np.ndarray,
    samples: np.ndarray,
    names: Sequence[str],
    units: Sequence[str],
    *,
    release: str = "EDR3",
    found: ClassifiedStars | None = None,
) -> Figure:
    """One cluster's diagram with its measured values above it.

    Parameters
    ----------
    name : str
    stars : array, shape (n_stars, 7)
    samples : array, shape (n_samples, n_parameters)
    names, units : sequence of str, length n_parameters
    release : str
    found : ClassifiedStars, optional
        Colours the stars by class and adds their distances from the single-star sequence.

    Returns
    -------
    Figure
    """
    if found is None:
        figure = Figure(figsize=(5.2, 5.6), layout="constrained")
        axes = figure.add_subplot()
        draw_diagram(axes, stars, samples, release=release)
    else:
        figure = Figure(figsize=(7.0, 5.8), layout="constrained")
        axes, beside = figure.subplots(1, 2, sharey=True, width_ratios=[2.6, 1])
        draw_diagram(axes, stars, samples, release=release, found=found)
        _draw_distances(beside, stars[:, 0], found)
        axes.legend(fontsize=7, frameon=False, loc="best", handlelength=1.6)
    lines = [f"{name}   {len(stars)} stars"]
    for i, (parameter, unit) in enumerate(zip(names, units, strict=True)):
        low, middle, high = np.quantile(samples[:, i], [0.16, 0.5, 0.84])
        lines.append(
            f"{parameter} = {middle:.3g} +{high - middle:.2g} −{middle - low:.2g} {unit}".rstrip()
        )
    axes.set_title("\n".join(lines), fontsize=9, loc="left")
    return figure


def _path(
    theta: Sequence[float] | np.ndarray, release: str
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Apparent (BP-RP, G) along an isochrone, (n_points, 2), evolutionary points and phases."""
    log_age, extinction_v, distance, metallicity = (float(value) for value in theta)
    bands = list(gaia_release(release).bands)
    isochrone = StellarGrid.shipped(bands).isochrone(log_age, metallicity)
    magnitudes = np.asarray(isochrone.magnitudes(bands, extinction_v=extinction_v))
    g, bp, rp = (magnitudes[:, i] for i in range(3))
    place = np.stack([bp - rp, g + 5 * np.log10(distance) + 10], -1)
    return place, isochrone.eep, isochrone.phase


def _draw_classes(
    axes: Axes, colour: np.ndarray, g: np.ndarray, found: ClassifiedStars, size: float
) -> None:
    """Stars coloured by class; the less certain the membership, the paler."""
    for number, (kind, (shown, marker)) in enumerate(CLASS_STYLES.items()):
        mine = found.kind == number
        if not mine.any():
            continue
        opacity = 0.25 + 0.75 * np.clip(found.membership[mine], 0, 1)
        axes.scatter(
            colour[mine],
            g[mine],
            c=[to_rgba(shown, float(one)) for one in opacity],
            marker=marker,
            s=size if marker == "o" else 22,
            linewidths=0.8 if marker == "x" else 0,
            zorder=2 if number == 0 else 3,
            rasterized=True,
            label=f"{int(mine.sum())} {kind}",
        )


def _draw_distances(axes: Axes, g: np.ndarray, found: ClassifiedStars) -> None:
    """Distances from the single-star sequence in errors, against G."""
    shown = np.clip(found.single_distance, -FARTHEST, FARTHEST)
    for number, (colour, marker) in enumerate(CLASS_STYLES.values()):
        mine = found.kind == number
        axes.scatter(
            shown[mine],
            g[mine],
            color=colour,
            marker=marker,
            s=7 if marker == "o" else 16,
            linewidths=0.8 if marker == "x" else 0,
            rasterized=True,
        )
    axes.axvspan(-1, 1, color=MAIN_BRANCH, alpha=0.15, lw=0)
    axes.axvline(0, color=MAIN_BRANCH, lw=1.0)
    axes.set_xlim(-1.08 * FARTHEST, 1.08 * FARTHEST)
    axes.set_xlabel("distance from\nsingle stars / errors")


def gallery(
    entries: Sequence[tuple[str, np.ndarray, np.ndarray]],
    *,
    release: str = "EDR3",
    columns: int = 4,
) -> Figure:
    """Diagrams of several clusters on one page.

    Parameters
    ----------
    entries : sequence of (title, stars (n_stars, 7), samples (n_samples, 4))
    release : str
    columns : int

    Returns
    -------
    Figure
    """
    rows = -(-len(entries) // columns)
    figure = Figure(figsize=(3.3 * columns, 3.4 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one, (title, stars, samples) in zip(axes.flat, entries, strict=False):
        draw_diagram(one, stars, samples, release=release, title=title)
    for one in list(axes.flat)[len(entries) :]:
        one.set_axis_off()
    return figure
