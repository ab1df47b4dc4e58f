"""Velocity dispersions: robust against outliers, efficient, free of redshift errors."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.baselines.nfw_dispersion import (
    aperture_dispersion,
    line_of_sight_dispersion,
    nfw_mass,
)
from melotte.baselines.velocity_dispersion import (
    SCALES,
    biweight_scale,
    chosen_members,
    gapper_scale,
    velocity_dispersions,
)
from melotte.errors import MelotteValueError


@pytest.mark.parametrize("scale", SCALES)
def test_scales_of_many_gaussian_velocities(scale):
    velocity = np.random.default_rng(1).normal(300, 850, 4000)
    assert SCALES[scale](velocity) == pytest.approx(850, rel=0.03)
    assert SCALES[scale](velocity + 1e4) == pytest.approx(SCALES[scale](velocity), rel=1e-9)
    assert SCALES[scale](2 * velocity) == pytest.approx(2 * SCALES[scale](velocity), rel=1e-9)


def test_gapper_is_unbiased_for_ten_galaxies():
    rng = np.random.default_rng(2)
    found = np.mean([gapper_scale(rng.normal(0, 1, 10)) for _ in range(4000)])
    assert found == pytest.approx(1, abs=4 * 0.24 / np.sqrt(4000))


def test_the_biweight_hardly_feels_outliers_that_ruin_the_standard_deviation():
    rng = np.random.default_rng(3)
    velocity = np.concatenate([rng.normal(0, 800, 180), rng.uniform(4000, 6000, 10)])
    assert biweight_scale(velocity) == pytest.approx(800, rel=0.15)
    assert velocity.std() > 1.3 * 800


def test_biweight_of_a_small_sample_by_hand():
    velocity = np.array([-100.0, 0.0, 100.0, 5000.0])
    # Median 50, median deviation 100; the last lies beyond 9 deviations and does not count.
    offset = np.array([-150.0, -50.0, 50.0])
    u = (offset / 900) ** 2
    expected = np.sqrt(4 * (offset**2 * (1 - u) ** 4).sum()) / ((1 - u) * (1 - 5 * u)).sum()
    assert biweight_scale(velocity) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("error", [200.0, 500.0])
def test_redshift_errors_are_removed_without_bias(error):
    rng = np.random.default_rng(4)
    n, clusters = 60, 600
    errors = rng.uniform(0.5, 1.5, n * clusters) * error
    velocity = rng.normal(0, 700, n * clusters) + errors * rng.normal(size=n * clusters)
    offsets = np.arange(clusters + 1) * n
    raw = velocity_dispersions(velocity, offsets)
    clean = velocity_dispersions(velocity, offsets, velocity_error=errors)
    expected = 700**2 * (n - 1) / n
    spread = 4 * (clean**2).std() / np.sqrt(clusters)
    noise = (errors**2).mean()
    assert (clean**2).mean() == pytest.approx(expected - noise / n, abs=spread)
    assert (raw**2).mean() > 700**2 + 0.8 * noise


def test_sets_masks_and_few_galaxies():
    velocity = np.array([1.0, 3.0, 10.0, 20.0, 100.0])
    found = velocity_dispersions(velocity, [0, 2, 2, 5], keep=[1, 1, 1, 1, 0])
    np.testing.assert_allclose(found, [1, np.nan, 5])
    assert np.isnan(velocity_dispersions([1.0], [0, 1], "gapper")[0])
    assert velocity_dispersions([1.0, 2.0], [0, 2], velocity_error=[9.0, 9.0])[0] == 0
    with pytest.raises(MelotteValueError, match="offsets must rise from 0 to 5"):
        velocity_dispersions(velocity, [0, 4])
    with pytest.raises(MelotteValueError, match="scale 'mad' is not one of"):
        velocity_dispersions(velocity, [0, 5], "mad")  # pyright: ignore[reportArgumentType]
    with pytest.raises(MelotteValueError, match="keep has shape"):
        velocity_dispersions(velocity, [0, 5], keep=[True])


def test_chosen_members_keep_their_clusters():
    rows, offsets = chosen_members([1, 0, 0, 0, 1, 1], [0, 2, 4, 4, 6])
    assert rows.tolist() == [0, 4, 5]
    assert offsets.tolist() == [0, 1, 1, 1, 3]


def test_dispersion_in_an_nfw_halo_obeys_the_virial_theorem():
    """Three times the mean sigma_los^2 of all tracers is their potential energy, GM dM/r over M.

    Within a large radius both miss the same surface term, which falls as its inverse.
    """
    x = np.geomspace(1e-4, 50, 8000)
    mass = nfw_mass(x)
    potential = np.sum(mass[1:] / x[1:] * np.diff(mass)) / mass[-1]
    assert 3 * aperture_dispersion(50.0) ** 2 == pytest.approx(potential, rel=0.05)


def test_dispersion_within_the_virial_radius_is_that_of_the_literature():
    """sigma_ap/v200 of 0.6 to 0.7 for c = 4 (Mauduit & Mamon 2007, A&A 475, 169)."""
    ratio = aperture_dispersion(4.0) * np.sqrt(4.0 / float(nfw_mass(4.0)))
    assert 0.6 < ratio < 0.7
    profile = line_of_sight_dispersion(np.array([0.01, 0.3, 10.0]))
    assert profile[1] > profile[0]
    assert profile[1] > profile[2]
