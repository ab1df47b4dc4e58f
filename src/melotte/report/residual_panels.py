"""True against predicted values with residuals along both axes, as pi-DOC's paper shows them.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Figs. 5, 6 and 8.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.colors import LogNorm
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray

from melotte.report.style import BLUE, DENSITY, GREY, INK, RED, SKY, SMALL, label, new_figure

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

BINS = 60
LEAST = 5
"""Values that a mean of residuals needs."""
FEW = 100_000
"""Values below which residuals are in bins three times as wide."""
SHOWN = 0.9995
"""Share of the values that the axes hold."""


@dataclass(frozen=True)
class CountedPairs:
    """True and predicted values, counted on a grid.

    Parameters
    ----------
    counts : array, shape (n_bins, n_bins)
        Rows are the truth's bins, columns the prediction's.
    edges : array, shape (n_bins + 1,)
        Of both.
    name, unit : str
        What is counted; the unit of the residuals.
    note : str
        Written into the panel.
    """

    counts: Array
    edges: Array
    name: str
    unit: str
    note: str = ""

    @classmethod
    def of(
        cls, true: ArrayLike, predicted: ArrayLike, name: str, unit: str, note: str = ""
    ) -> CountedPairs:
        """Count pairs of values; those that are not finite are left out."""
        one, other = (np.asarray(values, dtype=float) for values in (true, predicted))
        good = np.isfinite(one) & np.isfinite(other)
        one, other = one[good], other[good]
        edges = np.linspace(0.0, 1.0, BINS + 1)
        if len(one):
            tail = (1 - SHOWN) / 2
            low, high = np.quantile(np.r_[one, other], [tail, 1 - tail])
            margin = 0.03 * max(high - low, 1e-6)
            edges = np.linspace(low - margin, high + margin, BINS + 1)
        counts, _, _ = np.histogram2d(one, other, bins=[edges, edges])
        return cls(counts, edges, name, unit, note)

    def cropped(self) -> CountedPairs:
        """Without the empty rim."""
        used = np.flatnonzero(self.counts.sum(0) + self.counts.sum(1) > 0)
        if not len(used):
            return self
        first, last = int(used[0]), int(used[-1]) + 1
        return CountedPairs(
            self.counts[first:last, first:last],
            self.edges[first : last + 1],
            self.name,
            self.unit,
            self.note,
        )

    def residuals(self, axis: int) -> tuple[Array, Array, Array]:
        """Mean and standard deviation of predicted less true, in bins of one of them.

        Parameters
        ----------
        axis : {0, 1}
            Bins of the truth, p(r | true), or of the prediction, p(r | predicted).

        Returns
        -------
        place, mean, deviation : array, shape (n_bins,)
            Centres of the bins; NaN for bins of fewer than ``LEAST`` values.
        """
        counts = self.counts if axis == 0 else self.counts.T
        centres = (self.edges[1:] + self.edges[:-1]) / 2
        offset = centres[None, :] - centres[:, None]
        offset = offset if axis == 0 else -offset
        step = 3 if counts.sum() < FEW else 1
        first = np.arange(0, len(centres), step)

        def summed(values: Array) -> Array:
            return np.add.reduceat(values.sum(1), first)

        number = summed(counts)
        known = number >= LEAST
        safe = np.where(known, number, 1.0)
        mean = summed(counts * offset) / safe
        spread = np.sqrt(np.clip(summed(counts * offset**2) / safe - mean**2, 0, None))
        last = np.minimum(first + step, len(centres))
        place = (self.edges[first] + self.edges[last]) / 2
        return place, np.where(known, mean, np.nan), np.where(known, spread, np.nan)


def residual_figure(pairs: Sequence[CountedPairs]) -> Figure:
    """One block of three panels each: values, and residuals against the prediction and the truth.

    Parameters
    ----------
    pairs : sequence of CountedPairs

    Returns
    -------
    Figure
    """
    n = max(len(pairs), 1)
    figure, axes = new_figure(
        4.9 * n + 0.2,
        4.9,
        2,
        2 * n,
        width_ratios=[1, 3] * n,
        height_ratios=[3, 1],
    )
    layout = figure.get_layout_engine()
    layout.set(wspace=0.0, hspace=0.0, w_pad=0.03, h_pad=0.03)  # pyright: ignore
    for k, one in enumerate(pairs):
        side, main, bottom = axes[0, 2 * k], axes[0, 2 * k + 1], axes[1, 2 * k + 1]
        axes[1, 2 * k].set_axis_off()
        _block(main, side, bottom, one.cropped())
    return figure


def _block(main: Axes, side: Axes, bottom: Axes, pairs: CountedPairs) -> None:
    extent = float(pairs.edges[0]), float(pairs.edges[-1])
    main.set(xlim=extent, ylim=extent)
    if pairs.counts.any():
        most = max(float(pairs.counts.max()), 2.0)
        main.pcolormesh(
            pairs.edges,
            pairs.edges,
            np.where(pairs.counts > 0, pairs.counts, np.nan).T,
            cmap=DENSITY,
            norm=LogNorm(0.5, most),
            rasterized=True,
        )
    main.plot(extent, extent, color=RED, lw=1)
    main.annotate(
        pairs.note, (0.03, 0.97), xycoords="axes fraction", va="top", fontsize=SMALL, color=INK
    )
    label(main, "", "", pairs.name)
    found = [pairs.residuals(0), pairs.residuals(1)]
    for axes, upright, (place, mean, spread) in (
        (bottom, False, found[0]),
        (side, True, found[1]),
    ):
        few = pairs.counts.sum() < FEW
        if upright:
            axes.axvline(0, color=GREY, lw=0.8)
            axes.set_ylim(extent)
        else:
            axes.axhline(0, color=GREY, lw=0.8)
            axes.set_xlim(extent)
        if few:
            # Bins may stand alone, where a band would not show.
            style = {"fmt": "o", "ms": 2.5, "color": BLUE, "ecolor": SKY, "elinewidth": 2.5}
            if upright:
                axes.errorbar(mean, place, xerr=spread, **style)
            else:
                axes.errorbar(place, mean, yerr=spread, **style)
        else:
            fill = axes.fill_betweenx if upright else axes.fill_between
            fill(place, mean - spread, mean + spread, color=SKY, alpha=0.45, lw=0)
            line = (mean, place) if upright else (place, mean)
            axes.plot(*line, color=BLUE, lw=1.4)
        reach = np.abs(np.r_[mean - spread, mean + spread])
        reach = reach[np.isfinite(reach)]
        limit = 1.15 * max(float(np.quantile(reach, 0.95)) if len(reach) else 1.0, 1e-6)
        (axes.set_xlim if upright else axes.set_ylim)(-limit, limit)
        (axes.xaxis if upright else axes.yaxis).set_major_locator(MaxNLocator(3))
    unit = f" / {pairs.unit}" if pairs.unit else ""
    label(bottom, "true", f"r{unit}")
    label(side, f"r{unit}", "predicted")
    for axes, text in ((bottom, "p(r | true)"), (side, "p(r | predicted)")):
        axes.set_title(text, fontsize=SMALL, color=GREY, loc="left")
    main.tick_params(labelbottom=False, labelleft=False)
