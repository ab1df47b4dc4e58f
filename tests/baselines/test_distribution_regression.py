"""Divergences against closed forms, and regressors that weigh clusters by their distribution."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.baselines.distribution_regression import (
    MeanEmbedding,
    SearchGrid,
    SupportDistributionMachine,
)
from melotte.baselines.knn_divergence import knn_divergences
from melotte.baselines.summary_regressors import (
    RICHNESS,
    SUMMARIES,
    SummaryRegressor,
    summary_features,
)
from melotte.errors import MelotteValueError

SMALL = SearchGrid(bandwidths=(1.0, 2.0), costs=(0.06, 1.0), nus=(0.5,), most=200)


def samples(*sets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(sets), np.cumsum([0, *map(len, sets)])


def gaussian_divergence(mean: float, std: float, dimensions: int) -> float:
    """D(N(0, 1) || N(mean, std)) in each of d independent dimensions."""
    return dimensions * (np.log(std) + (1 + mean**2) / (2 * std**2) - 0.5)


@pytest.mark.parametrize("dimensions", [1, 2])
@pytest.mark.parametrize(("mean", "std"), [(0.0, 1.0), (1.0, 1.0), (0.0, 2.0), (-0.5, 1.5)])
def test_divergence_of_gaussians(dimensions, mean, std):
    rng = np.random.default_rng(1)
    n, repeats = 800, 12
    p = samples(*(rng.normal(size=(n, dimensions)) for _ in range(repeats)))
    q = samples(*(rng.normal(mean, std, (n, dimensions)) for _ in range(repeats)))
    found = knn_divergences(*p, *q, 4)
    scatter = found.std() / np.sqrt(repeats)
    expected = gaussian_divergence(mean, std, dimensions)
    assert found.mean() == pytest.approx(expected, abs=4 * scatter + 0.01)


def test_divergence_is_not_symmetric_and_knows_its_direction():
    rng = np.random.default_rng(2)
    narrow = samples(*(rng.normal(size=(3000, 1)) for _ in range(4)))
    wide = samples(*(rng.normal(0, 1.5, (3000, 1)) for _ in range(4)))
    there, back = knn_divergences(*narrow, *wide).mean(), knn_divergences(*wide, *narrow).mean()
    assert there == pytest.approx(gaussian_divergence(0, 1.5, 1), abs=0.03)
    # D(N(0, 1.5) || N(0, 1)), which the few points in the tails tell.
    assert back == pytest.approx(-np.log(1.5) + 1.5**2 / 2 - 0.5, abs=0.05)
    assert back > there + 0.03


def test_the_line_and_the_plane_agree_on_the_same_points():
    """A second coordinate that is always zero changes no distance; only the factor d differs."""
    rng = np.random.default_rng(3)
    sizes = [6, 30, 200]
    sets = [rng.normal(0, s, (n, 1)) for n, s in zip(sizes, (1, 2, 3), strict=True)]
    line = samples(*sets)
    plane = samples(*(np.hstack([one, np.zeros_like(one)]) for one in sets))
    n, m = np.array(sizes)[:, None], np.array(sizes)
    on_the_line = knn_divergences(*line, *line) - np.log(m / (n - 1))
    in_the_plane = knn_divergences(*plane, *plane) - np.log(m / (n - 1))
    apart = ~np.eye(3, dtype=bool)
    np.testing.assert_allclose(2 * on_the_line[apart], in_the_plane[apart], rtol=1e-9)


def test_repeated_values_and_too_few_galaxies():
    twice = samples(np.array([[1.0], [1.0], [1.0], [1.0], [1.0], [2.0]]))
    assert np.isfinite(knn_divergences(*twice, *twice)).all()
    with pytest.raises(MelotteValueError, match="a cluster has 4 galaxies; 5 are needed"):
        knn_divergences(*samples(np.zeros((4, 1))), *twice)


def clusters(n: int, seed: int, by_radius: bool = False):
    """Clusters whose mass sets the dispersion, or only how it falls with radius."""
    rng = np.random.default_rng(seed)
    log_mass = rng.uniform(13.5, 15.3, n)
    counts = rng.integers(25, 90, n)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    radius = rng.uniform(0, 1.6, offsets[-1])
    mass = np.repeat(log_mass, counts)
    log_sigma = 3.0 + (0.0 if by_radius else 0.366) * (mass - 15)
    if by_radius:
        log_sigma = log_sigma + 0.6 * (mass - 14.4) * (radius / 0.8 - 1)
    return 10**log_sigma * rng.normal(size=offsets[-1]), radius, offsets, log_mass


@pytest.mark.parametrize(
    "model",
    [
        SupportDistributionMachine(1, grid=SMALL),
        SupportDistributionMachine(2, grid=SMALL),
        MeanEmbedding(1),
        MeanEmbedding(2),
        SummaryRegressor("ridge"),
        SummaryRegressor("boosting"),
    ],
    ids=["SDM1D", "SDM2D", "mean1D", "mean2D", "ridge", "boosting"],
)
def test_masses_of_clusters_whose_dispersion_tells_them(model):
    velocity, radius, offsets, log_mass = clusters(250, 4)
    model.fit(velocity, radius, offsets, log_mass)
    v, r, o, true = clusters(150, 5)
    error = model.predict(v, r, o) - true
    # The noise of a dispersion from 55 galaxies is .042 in the log, .11 dex in mass.
    assert error.std() < 0.2
    assert abs(np.median(error)) < 0.06
    turned = model.predict(-v, r, o)
    np.testing.assert_allclose(turned, error + true, atol=1e-7)


def test_what_only_radii_tell_is_seen_in_two_dimensions_alone():
    velocity, radius, offsets, log_mass = clusters(300, 6, by_radius=True)
    v, r, o, true = clusters(150, 7, by_radius=True)
    error = {}
    for dimensions in (1, 2):
        model = MeanEmbedding(dimensions).fit(velocity, radius, offsets, log_mass)
        error[dimensions] = float((model.predict(v, r, o) - true).std())
    assert error[2] < 0.6 * error[1]


def test_settings_are_chosen_on_the_training_set_and_predict_its_error():
    velocity, radius, offsets, log_mass = clusters(400, 8)
    model = MeanEmbedding(1).fit(velocity, radius, offsets, log_mass)
    v, r, o, true = clusters(400, 9)
    error = float((model.predict(v, r, o) - true).std())
    assert model.chosen["validation_std"] == pytest.approx(error, rel=0.15)


def test_a_cluster_is_weighed_alike_alone_and_among_others():
    velocity, radius, offsets, log_mass = clusters(80, 10)
    for model in (SupportDistributionMachine(1, grid=SMALL), MeanEmbedding(2)):
        model.fit(velocity, radius, offsets, log_mass)
        v, r, o, _ = clusters(6, 11)
        together = model.predict(v, r, o)
        alone = [
            model.predict(v[o[i] : o[i + 1]], r[o[i] : o[i + 1]], [0, o[i + 1] - o[i]])[0]
            for i in range(6)
        ]
        np.testing.assert_allclose(alone, together, atol=1e-9)


def test_richness_is_used_only_when_asked_for():
    velocity, radius, offsets, _ = clusters(60, 12)
    log_mass = 13.5 + np.diff(offsets) / 50
    scatter = {}
    for richness in (False, True):
        model = SummaryRegressor("ridge", richness).fit(velocity, radius, offsets, log_mass)
        scatter[richness] = float((model.predict(velocity, radius, offsets) - log_mass).std())
    assert scatter[True] < 0.3 * scatter[False]
    told = summary_features(velocity, radius, offsets, True)
    assert told.shape == (60, len(SUMMARIES) + len(RICHNESS))
    np.testing.assert_array_equal(
        told[:, : len(SUMMARIES)], summary_features(velocity, radius, offsets, False)
    )
    np.testing.assert_allclose(told[:, len(SUMMARIES)], np.log10(np.diff(offsets)))


def test_summaries_of_few_galaxies_are_not_errors():
    found = summary_features([0.0, 100.0, -100.0], [0.1, 0.2, 0.3], [0, 1, 1, 3], True)
    assert found.shape[0] == 3
    assert np.isnan(found[1]).all()
    assert not np.isinf(found).any()


def test_wrong_input_is_named():
    velocity, radius, offsets, log_mass = clusters(12, 13)
    with pytest.raises(MelotteValueError, match="12 finite numbers"):
        MeanEmbedding(1).fit(velocity, radius, offsets, log_mass[:5])
    with pytest.raises(MelotteValueError, match="fit the regressor"):
        MeanEmbedding(1).predict(velocity, radius, offsets)
    with pytest.raises(MelotteValueError, match="dimensions 3"):
        SupportDistributionMachine(3)  # pyright: ignore[reportArgumentType]
    with pytest.raises(MelotteValueError, match="has no galaxy"):
        MeanEmbedding(1).embeddings([], [], [0, 0])
