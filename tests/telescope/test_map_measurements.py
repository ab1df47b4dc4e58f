"""Sky, noise and seeing of planted images, and images that show none."""

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.telescope.map_measurements import (
    filled,
    noise_level,
    sky_level,
    star_width,
)
from melotte.telescope.moffat import MOFFAT_BETA, width_of_scale


def stars_on(image, fwhm, places, flux):
    """Moffat stars averaged over five by five parts of a pixel."""
    scale = fwhm / width_of_scale(MOFFAT_BETA)
    offsets = (np.arange(5) - 2) / 5
    rows, columns = np.indices(image.shape)
    for x, y in places:
        squared = (columns[..., None, None] + offsets[:, None] - x) ** 2
        squared = squared + (rows[..., None, None] + offsets - y) ** 2
        profile = ((1 + squared / scale**2) ** -MOFFAT_BETA).mean((-2, -1))
        image = image + flux * profile * (MOFFAT_BETA - 1) / (np.pi * scale**2)
    return image


@pytest.fixture(scope="module")
def cluster():
    """200 pixels of sky 100 with noise 2 and a Plummer cluster off its middle."""
    rng = np.random.default_rng(6)
    rows, columns = np.indices((200, 200))
    light = 300 * (1 + ((columns - 80) ** 2 + (rows - 115) ** 2) / 12**2) ** -2
    return (light + rng.normal(100, 2, light.shape)).astype(np.float32)


def test_sky_and_noise_of_a_planted_cluster(cluster):
    assert sky_level(cluster, (80, 115)) == pytest.approx(100.0, abs=0.3)
    assert noise_level(cluster) == pytest.approx(2.0, rel=0.04)


def test_unknown_pixels_and_bright_stars_change_little(cluster):
    spoiled = cluster.copy()
    spoiled[:30] = np.nan
    spoiled[60:64, 150:154] += 1e5
    assert sky_level(spoiled, (80, 115)) == pytest.approx(100.0, abs=0.4)
    assert noise_level(spoiled) == pytest.approx(2.0, rel=0.06)


def test_sky_is_too_high_where_the_cluster_fills_the_image(cluster):
    middle = cluster[85:145, 50:110]
    assert sky_level(middle, (30, 30)) > 102


@pytest.mark.parametrize("fwhm", [1.6, 3.0, 6.0])
def test_width_of_stars(fwhm):
    rng = np.random.default_rng(3)
    places = [(20.3 + 30 * i, 20.7 + 30 * j + 0.13 * i) for i in range(3) for j in range(3)]
    image = stars_on(np.zeros((110, 110)), fwhm, places, 5e4) + rng.normal(0, 3, (110, 110))
    found = star_width(image, 3.0)
    assert found.fwhm == pytest.approx(fwhm, rel=0.03)
    assert found.n_stars >= 7
    assert found.scatter < 0.1 * fwhm


def test_noise_alone_and_saturated_stars_have_no_width():
    rng = np.random.default_rng(3)
    image = rng.normal(0, 3, (110, 110))
    with pytest.raises(MelotteValueError, match="found 0 bright stars"):
        star_width(image, 3.0)
    places = [(20.0 + 30 * i, 20.0 + 30 * j) for i in range(3) for j in range(3)]
    full = np.minimum(stars_on(np.zeros((110, 110)), 4.0, places, 1e5), 500) + image
    flat = np.where(full > 490, 500.0, full)
    with pytest.raises(MelotteValueError, match="give psf_fwhm"):
        star_width(flat, 3.0)


def test_holes_are_filled_from_around_and_empty_images_stay_zero():
    rows, columns = np.indices((40, 40))
    slope = 5 + 0.1 * columns + 0.2 * rows
    holed = slope.copy()
    holed[10:13, 20:24] = np.nan
    whole = filled(holed)
    np.testing.assert_allclose(whole[10:13, 20:24], slope[10:13, 20:24], rtol=0.03)
    np.testing.assert_array_equal(whole[20:], slope[20:])
    assert np.isfinite(whole).all()
    assert (filled(np.full((8, 8), np.nan)) == 0).all()


def test_an_empty_image_is_refused():
    empty = np.full((40, 40), np.nan)
    for measure in (
        lambda: sky_level(empty, (3, 3)),
        lambda: noise_level(empty),
    ):
        with pytest.raises(MelotteValueError, match="value"):
            measure()
