"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real catalogues; tests that need it skip without it."""
    named = os.environ.get("MELOTTE_DATA")
    beside = Path(__file__).parents[2] / "shared" / "data"
    folder = Path(named) if named else beside
    if not folder.is_dir():
        pytest.skip(
            "needs the real catalogues: set MELOTTE_DATA to their folder "
            f"(looked in {'$MELOTTE_DATA' if named else 'shared/data beside the checkout'})"
        )
    return folder


@pytest.fixture
def generator() -> torch.Generator:
    """A seeded generator; a test that draws twice gets two different draws."""
    return torch.Generator().manual_seed(20261121)


@pytest.fixture(autouse=True, scope="session")
def coarse_figures() -> Iterator[None]:
    """Pictures are written small: quicker, and as whole."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr("melotte.report.style.RESOLUTION", 40)
        yield
