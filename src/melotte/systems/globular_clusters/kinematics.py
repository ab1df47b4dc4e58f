"""Numbers that sum up a map of dispersions: mean squares, where the light is and where it is not.

A mean square of the whole cluster is what its mass follows from (the virial theorem); that of the
middle beside it tells a mass that is concentrated there. Single bins are too noisy to show either.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from melotte.compression import asinh
from melotte.telescope.measured_dispersions import squared_error

ZONES = (0.0, 0.5, 0.8, 1.0)
"""Shares of a map's light, from its brightest bin on, between which zones of bins lie."""
N_NUMBERS = 3 * len(ZONES)
_UNIT = 25.0
"""km^2/s^2, beside which mean squares are compressed."""


def kinematic_numbers(dispersion: Tensor, error: Tensor, flux: Tensor) -> Tensor:
    """Mean squares of dispersions, weighted by their errors, over all bins and over three zones.

    Bins of one value and one error share a spectrum, which counts once.

    Parameters
    ----------
    dispersion, error : Tensor, shape (n, bin_rows, bin_columns), km/s
        NaN where unknown.
    flux : Tensor, shape (n, rows, columns)
        Of the map, NaN where unknown.

    Returns
    -------
    Tensor, shape (n, N_NUMBERS)
        Of all bins and of each zone: inverse hyperbolic sine of the mean square over 25 km^2/s^2,
        log10 of its standard deviation in these units, and 1; all 0 where nothing is known.
    """
    size = (int(dispersion.shape[1]), int(dispersion.shape[2]))
    light = functional.adaptive_avg_pool2d(flux.nan_to_num(0.0)[:, None], size)
    zone = _zones(light.flatten(1).clamp(min=0))
    value, spread = dispersion.flatten(1), error.flatten(1)
    known = value.isfinite() & spread.isfinite() & (spread > 0)
    value, spread = value.where(known, 0.0), spread.where(known, 1.0)
    alike = (value[:, :, None] == value[:, None]) & (spread[:, :, None] == spread[:, None])
    shared = (alike & known[:, None]).sum(2).clamp(min=1)
    weight = known / (shared * (squared_error(value, spread) / _UNIT).square().clamp(min=1e-8))
    found = []
    for number in range(len(ZONES)):
        chosen = weight if number == 0 else weight * (zone == number)
        total = chosen.sum(1)
        seen = total > 0
        some = total.where(seen, 1.0)
        mean = (chosen * value.square()).sum(1) / some / _UNIT
        found += [asinh(mean), -0.5 * torch.log10(some) * seen, seen.to(mean)]
    return torch.stack(found, 1)


def _zones(light: Tensor) -> Tensor:
    """Zone of each bin, from 1 on, shape (n, n_bins)."""
    ordered, order = light.sort(1, descending=True)
    total = ordered.sum(1, keepdim=True).clamp(min=1e-30)
    # Of the bins before a bin: the brightest is always in the first zone.
    before = (ordered.cumsum(1) - ordered) / total
    zone = torch.bucketize(before, light.new_tensor(ZONES[1:-1]), right=True) + 1
    return torch.empty_like(zone).scatter(1, order, zone)
