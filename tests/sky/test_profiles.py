"""The EFF profile: density, numbers and draws agree with one another."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.ragged import offsets_of
from melotte.sky.profiles import (
    LARGEST_RADIUS,
    draw_eff_shapes,
    draw_eff_shapes_of_size,
    eff_fraction_within,
    eff_gamma_for,
    eff_positions,
    eff_surface_density,
    half_number_radius,
)

SHAPES = [(0.05, 2.2), (0.4, 3.0), (6.4, 8.0)]

# Ranges of Bialopetravicius et al. 2019, Sect. 4.3, and of Bialopetravicius & Narbutis 2020.
PAPERS = [((0.05, 6.4), (2.05, 8.0), (0.1, 1.6)), ((0.04, 1.2), (2.05, 8.0), (0.04, 0.4))]


def scalar(value: float) -> torch.Tensor:
    return torch.tensor(value, dtype=torch.float64)


@pytest.mark.parametrize(("scale", "gamma"), SHAPES)
def test_density_integrates_to_the_number_within(scale: float, gamma: float) -> None:
    radius = torch.linspace(0, 20 * scale, 200_001, dtype=torch.float64)
    density = eff_surface_density(radius, scalar(scale), scalar(gamma))
    found = torch.trapezoid(density * 2 * math.pi * radius, radius)
    expected = eff_fraction_within(radius[-1], scalar(scale), scalar(gamma))
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize(("scale", "gamma"), SHAPES)
def test_half_of_the_stars_are_within_the_half_number_radius(scale: float, gamma: float) -> None:
    half = half_number_radius(scalar(scale), scalar(gamma))
    assert float(eff_fraction_within(half, scalar(scale), scalar(gamma))) == pytest.approx(0.5)
    assert float(eff_gamma_for(scalar(scale), half)) == pytest.approx(gamma)


def test_plummer_profile() -> None:
    """With gamma = 4 the profile is Plummer's, whose projected half-number radius is a."""
    assert float(half_number_radius(scalar(0.7), scalar(4.0))) == pytest.approx(0.7)


def test_positions_follow_the_profile(generator: torch.Generator) -> None:
    scale, gamma = torch.tensor([0.1, 0.5]), torch.tensor([2.5, 6.0])
    counts = torch.tensor([40_000, 60_000])
    positions = eff_positions(scale, gamma, offsets_of(counts), generator)
    for i, stars in enumerate(positions.split(counts.tolist())):
        radius = stars.norm(dim=1)
        for quantile in (0.1, 0.5, 0.9):
            place = eff_fraction_within(radius.quantile(quantile), scale[i], gamma[i])
            error = math.sqrt(quantile * (1 - quantile) / len(stars))
            assert float(place) == pytest.approx(quantile, abs=4 * error)
        direction = torch.atan2(stars[:, 1], stars[:, 0])
        assert float(torch.cos(direction).mean()) == pytest.approx(0, abs=4 / math.sqrt(len(stars)))
        assert float(torch.sin(direction).mean()) == pytest.approx(0, abs=4 / math.sqrt(len(stars)))


def test_a_wrong_slope_would_be_seen(generator: torch.Generator) -> None:
    scale = torch.tensor([0.1])
    positions = eff_positions(scale, torch.tensor([2.6]), torch.tensor([0, 40_000]), generator)
    place = eff_fraction_within(positions.norm(dim=1).median(), scale, torch.tensor([2.5]))
    assert abs(float(place) - 0.5) > 4 * 0.5 / math.sqrt(40_000)


def test_positions_are_finite_where_the_profile_hardly_ends(generator: torch.Generator) -> None:
    shape = torch.tensor([0.5]), torch.tensor([2.05])
    positions = eff_positions(*shape, torch.tensor([0, 20_000]), generator)
    assert bool(torch.isfinite(positions).all())
    assert float(positions.norm(dim=1).max()) == pytest.approx(0.5 * LARGEST_RADIUS, rel=1e-4)


def test_no_stars_no_positions(generator: torch.Generator) -> None:
    shape = torch.tensor([0.5, 0.5]), torch.tensor([3.0, 3.0])
    assert eff_positions(*shape, torch.tensor([0, 0, 0]), generator).shape == (0, 2)


@pytest.mark.parametrize(("scales", "gammas", "sizes"), PAPERS)
def test_shapes_fill_the_allowed_region(
    scales: tuple[float, float],
    gammas: tuple[float, float],
    sizes: tuple[float, float],
    generator: torch.Generator,
) -> None:
    scale, gamma = draw_eff_shapes(20_000, scales, gammas, sizes, generator)
    size = half_number_radius(scale, gamma)
    for value, (low, high) in ((scale, scales), (gamma, gammas), (size, sizes)):
        assert low <= float(value.min())
        assert float(value.max()) <= high
    # Uniform in the logarithms: within a box that the limits of size do not cut, halves are equal.
    middle = (gamma > 3) & (gamma < 5) & (scale > sizes[0] * 1.5) & (scale < sizes[1] / 1.8)
    in_box = torch.log(gamma[middle])
    below = (in_box < math.log(3 * 5) / 2).double().mean()
    assert len(in_box) > 1000
    assert float(below) == pytest.approx(0.5, abs=4 * 0.5 / math.sqrt(len(in_box)))


def test_shapes_of_given_size(generator: torch.Generator) -> None:
    wanted = torch.tensor([0.16, 0.25, 0.4, 0.63, 1.0], dtype=torch.float64).repeat(2000)
    scale, gamma = draw_eff_shapes_of_size(wanted, (0.05, 6.4), (2.05, 8.0), generator)
    torch.testing.assert_close(half_number_radius(scale, gamma), wanted, rtol=1e-6, atol=0)
    assert float(scale.min()) >= 0.05
    assert float(scale.max()) <= 6.4
    assert 2.05 <= float(gamma.min()) < 2.5
    assert 7.5 < float(gamma.max()) <= 8.0


def test_what_is_refused(generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match="gamma_range must be 2 < low"):
        draw_eff_shapes(1, (0.1, 1), (1.5, 3), (0.1, 1), generator)
    with pytest.raises(MelotteValueError, match="no profile"):
        draw_eff_shapes(10, (5.0, 6.0), (2.05, 3.0), (0.1, 0.2), generator)
    with pytest.raises(MelotteValueError, match="no profile"):
        draw_eff_shapes_of_size(torch.tensor([0.01]), (0.5, 1.0), (2.5, 8.0), generator)
