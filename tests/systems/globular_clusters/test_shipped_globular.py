"""The shipped model of globular clusters, judged on the small library, which no training used."""

import numpy as np
import pytest
import torch

import melotte
from melotte.api import infer_observations
from melotte.api.models import with_other_mocks
from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.flags import Flag
from melotte.systems.base import Observation

N = 128
WARNED = int(Flag.OUT_OF_DOMAIN | Flag.OUT_OF_RANGE)


@pytest.fixture(scope="module")
def model():
    if "globular" not in melotte.api.shipped_models():
        pytest.skip("no model of globular clusters is shipped")
    return with_other_mocks(melotte.load("globular", device="cpu"), ["data.library=small"])


@pytest.fixture(scope="module")
def mocks(model):
    return mock_batch(model.system.in_area("test"), N, 41, Stream.MOCKS, 0)


def test_it_names_no_file_of_its_maker():
    model = melotte.load("globular", device="cpu")
    assert model.preset["data"].get("library") is None


def test_intervals_hold_the_truth_as_often_as_they_say(mocks, model):
    result = infer_observations(model, [mocks.observation], progress=False)
    truth = mocks.theta.numpy()
    low, _, high = np.moveaxis(result.quantiles, 1, 0)
    inside = np.where(np.isnan(truth), np.nan, (truth > low) & (truth < high))
    found = np.nanmean(inside, 0)
    # Eight clusters give these mocks, so that fewer than N are independent.
    assert (np.abs(found - 0.68) < 0.2).all(), found
    assert abs(found.mean() - 0.68) < 0.1, found
    assert (result.flags & WARNED > 0).mean() < 0.35


def told(mocks, distance, error):
    data = dict(mocks.observation.data)
    like = data["pixel_scale"]
    data["distance_told"] = distance if distance is not None else torch.full_like(like, torch.nan)
    data["distance_error"] = torch.full_like(like, error)
    return Observation(data)


def test_a_distance_that_is_told_makes_masses_and_maps_better(mocks, model):
    true = mocks.theta[:, model.prior.names.index("distance")]
    near = (true > 8) & (true < 100)
    target = mocks.targets["log_mass_map"][:, 0].numpy()
    errors, masses = {}, {}
    for name, observation in (
        ("untold", told(mocks, None, torch.nan)),
        ("told", told(mocks, true, 0.02)),
    ):
        result = infer_observations(model, [observation], progress=False, maps=True)
        inferred = np.stack([maps[0].values for maps in result.maps])
        bright = (target > -1) & near.numpy()[:, None, None]
        # A map counts once: its pixels are not independent, and the largest have most of them.
        errors[name] = np.median(
            [
                np.median(np.abs(one - truth)[seen])
                for one, truth, seen in zip(inferred, target, bright, strict=True)
                if seen.sum() > 50
            ]
        )
        found = result.quantiles[:, 1, result.names.index("log_mass_fov")]
        masses[name] = np.nanmedian(
            np.abs(found - mocks.theta[:, result.names.index("log_mass_fov")].numpy())[near]
        )
    assert errors["told"] < 0.95 * errors["untold"]
    assert errors["told"] < 0.12
    assert masses["told"] < 0.8 * masses["untold"]
    assert masses["told"] < 0.12
