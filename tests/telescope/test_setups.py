"""Imaging set-ups: published distances, drizzle's blur, settings that do not fit."""

from __future__ import annotations

import math

import pytest

from melotte.errors import MelotteValueError
from melotte.telescope.passbands import passband
from melotte.telescope.psf import fwhm
from melotte.telescope.setups import (
    DETECTOR_BLUR,
    M31_PHAT,
    M83_MOSAIC,
    ImagingSetup,
    distance_modulus_of,
    drizzled_blur,
    mosaic_blur,
)


def test_distances_are_the_papers() -> None:
    """80 px of 0.05 arcsec span 15 pc in M31, 64 px of 0.04 arcsec 60 pc (rounded) in M83."""
    assert M31_PHAT.distance == pytest.approx(785e3)
    assert M83_MOSAIC.distance == pytest.approx(4.5e6)
    assert 4.0 * M31_PHAT.parsecs_per_arcsec == pytest.approx(15, abs=0.3)
    assert 64 * 0.04 * M83_MOSAIC.parsecs_per_arcsec == pytest.approx(56, abs=0.5)
    assert distance_modulus_of(10.0) == pytest.approx(0.0)


@pytest.mark.parametrize("setup", [M31_PHAT, M83_MOSAIC], ids=["M31", "M83"])
def test_a_mosaics_stars_are_about_two_pixels_wide(setup: ImagingSetup) -> None:
    psfs = setup.psfs()
    assert [psf.pivot_nm for psf in psfs] == [passband(band).pivot_nm for band in setup.bands]
    for psf in psfs:
        assert 1.7 < fwhm(psf, setup.pixel_scale) / setup.pixel_scale < 2.3
    assert fwhm(setup.with_blur(1.3).psfs()[0]) > fwhm(psfs[0])


def test_drizzle_adds_the_variances_of_two_boxes() -> None:
    point_like = drizzled_blur(0.02, 0.04, drop=0.0)
    assert point_like**2 - 0.02**2 == pytest.approx(0.04**2 / 12)
    assert drizzled_blur(0.02, 0.04) ** 2 - 0.02**2 == pytest.approx(2 * 0.04**2 / 12)
    assert drizzled_blur(0.0, 0.0) == 0


def test_blurs_of_bands() -> None:
    bands = tuple(DETECTOR_BLUR)
    for band, blur in zip(bands, mosaic_blur(bands), strict=True):
        assert DETECTOR_BLUR[band] < blur < 0.04
        assert math.isfinite(passband(band).zero_point)
    with pytest.raises(MelotteValueError, match="no blur is known for WFC3_IR_F160W"):
        mosaic_blur(("WFC3_UVIS_F336W", "WFC3_IR_F160W"))


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"bands": ("ACS_WFC_F475W",)}, "one entry a band"),
        ({"blur": (0.02, -0.1)}, "0 or more"),
        ({"blur": (0.02, math.nan)}, "0 or more"),
        ({"exposure": (100.0, 0.0)}, "above 0"),
        ({"exposure": (100.0, math.inf)}, "above 0 and finite"),
        ({"pixel_scale": 0.0}, "above 0"),
        ({"pixel_scale": math.inf}, "above 0 and finite"),
        ({"read_noise": -1.0}, "0 or more"),
    ],
)
def test_set_ups_that_cannot_be(changed: dict, message: str) -> None:
    given = {
        "bands": ("ACS_WFC_F475W", "ACS_WFC_F814W"),
        "pixel_scale": 0.05,
        "blur": (0.02, 0.02),
        "exposure": (100.0, 100.0),
        "distance_modulus": 24.0,
        "metallicity": 0.0,
    }
    ImagingSetup(**given)
    with pytest.raises(MelotteValueError, match=message):
        ImagingSetup(**(given | changed))
