import torch
from small_images import SMALL

from melotte.engine.training import train
from melotte.systems.registry import build_system, load_preset


def trained(path, *settings, start=None):
    preset = load_preset(
        "m83",
        [
            *SMALL,
            "training.batch_size=16",
            "training.views=4",
            "training.total_mocks=48",
            "training.n_batches=3",
            "training.warmup_batches=1",
            "training.validation_size=16",
            "training.constants_size=32",
            "local.progress=none",
            *settings,
        ],
    )
    system = build_system(preset)
    content = preset.model_dump(mode="json")
    return train(system, content, preset.training, preset.local, path, finish=None, start=start)


def test_a_frozen_encoder_keeps_its_running_statistics(tmp_path):
    first = trained(tmp_path / "first.safetensors")
    second = trained(
        tmp_path / "second.safetensors",
        "training.frozen=[encoder]",
        "training.precision=32",
        start=first,
    )
    before, after = first.network.state_dict(), second.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("running_mean" in name for name in before)
    assert not any(name.startswith("encoder.") for name in moved)
    assert any(name.startswith("head.") for name in moved)


def test_a_free_encoder_learns_weights_and_statistics(tmp_path):
    first = trained(tmp_path / "first.safetensors")
    second = trained(tmp_path / "second.safetensors", start=first)
    before, after = first.network.state_dict(), second.network.state_dict()
    moved = {name for name in before if not torch.equal(before[name], after[name])}
    assert any("running_mean" in name for name in moved)
    assert any(name.endswith("stem.0.weight") for name in moved)
