"""Numbers that sum up a map of dispersions."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.systems.globular_clusters.kinematics import N_NUMBERS, ZONES, kinematic_numbers
from melotte.telescope.measured_dispersions import told_error


def flux_of(bins):
    """Maps of 4 by 4 pixels a bin."""
    return torch.tensor(bins).float()[None].repeat_interleave(4, 1).repeat_interleave(4, 2)


def told(values, squared):
    """Dispersions with errors of a given standard deviation of their squares, km^2/s^2."""
    values = torch.tensor(values).float()[None]
    return values, told_error(values, torch.tensor(squared).float()[None])


def test_zones_are_of_light_from_the_brightest_bin_on():
    # The first bin has 0.6 of the light, so the next, at 0.6 to 0.8, is of the second zone.
    flux = flux_of([[60.0, 20.0], [10.0, 10.0]])
    values, errors = told([[5.0, 10.0], [15.0, 20.0]], [[25.0, 25.0], [25.0, 25.0]])
    found = kinematic_numbers(values, errors, flux)
    assert found.shape == (1, N_NUMBERS)
    means = found[0, 0::3].sinh()
    expected = [(1 + 4 + 9 + 16) / 4, 1, 4, (9 + 16) / 2]
    torch.testing.assert_close(means, torch.tensor(expected), rtol=1e-3, atol=0)
    spreads = found[0, 1::3]
    expected = [math.log10(0.5), 0, 0, math.log10(0.5**0.5)]
    torch.testing.assert_close(spreads, torch.tensor(expected), rtol=0, atol=1e-3)
    assert found[0, 2::3].tolist() == [1] * len(ZONES)


def test_bins_that_share_a_spectrum_count_once():
    flux = flux_of([[60.0, 20.0], [10.0, 10.0]])
    values, errors = told([[5.0, 10.0], [10.0, 10.0]], [[25.0, 25.0], [25.0, 25.0]])
    found = kinematic_numbers(values, errors, flux)[0]
    assert float(found[0].sinh()) == pytest.approx(2.5, rel=1e-3)
    assert float(found[1]) == pytest.approx(math.log10(0.5**0.5), abs=1e-3)


def test_noisy_spectra_count_for_little_and_unknown_ones_for_nothing():
    flux = flux_of([[60.0, math.nan], [10.0, 10.0]])
    values, errors = told([[5.0, 10.0], [15.0, math.nan]], [[25.0, 25.0], [2.5e5, 25.0]])
    errors[0, 0, 1] = math.nan
    found = kinematic_numbers(values, errors, flux)[0]
    assert bool(found.isfinite().all())
    assert float(found[0].sinh()) == pytest.approx(1, rel=1e-3)
    nothing = torch.full((1, 2, 2), math.nan)
    assert not bool(kinematic_numbers(nothing, nothing, flux).any())
