"""Cluster images as a camera records them in front of a galaxy: field, noise, derived labels.

As in Bialopetravičius & Narbutis 2020, Sect. 2.3, the median of a background is added to the
cluster, photon noise is drawn from the sum, the median is taken off again and the background is
added. Its own noise is in it already, so this noise is that of the background twice; a smaller
share of the median makes it right.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.systems.cluster_images.preparation import distance_from_centre
from melotte.systems.cluster_images.scenes import ClusterScenes
from melotte.systems.cluster_images.set_ups import SetUps
from melotte.systems.cluster_images.settings import DataSettings

GAUSSIAN_FROM = 30.0
"""Expected counts from which Poisson numbers are drawn as skewed normal ones."""

APERTURE = 25.0
"""Radius, px, in which the scatter of the background is taken (Paper II, Sect. 2.3)."""


def photon_noise(expected: Tensor, generator: torch.Generator) -> Tensor:
    """Counts with Poisson noise.

    Parameters
    ----------
    expected : Tensor, any shape, >= 0

    Returns
    -------
    Tensor, same shape
        Exact Poisson numbers where fewer than ``GAUSSIAN_FROM`` are expected; above, normal
        numbers with the Poisson distribution's mean, variance and skewness (Cornish & Fisher
        1938), not rounded.
    """
    expected = expected.clamp(min=0)
    score = torch.randn(expected.shape, generator=generator, device=expected.device)
    drawn = torch.addcmul(expected, expected.sqrt(), score).add_((score * score - 1) / 6)
    few = torch.nonzero(expected.flatten() < GAUSSIAN_FROM)[:, 0]
    if len(few):
        exact = torch.poisson(expected.flatten()[few], generator=generator)
        drawn.view(-1)[few] = exact
    return drawn.clamp_(min=0)


def recorded(
    image: Tensor,
    field: Tensor,
    exposure: Tensor,
    generator: torch.Generator,
    *,
    median_share: Tensor | float = 1.0,
    read_noise: Tensor | None = None,
    calibration_scatter: float = 0.0,
) -> Tensor:
    """Put clusters in front of fields.

    Parameters
    ----------
    image : Tensor, shape (n, n_bands, n_rows, n_columns), counts/s
        Noiseless clusters.
    field : Tensor, same shape, counts/s
        With their own noise.
    exposure : Tensor, shape (n, n_bands), s
        Of the photon noise.
    generator : torch.Generator
    median_share : Tensor, shape (n,), or float, 0 to 1
        Share of the field's median whose photons are drawn once more.
    read_noise : Tensor, shape (n,), electrons, optional
    calibration_scatter : float
        Standard deviation of a factor on the field's flux in each band.

    Returns
    -------
    Tensor, same shape, counts/s
    """
    time = exposure[..., None, None]
    share = torch.as_tensor(median_share, device=field.device).expand(len(field))
    median = field.flatten(2).median(-1).values.clamp(min=0) * share[:, None]
    median = median[..., None, None]
    counts = photon_noise((image + median) * time, generator)
    if read_noise is not None:
        noise = torch.randn(counts.shape, generator=generator, device=counts.device)
        counts = counts + noise * read_noise[:, None, None, None]
    if calibration_scatter > 0:
        shape = (*field.shape[:2], 1, 1)
        factor = torch.randn(shape, generator=generator, device=field.device)
        field = field * (1 + calibration_scatter * factor)
    return counts / time - median + field


def visibility(
    image: Tensor, field: Tensor, radius: Tensor, fwhm: Tensor, pixel_scale: Tensor
) -> Tensor:
    """How far clusters stand out from their backgrounds.

    Parameters
    ----------
    image, field : Tensor, shape (n, n_bands, n_rows, n_columns), counts/s
        The noiseless clusters and their backgrounds.
    radius : Tensor, shape (n,), arcsec
        Half-number radius.
    fwhm : Tensor, shape (n, n_bands), arcsec
        Of the images of stars.
    pixel_scale : Tensor, shape (n,), arcsec

    Returns
    -------
    Tensor, shape (n,)
        f_c / (n sigma_b), averaged over bands: the cluster's flux within r_h,obs over the number
        of pixels there and the standard deviation of the background within 25 pixels.
        r_h,obs is the half-number radius and half the width of a star's image in quadrature.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Eq. 2. The paper does not say in which band, nor how the
    radius is increased: both are choices made here.
    """
    distance = distance_from_centre(image.shape[-2], image.shape[-1], image.device)
    seen = torch.sqrt(radius[:, None] ** 2 + (fwhm / 2) ** 2) / pixel_scale[:, None]
    # Pixels on the edge count in part, so that the number of pixels grows with the radius.
    inside = (seen[..., None, None] + 0.5 - distance).clamp(0, 1)
    flux = (image * inside).sum((2, 3))
    pixels = field[..., distance <= APERTURE]
    scatter = pixels.std(-1).clamp(min=1e-12)
    return (flux / (inside.sum((2, 3)) * scatter)).mean(1)


def spoil(image: Tensor, data: DataSettings, generator: torch.Generator) -> Tensor:
    """Make pixels unknown: borders, dead pixels and whole bands in some of the images.

    Parameters
    ----------
    image : Tensor, shape (n, n_bands, n_rows, n_columns)
        Is not changed.

    Returns
    -------
    Tensor, same shape; NaN where unknown
    """
    if data.masked_share == 0 and data.missing_band_share == 0:
        return image
    n, n_bands, n_rows, n_columns = image.shape
    device = image.device

    def uniform(*shape: int) -> Tensor:
        return torch.rand(shape, generator=generator, device=device)

    masked = uniform(n) < data.masked_share
    # Half of the masked images lie at the edge of a mosaic, which cuts up to a third of them off.
    edge = masked & (uniform(n) < 0.5)
    depth = uniform(n) / 3
    side = (uniform(n) * 4).long().clamp(max=3)
    rows = torch.linspace(0, 1, n_rows, device=device)[None, :, None]
    columns = torch.linspace(0, 1, n_columns, device=device)[None, None, :]
    place = torch.where((side < 2)[:, None, None], rows, columns)
    place = torch.where((side % 2 == 0)[:, None, None], place, 1 - place)
    unknown = edge[:, None, None] & (place < depth[:, None, None])
    dead = uniform(n, n_rows, n_columns) < 0.02 * uniform(n)[:, None, None]
    unknown = unknown | ((masked & ~edge)[:, None, None] & dead)
    lacking = uniform(n) < data.missing_band_share
    band = (uniform(n) * n_bands).long().clamp(max=n_bands - 1)
    without = lacking[:, None] & (torch.arange(n_bands, device=device) == band[:, None])
    if n_bands == 1:
        without = torch.zeros_like(without)
    everywhere = unknown[:, None] | without[:, :, None, None]
    return image.masked_fill(everywhere, math.nan)


def turned(image: Tensor, generator: torch.Generator) -> Tensor:
    """Images (n, n_bands, n, n) turned by quarters and mirrored, each its own way."""
    which = torch.randint(8, (len(image),), generator=generator, device=image.device)
    result = torch.empty_like(image)
    for number in range(8):
        rows = torch.nonzero(which == number)[:, 0]
        if len(rows):
            part = torch.rot90(image[rows], number % 4, (-2, -1))
            result[rows] = part.flip(-1) if number >= 4 else part
    return result


def camera_data(set_ups: SetUps, set_up: Tensor, device: torch.device) -> dict[str, Tensor]:
    """What a header says of the camera, for images of these set-ups."""
    names = ("exposure", "pixel_scale", "distance_modulus", "metallicity")
    data = {name: set_ups.tensor(name, device)[set_up] for name in names}
    return data | {"fwhm": set_ups.fwhm.to(device)[set_up]}


def repeated(scenes: ClusterScenes, views: int) -> ClusterScenes:
    """Every scene ``views`` times, one after the other."""
    if views == 1:
        return scenes
    return ClusterScenes(
        *(
            getattr(scenes, name).repeat_interleave(views, 0)
            for name in ("theta", "image", "set_up", "is_cluster", "magnitude", "shape")
        )
    )
