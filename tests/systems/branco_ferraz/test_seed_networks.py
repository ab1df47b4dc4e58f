"""The three networks: their loss is the paper's, they learn, and their estimate is kept."""

from __future__ import annotations

import copy

import pytest
import torch

from melotte.networks.point import PointPosterior
from melotte.parameters import Prior
from melotte.systems.base import Batch

NETWORKS = ("ann", "cnn", "mdm")
INPUTS = {
    "ann": {"histogram": (400,), "guesses": (3,)},
    "cnn": {"image": (1, 180, 180)},
    "mdm": {"image": (1, 180, 180), "guesses": (3,)},
}


def prepared(system, batch):
    """Constants, inputs and a network of fixed first weights."""
    constants = system.constants(batch)
    torch.manual_seed(0)
    return system.prepare(batch.observation, constants), system.network(constants)


@pytest.mark.parametrize("name", NETWORKS)
def test_each_network_reads_what_the_paper_gives_it(seed_system, mocks, name):
    system = seed_system(name)
    inputs, network = prepared(system, mocks)
    assert {key: tuple(value.shape[1:]) for key, value in inputs.items()} == INPUTS[name]
    assert all(torch.isfinite(value).all() for value in inputs.values())
    outputs = network(inputs)
    assert outputs["estimate"].shape == (len(mocks), 3)
    assert len(outputs["posterior"]) == len(mocks)
    assert len(outputs["embedding"]) == len(mocks)


@pytest.mark.parametrize("name", NETWORKS)
def test_weights_learn_from_the_mean_squared_error_alone(seed_system, mocks, name):
    system = seed_system(name)
    inputs, network = prepared(system, mocks)
    plain = copy.deepcopy(network)
    terms = system.loss(network(inputs), mocks)
    loss = torch.stack(list(terms.values())).sum(0).mean()
    loss.backward()
    unit = Prior(system.parameters).to_unit(mocks.theta)
    expected = torch.nn.functional.mse_loss(plain(inputs)["estimate"], unit)
    expected.backward()
    assert loss.item() == pytest.approx(expected.item())
    for (key, one), other in zip(network.named_parameters(), plain.parameters(), strict=True):
        if key == "slow_log_scale":
            assert one.grad.abs().min() > 0
        else:
            assert torch.allclose(one.grad, other.grad, rtol=1e-4, atol=1e-8), key


def test_unknown_labels_contribute_nothing(seed_system, mocks):
    system = seed_system("ann")
    inputs, network = prepared(system, mocks)
    theta = mocks.theta.clone()
    theta[:, 1] = torch.nan
    theta[0] = torch.nan
    partly = Batch.labelled(mocks.observation, theta)
    outputs = network(inputs)
    terms = system.loss(outputs, partly)
    torch.stack(list(terms.values())).sum().backward()
    assert torch.isfinite(terms["squared_error"]).all()
    assert terms["squared_error"][0] == 0
    error = outputs["estimate"] - Prior(system.parameters).to_unit(mocks.theta)
    expected = (error[1:, [0, 2]] ** 2).mean(-1)
    assert torch.allclose(terms["squared_error"][1:], expected)
    assert network.estimate.weight.grad[1].abs().max() == 0
    assert network.estimate.weight.grad[0].abs().max() > 0


@pytest.mark.parametrize("name", NETWORKS)
def test_a_short_training_learns_its_clusters_by_heart(seed_system, mocks, name):
    system = seed_system(name)
    mocks = mocks if name == "ann" else mocks.select(torch.arange(20))
    inputs, network = prepared(system, mocks)
    optimizer = torch.optim.Adam(network.parameters(), lr=1e-3)
    losses = []
    for _ in range(60 if name == "ann" else 40):
        loss = system.loss(network(inputs), mocks)["squared_error"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    unit = Prior(system.parameters).to_unit(mocks.theta)
    assert losses[-1] < 0.25 * unit.var(0, correction=0).mean()
    assert losses[-1] < 0.25 * losses[0]


def test_the_mode_is_the_estimate_clamped_to_the_labels_range(seed_system, mocks):
    system = seed_system("ann")
    inputs, network = prepared(system, mocks)
    with torch.no_grad():
        network.estimate.bias += torch.tensor([0.5, -5.0, 0.2])
        outputs = network(inputs)
    posterior = outputs["posterior"]
    assert isinstance(posterior, PointPosterior)
    assert torch.equal(posterior.mode(), outputs["estimate"].clamp(0, 1))
    assert torch.all(posterior.mode()[:, 1] == 0)
    drawn = posterior.sample(50, torch.Generator().manual_seed(0))
    assert torch.isfinite(drawn).all()
    assert torch.isfinite(posterior.log_prob(drawn[:, 0])).all()


def test_residual_scales_become_those_of_the_residuals(seed_system):
    """The term's minimum lies at the residuals' own spread, for estimates far from the edges."""
    system = seed_system("ann")
    generator = torch.Generator().manual_seed(2)
    spread = torch.tensor([0.02, 0.05, 0.1])
    unit = 0.5 + spread * torch.randn(2000, 3, generator=generator)
    batch = Batch.labelled(None, Prior(system.parameters).from_unit(unit))  # type: ignore[arg-type]
    log_scale = torch.full((3,), -1.5, requires_grad=True)
    optimizer = torch.optim.Adam([log_scale], lr=0.02)
    estimate = torch.full((2000, 3), 0.5)
    for _ in range(300):
        posterior = PointPosterior(estimate, log_scale.exp().expand_as(estimate), "mse")
        term = system.loss({"estimate": estimate, "posterior": posterior}, batch)["residual_scale"]
        assert torch.all(term == 0)
        optimizer.zero_grad()
        term.mean().backward()
        optimizer.step()
    assert torch.allclose(log_scale.exp(), spread, rtol=0.1)
