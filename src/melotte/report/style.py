"""One look for all figures: colours that the colour-blind tell apart, sizes, axes.

Figures are ``matplotlib.figure.Figure`` objects with the Agg canvas: no pyplot, no global state,
safe in threads and without a display.
"""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from melotte.engine.atomic_files import write_atomically

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

BLUE, ORANGE, GREEN, RED = "#0072b2", "#e69f00", "#009e73", "#d55e00"
PINK, SKY, INK, GREY = "#cc79a7", "#56b4e9", "#222b33", "#8a949e"
CYCLE = (BLUE, ORANGE, GREEN, PINK, SKY, RED)
"""Okabe & Ito 2008, in an order in which neighbours differ in lightness too."""
FAINT = "#eceff2"
COUNT_FLOOR = 0.3
"""Count that logarithmic cells of DENSITY begin at: a cell of one is not white as the paper."""
COUNT_CEILING = 5.0
"""Least count that they end at: cells of one, where none has more, are not dark as the fullest."""
DENSITY = LinearSegmentedColormap.from_list("density", ["#ffffff", "#9cc4de", BLUE, "#06283d"])
SMALL, NORMAL, LARGE = 8.0, 9.0, 10.5
WRITTEN = {
    "log_age": "log(age/yr)",
    "extinction_v": "$A_V$",
    "metallicity": "[Fe/H]",
    "log_mass": r"log(mass/M$_\odot$)",
    "half_number_radius": "$r_h$",
    "log_m200c": r"log($M_{200c}$/(M$_\odot$/h))",
    "log_mass_fov": r"log(mass in field/M$_\odot$)",
    "log_total_mass": r"log(total mass/M$_\odot$)",
    "mass_to_light_v": "$M/L_V$",
}
"""How axes name the parameters whose names are not words."""
MARKERS = ("o", "s", "^", "D", "v", "P")
LINES = ("-", "--", ":", "-.")
RESOLUTION = 130
"""Of every picture written, dots per inch."""


def new_figure(
    width: float, height: float, rows: int = 1, columns: int = 1, **settings: Any
) -> tuple[Figure, np.ndarray]:
    """A figure and its axes.

    Parameters
    ----------
    width, height : float, inches
    rows, columns : int
    settings : passed on to ``Figure.subplots``

    Returns
    -------
    figure : Figure
        With constrained layout, which keeps labels from overlapping.
    axes : array of Axes, shape (rows, columns)
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    figure.get_layout_engine().set(w_pad=0.06, h_pad=0.05)  # pyright: ignore
    axes = figure.subplots(rows, columns, squeeze=False, **settings)
    for one in axes.flat:
        dress(one)
    return figure, axes


def dress(axes: Axes) -> None:
    """Give axes the common look."""
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    for side in ("left", "bottom"):
        axes.spines[side].set_color(GREY)
        axes.spines[side].set_linewidth(0.8)
    common = {"labelsize": SMALL, "color": GREY, "labelcolor": INK}
    axes.tick_params(**common, width=0.8, length=3)
    axes.tick_params(**common, which="minor", width=0.6, length=2)


def png_bytes(figure: Figure) -> bytes:
    """A figure as a PNG file holds it."""
    stream = io.BytesIO()
    figure.savefig(stream, format="png", dpi=RESOLUTION)
    return stream.getvalue()


def save(figure: Figure, path: Path) -> Path:
    """Write a figure as a PNG file, whole or not at all.

    Returns
    -------
    Path
        The same path.

    Raises
    ------
    MelotteFileError
        When the folder is missing or cannot be written to.
    """
    write_atomically(path, png_bytes(figure))
    return path


def density_cells(axes: Axes, x: ArrayLike, y: ArrayLike, **settings: Any) -> None:
    """Hexagonal cells by the logarithm of the number of points in them; empty ones are not drawn.

    Parameters
    ----------
    axes : Axes
    x, y : array, shape (n,)
    **settings
        Of ``Axes.hexbin``, such as ``gridsize`` and ``extent``.
    """
    cells = axes.hexbin(
        x, y, mincnt=1, bins="log", vmin=COUNT_FLOOR, cmap=DENSITY, linewidths=0, **settings
    )
    most = np.max(np.asarray(cells.get_array()), initial=COUNT_CEILING)
    cells.set_clim(vmax=float(most))


def curve_style(k: int) -> dict[str, Any]:
    """Colour, line and marker of the k-th of many curves; those of the first 24 all differ.

    Colours come round after six: from then on lines are dashed and markers others, every second
    round hollow.
    """
    turn = k // len(CYCLE)
    colour = CYCLE[k % len(CYCLE)]
    return {
        "color": colour,
        "linestyle": LINES[turn % len(LINES)],
        "marker": MARKERS[(k + turn) % len(MARKERS)],
        "markerfacecolor": "white" if turn % 2 else colour,
    }


def label(axes: Axes, x: str = "", y: str = "", title: str = "", pad: float | None = None) -> None:
    """Label axes in the common sizes; an empty text is left as it is.

    ``pad``, points, is what the title is above the axes.
    """
    if x:
        axes.set_xlabel(x, fontsize=NORMAL, color=INK)
    if y:
        axes.set_ylabel(y, fontsize=NORMAL, color=INK)
    if title:
        axes.set_title(title, fontsize=LARGE, color=INK, loc="left", pad=pad)


def legend(axes: Axes, **settings: Any) -> None:
    """A legend without a frame."""
    axes.legend(fontsize=SMALL, frameon=False, labelcolor=INK, **settings)


def legend_outside(figure: Figure, panels: Iterable[Axes], place: str, **settings: Any) -> None:
    """One legend of some axes beside all axes of the figure, where it covers nothing.

    Parameters
    ----------
    figure : Figure
        With constrained layout, as :func:`new_figure` makes it.
    panels : iterable of Axes
        Whose entries, each text once; without any there is no legend.
    place : str
        Such as ``"upper left"`` (above), ``"right center"`` (beside).
    **settings
        Of ``Figure.legend``.
    """
    every: dict[str, Any] = {}
    for axes in panels:
        for handle, text in zip(*axes.get_legend_handles_labels(), strict=True):
            every.setdefault(text, handle)
    if every:
        style: dict[str, Any] = {"loc": f"outside {place}", "fontsize": SMALL, "labelcolor": INK}
        figure.legend(list(every.values()), list(every), frameon=False, **style, **settings)


def with_unit(name: str, unit: str) -> str:
    """``name / unit``, or the name alone where there is no unit, as astronomers write it."""
    plain = WRITTEN.get(name) or name.replace("_", " ")
    return f"{plain} / {unit}" if unit else plain
