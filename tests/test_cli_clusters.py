"""melotte simulate clusters, as people call it."""

import threading
import time
from multiprocessing import active_children

import pytest

pytest.importorskip("numba")

from melotte.api.cluster_runs import evolve_one, simulate_clusters
from melotte.cli import main
from melotte.errors import MelotteValueError
from melotte.sky.cluster_libraries import ClusterLibrary
from melotte.sky.monte_carlo.families import family_of

SMALL = [
    "test", "n_stars=1000", "half_mass_radius=2", "galactic_radius=40", "until=60",
    "first_snapshot=30", "snapshots=2",
]  # fmt: skip


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

    class StoppedError(Exception):
        pass

    import melotte.sky.monte_carlo.snapshots as snapshots

    real, seen = snapshots.snapshot_of, []

    def stops(cluster, photometry=True):
        seen.append(cluster.time)
        if len(seen) == 3:
            raise StoppedError
        return real(cluster, photometry)

    monkeypatch.setattr(snapshots, "snapshot_of", stops)
    with pytest.raises(StoppedError):
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
