"""Centres of globular clusters from their light: how far off, and how far off they say to be.

Clusters of a library, each once at every distance, in images of several widths, 0.25 arcsec a
pixel, stars of 1 arcsec, with noise; off the middle by up to a fifth of the image. Errors are of
the distance from the true centre; "said" is the standard deviation along one axis that the centre
comes with, so that half of the distances should be below 1.18 of it.

    python benchmarks/cluster_centres.py [--library FILE] [--sizes 240 400 800] [--seed 1]
        [--quick] [--json OUT]

Without a library the small one that melotte carries is taken.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import torch

from melotte.sky.cluster_libraries import ClusterLibrary, shipped_library
from melotte.telescope.cluster_centres import centre_of_light
from melotte.telescope.cluster_maps import MapGrid, render_light
from melotte.telescope.projected_stars import Pointing, ProjectedStars

DISTANCES = (10.0, 20.0, 50.0, 100.0)
"""In kpc."""
SCALE, FWHM = 0.25, 1.0
"""Arcsec."""
NOISE = 0.05
"""In a pixel, in units of a source of magnitude 25."""
OFF = 0.2
"""Largest distance from the middle along an axis, as part of the image's width."""
EXPECTED = 5.0
"""Arcsec from a map's middle that models expect clusters within."""


def image_of(
    stars: Any, distance: float, size: int, off: Any, generator: np.random.Generator
) -> Any:
    """A cluster's image in V, its centre ``off`` arcsec from the middle."""
    position = stars.position[:, :2] + off * distance * 1000 / np.degrees(1) / 3600
    light = 10 ** (-0.4 * stars.magnitude_v)[:, None]
    drawn = ProjectedStars(
        torch.tensor(position).float(),
        torch.tensor(light).float(),
        torch.ones(len(stars)),
        torch.zeros(len(stars)),
        torch.tensor([0, len(stars)]),
    )
    pointing = Pointing.of(1, distance, psf_fwhm=FWHM, pixel_scale=SCALE)
    image = render_light(drawn, pointing, MapGrid(size, size))[0, 0].numpy()
    image = image * 10 ** (-0.4 * (5 * np.log10(100 * distance) - 25))
    return image + generator.normal(0, NOISE, image.shape)


def measured(library: Path, size: int, distance: float, seed: int) -> dict[str, float]:
    """Errors over a library's clusters, arcsec."""
    generator = np.random.default_rng([seed, size, round(distance)])
    missed, said, seconds = [], [], 0.0
    with ClusterLibrary(library) as opened:
        for run in opened.runs:
            number = int(generator.integers(len(run.times)))
            stars = opened.snapshot(run, number).projected(generator)
            off = generator.uniform(-OFF, OFF, 2) * size * SCALE
            image = image_of(stars, distance, size, off, generator)
            begun = time.perf_counter()
            found = centre_of_light(image)
            seconds += time.perf_counter() - begun
            away = np.array([found.column, found.row]) - (size - 1) / 2 - off / SCALE
            missed.append(SCALE * float(np.hypot(*away)))
            said.append(SCALE * found.error)
    far, error = np.array(missed), np.array(said)
    return {
        "n": len(far),
        "median_arcsec": float(np.median(far)),
        "quantile_84_arcsec": float(np.quantile(far, 0.84)),
        "said_median_arcsec": float(np.median(error)),
        "median_of_ratios": float(np.median(far / error)),
        "remarked_percent": 100 * float((error > EXPECTED / 2).mean()),
        "flagged_percent": 100 * float((error > EXPECTED).mean()),
        "off_unremarked_percent": 100 * float(((far > EXPECTED) & (error <= EXPECTED / 2)).mean()),
        "seconds_an_image": seconds / len(far),
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--library", type=Path, help="of 'melotte simulate clusters'")
    parser.add_argument("--sizes", type=int, nargs="+", default=[240, 400, 800], help="px")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="the smallest images alone")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    print(
        "image, px  kpc    n  missed by: median, 84 %   said   ratio  remarked  flagged  "
        "off, unremarked  s"
    )
    with ExitStack() as stack:
        library = options.library or stack.enter_context(shipped_library())
        for size in options.sizes[: 1 if options.quick else None]:
            for distance in DISTANCES:
                one = measured(library, size, distance, options.seed)
                found[f"{size} px, {distance:g} kpc"] = one
                print(
                    f"{size:9d} {distance:4.0f} {one['n']:4d} {one['median_arcsec']:17.1f} "
                    f"{one['quantile_84_arcsec']:7.1f} {one['said_median_arcsec']:6.1f} "
                    f"{one['median_of_ratios']:7.2f} {one['remarked_percent']:7.0f} % "
                    f"{one['flagged_percent']:6.0f} % {one['off_unremarked_percent']:14.0f} % "
                    f"{one['seconds_an_image']:5.2f}"
                )
                sys.stdout.flush()
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
