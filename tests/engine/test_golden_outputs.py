"""Shipped models answer stored mocks as they did when they were shipped."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

import melotte
from melotte import api
from melotte.ragged import Ragged
from melotte.systems.base import Observation

FOLDER = Path(__file__).parents[1] / "golden"
FILES = sorted(FOLDER.glob("*.safetensors"))


def stored(path):
    """Observation and answers of a file."""
    with safe_open(path, "pt") as file:
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        header = json.loads(file.metadata()["mocks"])["header"]
    data = {}
    for name, value in tensors.items():
        part, _, rest = name.partition(".")
        if part == "data" and rest.endswith(".values"):
            field = rest.removesuffix(".values")
            data[field] = Ragged(value, tensors[f"data.{field}.offsets"])
        elif part == "data" and not rest.endswith(".offsets"):
            data[rest] = value
    answers = {
        name.removeprefix("answer."): one.numpy()
        for name, one in tensors.items()
        if name.startswith("answer.")
    }
    return Observation(data, (), tensors.get("observation_flags"), header), answers


def test_every_shipped_model_has_its_answers_stored():
    assert {path.stem for path in FILES} == set(api.shipped_models())


@pytest.mark.parametrize("path", FILES, ids=[path.stem for path in FILES])
def test_answers_are_those_that_were_shipped(path):
    observation, answers = stored(path)
    result = api.infer_observations(
        melotte.load(path.stem, device="cpu"), [observation], progress=False
    )
    expected = answers.pop("quantiles")
    assert np.isfinite(expected).any()
    # Processors round differently; a hundredth of the interval is no other answer.
    width = expected[:, 2] - expected[:, 0]
    assert (width >= 0).all() | np.isnan(width).any()
    np.testing.assert_array_less(
        np.nan_to_num(np.abs(result.quantiles - expected)),
        np.nan_to_num(0.01 * width[:, None] + 1e-5 * (1 + np.abs(expected)), nan=1.0),
    )
    np.testing.assert_array_equal(np.isnan(result.quantiles), np.isnan(expected))
    np.testing.assert_array_equal(result.flags, answers.pop("flags"))
    for name, values in answers.items():
        found = np.asarray(result.columns[name.removeprefix("column.")].values, dtype=float)
        np.testing.assert_allclose(found, values, rtol=2e-3, atol=1e-5, err_msg=name)


def test_a_changed_model_is_noticed():
    observation, answers = stored(FOLDER / "open-cluster.safetensors")
    model = melotte.load("open-cluster", device="cpu")
    with torch.no_grad():
        for weight in model.network.parameters():
            weight.mul_(1.02)
    found = api.infer_observations(model, [observation], progress=False).quantiles
    width = answers["quantiles"][:, 2] - answers["quantiles"][:, 0]
    assert (np.abs(found - answers["quantiles"]) > 0.01 * width[:, None]).any()
