"""The demo's mocks of cluster images: pictures with truth and what was found, and who is there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.patches import Circle
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melotte.report.cluster_image_galleries import stretch_of
from melotte.report.image_figures import CIRCLE, colour_picture, filled, show_picture
from melotte.report.style import BLUE, GREY, INK, ORANGE, SMALL, label, legend, new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

COLUMNS = 4


@dataclass(frozen=True)
class GalleryImage:
    """One mock of the gallery.

    Parameters
    ----------
    image : array, shape (n_bands, n_rows, n_columns), counts/s; NaN where unknown
    title : str
        Truth and what was found.
    radius : float, px
        Of the circle: the half-number radius that was found; NaN draws none.
    """

    image: Array
    title: str
    radius: float


def gallery_figure(entries: Sequence[GalleryImage]) -> Figure:
    """Pictures in rows of ``COLUMNS``, each with a stretch of its own."""
    n_rows = -(-max(len(entries), 1) // COLUMNS)
    figure, axes = new_figure(2.5 * COLUMNS, 3.15 * n_rows + 0.15, n_rows, COLUMNS)
    # The layout takes titles of several lines for a little lower than they are.
    figure.get_layout_engine().set(rect=(0, 0, 1, 0.985))  # pyright: ignore
    for panel in axes.flat[len(entries) :]:
        panel.set_axis_off()
    for panel, one in zip(axes.flat, entries, strict=False):
        stretch = stretch_of(filled(one.image)[None])
        show_picture(panel, colour_picture(one.image, stretch))
        n = one.image.shape[-1]
        if np.isfinite(one.radius):
            centre = (n - 1) / 2, (n - 1) / 2
            panel.add_patch(Circle(centre, one.radius, fill=False, color=CIRCLE, lw=0.8))
        panel.set_title(one.title, fontsize=SMALL, color=INK, loc="left", linespacing=1.25)
    return figure


def presence_figure(
    present: ArrayLike, probability: ArrayLike, true_visibility: ArrayLike, visibility: ArrayLike
) -> Figure:
    """Probabilities of clusters and of empty places, and visibilities beside the true ones.

    Parameters
    ----------
    present : array of bool, shape (n,)
    probability : array, shape (n,)
        That there is a cluster.
    true_visibility, visibility : array, shape (n,)
        Drawn for the clusters.
    """
    is_cluster = np.asarray(present, dtype=bool)
    chance = np.asarray(probability, dtype=float)
    figure, axes = new_figure(7.4, 3.1, 1, 2)
    for chosen, colour, name in (
        (is_cluster, BLUE, "clusters"),
        (~is_cluster, ORANGE, "empty places"),
    ):
        axes[0, 0].hist(
            chance[chosen], bins=20, range=(0, 1), histtype="step", color=colour, lw=1.5, label=name
        )
    legend(axes[0, 0], loc="upper center")
    label(axes[0, 0], "probability of a cluster", "mocks")
    truth = np.asarray(true_visibility, dtype=float)[is_cluster]
    found = np.asarray(visibility, dtype=float)[is_cluster]
    good = (truth > 0) & (found > 0)
    axes[0, 1].plot(truth[good], found[good], ls="none", marker="o", ms=3, color=BLUE, alpha=0.6)
    if good.any():
        ends = [
            min(truth[good].min(), found[good].min()),
            max(truth[good].max(), found[good].max()),
        ]
        axes[0, 1].plot(ends, ends, color=GREY, lw=0.8, ls="--")
    axes[0, 1].set(xscale="log", yscale="log")
    label(axes[0, 1], "true visibility", "visibility found")
    return figure


def roc_area(present: ArrayLike, probability: ArrayLike) -> float:
    """Chance that a cluster gets a higher probability than an empty place; NaN without either."""
    is_cluster = np.asarray(present, dtype=bool)
    n, m = int(is_cluster.sum()), int((~is_cluster).sum())
    if not n or not m:
        return float("nan")
    ranks = stats.rankdata(np.asarray(probability, dtype=float))
    return float((ranks[is_cluster].sum() - n * (n + 1) / 2) / (n * m))
