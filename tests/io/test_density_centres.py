"""The centre of a cluster is where it is dense, not where its mass is."""

from __future__ import annotations

import numpy as np
import pytest

from melotte.io import density_centres
from melotte.io.density_centres import bulk_velocity, centred, density_centre


@pytest.fixture
def lopsided() -> tuple[np.ndarray, np.ndarray]:
    """A dense clump at (3, 0, 0) pc and a loose tail of as many stars at (30, 0, 0)."""
    generator = np.random.default_rng(1)
    clump = generator.standard_normal((2000, 3)) * 0.5 + [3, 0, 0]
    tail = generator.standard_normal((2000, 3)) * 5.0 + [30, 0, 0]
    return np.concatenate([clump, tail]), np.ones(4000)


def test_density_centre_ignores_a_tail(lopsided: tuple[np.ndarray, np.ndarray]) -> None:
    position, mass = lopsided
    found = density_centre(position, mass)
    np.testing.assert_allclose(found, [3, 0, 0], atol=0.1)
    assert abs(position.mean(0)[0] - 3) > 10


def test_fewer_densities_find_the_same_centre(
    lopsided: tuple[np.ndarray, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    position, mass = lopsided
    monkeypatch.setattr(density_centres, "MOST_DENSITIES", 700)
    np.testing.assert_allclose(density_centre(position, mass), [3, 0, 0], atol=0.15)


def test_stars_without_mass_do_not_count(lopsided: tuple[np.ndarray, np.ndarray]) -> None:
    position, mass = lopsided
    ghosts = np.tile([[50.0, 0.0, 0.0]], (500, 1))
    both = np.concatenate([position, ghosts]), np.concatenate([mass, np.zeros(500)])
    np.testing.assert_array_equal(density_centre(*both), density_centre(position, mass))


def test_pairs_at_one_place_leave_the_centre_where_it_is() -> None:
    generator = np.random.default_rng(2)
    position = generator.standard_normal((3000, 3))
    position[::2] = position[1::2]
    np.testing.assert_allclose(density_centre(position, np.ones(3000)), 0, atol=0.15)


def test_few_stars_have_their_centre_of_mass() -> None:
    position = np.array([[0.0, 0, 0], [3.0, 0, 0]])
    np.testing.assert_allclose(density_centre(position, np.array([1.0, 2.0])), [2, 0, 0])


def test_velocities_are_of_the_inner_half(lopsided: tuple[np.ndarray, np.ndarray]) -> None:
    position, mass = lopsided
    velocity = np.where(np.arange(4000)[:, None] < 2000, [1.0, 2.0, 3.0], [50.0, 0.0, 0.0])
    moved, frame = centred(position, velocity, mass)
    assert frame is not None
    np.testing.assert_allclose(bulk_velocity(moved, frame, mass), 0, atol=1e-9)
    np.testing.assert_allclose(frame[0], 0, atol=0.6)
    shifted, nothing = centred(position, None, mass, np.array([3.0, 0.0, 0.0]))
    assert nothing is None
    np.testing.assert_array_equal(shifted, position - [3, 0, 0])
