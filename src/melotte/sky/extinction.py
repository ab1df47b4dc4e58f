"""Interstellar extinction curves of the Milky Way, A(wavelength) / A_V."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.interpolate import CubicSpline

from melotte.errors import MelotteValueError

CCM89_RANGE = (0.3, 10.0)
"""Wavenumbers, 1/micron, in which Cardelli et al. 1989 give their law."""

F99_RANGE = (0.167, 10.0)
"""Wavenumbers, 1/micron, in which Fitzpatrick 1999 is evaluated: 6 micron to 1000 angstrom."""

_CCM89_OPTICAL_A = (1.0, 0.17699, -0.50447, -0.02427, 0.72085, 0.01979, -0.77530, 0.32999)
_CCM89_OPTICAL_B = (0.0, 1.41338, 2.28305, 1.07233, -5.38434, -0.62251, 5.30260, -2.09002)
_CCM89_FAR_A = (-1.073, -0.628, 0.137, -0.070)
_CCM89_FAR_B = (13.670, 4.257, -0.420, 0.374)


def ccm89(wavelength: ArrayLike, r_v: float = 3.1) -> NDArray[np.float64]:
    """Extinction curve of Cardelli, Clayton & Mathis.

    Parameters
    ----------
    wavelength : array_like, any shape, angstrom, in [1000, 33333]
    r_v : float, A_V / E(B-V), > 0

    Returns
    -------
    array, shape of ``wavelength``
        A(wavelength) / A_V; NaN where the wavelength is NaN.

    Raises
    ------
    MelotteValueError
        When a wavelength is outside the law's range, or ``r_v`` is not positive.

    References
    ----------
    Cardelli, Clayton & Mathis 1989, ApJ 345, 245, Eqs. 1-5.
    """
    x = _wavenumber(wavelength, r_v, "ccm89", CCM89_RANGE)
    a, b = np.full_like(x, np.nan), np.full_like(x, np.nan)

    infrared = x < 1.1
    a[infrared] = 0.574 * x[infrared] ** 1.61
    b[infrared] = -0.527 * x[infrared] ** 1.61

    optical = (x >= 1.1) & (x < 3.3)
    y = x[optical] - 1.82
    a[optical] = np.polynomial.polynomial.polyval(y, _CCM89_OPTICAL_A)
    b[optical] = np.polynomial.polynomial.polyval(y, _CCM89_OPTICAL_B)

    ultraviolet = (x >= 3.3) & (x < 8.0)
    u = x[ultraviolet]
    far = np.clip(u - 5.9, 0.0, None)
    curl_a = -0.04473 * far**2 - 0.009779 * far**3
    curl_b = 0.2130 * far**2 + 0.1207 * far**3
    a[ultraviolet] = 1.752 - 0.316 * u - 0.104 / ((u - 4.67) ** 2 + 0.341) + curl_a
    b[ultraviolet] = -3.090 + 1.825 * u + 1.206 / ((u - 4.62) ** 2 + 0.263) + curl_b

    far_ultraviolet = x >= 8.0
    y = x[far_ultraviolet] - 8.0
    a[far_ultraviolet] = np.polynomial.polynomial.polyval(y, _CCM89_FAR_A)
    b[far_ultraviolet] = np.polynomial.polynomial.polyval(y, _CCM89_FAR_B)
    return a + b / r_v


def fitzpatrick99(wavelength: ArrayLike, r_v: float = 3.1) -> NDArray[np.float64]:
    """Extinction curve of Fitzpatrick.

    A cubic spline through optical and infrared anchors, joined at 2700 angstrom to the
    parametrised ultraviolet curve.

    Parameters
    ----------
    wavelength : array_like, any shape, angstrom, in [1000, 60000]
    r_v : float, A_V / E(B-V), > 0

    Returns
    -------
    array, shape of ``wavelength``
        A(wavelength) / A_V; NaN where the wavelength is NaN.

    Raises
    ------
    MelotteValueError
        When a wavelength is outside the law's range, or ``r_v`` is not positive.

    References
    ----------
    Fitzpatrick 1999, PASP 111, 63: ultraviolet Eqs. A1-A4 (the form of Fitzpatrick & Massa
    1990), anchors of Tables 3 and 4, with the R_V polynomials of the author's FM_UNRED.
    """
    x = _wavenumber(wavelength, r_v, "fitzpatrick99", F99_RANGE)
    anchors = np.array(
        [0.0, 1e4 / 26500, 1e4 / 12200, 1e4 / 6000, 1e4 / 5470, 1e4 / 4670, 1e4 / 4110]
    )
    joint = np.array([1e4 / 2700, 1e4 / 2600])
    polynomial = np.polynomial.polynomial.polyval
    values = np.array(
        [
            0.0,
            0.26469 * r_v / 3.1,
            0.82925 * r_v / 3.1,
            polynomial(r_v, (-4.22809e-1, 1.00270, 2.13572e-4)),
            polynomial(r_v, (-5.13540e-2, 1.00216, -7.35778e-5)),
            polynomial(r_v, (7.00127e-1, 1.00184, -3.32598e-5)),
            polynomial(r_v, (1.19456, 1.01707, -5.46959e-3, 7.97809e-4, -4.45636e-5)),
        ]
    )
    knots = np.concatenate([anchors, joint])
    heights = np.concatenate([values, _f99_ultraviolet(joint, r_v) + r_v])
    spline = CubicSpline(knots, heights, bc_type="natural")
    curve = np.where(x >= joint[0], _f99_ultraviolet(x, r_v) + r_v, spline(x))
    return curve / r_v


def _f99_ultraviolet(x: NDArray[np.float64], r_v: float) -> NDArray[np.float64]:
    """E(x - V) / E(B - V) beyond 2700 angstrom, x in 1/micron."""
    slope = -0.824 + 4.717 / r_v
    intercept = 2.030 - 3.007 * slope
    centre, width, bump, rise = 4.596, 0.99, 3.23, 0.41
    drude = x**2 / ((x**2 - centre**2) ** 2 + (x * width) ** 2)
    far = np.clip(x - 5.9, 0.0, None)
    return intercept + slope * x + bump * drude + rise * (0.5392 * far**2 + 0.05644 * far**3)


LAWS: dict[str, Callable[..., NDArray[np.float64]]] = {
    "ccm89": ccm89,
    "fitzpatrick99": fitzpatrick99,
}
"""Extinction laws by name."""


def _wavenumber(
    wavelength: ArrayLike, r_v: float, law: str, allowed: tuple[float, float]
) -> NDArray[np.float64]:
    """Wavenumbers in 1/micron, checked against the range of a law."""
    if not r_v > 0:
        raise MelotteValueError(f"r_v must be positive, found {r_v}")
    angstrom = np.asarray(wavelength, dtype=np.float64)
    shortest, longest = 1e4 / allowed[1], 1e4 / allowed[0]
    outside = (angstrom < shortest * (1 - 1e-9)) | (angstrom > longest * (1 + 1e-9))
    if outside.any():
        raise MelotteValueError(
            f"wavelength {angstrom[outside].flat[0]:g} angstrom is outside the range of {law}, "
            f"[{shortest:.0f}, {longest:.0f}]"
        )
    return 1e4 / angstrom
