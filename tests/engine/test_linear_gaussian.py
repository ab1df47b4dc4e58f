"""The exact posterior of the test system is what Bayes' rule gives."""

from __future__ import annotations

import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian, build

from melotte.ragged import Ragged
from melotte.systems.base import System


def test_conforms_to_the_protocol():
    assert isinstance(build(PRESET), System)


@pytest.mark.parametrize("ragged", [False, True])
def test_exact_posterior_follows_bayes_rule(ragged, generator):
    system = LinearGaussian(ragged=ragged)
    batch = system.observe(system.draw(6, generator), generator)
    posterior = system.exact_posterior(batch.observation)
    first, second = torch.rand(2, 6, 3, generator=generator)
    x = batch.observation.data["x"]

    def log_likelihood(unit):
        signal = unit @ system.matrix.T
        if isinstance(x, Ragged):
            residual = ((x.values - signal[x.index]) ** 2).sum(-1)
            squares = torch.zeros(6).index_add(0, x.index, residual)
        else:
            squares = ((x - signal) ** 2).sum(-1)
        return -0.5 * squares / system.noise**2

    torch.testing.assert_close(
        posterior.log_prob(first) - posterior.log_prob(second),
        log_likelihood(first) - log_likelihood(second),
        rtol=1e-3,
        atol=1e-2,
    )


def test_posterior_integrates_to_one_and_its_mean_is_the_mean_of_its_samples(generator):
    system = LinearGaussian(noise=0.5)
    batch = system.observe(system.draw(4, generator), generator)
    posterior = system.exact_posterior(batch.observation)
    cube = torch.rand(20000, 3, generator=generator)
    mass = torch.stack([posterior.log_prob(u.expand(4, 3)).exp() for u in cube[:4000]]).mean(0)
    torch.testing.assert_close(mass, torch.ones(4), atol=0.2, rtol=0)
    samples = posterior.sample(20000, generator)
    torch.testing.assert_close(samples.mean(1), posterior.mean(), atol=0.01, rtol=0)
    median = posterior.quantile(torch.tensor([0.5]))[:, 0]
    torch.testing.assert_close(samples.quantile(0.5, 1), median, atol=0.02, rtol=0)
