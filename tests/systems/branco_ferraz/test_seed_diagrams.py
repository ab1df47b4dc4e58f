"""Histogram and image of planted lists, against numpy and matplotlib."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch

from melotte.ragged import Ragged, offsets_of
from melotte.systems.branco_ferraz.diagrams import histogram, image


def a_list(g, colour) -> Ragged:
    """One list of stars with these magnitudes and colours."""
    return Ragged.pack([torch.tensor(np.stack([g, colour], 1), dtype=torch.float32)])


def test_a_planted_list_falls_into_its_bins():
    # BP-RP .05 is the first bin of colour, 3.95 the last; G 10.4 the first of magnitude.
    counted = histogram(a_list([10.4, 10.5, 17.9, 10.4], [0.05, 0.06, 3.95, 0.15]))
    assert counted.shape == (1, 400)
    expected = torch.zeros(40, 10)
    expected[0, 0], expected[39, 9], expected[1, 0] = 0.5, 0.25, 0.25
    assert torch.equal(counted[0], expected.flatten())


def test_histogram_is_numpys_with_stars_on_edges_and_outside():
    rng = np.random.default_rng(3)
    # Sixteenths of a magnitude are exact, and many lie on the edges of bins.
    g, colour = rng.integers(150, 300, 500) / 16, rng.integers(-5, 70, 500) / 16
    expected, _, _ = np.histogram2d(colour, g, bins=(40, 10), range=((0, 4), (10, 18)))
    counted = histogram(a_list(g, colour))[0].numpy()
    np.testing.assert_allclose(counted, expected.flatten() / expected.sum(), atol=1e-6)


def test_lists_do_not_mix_and_an_empty_one_is_blank():
    stars = torch.tensor([[12.0, 1.0], [12.0, 1.0], [14.0, 2.0]])
    lists = Ragged(stars, offsets_of(torch.tensor([2, 0, 1])))
    for drawn in (histogram(lists).view(3, -1), image(lists).view(3, -1)):
        assert not drawn[1].any()
        alone = histogram if drawn.shape[1] == 400 else image
        assert torch.equal(drawn[2], alone(a_list([14.0], [2.0])).flatten())


@pytest.mark.parametrize("n", [1, 30, 400])
def test_image_is_the_one_that_matplotlib_saves(n):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    rng = np.random.default_rng(n)
    g, colour = rng.uniform(9.8, 18.2, n), rng.uniform(-0.1, 4.1, n)
    with pyplot.style.context("default"):
        figure, axes = pyplot.subplots(figsize=(4, 4))
        axes.scatter(colour, g, color="black")
        axes.set(xlim=(0, 4), ylim=(18, 10))
        axes.axis("off")
        saved = io.BytesIO()
        figure.savefig(saved, dpi=45, format="raw")
        pyplot.close(figure)
    pixels = np.frombuffer(saved.getvalue(), np.uint8).reshape(180, 180, 4)
    published = 1 - pixels[..., 0] / 255
    drawn = image(a_list(g, colour))[0, 0].numpy()
    assert np.corrcoef(published.flatten(), drawn.flatten())[0, 1] > 0.999
    assert np.abs(published - drawn).max() < 0.05
    # A picture of other stars would not pass.
    other = image(a_list(np.clip(g + 0.2, 10, 18), colour))[0, 0].numpy()
    assert np.corrcoef(published.flatten(), other.flatten())[0, 1] < 0.9


def test_bright_and_blue_stars_stand_top_left():
    picture = image(a_list([10.5], [0.5]))[0, 0]
    rows, columns = torch.nonzero(picture, as_tuple=True)
    assert rows.max() < 60
    assert columns.max() < 60
