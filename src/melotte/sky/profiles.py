"""Where the stars of a cluster stand on the sky: the profile of Elson, Fall & Freeman (EFF)."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.errors import MelotteValueError

LARGEST_RADIUS = 1e6
"""Projected radii end here, in scale radii: a slope near 2 has no finite extent."""

_ROUNDS = 64


def eff_surface_density(radius: Tensor, scale_radius: Tensor, gamma: Tensor) -> Tensor:
    """Density of stars on the sky, normalised to one star in all.

    Parameters
    ----------
    radius : Tensor, arcsec, >= 0
    scale_radius : Tensor, shape that broadcasts, arcsec, > 0
        The EFF scale ``a``.
    gamma : Tensor, shape that broadcasts, > 2
        Outer slope; the number of stars is finite only above 2.

    Returns
    -------
    Tensor, the broadcast shape, stars per square arcsec

    References
    ----------
    Elson, Fall & Freeman 1987, ApJ 323, 54, Eq. 1.
    """
    central = (gamma - 2) / (2 * math.pi * scale_radius**2)
    return central * (1 + (radius / scale_radius) ** 2) ** (-gamma / 2)


def eff_fraction_within(radius: Tensor, scale_radius: Tensor, gamma: Tensor) -> Tensor:
    """Fraction of stars projected within a radius; parameters as :func:`eff_surface_density`."""
    return -torch.expm1((1 - gamma / 2) * torch.log1p((radius / scale_radius) ** 2))


def half_number_radius(scale_radius: Tensor, gamma: Tensor) -> Tensor:
    """Projected radius r_h that holds half of the stars of the untruncated profile.

    Parameters
    ----------
    scale_radius : Tensor, arcsec, > 0
    gamma : Tensor, shape that broadcasts, > 2

    Returns
    -------
    Tensor, the broadcast shape, arcsec
        a sqrt(2^(2 / (gamma - 2)) - 1).
    """
    return scale_radius * torch.sqrt(torch.expm1(2 * math.log(2) / (gamma - 2)))


def eff_gamma_for(scale_radius: Tensor, half_number_radius: Tensor) -> Tensor:
    """Slope that gives a half-number radius at a scale radius; the inverse of that function.

    Parameters
    ----------
    scale_radius, half_number_radius : Tensor, shapes that broadcast, arcsec, > 0

    Returns
    -------
    Tensor, the broadcast shape, > 2
    """
    return 2 + 2 * math.log(2) / torch.log1p((half_number_radius / scale_radius) ** 2)


def draw_eff_shapes(
    n: int,
    scale_radius_range: tuple[float, float],
    gamma_range: tuple[float, float],
    half_number_radius_range: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw scale radii and slopes log-uniformly, where the half-number radius is in a range.

    Parameters
    ----------
    n : int
    scale_radius_range : (float, float), arcsec, > 0
    gamma_range : (float, float), > 2
    half_number_radius_range : (float, float), arcsec
    generator : torch.Generator
        Shapes are drawn on its device.

    Returns
    -------
    scale_radius, gamma : Tensor, shape (n,), arcsec and dimensionless

    Raises
    ------
    MelotteValueError
        When a range is empty, or the ranges (nearly) exclude one another.
    """
    for name, (low, high), least in (
        ("scale_radius_range", scale_radius_range, 0.0),
        ("gamma_range", gamma_range, 2.0),
        ("half_number_radius_range", half_number_radius_range, 0.0),
    ):
        if not least < low <= high < math.inf:
            raise MelotteValueError(f"{name} must be {least:g} < low <= high, found {low}, {high}")
    found: list[tuple[Tensor, Tensor]] = []
    missing = n
    for _ in range(_ROUNDS):
        if missing <= 0:
            break
        uniform = torch.rand(2, 2 * missing + 64, generator=generator, device=generator.device)
        scale = _log_uniform(uniform[0], *scale_radius_range)
        gamma = _log_uniform(uniform[1], *gamma_range)
        size = half_number_radius(scale, gamma)
        fits = (size >= half_number_radius_range[0]) & (size <= half_number_radius_range[1])
        found.append((scale[fits][:missing], gamma[fits][:missing]))
        missing -= len(found[-1][0])
    if missing > 0:
        raise MelotteValueError(
            f"no profile with scale radius in {scale_radius_range} arcsec and slope in "
            f"{gamma_range} has its half-number radius in {half_number_radius_range} arcsec, "
            "or hardly any"
        )
    scales, gammas = zip(*found, strict=True) if found else ((torch.empty(0),), (torch.empty(0),))
    return torch.cat(scales), torch.cat(gammas)


def draw_eff_shapes_of_size(
    half_number_radius: Tensor,
    scale_radius_range: tuple[float, float],
    gamma_range: tuple[float, float],
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Draw shapes of given half-number radii: log-uniform in the scale radius along that line.

    Parameters
    ----------
    half_number_radius : Tensor, shape (n,), arcsec
    scale_radius_range : (float, float), arcsec, > 0
    gamma_range : (float, float), > 2
    generator : torch.Generator, on the device of ``half_number_radius``

    Returns
    -------
    scale_radius, gamma : Tensor, shape (n,)

    Raises
    ------
    MelotteValueError
        When no shape within the ranges has one of these radii.
    """
    low_gamma, high_gamma = gamma_range
    one = torch.ones_like(half_number_radius)
    # At fixed size a steeper profile has a larger scale radius.
    low = half_number_radius / _sizes(one, low_gamma)
    high = half_number_radius / _sizes(one, high_gamma)
    low = low.clamp(min=scale_radius_range[0])
    high = high.clamp(max=scale_radius_range[1])
    impossible = ~(low <= high * (1 + 1e-6))
    if bool(impossible.any()):
        raise MelotteValueError(
            f"no profile with scale radius in {scale_radius_range} arcsec and slope in "
            f"{gamma_range} has a half-number radius of {float(half_number_radius[impossible][0])}"
        )
    uniform = torch.rand(
        len(half_number_radius), generator=generator, device=half_number_radius.device
    ).to(half_number_radius.dtype)
    scale = low * (high / low) ** uniform
    return scale, eff_gamma_for(scale, half_number_radius).clamp(low_gamma, high_gamma)


def eff_positions(
    scale_radius: Tensor, gamma: Tensor, offsets: Tensor, generator: torch.Generator
) -> Tensor:
    """Draw positions of stars about the centres of their clusters.

    Parameters
    ----------
    scale_radius : Tensor, shape (n_clusters,), arcsec, > 0
    gamma : Tensor, shape (n_clusters,), > 2
    offsets : Tensor of int64, shape (n_clusters + 1,)
        Stars ``offsets[i]`` to ``offsets[i + 1]`` are those of cluster ``i``
        (see :class:`melotte.ragged.Ragged`).
    generator : torch.Generator, on the device of the others

    Returns
    -------
    Tensor of float32, shape (n_stars, 2), (x, y), arcsec
    """
    device = scale_radius.device
    n_stars = int(offsets[-1])
    counts = offsets.diff()
    shape = torch.stack([2 / (gamma - 2), scale_radius], 1).float()
    shape = torch.repeat_interleave(shape, counts, dim=0, output_size=n_stars)
    depth = torch.empty(n_stars, device=device).exponential_(generator=generator)
    angle = torch.rand(n_stars, generator=generator, device=device) * (2 * math.pi)
    reach = torch.sqrt(torch.expm1(depth * shape[:, 0])).clamp(max=LARGEST_RADIUS)
    radius = reach * shape[:, 1]
    return torch.stack([radius * torch.cos(angle), radius * torch.sin(angle)], 1)


def _log_uniform(uniform: Tensor, low: float, high: float) -> Tensor:
    """Numbers of [low, high], uniform in their logarithm."""
    return (low * torch.exp(uniform * math.log(high / low))).clamp(low, high)


def _sizes(scale_radius: Tensor, gamma: float) -> Tensor:
    return half_number_radius(scale_radius, torch.full_like(scale_radius, gamma))
