"""Mocks of the cluster-image systems: scenes, fields and set-ups of one area of the sky."""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.systems.areas import AREAS, Area
from melotte.systems.base import Batch, Observation
from melotte.systems.cluster_images.field_pools import AreaFields, fields_of
from melotte.systems.cluster_images.observing import (
    camera_data,
    recorded,
    repeated,
    spoil,
    turned,
    visibility,
)
from melotte.systems.cluster_images.scenes import ClusterScenes, SceneSimulator
from melotte.systems.cluster_images.set_ups import SetUps
from melotte.systems.cluster_images.settings import DataSettings


class ClusterImageSimulator:
    """Draws scenes and observes them, in one area, on one device.

    Set-ups and fields are made when they are first needed, from the seed of the fields and the
    area alone.

    Parameters
    ----------
    data : DataSettings
    names : sequence of str
        Parameters, in the order of ``theta``.
    area : {"training", "validation", "test"}
    device : torch.device
    """

    def __init__(
        self, data: DataSettings, names: tuple[str, ...], area: Area, device: torch.device
    ) -> None:
        self.data = data
        self.names = names
        self.area: Area = area
        self.device = device

    @cached_property
    def set_ups(self) -> SetUps:
        """The camera's set-ups in this area."""
        fields = self.data.fields
        tiles = fields.tiles if self.area == "training" else fields.held_out_tiles
        generator = keyed_generator(fields.seed, AREAS.index(self.area), 0)
        return SetUps.drawn(self.data, min(self.data.setups, tiles), generator)

    @cached_property
    def scenes(self) -> SceneSimulator:
        """What draws and renders clusters."""
        return SceneSimulator(self.data, self.set_ups, self.names, self.device)

    @cached_property
    def fields(self) -> AreaFields:
        """The backgrounds of this area."""
        return fields_of(self.data, self.set_ups, self.area, self.device)

    def draw(self, n: int, generator: torch.Generator) -> ClusterScenes:
        """Draw and render ``n`` scenes."""
        return self.scenes.draw(n, generator)

    def observe(self, scenes: ClusterScenes, generator: torch.Generator, views: int) -> Batch:
        """Record each scene ``views`` times: other fields, noise and orientations.

        Returns
        -------
        Batch
            ``observation.data``: ``image`` (batch, n_bands, size, size), counts/s, NaN where
            unknown; ``exposure`` and ``fwhm`` (batch, n_bands), s and arcsec; ``pixel_scale``,
            ``distance_modulus`` and ``metallicity`` (batch,). ``targets``: ``class`` (1 where
            there is a cluster), ``visibility`` (0 without one) and ``magnitude`` (batch, n_bands).
        """
        group = torch.arange(len(scenes), device=self.device).repeat_interleave(views)
        seen = repeated(scenes, views)
        image = turned(seen.image, generator) if views > 1 else seen.image
        field = self.fields.cut(seen.set_up, self.data.size, generator)
        camera = camera_data(self.set_ups, seen.set_up, self.device)
        settings = self.data.camera
        camera["exposure"] = self._exposures(camera["exposure"], generator)
        frame = recorded(
            image,
            field,
            camera["exposure"],
            generator,
            median_share=self._median_share(len(seen), generator),
            read_noise=self._read_noise(seen.set_up),
            calibration_scatter=settings.calibration_scatter,
        )
        if not settings.noise_of_empty:
            frame = torch.where(seen.is_cluster[:, None, None, None], frame, field)
        radius = seen.theta[:, self.names.index("half_number_radius")].nan_to_num(0.1)
        stands_out = visibility(image, field, radius, camera["fwhm"], camera["pixel_scale"])
        data = {"image": spoil(frame, self.data, generator)} | camera
        targets = {
            "class": seen.is_cluster.float(),
            "visibility": torch.where(seen.is_cluster, stands_out, 0.0),
            "magnitude": seen.magnitude,
        }
        return Batch.labelled(Observation(data), seen.theta, targets, group)

    def _exposures(self, exposure: Tensor, generator: torch.Generator) -> Tensor:
        """Exposures (n, n_bands) of the photon noise: some, or all, of one second."""
        settings = self.data.camera
        if settings.noise == "per_second":
            return torch.ones_like(exposure)
        if settings.per_second_share == 0:
            return exposure
        chance = torch.rand(len(exposure), 1, generator=generator, device=self.device)
        return torch.where(chance < settings.per_second_share, 1.0, exposure)

    def _median_share(self, n: int, generator: torch.Generator) -> Tensor | float:
        low, high = self.data.camera.noise_of_median
        if low == high:
            return low
        return low + (high - low) * torch.rand(n, generator=generator, device=self.device)

    def _read_noise(self, set_up: Tensor) -> Tensor | None:
        if self.data.camera.read_noise == 0:
            return None
        return self.set_ups.tensor("read_noise", self.device)[set_up]
