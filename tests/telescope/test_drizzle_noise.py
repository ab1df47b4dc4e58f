"""Noise of drizzled pixels against Fruchter & Hook 2002."""

from __future__ import annotations

import pytest
import torch

from melotte.telescope.drizzle_noise import correlate, drizzle_correlation, mosaic_noise


@pytest.mark.parametrize("drop", [0.3, 0.79, 1.0, 1.25, 2.0])
def test_the_noise_correlation_ratio_is_the_published_one(drop: float) -> None:
    # Their Eqs. 9 and 10 for R, the ratio of the noise of wide areas to that of single pixels.
    ratio = drop / (1 - 1 / (3 * drop)) if drop >= 1 else 1 / (1 - drop / 3)
    covariance = drizzle_correlation(drop)
    assert float(covariance[0]) == pytest.approx(1 / ratio, abs=1e-4)
    assert float(covariance[0] + 2 * covariance[1:].sum()) == pytest.approx(1)


def test_neighbours_are_correlated_and_wide_sums_are_not_changed(
    generator: torch.Generator,
) -> None:
    white = torch.randn(512, 512, generator=generator)
    noise = correlate(white, 1.0)
    variance = float(noise.var())
    # 2/3 along each axis; the neighbour has 1/6 of it along one axis and 2/3 along the other.
    assert variance == pytest.approx(4 / 9, rel=0.02)
    neighbour = float((noise[:, 1:] * noise[:, :-1]).mean())
    assert neighbour / variance == pytest.approx(0.25, abs=0.01)
    diagonal = float((noise[1:, 1:] * noise[:-1, :-1]).mean())
    assert diagonal / variance == pytest.approx(1 / 16, abs=0.01)
    assert float(noise.sum()) == pytest.approx(float(white.sum()), abs=0.1)
    blocks = noise.reshape(16, 32, 16, 32).sum((1, 3))
    assert float(blocks.var()) / 32**2 == pytest.approx(1, rel=0.25)


def test_a_mosaics_noise_is_that_of_its_photons_and_reading(generator: torch.Generator) -> None:
    rate = torch.full((400, 400), 0.05)
    noise = mosaic_noise(rate, 1000.0, 6.0, 1e-3, generator)
    assert float(noise.std()) == pytest.approx((50 + 36) ** 0.5 / 1000, rel=0.02)
    assert abs(float(noise.mean())) < 5e-5
    # Few photons are skewed as Poisson's law has it: 1 / sqrt(n).
    faint = mosaic_noise(torch.full((400, 400), 0.002), 1000.0, 0.0, 1e-3, generator)
    skewness = float((faint**3).mean() / faint.std() ** 3)
    assert skewness == pytest.approx(1 / 2**0.5, rel=0.1)
