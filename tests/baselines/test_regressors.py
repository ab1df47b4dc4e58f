"""Baseline regressors learn planted relations and refuse what they cannot learn from."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from melotte.baselines.member_features import rich_features
from melotte.baselines.regressors import (
    Average,
    Boosting,
    NetworkEnsemble,
    ParallaxAlone,
    Regressor,
    average_targets,
    from_learned,
    to_learned,
)
from melotte.errors import MelotteValueError, MissingExtraError


def planted(n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Features of which three say what the targets are, and five say nothing."""
    generator = np.random.default_rng(seed)
    features = generator.normal(size=(n, 8))
    noise = 0.1 * generator.normal(size=(n, 3))
    learned = np.stack([8 + features[:, 0], 1 + np.abs(features[:, 1]), 0.3 * features[:, 2]], 1)
    features[generator.random(features.shape) < 0.02] = np.nan
    return features, from_learned(learned + noise)


def r2(estimate: np.ndarray, truth: np.ndarray) -> np.ndarray:
    return 1 - ((estimate - truth) ** 2).mean(0) / truth.var(0)


@pytest.mark.parametrize(
    "regressor",
    [
        Boosting(1, n_trees=200),
        NetworkEnsemble(1, n_networks=2, n_epochs=60),
        Average([Boosting(1, n_trees=100), NetworkEnsemble(1, n_networks=1, n_epochs=60)]),
    ],
    ids=["boosting", "networks", "average"],
)
def test_a_planted_relation_is_learned(regressor: Regressor) -> None:
    estimate = regressor.fit(*planted(600, 1)).predict(planted(300, 2)[0])
    scores = r2(to_learned(estimate), to_learned(planted(300, 2)[1]))
    assert (scores > 0.6).all(), scores
    unrelated = np.random.default_rng(9).permutation(planted(600, 1)[1])
    nothing = regressor.fit(planted(600, 1)[0], unrelated).predict(planted(300, 2)[0])
    assert (r2(to_learned(nothing), to_learned(planted(300, 2)[1])) < 0.1).all()


def test_the_same_seed_gives_the_same_predictions() -> None:
    features, targets = planted(120, 3)
    for build in (
        lambda seed: Boosting(seed, n_trees=20),
        lambda seed: NetworkEnsemble(seed, n_networks=1, n_epochs=3),
    ):
        first, again, other = (
            build(seed).fit(features, targets).predict(features) for seed in (1, 1, 2)
        )
        assert np.array_equal(first, again)
        assert not np.array_equal(first, other)


def test_parallax_alone_gives_its_inverse_and_the_means() -> None:
    features = np.array([[0.5, 0], [2.0, 0], [-1.0, 0], [np.nan, 0]])
    train = np.array([[1.0, 0], [0.25, 0]])
    targets = np.array([[8.0, 1.0, 1.0], [9.0, 3.0, 4.0]])
    estimate = ParallaxAlone(0, 1).fit(train, targets).predict(features)
    assert estimate[:, 2] == pytest.approx([2.0, 0.5, 20.0, 2.0])
    assert estimate[:, 0] == pytest.approx([8.5] * 4)
    assert estimate[:, 1] == pytest.approx([2.0] * 4)


def test_parallax_alone_finds_the_offset_of_each_release() -> None:
    distance = np.array([0.5, 1.0, 2.0, 4.0] * 2)
    dr2 = np.repeat([0.0, 1.0], 4)
    features = np.stack([1 / distance - np.where(dr2 == 1, 0.07, 0.02), dr2], axis=1)
    targets = np.stack([np.full(8, 8.0), np.ones(8), distance], axis=1)
    model = ParallaxAlone(0, 1).fit(features, targets)
    assert model.predict(features)[:, 2] == pytest.approx(distance)
    swapped = features * [1, -1] + [0, 1]
    assert model.predict(swapped)[:, 2] != pytest.approx(distance, rel=1e-3)


def test_distances_are_averaged_as_logarithms() -> None:
    one, other = np.array([[8.0, 1.0, 1.0]]), np.array([[9.0, 2.0, 4.0]])
    assert average_targets([one, other]) == pytest.approx(np.array([[8.5, 1.5, 2.0]]))


def test_distances_of_mocks_are_learned_from_member_lists() -> None:
    """Mock lists of few stars: the mean parallax and the sequence tell the distance."""
    import torch

    from melotte.ragged import Ragged
    from melotte.systems.open_cluster.settings import DataSettings, ModelSettings
    from melotte.systems.open_cluster.system import OpenCluster

    system = OpenCluster(DataSettings(members=(30, 80)), ModelSettings())
    generator = torch.Generator().manual_seed(4)
    batch = system.observe(system.draw(260, generator), generator)
    stars = batch.observation.data["stars"]
    assert isinstance(stars, Ragged)
    features, names = rich_features(stars.values.numpy(), stars.offsets.numpy())
    truth = batch.theta[:, :3].double().numpy()
    model = Boosting(0, n_trees=120).fit(features[:200], truth[:200])
    scores = r2(to_learned(model.predict(features[200:])), to_learned(truth[200:]))
    assert scores[2] > 0.8, scores
    assert scores[0] > 0.2, scores
    assert len(names) == features.shape[1]


@pytest.mark.parametrize("regressor", [Boosting(), NetworkEnsemble(), ParallaxAlone(0, 1)])
def test_predicting_before_learning_is_refused(regressor: Regressor) -> None:
    with pytest.raises(MelotteValueError, match="fit the regressor"):
        regressor.predict(np.zeros((1, 4)))


def test_unusable_training_sets_are_refused() -> None:
    features, targets = planted(20, 1)
    with pytest.raises(MelotteValueError, match="n >= 2"):
        Boosting().fit(features, targets[:, :2])
    broken = targets.copy()
    broken[4, 1], broken[7, 2] = np.nan, 0.0
    with pytest.raises(MelotteValueError, match="2 of 20 training rows"):
        Boosting().fit(features, broken)
    with pytest.raises(MelotteValueError, match="at least one"):
        Average([])


def test_a_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sklearn.ensemble", None)
    with pytest.raises(MissingExtraError, match=r"melotte\[baselines\]"):
        Boosting().fit(*planted(20, 1))
