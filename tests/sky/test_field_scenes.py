"""Stars of a field: light conserved, fluctuations right, young stars among the dust."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from melotte.sky.composite_light import LOG_AGE_NODES, CompositeLight
from melotte.sky.field_scenes import FieldScene, draw_scene
from melotte.sky.field_sources import (
    draw_background_galaxies,
    draw_foreground_stars,
    sersic_stamp,
)
from melotte.sky.galaxy_fields import FieldEnvironment, draw_environment
from melotte.sky.isochrones import StellarGrid
from melotte.sky.random_fields import fast_length, filamentary_field, gaussian_field

BANDS = ("WFC3_UVIS_F336W", "ACS_WFC_F475W", "ACS_WFC_F814W")
LIMIT = 10 ** (-0.4 * torch.tensor([1.0, 3.0, 2.5]))
SIZE = 128


@pytest.fixture(scope="module")
def composite() -> CompositeLight:
    return CompositeLight(StellarGrid.shipped(), BANDS)


@pytest.fixture
def clear() -> FieldEnvironment:
    """An old, dustless, even field."""
    environment = draw_environment("m31", torch.Generator().manual_seed(5), 16.0)
    old = torch.where(LOG_AGE_NODES > 9.4, 1.0, 0.0).double()
    return replace(
        environment,
        age_shares=tuple((old / old.sum()).tolist()),
        extinction_v=0.0,
        foreground_extinction=0.0,
        density_gradient=(0.0, 0.0),
    )


def pixels(scene: FieldScene) -> torch.Tensor:
    """Light of every pixel, stars and fluctuations included, (n_bands, size, size)."""
    column, row = scene.positions.round().long().clamp(0, SIZE - 1).unbind(1)
    image = scene.smooth.clone()
    for band in range(len(BANDS)):
        image[band].view(-1).index_add_(0, row * SIZE + column, scene.light[:, band])
    return image


def test_light_is_conserved_wherever_the_limit_is(
    composite: CompositeLight, clear: FieldEnvironment, generator: torch.Generator
) -> None:
    bins = composite.mixture(clear.metallicity_shares).weighted(torch.tensor(clear.age_shares))
    expected = (bins.number[:, None] * bins.mean_light).sum(0)
    for most_stars in (1, 2_000, 50_000):
        total = torch.stack(
            [
                pixels(draw_scene(clear, composite, SIZE, 1.0, LIMIT, generator, most_stars)).sum(
                    (1, 2)
                )
                for _ in range(4)
            ]
        ).mean(0)
        per_mass = total.double() / (clear.stellar_density * SIZE**2)
        torch.testing.assert_close(per_mass, expected, rtol=0.05, atol=0)


def test_the_fluctuations_replace_the_variance_of_the_stars_left_out(
    composite: CompositeLight, clear: FieldEnvironment, generator: torch.Generator
) -> None:
    # Pixels of 3 pc hold many stars, so that their variance is measured well.
    full = draw_scene(clear, composite, SIZE, 3.0, LIMIT / 1e3, generator, 400_000)
    few = draw_scene(clear, composite, SIZE, 3.0, LIMIT, generator, 3_000)
    drawn = pixels(few).flatten(1).cov()
    whole = pixels(full).flatten(1).cov() + full.fluctuation
    torch.testing.assert_close(drawn + few.fluctuation, whole, rtol=0.15, atol=0)
    # Without them the variance would be too small by far.
    assert float(drawn[1, 1] / whole[1, 1]) < 0.9


def test_young_stars_are_where_the_dust_is_and_old_ones_are_not(
    composite: CompositeLight, clear: FieldEnvironment, generator: torch.Generator
) -> None:
    for log_age, clumped in ((7.0, True), (9.8, False)):
        chosen = int((LOG_AGE_NODES - log_age).abs().argmin())
        shares = [float(i == chosen) for i in range(len(LOG_AGE_NODES))]
        field = replace(clear, age_shares=tuple(shares), extinction_v=0.3, dust_correlation=0.9)
        scene = draw_scene(field, composite, SIZE, 20.0, LIMIT, generator, 50_000)
        column, row = scene.positions.round().long().clamp(0, SIZE - 1).unbind(1)
        number = torch.bincount(row * SIZE + column, minlength=SIZE**2).double()
        coarse = torch.nn.functional.avg_pool2d(number.view(1, 1, SIZE, SIZE), 8)
        excess = float(coarse.var() * 64 / coarse.mean())
        assert (excess > 3) == clumped
        dust = torch.nn.functional.avg_pool2d(scene.dust.double()[None, None], 8)
        together = torch.corrcoef(torch.stack([dust.log().flatten(), coarse.flatten()]))[0, 1]
        assert (float(together) > 0.3) == clumped


def test_dust_dims_the_blue_more(composite: CompositeLight, clear: FieldEnvironment) -> None:
    dusty = replace(clear, extinction_v=2.0, reddened_share=1.0)
    light = [
        pixels(
            draw_scene(one, composite, SIZE, 3.0, LIMIT, torch.Generator().manual_seed(1), 9_000)
        ).sum((1, 2))
        for one in (clear, dusty)
    ]
    dimming = -2.5 * torch.log10(light[1] / light[0])
    assert dimming[0] > dimming[1] > dimming[2] > 0.3


def test_random_fields_have_their_spectrum_and_are_normalised(
    generator: torch.Generator,
) -> None:
    for draw in (gaussian_field, filamentary_field):
        field = draw(96, -2.8, generator)
        assert abs(float(field.mean())) < 1e-4
        assert abs(float(field.std()) - 1) < 1e-4
    powers = []
    for _ in range(8):
        field = gaussian_field(256, -2.8, generator)
        taper = torch.hann_window(256)
        power = torch.fft.fft2(field * taper[:, None] * taper).abs() ** 2
        k = torch.hypot(torch.fft.fftfreq(256)[:, None], torch.fft.fftfreq(256)[None]) * 256
        powers.append([power[(k > a) & (k < 1.3 * a)].mean() for a in (8, 64)])
    low, high = torch.tensor(powers).mean(0).tolist()
    slope = torch.log(torch.tensor(high / low)) / torch.log(torch.tensor(8.0))
    assert abs(float(slope) + 2.8) < 0.3


def test_lengths_are_quick_to_transform() -> None:
    assert [fast_length(n) for n in (1, 7, 11, 833, 1024)] == [1, 8, 12, 864, 1024]


def test_galaxies_and_foreground_stars_have_their_published_counts(
    generator: torch.Generator,
) -> None:
    galaxies = draw_background_galaxies(0.05, generator)
    at_24 = ((galaxies.magnitude > 23.5) & (galaxies.magnitude < 24.5)).sum() / 0.05
    assert abs(float(at_24) / 4e4 - 1) < 0.15
    stars = draw_foreground_stars(1e4, 0.3, StellarGrid.shipped(), BANDS, generator)
    assert abs(float((stars[:, 2] < 22).sum()) / 3e3 - 1) < 0.1
    assert bool((stars[:, 0] > stars[:, 2]).all())


@pytest.mark.parametrize("index", [1.0, 4.0])
def test_half_of_a_galaxys_light_is_inside_its_half_light_ellipse(index: float) -> None:
    stamp = sersic_stamp(12.0, index, 0.5, 0.6, 150)
    reach = len(stamp) // 2
    place = torch.arange(-reach, reach + 1.0)
    x, y = place[None], place[:, None]
    turn = torch.tensor(0.6)
    along = x * torch.cos(turn) + y * torch.sin(turn)
    across = (y * torch.cos(turn) - x * torch.sin(turn)) / 0.5
    inside = float(stamp[torch.hypot(along, across) < 12].sum())
    assert abs(float(stamp.sum()) - 1) < 1e-5
    # The stamp ends at 8 half-light radii; n = 4 would have a ninth of its light beyond.
    assert abs(inside - 0.5) < (0.03 if index == 1 else 0.07)
