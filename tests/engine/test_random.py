"""Keyed streams are reproducible, distinct and uncorrelated."""

from __future__ import annotations

import pytest
import torch

from melotte.engine.random import Stream, keyed_generator, keyed_seed, seeded_globally
from melotte.errors import MelotteValueError


def test_same_keys_same_draws_and_other_keys_other_draws():
    def draw(*keys):
        return torch.rand(4, generator=keyed_generator(*keys))

    assert torch.equal(draw(1, 2), draw(1, 2))
    keys = [(1, 2), (1, 3), (2, 2), (1, 2, 0), (1, 0, 2), (0, 1, 2), (1, Stream.MOCKS, 2)]
    draws = torch.stack([draw(*key) for key in keys])
    assert len(torch.unique(draws, dim=0)) == len(keys)


def test_batches_of_one_run_never_share_the_32_bits_that_seed_the_cpu_generator():
    low = {keyed_seed(7, number) % 2**32 for number in range(200_000)}
    assert len(low) == 200_000


def test_first_draws_of_successive_batches_are_uniform_and_uncorrelated():
    draws = torch.stack([torch.rand(2, generator=keyed_generator(3, k)) for k in range(4000)])
    assert abs(draws[:, 0].mean() - 0.5) < 5 * (1 / 12 / 4000) ** 0.5
    pairs = torch.stack([draws[:-1, 0], draws[1:, 0], draws[:-1, 1]])
    correlation = torch.corrcoef(pairs) - torch.eye(3)
    assert correlation.abs().max() < 5 / 4000**0.5


def test_global_generator_is_keyed_and_then_restored():
    before = torch.get_rng_state()
    with seeded_globally(1, 2):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), before)
    with seeded_globally(1, 2):
        assert torch.equal(torch.rand(3), first)


@pytest.mark.parametrize("keys", [(-1, 0), (0,), (0, -1), (0, 2**32)])
def test_bad_keys_are_refused(keys):
    with pytest.raises(MelotteValueError, match="seed"):
        keyed_generator(*keys)
