from __future__ import annotations

import numpy as np
import pytest

from melotte.errors import MelotteValueError
from melotte.sky.extinction import LAWS, ccm89, fitzpatrick99

WAVELENGTHS = [1100.0, 2175.0, 3355.0, 4326.0, 5500.0, 8039.0, 11534.0, 21900.0]

# A / A_V computed with the package extinction 0.4.9 (functions ccm89 and fitzpatrick99).
PUBLISHED = {
    ("ccm89", 3.1): [4.217207, 3.185101, 1.634535, 1.351699, 0.99885, 0.591916, 0.321066, 0.114358],
    ("ccm89", 5.0): [
        1.974015,
        1.974286,
        1.347324,
        1.216619,
        0.999164,
        0.662674,
        0.372404,
        0.132644,
    ],
    ("fitzpatrick99", 3.1): [
        4.014844,
        3.075883,
        1.631488,
        1.330599,
        0.977795,
        0.548834,
        0.294296,
        0.109804,
    ],
    ("fitzpatrick99", 5.0): [
        2.165645,
        2.103095,
        1.372349,
        1.206051,
        0.987119,
        0.606064,
        0.298501,
        0.107848,
    ],
}


@pytest.mark.parametrize(("law", "r_v"), PUBLISHED)
def test_published_implementation(law: str, r_v: float) -> None:
    np.testing.assert_allclose(LAWS[law](WAVELENGTHS, r_v), PUBLISHED[law, r_v], atol=2e-6)


@pytest.mark.parametrize("law", [ccm89, fitzpatrick99])
def test_continuous_and_decreasing_into_the_infrared(law) -> None:
    wavelength = np.linspace(1000.1, 33000, 200_000)
    curve = law(wavelength)
    # The steepest smooth part falls by 6e-4 a step; a wrong joint would jump.
    assert np.abs(np.diff(curve)).max() < 0.02
    red = wavelength > 5000
    assert (np.diff(curve[red]) < 0).all()
    # Fitzpatrick's curve is normalised by its colour excess: 0.978 at 5500 angstrom.
    assert curve[np.argmin(np.abs(wavelength - 5500))] == pytest.approx(1.0, abs=0.025)


def test_nan_stays_nan_and_shape_is_kept() -> None:
    found = ccm89([[5500.0, np.nan]])
    assert found.shape == (1, 2)
    assert np.isnan(found[0, 1])
    assert np.isfinite(found[0, 0])


@pytest.mark.parametrize("wavelength", [900.0, 40000.0])
def test_outside_the_range(wavelength: float) -> None:
    with pytest.raises(MelotteValueError, match="outside the range of ccm89"):
        ccm89([5500.0, wavelength])


def test_r_v_must_be_positive() -> None:
    with pytest.raises(MelotteValueError, match="r_v must be positive, found 0"):
        fitzpatrick99(5500.0, 0.0)
