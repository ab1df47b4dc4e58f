"""Starting from parts of another model: what is taken, and what cannot be."""

from dataclasses import replace

import pytest
import torch
from linear_gaussian import PARAMETERS, PRESET, LinearGaussian

from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.starting_weights import set_rates, take_weights
from melotte.engine.training import train
from melotte.errors import MelotteValueError

SHORT = {
    "batch_size": 16, "n_batches": 2, "max_epochs": 1, "warmup_batches": 0,
    "validation_size": 32, "constants_size": 64, "ema_decay": 0.0, "learning_rate": 1e-3,
}  # fmt: skip
YOUNGER = LinearGaussian(parameters=(replace(PARAMETERS[0], high=9.0), *PARAMETERS[1:]))
FEWER = LinearGaussian(parameters=PARAMETERS[:2])


def run(output, system, start=None, **changes):
    settings = TrainingSettings.parse(SHORT | changes)
    local = LocalSettings(progress="none", device="cpu")
    return train(system, PRESET, settings, local, output, start=start)


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    return run(tmp_path_factory.mktemp("first") / "first.safetensors", LinearGaussian())


def test_an_encoder_goes_on_under_another_prior(first, tmp_path):
    with pytest.raises(MelotteValueError, match=r"another prior: .*\(training.start_parts\)"):
        run(tmp_path / "all.safetensors", YOUNGER, first)
    second = run(
        tmp_path / "second.safetensors", YOUNGER, first,
        start_parts=("features",), frozen=("features",),
    )  # fmt: skip
    assert second.constants == first.constants
    theirs, ours = first.network.state_dict(), second.network.state_dict()
    taken = {name for name in ours if torch.equal(ours[name], theirs[name])}
    assert taken == {name for name in ours if name.startswith("features.")}
    assert second.provenance["start"] == first.provenance


def test_parts_within_parts_are_taken(first):
    network = LinearGaussian().network({})
    kept = network.features[2].weight.clone()
    take_weights(network, first, ["features.0"])
    assert torch.equal(network.features[0].weight, first.network.features[0].weight)
    assert torch.equal(network.features[2].weight, kept)


def test_a_network_of_more_data_shares_what_is_behind_its_inputs(first, tmp_path):
    longer = LinearGaussian(n_data=7)
    second = run(tmp_path / "s.safetensors", longer, first, start_parts=("features.2", "head"))
    assert len(second.constants["mean"]) == 7
    assert second.network.features[0].weight.shape[1] == 8
    with pytest.raises(MelotteValueError, match="the weights of linear-gaussian do not fit"):
        run(tmp_path / "t.safetensors", longer, first, start_parts=("features",))


@pytest.mark.parametrize(("parts", "said"), [
    (["nose"], "training.start_parts: the network has no part 'nose'; its parts: features"),
    (["features", "head"], "the weights of linear-gaussian do not fit"),
])  # fmt: skip
def test_parts_that_do_not_fit_are_named(first, parts, said):
    with pytest.raises(MelotteValueError, match=said):
        take_weights(FEWER.network({}), first, parts)


@pytest.mark.parametrize(("changes", "begun", "said"), [
    ({"start_parts": ["features"]}, False, "takes features from a model: name it"),
    ({"start_parts": ["features"], "frozen": ["head"]}, True,
     "weights of head, and these would be random: name them in training.start_parts"),
    ({"frozen": ["features", "head"]}, False, "weights of features, head, .* start from a model"),
])  # fmt: skip
def test_random_weights_are_never_kept(changes, begun, said):
    with pytest.raises(MelotteValueError, match=said):
        set_rates(FEWER.network({}), TrainingSettings.parse(SHORT | changes), begun)
    kept = TrainingSettings.parse(SHORT | {"start_parts": ["features"], "frozen": ["features.0"]})
    network = FEWER.network({})
    set_rates(network, kept, begun=True)
    assert not network.features[0].weight.requires_grad
    assert network.features[2].weight.requires_grad
