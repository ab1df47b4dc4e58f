"""Maps as a survey records them: depth, photon noise, saturation."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.telescope.cluster_maps import MapGrid, render_light
from melotte.telescope.map_noise import (
    ImagingSurvey,
    apparent_flux,
    record,
    surface_brightness,
)
from melotte.telescope.panstarrs import PAN_STARRS_3PI, PAN_STARRS_DEPTH, PAN_STARRS_SEEING
from melotte.telescope.projected_stars import Pointing, ProjectedStars

SURVEY = ImagingSurvey(("V",), (25.0,), (100.0,), 4.0, (21.0,), (6.0,), (-math.inf,), (1.0,), 0.25)
SCALE = torch.tensor([0.25])


def star(magnitude: float, width: float, size: int = 40) -> torch.Tensor:
    """Flux of one star in the middle of a map in two bands."""
    stars = ProjectedStars(
        torch.zeros(1, 2), torch.ones(1, 2), torch.ones(1), torch.zeros(1), torch.tensor([0, 1])
    )
    pointing = Pointing.of(1, 0.01, psf_fwhm=width)
    light = render_light(stars, pointing, MapGrid(size, size))
    return apparent_flux(light, pointing.distance) * 10 ** (-0.4 * magnitude)


def test_fluxes_are_those_of_the_distance_modulus() -> None:
    light = torch.ones(2, 2, 1, 1)
    extinction = torch.tensor([[0.0, 0.0], [1.0, 0.5]])
    flux = apparent_flux(light, torch.tensor([0.01, 100.0]), extinction)
    # At 10 pc a star of absolute magnitude 0 has magnitude 0; at 100 kpc it is 20 mag fainter.
    magnitude = 25 - 2.5 * torch.log10(flux[..., 0, 0])
    assert torch.allclose(magnitude, torch.tensor([[0.0, 0.0], [21.0, 20.5]]), atol=1e-5)
    each = apparent_flux(light, torch.tensor([0.01, 100.0]), torch.tensor([0.0, 1.0]))
    assert float(each[1, 1, 0, 0]) == pytest.approx(float(flux[1, 0, 0, 0]))


def test_surface_brightness_counts_the_pixels_area() -> None:
    flux = torch.tensor([1.0, -1.0]).view(1, 1, 2)
    found = surface_brightness(flux, torch.tensor([0.5]))
    assert float(found[0, 0, 0]) == pytest.approx(25 + 2.5 * math.log10(0.25))
    assert bool(found[0, 0, 1].isnan())


def test_noise_has_the_variance_of_its_photons(generator: torch.Generator) -> None:
    flux = torch.full((1, 1, 300, 300), 0.5)
    found = record(flux, SURVEY, SCALE, generator)
    # 100 s at 1 electron/s for flux 1; the sky gives 10^1.6 of them in an arcsec^2.
    single = 100 * (0.5 + 10**1.6 / 16) + 36
    expected = single / 4 / 100**2
    assert float(found.flux.mean()) == pytest.approx(0.5, abs=4 * (expected / 9e4) ** 0.5)
    assert float(found.flux.var()) == pytest.approx(expected, rel=0.03)
    assert float(found.variance.mean()) == pytest.approx(expected, rel=0.01)
    assert not found.saturated.any()


def test_a_star_at_the_limit_stands_out_by_five_deviations(generator: torch.Generator) -> None:
    limit = PAN_STARRS_3PI.depth()
    assert limit == pytest.approx(PAN_STARRS_DEPTH, abs=1e-4)
    n = 400
    for band, width in enumerate(PAN_STARRS_SEEING):
        image = star(limit[band], width)[0, band]
        profile = image / image.sum()
        blank = torch.zeros(n, 2, 40, 40)
        noise = record(blank, PAN_STARRS_3PI, torch.full((n,), 0.25), generator).flux[:, band]
        # The least-squares flux of a star of this image.
        fitted = (noise * profile).sum((1, 2)) / profile.square().sum()
        assert float(image.sum() / fitted.std()) == pytest.approx(5, rel=0.15)


def test_worse_seeing_and_fewer_images_are_less_deep() -> None:
    assert SURVEY.depth((2.0,))[0] == pytest.approx(SURVEY.depth()[0] - 2.5 * math.log10(2))
    deeper = SURVEY.with_depth((24.0,))
    assert deeper.depth()[0] == pytest.approx(24.0, abs=1e-4)
    with pytest.raises(MelotteValueError, match="no sky is dark enough"):
        SURVEY.with_depth((30.0,))


def test_sky_and_exposures_can_differ_from_map_to_map(generator: torch.Generator) -> None:
    blank = torch.zeros(2, 1, 200, 200)
    scale = torch.full((2,), 0.25)
    sky = torch.tensor([[21.0], [18.5]])
    found = record(blank, SURVEY, scale, generator, sky_brightness=sky).flux.var((1, 2, 3))
    photons = 100 * 10**1.6 / 16
    ratio = (10 * photons + 36) / (photons + 36)
    assert float(found[1] / found[0]) == pytest.approx(ratio, rel=0.05)
    images = torch.tensor([1.0, 16.0])
    found = record(blank, SURVEY, scale, generator, n_exposures=images).flux.var((1, 2, 3))
    assert float(found[0] / found[1]) == pytest.approx(16, rel=0.05)


def test_the_sky_taken_off_is_wrong_by_one_level_a_map(generator: torch.Generator) -> None:
    blank = torch.zeros(300, 1, 8, 8)
    scale = torch.full((300,), 0.25)
    found = record(blank, SURVEY, scale, generator, sky_error=0.02).flux.mean((1, 2, 3))
    noise = (100 * 10**1.6 / 16 + 36) / 4 / 100**2 / 64
    expected = ((0.02 * 10**1.6 / 16) ** 2 + noise) ** 0.5
    assert float(found.std()) == pytest.approx(expected, rel=0.15)


def test_stars_saturate_where_the_survey_says(generator: torch.Generator) -> None:
    scale = torch.tensor([0.25])
    seeing = PAN_STARRS_SEEING[0]
    faint, bright = (
        record(star(m, seeing), PAN_STARRS_3PI, scale, generator) for m in (14.0, 12.5)
    )
    assert not faint.saturated.any()
    assert bright.saturated[0, 18:22, 18:22].all()
    assert not bright.saturated[0, 0].any()
    # What does not fit is lost.
    assert float(bright.flux[0, 0].sum()) < 0.9 * float(star(12.5, seeing)[0, 0].sum())
    wide = record(star(12.5, seeing), PAN_STARRS_3PI, scale, generator, grow=4)
    assert int(wide.saturated.sum()) > int(bright.saturated.sum())


def test_resampled_noise_is_correlated_and_as_large_over_wide_areas(
    generator: torch.Generator,
) -> None:
    blank = torch.zeros(1, 1, 400, 400)
    white = record(blank, SURVEY, SCALE, generator).flux[0, 0]
    drawn = record(blank, SURVEY, SCALE, generator, drop=1.5).flux[0, 0]

    def neighbours(image: torch.Tensor) -> float:
        centred = image - image.mean()
        return float((centred[:, 1:] * centred[:, :-1]).mean() / centred.var())

    assert neighbours(drawn) > 0.2 > 0.02 > abs(neighbours(white))
    blocks = [one.view(40, 10, 40, 10).mean((1, 3)).var() for one in (white, drawn)]
    assert float(blocks[1] / blocks[0]) == pytest.approx(1, abs=0.2)


def test_bands_must_agree(generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match="maps of 1 bands"):
        record(torch.zeros(1, 2, 4, 4), SURVEY, SCALE, generator)
    with pytest.raises(MelotteValueError, match="a value for each"):
        ImagingSurvey(("V",), (25.0, 25.0), (1.0,), 1, (21.0,), (0.0,), (0.0,), (1.0,), 0.25)
