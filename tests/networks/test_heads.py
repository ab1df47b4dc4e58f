"""Laws that every head keeps, whatever its kind."""

import math

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from melotte.errors import MelotteValueError
from melotte.networks.heads import HEADS, build_head
from melotte.networks.posteriors import Posterior
from melotte.parameters import Parameter, Prior

N_FEATURES = 6
SETTINGS = {
    "point": {"loss": "mse"},
    "grid": {"bins": [10, 6]},
    "mixture": {"components": 3, "hidden": 32},
    "autoregressive": {"components": 4, "hidden": 32},
    "flow": {"bins": 6, "hidden": 32},
}
KINDS = sorted(HEADS)


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def make(kind, n_parameters=2, spread=1.7):
    """A head with random, far from uniform posteriors, and those of four objects."""
    torch.manual_seed(3)
    settings = dict(SETTINGS[kind])
    if kind == "grid":
        settings["bins"] = [10, 6, 5, 6][:n_parameters]
    head = build_head(kind, N_FEATURES, n_parameters, **settings)
    with torch.no_grad():
        for module in head.modules():
            if isinstance(module, nn.Linear) and module.out_features != 32:
                module.weight.mul_(spread)
    features = torch.randn(4, N_FEATURES, generator=keyed(1))
    with torch.no_grad():
        return head, head(features), features


def square(n=300):
    nodes = (torch.arange(n) + 0.5) / n
    return torch.stack(torch.meshgrid(nodes, nodes, indexing="ij"), -1).reshape(-1, 2), nodes


def on_square(posterior, i, points):
    with torch.no_grad():
        return posterior.select(torch.full((len(points),), i)).log_prob(points)


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_normalised_on_the_square(kind):
    _, posterior, _ = make(kind)
    points, _ = square()
    for i in range(4):
        assert float(on_square(posterior, i, points).exp().mean()) == pytest.approx(1, abs=0.02)


@pytest.mark.parametrize("kind", KINDS)
def test_density_is_normalised_in_four_dimensions(kind):
    _, posterior, _ = make(kind, n_parameters=4, spread=1.0)
    uniform = torch.rand(60_000, 4, generator=keyed(2))
    for i in range(4):
        assert float(on_square(posterior, i, uniform).exp().mean()) == pytest.approx(1, abs=0.1)


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_density(kind):
    _, posterior, _ = make(kind)
    points, _ = square()
    samples = posterior.sample(40_000, keyed(5)).detach()
    assert samples.shape == (4, 40_000, 2)
    assert float(samples.min()) >= 0
    assert float(samples.max()) <= 1
    for i in range(4):
        mass = on_square(posterior, i, points).exp().view(300, 300) / 300**2
        expected = mass.view(5, 60, 5, 60).sum((1, 3))
        cells = (samples[i] * 5).long().clamp(max=4)
        found = torch.zeros(5, 5)
        found.index_put_((cells[:, 0], cells[:, 1]), torch.tensor(1 / 40_000), accumulate=True)
        assert float((found - expected).abs().max()) < 0.012


@pytest.mark.parametrize("kind", KINDS)
def test_marginals_of_known_parameters_match_the_integral(kind):
    _, posterior, _ = make(kind)
    _, nodes = square()
    u = torch.tensor([0.37, 0.61])
    for known in ([True, False], [False, True]):
        mask = torch.tensor([known]).expand(4, 2)
        axis = known.index(False)
        line = u.repeat(300, 1)
        line[:, axis] = nodes
        torch.manual_seed(0)
        options = {"n_draws": 20_000} if kind in ("flow", "autoregressive") else {}
        with torch.no_grad():
            found = posterior.log_prob_known(u.expand(4, 2), mask, **options)
        for i in range(4):
            expected = float(on_square(posterior, i, line).exp().mean())
            assert math.exp(float(found[i])) == pytest.approx(expected, rel=0.06, abs=0.01)


@pytest.mark.parametrize("kind", KINDS)
def test_everything_known_is_the_density_and_nothing_known_is_one(kind):
    _, posterior, _ = make(kind)
    u = torch.rand(4, 2, generator=keyed(6))
    with torch.no_grad():
        every = posterior.log_prob_known(u, torch.ones(4, 2, dtype=torch.bool))
        assert torch.allclose(every, posterior.log_prob(u), atol=1e-5)
        nothing = posterior.log_prob_known(u * math.nan, torch.zeros(4, 2, dtype=torch.bool))
    assert nothing.tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize("kind", KINDS)
def test_edges_are_finite_and_outside_is_impossible(kind):
    _, posterior, _ = make(kind)
    edges = torch.tensor([[0.0, 1.0], [1.0, 0.0], [0.0, 0.0], [1.0, 1.0]])
    outside = torch.tensor([[-0.01, 0.5], [0.5, 1.01], [math.nan, 0.5], [2.0, 2.0]])
    with torch.no_grad():
        assert torch.isfinite(posterior.log_prob(edges)).all()
        assert (posterior.log_prob(outside) == -math.inf).all()


@pytest.mark.parametrize("kind", KINDS)
def test_every_weight_gets_a_gradient(kind):
    head, _, features = make(kind)
    u = torch.rand(4, 2, generator=keyed(7))
    head(features).log_prob_known(u, torch.ones(4, 2, dtype=torch.bool)).sum().backward()
    for name, weight in head.named_parameters():
        assert weight.grad is not None, name
        assert torch.isfinite(weight.grad).all(), name
        assert weight.grad.abs().sum() > 0, name


@pytest.mark.parametrize("kind", KINDS)
def test_weights_carry_the_posterior(kind):
    head, posterior, features = make(kind)
    twin = build_head(kind, N_FEATURES, 2, **SETTINGS[kind])
    twin.load_state_dict(head.state_dict())
    u = torch.rand(4, 2, generator=keyed(8))
    with torch.no_grad():
        assert torch.equal(twin(features).log_prob(u), posterior.log_prob(u))
        assert torch.equal(twin(features).sample(5, keyed(9)), posterior.sample(5, keyed(9)))


@pytest.mark.parametrize("kind", KINDS)
def test_half_precision_features_do_not_break_the_density(kind):
    head, posterior, features = make(kind)
    u = torch.rand(4, 2, generator=keyed(8))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        rough = head(features.bfloat16()).log_prob(u)
    assert rough.dtype == torch.float32
    assert torch.allclose(rough, posterior.log_prob(u), atol=0.6)


@pytest.mark.parametrize("kind", KINDS)
def test_quantiles_match_samples(kind):
    _, posterior, _ = make(kind)
    levels = torch.tensor([0.1, 0.5, 0.9])
    with torch.no_grad():
        found = posterior.quantile(levels)
        drawn = torch.quantile(posterior.sample(20_000, keyed(10)), levels, dim=1).movedim(0, 1)
    sampled = kind in ("flow", "autoregressive")
    assert torch.allclose(found, drawn, atol=0.09 if sampled else 0.015)


@pytest.mark.parametrize("kind", ["flow", "autoregressive"])
def test_quantiles_of_one_parameter_have_no_sampling_noise(kind):
    torch.manual_seed(4)
    posterior = build_head(kind, 6, 1)(3 * torch.randn(5, 6))
    levels = torch.tensor([0.025, 0.16, 0.5, 0.84, 0.975])
    with torch.no_grad():
        found = posterior.quantile(levels)
        drawn = torch.quantile(posterior.sample(40_000, keyed(10)), levels, dim=1).movedim(0, 1)
    assert found.shape == (5, 5, 1)
    assert (found.diff(dim=1) > 0).all()
    torch.testing.assert_close(found, drawn, rtol=0, atol=0.008)


@pytest.mark.parametrize("kind", KINDS)
def test_means_match_the_density(kind):
    _, posterior, _ = make(kind)
    points, _ = square()
    sampled = kind in ("flow", "autoregressive")
    with torch.no_grad():
        found = posterior.mean()
    for i in range(4):
        density = on_square(posterior, i, points).exp()
        expected = (density[:, None] * points).mean(0) / density.mean()
        assert torch.allclose(found[i], expected, atol=0.04 if sampled else 0.004)


@pytest.mark.parametrize("loss", ["mse", "smooth_l1"])
def test_point_means_are_those_of_the_truncated_residuals(loss):
    from melotte.networks.point import PointPosterior

    place = torch.tensor([[0.02, 0.5], [0.97, 0.3], [0.3, 0.8]])
    scale = torch.tensor([[0.1, 2.0], [0.05, 0.01], [0.2, 0.1]])
    posterior = PointPosterior(place, scale, loss)
    drawn = posterior.sample(100_000, keyed(3)).mean(1)
    assert torch.allclose(posterior.mean(), drawn, atol=0.003)
    assert torch.equal(posterior.mode(), place)


def test_mixture_summaries_know_the_correlations():
    """Off-diagonal factors widen the marginals of the later parameter alone."""
    from melotte.networks.mixture import MixturePosterior

    factor = torch.tensor([[[0.2, 0.0], [1.5, 0.3]], [[0.3, 0.0], [-0.8, 0.1]]])[None]
    place = torch.tensor([[[0.5, 1.0], [-0.5, 1.5]]])
    posterior = MixturePosterior(torch.tensor([[0.3, 0.7]]).log(), place, factor)
    levels = torch.tensor([0.025, 0.16, 0.5, 0.84, 0.975])
    drawn = posterior.sample(200_000, keyed(3))
    expected = torch.quantile(drawn, levels, dim=1).movedim(0, 1)
    assert torch.allclose(posterior.quantile(levels), expected, atol=0.004)
    assert torch.allclose(posterior.mean(), drawn.mean(1), atol=0.003)


@pytest.mark.parametrize("kind", ["mixture", "autoregressive", "flow"])
def test_modes_are_denser_than_samples(kind):
    _, posterior, _ = make(kind, n_parameters=4, spread=1.0)
    with torch.no_grad():
        top = posterior.log_prob(posterior.mode())
        drawn = posterior.sample(200, keyed(4))
        below = torch.stack([posterior.log_prob(one) < top for one in drawn.unbind(1)])
    assert (below.float().mean(0) > 0.97).all()


@pytest.mark.parametrize("kind", KINDS)
def test_samples_follow_the_density_in_four_dimensions(kind):
    """First and second moments, against the density's own at uniform points."""
    _, posterior, _ = make(kind, n_parameters=4, spread=1.0)
    uniform = torch.rand(60_000, 4, generator=keyed(2))
    drawn = posterior.sample(20_000, keyed(3)).detach()
    for i in range(4):
        weights = on_square(posterior, i, uniform).exp()
        weights = weights / weights.sum()
        mean = weights @ uniform
        second = (weights[:, None] * uniform).T @ uniform
        assert torch.allclose(drawn[i].mean(0), mean, atol=0.025)
        assert torch.allclose(drawn[i].T @ drawn[i] / 20_000, second, atol=0.025)


@pytest.mark.parametrize("kind", ["mixture", "autoregressive", "flow"])
def test_first_parameter_is_uniform_under_its_own_distribution(kind):
    """The probability integral transform, by the exact marginal of the leading parameter."""
    _, posterior, _ = make(kind)
    steps = torch.linspace(0, 1, 401)
    nodes = steps**2 * (3 - 2 * steps)
    middles = (nodes[1:] + nodes[:-1]) / 2
    u = torch.stack([middles, torch.full_like(middles, math.nan)], 1)
    known = torch.tensor([[True, False]]).expand(400, 2)
    samples = posterior.sample(5000, keyed(12)).detach()[..., 0]
    for i in range(4):
        one = posterior.select(torch.full((400,), i))
        with torch.no_grad():
            mass = one.log_prob_known(u, known).exp() * nodes.diff()
        cumulative = torch.nn.functional.pad(mass.cumsum(0), (1, 0))
        found = np.interp(samples[i].numpy(), nodes.numpy(), cumulative.numpy())
        assert kstest(found, "uniform").pvalue > 1e-4


def test_grid_point_estimate_is_the_average_around_the_peak():
    from melotte.networks.grid import GridPosterior

    mass = torch.full((20,), 1e-9)
    mass[4:7] = torch.tensor([0.2, 0.4, 0.2])
    mass[15] = 0.2
    posterior = GridPosterior(torch.log(mass)[None])
    assert float(posterior.mode()) == pytest.approx(5.5 / 20, abs=1e-3)
    assert float(posterior.mean()) > 0.35


def test_soft_targets_pull_towards_neighbouring_cells():
    torch.manual_seed(0)
    losses = []
    for offset in (1, 6):
        head = build_head("grid", 2, 1, bins=[20], softness=1.0)
        with torch.no_grad():
            head.layers[-1].weight.zero_()
            head.layers[-1].bias.zero_()
            head.layers[-1].bias[10 + offset] = 5.0
        density = head(torch.zeros(1, 2)).log_prob_known(
            torch.tensor([[10.5 / 20]]), torch.tensor([[True]])
        )
        losses.append(-float(density.detach()))
    assert losses[0] < losses[1] - 1


@pytest.mark.parametrize(
    ("kind", "settings", "complaint"),
    [
        ("oracle", {}, "known: point"),
        ("flow", {"bin": 3}, "allowed: bins, hidden"),
        ("grid", {"bins": [3]}, "needs 2 numbers"),
        ("grid", {"bins": [3000, 3000]}, "at most"),
        ("point", {"loss": "l7"}, "smooth_l1"),
    ],
)
def test_bad_settings_name_what_is_allowed(kind, settings, complaint):
    with pytest.raises(MelotteValueError, match=complaint):
        build_head(kind, 4, 2, **settings)


@pytest.mark.parametrize("kind", KINDS)
def test_physical_density_integrates_to_one_on_a_logarithmic_scale(kind):
    _, unit, _ = make(kind)
    prior = Prior([Parameter("a", 1.0, 50.0, scale="log"), Parameter("b", -2.0, 3.0)])
    posterior = Posterior(unit, prior)
    points, _ = square(200)
    theta = torch.stack([1 + 49 * points[:, 0] ** 2, -2 + 5 * points[:, 1]], -1)
    # Substituting a = 1 + 49 s^2 puts nodes where the density of a logarithm is high.
    weight = 2 * 49 * points[:, 0] * 5
    chosen = Posterior(unit.select(torch.full((len(points),), 1)), prior)
    with torch.no_grad():
        density = chosen.log_prob(theta).exp()
    assert float((density * weight).mean()) == pytest.approx(1, abs=0.03)
    assert posterior.sample(10, keyed(1)).shape == (4, 10, 2)
    assert (posterior.log_prob(torch.full((4, 2), 99.0)) == -math.inf).all()
