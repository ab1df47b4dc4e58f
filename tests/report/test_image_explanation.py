"""Explanations and figures of cluster images: planted dependences are found where they are."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from image_models import small_image_model
from test_figures import everything_inside
from torch import nn

from melotte.networks.point import PointPosterior
from melotte.report.explanation import explainer_of
from melotte.report.image_attributions import (
    explain_image,
    patch_changes,
    patches_figure,
    pixels_figure,
)
from melotte.report.image_figures import (
    ImageCaptions,
    age_extinction_figure,
    predicted_figure,
    radial_profile,
)
from melotte.report.image_gallery import GalleryImage, gallery_figure, presence_figure, roc_area
from melotte.systems.cluster_images.predictive import PredictedImages

BAND, ROWS, COLUMNS = 1, slice(11, 16), slice(27, 32)
"""Where the planted network looks: patch (2, 5) of 9 by 9."""


class CornerNetwork(nn.Module):
    """Places that fall with the light in one corner of one band, and nothing else."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1))

    def forward(self, inputs):
        light = inputs["image"][:, BAND, ROWS, COLUMNS].mean((1, 2))
        place = (0.6 - 0.02 * light + self.weight)[:, None].expand(-1, 4)
        return {
            "posterior": PointPosterior(place, torch.full_like(place, 0.02), "mse"),
            "embedding": place,
        }


@pytest.fixture(scope="module")
def trained_on():
    return small_image_model()


@pytest.fixture(scope="module")
def planted(trained_on):
    return replace(trained_on[0], network=CornerNetwork().eval())


@pytest.fixture(scope="module")
def observation(trained_on):
    """An image of noise with light where the planted network looks, and elsewhere."""
    chosen = trained_on[1].observation.select(torch.tensor([0]))
    image = 0.01 * torch.randn(1, 3, 48, 48, generator=torch.Generator().manual_seed(2))
    image[:, :, ROWS, COLUMNS] += 1.0
    image[:, :, 22:27, 20:26] += 5.0
    return replace(chosen, data={**chosen.data, "image": image}, ids=("planted",))


def test_the_light_that_matters_is_found(planted, observation):
    found = patch_changes(planted, observation, "log_age").change
    assert found.shape == (4, 9, 9)
    everywhere, band = found[0], found[1 + BAND]
    assert np.unravel_index(np.abs(everywhere).argmax(), (9, 9)) == (2, 5)
    np.testing.assert_allclose(band, everywhere, atol=1e-5)
    assert everywhere[2, 5] < -0.05
    others = np.delete(found, 1 + BAND, 0)[1:]
    assert float(np.abs(others).max()) < 0.02 * abs(everywhere[2, 5])


def test_sections_say_which_band_and_patch(planted, observation):
    sections = explain_image(planted, observation, "log_age")
    pixels, patches, features, control = sections
    shares = [float(row[2].split()[0]) for row in pixels.table.rows]
    assert shares[BAND] > 99
    assert "column 6 and row 3" in patches.text[1]
    assert all(float(row[1]) == 0 for row in features.table.rows)
    assert control.table.rows
    for section in (pixels, patches):
        assert everything_inside(section.figures[0].figure)


def test_all_image_systems_are_explained(trained_on):
    model = trained_on[0]
    assert explainer_of(model).sections is explain_image


def test_figures_of_attributions_take_unknown_bands(planted, observation):
    image = observation.data["image"].clone()
    image[:, 2] = np.nan
    lacking = replace(observation, data={**observation.data, "image": image})
    bands = planted.system.data.bands
    changes = patch_changes(planted, lacking, "log_mass", n_patches=4)
    assert np.isfinite(changes.change).all()
    assert everything_inside(patches_figure(lacking, "log_mass", bands, changes))
    assert everything_inside(pixels_figure(lacking, "log_mass", bands, np.zeros((3, 48, 48))))


def predicted():
    generator = torch.Generator().manual_seed(1)
    draws = torch.rand(20, 3, 48, 48, generator=generator)
    observed = torch.rand(3, 48, 48, generator=generator)
    observed[0, :, :5] = np.nan
    observed[2] = np.nan
    noise = torch.tensor([0.1, 0.2, np.nan])
    return PredictedImages(observed, noise, draws, 12.0, (1.0, 2.0, np.nan), 0.4, "flux F336W")


def test_predictions_are_drawn_with_unknown_pixels_and_bands(planted):
    captions = ImageCaptions("one", 0.04, 0.2, ("log t 8.0", "flagged: bad pixels"))
    figure = predicted_figure(predicted(), planted.system.data.bands, captions)
    figure.canvas.draw()
    panels = [axes for axes in figure.axes if axes.images]
    residual = panels[-3].images[0].get_array()
    expected = (predicted().observed - predicted().mean)[0] / 0.1
    np.testing.assert_allclose(
        np.ma.filled(residual, np.nan), expected.numpy(), rtol=1e-4, atol=1e-4
    )


def test_profiles_are_means_of_known_pixels():
    image = np.full((2, 48, 48), 3.0)
    image[1, 24:] = np.nan
    image[1, :24] = 5.0
    values, counts = radial_profile(image)
    inside = counts[0] > 0
    np.testing.assert_allclose(values[0][inside], 3.0)
    np.testing.assert_allclose(values[1][counts[1] > 0], 5.0)
    assert counts[1].sum() == counts[0].sum() / 2


def test_the_map_of_ages_shows_both_peaks(planted):
    generator = np.random.default_rng(4)
    peaks = np.array([[0.5, 9.0, 4.5, 0.1], [2.5, 7.0, 4.0, 0.1]])
    samples = peaks[generator.integers(2, size=600)] + 0.03 * generator.normal(size=(600, 4))
    figure = age_extinction_figure(samples, planted.parameters, "two")
    assert everything_inside(figure)
    density = figure.axes[0].collections[0].get_array()
    shape = np.shape(density)
    edges = figure.axes[0].get_xlim(), figure.axes[0].get_ylim()
    for dust, age in peaks[:, :2]:
        column = int((age - edges[0][0]) / (edges[0][1] - edges[0][0]) * shape[1])
        row = int((dust - edges[1][0]) / (edges[1][1] - edges[1][0]) * shape[0])
        assert density[row, column] > 0.3 * density.max()


def test_the_gallery_and_presence_are_drawn():
    generator = np.random.default_rng(1)
    images = generator.normal(size=(5, 3, 24, 24))
    entries = [GalleryImage(one, "log age 8 → 8.1\nempty", 5.0) for one in images]
    assert everything_inside(gallery_figure(entries))
    present = np.array([True] * 8 + [False] * 4)
    chance = np.linspace(0.95, 0.05, 12)
    seen = np.where(present, 3.0, 0.0)
    assert everything_inside(presence_figure(present, chance, seen, seen * 1.2))


def test_the_roc_area_counts_pairs():
    assert roc_area([True, True, False], [0.9, 0.2, 0.5]) == 0.5
    assert roc_area([True, False], [0.9, 0.1]) == 1.0
    assert np.isnan(roc_area([True, True], [0.9, 0.1]))
