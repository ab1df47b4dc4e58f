"""Moffat's profile: its transform, light and width."""

from __future__ import annotations

import math

import galsim
import numpy as np
import pytest
import torch
from scipy import integrate, special

from melotte.errors import MelotteValueError
from melotte.telescope.moffat import MoffatPSF, moffat_transfer
from melotte.telescope.psf import fwhm, light_in_square


@pytest.mark.parametrize("beta", [1.5, 1.7, 2.5, 3.0, 3.5, 4.765])
def test_the_transform_is_the_bessel_form(beta: float) -> None:
    phase = torch.cat([torch.tensor([1e-4]), torch.rand(500)]).double() * 40
    nu = beta - 1
    expected = (
        2 ** (1 - nu) / math.gamma(nu) * phase**nu * torch.from_numpy(special.kv(nu, phase.numpy()))
    )
    assert torch.allclose(moffat_transfer(phase, beta), expected, atol=1e-9, rtol=0)
    assert float(moffat_transfer(torch.zeros(1), beta)) == 1


@pytest.mark.parametrize("x", [0.3, 2.0, 6.0])
def test_the_closed_form_is_the_hankel_transform_of_the_profile(x: float) -> None:
    def ring(r: float) -> float:
        return 3.0 * r * (1 + r**2) ** -2.5 * float(special.j0(x * r))

    quadrature = integrate.quad(ring, 0, 400, limit=4000)[0]
    assert float(moffat_transfer(torch.tensor(x).double())) == pytest.approx(quadrature, abs=2e-6)
    # Another slope's transform is told apart.
    assert abs(float(moffat_transfer(torch.tensor(x).double(), 3.0)) - quadrature) > 1e-3


@pytest.mark.parametrize("beta", [2.5, 3.2])
@pytest.mark.parametrize("width", [0.3, 2.0])
def test_the_profile_is_that_of_galsim(width: float, beta: float) -> None:
    tight = galsim.GSParams(kvalue_accuracy=1e-8, maxk_threshold=1e-6)
    theirs = galsim.Moffat(beta=beta, fwhm=width, gsparams=tight)
    ours = MoffatPSF(width, beta)
    assert ours.scale_radius == pytest.approx(theirs.scale_radius, rel=1e-9)
    f = torch.tensor([-0.7, 0.0, 0.4, 1.1], dtype=torch.float64) / width
    transfer = ours.transfer(f, f)
    for row, fy in enumerate(f.tolist()):
        for column, fx in enumerate(f.tolist()):
            value = theirs.kValue(2 * math.pi * fx, 2 * math.pi * fy).real
            assert float(transfer[row, column]) == pytest.approx(value, abs=1e-5)
    assert ours.light_within(theirs.half_light_radius) == pytest.approx(0.5, abs=1e-6)


def test_width_and_light_are_measured_as_set() -> None:
    psf = MoffatPSF(0.9)
    assert fwhm(psf) == pytest.approx(0.9, rel=5e-3)
    # The square holds more than its inner circle and less than its outer one.
    side = 6.0
    inside = light_in_square(psf, side)
    assert psf.light_within(side / 2) < inside < psf.light_within(side / math.sqrt(2))


def test_the_noise_area_is_the_inverse_of_the_squared_profiles_integral() -> None:
    psf = MoffatPSF(1.1, 3.0)
    r = np.linspace(0, 80, 400_001)
    a = psf.scale_radius
    profile = (psf.beta - 1) / (math.pi * a**2) * (1 + (r / a) ** 2) ** -psf.beta
    assert 1 / psf.noise_area == pytest.approx(
        float(np.trapezoid(2 * math.pi * r * profile**2, r)), rel=1e-5
    )


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"fwhm": 0.0}, "FWHM must be above 0"), ({"fwhm": 1.0, "beta": 1.2}, "at least 1.5")],
)
def test_values_out_of_range(settings: dict, message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        MoffatPSF(**settings)
