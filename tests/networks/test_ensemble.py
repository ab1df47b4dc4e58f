import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.ensemble import EnsemblePosterior
from melotte.networks.heads import build_head
from melotte.networks.point import PointPosterior


def normals(place, scale=0.02):
    centre = torch.tensor(place)
    return PointPosterior(centre, torch.full_like(centre, scale), "mse")


def test_the_density_is_the_mean_of_the_members():
    torch.manual_seed(1)
    features = torch.randn(5, 8)
    members = [build_head("autoregressive", 8, 3)(features) for _ in range(3)]
    both = EnsemblePosterior(members)
    u = torch.rand(5, 3)
    expected = torch.stack([one.log_prob(u).exp() for one in members]).mean(0)
    assert torch.allclose(both.log_prob(u).exp(), expected, rtol=1e-5)
    known = torch.tensor([True, False, False]).expand(5, 3)
    expected = torch.stack([one.log_prob_known(u, known).exp() for one in members]).mean(0)
    assert torch.allclose(both.log_prob_known(u, known).exp(), expected, rtol=1e-5)
    assert len(both) == 5
    assert both.n_parameters == 3


def test_one_member_is_itself():
    one = normals([[0.3, 0.6], [0.5, 0.5]])
    alone = EnsemblePosterior([one])
    u = torch.rand(2, 2)
    assert torch.allclose(alone.log_prob(u), one.log_prob(u))


def test_samples_come_from_all_members_in_equal_parts(generator):
    both = EnsemblePosterior([normals([[0.2], [0.5]]), normals([[0.8], [0.5]])])
    drawn = both.sample(1000, generator)
    assert drawn.shape == (2, 1000, 1)
    assert int((drawn[0] > 0.5).sum()) == 500
    # The first samples alone are mixed, too.
    assert 20 < int((drawn[0, :80] > 0.5).sum()) < 60
    assert drawn[0].std() == pytest.approx(math.hypot(0.3, 0.02), rel=0.03)
    assert both.quantile(torch.tensor([0.5]))[1, 0, 0] == pytest.approx(0.5, abs=0.005)


def test_chosen_objects_keep_their_posteriors():
    both = EnsemblePosterior([normals([[0.2], [0.5]]), normals([[0.8], [0.4]])])
    second = both.select(torch.tensor([1]))
    u = torch.tensor([[0.45]])
    assert torch.allclose(second.log_prob(u), both.log_prob(u.expand(2, 1))[1:])


def test_an_empty_ensemble_is_refused():
    with pytest.raises(MelotteValueError, match="at least one"):
        EnsemblePosterior([])
