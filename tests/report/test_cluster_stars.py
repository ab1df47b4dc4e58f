"""The products of open clusters' stars, from the command line to files and pages."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from astropy.table import Table

import melotte
from melotte.api import shipped_models
from melotte.cli import main
from melotte.engine.result_tables import read_result_table
from melotte.report.cluster_diagrams import cluster_figure, isochrone_band
from melotte.report.result_page import STAR_COUNTS, result_sections
from melotte.systems.open_cluster.known_stars import known_list
from melotte.systems.open_cluster.stars import CLASSES, classify_stars

THETA = ((8.9, 0.5, 0.8, 0.0), (9.3, 0.9, 1.3, 0.0))
FIRST_ID = 4_611_686_018_427_387_905
"""Odd and above 2^53: a float would not keep it."""


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def model():
    if "open-cluster" not in shipped_models():
        pytest.skip("the open-cluster model is not shipped")
    return melotte.load("open-cluster", device="cpu")


@pytest.fixture(scope="module")
def lists(model):
    generator = torch.Generator().manual_seed(8)
    grid = model.system.simulator(torch.device("cpu")).grid
    settings = {"settings": model.system.data, "stragglers": 3, "field_fraction": 0.0}
    return [known_list(grid, np.array(theta), 120, generator, **settings) for theta in THETA]


@pytest.fixture(scope="module")
def members(lists, tmp_path_factory):
    """A table of the lists, a row without colour and a cluster without stars among them."""
    rows = {"Cluster": [], "Source": [], "Gmag": [], "BP-RP": [], "Plx": [], "e_Plx": []}
    rows["Pmemb"] = []
    number = FIRST_ID
    for name, known in zip(("old", "older"), lists, strict=True):
        for star in [*known.stars, np.full(7, np.nan)]:
            rows["Cluster"].append(name)
            rows["Source"].append(number)
            number += 2
            for key, value in zip(("Gmag", "BP-RP", "Plx", "e_Plx"), star[:4], strict=True):
                rows[key].append(value)
            rows["Pmemb"].append(star[6])
    for key, value in (("Cluster", "empty"), ("Source", 5)):
        rows[key].append(value)
    for key in ("Gmag", "BP-RP", "Plx", "e_Plx", "Pmemb"):
        rows[key].append(np.nan)
    path = tmp_path_factory.mktemp("stars") / "members.ecsv"
    Table(rows).write(path)
    return path


@pytest.mark.parametrize("suffix", ["ecsv", "fits", "parquet", "vot"])
def test_table_of_stars_keeps_order_identifiers_and_units(members, lists, tmp_path, suffix):
    output, stars = tmp_path / f"ages.{suffix}", tmp_path / f"stars.{suffix}"
    assert run("infer", "open-cluster", members, "-o", output, "--stars", stars) == 0
    result: Any = read_result_table(output)
    # A star table has no flags, so it is read by the format alone.
    from melotte.engine.table_encodings import DECODERS

    table = DECODERS[f".{suffix}"](stars.read_bytes())
    n = [len(known.stars) for known in lists]
    assert len(table) == sum(n)
    assert list(table["id"][[0, n[0]]]) == ["old", "older"]
    expected = FIRST_ID + 2 * np.concatenate([np.arange(n[0]), n[0] + 1 + np.arange(n[1])])
    assert table["source_id"].dtype.kind == "i"
    assert np.array_equal(np.asarray(table["source_id"]), expected)
    given = np.concatenate([known.stars[:, 0] for known in lists])
    np.testing.assert_allclose(table["g"], given, atol=1e-5)
    total = sum(np.asarray(table[f"p_{kind}"]) for kind in CLASSES)
    np.testing.assert_allclose(total, 1, atol=1e-9)
    assert str(table["mass"].unit) in ("Msun", "solMass")
    assert table["mass_ratio"].description
    assert table.meta["melotte"]["provenance"]["model"]
    for name, kind in zip(STAR_COUNTS, CLASSES, strict=True):
        for cluster, count in zip(result["id"], np.asarray(result[name]), strict=True):
            found = np.asarray(table["class"])[np.asarray(table["id"]) == cluster]
            assert count == (found == kind).sum()
    assert sorted(result["id"]) == ["empty", "old", "older"]


def test_planted_stars_come_out_of_the_command(members, lists, tmp_path):
    stars = tmp_path / "stars.ecsv"
    assert run("infer", "open-cluster", members, "-o", tmp_path / "o.ecsv", "--stars", stars) == 0
    kind = np.asarray(Table.read(stars)["class"])
    ratio = np.concatenate([known.ratio for known in lists])
    straggler = np.concatenate([known.straggler for known in lists])
    assert (kind[ratio > 0.7] == "binary").mean() > 0.75
    assert (ratio[kind == "binary"] > 0.5).mean() > 0.85
    assert (kind[straggler] == "blue_straggler").mean() >= 0.5
    assert (kind[~straggler] == "blue_straggler").mean() < 0.02


def test_predictive_columns_and_page(members, tmp_path, capsys):
    output, page = tmp_path / "o.ecsv", tmp_path / "page.html"
    code = run(
        *("infer", "open-cluster", members, "-o", output, "--predictive"),
        *("--stars", tmp_path / "stars.ecsv"),
    )
    assert code == 0
    out = capsys.readouterr().out
    assert "do not look like the data" in out
    assert "table of stars" in out
    table = read_result_table(output)
    p, measured = np.asarray(table["predictive_p"]), np.asarray(table["id"]) != "empty"
    assert ((p[measured] > 0.005) & (p[measured] <= 1)).all()
    assert np.isnan(p[~measured]).all()
    assert np.asarray(table["predictive_worst"])[~measured].tolist() == [""]
    titles = [section.title for section in result_sections(output)[0]]
    assert {"Stars", "Does the fit look like the data?"} <= set(titles)
    assert run("report", output, "-o", page) == 0
    assert "blue stragglers" in page.read_text()


def test_the_same_seed_gives_the_same_products(members, tmp_path):
    for name in "ab":
        code = run(
            *("infer", "open-cluster", members, "-o", tmp_path / f"{name}.parquet"),
            *("--stars", tmp_path / f"{name}_stars.parquet", "--predictive"),
        )
        assert code == 0
    for name in ("", "_stars"):
        first, second = (tmp_path / f"{one}{name}.parquet" for one in "ab")
        assert first.read_bytes() == second.read_bytes()


def test_wrong_uses_are_one_line_and_write_nothing(members, tmp_path, capsys):
    output = tmp_path / "o.ecsv"
    for words in (("--stars", tmp_path / "stars.txt"), ("--stars", tmp_path / "no" / "s.ecsv")):
        assert run("infer", "open-cluster", members, "-o", output, *words) == 2
        assert len(capsys.readouterr().err.strip().splitlines()) == 1
    assert not output.exists()


def test_other_systems_and_catalogue_values_are_refused():
    from melotte.errors import MelotteValueError
    from melotte.report.cluster_stars import require_open_clusters

    with pytest.raises(MelotteValueError, match="for open clusters; this model measures m83"):
        require_open_clusters("m83", "--stars", None)
    with pytest.raises(MelotteValueError, match="leave out --as CG20"):
        require_open_clusters("open-cluster", "--predictive", "CG20")
    require_open_clusters("open-cluster", "--stars", "simulation")


def test_the_band_surrounds_the_median_isochrone():
    rng = np.random.default_rng(1)
    samples = np.array([8.8, 0.5, 1.0, 0.0]) + [0.01, 0.05, 0.02, 0.02] * rng.normal(size=(60, 4))
    middle, low, high, dwarf = isochrone_band(samples)
    known = np.isfinite(low[:, 0]) & dwarf
    assert known.sum() > 50
    step = high[known] - low[known]
    part = ((middle - low)[known] * step).sum(1) / (step**2).sum(1)
    assert np.median(np.abs(part - 0.5)) < 0.2
    apart = samples.copy()
    apart[:, 1] += rng.normal(size=60) * 0.3
    _, left, right, _ = isochrone_band(apart)
    assert np.nanmedian(np.abs(right - left)[:, 0]) > np.nanmedian(np.abs(high - low)[:, 0])


def test_the_figure_names_each_class_with_its_count(model, lists):
    grid = model.system.simulator(torch.device("cpu")).grid
    stars = lists[0].stars
    samples = np.array(THETA[:1]) + 0.02 * np.random.default_rng(2).normal(size=(40, 4))
    found = classify_stars(stars, samples, "EDR3", model.system.data, grid)
    names = [parameter.name for parameter in model.parameters]
    units = [parameter.unit for parameter in model.parameters]
    figure = cluster_figure("mock", stars, samples, names, units, found=found)
    assert len(figure.axes) == 2
    legend = figure.axes[0].get_legend()
    assert legend is not None
    texts = [text.get_text() for text in legend.get_texts()]
    assert f"{int((found.kind == 0).sum())} single" in texts
    assert f"{int((found.kind == 1).sum())} binary" in texts
    bare = cluster_figure("mock", stars, samples, names, units)
    assert len(bare.axes) == 1
