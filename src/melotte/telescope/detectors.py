"""Hubble's imaging detectors: what they hold, and what they add."""

from __future__ import annotations

from dataclasses import dataclass

from melotte.errors import MelotteValueError
from melotte.telescope.setups import ACS_PIXEL, UVIS_PIXEL


@dataclass(frozen=True)
class Detector:
    """A detector of one camera.

    Parameters
    ----------
    pixel : float, arcsec
    full_well : float, electrons
    read_noise : float, electrons, of one exposure
    dark : float, electrons/s per pixel
    """

    pixel: float
    full_well: float
    read_noise: float
    dark: float


DETECTORS = {
    "ACS_WFC": Detector(ACS_PIXEL, 80_000.0, 4.0, 0.006),
    "WFC3_UVIS": Detector(UVIS_PIXEL, 67_000.0, 3.1, 0.002),
}
"""By the beginning of a band's name; rounded from the ACS and WFC3 Instrument Handbooks."""


def detector_of(band: str) -> Detector:
    """The detector of a band.

    Raises
    ------
    MelotteValueError
        When the band is of no camera that is known.
    """
    for camera, detector in DETECTORS.items():
        if band.startswith(f"{camera}_"):
            return detector
    raise MelotteValueError(
        f"the detector of {band} is not known; bands of {', '.join(DETECTORS)} are"
    )
