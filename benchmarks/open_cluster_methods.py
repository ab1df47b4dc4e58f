"""Methods of the cross-validation of real open clusters: each learns from a fold's training set.

A method is a function ``fit_predict(train, test, seed) -> Predictions``. It may use any label of
``train`` and nothing of ``test`` but the lists. Those that need no training of networks are
:data:`CLASSICAL`; ``open_cluster_networks.py`` has the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from open_cluster_catalogues import LabelledClusters

import melotte
from melotte.baselines.member_features import rich_features
from melotte.baselines.regressors import (
    Average,
    Boosting,
    NetworkEnsemble,
    ParallaxAlone,
    Regressor,
)
from melotte.engine.inference import chunks, infer_posterior
from melotte.ragged import Ragged
from melotte.systems.base import Observation

Array = NDArray[np.float64]

SOURCE = "CG20"
"""The catalogue whose labels are learned and, first of all, scored against."""
N_TARGETS = 3
LEVELS = np.concatenate([[0.005, 0.01, 0.025], np.arange(1, 20) / 20, [0.975, 0.99, 0.995]])
LEVELS = np.unique(np.concatenate([LEVELS, [0.16, 0.84]]))
"""Levels at which methods with a posterior give quantiles."""


@dataclass(frozen=True)
class Predictions:
    """What a method says of the lists it was tested on.

    Parameters
    ----------
    estimate : array, shape (n, 3)
        log_age, extinction_v (mag), distance (kpc).
    quantiles : array, shape (n, n_levels, 3), or None
        At LEVELS, for methods that give a posterior.
    seconds_to_train : float
        Of this fold, features of the training lists included.
    seconds_per_cluster : float
        From the list to the estimate.
    by_source : dict of str to array (n, n_levels, 3)
        Quantiles as each catalogue would give them, for methods that can tell catalogues apart;
        these are then scored against that catalogue, in place of the ones above.
    """

    estimate: Array
    quantiles: Array | None
    seconds_to_train: float
    seconds_per_cluster: float
    by_source: Mapping[str, Array] = field(default_factory=dict)


FitPredict = Callable[[LabelledClusters, Observation, int], Predictions]


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Parameters
    ----------
    fit_predict : callable
    title : str
        As the table names it.
    releases : tuple of str
        Releases whose lists it trains on.
    baseline : bool
        Whether it counts for "the best baseline".
    """

    fit_predict: FitPredict
    title: str
    releases: tuple[str, ...] = ("EDR3", "DR2")
    baseline: bool = False


def features_of(observation: Observation) -> tuple[Array, tuple[str, ...]]:
    """Rich features of the lists (n, n_features) and their names."""
    stars = observation.data["stars"]
    assert isinstance(stars, Ragged)
    dr2 = torch.as_tensor(observation.data["release"]).numpy() > 0.5
    return rich_features(stars.values.numpy(), stars.offsets.numpy(), dr2)


def by_features(regressor: Callable[[int, tuple[str, ...]], Regressor]) -> FitPredict:
    """A method that learns CG20's labels from rich features.

    Parameters
    ----------
    regressor : callable
        Builds an untrained regressor from the seed and the names of the features.
    """

    def fit_predict(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
        start = time.perf_counter()
        known = train.with_all_labels_of(SOURCE)
        features, names = features_of(known.observation)
        model = regressor(seed, names).fit(features, known.labels[SOURCE][:, :N_TARGETS])
        trained = time.perf_counter()
        estimate = model.predict(features_of(test)[0])
        seconds = (time.perf_counter() - trained) / max(len(test), 1)
        return Predictions(estimate, None, trained - start, seconds)

    return fit_predict


def by_model(name: str) -> FitPredict:
    """A method that applies a trained model as it is: nothing is learned from the fold.

    Parameters
    ----------
    name : str
        A shipped model's name or a path. Its medians are the estimates.
    """

    def fit_predict(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
        del train, seed
        model = melotte.load(name, device="cpu")
        start = time.perf_counter()
        quantiles = model_quantiles(model, test)
        seconds = (time.perf_counter() - start) / max(len(test), 1)
        middle = int(np.searchsorted(LEVELS, 0.5))
        return Predictions(quantiles[:, middle], quantiles, 0.0, seconds)

    return fit_predict


def model_quantiles(model: melotte.Model, observation: Observation) -> Array:
    """Marginal quantiles of a model's posterior at LEVELS, (n, n_levels, 3)."""
    levels = torch.as_tensor(LEVELS, dtype=torch.float32)
    found = []
    with torch.no_grad():
        for part in chunks(observation, 256):
            posterior, _ = infer_posterior(model, part)
            found.append(posterior.quantile(levels)[..., :N_TARGETS].double().numpy())
    return np.concatenate(found)


def _parallax(seed: int, names: tuple[str, ...]) -> Regressor:
    del seed
    return ParallaxAlone(names.index("parallax"), names.index("dr2"))


def _boosting(seed: int, names: tuple[str, ...]) -> Regressor:
    del names
    return Boosting(seed)


def _boosting_and_networks(seed: int, names: tuple[str, ...]) -> Regressor:
    del names
    return Average([Boosting(seed), NetworkEnsemble(seed)])


CLASSICAL: dict[str, Method] = {
    "parallax": Method(by_features(_parallax), "parallax alone", baseline=True),
    "boosting": Method(by_features(_boosting), "boosting", baseline=True),
    "boosting-mlp": Method(by_features(_boosting_and_networks), "boosting + MLP", baseline=True),
    "simulator-only": Method(by_model("open-cluster"), "simulator only"),
}
