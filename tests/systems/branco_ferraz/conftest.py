"""Systems of the seed's presets, and labelled mock clusters."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from melotte.systems.base import Batch
from melotte.systems.branco_ferraz.system import BrancoFerraz
from melotte.systems.registry import build_system, load_preset


@pytest.fixture(scope="session")
def seed_system() -> Callable[..., BrancoFerraz]:
    """Build the system of a shipped preset: network's name, then overrides."""

    def build(network: str, *overrides: str) -> BrancoFerraz:
        system = build_system(load_preset(f"open-cluster-{network}", overrides))
        assert isinstance(system, BrancoFerraz)
        return system

    return build


@pytest.fixture(scope="session")
def mocks(seed_system) -> Batch:
    """Forty mock clusters with their labels."""
    generator = torch.Generator().manual_seed(4)
    system = seed_system("ann")
    return system.observe(system.draw(40, generator), generator)
