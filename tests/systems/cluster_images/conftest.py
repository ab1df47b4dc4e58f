import pytest
import torch
from small_images import SMALL

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.systems.registry import build_system, load_preset


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
