"""Where the stars of a cluster lie in its colour-magnitude diagram: sequences of isochrones.

For every posterior sample: the sequence of single stars, those of binaries of given mass ratio,
the turn-off and the zero-age main sequence above it, all as apparent BP-RP and G.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import Isochrone, StellarGrid
from melotte.sky.populations import combine_magnitudes
from melotte.telescope.gaia import GaiaRelease

Array = NDArray[np.float64]

POINTS = 70
"""Points of a sequence, evenly spaced along it."""
STEP = (0.1, 0.3)
"""BP-RP and G, mag, that count as equal lengths along a sequence."""
RATIOS = np.linspace(0.1, 1.0, 10)
"""Mass ratios of the binary sequences."""
COOL_COLOUR = 1.3
"""Intrinsic BP-RP redder than which the models' colours are in doubt, as in the mocks."""
COLOUR_EXCESS = 0.42
"""E(BP-RP) / A_V of a typical star, as in the mocks; G_EXCESS is A_G / A_V."""
G_EXCESS = 0.83
YOUNGER = 1.5
"""The zero-age main sequence is the main sequence of an isochrone younger by this, dex."""
MAIN_SEQUENCE, THERMAL_PULSES = 0, 5


@dataclass(frozen=True)
class Sequences:
    """Sequences of S samples, P points each; K mass ratios (``RATIOS``), the last one 1.

    Parameters
    ----------
    mass : array, shape (S, P), Msun
        Initial mass of the single star, or of the primary.
    points : array, shape (S, 1 + K, P, 2), mag
        Apparent (BP-RP, G): single stars first, then binaries.
    cool : array, shape (S, 1 + K, P), mag
        Intrinsic colour in excess of ``COOL_COLOUR``, within [0, 2].
    share : array, shape (S, P - 1)
        Part of the visible stars born between two points (Kroupa 2001); sums to 1.
    turn_off : array, shape (S, 2), mag
        The bluest point of the main sequence above half its heaviest mass.
    zero_age : list of array, shape (n, 2), mag
        Zero-age main sequence, rising in G; one a sample.
    log_age : array, shape (S,)
    """

    mass: Array
    points: Array
    cool: Array
    share: Array
    turn_off: Array
    zero_age: list[Array]
    log_age: Array

    def __len__(self) -> int:
        return len(self.mass)

    def select(self, chosen: NDArray[np.int64] | slice) -> Sequences:
        """Sequences of some of the samples."""
        return Sequences(
            self.mass[chosen],
            self.points[chosen],
            self.cool[chosen],
            self.share[chosen],
            self.turn_off[chosen],
            [self.zero_age[i] for i in np.arange(len(self))[chosen]],
            self.log_age[chosen],
        )

    def shifted(self, shift: Array) -> Array:
        """Points moved by (colour offset, magnitude offset, slope of cool stars), (S, 3)."""
        moved = self.points.copy()
        moved[..., 0] += shift[:, None, None, 0] + shift[:, None, None, 2] * self.cool
        moved[..., 1] += shift[:, None, None, 1]
        return moved


def cluster_sequences(
    grid: StellarGrid, samples: Array, release: GaiaRelease, faintest: float
) -> Sequences:
    """Sequences of posterior samples.

    Parameters
    ----------
    grid : StellarGrid, on the CPU
    samples : array, shape (S, 4)
        (log_age, extinction_v / mag, distance / kpc, metallicity).
    release : GaiaRelease
    faintest : float, mag
        Faintest apparent G that matters.

    Returns
    -------
    Sequences
    """
    imf, bands = Kroupa2001(0.1, 150.0), list(release.bands)
    singles, masses, zero_ages, turn_offs = [], [], [], []
    for one in samples:
        log_age, dust, distance, metallicity = (float(value) for value in one)
        modulus = 5 * np.log10(distance) + 10
        isochrone = grid.isochrone(log_age, metallicity)
        place = _place(isochrone, bands, dust, modulus)
        main = isochrone.phase == MAIN_SEQUENCE
        turn_offs.append(_turn_off(place, isochrone.initial_mass, main))
        young = grid.isochrone(max(log_age - YOUNGER, grid.log_age_range[0] + 0.5), metallicity)
        dwarfs = (young.phase == MAIN_SEQUENCE) & (young.initial_mass > 0.3)
        line = _place(young, bands, dust, modulus)[dwarfs]
        zero_ages.append(line[np.argsort(line[:, 1])])
        kept = isochrone.phase != THERMAL_PULSES
        path, mass = place[kept], isochrone.initial_mass[kept]
        seen = path[:, 1] < faintest
        # One point beyond the limit keeps the sequence whole there; none seen keeps it all.
        first = max(int(np.argmax(seen)) - 1, 0) if seen.any() else 0
        singles.append(_evenly(path[first:], mass[first:]))
        masses.append(singles[-1][1])
    mass = np.stack(masses)
    single = np.stack([path for path, _ in singles])
    edges = imf.cdf(torch.from_numpy(mass)).numpy()
    share = np.diff(edges, axis=1).clip(min=0) + 1e-9
    points = np.concatenate(
        [single[:, None], _binaries(grid, samples, mass, bands)],
        axis=1,
    )
    cool = points[..., 0] - COLOUR_EXCESS * samples[:, None, None, 1] - COOL_COLOUR
    return Sequences(
        mass=mass,
        points=points,
        cool=cool.clip(0, 2),
        share=share / share.sum(1, keepdims=True),
        turn_off=np.stack(turn_offs),
        zero_age=zero_ages,
        log_age=samples[:, 0].astype(float),
    )


def _place(isochrone: Isochrone, bands: Sequence[str], dust: float, modulus: float) -> Array:
    """Apparent (BP-RP, G) of the points of an isochrone, (n, 2)."""
    g, bp, rp = isochrone.magnitudes(bands, extinction_v=dust).T.astype(float)
    return np.stack([bp - rp, g + modulus], -1)


def _turn_off(place: Array, mass: Array, main: NDArray[np.bool_]) -> Array:
    """Bluest point of the upper main sequence; of the whole where none is on it."""
    upper = main & (mass > 0.5 * mass[main].max()) if main.any() else np.ones(len(mass), bool)
    return place[upper][np.argmin(place[upper, 0])]


def _evenly(path: Array, mass: Array) -> tuple[Array, Array]:
    """POINTS points of a path and their masses, evenly spaced along it."""
    if len(path) < 2:
        path, mass = np.repeat(path, 2, axis=0), np.repeat(mass, 2)
    step = np.hypot(*(np.diff(path, axis=0) / STEP).T) + 1e-9
    length = np.concatenate([[0], np.cumsum(step)])
    even = np.linspace(0, length[-1], POINTS)
    columns = [np.interp(even, length, path[:, axis]) for axis in (0, 1)]
    return np.stack(columns, -1), np.interp(even, length, mass)


def _binaries(grid: StellarGrid, samples: Array, mass: Array, bands: list[str]) -> Array:
    """Apparent (BP-RP, G) of binaries, shape (S, K, P, 2), of primaries of given masses."""
    n, n_points = mass.shape
    theta = torch.from_numpy(np.asarray(samples, dtype=float))
    log_age, dust, distance, metallicity = theta.split(1, dim=1)
    ratios = np.concatenate([[1.0], RATIOS])
    every = torch.from_numpy((ratios[None, :, None] * mass[:, None]).reshape(n, -1))
    stars = grid.evolve(every, log_age, metallicity)
    light = grid.magnitudes(stars, dust, bands, metallicity)
    light = light.reshape(n, len(ratios), n_points, 3)
    both = combine_magnitudes(light[:, :1], light[:, 1:]).numpy()
    g, bp, rp = (both[..., i] for i in range(3))
    modulus = (5 * torch.log10(distance) + 10).numpy()[:, :, None]
    return np.stack([bp - rp, g + modulus], -1)
