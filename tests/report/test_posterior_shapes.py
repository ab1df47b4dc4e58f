"""Peaks and lengths of planted maps."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.report.posterior_shapes import map_shapes, sampled_maps

X, Y = np.meshgrid(np.arange(20), np.arange(10), indexing="ij")


def blob(x, y, spread=0.8, slope=0.0):
    return np.exp(-0.5 * (((X - x) / spread) ** 2 + ((Y - y - slope * (X - x)) / 0.8) ** 2))


def test_planted_shapes_are_told_apart():
    one, long = blob(10, 5), blob(10, 5, spread=4.0, slope=-0.6)
    two = blob(4, 2) + 0.5 * blob(14, 7)
    minor = blob(4, 2) + 0.05 * blob(14, 7)
    shoulder = blob(9, 5) + 0.7 * blob(11, 5)
    found = map_shapes(np.stack([one, long, two, minor, shoulder]))
    assert found.bimodal.tolist() == [False, False, True, False, False]
    assert found.extended.tolist() == [False, True, False, True, False]
    assert found.length[0] == pytest.approx(0.8, abs=0.02)
    assert found.as_json()["bimodal"] == pytest.approx(0.2)


def test_length_is_that_of_the_longest_direction():
    spread, slope = 2.0, 0.5
    found = map_shapes(blob(10, 4.5, spread, slope)[None]).length[0]
    covariance = np.array(
        [[spread**2, slope * spread**2], [slope * spread**2, slope**2 * spread**2 + 0.64]]
    )
    assert found == pytest.approx(np.sqrt(np.linalg.eigvalsh(covariance)[-1]), rel=0.03)


def test_samples_give_the_map_that_they_come_from():
    rng = np.random.default_rng(1)
    density = (blob(4, 2) + 0.5 * blob(14, 7)).ravel()
    cell = rng.choice(200, size=(3, 4000), p=density / density.sum())
    samples = (np.stack([cell // 10, cell % 10], -1) + rng.random((3, 4000, 2))) / (20, 10)
    maps = sampled_maps(samples, (20, 10), smoothing=0)
    expected = np.broadcast_to((density / density.sum()).reshape(20, 10), maps.shape)
    np.testing.assert_allclose(maps, expected, atol=0.02)
    assert map_shapes(sampled_maps(samples, (20, 10))).bimodal.all()


def test_few_samples_of_one_peak_are_not_taken_for_two():
    rng = np.random.default_rng(2)
    samples = np.clip(0.5 + rng.normal(size=(400, 500, 2)) * (0.12, 0.15), 0, 1)
    assert map_shapes(sampled_maps(samples, (20, 10))).bimodal.mean() < 0.01


@pytest.mark.parametrize("maps", [np.zeros((1, 3, 3)), np.ones((3, 3)), np.full((1, 3, 3), np.nan)])
def test_maps_without_mass_are_refused(maps):
    with pytest.raises(MelotteValueError, match="n_x, n_y"):
        map_shapes(maps)
