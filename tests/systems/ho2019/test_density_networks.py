"""CNN1D and CNN2D: published layers, constraint, loss and augmentation, and that they learn."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from melotte.engine.batch_sources import ExampleSource
from melotte.engine.random import keyed_generator
from melotte.engine.settings import LocalSettings
from melotte.engine.training import train
from melotte.errors import MelotteError
from melotte.parameters import Prior
from melotte.systems.base import Batch
from melotte.systems.registry import build_system, load_preset

NETWORKS = ("cnn1d", "cnn2d")
INPUT = {"cnn1d": (1, 48), "cnn2d": (48, 48)}
LAYERS = {
    ("cnn1d", "published"): (60, 155, 120 * 128 + 128, 8256, 65),
    ("cnn1d", "none"): (60, 155, 240 * 128 + 128, 8256, 65),
    ("cnn2d", "published"): (5784, 730, 120 * 128 + 128, 8256, 65),
    ("cnn2d", "none"): (5784, 730, 480 * 128 + 128, 8256, 65),
}
"""Weights and biases of each layer, counted by hand from the published widths."""
TOTAL = {
    ("cnn1d", "published"): 24024,
    ("cnn1d", "none"): 39384,
    ("cnn2d", "published"): 30323,
    ("cnn2d", "none"): 76403,
}


def system_of(network: str, *overrides: str):
    return build_system(load_preset(f"galaxy-cluster-{network}", overrides))


def prepared(system, batch):
    """Inputs and a network of fixed first weights."""
    torch.manual_seed(0)
    network = system.network(system.constants(batch))
    return system.prepare(batch.observation, {}), network


def weighted_layers(network) -> list[nn.Conv1d | nn.Linear]:
    layers = [one for one in network.modules() if isinstance(one, nn.Conv1d | nn.Linear)]
    assert layers[-1] is network.output
    return layers


@pytest.mark.parametrize(("name", "pooling"), LAYERS)
def test_layers_have_the_published_sizes(published_mocks, name, pooling):
    system = system_of(name, f"model.pooling={pooling}")
    inputs, network = prepared(system, published_mocks)
    assert tuple(inputs["density"].shape[1:]) == INPUT[name]
    layers = weighted_layers(network)
    counts = tuple(sum(one.numel() for one in layer.parameters()) for layer in layers)
    assert counts == LAYERS[name, pooling]
    assert sum(counts) == TOTAL[name, pooling]
    outputs = network(inputs)
    assert outputs["output"].shape == (len(published_mocks), 1)
    assert outputs["embedding"].shape == (len(published_mocks), 64)
    assert len(outputs["posterior"]) == len(published_mocks)


def test_convolutions_run_along_velocity_with_radii_as_channels(published_mocks):
    inputs, network = prepared(system_of("cnn2d"), published_mocks)
    density = inputs["density"]
    # A galaxy's velocity is read from the last axis: its marginal is the 1D density's peak.
    alone = system_of("cnn1d").prepare(published_mocks.observation, {})["density"]
    gap = (density.sum(1).argmax(-1) - alone[:, 0].argmax(-1)).abs()
    assert (gap <= 1).float().mean() > 0.9
    first = weighted_layers(network)[0]
    assert isinstance(first, nn.Conv1d)
    with torch.no_grad():
        shifted = first(density.roll(3, -1))
        still = first(density).roll(3, -1)
    assert torch.allclose(shifted[..., 5:-2], still[..., 5:-2], atol=1e-6)


def test_dropout_stands_behind_the_pool_and_rests_when_judging(published_mocks):
    inputs, network = prepared(system_of("cnn1d"), published_mocks)
    kinds = [type(layer) for layer in network.hidden]
    assert kinds.index(nn.MaxPool1d) < kinds.index(nn.Dropout) < kinds.index(nn.Flatten)
    first, second = network(inputs)["output"], network(inputs)["output"]
    assert not torch.equal(first, second)
    network.eval()
    assert torch.equal(network(inputs)["output"], network(inputs)["output"])


@pytest.mark.parametrize("name", NETWORKS)
def test_norms_stay_below_the_largest_after_steps_of_any_size(published_mocks, name):
    system = system_of(name, "model.largest_norm=0.8")
    inputs, network = prepared(system, published_mocks)
    optimiser = torch.optim.Adam(network.parameters(), lr=0.1)
    for _ in range(3):
        loss = system.loss(network(inputs), published_mocks)["squared_error"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    *hidden, output = weighted_layers(network)
    assert any(layer.weight.norm(dim=-1).max() > 0.8 for layer in hidden)
    network.eval()(inputs)
    for layer in hidden:
        assert layer.weight.norm(dim=-1).max() <= 0.8 + 1e-5
    assert output.weight.norm(dim=-1).max() > 0.8


def test_the_norm_is_that_of_keras(published_mocks):
    inputs, network = prepared(system_of("cnn2d"), published_mocks)
    convolution = weighted_layers(network)[0]
    with torch.no_grad():
        convolution.weight.mul_(20)
    # Keras keeps a kernel as (width, channels in, filters) and takes its norm over the first axis.
    kernel = convolution.weight.detach().permute(2, 1, 0)
    norm = kernel.square().sum(0, keepdim=True).sqrt()
    expected = kernel * norm.clamp(0, 3) / (1e-7 + norm)
    assert norm.max() > 3 > norm.min()
    network(inputs)
    assert torch.allclose(convolution.weight.detach().permute(2, 1, 0), expected, atol=1e-6)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_learn_from_the_published_loss_alone(published_mocks, name):
    system = system_of(name)
    inputs, network = prepared(system, published_mocks)
    network.eval()
    plain = copy.deepcopy(network)
    loss = torch.stack(list(system.loss(network(inputs), published_mocks).values())).sum(0).mean()
    loss.backward()
    # log M from [13, 16] to [-1, 1].
    scaled = (published_mocks.theta - 14.5) / 1.5
    expected = nn.functional.mse_loss(plain(inputs)["output"], scaled)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    for (key, one), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        if key == "slow_log_scale":
            assert one.grad.abs().min() > 0
        else:
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-7), key


def test_the_posterior_stands_about_the_estimate_in_dex(published_mocks):
    system = system_of("cnn1d")
    inputs, network = prepared(system, published_mocks)
    outputs = network.eval()(inputs)
    estimate = Prior(system.parameters).from_unit(outputs["posterior"].mode())
    assert torch.allclose(estimate, 14.5 + 1.5 * outputs["output"].clamp(-1, 1), atol=1e-5)


def test_unknown_masses_contribute_nothing(published_mocks):
    system = system_of("cnn1d")
    inputs, network = prepared(system, published_mocks)
    theta = published_mocks.theta.clone()
    theta[:10] = torch.nan
    partly = Batch.labelled(published_mocks.observation, theta)
    terms = system.loss(network(inputs), partly)
    torch.stack(list(terms.values())).sum().backward()
    assert (terms["squared_error"][:10] == 0).all()
    assert (terms["squared_error"][10:] > 0).all()
    assert all(torch.isfinite(one.grad).all() for one in network.parameters())


def test_examples_are_turned_round_and_otherwise_kept(published_mocks):
    system = system_of("cnn1d")
    before = system.prepare(published_mocks.observation, {})["density"]
    turned = system.augment(published_mocks, keyed_generator(3, 1))
    after = system.prepare(turned.observation, {})["density"]
    same = (after - before).abs().amax((1, 2)) < 1e-6
    mirrored = (after - before.flip(-1)).abs().amax((1, 2)) < 1e-6
    assert (same | mirrored).all()
    assert 60 < int(mirrored.sum()) < 140
    assert torch.equal(turned.theta, published_mocks.theta)
    still = system_of("cnn1d", "data.mocks.augmentation.turn_velocities=false")
    kept = still.augment(published_mocks, keyed_generator(3, 1))
    assert torch.equal(still.prepare(kept.observation, {})["density"], before)


def test_forty_passes_are_twenty_epochs_of_the_doubled_set(published_mocks):
    preset = load_preset("galaxy-cluster-cnn1d", ["training.validation_fraction=0"])
    source = ExampleSource(build_system(preset), preset.training, published_mocks)
    published_steps = 20 * 2 * len(published_mocks) / 50
    assert source.settings.n_steps == published_steps
    # Keras's decay of 1e-6 a step, left out, is below one per cent with 7,000 clusters.
    last = 1 / (1 + 1e-6 * 20 * 2 * 7000 / 50)
    assert 0.99 < last < 1


@pytest.mark.parametrize("name", NETWORKS)
def test_a_training_on_mocks_lowers_the_loss(published_mocks, name, tmp_path):
    preset = load_preset(f"galaxy-cluster-{name}", ["training.max_epochs=12"])
    system = build_system(preset)
    model = train(
        system,
        preset.model_dump(mode="json"),
        preset.training,
        LocalSettings(device="cpu", threads=1, progress="none"),
        tmp_path / "model.safetensors",
        examples=published_mocks,
    )
    scaled = (published_mocks.theta - 14.5) / 1.5
    inputs = system.prepare(published_mocks.observation, model.constants)
    torch.manual_seed(preset.training.seed)
    untrained = system.network({}).eval()(inputs)["output"]
    with torch.no_grad():
        trained = model.network.eval()(inputs)["output"]
    # A constant is the most that can be known without looking.
    assert (trained - scaled).square().mean() < 0.8 * scaled.var(correction=0)
    assert (untrained - scaled).square().mean() > 0.9 * scaled.var(correction=0)


@pytest.mark.parametrize(
    ("override", "complaint"),
    [
        ("model.pooling=mean", "model.pooling: found 'mean'"),
        ("model.network=cnn3d", "model.network: found 'cnn3d'"),
        ("model.filters=3", "model.filters is not a setting"),
        ("data.bins=50", "data.bins: found 50"),
        ("data.bandwidth=0", "data.bandwidth: found 0"),
        ("data.log_m200c=[14, 15]", "mocks.prior.log_m200c .* outside log_m200c"),
        ("data.log_m200c=[16, 13]", "low must be below high"),
        ("data.mocks.redshift=2", "redshift"),
    ],
)
def test_wrong_settings_are_one_line(override, complaint):
    with pytest.raises(MelotteError, match=complaint) as caught:
        load_preset("galaxy-cluster-cnn2d", [override])
    assert "\n" not in str(caught.value)
