"""Users' own snapshots become a library that the preset globular trains from."""

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
from astropy.table import Table

import melotte.api
from melotte.api import library_of_snapshots
from melotte.cli import main
from melotte.engine.mocks import mock_batch
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.snapshot_files import read_snapshots
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import ClusterLibrary
from melotte.systems.globular_clusters.library_stars import load_stars
from melotte.systems.registry import build_system, load_preset

SMALL = [
    "data.size=48",
    "data.least_stars=100",
    "data.distance=[10, 60]",
    "data.size_spread=0",
    "data.label_spread=0",
    "data.number_factor=1",
    "data.metallicity_spread=0",
    "model.widths=[8, 16]",
    "model.blocks=[1, 1]",
    "model.features=16",
    "model.head_settings={components: 2, hidden: 16}",
]


def cluster(seed=1, n=600, time=9000.0, metallicity=-1.2):
    """Plummer's model in positions and velocities, without light; a tenth are white dwarfs."""
    generator = np.random.default_rng(seed)
    radius = np.minimum(2.0 / np.sqrt(generator.random(n) ** (-2 / 3) - 1), 40.0)
    return StarSnapshot.of(
        generator.uniform(0.1, 0.75, n),
        np.where(np.arange(n) % 10, 1, 11),
        time=time,
        metallicity=metallicity,
        radius=radius,
        radial_velocity=generator.normal(0, 3, n),
        tangential_velocity=np.abs(generator.normal(0, 4, n)),
    ).projected(generator)


def write(path, stars, shift=0.0, **stated):
    """A table of a snapshot; time and [Fe/H] stand in its metadata unless given otherwise."""
    columns = {"mass": stars.mass, "kind": stars.kind}
    columns |= {name: stars.position[:, i] + shift for i, name in enumerate("xyz")}
    columns |= {f"v{name}": stars.velocity[:, i] - shift for i, name in enumerate("xyz")}
    stated = {"time_myr": stars.time, "metallicity": stars.metallicity, **stated}
    path.parent.mkdir(exist_ok=True)
    meta = {key: value for key, value in stated.items() if value is not None}
    Table(columns, meta=meta).write(path, overwrite=True)
    return path


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Folders of two runs of two times each, far from the origin and on the move."""
    folder = tmp_path_factory.mktemp("simulations")
    return [
        write(folder / run / f"{step}.ecsv", cluster(number, time=time, metallicity=feh), 100.0)
        for number, (run, feh) in enumerate((("first", -1.2), ("second", -0.6)))
        for step, time in enumerate((6000.0, 12_000.0))
    ]


def call(*words):
    with pytest.raises(SystemExit) as stopped:
        main([str(word) for word in words])
    return stopped.value.code


def test_files_become_runs_of_a_library(runs, tmp_path):
    path = library_of_snapshots(runs, tmp_path / "new" / "library.h5")
    assert [one.name for one in path.parent.iterdir()] == ["library.h5"]
    with ClusterLibrary(path) as library:
        assert [(run.name, run.family) for run in library.runs] == [
            ("first", "training"), ("second", "training"),
        ]  # fmt: skip
        assert [run.times for run in library.runs] == [(6000.0, 12_000.0)] * 2
        assert [run.counts for run in library.runs] == [(600, 600)] * 2
        assert library.runs[0].history["n_stars"] == [600, 600]
        found = list(library)
    assert [one.metallicity for one in found] == [-1.2, -1.2, -0.6, -0.6]
    for path, one in zip(runs, found, strict=True):
        given = next(read_snapshots(path)).spherical()
        for name in ("radius", "radial_velocity", "tangential_velocity", "mass"):
            expected = getattr(given, name)
            np.testing.assert_allclose(getattr(one, name), expected, rtol=6e-4, atol=1e-6)
        # White dwarfs without a luminosity are dark, all others shine.
        assert np.isfinite(one.magnitude_v[one.kind == 1]).all()
        assert np.isposinf(one.magnitude_v[one.kind == 11]).all()
    with h5py.File(tmp_path / "new" / "library.h5") as file:
        provenance = json.loads(str(file.attrs["provenance"]))
    assert provenance["snapshots"]["first"] == [str(path) for path in runs[:2]]


def test_the_cluster_is_measured_about_its_own_centre(runs, tmp_path):
    # 100 pc and 100 km/s away from the origin; medians of Plummer's model of scale 2 pc.
    path = library_of_snapshots(runs, tmp_path / "library.h5")
    with ClusterLibrary(path) as library:
        one = next(iter(library))
    assert np.median(one.radius) == pytest.approx(2 * 1.305, rel=0.15)
    assert one.radial_velocity.std() == pytest.approx(3.0, rel=0.15)
    assert np.sqrt((one.tangential_velocity**2).mean()) == pytest.approx(4.0, rel=0.15)


def test_globular_draws_its_mocks_from_it(runs, tmp_path, capsys):
    training, test = tmp_path / "library.h5", tmp_path / "test.h5"
    assert call("simulate", "clusters", "--from-snapshots", *runs[:2], "-o", training) == 0
    assert f"library: {training}" in capsys.readouterr().out
    words = [f"late={runs[3]}", "-o", test, "--option", "family=test"]
    assert call("simulate", "clusters", "--from-snapshots", *words) == 0
    assert call("check", test) == 0
    assert "1 runs of 1 snapshots; families (runs): test (1)" in capsys.readouterr().out
    settings = [*SMALL, f"data.library=[{training}, {test}]"]
    system = build_system(load_preset("globular", settings))
    batch = mock_batch(system, 4, 0, 0)
    names = [one.name for one in system.parameters]
    metallicity = batch.theta[:, names.index("metallicity")]
    assert metallicity.numpy() == pytest.approx(np.full(4, -1.2), abs=1e-3)
    assert bool(batch.theta.isfinite().all())
    kept = load_stars(system.data, "test")
    assert kept.truth["metallicity"].tolist() == pytest.approx([-0.6])
    assert float(kept.truth["remnant_fraction"][0]) == pytest.approx(0.1, abs=0.03)


def test_snapshots_of_python_take_the_place_of_files(tmp_path):
    runs = {"mine": [cluster(time=1000.0 * step) for step in (1, 2)], "other": [cluster(3)]}
    path = library_of_snapshots(runs, tmp_path / "a.h5", family="validation")
    with ClusterLibrary(path) as library:
        assert [(run.name, run.family) for run in library.runs] == [
            ("mine", "validation"), ("other", "validation"),
        ]  # fmt: skip
        assert library.runs[0].times == (1000.0, 2000.0)


def test_progress_counts_the_files(runs, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(
        "melotte.engine.progress.Progress.update",
        lambda self, done, details="": seen.append((done, self.total)),
    )
    library_of_snapshots(runs, tmp_path / "l.h5", progress=False)
    assert seen == [(i, len(runs)) for i in range(1, len(runs) + 1)]


def test_options_reach_the_reader(tmp_path, caplog):
    path = tmp_path / "mine.csv"
    path.write_text("weight,dist,out,across\n500,2000,1,2\n800,50000,-1,0\n")
    words = ["--column", "mass=weight", "--column", "r=dist", "--column", "vr=out",
             "--column", "vt=across", "--option", "unit.radius=AU", "--option", "unit.mass=g",
             "--option", "time=8e3", "--option", "metallicity=-1"]  # fmt: skip
    library = tmp_path / "a.h5"
    assert call("simulate", "clusters", "--from-snapshots", path, "-o", library, *words) == 2
    words[words.index("unit.mass=g")] = "unit.mass=1e-3 Msun"
    assert call("simulate", "clusters", "--from-snapshots", path, "-o", library, *words) == 0
    assert "types of stars are unknown" in caplog.text
    with ClusterLibrary(library) as read:
        (one,) = read
    np.testing.assert_allclose(one.radius * 206264.8, [2000, 50_000], rtol=6e-4)
    np.testing.assert_allclose(one.mass, [0.5, 0.8], rtol=6e-4)


@pytest.mark.parametrize(
    ("stated", "message"),
    [
        ({"time_myr": None}, "the time is unknown; an age above 0 Myr is needed"),
        ({"time_myr": 0.0}, "the time is 0 Myr; an age above 0"),
        ({"metallicity": None}, r"\[Fe/H\] is unknown; give metallicity"),
    ],
)
def test_unknown_ages_and_metallicities_are_refused(tmp_path, stated, message):
    path = write(tmp_path / "run" / "a.ecsv", cluster(), **stated)
    with pytest.raises(MelotteValueError, match=message) as refused:
        library_of_snapshots(path, tmp_path / "a.h5")
    assert str(path) in str(refused.value)
    assert "\n" not in str(refused.value)
    assert not list(tmp_path.glob("a.h5*"))


@pytest.mark.parametrize(
    ("mass", "message"), [(np.nan, "star 5 .* has mass nan"), (0.0, "have no mass")]
)
def test_unknown_masses_are_refused(tmp_path, mass, message):
    stars = cluster()
    path = write(tmp_path / "run" / "a.ecsv", stars)
    table = Table.read(path)
    table["mass"][4 if np.isnan(mass) else slice(None)] = mass
    table.write(path, overwrite=True)
    with pytest.raises((MelotteValueError, MelotteFileError), match=message):
        library_of_snapshots(path, tmp_path / "a.h5")
    assert not list(tmp_path.glob("a.h5*"))


def test_what_is_no_run_is_refused(runs, tmp_path):
    one = cluster()
    for given, message in (
        ([], "which files"),
        ({"a": []}, "run a: holds no snapshot"),
        ({"a/b": [one]}, "cannot be called 'a/b'"),
        ({"a": [one, one]}, "is of 9000 Myr too"),
        ({"a": [one, replace(one, time=1.0, metallicity=-1.0)]}, "before it was -1.2"),
        ({"a": [replace(one, velocity=None)]}, "places or motions"),
        ([runs[0], write(tmp_path / "first" / "0.ecsv", one)], "have one name"),
        (tmp_path / "none.ecsv", "none.ecsv"),
    ):
        with pytest.raises((MelotteValueError, MelotteFileError), match=message):
            library_of_snapshots(given, tmp_path / "a.h5")
    with pytest.raises(MelotteValueError, match="is one of the snapshots"):
        library_of_snapshots(runs[:1], runs[0])
    assert runs[0].exists()
    assert not list(tmp_path.glob("a.h5*"))


def test_a_file_that_is_no_library_is_not_replaced_by_one(runs, tmp_path):
    path = tmp_path / "library.h5"
    path.write_text("what I saw")
    with pytest.raises(MelotteFileError, match="is no library of clusters, and is not replaced"):
        library_of_snapshots(runs, path)
    assert path.read_text() == "what I saw"
    path.unlink()
    library_of_snapshots(runs, path)
    library_of_snapshots(runs[:1], path)
    with ClusterLibrary(path) as library:
        assert len(library) == 1


def test_an_older_library_stays_when_a_new_one_fails(runs, tmp_path):
    path = library_of_snapshots(runs[:1], tmp_path / "a.h5")
    before = path.read_bytes()
    with pytest.raises(MelotteValueError):
        library_of_snapshots([runs[1], f"first={runs[1]}"], path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["clusters"], "which files"),
        (["clusters", "a.ecsv", "-n", "3"], "-n does not apply to --from-snapshots"),
        (["clusters", "a.ecsv", "--workers", "2"], "--workers does not apply"),
        (["clusters", "a.ecsv", "--option", "metalicity=-1"], "did you mean 'metallicity'"),
        (["clusters", "a.ecsv", "--option", "time=old"], "time=old: must be a number"),
        (["clusters", "a.ecsv", "--option", "time=true"], "time=True: must be a number"),
        (["globular", "a.ecsv"], "simulate clusters, not globular"),
    ],
)
def test_wrong_words_end_with_code_2(tmp_path, capsys, words, message):
    path = tmp_path / "a.h5"
    assert call("simulate", *words, "--from-snapshots", "-o", path) == 2
    assert message in capsys.readouterr().err
    assert not path.exists()


def test_it_is_one_of_the_public_functions():
    assert "library_of_snapshots" in melotte.api.__all__
