"""Does a fit look like the image? Clusters simulated from the posterior, as the camera saw it.

Posterior samples are drawn as stars anew and rendered with the object's own set-up. Their mean is
what the posterior predicts; what is left of the observed image is measured in the background's
scatter. Its squares and the flux, compared with those of replicated images, give a p-value
(posterior predictive checks: Gelman, Meng & Stern 1996, Statistica Sinica 6, 733).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.sky.profiles import draw_eff_shapes_of_size
from melotte.systems.base import Observation
from melotte.systems.cluster_images.preparation import (
    background_of,
    border_pixels,
    distance_from_centre,
)
from melotte.systems.cluster_images.scenes import SceneSimulator
from melotte.systems.cluster_images.set_ups import SetUps, star_widths
from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.setups import ImagingSetup, mosaic_blur

DRAWS = 128
"""Posterior samples that are simulated."""
LEAST_RADIUS, RADII = 4.0, 3.0
"""The fit is judged within this many px, or half-number radii where that is more."""
_BLURS = np.linspace(0.3, 2.7, 7)


@dataclass(frozen=True)
class PredictedImages:
    """What a posterior predicts of one image, beside the image.

    Parameters
    ----------
    observed : Tensor, shape (n_bands, n_rows, n_columns), counts/s
        Above the background; NaN where unknown.
    noise : Tensor, shape (n_bands,), counts/s
        Scatter of the background in a pixel.
    draws : Tensor, shape (n_draws, n_bands, n_rows, n_columns), counts/s
        Noiseless clusters, each of one posterior sample.
    radius : float, px
        Within which the fit is judged.
    chi_square : tuple of float, one a band
        Mean squared residual within the radius over its expected variance: that of the
        background, of photons and of the draws. NaN for a band without pixels.
    p : float, in (0, 1]
        Share of replicated images whose most deviant statistic (flux and chi_square within the
        radius, in each band) deviates at least as much. NaN where nothing can be judged.
    worst : str
        The most deviant statistic, such as ``"flux WFC3_UVIS_F336W"``.
    """

    observed: Tensor
    noise: Tensor
    draws: Tensor
    radius: float
    chi_square: tuple[float, ...]
    p: float
    worst: str

    @property
    def mean(self) -> Tensor:
        """The prediction, (n_bands, n_rows, n_columns), counts/s."""
        return self.draws.mean(0)

    @property
    def residual(self) -> Tensor:
        """Observed less predicted in scatters of the background; NaN where unknown."""
        return (self.observed - self.mean) / self.noise[:, None, None]


def set_up_of(observation: Observation, data: DataSettings) -> ImagingSetup:
    """The set-up that an object was imaged with, as its header or the user says.

    Parameters
    ----------
    observation : Observation
        One object.
    data : DataSettings
    """
    values: dict[str, Tensor] = {
        name: torch.as_tensor(observation.data[name])
        for name in ("fwhm", "exposure", "pixel_scale", "distance_modulus", "metallicity")
    }
    if len(observation) != 1:
        raise MelotteValueError(f"a set-up is that of one object, found {len(observation)}")
    widths = values["fwhm"][0].tolist()
    low, high = data.camera.metallicity
    return ImagingSetup(
        bands=data.bands,
        pixel_scale=round(float(values["pixel_scale"][0]), 6),
        blur=tuple(
            blur_of_width(band, width) for band, width in zip(data.bands, widths, strict=True)
        ),
        exposure=tuple(round(time, 3) for time in values["exposure"][0].tolist()),
        distance_modulus=round(float(values["distance_modulus"][0]), 4),
        metallicity=min(max(round(float(values["metallicity"][0]), 3), low), high),
        read_noise=data.camera.read_noise,
    )


def blur_of_width(band: str, width: float) -> float:
    """Blur (arcsec) that gives Hubble's images of stars this FWHM (arcsec) in a band.

    Widths beyond those of 0.3 to 2.7 times the usual blur are held at these ends.
    """
    blurs, widths = _widths_of(band)
    return round(float(np.interp(width, widths, blurs)), 5)


@lru_cache(maxsize=16)
def _widths_of(band: str) -> tuple[np.ndarray, np.ndarray]:
    blurs = _BLURS * mosaic_blur((band,))[0]
    return blurs, np.maximum.accumulate(star_widths(band, blurs))


class ImagePredictor:
    """Simulates clusters of given parameters as objects were imaged; keeps what it built.

    Parameters
    ----------
    data : DataSettings
    names : sequence of str
        Parameters, in the order of the samples.
    """

    def __init__(self, data: DataSettings, names: Sequence[str]) -> None:
        self.data = data
        self.names = tuple(names)
        self._scenes: dict[ImagingSetup, SceneSimulator] = {}

    def simulate(
        self, observation: Observation, samples: Tensor, generator: torch.Generator
    ) -> Tensor:
        """Noiseless images of clusters with the parameters of samples.

        Parameters
        ----------
        observation : Observation
            One object: says how it was imaged.
        samples : Tensor, shape (n_draws, n_parameters), physical units
        generator : torch.Generator, on the CPU

        Returns
        -------
        Tensor, shape (n_draws, n_bands, size, size), counts/s
        """
        scenes = self._scenes_of(set_up_of(observation, self.data))
        clusters = self.data.clusters
        theta = samples.float().cpu()
        radius = theta[:, self.names.index("half_number_radius")]
        low, high = clusters.half_number_radius
        a, gamma = draw_eff_shapes_of_size(
            radius.clamp(low, high), clusters.scale_radius, clusters.gamma, generator
        )
        set_up = torch.zeros(len(theta), dtype=torch.int64)
        stars = scenes.of_parameters(theta, torch.stack([a, gamma], 1), set_up, generator)
        return scenes.render(stars, set_up, generator)

    def predict(
        self, observation: Observation, samples: Tensor, generator: torch.Generator
    ) -> PredictedImages:
        """What a posterior predicts of one image, and how well that fits.

        Parameters
        ----------
        observation : Observation
            One object.
        samples : Tensor, shape (n_samples, n_parameters), physical units
            Of its posterior; up to ``DRAWS`` are simulated.
        generator : torch.Generator, on the CPU
        """
        finite = samples[torch.isfinite(samples).all(1)]
        if len(finite) < 8:
            raise MelotteValueError(f"{len(finite)} finite samples are too few to predict from")
        chosen = torch.randperm(len(finite), generator=generator)[:DRAWS]
        draws = self.simulate(observation, finite[chosen], generator)
        image = torch.as_tensor(observation.data["image"])[:1].float().cpu()
        level, noise = background_of(image)
        observed = image[0] - level[0, :, None, None]
        exposure = torch.as_tensor(observation.data["exposure"])[0].float().cpu()
        width = float(finite[:, self.names.index("half_number_radius")].median())
        scale = float(torch.as_tensor(observation.data["pixel_scale"])[0])
        radius = min(max(RADII * width / scale, LEAST_RADIUS), image.shape[-1] / 2)
        judged = _judged(observed, noise[0], exposure, draws, radius, generator)
        kind, _, band = judged.worst.partition(" ")
        return PredictedImages(
            observed=observed,
            noise=noise[0],
            draws=draws,
            radius=radius,
            chi_square=judged.chi_square,
            p=judged.p,
            worst=f"{kind} {self.data.bands[int(band)]}" if band else "",
        )

    def _scenes_of(self, camera: ImagingSetup) -> SceneSimulator:
        if camera not in self._scenes:
            self._scenes[camera] = SceneSimulator(
                self.data, SetUps((camera,)), self.names, torch.device("cpu")
            )
        return self._scenes[camera]


@dataclass(frozen=True)
class _Judgement:
    chi_square: tuple[float, ...]
    p: float
    worst: str


def _judged(
    observed: Tensor,
    noise: Tensor,
    exposure: Tensor,
    draws: Tensor,
    radius: float,
    generator: torch.Generator,
) -> _Judgement:
    """Brightness and residuals within a radius against those of replicated images.

    ``worst`` is ``"flux"`` or ``"pixels"`` and the number of the band.
    """
    n = len(draws)
    near = distance_from_centre(draws.shape[-2], draws.shape[-1], draws.device) <= radius
    seen, predicted = observed[:, near], draws[..., near]
    known = torch.isfinite(seen) & torch.isfinite(noise)[:, None]
    counts = known.sum(-1)
    photons = predicted.clamp(min=0) / exposure[:, None]
    variance = noise[:, None] ** 2 + photons.mean(0) + predicted.var(0)
    replicated = predicted + photons.sqrt() * torch.randn(predicted.shape, generator=generator)
    replicated = replicated + _border_noise(observed, n, int(near.sum()), generator)
    # A replicate is one draw; its prediction is the mean of the others.
    expected = predicted.mean(0)
    others = (expected * n - predicted) / (n - 1)
    every = torch.cat([seen[None], replicated])
    left = every - torch.cat([expected[None], others])
    squares = torch.where(known, left**2 / variance, 0.0).nan_to_num(0.0).sum(-1)
    chi_square = squares / counts.clamp(min=1)
    error = (noise * counts.clamp(min=1).sqrt()).nan_to_num(1.0)
    flux = torch.where(known, every, 0.0).sum(-1) / error
    usable = torch.nonzero(counts)[:, 0]
    per_band = tuple(
        float(value) if count else math.nan
        for value, count in zip(chi_square[0], counts, strict=True)
    )
    if not len(usable):
        return _Judgement(per_band, math.nan, "")
    # Logarithms of both: their replicates are close to normal.
    statistics = torch.cat([torch.asinh(flux)[:, usable], torch.log(chi_square)[:, usable]], 1)
    typical, spread = statistics.mean(0), statistics.std(0).clamp(min=1e-6)
    deviation = (statistics - typical) / spread
    deviation[:, : len(usable)] = deviation[:, : len(usable)].abs()
    largest = deviation.amax(1)
    at_least = int((largest[1:] >= largest[0]).sum())
    kind, place = divmod(int(deviation[0].argmax()), len(usable))
    worst = f"{('flux', 'pixels')[kind]} {int(usable[place])}"
    return _Judgement(per_band, (1 + at_least) / (n + 1), worst)


def _border_noise(observed: Tensor, n: int, n_pixels: int, generator: torch.Generator) -> Tensor:
    """Pixels of the image's own border, drawn with replacement, (n, n_bands, n_pixels).

    They hold the field's stars beside its noise. Bands stay together.
    """
    border = border_pixels(observed.shape[-2], observed.shape[-1], observed.device)
    pixels = observed.flatten(1)[:, border].nan_to_num(0.0)
    which = torch.randint(pixels.shape[1], (n, n_pixels), generator=generator)
    return pixels[:, which].movedim(0, 1)
