"""Maps of velocity dispersions."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.dispersion_maps import Spectrograph, dispersion_map
from melotte.telescope.measured_dispersions import squared_error
from melotte.telescope.projected_stars import Pointing, ProjectedStars

GRID = MapGrid(32, 32)
BINS = Spectrograph(bin_pixels=16)


def even_field(
    n: int, n_maps: int, sigma: float, generator: torch.Generator, spread: float = 0.0
) -> ProjectedStars:
    """Stars evenly over the map, of luminosities with a log-normal spread (dex)."""
    sets = []
    for _ in range(n_maps):
        rows = torch.empty(n, 5)
        rows[:, :2] = (torch.rand(n, 2, generator=generator) - 0.5) * 12
        rows[:, 2] = 10 ** (spread * torch.randn(n, generator=generator))
        rows[:, 3] = 1
        rows[:, 4] = sigma * torch.randn(n, generator=generator)
        sets.append(rows)
    return ProjectedStars.of(Ragged.pack(sets))


def test_the_dispersion_of_many_stars_is_recovered(generator: torch.Generator) -> None:
    stars = even_field(40_000, 1, 7.0, generator)
    found = dispersion_map(stars, Pointing.of(1, 206.265), BINS, GRID)
    assert found.dispersion.shape == (1, 2, 2)
    assert torch.allclose(found.dispersion, torch.full((1, 2, 2), 7.0), rtol=0.03)
    assert float(found.velocity.abs().max()) < 0.3


@pytest.mark.parametrize("spread", [0.0, 0.6])
def test_the_sampling_error_bounds_the_scatter_between_clusters(
    spread: float, generator: torch.Generator
) -> None:
    stars = even_field(400, 150, 7.0, generator, spread)
    found = dispersion_map(stars, Pointing.of(150, 206.265, psf_fwhm=0.5), BINS, GRID)
    scatter, stated = float(found.dispersion.std()), float(found.sampling_error.mean())
    assert scatter < 1.05 * stated < 1.5 * scatter
    # Were all stars to count alike, an error from their number would hide the scatter.
    n = 400 * (16 * 0.25 / 12) ** 2
    assert spread == 0 or 7 / (2 * n) ** 0.5 < 0.8 * scatter


def test_one_giant_decides_a_bin(generator: torch.Generator) -> None:
    stars = even_field(2000, 1, 7.0, generator)
    light = stars.luminosity.clone()
    light[0] = 1e5
    giant = dispersion_map(stars.with_luminosity(light), Pointing.of(1, 206.265), BINS, GRID)
    assert float(giant.effective_stars.min()) < 1.5
    assert float(giant.dispersion.min()) < 2


def test_the_seeing_mixes_the_velocities_of_neighbours() -> None:
    rows = torch.tensor([[-0.6, 0.0, 1.0, 1.0, -10.0], [0.6, 0.0, 1.0, 1.0, 10.0]])
    stars = ProjectedStars.of(Ragged.pack([rows]))
    widths = (0.3, 2.0)
    found = [
        dispersion_map(stars, Pointing.of(1, 206.265, psf_fwhm=width), BINS, GRID).dispersion
        for width in widths
    ]
    # Exactly: with a share s of light across, sigma is 10 times 2 sqrt(s (1 - s)).
    assert float(found[1].mean()) > 2 * float(found[0].mean())
    assert float(found[1].max()) < 10


def test_measured_dispersions_scatter_as_stated(generator: torch.Generator) -> None:
    stars = even_field(3000, 1, 7.0, generator)
    bright = Spectrograph(bin_pixels=16, sky_brightness=18.5)
    found = dispersion_map(stars, Pointing.of(1, 206.265), bright, GRID)
    draws = [found.measured(generator) for _ in range(400)]
    values = torch.stack([one.dispersion for one in draws])
    assert torch.allclose(values.mean(0), found.dispersion, rtol=0.05)
    assert torch.allclose(values.std(0), found.measurement_error, rtol=0.15)
    assert bool((found.error >= found.sampling_error).all())
    # What is told scatters with what was measured, about what is true.
    told = torch.stack([squared_error(one.dispersion, one.error) for one in draws])
    true = 2 * found.dispersion * found.measurement_error
    assert torch.allclose(told.median(0).values, true, rtol=0.1)
    assert float(torch.corrcoef(torch.stack([values[:, 0, 0, 0], told[:, 0, 0, 0]]))[0, 1]) > 0.99


def test_lines_that_are_not_resolved_have_errors_that_tell_no_dispersion(
    generator: torch.Generator,
) -> None:
    seen = []
    for sigma in (0.1, 1.0):
        stars = even_field(2000, 40, sigma, generator)
        found = dispersion_map(stars, Pointing.of(40, 206.265), BINS, GRID).measured(generator)
        assert bool((found.dispersion > 0).all() & found.error.isfinite().all())
        seen.append(squared_error(found.dispersion, found.error).median())
    assert float(seen[1] / seen[0]) == pytest.approx(1, abs=0.1)


def test_a_line_ten_times_as_narrow_is_measured_better_with_finer_pixels(
    generator: torch.Generator,
) -> None:
    stars = even_field(2000, 2, 3.0, generator)
    both = Spectrograph(line_spread=torch.tensor([50.0, 5.0]), sky_brightness=30.0)
    same = stars.select(torch.tensor([0, 0]))
    found = dispersion_map(same, Pointing.of(2, 206.265), both, GRID)
    ratio = found.signal_to_noise[0] / found.signal_to_noise[1]
    assert float(ratio.mean()) == pytest.approx(10**0.5, rel=1e-4)
    errors = found.width_error[0] / found.width_error[1]
    assert float(errors.mean()) == pytest.approx(10**0.5, rel=1e-4)


def test_faint_bins_are_joined_and_share_their_spectrum(generator: torch.Generator) -> None:
    stars = even_field(2000, 1, 7.0, generator)
    pointing, grid = Pointing.of(1, 206.265), MapGrid(64, 64)
    alone = dispersion_map(stars, pointing, BINS, grid)
    lit = alone.dispersion.isfinite()
    assert int(lit.sum()) > 4
    least = 0.999 * float(alone.signal_to_noise[lit].quantile(0.4))
    joining = Spectrograph(bin_pixels=16, least_signal=least)
    found = dispersion_map(stars, pointing, joining, grid)
    seen = found.dispersion.isfinite()
    assert bool((found.signal_to_noise[seen] >= least).all())
    kept = alone.signal_to_noise >= least
    torch.testing.assert_close(found.dispersion[kept], alone.dispersion[kept])
    shared = found.spectrum[seen & ~kept]
    assert len(shared) > len(shared.unique())
    measured = found.measured(generator).dispersion
    for number in found.spectrum[seen].unique().tolist():
        assert len(measured[seen & (found.spectrum == number)].unique()) == 1


def test_signal_to_noise_is_that_of_counted_electrons() -> None:
    one = Spectrograph(zero_point=20.0, exposure=100.0, sky_brightness=21.0)
    # A source of magnitude 17 gives 10^1.2 electrons/s, an arcsec^2 of sky 10^-0.4.
    found = one.signal_to_noise(torch.tensor(10 ** (0.4 * 8)), torch.tensor(2.0))
    signal, sky = 100 * 10**1.2, 100 * 2 * 10**-0.4
    assert float(found) == pytest.approx(signal / (signal + sky) ** 0.5, rel=1e-5)


def test_bins_without_light_have_no_value(generator: torch.Generator) -> None:
    none = ProjectedStars.of(Ragged.pack([torch.empty(0, 5)]))
    found = dispersion_map(none, Pointing.of(1, 30.0), BINS, GRID)
    assert bool(found.dispersion.isnan().all())
    measured = found.measured(generator)
    assert bool(measured.dispersion.isnan().all() & measured.error.isnan().all())


def test_settings_that_do_not_fit(generator: torch.Generator) -> None:
    stars = even_field(5, 1, 7.0, generator)
    with pytest.raises(MelotteValueError, match="bins of 64 pixels do not fit"):
        dispersion_map(stars, Pointing.of(1, 30.0), Spectrograph(bin_pixels=64), GRID)
    with pytest.raises(MelotteValueError, match="exposure must be above 0, found 0"):
        Spectrograph(exposure=torch.tensor([10.0, 0.0]))
    with pytest.raises(MelotteValueError, match="line_spread"):
        Spectrograph(line_spread=-1.0)
    with pytest.raises(MelotteValueError, match="least_signal"):
        Spectrograph(least_signal=-1.0)
