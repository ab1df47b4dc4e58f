"""Small models of cluster images, and files of mocks for them."""

from __future__ import annotations

from functools import cache

import torch
from astropy.io import fits

from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream
from melotte.systems.registry import build_system, load_preset

SMALL = (
    "data.clusters.age_step=0.7", "data.clusters.log_mass=[3.3,4.8]", "data.size=48",
    "data.setups=2", "data.fields.tiles=2", "data.fields.held_out_tiles=2",
    "data.fields.size=128", "data.camera.blur=1.0",
    "data.camera.metallicity=0.0", "model.widths=[8,16]", "model.blocks=[1,1]",
    "model.features=32", "model.apertures=[2.5,6.0,13.0]",
)  # fmt: skip
SPLIT = ("F336W", "F438W", "F814W")


@cache
def small_image_model(*overrides):
    """An untrained model, and the mocks that its constants come from."""
    preset = load_preset("m83", [*SMALL, *overrides])
    system = build_system(preset)
    mocks = mock_batch(system, 32, 3, Stream.MOCKS, 0, views=1)
    constants = system.constants(mocks)
    torch.manual_seed(2)
    network = system.network(constants).eval()
    return Model(system, preset.model_dump(mode="json"), constants, network), mocks


def write_cutouts(path, images, scale=0.04):
    """Stamps as a FITS cube of objects and bands, as somebody's camera wrote them."""
    header = fits.Header()
    for i, band in enumerate(SPLIT):
        header[f"FILTER{i + 1}"] = band
    header["INSTRUME"], header["DETECTOR"] = "WFC3", "UVIS"
    header["PIXSCALE"], header["EXPTIME"], header["BUNIT"] = scale, 1500.0, "ELECTRONS/S"
    fits.PrimaryHDU(images.numpy().astype(">f4"), header).writeto(path)
    return path
