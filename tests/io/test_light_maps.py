"""Images of globular clusters: bands, zero points, files and tables of them, what is refused."""

import math

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from light_map_files import coordinates, write_image

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.image_stacks import RejectedImage
from melotte.io.light_map_options import LightMapOptions, map_band
from melotte.io.light_maps import cut_coordinates, read_light_maps


@pytest.fixture
def values():
    rng = np.random.default_rng(4)
    return rng.uniform(5, 9, (40, 48)).astype(np.float32)


def read(*paths, **options):
    (found,) = read_light_maps(list(paths), options)
    assert not isinstance(found, RejectedImage), found.reason
    return found


@pytest.mark.parametrize(
    ("cards", "options", "factor"),
    [
        ({"MAGZPT": 25.0}, {}, 1.0),
        ({"MAGZPT": 22.5}, {}, 10.0),
        ({"MAGZPT": 25.0, "MAGSYS": "AB"}, {}, 10**-0.004),
        ({"MAGZPT": 27.5, "EXPTIME": 10.0, "BUNIT": "DN"}, {}, 0.01),
        ({"EXPTIME": 10.0, "BUNIT": "DN/s"}, {"zero_point": 22.5}, 10.0),
        ({"BUNIT": "nanomaggy"}, {}, 10 ** (1 - 0.004)),
        ({"BUNIT": "nJy"}, {}, 1e-9 / 3631 * 10 ** (0.4 * 24.99)),
        ({"MAGZPT": 20.0}, {"zero_point": 25.0, "zero_point_system": "ab"}, 10**-0.004),
    ],
)
def test_every_way_to_say_the_zero_point_gives_the_same_flux(
    tmp_path, values, cards, options, factor
):
    path = write_image(tmp_path / "a.fits", values, FILTER="V", **cards)
    found = read(path, **options)
    np.testing.assert_allclose(found.images[0], factor * values, rtol=2e-5)
    assert found.pixel_scale == pytest.approx(0.25)
    assert (found.bands, found.id) == (("V",), "a")


def test_photflam_is_an_ab_zero_point(tmp_path, values):
    path = write_image(
        tmp_path / "a.fits",
        values,
        FILTER="V",
        BUNIT="electrons/s",
        PHOTFLAM=2e-19,
        PHOTPLAM=5500.0,
    )
    zero_point = -2.5 * math.log10(2e-19) - 21.1 - 5 * math.log10(5500) + 18.6921
    np.testing.assert_allclose(
        read(path).images[0], values * 10 ** (0.4 * (25 - 0.01 - zero_point)), rtol=1e-4
    )


def test_panstarrs_stacks_are_made_linear(tmp_path, values):
    counts = 300 * (values - 6)
    soft, offset, exposure = 50.0, 12.0, 500.0
    packed = 2.5 * math.log10(math.e) * np.arcsinh((counts - offset) / (2 * soft))
    for band in "gr":
        header = coordinates(values.shape, 0.25).to_header()
        header["HIERARCH FPA.FILTER"] = f"{band}.00000"
        header["BSOFTEN"], header["BOFFSET"], header["EXPTIME"] = soft, offset, exposure
        fits.PrimaryHDU(packed.astype(">f4"), header).writeto(tmp_path / f"{band}.fits")
    found = read(tmp_path / "r.fits", tmp_path / "g.fits")
    assert found.bands == ("g", "r")
    np.testing.assert_allclose(found.images[0], counts / exposure, rtol=2e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "band"),
    [
        ("V", "V"), ("Johnson V", "V"), ("V_BESSEL", "V"), ("Bessell_B", "B"), ("V_HIGH", "V"),
        ("g.00000", "g"), ("PS1 r", "r"), ("R", ""), ("G", ""), ("F606W", ""), ("", ""),
    ],
)  # fmt: skip
def test_names_of_bands(name, band):
    assert map_band(name) == band


def test_bands_as_planes_extensions_and_files_are_the_same(tmp_path, values):
    both = np.stack([values, 2 * values])
    header = coordinates(values.shape, 0.3).to_header()
    header.update(MAGZPT=25.0)
    cube = header.copy()
    cube["FILTER1"], cube["FILTER2"] = "V", "B"
    fits.PrimaryHDU(both, cube).writeto(tmp_path / "cube.fits")
    parts = [fits.PrimaryHDU()]
    for band, one in zip("BV", both[::-1], strict=True):
        own = header.copy()
        own["FILTER"] = band
        parts.append(fits.ImageHDU(one, own))
        fits.PrimaryHDU(one, own).writeto(tmp_path / f"{band}.fits")
    fits.HDUList(parts).writeto(tmp_path / "parts.fits")
    for found in (
        read(tmp_path / "cube.fits"),
        read(tmp_path / "parts.fits"),
        read(tmp_path / "B.fits", tmp_path / "V.fits"),
    ):
        assert found.bands == ("V", "B")
        np.testing.assert_allclose(found.images, both, rtol=1e-6)


def test_a_band_on_another_grid_is_brought_to_the_first(tmp_path):
    pytest.importorskip("reproject")
    rows, columns = np.mgrid[:60, :60] - 29.5
    light = 100 * np.exp(-(rows**2 + columns**2) / 200)
    first = write_image(tmp_path / "v.fits", light, FILTER="V", MAGZPT=25.0)
    turned = write_image(tmp_path / "b.fits", light, FILTER="B", MAGZPT=25.0, turn=0.7)
    found = read(first, turned)
    known = np.isfinite(found.images[1])
    assert known.mean() > 0.7
    np.testing.assert_allclose(found.images[1][known], light[known], atol=0.5)


def test_what_is_no_measurement_is_nan_and_saturation_is_told(tmp_path, values):
    spoiled = values.copy()
    spoiled[13, 4], spoiled[25, 26] = np.inf, 1e4
    spoiled[:10, :20] = 0
    mask = np.zeros(values.shape, dtype=np.int16)
    mask[30] = 4
    fits.PrimaryHDU(mask).writeto(tmp_path / "mask.fits")
    path = write_image(tmp_path / "a.fits", spoiled, FILTER="V", MAGZPT=25.0)
    found = read(path, mask=str(tmp_path / "mask.fits"), saturation=500)
    assert np.isnan(found.images[0, :10, :20]).all()
    assert np.isnan(found.images[0, 30]).all()
    assert np.isnan(found.images[0, 13, 4])
    assert np.isfinite(found.images[0, 14:30]).all()
    assert np.argwhere(found.saturated).tolist() == [[0, 25, 26]]


def test_pixels_without_weight_are_unknown(tmp_path, values):
    header = coordinates(values.shape, 0.3).to_header()
    header.update(MAGZPT=25.0)
    weights = np.ones((2, *values.shape), dtype=np.float32)
    weights[0, 5:9, 6:11] = 0
    weights[1, 20, 30] = np.nan
    parts = [fits.PrimaryHDU()]
    for version, (band, weight) in enumerate(zip("VB", weights, strict=True), start=1):
        parts.append(fits.ImageHDU(values, header, name="SCI", ver=version))
        parts[-1].header["FILTER"] = band
        parts.append(fits.ImageHDU(weight, name="WHT", ver=version))
    cube = fits.ImageHDU(np.stack([values, values]), header, name="SCI")
    cube.header["FILTER1"], cube.header["FILTER2"] = "V", "B"
    fits.HDUList(parts).writeto(tmp_path / "parts.fits")
    fits.HDUList([fits.PrimaryHDU(), cube, fits.ImageHDU(weights, name="WHT")]).writeto(
        tmp_path / "cube.fits"
    )
    for found in (read(tmp_path / "parts.fits"), read(tmp_path / "cube.fits")):
        np.testing.assert_array_equal(np.isnan(found.images), ~(weights > 0))


def test_a_weight_of_another_number_or_shape_is_not_the_image_s(tmp_path, values):
    header = coordinates(values.shape, 0.3).to_header()
    header.update(MAGZPT=25.0, FILTER="V")
    none = np.zeros(values.shape, dtype=np.float32)
    parts = [
        fits.PrimaryHDU(),
        fits.ImageHDU(values, header, name="SCI"),
        fits.ImageHDU(none, name="WHT", ver=2),
        fits.ImageHDU(none[1:], name="WHT"),
    ]
    fits.HDUList(parts).writeto(tmp_path / "a.fits")
    np.testing.assert_allclose(read(tmp_path / "a.fits").images[0], values, rtol=1e-6)


def test_options_of_pixels_are_in_the_image_s_units(tmp_path, values):
    path = write_image(tmp_path / "a.fits", values, FILTER="V", MAGZPT=22.5)
    found = read(path, sky=4.0, noise=0.5, psf_fwhm=1.1, x=20, y=11)
    assert (found.sky, found.noise) == ((40.0,), (5.0,))
    assert (found.psf_fwhm, found.options.x, found.options.y) == (1.1, 20.0, 11.0)


def test_no_two_clusters_have_one_name(tmp_path, values):
    """Results and coordinates are kept by name: one would have the other's."""
    (tmp_path / "other").mkdir()
    files = [tmp_path / "a.fits", tmp_path / "other" / "a.fits"]
    for path in files:
        write_image(path, values, FILTER="V", MAGZPT=25.0)
    Table({"id": ["one", "one"], "V": ["a.fits", "a.fits"]}).write(tmp_path / "list.ecsv")
    for sources, name in ((files, "a"), ([tmp_path / "list.ecsv"], "one")):
        with pytest.raises(MelotteValueError, match=f"two clusters are called '{name}'"):
            list(read_light_maps(sources))


def test_a_table_lists_clusters_and_a_bad_row_costs_only_itself(tmp_path, values):
    (tmp_path / "images").mkdir()
    for name, band in (("one_v", "V"), ("one_b", "B"), ("two", "V")):
        write_image(tmp_path / "images" / f"{name}.fits", values, FILTER=band, MAGZPT=25.0)
    Table(
        {
            "id": ["one", "two", "gone"],
            "V": ["images/one_v.fits", "images/two.fits", "images/none.fits"],
            "B": ["images/one_b.fits", "", ""],
            "psf_fwhm": [0.9, 1.2, 1.2],
            "remark": ["a", "b", "c"],
        }
    ).write(tmp_path / "list.ecsv")
    one, two, gone = read_light_maps([tmp_path / "list.ecsv"], {"sky": 1.0})
    assert (one.id, one.bands, one.psf_fwhm, one.sky) == ("one", ("V", "B"), 0.9, (1.0, 1.0))
    assert (two.bands, two.psf_fwhm) == (("V",), 1.2)
    assert isinstance(gone, RejectedImage)
    assert "none.fits" in gone.reason


def test_coordinates_of_a_cut_point_at_the_same_sky(tmp_path, values):
    found = read(write_image(tmp_path / "a.fits", values, FILTER="V", MAGZPT=25.0, turn=0.4))
    text, ra, dec = cut_coordinates(found, (5.0, 7.0), 2.0, 16)
    cut = fits.Header.fromstring(text)
    from astropy.wcs import WCS

    place = WCS(cut).pixel_to_world(3, 9)
    # The middle of two by two pixels.
    column, row = found.wcs.world_to_pixel(place)
    assert column == pytest.approx(5 + 2 * 3 + 0.5, abs=1e-3)
    assert row == pytest.approx(7 + 2 * 9 + 0.5, abs=1e-3)
    middle = found.wcs.pixel_to_world(5 + 16 - 0.5, 7 + 16 - 0.5)
    assert (ra, dec) == pytest.approx((middle.ra.deg, middle.dec.deg))


@pytest.mark.parametrize(
    ("cards", "options", "said"),
    [
        ({"MAGZPT": 25.0}, {}, "does not state its band; give bands=..., of V, B, g, r"),
        ({"MAGZPT": 25.0, "FILTER": "F606W"}, {}, "its band is 'F606W'"),
        ({"MAGZPT": 25.0, "FILTER": "v"}, {}, "its band is 'v'; give bands"),
        ({"MAGZPT": 25.0, "FILTER1": "CLEAR", "FILTER2": "b"}, {}, "its band is 'b'"),
        ({"MAGZPT": 25.0, "FILTER": "Stromgren v"}, {}, "'Stromgren v'"),
        ({"MAGZPT": 25.0, "FILTER": "v"}, {}, "case counts"),
        ({"MAGZPT": 25.0, "FILTER": "B"}, {}, "found B; V, V and B, or g and r are needed"),
        ({"FILTER": "V"}, {}, "states no zero point; give zero_point=MAG"),
        ({"FILTER": "V", "MAGZPT": "good"}, {}, "MAGZPT"),
        ({"FILTER": "V", "MAGZPT": 25.0, "EXPTIME": 9.0}, {}, "states an exposure and no unit"),
        ({"FILTER": "V", "MAGZPT": 25.0, "BUNIT": "furlong"}, {}, "'furlong'"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"sky": "dark"}, "sky 'dark' is not a number"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"noise": -1}, "noise -1 must be above 0"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"ra": 4.0}, "ra and dec go together"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"ra": 4.0, "dec": 99}, "degrees within"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"size": 12.5}, "a whole number from 32 to 4096"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"sky": "1,2"}, "sky lists 2 and there are 1 bands"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"psf_fwmh": 1}, "did you mean 'psf_fwhm'"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"zero_point_system": "st"}, "not one of vega, ab"),
        ({"FILTER": "V", "MAGZPT": 25.0}, {"hdu": "SCI"}, "has no extension 'SCI'"),
    ],
)
def test_what_is_wrong_is_said_in_one_line(tmp_path, values, cards, options, said):
    path = write_image(tmp_path / "a.fits", values, **cards)
    with pytest.raises((MelotteValueError, MelotteFileError)) as caught:
        list(read_light_maps([path], options))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("cards", [{"FILTER1": "V", "FILTER2": "v"}, {"BANDS": "V, v"}])
def test_a_plane_s_band_is_shown_as_its_header_spells_it(tmp_path, values, cards):
    path = write_image(tmp_path / "a.fits", np.stack([values, values]), MAGZPT=25.0, **cards)
    with pytest.raises(MelotteValueError, match="its band is 'v'; give bands"):
        list(read_light_maps([path]))
    assert read(path, bands="V,B").bands == ("V", "B")


def test_files_that_are_no_images_are_refused(tmp_path, values):
    bare = write_image(tmp_path / "bare.fits", values, scale=None, FILTER="V", MAGZPT=25.0)
    with pytest.raises(MelotteValueError, match="does not state the pixel scale"):
        list(read_light_maps([bare]))
    with pytest.raises(MelotteFileError, match="does not exist"):
        list(read_light_maps([tmp_path / "none.fits"]))
    np.save(tmp_path / "a.npy", values)
    with pytest.raises(MelotteFileError, match="found npy"):
        list(read_light_maps([tmp_path / "a.npy"]))
    (tmp_path / "a.csv").write_text("id,mass\na,3\n")
    with pytest.raises(MelotteFileError, match="neither an image nor a table of images"):
        list(read_light_maps([tmp_path / "a.csv"]))
    first, second, third = (
        write_image(tmp_path / f"{i}.fits", values, FILTER=band, MAGZPT=25.0)
        for i, band in enumerate("VBV")
    )
    with pytest.raises(MelotteValueError, match="list them in a table"):
        list(read_light_maps([first, second, third]))
    assert [one.id for one in read_light_maps([first, third])] == ["0", "2"]


@pytest.mark.parametrize(("coarse", "turn"), [("B", 0.0), ("V", 0.0), ("B", 0.3)])
def test_bands_of_other_pixels_come_to_the_grid_of_the_largest(tmp_path, coarse, turn):
    pytest.importorskip("reproject")
    rng = np.random.default_rng(6)
    paths, sums = {}, {}
    for band, zero_point in (("V", 25.0), ("B", 24.0)):
        scale, size = (0.5, 40) if band == coarse else (0.25, 120)
        rows, columns = np.indices((size, size)) - (size - 1) / 2
        light = scale**2 * 900 * np.exp(-(rows**2 + columns**2) * scale**2 / 8)
        noisy = light + rng.normal(0, scale, light.shape)
        paths[band] = write_image(
            tmp_path / f"{band}.fits", noisy, scale, turn, FILTER=band, MAGZPT=zero_point
        )
        sums[band] = light.sum() * 10 ** (0.4 * (25 - zero_point))
    options = {"sky": "0.01,0.02", "noise": "0.5,0.25"}
    found = read(paths["B"], paths["V"], **options)
    assert (found.bands, found.images.shape) == (("V", "B"), (2, 40, 40))
    assert found.pixel_scale == pytest.approx(0.5)
    for place, band in enumerate("VB"):
        image, factor = found.images[place], 10 ** (0.4 * place)
        assert np.isfinite(image).all()
        assert image.sum() == pytest.approx(sums[band], rel=0.02)
        # The scatter of flux, not of brightness: that of a fine band's four pixels together.
        assert np.std(image[:8]) == pytest.approx(0.5 * factor, rel=0.25 if turn == 0 else 0.5)
        fine = band != coarse
        assert found.sky[place] == pytest.approx((0.01, 0.02)[place] * factor * (4 if fine else 1))
        told = (0.5, 0.25)[place] * factor * (2 if fine else 1)
        assert found.noise[place] == pytest.approx(told)
    if coarse == "B":
        with pytest.raises(MelotteValueError) as caught:
            read(*paths.values(), x=20, y=20, **options)
        assert str(caught.value) == (
            f"x and y: {paths['B']}: its pixels in B are 0.5 arcsec and those in V 0.25; "
            "give ra and dec"
        )
    else:
        assert read(*paths.values(), x=20, y=20).options.x == 20


def test_bands_of_other_pixels_need_coordinates(tmp_path, values):
    first = write_image(tmp_path / "v.fits", values, FILTER="V", MAGZPT=25.0)
    other = write_image(tmp_path / "b.fits", values, None, FILTER="B", MAGZPT=24.0, PIXSCALE=0.5)
    with pytest.raises(MelotteValueError) as caught:
        read(other, first)
    said = str(caught.value)
    assert said.startswith(f"{other}: its pixels in B are 0.5 arcsec and those in V 0.25, and not")
    assert "\n" not in said
    silent = write_image(tmp_path / "s.fits", values, None, FILTER="V", MAGZPT=25.0)
    found = read(silent, other, x=3, y=4)
    assert (found.pixel_scale, found.options.x) == (pytest.approx(0.5), 3)


def test_the_options_are_those_that_are_documented():
    from pathlib import Path

    from melotte.io.light_map_options import OPTION_NAMES

    page = (Path(__file__).parents[2] / "docs" / "inputs-light-maps.md").read_text("utf-8")
    missing = [name for name in OPTION_NAMES if f"`{name}`" not in page and name != "column"]
    assert not missing
    assert LightMapOptions.parse({"sky": "border"}).sky == ()
