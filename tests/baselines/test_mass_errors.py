"""Statistics of mass errors: published bias values, planted moments, and leaving galaxies out."""

from __future__ import annotations

import json
from itertools import pairwise

import numpy as np
import pytest

from melotte.baselines.mass_errors import (
    edgeworth_bias,
    error_statistics,
    robustness,
    statistics_by_mass,
    subsampled,
)
from melotte.errors import MelotteValueError

QUOTED = {
    "CNN1D": 0.042,
    "CNN2D": 0.013,
    "Msig_pure": -0.017,
    "Msig_contam": 0.521,
    "SDM1D": 0.065,
    "SDM2D": 0.049,
}
"""Abundance biases in the public notebook of Ho et al. 2019."""


@pytest.mark.parametrize("method", QUOTED)
def test_abundance_biases_published_follow_from_the_published_moments(method, shared_data):
    text = (shared_data / "galaxycluster" / "ho2019_targets.json").read_text()
    row = json.loads(text)["eps_14_15"][method]
    found = edgeworth_bias(row["std"], row["skew"], row["kurt"])
    # Moments are given to four digits.
    assert found == pytest.approx(QUOTED[method], abs=0.0011 + 0.01 * abs(QUOTED[method]))


def test_the_essays_table_gives_its_text_with_6_and_not_2():
    """Abbas 2019: 4.2 % for CNN1D, from std .171, kurtosis .776 and skewness .358."""
    assert edgeworth_bias(0.1718, 0.3584, 0.7759) == pytest.approx(0.042, abs=0.0006)
    s = 2 * 0.1718 * np.log(10)
    assert s**3 * 0.3584 / 2 + s**4 * 0.7759 / 24 > 0.09


def test_the_bias_is_what_skewed_errors_do_to_counts():
    # Errors 0.05 (g - k)/sqrt(k) with g of a gamma distribution: skewness 2/sqrt(k), kurtosis 6/k.
    k, s = 16, 2 * np.log(10) * 0.05
    # Counts that fall as M^-2 grow by the mean of 10^(2 error), here in closed form.
    growth = np.exp(-s * np.sqrt(k)) * (1 - s / np.sqrt(k)) ** -k / np.exp(0.5 * s**2) - 1
    expected = edgeworth_bias(0.05, 2 / np.sqrt(k), 6 / k)
    assert growth == pytest.approx(expected, rel=0.02)


def test_statistics_of_planted_errors():
    rng = np.random.default_rng(6)
    true = rng.uniform(14, 15, 200_000)
    shape = 4.0
    error = 0.1 * (rng.gamma(shape, size=len(true)) - shape) / np.sqrt(shape) + 0.03
    found = error_statistics(true + error, true)
    assert found.mean == pytest.approx(0.03, abs=0.001)
    assert found.std == pytest.approx(0.1, abs=0.001)
    assert found.skewness == pytest.approx(1.0, abs=0.05)
    assert found.kurtosis == pytest.approx(1.5, abs=0.3)
    low, middle, high = np.percentile(error, [16, 50, 84])
    assert found.low == pytest.approx(middle - low)
    assert found.width == pytest.approx(high - low)
    predicted = true + error
    predicted[:7] = np.nan
    assert error_statistics(predicted, true).n_missing == 7


def test_statistics_by_mass_see_a_bias_in_one_bin():
    true = np.repeat([14.1, 14.5, 14.9], 100)
    error = np.where(true > 14.8, -0.2, 0.0) + np.tile([-0.01, 0.01], 150)
    low, middle, high, empty = statistics_by_mass(true + error, true, [14, 14.3, 14.6, 15, 16])
    assert low is not None
    assert middle is not None
    assert high is not None
    assert empty is None
    assert (low.n, middle.mean, high.mean) == (100, pytest.approx(0), pytest.approx(-0.2))
    with pytest.raises(MelotteValueError, match="2 are needed"):
        error_statistics([1.0], [1.0])


def test_subsamples_keep_the_share_and_the_order():
    offsets = np.array([0, 100, 100, 101, 301])
    rows, new = subsampled(offsets, [0.6, 0.6, 0.6, 0.8], np.random.default_rng(7))
    np.testing.assert_array_equal(np.diff(new), [60, 0, 1, 160])
    assert (np.diff(rows) > 0).all()
    for i in range(4):
        mine = rows[new[i] : new[i + 1]]
        assert ((mine >= offsets[i]) & (mine < offsets[i + 1])).all()


def planted(n_clusters: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(8)
    counts = rng.integers(20, 200, n_clusters)
    offsets = np.concatenate([[0], np.cumsum(counts)])
    return rng.normal(0, 800, offsets[-1]), rng.uniform(0, 1.6, offsets[-1]), offsets


def test_robustness_tells_a_counter_from_a_constant():
    velocity, radius, offsets = planted()
    generator = np.random.default_rng(9)

    def count(v, r, o):
        return np.log10(np.diff(o))

    by_count = robustness(count, velocity, radius, offsets, generator)
    assert by_count.rate_slope == pytest.approx(1, abs=0.02)
    assert by_count.median == pytest.approx(np.log10(0.7), abs=0.01)
    constant = robustness(lambda v, r, o: np.full(len(o) - 1, 14.0), velocity, radius, offsets,
                          generator)  # fmt: skip
    assert (constant.median, constant.width, constant.rate_slope) == pytest.approx((0, 0, 0))


def test_robustness_of_a_dispersion_is_its_sampling_noise():
    velocity, radius, offsets = planted()

    def spread(v, r, o):
        return np.array([3 * np.log10(v[a:b].std()) for a, b in pairwise(o)])

    found = robustness(spread, velocity, radius, offsets, np.random.default_rng(10))
    assert abs(found.median) < 0.03
    assert found.single_width > 2 * found.width
    # Poor clusters are shaken more.
    assert found.by_richness[0, 2] > 1.3 * found.by_richness[2, 2]
    n, rate = np.diff(offsets), 0.7
    # A share 1 - r of n galaxies left out moves log sigma by sqrt((1 - r)/(2 r n)) / ln 10.
    typical = 2 * 3 * np.sqrt((1 - rate) / (2 * rate * np.median(n))) / np.log(10)
    assert found.single_width == pytest.approx(typical, rel=0.25)
