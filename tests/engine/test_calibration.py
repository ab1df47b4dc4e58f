"""Calibration passes an exact estimator and catches wrong ones.

Power, measured over 200 seeds with 2,000 mocks, 199 samples and two parameters: a stated width
15 % too small or too large and a shift of 0.15 widths were each caught 400 times of 400; of an
exact estimator's 400 verdicts 3 were not ``calibrated``.
"""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import ndtr

from melotte.engine.calibration import CalibrationReport, calibrate
from melotte.engine.coverage import (
    expected_coverage,
    interval_coverage,
    mean_and_error,
    pit_values,
    sbc_ranks,
    uniformity,
)
from melotte.engine.point_errors import point_errors
from melotte.errors import MelotteValueError

N, S = 2000, 199


def gaussian_problem(seed, n=N, stretch=1.0, shift=0.0):
    """Truths and samples of two parameters; `stretch` narrows and `shift` moves the posterior."""
    rng = np.random.default_rng(seed)
    truth = rng.normal(size=(n, 2))
    datum = truth + rng.normal(size=(n, 2))
    centre, width = datum / 2, np.sqrt(0.5)
    noise = rng.normal(size=(n, S, 2))
    samples = centre[:, None] + width * (shift + noise / stretch)
    return samples, truth


def test_exact_estimator_is_calibrated():
    verdicts, p_values, joint = [], [], []
    for seed in range(10):
        report = calibrate(*gaussian_problem(seed), names=("a", "b"), seed=seed)
        verdicts += report.verdicts.values()
        p_values += [entry.p_value for entry in report.parameters.values()]
        joint.append(report.joint.p_value)
        for entry in report.parameters.values():
            assert abs(entry.coverage_68 - 0.68) < 4 * entry.coverage_68_error
            assert abs(entry.coverage_95 - 0.95) < 4 * entry.coverage_95_error
    assert verdicts == ["calibrated"] * 20
    assert min(p_values) > 1e-3
    assert np.median(p_values + joint) < 0.95
    assert min(joint) > 1e-3


@pytest.mark.parametrize(
    ("stretch", "shift", "verdict"),
    [
        (1.15, 0.0, "overconfident"),
        (1 / 1.15, 0.0, "underconfident"),
        (1.0, 0.15, "biased"),
        (1.0, -0.15, "biased"),
        (1.3, 0.1, "overconfident"),
        (1.1, 0.5, "biased"),
    ],
)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_wrong_estimators_are_caught(stretch, shift, verdict, seed):
    report = calibrate(*gaussian_problem(seed, stretch=stretch, shift=shift), names=("a", "b"))
    assert report.verdicts == {"a": verdict, "b": verdict}


@pytest.mark.parametrize(("stretch", "sign"), [(1.3, -1), (1 / 1.3, 1)])
def test_joint_coverage_tells_overconfidence_from_underconfidence(stretch, sign):
    joint = expected_coverage(*gaussian_problem(4, stretch=stretch))
    assert joint.p_value < 1e-3
    assert sign * joint.area > 0.02


def test_joint_coverage_catches_a_wrong_correlation_that_marginals_cannot():
    """Margins are exact, but the sign of the correlation between the parameters is wrong."""
    rng = np.random.default_rng(5)
    factor = np.linalg.cholesky(np.array([[1, 0.9], [0.9, 1]]))
    truth = rng.normal(size=(N, 2)) @ factor.T
    samples = (rng.normal(size=(N, S, 2)) @ factor.T) * np.array([1, -1])
    report = calibrate(samples, truth, ("a", "b"))
    assert report.verdicts == {"a": "calibrated", "b": "calibrated"}
    assert report.joint.p_value < 1e-6


def test_a_handful_of_mocks_gives_no_verdict():
    for n, expected in ((9, {"unknown"}), (40, {"biased"})):
        report = calibrate(*gaussian_problem(1, n=n, shift=3.0), names=("a", "b"))
        assert set(report.verdicts.values()) == expected


def test_misshapen_posterior_is_caught():
    """Right mean and right spread of the scores, but two peaks where there is one."""
    rng = np.random.default_rng(6)
    truth = rng.normal(size=(20000, 1))
    side = rng.choice([-1, 1], size=(20000, S, 1))
    samples = 0.9 * side + np.sqrt(1 - 0.81) * rng.normal(size=(20000, S, 1))
    entry = calibrate(samples, truth, ("a",)).parameters["a"]
    assert entry.verdict != "calibrated"
    assert entry.p_value < 1e-6


def test_ranks_count_samples_below_and_mark_unknown():
    samples = np.array([[[0.1], [0.2], [0.3]], [[1.0], [np.nan], [2.0]], [[1.0], [1.0], [2.0]]])
    ranks = sbc_ranks(samples, np.array([[0.25], [0.0], [np.nan]]))
    assert ranks[:, 0].tolist() == [2, -1, -1]
    pit = pit_values(ranks, 3)
    assert 0.5 <= pit[0, 0] <= 0.75
    assert np.isnan(pit[1:, 0]).all()


def test_unknown_labels_do_not_count():
    samples, truth = gaussian_problem(7)
    truth[::2, 1] = np.nan
    report = calibrate(samples, truth, ("a", "b"))
    assert report.parameters["a"].n == N
    assert report.parameters["b"].n == N // 2
    assert report.joint.n == N // 2
    assert report.verdicts["b"] == "calibrated"


@pytest.mark.parametrize("n_samples", [9, 50])
def test_coverage_is_unbiased_for_few_samples(n_samples):
    rng = np.random.default_rng(8)
    truth, samples = rng.random((40000, 1)), rng.random((40000, n_samples, 1))
    pit = pit_values(sbc_ranks(samples, truth), n_samples)[:, 0]
    for level in (0.68, 0.95):
        coverage = interval_coverage(pit, level)
        assert coverage.error == pytest.approx(np.sqrt(level * (1 - level) / 40000), rel=0.05)
        assert abs(coverage.fraction - level) < 4 * coverage.error


def test_grouped_error_is_honest_where_the_binomial_one_is_not():
    """Ten views share a parent: over repeats, only the grouped error matches the true scatter."""
    rng = np.random.default_rng(9)
    n_groups, views = 150, 10
    group = np.repeat(np.arange(n_groups), views)
    fractions, grouped, naive, p_grouped, p_naive = [], [], [], [], []
    for _ in range(200):
        parent = rng.normal(size=(n_groups, 1))
        mixed = np.sqrt(0.7) * parent + np.sqrt(0.3) * rng.normal(size=(n_groups, views))
        pit = ndtr(mixed).ravel()
        coverage = interval_coverage(pit, 0.68, group)
        fractions.append(coverage.fraction)
        grouped.append(coverage.error)
        naive.append(interval_coverage(pit, 0.68).error)
        p_grouped.append(uniformity(pit, group))
        p_naive.append(uniformity(pit))
    scatter = np.std(fractions)
    assert np.mean(grouped) == pytest.approx(scatter, rel=0.2)
    assert np.mean(naive) < 0.6 * scatter
    assert np.mean(np.array(p_grouped) < 0.05) < 0.12
    assert np.mean(np.array(p_naive) < 0.05) > 0.3


def test_uniformity_p_values_are_uniform():
    rng = np.random.default_rng(10)
    p_values = np.array([uniformity(rng.random(1000)) for _ in range(400)])
    assert abs(np.mean(p_values < 0.1) - 0.1) < 4 * np.sqrt(0.09 / 400)
    assert np.isnan(uniformity(rng.random(20)))


def test_error_of_the_mean_without_groups_is_the_textbook_one():
    values = np.random.default_rng(11).normal(size=500)
    mean, error = mean_and_error(values)
    assert mean == pytest.approx(values.mean())
    assert error == pytest.approx(values.std(ddof=1) / np.sqrt(500))
    assert np.isnan(mean_and_error(values, np.zeros(500))[1])


def test_report_survives_json():
    report = calibrate(*gaussian_problem(12, n=300), names=("a", "b"))
    text = json.dumps(report.as_json(), allow_nan=False)
    assert CalibrationReport.from_json(json.loads(text)) == report
    small = calibrate(np.zeros((1, 5, 1)), np.array([[np.nan]]), ("a",))
    assert small.verdicts == {"a": "unknown"}
    json.dumps(small.as_json(), allow_nan=False)
    with pytest.raises(MelotteValueError, match="malformed"):
        CalibrationReport.from_json({"parameters": {}})


def test_wrong_shapes_are_refused():
    with pytest.raises(MelotteValueError, match="shape"):
        sbc_ranks(np.zeros((3, 10)), np.zeros((3, 1)))
    with pytest.raises(MelotteValueError, match="names"):
        calibrate(np.zeros((3, 10, 2)), np.zeros((3, 2)), ("a",))
    with pytest.raises(MelotteValueError, match="group"):
        uniformity(np.zeros(3), np.zeros(4))


def test_point_errors_of_a_known_case():
    truth = np.array([0.0, 1.0, 2.0, 3.0, np.nan])
    estimate = truth + np.array([0.1, -0.1, 0.3, 0.1, 0.0])
    errors = point_errors(estimate, truth)
    assert errors.n == 4
    assert errors.bias == pytest.approx(0.1)
    assert errors.mae == pytest.approx(0.15)
    assert errors.std == pytest.approx(np.sqrt(0.08 / 3))
    assert errors.r2 == pytest.approx(1 - 0.12 / 5)
    assert errors.p95_abs == pytest.approx(0.27)
    assert set(errors.as_json()) == {"bias", "std", "mae", "r2", "p95_abs"}
    assert point_errors([1.0], [1.0]).as_json()["r2"] is None
