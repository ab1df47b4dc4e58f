"""Mock clusters that both networks read."""

from __future__ import annotations

import pytest

from melotte.engine.mocks import draw_mocks
from melotte.systems.base import Batch
from melotte.systems.registry import build_system, load_preset


@pytest.fixture(scope="session")
def published_mocks() -> Batch:
    """Two hundred mock clusters with their labels."""
    system = build_system(load_preset("galaxy-cluster-cnn1d"))
    return draw_mocks(system, 200, seed=7, batch_size=200)[0]
