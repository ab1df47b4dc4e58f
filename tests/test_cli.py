"""The commands end to end, on mocks and with the shipped models."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import torch
from astropy.table import Table

import melotte.demo
from melotte import api
from melotte.api import shipped_models
from melotte.cli import main
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.ragged import Ragged
from melotte.report.style import new_figure

TINY = [
    "data.max_stars=32",
    "model.width=16",
    "model.features=16",
    "model.blocks=1",
    "model.attention_seeds=2",
    "training.batch_size=16",
    "training.n_batches=2",
    "training.total_mocks=32",
    "training.max_epochs=1",
    "training.validation_size=32",
    "training.constants_size=32",
    "training.precision=32",
    "training.reference_size=400",
    "training.metrics_size=100",
]


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
def mocks(model):
    return concatenate(draw_mocks(model.system, 64, 5))


@pytest.fixture(scope="module")
def members(mocks, tmp_path_factory):
    """A table of mock members under VizieR names, grouped by cluster."""
    stars = mocks.observation.data["stars"]
    release = mocks.observation.data["release"]
    chosen = [i for i in range(len(mocks)) if release[i] < 0.5 and len(stars[i]) >= 10][:4]
    rows = {"Cluster": [], "Gmag": [], "BP-RP": [], "Plx": [], "e_Plx": []}
    for i in chosen:
        values = stars[i].numpy()
        rows["Cluster"] += [f"mock {i}"] * len(values)
        for k, name in enumerate(("Gmag", "BP-RP", "Plx", "e_Plx")):
            rows[name] += values[:, k].tolist()
    path = tmp_path_factory.mktemp("members") / "members.ecsv"
    Table(rows).write(path)
    return path, mocks.theta[chosen].numpy()


def test_infer_measures_mock_clusters(members, tmp_path, capsys):
    path, truth = members
    output, samples = tmp_path / "ages.ecsv", tmp_path / "samples.h5"
    code = run(
        *("infer", "open-cluster", path, "--group-by", "Cluster", "-o", output),
        *("--samples", 50, "--samples-file", samples),
    )
    assert code == 0
    table = Table.read(output)
    assert len(table) == len(truth)
    for name in ("log_age", "extinction_v", "distance", "metallicity"):
        low, middle, high = (np.asarray(table[f"{name}_{q}"]) for q in (16, 50, 84))
        assert ((low <= middle) & (middle <= high)).all()
    assert str(table["distance_50"].unit) == "kpc"
    error = np.log10(np.asarray(table["distance_50"]) / truth[:, 2])
    assert np.median(np.abs(error)) < 0.15
    with h5py.File(samples) as file:
        assert file["samples"].shape == (len(truth), 50, 4)
    assert f"measured {len(truth)} of {len(truth)}" in capsys.readouterr().out


@pytest.mark.usefixtures("model")
def test_one_star_and_no_star_become_flagged_rows(tmp_path):
    table = Table(
        {
            "Cluster": ["one"] + ["empty"] * 3 + ["absurd"] * 3,
            "Gmag": [14.0, np.nan, np.nan, np.nan, 99.0, -40.0, 300.0],
            "BP-RP": [1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0],
            "Plx": [1.0] * 7,
            "e_Plx": [0.02] * 7,
        }
    )
    path, output = tmp_path / "few.ecsv", tmp_path / "out.ecsv"
    table.write(path)
    assert run("infer", "open-cluster", path, "--group-by", "Cluster", "-o", output) == 0
    rows = {row["id"]: row for row in Table.read(output)}
    assert rows["one"]["flags"] & Flag.FEW_MEMBERS
    for name in ("empty", "absurd"):
        assert rows[name]["flags"] & Flag.FAILED
        assert np.isnan(rows[name]["log_age_50"])


def test_the_same_seed_gives_the_same_file(members, tmp_path):
    path, _ = members
    for name in ("a.parquet", "b.parquet"):
        assert (
            run("infer", "open-cluster", path, "--group-by", "Cluster", "-o", tmp_path / name) == 0
        )
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_compare_reports_the_difference(members, tmp_path, capsys):
    path, truth = members
    literature = tmp_path / "literature.csv"
    names = list(dict.fromkeys(Table.read(path)["Cluster"]))
    Table({"Cluster": names, "log_age": truth[:, 0], "distance": truth[:, 2]}).write(literature)
    code = run(
        *("infer", "open-cluster", path, "--group-by", "Cluster", "-o", tmp_path / "o.fits"),
        *("--compare", literature),
    )
    assert code == 0
    out = capsys.readouterr().out
    assert f"{len(names)} objects in common" in out
    assert "distance: ours - theirs" in out


@pytest.fixture(scope="module")
def one_member(members, tmp_path_factory):
    """The members of the first cluster alone, and its name."""
    table = Table.read(members[0])
    name = str(table["Cluster"][0])
    path = tmp_path_factory.mktemp("one") / "one.ecsv"
    table[table["Cluster"] == name].write(path)
    return path, name


def test_literature_is_compared_in_the_results_units(one_member, tmp_path):
    path, name = one_member
    result = tmp_path / "o.ecsv"
    assert run("infer", "open-cluster", path, "--group-by", "Cluster", "-o", result) == 0
    literature = tmp_path / "literature.ecsv"
    Table({"id": [name], "distance": [1200.0]}, units={"distance": "pc"}).write(literature)
    joined = api.compare(Table.read(result), literature)
    assert joined["distance_literature"].tolist() == [1.2]
    Table({"id": [name], "distance": [10.0]}, units={"distance": "mag"}).write(
        literature, overwrite=True
    )
    with pytest.raises(MelotteValueError, match="converts to kpc"):
        api.compare(Table.read(result), literature)


def test_a_table_that_cannot_be_compared_costs_no_results(one_member, tmp_path, capsys):
    path, _ = one_member
    literature, result = tmp_path / "literature.csv", tmp_path / "o.ecsv"
    given = ("infer", "open-cluster", path, "--group-by", "Cluster", "-o", result)
    Table({"object": ["a"], "distance": [1.0]}).write(literature)
    assert run(*given, "--compare", literature) == 2
    assert not result.exists()
    assert "needs a column id" in capsys.readouterr().err
    Table({"id": ["another"], "distance": [1.0]}).write(literature, overwrite=True)
    assert run(*given, "--compare", literature, "--figures", tmp_path / "figures") == 2
    said = capsys.readouterr()
    assert "no object in common" in said.err
    assert "measured 1 of 1" in said.out
    assert len(Table.read(result)) == 1


def test_explain_and_report_write_pages(members, tmp_path):
    path, _ = members
    name = Table.read(path)["Cluster"][0]
    page, result = tmp_path / "explained.html", tmp_path / "o.ecsv"
    code = run(
        *("explain", "open-cluster", path, "--group-by", "Cluster", "--id", name),
        *("--parameter", "log_age", "-o", page),
    )
    assert code == 0
    assert "data:image/png" in page.read_text()
    assert run("infer", "open-cluster", path, "--group-by", "Cluster", "-o", result) == 0
    assert run("report", result, "-o", tmp_path / "report.html") == 0
    assert "log_age" in (tmp_path / "report.html").read_text()


def test_a_list_longer_than_the_network_reads_is_explained_star_by_star(model):
    from melotte.report.explanation import as_read, explain_parameter

    limit = model.system.data.max_stars
    batch = concatenate(draw_mocks(model.system, 64, 8))
    stars = batch.observation.data["stars"]
    i = int(stars.counts.argmax())
    twice = Ragged.pack([torch.cat([stars[i], stars[i]])])
    assert int(twice.counts[0]) > limit
    one = batch.observation.select(torch.tensor([i]))
    long = replace(one, data=dict(one.data) | {"stars": twice}, ids=("long",))
    section = explain_parameter(model, as_read(model, long), "log_age")
    points = section.figures[0].figure.axes[0].collections[0].get_offsets()
    assert len(points) == limit


def test_evaluate_writes_the_documented_json(model, tmp_path, capsys):
    path = tmp_path / "metrics.json"
    assert run("evaluate", "open-cluster", "-n", 200, "--json", path) == 0
    document = json.loads(path.read_text())
    assert {"preset", "n", "seed", "seconds_per_object", "parameters", "extra"} <= set(document)
    assert document["n"] == 200
    age = document["parameters"]["log_age"]
    assert {"bias", "std", "mae", "r2", "p95_abs", "coverage_68", "coverage_95"} <= set(age)
    assert "log_age" in capsys.readouterr().out


def test_check_and_models_describe_what_is_there(model, members, tmp_path, capsys):
    path, _ = members
    assert run("check", shipped_models()["open-cluster"]) == 0
    assert run("check", path, "--group-by", "Cluster") == 0
    assert run("models") == 0
    out = capsys.readouterr().out
    assert "weights" in out
    assert "12 objects" in out or "objects" in out
    assert "open-cluster" in out


def test_simulate_in_shards_then_check(tmp_path):
    whole = tmp_path / "bank.h5"
    settings = ("data.max_stars=32", "data.members=[10, 60]")
    assert run("simulate", "open-cluster", *settings, "-n", 12, "-o", whole, "--seed", 3) == 0
    assert run("check", whole) == 0


def test_train_writes_a_model_that_loads(tmp_path):
    path = tmp_path / "tiny.safetensors"
    figures = ("--figures", tmp_path / "figures")
    assert run("train", "open-cluster", *TINY, "-o", path, "--device", "cpu", *figures) == 0
    assert (tmp_path / "figures" / "learning.png").exists()
    model = melotte.load(path, device="cpu")
    assert model.metrics["n"] >= 100
    assert model.reference


def test_train_on_labelled_clusters(members, tmp_path, capsys):
    members, _ = members
    names = list(dict.fromkeys(Table.read(members)["Cluster"]))
    labels = Table({"Cluster": [*names[:-2], "elsewhere"]})
    labels["AgeNN"] = np.linspace(7.0, 9.5, len(labels))
    labels["AVNN"] = 0.5
    labels["DistPc"] = 1500.0
    labels.write(tmp_path / "labels.csv")
    path = tmp_path / "labelled.safetensors"
    tiny = [word for word in TINY if "batches" not in word and "total_mocks" not in word]
    settings = (*tiny, "model.label_sources=[CG20]", "model.ensemble=2", "training.frozen=[]")
    code = run(
        "train",
        "open-cluster-catalogues",
        *settings,
        "--members",
        members,
        "--labels",
        tmp_path / "labels.csv",
        "-o",
        path,
    )
    said = capsys.readouterr()
    assert code == 0, said.err
    assert f"labelled clusters: {len(names) - 2}; without a label: 2" in said.out
    model = melotte.load(path, device="cpu")
    assert model.provenance["examples"]["n"] == len(names) - 2
    assert run("infer", path, members, "-o", tmp_path / "as.ecsv", "--as", "cg20") == 0
    assert set(Table.read(tmp_path / "as.ecsv")["values_as"]) == {"CG20"}


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--members", "m.csv"), "--members and --labels go together"),
        (("--labels", "l.csv"), "--members and --labels go together"),
        (("--members", "m.csv", "--bank", "b.h5"), "exclude each other"),
        (("--group-by", "Cluster"), "--group-by goes with --members and --labels"),
        (("--column", "g=G"), "--column goes with --members and --labels"),
        (("--bank", "b.h5", "--release", "DR2"), "--release goes with --members"),
        (("--label-id", "Name"), "--label-id goes with --members and --labels"),
        (("--min-probability", "0.5"), "--min-probability goes with --members and --labels"),
    ],
)
def test_train_says_what_goes_together(words, message, tmp_path, capsys):
    code = run("train", "open-cluster-catalogues", *words, "-o", tmp_path / "m.safetensors")
    assert code == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_train_on_a_bank(tmp_path, capsys):
    bank = tmp_path / "bank.h5"
    sizes = ("data.max_stars=32", "data.members=[10, 60]")
    assert run("simulate", "open-cluster", *sizes, "-n", 48, "-o", bank, "--seed", 3) == 0
    path = tmp_path / "tiny.safetensors"
    tiny = [word for word in TINY if "batches" not in word and "total_mocks" not in word]
    assert run("train", "open-cluster", *tiny, *sizes, "--bank", bank, "-o", path) == 0
    provenance = melotte.load(path, device="cpu").provenance
    assert provenance["examples"]["n"] == 48
    assert provenance["mocks"] == 0
    assert "note: " not in capsys.readouterr().err
    other = (*tiny, *sizes, "data.dr2=1.0", "--bank", bank, "-o", tmp_path / "other.safetensors")
    assert run("train", "open-cluster", *other) == 0
    assert "was drawn with data.dr2 0.3, not 1.0: the model is" in capsys.readouterr().err
    narrow = (*tiny, *sizes, "data.prior.distance=[0.03, 5.0]", "--bank", bank)
    assert run("train", "open-cluster", *narrow, "-o", tmp_path / "narrow.safetensors") == 2
    assert "wider prior: distance has high 15.0, not 5.0" in capsys.readouterr().err
    assert not (tmp_path / "narrow.safetensors.run").exists()
    wide = (*tiny, *sizes, "data.prior.distance=[0.03, 20.0]", "--bank", bank)
    assert run("train", "open-cluster", *wide, "-o", tmp_path / "wide.safetensors") == 0
    assert "the prior of distance: high 15.0, not 20.0: the model" in capsys.readouterr().err


def test_train_takes_labelled_lists_as_they_are_joined(monkeypatch, members, tmp_path):
    from melotte.engine import training

    members, _ = members
    names = list(dict.fromkeys(Table.read(members)["Cluster"]))
    labels = Table({"Cluster": names, "AgeNN": np.linspace(7.0, 9.5, len(names))})
    labels.meta["name"] = "labels"
    joined = melotte.api.label_clusters(
        "open-cluster-catalogues", members, labels, group_by="Cluster"
    )
    seen = []
    monkeypatch.setattr(training, "train", lambda *words, **given: seen.append(given["examples"]))
    for examples in (joined, joined.batch):
        melotte.train("open-cluster-catalogues", tmp_path / "m.safetensors", examples=examples)
    assert seen == [joined.batch, joined.batch]


def test_values_as_a_catalogue_and_as_all(model, members, tmp_path, capsys):
    members, _ = members
    sources = model.system.model.label_sources
    assert sources
    assert run("infer", "open-cluster", members, "-o", tmp_path / "all.ecsv", "--as", "all") == 0
    table = Table.read(tmp_path / "all.ecsv")
    names = set(table["id"])
    assert len(table) == len(names) * (1 + len(sources))
    assert set(table["values_as"]) == {"simulation", *sources}
    assert run("infer", "open-cluster", members, "-o", tmp_path / "one.ecsv") == 0
    physical = table[table["values_as"] == "simulation"]
    assert np.allclose(physical["log_age_50"], Table.read(tmp_path / "one.ecsv")["log_age_50"])
    assert run("infer", "open-cluster", members, "-o", tmp_path / "x.ecsv", "--as", "MWSC") == 2
    assert "does not know 'MWSC'" in capsys.readouterr().err
    assert not (tmp_path / "x.ecsv").exists()


@pytest.fixture(scope="module")
def two_members(members, tmp_path_factory):
    """Two of the lists, and a table of literature values of both."""
    table = Table.read(members[0])
    names = list(dict.fromkeys(table["Cluster"]))[:2]
    folder = tmp_path_factory.mktemp("two")
    table[np.isin(table["Cluster"], names)].write(folder / "members.ecsv")
    Table({"id": names, "log_age": [8.0, 8.5]}).write(folder / "literature.csv")
    return folder / "members.ecsv", folder / "literature.csv", names


@pytest.mark.usefixtures("model")
def test_no_input_is_overwritten(members, tmp_path, capsys):
    table = tmp_path / "members.ecsv"
    table.write_bytes(members[0].read_bytes())
    before = table.read_bytes()
    for words in (
        ("infer", "open-cluster", table, "-o", table),
        ("infer", "open-cluster", table, "-o", tmp_path / "o.ecsv", "--stars", table),
        ("infer", "open-cluster", table, "-o", table, "--stars", table),
        ("report", table, "-o", table),
    ):
        assert run(*words) == 2
        assert "is an input, which would be lost" in capsys.readouterr().err
        assert table.read_bytes() == before
    words = ("-o", tmp_path / "o.ecsv", "--stars", tmp_path / "o.ecsv")
    assert run("infer", "open-cluster", table, *words) == 2
    assert "is what -o writes" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == [table]


@pytest.fixture
def blank_figures(monkeypatch):
    """Lets figures of open clusters be empty, where a test is about their files alone."""

    def corner(samples, names, units):
        assert np.isfinite(samples).all()
        assert samples.shape[1] == len(names) == len(units)
        return new_figure(1, 1)[0]

    def diagram(name, stars, samples, *more, **_):
        return corner(samples, *more)

    def leave_blank():
        monkeypatch.setattr("melotte.report.figures.corner_figure", corner)
        monkeypatch.setattr("melotte.report.cluster_diagrams.cluster_figure", diagram)

    return leave_blank


@pytest.mark.usefixtures("model")
def test_figures_are_drawn_of_named_clusters_alone(two_members, tmp_path, capsys, blank_figures):
    members, _, names = two_members
    output, figures = tmp_path / "o.ecsv", tmp_path / "figures"
    words = ("infer", "open-cluster", members, "-o", output, "--figures", figures)
    assert run(*words, "--figures-of", "mok 0") == 2
    assert "'mok 0': no such object in the inputs (did you mean" in capsys.readouterr().err
    assert not output.exists()
    assert run(*words, "--figures-of", names[1]) == 0
    stem = names[1].replace(" ", "_")
    drawn = {one.name for one in figures.iterdir()}
    assert drawn == {f"{stem}_corner.png", f"{stem}_diagram.png"}
    assert len(Table.read(output)) == 2
    assert run("report", output, "-o", tmp_path / "report.html") == 0
    assert f"diagram of {names[1]}" in (tmp_path / "report.html").read_text()
    # Without names, all are drawn.
    blank_figures()
    assert run(*words) == 0
    assert len(list(figures.iterdir())) == 2 * len(names)


def test_figures_samples_and_comparison_keep_sources_apart(
    model, two_members, tmp_path, capsys, blank_figures
):
    blank_figures()
    members, literature, names = two_members
    figures, samples = tmp_path / "figures", tmp_path / "samples.h5"
    words = (
        *("--as", "all", "--figures", figures, "--compare", literature),
        *("--samples", 4, "--samples-file", samples),
    )
    assert run("infer", "open-cluster", members, "-o", tmp_path / "all.ecsv", *words) == 0
    said = capsys.readouterr().out
    sources = ["simulation", *model.system.model.label_sources]
    for source in sources:
        assert f"values as {source}: 2 objects in common" in said
    assert said.count("log_age: ours - theirs") == len(sources)
    with h5py.File(samples) as file:
        assert file["values_as"].asstr()[:].tolist() == [one for one in sources for _ in names]
        assert file["id"].asstr()[:].tolist() == names * len(sources)
    written = sorted(one.name for one in figures.iterdir())
    stem = names[0].replace(" ", "_")
    assert f"{stem}_as_CG20_corner.png" in written
    assert f"{stem}_as_CG20_diagram.png" not in written
    assert f"{stem}_as_simulation_diagram.png" in written
    assert len([name for name in written if name.endswith("_corner.png")]) == 2 * len(sources)
    assert f"figures: {2 * len(sources)} in" in said


def test_a_prior_is_the_simulations_alone(two_members, tmp_path, capsys):
    members, _, _ = two_members
    prior = tmp_path / "prior.yaml"
    prior.write_text("log_age: {mean: 8.0, sd: 0.3}\n")
    output = tmp_path / "out.ecsv"
    for source in ("CG20", "all"):
        words = ("--as", source, "--prior", prior, "-o", output)
        assert run("infer", "open-cluster", members, *words) == 2
        assert f"a prior cannot be applied to values as {source}" in capsys.readouterr().err
        with pytest.raises(MelotteValueError, match="prior cannot be applied"):
            melotte.infer("open-cluster", members, values_as=source, prior=prior)
    assert not output.exists()
    model = melotte.load("open-cluster", device="cpu")
    entries = model.system.read(members, {"values_as": "CG20"})
    with pytest.raises(MelotteValueError, match="prior cannot be applied"):
        melotte.api.infer_observations(model, entries, prior=prior)
    words = ("--as", "Simulation", "--prior", prior, "-o", output)
    assert run("infer", "open-cluster", members, *words) == 0


@pytest.mark.parametrize(
    ("option", "own"), [("values_as=CG20", "--as"), ("source_id=true", "--stars")]
)
def test_options_of_the_command_are_not_given_to_the_reader(
    two_members, option, own, tmp_path, capsys
):
    words = ("-o", tmp_path / "out.ecsv", "--stars", tmp_path / "stars.ecsv", "--option", option)
    assert run("infer", "open-cluster", two_members[0], *words) == 2
    assert f"--option {option.split('=')[0]}: give {own} in its place" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("option", "message"),
    [("aperture=1.6", "not an option of open clusters"), ("aperture", "NAME=VALUE")],
)
def test_reader_options_are_checked(members, option, message, tmp_path, capsys):
    path, _ = members
    code = run("infer", "open-cluster", path, "-o", tmp_path / "x.ecsv", "--option", option)
    assert code == 2
    assert message in capsys.readouterr().err


def test_adql_names_the_columns_that_infer_reads(capsys):
    assert run("adql", "--cluster", "M67") == 0
    query = capsys.readouterr().out
    for name in ("phot_g_mean_mag", "bp_rp", "parallax", "parallax_error", "source_id"):
        assert name in query


def test_demo_writes_one_page(model, tmp_path, capsys, monkeypatch):
    for name, value in (
        *(("N_MOCKS", 16), ("N_MAPPED", 4), ("N_SHOWN", 2), ("N_ROWS", 2)),
        *(("DEMO_TILES", 2), ("DEMO_TILE", 160)),
    ):
        monkeypatch.setattr(melotte.demo, name, value)
    assert run("demo", "-o", tmp_path / "demo") == 0
    page = (tmp_path / "demo" / "report.html").read_text()
    # Open, galaxy and globular clusters have a figure each, images of each galaxy two.
    assert page.count("data:image/png") == 7
    for name in shipped_models():
        assert f"{name}: agreement with the truth" in page
        assert len(Table.read(tmp_path / "demo" / f"{name}.ecsv")) in (4, 16)
    assert "http" not in page.split("</style>")[1]
    assert "report.html" in capsys.readouterr().out
