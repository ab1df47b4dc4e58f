"""Random backgrounds: from simulated fields of an object's set-up, or free places of mosaics."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table

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


def write_mosaics(folder, image):
    paths = []
    for band, name in enumerate(FILTERS):
        header = fits.Header()
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


def test_mosaics_without_a_free_place_are_refused(small_m83, tmp_path):
    image = np.ones((60, 60))
    image[30, 30] = np.nan
    paths = write_mosaics(tmp_path, image)
    table = Table({"x": [5.0], "y": [5.0]})
    with pytest.raises(MelotteValueError, match="no free place"):
        MosaicBackgrounds(paths, table, small_m83.data, {}, seed=5)
