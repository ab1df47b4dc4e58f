"""Mass from numbers that sum up a cluster's phase space: ridge regression and boosted trees."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, Literal, Self

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.baselines.distribution_regression import EXTRA, checked_masses
from melotte.baselines.velocity_dispersion import biweight_scale, checked_sets
from melotte.errors import MelotteValueError, require

Array = NDArray[np.float64]

RINGS = ((0.0, 0.25), (0.25, 0.5), (0.5, 0.75), (0.75, 1.0))
"""In apertures."""
LEVELS = (10, 25, 50, 75, 90, 97)
FEWEST = 3
CORE = (500.0, 1000.0)
"""km/s: galaxies slower than these are counted apart; they are members."""

SUMMARIES = (
    "log standard deviation of velocities",
    "log biweight scale of velocities",
    "log median absolute velocity",
    "skewness of velocities, absolute",
    "kurtosis of velocities",
    "share beyond two standard deviations",
    "mean radius",
    "median radius",
    *(f"share of galaxies in ring {i + 1}" for i in range(len(RINGS))),
    *(f"log median speed in ring {i + 1}" for i in range(len(RINGS))),
    *(f"log {level}th percentile of speed" for level in LEVELS),
    "correlation of speed and radius",
)
"""Names of the features that do not tell the number of galaxies, km/s and apertures."""

RICHNESS = (
    "log number of galaxies",
    *(f"log number of galaxies slower than {speed:g} km/s in half the aperture" for speed in CORE),
)


def summary_features(
    velocity: ArrayLike,
    radius: ArrayLike,
    offsets: ArrayLike,
    richness: bool,
    aperture: float = 1.6,
) -> Array:
    """Numbers that sum up each cluster.

    Parameters
    ----------
    velocity, radius : array, shape (n_galaxies,), km/s and Mpc/h
    offsets : array of int, shape (n_clusters + 1,)
    richness : bool
        Whether the number of galaxies is told. It leans on the assumed relation of number and
        mass, so results with and without belong side by side.
    aperture : float, Mpc/h

    Returns
    -------
    array, shape (n_clusters, len(SUMMARIES) [+ len(RICHNESS)])
        NaN for a ring or a cluster without enough galaxies.
    """
    values, starts = checked_sets(velocity, offsets)
    radii, _ = checked_sets(radius, offsets)
    rows = [
        _summaries(values[a:b], radii[a:b] / aperture, richness) if b > a else None
        for a, b in pairwise(starts)
    ]
    width = len(SUMMARIES) + (len(RICHNESS) if richness else 0)
    empty = [np.nan] * width
    return np.array([empty if row is None else row for row in rows]).reshape(-1, width)


def _summaries(velocity: Array, share: Array, richness: bool) -> list[float]:
    offset = velocity - velocity.mean()
    std, speed = float(velocity.std()), np.abs(velocity)
    scaled = offset / std if std > 0 else np.zeros_like(offset)
    rings = [(share >= low) & (share < high) for low, high in RINGS]
    correlated = std > 0 and len(velocity) > 2 and share.std() > 0 and speed.std() > 0
    row = [
        _log(std),
        _log(biweight_scale(velocity)),
        _log(float(np.median(speed))),
        abs(float((scaled**3).mean())),
        float((scaled**4).mean()) - 3,
        float((np.abs(scaled) > 2).mean()),
        float(share.mean()),
        float(np.median(share)),
        *(float(ring.mean()) for ring in rings),
        *(_log(float(np.median(speed[r]))) if r.sum() >= FEWEST else np.nan for r in rings),
        *(_log(float(level)) for level in np.percentile(speed, LEVELS)),
        float(np.corrcoef(speed, share)[0, 1]) if correlated else 0.0,
    ]
    if richness:
        row.append(_log(len(velocity)))
        row += [float(np.log10(1 + ((speed < slow) & (share < 0.5)).sum())) for slow in CORE]
    return row


def _log(value: float) -> float:
    return float(np.log10(value)) if value > 0 else np.nan


class SummaryRegressor:
    """Mass by regression on :func:`summary_features`.

    Parameters
    ----------
    method : {"ridge", "boosting"}
        Ridge on features and their products, penalty by leave-one-out; or gradient-boosted trees.
    richness : bool
    aperture : float, Mpc/h
    seed : int
        Of the trees.
    """

    def __init__(
        self,
        method: Literal["ridge", "boosting"] = "boosting",
        richness: bool = False,
        aperture: float = 1.6,
        seed: int = 0,
    ) -> None:
        if method not in ("ridge", "boosting"):
            raise MelotteValueError(f"method {method!r} is neither ridge nor boosting")
        self.method = method
        self.richness = richness
        self.aperture = aperture
        self.seed = seed
        self._model: Any = None

    def fit(
        self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike, log_mass: ArrayLike
    ) -> Self:
        """Learn from clusters of known mass.

        Parameters
        ----------
        velocity, radius : array, shape (n_galaxies,), km/s and Mpc/h
        offsets : array of int, shape (n_clusters + 1,)
        log_mass : array, shape (n_clusters,), log10(M200c/(Msun/h))

        Raises
        ------
        MelotteValueError
            When shapes do not fit.
        MissingExtraError
            When scikit-learn is not installed.
        """
        given = summary_features(velocity, radius, offsets, self.richness, self.aperture)
        mass = checked_masses(log_mass, len(given))
        self._model = self._pipeline().fit(given, mass)
        return self

    def predict(self, velocity: ArrayLike, radius: ArrayLike, offsets: ArrayLike) -> Array:
        """log10(M200c/(Msun/h)), shape (n_clusters,)."""
        if self._model is None:
            raise MelotteValueError("fit the regressor before it predicts")
        given = summary_features(velocity, radius, offsets, self.richness, self.aperture)
        return np.asarray(self._model.predict(given), dtype=float)

    def _pipeline(self) -> Any:
        if self.method == "boosting":
            ensemble: Any = require("sklearn.ensemble", EXTRA)
            return ensemble.HistGradientBoostingRegressor(
                max_iter=300, learning_rate=0.04, l2_regularization=1.0, random_state=self.seed
            )
        linear: Any = require("sklearn.linear_model", EXTRA)
        pipeline: Any = require("sklearn.pipeline", EXTRA)
        impute: Any = require("sklearn.impute", EXTRA)
        scaling: Any = require("sklearn.preprocessing", EXTRA)
        return pipeline.make_pipeline(
            impute.SimpleImputer(keep_empty_features=True),
            scaling.StandardScaler(),
            scaling.PolynomialFeatures(2, include_bias=False),
            scaling.StandardScaler(),
            linear.RidgeCV(alphas=np.geomspace(1, 1e4, 13)),
        )
