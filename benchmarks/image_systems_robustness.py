"""What changes when clusters are seen otherwise: shifted, turned, through another PSF."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from image_systems_measures import change_rows
from image_systems_methods import Method, read_all
from image_systems_mocks import CLUSTERS, TestGround, sizes, with_image
from scipy import ndimage
from torch import Tensor

from melotte.io.psf_files import UVIS_PIXEL
from melotte.systems.base import Batch
from melotte.telescope.passbands import passband
from melotte.telescope.psf import PSF, HubblePSF, SampledPSF, fwhm
from melotte.telescope.setups import mosaic_blur

SHIFTS = ((1, 0), (2, 1), (4, 0))
"""Columns and rows, pixels."""
TURNS = (90.0, 45.0)
CORNER_BLUR = 1.25
"""Blur of a corner's stars over the default's, where no file gives them."""


def robustness(
    ground: TestGround, methods: Sequence[Method], n: int, psf_files: Sequence[Path] = ()
) -> dict[str, dict[str, Any]]:
    """Changes of every method's estimates, by case.

    Shifts move the cluster in front of the same field; turns turn the recorded picture (45
    degrees by cubic interpolation, which smooths the noise a little). In the cases of another
    PSF only the clusters change, as in Paper I; ``told`` says its width to networks that read it.

    Parameters
    ----------
    ground : TestGround
    methods : sequence of Method
    n : int
        Clusters.
    psf_files : sequence of Path
        FITS grids or images, one a band, of the PSF to test; a blurred one without.
    """
    truth, plain = read_all(methods, ground.clusters(n), ground.seed, keep_samples=False)
    psfs = tested_psfs(ground, psf_files)
    widths = torch.tensor([width_without_pixel(psf) for psf in psfs])
    other = ground.with_psfs(psfs)

    def told(batch: Batch) -> Batch:
        data = dict(batch.observation.data)
        known = data["fwhm"]
        assert isinstance(known, Tensor)
        data["fwhm"] = widths.to(known).expand_as(known)
        return replace(batch, observation=replace(batch.observation, data=data))

    cases: dict[str, tuple[Iterator[Batch], Callable[[Batch], Batch] | None]] = {
        f"shift {dx},{dy} px": (moved(ground, n, dx, dy), None) for dx, dy in SHIFTS
    }
    for angle in TURNS:

        def turn(batch: Batch, angle: float = angle) -> Batch:
            return with_image(batch, turned(batch.observation.data["image"], angle))  # type: ignore

        cases[f"turn {angle:g} deg"] = (ground.clusters(n), turn)
    cases["other PSF"] = (other.clusters(n), None)
    cases["other PSF, told"] = (other.clusters(n), told)
    found: dict[str, dict[str, Any]] = {}
    for name, (batches, change) in cases.items():
        _, readings = read_all(methods, batches, ground.seed, change, keep_samples=False)
        found[name] = {
            key: change_rows(truth, plain[key], reading, methods[0].parameters)
            for key, reading in readings.items()
        }
    return found


def moved(ground: TestGround, n: int, dx: int, dy: int) -> Iterator[Batch]:
    """The same clusters moved by whole pixels in front of the same fields."""
    for number, size in enumerate(sizes(n)):
        scenes = ground.simulator.draw(size, ground.generator(CLUSTERS, number))
        image = torch.roll(scenes.image, (dy, dx), (-2, -1))
        yield ground.record(replace(scenes, image=image), number)


def turned(image: Tensor, angle: float) -> Tensor:
    """Pictures (n, n_bands, n_rows, n_columns) turned around their centres, degrees."""
    quarters = angle / 90
    if quarters == round(quarters):
        return torch.rot90(image, int(quarters), (-2, -1))
    rotated = ndimage.rotate(
        image.cpu().numpy(), angle, axes=(-2, -1), reshape=False, order=3, mode="reflect"
    )
    return torch.from_numpy(np.ascontiguousarray(rotated)).to(image)


def tested_psfs(ground: TestGround, files: Sequence[Path]) -> list[PSF]:
    """PSFs of a detector's corner: from files, or Hubble's with more blur."""
    bands = ground.simulator.data.bands
    if not files:
        blurs = mosaic_blur(bands)
        return [
            HubblePSF(passband(band).pivot_nm, CORNER_BLUR * blur)
            for band, blur in zip(bands, blurs, strict=True)
        ]
    if len(files) != len(bands):
        raise SystemExit(f"--psf: needs {len(bands)} files, one a band ({', '.join(bands)})")
    return [_read(path) for path in files]


def width_without_pixel(psf: PSF) -> float:
    """Full width at half maximum of the optics, arcsec, as set-ups give it.

    An effective PSF's pixel is taken out in quadrature, as a Gaussian of the pixel's variance.
    """
    width = fwhm(psf)
    if not psf.includes_pixel:
        return width
    return math.sqrt(max(width**2 - 8 * math.log(2) * UVIS_PIXEL**2 / 12, 0.25 * width**2))


def _read(path: Path) -> PSF:
    from melotte.errors import MelotteError
    from melotte.io.psf_files import read_psf_grid, read_psf_image

    try:
        grid = read_psf_grid(path)
    except MelotteError:
        one = read_psf_image(path)
        return SampledPSF(one.image, one.scale, includes_pixel=False)
    # The first of the grid is that of a corner of the chip.
    return SampledPSF(grid.images[0, 0].double(), grid.scale, includes_pixel=True)
