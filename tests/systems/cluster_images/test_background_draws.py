"""Random backgrounds: from simulated fields of an object's set-up, or free places of mosaics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from melotte.errors import MelotteValueError
from melotte.systems.base import Observation
from melotte.systems.cluster_images import background_draws
from melotte.systems.cluster_images.background_draws import (
    MosaicBackgrounds,
    SimulatedBackgrounds,
)

SIDE = 260
FILTERS = ("F336W", "F438W", "F814W")


def seen(n, exposure=1500.0):
    return Observation(
        {
            "image": torch.zeros(n, 3, 48, 48),
            "fwhm": torch.full((n, 3), 0.08),
            "exposure": torch.full((n, 3), exposure),
            "pixel_scale": torch.full((n,), 0.04),
            "distance_modulus": torch.full((n,), 28.3),
            "metallicity": torch.zeros(n),
        }
    )


def write_mosaics(folder, image, wcs=None):
    paths = []
    for band, name in enumerate(FILTERS):
        header = fits.Header() if wcs is None else wcs.to_header()
        header["INSTRUME"], header["DETECTOR"], header["FILTER"] = "WFC3", "UVIS", name
        header["PIXSCALE"], header["EXPTIME"], header["BUNIT"] = 0.04, 1500.0, "ELECTRONS/S"
        paths.append(folder / f"{name}.fits")
        fits.PrimaryHDU((image + 1000 * band).astype("f4"), header).writeto(paths[-1])
    return paths


def test_simulated_backgrounds_follow_the_generator_and_the_set_up(small_m83, monkeypatch):
    monkeypatch.setattr(background_draws, "TILES", 1)
    source = SimulatedBackgrounds(small_m83.data)
    first = source.cut(seen(3), torch.Generator().manual_seed(1))
    again = source.cut(seen(3), torch.Generator().manual_seed(1))
    other = source.cut(seen(3), torch.Generator().manual_seed(2))
    assert first.shape == (3, 3, 48, 48)
    assert bool(torch.isfinite(first).all())
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    short = source.cut(seen(3, exposure=1.5), torch.Generator().manual_seed(1))
    # A thousandth of the exposure has far more noise from pixel to pixel.
    assert float(short.diff(dim=-1).std()) > 3 * float(first.diff(dim=-1).std())


def test_mosaic_backgrounds_are_free_of_objects_and_of_unknown_pixels(small_m83, tmp_path):
    image = np.arange(SIDE * SIDE, dtype=float).reshape(SIDE, SIDE) % 997
    places = [(60, 60), (130, 190), (200, 80)]
    for x, y in places:
        image[y, x] = 1e6
    image[:30] = np.nan
    table = Table({"x": [float(x) for x, _ in places], "y": [float(y) for _, y in places]})
    paths = write_mosaics(tmp_path, image)
    source = MosaicBackgrounds(paths, table, small_m83.data, {}, seed=5)
    assert len(source.images) > 10
    assert float(source.images.max()) < 4000
    assert bool(torch.isfinite(source.images).all())
    cut = source.cut(seen(4), torch.Generator().manual_seed(1))
    assert cut.shape == (4, 3, 48, 48)
    # Bands stay together: the same place of each, turned the same way.
    torch.testing.assert_close(cut[:, 2] - cut[:, 0], torch.full((4, 48, 48), 2000.0))


def brick(folder, ra, shape, level):
    """Mosaics of one level about a place on the sky, and their coordinates."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype, wcs.wcs.crval = ["RA---TAN", "DEC--TAN"], [ra, 40.0]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cdelt = [-0.04 / 3600, 0.04 / 3600]
    folder.mkdir()
    return write_mosaics(folder, np.full(shape, level), wcs), wcs


@pytest.mark.parametrize("in_pixels", [False, True])
def test_backgrounds_come_from_all_bricks_by_their_area(
    small_m83, tmp_path, monkeypatch, in_pixels
):
    monkeypatch.setattr(background_draws, "MOSAIC_PLACES", 200)
    monkeypatch.setattr(background_draws, "MOST_TRIES", 2)
    first, wcs = brick(tmp_path / "first", 11.0, (150, 150), 1.0)
    second, other = brick(tmp_path / "second", 11.1, (150, 350), 5.0)
    centre = [wcs.pixel_to_world(20.0, 20.0), other.pixel_to_world(200.0, 75.0)]
    table = Table({"ra": [one.ra.deg for one in centre], "dec": [one.dec.deg for one in centre]})
    if in_pixels:
        x, y = wcs.world_to_pixel(SkyCoord(table["ra"], table["dec"], unit="deg"))
        table = Table({"x": x, "y": y})
    for path in second:
        with fits.open(path, mode="update") as opened:
            # The object of the second brick.
            opened[0].data[75, 200] = 1e6
    source = MosaicBackgrounds([*first, *second], table, small_m83.data, {}, seed=5)
    level = source.images[:, 0, 0, 0]
    assert set(level.tolist()) == {1.0, 5.0}
    assert float(source.images.max()) < 1e4
    # Free centres: 103 x 103 without a corner, and 303 x 103 without 49 columns about the object.
    assert float((level == 5).float().mean()) == pytest.approx(0.73, abs=0.12)


def test_where_bricks_overlap_places_are_drawn_once(small_m83, tmp_path, monkeypatch):
    monkeypatch.setattr(background_draws, "MOSAIC_PLACES", 2000)
    first, wcs = brick(tmp_path / "first", 11.0, (150, 150), 1.0)
    # 60 px to the left of the first; pixels of both say their column in the first.
    left = wcs.pixel_to_world(74.5 - 60, 74.5).ra.deg
    second, _ = brick(tmp_path / "second", left, (150, 150), 1.0)
    for path, start in [*((path, 0) for path in first), *((path, -60) for path in second)]:
        with fits.open(path, mode="update") as opened:
            # Exact zeros are taken for blank pixels.
            opened[0].data[:] = 0.25 + start + np.arange(150)
    table = Table({"ra": [20.0], "dec": [40.0]})
    source = MosaicBackgrounds([*first, *second], table, small_m83.data, {}, seed=5)
    column = source.images[:, 0, 24, 24].numpy()
    assert len(column) > 1500
    counts = np.histogram(column, bins=6, range=(-36, 126))[0]
    assert counts.min() > 0.75 * counts.max()


def test_mosaics_without_a_free_place_are_refused(small_m83, tmp_path):
    image = np.ones((60, 60))
    image[30, 30] = np.nan
    paths = write_mosaics(tmp_path, image)
    table = Table({"x": [5.0], "y": [5.0]})
    with pytest.raises(MelotteValueError, match="no free place"):
        MosaicBackgrounds(paths, table, small_m83.data, {}, seed=5)
