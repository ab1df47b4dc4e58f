"""The commands on images of clusters: mosaics, cutouts, fields, and what does not go together."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table

from melotte.cli import main
from melotte.engine.model_files import save_model
from melotte.flags import Flag
from melotte.systems.cluster_images import background_draws, predictive
from melotte.systems.cluster_images.predictive import ImagePredictor

sys.path.insert(0, str(Path(__file__).parent / "report"))
from image_models import small_image_model, write_cutouts

COMMON = ("--option", "metallicity=0.0", "--option", "fwhm=0.08,0.08,0.09")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture(autouse=True)
def few_predictions(monkeypatch):
    monkeypatch.setattr(predictive, "DRAWS", 16)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A model, cutouts, a field's mosaics and positions on them."""
    folder = tmp_path_factory.mktemp("images")
    model, mocks = small_image_model()
    save_model(folder / "small.safetensors", model)
    image = mocks.observation.data["image"]
    whole = torch.isfinite(image).all((1, 2, 3))
    write_cutouts(folder / "stamps.fits", image[whole][:3])
    assert run("simulate", "field", "m83", "size=224", "-o", folder / "field", "--seed", 4) == 0
    Table(
        {
            "id": ["in", "also in", "off"],
            "x": [70.0, 150.0, 900.0],
            "y": [80.0, 140.0, 20.0],
            "av": [0.0, 0.4, 0.0],
        }
    ).write(folder / "places.ecsv")
    Table({"id": ["in", "also in"], "log_age": [8.0, 9.0], "extinction_v": [0.2, 0.3]}).write(
        folder / "known.csv"
    )
    return folder


@pytest.fixture(scope="module")
def mosaics(folder):
    return sorted((folder / "field").glob("*.fits"))


@pytest.fixture
def model(folder):
    return folder / "small.safetensors"


def test_a_simulated_field_has_coordinates_and_its_own_seed(mosaics, tmp_path, capsys):
    assert [one.name for one in mosaics] == ["m83_f336w.fits", "m83_f438w.fits", "m83_f814w.fits"]
    header = fits.getheader(mosaics[0])
    assert header["CTYPE1"].startswith("RA---")
    assert header["SEED"] == 4
    assert run("check", mosaics[0]) == 0
    said = capsys.readouterr().out
    assert "mosaic of 224x224 px" in said
    assert "celestial coordinates" in said
    assert "one band of m83 and of m31" in said
    assert not list(tmp_path.iterdir())


def test_objects_are_cut_from_mosaics_and_measured(
    folder, mosaics, model, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(background_draws, "MOSAIC_PLACES", 8)
    output = tmp_path / "out.ecsv"
    code = run(
        *("infer", model, "--mosaic", *mosaics, "--positions", folder / "places.ecsv"),
        *("-o", output, "--deredden", "av", "--background-draws", 2, *COMMON),
        *("--figures", tmp_path / "figures", "--compare", folder / "known.csv"),
        *("--compare-extinction-offset", "0.1"),
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    rows = {row["id"]: row for row in Table.read(output)}
    assert rows["off"]["flags"] & Flag.FAILED
    for name in ("in", "also in"):
        row = rows[name]
        assert not row["flags"] & Flag.FAILED
        assert row["log_age_16"] <= row["log_age_50"] <= row["log_age_84"]
        assert 0 < row["class_probability"] < 1
        assert row["log_age_background_scatter"] >= 0
        assert row["mosaic"] == str(mosaics[0])
    assert [rows[name]["x"] for name in ("in", "also in")] == pytest.approx([70.0, 150.0])
    assert np.isnan(rows["off"]["log_age_background_scatter"])
    assert "2 objects in common" in said.out
    assert "counted twice" in said.out
    names = {one.name for one in (tmp_path / "figures").iterdir()}
    kinds = ("diagram", "ages", "corner")
    assert names == {
        "comparison.png", *(f"{one}_{kind}.png" for one in ("in", "also_in") for kind in kinds)
    }  # fmt: skip
    page = tmp_path / "report.html"
    assert run("report", output, "-o", page) == 0
    text = page.read_text()
    assert text.count("data:image/png") >= 6
    assert "counted twice" in text
    assert "Beside known.csv" in text
    (difference,) = (
        float(line.split("=")[1].split(",")[0])
        for line in said.out.splitlines()
        if line.strip().startswith("extinction_v: ours - theirs")
    )
    ours = np.array([rows[name]["extinction_v_50"] for name in ("in", "also in")])
    assert difference == pytest.approx(np.median(ours - [0.3, 0.4]), abs=0.001)


def test_where_no_object_is_measured_the_table_says_why(folder, mosaics, model, tmp_path, capsys):
    output, places = tmp_path / "out.ecsv", tmp_path / "far.ecsv"
    Table({"id": ["off"], "x": [900.0], "y": [20.0], "av": [0.1]}).write(places)
    words = ("infer", model, "--mosaic", *mosaics, "--positions", places, "--deredden", "av")
    words = (*words, "-o", output, *COMMON, "--background-draws", 2)
    assert run(*words) == 1
    said = capsys.readouterr()
    assert said.err == f"melotte: error: no object could be measured; {output} says why of each\n"
    assert "measured 0 of 1 objects" in said.out
    assert "off: outside the mosaic of WFC3_UVIS_F336W" in said.out
    assert "counted twice" not in said.out
    found = Table.read(output)
    assert found["flags"].tolist() == [Flag.FAILED]
    assert run(*words[:-2], "--positions", folder / "places.ecsv") == 0
    measured = Table.read(output)
    assert set(found.colnames) == {*measured.colnames} | {
        f"{name}_background_scatter"
        for name in ("log_age", "log_mass", "extinction_v", "half_number_radius")
    }
    for name in ("class_probability", "visibility", "x", "deredden_extinction_v"):
        assert np.isnan(found[name]).all()
        assert found[name].unit == measured[name].unit
        assert found[name].description == measured[name].description


def test_figures_are_drawn_of_named_images_alone(folder, model, tmp_path, capsys, monkeypatch):
    predicted = []
    predict = ImagePredictor.predict
    monkeypatch.setattr(
        ImagePredictor,
        "predict",
        lambda self, image, *given: predicted.append(image.ids) or predict(self, image, *given),
    )
    output, figures = tmp_path / "out.ecsv", tmp_path / "figures"
    words = ("infer", model, folder / "stamps.fits", "-o", output, *COMMON)
    words = (*words, "--figures", figures)
    assert run(*words, "--figures-of", "stamps-4") == 2
    said = capsys.readouterr()
    assert said.err.count("\n") == 1
    assert "--figures-of 'stamps-4': no such object in the inputs" in said.err
    assert "they hold stamps-1, stamps-2, stamps-3" in said.err
    assert not list(tmp_path.iterdir())
    assert run(*words, "--figures-of", "stamps-3", "--figures-of", "stamps-1") == 0
    assert f"figures: 2 in {figures}" in capsys.readouterr().out
    assert predicted == [("stamps-1",), ("stamps-3",)]
    assert {one.name.split("_")[0] for one in figures.iterdir()} == {"stamps-1", "stamps-3"}
    assert len(Table.read(output)) == 3


def test_a_named_object_that_failed_has_no_figure(folder, mosaics, model, tmp_path, capsys):
    figures = tmp_path / "figures"
    code = run(
        *("infer", model, "--mosaic", *mosaics, "--positions", folder / "places.ecsv"),
        *("-o", tmp_path / "out.ecsv", *COMMON, "--figures", figures, "--figures-of", "off"),
    )
    assert code == 0
    said = capsys.readouterr().out
    assert f"figures: 0 in {figures}\n  no figure of off: it could not be measured" in said
    assert not list(figures.iterdir())


def test_one_extinction_is_taken_off_cutouts(folder, model, tmp_path):
    output = tmp_path / "out.ecsv"
    words = ("infer", model, folder / "stamps.fits", "-o", output, *COMMON)
    assert run(*words, "--option", "deredden_v=0.4") == 0
    assert np.asarray(Table.read(output)["deredden_extinction_v"]) == pytest.approx(0.4)


def test_cutouts_are_measured_alone(folder, model, tmp_path):
    output = tmp_path / "out.ecsv"
    assert run("infer", model, folder / "stamps.fits", "-o", output, *COMMON, "--predictive") == 0
    table = Table.read(output)
    assert list(table["id"]) == ["stamps-1", "stamps-2", "stamps-3"]
    p = np.asarray(table["predictive_p"])
    assert ((p > 0) & (p <= 1)).all()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--mosaic",), "--mosaic and --positions TABLE go together"),
        (("--positions", "places.ecsv"), "--mosaic and --positions TABLE go together"),
        (("--deredden", "av"), "--deredden COLUMN is of the table of positions"),
        (("--option", "deredden_v=-0.4"), "deredden_v: found -0.4; needs one in [0, 20] mag"),
        (("--compare-extinction-offset", "0.1"), "goes with --compare"),
        (("--figures-of", "stamps-1"), "--figures-of ID goes with --figures FOLDER"),
        (("--option", "positions=places.ecsv"), "give --mosaic and --positions in its place"),
        (
            ("--known", "log_age=8", "--option", "log_age=9"),
            "--known log_age and --option log_age: give one of the two",
        ),
        (("--option", "colour=red"), "'colour' is not an option"),
        (("--background-draws", "1"), "--background-draws 1: a scatter needs 2 or more"),
        (("--stars", "stars.ecsv"), "--stars is for open clusters"),
        (("--galaxies", "galaxies.ecsv"), "--galaxies"),
    ],
)
def test_what_does_not_go_together_is_said_in_a_line(
    words, message, folder, model, tmp_path, capsys
):
    code = run("infer", model, folder / "stamps.fits", "-o", tmp_path / "out.ecsv", *words)
    said = capsys.readouterr().err
    assert code == 2
    assert message in said
    assert said.count("\n") == 1
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("words", [("--mosaic", "--positions", "p.csv"), ("--background-draws", 3)])
def test_image_options_are_for_images(words, tmp_path, capsys):
    (tmp_path / "m.csv").write_text("Gmag\n1\n")
    code = run("infer", "open-cluster", tmp_path / "m.csv", "-o", tmp_path / "o.ecsv", *words)
    assert code == 2
    assert "is for images of clusters" in capsys.readouterr().err


def test_an_explanation_is_written_for_one_image(folder, tmp_path, capsys):
    model, page = folder / "point.safetensors", tmp_path / "explained.html"
    # Its mean has a closed form, so that nothing has to be sampled.
    save_model(model, small_image_model("model.head=point", "model.head_settings={}")[0])
    stamps = folder / "stamps.fits"
    words = ("explain", model, stamps, "--parameter", "log_mass", "-o", page)
    assert run(*words) == 2
    assert "choose one with --id" in capsys.readouterr().err
    assert run(*words, "--id", "stamps-2") == 0
    text = page.read_text()
    assert "pixel by pixel" in text
    assert text.count("data:image/png") == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("m51",), "'m51'; allowed: m31, m83"),
        ((), "nothing; allowed: m31, m83"),
        (("m83", "n=3"), "'n=3' is not a setting of a field"),
        (("m83", "size=big"), "size=big: needs a number"),
        (("m83", "size=4"), "size must be in [16, "),
        (("m83", "size=inf"), "size=inf: needs a number"),
        (("m83", "size=32", "exposure_factor=inf"), "exposure_factor must be in [1e-6, 1e6]"),
        (("m83", "size=32", "exposure_factor=nan"), "exposure_factor must be in [1e-6, 1e6]"),
        (("m83", "size=32", "radius=inf"), "radius must be 0 to 40 kpc"),
        (("m83", "size=32", "sky_kept=nan"), "sky_kept must be in [0, 1]"),
        (("m83", "size=32", "-n", 5), "-n does not apply to fields"),
        (("m83", "--catalogue", "x.npy"), "--catalogue does not apply to fields"),
    ],
)
def test_fields_of_wrong_settings_are_refused(words, message, tmp_path, capsys):
    assert run("simulate", "field", *words, "-o", tmp_path / "field") == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_check_says_which_model_reads_cutouts(tmp_path, capsys):
    images = torch.rand(2, 3, 80, 80, generator=torch.Generator().manual_seed(1))
    images[1, :, :4] = torch.nan
    path = write_cutouts(tmp_path / "cut.fits", images)
    assert run("check", path) == 0
    said = capsys.readouterr().out
    assert "2 images of 64x64 px for m83" in said
    assert "0 with unknown pixels" in said
    assert run("check", path, "--system", "m31") == 2
    assert "ACS_WFC_F475W" in capsys.readouterr().err
    assert run("check", path, "--system", "open-cluster") == 2
    assert "does not read images" in capsys.readouterr().err
    assert run("check", path, "--group-by", "Cluster") == 2
    assert "--group-by does not apply to images" in capsys.readouterr().err


def test_check_names_the_settings_that_were_not_trained_on(tmp_path, capsys):
    path = write_cutouts(tmp_path / "cut.fits", torch.rand(2, 3, 80, 80))
    assert run("check", path, "--option", "fwhm=0.3", "--option", "metallicity=-3") == 0
    assert "\n  metallicity, fwhm: outside what m83 was trained on" in capsys.readouterr().out


def test_check_tells_images_in_arrays_and_refuses_strange_bands(tmp_path, capsys):
    array = tmp_path / "stamps.npy"
    np.save(array, np.ones((2, 3, 64, 64), dtype=np.float32))
    assert run("check", array) == 2
    assert "does not state" in capsys.readouterr().err
    stated = ("bands=F336W,F438W,F814W", "pixel_scale=0.04", "unit=electrons/s")
    words = [word for one in stated for word in ("--option", one)]
    assert run("check", array, *words) == 0
    assert "2 images of 64x64 px for m83" in capsys.readouterr().out
