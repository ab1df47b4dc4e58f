"""Measures of the image-system benchmark on planted readings, and methods on one scale."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import image_systems_measures as measures
import image_systems_paper1 as paper1
from image_systems_methods import LIMITED, SAMPLES, Method, Reading, Truth, within
from image_systems_robustness import turned, width_without_pixel

from melotte.engine.model_files import Model
from melotte.parameters import Parameter
from melotte.systems.base import Observation
from melotte.systems.cluster_images.judging import bin_names
from melotte.systems.registry import build_system, load_preset
from melotte.telescope.psf import HubblePSF

PARAMETERS = (
    Parameter("log_age", 6.4, 10.3),
    Parameter("extinction_v", 0, 3.3, "mag"),
    Parameter("log_mass", 3.3, 5.7),
    Parameter("half_number_radius", 0.03, 0.5, "arcsec", "log"),
)
N = 3000


def planted(spread=0.1, stated=1.0, seed=0):
    """Normal posteriors of known scatter, whose stated width is ``stated`` times that."""
    rng = np.random.default_rng(seed)
    true = rng.uniform(7, 9, (2 * N, 4))
    point = true + spread * rng.normal(size=true.shape)
    samples = point[:, None] + stated * spread * rng.normal(size=(2 * N, 100, 4))
    cluster = np.arange(2 * N) < N
    true[~cluster] = np.nan
    seen = np.where(cluster, 10 ** rng.uniform(-1, 2, 2 * N), 0)
    probability = 1 / (1 + np.exp(-(seen + rng.normal(size=2 * N))))
    truth = Truth(true, cluster, seen, np.zeros((2 * N, 3)))
    maps = np.zeros((2 * N, 20, 10))
    maps[:, 3, 3] = 1
    return truth, Reading(point, point, samples, maps, probability, np.maximum(seen, 0.1))


def test_errors_are_those_planted_and_are_compared_on_the_same_clusters():
    truth, good = planted(0.1)
    _, bad = planted(0.2)
    rows = measures.error_rows(truth, good, PARAMETERS)["log_age"]["point"]
    assert rows["std"] == pytest.approx(0.1, rel=0.05)
    assert rows["core"] == pytest.approx(0.1, rel=0.08)
    assert rows["p95_abs"] == pytest.approx(0.196, rel=0.06)
    assert rows["p95_young"] == pytest.approx(rows["p95_old"], rel=0.15)
    bounds = rows["p95_by_visibility"]
    assert len(bounds) == len(bin_names())
    seen = np.array(bounds)[np.isfinite(bounds)]
    assert (abs(seen / 0.196 - 1) < 0.4).all()
    # The error of a quantile of |normal| is sqrt(q(1-q)/n) over its density.
    assert rows["p95_error"] == pytest.approx(0.1 * np.sqrt(0.95 * 0.05 / N) / 0.117, rel=0.3)
    ratio = measures.ratios(truth, good, bad, PARAMETERS)["log_mass"]
    assert ratio["ratio"] == pytest.approx(0.5, rel=0.02)
    assert ratio["error"] < 0.02


@pytest.mark.parametrize(("stated", "low", "high"), [(1.0, 0.65, 0.71), (0.5, 0.3, 0.45)])
def test_coverage_finds_widths_that_are_too_small(stated, low, high):
    truth, reading = planted(stated=stated)
    rows = measures.coverage_rows(truth, reading, PARAMETERS)["extinction_v"]["coverage_68"]
    fraction, error, n = rows["all"]
    assert low < fraction < high
    assert (n, error) == (N, pytest.approx(np.sqrt(fraction * (1 - fraction) / N), rel=0.05))
    counted = [entry[2] for entry in rows["by_visibility"]]
    assert sum(counted) == N
    assert len(counted) == len(bin_names())


def test_classes_are_judged_by_visibility():
    rows = measures.class_rows(*planted())
    assert rows is not None
    areas = [entry["roc_auc"] for entry in rows["by_visibility"]]
    assert areas[0] < areas[2] < areas[-1]
    assert rows["seen"]["roc_auc"] > 0.97
    assert rows["seen"]["n"] == pytest.approx(N * (2 - np.log10(2)) / 3, rel=0.05)
    assert rows["false_alarms"] == pytest.approx(0.5, abs=0.04)


def test_error_of_an_area_is_its_scatter():
    rng = np.random.default_rng(1)
    areas = []
    for _ in range(300):
        score = np.concatenate([rng.normal(1.2, 1, 150), rng.normal(0, 1, 200)])
        areas.append(measures.roc_auc(score, np.arange(350) < 150))
    stated = measures.area_error(float(np.mean(areas)), 150, 200)
    assert stated == pytest.approx(np.std(areas), rel=0.2)


def test_everything_together_has_every_part():
    truth, reading = planted()
    found = measures.measured(truth, {"faithful": reading, "ours": reading}, PARAMETERS)
    assert found["ours"]["bounds_over_faithful"]["log_age"]["ratio"] == 1
    assert found["ours"]["shapes"]["bimodal"] == 0
    assert found["ours"]["visibility"]["std"] < 0.01


def test_samples_outside_known_ranges_are_left_out():
    rng = np.random.default_rng(2)
    drawn = rng.normal(size=(3, 2 * SAMPLES, 2))
    drawn[1, :, 0] = 5.0
    drawn[2, 1:, 0] = 5.0
    drawn[2, 0, 0] = 0.5
    kept = within(drawn, [(-1.0, 1.0), None])
    assert kept.shape == (3, SAMPLES, 2)
    assert np.abs(kept[..., 0]).max() <= 1
    inside = drawn[0][np.abs(drawn[0, :, 0]) <= 1][:SAMPLES]
    np.testing.assert_array_equal(kept[0], inside)
    assert set(kept[1, :, 0]) == {1.0}
    assert (kept[2] == drawn[2, 0]).all()


def test_groups_are_counted_along_each_axis():
    rng = np.random.default_rng(3)
    step = {"log_age": 0.5, "log_mass": 0.3, "half_number_radius": 0.2}
    names = list(paper1.NODES)
    nodes = {}
    for key in np.stack(np.meshgrid(*paper1.NODES.values(), indexing="ij"), -1).reshape(-1, 3):
        # Ages are sharp at all masses, sizes at the highest alone.
        spread = [0.1, 0.05, 0.3 if key[1] < 3.6 else 0.02]
        nodes[tuple(key.tolist())] = key + rng.normal(size=(100, 3)) * spread
    assert set(step) == set(names)
    found = paper1.groups(nodes)
    assert found["log_age"]["2.4"]["mean"] == 5
    assert found["half_number_radius"]["3.6"]["mean"] == 5
    assert found["half_number_radius"]["2.4"]["mean"] <= 2
    assert [len(one) for one in paper1.panels(nodes, "9").values()] == [25] * 3


def test_turning_keeps_the_light_of_the_middle():
    image = torch.zeros(1, 1, 21, 21)
    image[0, 0, 8:13, 9:12] = 1.0
    for angle in (90.0, 45.0):
        assert float(turned(image, angle).sum()) == pytest.approx(15, rel=0.03)
    assert bool((turned(image, 90.0)[0, 0, 9:12, 8:13] == 1).all())
    psf = HubblePSF(814.0, 0.02)
    assert width_without_pixel(psf) == pytest.approx(0.085, abs=0.02)


def untrained(preset):
    settings = load_preset(preset, ["model.widths=[8,8]", "model.blocks=[1,1]"])
    system = build_system(settings)
    generator = torch.Generator().manual_seed(1)
    n, size = 6, system.data.size
    data = {
        "image": 0.1 + 0.01 * torch.rand(n, 3, size, size, generator=generator),
        "exposure": torch.full((n, 3), 1500.0),
        "fwhm": torch.full((n, 3), 0.08),
        "pixel_scale": torch.full((n,), 0.05),
        "distance_modulus": torch.full((n,), 24.47),
        "metallicity": torch.full((n,), -0.3),
    }
    observation = Observation(data)
    from melotte.systems.cluster_images.preparation import measure_constants

    constants = measure_constants(observation, system.model)
    torch.manual_seed(0)
    network = system.network(constants).eval()
    return Model(system, settings.model_dump(mode="json"), constants, network), observation


def test_ours_answers_in_the_order_and_scale_of_the_other_at_known_extinction():
    model, observation = untrained("m31")
    asked = build_system(load_preset("m31-paper1")).parameters
    ranges = {"log_mass": (3.0, 3.2)}
    method = Method("ours", "ours", model, asked, {"extinction_v": 0.0}, ranges)
    found = method.read(observation, 1, 0)
    assert set(found) == {"ours", "ours" + LIMITED}
    whole, limited = found["ours"], found["ours" + LIMITED]
    assert whole.samples.shape == (6, SAMPLES, 3)
    for i, (low, high) in enumerate([(6.4, 9.8), (1.9, 4.3), (-1.1, 0.26)]):
        assert low < whole.samples[..., i].min() < whole.samples[..., i].max() < high
    assert limited.samples[..., 1].min() >= 3.0
    assert limited.samples[..., 1].max() <= 3.2
    assert np.isfinite(whole.probability).all()
    again = method.read(observation, 1, 0)["ours"]
    np.testing.assert_array_equal(again.samples, whole.samples)
    with pytest.raises(SystemExit, match="must come first"):
        Method("ours", "ours", model, asked, {"log_mass": 3.0}).read(observation, 1, 0)


def test_the_preset_of_paper_ones_mocks_is_of_these_and_our_network():
    folder = Path(__file__).parents[2] / "benchmarks"
    same = build_system(load_preset(str(folder / "m31-paper1-mocks.yaml")))
    paper, ours = (build_system(load_preset(name)) for name in ("m31-paper1", "m31"))
    assert same.data == paper.data
    assert same.model == ours.model.model_copy(update={"counts_in_scale": True})
    assert [(one.low, one.high) for one in same.parameters[1:]] == [(2.0, 4.0), (0.1, 1.6)]
    assert "extinction_v" not in [one.name for one in same.parameters]
