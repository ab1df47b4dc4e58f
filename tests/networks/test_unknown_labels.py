"""Labels that are not known: their densities are integrated out, gradients included."""

import math

import pytest
import torch

from melotte.networks.heads import HEADS, build_head
from melotte.networks.posteriors import Posterior
from melotte.parameters import Parameter, Prior

N_NODES = 400
SETTINGS = {
    "point": {},
    "grid": {"bins": [8, 6]},
    "mixture": {"components": 3, "hidden": 16},
    "autoregressive": {"components": 3, "hidden": 16},
    "flow": {"bins": 5, "hidden": 16},
}
KINDS = sorted(HEADS)


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def make(kind, n_parameters=2):
    torch.manual_seed(2)
    settings = dict(SETTINGS[kind])
    if kind == "grid":
        settings["bins"] = [8, 6, 5][:n_parameters]
    head = build_head(kind, 4, n_parameters, **settings)
    with torch.no_grad():
        for weight in head.parameters():
            weight.mul_(1.4)
    return head, torch.randn(3, 4, generator=keyed(1))


def integrated(head, features, u, axis):
    """Log of the density at ``u`` integrated over one parameter, on nodes that crowd at faces."""
    steps = (torch.arange(N_NODES) + 0.5) / N_NODES
    nodes, slopes = steps**2 * (3 - 2 * steps), 6 * steps * (1 - steps)
    rows = torch.arange(len(u)).repeat_interleave(N_NODES)
    points = u[rows].clone()
    points[:, axis] = nodes.repeat(len(u))
    density = head(features).select(rows).log_prob(points).view(len(u), N_NODES)
    return torch.logsumexp(density + slopes.log(), 1) - math.log(N_NODES)


def gradient_of(head, value):
    head.zero_grad()
    value.sum().backward()
    return torch.cat([weight.grad.flatten() for weight in head.parameters()])


@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("kind", ["grid", "mixture", "autoregressive", "flow"])
def test_gradient_of_a_marginal_is_that_of_the_integral(kind, axis):
    """The unknown parameter's own density must learn too: leaving it out is far off."""
    head, features = make(kind)
    u = torch.tensor([[0.2, 0.7], [0.6, 0.3], [0.4, 0.9]])
    known = torch.ones(3, 2, dtype=torch.bool)
    known[:, axis] = False
    options = {"n_draws": 2048} if kind in ("autoregressive", "flow") else {}
    found = head(features).log_prob_known(torch.where(known, u, math.nan), known, **options)
    expected = integrated(head, features, u, axis)
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)
    ours, theirs = gradient_of(head, found), gradient_of(head, expected)
    assert float((ours - theirs).norm() / theirs.norm()) < 0.05


@pytest.mark.parametrize("kind", ["autoregressive", "flow"])
def test_few_points_are_close_to_the_integral(kind):
    head, features = make(kind)
    u = torch.tensor([[math.nan, 0.7], [math.nan, 0.3], [math.nan, 0.9]])
    known = torch.tensor([[False, True]]).expand(3, 2)
    with torch.no_grad():
        found = head(features).log_prob_known(u, known)
        again = head(features).log_prob_known(u, known)
        expected = integrated(head, features, u.nan_to_num(0.5), 0)
    assert torch.equal(found, again)
    assert float((found - expected).abs().max()) < 0.1


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_any_pattern_are_independent_of_each_other(kind):
    """A batch that mixes patterns gives each leading row what it gets alone."""
    head, features = make(kind, n_parameters=3)
    u = torch.rand(3, 3, generator=keyed(4))
    known = torch.tensor([[True, False, True], [True, True, False], [False, False, True]])
    with torch.no_grad():
        together = head(features).log_prob_known(torch.where(known, u, math.nan), known)
        alone = head(features[1:2]).log_prob_known(u[1:2], known[1:2])
    assert torch.isfinite(together).all()
    torch.testing.assert_close(together[1:2], alone)


@pytest.mark.parametrize("kind", KINDS)
def test_unknown_labels_leave_finite_gradients(kind):
    head, features = make(kind, n_parameters=3)
    known = torch.tensor([[True, False, True], [False, True, False], [False, False, False]])
    u = torch.where(known, torch.tensor([0.0, 1.0, 0.5]), math.nan)
    gradient = gradient_of(head, head(features).log_prob_known(u, known))
    assert torch.isfinite(gradient).all()


def test_nearly_degenerate_mixtures_have_marginals():
    """Correlations of 1 - 2.5e-9 are beyond single precision's covariances."""
    from melotte.networks.mixture import MixturePosterior

    factor = torch.tensor([[1.0, 0, 0], [1, 1, 0], [1, 1, 1e-4]])
    posterior = MixturePosterior(torch.zeros(1, 1), torch.zeros(1, 1, 3), factor[None, None])
    found = posterior.log_prob_known(torch.full((1, 3), 0.5), torch.tensor([[False, True, True]]))
    # The determinant of [[2, 2], [2, 2 + 1e-8]], and the slope of the logit at the middle.
    expected = -math.log(2 * math.pi * math.sqrt(2e-8)) - 2 * math.log(1.7 / 4)
    assert float(found) == pytest.approx(expected, abs=1e-3)


@pytest.mark.parametrize("loss", ["mse", "smooth_l1"])
def test_point_estimates_learn_by_the_regression_loss(loss):
    """The estimate's gradient is that of the loss in units of the scale, at a face too."""
    head = build_head("point", 4, 2, loss=loss, hidden=8)
    features = torch.randn(5, 4, generator=keyed(1))
    u = torch.rand(5, 2, generator=keyed(2))
    posterior = head(features)
    place = posterior.place
    (found,) = torch.autograd.grad(
        -posterior.log_prob_known(u, torch.ones(5, 2, dtype=torch.bool)).sum(), place
    )
    scale = posterior.scale.detach()
    residual = ((place - u) / scale).detach().requires_grad_()
    losses = {"mse": lambda r: 0.5 * r**2, "smooth_l1": lambda r: _huber(r)}
    (expected,) = torch.autograd.grad(losses[loss](residual).sum(), residual)
    torch.testing.assert_close(found, expected / scale)


def _huber(residual):
    return torch.nn.functional.smooth_l1_loss(
        residual, torch.zeros_like(residual), reduction="none"
    )


def test_physical_marginals_carry_the_jacobian_of_the_known_parameters():
    head, features = make("mixture")
    prior = Prior([Parameter("a", 1.0, 50.0, scale="log"), Parameter("b", -2.0, 3.0)])
    with torch.no_grad():
        posterior = Posterior(head(features), prior)
        a = 1 + 49 * ((torch.arange(4000) + 0.5) / 4000)
        one = Posterior(posterior.unit.select(torch.zeros(4000, dtype=torch.int64)), prior)
        theta = torch.stack([a, torch.full_like(a, math.nan)], 1)
        known = torch.tensor([[True, False]]).expand(4000, 2)
        density = one.log_prob_known(theta, known).exp()
        assert float(density.mean() * 49) == pytest.approx(1, abs=0.02)
        beyond = posterior.log_prob_known(torch.full((3, 2), 60.0), known[:3])
    assert (beyond == -math.inf).all()


def test_physical_quantiles_follow_the_generator_where_they_are_sampled():
    head, features = make("flow")
    prior = Prior([Parameter("a", 1.0, 50.0, scale="log"), Parameter("b", -2.0, 3.0)])
    levels = torch.tensor([0.16, 0.5, 0.84])
    with torch.no_grad():
        posterior = Posterior(head(features), prior)
        first = posterior.quantile(levels, keyed(1))
        assert torch.equal(first, posterior.quantile(levels, keyed(1)))
        assert not torch.equal(first, posterior.quantile(levels, keyed(2)))
    assert (first.diff(dim=1) > 0).all()
