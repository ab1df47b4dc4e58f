"""Fields of M31 and M83 against what is published of the galaxies as wholes."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.composite_light import LOG_AGE_NODES, CompositeLight
from melotte.sky.galaxy_fields import (
    GALAXIES,
    RECENT_LOG_AGE,
    FieldEnvironment,
    draw_environment,
)
from melotte.sky.isochrones import StellarGrid

DISTANCE = {"m31": 785e3, "m83": 4.5e6}
PUBLISHED = {"m31": (4.36, 3.44), "m83": (8.20, 7.54)}
"""Total B and V, de Vaucouleurs et al. 1991 (RC3)."""
ISOPHOTE = {"m31": 95.3, "m83": 6.44}
"""Semi-major axis of B = 25 mag/arcsec2, arcmin (RC3: D25 = 190.5 and 12.9 arcmin)."""


@pytest.fixture(scope="module")
def composite() -> CompositeLight:
    return CompositeLight(StellarGrid.shipped(), ("Bessell_B", "Bessell_V"))


def seen_light(environment: FieldEnvironment, composite: CompositeLight) -> torch.Tensor:
    """Luminosity per pc2 on the sky behind all dust, in stars of magnitude 0."""
    bins = composite.mixture(environment.metallicity_shares)
    bins = bins.weighted(environment.stellar_density * torch.tensor(environment.age_shares))
    old = (LOG_AGE_NODES[bins.age] > RECENT_LOG_AGE).double()[:, None]
    behind = old * environment.reddened_share + (1 - old) * 0.5
    per_mag = 0.4 * math.log(10) * bins.extinction.double()
    veil = 1 - behind + behind * torch.exp(-per_mag * environment.extinction_v)
    clear = torch.exp(-per_mag * environment.foreground_extinction)
    return (bins.number[:, None] * bins.mean_light * clear * veil).sum(0)


def typical(galaxy: str, radius: float, composite: CompositeLight) -> torch.Tensor:
    drawn = [draw_environment(galaxy, torch.Generator().manual_seed(s), radius) for s in range(3)]
    return torch.stack([seen_light(one, composite) for one in drawn]).mean(0)


@pytest.mark.parametrize("galaxy", ["m31", "m83"])
def test_the_galaxy_has_its_published_total_magnitudes(
    galaxy: str, composite: CompositeLight
) -> None:
    disc = GALAXIES[galaxy]
    radius, step = torch.arange(0.35, 24, 0.7).tolist(), 0.7
    total = torch.zeros(2, dtype=torch.float64)
    for one in radius:
        area = 2 * math.pi * one * step * disc.axis_ratio * 1e6
        total += area * typical(galaxy, one, composite)
    magnitudes = -2.5 * torch.log10(total) + 5 * math.log10(DISTANCE[galaxy] / 10)
    for found, published in zip(magnitudes.tolist(), PUBLISHED[galaxy], strict=True):
        assert abs(found - published) < 0.3


@pytest.mark.parametrize("galaxy", ["m31", "m83"])
def test_the_isophote_of_25_mag_is_where_it_is(galaxy: str, composite: CompositeLight) -> None:
    distance = DISTANCE[galaxy]
    radius = ISOPHOTE[galaxy] * math.pi / 180 / 60 * distance / 1000
    light = typical(galaxy, radius, composite)[0]
    per_arcsec = distance * math.pi / 180 / 3600
    brightness = -2.5 * math.log10(light * per_arcsec**2) + 5 * math.log10(distance / 10)
    assert abs(brightness - 25) < 0.6


@pytest.mark.parametrize(("galaxy", "low", "high"), [("m31", 0.25, 1.0), ("m83", 1.5, 4.5)])
def test_the_star_formation_rate_is_that_of_the_galaxy(
    galaxy: str, low: float, high: float
) -> None:
    # Rahmani et al. 2016 to Lewis et al. 2015 (M31); Leroy et al. 2021 (M83): Msun/yr.
    disc = GALAXIES[galaxy]
    rate = sum(
        disc.star_formation_density(r / 10) * 2 * math.pi * r / 10 * 0.1 * disc.axis_ratio
        for r in range(1, 300)
    )
    assert low < rate < high


def test_equal_seeds_give_equal_fields_and_others_other_ones() -> None:
    one, two, three = (
        draw_environment("m31", torch.Generator().manual_seed(seed)) for seed in (1, 1, 2)
    )
    assert one == two
    assert one != three


def test_shares_sum_to_one_at_every_age() -> None:
    environment = draw_environment("m83", torch.Generator().manual_seed(4))
    torch.testing.assert_close(
        environment.metallicity_shares.sum(1), torch.ones(len(LOG_AGE_NODES)).double()
    )
    assert math.isclose(sum(environment.age_shares), 1)


def test_mistakes_are_named() -> None:
    generator = torch.Generator().manual_seed(1)
    with pytest.raises(MelotteValueError, match="there are m31, m83"):
        draw_environment("m32", generator)
    for radius in (-1.0, 40.5, math.inf, math.nan):
        with pytest.raises(MelotteValueError, match="0 to 40 kpc"):
            draw_environment("m31", generator, radius)
    environment = draw_environment("m31", generator)
    with pytest.raises(MelotteValueError, match="sum to 1"):
        replace(environment, age_shares=(0.5,) * len(LOG_AGE_NODES))
    with pytest.raises(MelotteValueError, match="stellar_density"):
        replace(environment, stellar_density=-1.0)
