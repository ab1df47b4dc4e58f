"""Colour-magnitude diagrams of clusters with the posterior's isochrones drawn over them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure

from melotte.sky.isochrones import StellarGrid
from melotte.telescope.gaia import gaia_release

if TYPE_CHECKING:
    from matplotlib.axes import Axes

N_DRAWN = 40
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
    log_age, extinction_v, distance, metallicity = (float(value) for value in theta)
    bands = list(gaia_release(release).bands)
    isochrone = StellarGrid.shipped(bands).isochrone(log_age, metallicity)
    magnitudes = np.asarray(isochrone.magnitudes(bands, extinction_v=extinction_v))
    g, bp, rp = (magnitudes[:, i] for i in range(3))
    return bp - rp, g + 5 * np.log10(distance) + 10


def draw_diagram(
    axes: Axes,
    stars: np.ndarray,
    samples: np.ndarray,
    *,
    release: str = "EDR3",
    title: str = "",
) -> None:
    """Draw members, isochrones of posterior samples, and that of the posterior median.

    Parameters
    ----------
    axes : matplotlib Axes
    stars : array, shape (n_stars, 7)
        Columns of a member list: G, BP-RP, ..., membership last (NaN where unknown).
    samples : array, shape (n_samples, 4)
        Posterior samples of (log_age, extinction_v, distance, metallicity).
    release : str
    title : str
    """
    g, colour, membership = stars[:, 0], stars[:, 1], stars[:, -1]
    shade = np.where(np.isfinite(membership), membership, 1.0)
    order = np.argsort(shade)
    axes.scatter(
        colour[order],
        g[order],
        c=shade[order],
        s=float(np.clip(1500 / max(len(g), 1), 4, 18)),
        cmap=MEMBER_MAP,
        vmin=0,
        vmax=1.05,
        linewidths=0,
        zorder=2,
        rasterized=True,
    )
    low, high = np.nanmin(colour), np.nanmax(colour)
    bright, faint = np.nanmin(g), np.nanmax(g)
    step = max(1, len(samples) // N_DRAWN)
    curves = [np.stack(isochrone_curve(one, release), -1) for one in samples[::step][:N_DRAWN]]
    axes.add_collection(
        LineCollection(curves, colors=MAIN_BRANCH, linewidths=0.6, alpha=0.18, zorder=3)
    )
    middle = isochrone_curve(np.median(samples, axis=0), release)
    axes.plot(*middle, color=MAIN_BRANCH, lw=1.4, zorder=4, label="posterior median")
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
) -> Figure:
    """One cluster's diagram with its measured values beside it.

    Parameters
    ----------
    name : str
    stars : array, shape (n_stars, 7)
    samples : array, shape (n_samples, n_parameters)
    names, units : sequence of str, length n_parameters
    release : str

    Returns
    -------
    Figure
    """
    figure = Figure(figsize=(5.2, 5.6), layout="constrained")
    axes = figure.add_subplot()
    draw_diagram(axes, stars, samples, release=release)
    lines = [f"{name}   {len(stars)} stars"]
    for i, (parameter, unit) in enumerate(zip(names, units, strict=True)):
        low, middle, high = np.quantile(samples[:, i], [0.16, 0.5, 0.84])
        lines.append(
            f"{parameter} = {middle:.3g} +{high - middle:.2g} −{middle - low:.2g} {unit}".rstrip()
        )
    axes.set_title("\n".join(lines), fontsize=9, loc="left")
    return figure


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
