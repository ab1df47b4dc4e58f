"""Small galaxy-cluster models for tests of what is said of galaxies."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import nn

from melotte.engine.mocks import draw_mocks
from melotte.engine.model_files import Model
from melotte.ragged import Ragged
from melotte.systems.galaxy_cluster.preparation import GALAXY_FEATURES
from melotte.systems.registry import build_system, load_preset

SMALL = (
    "model.width=16", "model.blocks=1", "model.attention_seeds=2", "model.features=16",
    "data.redshift=[0.01,0.2]", "data.apertures=[medium]",
)  # fmt: skip
EDGE, FALL, SOFTNESS = 1800.0, 700.0, 120.0
"""Planted boundary: members up to EDGE - FALL R/(Mpc/h) km/s."""


class PlantedMembers(nn.Module):
    """A network whose members end at a known speed."""

    def __init__(self, network, constants):
        super().__init__()
        self.network = network
        self.register_buffer("mean", torch.tensor(constants["galaxy_mean"]))
        self.register_buffer("std", torch.tensor(constants["galaxy_std"]))

    def forward(self, inputs):
        features = inputs["galaxies"].values * self.std + self.mean
        speed = 1000 * features[:, GALAXY_FEATURES.index("speed")]
        radius = 10 ** features[:, GALAXY_FEATURES.index("radius")]
        member = (EDGE - FALL * radius - speed) / SOFTNESS
        return self.network(inputs) | {"member": member}


def small_model(*overrides):
    """An untrained model, and the mocks that its constants come from."""
    preset = load_preset("galaxy-cluster", [*SMALL, *overrides])
    system = build_system(preset)
    mocks = draw_mocks(system, 48, seed=4, batch_size=48)[0]
    constants = system.constants(mocks)
    torch.manual_seed(2)
    network = system.network(constants).eval()
    return Model(system, preset.model_dump(mode="json"), constants, network), mocks


def planted_model():
    """The same with members as planted."""
    model, mocks = small_model()
    return replace(model, network=PlantedMembers(model.network, model.constants).eval()), mocks


def one_cluster(mocks, n_galaxies=60):
    """A mock with about so many galaxies, as real ones are read: without the truth."""
    galaxies = mocks.observation.data["galaxies"]
    i = int((galaxies.counts - n_galaxies).abs().argmin())
    chosen = mocks.observation.select(torch.tensor([i]))
    data = {name: value for name, value in chosen.data.items() if name != "is_member"}
    assert isinstance(data["galaxies"], Ragged)
    return replace(chosen, data=data, ids=("mock",))
