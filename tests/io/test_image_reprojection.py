"""Laws of regridding: flux is kept, places are kept, pixels without a value stay without."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from mosaic_files import CENTRE, sources, tangent_wcs, write_mosaic

from melotte.errors import MelotteError, MelotteValueError
from melotte.io.reprojection import overlap, reproject_mosaics, reprojected, resampled

SKY = SkyCoord([CENTRE[0]], [CENTRE[1]], unit="deg")


@pytest.mark.parametrize("step", [0.5, 0.8, 1.0, 1.25, 1.9])
def test_resampling_keeps_flux_and_place(step: float) -> None:
    rng = np.random.default_rng(3)
    y, x = np.mgrid[:80, :80]
    at = rng.uniform(37, 43, 2)
    image = np.exp(-((x - at[0]) ** 2 + (y - at[1]) ** 2) / 18)
    out = resampled(np.stack([image, 3 * image]), 39.5, 39.5, step, int(70 / step))
    total = out.astype(np.float64).sum(axis=(1, 2))
    np.testing.assert_allclose(total, [image.sum(), 3 * image.sum()], rtol=1e-3)
    n = out.shape[-1]
    column = (out[0].sum(0) * np.arange(n)).sum() / total[0]
    assert 39.5 + (column - (n - 1) / 2) * step == pytest.approx(at[0], abs=0.01)


def test_resampling_a_flat_image_scales_by_area_and_marks_what_is_outside() -> None:
    out = resampled(np.ones((40, 40)), 19.5, 19.5, 1.5, 30)
    inside = np.isfinite(out)
    assert inside.sum() == 26**2
    np.testing.assert_allclose(out[inside], 2.25, rtol=1e-6)


def test_resampling_marks_every_pixel_that_a_bad_one_touches() -> None:
    image = np.ones((40, 40))
    image[20, 20] = np.nan
    touched = np.isnan(resampled(image, 19.5, 19.5, 0.8, 40))
    rows = overlap(40, 40, 20 - 16, 0.8)[:, 20] > 1e-6
    assert touched.sum() == rows.sum() ** 2
    assert touched[np.ix_(rows, rows)].all()


def test_overlaps_share_out_each_input_pixel() -> None:
    shared = overlap(30, 50, -3.3, 0.8)
    covered = np.clip(np.minimum(np.arange(30) + 1, -3.3 + 40) - np.arange(30), 0, 1)
    np.testing.assert_allclose(shared.sum(0), covered, atol=1e-12)


@pytest.mark.parametrize(("scale", "turn"), [(0.05, 0.0), (0.04, 33.0), (0.06, 120.0)])
def test_reprojection_keeps_flux_and_place(scale: float, turn: float) -> None:
    pytest.importorskip("reproject")
    shape = (90, 100)
    wcs = tangent_wcs(scale, shape, turn, shift=(1.3, -0.7))
    image = sources(wcs, shape, SKY, scale)
    target = tangent_wcs(0.04, (64, 64))
    out = reprojected(image, wcs, target, (64, 64))
    assert np.nansum(out, dtype=np.float64) == pytest.approx(1, abs=1e-3)
    good = np.nan_to_num(out)
    assert (good.sum(0) * np.arange(64)).sum() == pytest.approx(31.5, abs=0.02)
    assert (good.sum(1) * np.arange(64)).sum() == pytest.approx(31.5, abs=0.02)


def test_reprojection_spreads_no_value_into_bad_pixels() -> None:
    pytest.importorskip("reproject")
    wcs = tangent_wcs(0.04, (60, 60))
    image = np.ones((60, 60))
    image[30, 30] = np.inf
    out = reprojected(image, wcs, tangent_wcs(0.04, (80, 80), 20.0), (80, 80))
    assert np.isnan(out[0]).all()
    inner = out[30:50, 30:50]
    assert 4 <= np.isnan(inner).sum() <= 12
    np.testing.assert_allclose(inner[np.isfinite(inner)], 1, rtol=1e-4)


def test_bricks_become_one_grid_with_their_flux(tmp_path: Path) -> None:
    pytest.importorskip("reproject")
    sky = SkyCoord(
        CENTRE[0] + np.array([-4e-4, 0, 4e-4]), CENTRE[1] + np.array([0, 1e-4, -1e-4]), unit="deg"
    )
    bricks = []
    for number, (turn, shift) in enumerate([(10.0, (30, 0)), (-20.0, (-25, 4))]):
        wcs = tangent_wcs(0.05, (120, 110), turn, shift)
        image = sources(wcs, (120, 110), sky, 0.05)
        bricks.append(write_mosaic(tmp_path / f"b{number}.fits", image, wcs, "F336W"))
    goal = tangent_wcs(0.04, (150, 200))
    target = write_mosaic(tmp_path / "target.fits", np.zeros((150, 200)), goal, "F814W")
    reproject_mosaics(bricks, target, tmp_path / "out.fits")
    with fits.open(tmp_path / "out.fits") as opened:
        out, header = opened[0].data, opened[0].header
    assert header["FILTER"] == "F336W"
    assert np.nansum(out, dtype=np.float64) == pytest.approx(3, abs=3e-3)
    np.testing.assert_allclose(
        np.nan_to_num(out), sources(goal, (150, 200), sky, 0.04) * np.isfinite(out), atol=2e-3
    )
    with pytest.raises(MelotteError, match="exists already"):
        reproject_mosaics(bricks, target, tmp_path / "out.fits")


def test_an_image_without_coordinates_has_no_grid(tmp_path: Path) -> None:
    pytest.importorskip("reproject")
    bare = write_mosaic(tmp_path / "bare.fits", np.zeros((20, 20)), None)
    with pytest.raises(MelotteValueError, match="no celestial coordinates"):
        reproject_mosaics([bare], bare, tmp_path / "out.fits")
