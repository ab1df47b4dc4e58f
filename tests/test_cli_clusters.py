"""melotte simulate clusters, as people call it."""

import json
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from itertools import count
from multiprocessing import active_children
from types import SimpleNamespace

import h5py
import numpy as np
import pytest

pytest.importorskip("numba")

from melotte.api import cluster_runs
from melotte.api.cluster_runs import evolve_one, simulate_clusters
from melotte.cli import main
from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import ClusterLibrary, RunWriter
from melotte.sky.monte_carlo import snapshots
from melotte.sky.monte_carlo.families import family_of

SMALL = [
    "test", "n_stars=1000", "half_mass_radius=2", "galactic_radius=40", "until=60",
    "first_snapshot=30", "snapshots=2",
]  # fmt: skip


class KilledError(Exception):
    """Stands for the end of a process."""


def call(*words):
    with pytest.raises(SystemExit) as stopped:
        main(list(words))
    return stopped.value.code


def test_a_library_is_written(tmp_path, capsys):
    path = tmp_path / "library.h5"
    assert call("simulate", "clusters", *SMALL, "-n", "2", "-o", str(path)) == 0
    assert f"library: {path}" in capsys.readouterr().out
    with ClusterLibrary(path) as library:
        assert [run.name for run in library.runs] == ["test-0-00001", "test-0-00002"]
        assert [run.times for run in library.runs] == [(30.0, 60.0)] * 2
        first = library.snapshot(library.runs[0], 0)
        assert first.total_mass > 300
        assert first.total_light_v > 0
    assert list(tmp_path.iterdir()) == [path]


def test_check_describes_a_library(tmp_path, capsys):
    paths = [tmp_path / f"{name}.h5" for name in ("sound", "unfinished", "empty", "damaged")]
    for path in paths:
        with h5py.File(path, "w") as file:
            file.attrs["melotte_cluster_library"] = 1
            for family, run in (("test", "a"), ("training", "b"), ("training", "c")):
                if path.stem != "empty":
                    writer = RunWriter(file, run, family, {"metallicity": -1.5 + (run == "b")})
                    for n, time in ((20, 500.0), (15, 12_000.0)):
                        writer.add(stars(n, time))
                    errors = {"a": [1e-4, -2e-3, 1e-3], "b": [0.03, 0.0]}.get(run)
                    if path.stem != "unfinished":
                        writer.close({"energy_error": errors} if errors else {})
            if path.stem == "damaged":
                file["runs/b/mass"][3] = np.nan
    assert call("check", str(paths[0])) == 0
    assert capsys.readouterr().out.strip() == (
        f"{paths[0]}: library of clusters, 3 runs of 6 snapshots; families (runs): test (1), "
        "training (2); ages 0.5 to 12 Gyr; [Fe/H] -1.5 to -0.5; 15 to 20 stars a snapshot, 105 "
        "in all; largest energy error of a run 0.02 (median), 0.03 (b)"
    )
    messages = ("run a is unfinished", "holds no snapshot", "star 4 of the snapshot has mass nan")
    for path, message in zip(paths[1:], messages, strict=True):
        assert call("check", str(path)) == 2
        assert message in capsys.readouterr().err
    cut = tmp_path / "cut.h5"
    cut.write_bytes(paths[0].read_bytes()[:5000])
    assert call("check", str(cut)) == 2
    assert "cut.h5: damaged HDF5 file" in capsys.readouterr().err
    assert call("check", str(paths[0]), "--system", "globular") == 2
    assert "--system does not apply to libraries" in capsys.readouterr().err


def test_an_interrupted_library_says_how_to_go_on(tmp_path, monkeypatch, capsys):
    def stop(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(cluster_runs, "evolve_one", stop)
    path = tmp_path / "library.h5"
    assert call("simulate", "clusters", *SMALL, "-o", str(path)) == 130
    parts = tmp_path / ".library.h5.parts"
    said = f"melotte: error: interrupted; the same command goes on from {parts}"
    assert capsys.readouterr().err.splitlines()[-1] == said
    assert parts.is_dir()


def test_only_a_library_is_replaced(tmp_path, capsys):
    """A slip of the hand must not cost somebody's own file."""
    text, other = tmp_path / "notes.h5", tmp_path / "other.h5"
    text.write_text("what I saw")
    with h5py.File(other, "w") as file:
        file["mass"] = [1.0]
    for path in (text, other, tmp_path):
        before = b"" if path.is_dir() else path.read_bytes()
        assert call("simulate", "clusters", *SMALL, "-o", str(path)) == 2
        said = capsys.readouterr().err
        assert "is not replaced; name another file to write" in said
        assert said.count("\n") == 1
        assert path.is_dir() or path.read_bytes() == before
    assert sorted(tmp_path.iterdir()) == [text, other]


def test_clusters_that_dissolved_early_are_told(tmp_path, monkeypatch, capsys):
    path = tmp_path / "library.h5"
    with h5py.File(path, "w") as file:
        for run in ("a", "b"):
            writer = RunWriter(file, run, "test", {"metallicity": -1.0})
            if run == "a":
                writer.add(stars(5, 500.0))
            writer.close({})
    monkeypatch.setattr(cluster_runs, "simulate_clusters", lambda *_, **__: path)
    assert call("simulate", "clusters", "test") == 0
    assert capsys.readouterr().out.splitlines()[1:] == [
        "  runs: 2, snapshots: 1", "  dissolved before their first snapshot: b",
    ]  # fmt: skip
    with h5py.File(path, "a") as file:
        del file["runs/a"]
    assert call("simulate", "clusters", "test") == 1
    assert "holds nothing, every cluster dissolved" in capsys.readouterr().err


def stars(n, time):
    """A snapshot of stars that are all alike."""
    same = np.ones(n)
    return StarSnapshot.of(
        same, same, time=time, radius=same, radial_velocity=same, tangential_velocity=same,
        magnitude_v=same, magnitude_b=same,
    )  # fmt: skip


def test_shards_are_the_whole_library(tmp_path):
    whole = simulate_clusters(SMALL, tmp_path / "all.h5", 2, progress=False)
    shards = [
        simulate_clusters(SMALL, tmp_path / "part.h5", 2, task=task, of=2, progress=False)
        for task in (1, 2)
    ]
    assert shards[1].name == "part.0002-of-0002.h5"
    with ClusterLibrary(whole) as one, ClusterLibrary(shards) as other:
        for left, right in zip(one, other, strict=True):
            assert (left.radius == right.radius).all()
            assert (left.magnitude_v == right.magnitude_v).all()


def test_a_stopped_run_goes_on(tmp_path, monkeypatch):
    family = family_of("test", {"n_stars": "1000", "until": "90", "first_snapshot": "30",
                                "snapshots": "3", "half_mass_radius": "2",
                                "galactic_radius": "40"})  # fmt: skip
    evolve_one(family, 1, 0, tmp_path / "whole.h5")
    monkeypatch.setattr("melotte.api.cluster_runs.CHECKPOINT_SECONDS", -1.0)
    real, seen = snapshots.snapshot_of, []

    def stops(cluster, photometry=True):
        seen.append(cluster.time)
        if len(seen) == 3:
            raise KilledError
        return real(cluster, photometry)

    monkeypatch.setattr(snapshots, "snapshot_of", stops)
    with pytest.raises(KilledError):
        evolve_one(family, 1, 0, tmp_path / "part.h5")
    assert (tmp_path / "part.checkpoint").exists()
    assert not (tmp_path / "part.h5").exists()
    monkeypatch.setattr(snapshots, "snapshot_of", real)
    evolve_one(family, 1, 0, tmp_path / "part.h5")
    with ClusterLibrary(tmp_path / "whole.h5") as one, ClusterLibrary(tmp_path / "part.h5") as two:
        assert one.runs[0].times == two.runs[0].times == (30.0, 60.0, 90.0)
        for left, right in zip(one, two, strict=True):
            assert (left.radius == right.radius).all()
            assert (left.mass == right.mass).all()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["part.h5", "whole.h5"]


def contents(path):
    """Values and attributes of everything in a library, as bytes."""
    found = {}

    def see(name, one):
        found.update({(name, key): str(value) for key, value in one.attrs.items()})
        if isinstance(one, h5py.Dataset):
            found[name] = (str(one.dtype), one[()].tobytes())

    with h5py.File(path) as file:
        see("", file)
        file.visititems(see)
    return found


@pytest.fixture(scope="module")
def sparse(tmp_path_factory):
    """A family of snapshots many steps apart, and what a run of it holds that was not stopped."""
    family = family_of("test", {"n_stars": "1000", "until": "60", "first_snapshot": "30",
                                "snapshots": "2", "half_mass_radius": "2",
                                "galactic_radius": "8"})  # fmt: skip
    path = tmp_path_factory.mktemp("whole") / "run.h5"
    evolve_one(family, 1, 0, path)
    return family, contents(path)


@pytest.fixture
def until_killed(monkeypatch, sparse):
    """Evolves a run with a checkpoint every step, up to a checkpoint; the times of all of them."""
    monkeypatch.setattr("melotte.api.cluster_runs.CHECKPOINT_SECONDS", -1.0)
    real = snapshots.write_checkpoint

    def evolve(path, stop, written):
        times = []

        def write(checkpoint, cluster):
            if cluster.time < stop or written:
                real(checkpoint, cluster)
                times.append(cluster.time)
            if cluster.time >= stop:
                raise KilledError

        with monkeypatch.context() as patched:
            patched.setattr(snapshots, "write_checkpoint", write)
            with pytest.raises(KilledError):
                evolve_one(sparse[0], 1, 0, path)
        return times

    return evolve


@pytest.mark.parametrize("written", [True, False])
def test_a_run_killed_between_or_at_snapshots_is_the_same_in_the_end(
    tmp_path, sparse, until_killed, written
):
    family, whole = sparse
    assert family.times == (30.0, 60.0)
    path = tmp_path / "run.h5"
    times = []
    for stop in (10.0, 20.0, 30.0, 40.0, 45.0, 60.0):
        times += until_killed(path, stop, written)
    # Every step once: none began anew, and those of snapshots are among them.
    assert (np.diff(times) > 0).all()
    assert times[-1] == 60 if written else times[-1] < 60
    assert 30 in times
    evolve_one(family, 1, 0, path)
    assert contents(path) == whole
    assert list(tmp_path.iterdir()) == [path]


def test_a_checkpoint_whose_snapshots_are_lost_is_never_used(tmp_path, sparse, until_killed):
    family, whole = sparse
    path = tmp_path / "run.h5"
    until_killed(path, 45.0, True)
    path.with_suffix(".unfinished").write_bytes(b"half")
    assert until_killed(path, 0.0, False) == []
    evolve_one(family, 1, 0, path)
    assert contents(path) == whole


def test_checkpoints_wait_for_their_time(tmp_path, monkeypatch, sparse):
    times, clock = [], count()
    monkeypatch.setattr("melotte.api.cluster_runs.CHECKPOINT_SECONDS", 20.0)
    ticking = SimpleNamespace(monotonic=lambda: next(clock), process_time=time.process_time)
    monkeypatch.setattr("melotte.api.cluster_runs.time", ticking)
    monkeypatch.setattr(
        snapshots, "write_checkpoint", lambda path, cluster: times.append(cluster.time)
    )
    evolve_one(sparse[0], 1, 0, tmp_path / "run.h5")
    # The clock ticks once a step; these are of 0.5 Myr.
    assert times[:2] == [10.5, 21.0]


def test_a_run_whose_files_are_damaged_begins_anew(tmp_path, caplog):
    family = family_of("test", {"n_stars": "1000", "until": "20", "first_snapshot": "20",
                                "snapshots": "1"})  # fmt: skip
    evolve_one(family, 1, 0, tmp_path / "whole.h5")
    (tmp_path / "part.checkpoint").write_bytes(b"half")
    (tmp_path / "part.unfinished").write_bytes(b"written")
    evolve_one(family, 1, 0, tmp_path / "part.h5")
    assert "begins anew" in caplog.text
    with ClusterLibrary(tmp_path / "whole.h5") as one, ClusterLibrary(tmp_path / "part.h5") as two:
        for left, right in zip(one, two, strict=True):
            assert (left.radius == right.radius).all()


def test_a_killed_process_ends_in_one_line_and_the_runs_go_on(tmp_path):
    words = ["test", "n_stars=1000", "until=20", "first_snapshot=20", "snapshots=1"]
    stop = threading.Event()

    def kill_the_first():
        while not stop.is_set():
            for child in active_children():
                child.kill()
                return
            time.sleep(0.01)

    killer = threading.Thread(target=kill_the_first)
    killer.start()
    try:
        with pytest.raises(OSError, match="was killed"):
            simulate_clusters(words, tmp_path / "many.h5", 3, workers=2, progress=False)
    finally:
        stop.set()
        killer.join()
    assert not active_children()
    assert not (tmp_path / "many.h5").exists()
    many = simulate_clusters(words, tmp_path / "many.h5", 3, workers=2, progress=False)
    one = simulate_clusters(words, tmp_path / "one.h5", 3, progress=False)
    with ClusterLibrary(many) as left, ClusterLibrary(one) as right:
        assert [run.name for run in left.runs] == [run.name for run in right.runs]
        for first, second in zip(left, right, strict=True):
            assert (first.radius == second.radius).all()


@pytest.mark.parametrize("complaint", [
    ValueError("bad value(s) in fds_to_keep"), OSError(9, "Bad file descriptor"),
])  # fmt: skip
def test_a_process_killed_while_another_starts_is_told_of_alike(tmp_path, monkeypatch, complaint):
    class Pool:
        """Loses its first process, and its pipes, before the second is there."""

        def __init__(self, workers, mp_context):
            self.n_submitted = 0

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def submit(self, *_):
            self.n_submitted += 1
            if self.n_submitted > 1:
                raise complaint
            future = Future()
            future.set_exception(BrokenProcessPool("a process ended"))
            return future

    monkeypatch.setattr("melotte.api.cluster_runs.ProcessPoolExecutor", Pool)
    with pytest.raises(OSError, match="a process that evolved a cluster was killed"):
        simulate_clusters(SMALL, tmp_path / "many.h5", 3, workers=2, progress=False)
    assert not (tmp_path / "many.h5").exists()


@pytest.mark.parametrize("given", [{"n": 0}, {"workers": 0}, {"seed": -1}])
def test_impossible_numbers_are_refused(tmp_path, given):
    with pytest.raises(MelotteValueError, match="at least"):
        simulate_clusters(SMALL, tmp_path / "x.h5", **given)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("words", "message"), [
    ([], "which family"),
    (["globular"], "no family"),
    (["test", "n_stars"], "NAME=VALUE"),
    (["test", "n_stars=3"], "n_stars"),
    (["test", "central_potential=0,8"], "must rise within [1, 12]"),
    (["test", "snapshots=nan"], "whole number"),
    (["test", "snapshots=inf"], "whole number"),
    (["test", "sizes=0.5,2000"], "sizes=2000"),
    (["test", "--option", "time=3"], "--option does not apply to clusters"),
])  # fmt: skip
def test_wrong_words_end_with_code_2(tmp_path, capsys, words, message):
    assert call("simulate", "clusters", *words, "-o", str(tmp_path / "x.h5")) == 2
    assert message in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_unfinished_runs_of_other_settings_are_kept(tmp_path):
    folder = tmp_path / ".library.h5.parts"
    folder.mkdir()
    (folder / "library.json").write_text("{}")
    with pytest.raises(MelotteValueError, match="other settings"):
        simulate_clusters(SMALL, tmp_path / "library.h5", progress=False)


def test_unfinished_runs_from_before_a_setting_go_on(tmp_path, monkeypatch):
    def stop(*args, **named):
        raise KilledError

    path, asked = tmp_path / "library.h5", tmp_path / ".library.h5.parts" / "library.json"
    monkeypatch.setattr("melotte.api.cluster_runs.evolve_one", stop)
    with pytest.raises(KilledError):
        simulate_clusters(SMALL, path, progress=False)
    before = json.loads(asked.read_text())
    assert before["family"].pop("lowest_mass") == 0.1
    asked.write_text(json.dumps(before, sort_keys=True))
    with pytest.raises(MelotteValueError, match="other settings"):
        simulate_clusters([*SMALL, "lowest_mass=0.2"], path, progress=False)
    with pytest.raises(KilledError):
        simulate_clusters(SMALL, path, progress=False)
