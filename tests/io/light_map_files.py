"""FITS images of clusters, as somebody's camera wrote them."""

import numpy as np
from astropy.io import fits
from astropy.wcs import WCS


def coordinates(shape, scale, ra=200.0, dec=-30.0, turn=0.0):
    """A tangent plane about the middle of an image."""
    world = WCS(naxis=2)
    world.wcs.ctype = ["RA---TAN", "DEC--TAN"]
    world.wcs.crval = [ra, dec]
    world.wcs.crpix = [(shape[-1] + 1) / 2, (shape[-2] + 1) / 2]
    cos, sin = np.cos(turn), np.sin(turn)
    world.wcs.cd = scale / 3600 * np.array([[-cos, sin], [sin, cos]])
    return world


def write_image(path, values, scale=0.25, turn=0.0, **cards):
    """One image, big-endian, with coordinates (none where the scale is None) and keywords."""
    header = (
        fits.Header() if scale is None else coordinates(values.shape, scale, turn=turn).to_header()
    )
    header.update({key.replace("_", "."): value for key, value in cards.items() if "_" in key})
    header.update({key: value for key, value in cards.items() if "_" not in key})
    fits.PrimaryHDU(np.asarray(values, dtype=">f4"), header).writeto(path, overwrite=True)
    return path
