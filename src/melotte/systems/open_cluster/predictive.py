"""Does the fit look like the data? Lists replicated from the posterior against the real one.

Posterior samples are observed anew with the simulator (as many stars, the same release and faint
limit, nuisances from their prior), every list is reduced to a few statistics that a bad fit moves,
and the real list's place among the replicates gives p-values (posterior predictive checks: Gelman,
Meng & Stern 1996, Statistica Sinica 6, 733).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.ragged import Ragged
from melotte.systems.open_cluster.predictive_statistics import STATISTICS, list_statistics
from melotte.systems.open_cluster.simulator import RELEASE_NAMES, ClusterSimulator
from melotte.telescope.gaia import gaia_release

Array = NDArray[np.float64]

REPLICATES = 300
LIMIT_SLACK = 0.15
"""A usual magnitude limit less than this fainter than the faintest star is taken as the limit."""
ONE_SIDED = ("distribution",)
"""Statistics of which only large values speak against the fit."""
LEAST_SPREAD = 0.5
"""Standard deviation, in counts' square roots, below which that of a fraction is not believed."""


@dataclass(frozen=True)
class PredictiveCheck:
    """How a list compares with its replicates.

    Parameters
    ----------
    p : float, in (0, 1]
        Share of replicates whose most deviant statistic deviates at least as much; its smallest
        value is 1 over the number of replicates plus one.
    worst : str
        The most deviant statistic.
    p_values : dict of str to float
        Of each statistic, two-sided but for ``distribution``.
    deviations : dict of str to float
        Of each statistic from the replicates' mean, in their standard deviations.
    """

    p: float
    worst: str
    p_values: dict[str, float]
    deviations: dict[str, float]


def faint_limit(g: Array, usual: tuple[float, ...]) -> float:
    """The magnitude limit of a list: a usual one just below its faintest star, or that star.

    Parameters
    ----------
    g : array, shape (n_stars,), mag
    usual : tuple of float, mag
    """
    faintest = float(np.max(g))
    near = [limit for limit in usual if 0 <= limit - faintest < LIMIT_SLACK]
    # The mean step between faint stars is the best guess of how far beyond the last the limit is.
    step = (faintest - float(np.median(g))) / max(len(g) / 2, 1)
    return min(near) if near else faintest + min(step, 0.3)


def replicate(
    simulator: ClusterSimulator,
    samples: Array,
    n_stars: int,
    release: str,
    limit: float,
    generator: torch.Generator,
    n: int = REPLICATES,
) -> Ragged:
    """Lists of clusters with the parameters of posterior samples.

    Parameters
    ----------
    simulator : ClusterSimulator, on the CPU
    samples : array, shape (n_samples, 4)
        Used in turn.
    n_stars : int
    release : str
    limit : float, mag
    generator : torch.Generator
    n : int
        Lists to make.

    Returns
    -------
    Ragged, values of shape (n_rows, 7)
        A list is shorter than ``n_stars`` where the cluster shows fewer.
    """
    theta = torch.from_numpy(np.asarray(samples, dtype=np.float32))
    theta = theta[torch.arange(n) % len(theta)]
    number = RELEASE_NAMES.index(gaia_release(release).name)
    clusters = simulator.clusters_of(
        theta,
        torch.full((n,), number),
        torch.full((n,), limit),
        torch.full((n,), float(n_stars)),
        generator,
    )
    return simulator.observe(clusters, generator)[0]


def check_list(
    simulator: ClusterSimulator,
    stars: Array,
    samples: Array,
    release: str,
    generator: torch.Generator,
    n: int = REPLICATES,
) -> PredictiveCheck:
    """Compare a list with lists replicated from its posterior.

    Parameters
    ----------
    simulator : ClusterSimulator, on the CPU
    stars : array, shape (n_stars, 7), columns of the simulator
        A list longer than the simulator makes is sampled down.
    samples : array, shape (n_samples, 4), of the posterior
    release : str
    generator : torch.Generator
    n : int
        Replicates.

    Returns
    -------
    PredictiveCheck
    """
    most = simulator.settings.max_stars
    stars = np.asarray(stars, dtype=float)
    limit = faint_limit(stars[:, 0], simulator.settings.magnitude_limits)
    if len(stars) > most:
        stars = stars[torch.randperm(len(stars), generator=generator)[:most].numpy()]
    made = replicate(simulator, samples, len(stars), release, limit, generator, n)
    lists = [stars, *(made[i].numpy().astype(float) for i in range(n) if len(made[i]))]
    table = list_statistics(lists, np.median(samples, axis=0), release, simulator.grid)
    return judge(table[0], table[1:])


def judge(observed: Array, replicated: Array) -> PredictiveCheck:
    """Place a row of statistics among those of replicates.

    Parameters
    ----------
    observed : array, shape (n_statistics,)
    replicated : array, shape (n_replicates, n_statistics)
        NaN where a list has no stars to tell; such entries do not count.

    Returns
    -------
    PredictiveCheck
    """
    # The real list counts among its replicates: under the fit they are then exchangeable, and the
    # overall p-value exact.
    every = np.concatenate([observed[None], replicated])
    known = np.isfinite(every)
    n_known = np.maximum(known.sum(0), 1)
    centre = np.where(known, every, 0).sum(0) / n_known
    spread = np.sqrt((np.where(known, every - centre, 0) ** 2).sum(0) / n_known)
    least = np.array([LEAST_SPREAD if one.counts else 1e-6 for one in STATISTICS])
    spread = np.maximum(spread, least)
    signed = np.array([one.name in ONE_SIDED for one in STATISTICS])

    def deviant(values: Array) -> Array:
        deviation = np.nan_to_num((values - centre) / spread)
        return np.where(signed, deviation, np.abs(deviation))

    ours, theirs = deviant(observed), deviant(replicated)
    n = len(replicated)
    single = (1 + (theirs >= ours).sum(0)) / (n + 1)
    overall = (1 + int((theirs.max(1) >= ours.max()).sum())) / (n + 1)
    deviation = np.nan_to_num((observed - centre) / spread)
    names = [one.name for one in STATISTICS]
    return PredictiveCheck(
        p=float(overall),
        worst=names[int(ours.argmax())],
        p_values=dict(zip(names, single.tolist(), strict=True)),
        deviations=dict(zip(names, deviation.tolist(), strict=True)),
    )
