"""Clusters simulated from a posterior: as their set-ups see them, and wrong fits are noticed."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.systems.base import Observation
from melotte.systems.cluster_images import predictive
from melotte.systems.cluster_images.predictive import ImagePredictor, blur_of_width, set_up_of
from melotte.systems.cluster_images.set_ups import star_widths
from melotte.telescope.setups import mosaic_blur

WIDTHS = [0.08, 0.08, 0.09]
NOISE = 0.02


def observed(image, modulus=28.3):
    n = len(image)
    return Observation(
        {
            "image": image,
            "fwhm": torch.tensor([WIDTHS] * n),
            "exposure": torch.tensor([[1890.0, 1880.0, 1203.0]] * n),
            "pixel_scale": torch.full((n,), 0.04),
            "distance_modulus": torch.full((n,), modulus),
            "metallicity": torch.zeros(n),
        }
    )


@pytest.fixture(scope="module")
def predictor(small_m83):
    return ImagePredictor(small_m83.data, [one.name for one in small_m83.parameters])


@pytest.fixture(scope="module")
def empty():
    return observed(torch.zeros(1, 3, 48, 48))


def posterior(n, seed, shift=(0.0, 0.0, 0.0, 0.0)):
    """Samples (extinction, log age, log mass, radius) about a cluster of 1e4.5 Msun."""
    generator = torch.Generator().manual_seed(seed)
    centre = torch.tensor([0.5, 8.6, 4.5, 0.12]) + torch.tensor(shift)
    return centre + torch.randn(n, 4, generator=generator) * torch.tensor([0.1, 0.05, 0.06, 0.006])


def noisy(image, generator):
    return observed(image + 0.3 + NOISE * torch.randn(image.shape, generator=generator))


@pytest.mark.parametrize("band", ["WFC3_UVIS_F336W", "ACS_WFC_F814W"])
def test_blurs_are_found_from_widths(band):
    blur = 1.3 * mosaic_blur((band,))[0]
    width = float(star_widths(band, np.array([blur]))[0])
    assert blur_of_width(band, width) == pytest.approx(blur, rel=0.02)


def test_a_set_up_is_what_the_observation_says(small_m83, empty):
    camera = set_up_of(empty, small_m83.data)
    assert camera.pixel_scale == 0.04
    assert camera.distance_modulus == 28.3
    assert camera.exposure == (1890.0, 1880.0, 1203.0)
    measured = [
        float(star_widths(band, np.array([blur]))[0])
        for band, blur in zip(camera.bands, camera.blur, strict=True)
    ]
    assert measured == pytest.approx(WIDTHS, rel=0.02)
    with pytest.raises(MelotteValueError, match="one object"):
        set_up_of(observed(torch.zeros(2, 3, 48, 48)), small_m83.data)


def test_farther_clusters_are_fainter_by_the_distance_modulus(predictor, empty):
    samples = posterior(6, 1)
    near = predictor.simulate(empty, samples, torch.Generator().manual_seed(3))
    far = observed(torch.zeros(1, 3, 48, 48), modulus=29.3)
    dimmed = predictor.simulate(far, samples, torch.Generator().manual_seed(3))
    assert near.shape == (6, 3, 48, 48)
    torch.testing.assert_close(dimmed, near * 10**-0.4, rtol=1e-3, atol=1e-5)


def test_fits_from_the_right_posterior_are_rarely_called_poor(predictor, empty, monkeypatch):
    monkeypatch.setattr(predictive, "DRAWS", 40)
    generator = torch.Generator().manual_seed(8)
    images = predictor.simulate(empty, posterior(24, 2), generator)
    samples = posterior(300, 4)
    found = [
        predictor.predict(noisy(image[None], generator), samples, generator) for image in images
    ]
    p = np.array([one.p for one in found])
    # Of 24 uniform values the mean is 0.5 with an error of 0.06.
    assert 0.3 < p.mean() < 0.7
    assert (p < 0.03).sum() <= 3
    residual = torch.stack([one.residual for one in found])
    assert abs(float(residual[..., :6, :].std()) - 1) < 0.15


@pytest.mark.parametrize(
    "shift", [(0.0, 0.0, 0.7, 0.0), (2.0, 0.0, 0.0, 0.0), (0.0, 0.0, 0.0, 0.25)]
)
def test_a_wrong_mass_extinction_or_size_is_noticed(predictor, empty, shift):
    generator = torch.Generator().manual_seed(9)
    image = noisy(predictor.simulate(empty, posterior(1, 2), generator), generator)
    right = predictor.predict(image, posterior(300, 4), generator)
    wrong = predictor.predict(image, posterior(300, 4, shift), generator)
    assert wrong.p < 0.02 < right.p
    assert wrong.worst.split()[0] in ("flux", "pixels")


def test_an_unknown_band_is_not_judged(predictor, empty):
    generator = torch.Generator().manual_seed(9)
    image = noisy(predictor.simulate(empty, posterior(1, 2), generator), generator)
    image.data["image"][:, 1] = math.nan
    found = predictor.predict(image, posterior(300, 4), generator)
    assert math.isnan(found.chi_square[1])
    assert np.isfinite([found.chi_square[0], found.chi_square[2], found.p]).all()
    assert "F438W" not in found.worst


def test_predictions_need_samples(predictor, empty):
    with pytest.raises(MelotteValueError, match="0 finite samples"):
        predictor.predict(empty, torch.full((50, 4), math.nan), torch.Generator())
