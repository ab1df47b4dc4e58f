"""Simulations of every code are read as they were written, and real files as their codes mean."""

from __future__ import annotations

import gzip
from pathlib import Path

import h5py
import numpy as np
import pytest
import snapshot_writers as written
from snapshot_checks import assert_light, assert_pairs, assert_places, by_name
from snapshot_writers import N_PAIRS, N_SINGLE, Cluster

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.io.amuse_files import SOLAR_LUMINOSITY
from melotte.io.simulation_files import SOLAR_METAL_FRACTION
from melotte.io.snapshot_files import FORMATS, read_snapshots
from melotte.io.star_snapshots import StarSnapshot

GRAVITY = 4.30091e-3


@pytest.fixture
def stars() -> Cluster:
    return written.cluster()


def cmc_hdf5(path: Path, stars: Cluster, key: str = "3(t=0.5)") -> None:
    names = [name.replace("[", "_").replace("]", "") for name in written.CMC_NAMES]
    rows = written.cmc_rows(stars)
    table = np.zeros(len(rows), dtype=[(name, "f8") for name in names])
    for at, name in enumerate(names):
        table[name] = rows[:, at]
    with h5py.File(path, "a") as file:
        file[key] = table


def assert_cmc(found: StarSnapshot, stars: Cluster) -> None:
    assert len(found) == len(stars)
    assert_light(found, stars)
    assert_pairs(found, stars)
    rows = by_name(found, stars)
    assert found.radius is not None
    assert found.radial_velocity is not None
    assert found.tangential_velocity is not None
    objects = np.array([0, 2, 4, *range(2 * N_PAIRS, len(stars))])
    r = np.linalg.norm(stars.position, axis=1)
    np.testing.assert_allclose(found.radius[rows][objects], r[objects])
    np.testing.assert_allclose(found.radial_velocity[rows][objects], stars.velocity[objects, 0])
    tangential = np.abs(stars.velocity[objects, 1])
    np.testing.assert_allclose(found.tangential_velocity[rows][objects], tangential)
    np.testing.assert_array_equal(found.radius[rows[0]], found.radius[rows[1]])


def test_cmc_hdf5(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "run.window.snapshots.h5"
    (tmp_path / "run.conv.sh").write_text(written.CONVERSION)
    (tmp_path / "other.conv.sh").write_text("")
    cmc_hdf5(path, stars, "10(t=12.5Gyr)")
    cmc_hdf5(path, stars, "9(t=0.5)")
    found = list(read_snapshots(path, metallicity=-1.5))
    assert [one.time for one in found] == [400.0, 12_500.0]
    for one in found:
        assert_cmc(one, stars)
        assert one.metallicity == -1.5


@pytest.mark.parametrize("missing", ["na", "-100"])
def test_cmc_text(tmp_path: Path, stars: Cluster, missing: str) -> None:
    path, conversion = tmp_path / "initial.snap0001.dat.gz", tmp_path / "units"
    conversion.write_text(written.CONVERSION)
    header = " ".join(f"#{at + 1}:{name}" for at, name in enumerate(written.CMC_NAMES))
    lines = ["# t=0.25 [code units]; All quantities below are in code units.", header]
    lines += [
        " ".join(missing if value == -100 else f"{value:.16g}" for value in row)
        for row in written.cmc_rows(stars)
    ]
    path.write_bytes(gzip.compress("\n".join(lines).encode()))
    (found,) = read_snapshots(path, conversion=conversion)
    assert found.time == 200.0
    assert_cmc(found, stars)
    with pytest.raises(MelotteValueError, match=r"found beside it: none; give it as `conversion`"):
        next(read_snapshots(path))
    conversion.write_text("lengthunitcgs=1\n")
    with pytest.raises(MelotteFileError, match="does not set lengthunitparsec"):
        next(read_snapshots(path, conversion=conversion))


def test_units_of_a_real_cmc_run(shared_data: Path, tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "output.snapshots.h5"
    cmc_hdf5(path, stars, "0(t=1)")
    conversion = shared_data / "globular" / "formats" / "cmc_conv.sh"
    (found,) = read_snapshots(path, conversion=conversion)
    assert found.time == pytest.approx(858.091)
    rows = by_name(found, stars)
    assert found.radial_velocity is not None
    # The unit of velocity of 63270.5 Msun and 1 pc is (G M / R)^(1/2).
    unit = np.sqrt(GRAVITY * 63270.5 / 1.0)
    speed = found.radial_velocity[rows[-1]] / (stars.velocity[-1, 0] / 20)
    assert speed == pytest.approx(unit, rel=1e-3)


def test_cmc_initial_conditions_are_in_virial_equilibrium(shared_data: Path) -> None:
    path = shared_data / "globular" / "formats" / "cmc_initial_conditions.hdf5"
    (found,) = read_snapshots(path)
    assert found.time == 0.0
    assert len(found) == 10_000 + 1_967
    assert len(np.unique(found.system)) == 10_000
    assert len(np.unique(found.ids)) == len(found)
    assert found.total_mass == pytest.approx(6536.9275, rel=1e-6)
    assert found.metallicity == pytest.approx(np.log10(0.014 / SOLAR_METAL_FRACTION))
    assert found.radial_velocity is not None
    assert found.tangential_velocity is not None
    speed2 = found.radial_velocity**2 + found.tangential_velocity**2
    kinetic = 0.5 * (found.mass * speed2).sum()
    # Virial radius 1 pc: K = G M^2 / (4 r_v).
    assert kinetic == pytest.approx(GRAVITY * found.total_mass**2 / 4, rel=0.02)


def test_mocca_members_add_up_to_their_binary(shared_data: Path) -> None:
    path = shared_data / "globular" / "formats" / "mocca_12gyr_first300.dat"
    (found,) = read_snapshots(path, time=12_000.0)
    table = np.loadtxt(path)
    assert len(found) == 300 + 70
    assert len(np.unique(found.system)) == 300
    light = np.bincount(found.system, 10 ** (-0.4 * found.magnitude_v))
    combined = 10 ** (-0.4 * table[:, 21])
    shining = table[:, 7] < 13
    np.testing.assert_allclose(light[shining], combined[shining], rtol=1e-4)
    mass = np.bincount(found.system, found.mass)
    np.testing.assert_allclose(mass, table[:, 9] + table[:, 10])
    assert found.time == 12_000.0


def test_mocca_with_positions(tmp_path: Path) -> None:
    row = np.arange(1.0, 41.0)
    row[[9, 10, 11, 36]] = 1, 1, 11, 2.0
    single = row.copy()
    single[[9, 13]] = 0
    path = tmp_path / "snapshot.dat"
    np.savetxt(path, np.stack([row, single]))
    (found,) = read_snapshots(path)
    assert np.isnan(found.time)
    np.testing.assert_array_equal(found.mass, [13, 13, 14])
    np.testing.assert_array_equal(found.kind, [1, 1, 11])
    np.testing.assert_array_equal(found.magnitude_v, [25, 25, 26])
    np.testing.assert_array_equal(found.magnitude_b, [29, 29, 30])
    np.testing.assert_array_equal(found.position, [[2, 3, 4]] * 3)
    np.testing.assert_array_equal(found.velocity, [[5, 6, 7]] * 3)
    np.testing.assert_array_equal(found.system, [0, 1, 0])


@pytest.mark.parametrize(
    ("name", "n", "n_systems"), [("N10k", 10_000, 10_000), ("N1kb", 1000, 500)]
)
def test_mcluster_of_a_run(shared_data: Path, name: str, n: int, n_systems: int) -> None:
    path = shared_data / "globular" / "formats" / f"{name}.dat.10"
    (found,) = read_snapshots(path)
    assert found.time == 0.0
    assert len(found) == n
    assert len(np.unique(found.system)) == n_systems
    assert found.total_mass == pytest.approx(np.loadtxt(path)[:, 0].sum())
    assert 0.8 < found.half_mass_radius < 1.2
    np.testing.assert_array_equal(found.initial_mass, found.mass)


def test_mcluster_counts_bound_pairs_from_the_top(tmp_path: Path, stars: Cluster) -> None:
    velocity = stars.velocity.copy()
    velocity[1 : 2 * N_PAIRS : 2] = velocity[0 : 2 * N_PAIRS : 2]
    velocity[3] += 1e3
    path = tmp_path / "a.dat.10"
    np.savetxt(path, np.column_stack([stars.mass, stars.position, velocity]))
    (found,) = read_snapshots(path)
    assert found.provenance["binaries"] == 1
    np.savetxt(path, np.column_stack([stars.mass / stars.mass.sum(), stars.position, velocity]))
    with pytest.raises(MelotteFileError, match="in N-body units"):
        next(read_snapshots(path))


def test_amuse_of_a_run(shared_data: Path) -> None:
    path = shared_data / "globular" / "formats" / "amuse_sse_12gyr.hdf5"
    (found,) = read_snapshots(path, metallicity=0.0)
    assert found.time == pytest.approx(12_000.0)
    assert len(found) == 5000
    assert found.position is None
    assert found.total_mass == pytest.approx(1191.58, abs=0.01)
    counts = np.bincount(found.kind, minlength=15)
    assert counts[[0, 1, 3, 11, 14]].tolist() == [4474, 124, 9, 348, 4]
    dwarfs = (found.kind == 1) & (found.mass > 0.7)
    # L = 4 pi R^2 sigma T^4 against SSE's own, which has 5778 K for the Sun.
    with h5py.File(path) as file:
        attributes = file["data/0000000001/attributes"]
        luminosity, radius = attributes["luminosity"][()], attributes["radius"][()]
    expected = 5778 * (luminosity / radius**2) ** 0.25
    np.testing.assert_allclose(found.temperature[dwarfs], expected[dwarfs], rtol=0.002)
    assert 4500 < np.median(found.temperature[dwarfs]) < 6000


def amuse(path: Path, stars: Cluster, length: str = "3.08567758149137e+16") -> None:
    base = "system.get('S.I.').base('{}')"
    units = {
        "mass": f"(1.98892e+30 * {base.format('mass')})",
        "length": f"({length} * {base.format('length')})",
        "speed": f"(1000.0 * ({base.format('length')} * ({base.format('time')}**-1)))",
    }
    with h5py.File(path, "w") as file:
        file.create_group("AMUSE_INF")
        group = file.create_group("data/0000000001")
        group["keys"] = stars.name.astype(np.uint64)
        attributes = group.create_group("attributes")

        def put(name: str, values: np.ndarray, unit: str) -> None:
            attributes[name] = values
            attributes[name].attrs["units"] = unit

        put("mass", stars.mass, units["mass"])
        put("stellar_type", stars.kind, "no_system.get('stellar_type')")
        for k, name in enumerate("xyz"):
            put(name, stars.position[:, k], units["length"])
            put(f"v{name}", stars.velocity[:, k], units["speed"])


def test_amuse_with_places(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "stars.hdf5"
    amuse(path, stars)
    (found,) = read_snapshots(path, time=10.0)
    assert_places(found, stars, slice(None), centred=False)
    rows = by_name(found, stars)
    np.testing.assert_array_equal(found.kind[rows], stars.kind)
    with h5py.File(path, "a") as file:
        file["data/0000000001/attributes/x"].attrs["units"] = "nbody_system.get('n-body').base('l')"
    with pytest.raises(MelotteFileError, match=r"x: unit .* convert N-body units"):
        next(read_snapshots(path))
    with h5py.File(path, "a") as file:
        file["data/0000000001/attributes/x"].attrs["units"] = "__import__('os').getcwd()"
    with pytest.raises(MelotteFileError, match="no physical unit"):
        next(read_snapshots(path))


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize(("columns", "header"), [(20, 3), (34, 3), (35, 9), (37, 3)])
def test_petar(tmp_path: Path, stars: Cluster, binary: bool, columns: int, header: int) -> None:
    path = tmp_path / "data.5"
    rows, whole = written.petar_rows(stars, columns)
    head = [5, len(stars), 250.0, *([1.0] * (header - 3))]
    if binary:
        words = rows.copy()
        words.view(np.int64)[:, whole] = rows[:, whole].astype(np.int64)
        first = np.array(head)
        first.view(np.int64)[:2] = head[:2]
        path.write_bytes(first.tobytes() + words.tobytes())
    else:
        lines = [" ".join(str(value) for value in head)]
        lines += [" ".join(f"{value:.17g}" for value in row) for row in rows]
        path.write_text("\n".join(lines) + "\n")
    (found,) = read_snapshots(path, metallicity=-1.0)
    assert found.time == 250.0
    assert len(found) == len(stars)
    assert_places(found, stars, slice(None), centred=False)
    if columns >= 34:
        assert_light(found, stars)
    else:
        assert np.isnan(found.luminosity).all()


@pytest.mark.parametrize("code", ["amuse", "cmc", "petar"])
def test_light_of_a_star_that_was_never_evolved_is_unknown(
    tmp_path: Path, stars: Cluster, code: str
) -> None:
    star = 2 * N_PAIRS
    stars.luminosity[star], stars.radius[star] = 0, 0
    if code == "amuse":
        path = tmp_path / "stars.hdf5"
        amuse(path, stars)
        with h5py.File(path, "a") as file:
            file["data/0000000001/attributes/luminosity"] = stars.luminosity * SOLAR_LUMINOSITY
    elif code == "cmc":
        path = tmp_path / "run.window.snapshots.h5"
        (tmp_path / "run.conv.sh").write_text(written.CONVERSION)
        cmc_hdf5(path, stars)
    else:
        path = tmp_path / "data.0"
        # PeTar does not set L before the first step, and writes what the memory holds.
        stars.luminosity[star] = 7.0
        rows, _ = written.petar_rows(stars, 34)
        lines = [f"0 {len(stars)} 0.0", *(" ".join(f"{one:.17g}" for one in row) for row in rows)]
        path.write_text("\n".join(lines) + "\n")
    (found,) = read_snapshots(path)
    light = found.luminosity[by_name(found, stars)]
    assert np.flatnonzero(np.isnan(light)).tolist() == [star]
    np.testing.assert_allclose(np.delete(light, star), np.delete(stars.luminosity, star), rtol=1e-3)


def test_petar_with_fewer_stars_than_announced(tmp_path: Path, stars: Cluster) -> None:
    rows, _ = written.petar_rows(stars, 20)
    path = tmp_path / "data.1"
    lines = ["1 99 0.0", *(" ".join(f"{value:.8g}" for value in row) for row in rows)]
    path.write_text("\n".join(lines))
    with pytest.raises(MelotteFileError, match=f"announces 99 stars, {N_SINGLE + 6} are there"):
        next(read_snapshots(path))


def test_unknown_formats_and_options_are_refused(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "a.dat.10"
    np.savetxt(path, np.column_stack([stars.mass, stars.position, stars.velocity]))
    with pytest.raises(MelotteValueError, match=r"no format 'mclusters' .*did you mean 'mcluster'"):
        read_snapshots(path, "mclusters")
    with pytest.raises(MelotteValueError, match="take no conversion; allowed: time, metallicity"):
        next(read_snapshots(path, conversion="conv.sh"))
    with pytest.raises(MelotteFileError, match="cannot be read: No such file"):
        next(read_snapshots(tmp_path / "none"))
    with h5py.File(tmp_path / "other.h5", "w") as file:
        file["something"] = 1
    with pytest.raises(MelotteFileError, match="HDF5 file of no known code; it holds something"):
        next(read_snapshots(tmp_path / "other.h5"))
    with pytest.raises(MelotteFileError, match="30 or 40 are needed"):
        next(read_snapshots(path, "mocca"))
    assert set(FORMATS) >= {"nbody6", "nbody6++gpu", "cmc", "mocca", "amuse", "petar", "table"}


def test_an_impossible_star_names_the_file(tmp_path: Path, stars: Cluster) -> None:
    path = tmp_path / "a.dat.10"
    table = np.column_stack([stars.mass, stars.position, stars.velocity])
    table[3, 0] = -1.0
    np.savetxt(path, table)
    with pytest.raises(MelotteFileError, match=r"a\.dat\.10: star 4 .* mass -1\.0"):
        next(read_snapshots(path))


@pytest.fixture(scope="module")
def sound_files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """A small sound file of each layout that is not text."""
    folder, stars = tmp_path_factory.mktemp("sound"), written.cluster()
    written.nbody6_gpu(folder / "gpu", stars, np.zeros(3), True)
    amuse(folder / "amuse", stars)
    (folder / "conv.sh").write_text(written.CONVERSION)
    cmc_hdf5(folder / "cmc", stars)
    petar = np.array([5.0, len(stars), 1.0])
    petar.view(np.int64)[:2] = 5, len(stars)
    rows, _ = written.petar_rows(stars, 20)
    files = {name: (folder / name).read_bytes() for name in ("gpu", "amuse", "cmc")}
    files["OUT3"] = written.nbody6(stars, np.zeros(3), 1.0)
    files["petar"] = petar.tobytes() + rows.tobytes()
    return files


@pytest.mark.parametrize("name", ["gpu", "amuse", "cmc", "OUT3", "petar"])
def test_damaged_files_are_refused_in_one_line(
    tmp_path: Path, sound_files: dict[str, bytes], name: str
) -> None:
    path, generator = tmp_path / "damaged", np.random.default_rng(11)
    (tmp_path / "conv.sh").write_text(written.CONVERSION)
    messages = []
    for _ in range(40):
        content = bytearray(sound_files[name])
        for place in generator.integers(0, len(content), 4):
            content[place] = generator.integers(0, 256)
        path.write_bytes(bytes(content[: generator.integers(len(content) // 2, len(content) + 1)]))
        try:
            for found in read_snapshots(path):
                assert len(found) > 0
        except MelotteError as error:
            messages.append(str(error))
    assert len(messages) > 10
    assert all(len(message.splitlines()) == 1 for message in messages)
