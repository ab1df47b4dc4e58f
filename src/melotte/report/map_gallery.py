"""Galleries of clusters: light, true and predicted mass, its error, and how wrong it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.ticker import LogLocator, NullFormatter
from numpy.typing import NDArray

from melotte.report.style import BLUE, INK, RED, SMALL, dress, label, new_figure
from melotte.systems.globular_clusters.radial_profiles import (
    mass_centres,
    profile_edges,
    radial_profiles,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from melotte.systems.globular_clusters.judging import MapExample
    from melotte.systems.globular_clusters.mass_profiles import MassProfiles

LIGHT, MASS = "gray", "inferno"
RESIDUAL = LinearSegmentedColormap.from_list("residual", [BLUE, "#ffffff", RED])
ERROR = "viridis"
MASS_LABEL = r"mass / (M$_\odot$/px)"
BAR = 10.0
"""Length of the scale bar, arcsec, where it fits."""


def map_gallery(examples: Sequence[MapExample]) -> Figure:
    """A column a cluster: light, true mass, predicted mass, standard error, residual over error.

    Both maps of mass are on one scale, whose ends, log10(Msun/px), are written into the true one.

    Without errors, the last row holds the residual, dex, and the one before is left out.

    Parameters
    ----------
    examples : sequence of MapExample

    Returns
    -------
    Figure
    """
    with_error = any(one.scale is not None for one in examples)
    rows = ["light in V", r"true mass (M$_\odot$/px)", "predicted mass"]
    rows += ["standard error", "residual / error"] if with_error else ["residual"]
    n = max(len(examples), 1)
    figure, axes = new_figure(1.75 * n + 0.9, 1.85 * len(rows) + 0.2, len(rows), n)
    scales = [float(np.quantile(one.scale, 0.99)) for one in examples if one.scale is not None]
    shown: dict[int, Any] = {}
    for column, one in enumerate(examples):
        shown |= _column(axes[:, column], one, max(scales, default=1.0))
    for row, text in ((3, "dex"), (4, "sigma")):
        if row in shown:
            colour_bar(figure, shown[row], axes[row], text)
    for panel, name in zip(axes[:, 0], rows, strict=True):
        panel.set_ylabel(name, fontsize=SMALL + 1, color=INK)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set_visible(False)
    return figure


def measured_figure(
    light: NDArray[Any],
    log_map: NDArray[Any],
    scale: NDArray[Any] | None,
    pixel_scale: float,
    title: str = "",
    profiles: MassProfiles | None = None,
) -> Figure:
    """One measured cluster: light, map of mass, its error, and the profiles of mass and M/L.

    Parameters
    ----------
    light : array, shape (rows, columns)
        NaN, drawn red, where unknown.
    log_map : array, shape (rows, columns)
        Median of log10(Msun/px).
    scale : array, shape (rows, columns), dex, or None
        Standard error; without, its panel is left empty.
    pixel_scale : float, arcsec
    title : str
    profiles : MassProfiles, optional
        Of this one cluster; without, M/L is not drawn.

    Returns
    -------
    Figure
        The profile's band are the pixels' errors, as if all of a ring were wrong together: 16 to
        84 % with ``profiles``, else one ``scale`` to either side.
    """
    size, last = ((11.4, 3.1), 1.2) if profiles is None else ((12.2, 3.3), 1.5)
    figure, axes = new_figure(*size, 1, 4, width_ratios=[1, 1.15, 1.15, last])
    left, middle, right, profile = axes[0]
    show_light(left, light, pixel_scale)
    left.set_title(title or "light in V", fontsize=SMALL + 1, color=INK, loc="left")
    low, high = np.quantile(log_map, [0.02, 0.999])
    shown = middle.imshow(
        log_map, origin="lower", cmap=MASS, vmin=low, vmax=max(high, float(low) + 0.1)
    )
    colour_bar(figure, shown, [middle], r"log mass / (M$_\odot$/px)")
    if scale is not None:
        shown = right.imshow(scale, origin="lower", cmap=ERROR, vmin=0)
        colour_bar(figure, shown, [right], "standard error / dex")
    for panel in (left, middle, right):
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set_visible(False)
    if profiles is None:
        _draw_rings(profile, *_rings(log_map, scale, pixel_scale))
        label(profile, "radius / arcsec", MASS_LABEL)
        return figure
    # Two panels, one above the other, in the place of one.
    place: Any = profile.get_subplotspec()
    profile.remove()
    above, below = place.subgridspec(2, 1, height_ratios=[1.2, 1]).subplots(sharex=True)
    for panel in (above, below):
        dress(panel)
    number = np.where(profiles.n_pixels[0] > 0, profiles.n_pixels[0], np.nan)
    rings = (profiles.mass[0], profiles.low[0], profiles.high[0])
    _draw_rings(above, profiles.middle[0], *(one / number for one in rings))
    _draw_ratios(below, profiles.middle[0], profiles.mass_to_light_v[0])
    above.tick_params(labelbottom=False)
    label(above, "", MASS_LABEL)
    label(below, "radius / arcsec", r"M/L$_V$ / (M$_\odot$/L$_\odot$)")
    return figure


def _rings(
    log_map: NDArray[Any], scale: NDArray[Any] | None, pixel_scale: float
) -> tuple[NDArray[Any], ...]:
    """Radii of rings (arcsec) and means of their pixels' mass: median, lower and upper."""
    wide = np.full(log_map.shape, np.nan) if scale is None else np.asarray(scale, dtype=float)
    maps = 10.0 ** np.stack([log_map, log_map - wide, log_map + wide]).astype(float)
    centre = np.repeat(mass_centres(maps[:1]), 3, 0)
    edges = profile_edges(*log_map.shape) * pixel_scale
    return (edges[1:] + edges[:-1]) / 2, *radial_profiles(maps, centre)


def _draw_rings(
    axes: Axes, radius: NDArray[Any], mean: NDArray[Any], low: NDArray[Any], high: NDArray[Any]
) -> None:
    axes.plot(radius, mean, color=BLUE, lw=1.5)
    if np.isfinite(low).any():
        axes.fill_between(radius, low, high, color=BLUE, alpha=0.2, lw=0)
    axes.set_yscale("log")


def _draw_ratios(axes: Axes, radius: NDArray[Any], ratio: NDArray[Any]) -> None:
    """M/L of rings; the axis spans a factor of ten at least, so that little looks little."""
    axes.plot(radius, ratio, color=INK, lw=1.5)
    axes.set_yscale("log")
    known = ratio[np.isfinite(ratio) & (ratio > 0)]
    if not len(known):
        return
    middle, half = np.sqrt(known.min() * known.max()), np.sqrt(known.max() / known.min())
    half = max(1.2 * half, 10**0.5)
    axes.set_ylim(middle / half, middle * half)
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_locator(LogLocator(subs=(2, 5)))
    axes.yaxis.set_minor_formatter("{x:g}" if half < 6 else NullFormatter())


def _column(panels: NDArray[Any], one: MapExample, largest: float) -> dict[int, Any]:
    """Draw a cluster; the images of the rows whose scales all clusters share."""
    show_light(panels[0], one.light, one.pixel_scale)
    low, high = np.quantile(one.true, [0.02, 0.999])
    mass: dict[str, Any] = {"cmap": MASS, "vmin": low, "vmax": max(high, low + 0.1)}
    panels[1].imshow(one.true, origin="lower", **mass)
    panels[2].imshow(one.predicted, origin="lower", **mass)
    panels[1].annotate(
        f"log {low:.1f} to {mass['vmax']:.1f}",
        (0.04, 0.04),
        xycoords="axes fraction",
        fontsize=SMALL - 1.5,
        color="white",
    )
    panels[1].set_title(_said(one.age[0], one.distance[0]), fontsize=SMALL - 1, color=INK)
    panels[2].set_title(_said(one.age[1], one.distance[1]), fontsize=SMALL - 1, color=INK)
    residual = one.predicted - one.true
    style: dict[str, Any] = {"origin": "lower", "cmap": RESIDUAL}
    if one.scale is None:
        return {3: panels[3].imshow(residual, vmin=-0.5, vmax=0.5, **style)}
    error = panels[3].imshow(one.scale, origin="lower", cmap=ERROR, vmin=0, vmax=largest)
    return {3: error, 4: panels[4].imshow(residual / one.scale, vmin=-3, vmax=3, **style)}


def show_light(axes: Axes, flux: NDArray[Any], pixel_scale: float) -> None:
    """Draw a map of light.

    Parameters
    ----------
    axes : Axes
    flux : array, shape (rows, columns)
        Compressed; where it is NaN, pixels are red.
    pixel_scale : float, arcsec
        Of the bar.
    """
    light = np.asarray(flux, dtype=float)
    known = light[np.isfinite(light)]
    faint = known[known <= np.median(known)] if len(known) else np.ones(1)
    scaled = np.arcsinh(light / max(float(faint.std()), 1e-12))
    low, high = np.nanquantile(scaled, [0.02, 0.998]) if len(known) else (0.0, 1.0)
    axes.set_facecolor(RED)
    axes.imshow(scaled, cmap=LIGHT, vmin=low, vmax=high, origin="lower")
    _scale_bar(axes, light.shape, pixel_scale)


def _said(age: float, distance: float) -> str:
    return f"{age:.1f} Gyr, {distance:.0f} kpc"


def _scale_bar(axes: Axes, shape: tuple[int, ...], pixel_scale: float) -> None:
    rows, columns = shape
    length = BAR / pixel_scale
    text = f"{BAR:g}″"
    if length > 0.6 * columns:
        length, text = 0.25 * columns, f"{0.25 * columns * pixel_scale:.2g}″"
    left, bottom = 0.06 * columns, 0.07 * rows
    axes.plot([left, left + length], [bottom, bottom], color="white", lw=2)
    axes.annotate(text, (left, bottom + 0.03 * rows), color="white", fontsize=SMALL - 1)


def colour_bar(figure: Figure, shown: Any, panels: Any, text: str) -> None:
    """Put the scale of a drawn map beside panels, with a text where there is one."""
    bar = figure.colorbar(shown, ax=list(panels), pad=0.02, aspect=12 * len(panels), shrink=0.9)
    bar.ax.tick_params(labelsize=SMALL - 2, length=2)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    if text:
        bar.set_label(text, fontsize=SMALL - 1, color=INK)
