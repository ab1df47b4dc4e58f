"""Figures of one measured cluster image: bands, prediction, residual, profiles, age and dust."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray
from scipy import ndimage

from melotte.parameters import Parameter
from melotte.report.cluster_image_galleries import Stretch, rgb_image, stretch_of
from melotte.report.style import (
    BLUE,
    DENSITY,
    GREY,
    INK,
    LARGE,
    ORANGE,
    SKY,
    SMALL,
    dress,
    label,
    legend,
    new_figure,
    with_unit,
)
from melotte.systems.cluster_images.predictive import PredictedImages

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Array = NDArray[np.float64]

RESIDUAL_LIMIT = 5.0
"""Residuals beyond this many scatters of the background have the colours of the ends."""
RINGS = (0.0, 1.0, 2.0, 3.0, 4.5, 6.0, 8.0, 11.0, 15.0, 20.0, 26.0, 33.0, 41.0)
"""Edges of the annuli of profiles, px."""
CIRCLE = "#ffe600"
UNKNOWN = "#b9c2cb"
MAP_CELLS = 60
SMOOTHING = (0.8, 3.0)
"""Least and largest width by which the map of age and extinction is smoothed, cells."""


@dataclass(frozen=True)
class ImageCaptions:
    """What is written on the figure of one image.

    Parameters
    ----------
    name : str
    pixel_scale : float, arcsec
    half_number_radius : float, arcsec
        Median of the posterior, drawn as a circle.
    lines : sequence of str
        Measurements, one a line.
    """

    name: str
    pixel_scale: float
    half_number_radius: float
    lines: Sequence[str] = field(default_factory=tuple)


def short_bands(bands: Sequence[str]) -> list[str]:
    """Names of filters without instrument, but for those that two instruments share."""
    plain = [one.rpartition("_")[2] for one in bands]
    return [
        short if plain.count(short) == 1 else full.replace("_", " ")
        for short, full in zip(plain, bands, strict=True)
    ]


def predicted_figure(
    predicted: PredictedImages, bands: Sequence[str], captions: ImageCaptions
) -> Figure:
    """Observed, predicted and residual image in every band, and radial profiles.

    Parameters
    ----------
    predicted : PredictedImages
    bands : sequence of str
    captions : ImageCaptions

    Returns
    -------
    Figure
        Grey where unknown. Residuals are in scatters of the background, cut at
        ``RESIDUAL_LIMIT``; the circle has the median half-number radius.
    """
    n, names = len(bands), short_bands(bands)
    observed = predicted.observed.double().numpy()
    mean = predicted.mean.double().numpy()
    residual = predicted.residual.double().numpy()
    side = 1.72
    figure = Figure(figsize=(side * (n + 1) + 3.3, side * 3 + 0.55), layout="constrained")
    FigureCanvasAgg(figure)
    parts: Any = figure.subfigures(1, 2, width_ratios=[side * (n + 1), 3.0])
    images, profiles = parts
    axes = images.subplots(3, n + 1, squeeze=False)
    stretch = stretch_of(filled(observed)[None])
    for row, pixels in enumerate((observed, mean)):
        show_picture(axes[row, 0], colour_picture(pixels, stretch))
        for band, shown in enumerate(stretch.applied(pixels)):
            show_picture(axes[row, band + 1], shown, cmap="gray", vmin=0, vmax=1)
    radius = captions.half_number_radius / captions.pixel_scale
    centre = (observed.shape[-1] - 1) / 2, (observed.shape[-2] - 1) / 2
    for panel in axes[:2, 0]:
        panel.add_patch(Circle(centre, radius, fill=False, color=CIRCLE, lw=0.9))
    _scale_bar(axes[0, 0], captions.pixel_scale, observed.shape[-1])
    drawn: Any = None
    limits = {"vmin": -RESIDUAL_LIMIT, "vmax": RESIDUAL_LIMIT}
    for band in range(n):
        drawn = show_picture(axes[2, band + 1], residual[band], cmap="RdBu_r", **limits)
        value = predicted.chi_square[band]
        text = f"$\\chi^2$/px {value:.2f}" if np.isfinite(value) else "not known"
        axes[2, band + 1].set_xlabel(text, fontsize=SMALL, color=INK)
        axes[0, band + 1].set_title(names[band], fontsize=SMALL + 1, color=INK)
    axes[0, 0].set_title("colour", fontsize=SMALL + 1, color=INK)
    for row, text in enumerate(("observed", "predicted", "")):
        axes[row, 0].set_ylabel(text, fontsize=SMALL + 1, color=INK)
    axes[2, 1].set_ylabel("residual / $\\sigma_b$", fontsize=SMALL + 1, color=INK)
    axes[2, 0].set_axis_off()
    written = axes[2, 0].text(
        -0.05, 1, "\n".join(captions.lines), fontsize=SMALL - 0.5, color=INK, va="top",
        transform=axes[2, 0].transAxes,
    )  # fmt: skip
    # Long lines reach into the gap before the residuals and must not widen it.
    written.set_in_layout(False)
    bar = images.colorbar(drawn, ax=axes[2, 1:].tolist(), pad=0.01, aspect=12)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    _draw_profiles(profiles.subplots(n, 1, squeeze=False, sharex=True)[:, 0], predicted, names)
    figure.suptitle(captions.name, fontsize=LARGE, color=INK, x=0.01, ha="left")
    return figure


def colour_picture(pixels: ArrayLike, stretch: Stretch) -> Array:
    """A colour picture, grey where a band that is not wholly unknown is unknown."""
    values = filled(pixels)
    picture = rgb_image(values, stretch)
    picture[~np.isfinite(values).all(0)] = to_rgb(UNKNOWN)
    return picture


def filled(pixels: ArrayLike) -> Array:
    """Pixels with bands that are wholly unknown set to 0, so that pictures can be made of them."""
    values = np.array(pixels, dtype=float)
    values[~np.isfinite(values).any((1, 2))] = 0.0
    return values


def show_picture(axes: Axes, picture: Array, **settings: Any) -> Any:
    """Draw a picture with its first row below, grey where unknown; gives what was drawn."""
    axes.set_facecolor(UNKNOWN)
    drawn = axes.imshow(picture, origin="lower", interpolation="nearest", **settings)
    axes.set_xticks([])
    axes.set_yticks([])
    for side in axes.spines.values():
        side.set_visible(False)
    return drawn


def radial_profile(image: ArrayLike) -> tuple[Array, Array]:
    """Mean of the known pixels in the annuli ``RINGS`` around the centre.

    Parameters
    ----------
    image : array, shape (..., n_rows, n_columns); NaN where unknown

    Returns
    -------
    values : array, shape (..., n_annuli)
        NaN for an annulus without known pixels.
    counts : array, shape (..., n_annuli)
    """
    pixels = np.asarray(image, dtype=float)
    n_rows, n_columns = pixels.shape[-2:]
    y = np.arange(n_rows)[:, None] - (n_rows - 1) / 2
    x = np.arange(n_columns)[None] - (n_columns - 1) / 2
    ring = np.digitize(np.hypot(y, x).ravel(), RINGS) - 1
    inside = np.stack([ring == k for k in range(len(RINGS) - 1)], 1).astype(float)
    flat = pixels.reshape(*pixels.shape[:-2], -1)
    known = np.isfinite(flat)
    counts = known.astype(float) @ inside
    total = np.where(known, flat, 0.0) @ inside
    with np.errstate(invalid="ignore", divide="ignore"):
        return total / counts, counts


def age_extinction_figure(
    samples: ArrayLike, parameters: Sequence[Parameter], name: str = ""
) -> Figure:
    """Where age and extinction may lie over the whole prior, and what mass goes with each.

    Parameters
    ----------
    samples : array, shape (n_samples, n_parameters), physical units
    parameters : sequence of Parameter
        With ``log_age``, ``extinction_v`` and ``log_mass``.
    name : str

    Returns
    -------
    Figure
        Left: density with contours of 68 and 95 %. Right: the samples, coloured by mass.
    """
    by_name = {one.name: i for i, one in enumerate(parameters)}
    drawn = np.asarray(samples, dtype=float)
    drawn = drawn[np.isfinite(drawn).all(1)]
    age, dust, mass = (drawn[:, by_name[one]] for one in ("log_age", "extinction_v", "log_mass"))
    ends = [
        (parameters[by_name[one]].low, parameters[by_name[one]].high)
        for one in ("log_age", "extinction_v")
    ]
    figure, axes = new_figure(7.6, 3.3, 1, 2, sharey=True)
    counts, x, y = np.histogram2d(age, dust, bins=MAP_CELLS, range=ends)
    cells = MAP_CELLS / (np.array(ends)[:, 1] - np.array(ends)[:, 0])
    widths = np.array([age.std(), dust.std()]) * cells * len(drawn) ** (-1 / 6)
    smooth = ndimage.gaussian_filter(counts, np.clip(widths, *SMOOTHING), mode="nearest")
    axes[0, 0].pcolormesh(x, y, smooth.T, cmap=DENSITY, rasterized=True)
    ordered = np.sort(smooth.ravel())[::-1]
    held = np.cumsum(ordered) / max(ordered.sum(), 1e-30)
    heights = sorted({float(ordered[min(np.searchsorted(held, p), len(held) - 1)])
                      for p in (0.68, 0.95)})  # fmt: skip
    centres = (x[1:] + x[:-1]) / 2, (y[1:] + y[:-1]) / 2
    if heights[0] > 0:
        axes[0, 0].contour(*centres, smooth.T, levels=heights, colors=[ORANGE], linewidths=1)
    seen = axes[0, 1].scatter(age, dust, c=mass, s=4, cmap="viridis", rasterized=True)
    bar = figure.colorbar(seen, ax=axes[0, 1], pad=0.01)
    unit = parameters[by_name["log_mass"]].unit
    bar.set_label(with_unit("log_mass", unit), fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
    for panel, title in zip(axes[0], (name, "mass that goes with it"), strict=True):
        panel.set(xlim=ends[0], ylim=ends[1])
        label(panel, with_unit("log_age", ""), "", title)
    label(axes[0, 0], "", with_unit("extinction_v", "mag"))
    return figure


def _draw_profiles(axes: Sequence[Axes], predicted: PredictedImages, names: list[str]) -> None:
    noise = predicted.noise.double().numpy()
    observed, counts = radial_profile(predicted.observed.numpy())
    drawn, _ = radial_profile(predicted.draws.numpy())
    edges = np.array(RINGS)
    middle = (edges[1:] + edges[:-1]) / 2
    reach = predicted.observed.shape[-1] / 2
    used = edges[1:] <= reach + 1
    for band, panel in enumerate(axes):
        dress(panel)
        scale = noise[band] if np.isfinite(noise[band]) and noise[band] > 0 else 1.0
        low, half, high = np.quantile(drawn[:, band] / scale, [0.16, 0.5, 0.84], axis=0)
        panel.fill_between(middle[used], low[used], high[used], color=SKY, alpha=0.45, lw=0)
        panel.plot(middle[used], half[used], color=BLUE, lw=1.3, label="predicted")
        error = 1 / np.sqrt(np.maximum(counts[band], 1))
        panel.errorbar(
            middle[used], observed[band][used] / scale, error[used], color=ORANGE,
            marker="o", ms=3, lw=0, elinewidth=1, label="observed",
        )  # fmt: skip
        panel.set_yscale("asinh", linear_width=1.0)
        panel.set_yticks([0, 1, 10, 100, 1000], ["0", "1", "10", "100", "1000"])
        panel.set_yticks([], minor=True)
        shown = np.concatenate([high[used], observed[band][used] / scale])
        top = float(np.max(shown[np.isfinite(shown)], initial=2.0))
        panel.set_ylim(-1.0, 1.6 * top)
        panel.axhline(0, color=GREY, lw=0.6)
        panel.axvline(predicted.radius, color=GREY, lw=0.7, ls=":")
        label(panel, "", f"{names[band]} / $\\sigma_b$")
    legend(axes[0])
    label(axes[-1], "radius / px")


def _scale_bar(axes: Axes, pixel_scale: float, side: int) -> None:
    arcsec = 1.0 if side * pixel_scale > 3 else 0.5
    length = arcsec / pixel_scale
    left, bottom = 0.06 * side, 0.07 * side
    axes.plot([left, left + length], [bottom, bottom], color="white", lw=1.6)
    text = f"{arcsec:g} arcsec"
    axes.text(left, bottom + 0.02 * side, text, color="white", fontsize=SMALL - 1, va="bottom")
