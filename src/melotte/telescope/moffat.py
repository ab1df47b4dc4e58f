"""The Moffat profile: a point spread by the atmosphere, with wings wider than a Gaussian's."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import torch
from scipy import special
from torch import Tensor

from melotte.errors import MelotteValueError

MOFFAT_BETA = 2.5
"""Slope of the wings of images taken from the ground (Trujillo et al. 2001, MNRAS 328, 977)."""

LEAST_BETA = 1.5
"""Slope below which the transfer function has no finite derivative at frequency 0."""

_TABLE_END = 60.0
"""Phase beyond which nothing is left: exp(-60)."""

_TABLE_STEPS = 4000


@dataclass(frozen=True)
class MoffatPSF:
    """Moffat's profile, (1 + r^2 / a^2)^-beta, with all of a star's light.

    Parameters
    ----------
    fwhm : float, arcsec, > 0
        Full width at half maximum.
    beta : float, >= 1.5

    Raises
    ------
    MelotteValueError
        When a value is outside its range.

    References
    ----------
    Moffat 1969, A&A 3, 455; Trujillo et al. 2001, MNRAS 328, 977, Eqs. 1-4.
    """

    fwhm: float
    beta: float = MOFFAT_BETA

    includes_pixel = False

    def __post_init__(self) -> None:
        _check_beta(self.beta)
        if not 0 < self.fwhm < math.inf:
            raise MelotteValueError(f"a PSF's FWHM must be above 0 arcsec, found {self.fwhm:g}")

    @property
    def scale_radius(self) -> float:
        """The radius ``a`` of the profile, arcsec."""
        return self.fwhm / width_of_scale(self.beta)

    @property
    def noise_area(self) -> float:
        """Area that adds as much noise as a star's image when it is fitted, arcsec^2.

        The inverse of the integral of the squared profile, pi a^2 (2 beta - 1) / (beta - 1)^2.
        """
        ratio = (2 * self.beta - 1) / (self.beta - 1) ** 2
        return math.pi * self.scale_radius**2 * ratio

    def transfer(self, fx: Tensor, fy: Tensor) -> Tensor:
        """Optical transfer function, real, 1 at frequency 0, shape (n_y, n_x).

        Parameters
        ----------
        fx : Tensor of float64, shape (n_x,), cycles/arcsec
        fy : Tensor of float64, shape (n_y,), cycles/arcsec
        """
        wave_number = 2 * math.pi * torch.hypot(fy[:, None], fx)
        return moffat_transfer(wave_number * self.scale_radius, self.beta)

    def light_within(self, radius: float) -> float:
        """Part of a star's light within a circle.

        Parameters
        ----------
        radius : float, arcsec, >= 0
        """
        return 1 - (1 + (radius / self.scale_radius) ** 2) ** (1 - self.beta)


def width_of_scale(beta: float) -> float:
    """FWHM of Moffat's profile in units of its scale radius ``a``."""
    return 2 * math.sqrt(2 ** (1 / beta) - 1)


def moffat_transfer(phase: Tensor, beta: float = MOFFAT_BETA) -> Tensor:
    """Hankel transform of Moffat's profile of unit light.

    Parameters
    ----------
    phase : Tensor, any shape, >= 0
        Wave number 2 pi f times the scale radius ``a``.
    beta : float, >= 1.5
        Where beta - 1 is half an odd number, as for 2.5, the transform is a polynomial times an
        exponential; others are interpolated in a table, right to 1e-10.

    Returns
    -------
    Tensor, the shape and type of ``phase``, in [0, 1]
        2^(1 - nu) / Gamma(nu) x^nu K_nu(x) with nu = beta - 1.

    Raises
    ------
    MelotteValueError
        When beta is below 1.5.

    References
    ----------
    Trujillo et al. 2001, MNRAS 328, 977, Eq. 6.
    """
    _check_beta(beta)
    order = beta - 1.5
    if order == int(order) and order <= 8:
        return _bessel_polynomial(phase, int(order)) * torch.exp(-phase)
    return _interpolated(phase, beta)


def _bessel_polynomial(x: Tensor, order: int) -> Tensor:
    """Reverse Bessel polynomial over its value at 0, by its recurrence."""
    before, now = torch.ones_like(x), 1 + x
    if order == 0:
        return before
    for n in range(2, order + 1):
        before, now = now, (2 * n - 1) * now + x.square() * before
    return now / math.prod(range(1, 2 * order, 2))


def _interpolated(x: Tensor, beta: float) -> Tensor:
    """The transform between the nodes of a table, by cubics that keep its slopes."""
    value, slope = (column.to(x.device, x.dtype) for column in _table(beta))
    step = math.sqrt(_TABLE_END) / _TABLE_STEPS
    place = (x.sqrt() / step).clamp(max=_TABLE_STEPS - 1e-3)
    node = place.long()
    t = place - node
    left, right = value[node], value[node + 1]
    rise, end = slope[node] * step, slope[node + 1] * step
    bend = 3 * (right - left) - 2 * rise - end
    twist = 2 * (left - right) + rise + end
    return left + t * (rise + t * (bend + t * twist))


@lru_cache(maxsize=16)
def _table(beta: float) -> tuple[Tensor, Tensor]:
    """The transform at evenly spaced roots of the phase, and its slopes by those roots.

    In the phase itself it is not smooth at 0, where it falls as phase^(2 beta - 2).
    """
    nu = beta - 1
    root = torch.linspace(0, math.sqrt(_TABLE_END), _TABLE_STEPS + 1, dtype=torch.float64)[1:]
    x = root.square()
    power = 2 ** (1 - nu) / math.gamma(nu) * x**nu
    value, slope = torch.ones(2, _TABLE_STEPS + 1, dtype=torch.float64)
    value[1:] = power * torch.from_numpy(special.kv(nu, x.numpy()))
    slope[1:] = -2 * root * power * torch.from_numpy(special.kv(nu - 1, x.numpy()))
    slope[0] = 0
    return value, slope


def _check_beta(beta: float) -> None:
    """Raise MelotteValueError for slopes that are not served."""
    if not LEAST_BETA <= beta < math.inf:
        raise MelotteValueError(f"Moffat's beta must be at least {LEAST_BETA:g}, found {beta:g}")
