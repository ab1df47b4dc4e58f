"""Figures that compare methods of weighing galaxy clusters on the same mocks."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.ticker import MaxNLocator
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from melotte.errors import MelotteValueError
from melotte.report.style import (
    BLUE,
    CYCLE,
    GREY,
    INK,
    MARKERS,
    RED,
    SMALL,
    density_cells,
    label,
    legend,
    new_figure,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Array = NDArray[np.float64]

PER_ROW = 3
BINS = 10
SMALLEST_BIN = 20
"""Clusters below which a bin of mass is not drawn."""
FEWEST = 10
"""Clusters below which no density is drawn."""
WIDEST = 4.5
"""Normalised residuals are drawn out to this many standard deviations."""
TRUE_MASS = r"true log($M_{200c}$/(M$_\odot$/h))"
ERROR = r"$\epsilon$ / dex"
_STYLES = ("-", "--", ":")


def error_figure(results: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> Figure:
    r"""Errors of each method against the true mass, a panel a method.

    Parameters
    ----------
    results : mapping of str to (true, predicted)
        Arrays of shape (n_clusters,), log10(M200c/(Msun/h)); clusters without a prediction (NaN)
        are left out. Methods may be judged on different clusters.

    Returns
    -------
    Figure
        Clusters as shades, with the 16, 50 and 84 % percentiles of
        :math:`\epsilon = \log_{10}(M_\mathrm{predicted}/M_\mathrm{true})` in bins of true mass
        that hold at least ``SMALLEST_BIN`` clusters, as Ho et al. 2019 (ApJ 887, 25) draw them.

    Raises
    ------
    MelotteValueError
        When there is no method, or shapes do not fit.
    """
    pairs = _errors(results)
    n_columns = min(PER_ROW, len(pairs))
    n_rows = math.ceil(len(pairs) / n_columns)
    width = max(2.55 * n_columns + 0.4, 3.4)
    figure, axes = new_figure(
        width, 2.2 * n_rows + 0.4, n_rows, n_columns, sharex=True, sharey=True
    )
    every = np.concatenate([error for _, error in pairs.values()])
    masses = np.concatenate([true for true, _ in pairs.values()])
    height = 1.15 * float(np.quantile(np.abs(every), 0.99)) if len(every) else 1.0
    low, high = (float(masses.min()), float(masses.max())) if len(masses) else (13.5, 15.5)
    extent = (low, max(high, low + 0.1), -height, height)
    for number, (panel, (name, (true, error))) in enumerate(
        zip(axes.flat, pairs.items(), strict=False)
    ):
        if len(true):
            density_cells(
                panel, true, error, gridsize=(36, 24), extent=extent, alpha=0.45, rasterized=True
            )
        centres, rows = percentiles_in_bins(true, error)
        panel.fill_between(centres, rows[:, 0], rows[:, 2], color=BLUE, alpha=0.3, lw=0)
        panel.plot(centres, rows[:, [0, 2]], color=BLUE, lw=0.8)
        panel.plot(centres, rows[:, 1], color=INK, lw=1.4)
        panel.axhline(0, color=RED, lw=0.8, ls="--")
        panel.set(xlim=extent[:2], ylim=extent[2:])
        panel.xaxis.set_major_locator(MaxNLocator(5))
        label(panel, "", ERROR if number % n_columns == 0 else "", name)
        spread = f"σ = {error.std():.3f} dex, n = {len(error)}" if len(error) else "no prediction"
        panel.annotate(spread, (0.03, 0.03), xycoords="axes fraction", fontsize=SMALL, color=INK)
        if number + n_columns >= len(pairs):
            label(panel, TRUE_MASS)
            panel.tick_params(labelbottom=True)
    for panel in axes.flat[len(pairs) :]:
        panel.set_visible(False)
    return figure


def pdf_figure(
    results: Mapping[str, tuple[ArrayLike, ArrayLike]],
    lowest: float = 14.0,
    highest: float = 15.0,
) -> Figure:
    r"""Distributions of the errors of each method: as they are, and against a Gaussian.

    Parameters
    ----------
    results : mapping of str to (true, predicted)
        As for :func:`error_figure`.
    lowest, highest : float, log10(M200c/(Msun/h))
        Only clusters of such true masses count.

    Returns
    -------
    Figure
        Left: densities of :math:`\epsilon`. Right: those of
        :math:`x = (\epsilon - \langle\epsilon\rangle)/\sigma_\epsilon` on a logarithmic axis, with
        the standard normal one, as figure 3 of Abbas 2019. Kernel densities; a method with fewer
        than ``FEWEST`` clusters is left out.

    Raises
    ------
    MelotteValueError
        When there is no method, shapes do not fit, or no method has enough clusters.
    """
    chosen = {
        name: error[(true >= lowest) & (true <= highest)]
        for name, (true, error) in _errors(results).items()
    }
    drawn = {name: e for name, e in chosen.items() if len(e) >= FEWEST and np.ptp(e) > 0}
    if not drawn:
        raise MelotteValueError(
            f"no method has {FEWEST} clusters of {lowest:g} to {highest:g} with a predicted mass"
        )
    figure, axes = new_figure(7.6, 3.5, 1, 2)
    left, right = axes[0]
    reach = 1.1 * max(float(np.quantile(np.abs(e), 0.99)) for e in drawn.values())
    at = np.linspace(-reach, reach, 301)
    x = np.linspace(-WIDEST, WIDEST, 301)
    right.plot(x, stats.norm.pdf(x), color=GREY, lw=4, alpha=0.5, label="Gaussian")
    for k, (name, error) in enumerate(drawn.items()):
        look = {"color": CYCLE[k % len(CYCLE)], "ls": _STYLES[k // len(CYCLE) % len(_STYLES)]}
        left.plot(at, stats.gaussian_kde(error)(at), lw=1.5, label=name, **look)
        scaled = (error - error.mean()) / error.std()
        # No galaxy cluster lies where the kernel's own tail is all there is.
        density = stats.gaussian_kde(scaled)(x)
        density[(x < scaled.min()) | (x > scaled.max())] = np.nan
        right.plot(x, density, lw=1.5, **look)
    left.axvline(0, color=GREY, lw=0.8, ls="--")
    left.set(xlim=(-reach, reach), ylim=(0, None))
    right.set_yscale("log")
    right.set(xlim=(-WIDEST, WIDEST), ylim=(2e-4, 1))
    label(left, ERROR, "probability density / dex$^{-1}$")
    label(right, r"$x = (\epsilon-\langle\epsilon\rangle)/\sigma_\epsilon$", "probability density")
    right.set_title(
        rf"{lowest:g} $\leq$ {TRUE_MASS} $\leq$ {highest:g}", fontsize=SMALL, color=INK, loc="right"
    )
    legend(right, loc="lower center", handlelength=1.6)
    handles, names = left.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=SMALL,
        frameon=False, labelcolor=INK, handlelength=1.8,
    )  # fmt: skip
    return figure


def robustness_figure(
    results: Mapping[str, tuple[ArrayLike, ArrayLike, ArrayLike, ArrayLike]],
) -> Figure:
    r"""What leaving galaxies out does to the masses of each method.

    Parameters
    ----------
    results : mapping of str to (rates, medians, lows, highs)
        Share of galaxies that were kept; median and the 16 and 84 % percentiles (values, not
        lengths) of :math:`\epsilon^{(r)} = \log_{10}(M(r)/M(1))`, dex; arrays (n_rates,).

    Returns
    -------
    Figure
        Medians in one panel, 16 to 84 % ranges about them in the other, against the rate.

    Raises
    ------
    MelotteValueError
        When there is no method, or shapes do not fit.
    """
    if not results:
        raise MelotteValueError("no method to draw")
    figure, axes = new_figure(7.6, 3.6, 1, 2)
    middle, width = axes[0]
    most = 1.0
    for k, (name, given) in enumerate(results.items()):
        rates, medians, lows, highs = (np.asarray(one, dtype=float) for one in given)
        if rates.ndim != 1 or len({one.shape for one in (rates, medians, lows, highs)}) > 1:
            raise MelotteValueError(f"{name}: rates, medians, lows and highs differ in shape")
        order = np.argsort(rates)
        rates, medians, lows, highs = (one[order] for one in (rates, medians, lows, highs))
        colour = CYCLE[k % len(CYCLE)]
        look = {"color": colour, "ls": _STYLES[k // len(CYCLE) % len(_STYLES)], "lw": 1.4}
        look |= {"marker": MARKERS[k % len(MARKERS)], "ms": 4}
        # Side by side, so that the bars of methods at one rate can be told apart.
        aside = 0.006 * (k - (len(results) - 1) / 2)
        middle.errorbar(
            rates + aside, medians, [medians - lows, highs - medians], elinewidth=0.8,
            capsize=1.5, label=name, **look,
        )  # fmt: skip
        width.plot(rates, highs - lows, **look)
        most = min(most, float(rates.min()))
    middle.axhline(0, color=GREY, lw=0.8, ls="--")
    for panel in (middle, width):
        panel.set_xlim(most - 0.05, 1.03)
    width.set_ylim(0, None)
    label(middle, "share $r$ of galaxies kept", r"median of $\epsilon^{(r)}$ / dex; bars 16–84 %")
    label(width, "share $r$ of galaxies kept", r"16–84 % range of $\epsilon^{(r)}$ / dex")
    handles, names = middle.get_legend_handles_labels()
    figure.legend(
        handles, names, loc="outside lower center", ncols=min(len(names), 4), fontsize=SMALL,
        frameon=False, labelcolor=INK, handlelength=1.8,
    )  # fmt: skip
    return figure


def percentiles_in_bins(
    x: ArrayLike, y: ArrayLike, n_bins: int = BINS, levels: Sequence[float] = (16, 50, 84)
) -> tuple[Array, Array]:
    """Percentiles of y in equal bins of x.

    Parameters
    ----------
    x, y : array, shape (n,)
    n_bins : int, > 0
    levels : sequence of float, 0 to 100

    Returns
    -------
    centres : array, shape (n_used,)
        Medians of x in the bins with at least ``SMALLEST_BIN`` entries.
    percentiles : array, shape (n_used, len(levels))
    """
    first, second = np.asarray(x, dtype=float), np.asarray(y, dtype=float)
    if not len(first):
        return np.zeros(0), np.zeros((0, len(levels)))
    edges = np.linspace(first.min(), first.max(), n_bins + 1)
    number = np.clip(np.searchsorted(edges, first, side="right") - 1, 0, n_bins - 1)
    used = [k for k in range(n_bins) if (number == k).sum() >= SMALLEST_BIN]
    centres = np.array([np.median(first[number == k]) for k in used])
    rows = [np.percentile(second[number == k], levels) for k in used]
    return centres, np.array(rows).reshape(-1, len(levels))


def _errors(results: Mapping[str, tuple[ArrayLike, ArrayLike]]) -> dict[str, tuple[Array, Array]]:
    """True masses and errors of the clusters with a prediction, by method."""
    if not results:
        raise MelotteValueError("no method to draw")
    found = {}
    for name, (given, predicted) in results.items():
        true, ours = np.asarray(given, dtype=float), np.asarray(predicted, dtype=float)
        if true.shape != ours.shape or true.ndim != 1:
            raise MelotteValueError(f"{name}: shapes {true.shape} and {ours.shape} do not fit")
        known = np.isfinite(true) & np.isfinite(ours)
        found[name] = (true[known], (ours - true)[known])
    return found
