"""Galaxies in haloes: profile, Jeans dispersions, shape, subgroups."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.special import spence
from scipy.stats import kstest

from melotte.sky.cosmology import Cosmology
from melotte.sky.phase_space import (
    Dynamics,
    Haloes,
    PhaseSpace,
    nfw_mass,
    random_rotations,
)

ROUND = ((1.0, 0.0), (1.0, 0.0))
Z = 0.117


def one_halo(space: PhaseSpace, log_mass: float = 14.5, concentration: float = 5.0) -> Haloes:
    """A halo of known concentration, without other scatter than that of its shape."""
    drawn = space.haloes(
        torch.tensor([log_mass]), torch.tensor([Z]), torch.Generator().manual_seed(1)
    )
    return replace(drawn, concentration=torch.tensor([concentration]))


def test_tracers_follow_an_nfw_profile(generator: torch.Generator) -> None:
    space = PhaseSpace(Dynamics(axis_ratios=ROUND), Cosmology())
    halo = one_halo(space)
    position, _ = space.galaxies(halo, torch.zeros(20_000, dtype=torch.int64), generator)
    radius = (position.norm(dim=1) / halo.radius).numpy()
    tracer = 5.0 * Dynamics().tracer_concentration

    def cumulative(x: np.ndarray) -> np.ndarray:
        inside = nfw_mass(torch.as_tensor(tracer * x))
        return (inside / nfw_mass(torch.tensor(tracer * 1.3))).numpy()

    assert radius.max() <= 1.3 + 1e-6
    assert kstest(radius, cumulative).pvalue > 1e-3
    assert kstest(1.1 * radius, cumulative).pvalue < 1e-6


def test_isotropic_dispersion_is_the_analytic_one() -> None:
    """Lokas & Mamon 2001, MNRAS 321, 155, Eq. 14: tracers as the mass, no anisotropy."""
    space = PhaseSpace(Dynamics(tracer_concentration=1.0, anisotropy=0.0), Cosmology())
    s = np.array([0.02, 0.1, 0.3, 1.0, 1.3])
    for c in (3.0, 5.0, 10.0):
        x = c * s
        bracket = (
            np.pi**2 - np.log(x) - 1 / x - 1 / (1 + x) ** 2 - 6 / (1 + x)
            + (1 + 1 / x**2 - 4 / x - 2 / (1 + x)) * np.log1p(x)
            + 3 * np.log1p(x) ** 2 + 6 * spence(1 + x)
        )  # fmt: skip
        variance = 0.5 * c**2 / (np.log1p(c) - c / (1 + c)) * s * (1 + x) ** 2 * bracket
        ours = space.dispersion(torch.as_tensor(s).float(), torch.full((5,), c))
        np.testing.assert_allclose(ours, np.sqrt(variance), rtol=4e-3)


def test_velocities_have_the_dispersion_and_anisotropy_asked_for(
    generator: torch.Generator,
) -> None:
    dynamics = Dynamics(
        axis_ratios=ROUND, anisotropy=0.3, velocity_scatter=0, velocity_scale=1, velocity_slope=0
    )
    space = PhaseSpace(dynamics, Cosmology())
    halo = one_halo(space)
    position, velocity = space.galaxies(halo, torch.zeros(60_000, dtype=torch.int64), generator)
    direction = position / position.norm(dim=1, keepdim=True)
    radial = (velocity * direction).sum(1)
    tangential = (velocity - radial[:, None] * direction).square().sum(1) / 2
    anisotropy = 1 - float(tangential.mean() / radial.square().mean())
    assert anisotropy == pytest.approx(0.3, abs=0.02)
    x = position.norm(dim=1) / halo.radius
    scaled = radial / (space.dispersion(x, torch.full_like(x, 5.0)) * halo.velocity)
    for low, high in ((0.05, 0.3), (0.3, 0.7), (0.7, 1.2)):
        here = scaled[(x > low) & (x < high)]
        assert float(here.std()) == pytest.approx(1, abs=0.03)


def test_dispersion_rises_as_the_cube_root_of_mass(generator: torch.Generator) -> None:
    space = PhaseSpace(
        Dynamics(velocity_slope=0, velocity_scatter=0, axis_ratios=ROUND), Cosmology()
    )
    zeros = torch.zeros(40_000, dtype=torch.int64)
    light, heavy = (
        space.galaxies(one_halo(space, log_mass), zeros, generator)[1].std()
        for log_mass in (13.5, 15.0)
    )
    assert float(heavy / light) == pytest.approx(10 ** (1.5 / 3), rel=0.02)


def test_haloes_have_the_axes_they_were_given(generator: torch.Generator) -> None:
    space = PhaseSpace(Dynamics(axis_ratios=((0.8, 0.0), (0.5, 0.0))), Cosmology())
    halo = one_halo(space)
    position, velocity = space.galaxies(halo, torch.zeros(40_000, dtype=torch.int64), generator)
    shape = position.std(0)
    assert float(shape[1] / shape[0]) == pytest.approx(0.8, rel=0.03)
    assert float(shape[2] / shape[0]) == pytest.approx(0.5, rel=0.03)
    assert float(halo.axes.prod()) == pytest.approx(1, rel=1e-5)
    spread = velocity.std(0)
    assert float(spread[2] / spread[0]) == pytest.approx(0.5**0.35, rel=0.03)


def test_subgroups_are_compact_and_move_together(generator: torch.Generator) -> None:
    space = PhaseSpace(Dynamics(subgroup_ratios=(0.2, 0.3)), Cosmology())
    n = 200
    haloes = space.haloes(torch.full((n,), 14.8), torch.full((n,), Z), generator)
    counts = torch.full((n,), 150)
    position, velocity, subgroup = space.members(haloes, counts, torch.full((n,), 1.0), generator)
    halo = torch.repeat_interleave(counts)
    size, thermal = [], []
    for number in range(n):
        chosen = (halo == number) & (subgroup == 0)
        if chosen.sum() > 10:
            size.append(float(position[chosen].std(0).norm() / haloes.radius[number]))
            thermal.append(float(velocity[chosen].std(0).mean() / haloes.velocity[number]))
    smooth = subgroup < 0
    assert len(size) > 80
    assert np.mean(size) < 0.5 * float(position[smooth].std(0).norm() / haloes.radius.mean())
    # Dispersion in units of V200: V falls as the cube root of the share.
    expected = 0.85 * 0.65 * np.mean(np.linspace(0.2, 0.3) ** (1 / 3))
    assert np.mean(thermal) == pytest.approx(expected, rel=0.05)


def test_subgroups_hold_their_share_and_can_be_switched_off(generator: torch.Generator) -> None:
    space = PhaseSpace(Dynamics(subgroup_ratios=(0.1, 0.1001)), Cosmology())
    n = 2000
    haloes = space.haloes(torch.full((n,), 14.8), torch.full((n,), Z), generator)
    counts = torch.full((n,), 60)
    for rate in (0.0, 0.5, 1.0):
        _, _, subgroup = space.members(haloes, counts, torch.full((n,), rate), generator)
        share = float((subgroup >= 0).float().mean())
        assert share == pytest.approx(0.1 * rate, abs=0.007)


def test_rotations_are_rotations_and_favour_no_direction(generator: torch.Generator) -> None:
    turned = random_rotations(20_000, generator)
    unit = turned @ turned.transpose(1, 2)
    torch.testing.assert_close(unit, torch.eye(3).expand_as(unit), rtol=0, atol=1e-5)
    torch.testing.assert_close(torch.linalg.det(turned), torch.ones(20_000), rtol=0, atol=1e-5)
    cosine = turned[:, 2, 0].numpy()
    assert kstest(cosine, "uniform", args=(-1, 2)).pvalue > 1e-3
    assert math.isclose(float(turned.mean()), 0, abs_tol=0.01)
