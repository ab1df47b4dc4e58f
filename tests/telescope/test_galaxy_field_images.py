"""Simulated mosaics: reproducible, of the right brightness, noise and crowding."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.composite_light import CompositeLight
from melotte.sky.galaxy_fields import FieldEnvironment, draw_environment
from melotte.sky.isochrones import StellarGrid
from melotte.telescope.drizzle_noise import drizzle_correlation
from melotte.telescope.fields import FieldOptions, simulate_field, sky_rate
from melotte.telescope.passbands import counts_per_second
from melotte.telescope.setups import M31_PHAT, M83_MOSAIC

QUIET = FieldOptions(cosmic_rays=0.0, background_galaxies=False, foreground_stars=False)


def environment(galaxy: str, radius: float, seed: int = 1) -> FieldEnvironment:
    return draw_environment(galaxy, torch.Generator().manual_seed(seed), radius)


def test_equal_seeds_give_equal_mosaics() -> None:
    field = environment("m31", 16.0)
    one, two, three = (
        simulate_field(field, M31_PHAT, 64, torch.Generator().manual_seed(seed))
        for seed in (3, 3, 4)
    )
    assert torch.equal(one.image, two.image)
    assert not torch.equal(one.image, three.image)
    assert one.image.shape == (3, 64, 64)
    assert one.image.dtype == torch.float32
    assert bool(torch.isfinite(one.image).all())


@pytest.mark.parametrize(("galaxy", "setup"), [("m31", M31_PHAT), ("m83", M83_MOSAIC)])
def test_light_is_that_of_the_population(galaxy: str, setup, generator: torch.Generator) -> None:
    field = replace(
        environment(galaxy, 8.0),
        extinction_v=0.0,
        foreground_extinction=0.0,
        density_gradient=(0.0, 0.0),
        clumping=0.0,
    )
    composite = CompositeLight(StellarGrid.shipped(), setup.bands)
    # Single supergiants would carry the sum: compare what is older than 1 Gyr.
    old = torch.tensor(field.age_shares).double()
    old[: len(old) - 12] = 0
    field = replace(field, age_shares=tuple((old / old.sum()).tolist()))
    bins = composite.mixture(field.metallicity_shares).weighted(torch.tensor(field.age_shares))
    per_mass = (bins.number[:, None] * bins.mean_light).sum(0)
    unit = counts_per_second(torch.full((3,), setup.distance_modulus), setup.bands)
    area = (setup.pixel_scale * setup.parsecs_per_arcsec) ** 2
    expected = per_mass.float() * field.stellar_density * area * unit
    image = simulate_field(field, setup, 400, generator, replace(QUIET, sky_kept=0.0))
    found = image.noiseless.mean((1, 2))
    torch.testing.assert_close(found, expected, rtol=0.08, atol=0)


def test_noise_is_that_of_the_exposure_and_correlated(generator: torch.Generator) -> None:
    field = replace(environment("m31", 19.0), stellar_density=1e-4, sky_surface_brightness=21.5)
    image = simulate_field(field, M31_PHAT, 256, generator, QUIET)
    sky = sky_rate(21.5, M31_PHAT.bands, 0.05)
    noise = image.image - image.noiseless
    for band, pixel, dark, reading in ((0, 0.0396, 0.002, 3.1), (1, 0.05, 0.006, 4.0)):
        time, coarser = M31_PHAT.exposure[band], 0.05 / pixel
        electrons = (float(sky[band]) + dark * coarser**2) * time + 3 * (reading * coarser) ** 2
        covariance = drizzle_correlation(1 / coarser)
        expected = math.sqrt(electrons) / time * float(covariance[0])
        assert float(noise[band].std()) == pytest.approx(expected, rel=0.03)
        lagged = float((noise[band, :, 1:] * noise[band, :, :-1]).mean() / noise[band].var())
        assert lagged == pytest.approx(float(covariance[1] / covariance[0]), abs=0.02)


def test_outer_m31_is_as_crowded_as_phat_found() -> None:
    # PHAT: 117 million stars in 0.5 deg2 (Williams et al. 2014), 18 per arcsec2 on average; the
    # outer bricks, complete to F475W = 28, must have fewer, the star-forming ring about as many.
    composite = CompositeLight(StellarGrid.shipped(), M31_PHAT.bands)
    counts = []
    for radius in (10.8, 17.0):
        field = environment("m31", radius)
        bins = composite.mixture(field.metallicity_shares).weighted(torch.tensor(field.age_shares))
        magnitude = -2.5 / math.log(10) * bins.log_light.mean(1) + M31_PHAT.distance_modulus
        seen = (magnitude[:, 1] < 28) & (magnitude[:, 2] < 27.5)
        per_mass = float(bins.number[seen].sum())
        counts.append(per_mass * field.stellar_density * M31_PHAT.parsecs_per_arcsec**2)
    assert 10 < counts[0] < 40
    assert 3 < counts[1] < 12


def test_fields_get_brighter_towards_the_centre() -> None:
    medians = [
        simulate_field(
            environment("m83", radius), M83_MOSAIC, 128, torch.Generator().manual_seed(1)
        ).image.flatten(1).median(1).values
        for radius in (0.5, 3.0, 8.0)
    ]  # fmt: skip
    assert bool((medians[0] > medians[1]).all())
    assert bool((medians[1] > medians[2]).all())


def test_bright_stars_saturate_and_do_so_earlier_in_longer_exposures() -> None:
    crowded = replace(environment("m31", 16.0), foreground_stars=2e6)
    counts = []
    for factor in (1.0, 10.0):
        setup = replace(M31_PHAT, exposure=tuple(factor * t for t in M31_PHAT.exposure))
        image = simulate_field(crowded, setup, 256, torch.Generator().manual_seed(2))
        counts.append(int(image.saturated.sum()))
    assert 0 < counts[0] < counts[1]


def test_mistakes_are_named(generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match="at least 16 pixels"):
        simulate_field(environment("m31", 16.0), M31_PHAT, 8, generator)
    with pytest.raises(MelotteValueError, match="sky_kept"):
        FieldOptions(sky_kept=2.0)
    with pytest.raises(MelotteValueError, match="exposures"):
        FieldOptions(exposures=0)
    for name in ("exposures", "drop", "cosmic_rays", "star_density"):
        for value in (math.inf, math.nan):
            with pytest.raises(MelotteValueError, match="all finite"):
                FieldOptions(**{name: value})
    with pytest.raises(MelotteValueError, match="Bessell_V"):
        sky_rate(22.6, ("Bessell_V",), 0.05)
