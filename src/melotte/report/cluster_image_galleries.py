"""Pictures of clusters, and maps of what a network makes of them (Papers I and II).

References
----------
Bialopetravičius, Narbutis & Vansevičius 2019, A&A 621, A103, Fig. 7 (Paper I).
Bialopetravičius & Narbutis 2020, AJ 160, 264, Figs. 1, 2, 4 and 9 (Paper II).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError
from melotte.report.style import GREY, INK, SMALL, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

SOFTENING = 3.0
"""Background scatters at which the arcsinh turns from linear to logarithmic."""
FAINT_VISIBILITY = 100.0
"""Visibilities below are written on the pictures."""
TRUE, FOUND = "#00c8d7", "#d1007f"


@dataclass(frozen=True)
class Stretch:
    """Limits of an arcsinh stretch, the same for several pictures.

    Parameters
    ----------
    black, white, soft : array, shape (n_bands,), counts/s
        What is black, what is white, and where the stretch turns logarithmic.
    """

    black: Array
    white: Array
    soft: Array

    def applied(self, image: ArrayLike) -> Array:
        """An image (n_bands, n_rows, n_columns) with black at 0 and white at 1, not cut off."""
        black, white, soft = (one[:, None, None] for one in (self.black, self.white, self.soft))
        return np.arcsinh((np.asarray(image, dtype=float) - black) / soft) / np.arcsinh(
            (white - black) / soft
        )


def stretch_of(images: ArrayLike) -> Stretch:
    """Limits that show both the background's scatter and the clusters' cores.

    Parameters
    ----------
    images : array, shape (n, n_bands, n_rows, n_columns), counts/s; NaN where unknown

    Raises
    ------
    MelotteValueError
        When a band has no known pixel.
    """
    pixels = np.moveaxis(np.asarray(images, dtype=float), 1, 0).reshape(np.shape(images)[1], -1)
    if not np.isfinite(pixels).any(1).all():
        raise MelotteValueError("images: a band has no known pixel")
    level = np.nanmedian(pixels, 1)
    scatter = 1.4826 * np.nanmedian(np.abs(pixels - level[:, None]), 1)
    scatter = np.maximum(scatter, 1e-9)
    white = np.nanquantile(pixels, 0.999, axis=1)
    return Stretch(
        level - 2 * scatter, np.maximum(white, level + 10 * scatter), SOFTENING * scatter
    )


def rgb_image(image: ArrayLike, stretch: Stretch) -> Array:
    """A colour picture: the reddest band is red, the bluest blue.

    Parameters
    ----------
    image : array, shape (n_bands, n_rows, n_columns), counts/s
        Bands from blue to red; of more than three, the first, the middle and the last are shown;
        one makes a grey picture. NaN is grey.
    stretch : Stretch

    Returns
    -------
    array, shape (n_rows, n_columns, 3), 0 to 1; rows upwards

    References
    ----------
    Lupton et al. 2004, PASP 116, 133 (arcsinh stretch), one stretch a band.
    """
    scaled = stretch.applied(image)
    n = len(scaled)
    shown = scaled[[n - 1, n // 2, 0]]
    return np.moveaxis(np.clip(np.nan_to_num(shown, nan=0.5), 0, 1), 0, -1)


@dataclass(frozen=True)
class Picture:
    """One picture of a gallery.

    Parameters
    ----------
    image : array, shape (n_bands, n_rows, n_columns), counts/s
    visibility : float, optional
        Written in the corner below 100.
    radius : float, pixels, optional
        Of the circle that is drawn, the seen half-number radius.
    """

    image: Array
    visibility: float | None = None
    radius: float | None = None


@dataclass(frozen=True)
class Gallery:
    """A panel of pictures in rows and columns.

    Parameters
    ----------
    title : str
    pictures : sequence of rows of Picture
        The first row is drawn at the top.
    rows, columns : sequence of str
        What is written at the rows and columns.
    """

    title: str
    pictures: Sequence[Sequence[Picture]]
    rows: Sequence[str]
    columns: Sequence[str]


def gallery_figure(
    galleries: Sequence[Gallery],
    row_name: str = "",
    column_name: str = "",
    *,
    n_across: int = 2,
) -> Figure:
    """Galleries side by side, all with the same limits.

    Parameters
    ----------
    galleries : sequence of Gallery
    row_name, column_name : str
        What changes from row to row and from column to column.
    n_across : int
        Galleries in a row of the figure.

    Returns
    -------
    Figure

    References
    ----------
    Paper II, Figs. 1, 2 and 4; Paper I, Fig. 7.
    """
    every = [one.image for panel in galleries for row in panel.pictures for one in row]
    stretch = stretch_of(np.stack(every))
    columns = min(n_across, max(len(galleries), 1))
    rows = -(-max(len(galleries), 1) // columns)
    most_across = max(len(panel.columns) for panel in galleries)
    most_down = max(len(panel.rows) for panel in galleries)
    width, height = 0.85 * most_across + 0.7, 0.85 * most_down + 0.75
    figure, axes = new_figure(width * columns, height * rows, rows, columns)
    for axis in axes.flat[len(galleries) :]:
        axis.set_axis_off()
    for axis, panel in zip(axes.flat, galleries, strict=False):
        _draw_gallery(axis, panel, stretch)
        label(axis, column_name, row_name, panel.title)
    return figure


def _draw_gallery(axes: Axes, panel: Gallery, stretch: Stretch) -> None:
    n_rows, n_columns = len(panel.rows), len(panel.columns)
    for j, row in enumerate(panel.pictures):
        bottom = n_rows - 1 - j
        for i, one in enumerate(row):
            picture = rgb_image(one.image, stretch)
            side = picture.shape[0]
            axes.imshow(
                picture,
                origin="lower",
                extent=(i + 0.015, i + 0.985, bottom + 0.015, bottom + 0.985),
                interpolation="nearest",
            )
            if one.radius is not None:
                circle = (i + 0.5, bottom + 0.5)
                axes.add_patch(
                    Circle(circle, 0.97 * one.radius / side, fill=False, color="#ffe600", lw=0.7)
                )
            if one.visibility is not None and one.visibility < FAINT_VISIBILITY:
                text = f"{one.visibility:.1f}" if one.visibility < 10 else f"{one.visibility:.0f}"
                axes.text(i + 0.05, bottom + 0.06, text, fontsize=SMALL - 2, color="#ffe600")
    axes.set(xlim=(0, n_columns), ylim=(0, n_rows), aspect="equal")
    axes.set_xticks(np.arange(n_columns) + 0.5, panel.columns)
    axes.set_yticks(np.arange(n_rows) + 0.5, list(panel.rows)[::-1])
    axes.tick_params(length=0)
    for side in axes.spines.values():
        side.set_visible(False)


@dataclass(frozen=True)
class StochasticMap:
    """What a network says of clusters of one truth: a map for one, estimates for all.

    Parameters
    ----------
    truth : (float, float)
        In the two parameters of the axes.
    density : array, shape (n_x, n_y)
        Of the posterior of one of the clusters, on even cells over the axes' ranges; any scale.
    estimates : array, shape (n, 2)
        Point estimates of all.
    """

    truth: tuple[float, float]
    density: Array
    estimates: Array


def stochastic_figure(
    rows: Sequence[tuple[str, Sequence[Sequence[StochasticMap]]]],
    axes_of: Sequence[tuple[str, str]],
    ranges: Sequence[tuple[tuple[float, float], tuple[float, float]]],
) -> Figure:
    """Activation maps and estimates of clusters that differ by chance alone.

    Parameters
    ----------
    rows : sequence of (title, panels)
        Each of the panels, one a column, is a list of :class:`StochasticMap` drawn together:
        their densities are each scaled to the same peak and the
        highest is shown.
    axes_of : sequence of (x, y), one a column
        Names of the parameters.
    ranges : sequence of ((low, high) of x, (low, high) of y), one a column

    Returns
    -------
    Figure
        Truths are cyan circles, estimates magenta dots; grey are the maps.

    References
    ----------
    Paper II, Fig. 9.
    """
    n_rows, n_columns = max(len(rows), 1), max(len(axes_of), 1)
    figure, axes = new_figure(3.9 * n_columns + 0.2, 3.0 * n_rows, n_rows, n_columns)
    for j, (title, panels) in enumerate(rows):
        for i, maps in enumerate(panels):
            panel = axes[j, i]
            (x_low, x_high), (y_low, y_high) = ranges[i]
            highest = np.max([one.density / max(one.density.max(), 1e-30) for one in maps], axis=0)
            panel.imshow(
                highest.T,
                origin="lower",
                extent=(x_low, x_high, y_low, y_high),
                cmap="Greys",
                vmin=0,
                vmax=1.3,
                aspect="auto",
                interpolation="nearest",
            )
            for one in maps:
                panel.plot(*one.estimates.T, ".", ms=2.5, color=FOUND, alpha=0.6, mew=0)
            for one in maps:
                panel.plot(*one.truth, "o", ms=6, mfc="none", mec=TRUE, mew=1.6)
            panel.set(xlim=(x_low, x_high), ylim=(y_low, y_high))
            panel.grid(color=GREY, lw=0.2, alpha=0.4)
            name_x, name_y = axes_of[i]
            label(panel, name_x if j == n_rows - 1 else "", name_y)
            if i == 0:
                panel.set_title(title, fontsize=SMALL + 1, color=INK, loc="left")
    return figure
