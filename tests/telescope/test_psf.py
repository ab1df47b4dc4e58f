"""PSFs: diffraction's laws, GalSim's optics, Hubble's empirical PSFs, images of any kind."""

from __future__ import annotations

import math
from pathlib import Path

import galsim
import pytest
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.psf_files import read_psf_grid
from melotte.telescope.passbands import passband
from melotte.telescope.psf import (
    RADIAN,
    HubblePSF,
    PSFGrid,
    SampledPSF,
    fwhm,
    light_in_square,
    pupil_autocorrelation,
)
from melotte.telescope.setups import DETECTOR_BLUR, UVIS_PIXEL

FREQUENCIES = torch.linspace(-30, 30, 31, dtype=torch.float64)


def samples_of(psf: HubblePSF | SampledPSF, n: int, scale: float, pixel: float | None) -> Tensor:
    """Values of a PSF on n x n points, per sample."""
    f = torch.linspace(-50, 50, 801, dtype=torch.float64)
    transfer = psf.transfer(f, f).to(torch.complex128)
    if pixel is not None:
        transfer = transfer * torch.sinc(f * pixel)[:, None] * torch.sinc(f * pixel)
    x = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * scale
    wave = torch.polar(torch.ones(n, len(f), dtype=torch.float64), 2 * math.pi * x[:, None] * f)
    return (wave @ transfer @ wave.T).real * (scale * float(f[1] - f[0])) ** 2


def gaussian(n: int, scale: float, sigma: float, x0: float = 0.0, y0: float = 0.0) -> Tensor:
    axis = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * scale
    x, y = (
        torch.exp(-((axis - x0) ** 2) / (2 * sigma**2)),
        torch.exp(-((axis - y0) ** 2) / (2 * sigma**2)),
    )
    return y[:, None] * x


def test_an_open_pupil_has_the_textbook_transfer_function() -> None:
    """Goodman 2005, Eq. 6-31: 2/pi (arccos u - u sqrt(1 - u^2))."""
    psf = HubblePSF(500.0, obscuration=0.0, vanes=0)
    u = torch.linspace(0, 1.2, 25, dtype=torch.float64)
    inside = u.clamp(max=1)
    expected = 2 / math.pi * (inside.acos() - inside * (1 - inside**2).sqrt())
    zero = torch.zeros(1, dtype=torch.float64)
    assert torch.allclose(psf.transfer(u * psf.cutoff, zero)[0], expected, atol=1e-4)
    assert torch.allclose(psf.transfer(zero, -u * psf.cutoff)[:, 0], expected, atol=1e-4)
    assert float(psf.cutoff) == pytest.approx(2.4 / 500e-9 / RADIAN)


@pytest.mark.parametrize("wavelength", [336.0, 814.0])
def test_an_obscured_pupil_is_that_of_galsim(wavelength: float) -> None:
    reference = galsim.Airy(lam=wavelength, diam=2.4, obscuration=0.33)
    psf = HubblePSF(wavelength, vanes=0)
    found = psf.transfer(FREQUENCIES, FREQUENCIES)
    expected = torch.tensor(
        [
            [reference.kValue(2 * math.pi * x, 2 * math.pi * y).real for x in FREQUENCIES.tolist()]
            for y in FREQUENCIES.tolist()
        ],
        dtype=torch.float64,
    )
    assert torch.allclose(found, expected, atol=1e-4)


def test_vanes_are_those_of_galsim() -> None:
    reference = galsim.OpticalPSF(
        lam=814.0, diam=2.4, obscuration=0.33, nstruts=4, strut_thick=0.05, pad_factor=2
    )
    along = HubblePSF(814.0, vane_width=0.05, vane_angle=0.0)
    turned = HubblePSF(814.0, vane_width=0.05, vane_angle=45.0)
    f = torch.linspace(-13, 13, 27, dtype=torch.float64)
    expected = torch.tensor(
        [[reference.kValue(2 * math.pi * x, 2 * math.pi * y).real for x in f] for y in f],
        dtype=torch.float64,
    )
    right = (along.transfer(f, f) - expected).abs()
    # GalSim samples the pupil coarsely; vanes at the wrong angle must still be told apart.
    assert float(right.max()) < 6e-3
    assert float((turned.transfer(f, f) - expected).square().mean()) > 10 * float(
        right.square().mean()
    )


def test_blur_is_a_gaussian() -> None:
    sharp, blurred = HubblePSF(438.0), HubblePSF(438.0, blur=0.03)
    ratio = blurred.transfer(FREQUENCIES, FREQUENCIES) / sharp.transfer(FREQUENCIES, FREQUENCIES)
    squared = FREQUENCIES[:, None] ** 2 + FREQUENCIES**2
    allowed = squared < (0.9 * sharp.cutoff) ** 2
    expected = torch.exp(-2 * math.pi**2 * 0.03**2 * squared)
    assert torch.allclose(ratio[allowed], expected[allowed], rtol=1e-10)


def test_a_table_of_a_pupil_is_symmetric_and_falls_from_one() -> None:
    table = pupil_autocorrelation(0.33, 4, 0.022, 45.0)
    n = table.shape[1] - 1
    assert float(table.max()) == table[n, 0] == 1
    assert torch.allclose(table[1:n, 0], table[n + 1 : -1, 0].flip(0), atol=1e-12)


def test_a_sampled_gaussian_keeps_its_transform_and_width() -> None:
    psf = SampledPSF(gaussian(101, 0.01, 0.04), 0.01)
    f = torch.linspace(-15, 15, 31, dtype=torch.float64)
    expected = torch.exp(-2 * math.pi**2 * 0.04**2 * (f[:, None] ** 2 + f**2))
    found = psf.transfer(f, f)
    assert torch.allclose(found.real, expected, atol=1e-6)
    assert float(found.imag.abs().max()) < 1e-12
    assert fwhm(psf) == pytest.approx(2 * math.sqrt(2 * math.log(2)) * 0.04, rel=5e-3)


def test_an_image_and_its_source_are_one_psf() -> None:
    source = HubblePSF(606.0, blur=0.02)
    scale = 0.01
    image = samples_of(source, 401, scale, None)
    psf = SampledPSF(image, scale, total=float(image.sum()))
    f = torch.linspace(-20, 20, 41, dtype=torch.float64)
    # Wings beyond the image, 1 % of the light, are missing.
    assert 0.98 < float(image.sum()) < 1
    assert torch.allclose(psf.transfer(f, f).real, source.transfer(f, f), atol=0.02)
    assert torch.allclose(psf.transfer(f, f).real[22:], source.transfer(f, f)[22:], atol=2e-3)


def test_recentring_takes_an_offset_out() -> None:
    image = gaussian(81, 0.01, 0.04, x0=0.013, y0=-0.006)
    f = torch.tensor([-7.0, 0.0, 4.0], dtype=torch.float64)
    assert float(SampledPSF(image, 0.01).transfer(f, f).imag.abs().max()) > 0.1
    assert float(SampledPSF(image, 0.01, recentre=True).transfer(f, f).imag.abs().max()) < 1e-6


def test_light_in_a_square_and_its_total() -> None:
    psf = SampledPSF(gaussian(201, 0.01, 0.05), 0.01, total=0.9)
    one_sigma = math.erf(1 / math.sqrt(2))
    assert light_in_square(psf, 0.1) == pytest.approx(0.9 * one_sigma**2, rel=2e-3)


@pytest.mark.parametrize(
    ("image", "scale", "message"),
    [
        (torch.ones(5), 0.01, "two dimensions"),
        (torch.full((5, 5), math.nan), 0.01, "NaN"),
        (-torch.ones(5, 5), 0.01, "more than 0"),
        (torch.ones(5, 5), 0.0, "above 0"),
    ],
)
def test_images_that_are_no_psf(image: Tensor, scale: float, message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        SampledPSF(image, scale)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"pivot_nm": -1.0}, "wavelength"),
        ({"pivot_nm": 500.0, "obscuration": 1.0}, "fractions"),
        ({"pivot_nm": 500.0, "vanes": 3}, "even"),
    ],
)
def test_optics_that_cannot_be(values: dict[str, float], message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        HubblePSF(**values)  # pyright: ignore[reportArgumentType]


def test_a_grid_interpolates_between_positions_but_not_across_chips() -> None:
    narrow, wide = gaussian(41, 0.01, 0.03), gaussian(41, 0.01, 0.06)
    narrow, wide = narrow / narrow.sum(), wide / wide.sum()
    images = torch.stack([narrow, wide, narrow, narrow])[:, None].expand(4, 2, 41, 41)
    grid = PSFGrid(images, (0.0, 100.0), (0.0, 50.0, 50.0, 90.0), 0.01)
    assert torch.allclose(grid.at(30, 0).image, narrow)
    assert torch.allclose(grid.at(30, 49.999).image, wide, atol=1e-5)
    assert torch.allclose(grid.at(30, 25).image, (narrow + wide) / 2, atol=1e-12)
    assert torch.allclose(grid.at(30, 50).image, narrow)
    assert torch.allclose(grid.at(100, 90).image, narrow)
    assert torch.allclose(grid.mean().image, (3 * narrow + wide) / 4)
    with pytest.raises(MelotteValueError, match=r"x = 101 .*\[0, 100\]"):
        grid.at(101, 0)


@pytest.mark.parametrize(
    ("band", "correlation", "width_error"),
    [("F336W", 0.993, 0.16), ("F438W", 0.993, 0.13), ("F814W", 0.9975, 0.05)],
)
def test_the_default_psf_is_near_hubbles(
    shared_data: Path, band: str, correlation: float, width_error: float
) -> None:
    file = read_psf_grid(shared_data / "hst" / "psf" / f"PSFSTD_WFC3UV_{band}.fits")
    grid = PSFGrid(file.images, file.x, file.y, file.scale)
    name = f"WFC3_UVIS_{band}"
    default = HubblePSF(passband(name).pivot_nm, DETECTOR_BLUR[name])
    model = samples_of(default, file.images.shape[-1], file.scale, UVIS_PIXEL)
    found = torch.corrcoef(torch.stack([model.view(-1), grid.mean().image.view(-1)]))[0, 1]
    assert float(found) > correlation
    assert fwhm(default, UVIS_PIXEL) == pytest.approx(fwhm(grid.mean()), rel=width_error)
    blurred = HubblePSF(passband(name).pivot_nm, DETECTOR_BLUR[name] + 0.015)
    worse = samples_of(blurred, file.images.shape[-1], file.scale, UVIS_PIXEL)
    far = torch.corrcoef(torch.stack([worse.view(-1), grid.mean().image.view(-1)]))[0, 1]
    assert float(far) < correlation


def test_the_default_psf_concentrates_light_as_hubbles(shared_data: Path) -> None:
    """STScI's samples sum to the light in their square over that within 5 pixels."""
    file = read_psf_grid(shared_data / "hst" / "psf" / "PSFSTD_WFC3UV_F438W.fits")
    empirical = float(file.images.double().sum((2, 3)).mean()) / 16
    psf = HubblePSF(passband("WFC3_UVIS_F438W").pivot_nm, DETECTOR_BLUR["WFC3_UVIS_F438W"])
    within_5 = light_in_square(psf, math.sqrt(math.pi) * 5 * UVIS_PIXEL, UVIS_PIXEL)
    whole = light_in_square(psf, file.images.shape[-1] * file.scale, UVIS_PIXEL)
    assert whole / within_5 == pytest.approx(empirical, abs=0.01)
