"""Mosaics written as FITS and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from melotte.api.fields import simulate_field_mosaic
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.field_files import read_mosaic, write_mosaic
from melotte.telescope.passbands import passband

BANDS = ("WFC3_UVIS_F336W", "ACS_WFC_F814W")


def write(folder: Path, image: np.ndarray, **changes) -> tuple[Path, ...]:
    filters = [passband(band) for band in BANDS]
    given = {
        "pixel_scale": 0.05,
        "exposure": (1350.0, 1520.0),
        "zero_points_ab": [one.zero_point_ab for one in filters],
        "pivot_nm": [one.pivot_nm for one in filters],
        "centre": (10.7, 41.3),
    }
    return write_mosaic(folder, image, BANDS, **{**given, **changes})


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    image = np.random.default_rng(1).normal(size=(2, 30, 40)).astype(np.float32)
    masked = np.zeros(image.shape, dtype=bool)
    masked[1, 3, 4] = True
    paths = write(tmp_path / "new", image, masked=masked)
    assert [path.name for path in paths] == ["field_f336w.fits", "field_f814w.fits"]
    mosaic = read_mosaic(paths)
    np.testing.assert_array_equal(mosaic.image, image)
    assert np.argwhere(mosaic.masked).tolist() == [[3, 4]]
    for header, band, exposure in zip(mosaic.headers, BANDS, (1350.0, 1520.0), strict=True):
        assert header.band == band
        assert header.exposure == exposure
        assert header.pixel_scale == pytest.approx(0.05)
        assert header.zero_point_ab == pytest.approx(passband(band).zero_point_ab, abs=1e-3)
        assert header.unit == "ELECTRONS/S"


def test_the_coordinates_have_north_up_and_east_left(tmp_path: Path) -> None:
    mosaic = read_mosaic(write(tmp_path, np.zeros((2, 31, 41), dtype=np.float32)))
    centre = mosaic.wcs.pixel_to_world(20, 15)
    assert centre.ra.deg == pytest.approx(10.7)
    assert centre.dec.deg == pytest.approx(41.3)
    up, left = mosaic.wcs.pixel_to_world(20, 16), mosaic.wcs.pixel_to_world(19, 15)
    assert (up.dec - centre.dec).arcsec == pytest.approx(0.05, rel=1e-4)
    assert left.ra > centre.ra
    assert centre.separation(left).arcsec == pytest.approx(0.05, rel=1e-4)


def test_missing_pixels_are_masked(tmp_path: Path) -> None:
    image = np.ones((2, 10, 10), dtype=np.float32)
    image[0, 2, 3] = np.nan
    mosaic = read_mosaic(write(tmp_path, image))
    assert np.argwhere(mosaic.masked).tolist() == [[2, 3]]


def test_pixels_without_weight_or_in_a_blank_border_are_masked(tmp_path: Path) -> None:
    image = np.random.default_rng(3).normal(1, 0.1, (2, 300, 400)).astype(np.float32)
    image[:, :4, :64] = 0
    image[0, 200, 200] = 0
    paths = write(tmp_path, image)
    weight = np.ones(image.shape[1:], dtype=np.float32)
    weight[-7:] = 0
    with fits.open(paths[1], mode="update") as opened:
        opened.append(fits.ImageHDU(weight, name="WHT"))
    mosaic = read_mosaic(paths)
    expected = np.zeros(image.shape[1:], dtype=bool)
    # The border is 0.2 % of the field, and a fifteenth of where it lies.
    expected[:4, :64] = True
    expected[-7:] = True
    np.testing.assert_array_equal(mosaic.masked, expected)
    assert np.isnan(mosaic.image[1, -7:]).all()
    assert mosaic.image[0, 200, 200] == 0


def test_integers_have_real_zeros(tmp_path: Path) -> None:
    path = tmp_path / "f336w.fits"
    header = fits.Header({"FILTER": "F336W", "PIXSCALE": 0.05, "BUNIT": "COUNTS"})
    fits.PrimaryHDU(np.zeros((80, 80), dtype=np.int16), header).writeto(path)
    assert not read_mosaic([path]).masked.any()


def test_bands_that_are_shifted_on_the_sky_are_refused(tmp_path: Path) -> None:
    paths = write(tmp_path, np.ones((2, 30, 40), dtype=np.float32))
    read_mosaic(paths)
    for shift, refused in ((0.004, False), (10.0, True)):
        with fits.open(paths[1], mode="update") as opened:
            opened[0].header["CRVAL2"] = 41.3 + shift / 3600
        if not refused:
            read_mosaic(paths)
            continue
        with pytest.raises(
            MelotteValueError, match=r"f814w.fits lies up to 10 arcsec off .*f336w.fits by"
        ) as caught:
            read_mosaic(paths)
        assert "\n" not in str(caught.value)
    with fits.open(paths[1], mode="update") as opened:
        del opened[0].header["CTYPE*"]
    assert read_mosaic(paths).wcs is not None


def test_bands_are_put_in_order_and_units_into_electrons(tmp_path: Path) -> None:
    image = np.stack([np.full((9, 9), 2.0), np.full((9, 9), 3.0)]).astype(np.float32)
    mosaic = read_mosaic(write(tmp_path, image))
    turned = BANDS[::-1]
    zero_points = [passband(band).zero_point_ab for band in turned]
    electrons = mosaic.electrons(turned, zero_points)
    np.testing.assert_allclose(electrons[:, 0, 0], [3.0, 2.0], rtol=1e-3)
    brighter = mosaic.electrons(turned, [one + 0.1 for one in zero_points])
    np.testing.assert_allclose(brighter / electrons, 10**0.04, rtol=1e-3)
    with pytest.raises(MelotteValueError, match="WFC3_UVIS_F438W"):
        mosaic.electrons(["WFC3_UVIS_F438W"], [25.0])


def test_bands_on_other_grids_are_refused(tmp_path: Path) -> None:
    small = write(tmp_path / "a", np.zeros((2, 10, 10), dtype=np.float32))
    large = write(tmp_path / "b", np.zeros((2, 12, 10), dtype=np.float32))
    coarse = write(tmp_path / "c", np.zeros((2, 10, 10), dtype=np.float32), pixel_scale=0.1)
    with pytest.raises(MelotteValueError, match="one grid"):
        read_mosaic([small[0], large[1]])
    with pytest.raises(MelotteValueError, match="pixel scales differ"):
        read_mosaic([small[0], coarse[1]])
    with pytest.raises(MelotteValueError, match="at least one file"):
        read_mosaic([])
    with pytest.raises(MelotteFileError, match="does not exist"):
        read_mosaic([tmp_path / "none.fits"])
    with pytest.raises(MelotteValueError, match="one entry a band"):
        write(tmp_path, np.zeros((3, 10, 10), dtype=np.float32))


def test_a_file_without_an_image_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "empty.fits"
    fits.HDUList([fits.PrimaryHDU()]).writeto(path)
    with pytest.raises(MelotteFileError, match="no two-dimensional image"):
        read_mosaic([path])


def test_a_simulated_field_is_written_with_its_seed(tmp_path: Path) -> None:
    paths = simulate_field_mosaic("m83", tmp_path, size=64, seed=7, radius=5.0)
    again = simulate_field_mosaic("m83", tmp_path / "again", size=64, seed=7, radius=5.0)
    assert len(paths) == 3
    np.testing.assert_array_equal(read_mosaic(paths).image, read_mosaic(again).image)
    header = fits.getheader(paths[0])
    assert (header["SEED"], header["GALAXY"], header["RADIUS"]) == (7, "M83", 5.0)
    with pytest.raises(MelotteValueError, match="size must be in"):
        simulate_field_mosaic("m83", tmp_path, size=4)
    with pytest.raises(MelotteValueError, match="there are m31, m83"):
        simulate_field_mosaic("m82", tmp_path)
