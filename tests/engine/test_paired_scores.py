"""The bootstrap finds a planted difference and none between equal methods."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.engine.paired_scores import (
    compare_paired,
    mean_r2,
    resample_counts,
    target_errors,
)
from melotte.errors import MelotteValueError


@pytest.fixture
def truth() -> np.ndarray:
    return np.random.default_rng(1).normal(size=(400, 2)) * [1.0, 3.0] + [5.0, -2.0]


def noisy(truth: np.ndarray, scatter: float, seed: int) -> np.ndarray:
    drawn = np.random.default_rng(seed).normal(size=truth.shape)
    return truth + scatter * truth.std(0) * drawn


def test_scores_are_those_of_planted_errors(truth: np.ndarray) -> None:
    shifted = truth + np.array([0.5, -1.0])
    first, second = target_errors(shifted, truth)
    assert (first.bias, first.std, first.mae) == pytest.approx((0.5, 0.0, 0.5), abs=1e-12)
    assert second.bias == pytest.approx(-1.0)
    assert first.r2 == pytest.approx(1 - 0.25 / truth[:, 0].var())
    assert mean_r2((first, second)) == pytest.approx((first.r2 + second.r2) / 2)


def test_a_planted_difference_is_found(truth: np.ndarray) -> None:
    better, worse = noisy(truth, 0.3, 2), noisy(truth, 0.5, 3)
    found = compare_paired(better, worse, truth)
    expected = mean_r2(target_errors(better, truth)) - mean_r2(target_errors(worse, truth))
    assert found.n == 400
    assert found.mean.difference == pytest.approx(expected)
    assert found.mean.difference == pytest.approx(0.16, abs=0.05)
    assert 0 < found.mean.low < found.mean.difference < found.mean.high
    assert found.mean.share_first_wins > 0.999
    back = compare_paired(worse, better, truth)
    assert back.mean.low == pytest.approx(-found.mean.high)
    assert back.mean.share_first_wins < 0.001


def test_a_difference_in_one_target_shows_in_that_target(truth: np.ndarray) -> None:
    first, second = noisy(truth, 0.4, 4), noisy(truth, 0.4, 4)
    first[:, 0] = noisy(truth, 0.1, 4)[:, 0]
    found = compare_paired(first, second, truth)
    assert found.targets[0].low > 0
    assert found.targets[1].difference == 0
    assert found.targets[1].share_first_wins == 0.5


def test_the_interval_holds_the_true_difference_as_often_as_it_says() -> None:
    """Equal methods: about 95 % of intervals hold zero; 60 trials, so 51 to 60 (four sigma)."""
    inside = 0
    for trial in range(60):
        generator = np.random.default_rng(trial)
        truth = generator.normal(size=(200, 2))
        first, second = (truth + 0.4 * generator.normal(size=(200, 2)) for _ in range(2))
        found = compare_paired(first, second, truth, n_resamples=400, seed=trial)
        inside += found.mean.low <= 0 <= found.mean.high
    assert inside >= 51


def test_pairing_matters(truth: np.ndarray) -> None:
    """Errors that both methods share do not widen the interval of their difference."""
    shared = noisy(truth, 0.6, 5)
    paired = compare_paired(noisy(shared, 0.05, 6), shared, truth).mean
    unpaired = compare_paired(noisy(truth, 0.6, 7), shared, truth).mean
    assert paired.high - paired.low < 0.3 * (unpaired.high - unpaired.low)


def test_rows_without_a_label_are_left_out(truth: np.ndarray) -> None:
    first, second = noisy(truth, 0.3, 2), noisy(truth, 0.5, 3)
    holed = truth.copy()
    holed[::2, 1] = np.nan
    assert compare_paired(first, second, holed).n == 200
    kept = compare_paired(first[1::2], second[1::2], truth[1::2])
    assert compare_paired(first, second, holed).mean.difference == kept.mean.difference
    assert [one.n for one in target_errors(first, holed)] == [400, 200]


def test_the_same_seed_gives_the_same_interval(truth: np.ndarray) -> None:
    pair = noisy(truth, 0.3, 2), noisy(truth, 0.35, 3)
    assert compare_paired(*pair, truth, seed=3) == compare_paired(*pair, truth, seed=3)
    assert compare_paired(*pair, truth, seed=3) != compare_paired(*pair, truth, seed=4)


def test_resamples_draw_as_many_objects_as_there_are() -> None:
    counts = resample_counts(50, 300, 0)
    assert (counts.sum(1) == 50).all()
    assert counts.mean() == pytest.approx(1.0)
    assert counts.var() == pytest.approx(1 - 1 / 50, rel=0.05)


def test_what_cannot_be_compared_is_refused(truth: np.ndarray) -> None:
    failed = truth.copy()
    failed[3, 0] = np.nan
    with pytest.raises(MelotteValueError, match="1 of the first method, 0 of the second"):
        compare_paired(failed, truth, truth)
    with pytest.raises(MelotteValueError, match="one shape"):
        compare_paired(truth[:, :1], truth, truth)
    with pytest.raises(MelotteValueError, match="needs 3"):
        compare_paired(truth[:2], truth[:2], truth[:2])
    with pytest.raises(MelotteValueError, match="at least 1"):
        compare_paired(truth, truth, truth, n_resamples=0)
    with pytest.raises(MelotteValueError, match="one shape"):
        target_errors(truth[:, 0], truth[:, 0])


def test_json_names_the_targets(truth: np.ndarray) -> None:
    document = compare_paired(truth, noisy(truth, 0.2, 2), truth).as_json(("log_age", "distance"))
    assert set(document["r2"]) == {"log_age", "distance"}
    assert document["mean_r2"]["share_first_wins"] == 1.0
