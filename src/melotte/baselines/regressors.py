"""Regressors on features of member lists: what networks that read stars are measured against.

Targets are log_age, extinction_v (mag) and distance (kpc), in this order; the regressors learn
log10 of the distance. Settings were chosen by four-fold cross-validation within the training
folds of one split of real clusters, and are fixed here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from melotte.baselines.member_features import SMALLEST_PARALLAX
from melotte.errors import MelotteValueError, require

Array = NDArray[np.float64]

TARGETS = ("log_age", "extinction_v", "distance")
EXTRA = "baselines"


class Regressor(Protocol):
    """Learns targets from features."""

    def fit(self, features: Array, targets: Array) -> Self:
        """Learn from features (n, n_features), NaN allowed, and targets (n, 3)."""
        ...

    def predict(self, features: Array) -> Array:
        """Targets (n, 3) of features (n, n_features)."""
        ...


class ParallaxAlone:
    """Distance from the mean parallax; age and extinction are the training set's means.

    What is learned: one offset of the parallax a release, the median over its training lists of
    inverse distance less parallax, so that the distances are on the labels' scale.

    Parameters
    ----------
    column : int
        The column of the features that holds the mean parallax, mas.
    release_column : int
        The column that is 1 for lists of DR2.
    """

    def __init__(self, column: int, release_column: int) -> None:
        self.column = column
        self.release_column = release_column
        self._mean: Array | None = None
        self._offset = np.zeros(2)

    def fit(self, features: Array, targets: Array) -> Self:
        """Take the mean of the targets and the offset of each release; 0 for one without lists."""
        given, learned = checked(features, targets)
        self._mean = learned.mean(0)
        difference = 10 ** -learned[:, 2] - given[:, self.column]
        for release in (0, 1):
            own = difference[(given[:, self.release_column] == release) & np.isfinite(difference)]
            self._offset[release] = np.median(own) if len(own) else 0.0
        return self

    def predict(self, features: Array) -> Array:
        """Targets (n, 3); the mean distance (of logarithms) for a list without a parallax."""
        if self._mean is None:
            raise MelotteValueError("fit the regressor before it predicts")
        given = np.asarray(features, dtype=float)
        parallax = given[:, self.column]
        parallax = parallax + self._offset[(given[:, self.release_column] > 0.5).astype(int)]
        targets = from_learned(np.tile(self._mean, (len(parallax), 1)))
        distance = 1 / np.maximum(parallax, SMALLEST_PARALLAX)
        targets[:, 2] = np.where(np.isfinite(parallax), distance, targets[:, 2])
        return targets


class Boosting:
    """Gradient-boosted trees, one sequence of trees a target, each tree on half of the examples.

    Parameters
    ----------
    seed : int
    n_trees : int
    """

    def __init__(self, seed: int = 0, n_trees: int = 500) -> None:
        self.seed = seed
        self.n_trees = n_trees
        self._models: list[Any] = []

    def fit(self, features: Array, targets: Array) -> Self:
        """Learn every target on its own."""
        ensemble: Any = require("sklearn.ensemble", EXTRA)
        pipeline: Any = require("sklearn.pipeline", EXTRA)
        given, learned = checked(features, targets)
        self._models = [
            pipeline.make_pipeline(
                _imputer(),
                ensemble.GradientBoostingRegressor(
                    n_estimators=self.n_trees,
                    learning_rate=0.04,
                    max_depth=5,
                    subsample=0.5,
                    max_features=0.15,
                    min_samples_leaf=5,
                    random_state=self.seed,
                ),
            ).fit(given, column)
            for column in learned.T
        ]
        return self

    def predict(self, features: Array) -> Array:
        """Targets (n, 3)."""
        if not self._models:
            raise MelotteValueError("fit the regressor before it predicts")
        given = np.asarray(features, dtype=float)
        return from_learned(np.stack([model.predict(given) for model in self._models], axis=1))


class NetworkEnsemble:
    """Mean of small networks on normalised principal components of the features.

    Parameters
    ----------
    seed : int
    n_networks : int
    n_components : int
        Fewer where there are fewer examples or features.
    n_epochs : int
    """

    def __init__(
        self, seed: int = 0, n_networks: int = 5, n_components: int = 150, n_epochs: int = 150
    ) -> None:
        self.seed = seed
        self.n_networks = n_networks
        self.n_components = n_components
        self.n_epochs = n_epochs
        self._prepare: Any = None
        self._networks: list[Any] = []
        self._centre = self._spread = np.zeros(len(TARGETS))
        self._scale = 1.0

    def fit(self, features: Array, targets: Array) -> Self:
        """Learn all targets together, in each network from other starting weights."""
        import warnings

        networks: Any = require("sklearn.neural_network", EXTRA)
        exceptions: Any = require("sklearn.exceptions", EXTRA)
        given, learned = checked(features, targets)
        self._prepare = _normaliser(given, self.n_components, self.seed)
        prepared = self._prepare.fit_transform(given)
        self._scale = float(prepared.std()) or 1.0
        self._centre, spread = learned.mean(0), learned.std(0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._networks = []
        for i in range(self.n_networks):
            network = networks.MLPRegressor(
                hidden_layer_sizes=(256,),
                alpha=1.0,
                batch_size=min(64, len(given)),
                max_iter=self.n_epochs,
                random_state=self.seed * 1000 + i,
            )
            with warnings.catch_warnings():
                # The number of epochs is a setting, not a failure to converge.
                warnings.simplefilter("ignore", exceptions.ConvergenceWarning)
                network.fit(prepared / self._scale, (learned - self._centre) / self._spread)
            self._networks.append(network)
        return self

    def predict(self, features: Array) -> Array:
        """Targets (n, 3)."""
        if not self._networks:
            raise MelotteValueError("fit the regressor before it predicts")
        prepared = self._prepare.transform(np.asarray(features, dtype=float)) / self._scale
        mean = np.mean([network.predict(prepared) for network in self._networks], axis=0)
        return from_learned(mean * self._spread + self._centre)


class Average:
    """Mean of several regressors' predictions, of distances the geometric mean.

    Parameters
    ----------
    members : sequence of Regressor
    """

    def __init__(self, members: Sequence[Regressor]) -> None:
        if not members:
            raise MelotteValueError("an average needs at least one regressor")
        self.members = tuple(members)

    def fit(self, features: Array, targets: Array) -> Self:
        """Fit every member."""
        for member in self.members:
            member.fit(features, targets)
        return self

    def predict(self, features: Array) -> Array:
        """Targets (n, 3)."""
        return average_targets([member.predict(features) for member in self.members])


def average_targets(predictions: Sequence[Array]) -> Array:
    """Mean of predictions (n, 3), of distances the geometric mean."""
    return from_learned(np.mean([to_learned(one) for one in predictions], axis=0))


def to_learned(targets: Array) -> Array:
    """log_age, extinction_v, log10 of the distance (kpc), shape (n, 3)."""
    return np.concatenate([targets[:, :2], np.log10(targets[:, 2:])], axis=1)


def from_learned(learned: Array) -> Array:
    """Inverse of :func:`to_learned`."""
    return np.concatenate([learned[:, :2], 10 ** learned[:, 2:]], axis=1)


def checked(features: Array, targets: Array) -> tuple[Array, Array]:
    """Features and learned targets of a training set.

    Raises
    ------
    MelotteValueError
        When the shapes do not fit, a target is not finite, or a distance is not positive.
    """
    given, wanted = np.asarray(features, dtype=float), np.asarray(targets, dtype=float)
    if given.ndim != 2 or wanted.shape != (len(given), len(TARGETS)) or len(given) < 2:
        raise MelotteValueError(
            f"features {given.shape} and targets {wanted.shape} must be (n, n_features) and "
            f"(n, {len(TARGETS)}) with n >= 2"
        )
    bad = int((~np.isfinite(wanted).all(1) | ~(wanted[:, 2] > 0)).sum())
    if bad:
        raise MelotteValueError(
            f"{bad} of {len(wanted)} training rows lack a target or have a distance of 0 or less"
        )
    return given, to_learned(wanted)


def _imputer() -> Any:
    impute: Any = require("sklearn.impute", EXTRA)
    return impute.SimpleImputer(strategy="median", keep_empty_features=True)


def _normaliser(features: Array, n_components: int, seed: int) -> Any:
    pipeline: Any = require("sklearn.pipeline", EXTRA)
    preprocessing: Any = require("sklearn.preprocessing", EXTRA)
    decomposition: Any = require("sklearn.decomposition", EXTRA)
    return pipeline.make_pipeline(
        _imputer(),
        preprocessing.QuantileTransformer(
            output_distribution="normal", n_quantiles=min(200, len(features)), random_state=seed
        ),
        preprocessing.StandardScaler(),
        decomposition.PCA(min(n_components, *features.shape), random_state=seed),
    )
