"""Independent groups: densities multiply, everything else stands side by side in order."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.grid import GridPosterior
from melotte.networks.independent import IndependentPosterior


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def grid(*bins, n=3, seed=0):
    logits = 2 * torch.randn(n, *bins, generator=keyed(seed))
    return GridPosterior(torch.log_softmax(logits.flatten(1), 1).view_as(logits))


def made():
    pair, single = grid(4, 5), grid(6, seed=1)
    return pair, single, IndependentPosterior([pair, single])


def test_density_is_the_product_and_integrates_to_one():
    pair, single, both = made()
    u = torch.rand(3, 3, generator=keyed(2))
    product = pair.log_prob(u[:, :2]) + single.log_prob(u[:, 2:])
    torch.testing.assert_close(both.log_prob(u), product)
    uniform = torch.rand(40_000, 3, generator=keyed(3))
    for i in range(3):
        rows = both.select(torch.full((len(uniform),), i))
        assert float(rows.log_prob(uniform).exp().mean()) == pytest.approx(1, abs=0.05)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_outside_the_cube_in_either_group_there_is_no_density(place):
    u = torch.full((3, 3), 0.5)
    u[:, place] = 1.5
    assert bool((made()[2].log_prob(u) == -torch.inf).all())


@torch.no_grad()
def test_unknown_parameters_are_integrated_out_group_by_group():
    pair, single, both = made()
    u = torch.rand(3, 3, generator=keyed(2))
    known = torch.tensor([[True, False, True], [False, False, True], [True, True, False]])
    expected = torch.stack(
        [
            pair.log_prob_known(u[:, :2], known[:, :2])[0] + single.log_prob(u[:, 2:])[0],
            single.log_prob(u[:, 2:])[1],
            pair.log_prob(u[:, :2])[2],
        ]
    )
    torch.testing.assert_close(both.log_prob_known(u, known), expected)


def test_summaries_and_samples_keep_the_order():
    pair, single, both = made()
    q = torch.tensor([0.1, 0.5, 0.9])
    assert both.n_parameters == 3
    assert len(both) == 3
    torch.testing.assert_close(both.mean(), torch.cat([pair.mean(), single.mean()], 1))
    torch.testing.assert_close(both.mode(), torch.cat([pair.mode(), single.mode()], 1))
    torch.testing.assert_close(both.quantile(q)[..., 2:], single.quantile(q))
    samples = both.sample(20_000, keyed(4))
    assert samples.shape == (3, 20_000, 3)
    torch.testing.assert_close(samples.mean(1), both.mean(), atol=0.01, rtol=0)
    covariance = torch.cov(samples[0].T)
    scale = covariance.diag().sqrt()
    assert float((covariance[:2, 2] / scale[:2] / scale[2]).abs().max()) < 0.03


def test_groups_over_other_objects_are_refused():
    with pytest.raises(MelotteValueError, match=r"same objects in every group; found \[3, 2\]"):
        IndependentPosterior([grid(4), grid(4, n=2)])
