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
from melotte.telescope.masks import circle_mask, saturated_mask, sky_mask
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
    places = read_positions(table, radii=True)
    values = np.full(len(places), usual)
    if places.radius is not None:
        values = np.where(np.isfinite(places.radius), places.radius, usual)
    radius, shape = torch.from_numpy(values), (mosaic.masked.shape[0], mosaic.masked.shape[1])
    if places.x is not None and places.y is not None:
        x, y = torch.from_numpy(places.x), torch.from_numpy(places.y)
        return circle_mask(shape, x, y, radius / scale)
    if places.ra is None or places.dec is None or mosaic.wcs is None:
        raise MelotteValueError(
            f"data.fields.masks: {table} lists positions on the sky, and data.fields.mosaics "
            "state no celestial coordinates to find them by"
        )
    wcs = mosaic.wcs

    def to_pixel(ra: np.ndarray, dec: np.ndarray) -> list[np.ndarray]:
        return wcs.all_world2pix(ra, dec, 0, quiet=True)

    ra, dec = torch.from_numpy(places.ra), torch.from_numpy(places.dec)
    return sky_mask(shape, ra, dec, radius, to_pixel, scale)
