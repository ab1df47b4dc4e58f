"""A small library of clusters that are no simulations, but stars by known laws."""

import h5py
import pytest
from small_library import write_run


@pytest.fixture(scope="session")
def library(tmp_path_factory):
    """Six runs of three families, three snapshots each."""
    path = tmp_path_factory.mktemp("library") / "clusters.h5"
    with h5py.File(path, "w") as file:
        for number, family in enumerate(
            ["training", "training", "training", "validation", "test", "pidoc-training"]
        ):
            write_run(file, f"{family}-{number}", family, seed=number)
    return path
