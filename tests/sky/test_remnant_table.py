"""Remnants by initial mass: laws, published values and the CMC catalogue's counts."""

from __future__ import annotations

import csv
import gzip
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.remnant_table import (
    BLACK_HOLE,
    CARBON_OXYGEN_WHITE_DWARF,
    NEUTRON_STAR,
    OXYGEN_NEON_WHITE_DWARF,
    dying_mass,
    lifetime,
    lowest_initial_mass,
    remnant_provenance,
    remnants_of,
)
from melotte.sky.remnants import remnant_mass

METALLICITIES = (-2.3, -1.97, -1.234, -0.5, 0.0, 0.3)
MASSES = np.geomspace(0.08, 150, 20_000)


def kroupa_shares(edges: np.ndarray) -> np.ndarray:
    """Number fractions of the mass function of Kroupa 2001, 0.08 to 150 Msun, between edges."""
    steep = 0.5 * (edges**-1.3 - 0.5**-1.3) / -1.3
    flat = (edges**-0.3 - 0.5**-0.3) / -0.3
    below = np.where(edges < 0.5, flat, steep)
    return np.diff(below) / (below[-1] - below[0])


def at_cmc_metallicity(metal_fraction: float) -> float:
    return math.log10(metal_fraction / 0.0185)


@pytest.mark.parametrize("metallicity", METALLICITIES)
def test_lifetimes_fall_with_mass(metallicity: float) -> None:
    lives = lifetime(MASSES, metallicity)
    assert (np.diff(lives) <= 0).all()
    assert (np.diff(lives) < 0).mean() > 0.98


@pytest.mark.parametrize("metallicity", METALLICITIES)
def test_the_dying_mass_undoes_the_lifetime(metallicity: float) -> None:
    ages = np.geomspace(4, 2e4, 300)
    found = lifetime(dying_mass(ages, metallicity), metallicity)
    np.testing.assert_allclose(found, ages, rtol=2e-3)


def test_nothing_has_died_at_birth() -> None:
    np.testing.assert_allclose(dying_mass([0.0, 1.0], -1.0), 150.0, rtol=1e-12)


@pytest.mark.parametrize("metallicity", METALLICITIES)
def test_no_remnant_outweighs_its_star_or_lies_in_a_gap(metallicity: float) -> None:
    remnants = remnants_of(MASSES, metallicity)
    assert (remnants.mass <= MASSES).all()
    of = {kind: remnants.mass[remnants.kind == kind] for kind in range(10, 16)}
    for dwarf in (10, 11, 12):
        assert (of[dwarf] < 1.44).all()
    # The rapid engine leaves no remnant between neutron stars and 5 Msun (Fryer et al. 2012).
    assert of[NEUTRON_STAR].min() == pytest.approx(1.1079, abs=2e-4)
    assert of[NEUTRON_STAR].max() < 2.0
    assert of[BLACK_HOLE].min() > 5.0
    assert of[BLACK_HOLE].max() <= 40.5 * (1 + 1e-6)
    assert (of[15] == 0).all()


@pytest.mark.parametrize("metallicity", METALLICITIES)
def test_fallback_and_capture_belong_to_their_kinds(metallicity: float) -> None:
    remnants = remnants_of(MASSES, metallicity)
    assert ((remnants.fallback >= 0) & (remnants.fallback <= 1)).all()
    assert (remnants.fallback[remnants.kind < NEUTRON_STAR] == 0).all()
    assert (remnants.kind[remnants.electron_capture] == NEUTRON_STAR).all()
    np.testing.assert_allclose(remnants.mass[remnants.electron_capture], 1.2607, atol=2e-4)
    assert (remnants.fallback[remnants.electron_capture] == 0).all()
    # Without fallback a black hole could not weigh more than its proto-remnant's 1 Msun.
    assert (remnants.fallback[remnants.kind == BLACK_HOLE] > 0.2).all()


@pytest.mark.parametrize("metallicity", METALLICITIES)
def test_kinds_follow_one_another(metallicity: float) -> None:
    kinds = remnants_of(MASSES, metallicity).kind
    assert (np.diff(kinds) >= 0).all()
    assert {11, 12, 13, 14} <= set(kinds.tolist())


def test_no_mass_is_averaged_over_a_change_of_kind() -> None:
    for metallicity in np.linspace(-2.25, 0.2, 57):
        edge = lowest_initial_mass(BLACK_HOLE, metallicity)
        around = remnants_of(edge * np.linspace(0.98, 1.02, 4001), metallicity)
        assert not ((around.mass > 2.0) & (around.mass < 5.0)).any()
        assert {NEUTRON_STAR, BLACK_HOLE} == set(around.kind.tolist())


@pytest.mark.parametrize("metallicity", [-2.0, -1.0, 0.0])
def test_masses_change_little_between_neighbouring_metallicities(metallicity: float) -> None:
    here = remnants_of(MASSES, metallicity)
    there = remnants_of(MASSES, metallicity + 0.01)
    alike = here.kind == there.kind
    assert alike.mean() > 0.995
    change = np.abs(there.mass - here.mass) / np.maximum(here.mass, 1)
    light = alike & (here.kind < BLACK_HOLE)
    assert change[light].max() < 0.01
    assert change[alike].mean() < 0.005


def test_white_dwarfs_near_those_of_cummings() -> None:
    masses = np.linspace(1.0, 6.0, 200)
    observed = remnant_mass(torch.from_numpy(masses)).numpy()
    difference = remnants_of(masses, 0.0).mass - observed
    assert np.abs(difference).max() < 0.06
    assert abs(difference.mean()) < 0.03


def test_white_dwarfs_by_cummings_change_nothing_else() -> None:
    masses = np.geomspace(1.0, 100, 500)
    sse, observed = (remnants_of(masses, -2.0, white_dwarfs=word) for word in ("sse", "cummings"))
    dwarf = sse.kind < NEUTRON_STAR
    expected = remnant_mass(torch.from_numpy(masses)).numpy()
    np.testing.assert_allclose(observed.mass[dwarf], expected[dwarf])
    np.testing.assert_array_equal(observed.mass[~dwarf], sse.mass[~dwarf])
    np.testing.assert_array_equal(observed.kind, sse.kind)
    assert np.abs(sse.mass - observed.mass)[dwarf].max() > 0.1
    with pytest.raises(MelotteValueError, match="must be one of: sse, cummings"):
        remnants_of(masses, -2.0, white_dwarfs="han")


@pytest.mark.parametrize(
    ("metallicity", "heaviest", "tolerance"),
    [
        # Pulsations at 45 Msun leave 40.5 Msun (Belczynski et al. 2016; Kremer et al. 2020).
        (at_cmc_metallicity(0.0002), 40.5, 0.01),
        # Winds alone at a tenth of solar: 30 to 40 Msun (Belczynski et al. 2010, Fig. 1).
        (at_cmc_metallicity(0.002), 35.0, 5.0),
    ],
)
def test_the_heaviest_black_holes(metallicity: float, heaviest: float, tolerance: float) -> None:
    remnants = remnants_of(MASSES, metallicity)
    assert remnants.mass.max() == pytest.approx(heaviest, abs=tolerance)


def test_black_holes_are_lighter_in_metal_rich_clusters() -> None:
    heaviest = [remnants_of(MASSES, z).mass.max() for z in (-1.5, -1.0, -0.5, 0.0)]
    assert heaviest == sorted(heaviest, reverse=True)
    # Belczynski et al. 2010 have up to 15 Msun at solar metallicity; with the rapid engine only
    # 60 to 80 % of the heaviest, stripped stars falls back.
    assert 8 < heaviest[-1] < 12


@pytest.mark.parametrize(
    ("initial_mass", "metallicity"),
    [(0.07, 0.0), (151.0, 0.0), (math.nan, 0.0), (1.0, -2.7), (1.0, 0.6), (1.0, math.nan)],
)
def test_what_lies_outside_is_refused(initial_mass: float, metallicity: float) -> None:
    for function in (remnants_of, lifetime):
        with pytest.raises(MelotteValueError, match="outside the remnants' range"):
            function([1.0, initial_mass], metallicity)


def test_a_negative_age_is_refused() -> None:
    with pytest.raises(MelotteValueError, match="0 Myr or more"):
        dying_mass([-1.0], 0.0)


def test_selecting_keeps_arrays_together() -> None:
    remnants = remnants_of(MASSES, -1.0)
    holes = remnants.select(remnants.kind == BLACK_HOLE)
    assert len(holes) == (remnants.kind == BLACK_HOLE).sum()
    assert (holes.kind == BLACK_HOLE).all()
    np.testing.assert_array_equal(holes.mass, remnants.mass[remnants.kind == BLACK_HOLE])


def test_the_table_says_where_it_comes_from() -> None:
    provenance = remnant_provenance()
    assert provenance["package"] == "cosmic-popsynth 4.3.3"
    assert provenance["flags"]["ecsn"] == 2.25
    assert any("Fryer" in citation for citation in provenance["citations"])


@pytest.fixture(scope="module")
def cmc_clusters(shared_data: Path) -> list[dict[str, str]]:
    """Clusters of the catalogue born with 8e5 stars or more, near 12 Gyr."""
    path = shared_data / "globular" / "cmc" / "cmc_params.csv.gz"
    if not path.is_file():
        pytest.skip(f"needs the CMC catalogue's table {path.name}")
    with gzip.open(path, "rt", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return [row for row in rows if float(row["N1e5"]) >= 8 and abs(float(row["age"]) - 12) < 0.15]


@pytest.mark.parametrize("zsun", [0.01, 0.1, 1.0])
def test_the_clock_is_that_of_cmc_clusters(cmc_clusters: list[dict[str, str]], zsun: float) -> None:
    metallicity = at_cmc_metallicity(0.02 * zsun)
    ratios = [
        dying_mass(1e3 * float(row["age"]), metallicity) / float(row["mmin_2"])
        for row in cmc_clusters
        if float(row["Zsun"]) == zsun
    ]
    # The lightest stars that leave the main sequence are a little lighter than those that die,
    # everywhere by the same factor (a binary's companion may have lost mass, so: quartiles).
    lower, middle, upper = np.quantile(ratios, [0.25, 0.5, 0.75])
    assert 1.005 < middle < 1.04
    assert upper - lower < 0.001


@pytest.mark.parametrize("zsun", [0.01, 0.1, 1.0])
def test_numbers_of_remnants_in_cmc_clusters(
    cmc_clusters: list[dict[str, str]], zsun: float
) -> None:
    metallicity = at_cmc_metallicity(0.02 * zsun)
    edges = np.geomspace(0.08, 150, 40_001)
    middle = np.sqrt(edges[1:] * edges[:-1])
    shares = kroupa_shares(edges)
    remnants = remnants_of(middle, metallicity)
    dead = lifetime(middle, metallicity) < 12_000
    expected = {
        kind: shares[dead & (remnants.kind == kind)].sum()
        for kind in (CARBON_OXYGEN_WHITE_DWARF, OXYGEN_NEON_WHITE_DWARF)
    }
    found = {
        name: max(
            float(row[name]) / (1e5 * float(row["N1e5"]))
            for row in cmc_clusters
            if float(row["Zsun"]) == zsun
        )
        for name in ("N_11", "N_12", "N_13")
    }
    # The fullest clusters have kept nearly all; companions of binaries add a few percent.
    assert found["N_11"] / expected[CARBON_OXYGEN_WHITE_DWARF] == pytest.approx(1.0, abs=0.08)
    assert found["N_12"] / expected[OXYGEN_NEON_WHITE_DWARF] == pytest.approx(1.0, abs=0.08)
    # Neutron stars that stay are those of electron captures and a few percent of the others.
    captures = shares[remnants.electron_capture].sum()
    assert 0.5 * captures < found["N_13"] < 1.5 * captures
