"""Methods that weigh galaxy clusters in the benchmarks: each learns from a training catalogue.

A :class:`Method` fits; what it gives is a :class:`Weigher`, which weighs any catalogue. Those of
:data:`METHODS` are the essay's (Abbas 2019, after Ho et al. 2019), their classical and fast
relatives, and melotte's own.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from galaxy_cluster_catalogues import PRESET, Array, Catalogue, Catalogues
from numpy.typing import NDArray

import melotte
from melotte.baselines.distribution_regression import MeanEmbedding, SupportDistributionMachine
from melotte.baselines.m_sigma import MSigma
from melotte.baselines.summary_regressors import SummaryRegressor
from melotte.engine.inference import chunks, infer_posterior
from melotte.engine.model_files import Model
from melotte.systems.base import Observation
from melotte.systems.registry import load_preset

LEVELS = np.array([0.025, 0.16, 0.5, 0.84, 0.975])
MIDDLE = 2
SDM_TRAIN = 2000
"""Training clusters of the k-NN support distribution machine, whose cost grows as their square."""


class Weigher(Protocol):
    """A method that has learned."""

    def weigh(self, catalogue: Catalogue) -> Array:
        """log10(M200c/(Msun/h)), (n_clusters,); NaN where there is none."""
        ...


class ArrayWeigher:
    """A baseline, which reads arrays.

    Parameters
    ----------
    predict : callable
        From a catalogue to log masses.
    """

    def __init__(self, predict: Callable[[Catalogue], Array]) -> None:
        self.predict = predict

    def weigh(self, catalogue: Catalogue) -> Array:
        """See :class:`Weigher`."""
        return self.predict(catalogue)


class ModelWeigher:
    """A melotte model: the posterior's median, or a point network's estimate.

    Parameters
    ----------
    model : Model
    point : bool
        Take the estimate; the posterior of a point network is not for its tails.
    """

    def __init__(self, model: Model, point: bool = False) -> None:
        self.model = model
        self.point = point

    def weigh(self, catalogue: Catalogue) -> Array:
        """See :class:`Weigher`."""
        if not self.point:
            return self.quantiles(catalogue)[:, MIDDLE]
        found = [
            infer_posterior(self.model, part)[0].mode()[:, 0] for part in self._parts(catalogue)
        ]
        return torch.cat(found).double().numpy()

    def quantiles(self, catalogue: Catalogue) -> Array:
        """Of the posterior at :data:`LEVELS`, (n_clusters, n_levels)."""
        levels = torch.as_tensor(LEVELS)
        parts = [
            infer_posterior(self.model, part)[0].quantile(levels)[..., 0]
            for part in self._parts(catalogue)
        ]
        return torch.cat(parts).double().numpy()

    def _parts(self, catalogue: Catalogue) -> list[Observation]:
        return list(chunks(catalogue.batch.observation, 512))


@dataclass(frozen=True)
class Fit:
    """A method that has learned, with what that took.

    Parameters
    ----------
    weigher : Weigher
    seconds : float
        To learn.
    notes : dict
        What it chose; JSON values.
    """

    weigher: Weigher
    seconds: float
    notes: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Method:
    """A row of the table.

    Parameters
    ----------
    title : str
    fit : callable
        From catalogues, a seed and a folder for models to a :class:`Fit`.
    published : str
        Name of its row in the essay's tables; empty for none.
    pure : bool
        Learns from, and is tested on, the catalogues of true members.
    unlimited : bool
        Learns from mocks of its own rather than the training catalogue.
    slow : bool
        Predicts so slowly that it is tested on a part of the test catalogue.
    network : bool
    """

    title: str
    fit: Callable[[Catalogues, int, Path], Fit]
    published: str = ""
    pure: bool = False
    unlimited: bool = False
    slow: bool = False
    network: bool = False

    def train_of(self, catalogues: Catalogues) -> Catalogue:
        """The catalogue it learns from."""
        return catalogues.pure_train if self.pure else catalogues.train

    def test_of(self, catalogues: Catalogues) -> Catalogue:
        """The catalogue it is tested on."""
        return catalogues.pure_test if self.pure else catalogues.test


def timed(learn: Callable[[], tuple[Weigher, dict[str, Any]]]) -> Fit:
    """What ``learn`` gives, and how long it took."""
    start = time.perf_counter()
    weigher, notes = learn()
    return Fit(weigher, time.perf_counter() - start, notes)


def m_sigma(removal: Any, pure: bool = False) -> Callable[[Catalogues, int, Path], Fit]:
    """The power law of the dispersion, after an interloper removal."""

    def fit(catalogues: Catalogues, seed: int, folder: Path) -> Fit:
        del seed, folder
        train = catalogues.pure_train if pure else catalogues.train
        relation = MSigma(removal=removal)

        def learn() -> tuple[Weigher, dict[str, Any]]:
            redshift = train.numbers("redshift")
            relation.fit(train.velocity, train.radius, train.offsets, train.log_mass, redshift)
            found = relation.relation
            assert found is not None
            notes = {
                "slope": found.slope,
                "sigma15": 10**found.log_sigma15,
                "scatter": found.scatter,
            }
            return ArrayWeigher(predict), notes

        def predict(one: Catalogue) -> Array:
            return relation.predict(one.velocity, one.radius, one.offsets, one.numbers("redshift"))

        return timed(learn)

    return fit


def regressor(
    build: Callable[[int], Any], most: int | None = None
) -> Callable[[Catalogues, int, Path], Fit]:
    """A baseline with ``fit(velocity, radius, offsets, log_mass)``.

    Parameters
    ----------
    build : callable
        From the seed.
    most : int, optional
        Training clusters it is given.
    """

    def fit(catalogues: Catalogues, seed: int, folder: Path) -> Fit:
        del folder
        train = catalogues.train if most is None else first(catalogues.train, most)
        model = build(seed)

        def learn() -> tuple[Weigher, dict[str, Any]]:
            model.fit(train.velocity, train.radius, train.offsets, train.log_mass)
            return ArrayWeigher(predict), dict(getattr(model, "chosen", {}))

        def predict(one: Catalogue) -> Array:
            return np.asarray(model.predict(one.velocity, one.radius, one.offsets))

        return timed(learn)

    return fit


def network(
    preset: str | Path,
    overrides: tuple[str, ...] = (),
    *,
    point: bool = False,
    unlimited: bool = False,
    pure: bool = False,
) -> Callable[[Catalogues, int, Path], Fit]:
    """A network that the engine trains; it is kept in the folder, and trained only once."""

    def fit(catalogues: Catalogues, seed: int, folder: Path) -> Fit:
        settings = (*overrides, f"training.seed={seed + 1}")
        train = catalogues.pure_train if pure else catalogues.train
        examples = None if unlimited else train.batch
        known = "" if examples is None else digest_of(train)
        whole = load_preset(preset, settings).model_dump_json()
        name = hashlib.sha256((whole + known).encode()).hexdigest()[:16]
        path = folder / f"{name}.safetensors"
        spent = path.with_suffix(".seconds")
        if not (path.exists() and spent.exists()):
            start = time.perf_counter()
            melotte.train(
                preset, path, overrides=settings, examples=examples, device="cpu", progress=False
            )
            spent.write_text(f"{time.perf_counter() - start:.1f}")
        model = melotte.load(path, device="cpu")
        weights = sum(one.numel() for one in model.network.parameters())
        return Fit(ModelWeigher(model, point), float(spent.read_text()), {"weights": weights})

    return fit


def shipped(name: str) -> Callable[[Catalogues, int, Path], Fit]:
    """A model that is part of melotte: it saw none of these catalogues."""

    def fit(catalogues: Catalogues, seed: int, folder: Path) -> Fit:
        del catalogues, seed, folder
        return Fit(ModelWeigher(melotte.load(name, device="cpu")), float("nan"))

    return fit


def first(catalogue: Catalogue, n: int) -> Catalogue:
    """The first ``n`` clusters: they are in random order."""
    return catalogue.select(np.arange(min(n, len(catalogue))))


def digest_of(catalogue: Catalogue) -> str:
    """Tells catalogues apart."""
    values = catalogue.galaxies.values.numpy().tobytes() + catalogue.log_mass.tobytes()
    return hashlib.sha256(values).hexdigest()


def with_training(catalogues: Catalogues, rows: NDArray[np.int64]) -> Catalogues:
    """The same with some of the training clusters only."""
    return replace(
        catalogues,
        train=catalogues.train.select(rows),
        pure_train=catalogues.pure_train.select(rows),
    )


FIXED = (
    "training.max_epochs=100",
    "training.validation_fraction=0.1",
    "model.dropout=0.2",
)
"""Our network on a fixed set of clusters: galaxies are left out and velocities turned round anew
in every pass."""

RICHNESS = ("model.richness=true", "model.sharpness=8.0")
"""The network of the preset galaxy-cluster-richness."""

METHODS: dict[str, Method] = {
    "msigma-pure": Method("M-sigma, true members", m_sigma("none", True), "M-sigma pure", True),
    "msigma": Method("M-sigma, contaminated", m_sigma("none"), "M-sigma contaminated"),
    "msigma-3sigma": Method("M-sigma after 3 sigma clipping", m_sigma("three_sigma")),
    "msigma-gapper": Method("M-sigma after shifting gapper", m_sigma("shifting_gapper")),
    "msigma-clean": Method("M-sigma after Clean", m_sigma("clean")),
    "sdm1d": Method(
        "SDM1D, k-NN",
        regressor(lambda seed: SupportDistributionMachine(1), SDM_TRAIN),
        "SDM1D",
        slow=True,
    ),
    "sdm2d": Method(
        "SDM2D, k-NN",
        regressor(lambda seed: SupportDistributionMachine(2), SDM_TRAIN),
        "SDM2D",
        slow=True,
    ),
    "fast1d-small": Method(
        "fast SDM1D, as many", regressor(lambda seed: MeanEmbedding(1, seed=seed), SDM_TRAIN)
    ),
    "fast2d-small": Method(
        "fast SDM2D, as many", regressor(lambda seed: MeanEmbedding(2, seed=seed), SDM_TRAIN)
    ),
    "fast1d": Method("fast SDM1D", regressor(lambda seed: MeanEmbedding(1, seed=seed))),
    "fast2d": Method("fast SDM2D", regressor(lambda seed: MeanEmbedding(2, seed=seed))),
    "cnn1d": Method(
        "CNN1D, pooled", network("galaxy-cluster-cnn1d", point=True), "CNN1D", network=True
    ),
    "cnn1d-nopool": Method(
        "CNN1D, no pool",
        network("galaxy-cluster-cnn1d", ("model.pooling=none",), point=True),
        network=True,
    ),
    "cnn2d": Method(
        "CNN2D, pooled", network("galaxy-cluster-cnn2d", point=True), "CNN2D", network=True
    ),
    "cnn2d-nopool": Method(
        "CNN2D, no pool",
        network("galaxy-cluster-cnn2d", ("model.pooling=none",), point=True),
        network=True,
    ),
    "ridge": Method("ridge on summaries", regressor(lambda seed: SummaryRegressor("ridge"))),
    "ridge-richness": Method(
        "ridge, richness", regressor(lambda seed: SummaryRegressor("ridge", richness=True))
    ),
    "boosting": Method(
        "boosting on summaries", regressor(lambda seed: SummaryRegressor("boosting", seed=seed))
    ),
    "boosting-richness": Method(
        "boosting, richness",
        regressor(lambda seed: SummaryRegressor("boosting", richness=True, seed=seed)),
    ),
    "ours": Method("ours", network(PRESET, FIXED), network=True),
    "ours-richness": Method("ours, richness", network(PRESET, (*FIXED, *RICHNESS)), network=True),
    "ours-unlimited": Method(
        "ours, unlimited mocks", network(PRESET, unlimited=True), unlimited=True, network=True
    ),
    "ours-sharp": Method(
        "ours, unlimited, sharp attention",
        network(PRESET, ("model.sharpness=8.0",), unlimited=True),
        unlimited=True,
        network=True,
    ),
    "ours-unlimited-richness": Method(
        "ours, unlimited, richness",
        network(PRESET, RICHNESS, unlimited=True),
        unlimited=True,
        network=True,
    ),
    "floor": Method(
        "ours, true members known",
        network(
            PRESET,
            ("data.contaminated=false", "training.total_mocks=256000"),
            unlimited=True,
            pure=True,
        ),
        pure=True,
        unlimited=True,
        network=True,
    ),
    "shipped": Method(
        "shipped galaxy-cluster", shipped("galaxy-cluster"), unlimited=True, network=True
    ),
    "shipped-richness": Method(
        "shipped galaxy-cluster-richness",
        shipped("galaxy-cluster-richness"),
        unlimited=True,
        network=True,
    ),
}
"""By name, in the order of the tables."""
