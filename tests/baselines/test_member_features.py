"""Features of member lists: planted sequences, empty lists, order of stars."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.baselines.member_features import (
    REDDENING_SLOPE,
    SEQUENCE,
    ZERO_POINT,
    ZERO_POINT_DR2,
    Groups,
    clipped_parallax,
    filled_along,
    grouped_quantiles,
    rich_features,
    star_reddening,
)
from melotte.errors import MelotteValueError


def sequence_stars(
    n: int, reddening: float, distance: float, seed: int, spread: float = 0.0
) -> np.ndarray:
    """Stars on the unevolved sequence, behind dust, at a distance in kpc."""
    generator = np.random.default_rng(seed)
    true = generator.uniform(1.0, 6.0, n)
    colour = np.interp(true, SEQUENCE[:, 0], SEQUENCE[:, 1]) + reddening
    g = true + REDDENING_SLOPE * reddening + 5 * np.log10(distance) + 10
    parallax = 1 / distance - ZERO_POINT + generator.normal(0, spread, n)
    ones = np.ones(n)
    return np.stack(
        [g, colour, parallax, 0.05 * ones, 0.003 * ones, 0.005 * ones, 0.9 * ones], axis=1
    )


def packed(*lists: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.concatenate(lists), np.cumsum([0, *map(len, lists)])


def named(features: tuple[np.ndarray, tuple[str, ...]]) -> dict[str, np.ndarray]:
    return dict(zip(features[1], features[0].T, strict=True))


def test_a_known_list_gives_its_quantiles() -> None:
    g = np.linspace(10, 17, 101)
    stars = np.column_stack([g, g / 10, np.full_like(g, 2.0), *[np.full_like(g, 0.05)] * 4])
    found = named(rich_features(*packed(stars)))
    assert found["g_quantile_4"] == pytest.approx(np.median(g))
    assert found["g_quantile_1"] == pytest.approx(np.quantile(g, 0.05))
    assert found["colour_quantile_6"] == pytest.approx(np.quantile(g / 10, 0.9))
    assert found["parallax"] == pytest.approx(2.0 + ZERO_POINT)
    assert found["log_count"] == pytest.approx(np.log10(101))
    assert found["share_brighter_13"] == pytest.approx((g < 13).mean())
    assert found["rank_0_1_g"] == pytest.approx(10.0)
    assert found["absolute_quantile_4"] == pytest.approx(13.5 + 5 * np.log10(2.025) - 10)


@pytest.mark.parametrize("reddening", [0.0, 0.3, 1.0])
def test_planted_dust_is_found_on_the_unevolved_sequence(reddening: float) -> None:
    stars = sequence_stars(300, reddening, distance=0.8, seed=1)
    found = named(rich_features(*packed(stars)))
    assert found["reddening_4"] == pytest.approx(reddening, abs=2e-3)
    assert found["reddening_spread"] == pytest.approx(0.0, abs=2e-3)
    each = star_reddening(stars[:, 0] - 10 - 5 * np.log10(0.8), stars[:, 1])
    assert each == pytest.approx(np.full(300, reddening), abs=1e-3)


def test_planted_giants_are_counted() -> None:
    dwarfs = sequence_stars(200, 0.2, 1.0, seed=2)
    giants = dwarfs[:7].copy()
    giants[:, 0], giants[:, 1] = 0.5 + 10 + 2 * 0.2, 1.2 + 0.2
    with_giants, without = (
        named(rich_features(*packed(one))) for one in (np.concatenate([dwarfs, giants]), dwarfs)
    )
    assert with_giants["log_giants"] == pytest.approx(np.log10(8))
    assert without["log_giants"] == pytest.approx(0.0)
    assert np.isnan(without["giant_g_1"])
    assert with_giants["giant_intrinsic_0"] == pytest.approx(1.2, abs=0.01)


def test_the_order_of_stars_and_lists_does_not_matter() -> None:
    lists = [sequence_stars(n, 0.1 * n / 50, 1.5, n, spread=0.05) for n in (20, 60, 90)]
    generator = np.random.default_rng(0)
    shuffled = [generator.permutation(one) for one in lists]
    whole, _ = rich_features(*packed(*lists))
    assert np.array_equal(whole, rich_features(*packed(*shuffled))[0], equal_nan=True)
    backwards, _ = rich_features(*packed(*lists[::-1]))
    np.testing.assert_allclose(whole, backwards[::-1], rtol=1e-9, atol=1e-12)
    alone, _ = rich_features(*packed(lists[1]))
    np.testing.assert_allclose(whole[1], alone[0], rtol=1e-9, atol=1e-12)


def test_empty_and_one_star_lists_have_features() -> None:
    star = sequence_stars(1, 0.2, 1.0, seed=3)
    empty = np.empty((0, 7))
    faint = star + np.eye(1, 7) * 9.0
    features, names = rich_features(*packed(empty, star, faint, empty))
    assert features.shape == (4, len(names))
    assert not np.isinf(features).any()
    found = dict(zip(names, features.T, strict=True))
    assert found["log_count"].tolist() == [0, 0, 0, 0]
    assert np.isnan(found["parallax"][[0, 2, 3]]).all()
    assert found["g_quantile_4"][1] == pytest.approx(star[0, 0])
    none, names_of_none = rich_features(empty, np.array([0]))
    assert none.shape == (0, len(names_of_none))
    assert len(set(names)) == len(names)


def test_missing_errors_and_memberships_are_filled() -> None:
    stars = sequence_stars(50, 0.2, 1.0, seed=3)
    stars[:, 3:] = np.nan
    found = named(rich_features(*packed(stars)))
    assert found["parallax"] == pytest.approx(1.0)
    assert found["membership"] == pytest.approx(1.0)


def test_the_faint_limit_makes_lists_of_different_depth_alike() -> None:
    deep = sequence_stars(400, 0.1, 6.0, seed=5)
    shallow = deep[deep[:, 0] < 18.0]
    assert 0 < len(shallow) < len(deep)
    both = rich_features(*packed(deep, shallow))[0]
    assert np.array_equal(both[0], both[1], equal_nan=True)
    unlimited = rich_features(*packed(deep, shallow), faint_limit=None)[0]
    assert not np.array_equal(unlimited[0], unlimited[1], equal_nan=True)


def test_outliers_do_not_move_the_mean_parallax() -> None:
    generator = np.random.default_rng(6)
    parallax = np.concatenate([generator.normal(1.0, 0.05, 200), np.full(20, 3.0)])
    error, ones = np.full(220, 0.05), np.ones(220)
    groups = Groups(np.zeros(220, dtype=np.int64), 1)
    mean, mean_error, kept = clipped_parallax(groups, parallax, error, ones)
    assert mean[0] == pytest.approx(1.0, abs=4 * 0.05 / np.sqrt(200))
    assert not kept[200:].any()
    assert mean_error[0] == pytest.approx(np.hypot(0.05, 0.02) / np.sqrt(200), rel=0.02)
    assert parallax.mean() > 1.15


def test_each_release_has_its_zero_point() -> None:
    stars = sequence_stars(50, 0.2, 1.0, seed=3)
    features, names = rich_features(*packed(stars, stars), dr2=[False, True])
    found = dict(zip(names, features.T, strict=True))
    assert found["parallax"] == pytest.approx([1.0, 1.0 + ZERO_POINT_DR2 - ZERO_POINT])
    assert found["dr2"].tolist() == [0, 1]


def test_grouped_quantiles_are_those_of_each_group() -> None:
    generator = np.random.default_rng(7)
    group = generator.integers(0, 5, 300)
    group[group == 3] = 2
    values = generator.normal(size=300)
    found = grouped_quantiles(values, group, 5, (0.0, 0.3, 1.0))
    for i in (0, 1, 2, 4):
        assert found[i] == pytest.approx(np.quantile(values[group == i], [0.0, 0.3, 1.0]))
    assert np.isnan(found[3]).all()


def test_gaps_are_filled_from_the_nearest_bin() -> None:
    rows = np.array([[np.nan, 1.0, np.nan, np.nan, 5.0], [np.nan] * 5])
    filled = filled_along(rows)
    assert filled[0].tolist() == [1.0, 1.0, 1.0, 5.0, 5.0]
    assert np.isnan(filled[1]).all()


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(MelotteValueError, match=r"\(n_stars, 7\)"):
        rich_features(np.zeros((3, 6)), [0, 3])
    with pytest.raises(MelotteValueError, match="there are 1 lists"):
        rich_features(np.zeros((3, 7)), [0, 3], dr2=[True, False])
    with pytest.raises(MelotteValueError, match="rise from 0 to 3"):
        rich_features(np.zeros((3, 7)), [0, 2])
