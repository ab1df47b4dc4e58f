"""How fast star clusters become images: melotte, and GalSim drawing star by star.

Three bands, 80 pixels of 0.05 arcsec, M31's set-up, ages from 4 Myr to 3 Gyr, sizes as in
Bialopetravičius et al. 2019. melotte's time holds everything: drawing the stars, placing,
rendering and the noise. GalSim's holds the drawing of images alone: some stars, each by an FFT of
an image of the PSF and the pixel, in every band, as the paper did, scaled to all stars of such a
cluster that shine. Both are measured as processor time of one thread, so that other programs on the
machine count little.

Residuals are those of melotte's image of all stars of a 1e3 Msun cluster (all drawn one by one),
root mean square over the stamp and over the image's peak, from an exact Fourier sum; and of a few
stars from GalSim with the same images of the PSFs, whose own tolerances are in them.

    python benchmarks/render.py [--seconds 20] [--stars 60] [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from melotte.ragged import Ragged
from melotte.sky.cluster_light import ClusterLight
from melotte.sky.isochrones import StellarGrid
from melotte.sky.profiles import draw_eff_shapes, eff_positions
from melotte.systems.cluster_images.observing import photon_noise
from melotte.telescope.passbands import counts_per_second
from melotte.telescope.psf import SampledPSF
from melotte.telescope.rendering import ImageRenderer
from melotte.telescope.setups import M31_PHAT
from melotte.telescope.transfer_functions import effective_transfer

MASSES = (1e3, 1e4, 1e5)
SIZE = 80
AGES = torch.arange(6.6, 9.51, 0.1)
PSF_SAMPLE = 0.0125
"""Arcsec between samples of the PSFs that GalSim is given: a quarter of a pixel."""

SKY = 0.02
"""Counts/s of sky in a pixel, for the noise."""

GOALS = {1e3: 1000, 1e4: 10000, 1e5: 40000}


def light(**settings: float) -> ClusterLight:
    """Draws clusters' light at M31's metallicity."""
    metallicity = torch.tensor([M31_PHAT.metallicity])
    grid = StellarGrid.shipped(M31_PHAT.bands)
    return ClusterLight(grid, M31_PHAT.bands, AGES, metallicity, **settings)


def draw(source: ClusterLight, mass: float, n: int, generator: torch.Generator) -> Ragged:
    """Light of n clusters of random ages without dust."""
    node = torch.randint(len(AGES), (n,), generator=generator)
    nothing = torch.zeros(n)
    return source.draw(torch.full((n,), mass), node, nothing.long(), nothing, generator)


def placed(stars: Ragged, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Positions (arcsec) and fluxes (counts/s) in M31."""
    a, gamma = draw_eff_shapes(
        stars.n_sets, (0.05, 6.4), (2.05, 8.0), (0.1, 1.6), generator=generator
    )
    modulus = torch.full((len(M31_PHAT.bands),), M31_PHAT.distance_modulus)
    unit = counts_per_second(modulus, M31_PHAT.bands)
    return eff_positions(a, gamma, stars.offsets, generator), stars.values * unit


def clusters_per_second(
    source: ClusterLight, renderer: ImageRenderer, mass: float, batch: int, seconds: float
) -> tuple[float, float]:
    """Noisy images a second of processor time, and stars deposited in one on average."""
    generator = torch.Generator().manual_seed(1)
    exposure = torch.tensor(M31_PHAT.exposure)[:, None, None]
    n_stars = n_clusters = 0
    start = time.process_time()
    for turn in range(100000):
        if turn == 2:
            # Tables are built and memory is warm after two batches.
            n_stars = n_clusters = 0
            start = time.process_time()
        stars = draw(source, mass, batch, generator)
        positions, flux = placed(stars, generator)
        images = renderer.render(positions, flux, stars.offsets)
        photon_noise((images + SKY) * exposure, generator)
        n_stars += len(flux)
        n_clusters += batch
        if turn > 3 and time.process_time() - start > seconds:
            break
    return n_clusters / (time.process_time() - start), n_stars / n_clusters


def psf_images() -> list[Tensor]:
    """PSF images of 6 x 6 arcsec, one a band, as the papers gave them to GalSim."""
    n = 2 * round(3 / PSF_SAMPLE) + 1
    f = torch.arange(-800, 801, dtype=torch.float64) / 20
    x = (torch.arange(n, dtype=torch.float64) - n // 2) * PSF_SAMPLE
    phase = 2 * math.pi * x[:, None] * f
    back = torch.polar(torch.ones_like(phase), phase)
    return [
        (back @ psf.transfer(f, f).to(torch.complex128) @ back.T).real for psf in M31_PHAT.psfs()
    ]


def galsim_profiles() -> list:
    """The PSFs as GalSim has them, interpolated with its defaults."""
    import galsim

    return [
        galsim.InterpolatedImage(galsim.Image(image.numpy(), scale=PSF_SAMPLE), flux=1.0)
        for image in psf_images()
    ]


def draw_by_galsim(positions: Tensor, flux: Tensor) -> tuple[Tensor, float]:
    """Images by GalSim, star by star, and processor seconds a star."""
    profiles = galsim_profiles()
    image = torch.zeros(len(profiles), SIZE, SIZE, dtype=torch.float64)
    for profile in profiles:
        # What GalSim keeps for a profile is worked out when it first draws it.
        profile.shift(0.01, 0.0).drawImage(nx=SIZE, ny=SIZE, scale=M31_PHAT.pixel_scale)
    start = time.process_time()
    for (x, y), light_of_star in zip(positions.tolist(), flux.tolist(), strict=True):
        for band, profile in enumerate(profiles):
            star = profile.withFlux(light_of_star[band]).shift(x, y)
            drawn = star.drawImage(nx=SIZE, ny=SIZE, scale=M31_PHAT.pixel_scale).array
            image[band] += torch.from_numpy(drawn)
    return image, (time.process_time() - start) / len(positions)


def exact_images(positions: Tensor, flux: Tensor, period_arcsec: float = 24.0) -> Tensor:
    """Images by summing every star's waves, band by band, over a wide period."""
    scale = M31_PHAT.pixel_scale
    period = round(period_arcsec / scale)
    f = torch.arange(-3 * period // 2, 3 * period // 2 + 1, dtype=torch.float64) / (period * scale)
    pixels = (torch.arange(SIZE, dtype=torch.float64) - (SIZE - 1) / 2) * scale

    def waves(at: Tensor, sign: int) -> Tensor:
        phase = sign * 2 * math.pi * at.double()[:, None] * f
        return torch.polar(torch.ones_like(phase), phase)

    back = waves(pixels, 1)
    images = []
    for band, psf in enumerate(M31_PHAT.psfs()):
        spectrum = torch.zeros(len(f), len(f), dtype=torch.complex128)
        for part in torch.arange(len(positions)).split(512):
            x, y = positions[part].unbind(1)
            spectrum += waves(y, -1).T @ (flux[part, band, None].double() * waves(x, -1))
        spectrum *= effective_transfer(psf, scale, f, f)
        images.append((back @ spectrum @ back.T).real / period**2)
    return torch.stack(images)


def worst_residual(found: Tensor, expected: Tensor) -> float:
    """Largest of the bands: root mean square residual over peak."""
    rms = (found - expected).square().mean((1, 2)).sqrt()
    return float((rms / expected.amax((1, 2))).max())


def residuals(n_stars: int) -> dict[str, float]:
    """How far images of the same stars differ, in units of the peak."""
    generator = torch.Generator().manual_seed(2)
    stars = draw(light(faint_share=0.0), 1e3, 1, generator)
    positions, flux = placed(stars, generator)
    near = torch.nonzero((positions.abs() < 6).all(1))[:, 0]
    positions, flux = positions[near], flux[near]
    scale = [M31_PHAT.pixel_scale]
    everything = torch.tensor([0, len(flux)])
    found = ImageRenderer([M31_PHAT.psfs()], scale, SIZE).render(positions, flux, everything)[0]
    exact = exact_images(positions, flux)
    order = flux.sum(1).argsort(descending=True)[:n_stars]
    drawn, _ = draw_by_galsim(positions[order], flux[order])
    sampled = [SampledPSF(image, PSF_SAMPLE) for image in psf_images()]
    few = ImageRenderer([sampled], scale, SIZE).render(
        positions[order], flux[order], torch.tensor([0, len(order)])
    )[0]
    return {
        "stars": len(flux),
        "rms_over_peak_exact": worst_residual(found, exact),
        "flux_error_exact": float((found.sum((1, 2)) / exact.sum((1, 2)) - 1).abs().max()),
        "rms_over_peak_galsim": worst_residual(few, drawn),
        "flux_error_galsim": float((few.sum((1, 2)) / drawn.sum((1, 2)) - 1).abs().max()),
    }


def speeds(seconds: float, n_stars: int, say: Callable[[str], None]) -> list[dict]:
    """Clusters a second of both, at every mass."""
    generator = torch.Generator().manual_seed(3)
    stars = draw(light(faint_share=0.0), 1e3, 8, generator)
    positions, flux = placed(stars, generator)
    inside = torch.nonzero((positions.abs() < 2).all(1))[:n_stars, 0]
    _, per_star = draw_by_galsim(positions[inside], flux[inside])
    say(f"GalSim: {1e3 * per_star:.2f} ms a star in {flux.shape[1]} bands ({len(inside)} stars)")
    ways = ["torch"] + (["numba"] if importlib.util.find_spec("numba") else [])
    source = light()
    rows = []
    for mass in MASSES:
        shining = len(flux) / 8 * mass / 1e3
        galsim_rate = 1 / (per_star * shining)
        for way in ways:
            renderer = ImageRenderer(
                [M31_PHAT.psfs()],
                [M31_PHAT.pixel_scale],
                SIZE,
                deposit=way,  # pyright: ignore[reportArgumentType]
            )
            batch = 64 if mass < 1e5 else 16
            rate, drawn = clusters_per_second(source, renderer, mass, batch, seconds)
            row = {
                "mass": mass, "way": way, "clusters_per_second": rate, "stars_drawn": drawn,
                "stars_shining": shining, "galsim_clusters_per_second": galsim_rate,
                "speed_up": rate / galsim_rate,
            }  # fmt: skip
            rows.append(row)
            goal = GOALS[mass] if way == "numba" else GOALS[mass] / 2
            say(
                f"{mass:.0e} Msun, {way:5}: {rate:7.1f} clusters/s ({drawn:.0f} stars drawn of "
                f"{shining:.0f}); GalSim {galsim_rate:.3g}; {rate / galsim_rate:,.0f} times as "
                f"fast (goal {goal:,.0f})"
            )
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=20.0, help="for each rate")
    parser.add_argument("--stars", type=int, default=60, help="stars that GalSim draws")
    parser.add_argument("--quick", action="store_true", help="2 s a rate, 10 stars")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    seconds, stars = (2.0, 10) if arguments.quick else (arguments.seconds, arguments.stars)
    torch.set_num_threads(1)

    def say(line: str) -> None:
        print(line, flush=True)

    differences = residuals(min(stars, 20))
    say(
        f"same {differences['stars']:.0f} stars, worst band: rms residual over peak "
        f"{differences['rms_over_peak_exact']:.1e}, light {differences['flux_error_exact']:.1e} "
        f"from the exact sum; brightest {min(stars, 20)} from GalSim: "
        f"{differences['rms_over_peak_galsim']:.1e}, {differences['flux_error_galsim']:.1e}"
    )
    rows = speeds(seconds, stars, say)
    if arguments.json:
        content = {"residuals": differences, "speeds": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
