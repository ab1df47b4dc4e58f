"""What headers say: bands, scales, exposures, units and zero points in all their spellings."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from melotte.errors import MelotteValueError
from melotte.io.image_headers import (
    BandHeader,
    filter_of,
    header_band,
    header_exposure,
    header_pixel_scale,
    header_zero_point,
    match_bands,
    plane_count,
    read_band_header,
)
from melotte.io.image_units import PixelUnit, counts_factor, parse_unit
from melotte.telescope.passbands import passband

M83 = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")


@pytest.mark.parametrize(
    ("header", "plane", "band"),
    [
        ({"FILTER": "F336W", "INSTRUME": "WFC3", "DETECTOR": "UVIS"}, None, "WFC3_UVIS_F336W"),
        (
            {"FILTER1": "F475W", "FILTER2": "CLEAR2L", "INSTRUME": "ACS", "DETECTOR": "WFC"},
            None,
            "ACS_WFC_F475W",
        ),
        (
            {"FILTER1": "CLEAR1L", "FILTER2": "F814W", "INSTRUME": "ACS", "DETECTOR": "WFC"},
            None,
            "ACS_WFC_F814W",
        ),
        ({"FILTNAM1": "F555W", "INSTRUME": "WFPC2", "DETECTOR": 4}, None, "WFPC2_F555W"),
        ({"FILTER": "f160w   "}, None, "F160W"),
        ({"BAND": "wfc3/uvis f438w"}, None, "WFC3_UVIS_F438W"),
        ({"EXTNAME": "F814W"}, None, "F814W"),
        ({"BAND1": "F336W", "BAND2": "F438W", "BAND3": "F814W"}, 1, "F438W"),
        ({"FILTER1": "F336W", "FILTER2": "F438W"}, 0, "F336W"),
        ({"BANDS": "F336W, F438W,F814W"}, 2, "F814W"),
        ({"OBJECT": "M 83"}, None, ""),
    ],
)
def test_bands_of_headers(header: dict, plane: int | None, band: str) -> None:
    assert header_band(header, plane) == band


@pytest.mark.parametrize(
    ("header", "count"),
    [
        ({"BAND1": "F336W", "BAND2": "F438W", "BAND3": "F814W"}, 3),
        ({"BANDS": "F336W F438W"}, 2),
        ({"FILTER1": "CLEAR1L", "FILTER2": "F814W"}, 0),
        ({"FILTER": "F814W"}, 0),
    ],
)
def test_filter_wheels_are_no_list_of_planes(header: dict, count: int) -> None:
    assert plane_count(header) == count


def test_a_file_name_names_the_band_where_the_header_does_not() -> None:
    path = Path("hlsp_m83_wfc3_f438w_drz.fits")
    assert read_band_header({}, None, path).band == "F438W"
    assert read_band_header({"FILTER": "F336W"}, None, path).band == "F336W"
    assert filter_of("clusters.fits") == ""
    assert filter_of("if336white.fits") == ""


def test_bands_match_by_filter_unless_the_instrument_differs() -> None:
    assert match_bands(["F814W", "F336W", "wfc3_uvis_f438w"], M83, "x") == [1, 2, 0]
    with pytest.raises(MelotteValueError, match=r"no image in WFC3_UVIS_F814W; found: .*ACS_WFC"):
        match_bands(["F336W", "F438W", "ACS_WFC_F814W"], M83, "x")
    with pytest.raises(MelotteValueError, match="WFC3_UVIS_F336W is given 2 times"):
        match_bands(["F336W", "WFC3_UVIS_F336W"], M83, "x")


def test_a_missing_band_is_refused_or_left_out() -> None:
    with pytest.raises(MelotteValueError, match="missing_band=allow"):
        match_bands(["F336W", "F814W"], M83, "x")
    assert match_bands(["F336W", "F814W"], M83, "x", allow_missing=True) == [0, None, 1]
    with pytest.raises(MelotteValueError, match="no image in"):
        match_bands(["F475W"], M83, "x", allow_missing=True)


WCS_KEYS = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CRVAL1": 204.2, "CRVAL2": -29.9}
STEP = 0.04 / 3600


@pytest.mark.parametrize(
    "header",
    [
        {**WCS_KEYS, "CD1_1": -STEP, "CD1_2": 0.0, "CD2_1": 0.0, "CD2_2": STEP},
        {**WCS_KEYS, "CD1_1": -STEP * 0.8, "CD1_2": STEP * 0.6, "CD2_1": STEP * 0.6,
         "CD2_2": STEP * 0.8},
        {**WCS_KEYS, "CDELT1": -STEP, "CDELT2": STEP},
        {**WCS_KEYS, "CDELT1": -0.04, "CDELT2": 0.04, "CUNIT1": "arcsec", "CUNIT2": "arcsec",
         "CRVAL1": 204.2 * 3600, "CRVAL2": -29.9 * 3600},
        {"D001SCAL": 0.04},
        {"PIXSCALE": "0.04"},
    ],
)  # fmt: skip
def test_pixel_scale_of_every_spelling(header: dict) -> None:
    assert header_pixel_scale(header) == pytest.approx(0.04, rel=1e-6)


def test_pixel_scale_unknown_or_not_square() -> None:
    assert math.isnan(header_pixel_scale({"CDELT1": 1.0, "CDELT2": 1.0}))
    with pytest.raises(MelotteValueError, match="square pixels"):
        header_pixel_scale({**WCS_KEYS, "CDELT1": -STEP, "CDELT2": 1.5 * STEP})
    assert math.isnan(header_pixel_scale({"PIXSCALE": "fine"}))


def test_exposures_of_normalised_images_are_the_total() -> None:
    assert header_exposure({"EXPTIME": 1200}) == 1200
    assert header_exposure({"EXPTIME": 1.0, "TEXPTIME": 330624.0}) == 330624.0
    assert header_exposure({"EXPTIME1": 100.0, "EXPTIME2": 300.0}, plane=1) == 300
    assert math.isnan(header_exposure({"EXPTIME": 0.0}))


def test_zero_points_agree_with_the_published_ones() -> None:
    # ACS/WFC F814W, header of a drizzled image of 2009; AB zero point 25.947 mag by the ACS
    # zero-point calculator for that date (Bohlin 2016, AJ 152, 60).
    found = header_zero_point({"PHOTFLAM": 6.99286e-20, "PHOTPLAM": 8045.0, "PHOTZPT": -21.1})
    assert found == pytest.approx(25.95, abs=0.01)
    assert found == pytest.approx(passband("ACS_WFC_F814W").zero_point_ab, abs=0.03)
    assert header_zero_point({"ZP_AB": 25.1}) == 25.1
    assert math.isnan(header_zero_point({"PHOTFLAM": 0.0, "PHOTPLAM": 8045.0}))


@pytest.mark.parametrize(
    ("text", "kind", "per_second"),
    [
        ("ELECTRONS/S", "electron", True), ("electron/s", "electron", True),
        ("e-/sec", "electron", True), ("electron s-1", "electron", True),
        ("electron s**-1", "electron", True), ("ELECTRONS", "electron", False),
        ("COUNTS/S", "count", True), ("cps", "count", True), ("ct/s", "count", True),
        ("COUNTS", "count", False), ("DN", "dn", False), ("DN/s", "dn", True),
        ("adu", "dn", False), ("MJy/sr", "brightness", True), ("MJy sr-1", "brightness", True),
        ("Jy", "jansky", True), ("nJy/pixel", "jansky", True), ("uJy", "jansky", True),
        ("mJy", "jansky", True),
    ],
)  # fmt: skip
def test_units_in_every_spelling(text: str, kind: str, per_second: bool) -> None:
    unit = parse_unit(text, "x")
    assert (unit.kind, unit.per_second) == (kind, per_second)


@pytest.mark.parametrize("text", ["", "erg/s/cm2", "mag", "MJy", "furlongs", "/s"])
def test_other_units_are_refused_with_those_allowed(text: str) -> None:
    with pytest.raises(MelotteValueError, match=r"give unit=..., one of electrons/s, .*nJy"):
        parse_unit(text, "image.fits")


def test_case_tells_mega_from_milli() -> None:
    for text in ("MJy/sr", "MJY/SR", "MJy sr-1"):
        assert parse_unit(text, "x").scale == 1e6
    for text in ("mJy/sr", "mJy sr**-1"):
        assert parse_unit(text, "x") == PixelUnit("brightness", True, 1e-3)
    assert parse_unit("mJy", "x") == PixelUnit("jansky", True, 1e-3)


def test_text_for_a_number_is_kept_for_the_message() -> None:
    header = read_band_header({"GAIN": "DEFAULT", "EXPTIME": "INDEF", "PHOTFLAM": 1e-19})
    assert math.isnan(header.gain)
    assert math.isnan(header.exposure)
    assert header.unread == {
        "gain": "GAIN 'DEFAULT' is not a number",
        "exposure": "EXPTIME 'INDEF' is not a number",
    }
    assert header.why_unknown("gain") == " (GAIN 'DEFAULT' is not a number)"
    assert header.why_unknown("zero_point_ab") == ""


@pytest.mark.parametrize("scale", [0, -0.04, math.inf])
def test_a_scale_that_none_can_have_is_unknown(scale: float) -> None:
    header = read_band_header({"PIXSCALE": scale, "EXPTIME": -1})
    assert math.isnan(header.pixel_scale)
    assert math.isnan(header_pixel_scale({"PIXSCALE": scale}))
    assert header.why_unknown("pixel_scale") == f" (PIXSCALE {scale:g} is not a number above 0)"
    assert header.why_unknown("exposure") == " (EXPTIME -1 is not a number above 0)"


@pytest.mark.parametrize("kind", ["CD", "PC"])
def test_a_matrix_of_zeros_is_no_scale(kind: str) -> None:
    matrix = {f"{kind}{i}_{j}": 0.0 for i in (1, 2) for j in (1, 2)}
    coordinates = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", **matrix}
    assert math.isnan(header_pixel_scale(coordinates))
    assert header_pixel_scale({**coordinates, "PIXSCALE": 0.04}) == 0.04


def test_counts_of_every_unit() -> None:
    unknown = math.nan
    of = BandHeader
    assert counts_factor(of(unit="electrons/s"), unknown, "x") == 1
    assert counts_factor(of(unit="electrons", exposure=500), unknown, "x") == 1 / 500
    assert counts_factor(of(unit="DN", exposure=500, gain=1.5), unknown, "x") == 1.5 / 500
    assert counts_factor(of(unit="counts/s", gain=7.0), unknown, "x") == 1
    with pytest.raises(MelotteValueError, match="give exposure=SECONDS"):
        counts_factor(of(unit="electrons"), unknown, "x")
    with pytest.raises(MelotteValueError, match="give gain="):
        counts_factor(of(unit="COUNTS", exposure=500), unknown, "x")
    with pytest.raises(MelotteValueError, match="PHOTFLAM"):
        counts_factor(of(unit="MJy/sr", pixel_scale=0.04), unknown, "x")


def test_a_zero_point_keeps_the_magnitude_of_a_source() -> None:
    ours = passband("WFC3_UVIS_F336W").zero_point_ab
    # Epoch: 5 % fewer electrons from the same source.
    older = BandHeader(unit="electrons/s", zero_point_ab=ours - 2.5 * math.log10(1 / 0.95))
    assert 0.95 * counts_factor(older, ours, "x") == pytest.approx(1)
    # Data numbers of gain 1.5: the zero point replaces the gain.
    numbers = BandHeader(unit="DN/s", zero_point_ab=ours - 2.5 * math.log10(1.5))
    assert counts_factor(numbers, ours, "x") == pytest.approx(1.5)
    with pytest.raises(MelotteValueError, match="another band or unit"):
        counts_factor(BandHeader(unit="electrons/s", zero_point_ab=ours + 1), ours, "x")


@pytest.mark.parametrize("unit", ["MJy/sr", "mJy/sr", "Jy", "mJy", "uJy", "nJy"])
def test_flux_densities_keep_the_magnitude_of_a_source(unit: str) -> None:
    from astropy import units as u

    zero_point, scale = 24.7, 0.04
    flux = (22.0 * u.ABmag).to(u.Jy)
    area = ((scale * u.arcsec) ** 2).to(u.sr)
    value = (flux / area).to_value(unit) if "sr" in unit else flux.to_value(unit)
    header = BandHeader(unit=unit, pixel_scale=scale)
    counts = value * counts_factor(header, zero_point, "x")
    assert counts == pytest.approx(10 ** (0.4 * (zero_point - 22.0)), rel=1e-3)
