"""Statistics of a member list that a bad isochrone fit moves."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.sky.isochrones import StellarGrid
from melotte.systems.open_cluster.sequences import MAIN_SEQUENCE, cluster_sequences
from melotte.telescope.gaia import gaia_release

Array = NDArray[np.float64]

EQUAL_MASS = 0.753
"""How much brighter a pair of equal stars is than one, mag."""
BEYOND = 0.12
"""Colour, mag, by which a dwarf misses the band of singles and binaries to count as beyond it."""
GIANT = 0.35
"""A giant is redder than the turn-off by this, mag, and not fainter than 0.5 mag below it."""
COMPARED_STARS = 160
SCALE = (0.15, 0.6)
"""BP-RP and G, mag, that are one unit of distance between stars of two lists."""


@dataclass(frozen=True)
class Statistic:
    """Name of a statistic, what it is, and whether it is the square root of a count."""

    name: str
    description: str
    counts: bool = False


STATISTICS = (
    Statistic("colour_offset", "colour of the ridge of dwarfs less that of the isochrone"),
    Statistic("colour_tilt", "that offset of faint dwarfs less that of bright ones"),
    Statistic("colour_scatter", "log width of the blue half of the sequence of dwarfs"),
    Statistic("binaries", "dwarfs more than half-way to equal-mass binaries", counts=True),
    Statistic("beyond", "dwarfs blueward of singles or redward of binaries", counts=True),
    Statistic("giants", "stars redder than the turn-off, about as bright or brighter", counts=True),
    Statistic("blue", "stars brighter than the turn-off by 0.5 mag and not redder", counts=True),
    Statistic("step", "log median step in colour between stars neighbouring in G"),
    Statistic("large_step", "log 85 % quantile of that step"),
    Statistic("median_g", "median G"),
    Statistic("spread_g", "log of the 10 to 90 % range of G"),
    Statistic("parallax", "weighted mean parallax"),
    Statistic("distribution", "log energy distance to all replicates in the diagram"),
)


def list_statistics(lists: Sequence[Array], theta: Array, release: str, grid: StellarGrid) -> Array:
    """Statistics of lists about one isochrone.

    Parameters
    ----------
    lists : sequence of array, each (n_stars, 7), columns of the simulator
        The first is compared with all others; those among themselves.
    theta : array, shape (4,)
        (log_age, extinction_v / mag, distance / kpc, metallicity) of the isochrone.
    release : str
    grid : StellarGrid, on the CPU

    Returns
    -------
    array, shape (n_lists, n_statistics)
        NaN where a list has no star of the kind.
    """
    most = max(2, *(len(one) for one in lists))
    table = np.full((len(lists), most, 7), np.nan)
    for row, one in zip(table, lists, strict=True):
        row[: len(one)] = one
    g, colour = table[..., 0], table[..., 1]
    ridge_colour, ridge_g, turn_off = _ridge(theta, release, grid)

    def expected(magnitude: Array) -> Array:
        return np.interp(magnitude, ridge_g, ridge_colour)

    residual = colour - expected(g)
    to_pairs = expected(g + EQUAL_MASS) - expected(g)
    dwarf = (g > turn_off[1] + 0.3) & (np.abs(residual) < 1)
    bright_limit = np.median(g[np.isfinite(g)])
    error = 2 * np.nan_to_num(table[..., 5], nan=0.02)
    giants = (colour > turn_off[0] + GIANT) & (g < turn_off[1] + 0.5)
    blue = (g < turn_off[1] - 0.5) & (colour < turn_off[0] + GIANT)
    beyond = dwarf & (
        (residual < -BEYOND - error) | (residual > np.maximum(to_pairs, 0) + BEYOND + error)
    )
    dwarfs = np.where(dwarf, residual, np.nan)
    weight = np.nan_to_num(1 / (table[..., 3] ** 2 + 0.01**2))
    parallax = (np.nan_to_num(table[..., 2]) * weight).sum(1) / np.maximum(weight.sum(1), 1e-9)
    ordered = np.take_along_axis(colour, np.argsort(g, axis=1), 1)
    steps = np.abs(np.diff(ordered, axis=1))
    with warnings.catch_warnings():
        # Lists without a dwarf have NaN for its statistics, as said above.
        warnings.simplefilter("ignore", RuntimeWarning)
        tenth, third, middle = np.nanquantile(dwarfs, [0.1, 0.35, 0.5], axis=1)
        faint = np.nanquantile(np.where(g > bright_limit, dwarfs, np.nan), 0.35, axis=1)
        bright = np.nanquantile(np.where(g <= bright_limit, dwarfs, np.nan), 0.35, axis=1)
        step, large_step = np.nanquantile(steps, [0.5, 0.85], axis=1)
        low, median, high = np.nanquantile(g, [0.1, 0.5, 0.9], axis=1)
    return np.stack(
        [
            third,
            faint - bright,
            np.log(middle - tenth + 2e-3),
            _root((dwarf & (residual > 0.5 * to_pairs)).sum(1)),
            _root(beyond.sum(1)),
            _root(giants.sum(1)),
            _root(blue.sum(1)),
            np.log(step + 5e-3),
            np.log(large_step + 5e-3),
            median,
            np.log(high - low + 0.02),
            parallax,
            _energy_distance(lists),
        ],
        -1,
    )


def _root(counts: NDArray[np.int64]) -> Array:
    """Anscombe's root of counts, whose scatter is about 1 whatever the mean."""
    return 2 * np.sqrt(counts + 0.375)


def _ridge(theta: Array, release: str, grid: StellarGrid) -> tuple[Array, Array, Array]:
    """Colour and G of the main sequence, rising in G, and its turn-off (BP-RP, G)."""
    known = gaia_release(release)
    isochrone = grid.isochrone(float(theta[0]), float(theta[3]))
    g, bp, rp = isochrone.magnitudes(list(known.bands), extinction_v=float(theta[1])).T
    g = g + 5 * np.log10(float(theta[2])) + 10
    turn_off = cluster_sequences(grid, theta[None], known, float(g.max())).turn_off[0]
    # Stars on their way to the main sequence count, or a young cluster had no dwarfs.
    dwarfs = isochrone.phase <= MAIN_SEQUENCE
    order = np.argsort(g[dwarfs])
    return (bp - rp)[dwarfs][order].astype(float), g[dwarfs][order].astype(float), turn_off


def _energy_distance(lists: Sequence[Array]) -> Array:
    """Log energy distance of each list to the pool of all but the first (Szekely & Rizzo 2004)."""

    def scaled(one: Array) -> torch.Tensor:
        step = max(1, len(one) // COMPARED_STARS)
        return torch.from_numpy((one[::step, [1, 0]] / SCALE).astype(np.float32))

    points = [scaled(one)[:COMPARED_STARS] for one in lists]
    pool = torch.cat(points[1:])
    pool = pool[:: max(1, len(pool) // 300)]
    among_pool = torch.cdist(pool, pool).mean()
    distance = [
        float(2 * torch.cdist(one, pool).mean() - torch.cdist(one, one).mean() - among_pool)
        for one in points
    ]
    return np.log(np.maximum(distance, 1e-4))
