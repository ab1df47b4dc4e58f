"""From images to network input: the same code for mocks and for real cutouts.

The network reads each band's image above its background, compressed by ``asinh`` in units of a
typical background's scatter, or of this and one count; fluxes in annuli around the centre, which
keep the precision that convolutions in reduced precision lose; and what the header says of the
camera, with the level and scatter of the background. Fluxes stay absolute: brightness is what
masses are read from.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor

from melotte.compression import asinh
from melotte.errors import MelotteValueError
from melotte.systems.base import Field, Observation
from melotte.systems.cluster_images.settings import ModelSettings

BORDER = 0.8
"""Pixels beyond this share of the half side, along a row or a column, measure the background."""

SCATTER_OF_MAD = 1.4826
CAMERA = ("pixel_scale", "distance_modulus", "metallicity")
PER_BAND_CONTEXT = 5
"""Numbers of the context that each band has; those of :data:`CAMERA` follow them."""


def background_of(image: Tensor) -> tuple[Tensor, Tensor]:
    """Level and scatter of the background, from the border of the image.

    Parameters
    ----------
    image : Tensor, shape (batch, n_bands, n_rows, n_columns)
        NaN where unknown.

    Returns
    -------
    level, scatter : Tensor, shape (batch, n_bands)
        Median, and scaled median absolute deviation; NaN where the border is unknown.
    """
    border = border_pixels(image.shape[-2], image.shape[-1], image.device)
    pixels = image.flatten(2)[..., border]
    level = pixels.nanmedian(-1).values
    scatter = (pixels - level[..., None]).abs().nanmedian(-1).values
    return level, SCATTER_OF_MAD * scatter


def annulus_fluxes(image: Tensor, radii: tuple[float, ...]) -> tuple[Tensor, Tensor]:
    """Fluxes in annuli around the centre.

    Parameters
    ----------
    image : Tensor, shape (batch, n_bands, n_rows, n_columns)
        Above the background; finite.
    radii : tuple of float, px
        Outer radii, ascending; the first annulus is a disc.

    Returns
    -------
    fluxes : Tensor, shape (batch, n_bands, n_annuli)
    areas : Tensor, shape (n_annuli,), px
        With soft edges one pixel wide.
    """
    masks = _annuli(image.shape[-2], image.shape[-1], radii, image.device)
    return image.flatten(2) @ masks.T, masks.sum(1)


def measure_constants(observation: Observation, settings: ModelSettings) -> dict[str, Any]:
    """Scale of each band, and means and deviations of photometry and context, over mocks."""
    image = _images(observation)
    _, scatter = background_of(image)
    scale = scatter.nanmedian(0).values.clamp(min=1e-8)
    constants: dict[str, Any] = {"scale": scale.tolist()}
    for name, values in _features(observation, constants, settings).items():
        if name != "image":
            constants[f"{name}_mean"] = values.mean(0).tolist()
            constants[f"{name}_std"] = values.std(0).tolist()
    return constants


def standardised(
    observation: Observation, constants: Mapping[str, Any], settings: ModelSettings
) -> dict[str, Field]:
    """Network input.

    Parameters
    ----------
    observation : Observation
    constants : mapping
        Of :func:`measure_constants`.
    settings : ModelSettings

    Returns
    -------
    dict
        ``image`` (batch, n_bands, n_rows, n_columns); ``photometry`` (batch, n_bands * n_annuli)
        and ``context`` (batch, n_context), standardised; all finite.
    """
    features = _features(observation, constants, settings)
    inputs: dict[str, Field] = {"image": features["image"]}
    for name in ("photometry", "context"):
        mean = features[name].new_tensor(constants[f"{name}_mean"])
        spread = features[name].new_tensor(constants[f"{name}_std"])
        # What never varied in training is not read, whatever it is now.
        varies = spread > 1e-4 * (1 + mean.abs())
        scaled = (features[name] - mean) / torch.where(varies, spread, 1.0)
        inputs[name] = torch.where(varies, scaled, 0.0).clamp(-20, 20)
    return inputs


def context_size(n_bands: int) -> int:
    """Numbers in the context of :func:`standardised`."""
    return PER_BAND_CONTEXT * n_bands + len(CAMERA)


def _features(
    observation: Observation, constants: Mapping[str, Any], settings: ModelSettings
) -> dict[str, Tensor]:
    image = _images(observation)
    scale = image.new_tensor(constants["scale"])
    if len(scale) != image.shape[1]:
        raise MelotteValueError(
            f"image: found {image.shape[1]} bands, the model reads {len(scale)}"
        )
    level, scatter = background_of(image)
    known = torch.isfinite(level) & torch.isfinite(scatter)
    above = (image - level[..., None, None]).nan_to_num(0.0)
    above = torch.where(known[..., None, None], above, 0.0)
    unit = scale.expand(image.shape[:2])
    if settings.counts_in_scale:
        count = 1 / _per_band(observation, "exposure")
        unit = torch.hypot(unit, count.nan_to_num(0.0))
    fluxes, areas = annulus_fluxes(above, settings.apertures)
    in_noise = fluxes / (unit[..., None] * areas.sqrt())
    floor = 1e-3 * scale
    camera = [_camera(observation, name, len(image)) for name in CAMERA]
    camera[0] = torch.log(camera[0])
    context = torch.cat(
        [
            torch.where(known, asinh(level / scale), 0.0),
            torch.where(known, torch.log(scatter.clamp(min=0) / scale + floor / scale), 0.0),
            torch.log(_per_band(observation, "exposure")),
            torch.log(_per_band(observation, "fwhm")),
            known.to(image),
            torch.stack(camera, 1),
        ],
        1,
    )
    return {
        "image": asinh(above / unit[..., None, None]),
        "photometry": asinh(in_noise).flatten(1),
        "context": context.nan_to_num(0.0),
    }


def _images(observation: Observation) -> Tensor:
    image = observation.data["image"]
    if not isinstance(image, Tensor) or image.ndim != 4:
        raise MelotteValueError("image: needs shape (batch, n_bands, n_rows, n_columns)")
    return image.float()


def _camera(observation: Observation, name: str, n: int) -> Tensor:
    value = observation.data[name]
    if not isinstance(value, Tensor) or value.shape != (n,):
        raise MelotteValueError(f"{name}: needs one number an image")
    return value.float()


def _per_band(observation: Observation, name: str) -> Tensor:
    value, image = observation.data[name], observation.data["image"]
    if not isinstance(value, Tensor) or value.shape != image.shape[:2]:  # type: ignore[union-attr]
        raise MelotteValueError(f"{name}: needs one number an image and band")
    return value.float()


@lru_cache(maxsize=8)
def border_pixels(n_rows: int, n_columns: int, device: torch.device) -> Tensor:
    """Flat numbers, int64, of the pixels that measure the background."""
    rows = (torch.arange(n_rows) - (n_rows - 1) / 2).abs() > BORDER * n_rows / 2
    columns = (torch.arange(n_columns) - (n_columns - 1) / 2).abs() > BORDER * n_columns / 2
    return torch.nonzero((rows[:, None] | columns[None, :]).flatten())[:, 0].to(device)


@lru_cache(maxsize=8)
def distance_from_centre(n_rows: int, n_columns: int, device: torch.device) -> Tensor:
    """Distance of each pixel from the image's centre, (n_rows, n_columns), px."""
    y = torch.arange(n_rows, device=device) - (n_rows - 1) / 2
    x = torch.arange(n_columns, device=device) - (n_columns - 1) / 2
    return torch.hypot(y[:, None], x[None, :])


@lru_cache(maxsize=8)
def _annuli(n_rows: int, n_columns: int, radii: tuple[float, ...], device: torch.device) -> Tensor:
    """Weights (n_annuli, n_pixels) of annuli whose edges are one pixel soft."""
    radius = distance_from_centre(n_rows, n_columns, device).flatten()
    discs = torch.stack([(edge + 0.5 - radius).clamp(0, 1) for edge in radii])
    rings = torch.cat([discs[:1], discs.diff(dim=0)])
    if not math.isfinite(float(rings.sum())) or bool((rings.sum(1) <= 0).any()):
        raise MelotteValueError(f"apertures {list(radii)}: an annulus holds no pixel")
    return rings
