"""What infer adds for cluster images: scatter under other backgrounds, checks, comparisons."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.table import Table
from image_models import small_image_model
from test_figures import everything_inside
from torch import nn

from melotte import api
from melotte.errors import MelotteValueError
from melotte.networks.point import PointPosterior
from melotte.report.image_page import comparison_figure
from melotte.report.image_products import (
    measured_images,
    with_background_scatter,
    with_offset,
    with_predictive,
)
from melotte.report.inference import InferenceRequest
from melotte.systems.base import RowError

MIDDLE = slice(20, 28)
PER_COUNT = 0.1


class MiddleNetwork(nn.Module):
    """Places, in the unit cube, that rise with the counts in the middle of the first band."""

    def __init__(self, scale):
        super().__init__()
        self.scale = scale
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        # The network is given the arcsinh of counts above the border, in units of a scale.
        counts = torch.sinh(inputs["image"][:, 0, MIDDLE, MIDDLE]) * self.scale
        place = (0.3 + PER_COUNT * counts.mean((1, 2)) + self.weight)[:, None].expand(-1, 4)
        visible = torch.full((len(place), 1), 0.5)
        return {
            "posterior": PointPosterior(place, torch.full_like(place, 0.01), "mse"),
            "embedding": place,
            "class": torch.zeros(len(place)),
            "visibility": PointPosterior(visible, 0.1 * visible, "mse"),
        }


class KnownBackgrounds:
    """Empty images but for squares in the middle, of one brightness after the other."""

    def __init__(self, brightness, n_images):
        self.brightness, self.n_images, self.n_cut = brightness, n_images, 0

    def cut(self, observation, generator):
        del generator
        image = torch.zeros(len(observation), 3, 48, 48)
        image[:, :, MIDDLE, MIDDLE] = self.brightness[self.n_cut // self.n_images]
        self.n_cut += len(observation)
        return image


@pytest.fixture(scope="module")
def trained_on():
    return small_image_model()


@pytest.fixture(scope="module")
def model(trained_on):
    return trained_on[0]


@pytest.fixture(scope="module")
def planted(model):
    return replace(model, network=MiddleNetwork(model.constants["scale"][0]).eval())


@pytest.fixture
def observation(trained_on):
    """Three images of little but noise."""
    chosen = trained_on[1].observation.select(torch.arange(3))
    noise = 0.01 * torch.randn(3, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    return replace(chosen, data={**chosen.data, "image": noise}, ids=("a", "b", "c"))


def request(draws):
    return InferenceRequest("m83", (Path("x.fits"),), Path("o.ecsv"), background_draws=draws)


def test_rows_go_with_their_images(model, observation):
    entries = [RowError("lost", "no pixel", 0), observation]
    result = api.infer_observations(model, entries, samples=50, progress=False)
    found = list(measured_images(result, [observation]))
    assert [(one.name, one.row) for one in found] == [("a", 1), ("b", 2), ("c", 3)]
    for i, one in enumerate(found):
        assert torch.equal(one.observation.data["image"][0], observation.data["image"][i])


def test_the_scatter_is_that_of_the_medians(planted, observation):
    result = api.infer_observations(planted, [observation], progress=False)
    brightness = [0.5, 1.0, 3.0, 1.5]
    source = KnownBackgrounds(brightness, 3)
    found = with_background_scatter(planted, result, [observation], source, request(4))
    for parameter, low, high in (("log_age", 6.15, 10.55), ("log_mass", 3.3, 5.7)):
        column = found.columns[f"{parameter}_background_scatter"].values
        expected = (high - low) * PER_COUNT * np.std(brightness, ddof=1)
        np.testing.assert_allclose(column, expected, rtol=0.02)
    same = KnownBackgrounds([1.0] * 3, 3)
    still = with_background_scatter(planted, result, [observation], same, request(3))
    assert float(np.max(still.columns["log_age_background_scatter"].values)) < 1e-6
    np.testing.assert_array_equal(still.quantiles, result.quantiles)


def test_backgrounds_are_dereddened_like_their_images(planted, observation):
    result = api.infer_observations(planted, [observation], progress=False)
    brightness = [0.5, 1.0]
    plain = with_background_scatter(
        planted, result, [observation], KnownBackgrounds(brightness, 3), request(2)
    )
    dusty = replace(observation, header={"deredden_extinction_v": [0.0, 0.5, 1.0]})
    found = with_background_scatter(
        planted, result, [dusty], KnownBackgrounds(brightness, 3), request(2)
    )
    name = "log_age_background_scatter"
    ratio = found.columns[name].values / plain.columns[name].values
    assert ratio[0] == pytest.approx(1, rel=1e-3)
    assert 1.5 < ratio[1] < ratio[2]


def test_every_image_gets_a_predictive_check(model, observation):
    result = api.infer_observations(model, [observation], samples=60, progress=False)
    found = with_predictive(model, result, [observation], seed=0)
    p = found.columns["predictive_p"].values
    assert ((p > 0) & (p <= 1)).all()
    assert all(
        one.split()[0] in ("flux", "pixels") for one in found.columns["predictive_worst"].values
    )
    bare = replace(result, samples=None)
    with pytest.raises(MelotteValueError, match="need samples"):
        with_predictive(model, bare, [observation], seed=0)


def joined():
    return Table(
        {
            "id": ["a", "b"],
            "log_age_50": [7.0, 8.0],
            "log_age_literature": [7.5, 8.5],
            "log_age_difference": [-0.5, -0.5],
            "extinction_v_50": [1.0, 2.0],
            "extinction_v_literature": [0.8, 1.8],
            "extinction_v_difference": [0.2, 0.2],
        }
    )


def test_a_foreground_is_added_to_the_literatures_extinction_alone():
    moved = with_offset(joined(), "extinction_v", 0.3)
    np.testing.assert_allclose(moved["extinction_v_literature"], [1.1, 2.1])
    np.testing.assert_allclose(moved["extinction_v_difference"], -0.1)
    np.testing.assert_allclose(moved["log_age_difference"], -0.5)
    lacking = joined()
    lacking.remove_column("extinction_v_literature")
    with pytest.raises(MelotteValueError, match="no column extinction_v"):
        with_offset(lacking, "extinction_v", 0.3)


def test_the_comparison_says_bias_and_scatter():
    units = {"extinction_v": "mag", "log_age": "", "log_mass": ""}
    figure = comparison_figure(joined(), units)
    assert everything_inside(figure)
    titles = [panel.get_title(loc="left") for panel in figure.axes]
    assert titles == ["2 objects: +0.20, scatter 0.00", "2 objects: -0.50, scatter 0.00"]
