"""What is true of mock clusters, and what a network says of them, in the same terms."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.engine.coverage import pit_values, sbc_ranks
from melotte.networks.autoregressive import AutoregressivePosterior
from melotte.networks.conditioned import ConditionedPosterior
from melotte.networks.map_posteriors import MapPosterior
from melotte.parameters import Parameter, Prior
from melotte.systems.base import Batch

Array = NDArray[np.floating[Any]]

N_SAMPLES = 200
AT_DISTANCE = " at the distance"
"""Ends the name of what is inferred where the distance is known."""
MAP_MASS, MAP_MASS_TO_LIGHT = "map_mass", "map_mass_to_light"


@dataclass(frozen=True)
class MapTruth:
    """What is true of some clusters.

    Parameters
    ----------
    log_map : array of float32, shape (n, rows, columns)
        log10(Msun/px) of the smoothed map, at the floor where it is as low or lower.
    light : array, shape (n,), Lsun_V
        Of the field of view, without seeing; NaN for none.
    values : dict of str to array, shape (n,)
        By name of the parameter, with ``age`` (Gyr), ``mass_fov`` (Msun), ``mass_to_light_v``,
        ``map_mass`` (Msun), the sum of ``log_map``, and ``map_mass_to_light``; NaN where unknown.
    group : array of int64, shape (n,)
        Number of the run.
    """

    log_map: Array
    light: Array
    values: Mapping[str, Array]
    group: NDArray[np.int64]

    @classmethod
    def of(cls, batch: Batch, parameters: tuple[Parameter, ...]) -> MapTruth:
        """Of a batch of mocks."""
        theta = torch.where(batch.theta_known, batch.theta, torch.nan).cpu().double().numpy()
        values = {one.name: theta[:, i] for i, one in enumerate(parameters)}
        targets = {name: one.cpu().double().numpy() for name, one in batch.targets.items()}
        if "log_mass_fov" in targets:
            values["log_mass_fov"] = targets["log_mass_fov"]
        light = 10 ** targets["log_light_fov"]
        # Without any light there is no M/L.
        light = np.where(light > 0, light, np.nan)
        log_map = batch.targets["log_mass_map"][:, 0].cpu().numpy()
        found = with_derived(values, light) | of_map(log_map, light)
        return cls(log_map, light, found, batch.group.cpu().numpy())


@dataclass(frozen=True)
class MapReading:
    """What a network says of some clusters.

    Parameters
    ----------
    log_map : array, shape (n, rows, columns)
        Median of log10(Msun/px).
    scale : array, shape (n, rows, columns), or None
        Of the pixels' posteriors.
    degrees : float or None
        Of freedom of Student's distribution; normal without.
    values : dict of str to array, shape (n,)
        Estimates, named as :class:`MapTruth` names the truth; with ``AT_DISTANCE`` behind the name
        where the distance was given.
    pit : dict of str to array, shape (n,)
        Place of the truth in its posterior, 0 to 1, by the same names.
    """

    log_map: Array
    scale: Array | None
    degrees: float | None
    values: Mapping[str, Array]
    pit: Mapping[str, Array]


def with_derived(values: Mapping[str, Array], light: Array) -> dict[str, Array]:
    """The values with ``age``, ``mass_fov`` and ``mass_to_light_v`` where these follow."""
    found = dict(values)
    if "log_age" in found:
        found.setdefault("age", 10 ** (found["log_age"] - 9))
    if "log_mass_fov" in found:
        found.setdefault("mass_fov", 10 ** found["log_mass_fov"])
        found.setdefault("mass_to_light_v", found["mass_fov"] / light)
    return found


def of_map(log_map: Array, light: Array) -> dict[str, Array]:
    """Sums of maps of log10 mass (n, rows, columns), Msun, and what they are over the light."""
    mass = (10 ** np.asarray(log_map, dtype=np.float64)).sum((1, 2))
    return {MAP_MASS: mass, MAP_MASS_TO_LIGHT: mass / light}


def read_outputs(
    outputs: Mapping[str, Any],
    parameters: tuple[Parameter, ...],
    truth: MapTruth,
    generator: torch.Generator | None = None,
) -> MapReading:
    """What the outputs of a network of maps say of mocks.

    Parameters
    ----------
    outputs : mapping
        With ``mass_map``, a :class:`~melotte.networks.map_posteriors.MapPosterior` or a map; and
        ``posterior``, or ``estimate`` where the network gives plain numbers.
    parameters : tuple of Parameter
    truth : MapTruth
        Gives the distances, where these are to be known, and the light that turns the mass of a
        map into M/L.
    generator : torch.Generator, optional
        Of the samples.

    Returns
    -------
    MapReading
    """
    found = outputs["mass_map"]
    scale = degrees = None
    if isinstance(found, MapPosterior):
        log_map, scale = found.mean[:, 0].cpu().numpy(), found.scale[:, 0].cpu().numpy()
        degrees = None if found.degrees is None else float(found.degrees[0])
    else:
        log_map = found[:, 0].cpu().numpy()
    values = of_map(log_map, truth.light)
    pit: dict[str, Array] = {}
    if "estimate" in outputs:
        estimate = outputs["estimate"].cpu().double().numpy()
        values |= {one.name: estimate[:, i] for i, one in enumerate(parameters)}
    else:
        for name, (value, place) in _sampled(outputs, parameters, truth, generator).items():
            values[name], pit[name] = value, place
    for end in ("", AT_DISTANCE):
        if "log_age" + end in values:
            values["age" + end] = 10 ** (values["log_age" + end] - 9)
        if "log_mass_fov" + end in values:
            values["mass_fov" + end] = 10 ** values["log_mass_fov" + end]
    return MapReading(log_map, scale, degrees, values, pit)


def _sampled(
    outputs: Mapping[str, Any],
    parameters: tuple[Parameter, ...],
    truth: MapTruth,
    generator: torch.Generator | None,
) -> dict[str, tuple[Array, Array]]:
    """Medians, and places of the truth, of every parameter, with the distance unknown and known."""
    posterior = outputs["posterior"]
    readings = {"": (posterior, parameters)}
    distance = truth.values.get("distance")
    if (
        distance is not None
        and parameters[0].name == "distance"
        and isinstance(posterior, AutoregressivePosterior)
    ):
        first = torch.from_numpy(np.nan_to_num(distance, nan=parameters[0].low))[:, None]
        unit = Prior(parameters[:1]).to_unit(first.float()).clamp(0, 1)
        known = ConditionedPosterior(posterior, unit.to(posterior.device))
        readings[AT_DISTANCE] = (known, parameters[1:])
    found: dict[str, tuple[Array, Array]] = {}
    for end, (one, left) in readings.items():
        with torch.no_grad():
            drawn = one.sample(N_SAMPLES, generator).cpu().double()
        samples = Prior(left).from_unit(drawn).numpy()
        true = np.stack([truth.values[p.name] for p in left], 1)
        pit = pit_values(sbc_ranks(samples, true), N_SAMPLES)
        for i, parameter in enumerate(left):
            found[parameter.name + end] = (np.median(samples[:, :, i], 1), pit[:, i])
    return found
