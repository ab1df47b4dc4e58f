"""Figures of maps of mass: values against the truth, profiles, distances.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Figs. 5 to 9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from melotte.engine.binned_errors import percent_error
from melotte.report.residual_panels import CountedPairs, residual_figure
from melotte.report.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    SKY,
    SMALL,
    label,
    legend,
    new_figure,
)
from melotte.systems.globular_clusters.map_readings import AT_DISTANCE
from melotte.systems.globular_clusters.map_scores import (
    DISTANCES,
    FINE_EDGES,
    PERCENT,
    compared,
)
from melotte.systems.globular_clusters.radial_profiles import (
    mass_centres,
    profile_edges,
    radial_profiles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from melotte.systems.globular_clusters.judging import MapExample
    from melotte.systems.globular_clusters.map_scores import MapScores

Array = NDArray[np.floating[Any]]


def pixel_figure(scores: MapScores) -> Figure:
    """Pixels of predicted and true maps, log10 mass (Fig. 5)."""
    found = scores.binned()
    note = (
        f"{found['pixel_percent_error'].mean:.1f} % over bins of the prediction\n"
        f"{found['pixel_percent_error_bright'].mean:.1f} % above log(M/px) = -1"
    )
    pairs = CountedPairs(
        scores.histogram, FINE_EDGES, r"log(mass/(M$_\odot$/px)), every pixel", "dex", note
    )
    return residual_figure([pairs])


def mass_figure(scores: MapScores) -> Figure:
    """Mass of the field of view and M/L, logarithms (Fig. 6)."""
    known, binned = scores.arrays(), scores.binned()
    blocks = []
    for key, title in (
        ("total_mass_percent_error", r"log(mass in the field/M$_\odot$)"),
        ("mass_to_light_percent_error", r"log(M/L$_V$)"),
    ):
        name = next((one for one in PERCENT[key] if f"predicted {one}" in known), None)
        if name is None:
            continue
        true, given = compared(known, name)
        how = "of the map" if name.startswith("map") else "of the posterior"
        how += ", distance known" if name.endswith(AT_DISTANCE) else ""
        with np.errstate(invalid="ignore", divide="ignore"):
            blocks.append(
                CountedPairs.of(
                    np.log10(true),
                    np.log10(given),
                    title,
                    "dex",
                    f"{how}\n{binned[key].mean:.1f} % over bins",
                )
            )
    return residual_figure(blocks)


def age_figure(scores: MapScores) -> Figure:
    """True and predicted ages, Gyr (Fig. 8)."""
    true, given = compared(scores.arrays(), "age")
    mean = scores.binned()["age_mae_gyr"].mean
    return residual_figure(
        [CountedPairs.of(true, given, "age / Gyr", "Gyr", f"{mean:.2f} Gyr over bins")]
    )


def distance_figure(scores: MapScores, shown: int = 4) -> Figure:
    """Distributions of predicted distances by true distance (Fig. 9).

    Where distances are not a few values, the ratio of predicted to true is shown, by thirds of the
    true distance.

    Parameters
    ----------
    scores : MapScores
    shown : int
        Curves at the most.
    """
    true, given = compared(scores.arrays(), "distance")
    good = np.isfinite(true) & np.isfinite(given) & (given > 0)
    true, given = true[good], given[good]
    places = np.unique(np.round(true, 3))
    figure, axes = new_figure(5.6, 3.6)
    panel = axes[0, 0]
    if len(places) <= DISTANCES:
        for k, place in enumerate(places[:: max(1, len(places) // shown)]):
            values = given[np.round(true, 3) == place]
            colour = CYCLE[k % len(CYCLE)]
            mae = float(np.abs(values - place).mean()) if len(values) else np.nan
            _curve(panel, values, colour, f"{place:g} kpc: {values.mean():.1f}, MAE {mae:.1f}")
            panel.axvline(place, color=colour, lw=1, ls="--")
        label(panel, "predicted distance / kpc", "probability density")
    else:
        edges = np.quantile(true, [0, 1 / 3, 2 / 3, 1])
        for k in range(3):
            rows = (true >= edges[k]) & (true <= edges[k + 1])
            name = f"{edges[k]:.0f} to {edges[k + 1]:.0f} kpc"
            _curve(panel, np.log10(given / true)[rows], CYCLE[k], name)
        panel.axvline(0, color=GREY, lw=1, ls="--")
        label(panel, "log(predicted/true distance)", "probability density")
    panel.set_ylim(bottom=0)
    legend(panel)
    return figure


def profile_figure(
    examples: Sequence[MapExample], known: Mapping[str, Array], pixel_scale: float
) -> Figure:
    """Radial profiles of mass and M/L of three clusters, and errors over all maps (Fig. 7).

    Parameters
    ----------
    examples : sequence of MapExample
        The least, the middle and the most massive are drawn. Bands are one standard error of the
        pixels, as if a ring's were all wrong together.
    known : mapping
        Of :meth:`MapScores.arrays`.
    pixel_scale : float, arcsec
        Of the radii of the errors over all maps.
    """
    figure, axes = new_figure(
        10.4, 5.2, 2, 3, height_ratios=[2.4, 1], sharex="col", width_ratios=[1, 1, 1]
    )
    places = {0, len(examples) // 2, len(examples) - 1} if examples else set()
    chosen = [examples[k] for k in sorted(places)]
    for k, one in enumerate(chosen):
        _example_profiles(axes[:, :2], one, CYCLE[k])
    for column, name in ((0, r"mass / (M$_\odot$/px)"), (1, r"M/L$_V$ / (M$_\odot$/L$_\odot$)")):
        axes[0, column].set_yscale("log")
        label(axes[0, column], "", name)
        axes[1, column].axhline(1, color=GREY, lw=0.8)
        axes[1, column].set_ylim(0.4, 1.6)
        label(axes[1, column], "radius / arcsec", "true/predicted")
    if examples:
        legend(axes[0, 0], loc="upper right", handlelength=1.2)
        ratios = [one.mass / float(one.luminosity.sum()) for one in chosen]
        middle = float(np.median([value for value in ratios if value > 0] or [1.0]))
        axes[0, 1].set_ylim(middle / 20, middle * 20)
    errors = percent_error(known["predicted profile"], known["true profile"])
    rows, columns = examples[0].true.shape if examples else (160, 160)
    edges = profile_edges(rows, columns, errors.shape[1]) * pixel_scale
    centres = (edges[1:] + edges[:-1]) / 2
    panel = axes[0, 2]
    bare = ~np.isfinite(errors).any(0)
    errors[:, bare] = 0.0
    low, middle, high = np.where(bare, np.nan, np.nanquantile(errors, [0.16, 0.5, 0.84], axis=0))
    panel.fill_between(centres, low, high, color=SKY, alpha=0.45, lw=0, label="68 % of maps")
    panel.plot(centres, middle, color=BLUE, lw=1.5, label="median")
    panel.set_ylim(0, max(5.0, 1.1 * float(np.nanmax(high, initial=5.0))))
    label(panel, "", "error of mass and M/L / %", f"{len(errors)} maps")
    legend(panel, loc="upper left")
    ratio = known["true profile"] / known["predicted profile"]
    ratio[:, bare] = 1.0
    low, middle, high = np.where(bare, np.nan, np.nanquantile(ratio, [0.16, 0.5, 0.84], axis=0))
    axes[1, 2].fill_between(centres, low, high, color=SKY, alpha=0.45, lw=0)
    axes[1, 2].plot(centres, middle, color=BLUE, lw=1.5)
    axes[1, 2].axhline(1, color=GREY, lw=0.8)
    axes[1, 2].set_ylim(0.4, 1.6)
    label(axes[1, 2], "radius / arcsec", "true/predicted")
    return figure


def _curve(axes: Axes, values: Array, colour: str, name: str) -> None:
    """Density of values: smoothed where they differ."""
    if len(values) < 5 or values.std() < 1e-9:
        return
    low, high = values.min(), values.max()
    margin = 0.15 * (high - low)
    place = np.linspace(low - margin, high + margin, 300)
    density = stats.gaussian_kde(values)(place)
    axes.plot(place, density, color=colour, lw=1.5, label=name)
    axes.fill_between(place, density, color=colour, alpha=0.12, lw=0)


def _example_profiles(axes: NDArray[Any], one: MapExample, colour: str) -> None:
    """Profiles of a cluster in the four panels of mass and M/L."""
    true, given = (10.0 ** np.asarray(values, dtype=float) for values in (one.true, one.predicted))
    centre = mass_centres(true[None])
    rows, columns = true.shape
    edges = profile_edges(rows, columns) * one.pixel_scale
    place = (edges[1:] + edges[:-1]) / 2
    light = radial_profiles(one.luminosity[None], centre)[0]
    true, given = (radial_profiles(values[None], centre)[0] for values in (true, given))
    name = f"log M = {np.log10(one.mass):.1f}, {one.age[0]:.1f} Gyr, {one.distance[0]:.0f} kpc"
    for column, unit in ((0, np.ones_like(light)), (1, np.where(light > 0, light, np.nan))):
        top, below = axes[0, column], axes[1, column]
        top.plot(place, true / unit, color=colour, lw=1.5, label=name if column == 0 else None)
        top.plot(place, given / unit, color=colour, lw=1.5, ls="--")
        if one.scale is not None:
            width = radial_profiles(one.scale[None], centre)[0]
            top.fill_between(
                place,
                given / unit * 10**-width,
                given / unit * 10**width,
                color=colour,
                alpha=0.15,
                lw=0,
            )
        below.plot(place, true / given, color=colour, lw=1.2)
    axes[0, 0].set_title("solid: true, dashed: predicted", fontsize=SMALL, color=INK, loc="left")
