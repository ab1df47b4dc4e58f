"""Clusters in time: energy, collapse, stars that die, tides, and runs that resume."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("numba")

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.sky.monte_carlo.binaries import HEAT
from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.evolution import ClusterEvolution, ClusterModel
from melotte.sky.monte_carlo.mergers import inspiral_time, merge_inspiralling, recoil_speed
from melotte.sky.monte_carlo.snapshots import (
    model_of,
    model_values,
    read_checkpoint,
    snapshot_of,
    write_checkpoint,
)
from melotte.sky.monte_carlo.stellar_life import event_times
from melotte.sky.monte_carlo.supernovae import kick
from melotte.sky.monte_carlo.tides import CircularOrbit, escape_times
from melotte.sky.monte_carlo.units import GRAVITY, PC_PER_MYR


def evolve(cluster, until, times=()):
    return list(cluster.run(until, times))


def equal_stars(n, **changes):
    given = {
        "stellar_evolution": False, "binaries": False, "coulomb_factor": 0.11, "seed": 2, **changes
    }  # fmt: skip
    return ClusterModel(n, Plummer(1.0), **given)


def half_mass_relaxation_time(n, mass, coulomb_factor):
    """Spitzer's, Myr, of n stars within a half-mass radius of 1 pc."""
    return 0.138 * n / np.sqrt(GRAVITY * mass) / PC_PER_MYR / np.log(coulomb_factor * n)


def test_heavy_stars_sink():
    n = 4000
    masses = np.where(np.random.default_rng(1).random(n) < 0.1, 5.0, 1.0)
    cluster = ClusterEvolution(equal_stars(n, coulomb_factor=0.02), masses)
    evolve(cluster, half_mass_relaxation_time(n, masses.sum(), 0.02))
    heavy = cluster.stars[0, cluster.names[: cluster.n]] > 2
    radius = cluster.shells[0, : cluster.n]
    assert np.median(radius[heavy]) < 0.6 * np.median(radius[~heavy])
    assert abs(cluster.energy_error) < 1e-3


def test_equal_stars_collapse_when_the_literature_says_and_binaries_stop_it():
    n = 2000
    cluster = ClusterEvolution(equal_stars(n, binaries=True), np.ones(n))
    relaxation = half_mass_relaxation_time(n, n, 0.11)
    start = cluster.lagrangian_radii([0.01])[0]
    collapse = None
    for time in cluster.run(30 * relaxation, relaxation * np.arange(1, 61) / 2):
        if collapse is None and cluster.ledger[HEAT] > 0:
            collapse = time / relaxation
    # Literature: 15 to 18 (Spitzer 1987; Joshi et al. 2000). The first binary of so few stars
    # comes at 16 on average, with a scatter of 3 from seed to seed.
    assert collapse is not None
    assert 10 < collapse < 22
    inner = np.array(cluster.history.lagrangian_radii)[:, 0]
    assert inner.min() < start / 4
    assert cluster.history.lagrangian_radii[-1][2] > 1.3
    assert abs(cluster.energy_error) < 0.02
    radius, radial, tangential, mass = cluster.shells[:, : cluster.n]
    pairs = GRAVITY * mass[:, None] * mass[None] / np.maximum(radius[:, None], radius[None])
    np.fill_diagonal(pairs, 0)
    # In virial equilibrium throughout.
    kinetic = (mass * (radial**2 + tangential**2)).sum()
    assert kinetic / (0.5 * pairs.sum()) == pytest.approx(1, abs=0.1)


@pytest.fixture(scope="module")
def small_cluster():
    """Two thousand stars over 300 Myr with everything switched on."""
    model = ClusterModel(2000, Plummer(1.5), metallicity=-1.0, orbit=CircularOrbit(8.0), seed=5)
    cluster = ClusterEvolution(model)
    times = evolve(cluster, 300.0, [20.0, 300.0])
    return cluster, times


def test_dying_stars_take_mass_away_and_leave_remnants(small_cluster):
    cluster, times = small_cluster
    assert times == [20.0, 300.0]
    held = cluster.held_stars()
    dead = held & (cluster.kind >= 10)
    # At 300 Myr stars above 2.9 to 3.3 Msun are dead.
    assert cluster.initial_mass[dead].min() == pytest.approx(3.1, abs=0.3)
    white_dwarfs = held & (cluster.kind >= 10) & (cluster.kind <= 12)
    assert cluster.stars[0, white_dwarfs].max() < 1.4
    assert white_dwarfs.sum() > 10
    alone = ClusterEvolution(cluster.model)
    assert alone.total_mass == pytest.approx(cluster.initial_mass.sum())
    assert cluster.total_mass < 0.85 * alone.total_mass
    # Six seeds: 0.001 to 0.014, of black holes that change shells as binaries exchange them.
    assert abs(cluster.energy_error) < 0.02


def test_the_same_seed_gives_the_same_cluster(small_cluster):
    cluster, _ = small_cluster
    again = ClusterEvolution(cluster.model)
    evolve(again, 300.0, [20.0, 300.0])
    assert again.n == cluster.n
    assert np.array_equal(again.shells[:, : again.n], cluster.shells[:, : cluster.n])
    assert np.array_equal(again.names[: again.n], cluster.names[: cluster.n])


def test_a_run_goes_on_from_its_checkpoint(small_cluster, tmp_path):
    cluster, _ = small_cluster
    begun = ClusterEvolution(cluster.model)
    run = begun.run(300.0, [20.0, 300.0])
    assert next(run) == 20.0
    write_checkpoint(tmp_path / "run.h5", begun)
    resumed = read_checkpoint(tmp_path / "run.h5")
    assert evolve(resumed, 300.0, [20.0, 300.0]) == [300.0]
    assert np.array_equal(resumed.shells[:, : resumed.n], cluster.shells[:, : cluster.n])
    assert resumed.history == cluster.history
    assert resumed.energy_error == cluster.energy_error
    (tmp_path / "other.h5").write_text("text")
    with pytest.raises(MelotteFileError, match="not a checkpoint"):
        read_checkpoint(tmp_path / "other.h5")


def test_a_snapshot_holds_every_star_once(small_cluster):
    cluster, _ = small_cluster
    snapshot = snapshot_of(cluster)
    assert snapshot.total_mass == pytest.approx(cluster.total_mass)
    assert len(np.unique(snapshot.ids)) == len(snapshot)
    assert len(snapshot) == cluster.held_stars().sum()
    shining = snapshot.kind < 10
    assert np.isfinite(snapshot.magnitude_v[shining]).all()
    assert snapshot.half_mass_radius == pytest.approx(cluster.lagrangian_radii([0.5])[0], rel=0.02)
    assert model_of(snapshot.provenance["model"]) == cluster.model


@pytest.mark.parametrize("model", [
    ClusterModel(1000, King(2.0, 6.0)),
    ClusterModel(1000, Plummer(2.0), orbit=CircularOrbit(5.0, 200.0, "point"), black_holes="none"),
])  # fmt: skip
def test_models_survive_json(model):
    import json

    assert model_of(json.loads(json.dumps(model_values(model)))) == model


def test_the_tide_of_a_point_mass_is_hills():
    orbit = CircularOrbit(8.0, 220.0, "point")
    galaxy = (220.0**2) * 8000 / GRAVITY
    exact = 8000 * (1e4 / (3 * galaxy)) ** (1 / 3)
    assert orbit.tidal_radius(1e4) == pytest.approx(exact)
    omega = 220 / 8000
    # Hill's problem: in-plane frequency^2 of sqrt(28) - 1, vertical of 4, in units of Omega^2.
    expected = np.sqrt(np.sqrt(28) - 1) * 2 * omega**2
    assert orbit.neck_frequencies() == pytest.approx(expected)
    flat = CircularOrbit(8.0, 220.0)
    assert flat.tidal_radius(1e4) == pytest.approx(exact * 1.5 ** (1 / 3))


def test_stars_just_above_the_critical_energy_stay_long():
    n = 1000
    generator = np.random.default_rng(1)
    begin = Plummer(1.0).draw(n, 1000.0, generator)
    order = np.argsort(begin[0])
    shells = np.ascontiguousarray(np.vstack([begin, np.ones(n)])[:, order])
    larger = np.maximum(shells[0][:, None], shells[0][None])
    potential = -GRAVITY * (1 / larger).sum(1)
    orbit = CircularOrbit(8.0)
    critical = -1.5 * GRAVITY * 1000 / orbit.tidal_radius(1000.0)
    excess = np.linspace(-0.2, 0.3, n) * abs(critical)
    shells[1] = 0.0
    energy = np.maximum(critical + excess - potential - GRAVITY / shells[0], 0)
    shells[2] = np.sqrt(2 * energy)
    times = np.empty(n)
    escape_times(
        shells, n, 0.0, potential, 1000.0, orbit.tidal_radius(1000.0), orbit.neck_frequencies(),
        times,
    )  # fmt: skip
    above = (excess > 0.01 * abs(critical)) & (energy > 0)
    assert above.sum() > 300
    assert np.isinf(times[excess < -0.01 * abs(critical)]).all()
    product = times[above] * (excess[above] / abs(critical)) ** 2
    assert product.std() / product.mean() < 1e-6
    # Fukushige & Heggie 2000: of the order of a tenth to one over the angular speed.
    angular = orbit.angular_speed * PC_PER_MYR
    assert 0.03 < product.mean() * angular < 1


def test_a_filled_cluster_loses_stars_faster():
    lost = []
    for size in (0.5, 3.0):
        model = ClusterModel(
            2000, King(size, 5.0), orbit=CircularOrbit(4.0), stellar_evolution=False, seed=3
        )
        cluster = ClusterEvolution(model, np.ones(2000))
        evolve(cluster, 60.0)
        lost.append(1 - cluster.total_mass / 2000)
    assert lost[1] > 0.05
    assert lost[1] > 3 * lost[0]


def test_kicks_free_stars_from_binaries():
    model = ClusterModel(1000, Plummer(1.0), stellar_evolution=False)
    cluster = ClusterEvolution(model)
    first, second, alone = (int(name) for name in cluster.names[[3, 4, 10]])
    cluster.companion[first] = second
    cluster.stars[1, first] = 50.0
    kept = np.ones(cluster.n, dtype=bool)
    kept[4] = False
    cluster.keep(kept)
    speeds = np.zeros(1000)
    speeds[second], speeds[alone] = 500.0, np.inf
    before = cluster.shells[1:3, 3].copy()
    kick(cluster, np.array([second, alone]), speeds, np.random.default_rng(1))
    assert cluster.companion[first] == -1
    assert cluster.n == 1000
    assert sorted(cluster.names[: cluster.n].tolist()) == list(range(1000))
    place = cluster.names.tolist().index(second)
    assert np.hypot(*cluster.shells[1:3, place]) > 400
    assert np.array_equal(cluster.shells[1:3, cluster.names.tolist().index(first)], before)
    assert cluster.stars[0, alone] == 0


def test_a_weak_kick_leaves_a_hard_binary_bound():
    cluster = ClusterEvolution(ClusterModel(1000, Plummer(1.0), stellar_evolution=False))
    first, second = (int(name) for name in cluster.names[[3, 4]])
    cluster.companion[first] = second
    cluster.stars[1, first] = 1.0
    speeds = np.zeros(1000)
    speeds[first] = 0.5
    kick(cluster, np.array([first]), speeds, np.random.default_rng(1))
    assert cluster.companion[first] == second
    assert cluster.n == 1000


def paired_cluster(semi_major, masses=(1.0, 1.0)):
    """A thousand stars, those of shells 3 and 4 bound to each other in shell 3; their names."""
    cluster = ClusterEvolution(ClusterModel(1000, Plummer(1.0), stellar_evolution=False))
    first, second = (int(name) for name in cluster.names[[3, 4]])
    cluster.stars[0, [first, second]] = masses
    cluster.companion[first] = second
    cluster.stars[1, first] = semi_major
    cluster.keep(np.arange(cluster.n) != 4)
    cluster._weigh()
    return cluster, first, second


def test_an_explosion_of_half_the_mass_unbinds_a_circular_orbit():
    # Blaauw 1961: more than half of the total breaks it, less widens it by M' / (2 M' - M).
    for left, axis in ((4.0, None), (14.0, 10 * 24 / (2 * 24 - 30))):
        cluster, first, second = paired_cluster(10.0, (20.0, 10.0))
        before = cluster.stars[0].copy()
        cluster.stars[0, first] = left
        speed = cluster.shells[1:3, 3].copy()
        kick(cluster, np.array([first]), np.zeros(1000), np.random.default_rng(1), before)
        if axis is None:
            assert cluster.companion[first] == -1
            assert cluster.n == 1000
        else:
            assert cluster.companion[first] == second
            assert cluster.stars[1, first] == pytest.approx(axis)
            # Its centre recoils with at most the momentum of the mass that left.
            orbital = np.sqrt(GRAVITY * 30 / (10 * 4.848136811e-6))
            gained = np.hypot(*cluster.shells[1:3, 3]) - np.hypot(*speed)
            assert 0 < abs(gained) <= 6 / 24 * 10 / 30 * orbital


def test_orbits_widen_as_their_stars_lose_mass():
    cluster, first, _ = paired_cluster(10.0, (3.0, 1.0))
    later = cluster.stars[0].copy()
    later[first] = 1.0
    cluster._lives = SimpleNamespace(at=lambda age: (later, cluster.kind))  # pyright: ignore
    cluster._evolve_stars()
    assert cluster.stars[1, first] == pytest.approx(20)
    assert cluster.shells[3, 3] == pytest.approx(2)


@pytest.mark.parametrize("gone", [0, 1])
def test_nothing_left_of_a_star_leaves_the_other_one_alone(gone):
    cluster, *pair = paired_cluster(10.0)
    cluster.stars[0, pair[gone]] = 0.0
    cluster._weigh()
    assert (cluster.companion == -1).all()
    assert cluster.names[3] == pair[1 - gone]
    assert cluster.n == 999
    assert not cluster.held_stars()[pair[gone]]


def test_black_holes_spiral_in_between_events():
    cluster, first, second = paired_cluster(0.05, (20.0, 15.0))
    cluster.kind[[first, second]] = 14
    whole = inspiral_time(20.0, 15.0, 0.05, 0.0)
    assert whole > 10
    spans = np.full(9, whole / 10)
    for i, span in enumerate(spans):
        merge_inspiralling(cluster, span, np.random.default_rng(1))
        assert cluster.companion[first] == second
        left = inspiral_time(20.0, 15.0, float(cluster.stars[1, first]), 0.0)
        assert left == pytest.approx(whole * (9 - i) / 10)
    merge_inspiralling(cluster, 1.01 * whole / 10, np.random.default_rng(1))
    assert cluster.companion[first] == -1
    assert 0.94 * 35 < cluster.stars[0, first] < 35
    assert cluster.shells[3, 3] == cluster.stars[0, first]


@pytest.mark.parametrize(("masses", "kind"), [((1.3, 1.3), 13), ((1.9, 1.9), 14)])
def test_heavy_neutron_stars_merge_to_a_black_hole(masses, kind):
    cluster, first, second = paired_cluster(1e-4, masses)
    cluster.kind[[first, second]] = 13
    merge_inspiralling(cluster, 1.0, np.random.default_rng(1))
    assert cluster.merged[first]
    assert cluster.kind[first] == kind


def test_gravitational_waves():
    # Peters: two neutron stars of 1.4 Msun at 0.01 AU, circular: 5/256 c^5 a^4 / (G^3 m m M).
    gravity, light, au, sun, year = 6.6743e-11, 2.99792458e8, 1.495979e11, 1.98841e30, 3.15576e7
    seconds = 5 / 256 * light**5 * (0.01 * au) ** 4
    seconds /= gravity**3 * 1.4 * 1.4 * 2.8 * sun**3
    assert inspiral_time(1.4, 1.4, 0.01, 0.0) == pytest.approx(seconds / year / 1e6, rel=1e-3)
    assert inspiral_time(1.4, 1.4, 0.01, 0.9) < 0.01 * inspiral_time(1.4, 1.4, 0.01, 0.0)
    assert recoil_speed(10.0, 10.0) == 0
    # González et al. 2007: at most 175 km/s, at a mass ratio of 0.36.
    ratios = np.linspace(0.05, 1, 96)
    speeds = [recoil_speed(1.0, ratio) for ratio in ratios]
    assert max(speeds) == pytest.approx(175, abs=5)
    assert ratios[np.argmax(speeds)] == pytest.approx(0.36, abs=0.03)


def test_stars_are_evolved_often_when_they_change_fast():
    times = event_times(14_000.0)
    assert times[-1] == 14_000
    steps = np.diff(times, prepend=0.0)
    assert (steps <= np.maximum(0.5, 0.02 * times) + 1e-9).all()
    assert steps.max() < 50.001


@pytest.mark.parametrize(("change", "message"), [
    ({"n_stars": 10}, "at least 1000"),
    ({"black_holes": "some"}, "fallback"),
    ({"deflection": 0.9}, "deflection"),
])  # fmt: skip
def test_impossible_models_are_refused(change, message):
    given = {"n_stars": 1000, "equilibrium": Plummer(1.0), **change}
    with pytest.raises(MelotteValueError, match=message):
        ClusterModel(**given)
    with pytest.raises(MelotteValueError, match="above 0"):
        Plummer(0.0)
    with pytest.raises(MelotteValueError, match="W0"):
        King(1.0, 20.0)
    with pytest.raises(MelotteValueError, match="orbit"):
        CircularOrbit(-1.0)
