"""Velocities, their errors, and the galaxies that a redshift survey misses."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melotte.ragged import Ragged
from melotte.sky.cosmology import SPEED_OF_LIGHT, Cosmology
from melotte.telescope.redshifts import (
    angular_separation,
    cluster_frame_velocity,
    fibre_collisions,
    magnitude_limited_mass,
    measured_velocity,
    radial_completeness,
    recentred_velocity,
    relativistic_sum,
    segment_median,
)


def doppler(velocity: torch.Tensor) -> torch.Tensor:
    beta = velocity / SPEED_OF_LIGHT
    return torch.sqrt((1 + beta) / (1 - beta))


def test_doppler_factors_multiply() -> None:
    first = torch.tensor([100.0, -5000.0, 90_000.0, 2e5], dtype=torch.float64)
    second = torch.tensor([900.0, 3000.0, 60_000.0, 2.5e5], dtype=torch.float64)
    combined = relativistic_sum(first, second)
    torch.testing.assert_close(doppler(combined), doppler(first) * doppler(second))
    assert (combined.abs() < SPEED_OF_LIGHT).all()
    assert float(combined[0]) == pytest.approx(1000, rel=2e-6)


def test_cluster_frame_takes_the_cluster_redshift_out() -> None:
    cluster = torch.tensor([0.0, 0.2, 0.5], dtype=torch.float64)
    peculiar = torch.tensor([700.0, -1200.0, 300.0], dtype=torch.float64)
    redshift = (1 + cluster) * (1 + peculiar / SPEED_OF_LIGHT) - 1
    torch.testing.assert_close(cluster_frame_velocity(redshift, cluster), peculiar)


def test_redshift_errors_add_in_quadrature(generator: torch.Generator) -> None:
    n = 100_000
    velocity = 400 * torch.randn(n, generator=generator)
    z = torch.full((n,), 0.25)
    seen = measured_velocity(velocity, torch.full((n,), 500.0), z, generator)
    assert float(seen.std()) == pytest.approx(math.hypot(400, 500 / 1.25), rel=0.01)
    assert torch.equal(measured_velocity(velocity, torch.zeros(n), z, generator), velocity)


def test_a_magnitude_limit_is_a_mass_limit() -> None:
    cosmology = Cosmology()
    z = torch.tensor([0.05, 0.1, 0.3])
    bright, faint = (magnitude_limited_mass(m, z, cosmology) for m in (17.77, 20.27))
    torch.testing.assert_close(bright - faint, torch.ones(3), rtol=1e-5, atol=1e-5)
    assert (bright.diff() > 0).all()
    # r = 17.77 at redshift 0.1: M_r = -20.74 with K = 0.1, thus log L = 10.16.
    assert float(bright[1]) == pytest.approx(10.16 + 0.35, abs=0.03)
    assert torch.isfinite(magnitude_limited_mass(17.77, torch.zeros(1), cosmology)).all()


def test_completeness_tilts_about_the_middle_and_stays_a_chance() -> None:
    radius = torch.tensor([0.0, 0.8, 1.6])
    flat = radial_completeness(radius, torch.tensor(1.6), torch.tensor(0.7), torch.tensor(0.0))
    tilted = radial_completeness(radius, torch.tensor(1.6), torch.tensor(0.7), torch.tensor(-0.6))
    torch.testing.assert_close(flat, torch.full((3,), 0.7))
    torch.testing.assert_close(tilted, torch.tensor([0.91, 0.7, 0.49]))
    steep = radial_completeness(radius, torch.tensor(1.6), torch.tensor(0.9), torch.tensor(2.0))
    assert float(steep.min()) >= 0
    assert float(steep.max()) == 1


def some_positions(seed: int, counts: tuple[int, ...] = (60, 1, 0, 90)) -> Ragged:
    generator = torch.Generator().manual_seed(seed)
    return Ragged.pack([torch.randn(n, 2, generator=generator) for n in counts])


def test_fibre_collisions_leave_no_close_pair_of_early_galaxies() -> None:
    positions = some_positions(1)
    separation = torch.tensor([0.15, 0.15, 0.15, 0.3])
    keep = fibre_collisions(positions, separation, 1.0, torch.Generator().manual_seed(2))
    kept = positions.where(keep)
    for number, smallest in enumerate(separation.tolist()):
        if len(kept[number]) > 1:
            assert float(torch.pdist(kept[number]).min()) >= smallest
    # A galaxy without a neighbour is never lost.
    for number, smallest in enumerate(separation.tolist()):
        apart = torch.cdist(positions[number], positions[number])
        alone = (apart < smallest).sum(1) == 1
        start = int(positions.offsets[number])
        assert keep[start : start + len(alone)][alone].all()


def test_fibre_collisions_lose_the_share_asked_for() -> None:
    pairs = torch.tensor([[0.0, 0.0], [0.05, 0.0]]).repeat(20_000, 1)
    pairs[:, 1] += torch.arange(20_000).repeat_interleave(2)
    positions = Ragged(pairs, torch.tensor([0, len(pairs)]))
    generator = torch.Generator().manual_seed(5)
    keep = fibre_collisions(positions, torch.tensor([0.1]), 0.65, generator)
    assert float((~keep).sum() / 20_000) == pytest.approx(0.65, abs=0.015)
    assert keep.reshape(-1, 2).any(1).all()
    assert fibre_collisions(positions, torch.tensor([0.01]), 1.0, generator).all()
    assert fibre_collisions(positions, torch.tensor([0.1]), 0.0, generator).all()


def test_clusters_do_not_collide_with_each_other() -> None:
    one = torch.zeros(1, 2)
    positions = Ragged.pack([one, one, one])
    keep = fibre_collisions(positions, torch.ones(3), 1.0, torch.Generator().manual_seed(1))
    assert keep.all()


def test_an_arcminute_at_a_known_distance() -> None:
    cosmology = Cosmology()
    z = torch.tensor([0.1])
    expected = float(cosmology.comoving_distance(z)) * math.pi / 180 / 60
    assert float(angular_separation(60, z, cosmology)) == pytest.approx(expected, rel=1e-6)


def test_segment_median_is_the_median_of_each_set(generator: torch.Generator) -> None:
    counts = torch.tensor([5, 0, 8, 1, 0])
    index = torch.repeat_interleave(counts)
    values = torch.randn(len(index), generator=generator)
    shuffled = torch.randperm(len(index), generator=generator)
    median = segment_median(values[shuffled], index[shuffled], 5).numpy()
    for number, count in enumerate(counts.tolist()):
        if count:
            own = values[index == number].numpy()
            assert median[number] == pytest.approx(np.median(own), rel=1e-5)
        else:
            assert np.isnan(median[number])


def test_recentring_finds_a_shifted_cluster(generator: torch.Generator) -> None:
    n = 400
    index = torch.repeat_interleave(torch.tensor([n, n, 0]))
    core = 600 * torch.randn(2 * n, generator=generator)
    shift = torch.tensor([800.0, -500.0])[index]
    everywhere = torch.ones(2 * n, dtype=torch.bool)
    cut = torch.full((3,), 2500.0)
    back = recentred_velocity(core + shift, index, everywhere, cut)
    medians = segment_median(back, index, 3)
    assert float(medians[:2].abs().max()) < 20
    assert float((back - core).abs().max()) < 5 * 600 / math.sqrt(n)
    outside = recentred_velocity(core + shift, index, ~everywhere, cut)
    assert torch.equal(outside, core + shift)
