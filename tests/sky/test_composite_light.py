"""The light of a mixed population against stars drawn one by one."""

from __future__ import annotations

import pytest
import torch

from melotte.sky.composite_light import LOG_AGE_NODES, METALLICITY_NODES, CompositeLight
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid

BANDS = ("WFC3_UVIS_F336W", "ACS_WFC_F814W")


@pytest.fixture(scope="module")
def composite() -> CompositeLight:
    return CompositeLight(StellarGrid.shipped(), BANDS)


def nodes(log_age: float, metallicity: float) -> tuple[int, int]:
    age = int((LOG_AGE_NODES - log_age).abs().argmin())
    return age, METALLICITY_NODES.index(metallicity)


@pytest.mark.parametrize(("log_age", "metallicity"), [(7.0, 0.0), (9.0, -0.5), (10.0, 0.25)])
def test_light_and_its_variance_are_those_of_the_mass_function(
    composite: CompositeLight, log_age: float, metallicity: float
) -> None:
    bins = composite.population(*nodes(log_age, metallicity))
    grid, imf = StellarGrid.shipped(), Kroupa2001()
    # Quantiles in the logarithm of the share that is heavier resolve the short-lived giants.
    age, metals = torch.tensor([log_age]).double(), torch.tensor([metallicity]).double()
    tip = grid.maximum_mass(age, metals)
    heavier = 1 - float(imf.cdf(tip))
    edges = torch.cat(
        [
            torch.linspace(0.05, 1 - heavier - 1e-3, 60_000, dtype=torch.float64),
            1 - heavier - torch.linspace(1e-3, 0, 400_000, dtype=torch.float64)[1:],
        ]
    )
    middle, width = (edges[1:] + edges[:-1]) / 2, edges.diff()
    stars = grid.evolve(imf.quantile(middle)[None], age, metals)
    light = 10 ** (-0.4 * grid.magnitudes(stars, 0.0, BANDS, metals)[0].double())
    share = width[:, None] / imf.mean_mass
    expected, square = (share * light).sum(0), (share * light**2).sum(0)
    number = bins.number[:, None]
    found = (number * bins.mean_light).sum(0)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)
    squares = (number * bins.mean_light**2).sum(0)
    torch.testing.assert_close(squares, square, rtol=0.05, atol=0)


def test_a_mixture_is_the_weighted_sum_of_its_populations(composite: CompositeLight) -> None:
    young, old = nodes(7.5, 0.0), nodes(9.8, -1.0)
    shares = torch.zeros(len(LOG_AGE_NODES), len(METALLICITY_NODES), dtype=torch.float64)
    shares[young], shares[old] = 1.0, 1.0
    mass = torch.zeros(len(LOG_AGE_NODES), dtype=torch.float64)
    mass[young[0]], mass[old[0]] = 2.0, 5.0
    bins = composite.mixture(shares).weighted(mass)
    total = (bins.number[:, None] * bins.mean_light).sum(0)
    expected = torch.zeros(2, dtype=torch.float64)
    for (age, metallicity), weight in ((young, 2.0), (old, 5.0)):
        one = composite.population(age, metallicity)
        expected += weight * (one.number[:, None] * one.mean_light).sum(0)
    torch.testing.assert_close(total, expected)
