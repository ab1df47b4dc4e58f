"""Attributions add up, find the true influence in a trained network, and nothing in controls."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian
from torch import nn

from melotte.engine.attribution import (
    attribute,
    occlude,
    rank_agreement,
    sums_by_object,
    untrained_copy,
)
from melotte.engine.model_files import Model
from melotte.errors import MelotteValueError
from melotte.networks.heads import build_head
from melotte.ragged import Ragged
from melotte.systems.base import Observation


def observe(system, n, seed):
    generator = torch.Generator().manual_seed(seed)
    return system.observe(system.draw(n, generator), generator)


def exact_model(ragged=False, noise=0.05):
    system = LinearGaussian(noise=noise, ragged=ragged)
    return Model(system, dict(PRESET), system.identity_constants, system.exact_network())


def trained_model(seed, shuffled=False, steps=250):
    """A small network trained here; `shuffled` gives every object the labels of another."""
    system = LinearGaussian(noise=0.1)
    constants = system.constants(observe(system, 1000, 1))
    torch.manual_seed(seed)
    network = system.network(constants)
    optimizer = torch.optim.Adam(network.parameters(), lr=5e-3)
    data = observe(system, 8192, 100 + seed)
    if shuffled:
        order = torch.randperm(len(data), generator=torch.Generator().manual_seed(seed))
        data = data.__class__.labelled(data.observation, data.theta[order])
    for step in range(steps):
        batch = data.select(torch.arange(256) + 256 * (step % 32))
        outputs = network(system.prepare(batch.observation, constants))
        loss = system.loss(outputs, batch)["posterior"].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return Model(system, dict(PRESET), constants, network.eval())


def true_influence(model, observation, number):
    """Share of each datum in the least-squares estimate, about the mean of the mocks."""
    matrix = model.system.matrix
    centred = observation.data["x"] - torch.tensor(model.constants["mean"])
    return centred * matrix[:, number] / (matrix[:, number] ** 2).sum()


def test_exact_network_gives_the_exact_shares():
    model = exact_model()
    observation = observe(model.system, 200, 2).observation
    centre = model.system.matrix @ torch.full((3,), 0.5)
    baseline = {"x": centre.expand(200, -1)}
    result = attribute(model, observation, "distance", baseline=baseline)
    exact = model.system.exact_posterior(observation)
    inner = ((exact.loc - 0.5).abs() + 5 * exact.scale < 0.5)[:, 2]
    assert inner.sum() > 50
    power = (model.system.matrix[:, 2] ** 2).sum()
    shares = 4.5 * (observation.data["x"] - centre) * model.system.matrix[:, 2] / power
    torch.testing.assert_close(result.values["x"][inner], shares[inner], rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(result.baseline, torch.full((200,), 2.75), rtol=1e-4, atol=0)


class MixtureNetwork(nn.Module):
    """The encoder of the test system with a head whose mean is known from samples alone."""

    def __init__(self, system):
        super().__init__()
        self.features = nn.Linear(system.n_data, 16)
        self.head = build_head("autoregressive", 16, 3, components=3, hidden=16)

    def forward(self, inputs):
        embedding = torch.tanh(self.features(inputs["x"]))
        return {"posterior": self.head(embedding), "embedding": embedding}


def test_sampled_means_have_the_gradient_of_the_true_mean():
    """Integrated over the first parameter's density on a grid, which needs no samples."""
    torch.manual_seed(4)
    system = LinearGaussian()
    network = MixtureNetwork(system)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    model = Model(system, dict(PRESET), system.identity_constants, network.eval())
    observation = observe(system, 3, 5).observation
    result = attribute(model, observation, "log_age", steps=64)
    x = observation.data["x"]

    def grid_mean(points):
        grid = (torch.arange(400) + 0.5) / 400
        posterior = network({"x": points})["posterior"]
        rows = torch.arange(len(points)).repeat_interleave(400)
        cube = torch.full((len(rows), 3), 0.5)
        cube[:, 0] = grid.repeat(len(points))
        known = torch.tensor([True, False, False]).expand(len(rows), 3)
        density = posterior.select(rows).log_prob_known(cube, known).exp().view(-1, 400)
        return 6 + 4 * (density * grid).mean(1)

    total = torch.zeros_like(x)
    for k in range(64):
        point = ((k + 0.5) / 64 * x).requires_grad_()
        total += torch.autograd.grad(grid_mean(point).sum(), point)[0] / 64
    change = grid_mean(x) - grid_mean(torch.zeros_like(x))
    size = (total * x).abs().max()
    assert size > 0.05
    torch.testing.assert_close(result.values["x"], total * x, atol=float(0.06 * size), rtol=0)
    torch.testing.assert_close(result.prediction - result.baseline, change, atol=0.02, rtol=0.05)


@pytest.mark.parametrize("ragged", [False, True])
def test_attributions_add_up_to_the_prediction(ragged):
    system = LinearGaussian(ragged=ragged)
    constants = system.constants(observe(system, 500, 3))
    torch.manual_seed(3)
    model = Model(system, dict(PRESET), constants, system.network(constants))
    observation = observe(system, 20, 4).observation
    result = attribute(model, observation, "extinction_v", steps=200)
    change = result.prediction - result.baseline
    assert change.abs().mean() > 1e-2
    assert result.residual.abs().max() < 0.01 * change.abs().max()
    torch.testing.assert_close(
        sums_by_object(result.values["x"]) + result.residual, change, rtol=1e-4, atol=1e-5
    )
    coarse = attribute(model, observation, "extinction_v", steps=1)
    assert coarse.residual.abs().max() > 3 * result.residual.abs().max()


def test_objects_are_explained_one_by_one():
    model = exact_model(ragged=True)
    observation = observe(model.system, 6, 5).observation
    together = attribute(model, observation, "log_age", steps=16).values["x"]
    alone = attribute(model, observation.select(torch.tensor([4])), "log_age", steps=16)
    assert isinstance(together, Ragged)
    torch.testing.assert_close(together[4], alone.values["x"].values, rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def agreements():
    """Rank agreement with the true influence: trained, trained on shuffled labels, untrained."""
    found = {"trained": [], "shuffled": [], "untrained": []}
    sizes = {"trained": [], "shuffled": []}
    for seed in range(10):
        models = {"shuffled": trained_model(seed, shuffled=True, steps=100)}
        if seed < 2:
            models["trained"] = trained_model(seed)
        models["untrained"] = untrained_copy(models["shuffled"], seed)
        observation = observe(models["shuffled"].system, 100, 50 + seed).observation
        for kind, model in models.items():
            for number, parameter in enumerate(model.parameters):
                values = attribute(model, observation, parameter.name, steps=8).values["x"]
                truth = true_influence(model, observation, number)
                found[kind].append(rank_agreement(values, truth))
                if kind in sizes:
                    sizes[kind].append(
                        float(values.abs().mean()) / (parameter.high - parameter.low)
                    )
    return {kind: np.array(values) for kind, values in found.items()}, sizes


def test_a_trained_network_reads_what_it_should(agreements):
    assert agreements[0]["trained"].min() > 0.8


@pytest.mark.parametrize("kind", ["shuffled", "untrained"])
def test_controls_carry_nothing_of_the_truth(agreements, kind):
    """Ten networks, three parameters: their mean agreement is zero within three errors."""
    by_network = agreements[0][kind].reshape(10, 3).mean(1)
    error = by_network.std(ddof=1) / np.sqrt(10)
    assert abs(by_network.mean()) < 3 * error
    assert error < 0.15


def test_shuffled_labels_leave_little_to_attribute(agreements):
    sizes = agreements[1]
    assert np.mean(sizes["shuffled"]) < 0.35 * np.mean(sizes["trained"])


def test_occlusion_of_the_exact_network_is_the_leave_one_out_change():
    model = exact_model(ragged=True)
    batch = observe(model.system, 300, 6)
    exact = model.system.exact_posterior(batch.observation)
    inner = ((exact.loc - 0.5).abs() + 6 * exact.scale < 0.5).all(1)
    many = batch.observation.data["x"].counts >= 4
    number = int(torch.nonzero(inner & many)[0])
    one = batch.observation.select(torch.tensor([number]))
    x = one.data["x"].values
    matrix = model.system.matrix
    each = 6 + 4 * (x @ matrix / (matrix**2).sum(0))[:, 0]
    n = len(each)
    without = (each.sum() - each) / (n - 1)
    torch.testing.assert_close(
        occlude(model, one, "log_age", "x"), each.mean() - without, rtol=1e-2, atol=2e-3
    )


def test_occlusion_and_gradients_agree_on_the_elements():
    model = exact_model(ragged=True, noise=0.2)
    batch = observe(model.system, 60, 7)
    counts = batch.observation.data["x"].counts
    one = batch.observation.select(torch.nonzero(counts == 8)[:1, 0])
    centre = (model.system.matrix @ torch.full((3,), 0.5)).expand(8, -1)
    baseline = {"x": Ragged(centre, one.data["x"].offsets)}
    shares = attribute(model, one, "distance", baseline=baseline).values["x"].values.sum(1)
    assert rank_agreement(shares, occlude(model, one, "distance", "x")) > 0.9


def test_a_set_of_one_cannot_be_occluded():
    model = exact_model(ragged=True)
    one = Observation({"x": Ragged.pack([torch.zeros(1, 5)])})
    assert torch.isnan(occlude(model, one, "log_age", "x")).all()


def test_wrong_requests_are_refused():
    model = exact_model(ragged=True)
    observation = observe(model.system, 2, 8).observation
    one = observation.select(torch.tensor([0]))
    with pytest.raises(MelotteValueError, match="'mass' is unknown; known: log_age"):
        attribute(model, observation, "mass")
    with pytest.raises(MelotteValueError, match="steps 0"):
        attribute(model, observation, "log_age", steps=0)
    with pytest.raises(MelotteValueError, match="shapes"):
        attribute(model, observation, "log_age", baseline={"x": torch.zeros(1, 5)})
    with pytest.raises(MelotteValueError, match="found 2 objects"):
        occlude(model, observation, "log_age", "x")
    with pytest.raises(MelotteValueError, match="sets: x"):
        occlude(model, one, "log_age", "stars")


def test_rank_agreement_of_known_cases():
    first = torch.tensor([1.0, 2.0, 3.0])
    assert rank_agreement(first, first**3) == pytest.approx(1)
    assert rank_agreement(first, -first) == pytest.approx(-1)
    assert np.isnan(rank_agreement(first, torch.zeros(3)))
