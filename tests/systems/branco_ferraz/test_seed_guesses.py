"""The three guesses of planted sequences, and where they are undefined."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.ragged import Ragged, offsets_of
from melotte.systems.branco_ferraz.guesses import guesses


def sequence(parallax: float, slope: float, n: int = 60) -> torch.Tensor:
    """Stars of corrected G from 0 to 7 whose colour rises linearly, bends at corrected G 4."""
    corrected = torch.linspace(0.0, 7.0, n)
    colour = 0.2 + slope * corrected + 2.0 * (corrected - 4).clamp(min=0)
    g = corrected + 10 - 5 * np.log10(parallax)
    return torch.stack([g, colour, torch.full_like(g, parallax)], -1)


@pytest.mark.parametrize("parallax", [0.4, 2.0, 20.0])
def test_a_planted_sequence_gives_its_slope_colour_and_parallax(parallax):
    stars = sequence(parallax, 0.15)
    slope, colour, median = guesses(Ragged.pack([stars]))[0].tolist()
    corrected = torch.linspace(0.0, 7.0, 60)
    between = (corrected >= 4) & (corrected < 5)
    assert slope == pytest.approx(0.15, abs=1e-4)
    assert colour == pytest.approx(stars[between, 1].mean().item(), abs=1e-4)
    assert median == pytest.approx(parallax)


def test_the_median_is_numpys():
    rng = np.random.default_rng(5)
    for n in (1, 2, 3, 10, 4000, 4001):
        parallax = rng.normal(2, 1, n).astype(np.float32)
        stars = torch.zeros(n, 3)
        stars[:, 2] = torch.tensor(parallax)
        assert guesses(Ragged.pack([stars]))[0, 2] == pytest.approx(np.median(parallax), abs=1e-6)


def test_undefined_guesses_are_zero_and_do_not_spread():
    behind = sequence(1.0, 0.1)
    behind[:, 2] = -0.05
    faint = torch.tensor([[17.0, 2.0, 1.0]])
    good = sequence(1.0, 0.1)
    lists = Ragged(
        torch.cat([behind, good, faint]), offsets_of(torch.tensor([len(behind), 0, len(good), 1]))
    )
    found = guesses(lists)
    assert torch.isfinite(found).all()
    assert found[0].tolist() == pytest.approx([0, 0, -0.05])
    assert found[1].tolist() == [0, 0, 0]
    assert torch.allclose(found[2], guesses(Ragged.pack([good]))[0])
    assert found[3].tolist() == [0, 0, 1]
