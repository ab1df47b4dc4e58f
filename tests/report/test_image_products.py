"""What infer adds for cluster images: scatter under other backgrounds, checks, masses."""

from __future__ import annotations

import inspect
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from image_models import small_image_model
from torch import nn

from melotte import api
from melotte.engine.model_files import Model
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.networks.point import PointPosterior
from melotte.report.cluster_image_populations import mass_function_figure
from melotte.report.image_products import (
    SHOWN_MASSES,
    measured_images,
    with_background_scatter,
    with_predictive,
    write_mass_function,
)
from melotte.report.inference import InferenceRequest, run_inference
from melotte.report.style import new_figure
from melotte.systems.base import RowError
from melotte.systems.registry import build_system, load_preset

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
    for parameter, low, high in (("log_age", 6.15, 10.55), ("log_mass", 3.3, 4.8)):
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


def planted_result(model, n, **columns):
    """Clusters with masses from 10^4 on and ages of two kinds, without flags."""
    rng = np.random.default_rng(3)
    middle = np.full((n, 4), 0.3)
    names = [one.name for one in model.parameters]
    middle[:, names.index("log_mass")] = 4 + rng.exponential(1 / np.log(10), n)
    middle[:, names.index("log_age")] = np.where(np.arange(n) % 2, 7.0, 8.0)
    return InferenceResult(
        tuple(f"c{i}" for i in range(n)),
        model.parameters,
        np.stack([middle - 0.1, middle, middle + 0.1], 1),
        np.zeros(n, dtype=int),
        columns={name: ResultColumn(np.asarray(one)) for name, one in columns.items()},
    )


def test_a_mass_function_is_written_of_enough_sure_clusters(model, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "melotte.report.cluster_image_populations.mass_function_figure",
        lambda mass, age, **given: drawn.append((mass, given)) or new_figure(1, 1)[0],
    )
    chance = np.full(30, 0.9)
    chance[:4] = 0.2
    result = planted_result(model, 30, class_probability=chance)
    result.flags[4:8] = [Flag.OUT_OF_DOMAIN, Flag.FAILED, Flag.BAD_PIXELS, Flag.PRIOR_EDGE]
    path = write_mass_function(model, result, tmp_path)
    assert path == tmp_path / "mass_function.png"
    assert path.is_file()
    mass, given = drawn[0]
    kept = [6, 7, *range(8, 30)]
    np.testing.assert_array_equal(mass, result.quantiles[kept, 1, result.names.index("log_mass")])
    assert given == {"complete_above": 4.0, "range_of_masses": (3.5, 6.0)}
    few = planted_result(model, 23, class_probability=chance[:23])
    assert write_mass_function(model, few, tmp_path) is None
    open_cluster = Model(build_system(load_preset("open-cluster")), {}, {}, None)
    assert write_mass_function(open_cluster, result, tmp_path) is None


def test_a_model_without_classes_has_a_mass_function(model, tmp_path):
    path = write_mass_function(model, planted_result(model, 300), tmp_path)
    assert path.stat().st_size > 2000


@pytest.mark.parametrize(("complete", "shown"), SHOWN_MASSES.values())
def test_a_bin_begins_where_power_laws_are_normalised(complete, shown):
    n_bins = inspect.signature(mass_function_figure).parameters["n_bins"].default
    assert np.abs(np.linspace(*shown, n_bins + 1) - complete).min() < 1e-9


def test_catalogues_of_open_clusters_are_not_asked_of_images(tmp_path):
    asked = InferenceRequest("m83", (Path("x.fits"),), tmp_path / "o.ecsv", values_as="MWSC")
    with pytest.raises(MelotteValueError, match=r"--as is for models that know .*, not for m83"):
        run_inference(asked, print)
    assert not list(tmp_path.iterdir())
