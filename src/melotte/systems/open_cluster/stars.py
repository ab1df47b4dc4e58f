"""Single stars, binaries and blue stragglers of a cluster: a mixture in the colour-magnitude plane.

Every star is a draw from one of four components, for each posterior sample of the cluster:

* the sequence of single stars;
* unresolved binaries, mass ratios q flat from 0.1 to 1 (the mixture of Li et al. 2020);
* blue stragglers: bluer than the turn-off and up to 3 mag brighter, redder than the zero-age main
  sequence, in clusters older than 300 Myr (Rain et al. 2021; Jadhav & Subramaniam 2021);
* anything else, uniform over the diagram.

A star counts as a *binary* for q >= 0.6 (Donada et al. 2023; Jadhav et al. 2021): a fainter
companion cannot be told from none and counts with the single stars. Shares of the components,
offsets of the models in colour and magnitude (with the priors of the mocks) and the scatter by
differential reddening are fitted to the members, weighted by membership.

References
----------
Li, Shao, Li et al. 2020, ApJ 901, 49. Donada et al. 2023, A&A 675, A89. Jadhav, Roy, Joshi &
Subramaniam 2021, AJ 162, 264. Rain, Ahumada & Carraro 2021, A&A 650, A67. Jadhav & Subramaniam
2021, MNRAS 507, 1699.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from melotte.sky.isochrones import StellarGrid
from melotte.systems.open_cluster.mixture import Fit, Mixture
from melotte.systems.open_cluster.sequences import Sequences, cluster_sequences
from melotte.systems.open_cluster.settings import DataSettings
from melotte.telescope.gaia import gaia_release

Array = NDArray[np.float64]
Integers = NDArray[np.int64]

CLASSES = ("single", "binary", "blue_straggler", "off_sequence")
BINARY_RATIO = 0.6
N_SAMPLES = 32
LEAST_PROBABILITY = 0.1
"""Of being a binary, below which no mass ratio is given."""


@dataclass(frozen=True)
class ClassifiedStars:
    """What the diagram says of every star; arrays of shape (n_stars,), NaN where nothing.

    Parameters
    ----------
    probability : array, shape (n_stars, 4)
        Of the ``CLASSES``; rows sum to 1.
    mass, mass_error : Msun
        Initial mass of the single star nearest in the diagram; scatter over samples and errors.
    primary_mass, primary_mass_error : Msun
        Initial mass of the brighter star, companions of any q allowed; NaN off the sequences.
    mass_ratio, mass_ratio_error : in [0.1, 1]
        Given that there is a companion; NaN where a binary is improbable (below 0.1).
    single_distance, binary_distance : in errors
        From the sequences of single stars and of equal-mass binaries; positive on the bright and
        red side.
    membership : in [0, 1]
        As listed; 1 where the list has none.
    shift : array, shape (3,)
        Fitted offsets: colour and magnitude, mag, and the slope of cool stars.
    reddening_scatter : float, mag
        Star-to-star standard deviation of A_V that fits best.
    share : array, shape (4,)
        Shares of the components in the cluster: single, binaries of any q, stragglers, others.
    """

    probability: Array
    mass: Array
    mass_error: Array
    primary_mass: Array
    primary_mass_error: Array
    mass_ratio: Array
    mass_ratio_error: Array
    single_distance: Array
    binary_distance: Array
    membership: Array
    shift: Array
    reddening_scatter: float
    share: Array

    @property
    def kind(self) -> Integers:
        """The most probable of ``CLASSES`` by number."""
        return self.probability.argmax(1)


def classify_stars(
    stars: Array, samples: Array, release: str, settings: DataSettings, grid: StellarGrid
) -> ClassifiedStars:
    """Probabilities, masses and mass ratios of the stars of a cluster.

    Parameters
    ----------
    stars : array, shape (n_stars, 7), columns of the simulator
        NaN errors are replaced by the release's medians, NaN membership by 1.
    samples : array, shape (n_samples, 4)
        Posterior samples; evenly spaced ones are taken when more than ``N_SAMPLES``.
    release : str
    settings : DataSettings
        Gives the priors of the offsets, which are also the floor of the errors.
    grid : StellarGrid, on the CPU

    Returns
    -------
    ClassifiedStars
    """
    chosen = np.linspace(0, len(samples) - 1, min(len(samples), N_SAMPLES)).round().astype(int)
    samples = np.asarray(samples, dtype=float)[chosen]
    stars = np.asarray(stars, dtype=float)
    known = gaia_release(release)
    sequences = cluster_sequences(grid, samples, known, float(stars[:, 0].max()) + 0.8)
    mixture = Mixture(stars, sequences, settings, release, BINARY_RATIO)
    fit = mixture.fit()
    return _summary(stars, sequences, mixture, fit)


def _summary(stars: Array, sequences: Sequences, mixture: Mixture, fit: Fit) -> ClassifiedStars:
    """Sum a fit over its samples and measure distances from the sequences."""
    weight = fit.weight

    def mean(values: Array) -> Array:
        return np.einsum("s,s...->...", weight, values)

    component = mean(fit.component)
    heavy = mean(fit.heavy)
    probability = np.stack(
        [component[:, 0] + component[:, 1] - heavy, heavy, component[:, 2], component[:, 3]], -1
    ).clip(0, 1)
    probability /= probability.sum(1, keepdims=True)
    on_sequence = component[:, 0] + component[:, 1]
    primary, primary_error = _moments(on_sequence, mean(fit.primary), mean(fit.primary_square))
    ratio, ratio_error = _moments(component[:, 1], mean(fit.ratio), mean(fit.ratio_square))
    improbable = probability[:, 1] < LEAST_PROBABILITY
    astray = on_sequence < 0.5
    single, mass = _distances(sequences, mixture, fit.shift, 0)
    binary, _ = _distances(sequences, mixture, fit.shift, sequences.points.shape[1] - 1)
    mean_mass = mean(mass)
    return ClassifiedStars(
        probability=probability,
        mass=mean_mass,
        mass_error=np.sqrt(np.maximum(mean(mass**2) - mean_mass**2, 0)),
        primary_mass=np.where(astray, np.nan, primary),
        primary_mass_error=np.where(astray, np.nan, primary_error),
        mass_ratio=np.where(improbable, np.nan, ratio),
        mass_ratio_error=np.where(improbable, np.nan, ratio_error),
        single_distance=mean(single),
        binary_distance=mean(binary),
        membership=mixture.membership,
        shift=mean(fit.shift),
        reddening_scatter=mixture.scatter,
        share=mean(fit.share),
    )


def _moments(total: Array, first: Array, second: Array) -> tuple[Array, Array]:
    """Mean and standard deviation from sums of 1, x and x^2."""
    total = np.maximum(total, 1e-12)
    average = first / total
    return average, np.sqrt(np.maximum(second / total - average**2, 0))


def _distances(
    sequences: Sequences, mixture: Mixture, shift: Array, curve: int
) -> tuple[Array, Array]:
    """Signed distance in errors of stars from a curve, and the mass at its foot, (S, n_stars)."""
    w00, w10, w11, _ = mixture.whitening()
    points = sequences.shifted(shift)[:, curve]
    star = mixture.place
    distances, masses = [], []
    for line, mass in zip(points, sequences.mass, strict=True):
        start, edge = line[:-1], np.diff(line, axis=0)
        gx, gy = star[:, None, 0] - start[:, 0], star[:, None, 1] - start[:, 1]
        sx, sy = w00[:, None] * gx, w10[:, None] * gx + w11[:, None] * gy
        ex = w00[:, None] * edge[:, 0]
        ey = w10[:, None] * edge[:, 0] + w11[:, None] * edge[:, 1]
        along = np.clip((sx * ex + sy * ey) / np.maximum(ex**2 + ey**2, 1e-12), 0, 1)
        square = (sx - along * ex) ** 2 + (sy - along * ey) ** 2
        best = square.argmin(1)
        rows = np.arange(len(star))
        foot = along[rows, best]
        # Bright and red of the line: to the right of it, seen towards the bright side.
        miss = star - start[best] - foot[:, None] * edge[best]
        side = np.where(miss[:, 0] / 0.1 - miss[:, 1] / 0.3 >= 0, 1.0, -1.0)
        distances.append(side * np.sqrt(square[rows, best]))
        masses.append(mass[best] + foot * (mass[best + 1] - mass[best]))
    return np.stack(distances), np.stack(masses)
