"""From a mock's map to a file and back; measured sky, noise, seeing; maps of mass; M13."""

import json
import re
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS
from small_library import SMALL

from melotte.cli import main
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model, save_model
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.systems.base import RowError
from melotte.systems.globular_clusters.map_cutting import pixel_step
from melotte.systems.globular_clusters.reading import observations
from melotte.systems.registry import build_system, load_preset

sys.path.insert(0, str(Path(__file__).parents[2] / "io"))
from light_map_files import write_image

GIVEN = {"sky": 0, "x": 23.5, "y": 23.5, "psf_fwhm": 1.0}
OLD = ["data.dispersion_share=0.3", "data.extinction.mean=0", "data.missing_band_share=0.3"]


@pytest.fixture(scope="module")
def system(library):
    settings = [*SMALL, *OLD, f"data.library={library}", "data.served={distance: [15, 40]}"]
    return build_system(load_preset("globular", settings))


@pytest.fixture(scope="module")
def batch(system):
    return mock_batch(system, 8, 5, 0)


@pytest.fixture(scope="module")
def written(batch, tmp_path_factory):
    """Files of a mock with both bands, and its number."""
    folder = tmp_path_factory.mktemp("maps")
    data = batch.observation.data
    row = int(torch.nonzero(data["noise"].isfinite().all(1))[0])
    files = []
    for place, band in enumerate("VB"):
        path = folder / f"mock_{band}.fits"
        scale = float(data["pixel_scale"][row])
        write_image(path, data["flux"][row, place].numpy(), scale, FILTER=band, MAGZPT=25.0)
        files.append(path)
    return files, row


def one(system, files, **options):
    (found,) = observations(files, options, system.data)
    return found


def planted(path, scale, star, sky=50.0, side=240):
    """A Plummer cluster of stars of equal light off an image's middle, pixels of 0.25 arcsec."""
    rng = np.random.default_rng(2)
    rows, columns = np.indices((side, side))
    squared = (columns - 130) ** 2 + (rows - 104) ** 2
    stars = rng.poisson(300 / star * (1 + squared / scale**2) ** -2)
    image = star * stars + rng.normal(sky, 1.0, stars.shape)
    write_image(path, image.astype("f4"), 0.25, FILTER="V", MAGZPT=25.0)
    return path


@pytest.mark.parametrize(("scale", "star", "flag", "remark"), [
    (20, 1.0, Flag(0), None),
    (80, 4000.0, Flag(0), r"the centre that was found is [34].* arcsec uncertain"),
    (4000, 1000.0, Flag.OUT_OF_RANGE, "centre off by .* arcsec perhaps, more than 5"),
])  # fmt: skip
def test_a_centre_that_light_does_not_tell_is_said_to_be_uncertain(
    system, tmp_path, scale, star, flag, remark
):
    path = planted(tmp_path / "p.fits", scale, star)
    found = one(system, [path], psf_fwhm=1.0, sky=50.0)
    notes = found.header["light_maps"]["p"]
    assert int(found.flags[0]) == int(flag)
    remarks = " ".join(found.header.get("remarks", {}).get("p", []))
    if remark is None:
        assert "centre" not in remarks
        assert np.hypot(notes["x"] - 130, notes["y"] - 104) * 0.25 < 1
        assert "the light, within 0." in notes["centre_from"]
    else:
        assert re.search(remark, remarks)
    given = one(system, [path], psf_fwhm=1.0, sky=50.0, x=130, y=104)
    assert "centre" not in " ".join(given.header.get("remarks", {}).get("p", []))


@pytest.mark.parametrize(("scale", "light"), [(12, False), (80, True)])
def test_a_sky_with_the_cluster_s_light_in_it_is_noticed(system, tmp_path, scale, light):
    path = planted(tmp_path / "p.fits", scale, 1.0)
    options = {"psf_fwhm": 1.0, "x": 130, "y": 104, "noise": 1.0}
    found, told = (one(system, [path], **options, **sky) for sky in ({}, {"sky": 50.0}))
    kept = float(found.data["flux"][0, 0].nansum() / told.data["flux"][0, 0].nansum())
    said = " ".join(found.header.get("remarks", {}).get("p", []))
    assert (kept < 0.97) == light == ("cluster's light in it" in said)
    assert "cluster's light" not in " ".join(told.header.get("remarks", {}).get("p", []))


def test_a_mock_comes_back_from_its_files(system, batch, written):
    files, row = written
    found = one(system, files, **GIVEN)
    data = batch.observation.data
    assert torch.equal(found.data["flux"][0].nan_to_num(-9), data["flux"][row].nan_to_num(-9))
    assert float(found.data["pixel_scale"]) == pytest.approx(float(data["pixel_scale"][row]))
    # Few blocks of a small map are free of stars.
    ratio = found.data["noise"][0] / data["noise"][row]
    assert bool(((ratio > 0.85) & (ratio < 1.4)).all())
    assert set(found.data) == set(data)
    assert all(found.data[name].shape[1:] == data[name].shape[1:] for name in data)
    constants = system.constants(batch)
    again = system.prepare(found, constants)
    assert again["maps"].shape == system.prepare(batch.observation, constants)["maps"][:1].shape
    alone = one(system, files[:1], **GIVEN)
    assert bool(alone.data["flux"][0, 1].isnan().all())
    assert bool(alone.data["noise"][0, 1].isnan())


def test_small_pixels_are_added_up_and_large_ones_flagged(system, tmp_path):
    assert pixel_step(0.1, (0.2, 0.5)) == 2
    assert pixel_step(0.07, (0.2, 0.5)) == 3
    assert pixel_step(0.4, (0.2, 0.5)) == 1
    assert pixel_step(1.0, (0.2, 0.5)) == 1
    assert pixel_step(0.2, (0.25, 0.25)) == pytest.approx(1.25)
    values = np.random.default_rng(3).normal(5, 1, (112, 112))
    fine = write_image(tmp_path / "fine.fits", values, 0.1, FILTER="V", MAGZPT=25.0)
    found = one(system, [fine], sky=0, noise=0.5, psf_fwhm=1.0, x=55.5, y=55.5)
    sums = values[8:104, 8:104].reshape(48, 2, 48, 2).sum((1, 3))
    np.testing.assert_allclose(found.data["flux"][0, 0].numpy(), sums, rtol=1e-5)
    assert float(found.data["noise"][0, 0]) == 1.0
    assert float(found.data["pixel_scale"]) == pytest.approx(0.2)
    assert not int(found.flags)
    coarse = write_image(tmp_path / "coarse.fits", values, 1.0, FILTER="V", MAGZPT=25.0)
    found = one(system, [coarse], sky=0, psf_fwhm=9.0)
    assert int(found.flags) & Flag.OUT_OF_RANGE
    said = " ".join(found.header["remarks"]["coarse"])
    assert "pixel_scale 1 arcsec outside [0.2, 0.5]" in said
    assert "psf_fwhm 9 arcsec" in said


def test_a_map_beyond_the_image_is_unknown_there(system, tmp_path):
    values = np.random.default_rng(3).normal(5, 1, (60, 60))
    path = write_image(tmp_path / "a.fits", values, 0.25, FILTER="V", MAGZPT=25.0)
    found = one(system, [path], sky=0, noise=1, psf_fwhm=1.0, x=3, y=30)
    assert float(found.data["flux"][0, 0].isnan().float().mean()) == pytest.approx(
        20 / 48, abs=0.03
    )
    assert int(found.flags) & Flag.BAD_PIXELS
    with pytest.raises(MelotteValueError, match="outside the image of 60 columns and 60 rows"):
        one(system, [path], x=99, y=3)
    with pytest.raises(MelotteValueError, match="4 are needed; give psf_fwhm=ARCSEC"):
        one(system, [path], sky=0)
    with pytest.raises(MelotteValueError, match="group_by: not an option of images of globular"):
        one(system, [path], group_by="x")


def test_panstarrs_bands_become_v_and_b(system, tmp_path):
    rng = np.random.default_rng(3)
    values = rng.uniform(40, 60, (60, 60))
    # g - r = 0.6 everywhere.
    files = [
        write_image(tmp_path / f"{band}.fits", flux, 0.25, FILTER=band, MAGZPT=25.0)
        for band, flux in (("g", values), ("r", values * 10**0.24))
    ]
    found = one(system, files, sky=0, noise=1.0, psf_fwhm=1.0, x=30, y=30)
    v, b = (float(flux.mean()) for flux in found.data["flux"][0])
    middle = values[6:54, 6:54].mean()
    assert -2.5 * np.log10(v / middle) == pytest.approx(-0.017 - 0.508 * 0.6, abs=0.01)
    assert -2.5 * np.log10(b / middle) == pytest.approx(0.194 + 0.561 * 0.6, abs=0.01)
    assert float(found.data["noise"][0, 0]) == pytest.approx(v / middle, rel=0.01)


def test_pidoc_smooths_and_fills_as_its_mocks(library, tmp_path):
    settings = [f"data.library={library}", "data.size=48", "data.least_stars=100"]
    pidoc = build_system(load_preset("globular-pidoc", settings))
    values = np.full((64, 64), 2.0)
    values[30, 31] = np.nan
    path = write_image(tmp_path / "a.fits", values, 0.25, FILTER="V", MAGZPT=25.0)
    found = one(pidoc, [path], sky=0, noise=1, psf_fwhm=1.0, x=32, y=32)
    torch.testing.assert_close(found.data["flux"], torch.full((1, 1, 48, 48), 2.0))
    assert float(found.data["noise"]) == 0
    assert int(found.flags) & Flag.BAD_PIXELS
    double = write_image(tmp_path / "b.fits", values[:, :40], 0.35, FILTER="V", MAGZPT=25.0)
    found = one(pidoc, [double], sky=0, noise=1, psf_fwhm=1.0, x=20, y=32, size=32)
    assert float(found.data["pixel_scale"]) == pytest.approx(0.25, rel=1e-4)
    expected = torch.full((1, 1, 32, 32), 2 * (0.25 / 0.35) ** 2)
    torch.testing.assert_close(found.data["flux"], expected, rtol=1e-3, atol=0)


def test_neighbours_of_saturated_pixels_are_unknown_as_in_mocks(system, tmp_path):
    values = np.random.default_rng(3).normal(5, 1, (48, 48))
    values[20, 30] = 900
    path = write_image(tmp_path / "a.fits", values, 0.25, FILTER="V", MAGZPT=25.0, SATURATE=500)
    found = one(system, [path], sky=0, noise=1, psf_fwhm=1.0, x=23.5, y=23.5)
    unknown = np.argwhere(np.isnan(found.data["flux"][0, 0].numpy()))
    assert unknown.min(0).tolist() == [19, 29]
    assert unknown.max(0).tolist() == [21, 31]
    assert len(unknown) == 9
    wrong = write_image(tmp_path / "b.fits", values, 0.25, FILTER="V", MAGZPT=25.0, SATURATE="no")
    with pytest.raises(MelotteValueError, match="SATURATE 'no' is not a number"):
        one(system, [wrong], sky=0, noise=1, psf_fwhm=1.0)


def test_a_row_of_a_table_that_cannot_be_measured_costs_only_itself(system, tmp_path):
    values = np.random.default_rng(3).normal(5, 1, (60, 60))
    path = write_image(tmp_path / "a.fits", values, 0.25, FILTER="V", MAGZPT=25.0)
    rows = {"id": ["good", "bad"], "V": ["a.fits"] * 2, "psf_fwhm": [1.0, np.nan]}
    Table(rows).write(tmp_path / "list.ecsv")
    options = {"sky": 0, "noise": 1}
    good, bad = observations([tmp_path / "list.ecsv"], options, system.data)
    assert good.ids == ("good",)
    assert isinstance(bad, RowError)
    assert (bad.id, bad.flags) == ("bad", int(Flag.FAILED))
    assert bad.reason.startswith("the width of stars cannot be measured")
    with pytest.raises(MelotteValueError, match="the width of stars cannot be measured"):
        one(system, [path], **options)


def test_extinction_is_told_or_taken_off(system, tmp_path):
    values = np.full((60, 60), 5.0)
    path = write_image(tmp_path / "a.fits", values, 0.25, FILTER="V", MAGZPT=25.0)
    given = {"sky": 0, "noise": 1, "psf_fwhm": 1.0, "x": 30, "y": 30}
    told = build_system(load_preset("globular", ["data.size=48"]))
    plain = one(told, [path], **given, extinction_v=0.5)
    assert float(plain.data["flux"][0, 0].mean()) == pytest.approx(5.0)
    # The middle of 5 to 30 % in the logarithm, and a least error of 0.02 mag.
    usual = np.hypot(0.5 * np.sqrt(0.05 * 0.3), 0.02)
    assert float(plain.data["extinction_error"]) == pytest.approx(usual, rel=1e-5)
    assert not int(plain.flags)
    sure = one(told, [path], **given, extinction_v=0.5, extinction_error=1e-4)
    assert float(sure.data["extinction_error"]) == pytest.approx(np.hypot(0.025, 0.02), rel=1e-5)
    for options in (
        {"extinction_v": 9.0}, {"extinction_v": -1.0}, {"extinction_v": 1, "extinction_error": 2},
    ):  # fmt: skip
        found = one(told, [path], **given, **options)
        assert int(found.flags) & Flag.OUT_OF_RANGE
        assert "extinction" in found.header["light_maps"]["a"]["outside_training"]
    with pytest.raises(MelotteValueError, match=r"give extinction_v=A_V"):
        one(told, [path], **given)
    # A model that knows no dust reads the light without it.
    found = one(system, [path], **given, extinction_v=0.5)
    assert float(found.data["flux"][0, 0].mean()) == pytest.approx(5 * 10**0.2, rel=5e-3)
    assert float(found.data["noise"][0, 0]) == pytest.approx(10**0.2, rel=5e-3)
    assert "taken off the light" in " ".join(found.header["remarks"]["a"])


@pytest.fixture(scope="module")
def model(system, batch, tmp_path_factory):
    """An untrained network."""
    preset = load_preset("globular", [*SMALL, *OLD, "data.served={distance: [15, 40]}"])
    constants = system.constants(batch)
    torch.manual_seed(2)
    network = system.network(constants).eval()
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    save_model(path, Model(system, preset.model_dump(mode="json"), constants, network))
    return path


def run(*words):
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def options_of(given):
    return [word for name, value in given.items() for word in ("--option", f"{name}={value}")]


def test_maps_are_written_with_coordinates_and_where_they_come_from(
    model, written, batch, tmp_path, capsys
):
    files, row = written
    maps = tmp_path / "mass.fits"
    words = ("infer", model, *files, "-o", tmp_path / "out.ecsv", *options_of(GIVEN))
    drawn = ("--figures", tmp_path / "figures")
    assert run(*words, "--maps", maps, "--known", "distance=20", *drawn) == 0
    said = capsys.readouterr().out
    assert (tmp_path / "figures" / "luminosities.png").stat().st_size > 2000
    page = tmp_path / "report.html"
    assert run("report", tmp_path / "out.ecsv", "-o", page) == 0
    for title in ("Light of the fields", "Light and maps of mass"):
        assert f"<h2>{title}</h2>" in page.read_text()
    assert "maps of 1 objects (mass_map, mass_map_scale, mass, mass_to_light_v, profile)" in said
    table = Table.read(tmp_path / "out.ecsv")
    assert table["distance_16"][0] == pytest.approx(20, rel=1e-4)
    assert table["distance_84"][0] == pytest.approx(20, rel=1e-4)
    assert table["log_age_16"][0] < table["log_age_84"][0]
    with fits.open(maps) as found:
        head = found[0].header
        assert head["MODEL"] == "globular"
        assert (head["INPUT1"], head["INPUT2"]) == ("mock_V.fits", "mock_B.fits")
        assert '"distance": 20' in head["KNOWN"]
        mean, mass = found["MASS_MAP", 1].data, found["MASS", 1].data
        assert mean.shape == (48, 48)
        np.testing.assert_allclose(mass, 10**mean, rtol=1e-4)
        assert float(np.log10(mass.sum())) == pytest.approx(
            float(table["log_map_mass"][0]), abs=1e-3
        )
        scale = found["MASS_MAP_SCALE", 1]
        assert (scale.data > 0).all()
        assert scale.header["DEGREES"] > 2
        assert found["MASS", 1].header["OBJECT"] == "mock_V"
        middle = WCS(found["MASS", 1].header).pixel_to_world(23.5, 23.5)
        assert middle.ra.deg == pytest.approx(200.0, abs=1e-6)
        assert middle.ra.deg == pytest.approx(float(table["ra"][0]))
        ratio = found["MASS_TO_LIGHT_V", 1].data
    # Mass over light at 20 kpc, of the whole map.
    flux = batch.observation.data["flux"][row, 0].nan_to_num(0.0).double()
    light = float(flux.sum()) * 10 ** (0.4 * (4.81 + 5 * np.log10(20) + 10 - 25))
    seen = np.isfinite(ratio)
    assert seen.mean() > 0.05
    assert 0.2 < np.nansum(mass[seen] / ratio[seen]) / light < 2


def test_known_values_that_cannot_be_given_are_refused(model, written, tmp_path, capsys):
    words = ("infer", model, written[0][0], "-o", tmp_path / "o.ecsv", *options_of(GIVEN))
    for known, said in (
        ("log_age=10", "cannot be given without the parameters before; the order is distance"),
        ("distance=900", "outside the model's range [9.99, 60.06] kpc"),
        ("distence=20", "did you mean 'distance'"),
        ("distance=near", "not of the form NAME=NUMBER"),
    ):
        assert run(*words, "--known", known) == 2
        assert said in capsys.readouterr().err
    assert run(*words, "--maps", tmp_path / "maps.txt") == 2
    assert "maps are written as FITS" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_a_posterior_beyond_what_is_served_is_flagged(model, written, tmp_path, capsys):
    for distance, flagged in ((12, True), (20, False), (55, True)):
        words = ("infer", model, *written[0], "-o", tmp_path / "o.ecsv", *options_of(GIVEN))
        assert run(*words, "--known", f"distance={distance}") == 0
        flags = int(Table.read(tmp_path / "o.ecsv")["flags"][0])
        assert bool(flags & Flag.OUT_OF_RANGE) == flagged
        assert ("the end of what the model serves" in capsys.readouterr().out) == flagged


def test_a_model_without_a_library_is_judged_on_one_s_own(model, library, tmp_path, capsys):
    """What is shipped names no library: evaluate is told one."""
    words = ("evaluate", model, "-n", 8, "--json", tmp_path / "found.json")
    assert run(*words, f"data.library={library}") == 0
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["n"] == 8
    assert found["extra"]["settings"] == [f"data.library={library}"]
    assert found["extra"]["pixel_percent_error"] > 0
    capsys.readouterr()
    for override, said in (
        ("model.features=3", "a trained model's data settings can be changed"),
        ("data.distance=[1, 9]", "changes the parameters or their ranges"),
        ("data.librarry=x", "did you mean 'library'?"),
    ):
        assert run(*words, override) == 2
        assert said in capsys.readouterr().err
    assert run(*words, "data.size=64", "--bank", tmp_path / "bank.h5") == 2
    assert "a bank's mocks are made" in capsys.readouterr().err


def test_served_ranges_are_checked():
    for wrong in ("{distance: [40, 15]}", "{weight: [1, 2]}"):
        with pytest.raises(MelotteValueError, match="served"):
            load_preset("globular", [f"data.served={wrong}"])
    only = "data.served={log_luminosity_fov: [2, 5]}"
    load_preset("globular", [only, "data.served_shares={log_luminosity_fov: 0.5}"])
    with pytest.raises(MelotteValueError, match=r"served_shares\.weight: distance, log_age, "):
        load_preset("globular", [only, "data.served_shares={weight: 0.5}"])
    with pytest.raises(MelotteValueError, match="served_shares"):
        load_preset("globular", ["data.served_shares={distance: 0.4}"])


def test_m13_is_read_and_said_to_be_outside(system, shared_data):
    path = shared_data / "globular" / "m13.fits"
    if not path.is_file():
        pytest.skip("needs globular/m13.fits")
    with pytest.raises(MelotteValueError, match="does not state its band"):
        one(system, [path])
    with pytest.raises(MelotteValueError, match="no zero point"):
        one(system, [path], bands="V")
    found = one(system, [path], bands="V", zero_point=20.0)
    assert int(found.flags) & Flag.OUT_OF_RANGE
    assert "pixel_scale 1 arcsec" in " ".join(found.header["remarks"]["m13"])
    # The catalogued centre is 250.4218, 36.4599 deg.
    assert float(found.header["ra"][0]) == pytest.approx(250.4218, abs=0.01)
    assert float(found.header["dec"][0]) == pytest.approx(36.4599, abs=0.01)
