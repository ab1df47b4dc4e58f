"""Scores of maps of mass: planted errors are found, a wrong width fails, the floor follows laws."""

import math

import numpy as np
import pytest
import torch
from small_library import SMALL

from melotte.engine.evaluation import evaluate
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream, keyed_generator
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.globular_clusters.judging import examples_of
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.globular_clusters.map_readings import MapReading, MapTruth, read_outputs
from melotte.systems.globular_clusters.map_scores import MapScores, distance_rows
from melotte.systems.globular_clusters.radial_profiles import mass_centres, radial_profiles
from melotte.systems.globular_clusters.sampling_noise import sampling_noise
from melotte.systems.registry import build_system, load_preset

FLOOR = -3.0


def planted(n=24, spread=0.1, stated=1.0, seed=0, side=32):
    """Maps known to ``spread`` dex, whose stated error is ``stated`` times that."""
    rng = np.random.default_rng(seed)
    log_map = rng.uniform(-2.5, 1.5, (n, side, side)).astype(np.float32)
    noise = spread * rng.normal(size=log_map.shape)
    light = rng.uniform(500, 2000, n)
    true_mass = (10.0**log_map).sum((1, 2))
    group = np.arange(n) // 4
    truth = MapTruth(
        log_map,
        light,
        {
            "map_mass": true_mass,
            "map_mass_to_light": true_mass / light,
            "distance": np.resize([15.0, 30.0, 60.0, 80.0], n),
            "age": rng.uniform(1, 13, n),
        },
        group,
    )
    given = (log_map + noise).astype(np.float32)
    mass = 1.1 * true_mass
    reading = MapReading(
        given,
        np.full(given.shape, stated * spread, dtype=np.float32),
        None,
        {
            "map_mass": mass,
            "map_mass_to_light": mass / light,
            "distance": truth.values["distance"] + 2.0,
            "age": truth.values["age"] + 0.5,
        },
        {},
    )
    return truth, reading


def scores_of(*pairs):
    scores = MapScores(FLOOR)
    for truth, reading in pairs:
        scores.add(truth, reading)
    return scores


def test_planted_errors_are_found():
    found = scores_of(planted(seed=1), planted(seed=2)).result()
    # 100 E|1 - 10^(0.1 z)| of a normal deviate z.
    z = np.random.default_rng(5).normal(size=200_000)
    wanted = 100 * np.abs(1 - 10 ** (0.1 * z)).mean()
    assert found["pixel_percent_error_bright"] == pytest.approx(wanted, rel=0.1)
    assert found["map_mass_percent_error"] == pytest.approx(100 * 0.1 / 1.1, rel=1e-6)
    assert found["total_mass_percent_error"] == found["map_mass_percent_error"]
    assert found["mass_to_light_percent_error"] == pytest.approx(100 * 0.1 / 1.1, rel=1e-6)
    assert found["age_mae_gyr"] == pytest.approx(0.5)
    assert found["distance_mae_kpc"] == pytest.approx({"15": 2, "30": 2, "60": 2, "80": 2})
    assert found["distance_mean_kpc"]["60"] == pytest.approx(62)
    assert found["over_maps"]["distance"]["bias"] == pytest.approx(2)
    assert found["map_mse"] == pytest.approx(0.01, rel=0.05)
    assert found["map_r2"] == pytest.approx(1 - 0.01 / (16 / 12), rel=0.01)
    assert 0 < found["errors"]["pixel_percent_error"] < found["pixel_percent_error"]
    assert len(found["profile_percent_error"]) == 25


@pytest.mark.parametrize(("stated", "low", "high"), [(1.0, 0.66, 0.70), (0.5, 0.3, 0.45)])
def test_coverage_of_pixels_tells_wrong_widths(stated, low, high):
    found = scores_of(planted(stated=stated)).result()
    assert low < found["pixel_coverage_68"] < high
    assert (found["pixel_coverage_95"] > 0.94) == (stated == 1.0)
    assert found["pixel_coverage_68_error"] > 0


def test_coverage_with_a_floor_holds_where_the_posterior_is_right():
    rng = np.random.default_rng(3)
    mean = rng.uniform(-3.4, -2.6, (40, 32, 32))
    latent = mean + 0.3 * rng.standard_t(4, size=mean.shape)
    true = np.maximum(latent, FLOOR).astype(np.float32)
    assert 0.2 < (true <= FLOOR).mean() < 0.8
    truth, _ = planted(n=40)
    truth = MapTruth(true, truth.light, truth.values, truth.group)
    scale = np.full(mean.shape, 0.3, dtype=np.float32)
    right = MapReading(mean.astype(np.float32), scale, 4.0, planted(n=40)[1].values, {})
    found = scores_of((truth, right)).result()
    assert found["pixel_coverage_68"] == pytest.approx(0.68, abs=0.015)
    assert found["pixel_coverage_95"] == pytest.approx(0.95, abs=0.01)
    narrow = MapReading(right.log_map, 0.4 * scale, 4.0, right.values, {})
    assert scores_of((truth, narrow)).result()["pixel_coverage_68"] < 0.6


def test_distances_without_a_few_values_are_told_apart_by_octaves():
    true = np.geomspace(3, 100, 200)
    found = distance_rows(true, true + 1)["distance_mae_kpc"]
    assert list(found) == ["2-4", "4-8", "8-16", "16-32", "32-64", "64-128"]
    assert all(value == pytest.approx(1) for value in found.values())


def test_profiles_follow_the_law_that_the_map_was_made_of():
    rows, columns = np.mgrid[:64, :64]
    radius = np.hypot(rows - 30.0, columns - 35.0)
    maps = (1 / (1 + (radius / 5) ** 2) ** 2)[None]
    centre = mass_centres(maps)
    np.testing.assert_allclose(centre, [[35.0, 30.0]], atol=0.05)
    found = radial_profiles(maps, np.array([[35.0, 30.0]]))[0]
    width = 0.5 * math.hypot(64, 64) / 25
    middle = (np.arange(25) + 0.5) * width
    known = np.isfinite(found) & (middle < 25)
    np.testing.assert_allclose(found[known], (1 / (1 + (middle / 5) ** 2) ** 2)[known], rtol=0.25)
    holed = maps.copy()
    holed[0, 30, 35] = np.nan
    assert np.isfinite(radial_profiles(holed, np.array([[35.0, 30.0]]))[0, 0])


@pytest.fixture(scope="module")
def system(library):
    return build_system(load_preset("globular", [*SMALL, f"data.library={library}"]))


def test_the_truth_and_a_reading_of_it_are_in_the_same_terms(system):
    system = system.in_area("test")
    batch = mock_batch(system, 16, 1, Stream.MOCKS, 0)
    truth = MapTruth.of(batch, system.parameters)
    np.testing.assert_allclose(
        truth.values["map_mass_to_light"], truth.values["map_mass"] / truth.light
    )
    constants = system.constants(batch)
    torch.manual_seed(1)
    network = system.network(constants).eval()
    with torch.no_grad():
        outputs = network(system.prepare(batch.observation, constants))
    outputs["mass_map"] = MapPosterior(
        batch.targets["log_mass_map"], torch.ones_like(batch.targets["log_mass_map"])
    )
    reading = read_outputs(outputs, system.parameters, truth)
    np.testing.assert_allclose(reading.values["map_mass"], truth.values["map_mass"])
    assert "mass_to_light_v at the distance" in reading.values
    assert "distance at the distance" not in reading.values
    known = np.isfinite(reading.pit["log_age"])
    assert known.any()
    assert ((reading.pit["log_age"][known] > 0) & (reading.pit["log_age"][known] < 1)).all()


def test_examples_show_light_without_the_dust_smoothed_as_the_mass(library):
    clear = ["data.noise=none", "data.label_spread=0", "data.missing_band_share=0"]
    # All of a cluster, and of its stars' images, lies on so wide a map.
    clear += ["data.pixel_scale=8", "data.psf_fwhm=10", "data.distance=160", "data.offset=0"]
    clear += ["data.dark_mass={share: 0}", "data.dispersion_share=0"]
    dusty = "{mean: 1, most: 3, least_error: 1e-6, relative_error: [1e-6, 1e-6]}"
    shown = []
    for dust, sigma in (("{mean: 0}", 0.0), (dusty, 0.0), (dusty, 1.5)):
        settings = [*SMALL, *clear, f"data.extinction={dust}", f"data.mass_smoothing={sigma}"]
        one = build_system(load_preset("globular", [*settings, f"data.library={library}"]))
        scenes = one.draw(4, keyed_generator(3, 1))
        batch = one.observe(scenes, keyed_generator(3, 2))
        truth = MapTruth.of(batch, one.parameters)
        reading = MapReading(truth.log_map, None, None, truth.values, {})
        shown.append(examples_of(batch, truth, reading, 4, sigma))
    for bare, behind, smooth, light in zip(*shown, truth.light, strict=True):
        # Mocks' V is dimmed by 0.99 A_V, its law at the band's effective wavelength.
        np.testing.assert_allclose(behind.luminosity, bare.luminosity, rtol=0.03, atol=1e-4)
        assert bare.luminosity.sum() == pytest.approx(light, rel=0.1)
        assert smooth.luminosity.sum() == pytest.approx(light, rel=0.1)
        assert smooth.luminosity.max() < bare.luminosity.max()


def test_noise_of_single_stars_falls_with_their_number(system):
    data = system.data
    stars = load_stars(data, "test")
    generator = torch.Generator().manual_seed(2)
    few = sampling_noise(data, stars, (30.0,), generator, n=24, drawings=6)
    # Wider smoothing puts more stars into what is compared.
    smoother = data.model_copy(update={"mass_smoothing": 8.0})
    many = sampling_noise(smoother, stars, (30.0,), generator, n=24, drawings=6)
    assert many.pixels.since(-1.5).mean < 0.8 * few.pixels.since(-1.5).mean
    found = few.as_json()
    # These clusters have no bright pixel at all.
    unknown = [name for name, value in found.items() if not np.isfinite(value)]
    assert unknown in ([], ["pixel_percent_error_bright"])
    # Stars of one mass and light each would leave none of M/L; these differ.
    assert 1 < found["mass_to_light_percent_error"] < 60


def test_the_noise_is_left_out_where_the_training_s_library_is_not_at_hand(tmp_path):
    gone = f"data.library={tmp_path / 'gone.h5'}"
    assert build_system(load_preset("globular", [*SMALL, gone])).judge().noise() is None


def test_evaluation_holds_the_scores(system, library):
    batch = mock_batch(system, 32, 1, Stream.CONSTANTS, 0)
    constants = system.constants(batch)
    torch.manual_seed(4)
    preset = load_preset("globular", [*SMALL, f"data.library={library}"])
    model = Model(
        system, preset.model_dump(mode="json"), constants, system.network(constants).eval()
    )
    found = evaluate(model, n=40, seed=3, progress=False, n_samples=100)
    extra = found.as_json()["extra"]
    assert extra["pixel_percent_error"] > 0
    assert set(extra["sampling_noise_floor"]) >= {"pixel_percent_error", "total_mass_percent_error"}
    assert found.published["extra"]["mass_to_light_percent_error"] == 11.8
    examples = found.judged.examples()
    assert len(examples) == 6
    masses = [one.mass for one in examples]
    assert masses == sorted(masses)
