"""Fast drawn clusters against star-by-star drawing and against expectations."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.cluster_light import ClusterLight, integrated_magnitudes
from melotte.sky.imf import Kroupa2001, Salpeter
from melotte.sky.isochrones import StellarGrid
from melotte.sky.light_tables import EVEN_CELLS, MassDepth, cell_weights, light_table
from melotte.sky.populations import expected_magnitudes

BANDS = ["WFC3_UVIS_F336W", "ACS_WFC_F475W", "ACS_WFC_F814W"]
GRID = StellarGrid.shipped(BANDS)
METALLICITY = -0.3
AGES = (7.0, 8.0, 9.0, 10.0)
MASSES = MassDepth(Kroupa2001())


def flux(magnitude: Tensor) -> Tensor:
    return 10 ** (-0.4 * magnitude)


def source(*log_age: float, **settings: object) -> ClusterLight:
    nodes = torch.tensor(log_age)
    return ClusterLight(GRID, BANDS, nodes, torch.tensor([METALLICITY, 0.1]), **settings)  # type: ignore[arg-type]


def first_node(n: int) -> Tensor:
    return torch.zeros(n, dtype=torch.int64)


def draw_magnitudes(
    light: ClusterLight, n: int, mass: float, dust: float, generator: torch.Generator
) -> Tensor:
    rows = first_node(n)
    return light.integrated(torch.full((n,), mass), rows, rows, torch.full((n,), dust), generator)


def star_by_star(
    log_age: float, n: int, mass: float, dust: float, generator: torch.Generator
) -> Tensor:
    """Integrated magnitudes of clusters whose every star is evolved; all in one call."""
    stars = MASSES.imf.sample_to_total_mass(torch.full((n,), mass), generator)
    age = stars.values.new_tensor([[log_age]])
    metallicity = torch.full_like(age, METALLICITY)
    states = GRID.evolve(stars.values[None], age, metallicity)
    light = flux(GRID.magnitudes(states, dust, BANDS, metallicity)[0])
    total = light.new_zeros(n, len(BANDS)).index_add_(0, stars.index, light)
    return -2.5 * torch.log10(total)


@pytest.mark.parametrize("log_age", [6.6, 7.0, 7.5, 8.0, 9.0, 10.1])
def test_mean_light_is_that_of_the_isochrone(log_age: float) -> None:
    table = light_table(GRID, MASSES, BANDS, log_age, METALLICITY)
    found = -2.5 * torch.log10(table.mean_luminosity() / MASSES.imf.mean_mass)
    expected = expected_magnitudes(GRID, log_age, METALLICITY, BANDS)
    torch.testing.assert_close(found, expected, rtol=0, atol=2e-4)


@pytest.mark.parametrize("dust", [0.0, 0.4, 2.3, 4.0, 5.5])
def test_dust_is_that_of_each_star(dust: float) -> None:
    table = light_table(GRID, MASSES, BANDS, 8.7, METALLICITY)
    known = int(torch.isfinite(table.depth).sum())
    powers = dust ** torch.arange(4, dtype=torch.float64)
    exact = table.coefficients[:, EVEN_CELLS : EVEN_CELLS + known].double()
    found = -2.5 / math.log(10) * (exact * powers[:, None, None]).sum(0)
    expected = GRID.isochrone(8.7, METALLICITY).magnitudes(BANDS, dust)[-known:]
    torch.testing.assert_close(found, torch.from_numpy(expected), rtol=0, atol=1e-4)


def test_main_sequence_is_interpolated_well() -> None:
    table = light_table(GRID, MASSES, BANDS, 8.7, METALLICITY)
    middle = (table.nodes[: EVEN_CELLS - 1] + table.nodes[1:EVEN_CELLS]) / 2
    even = torch.exp(table.coefficients[0, :EVEN_CELLS].double())
    found = -2.5 * torch.log10((even[:-1] + even[1:]) / 2)
    age, metallicity = middle.new_tensor([[8.7]]), middle.new_tensor([[METALLICITY]])
    stars = GRID.evolve(MASSES.mass(middle)[None], age, metallicity)
    expected = GRID.magnitudes(stars, 0.0, BANDS, metallicity)[0]
    assert float((found - expected).abs().max()) < 0.01


@pytest.mark.parametrize("imf", [Kroupa2001(), Salpeter(0.1, 100.0)])
def test_mass_and_depth(imf: Kroupa2001 | Salpeter) -> None:
    masses = MassDepth(imf)
    mass = torch.logspace(math.log10(imf.low), math.log10(imf.high * 0.9), 50, dtype=torch.float64)
    torch.testing.assert_close(masses.mass(masses.depth(mass)), mass, rtol=1e-5, atol=0)
    for depth in (0.5, 3.0, 8.0):
        share = 1 - math.exp(-depth)
        stars = imf.quantile((torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000 * share)
        below = float(masses.mean_below(torch.tensor(depth, dtype=torch.float64)))
        assert below == pytest.approx(float(stars.mean()), rel=1e-4)


@pytest.mark.parametrize("width", [0.0, 1e-9, 0.01, 3.0])
def test_cell_weights(width: float) -> None:
    low, high = cell_weights(torch.tensor(width, dtype=torch.float64))
    depth = torch.linspace(0, width, 20_001, dtype=torch.float64)
    for weight, ramp in ((low, 1 - depth / max(width, 1e-300)), (high, depth / max(width, 1e-300))):
        expected = float(torch.trapezoid(torch.exp(-depth) * ramp, depth))
        assert float(weight) == pytest.approx(expected, rel=1e-6, abs=1e-15)


@pytest.mark.parametrize(("log_age", "mass", "n"), [(7.0, 300.0, 4000), (9.0, 1000.0, 2000)])
def test_as_drawn_star_by_star(
    log_age: float, mass: float, n: int, generator: torch.Generator
) -> None:
    mine = draw_magnitudes(source(log_age), n, mass, 1.0, generator)
    theirs = star_by_star(log_age, n, mass, 1.0, generator)
    error = math.sqrt(2 / n)
    spread = flux(theirs).std(0) / flux(theirs).mean(0)
    ratio = flux(mine).mean(0) / flux(theirs).mean(0)
    assert bool(((ratio - 1).abs() < 4 * error * spread).all()), ratio
    for band in range(len(BANDS)):
        # Kolmogorov and Smirnov's distance of two samples; 1 in 10,000 is beyond 2.23 errors.
        both = torch.cat([mine[:, band], theirs[:, band]]).sort().values
        shares = [
            torch.searchsorted(one[:, band].sort().values, both, right=True) / n
            for one in (mine, theirs)
        ]
        assert float((shares[0] - shares[1]).abs().max()) < 2.23 * error


def test_another_age_would_be_seen(generator: torch.Generator) -> None:
    """The distance above tells ages 0.05 dex apart."""
    n = 2000
    mine = draw_magnitudes(source(8.05), n, 1000.0, 1.0, generator)[:, 1].sort().values
    theirs = star_by_star(8.0, n, 1000.0, 1.0, generator)[:, 1].sort().values
    both = torch.cat([mine, theirs])
    shares = [torch.searchsorted(one, both, right=True) / n for one in (mine, theirs)]
    assert float((shares[0] - shares[1]).abs().max()) > 2.23 * math.sqrt(2 / n)


@pytest.mark.parametrize("log_age", AGES)
def test_light_is_conserved_when_only_bright_stars_are_drawn(
    log_age: float, generator: torch.Generator
) -> None:
    n, mass = 300, 3e4
    light = source(log_age, faint_share=0.1, least_stars=300)
    rows = first_node(n)
    stars = light.draw(torch.full((n,), mass), rows, rows, torch.zeros(n), generator)
    drawn = flux(integrated_magnitudes(stars))
    assert float(stars.counts.double().mean()) < 0.2 * mass / light.imf.mean_mass
    assert int(stars.counts.min()) > 200
    expected = flux(expected_magnitudes(GRID, log_age, METALLICITY, BANDS, total_mass=mass))
    error = drawn.std(0) / drawn.mean(0) / math.sqrt(n)
    assert bool(((drawn.mean(0) / expected - 1).abs() < 4 * error + 1e-3).all())
    # The spread is that of the bright stars.
    all_stars = source(log_age, faint_share=0.0)
    whole = flux(draw_magnitudes(all_stars, 150, mass, 0.0, generator))
    assert bool(((whole.std(0) / drawn.std(0) - 1).abs() < 0.45).all())


def test_enough_stars_are_drawn(generator: torch.Generator) -> None:
    light = source(*AGES)
    age = torch.arange(4).repeat(10)
    stars = light.draw(
        torch.full((40,), 2e4), age, torch.zeros_like(age), torch.zeros(40), generator
    )
    assert int(stars.counts.min()) > 3000 - 5 * math.sqrt(3000)


def test_the_mass_is_not_exceeded(generator: torch.Generator) -> None:
    """Stopping nearest, a cluster of 5 Msun never holds a star above 10 Msun."""
    n = 20_000
    light = source(6.6)
    drawn = draw_magnitudes(light, n, 5.0, 0.0, generator)[:, 1]
    mass = torch.tensor([[10.0, 5.0]], dtype=torch.float64)
    age, metallicity = mass.new_tensor([[6.6]]), mass.new_tensor([[METALLICITY]])
    limit = GRID.magnitudes(GRID.evolve(mass, age, metallicity), 0.0, BANDS, metallicity)[0, :, 1]
    assert float(limit[0]) - 0.05 < float(drawn.min()) < float(limit[1])


def test_dust_and_nodes_reach_their_clusters(generator: torch.Generator) -> None:
    """A batch of every age and two dusts has the mean light of each."""
    light = source(*AGES)
    n = 150
    age = torch.arange(4).repeat_interleave(2 * n)
    dust = torch.tensor([0.0, 2.0]).repeat(4 * n)
    metallicity = torch.ones_like(age)
    drawn = flux(light.integrated(torch.full((8 * n,), 2e4), age, metallicity, dust, generator))
    for i, log_age in enumerate(AGES):
        for extinction in (0.0, 2.0):
            rows = (age == i) & (dust == extinction)
            expected = expected_magnitudes(
                GRID, log_age, 0.1, BANDS, total_mass=2e4, extinction_v=extinction
            )
            mean, spread = drawn[rows].mean(0), drawn[rows].std(0) / math.sqrt(n)
            assert bool(((mean - flux(expected)).abs() < 4.5 * spread + 1e-3 * mean).all())


def test_one_seed_gives_one_cluster() -> None:
    light = source(8.0)
    rows = first_node(200)
    draws = [
        light.draw(
            torch.full((200,), 500.0),
            rows,
            rows,
            torch.zeros(200),
            torch.Generator().manual_seed(3),
        )
        for _ in range(2)
    ]
    assert torch.equal(draws[0].values, draws[1].values)
    assert torch.equal(draws[0].offsets, draws[1].offsets)


def test_stars_of_a_cluster_are_in_no_order(generator: torch.Generator) -> None:
    """Light must not depend on a star's place in the list, nor must its position on the sky."""
    rows = first_node(400)
    stars = source(8.0).draw(torch.full((400,), 500.0), rows, rows, torch.zeros(400), generator)
    rank = torch.arange(len(stars.values)) - stars.offsets[stars.index]
    early = rank < stars.counts[stars.index] / 2
    bright = stars.values[:, 1] > stars.values[:, 1].quantile(0.9)
    share = early[bright].double().mean()
    assert float(share) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(int(bright.sum())))


def test_empty_clusters(generator: torch.Generator) -> None:
    light = source(8.0)
    magnitudes = draw_magnitudes(light, 3, 0.0, 0.0, generator)
    assert bool(torch.isposinf(magnitudes).all())
    none = light.draw(torch.empty(0), first_node(0), first_node(0), torch.empty(0), generator)
    assert none.n_sets == 0
    assert none.values.shape == (0, 3)


def test_what_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match=r"log_age must be a list of nodes in \[5, 10.3\]"):
        source(11.0)
    with pytest.raises(MelotteValueError, match="faint_share"):
        source(8.0, faint_share=0.9)
    with pytest.raises(MelotteValueError, match="least_stars"):
        source(8.0, least_stars=0)
    light = source(8.0)
    row, one = first_node(1), torch.ones(1)
    with pytest.raises(MelotteValueError, match=r"age_node must be in \[0, 0\]"):
        light.draw(one, row + 1, row, one, generator)
    with pytest.raises(MelotteValueError, match="extinction_v"):
        light.draw(one, row, row, one * 7, generator)
    with pytest.raises(MelotteValueError, match="total_mass"):
        light.draw(one * math.nan, row, row, one, generator)
