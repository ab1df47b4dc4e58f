"""Two peaks in a cluster's velocities: the mark of a merger along the line of sight."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

FEWEST_GALAXIES = 20
FEWEST_APART = 8
LOWEST_PEAK = 0.35
DEEPEST_VALLEY = 0.7
SMALLEST_SEPARATION = 600.0
GRID_STEP = 25.0


def has_two_peaks(velocity: NDArray[np.float64]) -> bool:
    """Whether the distribution of velocities has two separate, populated peaks.

    A Gaussian kernel density (bandwidth by Silverman 1986, from the 16-84 % range) is searched for
    a second peak of at least :data:`LOWEST_PEAK` of the first, :data:`SMALLEST_SEPARATION` km/s
    away, with a valley of at most :data:`DEEPEST_VALLEY` of the lower peak between them and
    :data:`FEWEST_APART` galaxies on its far side.

    Parameters
    ----------
    velocity : array, shape (n_galaxies,), km/s

    Returns
    -------
    bool
        False for fewer than :data:`FEWEST_GALAXIES` galaxies.
    """
    velocity = np.asarray(velocity, dtype=float)
    n = len(velocity)
    if n < FEWEST_GALAXIES:
        return False
    low, high = np.quantile(velocity, [0.16, 0.84])
    bandwidth = max(0.9 * (high - low) / 2 * n**-0.2, 50.0)
    grid = np.arange(velocity.min() - bandwidth, velocity.max() + bandwidth, GRID_STEP)
    density = np.exp(-0.5 * ((grid[:, None] - velocity) / bandwidth) ** 2).sum(1)
    inner = (density[1:-1] > density[:-2]) & (density[1:-1] >= density[2:])
    peaks = np.flatnonzero(inner) + 1
    if len(peaks) < 2:
        return False
    highest = peaks[np.argmax(density[peaks])]
    for peak in peaks:
        if abs(grid[peak] - grid[highest]) < SMALLEST_SEPARATION:
            continue
        first, last = sorted((peak, highest))
        valley = first + int(np.argmin(density[first : last + 1]))
        beyond = velocity > grid[valley] if peak > highest else velocity < grid[valley]
        if (
            density[peak] >= LOWEST_PEAK * density[highest]
            and density[valley] <= DEEPEST_VALLEY * density[peak]
            and beyond.sum() >= FEWEST_APART
        ):
            return True
    return False
