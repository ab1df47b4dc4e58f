"""Fluctuations, ranks and colours of planted stars."""

import math

import pytest
import torch

from melotte.systems.base import Observation
from melotte.systems.globular_clusters.bright_stars import RANKS, n_numbers, star_numbers

SIZE = 96
PLACES = [(row, column) for row in range(8, SIZE, 16) for column in range(8, SIZE, 16)]


def observed(light, noise=1e-3):
    flux = torch.as_tensor(light, dtype=torch.float32)[None]
    return Observation({"flux": flux, "noise": torch.full(flux.shape[:2], noise)})


def planted(fluxes, ratio=2.0):
    """Single pixels of light on an empty map in V; in B half as bright."""
    light = torch.zeros(2, SIZE, SIZE)
    for flux, (row, column) in zip(fluxes, PLACES, strict=False):
        light[0, row, column], light[1, row, column] = flux, flux / ratio
    return light


def parts(observation):
    """Numbers by what they are, of two bands."""
    found = star_numbers(observation)[0]
    assert len(found) == n_numbers(2)
    sizes = {"fluctuation": 6, "levels": 12, "brightest": 2, "rank": 6, "signal": 6}
    sizes |= {"detected": 1, "share": 1, "sharp": 7, "colour": 5}
    return dict(zip(sizes, found.split(list(sizes.values())), strict=True))


def test_ranks_colours_and_counts_of_planted_stars():
    fluxes = [10.0 / rank for rank in range(1, 33)]
    found = parts(observed(planted(fluxes)))
    # Next to nothing of a star's own light is in the mean of its surroundings of 8 by 8 pixels.
    above = 1 - 0.6 / 64
    for place, rank in enumerate(RANKS[:4]):
        expected = math.log10(above * fluxes[rank - 1])
        assert float(found["rank"][place]) == pytest.approx(expected, abs=3e-3)
        signal = math.asinh(above * fluxes[rank - 1] / 1e-3)
        assert float(found["signal"][place]) == pytest.approx(signal, rel=1e-3)
    torch.testing.assert_close(found["rank"][4:], torch.tensor([-6.0, -6.0]))
    assert float(found["detected"]) == pytest.approx(math.log10(33))
    share = above * sum(fluxes[:30]) / sum(fluxes)
    assert float(found["share"]) == pytest.approx(math.log10(share), abs=3e-3)
    torch.testing.assert_close(found["colour"][:4], torch.full((4,), math.log10(2.0)))
    assert float(found["brightest"][0] - found["brightest"][1]) == pytest.approx(math.log10(2))


def test_fluctuations_are_the_flux_of_stars_and_fall_with_distance():
    near, far = (
        parts(observed(planted([flux] * 36), noise=1e-6))["fluctuation"] for flux in (4.0, 0.04)
    )
    # Of stars alone on their squares of k by k pixels, 1 - 1/k^2 of each one's own flux.
    for place, side in enumerate((4, 8, 16)):
        expected = math.log10(4.0 * (1 - 1 / side**2))
        assert float(near[2 * place]) == pytest.approx(expected, abs=2e-3)
    torch.testing.assert_close(near - far, torch.full((6,), 2.0), atol=1e-3, rtol=0)


def test_noise_alone_has_no_fluctuations():
    generator = torch.Generator().manual_seed(3)
    light = 5 + 0.3 * torch.randn(2, SIZE, SIZE, generator=generator)
    found = parts(observed(light, noise=0.3))
    # Its squares are taken off; what is left is chance, a hundredth of them.
    assert (found["fluctuation"] < math.log10(0.05 * 0.09 / 5)).all()
    told_less = parts(observed(light, noise=0.1))["fluctuation"]
    assert (told_less > math.log10(0.8 * 0.08 / 5 * 15 / 16)).all()


@pytest.mark.parametrize("missing", [0, 1])
def test_unknown_pixels_and_bands_give_finite_numbers(missing):
    light = planted([3.0, 2.0])
    light[missing] = torch.nan
    light[1 - missing, :20] = torch.nan
    observation = observed(light)
    observation.data["noise"][0, missing] = torch.nan
    assert torch.isfinite(star_numbers(observation)).all()
    one = Observation({"flux": light[None, :1], "noise": torch.zeros(1, 1)})
    assert star_numbers(one).shape == (1, n_numbers(1))
    assert torch.isfinite(star_numbers(one)).all()
