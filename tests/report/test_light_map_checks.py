"""The check command on images of globular clusters: what is understood, what is wrong."""

import sys
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table

from melotte.cli import main
from melotte.systems.registry import preset_names

sys.path.insert(0, str(Path(__file__).parents[1] / "io"))
from light_map_files import write_image

GIVEN = {"sky": 5, "psf_fwhm": 1.0, "x": 31, "y": 33, "size": 48}


def run(*words, **options):
    """Exit code of ``check``."""
    given = [word for name, value in options.items() for word in ("--option", f"{name}={value}")]
    with pytest.raises(SystemExit) as caught:
        main(["check", *(str(word) for word in words), *given])
    return int(caught.value.code or 0)


def frame(path, **cards):
    """An image of sky and noise, 64 by 60 px of 0.25 arcsec unless told otherwise."""
    values = np.random.default_rng(3).normal(5, 0.5, (60, 64))
    return write_image(path, values, **{"FILTER": "V", "MAGZPT": 25.0} | cards)


def test_what_was_understood_of_an_image_is_said(tmp_path, capsys):
    path = frame(tmp_path / "ngc_V.fits", BUNIT="counts", EXPTIME=100.0, MAGZPT=26.0)
    words = path, "--system", "globular"
    assert run(*words, **GIVEN, extinction_v=0.1) == 0
    said = capsys.readouterr().out
    lines = said.splitlines()
    assert lines[0].endswith(
        "64x60 px of 0.25 arcsec in V, celestial coordinates; read by globular"
    )
    # 100 counts in 100 s are of the zero point, so one is 5 mag fainter.
    assert "1 counts of 100 s is V = 31.00 mag (Vega)" in said
    # 5 counts a pixel, 80 a square arcsec.
    assert f"sky: V 5 ({31 - 2.5 * np.log10(80):.2f} mag/arcsec2) a pixel, given" in said
    (noise,) = (line for line in lines if "noise" in line)
    assert float(noise.split()[2]) == pytest.approx(0.5, rel=0.2)
    assert noise.endswith("scatter of the emptiest parts")
    assert "seeing: 1 arcsec, given" in said
    assert "centre: column 31.0, row 33.0 from 0, given" in said
    assert (
        "map: 48x48 px of 0.25 arcsec (the file's), 0.0 % of pixels unknown, about ra 200" in said
    )
    assert "extinction" not in said
    assert run(*words, **GIVEN, noise=0.5, extinction_v=9) == 0
    said = capsys.readouterr().out
    assert "noise: V 0.5 " in said
    assert "not trained on: extinction_v 9 mag outside [0, 4.5]" in said


def test_a_missing_extinction_is_named_and_stops_nothing(tmp_path, capsys):
    path = frame(tmp_path / "a.fits")
    assert run(path, "--system", "globular", **GIVEN, extinction_error=0.5) == 0
    said = capsys.readouterr().out
    assert "extinction_v is not given; infer needs it" in said
    assert "not trained on" not in said
    assert run(path, "--system", "globular-pidoc", **GIVEN) == 0
    said = capsys.readouterr().out
    assert "read by globular-pidoc" in said
    assert "extinction_v" not in said
    assert "noise" not in said


def test_holes_and_where_seeing_comes_from_are_said(tmp_path, capsys):
    values = np.full((60, 64), 5.0)
    values[20:32, 20:32] = np.nan
    path = write_image(
        tmp_path / "a.fits", values, None, FILTER="V", MAGZPT=25.0, PIXSCALE=0.25, PSFFWHM=0.9
    )
    given = {name: value for name, value in GIVEN.items() if name != "psf_fwhm"} | {"noise": 1}
    assert run(path, "--system", "globular", **given) == 0
    said = capsys.readouterr().out
    assert "no celestial coordinates" in said
    assert "seeing: 0.9 arcsec, stated in the header" in said
    # 12 by 12 of 48 by 48.
    assert "6.2 % of pixels unknown\n" in said
    assert "6 % of the map's pixels are unknown" in said
    assert run(path, "--system", "globular-pidoc", **given) == 0
    assert "some pixels unknown, filled from around" in capsys.readouterr().out


def test_bins_with_dispersions_are_counted(tmp_path, capsys):
    spectra = np.full((60, 64), np.nan)
    # The map's corner is at column 7, row 9; its bins have 16 px: six of nine are covered.
    spectra[9:41] = 4.0
    parts = [fits.ImageHDU(spectra, name="SIGMA"), fits.ImageHDU(spectra / 9, name="SIGMA_ERR")]
    fits.HDUList([fits.PrimaryHDU(), *parts]).writeto(tmp_path / "d.fits")
    words = frame(tmp_path / "a.fits"), "--system", "globular"
    assert run(*words, **GIVEN, dispersion=tmp_path / "d.fits") == 0
    assert "  dispersions: in 6 of 9 bins\n" in capsys.readouterr().out
    assert run(*words, **GIVEN) == 0
    assert "dispersions:" not in capsys.readouterr().out


def test_bands_of_one_file_each_have_their_zero_point(tmp_path, capsys):
    values = np.random.default_rng(3).normal(5, 0.5, (60, 64))
    path = tmp_path / "a.fits"
    for bands, systems in (("VB", ("Vega", "Vega")), ("gr", ("AB", "AB"))):
        planes = [fits.PrimaryHDU()]
        for number, band in enumerate(bands):
            header = {"FILTER": band, "PIXSCALE": 0.25, "MAGZPT": 25.0 + number}
            planes.append(fits.ImageHDU(values, fits.Header(header)))
        fits.HDUList(planes).writeto(path, overwrite=True)
        assert run(path, "--system", "globular", **GIVEN) == 0
        said = capsys.readouterr().out
        assert f"in {' and '.join(bands)}, no celestial coordinates" in said
        for number, (band, system) in enumerate(zip(bands, systems, strict=True)):
            assert f"is {band} = {25 + number}.00 mag ({system})" in said
            assert f"{band} 5 (" in said
        assert run(path) == 0
        said = capsys.readouterr().out
        assert f"images in {bands[0]}, {bands[1]}; globular reads them" in said


@pytest.mark.parametrize(
    ("cards", "said"),
    [
        ({"FILTER": "F336W"}, "give bands=..., of V, B, g, r"),
        ({"FILTER": "B"}, "V, V and B, or g and r are needed"),
        ({"MAGZPT": "none"}, "MAGZPT (band 1) 'none'"),
        ({"SATURATE": "no"}, "SATURATE 'no' is not a number"),
    ],
)
def test_errors_are_those_of_infer(cards, said, tmp_path, capsys):
    path = frame(tmp_path / "a.fits", **cards)
    assert run(path, "--system", "globular", **GIVEN) == 2
    checked = capsys.readouterr()
    assert said in checked.err
    assert checked.err.count("\n") == 1
    assert checked.out == ""


def test_bands_tell_that_globular_reads_an_image(tmp_path, capsys):
    for band, reads in (
        ("V", "globular reads it"),
        ("B", "globular reads V, V and B, or g and r"),
        ("g", "globular reads V, V and B, or g and r"),
    ):
        assert run(frame(tmp_path / "a.fits", FILTER=band)) == 0
        said = capsys.readouterr().out
        assert f"mosaic of 64x60 px: {band}, 0.25 arcsec/px" in said
        assert f"{reads} (infer globular; check --system globular says more)" in said
    path = frame(tmp_path / "b.fits", FILTER="H")
    assert run(path) == 0
    assert "a band that no shipped preset reads" in capsys.readouterr().out
    assert run(path, bands="V") == 0
    assert "globular reads it" in capsys.readouterr().out
    assert run(path, extinction_v=0.1) == 2
    assert "say --system globular" in capsys.readouterr().err


def test_a_table_is_read_row_by_row(tmp_path, capsys):
    good, coarse = frame(tmp_path / "good.fits"), frame(tmp_path / "coarse.fits", scale=1.0)
    files = [good.name, good.name, coarse.name, good.name, *(f"no{i}.fits" for i in range(4))]
    rows = {
        "id": [f"c{number}" for number in range(8)],
        "V": files,
        "B": ["", "blue.fits", *[""] * 6],
        "x": [*[31.0] * 3, 900.0, *[31.0] * 4],
        "extinction_v": [0.1, 0.2, np.nan, *[0.1] * 5],
    }
    frame(tmp_path / "blue.fits", FILTER="B")
    Table(rows).write(tmp_path / "list.ecsv")
    words = tmp_path / "list.ecsv", "--system", "globular"
    assert run(*words, **GIVEN) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "3 of 8 clusters can be read by globular: 2 in V, 1 in V and B; " in lines[0]
    assert "pixels of 0.25 to 1 arcsec, seeing 1 arcsec; 0 with unknown pixels" in lines[0]
    assert [line.split(":")[0] for line in lines[1:4]] == ["  c3", "  c4", "  c5"]
    assert lines[1].startswith("  c3: the place given is at column 900.0, row 33.0, outside")
    assert "no0.fits does not exist" in lines[2]
    assert lines[4] == "  and 2 more that cannot be read"
    assert lines[5].startswith("  c2: not trained on: pixel_scale 1 arcsec")
    assert lines[6].startswith("  1 without extinction_v, which infer needs")
    assert len(lines) == 7
    assert run(*words, **GIVEN, extinction_v=0.3) == 0
    assert "without extinction_v" not in capsys.readouterr().out
    assert run(*words, "--group-by", "id") == 2
    assert "--group-by does not apply to tables of images" in capsys.readouterr().err


def test_a_wrong_system_is_told_which_there_are(tmp_path, capsys):
    path = frame(tmp_path / "a.fits")
    of_maps = [name for name in preset_names() if name.startswith("globular")]
    of_images = [name for name in preset_names() if name.startswith("m")]
    for wrong in ("open-cluster", "globullar"):
        assert run(path, "--system", wrong) == 2
        said = capsys.readouterr().err
        assert f"--system {wrong!r} does not read images" in said
        assert f"{', '.join(of_images)} read those of clusters in other galaxies" in said
        assert f"{', '.join(of_maps)} those of globular clusters" in said
    assert "did you mean 'globular'" in said
    Table({"id": ["a"], "V": ["a.fits"]}).write(tmp_path / "list.csv")
    for wrong in ("m83", "globullar"):
        assert run(tmp_path / "list.csv", "--system", wrong) == 2
        said = capsys.readouterr().err
        assert f"nor of {', '.join(of_maps)}, of tables of images" in said
    assert run(tmp_path / "list.csv", "--system", "open-cluster", sky=3) == 2
    assert "--option does not apply to tables of members" in capsys.readouterr().err
