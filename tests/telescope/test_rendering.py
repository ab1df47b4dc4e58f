"""Rendering against GalSim and exact sums, and what any linear, shift-invariant camera must do."""

from __future__ import annotations

import math

import galsim
import numpy as np
import pytest
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.telescope.psf import PSF, HubblePSF, SampledPSF
from melotte.telescope.rendering import ImageRenderer, render_mosaic
from melotte.telescope.setups import M31_PHAT, M83_MOSAIC
from melotte.telescope.transfer_functions import (
    effective_transfer,
    good_period,
    kernel,
    kernel_sharpness,
    kernel_transform,
    least_oversampling,
    residual,
)

SCALE = 0.05


def one_cluster(
    renderer: ImageRenderer, positions: Tensor, flux: Tensor, setup: int | None = None
) -> Tensor:
    offsets = torch.tensor([0, len(positions)])
    chosen = None if setup is None else torch.tensor([setup])
    return renderer.render(positions, flux, offsets, chosen)[0]


def exact_image(positions: Tensor, flux: Tensor, psf: PSF, scale: float, size: int) -> Tensor:
    """Sum over the stars of the effective PSF, frequency by frequency, without any grid of cells.

    The period of 12 arcsec makes copies far enough for PSFs without wings.
    """
    period = round(12 / scale)
    f = torch.arange(-2 * period, 2 * period + 1, dtype=torch.float64) / (period * scale)
    transfer = effective_transfer(psf, scale, f, f).to(torch.complex128)
    x, y = positions.double().unbind(1)

    def waves(at: Tensor, sign: int) -> Tensor:
        phase = sign * 2 * math.pi * at[:, None] * f
        return torch.polar(torch.ones_like(phase), phase)

    spectrum = waves(y, -1).T @ (flux.double().view(-1, 1) * waves(x, -1)) * transfer
    pixels = (torch.arange(size, dtype=torch.float64) - (size - 1) / 2) * scale
    return (waves(pixels, 1) @ spectrum @ waves(pixels, 1).T).real / period**2


def gaussian_psf(sigma: float, scale: float = 0.01, n: int = 121, skew: float = 0.0) -> SampledPSF:
    axis = (torch.arange(n, dtype=torch.float64) - (n - 1) / 2) * scale
    x, y = axis[None, :], axis[:, None]
    core = torch.exp(-(x**2 + y**2) / (2 * sigma**2))
    ghost = torch.exp(-((x - 3 * sigma) ** 2 + (y - sigma) ** 2) / (2 * sigma**2))
    return SampledPSF(core + skew * ghost, scale)


def scattered(n: int, spread: float, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    positions = torch.randn(n, 2, generator=generator) * spread
    return positions, torch.exp(2 * torch.randn(n, 1, generator=generator))


@pytest.mark.parametrize("wavelength", [336.0, 814.0])
def test_stars_are_those_of_galsim(wavelength: float) -> None:
    """GalSim draws each star by an FFT of the analytic optics, blur and pixel."""
    stars = [(0.013, 0.007, 1.0), (-0.61, 0.44, 0.6), (1.2, -1.31, 0.4), (0.3, 0.31, 0.8)]
    blur = 0.028
    tight = galsim.GSParams(folding_threshold=2e-3, maxk_threshold=1e-4, kvalue_accuracy=1e-6)
    optics = galsim.Airy(lam=wavelength, diam=2.4, obscuration=0.33)
    profile = galsim.Convolve(optics, galsim.Gaussian(sigma=blur), gsparams=tight)
    expected = np.zeros((80, 80))
    for x, y, flux in stars:
        star = profile.withFlux(flux).shift(x, y)
        expected += star.drawImage(nx=80, ny=80, scale=SCALE).array
    renderer = ImageRenderer([[HubblePSF(wavelength, blur, vanes=0)]], [SCALE], 80)
    table = torch.tensor(stars)
    found = one_cluster(renderer, table[:, :2], table[:, 2:])[0].double().numpy()
    rms = math.sqrt(((found - expected) ** 2).mean())
    assert rms < 1e-4 * expected.max()
    assert np.abs(found - expected).max() < 1e-3 * expected.max()
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-3)


def test_a_cluster_under_real_optics_is_that_of_galsim(generator: torch.Generator) -> None:
    """With vanes GalSim samples the pupil, which is its own error here."""
    positions, flux = scattered(4, 0.3, generator)
    optics = galsim.OpticalPSF(
        lam=438.0, diam=2.4, obscuration=0.33, nstruts=4, strut_thick=0.05, pad_factor=2
    )
    little_folding = galsim.GSParams(folding_threshold=2e-3)
    profile = galsim.Convolve(optics, galsim.Gaussian(sigma=0.028), gsparams=little_folding)
    expected = np.zeros((80, 80))
    for (x, y), (star,) in zip(positions.tolist(), flux.tolist(), strict=True):
        drawn = profile.withFlux(star).shift(x, y)
        expected += drawn.drawImage(nx=80, ny=80, scale=SCALE).array
    psf = HubblePSF(438.0, 0.028, vane_width=0.05, vane_angle=0.0)
    found = one_cluster(ImageRenderer([[psf]], [SCALE], 80), positions, flux)[0].double().numpy()
    assert math.sqrt(((found - expected) ** 2).mean()) < 1e-3 * expected.max()
    assert found.sum() == pytest.approx(expected.sum(), rel=1e-3)


@pytest.mark.parametrize("skew", [0.0, 0.3])
def test_images_are_exact_sums_of_stars(skew: float, generator: torch.Generator) -> None:
    """A PSF that ends within the field has no wings to lose: only the grid's residual is left."""
    psf = gaussian_psf(0.05, skew=skew)
    positions, flux = scattered(200, 0.6, generator)
    expected = exact_image(positions, flux, psf, SCALE, 64)
    found = one_cluster(ImageRenderer([[psf]], [SCALE], 64), positions, flux)[0]
    assert float((found - expected).square().mean().sqrt()) < 1e-5 * float(expected.max())
    mirrored = one_cluster(ImageRenderer([[psf]], [SCALE], 64), -positions, flux)[0].flip(0, 1)
    symmetric = bool(torch.allclose(mirrored, found, atol=1e-4 * float(found.max())))
    assert symmetric == (skew == 0)


@pytest.mark.parametrize("setup", [M31_PHAT, M83_MOSAIC], ids=["M31", "M83"])
def test_default_setups_leave_the_stated_residual(setup, generator: torch.Generator) -> None:
    positions, flux = scattered(100, 0.3, generator)
    for psf in setup.psfs():
        expected = exact_image(positions, flux, psf, setup.pixel_scale, 64)
        renderer = ImageRenderer([[psf]], [setup.pixel_scale], 64)
        found = one_cluster(renderer, positions, flux)[0]
        assert float((found - expected).square().mean().sqrt()) < 1e-5 * float(expected.max())
        assert float(found.sum()) == pytest.approx(float(expected.sum()), rel=5e-4)


def test_a_grid_too_coarse_is_noticed() -> None:
    """Unblurred near-ultraviolet optics hold frequencies that two cells a pixel cannot."""
    sharp, soft = HubblePSF(275.0, 0.0), HubblePSF(275.0, 0.03)
    assert least_oversampling(soft, SCALE) == 2
    assert least_oversampling(sharp, SCALE) == 4
    assert residual(sharp, SCALE, 2) > 30 * residual(soft, SCALE, 2)
    position, flux = torch.tensor([[0.011, 0.017]]), torch.ones(1, 1)
    expected = exact_image(position, flux, sharp, SCALE, 40)
    errors = [
        float(
            (one_cluster(ImageRenderer([[sharp]], [SCALE], 40, None, cells), position, flux)[0])
            .sub(expected).abs().max()
        )
        for cells in (2, 4)
    ]  # fmt: skip
    assert errors[0] > 5 * errors[1]


def test_light_is_conserved_and_stands_where_the_star_is(generator: torch.Generator) -> None:
    renderer = ImageRenderer([[gaussian_psf(0.06)]], [SCALE], 41)
    pixels = (torch.arange(41) - 20.0) * SCALE
    for x, y in (torch.rand(6, 2, generator=generator) - 0.5).tolist():
        image = one_cluster(renderer, torch.tensor([[x, y]]), torch.tensor([[3.0]]))[0]
        assert float(image.sum()) == pytest.approx(3.0, rel=2e-4)
        assert float((image.sum(0) * pixels).sum() / 3) == pytest.approx(x, abs=1e-4)
        assert float((image.sum(1) * pixels).sum() / 3) == pytest.approx(y, abs=1e-4)


def test_no_light_comes_back_from_the_other_side() -> None:
    """The wings that leave one edge of the periodic field must not enter by the other."""
    psf = HubblePSF(814.0, 0.02)
    bright = torch.tensor([[0.0, 0.0]])
    found = one_cluster(ImageRenderer([[psf]], [SCALE], 80), bright, torch.ones(1, 1))[0]
    wide = one_cluster(ImageRenderer([[psf]], [SCALE], 80, 320), bright, torch.ones(1, 1))[0]
    assert float(found.sum()) == pytest.approx(float(wide.sum()), abs=2e-4)
    naive = one_cluster(ImageRenderer([[psf]], [SCALE], 80, 80), bright, torch.ones(1, 1))[0]
    assert float((naive - wide).abs().max()) < 1e-4 * float(wide.max())


def test_stars_outside_the_stamp_shed_their_wings_into_it() -> None:
    psf = HubblePSF(814.0, 0.02)
    near, far = torch.tensor([[2.2, 0.0]]), torch.tensor([[3.4, 0.0]])
    renderer = ImageRenderer([[psf]], [SCALE], 80)
    found = one_cluster(renderer, near, torch.ones(1, 1))[0]
    wide = one_cluster(ImageRenderer([[psf]], [SCALE], 80, 320), near, torch.ones(1, 1))[0]
    assert float(found.sum()) == pytest.approx(float(wide.sum()), rel=0.05)
    assert float(found.sum()) > 0.005
    assert float(one_cluster(renderer, far, torch.ones(1, 1)).abs().max()) == 0


def test_each_cluster_has_its_own_stars_bands_and_setup(generator: torch.Generator) -> None:
    psfs = [[gaussian_psf(s), gaussian_psf(1.5 * s)] for s in (0.04, 0.06, 0.09)]
    scales = [0.05, 0.04, 0.06]
    renderer = ImageRenderer(psfs, scales, 32, clusters_at_once=2)
    counts = torch.tensor([3, 0, 50, 1, 20])
    setup = torch.tensor([2, 0, 1, 2, 0])
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), counts.cumsum(0)])
    positions = torch.randn(int(counts.sum()), 2, generator=generator)
    flux = torch.rand(len(positions), 2, generator=generator)
    images = renderer.render(positions, flux, offsets, setup)
    assert images.shape == (5, 2, 32, 32)
    assert images.dtype == torch.float32
    assert float(images[1].abs().max()) == 0
    for i, number in enumerate(setup.tolist()):
        part = slice(int(offsets[i]), int(offsets[i + 1]))
        for band in range(2):
            alone = ImageRenderer([[psfs[number][band]]], [scales[number]], 32)
            single = one_cluster(alone, positions[part], flux[part, band, None])[0]
            assert torch.allclose(images[i, band], single, atol=1e-6)


def test_compiled_loops_give_the_same_images(generator: torch.Generator) -> None:
    pytest.importorskip("numba", reason="needs the extra fast")
    psfs = [[gaussian_psf(0.05), gaussian_psf(0.07)]]
    positions = torch.randn(500, 2, generator=generator)
    flux = torch.rand(500, 2, generator=generator)
    offsets = torch.tensor([0, 200, 200, 500])
    images = [
        ImageRenderer(psfs, [SCALE], 48, deposit=by).render(positions, flux, offsets)
        for by in ("torch", "numba")
    ]
    assert torch.allclose(*images, atol=2e-6 * float(images[0].max()))


def test_tables_are_built_for_asked_setups_alone() -> None:
    renderer = ImageRenderer([[gaussian_psf(0.05)], [gaussian_psf(0.07)]], [0.05, 0.05], 32)
    star = torch.zeros(1, 2), torch.ones(1, 1)
    second = one_cluster(renderer, *star, setup=1)
    assert float(renderer.transfer_tables(torch.tensor([1])).abs().max()) > 0
    assert renderer.tables_built == {1}
    assert torch.equal(second, one_cluster(renderer, *star, setup=1))
    assert float(one_cluster(renderer, *star).max()) > float(second.max())


def test_an_effective_psf_is_not_convolved_again() -> None:
    image = gaussian_psf(0.05).image
    star = torch.zeros(1, 2), torch.ones(1, 1)
    peaks = [
        float(one_cluster(ImageRenderer([[SampledPSF(image, 0.01, effective)]], [0.05], 31), *star)
              .max())
        for effective in (False, True)
    ]  # fmt: skip
    assert peaks[1] > 1.05 * peaks[0]
    assert peaks[1] == pytest.approx(0.05**2 / (2 * math.pi * 0.05**2), rel=1e-3)


def test_a_mosaic_has_no_seams(generator: torch.Generator) -> None:
    psfs = [gaussian_psf(0.08), HubblePSF(606.0, 0.03)]
    positions = torch.rand(300, 2, generator=generator) * torch.tensor([110.0, 70.0]) - 5
    flux = torch.rand(300, 2, generator=generator)
    whole = render_mosaic(positions, flux, psfs, SCALE, (60, 100), margin=60)
    tiled = render_mosaic(positions, flux, psfs, SCALE, (60, 100), tile=32, margin=60)
    assert whole.shape == (2, 60, 100)
    assert torch.allclose(whole[0], tiled[0], atol=2e-5 * float(whole[0].max()))
    assert torch.allclose(whole[1], tiled[1], atol=2e-4 * float(whole[1].max()))
    one = render_mosaic(torch.tensor([[40.0, 10.0]]), torch.ones(1, 1), psfs[:1], SCALE, (60, 100))
    assert divmod(int(one[0].argmax()), 100) == (10, 40)


def test_the_kernels_transform_is_that_of_its_samples() -> None:
    fine = torch.linspace(-3, 3, 60001, dtype=torch.float64)
    frequency = torch.tensor([0.0, 0.1, 0.37, 0.5], dtype=torch.float64)
    sharpness = kernel_sharpness(2)
    waves = torch.cos(2 * math.pi * frequency[:, None] * fine)
    expected = (waves * kernel(fine, sharpness)).sum(1) * 1e-4
    assert torch.allclose(kernel_transform(frequency, sharpness), expected, atol=1e-6)


@pytest.mark.parametrize(("least", "period"), [(128, 128), (112, 120), (81, 90), (7, 8)])
def test_good_periods(least: int, period: int) -> None:
    assert good_period(least) == period


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"psfs": []}, "same set-ups"),
        ({"pixel_scales": [0.05, 0.04]}, "found 1 and 2"),
        ({"psfs": [[]]}, "each of the same bands"),
        ({"pixel_scales": [0.0]}, "above 0"),
        ({"period": 20}, "at least the stamp's 32"),
        ({"oversampling": 1}, "2 or more"),
        ({"deposit": "fast"}, "'torch' or 'numba', found 'fast'"),
        ({"deposit": "numba", "device": "meta"}, "works on a CPU"),
    ],
)
def test_settings_that_do_not_fit(settings: dict, message: str) -> None:
    given = {"psfs": [[gaussian_psf(0.05)]], "pixel_scales": [0.05], "size": 32} | settings
    with pytest.raises(MelotteValueError, match=message):
        ImageRenderer(**given)


def test_stars_that_do_not_fit() -> None:
    renderer = ImageRenderer([[gaussian_psf(0.05)]], [0.05], 32)
    with pytest.raises(MelotteValueError, match=r"\(n_stars, 1\) do not agree"):
        renderer.render(torch.zeros(3, 2), torch.ones(3, 2), torch.tensor([0, 3]))
    with pytest.raises(MelotteValueError, match="as many set-ups"):
        renderer.render(
            torch.zeros(3, 2), torch.ones(3, 1), torch.tensor([0, 3]), torch.tensor([0, 0])
        )
