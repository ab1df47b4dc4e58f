"""Natal kicks: the moments of Maxwell's distribution, and who gets which."""

from __future__ import annotations

import math

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.sky.natal_kicks import natal_kick_speeds
from melotte.sky.remnant_table import BLACK_HOLE, NEUTRON_STAR, Remnants, remnants_of

N = 40_000


def alike(kind: int, mass: float = 1.3, fallback: float = 0.0, capture: bool = False) -> Remnants:
    return Remnants(
        np.full(N, mass),
        np.full(N, kind, np.int8),
        np.full(N, fallback),
        np.full(N, capture),
    )


def assert_maxwellian(speeds: np.ndarray, dispersion: float) -> None:
    """Mean and mean square within four standard errors."""
    mean, square = speeds.mean(), (speeds**2).mean()
    assert mean == pytest.approx(
        2 * dispersion * math.sqrt(2 / math.pi), abs=4 * 0.6734 * dispersion / math.sqrt(N)
    )
    error = 4 * math.sqrt(6 / N) * dispersion**2
    assert square == pytest.approx(3 * dispersion**2, abs=error)


def test_neutron_stars_are_maxwellian() -> None:
    speeds = natal_kick_speeds(alike(NEUTRON_STAR), np.random.default_rng(1))
    assert_maxwellian(speeds, 265.0)


def test_a_wrong_dispersion_would_be_seen() -> None:
    speeds = natal_kick_speeds(alike(NEUTRON_STAR), np.random.default_rng(1))
    with pytest.raises(AssertionError):
        assert_maxwellian(speeds, 265.0 * 1.03)


def test_electron_captures_kick_gently() -> None:
    speeds = natal_kick_speeds(alike(NEUTRON_STAR, capture=True), np.random.default_rng(2))
    assert_maxwellian(speeds, 20.0)


@pytest.mark.parametrize(
    ("black_hole", "factor"),
    [("fallback", 0.25), ("none", 0.0), ("full", 1.0), ("momentum", 1.44 / 12)],
)
def test_black_holes_are_slowed(black_hole: str, factor: float) -> None:
    holes = alike(BLACK_HOLE, mass=12.0, fallback=0.75)
    slowed = natal_kick_speeds(holes, np.random.default_rng(3), black_hole=black_hole)
    free = natal_kick_speeds(alike(NEUTRON_STAR), np.random.default_rng(3))
    np.testing.assert_allclose(slowed, factor * free)


def test_neutron_stars_are_not_slowed_by_fallback() -> None:
    with_fallback = natal_kick_speeds(alike(NEUTRON_STAR, fallback=0.2), np.random.default_rng(4))
    without = natal_kick_speeds(alike(NEUTRON_STAR), np.random.default_rng(4))
    np.testing.assert_array_equal(with_fallback, without)


def test_white_dwarfs_stay_unless_told() -> None:
    assert not natal_kick_speeds(alike(11), np.random.default_rng(5)).any()
    speeds = natal_kick_speeds(alike(11), np.random.default_rng(5), white_dwarf_dispersion=4.0)
    assert_maxwellian(speeds, 4.0)


def test_what_leaves_nothing_is_not_kicked() -> None:
    assert not natal_kick_speeds(alike(15, mass=0.0), np.random.default_rng(6)).any()


def test_stars_kicks_do_not_depend_on_their_neighbours() -> None:
    masses = np.geomspace(0.1, 140, 500)
    poor, rich = remnants_of(masses, -2.0), remnants_of(masses, 0.0)
    one = natal_kick_speeds(poor, np.random.default_rng(7))
    other = natal_kick_speeds(rich, np.random.default_rng(7))
    same = (poor.kind == NEUTRON_STAR) & (rich.kind == NEUTRON_STAR)
    same &= poor.electron_capture == rich.electron_capture
    assert same.sum() > 20
    np.testing.assert_array_equal(one[same], other[same])


def test_black_holes_of_full_fallback_stay() -> None:
    remnants = remnants_of(np.linspace(25, 140, 400), -2.0)
    speeds = natal_kick_speeds(remnants, np.random.default_rng(8))
    assert (speeds[remnants.fallback == 1] == 0).all()
    assert (remnants.fallback == 1).any()
    assert (speeds[remnants.fallback < 1] > 0).all()


@pytest.mark.parametrize("name", ["neutron_star_dispersion", "electron_capture_dispersion"])
def test_a_negative_dispersion_is_refused(name: str) -> None:
    with pytest.raises(MelotteValueError, match=f"{name} is -1"):
        natal_kick_speeds(alike(13), np.random.default_rng(9), **{name: -1.0})


def test_an_unknown_word_is_refused() -> None:
    with pytest.raises(MelotteValueError, match="must be one of: fallback"):
        natal_kick_speeds(alike(14), np.random.default_rng(9), black_hole="some")
