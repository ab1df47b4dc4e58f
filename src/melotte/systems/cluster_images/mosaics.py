"""Backgrounds from a user's mosaics, with bright stars and known objects left out."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.field_files import Mosaic, read_mosaic
from melotte.io.image_positions import read_positions
from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.background import BackgroundPool
from melotte.telescope.masks import circle_mask, saturated_mask
from melotte.telescope.passbands import passband

SAME_SCALE = 0.01
"""Relative difference of a mosaic's pixel scale from the settings' that still counts as none."""


def mosaic_background(data: DataSettings) -> BackgroundPool:
    """All of the mosaics in ``data.fields``, in electrons/s, with what must not be cut masked.

    Parameters
    ----------
    data : DataSettings

    Raises
    ------
    MelotteFileError
        When a file cannot be read.
    MelotteValueError
        When bands, units or pixel scale do not fit.
    """
    fields = data.fields
    mosaic = read_mosaic(fields.mosaics or ())
    scale = data.camera.pixel_scale[0]
    found = [one.pixel_scale for one in mosaic.headers if one.pixel_scale > 0]
    if found and abs(found[0] / scale - 1) > SAME_SCALE:
        raise MelotteValueError(
            f"data.fields.mosaics: their pixels are {found[0]:.4g} arcsec wide, "
            f"data.camera.pixel_scale says {scale:.4g}; reproject them, or change the setting"
        )
    zero_points = [passband(name).zero_point_ab for name in data.bands]
    image = torch.from_numpy(mosaic.electrons(data.bands, zero_points))
    mask = torch.from_numpy(mosaic.masked)
    for table in fields.masks:
        mask = mask | _listed_objects(mosaic, table, scale, fields.mask_radius)
    if fields.saturation is not None:
        mask = mask | saturated_mask(image, fields.saturation, core_factor=4.0)
    return BackgroundPool([image], [mask])


def _listed_objects(mosaic: Mosaic, table: str, scale: float, usual: float) -> Tensor:
    """Discs about the objects of a table."""
    places = read_positions(table)
    radius = np.full(len(places), usual)
    if places.radius is not None:
        radius = np.where(np.isfinite(places.radius), places.radius, usual)
    if places.x is not None and places.y is not None:
        shape = (mosaic.masked.shape[0], mosaic.masked.shape[1])
        x, y, reach = (torch.from_numpy(one) for one in (places.x, places.y, radius / scale))
        return circle_mask(shape, x, y, reach)
    assert places.ra is not None
    assert places.dec is not None
    return torch.from_numpy(mosaic.mask_around(places.ra, places.dec, radius))
