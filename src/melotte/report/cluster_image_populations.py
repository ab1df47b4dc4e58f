"""Clusters as a population: colours and magnitudes of a bank, masses of a catalogue.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Figs. 3 and 20.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError
from melotte.report.style import BLUE, FAINT, GREY, INK, RED, SMALL, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

TRUNCATIONS = (math.inf, 1e6, 2.5e5)
"""Truncation masses of the functions of Paper II's Fig. 20, Msun."""
COLOURS = "turbo"
MANY_BINS = 400


@dataclass(frozen=True)
class Track:
    """Magnitudes of a simple stellar population from the youngest age to the oldest.

    Parameters
    ----------
    name : str
    magnitude : array, shape (n_ages, n_bands), Vega mag
    """

    name: str
    magnitude: Array


def short_band(name: str) -> str:
    """The filter of a band's full name: F336W of WFC3_UVIS_F336W."""
    return name.rpartition("_")[2]


def colour_figure(
    magnitude: ArrayLike,
    bands: Sequence[str],
    columns: Mapping[str, ArrayLike],
    tracks: Sequence[Track] = (),
    faintest: float | None = None,
) -> Figure:
    """Colour-colour and colour-magnitude diagrams of a bank, coloured by its parameters.

    Parameters
    ----------
    magnitude : array, shape (n, n_bands), Vega mag
        Apparent, integrated, bands from blue to red; at least two. Rows that are not finite are
        left out.
    bands : sequence of str
    columns : mapping of str to array (n,)
        One column of panels for each; NaN leaves a cluster out of that column.
    tracks : sequence of Track
        Drawn over the last column.
    faintest : float, optional
        Limit in the reddest band; what is fainter is shaded.

    Returns
    -------
    Figure
        Two rows: first colour against last, and the reddest magnitude against the first colour.

    References
    ----------
    Paper II, Fig. 3.
    """
    light = np.asarray(magnitude, dtype=float)
    if light.ndim != 2 or light.shape[1] != len(bands) or len(bands) < 2:
        raise MelotteValueError(
            f"magnitude: needs shape (n, {len(bands)}) with two bands at least, found {light.shape}"
        )
    last = len(bands) - 1
    middle = min(1, last - 1) if last > 1 else 0
    names = [short_band(band) for band in bands]
    n = max(len(columns), 1)
    figure, axes = new_figure(3.0 * n + 0.2, 6.4, 2, n, sharex="row", sharey="row")
    finite = np.isfinite(light).all(1)

    def places(values: Array) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
        blue = values[:, 0] - values[:, max(middle, 1)]
        red = values[:, middle] - values[:, last]
        return (red, blue), (red, values[:, last])

    for column, (name, values) in enumerate(columns.items()):
        colour = np.asarray(values, dtype=float)
        chosen = finite & np.isfinite(colour)
        shown = None
        for row, (x, y) in enumerate(places(light[chosen])):
            panel = axes[row, column]
            shown = panel.scatter(
                x, y, c=colour[chosen], s=1.6, cmap=COLOURS, linewidths=0, rasterized=True
            )
            if column == n - 1:
                for track in tracks:
                    panel.plot(*places(track.magnitude)[row], color=INK, lw=1.1)
            if row and faintest is not None:
                panel.axhspan(faintest, 60, color=FAINT, zorder=0)
                panel.axhline(faintest, color=GREY, lw=0.9, ls="--")
        if shown is not None:
            bar = figure.colorbar(shown, ax=axes[0, column], location="top", pad=0.02, aspect=25)
            bar.set_label(name, fontsize=SMALL + 1, color=INK)
            bar.ax.tick_params(labelsize=SMALL)
            bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    for row, (x, y) in enumerate(places(light[finite])):
        if len(x):
            panel = axes[row, 0]
            panel.set_xlim(_ends(x))
            panel.set_ylim(_ends(y)[::-1])
    for panel in axes[1]:
        label(panel, f"{names[middle]} - {names[last]} / mag")
    label(axes[0, 0], y=f"{names[0]} - {names[max(middle, 1)]} / mag")
    label(axes[1, 0], y=f"{names[last]} / mag")
    return figure


def _ends(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, [0.001, 0.999])
    margin = 0.06 * max(high - low, 0.1)
    return float(low - margin), float(high + margin)


def truncated_power_law(mass: ArrayLike, truncation: float = math.inf) -> Array:
    """Mass function dN/dM = M^-2 exp(-M / truncation), not normalised.

    Parameters
    ----------
    mass : array, Msun, > 0
    truncation : float, Msun, > 0

    References
    ----------
    Portegies Zwart, McMillan & Gieles 2010, ARA&A 48, 431, Eq. 13, with index -2.
    """
    values = np.asarray(mass, dtype=float)
    return values**-2 * np.exp(-values / truncation)


def expected_counts(edges: ArrayLike, truncation: float, total: float, above: float) -> Array:
    """Numbers of clusters of a truncated power law in bins of log10(mass).

    Parameters
    ----------
    edges : array, shape (n_bins + 1,), log10(Msun), ascending
    truncation : float, Msun
    total : float
        Number above ``above``, within the bins, that the function is normalised to.
    above : float, log10(Msun)

    Returns
    -------
    array, shape (n_bins,)
    """
    ends = np.asarray(edges, dtype=float)
    fine = np.linspace(0, 1, MANY_BINS + 1)
    log_mass = ends[:-1, None] + np.diff(ends)[:, None] * fine
    # dN/dlogM is M dN/dM up to a constant.
    density = 10**log_mass * truncated_power_law(10**log_mass, truncation)
    counts = np.trapezoid(density, log_mass, axis=1)
    start = np.clip(above, ends[0], ends[-1])
    rest = np.linspace(start, ends[-1], MANY_BINS * len(ends))
    norm = np.trapezoid(10**rest * truncated_power_law(10**rest, truncation), rest)
    return counts * total / norm if norm > 0 else np.full(len(ends) - 1, np.nan)


def mass_function_figure(
    log_mass: ArrayLike,
    log_age: ArrayLike,
    age_ranges: Sequence[tuple[float, float]] = ((-math.inf, 7.7), (7.7, 8.7)),
    complete_above: float = 4.0,
    range_of_masses: tuple[float, float] = (3.5, 6.0),
    n_bins: int = 15,
) -> Figure:
    """Numbers of clusters by mass and age, with power laws of index -2.

    Parameters
    ----------
    log_mass, log_age : array, shape (n,)
        log10(Msun) and log10(yr); rows that are not finite are left out.
    age_ranges : sequence of (low, high)
        One panel each; the low end counts.
    complete_above : float, log10(Msun)
        The curves have as many clusters above it as there are.
    range_of_masses : (float, float), log10(Msun)
    n_bins : int

    Returns
    -------
    Figure
        Dots with Poisson errors; outlined in grey all ages together; full, dashed and dotted
        curves of no truncation and truncations at 10^6 and 2.5 10^5 Msun, the band being the
        Poisson standard deviation of the first.

    References
    ----------
    Paper II, Fig. 20.
    """
    mass, age = np.asarray(log_mass, dtype=float), np.asarray(log_age, dtype=float)
    finite = np.isfinite(mass) & np.isfinite(age)
    mass, age = mass[finite], age[finite]
    edges = np.linspace(*range_of_masses, n_bins + 1)
    centres = (edges[1:] + edges[:-1]) / 2
    n = max(len(age_ranges), 1)
    figure, axes = new_figure(3.9 * n + 0.2, 3.5, 1, n, sharey=True)
    everything = np.histogram(mass, edges)[0]
    for panel, (low, high) in zip(axes[0], age_ranges, strict=False):
        counts = np.histogram(mass[(age >= low) & (age < high)], edges)[0]
        total = counts[centres > complete_above].sum()
        panel.stairs(np.maximum(everything, 0.1), edges, color=GREY, lw=1, label="all ages")
        panel.errorbar(
            centres[counts > 0],
            counts[counts > 0],
            np.sqrt(counts[counts > 0]),
            fmt="o",
            ms=4,
            color=BLUE,
            lw=1,
            label=f"{counts.sum()} clusters",
        )
        for truncation, style in zip(TRUNCATIONS, ("-", "--", ":"), strict=True):
            curve = expected_counts(edges, truncation, float(total), complete_above)
            name = "$M^{-2}$" if math.isinf(truncation) else _truncation_name(truncation)
            panel.plot(centres, curve, color=RED, ls=style, lw=1.2, label=name)
            if math.isinf(truncation):
                spread = np.sqrt(np.maximum(curve, 0))
                panel.fill_between(
                    centres, np.maximum(curve - spread, 0.1), curve + spread, color=RED,
                    alpha=0.15, lw=0,
                )  # fmt: skip
        panel.set(yscale="log", ylim=(0.7, max(everything.max(initial=1) * 3, 10)))
        panel.set_xlim(range_of_masses)
        label(panel, r"log10(mass/M$_\odot$)", title=_age_title(low, high))
        legend(panel, loc="upper right")
    label(axes[0, 0], y="clusters a bin")
    return figure


def _truncation_name(truncation: float) -> str:
    exponent = math.floor(math.log10(truncation))
    factor = truncation / 10**exponent
    written = f"10^{exponent}" if factor == 1 else rf"{factor:.2g} \times 10^{exponent}"
    return rf"$M_* = {written}$ M$_\odot$"


def _age_title(low: float, high: float) -> str:
    if math.isinf(low):
        return f"log(age/yr) < {high:g}"
    if math.isinf(high):
        return f"log(age/yr) >= {low:g}"
    return f"{low:g} <= log(age/yr) < {high:g}"
