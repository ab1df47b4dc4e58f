"""Preparation: the published formulas, and pixels that were not recorded."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from melotte.systems.bialopetravicius.preparation import (
    paper_one_preparation,
    paper_two_preparation,
)


def counts(seed=0):
    generator = torch.Generator().manual_seed(seed)
    scale = torch.tensor([1.0, 10.0, 1000.0])[:, None, None]
    return scale * torch.randn(2, 3, 16, 16, generator=generator).exp() + 5


def test_paper_one_takes_the_logarithm_of_counts_plus_one():
    images = counts()
    expected = np.log(images.numpy() + 1)
    np.testing.assert_allclose(paper_one_preparation(images).numpy(), expected, rtol=1e-5)


def test_paper_one_holds_what_has_no_logarithm():
    images = torch.tensor([[[[-0.5, -0.9], [-1.0, -40.0]]]])
    expected = [math.log(0.5), math.log(0.1), math.log(0.1), math.log(0.1)]
    assert paper_one_preparation(images).flatten().tolist() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("missing", [torch.nan, torch.inf, -torch.inf])
def test_paper_one_gives_missing_pixels_the_median_of_their_band(missing):
    images = counts()
    whole = images.clone()
    images[1, 2, 0, :5] = missing
    found = paper_one_preparation(images)
    recorded = whole[1, 2].flatten()[5:]
    assert found[1, 2, 0, :5].tolist() == pytest.approx(
        [math.log(1 + float(recorded.median()))] * 5
    )
    others = torch.ones_like(images, dtype=torch.bool)
    others[1, 2, 0, :5] = False
    assert torch.equal(found[others], paper_one_preparation(whole)[others])


def test_a_band_without_pixels_is_empty_and_finite():
    images = counts()
    images[0, 1] = torch.nan
    assert bool((paper_one_preparation(images)[0, 1] == 0).all())
    assert bool((paper_two_preparation(images)[0, 1] == 0).all())


def test_paper_two_standardises_each_band_of_each_image_then_takes_arcsinh():
    images = counts()
    values = images.numpy().astype(np.float64)
    offset = values - values.mean((2, 3), keepdims=True)
    expected = np.arcsinh(offset / values.std((2, 3), keepdims=True))
    np.testing.assert_allclose(paper_two_preparation(images).numpy(), expected, atol=1e-4)


def test_paper_two_does_not_see_calibration():
    images = counts()
    factor = torch.tensor([0.1, 3.0, 70.0])[:, None, None]
    torch.testing.assert_close(
        paper_two_preparation(images * factor + 4), paper_two_preparation(images),
        rtol=1e-3, atol=1e-3,
    )  # fmt: skip


def test_paper_two_ignores_missing_pixels_and_puts_them_at_the_mean():
    images = counts()
    images[0, 0, :, 3:7] = torch.nan
    found = paper_two_preparation(images)
    assert bool((found[0, 0, :, 3:7] == 0).all())
    kept = images[0, 0][:, [0, 1, 2, *range(7, 16)]].numpy().astype(np.float64)
    expected = np.arcsinh((kept - kept.mean()) / kept.std())
    np.testing.assert_allclose(
        found[0, 0][:, [0, 1, 2, *range(7, 16)]].numpy(), expected, atol=1e-4
    )


@pytest.mark.parametrize("level", [0.0, 1e-8, 0.1, 3e5])
def test_paper_two_gives_a_constant_band_no_structure(level):
    assert bool((paper_two_preparation(torch.full((1, 1, 64, 64), level)) == 0).all())
