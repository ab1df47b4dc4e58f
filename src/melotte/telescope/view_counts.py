"""How often each cluster of a simulation is looked at, so that its masses are as they should be."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError

Array = NDArray[np.float64]

FLAT_DENSITY = 10**-5.2
"""Clusters per dex of mass and (Mpc/h)^3 in the flat training sample of Ho et al. 2019."""


def views_for_flat_masses(
    log_mass: Array,
    volume: float,
    generator: np.random.Generator,
    density: float = FLAT_DENSITY,
    most: int = 100,
    width: float = 0.1,
) -> NDArray[np.int64]:
    """Lines of sight of each cluster that make their numbers flat in log mass.

    Rare clusters are seen along several, common ones are drawn from.

    Parameters
    ----------
    log_mass : array, shape (n_clusters,)
    volume : float, (Mpc/h)^3
        Of the box.
    generator : numpy Generator
    density : float, 1/(Mpc/h)^3/dex
        Wanted; 10^-5.2 in Ho et al. 2019.
    most : int
        Largest number of views of one cluster.
    width : float, dex
        Bins in which clusters are counted.

    Returns
    -------
    array of int64, shape (n_clusters,)
        Whose mean in a bin is the wanted number over the clusters in it.
    """
    if not len(log_mass):
        return np.zeros(0, dtype=np.int64)
    number = np.floor((log_mass - log_mass.min()) / width).astype(np.int64)
    natural = np.bincount(number)[number]
    wanted = np.minimum(density * volume * width / natural, most)
    whole = np.floor(wanted)
    return (whole + (generator.random(len(log_mass)) < wanted - whole)).astype(np.int64)


def view_weights(
    log_mass: Array, n: int, flat: bool = True, most: float = 100.0, width: float = 0.1
) -> Array:
    """Chance with which each of ``n`` lines of sight goes to each cluster.

    Parameters
    ----------
    log_mass : array, shape (n_clusters,)
    n : int
        Lines of sight.
    flat : bool
        Every bin of log mass that holds a cluster gets the same share, so that rare clusters are
        looked at more often; else every cluster gets the same, and masses stay as they are.
    most : float
        Largest mean number of views of one cluster. What a bin cannot take goes to the others.
    width : float, dex
        Of a bin.

    Returns
    -------
    array, shape (n_clusters,)
        Of sum 1.

    Raises
    ------
    MelotteValueError
        When there are too few clusters for ``n`` lines of sight.
    """
    if n > most * len(log_mass):
        raise MelotteValueError(
            f"{n} lines of sight to {len(log_mass)} clusters are more than {most:g} of each; "
            "ask for fewer, or allow more views of a cluster"
        )
    share = np.ones(len(log_mass))
    if flat:
        number = np.floor((log_mass - log_mass.min()) / width).astype(np.int64)
        share /= np.bincount(number)[number]
    views = np.zeros(len(log_mass))
    free = np.ones(len(log_mass), dtype=bool)
    # Clusters whose share is more than they may take get the most; the rest share what is left.
    while free.any():
        views[free] = (n - most * (~free).sum()) * share[free] / share[free].sum()
        full = free & (views > most)
        if not full.any():
            break
        views[full] = most
        free &= ~full
    return views / views.sum()


def sightlines(views: Sequence[int] | NDArray[np.int64]) -> NDArray[np.int64]:
    """Number of the cluster of each line of sight, from the views of each cluster."""
    return np.repeat(np.arange(len(views)), views).astype(np.int64)
