"""Posteriors of pixels: densities, quantiles and deviations that agree; unknown pixels."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.map_posteriors import MapPosterior, map_log_likelihood

KINDS = [None, torch.tensor([3.0, 30.0])]


def posterior(degrees=None):
    generator = torch.Generator().manual_seed(0)
    mean = torch.randn(3, 2, 4, 5, generator=generator)
    return MapPosterior(mean, torch.rand(3, 2, 4, 5, generator=generator) + 0.2, degrees)


@pytest.mark.parametrize("degrees", KINDS)
def test_densities_integrate_to_one_with_the_stated_mean_and_deviation(degrees):
    given = posterior(degrees)
    # Student's tail of 3 degrees beyond 400 scales holds 3e-8, and 0.9 % of the variance.
    steps = torch.sinh(torch.linspace(-6.7, 6.7, 8001, dtype=torch.float64))
    steps = steps[:, None, None, None, None]
    values = given.mean + given.scale * steps
    density = given.log_prob(values).exp()
    along = values.movedim(0, -1)
    total = torch.trapezoid(density.movedim(0, -1), along)
    torch.testing.assert_close(total.float(), torch.ones_like(given.mean), rtol=1e-4, atol=0)
    square = (density * (values - given.mean) ** 2).movedim(0, -1)
    deviation = torch.trapezoid(square, along).sqrt().float()
    torch.testing.assert_close(deviation, given.standard_deviation(), rtol=0.01, atol=0)


@pytest.mark.parametrize("degrees", KINDS)
def test_quantiles_hold_their_share(degrees):
    given = posterior(degrees)
    levels = torch.tensor([0.025, 0.16, 0.5, 0.84])
    found = given.quantile(levels)
    assert found.shape == (3, 4, 2, 4, 5)
    torch.testing.assert_close(found[:, 2], given.mean, rtol=0, atol=1e-5)
    if degrees is None:
        below = torch.distributions.Normal(given.mean, given.scale).cdf(found.movedim(1, 0))
        shares = levels[:, None, None, None, None].expand_as(below)
        torch.testing.assert_close(below, shares, rtol=1e-4, atol=1e-6)
    else:
        # Student's t of 3 degrees: table value 3.1824 at 97.5 %.
        at_first = (found[:, 0, 0] - given.mean[:, 0]) / given.scale[:, 0]
        torch.testing.assert_close(at_first, torch.full_like(at_first, -3.1824), rtol=1e-4, atol=0)


def test_student_s_tail_is_wider_than_the_normal_one():
    far = posterior().mean + 8 * posterior().scale
    normal, student = posterior().log_prob(far), posterior(KINDS[1]).log_prob(far)
    assert bool((student[:, 0] > normal[:, 0] + 10).all())


def test_unknown_pixels_count_for_nothing_and_reach_no_gradient():
    given = posterior()
    mean = given.mean.clone().requires_grad_()
    target = given.mean + given.scale
    known = torch.rand(target.shape, generator=torch.Generator().manual_seed(1)) > 0.5
    known[2] = False
    likelihood = map_log_likelihood(
        MapPosterior(mean, given.scale), torch.where(known, target, torch.nan)
    )
    by_hand = torch.where(known, given.log_prob(target), 0.0).sum((1, 2, 3))
    by_hand = by_hand / known.sum((1, 2, 3)).clamp(min=1)
    torch.testing.assert_close(likelihood, by_hand)
    assert float(likelihood.detach()[2]) == 0
    likelihood.sum().backward()
    assert bool(mean.grad.isfinite().all())
    assert bool(((mean.grad != 0) == known).all())


def test_weights_are_shares_of_the_mean():
    given = posterior()
    target = given.mean + 2 * given.scale
    first = torch.zeros(3, 1, 4, 5)
    first[..., 0, 0] = 5.0
    found = map_log_likelihood(given, target, first)
    torch.testing.assert_close(found, given.log_prob(target)[..., 0, 0].mean(1))


def test_the_likelihood_is_highest_at_the_truth():
    truth = posterior()
    mean, scale = truth.mean.repeat(1, 1, 50, 50), truth.scale.repeat(1, 1, 50, 50)
    target = mean + scale * torch.randn(mean.shape, generator=torch.Generator().manual_seed(3))
    best = map_log_likelihood(MapPosterior(mean, scale), target)
    for other in (
        MapPosterior(mean + 0.2, scale),
        MapPosterior(mean, 1.3 * scale),
        MapPosterior(mean, 0.75 * scale),
    ):
        assert bool((map_log_likelihood(other, target) < best).all())


def test_selection_and_length():
    given = posterior(KINDS[1])
    chosen = given.select(torch.tensor([2, 0]))
    assert (len(given), len(chosen)) == (3, 2)
    assert torch.equal(chosen.scale, given.scale[[2, 0]])
    assert chosen.degrees is given.degrees


def test_a_target_of_another_size_is_refused():
    with pytest.raises(MelotteValueError, match="do not fit"):
        map_log_likelihood(posterior(), torch.zeros(3, 1, 4, 5))
