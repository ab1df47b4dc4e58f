"""From galaxies in phase space to network input: one path for mocks and for real clusters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from melotte.networks.sets import segment_mean, segment_quantiles
from melotte.ragged import Ragged
from melotte.systems.base import Field, Observation
from melotte.systems.galaxy_cluster.settings import ModelSettings

GALAXY_FEATURES = (
    "velocity",
    "speed",
    "speed_in_scatter",
    "radius",
    "radius_in_aperture",
    "log_relative_weight",
    "stellar_mass_above_limit",
)
CONTEXT_FEATURES = (
    "log_velocity_scatter",
    "log_velocity_std",
    "log_median_radius",
    "redshift",
    "log_aperture",
    "log_velocity_cut",
    "completeness",
    "no_stellar_masses",
)
RICHNESS_FEATURES = ("log_n_galaxies", "log_n_complete", "log_stellar_mass_limit", "no_limit")
SUMMARIES = (
    "log10 of the number of galaxies",
    "log10 of the median absolute velocity (km/s)",
    "log10 of the standard deviation of velocities (km/s)",
    "kurtosis of velocities",
    "share of galaxies beyond half of the velocity cut",
    "asymmetry of velocities",
    "median radius in apertures",
    "share of galaxies within a quarter of the aperture",
)
KM_S = 1000.0
LARGEST = 8.0
SMALLEST_SPREAD = 1e-3
"""Standard deviation over mocks below which a feature counts as constant."""


def features(observation: Observation, model: ModelSettings) -> tuple[Ragged, Tensor]:
    """Features of galaxies and of clusters, not yet standardised.

    Parameters
    ----------
    observation : Observation
        ``galaxies``: Ragged with columns velocity (km/s), radius (Mpc/h), weight, log10(stellar
        mass/Msun); NaN weights count as 1, NaN masses as unknown. ``redshift``, ``aperture``
        (Mpc/h), ``velocity_cut`` (km/s), ``completeness``, ``log_stellar_mass_limit``: (batch,).
    model : ModelSettings
        Whether the number of galaxies and their stellar masses are told.

    Returns
    -------
    galaxies : Ragged, values of shape (n_galaxies, len(GALAXY_FEATURES))
    context : Tensor, shape (batch, n_context)
        NaN where a cluster has no galaxy, or its table does not say how deep it goes.
    """
    galaxies, numbers = _fields(observation)
    index, counts = galaxies.index, galaxies.counts
    velocity, radius, weight, stellar_mass = galaxies.values.unbind(-1)
    aperture = numbers["aperture"]
    limit = numbers["log_stellar_mass_limit"]
    unknown = torch.isnan(stellar_mass) | torch.isnan(limit)[index]
    if not model.stellar_masses:
        unknown = torch.ones_like(unknown)
    above = torch.where(unknown, 0.0, stellar_mass - limit.nan_to_num(0.0)[index])
    speed = velocity.abs()
    scatter = segment_quantiles(speed, galaxies.offsets, (0.5,))[:, 0].clamp(min=10.0)
    spread = segment_mean(velocity[:, None] ** 2, index, counts)[:, 0].sqrt().clamp(min=10.0)
    weight = weight.nan_to_num(1.0).clamp(min=1e-3)
    usual = segment_mean(weight[:, None], index, counts)[:, 0].clamp(min=1e-3)
    middle = segment_quantiles(radius, galaxies.offsets, (0.5,))[:, 0].clamp(min=1e-2)
    values = torch.stack(
        [
            velocity / KM_S,
            speed / KM_S,
            speed / scatter[index],
            torch.log10(radius.clamp(min=0.01)),
            radius / aperture[index],
            torch.log10(weight / usual[index]),
            above,
        ],
        -1,
    )
    columns = [
        torch.log10(scatter),
        torch.log10(spread),
        torch.log10(middle),
        numbers["redshift"],
        torch.log10(aperture),
        torch.log10(numbers["velocity_cut"]),
        numbers["completeness"],
        segment_mean(unknown.to(velocity.dtype)[:, None], index, counts)[:, 0],
    ]
    if model.richness:
        n = counts.to(velocity.dtype).clamp(min=1)
        complete = n / numbers["completeness"].clamp(min=0.05)
        untold = torch.isnan(limit).to(velocity.dtype)
        columns += [torch.log10(n), torch.log10(complete), limit, untold]
    return Ragged(values, galaxies.offsets), torch.stack(columns, -1)


def standardised(
    observation: Observation, constants: Mapping[str, Any], model: ModelSettings
) -> dict[str, Field]:
    """Network input: features less their mean, over their standard deviation on mocks."""
    galaxies, context = features(observation, model)

    def scale(values: Tensor, name: str) -> Tensor:
        mean = values.new_tensor(constants[f"{name}_mean"])
        spread = values.new_tensor(constants[f"{name}_std"])
        scaled = (values - mean) / spread.clamp(min=SMALLEST_SPREAD)
        scaled = scaled.nan_to_num(0.0).clamp(-LARGEST, LARGEST)
        # What was the same in all mocks taught nothing: whatever it is now, it is not read.
        return torch.where(spread > SMALLEST_SPREAD, scaled, 0.0)

    return {
        "galaxies": Ragged(scale(galaxies.values, "galaxy"), galaxies.offsets),
        "context": scale(context, "context"),
    }


def measure_constants(observation: Observation, model: ModelSettings) -> dict[str, list[float]]:
    """Means and standard deviations of the features over mocks."""
    galaxies, context = features(observation, model)
    galaxy_mean = galaxies.values.mean(0)
    # Turned round, a velocity must be the negative of its feature.
    galaxy_mean[0] = 0.0
    known = torch.isfinite(context)
    n_known = known.sum(0).clamp(min=1)
    context_mean = torch.where(known, context, 0.0).sum(0) / n_known
    squares = torch.where(known, (context - context_mean) ** 2, 0.0)
    return {
        "galaxy_mean": galaxy_mean.tolist(),
        "galaxy_std": galaxies.values.std(0).tolist(),
        "context_mean": context_mean.tolist(),
        "context_std": (squares.sum(0) / n_known).sqrt().tolist(),
    }


def summaries(observation: Observation) -> Tensor:
    """Physical summaries of clusters for the domain check, shape (batch, len(SUMMARIES))."""
    galaxies, numbers = _fields(observation)
    index, counts, offsets = galaxies.index, galaxies.counts, galaxies.offsets
    velocity, radius = galaxies.values[:, 0], galaxies.values[:, 1]
    cut, aperture = numbers["velocity_cut"][index], numbers["aperture"][index]
    moments = segment_mean(
        torch.stack(
            [
                velocity,
                velocity**2,
                velocity**4,
                (velocity.abs() > cut / 2).to(velocity.dtype),
                (radius < aperture / 4).to(velocity.dtype),
            ],
            -1,
        ),
        index,
        counts,
    )
    spread = moments[:, 1].sqrt().clamp(min=1.0)
    return torch.stack(
        [
            torch.log10(counts.clamp(min=1).to(velocity.dtype)),
            torch.log10(
                segment_quantiles(velocity.abs(), offsets, (0.5,))[:, 0].nan_to_num(1).clamp(min=1)
            ),
            torch.log10(spread),
            moments[:, 2] / spread**4,
            moments[:, 3],
            moments[:, 0] / spread,
            segment_quantiles(radius / aperture, offsets, (0.5,))[:, 0].nan_to_num(0.0),
            moments[:, 4],
        ],
        -1,
    )


def _fields(observation: Observation) -> tuple[Ragged, dict[str, Tensor]]:
    galaxies = observation.data["galaxies"]
    assert isinstance(galaxies, Ragged)
    names = ("redshift", "aperture", "velocity_cut", "completeness", "log_stellar_mass_limit")
    numbers = {}
    for name in names:
        value = observation.data[name]
        assert isinstance(value, Tensor)
        numbers[name] = value
    return galaxies, numbers
