"""pi-DOC as a system: its mocks, preparation, networks and losses.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melotte.engine.results import ResultColumn, described
from melotte.errors import MelotteValueError
from melotte.networks.perceptual import PerceptualLoss
from melotte.networks.vgg16_weights import read_vgg16, vgg16_of_torchvision
from melotte.parameters import Parameter, Prior
from melotte.systems.base import Batch, Field, Observation, Output
from melotte.systems.chardin_bianchini.networks import PiDocNetwork
from melotte.systems.chardin_bianchini.settings import PiDocSettings
from melotte.systems.globular_clusters.photometry import map_fluxes
from melotte.systems.globular_clusters.scenes import GlobularScenes
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.systems.globular_clusters.system import ClusterMapSystem, field_magnitude, map_mass

OLDEST = 15.0
"""Upper end of the range of ages, Gyr."""
FAINTEST = 0.01
"""Share of the pixels of training mocks that are as faint as the floor of fluxes, or fainter."""
_MARGIN = 1.2
_AS_GIVEN = "as the network gives it, also beyond the range"


class PiDoc(ClusterMapSystem):
    """Map of mass, age and distance of a cluster from its map of light in V.

    Fluxes are read as logarithms with mean 0 and deviation 1 over training mocks, and masses
    predicted as logarithms; the paper shows logarithms and does not say how its input is scaled.

    Parameters
    ----------
    data : DataSettings
        In V alone.
    model : PiDocSettings

    Raises
    ------
    MelotteValueError
        When there are other bands or channels, or served ranges.
    """

    name = "chardin-bianchini"
    outputs = (
        Output("posterior", "vector", "age and distance"),
        Output("mass_map", "map", "log10(mass/(Msun/px)), smoothed"),
    )
    described_columns: Mapping[str, tuple[str, str]] = {
        **ClusterMapSystem.described_columns,
        "age_estimate": ("Gyr", f"age, {_AS_GIVEN}"),
        "distance_estimate": ("kpc", f"distance, {_AS_GIVEN}"),
    }
    """Units and descriptions of :meth:`result_columns`."""

    def __init__(self, data: DataSettings, model: PiDocSettings) -> None:
        if data.bands != ("V",) or data.dispersion_share > 0:
            raise MelotteValueError(
                f"data.bands: pi-DOC reads maps in V alone, found {list(data.bands)} and a "
                f"dispersion_share of {data.dispersion_share:g}"
            )
        if data.served:
            raise MelotteValueError(
                "data.served: pi-DOC serves what it is trained on, so leave it out; found "
                f"{', '.join(data.served)}"
            )
        farthest = _MARGIN * data.distance_range[1]
        parameters = (
            Parameter("age", 0.0, OLDEST, unit="Gyr", description="since the cluster formed"),
            Parameter(
                "distance", 0.0, farthest, unit="kpc", description="distance from the observer"
            ),
        )
        super().__init__(data, parameters)
        self.model = model
        self._losses: dict[torch.device, PerceptualLoss] = {}

    def observe(self, latent: GlobularScenes, generator: torch.Generator, views: int = 1) -> Batch:
        """Record each scene ``views`` times.

        As :func:`melotte.systems.globular_clusters.observing.observe`, with age and distance as
        parameters; ``targets`` hold ``log_mass_fov`` beside the map.
        """
        batch = super().observe(latent, generator, views)
        names = [one.name for one in self.data.cluster_parameters()]
        columns = dict(zip(names, batch.theta.unbind(1), strict=True))
        theta = torch.stack([10 ** (columns["log_age"] - 9), columns["distance"]], 1)
        targets = batch.targets | {"log_mass_fov": columns["log_mass_fov"]}
        return replace(batch, theta=theta, theta_known=theta.isfinite(), targets=targets)

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Mean and deviation of log10 flux, age and distance."""
        flux, _ = map_fluxes(batch.observation)
        positive = flux[flux > 0]
        if not len(positive):
            raise MelotteValueError("no training map holds any light")
        # The faintest light of all is rounding of the rendering.
        floor = float(positive.kthvalue(1 + int(FAINTEST * (len(positive) - 1))).values)
        logs = torch.log10(flux.nan_to_num(0.0).clamp(min=floor))
        return {
            "log_flux_floor": float(torch.log10(torch.tensor(floor))),
            "log_flux_mean": float(logs.mean()),
            "log_flux_std": float(logs.std().clamp(min=1e-3)),
            "mean": batch.theta.nanmean(0).tolist(),
            "deviation": [
                max(float(column[column.isfinite()].std()), 1e-6)
                for column in batch.theta.unbind(1)
            ],
        }

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """``maps`` (batch, 1, size, size): log10 of flux, standardised."""
        flux, _ = map_fluxes(observation)
        floor = 10 ** constants["log_flux_floor"]
        logs = torch.log10(flux.nan_to_num(0.0).clamp(min=floor))
        return {"maps": (logs - constants["log_flux_mean"]) / constants["log_flux_std"]}

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`PiDocNetwork`."""
        ends = torch.tensor([[one.low, one.high] for one in self.parameters]).T.contiguous()
        return PiDocNetwork(
            self.model, self.data.size, ends, constants["mean"], constants["deviation"]
        )

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss, each (batch,).

        ``map``: the perceptual loss (Appendix A), or the mean squared error; ``age_distance``:
        the mean squared error of the standardised targets (Sect. 3.1.2). ``residual_scale`` has
        value 0, and a gradient for the residuals' scales alone.
        """
        predicted, target = outputs["mass_map"], batch.targets["log_mass_map"]
        if self.model.loss == "mse":
            of_map = (predicted - target).square().mean((1, 2, 3))
        else:
            of_map = self._perceptual(predicted.device)(predicted, target)
        known = batch.theta_known
        theta = torch.where(known, batch.theta, outputs["estimate"].detach())
        error = torch.where(known, (outputs["estimate"] - theta) / outputs["deviation"], 0.0)
        unit = torch.where(known, Prior(self.parameters).to_unit(batch.theta), 0.5)
        surprise = -outputs["posterior"].log_prob_known(unit, known)
        return {
            "map": of_map,
            "age_distance": error.square().mean(1),
            "residual_scale": surprise - surprise.detach(),
        }

    def result_columns(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> dict[str, ResultColumn]:
        """The map's mass, the field's magnitude, and the estimates as the network gives them."""
        estimate = outputs["estimate"].cpu().numpy()
        values = {
            "log_map_mass": map_mass(outputs["mass_map"]),
            "field_magnitude_v": field_magnitude(observation),
            "age_estimate": estimate[:, 0],
            "distance_estimate": estimate[:, 1],
        }
        return described(values, self.described_columns)

    def _perceptual(self, device: torch.device) -> PerceptualLoss:
        """The perceptual loss on a device; weights are read on first use."""
        if device not in self._losses:
            path = self.model.vgg16
            weights = vgg16_of_torchvision() if path is None else read_vgg16(path)
            self._losses[device] = PerceptualLoss(weights, self.model.grey).to(device)
        return self._losses[device]
