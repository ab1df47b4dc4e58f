"""Grids of pixels on the sky: whose is used, where points and pixels lie, tangent planes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.io.image_stacks import SAME_SCALE

Array = NDArray[np.float64]

CORNERS = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], dtype=np.float64)
"""Columns and rows of a square's corners, in half its sides from its centre."""


def reference_band(
    scales: Sequence[Sequence[float]], served: tuple[float, float] | None = None
) -> int:
    """Place of the band whose grid stamps are cut on: the first with images of a served scale.

    Parameters
    ----------
    scales : sequence of sequence of float, arcsec
        Pixel scales of each band's images; none of a missing band.
    served : (float, float), arcsec, or None
        Range of pixel scales that the model was trained on; the first band's grid is used without
        one, or if no band lies in it.
    """
    there = [place for place, ones in enumerate(scales) if ones]
    if served is None:
        return there[0]
    low, high = served[0] * (1 - SAME_SCALE), served[1] * (1 + SAME_SCALE)
    fitting = [place for place in there if all(low <= one <= high for one in scales[place])]
    return (fitting or there)[0]


def tangent_plane(corners: Any, shape: tuple[int, ...]) -> Any:
    """The tangent plane in which an image of this shape has its outer corners at these points."""
    from astropy.wcs import WCS

    ra, dec = np.asarray(corners.ra.rad), np.asarray(corners.dec.rad)
    vectors = np.stack([np.cos(dec) * np.cos(ra), np.cos(dec) * np.sin(ra), np.sin(dec)], axis=-1)
    middle = vectors.mean(axis=0)
    middle /= np.linalg.norm(middle)
    ra0, dec0 = math.atan2(middle[1], middle[0]), math.asin(middle[2])
    east = np.array([-math.sin(ra0), math.cos(ra0), 0.0])
    north = np.cross(middle, east)
    plane = np.degrees(vectors @ np.stack([east, north], axis=1) / (vectors @ middle)[:, None])
    right = (plane[1] - plane[0] + plane[2] - plane[3]) / (2 * shape[1])
    up = (plane[3] - plane[0] + plane[2] - plane[1]) / (2 * shape[0])
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.radesys = "ICRS"
    wcs.wcs.crval = [math.degrees(ra0) % 360, math.degrees(dec0)]
    wcs.wcs.crpix = [(shape[1] + 1) / 2, (shape[0] + 1) / 2]
    wcs.wcs.cd = np.stack([right, up], axis=1)
    return wcs


def to_pixel(wcs: Any, sky: Any) -> Array:
    """Pixel positions (column, row) from 0 of points on the sky, shape (..., 2); NaN if none."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            column, row = wcs.world_to_pixel(sky)
        # Distortions are inverted by iteration, which may fail far outside the image.
        except Exception:
            column, row = wcs.wcs_world2pix(sky.ra.deg, sky.dec.deg, 0)
    return np.stack([np.asarray(column), np.asarray(row)], axis=-1).astype(np.float64)


def to_sky(wcs: Any, pixel: Array) -> Any:
    """ICRS positions of pixels, shape (..., 2) of columns and rows from 0."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return wcs.pixel_to_world(pixel[..., 0], pixel[..., 1]).icrs
