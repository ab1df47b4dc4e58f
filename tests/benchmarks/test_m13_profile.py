"""The comparison of an image's rings with counted stars."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import m13_profile as m13

EDGES = np.geomspace(5, 70, 8)


def profile(radius):
    return 4000 * (1 + (radius / 20) ** 2) ** -1.5


def test_a_planted_profile_comes_back_with_its_factor_and_level():
    rng = np.random.default_rng(1)
    rows, columns = np.indices((160, 160))
    image = 0.05 * profile(np.hypot(columns - 70, rows - 90)) - 3 + rng.normal(0, 0.5, rows.shape)
    radius = np.geomspace(3, 90, 60)
    counts, spread = m13.in_rings(radius, profile(radius), 0.02 * profile(radius), EDGES)
    means, errors = m13.ring_means(image, (70, 90), EDGES)
    used = np.ones(len(counts), bool)
    factor, level, left = m13.compared(
        means, np.hypot(errors, means * spread / counts), counts, used, True
    )
    assert factor == pytest.approx(0.05, rel=0.03)
    assert level == pytest.approx(-3, abs=0.5)
    assert np.abs(left).max() < 0.03


def test_a_profile_of_another_shape_is_told():
    radius = np.geomspace(3, 90, 60)
    counts, _ = m13.in_rings(radius, profile(radius), 0.02 * profile(radius), EDGES)
    steeper = 0.05 * counts**1.2
    _, level, left = m13.compared(steeper, 0.01 * steeper, counts, counts > 0, False)
    assert level == 0
    assert np.ptp(left) == pytest.approx(0.2 * np.ptp(np.log10(counts)), rel=1e-6)


def test_rings_beyond_the_counts_have_none():
    radius = np.geomspace(3, 20, 20)
    counts, _ = m13.in_rings(radius, profile(radius), 0.1 * profile(radius), EDGES)
    assert np.isfinite(counts[0])
    assert np.isnan(counts[-1])


def test_the_light_of_m13_has_the_shape_of_its_counted_stars(shared_data):
    folder = shared_data / "globular"
    found = m13.light(folder / "m13.fits", m13.counted_stars(folder / "profiles" / "NGC6205.hdf"))
    assert found["rms_dex"] < 0.06
    # The sky was measured on the cluster's own outskirts.
    assert -6 < found["level"] < 0


def test_the_map_of_mass_of_m13_is_flagged_and_compared(shared_data):
    folder = shared_data / "globular"
    counts = m13.counted_stars(folder / "profiles" / "NGC6205.hdf")
    found = m13.mass(folder / "m13.fits", "globular", counts)
    assert "OUT_OF_RANGE" in found["flags"]
    assert found["level"] == 0
    assert len(found["rings"]) == m13.N_RINGS
    assert 0 < found["rms_dex"] < 0.3
