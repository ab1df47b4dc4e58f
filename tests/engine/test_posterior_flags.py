"""Flags of posteriors: false alarms on single peaks, power on two, prior ends that matter."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.engine.posterior_flags import (
    at_prior_edge,
    flag_posteriors,
    is_multimodal,
    truncating_ends,
)
from melotte.flags import Flag
from melotte.parameters import Parameter

AGE = Parameter("log_age", 6.0, 10.0)
EXTINCTION = Parameter("extinction_v", 0.0, 3.0, unit="mag")
DISTANCE = Parameter("distance", 0.1, 10.0, unit="kpc", scale="log")
METALLICITY = Parameter("metallicity", -1.0, 0.5, scale="normal", centre=0.0, width=0.25)


@pytest.mark.parametrize("n_samples", [100, 400, 1000])
@pytest.mark.parametrize("shape", ["normal", "uniform", "exponential", "student", "lognormal"])
def test_one_peak_raises_fewer_than_one_false_alarm_in_a_hundred(n_samples, shape):
    rng = np.random.default_rng(21)
    size = (2000, n_samples)
    draws = {
        "normal": rng.normal(0.5, 0.1, size),
        "uniform": rng.random(size),
        "exponential": rng.exponential(0.1, size),
        "student": rng.standard_t(3, size),
        "lognormal": np.exp(0.6 * rng.normal(size=size)),
    }[shape]
    assert is_multimodal(draws).mean() < 0.01


@pytest.mark.parametrize(("share", "distance"), [(0.5, 4.0), (0.3, 5.0), (0.15, 6.0)])
def test_two_peaks_are_seen(share, distance):
    """Distances in standard deviations of a peak."""
    rng = np.random.default_rng(22)
    side = rng.random((500, 400)) < share
    assert is_multimodal(rng.normal(size=side.shape) + distance * side).mean() > 0.95


def test_a_shoulder_is_no_second_peak():
    rng = np.random.default_rng(23)
    side = rng.random((500, 400)) < 0.4
    assert is_multimodal(rng.normal(size=side.shape) + 1.8 * side).mean() < 0.02


def test_constant_samples_have_one_peak():
    assert not is_multimodal(np.full((3, 200), 0.4)).any()


@pytest.mark.parametrize(
    ("parameter", "ends"),
    [
        (AGE, (True, True)),
        (EXTINCTION, (False, True)),
        (DISTANCE, (True, True)),
        (METALLICITY, (False, True)),
        (Parameter("m", -0.2, 1, scale="normal", centre=0, width=0.25), (True, False)),
    ],
)
def test_ends_that_cut(parameter, ends):
    assert truncating_ends(parameter) == ends


def test_edge_needs_a_tenth_of_the_samples():
    samples = np.full((4, 200, 1), 0.5)
    samples[0, :19] = 0.995
    samples[1, :21] = 0.995
    samples[2, :21] = 0.005
    samples[3, :100] = 0.03
    assert at_prior_edge(samples, [AGE]).tolist() == [False, True, True, False]
    assert at_prior_edge(samples, [EXTINCTION]).tolist() == [False, True, False, False]


def test_posterior_equal_to_the_prior_is_not_at_its_edge():
    samples = np.random.default_rng(24).random((500, 400, 1))
    assert not at_prior_edge(samples, [AGE]).any()


def test_flags_are_merged_and_failed_rows_are_left_alone():
    rng = np.random.default_rng(25)
    samples = rng.normal(0.5, 0.05, (4, 400, 2))
    samples[1, :, 0] = rng.random(400) * 0.01
    samples[2, :200, 1] = rng.normal(0.2, 0.02, 200)
    samples[3, 0, 0] = np.nan
    flags = flag_posteriors(samples, [AGE, DISTANCE])
    assert flags.tolist() == [0, Flag.PRIOR_EDGE, Flag.MULTIMODAL, 0]
