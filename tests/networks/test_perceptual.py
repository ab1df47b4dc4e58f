"""The perceptual loss: what VGG16 sees of grey maps, gradients, weights from files."""

from __future__ import annotations

import types

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from melotte.errors import MelotteFileError, MelotteValueError, MissingExtraError
from melotte.networks import vgg16_weights
from melotte.networks.perceptual import PerceptualLoss
from melotte.networks.vgg16_weights import LAYERS, read_vgg16, vgg16_of_torchvision


def keyed(seed=0):
    return torch.Generator().manual_seed(seed)


def random_weights():
    generator = keyed()
    return {
        layer: (
            torch.randn(n_out, n_in, 3, 3, generator=generator) / (9 * n_in) ** 0.5,
            torch.randn(n_out, generator=generator),
        )
        for layer, (n_in, n_out) in LAYERS.items()
    }


def archive(path, weights=None, **changes):
    arrays = {}
    for layer, (kernel, bias) in (weights or random_weights()).items():
        arrays[f"{layer}_kernel"] = kernel.permute(2, 3, 1, 0).numpy()
        arrays[f"{layer}_bias"] = bias.numpy()
    arrays |= changes
    np.savez(path, **{name: array for name, array in arrays.items() if array is not None})
    return path


@pytest.fixture
def maps():
    return torch.rand(5, 1, 12, 10, generator=keyed(1)), torch.rand(
        5, 1, 12, 10, generator=keyed(2)
    )


def features_of_colours(weights, maps, limits):
    """VGG16 as published, on three equal colours."""
    low, high = limits
    colours = (255 * (maps - low) / (high - low)).expand(-1, 3, -1, -1)
    state = colours - torch.tensor([103.939, 116.779, 123.68])[:, None, None]
    found = []
    for number, layer in enumerate(LAYERS):
        if number == 2:
            state = functional.max_pool2d(state, 2)
        state = torch.relu(functional.conv2d(state, *weights[layer], padding=1))
        found.append(state)
    return found[0], found[1], found[3]


def test_a_map_is_seen_as_a_grey_photograph(maps):
    weights, limits = random_weights(), (-0.5, 2.0)
    seen = PerceptualLoss(weights, limits).features(maps[0])
    for one, other in zip(seen, features_of_colours(weights, maps[0], limits), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-3)


def test_the_loss_is_the_sum_of_the_layers_mean_squares(maps):
    weights, limits = random_weights(), (0.0, 1.0)
    pairs = zip(*(features_of_colours(weights, one, limits) for one in maps), strict=True)
    by_hand = sum((one - other).square().mean((1, 2, 3)) for one, other in pairs)
    torch.testing.assert_close(PerceptualLoss(weights)(*maps), by_hand, rtol=1e-4, atol=0)


def test_equal_maps_have_no_loss_and_worse_ones_have_more(maps):
    loss = PerceptualLoss(random_weights())
    target, noise = maps
    assert float(loss(target, target).max()) == 0
    grown = [float(loss(target + step * (noise - 0.5), target).mean()) for step in (0.1, 0.2, 0.4)]
    assert 0 < grown[0] < grown[1] < grown[2]


def test_the_gradient_is_that_of_the_whole_batch_at_once(maps):
    weights, (predicted, target) = random_weights(), maps
    share = torch.rand(5, generator=keyed(3))
    leaf = predicted.clone().requires_grad_()
    pairs = zip(
        features_of_colours(weights, leaf, (0, 1)),
        features_of_colours(weights, target, (0, 1)),
        strict=True,
    )
    wanted = sum((one - other.detach()).square().mean((1, 2, 3)) for one, other in pairs)
    (share * wanted).sum().backward()
    for at_once in (1, 2, 8):
        ours = predicted.clone().requires_grad_()
        (share * PerceptualLoss(weights, maps_at_once=at_once)(ours, target)).sum().backward()
        scale = float(leaf.grad.abs().max())
        torch.testing.assert_close(ours.grad, leaf.grad, rtol=1e-3, atol=1e-4 * scale)


def test_values_beyond_the_limits_have_a_gradient(maps):
    predicted = (maps[0] + 5).requires_grad_()
    PerceptualLoss(random_weights())(predicted, maps[1]).sum().backward()
    assert float(predicted.grad.abs().max()) > 0


def test_weights_do_not_learn_and_are_not_saved(maps):
    loss = PerceptualLoss(random_weights())
    assert not list(loss.parameters())
    assert not loss.state_dict()
    with torch.no_grad():
        assert not loss(*maps).requires_grad


def test_half_precision_is_near(maps):
    loss = PerceptualLoss(random_weights())
    exact = loss(*maps)
    predicted = maps[0].clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        rounded = loss(predicted, maps[1])
    assert rounded.dtype == torch.float32
    torch.testing.assert_close(rounded.detach(), exact, rtol=0.05, atol=0)


def test_a_map_can_be_found_by_its_features(maps):
    loss = PerceptualLoss(random_weights())
    found = torch.full_like(maps[0], 0.5).requires_grad_()
    optimiser = torch.optim.Adam([found], lr=0.05)
    for _ in range(60):
        optimiser.zero_grad()
        loss(found, maps[0]).sum().backward()
        optimiser.step()
    before = float((maps[0] - 0.5).square().mean())
    assert float((found.detach() - maps[0]).square().mean()) < 0.1 * before


def test_weights_survive_a_file(tmp_path):
    weights = random_weights()
    read = read_vgg16(archive(tmp_path / "vgg16.npz", weights, other=np.zeros(3)))
    for layer, pair in weights.items():
        for one, other in zip(read[layer], pair, strict=True):
            assert torch.equal(one, other), layer


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block2_conv1_bias": None}, "no array 'block2_conv1_bias'"),
        ({"block1_conv2_kernel": np.zeros((3, 3, 64, 32))}, "block1_conv2 needs a kernel for 64"),
        ({"block1_conv1_kernel": np.zeros(9)}, "block1_conv1 needs a kernel for 3"),
        ({"block2_conv2_bias": np.full(128, np.nan)}, "block2_conv2 are not finite"),
        ({"block2_conv2_bias": np.array([{}] * 128)}, "not a NumPy archive"),
    ],
)
def test_foreign_weights_are_refused(tmp_path, changes, message):
    path = archive(tmp_path / "vgg16.npz", **changes)
    with pytest.raises((MelotteFileError, MelotteValueError), match=message) as raised:
        read_vgg16(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("content", [b"", b"no archive", b"PK\x03\x04 cut off"])
def test_files_of_another_kind_are_refused(tmp_path, content):
    path = tmp_path / "vgg16.npz"
    path.write_bytes(content)
    with pytest.raises(MelotteFileError, match="not a NumPy archive"):
        read_vgg16(path)


def test_a_single_array_and_a_missing_file_are_refused(tmp_path):
    np.save(tmp_path / "one.npy", np.zeros(3))
    with pytest.raises(MelotteFileError, match="not a NumPy archive"):
        read_vgg16(tmp_path / "one.npy")
    with pytest.raises(MelotteFileError, match="no such file"):
        read_vgg16(tmp_path / "none.npz")


def test_torchvision_s_colours_are_turned(monkeypatch):
    weights = random_weights()
    layers: list[nn.Module] = [nn.Identity() for _ in range(8)]
    for place, (layer, (kernel, bias)) in zip((0, 2, 5, 7), weights.items(), strict=True):
        convolution = nn.Conv2d(kernel.shape[1], kernel.shape[0], 3, padding=1)
        turned = kernel.flip(1) if layer == "block1_conv1" else kernel
        convolution.weight.data.copy_(turned)
        convolution.bias.data.copy_(bias)
        layers[place] = convolution
    chosen = types.SimpleNamespace(IMAGENET1K_FEATURES="authors")

    def vgg16(weights):
        assert weights == "authors"
        return types.SimpleNamespace(features=layers)

    stand_in = types.SimpleNamespace(vgg16=vgg16, VGG16_Weights=chosen)
    monkeypatch.setattr(vgg16_weights.importlib, "import_module", lambda name: stand_in)
    found = vgg16_of_torchvision()
    for layer, (kernel, bias) in weights.items():
        assert torch.equal(found[layer][0], kernel)
        assert torch.equal(found[layer][1], bias)


def test_missing_torchvision_is_named(monkeypatch):
    def absent(name):
        raise ImportError(name)

    monkeypatch.setattr(vgg16_weights.importlib, "import_module", absent)
    with pytest.raises(MissingExtraError, match="pip install torchvision"):
        vgg16_of_torchvision()


@pytest.mark.parametrize("shape", [(5, 2, 12, 10), (5, 1, 12, 11), (5, 12, 10)])
def test_maps_that_do_not_pair_up_are_refused(maps, shape):
    with pytest.raises(MelotteValueError, match="perceptual loss compares maps"):
        PerceptualLoss(random_weights())(torch.zeros(shape), maps[1])


def test_impossible_settings_are_refused():
    with pytest.raises(MelotteValueError, match="limits"):
        PerceptualLoss(random_weights(), (1.0, 1.0))
    with pytest.raises(MelotteValueError, match="needs weights"):
        PerceptualLoss({"block1_conv1": random_weights()["block1_conv1"]})


def test_photographs_made_the_weights(shared_data):
    """Kernels made for photographs see roughness far better than a constant more of light; with
    random ones the first costs 1.3 times the second."""
    path = shared_data / "vgg" / "vgg16_block1_2.npz"
    if not path.is_file():
        pytest.skip(f"needs {path.name}, the published weights of VGG16's first blocks")
    weights = read_vgg16(path)
    assert abs(float(weights["block1_conv1"][0].mean())) < 0.01
    loss = PerceptualLoss(weights)
    y, x = torch.meshgrid(torch.linspace(-1, 1, 32), torch.linspace(-1, 1, 32), indexing="ij")
    target = torch.exp(-3 * (x**2 + y**2))[None, None]
    noise = torch.randn(1, 1, 32, 32, generator=keyed())
    constant = float(loss(target + 0.05, target))
    rough = float(loss(target + 0.05 * noise / noise.square().mean().sqrt(), target))
    assert rough > 10 * constant > 0
