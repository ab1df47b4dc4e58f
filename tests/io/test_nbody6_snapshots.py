"""Snapshots of NBODY6 and its kin."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
import snapshot_writers as written
from snapshot_checks import CENTRE, assert_light, assert_pairs, assert_places, by_name
from snapshot_writers import N_PAIRS, Cluster

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.simulation_files import SOLAR_METAL_FRACTION
from melotte.io.snapshot_files import read_snapshots


@pytest.fixture
def stars() -> Cluster:
    return written.cluster()


@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("conf3", [False, True])
def test_nbody6_in_either_byte_order(
    tmp_path: Path, stars: Cluster, order: str, conf3: bool
) -> None:
    path = tmp_path / "OUT3"
    later = written.cluster(seed=8)
    path.write_bytes(
        written.nbody6(stars, CENTRE, 100.0, order, conf3)
        + written.nbody6(later, CENTRE, 200.0, order, conf3)
    )
    found = list(read_snapshots(path, metallicity=-1.0))
    assert [one.time for one in found] == pytest.approx([100.0, 200.0])
    assert {one.metallicity for one in found} == {-1.0}
    for snapshot, truth in zip(found, (stars, later), strict=True):
        assert len(snapshot) == len(truth)
        np.testing.assert_allclose(snapshot.mass[by_name(snapshot, truth)], truth.mass, rtol=1e-6)
        assert_places(snapshot, truth, slice(None))
        assert_pairs(snapshot, truth)


@pytest.mark.parametrize("plus", [False, True])
def test_nbody6_with_stellar_evolution(tmp_path: Path, stars: Cluster, plus: bool) -> None:
    path = tmp_path / "conf.3_200"
    path.write_bytes(written.nbody6(stars, CENTRE, 100.0, conf3=plus))
    singles, binaries = tmp_path / "fort.83", tmp_path / "fort.82"
    other = written.cluster(seed=9)
    blocks = [written.stellar_evolution(other, 50.0), written.stellar_evolution(stars, 100.0)]
    if plus:
        blocks = [written.stellar_evolution(stars, 100.0, plus=True)]
    singles.write_text("".join(block[0] for block in blocks))
    binaries.write_text("".join(block[1] for block in blocks))
    (found,) = read_snapshots(path, singles=singles, binaries=binaries)
    assert_light(found, stars, tolerance=3e-5)
    assert found.provenance["without_stellar_row"] == 0
    (alone,) = read_snapshots(path, singles=singles)
    assert alone.provenance["without_stellar_row"] == 2 * N_PAIRS


@pytest.mark.parametrize(("time", "near"), [(100.0, 101.9), (100.0, 98.1), (10.0, 10.9)])
def test_a_stellar_block_near_in_time_is_taken(
    tmp_path: Path, stars: Cluster, time: float, near: float
) -> None:
    path, singles, binaries = (tmp_path / name for name in ("conf.3_9", "sev.83_9", "bev.82_9"))
    path.write_bytes(written.nbody6(stars, CENTRE, time, conf3=True))
    singles.write_text(written.stellar_evolution(stars, near, plus=True)[0])
    binaries.write_text(written.stellar_evolution(stars, time, plus=True)[1])
    (found,) = read_snapshots(path, singles=singles, binaries=binaries)
    assert found.provenance["stellar_time"] == near


@pytest.mark.parametrize(
    ("time", "far", "allowed"), [(77.7, 9999.0, "1.55"), (10.0, 11.1, "1"), (0.0, 1.1, "1")]
)
def test_a_stellar_block_of_another_time_is_refused(
    tmp_path: Path, stars: Cluster, time: float, far: float, allowed: str
) -> None:
    path, singles, binaries = (tmp_path / name for name in ("conf.3_20", "sev.83_1", "bev.82_1"))
    path.write_bytes(written.nbody6(stars, CENTRE, time, conf3=True))
    theirs = written.stellar_evolution(stars, far, plus=True)
    singles.write_text(theirs[0])
    said = (
        rf"conf\.3_20 has stars of {time:g} Myr.*sev\.83_1 is of {far:g} Myr.*within {allowed} Myr"
    )
    with pytest.raises(MelotteFileError, match=said):
        next(read_snapshots(path, singles=singles))
    # A time that the user gives goes before the file's.
    assert next(read_snapshots(path, singles=singles, time=far)).time == far
    singles.write_text(written.stellar_evolution(stars, time, plus=True)[0])
    binaries.write_text(theirs[1])
    said = (
        rf"sev\.83_1 has stars of {time:g} Myr.*bev\.82_1 is of {far:g} Myr.*within {allowed} Myr"
    )
    with pytest.raises(MelotteFileError, match=said) as caught:
        next(read_snapshots(path, singles=singles, binaries=binaries))
    assert "\n" not in str(caught.value)


def test_nbody6_leaves_out_bodies_without_mass(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "OUT3"
    path.write_bytes(written.nbody6(stars, CENTRE, 1.0, ghosts=2))
    (found,) = read_snapshots(path)
    assert len(found) == len(stars) - 2
    assert found.provenance["massless_left_out"] == 2


@pytest.mark.parametrize("cut", [3, 60, 700])
def test_a_truncated_nbody6_file_is_refused(tmp_path: Path, stars: Cluster, cut: int) -> None:
    path = tmp_path / "OUT3"
    whole = written.nbody6(stars, CENTRE, 1.0)
    path.write_bytes(whole + whole[: len(whole) - cut])
    found = read_snapshots(path)
    next(found)
    with pytest.raises(MelotteFileError, match="cut short or damaged"):
        next(found)


def test_stellar_rows_that_do_not_fit_name_the_line(tmp_path: Path, stars: Cluster) -> None:
    path, singles = tmp_path / "OUT3", tmp_path / "fort.83"
    path.write_bytes(written.nbody6(stars, CENTRE, 1.0))
    singles.write_text(" ## BEGIN       1      1.0\n 1 1 1.0 0.5 1.0\n ## END       1\n")
    with pytest.raises(MelotteFileError, match=r"fort\.83, line 2: 5 columns; 7 are needed"):
        next(read_snapshots(path, singles=singles))
    singles.write_text(written.stellar_evolution(stars, 1.0)[0].replace("BEGIN", "BEGAN x"))
    with pytest.raises(MelotteFileError, match=r"line 1: .* does not begin a block"):
        next(read_snapshots(path, singles=singles))
    with pytest.raises(MelotteValueError, match="without that of single stars"):
        next(read_snapshots(path, binaries=singles))


def test_nbody6_conf3_of_a_run(shared_data: Path) -> None:
    folder = shared_data / "globular" / "formats" / "nbody6pp_conf3"
    for name, time in (("conf.3_0", 0.0), ("conf.3_20", 20.0)):
        (found,) = read_snapshots(folder / name)
        numbers = np.frombuffer((folder / name).read_bytes()[28:108], "<f4")
        # N-body units of 8 pc and 7574 Msun: 14.94 (8^3/7574)^(1/2) = 3.884 Myr.
        assert found.time == pytest.approx(time * 14.94 * np.sqrt(8**3 / 7574.08), rel=1e-3)
        assert len(found) == 12_500
        # The file's 18th number is the half-mass radius that the code found itself.
        assert found.half_mass_radius == pytest.approx(numbers[17] * 8.0, rel=1e-4)
        if time == 0:
            assert found.total_mass == pytest.approx(7574.08, rel=1e-5)


@pytest.mark.parametrize("listed", [False, True])
def test_nbody6_gpu_hdf5(tmp_path: Path, stars: Cluster, listed: bool) -> None:
    path = tmp_path / "snap.40_0.h5part"
    written.nbody6_gpu(path, stars, CENTRE, listed)
    (found,) = read_snapshots(path)
    assert found.time == pytest.approx(100.0)
    assert found.metallicity == pytest.approx(np.log10(0.00142 / SOLAR_METAL_FRACTION))
    assert len(found) == len(stars)
    assert_light(found, stars)
    first_of_pairs = np.array([0, 2, 4, *range(7, len(stars))])
    assert_places(found, stars, first_of_pairs)
    rows = by_name(found, stars)
    assert found.position is not None
    system, position = found.system[rows], found.position[rows]
    assert system[0] == system[1]
    np.testing.assert_array_equal(position[0], position[1])
    assert system[4] == system[5] == system[6]
    # Members of a wide pair stay apart where the file says where they are.
    assert (system[2] == system[3]) == (not listed)
    assert np.array_equal(position[2], position[3]) == (not listed)


def test_nbody6_gpu_without_a_dataset(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "snap.40_0.h5part"
    written.nbody6_gpu(path, stars, CENTRE, True)
    with h5py.File(path, "a") as file:
        del file["Step#0/023 M"]
    with pytest.raises(MelotteFileError, match="Step#0: no dataset 023"):
        next(read_snapshots(path))
