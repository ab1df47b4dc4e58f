"""Passbands of Hubble's cameras: what a magnitude is in counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.photometry import band_name

VEGA_SPECTRUM = "alpha_lyr_stis_011"
"""The spectrum that has magnitude 0 in every band (Bohlin 2014, AJ 147, 127)."""

COLLECTING_AREA = 45238.93
"""Unobstructed area of Hubble's mirror, cm^2, as its calibration uses it."""

_SYNTHETIC = (
    f"photon rate of {VEGA_SPECTRUM} through the system throughput of this band "
    f"and {COLLECTING_AREA:.2f} cm^2"
)
_WFC3 = "WFC3 team's table of 2020 for chip UVIS1 (Calamida et al. 2022, AJ 164, 32)"
_WFC3_IR = "WFC3 team's table of 2020 (Calamida et al. 2022, AJ 164, 32)"
_ACS = "ACS team's table before its revision of 2016 (Bohlin 2016, ISR ACS 2016-03)"


@dataclass(frozen=True)
class Passband:
    """A filter on a detector, optics included.

    Parameters
    ----------
    name : str
        Full name, such as ``"ACS_WFC_F475W"``.
    pivot_nm : float, nm
        Pivot wavelength.
    zero_point : float, mag
        Vega magnitude of a source that gives one electron a second in an infinite aperture.
    ab_minus_vega : float, mag
        AB magnitude of a source of Vega magnitude 0.
    published : float, mag
        The zero point that the instrument's team gives, for comparison.
    source, published_source : str
        Where the two come from.
    """

    name: str
    pivot_nm: float
    zero_point: float
    ab_minus_vega: float
    published: float
    published_source: str
    source: str = _SYNTHETIC

    @property
    def zero_point_ab(self) -> float:
        """AB magnitude of a source that gives one electron a second in an infinite aperture."""
        return self.zero_point + self.ab_minus_vega


_PASSBANDS = {
    row[0]: Passband(*row)
    for row in (
        ("WFC3_UVIS_F275W", 270.929, 22.6766, 1.4808, 22.676, _WFC3),
        ("WFC3_UVIS_F336W", 335.443, 23.5282, 1.1636, 23.526, _WFC3),
        ("WFC3_UVIS_F438W", 432.624, 25.0039, -0.1653, 25.002, _WFC3),
        ("WFC3_UVIS_F475W", 477.310, 25.8112, -0.1064, 25.809, _WFC3),
        ("WFC3_UVIS_F555W", 530.842, 25.8418, -0.0291, 25.838, _WFC3),
        ("WFC3_UVIS_F606W", 588.915, 26.0068, 0.0827, 26.004, _WFC3),
        ("WFC3_UVIS_F814W", 803.903, 24.6976, 0.4286, 24.699, _WFC3),
        ("WFC3_IR_F110W", 1153.446, 26.0396, 0.7765, 26.042, _WFC3_IR),
        ("WFC3_IR_F160W", 1537.034, 24.6700, 1.2743, 24.662, _WFC3_IR),
        ("ACS_WFC_F435W", 432.985, 25.7628, -0.1156, 25.767, _ACS),
        ("ACS_WFC_F475W", 474.694, 26.1478, -0.1072, 26.163, _ACS),
        ("ACS_WFC_F555W", 536.103, 25.7101, -0.0103, 25.727, _ACS),
        ("ACS_WFC_F606W", 592.188, 26.3979, 0.0864, 26.406, _ACS),
        ("ACS_WFC_F814W", 804.553, 25.5018, 0.4311, 25.520, _ACS),
    )
}

HUBBLE_BANDS = tuple(_PASSBANDS)
"""Full names of the bands whose zero points are known."""


def passband(name: str) -> Passband:
    """A band of Hubble by its full name, or by a short one that only one camera has.

    Raises
    ------
    MelotteValueError
        When there is no such band, or several could be meant.
    """
    return _PASSBANDS[band_name(name, HUBBLE_BANDS)]


def counts_per_second(magnitude: Tensor, bands: Sequence[str]) -> Tensor:
    """Electrons a second, in an infinite aperture, of sources of given magnitudes.

    Parameters
    ----------
    magnitude : Tensor, shape (..., n_bands), Vega mag
        Apparent; +inf is no light, NaN gives NaN.
    bands : sequence of str, as many as the last axis has

    Returns
    -------
    Tensor, shape (..., n_bands), electrons/s

    Raises
    ------
    MelotteValueError
        When a band is unknown, or their number does not fit.
    """
    return torch.exp(-0.4 * math.log(10) * (magnitude - _zero_points(magnitude, bands)))


def magnitude_of(counts: Tensor, bands: Sequence[str]) -> Tensor:
    """Vega magnitudes of electrons a second; the inverse of :func:`counts_per_second`.

    No counts give +inf, negative ones NaN.
    """
    return _zero_points(counts, bands) - 2.5 * torch.log10(counts)


def _zero_points(like: Tensor, bands: Sequence[str]) -> Tensor:
    if like.ndim == 0 or like.shape[-1] != len(bands):
        raise MelotteValueError(
            f"the last axis must be the {len(bands)} bands {', '.join(bands)}, "
            f"found shape {tuple(like.shape)}"
        )
    values = [passband(band).zero_point for band in bands]
    return torch.tensor(values, dtype=like.dtype, device=like.device)
