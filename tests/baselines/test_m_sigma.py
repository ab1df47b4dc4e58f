"""Interloper removals on planted interlopers, and the mass-dispersion relation."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from melotte.baselines.interloper_removal import (
    CleanSettings,
    clean,
    members_after,
    shifting_gapper,
    three_sigma,
    virial_radius,
)
from melotte.baselines.m_sigma import PUBLISHED, MSigma, Relation
from melotte.baselines.nfw_dispersion import line_of_sight_dispersion
from melotte.baselines.velocity_dispersion import velocity_dispersions
from melotte.errors import MelotteValueError

REMOVALS = ("three_sigma", "shifting_gapper", "clean")


def halo_profile(radius: np.ndarray, scale_radius: float = 0.35) -> np.ndarray:
    """Dispersion at projected radii over its typical one, in an NFW halo."""
    return line_of_sight_dispersion(radius / scale_radius) / 0.3


def planted(seed: int, sigma: float = 700.0, n: int = 120, n_field: int = 12):
    """Velocity, radius and membership of a cluster with infalling groups far in velocity."""
    rng = np.random.default_rng(seed)
    radius = np.minimum(0.5 * rng.exponential(size=n), 1.6)
    velocity = sigma * halo_profile(radius) * rng.normal(size=n)
    far = rng.choice([-1, 1], n_field) * rng.uniform(4.5 * sigma, 6.5 * sigma, n_field)
    return (
        np.concatenate([velocity, far]),
        np.concatenate([radius, rng.uniform(0.5, 1.6, n_field)]),
        np.arange(n + n_field) < n,
    )


@pytest.mark.parametrize("removal", REMOVALS)
def test_planted_interlopers_go_and_members_stay(removal):
    lost, left, n = 0, 0, 0
    for seed in range(20):
        velocity, radius, member = planted(seed)
        kept = members_after(removal, velocity, radius, [0, len(velocity)], 0.1)
        lost += int((member & ~kept).sum())
        left += int((~member & kept).sum())
        n += int(member.sum())
    assert left <= 0.1 * 20 * 12
    assert lost <= 0.03 * n


@pytest.mark.parametrize("removal", REMOVALS)
def test_removal_brings_the_dispersion_back(removal):
    velocity, radius, _ = planted(1)
    kept = members_after(removal, velocity, radius, [0, len(velocity)], 0.1)
    assert velocity.std() > 1.5 * 700
    assert velocity[kept].std() == pytest.approx(700, rel=0.15)


@pytest.mark.parametrize("removal", REMOVALS)
def test_removal_ignores_order_and_the_sign_of_velocities(removal):
    velocity, radius, _ = planted(2)
    offsets = [0, len(velocity)]
    kept = members_after(removal, velocity, radius, offsets, 0.1)
    order = np.random.default_rng(3).permutation(len(velocity))
    shuffled = members_after(removal, velocity[order], radius[order], offsets, 0.1)
    np.testing.assert_array_equal(shuffled, kept[order])
    np.testing.assert_array_equal(members_after(removal, -velocity, radius, offsets, 0.1), kept)


def test_three_sigma_cuts_in_rounds():
    rng = np.random.default_rng(4)
    velocity = np.concatenate([rng.normal(0, 300, 100), [1800.0, 9000.0]])
    once = np.abs(velocity - velocity.mean()) <= 3 * velocity.std()
    assert once[-2]
    assert three_sigma(velocity)[-2:].tolist() == [False, False]


def test_the_gap_is_looked_for_at_like_radii():
    """A galaxy within the spread of the core but off the body at its radius is cut."""
    rng = np.random.default_rng(5)
    core, outskirts = rng.normal(0, 1000, 60), rng.normal(0, 150, 20)
    velocity = np.concatenate([core, outskirts, [1700.0]])
    radius = np.concatenate([rng.uniform(0, 0.39, 60), rng.uniform(1.0, 1.3, 20), [1.15]])
    assert not shifting_gapper(velocity, radius)[-1]
    assert shifting_gapper(velocity, np.full(len(radius), 0.2))[-1]


def test_the_clean_envelope_narrows_outwards():
    velocity, radius, _ = planted(6, n=300, n_field=0)
    at = 1.9 * 700
    inner = clean(np.append(velocity, at), np.append(radius, 0.05), 0.1)
    outer = clean(np.append(velocity, at), np.append(radius, 40.0), 0.1)
    assert inner[-1]
    assert not outer[-1]
    wide = clean(np.append(velocity, at), np.append(radius, 40.0), 0.1, CleanSettings(n_sigma=6))
    assert wide[-1]


def test_the_virial_radius_of_a_dispersion():
    """sigma = 1000 km/s is close to 10^15 Msun/h (Evrard et al. 2008: 1083 km/s)."""
    r200, concentration = virial_radius(1082.9, 3.0, 0.0, 0.3)
    log_mass = np.log10(100 * 100.0**2 * r200**3 / 4.300917e-9)
    assert log_mass == pytest.approx(15.0, abs=0.06)
    assert 3 < concentration < 5


def test_few_galaxies_pass_through():
    for removal in ("none", *REMOVALS):
        kept = members_after(removal, [0.0, 5000.0], [0.1, 0.2], [0, 0, 2], 0.1)
        assert kept.all()
    with pytest.raises(MelotteValueError, match="removal 'caustic' is not one of"):
        members_after("caustic", [0.0], [0.1], [0, 1], 0.1)  # pyright: ignore


def population(relation: Relation, n: int, seed: int):
    rng = np.random.default_rng(seed)
    log_mass = rng.uniform(13.5, 15.3, n)
    counts = rng.integers(40, 200, n)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    log_sigma = relation.log_sigma15 + relation.slope * (log_mass - 15)
    log_sigma = log_sigma + rng.normal(0, relation.scatter, n)
    velocity = rng.normal(size=offsets[-1]) * np.repeat(10**log_sigma, counts)
    return velocity, np.full(offsets[-1], 0.4), offsets, log_mass


def test_a_planted_relation_is_recovered_and_inverted():
    planted_relation = Relation(0.366, 3.036, 0.05)
    velocity, radius, offsets, log_mass = population(planted_relation, 1500, 11)
    model = MSigma().fit(velocity, radius, offsets, log_mass)
    assert model.relation is not None
    assert model.relation.slope == pytest.approx(0.366, abs=4 * 0.066 / np.sqrt(1500) / 0.52)
    assert model.relation.log_sigma15 == pytest.approx(3.036, abs=0.02)
    assert model.relation.scatter == pytest.approx(np.hypot(0.05, 0.045), abs=0.01)
    error = model.predict(velocity, radius, offsets) - log_mass
    assert error.std() == pytest.approx(model.relation.scatter / model.relation.slope, rel=0.02)


def test_published_relations_without_a_fit():
    velocity = np.array([-1087.0, 1087.0])
    predicted = MSigma(relation=PUBLISHED["pure"]).predict(velocity, np.ones(2), [0, 2])
    assert predicted[0] == pytest.approx(15.0, abs=0.002)
    with pytest.raises(MelotteValueError, match="fit the relation"):
        MSigma().predict(velocity, np.ones(2), [0, 2])


def test_removal_improves_masses_of_contaminated_clusters():
    clean_v, clean_r, offsets, log_mass = population(PUBLISHED["pure"], 300, 12)
    rng = np.random.default_rng(13)
    velocity, radius, counts = [], [], []
    for a, b in pairwise(offsets):
        extra = rng.poisson(6)
        velocity += [clean_v[a:b], rng.uniform(-2500, 2500, extra)]
        radius += [clean_r[a:b], 1.6 * np.sqrt(rng.uniform(size=extra))]
        counts.append(b - a + extra)
    v, r = np.concatenate(velocity), np.concatenate(radius)
    o = np.concatenate([[0], np.cumsum(counts)])
    scatter = {
        removal: float(
            (MSigma(removal=removal).fit(v, r, o, log_mass).predict(v, r, o) - log_mass).std()
        )
        for removal in ("none", "three_sigma", "clean")
    }
    assert scatter["three_sigma"] < 0.9 * scatter["none"]
    assert scatter["clean"] < 0.9 * scatter["none"]


def test_real_coma_stays_where_the_literature_has_it(shared_data):
    from melotte.io.galaxy_lists import GalaxyList
    from melotte.io.galaxy_members import read_galaxies

    path = shared_data / "galaxycluster" / "rcausticmass_coma_sample.txt"
    (coma,) = read_galaxies(path)
    assert isinstance(coma, GalaxyList)
    offsets = [0, coma.n_galaxies]
    kept = members_after("clean", coma.velocity, coma.radius, offsets, coma.redshift)
    assert kept.sum() > 0.97 * coma.n_galaxies
    sigma = velocity_dispersions(coma.velocity, offsets, "biweight", keep=kept)[0]
    assert 850 < sigma < 1010
