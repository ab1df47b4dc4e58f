"""Families: the ranges that runs begin in, and what may be changed of them."""

import numpy as np
import pytest

pytest.importorskip("numba")

from melotte.errors import MelotteValueError
from melotte.sky.imf import Kroupa2001
from melotte.sky.monte_carlo.equilibria import King, Plummer
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
    ("test", {"highest_mass": "500"}, "150"),
])  # fmt: skip
def test_impossible_families_are_refused(name, changes, message):
    with pytest.raises(MelotteValueError, match=message):
        family_of(name, changes)
