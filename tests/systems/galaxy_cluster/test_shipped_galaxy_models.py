"""The shipped models, judged on few mocks that no training used, and on the real Coma cluster."""

import numpy as np
import pytest
import torch

import melotte
from melotte.api import infer_observations
from melotte.engine.mocks import draw_mocks
from melotte.ragged import Ragged
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.membership import member_probabilities

MODELS = ("galaxy-cluster", "galaxy-cluster-richness")
KEPT = 0.7
CUTS = {"log_stellar_mass_limit": 9.15}


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return melotte.load(request.param, device="cpu")


@pytest.fixture(scope="module")
def mocks(model):
    return draw_mocks(model.system, 256, seed=31, batch_size=256)[0]


def test_intervals_hold_the_truth_as_often_as_they_say(model, mocks):
    result = infer_observations(model, [mocks.observation], progress=False)
    low, middle, high = result.quantiles[:, :, 0].T
    truth = mocks.theta[:, 0].numpy()
    inside = ((truth > low) & (truth < high)).mean()
    # Five binomial standard deviations.
    assert abs(inside - 0.68) < 5 * np.sqrt(0.68 * 0.32 / len(truth))
    assert abs(np.median(middle - truth)) < 0.06
    assert np.std(middle - truth) < 0.27


def test_said_memberships_are_true_as_often_as_they_say(model, mocks):
    chance = member_probabilities(model, mocks.observation)
    truth = mocks.observation.data["is_member"]
    assert isinstance(truth, Ragged)
    member = truth.values[:, 0]
    for low, high in ((0.0, 0.3), (0.3, 0.7), (0.7, 1.0)):
        chosen = (chance >= low) & (chance <= high)
        assert chosen.sum() > 300
        assert abs(float(chance[chosen].mean() - member[chosen].mean())) < 0.06


def test_lists_that_lost_galaxies_weigh_the_same_when_that_is_told(model, mocks, generator):
    galaxies = mocks.observation.data["galaxies"]
    rich = torch.nonzero(galaxies.counts >= 40)[:, 0]
    whole = mocks.observation.select(rich)
    chosen = torch.rand(len(whole.data["galaxies"].values), generator=generator) < KEPT
    data = {
        name: value.where(chosen) if isinstance(value, Ragged) else value
        for name, value in whole.data.items()
    }
    data["completeness"] = (whole.data["completeness"] * KEPT).clamp(min=0.4)
    thinned = Observation(data)
    masses = [
        infer_observations(model, [one], progress=False).quantiles[:, 1, 0]
        for one in (whole, thinned)
    ]
    assert abs(np.median(masses[1] - masses[0])) < 0.05


def test_coma_is_weighed_and_no_flag_is_set(shared_data):
    sample = shared_data / "galaxycluster" / "rcausticmass_coma_sample.txt"
    if not sample.exists():
        pytest.skip(f"{sample.name} is not in the data folder")
    result = melotte.infer("galaxy-cluster", sample, options=CUTS, progress=False)
    low, middle, high = result.quantiles[0, :, 0]
    # Lensing and dynamical masses of the literature lie between 14.5 and 15.3.
    assert 14.5 < low < middle < high < 15.3
    assert result.flags[0] == 0
    assert result.table().meta["melotte"]["header"]["conventions"]["lengths"].startswith("comoving")
