"""Errors in bins of the prediction: known laws, planted errors, groups."""

import numpy as np
import pytest

from melotte.engine.binned_errors import BinnedErrors, percent_error, ratio_and_error
from melotte.errors import MelotteValueError

EDGES = np.arange(0.0, 10.5, 0.5)


def collected(value, error, group):
    bins = BinnedErrors(EDGES)
    bins.add(value, error, group)
    return bins.means()


def test_bins_weigh_the_same_however_full():
    value = np.r_[np.full(900, 1.2), np.full(100, 2.2)]
    error = np.r_[np.full(900, 10.0), np.full(100, 40.0)]
    found = collected(value, error, np.arange(1000))
    assert found.mean == pytest.approx(25.0)
    assert found.counts.tolist() == [900, 100]
    assert found.edges.tolist() == [1.0, 2.0, 2.5]
    assert found.since(2.0).mean == pytest.approx(40.0)
    assert np.isnan(found.since(5.0).mean)


def test_a_rare_bin_at_an_end_does_not_count():
    value = np.r_[np.full(997, 5.2), np.full(3, 0.2)]
    error = np.r_[np.full(997, 10.0), np.full(3, 1000.0)]
    assert collected(value, error, np.arange(1000)).mean == pytest.approx(10.0)
    error[-3:], value[-3:] = 1000.0, 5.2
    assert collected(value, error, np.arange(1000)).mean > 10.0


def test_errors_are_those_of_groups_not_of_members():
    rng = np.random.default_rng(1)
    level = rng.normal(30, 5, 60)
    group = np.repeat(np.arange(60), 50)
    value = rng.uniform(1, 3, 3000)
    found = collected(value, level[group], group)
    assert found.error == pytest.approx(level.std() / np.sqrt(60), rel=0.15)
    alone = collected(value, level[group], np.arange(3000))
    assert alone.error < 0.3 * found.error


def test_pairs_of_the_same_groups_are_compared_better_than_each_is_known():
    rng = np.random.default_rng(2)
    level = rng.normal(30, 8, 40)[np.repeat(np.arange(40), 20)]
    group, value = np.repeat(np.arange(40), 20), rng.uniform(1, 3, 800)
    one, other = collected(value, 0.8 * level, group), collected(value, level, group)
    ratio, error = ratio_and_error(one, other)
    assert ratio == pytest.approx(0.8)
    assert error < 1e-9
    assert other.error > 0.5


def test_batches_add_up_and_maps_count_by_pixel():
    rng = np.random.default_rng(3)
    value, error = rng.uniform(0, 9, (8, 5, 5)), rng.uniform(0, 50, (8, 5, 5))
    value[0, 0, 0], error[1, 1, 1] = np.nan, np.nan
    group = np.array([4, 4, 9, 9, 1, 1, 1, 2])
    whole = collected(value, error, group)
    parts = BinnedErrors(EDGES)
    for rows in (slice(0, 3), slice(3, 8)):
        parts.add(value[rows], error[rows], group[rows])
    again = parts.means()
    np.testing.assert_allclose(whole.means, again.means)
    np.testing.assert_allclose(whole.resamples, again.resamples)
    assert parts.n_groups == 4
    flat = collected(value.ravel(), error.ravel(), np.repeat(group, 25))
    np.testing.assert_allclose(whole.means, flat.means)


def test_nothing_gives_nothing_and_wrong_edges_are_refused():
    assert np.isnan(BinnedErrors(EDGES).means().mean)
    with pytest.raises(MelotteValueError, match="must ascend"):
        BinnedErrors([1.0, 1.0])


def test_percent_errors_are_of_the_prediction():
    np.testing.assert_allclose(percent_error([2.0, 1.0], [1.0, 2.0]), [50.0, 100.0])
