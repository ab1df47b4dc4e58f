"""Mock galaxy clusters: published scaling relations, laws of the observation, selection."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
import torch
from scipy.stats import kstest
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.galaxy_cluster.settings import APERTURES, DataSettings, PriorSettings
from melotte.systems.galaxy_cluster.simulator import (
    CHUNK,
    ClusterHalos,
    GalaxyClusterSimulator,
)
from melotte.systems.galaxy_cluster.velocity_dispersion import (
    DispersionRelation,
    log_velocity_dispersion,
)

FLAT = PriorSettings(log_m200c=(13.5, 15.3))
NATURAL = PriorSettings(log_m200c=(14.0, 15.0), mass_function=True)

PUBLISHED = {
    False: {"slope": 0.3658, "sigma15": 1087.0, "scatter": 0.0689, "error": 0.1826},
    True: {"slope": 0.2412, "sigma15": 1002.5, "scatter": 0.1038, "error": 0.3691},
}
"""By contamination: Ho et al. 2019, public notebook."""

TOLERANCE = {
    False: {"slope": 0.010, "sigma15": 25.0, "scatter": 0.005, "error": 0.015},
    True: {"slope": 0.018, "sigma15": 25.0, "scatter": 0.014, "error": 0.025},
}


def seed(number: int) -> torch.Generator:
    return torch.Generator().manual_seed(number)


def catalogue(n: int, number: int, **settings: Any) -> tuple[ClusterHalos, Ragged, dict]:
    """Clusters, their galaxies and what goes with them."""
    simulator = GalaxyClusterSimulator(DataSettings(**settings))
    generator = seed(number)
    halos = simulator.draw(n, generator)
    return halos, *simulator.observe(halos, generator)


def statistics(number: int, n: int = 4000, **settings: Any) -> dict[str, float]:
    """The four published statistics of mocks with these settings."""
    halos, galaxies, _ = catalogue(n, number, prior=FLAT, **settings)
    relation = DispersionRelation.fit(halos.theta[:, 0], log_velocity_dispersion(galaxies))
    halos, galaxies, _ = catalogue(n, number + 1, prior=NATURAL, **settings)
    error = relation.log_mass(log_velocity_dispersion(galaxies)) - halos.theta[:, 0]
    return {
        "slope": relation.slope,
        "sigma15": 10**relation.log_sigma15,
        "scatter": relation.scatter,
        "error": float(error.std()),
    }


@pytest.mark.parametrize("contaminated", [False, True])
def test_dispersions_scale_as_published(contaminated: bool) -> None:
    found = statistics(20, contaminated=contaminated)
    for name, value in PUBLISHED[contaminated].items():
        assert found[name] == pytest.approx(value, abs=TOLERANCE[contaminated][name]), name


def test_faster_galaxies_would_be_noticed() -> None:
    found = statistics(22, 1000, contaminated=False, velocity_bias=1.05)
    assert found["sigma15"] > PUBLISHED[False]["sigma15"] + TOLERANCE[False]["sigma15"]


def test_the_same_generator_gives_the_same_mocks() -> None:
    first, galaxies, _ = catalogue(40, 3)
    again, same, _ = catalogue(40, 3)
    other, _, _ = catalogue(40, 4)
    assert torch.equal(first.theta, again.theta)
    assert torch.equal(galaxies.values, same.values)
    assert not torch.equal(first.theta, other.theta)


def test_what_comes_out_is_on_one_device_in_single_precision() -> None:
    halos, galaxies, extras = catalogue(20, 5, redshift=(0.0, 0.6))
    galaxies.check()
    assert galaxies.values.shape[1] == 5
    for tensor in (halos.theta, galaxies.values, *extras.values()):
        assert tensor.device == torch.device("cpu")
        assert tensor.dtype == torch.float32
        assert torch.isfinite(tensor).all()
    assert set(extras) >= {
        "redshift", "aperture_mpc_h", "velocity_cut", "completeness", "n_galaxies"
    }  # fmt: skip
    assert torch.equal(extras["n_galaxies"], galaxies.counts.float())


@pytest.mark.parametrize("name", list(APERTURES))
def test_galaxies_lie_in_their_cylinder(name: Any) -> None:
    _, galaxies, extras = catalogue(100, 6, apertures=(name,), redshift=(0.0, 0.6))
    radius, speed = APERTURES[name]
    assert float(galaxies.values[:, 1].max()) < radius
    assert float(galaxies.values[:, 0].abs().max()) < speed
    assert float(galaxies.values[:, 1].max()) > 0.97 * radius
    assert (extras["aperture_mpc_h"] == torch.tensor(radius)).all()
    assert galaxies.counts.min() > 10


def test_a_pure_catalogue_holds_members_only() -> None:
    _, pure, _ = catalogue(100, 7, contaminated=False)
    _, mixed, _ = catalogue(100, 7)
    assert (pure.values[:, 3] == 1).all()
    assert 0.05 < float((mixed.values[:, 3] == 0).float().mean()) < 0.5


def test_members_cannot_be_told_by_their_order() -> None:
    _, galaxies, _ = catalogue(400, 8)
    first = galaxies.values[galaxies.offsets[:-1], 3].mean()
    member = galaxies.values[:, 3]
    share = torch.zeros(400).index_add(0, galaxies.index, member) / galaxies.counts
    assert float(first) == pytest.approx(float(share.mean()), abs=0.08)


def test_views_turn_one_halo() -> None:
    simulator = GalaxyClusterSimulator(DataSettings(contaminated=False))
    halos = simulator.draw(10, seed(9))
    galaxies, _ = simulator.observe(halos.views(3), seed(10))
    for number in range(10):
        seen = [galaxies[3 * number + view] for view in range(3)]
        stellar = [one[:, 2].sort().values for one in seen]
        assert torch.equal(stellar[0], stellar[1])
        assert torch.equal(stellar[0], stellar[2])
        assert not torch.allclose(seen[0][:, 0].std(), seen[1][:, 0].std())


def static(
    settings: dict[str, Any], fill: Callable[[Tensor], Tensor], n: int = 30
) -> tuple[ClusterHalos, Ragged]:
    """Pure clusters whose galaxies were moved by ``fill`` (n_galaxies, 7), and how they look."""
    simulator = GalaxyClusterSimulator(DataSettings(contaminated=False, **settings))
    halos = simulator.draw(n, seed(11))
    moved = replace(
        halos, galaxies=Ragged(fill(halos.galaxies.values.clone()), halos.galaxies.offsets)
    )
    return moved, simulator.observe(moved, seed(12))[0]


def test_galaxies_at_rest_follow_the_hubble_flow() -> None:
    def stop(galaxies: Tensor) -> Tensor:
        galaxies[:, 3:6] = 0
        return galaxies

    halos, seen = static({"redshift": 0.3}, stop)
    rate = float(GalaxyClusterSimulator(DataSettings()).cosmology.comoving_hubble_rate(
        torch.tensor(0.3)))  # fmt: skip
    for number in range(len(halos)):
        own, shown = halos.galaxies[number], seen[number]
        distance = own[own[:, 6].argsort(), :3].norm(dim=1)
        shown = shown[shown[:, 2].argsort()]
        depth = shown[:, 0] / rate
        rebuilt = torch.sqrt(shown[:, 1] ** 2 + depth**2)
        torch.testing.assert_close(rebuilt, distance, rtol=1e-4, atol=1e-4)


def test_redshift_errors_and_wrong_centres_spread_a_point() -> None:
    def collapse(galaxies: Tensor) -> Tensor:
        galaxies[:, :6] = 0
        return galaxies

    settings = {"redshift": 0.25, "redshift_error": 300.0, "centring_error": 0.1}
    _, seen = static(settings, collapse, 400)
    velocity, radius = seen.values[:, 0], seen.values[:, 1]
    assert float(velocity.std()) == pytest.approx(300 / 1.25, rel=0.03)
    first = radius[seen.offsets[:-1]]
    assert torch.allclose(radius, first[seen.index])
    assert float(first.square().mean()) == pytest.approx(2 * 0.1**2, rel=0.2)


def test_physical_lengths_are_shorter_by_the_scale_factor() -> None:
    def same(galaxies: Tensor) -> Tensor:
        return galaxies

    _, comoving = static({"redshift": 0.5}, same)
    _, physical = static({"redshift": 0.5, "lengths": "physical"}, same)
    torch.testing.assert_close(physical.values[:, 1] * 1.5, comoving.values[:, 1])


def test_incomplete_surveys_lose_the_share_asked_for() -> None:
    full, half = (
        catalogue(500, 13, completeness=level, least_galaxies=1, prior=NATURAL)[1]
        for level in (1.0, 0.5)
    )
    assert len(half.values) / len(full.values) == pytest.approx(0.5, rel=0.06)
    _, tilted, _ = catalogue(
        500, 13, completeness=0.5, completeness_gradient=1.5, least_galaxies=1, prior=NATURAL
    )
    assert float(tilted.values[:, 1].mean()) > float(half.values[:, 1].mean()) + 0.03


def test_limits_in_mass_and_magnitude_thin_a_cluster() -> None:
    _, deep, _ = catalogue(200, 14, log_stellar_mass_limit=9.0, prior=NATURAL)
    _, shallow, _ = catalogue(200, 14, log_stellar_mass_limit=10.0, prior=NATURAL)
    assert float(deep.values[:, 2].min()) < 9.05
    assert float(shallow.values[:, 2].min()) >= 10.0
    assert len(deep.values) > 1.8 * len(shallow.values)
    _, _, near = catalogue(50, 15, magnitude_limit=17.77, redshift=0.05, prior=NATURAL)
    _, _, far = catalogue(50, 15, magnitude_limit=17.77, redshift=0.1, prior=NATURAL)
    assert (far["log_stellar_mass_limit"] > near["log_stellar_mass_limit"] + 0.4).all()


def test_fibres_and_centrals_are_settings() -> None:
    settings: dict[str, Any] = {"prior": NATURAL, "least_galaxies": 1}
    _, plain, _ = catalogue(200, 16, **settings)
    _, fibres, _ = catalogue(200, 16, **settings, fibre_separation=55.0, fibre_loss=1.0)
    assert len(fibres.values) < 0.97 * len(plain.values)
    _, central, _ = catalogue(200, 16, **settings, centrals=True)
    at_rest = (central.values[:, 1] == 0) & (central.values[:, 0] == 0)
    assert int(at_rest.sum()) == 200
    assert (central.values[at_rest, 3] == 1).all()


def test_a_survey_of_every_galaxy_shows_the_centrals_of_light_haloes() -> None:
    def interlopers(limit: float, **settings: Any) -> float:
        _, galaxies, _ = catalogue(
            300, 34, prior=NATURAL, least_galaxies=1, log_stellar_mass_limit=limit,
            centrals=True, **settings,
        )  # fmt: skip
        assert float(galaxies.values[:, 2].min()) >= limit - 1e-5
        return float((galaxies.values[:, 3] == 0).sum())

    for limit, least in ((9.0, 2.0), (10.0, 1.2)):
        assert interlopers(limit, haloes="all") > least * interlopers(limit)
    assert interlopers(9.0, haloes="all", interloper_density=0.0) == 0


def test_far_from_a_cluster_a_survey_finds_the_stellar_mass_function() -> None:
    data = DataSettings(
        redshift=0.04, centrals=True, haloes="all", prior=PriorSettings(log_m200c=(14.0, 14.1)),
        log_stellar_mass_limit=9.5, apertures=("large",), interloper_density=3.0,
    )  # fmt: skip
    simulator = GalaxyClusterSimulator(data)
    generator = seed(35)
    halos = simulator.draw(200, generator)
    _, table = simulator._galaxies_along(halos, generator)
    far = (table[:, 2].abs() > 28) & (table[:, 2].abs() < 38) & (table[:, :2].norm(dim=1) < 2.3)
    volume = 200 * 2 * 10 * torch.pi * 2.3**2
    # Baldry et al. 2012 integrated above 10^9.5 Msun, and what clusters around the cluster.
    found = float(far.sum()) / (3 * volume)
    assert 0.9 * 0.0236 < found < 1.25 * 0.0236


def test_haloes_of_every_mass_need_their_centrals() -> None:
    with pytest.raises(MelotteValueError, match="needs centrals: true"):
        DataSettings(haloes="all")


def test_velocities_can_be_counted_from_the_galaxies() -> None:
    _, galaxies, _ = catalogue(200, 17, velocity_centre="galaxies")
    medians = torch.stack([galaxies[number][:, 0].median() for number in range(200)])
    # The lower of the middle two velocities is at most the median: half a spacing off at most.
    assert float(medians.median().abs()) < 40
    _, halo, _ = catalogue(200, 17)
    off = torch.stack([halo[number][:, 0].median() for number in range(200)])
    assert float(medians.std()) < 0.6 * float(off.std())


def test_natural_masses_follow_the_mass_function() -> None:
    halos, _, _ = catalogue(3000, 18, prior=NATURAL)
    simulator = GalaxyClusterSimulator(DataSettings(prior=NATURAL))
    z = torch.tensor([0.117])
    total = simulator.statistics.masses(14, 15).density(z)
    above = float((halos.theta[:, 0] > 14.4).float().mean())
    expected = float(simulator.statistics.masses(14.4, 15).density(z) / total)
    assert above == pytest.approx(expected, abs=0.03)
    assert 14 <= float(halos.theta.min()) <= float(halos.theta.max()) <= 15


def test_rich_clusters_keep_the_flat_prior() -> None:
    halos, _, _ = catalogue(1500, 19, prior=PriorSettings(log_m200c=(14.3, 15.3)))
    assert kstest((halos.theta[:, 0] - 14.3).numpy(), "uniform").pvalue > 1e-3


def test_selection_is_that_of_one_look() -> None:
    """Two stages of looking give the same catalogue as keeping what one look shows."""
    data = DataSettings(prior=PriorSettings(log_m200c=(13.5, 13.9)))
    every = data.model_copy(update={"least_galaxies": 1})
    simulator = GalaxyClusterSimulator(data)
    generator = seed(21)
    halos = simulator.draw(2500, generator)
    counts = simulator.observe(halos, generator)[0].counts
    halos_any, galaxies_any, _ = catalogue(4000, 22, **every.model_dump())
    rich = galaxies_any.counts > 10
    assert 0.3 < float(rich.float().mean()) < 0.95
    mass, mass_any = halos.theta[:, 0], halos_any.theta[rich, 0]
    error = float(mass.std()) * (1 / len(mass) + 1 / len(mass_any)) ** 0.5
    assert float(mass.mean()) == pytest.approx(float(mass_any.mean()), abs=4 * error)
    number, number_any = counts.double(), galaxies_any.counts[rich].double()
    error = float(number.std()) * (1 / len(number) + 1 / len(number_any)) ** 0.5
    assert float(number.mean()) == pytest.approx(float(number_any.mean()), abs=4 * error)


def test_large_batches_are_made_in_parts() -> None:
    settings = {"prior": PriorSettings(log_m200c=(14.0, 14.2)), "contaminated": False}
    halos, galaxies, extras = catalogue(CHUNK + 7, 23, **settings)
    assert len(halos) == galaxies.n_sets == len(extras["redshift"]) == CHUNK + 7
    picked = halos.select(torch.tensor([CHUNK + 6, 0]))
    assert torch.equal(picked.galaxies[1], halos.galaxies[0])
    assert torch.equal(picked.haloes.radius, halos.haloes.radius[[CHUNK + 6, 0]])


def test_the_density_of_interlopers_is_a_setting() -> None:
    def interlopers(density: float) -> float:
        _, galaxies, _ = catalogue(
            400, 31, interloper_density=density, prior=NATURAL, least_galaxies=1
        )
        return float((galaxies.values[:, 3] == 0).sum())

    assert interlopers(0.0) == 0
    assert interlopers(3.0) / interlopers(1.0) == pytest.approx(3, rel=0.25)


def test_subgroups_make_velocities_less_normal() -> None:
    def kurtosis(rate: float) -> float:
        _, galaxies, _ = catalogue(500, 32, subgroup_rate=rate, contaminated=False, prior=NATURAL)
        sigma = 10 ** log_velocity_dispersion(galaxies)[galaxies.index]
        return float(((galaxies.values[:, 0] / sigma) ** 4).mean())

    assert kurtosis(4.0) > kurtosis(0.0) + 0.1


def test_the_relation_of_number_and_mass_is_a_setting() -> None:
    _, usual, _ = catalogue(300, 33, contaminated=False, prior=NATURAL)
    _, rich, _ = catalogue(
        300, 33, contaminated=False, prior=NATURAL, richness={"mean_at_1e14": 56.0}
    )
    assert len(rich.values) / len(usual.values) == pytest.approx(2, rel=0.1)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"redshift": (0.2, 0.9)}, r"redshift: \(0.2, 0.9\) must rise within \[0, 0.6\]"),
        ({"completeness": (0.9, 0.2)}, "completeness"),
        ({"apertures": ("huge",)}, "apertures"),
        ({"prior": {"log_m200c": (9.0, 15.0)}}, "log_m200c"),
        ({"fibre_size": 55}, "fibre_size"),
    ],
)
def test_impossible_settings_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        DataSettings(**settings)
