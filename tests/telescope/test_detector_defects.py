"""Saturation and cosmic rays."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.telescope.detector_defects import bleed, cosmic_ray_residuals
from melotte.telescope.detectors import detector_of


def test_bleeding_conserves_light_and_runs_along_the_column() -> None:
    rate = torch.full((101, 21), 0.1)
    rate[50, 10] = 500.0
    result, full = bleed(rate, 50.0)
    assert float(result.max()) <= 50.0
    assert float(result.sum()) == pytest.approx(float(rate.sum()), rel=1e-2)
    assert full.any(0).nonzero().flatten().tolist() == [10]
    rows = full.any(1).nonzero().flatten()
    assert 8 <= len(rows) <= 12
    assert abs(float(rows.float().mean()) - 50) < 0.5


def test_without_saturation_nothing_changes() -> None:
    rate = torch.rand(8, 8)
    result, full = bleed(rate, 2.0)
    assert torch.equal(result, rate)
    assert not bool(full.any())


def test_cosmic_rays_have_the_number_asked_for(generator: torch.Generator) -> None:
    sums = torch.stack([cosmic_ray_residuals(300, 1.0, generator, 400.0).sum() for _ in range(12)])
    # 36 hits of a log-uniform charge between 60 and 2,000 electrons.
    mean = 36 * (2000 - 60) / torch.log(torch.tensor(2000 / 60))
    assert float(sums.mean() / mean) == pytest.approx(1, abs=0.2)
    assert float(cosmic_ray_residuals(300, 1.0, generator, 0.0).sum()) == 0


def test_an_unknown_camera_is_named() -> None:
    assert detector_of("ACS_WFC_F475W").pixel == 0.05
    with pytest.raises(MelotteValueError, match="Bessell_V"):
        detector_of("Bessell_V")
