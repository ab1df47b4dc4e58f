"""Centres of planted clusters, resolved or not, and how far off they may be."""

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.telescope.cluster_centres import centre_of_light


def image_of(rng, size, place, scale, light, star=1.0, sky=100.0, noise=2.0):
    """A Plummer cluster of stars of ``star`` counts each, in pixels of sky and noise."""
    rows, columns = np.indices((size, size))
    squared = (columns - place[0]) ** 2 + (rows - place[1]) ** 2
    profile = (1 + squared / scale**2) ** -2
    return star * rng.poisson(light * profile / star) + rng.normal(sky, noise, profile.shape)


def missed(found, place):
    return float(np.hypot(found.column - place[0], found.row - place[1]))


@pytest.mark.parametrize("size", [60, 200, 1000])
def test_a_small_cluster_is_found_in_any_image(size):
    place = (0.4 * size, 0.57 * size)
    found = centre_of_light(image_of(np.random.default_rng(6), size, place, 0.06 * size, 300))
    assert missed(found, place) < 0.02 * size
    assert found.error < 0.02 * size


def test_a_cluster_much_smaller_than_the_blocks_is_found_within_pixels():
    place = (811.0, 402.0)
    found = centre_of_light(image_of(np.random.default_rng(3), 1200, place, 6.0, 500))
    assert missed(found, place) < 3 * found.error
    assert found.error < 3


@pytest.mark.parametrize("scale", [60, 120])
def test_the_error_is_that_of_clusters_of_few_stars_that_fill_the_image(scale):
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        place = rng.uniform(70, 130, 2)
        centre = centre_of_light(image_of(rng, 200, place, scale, 20, star=200.0))
        found.append((missed(centre, place) / centre.error, centre.error))
    pulls, errors = np.transpose(found)
    # Two axes: the median of the distance is 1.18 standard deviations.
    assert 0.6 < np.median(pulls) < 2.0
    assert pulls.max() < 5
    assert np.median(errors) > 0.05 * scale


def test_an_image_without_a_cluster_has_its_centre_anywhere():
    found = centre_of_light(np.random.default_rng(1).normal(100, 2, (240, 240)))
    assert found.error > 40


def test_light_that_is_the_same_everywhere_has_its_centre_anywhere():
    found = centre_of_light(np.full((100, 140), 3.0))
    assert found.error > 20
    assert (found.column, found.row) == pytest.approx((69.5, 49.5), abs=5)


def test_unknown_pixels_and_a_bright_star_change_little():
    image = image_of(np.random.default_rng(6), 200, (80, 115), 12, 300)
    image[:30] = np.nan
    image[60:64, 150:154] += 1e5
    assert missed(centre_of_light(image), (80, 115)) < 3


def test_big_endian_pixels_are_read():
    image = image_of(np.random.default_rng(6), 200, (80, 115), 12, 300)
    assert centre_of_light(image.astype(">f4")) == centre_of_light(image.astype("<f4"))


def test_an_empty_image_is_refused():
    with pytest.raises(MelotteValueError, match="value"):
        centre_of_light(np.full((40, 40), np.nan))
