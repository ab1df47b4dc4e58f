"""A model file gives back the model that was written, and nothing else opens as one."""

from __future__ import annotations

import json
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian, build
from safetensors.torch import load_file, save_file

from melotte.engine.model_files import Model, load_model, read_metadata, save_model
from melotte.errors import MelotteFileError, MelotteValueError

DATA = LinearGaussian().identity_constants


@pytest.fixture
def model():
    torch.manual_seed(3)
    system = LinearGaussian()
    return Model(
        system,
        PRESET,
        DATA,
        system.network(DATA).eval(),
        provenance={"seed": 1, "mocks": 10},
        metrics={"bias": np.float32(0.5), "r2": float("nan")},
        calibration={"levels": np.array([0.68, 0.95])},
        reference={"mean": torch.tensor([1.0, float("inf")]), "count": torch.tensor(7)},
    )


@pytest.fixture
def path(model, tmp_path):
    path = tmp_path / "model.safetensors"
    save_model(path, model)
    return path


def log_prob(model, generator):
    batch = model.system.observe(model.system.draw(8, generator), generator)
    inputs = model.system.prepare(batch.observation, model.constants)
    return model.network(inputs)["posterior"].log_prob(model.prior.to_unit(batch.theta))


def rewrite(path, change_tensors=None, change_metadata=None, raw=None):
    tensors = load_file(path)
    metadata = read_metadata(path)
    metadata.pop("file_bytes")
    if change_tensors:
        change_tensors(tensors)
    if change_metadata:
        change_metadata(metadata)
    save_file(tensors, path, {"melotte": json.dumps(metadata) if raw is None else raw})


def test_save_then_load_gives_the_same_model(model, path):
    loaded = load_model(path, build)
    first = log_prob(model, torch.Generator().manual_seed(1))
    second = log_prob(loaded, torch.Generator().manual_seed(1))
    assert torch.equal(first, second)
    assert (loaded.name, loaded.parameters) == (model.name, model.parameters)
    assert (loaded.preset, loaded.constants) == (PRESET, DATA)
    assert loaded.metrics == {"bias": 0.5, "r2": None}
    assert loaded.calibration == {"levels": [0.68, 0.95]}
    assert loaded.reference["count"] == 7
    assert torch.equal(loaded.reference["mean"], model.reference["mean"])
    assert not loaded.network.training


def test_half_storage_is_smaller_close_and_restored_to_float32(model, path, tmp_path):
    model.network.head.weight.data[0, 0] = 1e5
    small = tmp_path / "half.safetensors"
    save_model(path, model)
    save_model(small, model, half=True)
    assert load_file(small)["network.features.0.weight"].dtype == torch.float16
    loaded = load_model(small, build)
    assert {value.dtype for value in loaded.network.state_dict().values()} == {torch.float32}
    assert loaded.network.head.weight[0, 0] == 1e5
    assert torch.equal(loaded.network.skip.bias, model.network.skip.bias)
    for name, value in model.network.state_dict().items():
        torch.testing.assert_close(loaded.network.state_dict()[name], value, rtol=5e-4, atol=1e-7)


def test_metadata_is_read_without_torch(path):
    metadata = read_metadata(path)
    assert metadata["preset"] == PRESET
    assert metadata["parameters"][0]["name"] == "log_age"
    assert metadata["file_bytes"] == path.stat().st_size
    code = (
        "import sys; from melotte.engine.model_files import read_metadata; "
        f"read_metadata({str(path)!r}); sys.exit('torch' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "not a model file"),
        (b"# a text file, longer than eight bytes\n" * 20, "not a model file"),
        (pickle.dumps({"weights": [1.0]}) * 10, "not a model file"),
        (struct.pack("<Q", 2) + b"{}", "not a model of melotte"),
        (struct.pack("<Q", 4) + b"[12]", "no safetensors header"),
        (struct.pack("<Q", 12) + b'{"a": [1, 2}', "no safetensors header"),
        (struct.pack("<Q", 2**60) + b"{}", "not a model file"),
    ],
)
def test_other_files_are_refused(tmp_path, content, said):
    path = tmp_path / "model.safetensors"
    path.write_bytes(content)
    assert_refused(path, said)


def assert_refused(path, *said):
    with pytest.raises(MelotteFileError) as caught:
        load_model(path, build)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert "\n" not in message
    assert all(word in message for word in said), message


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert_refused(tmp_path / "absent.safetensors", "No such file")
    assert_refused(tmp_path, "cannot be read")


@pytest.mark.parametrize("kept", [4, 30, 400, -1])
def test_a_file_cut_short_is_refused(path, kept):
    path.write_bytes(path.read_bytes()[:kept])
    assert_refused(path, "cut short")


def test_a_file_with_more_at_its_end_is_refused(path):
    path.write_bytes(path.read_bytes() + b"0")
    assert_refused(path, "damaged")


def test_the_safetensors_file_of_another_tool_is_refused(tmp_path):
    path = tmp_path / "other.safetensors"
    save_file({"weight": torch.ones(2)}, path, {"format": "pt"})
    assert_refused(path, "not a model of melotte")


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        ("{", "not JSON"),
        ("[]", "format_version"),
        ("{}", "format_version None"),
        ('{"format_version": "1"}', "format_version '1'"),
        ('{"format_version": 2}', "format_version 2 is later than 1"),
        ('{"format_version": 1}', "lacks preset, parameters"),
    ],
)
def test_wrong_metadata_is_refused(path, raw, said):
    rewrite(path, raw=raw)
    assert_refused(path, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tensors: tensors.pop("network.skip.bias"), "lacks skip.bias"),
        (lambda tensors: tensors.update({"network.new": torch.ones(1)}), "has also new"),
        (
            lambda tensors: tensors.update({"network.skip.bias": torch.ones(9)}),
            "skip.bias has shape (9,)",
        ),
        (lambda tensors: tensors.update({"stray": torch.ones(1)}), "stray"),
    ],
)
def test_weights_that_do_not_fit_are_refused(path, change, said):
    rewrite(path, change_tensors=change)
    assert_refused(path, said)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda m: m["preset"].update(system="quasar"), "'quasar' is not known"),
        (lambda m: m["preset"]["data"].update(colour=1), "colour"),
        (lambda m: m["preset"]["model"].update(width=8), "has shape"),
        (lambda m: m["parameters"].pop(), "parameters ['log_age', 'extinction_v']"),
        (lambda m: m.update(parameters=[3]), "parameters is not a list of objects"),
        (lambda m: m.update(preset=[]), "preset is not an object"),
        (lambda m: m["dtypes"].update({"network.skip.bias": "no_dtype"}), "no_dtype"),
        (lambda m: m["dtypes"].update({"network.absent": "float32"}), "network.absent"),
    ],
)
def test_metadata_that_does_not_fit_is_refused(path, change, said):
    rewrite(path, change_metadata=change)
    assert_refused(path, said)


def test_a_model_that_is_not_finite_is_not_written_and_the_old_file_stays(model, path):
    before = path.read_bytes()
    model.network.skip.bias.data[0] = float("nan")
    with pytest.raises(MelotteValueError, match=r"network\.skip\.bias"):
        save_model(path, model)
    model.network.skip.bias.data[0] = 0
    model.constants = {"mean": [float("inf")]}
    with pytest.raises(MelotteValueError, match=r"constants\.mean\[0\] is inf"):
        save_model(path, model)
    assert path.read_bytes() == before
    assert [one.name for one in path.parent.iterdir()] == [path.name]


def test_a_missing_folder_is_named(model, tmp_path):
    with pytest.raises(MelotteFileError, match="cannot be written"):
        save_model(tmp_path / "absent" / "model.safetensors", model)


def test_what_has_no_json_form_is_named(model, tmp_path):
    model.provenance = {"when": object()}
    with pytest.raises(MelotteValueError, match=r"provenance\.when is a object"):
        save_model(tmp_path / "model.safetensors", model)
