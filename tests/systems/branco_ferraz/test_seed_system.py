"""The system as the engine sees it: presets, errors, mocks, files, labels and a short training."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.errors import MelotteError
from melotte.io.cluster_labels import ClusterLabels, read_labels
from melotte.systems.base import Batch, Observation, System
from melotte.systems.registry import build_system, load_preset

NETWORKS = ("ann", "cnn", "mdm")


@pytest.mark.parametrize("name", NETWORKS)
def test_presets_build_and_train_as_the_paper_says(seed_system, name):
    system = seed_system(name)
    contract: object = system
    assert isinstance(contract, System)
    assert system.model.network == name
    training = load_preset(f"open-cluster-{name}").training
    epochs = {"ann": 200, "cnn": 150, "mdm": 100}[name]
    assert (training.max_epochs, training.batch_size) == (epochs, 299)
    # Adam, and nothing that the paper does not name.
    assert (training.weight_decay, training.ema_decay, training.warmup_batches) == (0, 0, 0)
    assert training.gradient_clip is None
    assert training.schedule == "constant"
    assert all(parameter.scale == "linear" for parameter in system.parameters)


@pytest.mark.parametrize(
    ("name", "override", "complaint"),
    [
        ("ann", "model.network=rnn", "model.network 'rnn' is unknown; known: ann, cnn, mdm"),
        ("ann", "model.network=null", "model.network is missing"),
        ("ann", "model.network=[1]", "is unknown"),
        ("ann", "model.channels=[4]", "model.channels is not a setting"),
        ("cnn", "model.hidden=[4]", "model.hidden is not a setting"),
        ("cnn", "model.channels=[4,4,4,4,4,4,4]", "model.channels"),
        ("mdm", "model.guess_hidden=[]", "model.guess_hidden"),
        ("ann", "data.augmentation=more", "data.augmentation"),
        ("ann", "data.larger.stars_kept=[0.9, 0.5]", "0.9 is above 0.5"),
        ("ann", "data.labels.distance=[1.0, 0.5]", "low must be below high"),
        ("ann", "data.labels.log_age=[7.0, 9.95]", "reaches outside labels.log_age"),
        ("ann", "data.bins=410", "data.bins is not a setting"),
    ],
)
def test_bad_settings_say_what_is_wrong_in_one_line(name, override, complaint):
    with pytest.raises(MelotteError) as caught:
        load_preset(f"open-cluster-{name}", [override])
    assert complaint in str(caught.value)
    assert "\n" not in str(caught.value)


def test_mocks_carry_three_labels_within_their_ranges(mocks, seed_system):
    assert mocks.theta.shape == (40, 3)
    assert mocks.theta_known.all()
    ranges = torch.tensor([[one.low, one.high] for one in seed_system("ann").parameters])
    assert torch.all((mocks.theta > ranges[:, 0]) & (mocks.theta < ranges[:, 1]))
    assert mocks.observation.data["stars"].values[:, 0].max() <= 18.0


def test_faint_stars_are_not_read(seed_system, mocks):
    system = seed_system("mdm")
    constants = system.constants(mocks)
    inputs = system.prepare(mocks.observation, constants)
    data = dict(mocks.observation.data)
    stars = data["stars"]
    faint = torch.tensor([[18.01, 1.0, 50.0, 0.1, 0.1, 0.1, 1.0]]).repeat(5, 1)
    data["stars"] = type(stars).pack([torch.cat([stars[i], faint]) for i in range(len(mocks))])
    again = system.prepare(Observation(data), constants)
    assert all(torch.equal(inputs[name], again[name]) for name in inputs)


def test_labels_of_the_paper_are_joined_by_name_and_doubled(seed_system, mocks):
    names = tuple(f"Cluster_{i}" for i in range(len(mocks)))
    lists = Observation(mocks.observation.data, names)
    values = np.full((len(mocks), 2, 4), np.nan)
    values[:30, 1, :3] = mocks.theta[:30].numpy()
    values[30:, 0, :3] = mocks.theta[30:].numpy()
    labels = ClusterLabels(names, ("Dias 2021", "CG20"), values)
    joined = seed_system("ann").label([lists], labels)
    assert joined.n_unlabelled == 10
    assert torch.allclose(joined.batch.theta, mocks.theta[:30])
    twice = seed_system("ann", "data.augmentation=paper").label([lists], labels)
    assert len(twice.batch) == 60
    assert torch.allclose(twice.batch.theta[:30], mocks.theta[:30])
    assert len(set(twice.batch.group.tolist())) == 30
    again = seed_system("ann", "data.augmentation=paper").label([lists], labels)
    assert torch.equal(again.batch.theta, twice.batch.theta)


@pytest.mark.parametrize(("name", "epochs"), [("ann", 15), ("mdm", 4)])
def test_the_engine_trains_and_stores_it(seed_system, mocks, tmp_path, name, epochs):
    from melotte.engine.model_files import load_model
    from melotte.engine.training import train

    overrides = [f"training.max_epochs={epochs}", "training.batch_size=12"]
    preset = load_preset(f"open-cluster-{name}", overrides)
    path = tmp_path / "model.safetensors"
    system = seed_system(name)
    examples = Batch.labelled(mocks.observation, mocks.theta)
    content = preset.model_dump(mode="json")
    model = train(
        *(system, content, preset.training, preset.local, path),
        device="cpu",
        progress=False,
        examples=examples,
    )
    loaded = load_model(path, build_system)
    inputs = system.prepare(mocks.observation, loaded.constants)
    with torch.no_grad():
        first = model.network.eval()(inputs)["posterior"].mode()
        second = loaded.network.eval()(inputs)["posterior"].mode()
        unit = (mocks.theta - torch.tensor([6.35, 0, 0.04])) / torch.tensor([3.6, 4.85, 12.61])
    assert torch.allclose(first, second, atol=1e-6)
    assert ((first - unit) ** 2).mean() < unit.var(0).mean()


def test_the_label_scale_spans_the_papers_catalogue_closely(seed_system, shared_data):
    labels = read_labels(shared_data / "opencluster" / "labels_cantat_gaudin_2020.csv")
    values = labels.of(("CG20",)).values[:, 0, :3]
    low, high = np.nanmin(values, 0), np.nanmax(values, 0)
    for parameter, first, last in zip(seed_system("ann").parameters, low, high, strict=True):
        slack = 0.02 * (last - first)
        assert first - slack < parameter.low <= first, parameter.name
        assert last <= parameter.high < last + slack, parameter.name
