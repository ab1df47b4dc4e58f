"""The residual encoder: published sizes, the block's equation, results that do not depend on how
it is run."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.residual import IMAGES_AT_ONCE, STAGES, Bottleneck, ResidualEncoder, Stage

SMALL = (Stage(4, 16, 1, 1), Stage(8, 32, 2, 2))
TABLES = {
    80: [(64, 80), (64, 40), (128, 40), (256, 20), (512, 10), (1024, 5)],
    64: [(64, 64), (64, 32), (128, 32), (256, 16), (512, 8), (1024, 4)],
}
"""Channels and pixels a side: conv1, max_pool, conv2_x to conv5_x, of Figs. 4 and 6."""


def keyed(seed):
    return torch.Generator().manual_seed(seed)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=keyed(seed))


def encoder(n_bands=3, **settings):
    torch.manual_seed(0)
    return ResidualEncoder(n_bands, **settings)


@pytest.mark.parametrize("size", TABLES)
def test_activations_have_the_published_sizes(size):
    network = encoder().eval()
    seen = []

    def record(module, arguments, output):
        seen.append((output.shape[1], output.shape[2]))

    network.first.register_forward_hook(record)
    stages = list(network.stages)
    stages[0].register_forward_pre_hook(lambda module, arguments: record(module, (), arguments[0]))
    for stage in stages:
        stage.register_forward_hook(record)
    with torch.no_grad():
        features = network(normal(1, 3, size, size))
    assert seen == TABLES[size]
    assert features.shape == (1, 1024)


def test_weights_are_those_of_the_published_table():
    by_hand = 7 * 7 * 3 * 64 + 2 * 64
    n_in = 64
    for inner, outer, blocks in ((64, 128, 3), (64, 256, 4), (128, 512, 6), (256, 1024, 3)):
        for block in range(blocks):
            by_hand += n_in * inner + 9 * inner * inner + inner * outer
            by_hand += 2 * (inner + inner + outer)
            by_hand += (n_in * outer + 2 * outer) * (block == 0)
            n_in = outer
    network = encoder()
    assert sum(one.numel() for one in network.parameters()) == by_hand == 6_008_384
    blocks = [one for one in network.modules() if isinstance(one, Bottleneck)]
    assert [len(stage) for stage in network.stages] == [3, 4, 6, 3]
    # With conv1 and fc1024, 50 layers.
    assert 1 + 3 * len(blocks) + 1 == 50


@pytest.mark.parametrize(("n_in", "stride"), [(16, 1), (8, 1), (16, 2)])
def test_a_block_adds_a_shortcut_to_three_normalised_convolutions(n_in, stride):
    torch.manual_seed(0)
    block = Bottleneck(n_in, 4, 16, stride).eval()
    norms = [one for one in block.modules() if isinstance(one, nn.BatchNorm2d)]
    for number, norm in enumerate(norms):
        norm.running_mean = normal(norm.num_features, seed=number)
        norm.running_var = normal(norm.num_features, seed=10 + number).exp()
    images = normal(2, n_in, 8, 8, seed=5)

    def normalised(convolution, norm, values, stride=1, padding=0):
        values = functional.conv2d(values, convolution.weight, None, stride, padding)
        shape = (1, -1, 1, 1)
        centred = values - norm.running_mean.view(shape)
        return centred / (norm.running_var.view(shape) + norm.eps).sqrt()

    with torch.no_grad():
        hidden = normalised(block.reduce, block.reduce_norm, images, stride).clamp(min=0)
        hidden = normalised(block.middle, block.middle_norm, hidden, 1, 1).clamp(min=0)
        hidden = normalised(block.expand, block.expand_norm, hidden)
        if stride == 1 and n_in == 16:
            assert block.shortcut is None
            hidden = hidden + images
        else:
            hidden = hidden + normalised(*block.shortcut, images, stride)
        torch.testing.assert_close(block(images.clone()), hidden.clamp(min=0))


def test_a_block_leaves_its_input_alone():
    block = Bottleneck(16, 4, 16).eval()
    images = normal(1, 16, 4, 4)
    before = images.clone()
    with torch.no_grad():
        block(images)
    assert torch.equal(images, before)


def test_evaluation_in_parts_gives_the_features_of_each_image_alone():
    network = encoder(stem=8, stages=SMALL).eval()
    images = normal(2 * IMAGES_AT_ONCE + 3, 3, 16, 16)
    with torch.no_grad():
        together = network(images)
        alone = torch.cat([network(image[None]) for image in images])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)
    assert float(together.std(0).min()) > 0


def test_no_images_have_no_features():
    with torch.no_grad():
        assert encoder(stem=8, stages=SMALL).eval()(torch.zeros(0, 3, 16, 16)).shape == (0, 32)


def test_every_weight_gets_a_gradient_and_kernels_have_channels_last():
    network = encoder(stem=8, stages=SMALL)
    (network(normal(8, 3, 16, 16)) * normal(8, 32, seed=1)).sum().backward()
    for name, weight in network.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0, name
        if weight.ndim == 4:
            assert weight.is_contiguous(memory_format=torch.channels_last), name


def test_the_paper_s_stages_keep_their_input_s_size_once_then_halve_it():
    assert [stage.stride for stage in STAGES] == [1, 2, 2, 2]


@pytest.mark.parametrize("settings", [{"n_bands": 0}, {"stages": ()}])
def test_an_empty_encoder_is_refused(settings):
    with pytest.raises(MelotteValueError, match="needs a band and a stage"):
        encoder(**settings)
