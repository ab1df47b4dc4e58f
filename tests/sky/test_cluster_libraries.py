"""Libraries of evolved clusters: families, what is kept of each star, and runs that resume."""

import json

import h5py
import numpy as np
import pytest

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import ClusterLibrary, RunWriter, join_libraries


def snapshot(n, time, seed=1):
    generator = np.random.default_rng(seed)
    system = np.arange(n)
    system[-1] = 3
    return StarSnapshot.of(
        generator.uniform(0.1, 1.5, n),
        generator.integers(0, 14, n),
        time=time,
        metallicity=-1.0,
        radius=10 ** generator.uniform(-3, 2, n),
        radial_velocity=generator.normal(0, 5, n),
        tangential_velocity=np.abs(generator.normal(0, 5, n)),
        magnitude_v=np.where(np.arange(n) % 7, generator.normal(5, 2, n), np.inf),
        magnitude_b=generator.normal(6, 2, n),
        system=system,
    )


def write(path, name, family="training", times=(100.0, 200.0)):
    with h5py.File(path, "w") as file:
        writer = RunWriter(file, name, family, {"metallicity": -1.0, "seed": 4})
        for i, time in enumerate(times):
            writer.add(snapshot(50 - 10 * i, time, seed=i))
        writer.close({"time": list(times)})
    return path


def test_what_is_written_is_read_to_half_precision(tmp_path):
    with ClusterLibrary(write(tmp_path / "one.h5", "a")) as library:
        assert len(library) == 2
        (run,) = library.runs
        assert (run.name, run.family, run.times, run.counts) == (
            "a",
            "training",
            (100, 200),
            (50, 40),
        )
        assert run.history == {"time": [100.0, 200.0]}
        read = library.snapshot(run, 1)
    given = snapshot(40, 200.0, seed=1)
    # The last star stands behind the one that it is bound to.
    order = [0, 1, 2, 3, 39, *range(4, 39)]
    assert read.time == 200
    assert read.metallicity == -1
    for name in ("radius", "radial_velocity", "tangential_velocity", "mass", "magnitude_v"):
        np.testing.assert_allclose(getattr(read, name), getattr(given, name)[order], rtol=6e-4)
    assert np.array_equal(read.kind, given.kind[order])
    assert read.system[3] == read.system[4]
    assert len(np.unique(read.system)) == 39


def test_packed_columns_hold_the_same_in_less(tmp_path):
    given = snapshot(4000, 100.0)
    for name, packed in (("plain", False), ("packed", True)):
        with h5py.File(tmp_path / name, "w") as file:
            writer = RunWriter(file, "a", "test", {"metallicity": -1.0}, packed=packed)
            writer.add(given)
            writer.add(given)
            writer.close({})
    with ClusterLibrary(tmp_path / "plain") as plain, ClusterLibrary(tmp_path / "packed") as packed:
        for one, other in zip(plain, packed, strict=True):
            for name in ("radius", "tangential_velocity", "mass", "magnitude_v", "kind", "system"):
                assert np.array_equal(getattr(one, name), getattr(other, name))
    assert (tmp_path / "packed").stat().st_size < 0.9 * (tmp_path / "plain").stat().st_size


def test_a_run_goes_on_after_what_its_checkpoint_knows(tmp_path):
    path = write(tmp_path / "one.h5", "a", times=(100.0, 200.0, 300.0))
    with h5py.File(path, "a") as file:
        writer = RunWriter(file, "a", "training", {"metallicity": -1.0})
        writer.forget_after(100.0)
        writer.add(snapshot(30, 150.0))
        writer.close({})
    with ClusterLibrary(path) as library:
        assert library.runs[0].times == (100.0, 150.0)
        assert library.runs[0].counts == (50, 30)
        assert [len(one) for one in library] == [50, 30]


def test_libraries_join_and_are_read_as_one(tmp_path):
    parts = [write(tmp_path / "1.h5", "a"), write(tmp_path / "2.h5", "b")]
    join_libraries(parts, tmp_path / "all.h5", {"seed": 1})
    with ClusterLibrary(tmp_path / "all.h5") as joined, ClusterLibrary(parts) as several:
        assert [run.name for run in joined.runs] == [run.name for run in several.runs] == ["a", "b"]
    with h5py.File(tmp_path / "all.h5") as file:
        assert json.loads(str(file.attrs["provenance"])) == {"seed": 1}
    with pytest.raises(MelotteFileError, match="in another of the files"):
        ClusterLibrary([parts[0], parts[0]])


def test_unfinished_runs_are_refused(tmp_path):
    with h5py.File(tmp_path / "half.h5", "w") as file:
        RunWriter(file, "a", "training", {"metallicity": -1.0}).add(snapshot(10, 5.0))
    with pytest.raises(MelotteFileError, match="run a is unfinished"):
        ClusterLibrary(tmp_path / "half.h5")


def test_long_histories_are_kept(tmp_path):
    history = {"time": np.linspace(0, 1, 20_000).tolist()}
    with h5py.File(tmp_path / "long.h5", "w") as file:
        RunWriter(file, "a", "training", {"metallicity": -1.0}).close(history)
    with ClusterLibrary(tmp_path / "long.h5") as library:
        assert library.runs[0].history == history


def test_other_files_are_refused(tmp_path):
    (tmp_path / "text.h5").write_text("text")
    with h5py.File(tmp_path / "empty.h5", "w"):
        pass
    with h5py.File(tmp_path / "later.h5", "w") as file:
        file.attrs["melotte_cluster_library"] = 99
    for name, message in (
        ("none.h5", "does not exist"),
        ("text.h5", "not a library"),
        ("empty.h5", "no version"),
        ("later.h5", "version 99"),
    ):
        with pytest.raises(MelotteFileError, match=message):
            ClusterLibrary(tmp_path / name)


def test_positions_and_velocities_are_kept_as_radii_and_motions(tmp_path):
    given = snapshot(300, 5.0)
    with h5py.File(tmp_path / "one.h5", "w") as file:
        writer = RunWriter(file, "a", "training", {"metallicity": -1.0})
        writer.add(given)
        writer.add(given.projected(np.random.default_rng(3)))
        writer.close({})
    with ClusterLibrary(tmp_path / "one.h5") as library:
        first, second = library
    # The two stars of a binary were at places of their own, and are now where their mass is.
    alone = np.setdiff1d(np.arange(300), [3, 4])
    for name in ("radius", "radial_velocity", "tangential_velocity"):
        left, right = getattr(first, name)[alone], getattr(second, name)[alone]
        np.testing.assert_allclose(left, right, rtol=1.1e-3)


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"position": np.zeros((1, 3))}, "the snapshot: places or motions"),
        ({"provenance": {"file": "a.csv"}}, "a.csv: places or motions"),
        ({"radius": [7e4]}, "star 1 of the snapshot has radius 70000; .* up to 65,504"),
        ({"magnitude_v": [np.nan]}, "has magnitude_v nan"),
        ({"magnitude_b": [-np.inf]}, "has magnitude_b -inf"),
    ],
)
def test_what_a_library_cannot_keep_is_refused_before_anything_is_written(tmp_path, known, message):
    if "radius" in known or "magnitude_v" in known or "magnitude_b" in known:
        moving = {"radial_velocity": [0.0], "tangential_velocity": [0.0]}
        shining = {"radius": [1.0], "magnitude_v": [5.0], "magnitude_b": [5.0]}
        known = {**moving, **shining, **known}
    with h5py.File(tmp_path / "one.h5", "w") as file:
        writer = RunWriter(file, "a", "training", {})
        with pytest.raises(MelotteValueError, match=message):
            writer.add(StarSnapshot.of([1.0], [1], **known))
        assert set(file["runs/a"]) == {"time", "offsets"}


@pytest.mark.parametrize("harm", ["radius", "mass", "offsets", "time", "model", "short"])
def test_damaged_runs_are_refused(tmp_path, harm):
    path = write(tmp_path / "one.h5", "a")
    with h5py.File(path, "a") as file:
        group = file["runs/a"]
        if harm == "model":
            group.attrs["model"] = "{"
        elif harm == "short":
            group["radius"].resize(7, axis=0)
        else:
            del group[harm]
    with pytest.raises(MelotteFileError, match="run a is damaged"):
        ClusterLibrary(path)
