"""Three and five bands by photometry alone: the same mocks for both, and a fit that learns."""

from __future__ import annotations

import copy
import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import image_bands_photometry as photometry
from image_bands import PRESET, THREE

from melotte.engine.random import Stream
from melotte.systems.registry import load_preset

SMALL = (
    "data.clusters.age_step=0.7",
    "data.size=48",
    "data.fields.tiles=2",
    "data.fields.held_out_tiles=2",
    "data.fields.size=96",
    "data.setups=2",
)
EVERY = load_preset(PRESET).data["bands"]


@pytest.fixture(scope="module")
def models():
    return photometry.models_of((THREE, EVERY), SMALL, n_constants=64)


@pytest.fixture(scope="module")
def rows(models):
    return photometry.banks(models, 256, 3)


def test_both_read_the_same_mocks_in_their_bands(models, rows):
    three, five = rows
    assert len(three) == len(five) == 256
    assert torch.allclose(three.theta, five.theta, atol=0, equal_nan=True)
    fluxes, of_three = (one.observation.data["photometry"] for one in (five, three))
    n_annuli = fluxes.shape[1] // len(EVERY)
    places = [EVERY.index(band) * n_annuli + k for band in THREE for k in range(n_annuli)]
    assert torch.allclose(of_three, fluxes[:, places], atol=1e-4)
    held = photometry.banks(models, 256, 3, Stream.VALIDATION)[1]
    assert not torch.allclose(held.theta, five.theta, equal_nan=True)


def test_a_fit_learns_and_keeps_its_best_pass(models, rows, monkeypatch):
    monkeypatch.setattr(photometry, "FIT_BATCH", 128)
    model = copy.deepcopy(models[1])
    with torch.no_grad():
        before = float(photometry.loss_of(model, rows[1]))
    least = photometry.fit(model, rows[1], rows[1], passes=15, seed=1)
    assert least < before - 0.5
    with torch.no_grad():
        assert float(photometry.loss_of(model, rows[1])) == pytest.approx(least, abs=1e-5)
    assert not model.network.training
