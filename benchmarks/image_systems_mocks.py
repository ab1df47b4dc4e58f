"""Test mocks of the image-system benchmark: clusters, empty fields and planted cases.

Everything is drawn in the test area of a preset, whose fields no training sees. Clusters and
their observation have random streams of their own, so that the same clusters can be looked at
through another camera.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.parameters import Parameter
from melotte.sky.profiles import draw_eff_shapes_of_size
from melotte.systems.base import Batch, Observation
from melotte.systems.cluster_images.observing import camera_data, recorded, visibility
from melotte.systems.cluster_images.scenes import ClusterScenes
from melotte.systems.cluster_images.simulator import ClusterImageSimulator
from melotte.systems.cluster_images.system import ImageSystem
from melotte.systems.registry import build_system
from melotte.telescope.psf import PSF
from melotte.telescope.rendering import ImageRenderer

BATCH = 200
CLUSTERS, RECORDS, PLANTED = 101, 102, 103
"""Random streams."""
EVEN: dict[str, Any] = {"background_share": 0.0, "missing_band_share": 0.0, "masked_share": 0.0}


class TestGround:
    """Mocks of a preset in its test area.

    Parameters
    ----------
    preset : mapping
        A preset's content, such as a model file holds.
    seed : int
    tiles : int, optional
        Fields to cut from; the preset's number without.
    device : torch.device or str
    """

    __test__ = False

    def __init__(
        self,
        preset: Mapping[str, Any],
        seed: int,
        tiles: int | None = None,
        device: torch.device | str = "cpu",
    ) -> None:
        content = copy.deepcopy(dict(preset))
        content["data"] = dict(content["data"]) | EVEN
        if tiles is not None:
            content["data"]["fields"] = dict(content["data"]["fields"]) | {"held_out_tiles": tiles}
        system = build_system(content)
        if not isinstance(system, ImageSystem):
            raise SystemExit(f"{content.get('name')}: not a system of cluster images")
        self.system = system.in_area("test")
        self.seed = seed
        self.device = torch.device(device)
        self.simulator: ClusterImageSimulator = self.system.simulator(self.device)

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """What the faithful network infers."""
        return self.system.parameters

    @property
    def names(self) -> tuple[str, ...]:
        """Their names."""
        return self.simulator.names

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Ranges that clusters are drawn from; single numbers are left out."""
        clusters = self.system.data.clusters
        drawn = {name: getattr(clusters, name) for name in self.names}
        return {name: (low, high) for name, (low, high) in drawn.items() if low < high}

    def generator(self, stream: int, number: int) -> torch.Generator:
        """Of one stream and batch."""
        return keyed_generator(self.seed, stream, number, device=self.device)

    def through(self, **camera: Any) -> TestGround:
        """The same clusters and fields with other settings of the camera's noise."""
        data = self.simulator.data
        settings = data.camera.model_copy(update=camera)
        return self._with(data=data.model_copy(update={"camera": settings}))

    def with_psfs(self, psfs: Sequence[PSF]) -> TestGround:
        """The same clusters, whose stars look different (one PSF a band); fields stay."""
        scenes = copy.copy(self.simulator.scenes)
        cameras = self.simulator.set_ups.cameras
        scenes.renderer = ImageRenderer(
            [list(psfs)] * len(cameras),
            [one.pixel_scale for one in cameras],
            self.simulator.data.size,
            device=self.device,
        )
        return self._with(scenes=scenes)

    def _with(self, **changes: Any) -> TestGround:
        # What the simulator builds on first use is shared.
        _ = self.simulator.fields, self.simulator.scenes
        other = copy.copy(self)
        other.simulator = copy.copy(self.simulator)
        other.simulator.__dict__.update(changes)
        return other

    def clusters(self, n: int) -> Iterator[Batch]:
        """Mock clusters in batches."""
        for number, size in enumerate(sizes(n)):
            scenes = self.simulator.draw(size, self.generator(CLUSTERS, number))
            yield self.record(scenes, number)

    def empty(self, n: int, noisy: bool = False) -> Iterator[Batch]:
        """Empty fields in batches.

        Parameters
        ----------
        n : int
        noisy : bool
            Record them as clusters are, here of no light: with photon noise of the background's
            median on top of the field's own. Otherwise they are the fields as they are, and their
            noise alone tells them from clusters.
        """
        data, n_parameters = self.simulator.data, len(self.names)
        for number, size in enumerate(sizes(n)):
            generator = self.generator(RECORDS, 100_000 + number)
            n_set_ups = len(self.simulator.set_ups)
            scenes = ClusterScenes(
                torch.full((size, n_parameters), math.nan, device=self.device),
                torch.zeros(size, len(data.bands), data.size, data.size, device=self.device),
                torch.randint(n_set_ups, (size,), generator=generator, device=self.device),
                torch.zeros(size, dtype=torch.bool, device=self.device),
                torch.full((size, len(data.bands)), math.inf, device=self.device),
                torch.full((size, 2), math.nan, device=self.device),
            )
            batch = self.simulator.observe(scenes, generator, 1)
            if noisy:
                field, exposure = (batch.observation.data[k] for k in ("image", "exposure"))
                assert isinstance(field, Tensor)
                assert isinstance(exposure, Tensor)
                again = recorded(torch.zeros_like(field), field, exposure, generator)
                batch = with_image(batch, again)
            yield batch

    def record(self, scenes: ClusterScenes, number: int) -> Batch:
        """Observe scenes once, with the noise and fields of a batch number."""
        return self.simulator.observe(scenes, self.generator(RECORDS, number), 1)

    def planted(self, values: Mapping[str, Tensor], number: int) -> ClusterScenes:
        """Clusters of given parameters, with shapes drawn along lines of constant size.

        Parameters
        ----------
        values : mapping of parameter to Tensor (n,), physical units
        number : int
            Of the random stream.
        """
        scenes, clusters = self.simulator.scenes, self.simulator.data.clusters
        generator = self.generator(PLANTED, number)
        theta = torch.stack([values[name].float() for name in self.names], 1).to(self.device)
        radius = values["half_number_radius"].float().to(self.device)
        shape = torch.stack(
            draw_eff_shapes_of_size(radius, clusters.scale_radius, clusters.gamma, generator), 1
        )
        n = len(theta)
        set_up = torch.zeros(n, dtype=torch.long, device=self.device)
        stars = scenes.of_parameters(theta, shape, set_up, generator)
        image = scenes.render(stars, set_up, generator)
        present = torch.ones(n, dtype=torch.bool, device=self.device)
        return ClusterScenes(theta, image, set_up, present, stars.magnitude, shape)

    def fields(self, n: int, number: int) -> Tensor:
        """Some backgrounds (n, n_bands, size, size), counts/s."""
        set_up = torch.zeros(n, dtype=torch.long, device=self.device)
        size = self.simulator.data.size
        return self.simulator.fields.cut(set_up, size, self.generator(PLANTED, 50_000 + number))

    def on_field(self, scenes: ClusterScenes, field: Tensor, number: int) -> Batch:
        """Observe scenes in front of given fields (n or 1, n_bands, size, size), counts/s."""
        simulator = self.simulator
        field = field.expand_as(scenes.image)
        camera = camera_data(simulator.set_ups, scenes.set_up, self.device)
        if simulator.data.camera.noise == "per_second":
            camera["exposure"] = torch.ones_like(camera["exposure"])
        frame = recorded(
            scenes.image, field, camera["exposure"], self.generator(RECORDS, 200_000 + number)
        )
        radius = scenes.theta[:, self.names.index("half_number_radius")]
        stands_out = visibility(scenes.image, field, radius, camera["fwhm"], camera["pixel_scale"])
        targets = {
            "class": torch.ones(len(scenes), device=self.device),
            "visibility": stands_out,
            "magnitude": scenes.magnitude,
        }
        return Batch.labelled(Observation({"image": frame} | camera), scenes.theta, targets)


def with_image(batch: Batch, image: Tensor) -> Batch:
    """The same mocks with other pictures."""
    data = dict(batch.observation.data) | {"image": image}
    return replace(batch, observation=replace(batch.observation, data=data))


def sizes(n: int) -> list[int]:
    """Sizes of the batches of ``n`` mocks."""
    return [min(BATCH, n - first) for first in range(0, n, BATCH)]
