"""From a simulation's catalogue to a bank and a trained model, on a box that the tests make."""

from __future__ import annotations

import json

import h5py
import numpy as np
import pytest
import torch
from astropy.table import Table

import melotte
from melotte import api
from melotte.cli import main
from melotte.engine.bank_checks import check_bank
from melotte.engine.bank_reading import BankReader
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.sky.cosmology import Cosmology
from melotte.sky.phase_space import Dynamics, PhaseSpace
from melotte.systems.galaxy_cluster import simulated_clusters
from melotte.systems.galaxy_cluster.settings import DataSettings
from melotte.systems.galaxy_cluster.simulation_catalogues import (
    CatalogueSettings,
    read_catalogue,
)
from melotte.telescope.view_counts import view_weights

SIZE = 120.0
N_VIEWS = 400
REDSHIFT = 0.117
PRESET = """
name: box
system: galaxy-cluster
data: {redshift: 0.117, apertures: [medium], log_stellar_mass_limit: 9.5}
model: {width: 16, features: 16, blocks: 1, attention_seeds: 2}
training:
  {batch_size: 32, max_epochs: 3, precision: 32, validation_fraction: 0.2, warmup_batches: 0}
"""
SURVEY = (
    "data.apertures=[small, medium, large]",
    "data.log_stellar_mass_limit=[9.5, 10.2]",
    "data.completeness=[0.4, 1.0]",
    "data.redshift_error=[0, 100]",
    "data.centring_error=0.03",
    "data.velocity_centre=galaxies",
)
FEW = ("training.reference_size=400", "training.metrics_size=300")
"""Mocks that a model is finished on."""


def simulation(n_hosts: int = 40, seed: int = 3) -> dict[str, np.ndarray]:
    """Hosts of falling mass function with NFW satellites, and galaxies of lighter haloes."""
    rng = np.random.default_rng(seed)
    generator = torch.Generator().manual_seed(seed)
    log_mass = 13.7 + np.minimum(rng.exponential(0.4, n_hosts), 1.5)
    centre = rng.uniform(0, SIZE, (n_hosts, 3))
    # One host sits on a corner of the box: its satellites are on all its sides.
    centre[0] = 0.02
    moving = rng.normal(0, 300, (n_hosts, 3))
    counts = torch.from_numpy(rng.poisson(45 * 10 ** (0.9 * (log_mass - 14))))
    space = PhaseSpace(Dynamics(), Cosmology())
    mass = torch.from_numpy(log_mass).float()
    haloes = space.haloes(mass, torch.full_like(mass, REDSHIFT), generator)
    position, velocity, _ = space.members(haloes, counts, torch.zeros(n_hosts), generator)
    owner = np.repeat(np.arange(n_hosts), counts.numpy())
    n_field = 1500
    lone = rng.uniform(0, SIZE, (n_field, 3))
    n_satellites = len(owner)
    rows = {
        "id": np.arange(n_hosts + n_satellites + n_field) + 10**12,
        "upid": np.concatenate([np.full(n_hosts, -1), 10**12 + owner, np.full(n_field, 7)]),
        "m200c": np.concatenate([10**log_mass, np.full(n_satellites + n_field, 1e11)]),
        "obs_sm": 10 ** np.concatenate(
            [np.full(n_hosts, 11.5), 9.5 + rng.exponential(0.3, n_satellites + n_field)]
        ),
    }  # fmt: skip
    where = np.concatenate([centre, centre[owner] + position.numpy(), lone]) % SIZE
    speed = np.concatenate(
        [moving, moving[owner] + velocity.numpy(), rng.normal(0, 300, lone.shape)]
    )
    for i, name in enumerate("xyz"):
        rows[name], rows[f"v{name}"] = where[:, i], speed[:, i]
    return rows


def write_csv(path, rows):
    Table(rows).write(path, format="ascii.csv", overwrite=True)
    return path


def write_npy(path, rows):
    table = np.empty(len(rows["id"]), dtype=[(name, one.dtype) for name, one in rows.items()])
    for name, one in rows.items():
        table[name] = one
    np.save(path, table)
    return path


@pytest.fixture(scope="module")
def rows():
    return simulation()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("simulation")


@pytest.fixture(scope="module")
def catalogue(folder, rows):
    return write_npy(folder / "snapshot.npy", rows)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as caught:
        main([str(word) for word in words])
    return int(caught.value.code or 0)


def simulate(path, output, *words, preset=None, settings=(), n=N_VIEWS):
    written = output.parent / "preset.yaml"
    if preset is None:
        written.write_text(PRESET)
    return run(
        *("simulate", preset or written, *settings, "--catalogue", path, "--box-size", SIZE),
        *("--redshift", REDSHIFT, "-n", n, "-o", output, "--seed", 5, *words),
    )


def everything(path):
    with BankReader(path) as reader:
        return reader.rows(0, len(reader))


@pytest.fixture(scope="module")
def bank(folder, catalogue):
    path = folder / "bank.h5"
    assert simulate(catalogue, path) == 0
    return path


def masses_of(rows) -> dict[int, float]:
    hosts = rows["upid"] == -1
    return dict(zip(rows["id"][hosts].tolist(), np.log10(rows["m200c"][hosts]), strict=True))


def test_the_bank_is_sound_and_carries_its_truth_and_provenance(bank, rows):
    assert check_bank(bank) == []
    batch, truth = everything(bank), masses_of(rows)
    expected = [truth[int(one)] for one in batch.group]
    np.testing.assert_allclose(batch.theta[:, 0], expected, atol=1e-5)
    with h5py.File(bank) as file:
        header = json.loads(str(file.attrs["header"]))["catalogue"]
        assert json.loads(str(file.attrs["preset"]))["catalogue"] == header
    assert header["files"] == ["snapshot.npy"]
    assert header["mass_column"] == "m200c"
    assert header["n_clusters"] == 40
    assert len(header["sha256"]) == 64


def test_cylinders_are_those_of_the_preset(bank):
    data = everything(bank).observation.data
    galaxies = data["galaxies"]
    assert isinstance(galaxies, Ragged)
    assert galaxies.counts.min() >= 11
    assert galaxies.values[:, 0].abs().max() < 2500
    assert galaxies.values[:, 1].max() < 1.6
    assert galaxies.values[:, 3].min() >= 9.5
    assert (data["redshift"] == torch.tensor(REDSHIFT)).all()
    assert (data["log_stellar_mass_limit"] == 9.5).all()


def test_members_are_those_of_the_catalogue(bank, rows):
    batch = everything(bank)
    member = batch.observation.data["is_member"]
    owned = {int(name): int((rows["upid"] == name).sum()) for name in batch.group.unique()}
    inside = torch.zeros(len(batch)).index_add_(0, member.index, member.values[:, 0])
    assert set(member.values[:, 0].unique().tolist()) == {0.0, 1.0}
    for n, name in zip(inside.tolist(), batch.group.tolist(), strict=True):
        # Nearly all satellites lie within the aperture and the velocity cut; none is added.
        assert 0.5 * owned[name] < n <= owned[name]


def test_every_view_of_a_halo_is_in_its_group_and_each_is_another(bank):
    batch = everything(bank)
    galaxies = batch.observation.data["galaxies"]
    views = torch.nonzero(batch.group == batch.group[0])[:, 0]
    assert len(views) > 3
    first, second = (galaxies[int(i)][:, 1].sort().values for i in views[:2])
    assert first.shape != second.shape or not torch.allclose(first, second, atol=1e-3)


def test_the_bank_is_flat_in_log_mass_and_natural_is_not(folder, catalogue, bank, rows):
    truth = np.array(list(masses_of(rows).values()))
    seen = everything(bank).theta[:, 0].double().numpy()
    bins = np.floor((truth - truth.min()) / 0.1 + 1e-9).astype(int)
    occupied = np.unique(bins)
    counts = np.bincount(np.floor((seen - truth.min()) / 0.1 + 1e-4).astype(int))[occupied]
    expected = len(seen) / len(occupied)
    assert counts.sum() == len(seen)
    # 4 sigma of a multinomial draw.
    assert (np.abs(counts - expected) < 4 * np.sqrt(expected)).all()
    natural = folder / "natural.h5"
    assert simulate(catalogue, natural, "--option", "masses=natural") == 0
    mean = everything(natural).theta.mean()
    assert float(mean) == pytest.approx(truth.mean(), abs=4 * truth.std() / np.sqrt(N_VIEWS))
    assert float(mean) < seen.mean() - 0.1


def test_shares_of_mass_bins_are_equal_and_the_most_views_hold():
    rng = np.random.default_rng(1)
    log_mass = 13.5 + np.minimum(rng.exponential(0.25, 3000), 1.6)
    bins = np.floor((log_mass - log_mass.min()) / 0.1).astype(int)
    free = view_weights(log_mass, 1000, most=1e9)
    shares = np.bincount(bins, weights=free)
    np.testing.assert_allclose(shares[shares > 0], 1 / (shares > 0).sum(), rtol=1e-9)
    capped = 1000 * view_weights(log_mass, 1000, most=5)
    assert capped.max() == pytest.approx(5)
    assert capped.sum() == pytest.approx(1000)
    untouched = capped < 4.999
    ratio = (capped / free)[untouched]
    np.testing.assert_allclose(ratio, ratio[0])
    assert ratio[0] > 1000
    np.testing.assert_allclose(view_weights(log_mass, 1000, flat=False), 1 / 3000)
    with pytest.raises(MelotteValueError, match="more than 2 of each"):
        view_weights(log_mass, 6001, most=2)


def test_the_halo_on_the_corner_of_the_box_is_whole(bank, rows):
    batch = everything(bank)
    corner = torch.nonzero(batch.group == 10**12)[:, 0]
    assert len(corner)
    member = batch.observation.data["is_member"].select(corner)
    n_satellites = int((rows["upid"] == 10**12).sum())
    inside = torch.zeros(len(corner)).index_add_(0, member.index, member.values[:, 0])
    # An eighth would be left, were the box not periodic.
    assert inside.min() > 0.5 * n_satellites


def test_a_seed_decides_the_bank_and_shards_make_up_the_whole(folder, catalogue, bank):
    again, other = folder / "again.h5", folder / "other.h5"
    assert simulate(catalogue, again) == 0
    assert simulate(catalogue, other, "--seed", 6) == 0
    one, two, three = (everything(path) for path in (bank, again, other))
    assert torch.equal(
        one.observation.data["galaxies"].values, two.observation.data["galaxies"].values
    )
    assert not torch.equal(one.theta, three.theta)
    for task in (1, 2):
        assert simulate(catalogue, folder / "shard.h5", "--task", task, "--of", 2) == 0
    shards = everything(folder / "shard.h5")
    assert torch.equal(shards.theta, one.theta)


def test_another_catalogue_is_another_bank(folder, catalogue):
    path = folder / "replaced.h5"
    assert simulate(catalogue, path, n=40) == 0
    other = write_npy(folder / "later.npy", simulation(seed=9))
    assert simulate(other, path, n=40) == 0
    with h5py.File(path) as file:
        assert json.loads(str(file.attrs["preset"]))["catalogue"]["files"] == ["later.npy"]


def test_galaxies_and_haloes_from_files_of_their_own(folder, catalogue, rows, bank):
    hosts = rows["upid"] == -1
    haloes = {name: one[hosts] for name, one in rows.items() if name != "obs_sm"}
    haloes["rockstar"] = haloes.pop("m200c")
    galaxies = {name: one for name, one in rows.items() if name != "m200c"}
    galaxies["mvir"] = np.full(len(galaxies["id"]), 1e14)
    path = folder / "two.h5"
    code = simulate(
        write_csv(folder / "haloes.csv", haloes),
        path,
        *("--catalogue", write_npy(folder / "galaxies.npy", galaxies)),
        *("--column", "mass=rockstar"),
    )
    assert code == 0
    assert torch.equal(everything(path).theta, everything(bank).theta)


def test_the_survey_of_the_preset_is_applied(folder, catalogue):
    path = folder / "survey.h5"
    assert simulate(catalogue, path, settings=SURVEY, n=100) == 0
    data = everything(path).observation.data
    assert data["aperture"].unique().tolist() == pytest.approx([1.1, 1.6, 2.3])
    limit = data["log_stellar_mass_limit"]
    galaxies = data["galaxies"]
    assert limit.min() < 9.6
    assert limit.max() > 9.9
    assert (galaxies.values[:, 3] >= limit[galaxies.index]).all()
    assert (galaxies.values[:, 1] < data["aperture"][galaxies.index]).all()
    assert data["completeness"].std() > 0.1


def test_pure_catalogues_hold_all_members_alone(folder, catalogue, rows):
    path = folder / "pure.h5"
    assert simulate(catalogue, path, settings=("data.contaminated=false",), n=100) == 0
    batch = everything(path)
    owned = [int((rows["upid"] == name).sum()) for name in batch.group.tolist()]
    assert batch.observation.data["galaxies"].counts.tolist() == owned
    assert (batch.observation.data["is_member"].values == 1).all()


def test_physical_lengths_shrink_with_the_redshift(folder, catalogue):
    path = folder / "physical.h5"
    settings = ("data.contaminated=false", "data.lengths=physical")
    assert simulate(catalogue, path, settings=settings, n=100) == 0
    comoving = folder / "comoving.h5"
    assert simulate(catalogue, comoving, settings=settings[:1], n=100) == 0
    small, large = (
        everything(one).observation.data["galaxies"].values[:, 1] for one in (path, comoving)
    )
    torch.testing.assert_close(small * (1 + REDSHIFT), large, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def model(folder, bank):
    path, preset = folder / "model.safetensors", folder / "preset.yaml"
    code = run("train", preset, *FEW, "--bank", bank, "-o", path, "--device", "cpu")
    assert code == 0
    return path


def test_a_model_learns_from_the_bank(model, bank):
    loaded = melotte.load(model, "cpu")
    batch = everything(bank)
    result = api.infer_observations(loaded, [batch.observation], progress=False)
    middle = np.asarray(result.table()["log_m200c_50"])
    assert np.corrcoef(middle, batch.theta[:, 0])[0, 1] > 0.5


def test_the_seed_network_trains_from_the_same_bank(folder, bank, catalogue):
    path = folder / "cnn.safetensors"
    fast = (*FEW, "training.max_epochs=1", "data.bins=16", "training.batch_size=100")
    code = run("train", "galaxy-cluster-cnn2d", *fast, "--bank", bank, "-o", path,
               "--device", "cpu")  # fmt: skip
    assert code == 0
    own = folder / "own.h5"
    assert simulate(catalogue, own, preset="galaxy-cluster-cnn2d", n=50) == 0
    assert everything(own).observation.data.keys() == everything(bank).observation.data.keys()


def test_columns_of_galaxies_are_mapped_on_the_command_line(folder, model, rows, capsys):
    rng = np.random.default_rng(2)
    table = Table(
        {"obj": ["a"] * 40, "lon": 150 + rng.normal(0, 0.05, 40), "lat": rng.normal(0, 0.05, 40),
         "best": 0.117 + rng.normal(0, 0.002, 40), "p": rng.uniform(0, 1, 40)}
    )  # fmt: skip
    path, output = folder / "galaxies.csv", folder / "mass.ecsv"
    table.write(path, overwrite=True)
    mapping = ("cluster_id=obj", "ra=lon", "dec=lat", "z=best", "p_mem=p")
    words = [word for pair in mapping for word in ("--column", pair)]
    assert run("infer", model, path, *words, "-o", output, "--device", "cpu") == 0
    assert Table.read(output)["id"].tolist() == ["a"]
    for pair, expected in (
        ("parallax=p", "known: cluster, ra, dec"),
        ("redshift=cz", "z twice|redshift twice"),
        ("weight=wrong", "no such column"),
    ):
        capsys.readouterr()
        out = folder / "none.ecsv"
        assert run("infer", model, path, *words, "--column", pair, "-o", out) == 2
        message = capsys.readouterr().err
        assert len(message.strip().splitlines()) == 1
        assert any(part in message for part in expected.split("|"))
        assert not out.exists()


def without(rows, *names):
    return {name: one for name, one in rows.items() if name not in names}


BAD = {
    "no masses": (lambda r: without(r, "m200c"), (), "no column is M200c"),
    "another mass": (
        lambda r: without(r, "m200c") | {"mvir": r["m200c"]}, (), "--column mass=THEIRS",
    ),
    "no stellar masses": (lambda r: without(r, "obs_sm"), (), "stellar_mass"),
    "no parents": (lambda r: without(r, "upid"), (), "no galaxy has a parent"),
    "box too small": (lambda r: r, ("--box-size", 50), "do not fit a box of 50"),
    "no box": (lambda r: r, ("--box-size", -1), "box_size"),
    "another redshift": (lambda r: r, ("--redshift", 0.4), "redshift 0.4 is outside"),
    "too many views": (lambda r: r, ("-n", 4001), "more than 100 of each"),
    "unknown option": (lambda r: r, ("--option", "mases=flat"), "mases"),
    "unknown column": (lambda r: r, ("--column", "obs=x"), "not a quantity of haloes"),
    "absent column": (lambda r: r, ("--column", "mass=mm"), "no such column"),
    "too shallow": (
        lambda r: r | {"obs_sm": 10 * r["obs_sm"]}, (), "the lightest above it is 10.5",
    ),
    "light haloes": (lambda r: r | {"m200c": r["m200c"] / 1e6}, (), "no halo without a parent"),
    "strangers": (lambda r: r | {"upid": np.where(r["upid"] > 0, 5, -1)}, (), "no galaxy's parent"),
    "twins": (
        lambda r: r | {"id": np.where(r["upid"] < 0, 10**12, r["id"])}, (), "more than once",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_one_line_and_writes_nothing(case, rows, tmp_path, capsys):
    change, words, expected = BAD[case]
    path = write_npy(tmp_path / "bad.npy", change(rows))
    output = tmp_path / "bank.h5"
    assert simulate(path, output, *words, n=100) == 2
    message = capsys.readouterr().err
    assert len(message.strip().splitlines()) == 1
    assert expected in message
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bad.npy", "preset.yaml"]


def test_catalogues_are_for_galaxy_clusters_and_need_their_redshift(catalogue, tmp_path, capsys):
    words = ("--catalogue", catalogue, "--box-size", SIZE, "-o", tmp_path / "b.h5")
    assert run("simulate", "open-cluster", *words) == 2
    assert "are for galaxy clusters" in capsys.readouterr().err
    several = "data.redshift=[0.05, 0.2]"
    assert run("simulate", "galaxy-cluster", several, *words) == 2
    assert "--redshift" in capsys.readouterr().err
    assert run("simulate", "galaxy-cluster", "--box-size", 3, "-o", tmp_path / "b.h5") == 2
    assert not list(tmp_path.iterdir())


def test_haloes_too_poor_for_the_preset_end_the_work(rows, tmp_path, monkeypatch):
    monkeypatch.setattr(simulated_clusters, "MOST_ROUNDS", 4)
    data = DataSettings(least_galaxies=5000)
    settings = CatalogueSettings(box_size=SIZE)
    found = read_catalogue([write_npy(tmp_path / "s.npy", rows)], settings, data)
    weights = view_weights(found.log_mass, 2)
    simulator = simulated_clusters.CatalogueSimulator(data, found, weights)
    with pytest.raises(MelotteValueError, match="least_galaxies 5000"):
        simulator.draw(1, torch.Generator().manual_seed(1))
