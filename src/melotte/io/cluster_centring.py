"""Where a cluster is, in redshift and on the sky, told from its galaxies."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from melotte.io.projected_distances import SPEED_OF_LIGHT, cluster_frame

Array = NDArray[np.float64]
VelocityCentre = Literal["given", "median", "biweight"]

TUNING = 6.0
"""Median absolute deviations at which the biweight location stops counting a value."""

CONVERGED = 0.5
"""km/s: smaller steps of the velocity centre end the rounds."""

MOST_ROUNDS = 30


def biweight_location(values: Array) -> float:
    """Biweight estimate of location, from the median in one step.

    Parameters
    ----------
    values : array, shape (n,)

    Returns
    -------
    float
        The median where half of the values are alike; NaN without values.

    References
    ----------
    Beers, Flynn & Gebhardt 1990, AJ 100, 32, Eq. 5, tuning constant 6.
    """
    if not len(values):
        return np.nan
    median = float(np.median(values))
    spread = float(np.median(np.abs(values - median)))
    if spread == 0:
        return median
    u = (values - median) / (TUNING * spread)
    weight = np.where(np.abs(u) < 1, (1 - u**2) ** 2, 0.0)
    return median + float((weight * (values - median)).sum() / weight.sum())


def densest_redshift(redshift: Array, velocity_cut: float) -> float:
    """Middle of the window of +-velocity_cut km/s that holds most galaxies.

    Parameters
    ----------
    redshift : array, shape (n,), n >= 1
    velocity_cut : float, km/s
    """
    ordered = np.sort(redshift)
    width = 2 * velocity_cut / SPEED_OF_LIGHT * (1 + ordered)
    last = np.searchsorted(ordered, ordered + width, side="right")
    first = int(np.argmax(last - np.arange(len(ordered))))
    return float(np.median(ordered[first : last[first]]))


def densest_direction(vectors: Array, weight: Array, radius: float) -> Array:
    """Direction on the sky about which galaxies crowd most: the peak, then its mean shift.

    Parameters
    ----------
    vectors : array, shape (n, 3), n >= 1
        Unit vectors.
    weight : array, shape (n,)
    radius : float, radian
        Size of the crowd.

    Returns
    -------
    array, shape (3,), a unit vector
    """
    from scipy.spatial import KDTree

    tree = KDTree(vectors)
    chord = 2 * np.sin(min(radius, np.pi) / 2)
    near = tree.query_ball_point(vectors, chord)
    crowd = np.array([weight[members].sum() for members in near])
    centre = vectors[int(np.argmax(crowd))]
    for _ in range(MOST_ROUNDS):
        members = tree.query_ball_point(centre, chord)
        if not members:
            break
        mean = (weight[members, None] * vectors[members]).sum(0)
        shifted = mean / np.linalg.norm(mean)
        step = float(np.linalg.norm(shifted - centre))
        centre = shifted
        if step < 1e-3 * chord:
            break
    return centre


def central_redshift(
    redshift: Array, start: float, inside: NDArray[np.bool_], velocity_cut: float, how: str
) -> float:
    """Redshift from which velocities of the galaxies in the cylinder have their centre at zero.

    Parameters
    ----------
    redshift : array, shape (n,)
    start : float
        First guess.
    inside : array of bool, shape (n,)
        Galaxies within the aperture.
    velocity_cut : float, km/s
        Galaxies farther than this from the centre do not count; the rounds move it with them.
    how : {"median", "biweight"}

    Returns
    -------
    float
        The start where no galaxy is inside.
    """
    centre = start
    for _ in range(MOST_ROUNDS):
        velocity = cluster_frame(redshift, centre)
        used = velocity[inside & (np.abs(velocity) < velocity_cut)]
        if not len(used):
            return centre
        shift = float(np.median(used)) if how == "median" else biweight_location(used)
        centre += (1 + centre) * shift / SPEED_OF_LIGHT
        if abs(shift) < CONVERGED:
            break
    return centre
