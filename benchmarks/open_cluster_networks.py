"""Networks of the cross-validation that learn from labelled member lists.

The fine-tuned network starts, in every fold, from the physics of the shipped model, which saw no
label of any cluster; what that file has learned of catalogues is dropped first. The seed's
networks start from nothing.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from open_cluster_catalogues import LabelledClusters
from open_cluster_methods import (
    LEVELS,
    SOURCE,
    FitPredict,
    Method,
    Predictions,
    model_quantiles,
)

import melotte
from melotte.engine.inference import chunks, infer_posterior
from melotte.engine.model_files import Model
from melotte.engine.settings import LocalSettings
from melotte.engine.training import train as run_training
from melotte.io.cluster_labels import ClusterLabels
from melotte.systems.base import Batch, Observation, System
from melotte.systems.open_cluster.system import OpenCluster
from melotte.systems.registry import Preset, build_system, load_preset

PRESET = "open-cluster-catalogues"
MIDDLE = int(np.searchsorted(LEVELS, 0.5))


def physics_of(model: Model) -> Model:
    """The model without what it has learned of catalogues."""
    system = model.system
    assert isinstance(system, OpenCluster)
    bare = OpenCluster(system.data, system.model.model_copy(update={"label_sources": ()}))
    network = bare.network(model.constants)
    weights = model.network.state_dict()
    network.load_state_dict({k: v for k, v in weights.items() if not k.startswith("catalogues.")})
    return replace(model, system=bare, network=network.eval())


def examples_of(clusters: LabelledClusters, preset: str, overrides: tuple[str, ...] = ()) -> Batch:
    """Labelled lists as the engine takes them; a cluster of both releases is one group."""
    system = build_system(load_preset(preset, overrides))
    sources = tuple(clusters.labels)
    values = np.stack([clusters.labels[source] for source in sources], 1)
    names = list(dict.fromkeys(clusters.keys))
    first = [clusters.keys.index(name) for name in names]
    labels = ClusterLabels(tuple(names), sources, values[first])
    named = replace(clusters.observation, ids=clusters.keys)
    return system.label([named], labels).batch  # pyright: ignore[reportAttributeAccessIssue]


def trained(
    system: System, preset: Preset, examples: Batch, start: Model | None = None
) -> tuple[Model, float]:
    """A model trained on labelled lists, and the seconds that it took."""
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        model = run_training(
            system,
            preset.model_dump(mode="json"),
            preset.training,
            LocalSettings(progress="none"),
            Path(folder) / "model.safetensors",
            start=start,
            examples=examples,
            device="cpu",
        )
    return model, time.perf_counter() - begun


def train_tuned(
    clusters: LabelledClusters, seed: int, overrides: tuple[str, ...] = ()
) -> tuple[Model, float]:
    """The fine-tuned model of some clusters, and the seconds that its training took."""
    overrides = (*overrides, f"training.seed={seed + 1}")
    preset = load_preset(PRESET, overrides)
    system = build_system(preset)
    examples = examples_of(clusters, PRESET, overrides)
    start = physics_of(melotte.load("open-cluster", device="cpu"))
    return trained(system, preset, examples, start)


def asked_as(model: Model, observation: Observation, source: str) -> Observation:
    """The lists with the question whose values are wanted."""
    system = model.system
    assert isinstance(system, OpenCluster)
    number = system.sources(source)[0]
    data = dict(observation.data) | {"source": torch.full((len(observation),), float(number))}
    return replace(observation, data=data)


def tuned_by_source(
    train: LabelledClusters, test: Observation, seed: int, overrides: tuple[str, ...] = ()
) -> Predictions:
    """Fine-tune on all catalogues' labels of the training clusters; answer as each of them."""
    model, seconds = train_tuned(train, seed, overrides)
    system = model.system
    assert isinstance(system, OpenCluster)
    begun = time.perf_counter()
    by_source = {SOURCE: model_quantiles(model, asked_as(model, test, SOURCE))}
    per_cluster = (time.perf_counter() - begun) / max(len(test), 1)
    for source in system.model.label_sources:
        if source != SOURCE:
            by_source[source] = model_quantiles(model, asked_as(model, test, source))
    quantiles = by_source[SOURCE]
    return Predictions(quantiles[:, MIDDLE], quantiles, seconds, per_cluster, by_source)


def tuned(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
    """The preset as it is."""
    return tuned_by_source(train, test, seed)


def tuned_on_one(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
    """The same without the other catalogues."""
    return tuned_by_source(train, test, seed, (f"model.label_sources=[{SOURCE}]",))


def tuned_and_moved(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
    """The same with lists moved in distance and dust."""
    moved = "data.augmentation.extinction_shift=1.0", "data.augmentation.distance_shift=1.5"
    return tuned_by_source(train, test, seed, moved)


def tuned_ensemble(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
    """Three networks, each with as many batches."""
    three = (
        "model.ensemble=3",
        "training.max_epochs=120",
        "training.warmup_batches=180",
        "training.rate_factors={}",
        "training.learning_rate=4e-4",
    )
    return tuned_by_source(train, test, seed, three)


def of_the_seed(name: str, augmentation: str = "none") -> FitPredict:
    """One of the seed's networks, trained as its preset says.

    Parameters
    ----------
    name : str
        Its preset.
    augmentation : {"none", "paper", "larger"}
        With copies, batches hold 400, as the paper's do.
    """

    def fit_predict(train: LabelledClusters, test: Observation, seed: int) -> Predictions:
        overrides = [f"training.seed={seed + 1}", f"data.augmentation={augmentation}"]
        if augmentation != "none":
            overrides.append("training.batch_size=400")
        preset = load_preset(name, overrides)
        system = build_system(preset)
        known = train.with_all_labels_of(SOURCE)
        model, seconds = trained(system, preset, examples_of(known, name, tuple(overrides)))
        begun = time.perf_counter()
        estimates = []
        for part in chunks(test, 256):
            estimates.append(infer_posterior(model, part)[0].mode().numpy())
        per_cluster = (time.perf_counter() - begun) / max(len(test), 1)
        return Predictions(np.concatenate(estimates), None, seconds, per_cluster)

    return fit_predict


NETWORKS: dict[str, Method] = {
    "ann": Method(of_the_seed("open-cluster-ann"), "seed ANN", ("EDR3",)),
    "ann-augmented": Method(of_the_seed("open-cluster-ann", "paper"), "  augmented", ("EDR3",)),
    "cnn": Method(of_the_seed("open-cluster-cnn"), "seed CNN", ("EDR3",)),
    "cnn-augmented": Method(of_the_seed("open-cluster-cnn", "paper"), "  augmented", ("EDR3",)),
    "mdm": Method(of_the_seed("open-cluster-mdm"), "seed MDM", ("EDR3",)),
    "mdm-augmented": Method(of_the_seed("open-cluster-mdm", "paper"), "  augmented", ("EDR3",)),
    "mdm-larger": Method(of_the_seed("open-cluster-mdm", "larger"), "  larger shifts", ("EDR3",)),
    "tuned": Method(tuned, "fine-tuned"),
    "tuned-cg20-only": Method(tuned_on_one, "fine-tuned, CG20 only"),
    "tuned-moved": Method(tuned_and_moved, "fine-tuned, lists moved"),
    "tuned-ensemble": Method(tuned_ensemble, "fine-tuned, three networks"),
}
"""Methods that train networks."""
