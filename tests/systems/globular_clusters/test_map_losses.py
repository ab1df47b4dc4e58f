import math

import pytest
import torch
from scipy import stats

from melotte.errors import MelotteValueError
from melotte.networks.map_posteriors import MapPosterior, map_log_likelihood
from melotte.systems.globular_clusters.losses import floored_log_likelihood

FLOOR = -3.0


def posterior(generator, degrees=None):
    mean = torch.randn(4, 1, 8, 8, generator=generator) - 2
    scale = torch.rand(4, 1, 8, 8, generator=generator) + 0.1
    return MapPosterior(mean, scale, degrees)


@pytest.mark.parametrize("degrees", [None, torch.tensor([5.0])])
def test_above_the_floor_it_is_the_density(generator, degrees):
    found = posterior(generator, degrees)
    target = found.mean.clamp(min=-2.9) + 0.3
    torch.testing.assert_close(
        floored_log_likelihood(found, target, FLOOR), map_log_likelihood(found, target)
    )


def test_at_the_floor_it_is_the_probability_of_less(generator):
    found = posterior(generator)
    target = torch.full_like(found.mean, FLOOR)
    normal = torch.distributions.Normal(found.mean.double(), found.scale.double() + 0.4)
    wide = MapPosterior(found.mean, found.scale + 0.4)
    expected = normal.cdf(target.double()).log().mean((1, 2, 3)).float()
    torch.testing.assert_close(floored_log_likelihood(wide, target, FLOOR), expected)


@pytest.mark.parametrize("degrees", [3.0, 5.0, 30.0])
def test_at_the_floor_of_students(degrees):
    mean = torch.linspace(-9, 3, 200).view(1, 1, 1, 200)
    found = MapPosterior(mean, torch.full_like(mean, 0.7), torch.tensor([degrees]))
    one = [
        floored_log_likelihood(
            MapPosterior(m.view(1, 1, 1, 1), torch.full((1, 1, 1, 1), 0.7), found.degrees),
            torch.full((1, 1, 1, 1), FLOOR),
            FLOOR,
        )
        for m in mean.flatten()
    ]
    exact = stats.t.cdf((FLOOR - mean.flatten().numpy()) / 0.7, degrees)
    assert torch.cat(one).exp().numpy() == pytest.approx(exact, abs=0.003)


def test_empty_pixels_do_not_reward_narrow_errors():
    target = torch.full((1, 1, 4, 4), FLOOR)
    scores = []
    for scale in (1e-1, 1e-3):
        found = MapPosterior(target - 1.0, torch.full_like(target, scale))
        scores.append(float(floored_log_likelihood(found, target, FLOOR)))
    assert scores == pytest.approx([0.0, 0.0], abs=1e-6)


def test_the_true_errors_of_maps_with_a_floor_are_found(generator):
    """Draws about -2.5 with a deviation of 0.5, a sixth of them below the floor."""
    truth = -2.5 + 0.5 * torch.randn(1, 1, 200, 200, generator=generator)
    target = truth.clamp(min=FLOOR)
    free = torch.tensor([-1.0, 0.0], requires_grad=True)
    optimiser = torch.optim.LBFGS([free], max_iter=100)

    def loss():
        optimiser.zero_grad()
        found = MapPosterior(free[0].expand_as(target), free[1].exp().expand_as(target))
        value = -floored_log_likelihood(found, target, FLOOR).mean()
        value.backward()
        return value.detach()

    optimiser.step(loss)
    mean, log_scale = free.detach()
    assert float(mean) == pytest.approx(-2.5, abs=0.02)
    assert float(log_scale.exp()) == pytest.approx(0.5, abs=0.02)
    # Without the floor's share the error comes out too small.
    assert float(target.std()) < 0.47


@pytest.mark.parametrize("degrees", [None, torch.tensor([4.0])])
def test_gradients_stay_finite_near_and_far_from_the_floor(degrees):
    mean = torch.tensor([[[[50.0, -60.0, FLOOR]]]], requires_grad=True)
    found = MapPosterior(mean, torch.full_like(mean, 0.1), degrees)
    target = torch.tensor([[[[FLOOR, math.log10(2), FLOOR]]]])
    floored_log_likelihood(found, target, FLOOR).sum().backward()
    assert bool(mean.grad.isfinite().all())


def test_other_shapes_are_refused(generator):
    with pytest.raises(MelotteValueError, match="do not fit"):
        floored_log_likelihood(posterior(generator), torch.zeros(4, 1, 8, 9), FLOOR)
