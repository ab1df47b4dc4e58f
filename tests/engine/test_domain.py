"""The domain check: 1 % false alarms in total, power on outliers, missing summaries, reasons."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import ndtri

from melotte.engine.domain import DomainReference
from melotte.engine.domain_statistics import normal_scores
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag

NAMES = ("count", "colour", "fraction", "parallax", "scatter")


def mocks(n, seed, missing=0.2):
    """Skewed, tied, correlated and partly missing summaries; an embedding on a curved sheet."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n, 3))
    summaries = np.stack(
        [
            np.exp(1.5 * hidden[:, 0]),
            hidden[:, 1],
            np.clip(hidden[:, 2] - 0.5, 0, None),
            0.95 * hidden[:, 1] + 0.3 * rng.normal(size=n),
            np.where(rng.random(n) < missing, np.nan, rng.exponential(size=n)),
        ],
        1,
    )
    mixing = np.random.default_rng(0).normal(size=(3, 24))
    embedding = np.tanh(hidden @ mixing) + 0.05 * rng.normal(size=(n, 24))
    return summaries, embedding


@pytest.fixture(scope="module")
def reference():
    return DomainReference.fit(*mocks(20000, 1))


def test_total_false_alarm_is_one_per_cent_on_independent_mocks(reference):
    """Threshold from 10,000 mocks and 20,000 independent ones: 4 standard errors of both."""
    flags = reference.judge(*mocks(20000, 2)).flags
    rate = (flags > 0).mean()
    assert abs(rate - 0.01) < 4 * np.sqrt(0.01 / 10000 + 0.01 / 20000)


def of_groups(n_groups, n_each, seed):
    """Mocks that are alike within a group."""
    rng = np.random.default_rng(seed)
    middle = rng.normal(size=(n_groups, 5)).repeat(n_each, 0)
    summaries = middle + 0.1 * rng.normal(size=middle.shape)
    return summaries, np.tanh(summaries), np.arange(n_groups).repeat(n_each)


def test_thresholds_hold_for_observations_of_other_groups():
    """With 60 groups the rarest per cent is less than one of them: some excess stays."""
    rates = {"kept together": [], "split": []}
    unseen = of_groups(2000, 2, 21)[:2]
    for seed in range(22, 27):
        summaries, embedding, group = of_groups(60, 50, seed)
        for key, groups in (("kept together", group), ("split", None)):
            reference = DomainReference.fit(summaries, embedding, groups=groups)
            rates[key].append((reference.judge(*unseen).flags > 0).mean())
    assert np.mean(rates["split"]) > 0.08
    assert np.mean(rates["kept together"]) < 0.03


@pytest.mark.parametrize("n_groups", [1, 19, 6000])
def test_groups_are_split_where_they_are_few_and_do_not_matter_alone(n_groups):
    summaries, embedding = mocks(6000, 22)
    group = np.arange(6000) % n_groups
    found = DomainReference.fit(summaries, embedding, groups=group)
    assert (found.thresholds == DomainReference.fit(summaries, embedding).thresholds).all()


def test_each_distance_takes_part(reference):
    distances, _ = reference.distances(*mocks(20000, 3))
    either = (distances > reference.thresholds).mean(0)
    assert (either > 0.002).all()
    assert (either < 0.01).all()


@pytest.mark.parametrize(
    ("column", "value", "name"),
    [(0, 1e4, "count"), (1, 7.0, "colour"), (2, 12.0, "fraction"), (3, -6.0, "parallax")],
)
def test_a_wild_summary_is_flagged_and_named(reference, column, value, name):
    summaries, embedding = mocks(500, 4)
    summaries[:, column] = value
    judged = reference.judge(summaries, embedding, NAMES)
    assert (judged.flags == Flag.OUT_OF_DOMAIN).mean() > 0.9
    named = np.mean([name in reason for reason in judged.reasons if reason])
    assert named > 0.8


def test_a_broken_correlation_is_flagged_though_each_summary_is_usual(reference):
    summaries, embedding = mocks(500, 5)
    summaries[:, 1], summaries[:, 3] = 1.5, -1.5
    judged = reference.judge(summaries, embedding, NAMES)
    assert (judged.flags > 0).mean() > 0.9
    assert judged.contributions[:, 1].mean() > 3
    assert judged.contributions[:, 3].mean() < -3


def test_a_foreign_embedding_is_flagged(reference):
    summaries, embedding = mocks(500, 6)
    shuffled = np.random.default_rng(7).permuted(embedding, axis=0)
    judged = reference.judge(summaries, shuffled, NAMES)
    assert (judged.flags > 0).mean() > 0.9
    assert "embedding" in judged.reasons[0]


def test_missing_summaries(reference):
    summaries, embedding = mocks(4000, 8, missing=1.0)
    judged = reference.judge(summaries, embedding)
    assert (judged.flags > 0).mean() < 0.03
    assert np.isnan(judged.contributions[:, 4]).all()
    summaries[0, 0] = np.nan
    summaries[1, 1] = np.inf
    summaries[2] = np.nan
    embedding[3, 0] = np.nan
    judged = reference.judge(summaries, embedding, NAMES)
    assert (judged.flags[:4] > 0).all()
    assert np.isfinite(judged.score).all()
    assert "count is missing" in judged.reasons[0]
    assert "colour is missing or infinite" in judged.reasons[1]


def test_summaries_that_mocks_often_lack_may_be_all_missing():
    summaries, embedding = mocks(4000, 9)
    summaries[np.random.default_rng(1).random(4000) < 0.3] = np.nan
    judged = DomainReference.fit(summaries, embedding).judge(summaries, embedding)
    assert (judged.flags > 0).mean() < 0.02


def test_a_summary_that_no_mock_has_is_not_looked_at():
    summaries, embedding = mocks(4000, 13, missing=1.0)
    unseen, unseen_embedding = mocks(4000, 14, missing=1.0)
    found = DomainReference.fit(summaries, embedding)
    without = DomainReference.fit(summaries[:, :4], embedding)
    expected = without.judge(unseen[:, :4], unseen_embedding)
    for value in (np.nan, 5.0, 1e9):
        unseen[:, 4] = value
        judged = found.judge(unseen, unseen_embedding)
        np.testing.assert_allclose(judged.score, expected.score)
    again = DomainReference.from_tensors(found.tensors())
    assert (again.judge(unseen, unseen_embedding).flags == judged.flags).all()


def test_reference_survives_as_tensors(reference):
    tensors = reference.tensors()
    assert all(tensor.dtype == torch.float32 for tensor in tensors.values())
    again = DomainReference.from_tensors(tensors)
    rows = mocks(300, 10)
    np.testing.assert_allclose(again.judge(*rows).score, reference.judge(*rows).score, rtol=0.01)
    del tensors["thresholds"]
    with pytest.raises(MelotteFileError, match="thresholds"):
        DomainReference.from_tensors(tensors)


def test_constant_and_duplicate_summaries_do_not_break_the_fit():
    summaries, embedding = mocks(2000, 11)
    summaries = np.column_stack([summaries, np.full(2000, 3.0), summaries[:, 0]])
    embedding[:, 3] = 1.0
    reference = DomainReference.fit(summaries, embedding)
    assert (reference.judge(summaries, embedding).flags > 0).mean() < 0.02
    summaries[:, 5] = 4.0
    assert (reference.judge(summaries, embedding).flags > 0).all()


def test_wrong_input_is_refused(reference):
    summaries, embedding = mocks(1000, 12)
    with pytest.raises(MelotteFileError, match="4 summaries and 24 features"):
        reference.judge(summaries[:, :4], embedding)
    with pytest.raises(MelotteValueError, match="at least 400"):
        DomainReference.fit(summaries[:100], embedding[:100])
    embedding[5] = np.nan
    with pytest.raises(MelotteValueError, match="not finite"):
        DomainReference.fit(summaries, embedding)


def test_normal_scores_of_a_normal_sample_are_its_own():
    levels = (np.arange(129) + 0.5) / 129
    knots = (2 + 3 * ndtri(levels))[None]
    values = np.array([[2.0], [5.0], [-1.0], [23.0], [-19.0], [np.nan]])
    scores = normal_scores(values, knots)[:, 0]
    np.testing.assert_allclose(scores[:3], [0, 1, -1], atol=0.01)
    np.testing.assert_allclose(scores[3:5], [7, -7], rtol=0.01)
    assert np.isnan(scores[5])
