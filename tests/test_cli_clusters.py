"""melotte simulate clusters, as people call it."""

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
