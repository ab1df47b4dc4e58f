"""Magnitudes of simulated stars against those of another code, and against themselves."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.io.snapshot_files import read_snapshots
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.isochrones import StellarGrid
from melotte.sky.snapshot_photometry import (
    reed_1998_correction,
    white_dwarf_correction,
    with_photometry,
)

ZERO_POINT = -0.167
"""Our V minus MOCCA's at [Fe/H] = -0.5, mag."""


@pytest.fixture(scope="module")
def mocca(shared_data: Path) -> StarSnapshot:
    path = shared_data / "globular" / "formats" / "mocca_12gyr_first300.dat"
    return next(read_snapshots(path, time=12_000.0, metallicity=-0.5))


def without(snapshot: StarSnapshot, *names: str) -> StarSnapshot:
    """The snapshot with columns forgotten."""
    return replace(snapshot, **{name: np.full(len(snapshot), np.nan) for name in names})


def groups(snapshot: StarSnapshot) -> dict[str, np.ndarray]:
    dwarf = snapshot.kind <= 1
    return {
        "giants": (snapshot.kind >= 2) & (snapshot.kind <= 9),
        "bright dwarfs": dwarf & (snapshot.mass >= 0.6),
        "middle dwarfs": dwarf & (snapshot.mass >= 0.3) & (snapshot.mass < 0.6),
        "faint dwarfs": dwarf & (snapshot.mass < 0.3),
        "white dwarfs": snapshot.is_white_dwarf,
    }


@pytest.mark.parametrize(
    ("group", "visual", "colour", "tolerance"),
    [
        ("giants", ZERO_POINT, -0.014, 0.005),
        ("bright dwarfs", ZERO_POINT, -0.014, 0.005),
        ("middle dwarfs", ZERO_POINT, 0.011, 0.005),
        ("faint dwarfs", -0.161, -0.038, 0.01),
        ("white dwarfs", 0.018, 0.589, 0.03),
    ],
)
def test_medians_against_mocca_by_kind(
    mocca: StarSnapshot, group: str, visual: float, colour: float, tolerance: float
) -> None:
    chosen = groups(mocca)[group]
    ours = with_photometry(without(mocca, "magnitude_v", "magnitude_b")).select(chosen)
    theirs = mocca.select(chosen)
    difference = np.median(ours.magnitude_v - theirs.magnitude_v)
    ours_colour = ours.magnitude_b - ours.magnitude_v
    theirs_colour = theirs.magnitude_b - theirs.magnitude_v
    assert difference == pytest.approx(visual, abs=tolerance)
    assert np.median(ours_colour - theirs_colour) == pytest.approx(colour, abs=tolerance)


def test_total_light_against_mocca_is_one_zero_point(mocca: StarSnapshot) -> None:
    ours = with_photometry(without(mocca, "magnitude_v", "magnitude_b"))
    ratio = ours.total_light_v / mocca.total_light_v
    assert ratio * 10 ** (0.4 * ZERO_POINT) == pytest.approx(1.0, abs=0.01)


def test_white_dwarfs_hardly_matter_to_the_light(mocca: StarSnapshot) -> None:
    share = mocca.light_v[mocca.is_white_dwarf].sum() / mocca.total_light_v
    assert 0 < share < 1e-4


def test_reed_against_mocca_by_kind(mocca: StarSnapshot) -> None:
    shining = mocca.kind < 13
    stars = mocca.select(shining)
    bolometric = 4.74 - 2.5 * np.log10(stars.luminosity)
    error = bolometric - reed_1998_correction(stars.temperature) - stars.magnitude_v
    medians = {name: float(np.median(error[chosen])) for name, chosen in groups(stars).items()}
    # Independently known: giants +.03, bright dwarfs 0, .3-.6 Msun +.22, white dwarfs +2.2.
    assert medians["giants"] == pytest.approx(0.02, abs=0.02)
    assert medians["bright dwarfs"] == pytest.approx(-0.02, abs=0.02)
    assert medians["middle dwarfs"] == pytest.approx(0.17, abs=0.05)
    assert medians["white dwarfs"] > 2.0


def test_reed_has_the_sun_of_the_paper_and_its_temperature_factor() -> None:
    assert reed_1998_correction(5772.0) == pytest.approx(-0.18, abs=0.002)
    assert reed_1998_correction(1e4) == pytest.approx(-0.438)


def test_the_sun() -> None:
    sun = StarSnapshot.of(
        [1.0], [1], luminosity=[1.0], temperature=[5772.0], metallicity=0.0, radius=[1.0]
    )
    found = with_photometry(sun)
    assert found.magnitude_v[0] == pytest.approx(4.81, abs=0.06)
    assert found.magnitude_b[0] - found.magnitude_v[0] == pytest.approx(0.65, abs=0.03)


def test_what_is_known_stays(mocca: StarSnapshot) -> None:
    assert with_photometry(mocca) is mocca
    half = without(mocca, "magnitude_b")
    filled = with_photometry(half)
    np.testing.assert_array_equal(filled.magnitude_v, mocca.magnitude_v)
    assert not np.isnan(filled.magnitude_b).any()


def test_white_dwarf_correction_goes_on_as_a_blackbody() -> None:
    correction, colour = white_dwarf_correction([5e4, 5e5])
    assert correction[1] - correction[0] == pytest.approx(-7.5)
    assert colour[1] == colour[0]
    assert white_dwarf_correction(1e4)[0] == pytest.approx(-0.349)


def test_isochrone_where_luminosity_is_unknown() -> None:
    grid = StellarGrid.shipped(("Bessell_V", "Bessell_B"))
    points = grid.isochrone(np.log10(12e9), -1.0)
    at = np.searchsorted(points.initial_mass, [0.3, 0.5, 0.75])
    expected = points.magnitudes(("Bessell_V", "Bessell_B"))[at]
    stars = StarSnapshot.of(
        points.current_mass[at],
        [0, 0, 1],
        time=12_000.0,
        metallicity=-1.0,
        initial_mass=points.initial_mass[at],
        radius=np.ones(3),
    )
    found = with_photometry(stars, grid)
    np.testing.assert_allclose(found.magnitude_v, expected[:, 0], atol=1e-3)
    np.testing.assert_allclose(found.magnitude_b, expected[:, 1], atol=1e-3)
    np.testing.assert_allclose(np.log10(found.luminosity), points.log_luminosity[at], atol=1e-3)
    again = with_photometry(without(found, "magnitude_v", "magnitude_b"), grid)
    np.testing.assert_allclose(again.magnitude_v, found.magnitude_v, atol=2e-3)


def test_dark_remnants_and_the_dead_give_no_light_and_are_counted() -> None:
    stars = StarSnapshot.of(
        [1.4, 10.0, 0.6, 5.0],
        [13, 14, 11, 1],
        time=12_000.0,
        metallicity=-1.0,
        radius=np.ones(4),
    )
    found = with_photometry(stars)
    assert np.isposinf(found.magnitude_v).all()
    assert np.isposinf(found.magnitude_b).all()
    assert found.total_light_v == 0.0
    counts = found.provenance["photometry"]
    assert counts["dark"] == 3
    assert counts["dead on the isochrone"] == 1


def test_no_light_is_dark_and_unknown_light_is_not() -> None:
    stars = StarSnapshot.of(
        np.full(5, 0.6),
        [0, 0, 0, 3, 11],
        time=12_000.0,
        metallicity=-1.0,
        luminosity=[0.0, np.nan, 0.05, 0.0, 0.0],
        temperature=[5000.0, np.nan, np.nan, np.nan, 6000.0],
    )
    found = with_photometry(stars)
    dark = [True, False, False, True, True]
    np.testing.assert_array_equal(np.isposinf(found.magnitude_v), dark)
    np.testing.assert_array_equal(np.isposinf(found.magnitude_b), dark)
    np.testing.assert_array_equal(found.luminosity == 0, dark)
    assert found.magnitude_v[1] == found.magnitude_v[2]
    counts = found.provenance["photometry"]
    assert (counts["dark"], counts["isochrone"]) == (3, 2)


def test_stars_without_light_need_no_isochrone() -> None:
    stars = StarSnapshot.of([0.6, 0.7], [1, 2], luminosity=[0.0, 0.0])
    assert with_photometry(stars).total_light_v == 0.0


@pytest.mark.parametrize(
    ("known", "message"),
    [
        ({"time": 12_000.0}, r"need \[Fe/H\], which is unknown"),
        ({"metallicity": -1.0}, "need a time above 0, not nan Myr"),
        ({"time": 12_000.0, "metallicity": -5.0}, r"-5"),
    ],
)
def test_what_is_missing_is_said(known: dict, message: str) -> None:
    stars = StarSnapshot.of([0.5], [0], radius=[1.0], **known)
    with pytest.raises(MelotteValueError, match=message):
        with_photometry(stars)
