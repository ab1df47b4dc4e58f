"""Zero points of Hubble's bands."""

from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.photometry import SHIPPED_BANDS
from melotte.telescope.passbands import (
    HUBBLE_BANDS,
    counts_per_second,
    magnitude_of,
    passband,
)

# AB zero points, mag, and pivot wavelengths, nm, of the WFC3 team's table of 2020.
WFC3_TABLE = {
    "WFC3_UVIS_F275W": (24.157, 270.969),
    "WFC3_UVIS_F336W": (24.691, 335.449),
    "WFC3_UVIS_F438W": (24.837, 432.623),
    "WFC3_UVIS_F475W": (25.704, 477.310),
    "WFC3_UVIS_F555W": (25.810, 530.843),
    "WFC3_UVIS_F606W": (26.087, 588.917),
    "WFC3_UVIS_F814W": (25.127, 803.906),
    "WFC3_IR_F110W": (26.819, 1153.446),
    "WFC3_IR_F160W": (25.936, 1536.918),
}

# Vega zero points of Sirianni et al. 2005, PASP 117, 1049.
SIRIANNI = {"ACS_WFC_F475W": 26.168, "ACS_WFC_F606W": 26.398, "ACS_WFC_F814W": 25.501}


@pytest.mark.parametrize("name", HUBBLE_BANDS)
def test_zero_points_agree_with_the_instrument_teams(name: str) -> None:
    band = passband(name)
    assert band.zero_point == pytest.approx(band.published, abs=0.02)
    assert band.source
    assert band.published_source


@pytest.mark.parametrize("name", WFC3_TABLE)
def test_ab_zero_points_and_pivots(name: str) -> None:
    zero_point, pivot = WFC3_TABLE[name]
    assert passband(name).zero_point_ab == pytest.approx(zero_point, abs=0.01)
    assert passband(name).pivot_nm == pytest.approx(pivot, rel=2e-4)


@pytest.mark.parametrize("name", SIRIANNI)
def test_zero_points_of_acs_at_launch(name: str) -> None:
    assert passband(name).zero_point == pytest.approx(SIRIANNI[name], abs=0.025)


def test_ab_minus_vega_would_be_seen() -> None:
    """The tolerance above tells the two systems apart in every band but F555W."""
    close = [name for name in HUBBLE_BANDS if abs(passband(name).ab_minus_vega) < 0.04]
    assert sorted(close) == ["ACS_WFC_F555W", "WFC3_UVIS_F555W"]


def test_every_hubble_band_of_the_stellar_table_has_a_zero_point() -> None:
    expected = [band for band in SHIPPED_BANDS if band.startswith(("WFC3", "ACS"))]
    assert sorted(HUBBLE_BANDS) == sorted(expected)


def test_counts_of_a_magnitude() -> None:
    bands = ["F336W", "ACS_WFC_F475W", "ACS_WFC_F814W"]
    magnitude = torch.tensor([[23.5282, 26.1478, 25.5018], [21.0282, math.inf, 30.5018]])
    counts = counts_per_second(magnitude, bands)
    expected = torch.tensor([[1.0, 1.0, 1.0], [10.0, 0.0, 0.01]])
    torch.testing.assert_close(counts, expected, rtol=1e-5, atol=1e-7)
    torch.testing.assert_close(magnitude_of(counts, bands), magnitude)


def test_nan_stays_nan() -> None:
    found = counts_per_second(torch.tensor([math.nan]), ["F336W"])
    assert bool(torch.isnan(found).all())


def test_what_is_refused() -> None:
    with pytest.raises(MelotteValueError, match="WFC3_UVIS_F814W or ACS_WFC_F814W"):
        passband("F814W")
    with pytest.raises(MelotteValueError, match="no band 'F999W'"):
        passband("F999W")
    with pytest.raises(MelotteValueError, match="last axis"):
        counts_per_second(torch.zeros(5, 3), ["F336W", "ACS_WFC_F475W"])
