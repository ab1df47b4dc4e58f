"""The shipped models of cluster images, judged on few mocks that no training used."""

import numpy as np
import pytest
import torch

import melotte
from melotte.api import infer_observations
from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.flags import Flag
from melotte.report.image_gallery import roc_area
from melotte.systems.base import Observation
from melotte.systems.registry import build_system, load_preset

MODELS = [name for name in ("m83", "m31") if name in melotte.api.shipped_models()]
N = 192


@pytest.fixture(scope="module", params=MODELS)
def model(request):
    return melotte.load(request.param, device="cpu")


@pytest.fixture(scope="module")
def mocks(model):
    """Mocks of few fields: the model's own held-out fields take long to make."""
    few = ("data.fields.tiles=1", "data.fields.held_out_tiles=4", "data.setups=4")
    system = build_system(load_preset(model.name, (*few, "data.clusters.age_step=0.1")))
    return mock_batch(system, N, 41, Stream.MOCKS, 0, views=2)


@pytest.fixture(scope="module")
def result(model, mocks):
    return infer_observations(model, [mocks.observation], progress=False)


def test_intervals_hold_the_truth_as_often_as_they_say(model, mocks, result):
    present = (mocks.targets["class"] > 0.5).numpy()
    truth = mocks.theta.numpy()[present]
    low, _, high = np.moveaxis(result.quantiles[present], 1, 0)
    inside = ((truth > low) & (truth < high)).mean(0)
    # Two views share a cluster, so half as many are independent; five standard deviations.
    error = np.sqrt(0.68 * 0.32 / (present.sum() / 2))
    assert (np.abs(inside - 0.68) < 5 * error).all(), inside


def test_bright_clusters_are_measured_well(model, mocks, result):
    visible = (mocks.targets["visibility"] > 10).numpy()
    error = result.quantiles[visible][:, 1] - mocks.theta.numpy()[visible]
    names = [parameter.name for parameter in model.parameters]
    scatter = dict(zip(names, np.median(np.abs(error), axis=0), strict=True))
    assert scatter["log_age"] < 0.25
    assert scatter["extinction_v"] < 0.3
    assert scatter["log_mass"] < 0.15


def test_clusters_are_told_from_background(model, mocks, result):
    chance = result.columns["class_probability"].values
    visibility = mocks.targets["visibility"].numpy()
    empty = (mocks.targets["class"] < 0.5).numpy()
    complete = ~torch.isnan(mocks.observation.data["image"]).any((1, 2, 3)).numpy()
    assert np.median(chance[(visibility > 5) & complete]) > 0.98
    # Where most clusters hardly show, as M31's, an empty place may well hold one.
    assert np.median(chance[empty & complete]) < 0.6
    judged = complete & (empty | (visibility > 3))
    assert roc_area(~empty[judged], chance[judged]) > 0.98
    found = result.columns["visibility"].values
    seen = (visibility > 3) & complete
    # Single stars give much of the light of M31's small clusters, and fall in or out of the
    # aperture.
    allowed = {"m83": 0.12, "m31": 0.3}[model.name]
    assert np.median(np.abs(np.log10(found[seen] / visibility[seen]))) < allowed


def test_a_masked_band_widens_the_posterior(model, mocks):
    visible = torch.nonzero(mocks.targets["visibility"] > 10)[:, 0][:24]
    whole = mocks.observation.select(visible)
    image = whole.data["image"].clone()
    image[:, 0] = torch.nan
    lacking = Observation(dict(whole.data) | {"image": image})
    widths = []
    for one in (whole, lacking):
        quantiles = infer_observations(model, [one], progress=False).quantiles
        widths.append(quantiles[:, 2] - quantiles[:, 0])
        assert np.isfinite(quantiles).all()
    assert np.median(widths[1][:, 0]) > 1.2 * np.median(widths[0][:, 0])


def test_strange_images_are_flagged(model, mocks):
    noise = torch.randn(16, *mocks.observation.data["image"].shape[1:]) ** 2 * 1e3
    data = {name: values[:16] for name, values in mocks.observation.data.items()}
    found = infer_observations(model, [Observation(data | {"image": noise})], progress=False)
    assert ((found.flags & int(Flag.OUT_OF_DOMAIN)) > 0).all()
