"""Three bands against five: the same clusters, measures on planted posteriors, alike clusters."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import image_bands
from image_degeneracy import CLEAR, degenerate_pair, magnitude_differences
from image_shift_cases import at_the_survey
from image_systems_methods import Reading, Truth
from image_systems_mocks import TestGround

from melotte import api
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream
from melotte.parameters import Parameter
from melotte.report.posterior_shapes import sampled_maps
from melotte.systems.registry import build_system, load_preset

SMALL = (
    "data.clusters.age_step=0.7",
    "data.size=48",
    "data.fields.tiles=2",
    "data.fields.held_out_tiles=2",
    "data.fields.size=96",
    "model.widths=[8, 8]",
    "model.blocks=[1, 1]",
    "model.features=16",
)
PARAMETERS = (
    Parameter("extinction_v", 0, 3, "mag"),
    Parameter("log_age", 6.5, 10.5),
)
EVERY = load_preset(image_bands.PRESET).data["bands"]


def untrained(bands):
    preset = load_preset(image_bands.PRESET, (*image_bands.overrides_of(bands, 1000), *SMALL))
    system = build_system(preset)
    constants = system.constants(mock_batch(system, 64, 3, Stream.MOCKS, 0, views=2))
    torch.manual_seed(1)
    return Model(system, preset.model_dump(mode="json"), constants, system.network(constants))


@pytest.fixture(scope="module")
def models():
    return [untrained(image_bands.THREE), untrained(EVERY)]


@pytest.fixture(scope="module")
def pair():
    return degenerate_pair(image_bands.THREE, 0.21, log_age=(8.0, 9.8))


def test_both_select_the_same_clusters(models):
    three, five = models
    assert three.system.data.bands == image_bands.THREE
    magnitude = torch.tensor([[25.0, 24.3, 25.0], [25.0, 25.0, 25.0], [25.0, 25.0, 23.0]])
    wide = torch.full((3, 5), 15.0)
    wide[:, [1, 2, 4]] = magnitude
    kept = three.system.simulator().scenes.bright_enough(magnitude)
    assert kept.tolist() == [False, False, True]
    assert torch.equal(five.system.simulator().scenes.bright_enough(wide), kept)


def test_the_three_band_model_sees_three_of_the_pictures(models):
    ground = TestGround(models[1].preset, 2, 2)
    (batch,) = ground.clusters(6)
    seen = image_bands.in_bands(batch, [1, 2, 4])
    assert torch.equal(seen.observation.data["image"][:, 2], batch.observation.data["image"][:, 4])
    assert seen.observation.data["exposure"].tolist()[0] == [1890.0, 1880.0, 1203.0]
    assert seen.observation.data["pixel_scale"] is batch.observation.data["pixel_scale"]


def planted(correlation, spread, n=400, seed=0):
    """Normal posteriors of a correlation and a spread, in units of the usual one."""
    rng = np.random.default_rng(seed)
    deviation = np.array([0.2, 0.3]) * spread
    covariance = np.outer(deviation, deviation)
    covariance[0, 1] *= correlation
    covariance[1, 0] *= correlation
    middle = np.tile([1.5, 8.5], (n, 1))
    truth = middle + rng.multivariate_normal([0, 0], covariance, size=n)
    samples = middle[:, None] + rng.multivariate_normal([0, 0], covariance, size=(n, 400))
    unit = np.stack([(samples[..., 1] - 6.5) / 4, samples[..., 0] / 3], -1)
    absent = np.full(n, np.nan)
    reading = Reading(middle, middle, samples, sampled_maps(unit, (20, 10)), absent, absent)
    seen = 10 ** rng.uniform(-1, 2, n)
    return Truth(truth, np.ones(n, dtype=bool), seen, np.zeros((n, 3))), reading


def test_the_measures_see_what_was_planted():
    wide = image_bands.degeneracy_rows(*planted(-0.9, 2.0), PARAMETERS)
    narrow = image_bands.degeneracy_rows(*planted(0.0, 1.0), PARAMETERS)
    assert wide["log_age"]["width"] == pytest.approx(0.6, rel=0.03)
    assert narrow["log_age"]["width"] == pytest.approx(0.3, rel=0.03)
    assert wide["extinction_v"]["width"] == pytest.approx(0.4, rel=0.03)
    assert wide["correlation"] == pytest.approx(-0.9, abs=0.02)
    assert narrow["correlation"] == pytest.approx(0.0, abs=0.02)
    # Of a normal distribution: 2 pi sqrt(det) ln(1 / 0.32), and the map's smoothing on top.
    for row, least in (
        (wide, 2 * np.pi * 0.24 * 0.436 * 1.139),
        (narrow, 2 * np.pi * 0.06 * 1.139),
    ):
        assert least < row["area_68"] < 2.2 * least
    # Errors above 0.5 dex: two-sided tail of the normal distribution.
    assert wide["wrong_ages"][0] == pytest.approx(0.405, abs=0.08)
    assert narrow["wrong_ages"][0] == pytest.approx(0.096, abs=0.05)
    assert sum(entry[2] for entry in wide["wrong_ages_by_visibility"]) == 400
    assert wide["log_age"]["coverage_68"][0] == pytest.approx(0.68, abs=0.08)


def test_areas_of_known_maps():
    even = np.full((1, 20, 10), 0.005)
    peak = np.zeros((1, 20, 10))
    peak[0, 3, 4] = 1
    found = image_bands.areas(np.concatenate([even, peak]), 0.68)
    assert found == pytest.approx([136, 0.68])


def test_correlations_of_lines():
    line = np.arange(10.0)[None]
    assert image_bands.correlations(line, 3 - 2 * line) == pytest.approx([-1])
    assert np.isnan(image_bands.correlations(line, np.ones((1, 10)))).all()


def test_alike_clusters_are_alike_in_three_bands_only(pair):
    assert pair.old["log_age"] - pair.young["log_age"] >= 1
    assert pair.old["extinction_v"] == CLEAR
    assert pair.young["extinction_v"] >= CLEAR + 1
    assert pair.young["log_mass"] < pair.old["log_mass"]
    difference = magnitude_differences(pair, EVERY, 0.21)
    assert max(abs(difference[band]) for band in image_bands.THREE) < 0.02
    assert difference["WFC3_UVIS_F275W"] < -0.5


def test_ranges_without_a_pair_are_refused():
    with pytest.raises(ValueError, match="no two ages"):
        degenerate_pair(image_bands.THREE, 0.21, log_age=(8.0, 8.2), extinction_v=(0, 0.5))


def test_the_shipped_model_sees_both_of_two_alike_clusters(pair):
    """Their posteriors have a peak at the age of each, and cover the truth."""
    if "m83" not in api.shipped_models():
        pytest.skip("needs the model m83, which this checkout does not ship")
    model = api.load("m83", device="cpu")
    content = at_the_survey(model.preset)
    content["data"]["fields"] |= {"size": 160}
    ground = TestGround(content, 1, 4)
    found = image_bands.planted_pair([model], ground, pair, 24)
    for (row,) in found.values():
        assert row["own"] > 0.2
        assert row["other"] > 0.12
        assert row["bimodal"] >= 0.4
        assert row["covered"][0] >= 0.8


def test_all_numbers_of_untrained_models(models, pair, capsys):
    found = image_bands.measured(models, 24, 2, tiles=2, pair=pair)
    image_bands.show(found)
    out = capsys.readouterr().out
    assert "3 bands" in out
    assert "5 bands" in out
    for row in found["models"]:
        assert row["log_age"]["width"] > 0.3
        assert -1 <= row["correlation"] <= 1
    for rows in found["pair"]["posteriors"].values():
        assert all(0 <= row["own"] <= 1 and 0 <= row["bimodal"] <= 1 for row in rows)
