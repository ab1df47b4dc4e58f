"""Numbers by which an astronomer would notice a strange image, for the domain check."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.systems.base import Observation
from melotte.systems.cluster_images.preparation import annulus_fluxes, background_of

RADII = (2.5, 6.0, 13.0)
SUMMARIES = (
    "background_level",
    "background_scatter",
    "brightness",
    "colour",
    "red_colour",
    "concentration",
    "asymmetry",
    "brightest_pixel",
    "unknown_pixels",
)


def image_summaries(observation: Observation, bands: tuple[str, ...]) -> Tensor:
    """Summaries of images.

    Parameters
    ----------
    observation : Observation
        With ``image`` (batch, n_bands, n_rows, n_columns), counts/s.
    bands : tuple of str
        From blue to red.

    Returns
    -------
    Tensor, shape (batch, 9)
        Level and scatter of the background (logarithms, mean over bands); brightness within 13
        pixels (logarithm, mean); colours from the first to the second and to the last band, as
        logarithms of flux; share of the light within 2.5 pixels and asymmetry under half a turn
        in the reddest band; the brightest pixel in background scatters (logarithm); and the share
        of unknown pixels. Zero where a band is unknown.
    """
    image = observation.data["image"]
    assert isinstance(image, Tensor)
    image = image.float()
    level, scatter = background_of(image)
    known = torch.isfinite(level)
    unknown = torch.isnan(image)
    above = torch.where(unknown, 0.0, image - level[..., None, None])
    fluxes, _ = annulus_fluxes(above, RADII)
    total = fluxes.sum(-1)
    noise = scatter.clamp(min=1e-6)
    scaled = torch.asinh(total / noise)

    def over_bands(values: Tensor) -> Tensor:
        values = torch.where(known, values, 0.0).nan_to_num(0.0)
        return values.sum(1) / known.sum(1).clamp(min=1)

    light = torch.log(total.clamp(min=0) + noise)
    difference = (above - above.flip((-2, -1))).abs().flatten(2).sum(-1)
    brightest = above.flatten(2).amax(-1)
    last = len(bands) - 1
    second = min(1, last)

    def colour(first: int, other: int) -> Tensor:
        both = known[:, first] & known[:, other]
        return torch.where(both, light[:, first] - light[:, other], 0.0).nan_to_num(0.0)

    share = (fluxes[:, last, 0] + noise[:, last]) / (total[:, last].abs() + 20 * noise[:, last])
    extent = above[:, last].abs().flatten(1).sum(-1) + noise[:, last]
    return torch.stack(
        [
            over_bands(torch.asinh(level / noise)),
            over_bands(torch.log(noise)),
            over_bands(scaled),
            colour(0, second),
            colour(0, last),
            torch.where(known[:, last], share, 0.0).clamp(-2, 2).nan_to_num(0.0),
            torch.where(known[:, last], difference[:, last] / extent, 0.0).nan_to_num(0.0),
            over_bands(torch.asinh(brightest / noise)),
            unknown.float().mean((1, 2, 3)),
        ],
        1,
    )
