"""Cylinders through a periodic box: planted neighbours, faces of the box, turned lines of sight."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.cosmology import SPEED_OF_LIGHT, Cosmology
from melotte.telescope.cylinders import (
    COLUMNS,
    Box,
    Cylinder,
    look,
    random_directions,
)
from melotte.telescope.view_counts import FLAT_DENSITY, sightlines, views_for_flat_masses

SIZE = 200.0
Z = np.array([0.0, 0.0, 1.0])
RATE = float(Cosmology().comoving_hubble_rate(torch.tensor(0.117)))


def box(position, velocity=None, host_id=None, size: float = SIZE) -> Box:
    position = np.atleast_2d(np.asarray(position, float))
    n = len(position)
    return Box(
        size,
        np.mod(position, size),
        np.zeros((n, 3)) if velocity is None else np.asarray(velocity, float),
        np.zeros(n, dtype=np.int64) if host_id is None else np.asarray(host_id),
        np.full(n, 10.0),
    )


def see(galaxies: Box, at, direction=Z, moving=(0.0, 0.0, 0.0), host: int = 1, **settings):
    settings = {"least_galaxies": 1} | settings
    return look(
        galaxies,
        np.array([host]),
        np.array([at], float),
        np.array([moving], float),
        np.atleast_2d(direction),
        np.zeros(len(np.atleast_2d(direction)), dtype=np.int64),
        Cylinder(**settings),
    )


def column(found, name: str) -> np.ndarray:
    return found.galaxies.values[:, COLUMNS.index(name)].double().numpy()


def test_a_host_at_the_corner_gets_neighbours_from_all_sides():
    offsets = np.array([[0.5, 0, 0], [-0.5, 0, 0], [0, 0.7, 3], [-0.4, -0.4, -5], [3, 0, 0]])
    corner = see(box(offsets + 0.0), at=(0, 0, 0))
    middle = see(box(offsets + 100.0), at=(100, 100, 100))
    assert corner.galaxies.counts.tolist() == [4]
    for name in ("radius", "velocity"):
        np.testing.assert_allclose(
            np.sort(column(corner, name)), np.sort(column(middle, name)), atol=1e-4
        )
    np.testing.assert_allclose(
        np.sort(column(corner, "radius")), [0.5, 0.5, 0.4 * np.sqrt(2), 0.7], atol=1e-5
    )


def test_hubble_flow_and_peculiar_velocity_add_relativistically():
    found = see(
        box([[100.3, 100, 110]], velocity=[[50, 60, 800]]),
        at=(100, 100, 100),
        moving=(0, 0, 300),
    )
    flow, peculiar = 10 * RATE, 500.0
    expected = (flow + peculiar) / (1 + flow * peculiar / SPEED_OF_LIGHT**2)
    assert column(found, "velocity")[0] == pytest.approx(expected, rel=1e-6)
    assert column(found, "radius")[0] == pytest.approx(0.3, rel=1e-5)


def test_turning_all_together_changes_nothing():
    rng = np.random.default_rng(1)
    offsets = rng.uniform(-20, 20, (3000, 3)) * [0.15, 0.15, 1]
    velocity = rng.normal(0, 500, (3000, 3))
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    straight = see(box(offsets + 100, velocity), at=(100, 100, 100))
    turned = see(
        box(offsets @ turn.T + 100, velocity @ turn.T), at=(100, 100, 100), direction=turn @ Z
    )
    assert straight.galaxies.counts.item() > 100
    np.testing.assert_allclose(turned.galaxies.values, straight.galaxies.values, atol=2e-2)


@pytest.mark.parametrize("seed", [2, 3])
def test_the_cylinder_agrees_with_a_plain_search_of_all_images(seed):
    rng = np.random.default_rng(seed)
    size = 40.0
    position, velocity = rng.uniform(0, size, (6000, 3)), rng.normal(0, 300, (6000, 3))
    at, direction = rng.uniform(0, size, 3), random_directions(1, rng)[0]
    found = see(box(position, velocity, size=size), at=at, direction=direction)
    expected = []
    # The cylinder is longer than the box: it passes through its images.
    for image in np.stack(np.meshgrid(*[np.arange(-2, 3)] * 3), -1).reshape(-1, 3):
        offset = position + image * size - at
        along = offset @ direction
        radius = np.sqrt((offset**2).sum(1) - along**2)
        flow, peculiar = RATE * along, velocity @ direction
        total = (flow + peculiar) / (1 + flow * peculiar / SPEED_OF_LIGHT**2)
        kept = (radius < 1.6) & (np.abs(total) < 2500)
        expected.append(np.stack([total, radius], 1)[kept])
    plain = np.concatenate(expected)
    assert len(plain) > 20
    got = found.galaxies.values[:, :2].numpy()
    np.testing.assert_allclose(
        got[np.lexsort(got.T)], plain[np.lexsort(plain.astype(np.float32).T)], rtol=1e-4, atol=0.01
    )


def test_cuts_of_aperture_and_velocity():
    positions = [[100.5, 100, 100], [101.7, 100, 100], [100, 100, 100 + 2600 / RATE]]
    assert see(box(positions), at=(100, 100, 100)).galaxies.counts.tolist() == [1]
    large = see(box(positions), at=(100, 100, 100), aperture=2.3, velocity_cut=3785.0)
    assert large.galaxies.counts.tolist() == [3]


def test_pure_keeps_only_members_and_all_of_them():
    positions = [[100.5, 100, 100], [100.2, 100, 100], [103, 100, 100], [100, 100.1, 100]]
    galaxies = box(positions, host_id=[1, 2, 1, 1])
    pure = see(galaxies, at=(100, 100, 100), members_only=True)
    np.testing.assert_allclose(np.sort(column(pure, "radius")), [0.1, 0.5, 3.0], atol=1e-5)
    assert column(pure, "is_member").tolist() == [1, 1, 1]
    contaminated = see(galaxies, at=(100, 100, 100))
    assert sorted(column(contaminated, "is_member")) == [0, 1, 1]


def test_members_of_a_halo_across_the_face_stay_together():
    galaxies = box([[0.1, 50, 50], [199.9, 50, 50]], host_id=[1, 1])
    pure = see(galaxies, at=(199.95, 50, 50), members_only=True)
    np.testing.assert_allclose(np.sort(column(pure, "radius")), [0.05, 0.15], atol=1e-4)


def test_poor_lines_of_sight_are_left_out_and_hosts_stay_known():
    rng = np.random.default_rng(4)
    rich = 50 + rng.normal(0, 0.3, (30, 3))
    galaxies = box(np.concatenate([rich, [[150, 150, 150]]]))
    views = np.array([2, 3])
    host = sightlines(views)
    found = look(
        galaxies, np.array([7, 8]), np.array([[150.0] * 3, [50.0] * 3]), np.zeros((2, 3)),
        random_directions(5, rng), host, Cylinder(),
    )  # fmt: skip
    assert found.host.tolist() == [1, 1, 1]
    assert found.galaxies.counts.min() > 10
    np.testing.assert_allclose(found.direction.norm(dim=1), 1, rtol=1e-6)


def test_directions_are_even_over_the_sphere():
    directions = random_directions(20_000, np.random.default_rng(5))
    np.testing.assert_allclose(directions.mean(0), 0, atol=0.02)
    np.testing.assert_allclose(directions.T @ directions / 20_000, np.eye(3) / 3, atol=0.01)


def test_views_make_masses_flat():
    rng = np.random.default_rng(6)
    volume = 1000.0**3
    # A falling mass function: 10^3.5 a dex at 14, a tenth of it at 15.
    log_mass = 14 + np.minimum(rng.exponential(1 / np.log(10), 30_000), 1.2)
    log_mass = log_mass[log_mass < 15]
    views = views_for_flat_masses(log_mass, volume, rng)
    counts, _ = np.histogram(log_mass, np.arange(14, 15.05, 0.2), weights=views)
    wanted = FLAT_DENSITY * volume * 0.2
    np.testing.assert_allclose(counts, wanted, rtol=0.12)
    rare = views_for_flat_masses(np.array([14.0, 15.0]), volume, rng, most=30)
    assert rare.tolist() == [30, 30]


def test_a_box_too_narrow_is_refused():
    with pytest.raises(MelotteValueError, match="a box of 5 Mpc/h is too narrow"):
        see(box([[1, 1, 1]], size=5.0), at=(1, 1, 1))
