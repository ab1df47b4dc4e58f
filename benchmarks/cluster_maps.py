"""How fast globular clusters become maps, and how exactly: melotte, and GalSim star by star.

Plummer spheres of 50,000 stars with luminosities that spread over four decades, 160 x 160 pixels of
0.25 arcsec, Moffat's profile. melotte's time holds light in two bands and the map of mass, without
noise; a line of its own gives the noise of the survey. Times are processor time of one thread, so
that other programs on the machine count little; GalSim's is for one band.

Residuals are those of one smaller cluster: root mean square over the map and over its peak, and
the difference of the whole light. Once from sums of Moffat's profile over the pixels (5 x 5 Gauss
nodes in each), of all stars, those outside of the map too; and once from GalSim drawing the
brightest stars on the map, whose own tolerances are in them.

    python benchmarks/cluster_maps.py [--stars 1000] [--repeats 10] [--quick] [--json out.json]
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import math
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from melotte.ragged import Ragged
from melotte.telescope.bright_stars import brightest_stars
from melotte.telescope.cluster_maps import MapGrid, mass_map, render_light
from melotte.telescope.map_noise import apparent_flux, record
from melotte.telescope.map_smoothing import smoothed
from melotte.telescope.moffat import MoffatPSF
from melotte.telescope.panstarrs import PAN_STARRS_3PI
from melotte.telescope.projected_stars import Pointing, ProjectedStars

N_STARS = 50_000
DISTANCES = (10.0, 30.0, 100.0)
SEEINGS = (0.3, 0.5, 1.0, 2.0)
GOAL = 15.0
"""Milliseconds for light in two bands and mass."""


def clusters(n_stars: int, n: int, generator: torch.Generator) -> ProjectedStars:
    """Plummer spheres with a half-mass radius of 4 pc."""
    total = n_stars * n
    radius = 3.07 / torch.sqrt(torch.rand(total, generator=generator) ** (-2 / 3) - 1)
    direction = torch.randn(total, 3, generator=generator)
    position = direction[:, :2] / direction.norm(dim=1, keepdim=True) * radius[:, None]
    light = 10 ** (torch.randn(total, 2, generator=generator) - 2)
    rest = torch.rand(total, 2, generator=generator)
    values = torch.cat([position, light, rest], 1)
    return ProjectedStars.of(Ragged(values, torch.arange(n + 1) * n_stars))


def processor_time(call: Callable[[], object], repeats: int) -> float:
    """Milliseconds of one call, after one that warms up."""
    call()
    start = time.process_time()
    for _ in range(repeats):
        call()
    return (time.process_time() - start) / repeats * 1e3


def summed_image(stars: ProjectedStars, pointing: Pointing, grid: MapGrid) -> Tensor:
    """The first map's first band: profiles summed over nodes in every pixel."""
    nodes, weights = np.polynomial.legendre.leggauss(5)
    scale = float(pointing.pixel_scale[0])
    psf = MoffatPSF(float(pointing.psf_fwhm[0]), grid.beta)

    def axis(n: int) -> Tensor:
        middles = torch.arange(n, dtype=torch.float64) - (n - 1) / 2
        return ((middles[:, None] + torch.from_numpy(nodes) / 2) * scale).flatten()

    x, y = axis(grid.columns), axis(grid.rows)
    fine = torch.zeros(len(y), len(x), dtype=torch.float64)
    places = pointing.on_sky(stars).double() / psf.scale_radius
    x, y = x / psf.scale_radius, y / psf.scale_radius
    for (right, down), light in zip(places.tolist(), stars.luminosity[:, 0].tolist(), strict=True):
        radius = 1 + (y - down).square()[:, None] + (x - right).square()
        fine += light * radius.pow_(-grid.beta)
    weight = torch.from_numpy(weights / 2)
    fine = fine.view(grid.rows, 5, grid.columns, 5)
    density = (psf.beta - 1) / (math.pi * psf.scale_radius**2) * scale**2
    return torch.einsum("aibj,i,j->ab", fine, weight, weight) * density


def galsim_image(stars: ProjectedStars, pointing: Pointing, grid: MapGrid) -> tuple[Tensor, float]:
    """The first map's first band by GalSim, and processor milliseconds a star."""
    import galsim

    tight = galsim.GSParams(folding_threshold=1e-3, maxk_threshold=1e-4, maximum_fft_size=4096)
    profile = galsim.Moffat(beta=grid.beta, fwhm=float(pointing.psf_fwhm[0]), gsparams=tight)
    image = galsim.ImageD(grid.columns, grid.rows, scale=float(pointing.pixel_scale[0]))
    places, light = pointing.on_sky(stars).tolist(), stars.luminosity[:, 0].tolist()
    profile.drawImage(image=image.copy())
    start = time.process_time()
    for (x, y), flux in zip(places, light, strict=True):
        star = profile.withFlux(flux).shift(x, y)
        star.drawImage(image=image, add_to_image=True, center=image.true_center)
    spent = (time.process_time() - start) * 1e3 / len(places)
    return torch.from_numpy(image.array), spent


def residuals(found: Tensor, expected: Tensor) -> dict[str, float]:
    """How far an image is from what it should be."""
    difference, peak = found.double() - expected, expected.max()
    return {
        "rms_over_peak": float(difference.square().mean().sqrt() / peak),
        "largest_over_peak": float(difference.abs().max() / peak),
        "light": float(found.double().sum() / expected.sum() - 1),
    }


def accuracy(n_stars: int, n_galsim: int, say: Callable[[str], None]) -> list[dict[str, float]]:
    """Residuals for several seeings."""
    rows = []
    stars, grid = clusters(n_stars, 1, torch.Generator().manual_seed(1)), MapGrid()
    for seeing in SEEINGS:
        pointing = Pointing.of(1, 20.0, (2.0, -3.0), seeing)
        found = render_light(stars, pointing, grid)[0, 0]
        exact = residuals(found, summed_image(stars, pointing, grid))
        brightest = brightest_stars(stars, pointing, grid, n_galsim).star[0]
        few = ProjectedStars(
            stars.position[brightest],
            stars.luminosity[brightest],
            stars.mass[brightest],
            stars.velocity[brightest],
            torch.tensor([0, len(brightest)]),
        )
        drawn, spent = galsim_image(few, pointing, grid)
        theirs = residuals(render_light(few, pointing, grid)[0, 0], drawn)
        rows.append(
            {"seeing": seeing, "galsim_ms_a_star": spent, **exact}
            | {f"galsim_{name}": value for name, value in theirs.items()}
        )
        for name, one in (
            (f"sum of {n_stars} stars", exact),
            (f"GalSim's {n_galsim} stars, {spent:.1f} ms each", theirs),
        ):
            say(
                f"{seeing} arcsec, {name}: rms {one['rms_over_peak']:.1e} of the peak, at most "
                f"{one['largest_over_peak']:.1e}; light {one['light']:+.1e}"
            )
    return rows


def speed(repeats: int, galsim_ms: float, say: Callable[[str], None]) -> list[dict[str, object]]:
    """Milliseconds a mock."""
    generator = torch.Generator().manual_seed(2)
    ways = ["torch"] + (["numba"] if importlib.util.find_spec("numba") else [])
    rows: list[dict[str, object]] = []
    for distance in DISTANCES:
        for batch in (1, 8):
            stars = clusters(N_STARS, batch, generator)
            pointing = Pointing.of(batch, distance)
            for way in ways:
                grid = MapGrid(deposit=way)  # pyright: ignore[reportArgumentType]

                def both(stars=stars, pointing=pointing, grid=grid) -> None:
                    render_light(stars, pointing, grid)
                    mass_map(stars, pointing, grid)

                spent = processor_time(both, repeats) / batch
                rows.append({"distance": distance, "batch": batch, "way": way, "ms": spent})
                say(
                    f"{distance:5.0f} kpc, {batch} at once, {way:5}: {spent:5.1f} ms a mock (goal "
                    f"{GOAL:.0f}); GalSim {2 * galsim_ms * N_STARS / spent:,.0f} times as long"
                )
    pointing = Pointing.of(8, DISTANCES[-1])
    light = render_light(clusters(N_STARS, 8, generator), pointing)
    flux = apparent_flux(light, pointing.distance)
    noise = processor_time(
        lambda: record(flux, PAN_STARRS_3PI, pointing.pixel_scale, generator), repeats
    )
    smoothing = processor_time(lambda: smoothed(flux), repeats)
    say(f"noise {noise / len(light):.1f} ms a mock, smoothing {smoothing / len(light):.2f} ms")
    rows.append({"noise_ms": noise / len(light), "smoothing_ms": smoothing / len(light)})
    return rows


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description="How fast globular clusters become maps.")
    parser.add_argument("--stars", type=int, default=1000, help="of which residuals are measured")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="200 stars, 2 repeats")
    parser.add_argument("--json", type=Path, help="write the numbers here as well")
    arguments = parser.parse_args()
    n_stars, repeats = (200, 2) if arguments.quick else (arguments.stars, arguments.repeats)
    torch.set_num_threads(1)

    def say(line: str) -> None:
        print(line, flush=True)

    differences = accuracy(n_stars, n_stars // 10, say)
    rows = speed(repeats, min(row["galsim_ms_a_star"] for row in differences), say)
    if arguments.json:
        content = {"accuracy": differences, "speed": rows}
        arguments.json.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
