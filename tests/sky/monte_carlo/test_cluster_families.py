"""Families: the ranges that runs begin in, and what may be changed of them."""

import re
from dataclasses import fields
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("numba")

from melotte.errors import MelotteValueError
from melotte.sky.imf import Kroupa2001
from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.evolution import ClusterEvolution
from melotte.sky.monte_carlo.families import FAMILIES, family_of


def test_runs_of_a_family_fill_its_ranges():
    family = FAMILIES["training"]
    models = [family.model(number, 0) for number in range(1, 201)]
    n_stars = np.array([model.n_stars for model in models])
    assert 2e4 <= n_stars.min() < 2.2e4
    assert 1.1e5 < n_stars.max() <= 1.2e5
    sizes = [model.equilibrium.half_mass_radius for model in models]
    assert 1 <= min(sizes) < 1.1
    assert 7 < max(sizes) <= 8
    assert all(isinstance(model.equilibrium, King) for model in models)
    assert len({model.seed for model in models}) == 200
    assert family.model(7, 0) == models[6]
    assert family.model(7, 1) != models[6]


def test_no_cluster_fills_its_tidal_radius():
    family = FAMILIES["training"]
    for number in range(1, 101):
        model = family.model(number, 0)
        mass = model.n_stars * Kroupa2001(0.1, family.highest_mass).mean_mass
        limit = max(0.1 * model.orbit.tidal_radius(mass), 1.0)
        assert 1 <= model.equilibrium.half_mass_radius <= limit * (1 + 1e-12)


def test_families_share_no_cluster():
    ours = [
        FAMILIES[name].model(number, 3) for name in ("training", "test") for number in (1, 2, 3)
    ]
    assert len({model.n_stars for model in ours}) == 6


def test_the_papers_clusters():
    first, second = (FAMILIES["pidoc-training"].model(number, 0) for number in (1, 2))
    assert (first.n_stars, second.n_stars) == (50_000, 50_000)
    assert first.equilibrium == Plummer(1.6)
    assert second.equilibrium == Plummer(4.0)
    assert first.orbit.radius == pytest.approx(15)
    assert len(FAMILIES["pidoc-test"].times) == 1000


def test_settings_change_a_family():
    family = family_of(
        "pidoc-test", {"n_stars": "2e4", "half_mass_radius": "1,2", "snapshots": "3"}
    )
    model = family.model(1, 0)
    assert model.n_stars == 20_000
    assert 1 <= model.equilibrium.half_mass_radius <= 2
    assert family.times == (14.0, 7007.0, 14_000.0)


@pytest.mark.parametrize(("name", "changes", "message"), [
    ("trainig", {}, "training"),
    ("test", {"n_star": "1e4"}, "n_stars"),
    ("test", {"n_stars": "many"}, "number"),
    ("test", {"n_stars": "1,2,3"}, "low,high"),
    ("test", {"n_stars": "10"}, r"within \[1000"),
    ("test", {"filling": "0"}, "above 0"),
    ("test", {"metallicity": "0,-1"}, "must rise"),
    ("test", {"until": "1,2"}, "one number"),
    ("test", {"until": "10"}, "must rise"),
    ("test", {"first_snapshot": "0"}, r"within \[0.1"),
    ("test", {"snapshots": "0"}, "at least 1"),
    ("test", {"until": "60"}, r"first_snapshot=300, until=60: must rise within \[0.1, 15000\] Myr"),
    ("test", {"until": "0.05", "snapshots": "1"}, "first_snapshot=0.05, until=0.05"),
    ("test", {"snapshots": "1e300"}, "at most 100000"),
    ("test", {"snapshots": "nan"}, "snapshots=nan: must be a whole number"),
    ("test", {"snapshots": "inf"}, "snapshots=inf: must be a whole number"),
    ("test", {"snapshots": "2.7"}, "snapshots=2.7: must be a whole number"),
    ("test", {"highest_mass": "500"}, "150"),
    ("test", {"lowest_mass": "0.07"}, r"lowest_mass=0.07: must be in \[0.08, 0.5\] Msun"),
    ("test", {"lowest_mass": "0.6"}, r"must be in \[0.08, 0.5\] Msun"),
    ("test", {"lowest_mass": "0.1,0.2"}, "one number"),
    ("test", {"sizes": "0.5,2000"}, r"sizes=2000: must be in \[0.05, 100\] pc"),
    ("test", {"sizes": "0.01"}, r"sizes=0.01: must be in"),
    ("test", {"central_potential": "0,8"}, r"=0,8: must rise within \[1, 12\], or be 0"),
    ("test", {"central_potential": "0.5"}, "Plummer's model"),
    ("test", {"central_potential": "8,3"}, "must rise"),
    ("test", {"central_potential": "3,13"}, "must rise"),
    ("test", {"black_holes": "some"}, "'fallback', 'none' or 'all'"),
])  # fmt: skip
def test_impossible_families_are_refused(name, changes, message):
    with pytest.raises(MelotteValueError, match=message) as refused:
        family_of(name, changes)
    assert "\n" not in str(refused.value)


def test_a_single_snapshot_is_taken_at_the_end():
    family = family_of("test", {"until": "60", "snapshots": "1"})
    assert family.times == (60.0,)


@pytest.mark.parametrize(
    "setting", [one.name for one in fields(FAMILIES["test"]) if one.name not in ("name", "stream")]
)
def test_no_setting_takes_nan(setting):
    single = ("until", "first_snapshot", "lowest_mass", "highest_mass", "snapshots", "filling")
    several = setting not in single
    for text in ("nan", "nan,nan", "nan,5", "5,nan") if several else ("nan",):
        with pytest.raises(MelotteValueError, match="nan"):
            family_of("test", {setting: text})


def test_the_lowest_mass_bounds_the_stars_and_the_mean_that_sizes_follow():
    family = FAMILIES["training"]
    assert family.lowest_mass == 0.1
    heavy = family_of("training", {"lowest_mass": "0.5", "n_stars": "1e3", "galactic_radius": "5"})
    light = family_of("training", {"lowest_mass": "0.08", "n_stars": "1e3", "galactic_radius": "5"})
    models = [one.model(1, 0) for one in (heavy, light)]
    assert [model.lowest_mass for model in models] == [0.5, 0.08]
    least = [ClusterEvolution(model).initial_mass.min() for model in models]
    assert 0.5 <= least[0] < 0.51
    assert 0.08 <= least[1] < 0.085
    # Heavier clusters have wider tidal radii, which end the range of sizes.
    largest = [
        max(one.model(number, 0).equilibrium.half_mass_radius for number in range(1, 200))
        for one in (heavy, light)
    ]
    assert largest[0] > largest[1]


def test_the_pages_table_has_every_setting_with_its_default():
    page = (Path(__file__).parents[3] / "docs" / "physics" / "globulars.md").read_text("utf-8")
    rows = dict(re.findall(r"^\| `(\w+)` \|(.*)\|$", page, re.M))
    settings = {one.name for one in fields(FAMILIES["test"])} - {"name", "stream"}
    assert set(rows) == settings
    for name in ("until", "lowest_mass", "highest_mass", "snapshots", "first_snapshot"):
        default = rows[name].split("|")[-1]
        shown = default.partition(";")[0].strip().replace(",", "")
        assert shown == f"{getattr(FAMILIES['test'], name):g}", name


def test_depths_of_king_models_or_none():
    shapes = {
        text: family_of("test", {"central_potential": text}).model(1, 0).equilibrium
        for text in ("0", "0,0", "1,12")
    }
    assert isinstance(shapes["0"], Plummer)
    assert shapes["0,0"] == shapes["0"]
    assert isinstance(shapes["1,12"], King)


def test_one_snapshot_is_the_last():
    changes = {"snapshots": "1", "first_snapshot": "1", "until": "5"}
    assert family_of("test", changes).times == (5.0,)
    assert family_of("test", {**changes, "snapshots": "2.0"}).times == (1.0, 5.0)
