"""The set-ups of the camera that mocks are made with: one survey's, or many around it."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from torch import Tensor

from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.passbands import counts_per_second, passband
from melotte.telescope.psf import HubblePSF, fwhm
from melotte.telescope.setups import ImagingSetup, mosaic_blur

METALLICITY_NODES = 5
"""Metallicities that a range is sampled at."""

WIDTH_NODES = 6
"""Blurs at which the width of a star's image is measured."""


@dataclass(frozen=True)
class SetUps:
    """Set-ups, numbered.

    Parameters
    ----------
    cameras : tuple of ImagingSetup
    """

    cameras: tuple[ImagingSetup, ...]

    @classmethod
    def drawn(cls, data: DataSettings, n: int, generator: torch.Generator) -> SetUps:
        """Draw ``n`` set-ups from the ranges of the settings."""
        camera = data.camera
        low, high = camera.metallicity
        nodes = torch.linspace(low, high, METALLICITY_NODES if low < high else 1).tolist()
        cameras = []
        for _ in range(n):
            u = torch.rand(6, generator=generator).tolist()
            factor = _between(camera.exposure_factor, u[3], log=True)
            blur = _between(camera.blur, u[1])
            cameras.append(
                ImagingSetup(
                    bands=data.bands,
                    pixel_scale=_between(camera.pixel_scale, u[0]),
                    blur=tuple(blur * one for one in mosaic_blur(data.bands)),
                    exposure=tuple(factor * one for one in camera.exposure),
                    distance_modulus=_between(camera.distance_modulus, u[2]),
                    metallicity=nodes[min(int(u[4] * len(nodes)), len(nodes) - 1)],
                    read_noise=camera.read_noise,
                )
            )
        return cls(tuple(cameras))

    def __len__(self) -> int:
        return len(self.cameras)

    @cached_property
    def metallicities(self) -> Tensor:
        """Different metallicities, ascending."""
        return torch.tensor(sorted({one.metallicity for one in self.cameras}))

    @cached_property
    def metallicity_node(self) -> Tensor:
        """Which of them each set-up has, int64."""
        values = torch.tensor([one.metallicity for one in self.cameras])
        return torch.searchsorted(self.metallicities, values)

    @cached_property
    def fwhm(self) -> Tensor:
        """Full width at half maximum of each set-up's images of stars, (n, n_bands), arcsec."""
        blurs = np.array([one.blur for one in self.cameras])
        columns = [star_widths(band, blurs[:, i]) for i, band in enumerate(self.cameras[0].bands)]
        return torch.from_numpy(np.stack(columns, 1)).float()

    def tensor(self, name: str, device: torch.device) -> Tensor:
        """A number, or one a band, of every set-up."""
        values = [getattr(one, name) for one in self.cameras]
        return torch.tensor(values, dtype=torch.float32, device=device)

    def counts_of_magnitude_zero(self, device: torch.device) -> Tensor:
        """Counts/s of a star of absolute magnitude 0, (n, n_bands)."""
        rows = []
        for one in self.cameras:
            modulus = torch.full((len(one.bands),), one.distance_modulus, dtype=torch.float64)
            rows.append(counts_per_second(modulus, one.bands))
        return torch.stack(rows).float().to(device)


def star_widths(band: str, blurs: NDArray[np.float64]) -> NDArray[np.float64]:
    """Full widths at half maximum of Hubble's images of stars, arcsec.

    Parameters
    ----------
    band : str
    blurs : array, shape (n,), arcsec

    Returns
    -------
    array, shape (n,)
        Measured at up to ``WIDTH_NODES`` blurs, and between them by a cubic spline.
    """

    def measured(blur: float) -> float:
        return fwhm(HubblePSF(passband(band).pivot_nm, blur))

    if len(np.unique(blurs)) <= WIDTH_NODES:
        known = {blur: measured(blur) for blur in np.unique(blurs).tolist()}
        return np.array([known[blur] for blur in blurs.tolist()])
    nodes = np.linspace(blurs.min(), blurs.max(), WIDTH_NODES)
    return CubicSpline(nodes, [measured(blur) for blur in nodes])(blurs)


def _between(ends: tuple[float, float], u: float, log: bool = False) -> float:
    low, high = ends
    if log:
        return math.exp(math.log(low) + (math.log(high) - math.log(low)) * u)
    return low + (high - low) * u
