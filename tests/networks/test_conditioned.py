"""Posteriors at known leading values: exact densities, samples that follow them."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.conditioned import ConditionedPosterior
from melotte.networks.heads import build_head

N = 3


def keyed(seed):
    return torch.Generator().manual_seed(seed)


@torch.no_grad()
def whole(batch=4, n=N):
    """Posteriors in which later parameters depend strongly on earlier ones."""
    torch.manual_seed(1)
    head = build_head("autoregressive", 5, n, components=4, hidden=16)
    for conditional in head.conditionals:
        conditional.layers[-1].weight.mul_(3)
        if conditional.before is not None:
            conditional.before.weight.mul_(6)
    return head(torch.randn(batch, 5, generator=keyed(2)))


def middles(dimensions, n=150):
    """Middles of the cells of an even grid over the cube, (n ** dimensions, dimensions)."""
    axis = (torch.arange(n) + 0.5) / n
    return torch.cartesian_prod(*[axis] * dimensions).view(-1, dimensions)


def at(posterior, value=0.3, n_leading=1):
    return ConditionedPosterior(posterior, torch.full((n_leading,), value))


@torch.no_grad()
@pytest.mark.parametrize("n_leading", [1, 2])
def test_density_integrates_to_one_and_is_the_joint_over_the_marginal(n_leading):
    posterior = whole()
    left = N - n_leading
    points = middles(left)
    conditioned = at(posterior, n_leading=n_leading)
    for i in range(len(posterior)):
        rows = conditioned.select(torch.full((len(points),), i))
        assert float(rows.log_prob(points).exp().mean()) == pytest.approx(1, abs=0.02)
    u = torch.rand(len(posterior), left, generator=keyed(4))
    filled = torch.cat([torch.full((len(u), n_leading), 0.3), u], 1)
    first = torch.arange(N) < n_leading
    marginal = posterior.log_prob_known(filled, first.expand(len(u), -1))
    torch.testing.assert_close(conditioned.log_prob(u), posterior.log_prob(filled) - marginal)
    every = torch.ones_like(u, dtype=torch.bool)
    torch.testing.assert_close(conditioned.log_prob_known(u, every), conditioned.log_prob(u))


@torch.no_grad()
def test_samples_are_those_of_the_joint_near_the_given_value():
    posterior = whole(batch=1)
    joint = posterior.sample(400_000, keyed(5))[0]
    near = joint[(joint[:, 0] - 0.3).abs() < 0.01][:, 1:]
    assert len(near) > 500
    drawn = at(posterior).sample(20_000, keyed(6))[0]
    levels = torch.tensor([0.1, 0.5, 0.9])
    expected, found = near.quantile(levels, 0), drawn.quantile(levels, 0)
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)
    # Without the condition they are others: the test would notice a value that is not used.
    far = at(posterior, 0.95).sample(20_000, keyed(6))[0].quantile(levels, 0)
    assert float((far - expected).abs().max()) > 0.1


@torch.no_grad()
def test_samples_follow_the_density():
    conditioned = at(whole(batch=2))
    drawn = conditioned.sample(20_000, keyed(7))
    points = middles(N - 1)
    for i in range(2):
        rows = conditioned.select(torch.full((len(points),), i))
        # The mean of any function over samples is its integral with the density.
        weight = rows.log_prob(points).exp()[:, None]
        expected = (points.square() * weight).mean(0)
        torch.testing.assert_close(drawn[i].square().mean(0), expected, atol=0.015, rtol=0)


@torch.no_grad()
def test_the_later_of_the_remaining_are_integrated_out():
    conditioned = at(whole(batch=1))
    steps = (torch.arange(4000) + 0.5) / 4000
    rows = conditioned.select(torch.zeros(4000, dtype=torch.long))
    grid = torch.stack([torch.full((4000,), 0.6), steps], 1)
    summed = rows.log_prob(grid).exp().mean().log()
    known = torch.tensor([[True, False]])
    marginal = conditioned.log_prob_known(torch.tensor([[0.6, torch.nan]]), known)
    assert float(marginal) == pytest.approx(float(summed), abs=0.03)


@torch.no_grad()
def test_each_object_has_its_own_value_and_the_interface_of_a_posterior():
    posterior = whole()
    values = torch.tensor([[0.0], [0.2], [0.7], [1.0]])
    conditioned = ConditionedPosterior(posterior, values)
    assert (len(conditioned), conditioned.n_parameters) == (4, N - 1)
    quantiles = conditioned.quantile(torch.tensor([0.1, 0.5, 0.9]))
    assert quantiles.shape == (4, 3, N - 1)
    assert bool((quantiles.diff(dim=1) >= 0).all())
    one = conditioned.select(torch.tensor([2]))
    u = torch.tensor([[0.4, 0.5]])
    torch.testing.assert_close(one.log_prob(u), at(posterior, 0.7).log_prob(u.expand(4, -1))[2:3])
    assert bool((conditioned.log_prob(torch.full((4, N - 1), 1.5)) == -torch.inf).all())


@pytest.mark.parametrize(
    ("leading", "message"),
    [
        (torch.full((4, N), 0.5), "1 <= k < 3"),
        (torch.full((2, 1), 0.5), "needs"),
        (torch.tensor([1.2]), "unit cube"),
        (torch.tensor([torch.nan]), "unit cube"),
    ],
)
def test_impossible_conditions_are_refused(leading, message):
    with pytest.raises(MelotteValueError, match=message):
        ConditionedPosterior(whole(), leading)
