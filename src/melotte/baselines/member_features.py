"""Numbers that describe a member list, for regressors that cannot read a set of stars.

All are measured on the list itself: counts, quantiles, the mean parallax, the shape of the
colour-magnitude diagram in apparent, absolute and dereddened magnitudes. Nothing is fitted to a
label. The order of the stars does not matter.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

ZERO_POINT = 0.025
"""mas, added to EDR3 parallaxes: between Lindegren et al. 2021 for red and blue stars, G 12-18."""
ZERO_POINT_DR2 = 0.068
"""mas: the mean parallaxes of 413 clusters in both releases differ by 0.043 mas in the median."""
SMALLEST_PARALLAX = 0.05
"""mas: smaller means say only that a cluster is far away."""
N_COLUMNS = 7

SEQUENCE = np.array(
    [
        (-4.0, -0.477),
        (-3.0, -0.440),
        (-2.0, -0.384),
        (-1.0, -0.313),
        (0.0, -0.222),
        (1.0, -0.110),
        (1.5, 0.000),
        (2.0, 0.130),
        (2.5, 0.290),
        (3.0, 0.440),
        (3.5, 0.549),
        (4.0, 0.645),
        (4.5, 0.730),
        (5.0, 0.827),
        (5.5, 0.937),
        (6.0, 1.058),
        (7.0, 1.345),
        (8.0, 1.640),
        (9.0, 1.980),
        (10.0, 2.290),
    ]
)
"""(M_G, BP-RP) of unevolved stars of solar metallicity: the bluest of the shipped isochrones of
log age 6.8 to 9.0 at each magnitude."""
REDDENING_SLOPE = 2.0
"""A_G / E(BP-RP) of the shipped extinction table for main-sequence stars, 1.97 to 2.05."""

LEVELS = (0.02, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.98)
G_BINS = np.arange(8.0, 18.1, 1.0)
ABSOLUTE_BINS = np.arange(-4.0, 8.1, 1.0)
COARSE_G = np.arange(8.0, 18.1, 1.25)
COARSE_COLOUR = np.arange(-0.2, 3.1, 0.3)
COARSE_ABSOLUTE = np.arange(-4.0, 8.1, 1.2)
COARSE_INTRINSIC = np.array([-0.6, -0.3, -0.15, 0.0, 0.15, 0.35, 0.55, 0.75, 0.95, 1.2, 1.5, 2.2])


@dataclass(frozen=True)
class Groups:
    """Which list each star belongs to.

    Parameters
    ----------
    index : array of int, shape (n_stars,)
    n : int
        Number of lists.
    """

    index: NDArray[np.int64]
    n: int

    def count(self, chosen: NDArray[np.bool_]) -> Array:
        """Number of chosen stars of each list, (n,)."""
        return np.bincount(self.index[chosen], minlength=self.n).astype(float)

    def total(self, values: Array) -> Array:
        """Sum over each list, (n,)."""
        return np.bincount(self.index, values, minlength=self.n).astype(float)

    def mean(self, values: Array, weight: Array) -> Array:
        """Weighted mean of each list, (n,); NaN without weight."""
        return _divide(self.total(values * weight), self.total(weight))

    def quantiles(
        self, values: Array, levels: tuple[float, ...], chosen: NDArray[np.bool_] | None = None
    ) -> Array:
        """Interpolated quantiles over the chosen stars, (n, n_levels); NaN without stars."""
        if chosen is None:
            return grouped_quantiles(values, self.index, self.n, levels)
        return grouped_quantiles(values[chosen], self.index[chosen], self.n, levels)

    def by_bin(
        self, values: Array, where: Array, edges: Array, levels: tuple[float, ...]
    ) -> tuple[Array, Array]:
        """Counts (n, n_bins) and quantiles of ``values`` (n, n_bins, n_levels) by ``where``."""
        n_bins = len(edges) - 1
        number = np.searchsorted(edges, where, side="right") - 1
        inside = (number >= 0) & (number < n_bins)
        cell = self.index[inside] * n_bins + number[inside]
        counts = np.bincount(cell, minlength=self.n * n_bins).astype(float)
        found = grouped_quantiles(values[inside], cell, self.n * n_bins, levels)
        return counts.reshape(self.n, n_bins), found.reshape(self.n, n_bins, len(levels))

    def histogram(self, x: Array, y: Array, x_edges: Array, y_edges: Array) -> Array:
        """Square roots of the shares of stars in cells, (n, n_cells); outliers in edge cells."""
        n_x, n_y = len(x_edges) - 1, len(y_edges) - 1
        column = np.clip(np.searchsorted(x_edges, x, side="right") - 1, 0, n_x - 1)
        row = np.clip(np.searchsorted(y_edges, y, side="right") - 1, 0, n_y - 1)
        cell = (self.index * n_x + column) * n_y + row
        counts = np.bincount(cell, minlength=self.n * n_x * n_y)
        counts = counts.reshape(self.n, n_x * n_y)
        return np.sqrt(counts / np.maximum(counts.sum(1, keepdims=True), 1))


class _Table:
    """Columns of features with their names."""

    def __init__(self, n: int) -> None:
        self.n = n
        self.columns: list[Array] = []
        self.names: list[str] = []

    def add(self, name: str, values: Array) -> None:
        """Add one column (n,), or several (n, ...) numbered after the name."""
        given = np.asarray(values, dtype=float)
        flat = given.reshape(self.n, int(np.prod(given.shape[1:])))
        self.columns.append(flat)
        several = flat.shape[1] > 1
        self.names += [f"{name}_{i}" if several else name for i in range(flat.shape[1])]


def rich_features(
    stars: ArrayLike,
    offsets: ArrayLike,
    dr2: ArrayLike | None = None,
    faint_limit: float | None = 18.0,
) -> tuple[Array, tuple[str, ...]]:
    """Describe member lists by a fixed set of numbers.

    Parameters
    ----------
    stars : array, shape (n_stars, 7)
        G (mag), BP-RP (mag), parallax (mas, no zero point), its error (mas; NaN: 0.1), errors of
        G and BP-RP (not read), membership probability (NaN: 1).
    offsets : array of int, shape (n_lists + 1,)
        List ``i`` is ``stars[offsets[i]:offsets[i + 1]]``; it may be empty.
    dr2 : array of bool, shape (n_lists,), optional
        Lists of DR2, whose parallaxes have another zero point; EDR3 or DR3 by default.
    faint_limit : mag, optional
        Fainter stars are left out, so that lists of different depth compare.

    Returns
    -------
    features : array, shape (n_lists, n_features)
        NaN where a list has no star to measure.
    names : tuple of str, length n_features

    Raises
    ------
    MelotteValueError
        When the shapes do not fit.
    """
    table = np.asarray(stars, dtype=float)
    starts = np.asarray(offsets, dtype=np.int64)
    if table.ndim != 2 or table.shape[1] != N_COLUMNS:
        raise MelotteValueError(f"stars has the shape {table.shape}; give (n_stars, {N_COLUMNS})")
    if starts.ndim != 1 or len(starts) < 1 or starts[0] != 0 or starts[-1] != len(table):
        raise MelotteValueError(f"offsets must rise from 0 to {len(table)}")
    n = len(starts) - 1
    old = np.zeros(n, dtype=bool) if dr2 is None else np.asarray(dr2, dtype=bool)
    if old.shape != (n,):
        raise MelotteValueError(f"dr2 has the shape {old.shape}; there are {n} lists")
    index = np.repeat(np.arange(n), np.diff(starts))
    if faint_limit is not None:
        bright = table[:, 0] < faint_limit
        table, index = table[bright], index[bright]
    # Sums depend on the order of their terms in the last digit: a fixed order removes that.
    order = np.lexsort((*table.T[::-1], index))
    table, groups = table[order], Groups(index[order], n)
    g, colour = table[:, 0], table[:, 1]
    parallax = table[:, 2] + np.where(old, ZERO_POINT_DR2, ZERO_POINT)[groups.index]
    error = np.where(table[:, 3] > 0, table[:, 3], 0.1)
    membership = np.where(np.isfinite(table[:, 6]), table[:, 6], 1.0)
    out = _Table(n)
    out.add("dr2", old)
    mean = _parallax_features(out, groups, parallax, error, membership)
    closest = np.maximum(np.nan_to_num(mean, nan=1.0), SMALLEST_PARALLAX)
    modulus = 10 - 5 * np.log10(closest)
    absolute = g - modulus[groups.index]
    _count_features(out, groups, g, colour, absolute)
    ridge = _apparent_features(out, groups, g, colour)
    reddening = _reddening_features(out, groups, colour, absolute)
    _turn_off_features(out, groups, g, colour, absolute, reddening, ridge)
    intrinsic = colour - reddening[groups.index]
    unreddened = absolute - REDDENING_SLOPE * reddening[groups.index]
    _absolute_features(out, groups, colour, absolute, intrinsic, unreddened)
    out.add("cmd_apparent", groups.histogram(g, colour, COARSE_G, COARSE_COLOUR))
    cells = groups.histogram(unreddened, intrinsic, COARSE_ABSOLUTE, COARSE_INTRINSIC)
    out.add("cmd_intrinsic", cells)
    return np.concatenate(out.columns, axis=1), tuple(out.names)


def clipped_parallax(
    groups: Groups, parallax: Array, error: Array, membership: Array
) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Mean parallax of each list after clipping at three errors about the median, thrice.

    Parameters
    ----------
    groups : Groups
    parallax, error : array, shape (n_stars,), mas
    membership : array, shape (n_stars,), 0 to 1

    Returns
    -------
    mean, mean_error : array, shape (n,), mas; NaN for an empty list
    kept : array of bool, shape (n_stars,)
    """
    weight = membership / (error**2 + 0.02**2)
    centre = groups.quantiles(parallax, (0.5,))[:, 0]
    kept = np.ones(len(parallax), dtype=bool)
    for _ in range(3):
        kept = np.abs(parallax - centre[groups.index]) < 3 * np.hypot(error, 0.05)
        mean = groups.mean(parallax, weight * kept)
        centre = np.where(np.isfinite(mean), mean, centre)
    total = groups.total(weight * kept)
    return centre, np.where(total > 0, 1 / np.sqrt(np.maximum(total, 1e-12)), np.nan), kept


def star_reddening(absolute: Array, colour: Array) -> Array:
    """E(BP-RP) that moves each star onto the unevolved main sequence, mag.

    Parameters
    ----------
    absolute, colour : array, shape (n_stars,), mag
        Not corrected for extinction.

    Returns
    -------
    array, shape (n_stars,), -1.5 to 4.5
    """
    low, high = np.full(len(colour), -1.5), np.full(len(colour), 4.5)
    for _ in range(14):
        middle = (low + high) / 2
        sequence = np.interp(absolute - REDDENING_SLOPE * middle, SEQUENCE[:, 0], SEQUENCE[:, 1])
        # The sequence's slope is below 1 / REDDENING_SLOPE, so that one crossing exists.
        redder = colour - middle > sequence
        low, high = np.where(redder, middle, low), np.where(redder, high, middle)
    return (low + high) / 2


def grouped_quantiles(
    values: Array, group: NDArray[np.int64], n_groups: int, levels: tuple[float, ...]
) -> Array:
    """Linearly interpolated quantiles of each group, (n_groups, n_levels); NaN if empty."""
    counts = np.bincount(group, minlength=n_groups)
    if not len(values):
        return np.full((n_groups, len(levels)), np.nan)
    ordered = values[np.lexsort((values, group))]
    starts = np.cumsum(counts) - counts
    rank = np.asarray(levels) * np.maximum(counts - 1, 0)[:, None]
    below = np.floor(rank).astype(np.int64)
    first = np.minimum(starts[:, None] + below, len(values) - 1)
    last = np.minimum(starts[:, None] + np.ceil(rank).astype(np.int64), len(values) - 1)
    found = ordered[first] + (rank - below) * (ordered[last] - ordered[first])
    return np.where(counts[:, None] > 0, found, np.nan)


def _parallax_features(
    out: _Table, groups: Groups, parallax: Array, error: Array, membership: Array
) -> Array:
    mean, mean_error, kept = clipped_parallax(groups, parallax, error, membership)
    far = np.maximum(mean, SMALLEST_PARALLAX)
    residual = (parallax - mean[groups.index]) / error
    out.add("parallax", mean)
    out.add("log_parallax", np.log10(far))
    out.add("distance_of_parallax", 1 / far)
    out.add("parallax_mean_error", mean_error)
    out.add("parallax_kept", _divide(groups.count(kept), groups.count(kept | True)))
    quantiles = groups.quantiles(residual, (0.16, 0.84))
    out.add("parallax_scatter", quantiles[:, 1] - quantiles[:, 0])
    out.add("parallax_error", groups.quantiles(error, (0.1, 0.5)))
    out.add("membership", groups.mean(membership, np.ones(len(membership))))
    out.add("median_parallax", groups.quantiles(parallax, (0.25, 0.5, 0.75)))
    return mean


def _count_features(out: _Table, groups: Groups, g: Array, colour: Array, absolute: Array) -> None:
    n = groups.count(np.ones(len(g), dtype=bool))
    out.add("log_count", np.log10(np.maximum(n, 1)))
    for limit in (10, 11, 12, 13, 14, 15, 16, 17):
        out.add(f"share_brighter_{limit}", _divide(groups.count(g < limit), n))
    out.add("g_quantile", groups.quantiles(g, LEVELS))
    out.add("colour_quantile", groups.quantiles(colour, LEVELS))
    out.add("absolute_quantile", groups.quantiles(absolute, LEVELS))
    brightest = groups.quantiles(g, (0.0,))[:, 0]
    out.add("brightest", brightest)
    order = np.lexsort((g, groups.index))
    counts = np.bincount(groups.index, minlength=groups.n)
    starts = np.cumsum(counts) - counts
    rank = np.empty(len(g), dtype=np.int64)
    rank[order] = np.arange(len(g)) - np.repeat(starts, counts)
    for least, most in ((0, 1), (1, 3), (3, 6), (6, 10), (10, 20), (20, 40)):
        chosen = (rank >= least) & (rank < most)
        name = f"rank_{least}_{most}"
        out.add(f"{name}_g", groups.quantiles(g, (0.5,), chosen))
        out.add(f"{name}_absolute", groups.quantiles(absolute, (0.5,), chosen))
        out.add(f"{name}_colour", groups.quantiles(colour, (0.0, 0.5, 1.0), chosen))


def _apparent_features(out: _Table, groups: Groups, g: Array, colour: Array) -> Array:
    """Colours by apparent magnitude; returns the blue ridge (n, n_bins) that they follow."""
    counts, colours = groups.by_bin(colour, g, G_BINS, (0.05, 0.1, 0.25, 0.5, 0.75, 0.9))
    total = np.maximum(counts.sum(1, keepdims=True), 1)
    out.add("share_by_g", counts / total)
    out.add("colour_by_g", colours)
    ridge = filled_along(colours[:, :, 2])
    out.add("ridge_slope", np.diff(ridge, axis=1))
    widths = colours[:, :, 4] - colours[:, :, 2]
    out.add("ridge_width", widths)
    last = ridge[:, -1:]
    out.add("ridge_from_faint", ridge - last)
    bluest = np.where(counts >= 3, colours[:, :, 1], np.nan)
    filled = np.where(np.isfinite(bluest), bluest, np.inf)
    place = filled.argmin(1)
    edge = filled[np.arange(len(filled)), place]
    out.add("blue_edge", np.where(np.isfinite(edge), edge, np.nan))
    out.add("blue_edge_g", np.where(np.isfinite(edge), G_BINS[place] + 0.5, np.nan))
    return ridge


def _reddening_features(out: _Table, groups: Groups, colour: Array, absolute: Array) -> Array:
    """E(BP-RP) by the unevolved sequence at the parallax's distance; returns the estimate (n,)."""
    each = star_reddening(absolute, colour)
    fainter = absolute - REDDENING_SLOPE * each
    unevolved = (fainter > 0.5) & (fainter < 7.0)
    levels = (0.1, 0.2, 0.3, 0.4, 0.5, 0.7)
    chosen = groups.quantiles(each, levels, unevolved)
    every = groups.quantiles(each, levels)
    best = np.where(np.isfinite(chosen), chosen, every)
    out.add("reddening", best)
    out.add("reddening_of_all", every)
    for low, high in ((-4, 0), (-1, 1.5), (1, 2.5), (2, 3.5), (3, 5), (4, 7)):
        part = (fainter > low) & (fainter < high)
        out.add(f"reddening_{low}_{high}", groups.quantiles(each, (0.25, 0.5), part))
    ends = groups.quantiles(each, (0.16, 0.84), unevolved)
    out.add("reddening_spread", ends[:, 1] - ends[:, 0])
    return np.nan_to_num(best[:, 2], nan=0.0)


def _turn_off_features(
    out: _Table,
    groups: Groups,
    g: Array,
    colour: Array,
    absolute: Array,
    reddening: Array,
    ridge: Array,
) -> None:
    """Giants, and the bluest and brightest stars of the rest."""
    index = groups.index
    middle = (G_BINS[:-1] + G_BINS[1:]) / 2
    place = np.clip(np.searchsorted(G_BINS, g, side="right") - 1, 0, len(middle) - 1)
    # Fainter sequences are redder: a giant is redder than the ridge of stars two bins fainter.
    faint = np.minimum(place + 2, len(middle) - 1)
    offset = colour - ridge[index, place]
    beyond = colour - ridge[index, faint]
    intrinsic = colour - reddening[index]
    unreddened = absolute - REDDENING_SLOPE * reddening[index]
    giant = (unreddened < 3.0) & (intrinsic > 0.8)
    red = (g < 16) & (np.nan_to_num(beyond, nan=0.0) > 0.1)
    n = groups.count(np.ones(len(g), dtype=bool))
    for name, chosen in (("giant", giant), ("red", red)):
        found = groups.count(chosen)
        out.add(f"log_{name}s", np.log10(1 + found))
        out.add(f"{name}_share", _divide(found, n))
        out.add(f"{name}_g", groups.quantiles(g, (0.1, 0.5), chosen))
        out.add(f"{name}_absolute", groups.quantiles(unreddened, (0.1, 0.5), chosen))
        out.add(f"{name}_colour", groups.quantiles(colour, (0.5, 0.9), chosen))
        out.add(f"{name}_intrinsic", groups.quantiles(intrinsic, (0.5, 0.9), chosen))
    out.add("ridge_offset", groups.quantiles(offset, (0.75, 0.9, 0.98)))
    dwarf = ~giant & ~red
    levels = (0.0, 0.02, 0.05, 0.1, 0.2)
    out.add("turn_off_g", groups.quantiles(g, levels, dwarf))
    out.add("turn_off_absolute", groups.quantiles(unreddened, levels, dwarf))
    out.add("turn_off_colour", groups.quantiles(colour, levels, dwarf))
    bluest = groups.quantiles(intrinsic, levels, dwarf)
    out.add("turn_off_intrinsic", bluest)
    edge = np.nan_to_num(bluest[:, 2], nan=0.0)[index]
    near = dwarf & (intrinsic < edge + 0.12)
    out.add("turn_off_edge_g", groups.quantiles(g, (0.0, 0.1, 0.5), near))
    out.add("turn_off_edge_absolute", groups.quantiles(unreddened, (0.0, 0.1, 0.5), near))
    top = groups.quantiles(unreddened, (0.1,), dwarf)[:, 0]
    red_clump = groups.quantiles(unreddened, (0.5,), giant)[:, 0]
    out.add("giant_above_turn_off", red_clump - top)
    reddest = groups.quantiles(colour, (0.5,), giant)[:, 0]
    out.add("giant_from_turn_off_colour", reddest - groups.quantiles(colour, (0.05,), dwarf)[:, 0])


def _absolute_features(
    out: _Table,
    groups: Groups,
    colour: Array,
    absolute: Array,
    intrinsic: Array,
    unreddened: Array,
) -> None:
    counts, colours = groups.by_bin(colour, absolute, ABSOLUTE_BINS, (0.1, 0.25, 0.5, 0.9))
    total = np.maximum(counts.sum(1, keepdims=True), 1)
    out.add("share_by_absolute", counts / total)
    out.add("colour_by_absolute", colours)
    counts, colours = groups.by_bin(intrinsic, unreddened, ABSOLUTE_BINS, (0.1, 0.25, 0.5, 0.9))
    out.add("share_by_unreddened", counts / total)
    sequence = np.interp(
        (ABSOLUTE_BINS[:-1] + ABSOLUTE_BINS[1:]) / 2, SEQUENCE[:, 0], SEQUENCE[:, 1]
    )
    out.add("excess_by_unreddened", colours - sequence[:, None])
    edges = np.array([-9.0, -0.3, -0.15, 0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.9, 1.1])
    _, magnitudes = groups.by_bin(unreddened, intrinsic, edges, (0.05, 0.2, 0.5))
    out.add("unreddened_by_intrinsic", magnitudes)


def filled_along(values: Array) -> Array:
    """Fill NaN entries of each row (n, n_bins) from the nearest finite one; all NaN stays."""
    n, n_bins = values.shape
    place = np.arange(n_bins)
    good = np.isfinite(values)
    distance = np.where(good[:, None, :], np.abs(place[:, None] - place[None, :]), n_bins + 1)
    return values[np.arange(n)[:, None], distance.argmin(2)]


def _divide(above: Array, below: Array) -> Array:
    return np.where(below > 0, above / np.where(below > 0, below, 1.0), np.nan)
