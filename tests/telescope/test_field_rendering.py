"""Fields' optics: light kept, faint stars' noise that of drawn stars, no seams between squares."""

from __future__ import annotations

import pytest
import torch

from melotte.telescope.field_rendering import (
    CORE,
    MARGIN,
    FieldOptics,
    render_field,
    wide_size,
)
from melotte.telescope.psf import HubblePSF
from melotte.telescope.rendering import render_mosaic

PSF = HubblePSF(335.4, 0.03)


def test_stars_are_those_of_the_exact_renderer(generator: torch.Generator) -> None:
    positions = 24 + 72 * torch.rand(50, 2, generator=generator)
    flux = torch.rand(50, 1, generator=generator)
    exact = render_mosaic(positions, flux, [PSF], 0.04, (120, 120), margin=60)[0]
    found = FieldOptics(PSF, 0.04, 120).stars(positions, flux[:, 0])
    # The wings of single stars that come back from the other side are far below their cores.
    assert float((found - exact).abs().max()) < 3e-3 * float(exact.max())
    assert float(found.sum()) == pytest.approx(float(flux.sum()), rel=5e-3)


def test_fluctuations_have_the_variance_and_the_grain_of_faint_stars(
    generator: torch.Generator,
) -> None:
    size, number = 320, 600_000
    # Pixels thrice Hubble's: more of the stars' power folds back.
    optics = FieldOptics(HubblePSF(335.4, 0.01), 0.12, size)
    positions = torch.rand(number, 2, generator=generator) * (size - 8) + 3.5
    drawn = optics.stars(positions, torch.ones(number))[16:-16, 16:-16]
    white = torch.randn(size, size, generator=generator) * (number / (size - 8) ** 2) ** 0.5
    noise = optics.smooth(torch.zeros(size, size), white)[16:-16, 16:-16]
    for one in (drawn, noise):
        one -= one.mean()
    assert float(noise.var() / drawn.var()) == pytest.approx(1, rel=0.025)
    for shift in (1, 2):
        grain = [float((x[:, shift:] * x[:, :-shift]).mean() / x.var()) for x in (drawn, noise)]
        assert grain[0] == pytest.approx(grain[1], abs=0.02)
    # Filtered without its aliases the noise would be too quiet.
    plain = torch.fft.irfft2(torch.fft.rfft2(white) * optics._response, s=(size, size))
    assert float(plain.var() / drawn.var()) < 0.9


def test_squares_of_a_large_field_fit_together(generator: torch.Generator) -> None:
    size = CORE + 200
    wide = wide_size(size)
    assert wide == 2 * CORE + 2 * MARGIN
    edge = MARGIN + CORE
    positions = edge + 40 * (torch.rand(60, 2, generator=generator) - 0.5)
    flux = torch.ones(60, 1)
    light = torch.zeros(1, wide, wide)
    light[0, edge - 60 : edge + 60, edge - 60 : edge + 60] = 0.5
    image = render_field(positions, flux, light, torch.zeros_like(light), [PSF], 0.04)
    # The same scene moved to the middle of a field that is rendered whole.
    small = wide_size(300)
    move = small // 2 - edge
    part = slice(edge - small // 2, edge + small // 2)
    whole = render_field(
        positions + move, flux, light[:, part, part], torch.zeros(1, small, small), [PSF], 0.04
    )
    inner = slice(small // 2 - 60, small // 2 + 60)
    there = slice(edge - 60, edge + 60)
    difference = (image[0, there, there] - whole[0, inner, inner]).abs().max()
    assert float(difference) < 2e-3 * float(whole.max())


@pytest.mark.parametrize("size", [16, 321, 768, 1036, 1037, 2500])
def test_a_field_is_drawn_with_room_around_it(size: int) -> None:
    assert wide_size(size) >= size + 2 * MARGIN
    assert wide_size(size) % 2 == 0
