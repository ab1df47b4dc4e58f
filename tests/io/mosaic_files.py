"""FITS mosaics with coordinates and Gaussian sources of known flux, for tests of readers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from scipy.special import erf

CENTRE = (10.68, 41.27)
WIDTH = 0.12
"""arcsec: standard deviation of a source."""


def tangent_wcs(
    scale: float, shape: tuple[int, int], turn: float = 0.0, shift: tuple[float, float] = (0, 0)
) -> WCS:
    """North up and east left, turned by some degrees, the centre shifted by some pixels."""
    wcs = WCS(naxis=2)
    wcs.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    wcs.wcs.crval = CENTRE
    wcs.wcs.crpix = [(shape[1] + 1) / 2 + shift[0], (shape[0] + 1) / 2 + shift[1]]
    angle, step = np.deg2rad(turn), scale / 3600
    wcs.wcs.cd = step * np.array([[-np.cos(angle), np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    return wcs


def sources(wcs: WCS, shape: tuple[int, int], sky: Any, scale: float) -> np.ndarray:
    """An image of sources of flux 1, integrated over each pixel."""
    image = np.zeros(shape)
    x, y = wcs.world_to_pixel(sky)
    edge_x, edge_y = np.arange(shape[1] + 1) - 0.5, np.arange(shape[0] + 1) - 0.5
    spread = np.sqrt(2) * WIDTH / scale
    for column, row in zip(np.atleast_1d(x), np.atleast_1d(y), strict=True):
        along = np.diff(erf((edge_x - column) / spread)) / 2
        across = np.diff(erf((edge_y - row) / spread)) / 2
        image += across[:, None] * along
    return image


def write_mosaic(
    path: Path, image: np.ndarray, wcs: WCS | None, band: str = "F336W", **keywords: Any
) -> Path:
    """A mosaic as HST's pipeline writes one: float32 electrons/s, filter, exposure."""
    header = fits.Header() if wcs is None else wcs.to_header()
    values = {
        "INSTRUME": "WFC3",
        "DETECTOR": "UVIS",
        "FILTER": band,
        "BUNIT": "ELECTRONS/S",
        "EXPTIME": 1000.0,
        **keywords,
    }
    for key, value in values.items():
        if value is not None:
            header[key] = value
    fits.PrimaryHDU(np.asarray(image, dtype=">f4"), header).writeto(path, overwrite=True)
    return path
