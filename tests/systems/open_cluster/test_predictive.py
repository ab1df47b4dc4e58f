"""The posterior-predictive check accepts right posteriors and refuses wrong ones."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.systems.open_cluster.known_stars import known_list
from melotte.systems.open_cluster.predictive import (
    PredictiveCheck,
    check_list,
    faint_limit,
    judge,
    replicate,
)
from melotte.systems.open_cluster.predictive_statistics import STATISTICS
from melotte.systems.open_cluster.settings import DataSettings
from melotte.systems.open_cluster.simulator import ClusterSimulator

SETTINGS = DataSettings()
THETA = np.array([8.7, 0.6, 1.0, 0.0])
REPLICATES = 240


@pytest.fixture(scope="module")
def simulator():
    return ClusterSimulator(SETTINGS)


def posterior_about(theta, n=200, seed=0):
    width = np.array([0.06, 0.05, 0.03 * theta[2], 0.08])
    return np.asarray(theta) + width * np.random.default_rng(seed).normal(size=(n, 4))


def check(simulator, stars, samples, seed=0) -> PredictiveCheck:
    generator = torch.Generator().manual_seed(seed)
    return check_list(simulator, stars, samples, "EDR3", generator, REPLICATES)


@pytest.fixture(scope="module")
def members(simulator):
    generator = torch.Generator().manual_seed(5)
    return known_list(simulator.grid, THETA, 250, generator, settings=SETTINGS).stars


def test_replicates_are_of_the_length_release_and_limit_asked_for(simulator):
    generator = torch.Generator().manual_seed(1)
    lists = replicate(simulator, posterior_about(THETA), 80, "EDR3", 17.2, generator, 20)
    assert lists.n_sets == 20
    assert (lists.counts == 80).float().mean() > 0.9
    assert float(lists.values[:, 0].max()) < 17.2
    assert float(lists.values[:, 0].max()) > 16.9


def test_the_faint_limit_is_a_usual_one_or_just_below_the_faintest_star():
    usual = (18.0, 19.0)
    assert faint_limit(np.array([14.0, 16.0, 17.95]), usual) == 18.0
    assert 17.3 < faint_limit(np.linspace(12, 17.3, 50), usual) < 17.7


def test_mocks_under_their_own_parameters_are_seldom_refused(simulator):
    """Calibrated: the p-values of mocks are not smaller than uniform ones."""
    generator = torch.Generator().manual_seed(9)
    clusters = simulator.draw(30, generator)
    lists = simulator.observe(clusters, generator)[0]
    values = []
    for i in range(len(clusters)):
        release = "DR2" if int(clusters.release[i]) else "EDR3"
        samples = clusters.theta[i : i + 1].numpy().astype(float)
        stars = lists[i].numpy()
        values.append(check_list(simulator, stars, samples, release, generator, 100).p)
    p = np.array(values)
    # Binomial: 30 uniform p-values have more than 2 below 0.01 once in 300 times.
    assert (p < 0.01).sum() <= 2
    assert (p < 0.1).mean() < 0.25
    assert np.median(p) > 0.25


def test_the_right_posterior_passes_and_a_wrong_isochrone_does_not(simulator, members):
    samples = posterior_about(THETA)
    assert check(simulator, members, samples).p > 0.05
    reddened = samples + np.array([0, 0.6, 0, 0])
    wrong = check(simulator, members, reddened)
    assert wrong.p < 0.01
    assert wrong.p_values["colour_offset"] < 0.01
    assert wrong.deviations["colour_offset"] < -3
    farther = check(simulator, members, samples * [1, 1, 1.3, 1])
    assert farther.p < 0.01
    assert check(simulator, members, samples + np.array([0.9, 0, 0, 0])).p < 0.01


def test_twice_the_reddening_and_a_second_population_are_seen(simulator, members):
    samples = posterior_about(THETA)
    generator = torch.Generator().manual_seed(6)

    def half(theta):
        return known_list(simulator.grid, np.array(theta), 250, generator, settings=SETTINGS).stars

    doubled = half([8.7, 1.2, 1.0, 0.0])
    assert check(simulator, doubled, samples).p < 0.01
    behind = np.concatenate([members[:125], half([8.7, 2.6, 1.0, 0.0])[:125]])
    assert check(simulator, behind, samples).p < 0.01
    younger = np.concatenate([members[:125], half([6.9, 0.6, 1.0, 0.0])[:125]])
    assert check(simulator, younger, samples).p < 0.01


def test_judging_finds_the_planted_statistic_and_is_uniform_otherwise():
    rng = np.random.default_rng(3)
    n = len(STATISTICS)
    values = []
    for _ in range(300):
        table = rng.normal(size=(101, n))
        values.append(judge(table[0], table[1:]).p)
    assert 0.4 < np.mean(values) < 0.6
    assert np.mean(np.array(values) < 0.1) == pytest.approx(0.1, abs=0.05)
    observed = np.zeros(n)
    observed[2] = 9.0
    planted = judge(observed, rng.normal(size=(200, n)))
    assert planted.worst == STATISTICS[2].name
    assert planted.p == pytest.approx(1 / 201)


def test_a_list_of_one_star_gives_a_finite_answer(simulator, members):
    found = check(simulator, members[:1], posterior_about(THETA))
    assert 0 < found.p <= 1
