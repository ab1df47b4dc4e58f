import pytest
import torch

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.systems.registry import build_system, load_preset

SMALL = (
    "data.clusters.age_step=0.7",
    "data.size=48",
    "data.setups=2",
    "data.fields.tiles=2",
    "data.fields.held_out_tiles=2",
    "data.fields.size=128",
    "data.camera.blur=1.0",
    "data.camera.metallicity=0.0",
)


@pytest.fixture(scope="session")
def small_m83():
    return build_system(load_preset("m83", SMALL))


@pytest.fixture(scope="session")
def m83_mocks(small_m83):
    return mock_batch(small_m83, 96, 3, Stream.MOCKS, 0, views=2)


@pytest.fixture(scope="session")
def m83_network(small_m83, m83_mocks):
    torch.manual_seed(5)
    return small_m83.network(small_m83.constants(m83_mocks)).eval()
