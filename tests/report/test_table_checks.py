"""The check command on tables: which kind they are, what is in them, what is dropped."""

from __future__ import annotations

import numpy as np
import pytest
from astropy.table import Table

from melotte.cli import main
from melotte.errors import MelotteValueError
from melotte.report.table_checks import table_system

GAIA = ("Cluster", "Gmag", "BP-RP", "Plx", "RA_ICRS", "DE_ICRS")
ON_THE_SKY = ("cluster_id", "RA", "DEC", "Z")
PROJECTED = ("CID", "dproj", "vlos", "zclus")


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def projected(path):
    """Two clusters as RCausticMass writes them, and a third without a usable row."""
    rng = np.random.default_rng(2)
    lines = ["CID dproj vlos zclus"]
    for name, n, z in (("A", 20, 0.05), ("B", 30, 0.08)):
        lines += [
            f"{name} {rng.uniform(0.1, 1):.3f} {rng.normal(0, 400):.1f} {z}" for _ in range(n)
        ]
        lines += [f"{name} 8.0 100.0 {z}", f"{name} 0.5 9000.0 {z}", f"{name} nan 50.0 {z}"]
    lines.append("C nan 50.0 0.05")
    path.write_text("\n".join([*lines, ""]))
    return path


def caustic(path, n=25):
    """CausticSNUpy's N ra dec cz of the cluster, then ra dec cz a galaxy."""
    rng = np.random.default_rng(3)
    rows = np.stack(
        [150 + 0.05 * rng.normal(size=n), 2 + 0.05 * rng.normal(size=n),
         30_000 + 500 * rng.normal(size=n)], -1,
    )  # fmt: skip
    lines = [f"{n} 150.0 2.0 30000.0", *(" ".join(f"{x:.5f}" for x in row) for row in rows), ""]
    path.write_text("\n".join(lines))
    return path


@pytest.mark.parametrize(
    ("names", "column", "system"),
    [
        (GAIA, {}, "open-cluster"),
        (("source_id", "phot_g_mean_mag", "bp_rp", "parallax", "ra", "dec"), {}, "open-cluster"),
        (("g", "bp_rp", "parallax", "hrv"), {}, "open-cluster"),
        (ON_THE_SKY, {}, "galaxy-cluster"),
        (PROJECTED, {}, "galaxy-cluster"),
        (("a", "b", "c"), {"ra": "a", "dec": "b", "redshift": "c"}, "galaxy-cluster"),
        (("a", "b", "c"), {"g": "a", "bp_rp": "b", "parallax": "c"}, "open-cluster"),
        (("a", "b"), {"radius": "a", "velocity": "b"}, "galaxy-cluster"),
    ],
)
def test_columns_tell_what_a_table_is_for(names, column, system):
    assert table_system(names, column) == system


@pytest.mark.parametrize("names", [("RA", "DEC"), ("HaloID", "M200c"), ("parallax", "z")])
def test_columns_that_do_not_tell_ask_for_the_system(names):
    with pytest.raises(MelotteValueError, match=r"do not tell .* --system open-cluster or galaxy"):
        table_system(names)


def test_projected_galaxies_are_counted_and_every_dropped_row_has_a_reason(tmp_path, capsys):
    assert run("check", projected(tmp_path / "members.txt")) == 0
    first, *others = capsys.readouterr().out.splitlines()
    assert "2 galaxy clusters, 50 usable galaxies within 1.6 comoving Mpc/h and 2500 km/s" in first
    assert "z 0.0" in first
    assert "CID as cluster, dproj as projected_radius, vlos as line_of_sight_velocity" in first
    assert "6 rows dropped" in first
    for reason in ("2 radius missing", "2 outside the aperture", "2 beyond the velocity cut"):
        assert reason in first
    assert len(others) == 1
    assert others[0].startswith("  C: no usable galaxy")


def test_caustic_files_and_tables_of_clusters(tmp_path, capsys):
    assert run("check", caustic(tmp_path / "snu.txt")) == 0
    first = capsys.readouterr().out
    assert "1 galaxy cluster, 25 usable galaxies" in first
    assert "ra, dec, cz as redshift" in first
    assert "0 rows dropped" in first
    survey = tmp_path / "survey.csv"
    rng = np.random.default_rng(5)
    sky = {"RA": rng.normal(30, 0.1, 40), "DEC": rng.normal(0, 0.1, 40)}
    Table(sky | {"Z": rng.normal(0.1, 0.001, 40)}).write(survey)
    centres = tmp_path / "clusters.csv"
    Table(
        {"cluster_id": ["near", "far"], "RA": [30.0, 200.0], "DEC": [0.0, 0.0], "Z": [0.1, 0.1]}
    ).write(centres)
    assert run("check", survey, "--clusters", centres) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "1 galaxy cluster, " in first
    assert second.startswith("  far: ")


def test_columns_and_groups_of_ones_own(tmp_path, capsys):
    path = tmp_path / "mine.csv"
    rng = np.random.default_rng(6)
    Table(
        {"halo": ["x", "y"] * 20, "r": rng.uniform(0.1, 1, 40), "v": rng.normal(0, 500, 40)}
    ).write(path)
    columns = ("--column", "radius=r", "--column", "velocity=v", "--column", "zclus=r")
    assert run("check", path, *columns[:4], "--group-by", "halo") == 2
    assert "needs the cluster's redshift" in capsys.readouterr().err
    assert run("check", path, *columns, "--group-by", "halo") == 0
    first = capsys.readouterr().out
    assert "2 galaxy clusters" in first
    assert "halo as cluster" in first


def test_stars_are_told_with_their_columns(tmp_path, capsys):
    path = tmp_path / "stars.csv"
    Table(
        {"Cluster": ["a"] * 5, "Gmag": [12.0, 13, 14, 99, 15], "BP-RP": [0.5] * 5,
         "Plx": [1.0, 1, 1, 1, np.nan]}
    ).write(path)  # fmt: skip
    assert run("check", path) == 0
    first = capsys.readouterr().out
    assert "1 object, 3 usable stars" in first
    assert "Gmag as g, BP-RP as bp_rp, Plx as parallax" in first
    assert "2 rows dropped" in first
    assert "1 parallax missing" in first


def test_what_is_wrong_is_one_line_and_names_it(tmp_path, capsys):
    short = tmp_path / "short.txt"
    short.write_text("9 150.0 2.0 30000.0\n150.0 2.0 30000.0\n")
    lacking = tmp_path / "lacking.csv"
    Table({"RA": [1.0], "Z": [0.1]}).write(lacking)
    stars = tmp_path / "stars.csv"
    Table({"Gmag": [12.0], "BP-RP": [0.5], "Plx": [1.0]}).write(stars)
    for words, message in (
        ((short,), "the first line says 9 galaxies and 1 lines follow"),
        ((lacking,), "has no column for dec"),
        ((stars, "--system", "galaxy-cluster"), "has no column for ra (nor for dec and redshift)"),
        ((lacking, "--system", "open-cluster"), "has no column for g"),
        ((stars, "--system", "m31"), "--system 'm31' is not one of open-cluster, galaxy-cluster"),
        ((stars, "--system", "open-cluster", "--clusters", lacking), "--clusters is for galaxy"),
    ):
        assert run("check", *words) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.count("\n") == 1
        assert message in captured.err
