import math

import pytest
import torch

from melotte.ragged import Ragged
from melotte.systems.base import Observation
from melotte.systems.open_cluster import preparation
from melotte.systems.open_cluster.preparation import (
    CONTEXT_FEATURES,
    STAR_FEATURES,
    features,
    mean_parallax,
    segment_quantiles,
    summaries,
    thin,
)


def make_lists(generator, counts=(40, 12, 700)):
    tables = []
    for n in counts:
        g = 12 + 6 * torch.rand(n, generator=generator)
        table = torch.stack(
            [
                g,
                0.5 + 0.2 * (g - 12),
                1.5 + 0.05 * torch.randn(n, generator=generator),
                torch.full((n,), 0.05),
                torch.full((n,), 0.003),
                torch.full((n,), 0.01),
                torch.rand(n, generator=generator),
            ],
            -1,
        )
        tables.append(table)
    data = preparation.pack_lists(tables, list(counts), [False] * len(counts))
    return Observation(data)


def test_features_are_finite_with_and_without_optional_columns(generator):
    observation = make_lists(generator)
    stars = observation.data["stars"]
    bare = stars.values.clone()
    bare[:, 3:] = math.nan
    for values in (stars.values, bare):
        data = dict(observation.data) | {"stars": Ragged(values, stars.offsets)}
        star, context = features(Observation(data), 512)
        assert star.values.shape[1] == len(STAR_FEATURES)
        assert context.shape == (3, len(CONTEXT_FEATURES))
        assert torch.isfinite(star.values).all()
        assert torch.isfinite(context).all()


def test_missing_errors_are_filled_near_the_true_ones(generator):
    observation = make_lists(generator)
    stars = observation.data["stars"]
    bare = stars.values.clone()
    bare[:, 3] = math.nan
    star, _ = features(
        Observation(dict(observation.data) | {"stars": Ragged(bare, stars.offsets)}), 512
    )
    error = 10 ** star.values[:, STAR_FEATURES.index("log_parallax_error")]
    assert 0.01 < float(error.min()) < float(error.max()) < 0.2


def test_order_of_stars_does_not_matter(generator):
    observation = make_lists(generator, (40, 12))
    stars = observation.data["stars"]
    shuffled = Ragged.pack(
        [stars[i][torch.randperm(len(stars[i]), generator=generator)] for i in range(2)]
    )
    data = dict(observation.data) | {"stars": shuffled}
    _, first = features(observation, 512)
    _, second = features(Observation(data), 512)
    assert torch.allclose(first, second, atol=1e-5)


def test_thinning_keeps_some_stars_and_is_repeatable(generator):
    stars = make_lists(generator).data["stars"]
    once, again = thin(stars, 100), thin(stars, 100)
    assert once.counts.tolist() == [40, 12, 100]
    assert torch.equal(once.values, again.values)
    assert thin(stars, 1000) is stars


def test_outliers_hardly_move_the_mean_parallax(generator):
    clean = 2 + 0.05 * torch.randn(50, generator=generator)
    dirty = clean.clone()
    dirty[:5] += 1.5
    error, weight = torch.full((50,), 0.05), torch.ones(50)
    means = [
        float(mean_parallax(Ragged.pack([values[:, None]]), values, error, weight)[0][0])
        for values in (clean, dirty)
    ]
    assert means[0] == pytest.approx(2, abs=0.03)
    assert abs(means[1] - means[0]) < 0.05 < abs(float(dirty.mean() - clean.mean()))


def test_segment_quantiles_match_each_set_alone(generator):
    sets = Ragged.pack([torch.rand(n, generator=generator) for n in (9, 0, 1, 30)])
    found = segment_quantiles(sets.values, sets.offsets, (0.0, 0.5, 1.0))
    assert torch.isnan(found[1]).all()
    for i in (0, 2, 3):
        expected = torch.quantile(sets[i], torch.tensor([0.0, 0.5, 1.0]), interpolation="nearest")
        assert torch.allclose(found[i], expected)


def test_one_star_gives_finite_features_and_summaries(generator):
    observation = make_lists(generator, (1, 30))
    star, context = features(observation, 512)
    assert torch.isfinite(star.values).all()
    assert torch.isfinite(context).all()
    assert torch.isfinite(summaries(observation, 512)).all()


def test_a_broadened_sequence_shows_in_the_summaries(generator):
    observation = make_lists(generator, (200,))
    stars = observation.data["stars"]
    wide = stars.values.clone()
    wide[:, 1] += 0.4 * torch.randn(200, generator=generator)
    data = dict(observation.data) | {"stars": Ragged(wide, stars.offsets)}
    narrow = summaries(observation, 512)[0, -1]
    assert float(summaries(Observation(data), 512)[0, -1]) > 5 * float(narrow)
