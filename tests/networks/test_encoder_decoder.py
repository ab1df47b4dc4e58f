"""pi-DOC's map network: published sizes, any size of map, gradients, that it learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from melotte.errors import MelotteValueError
from melotte.networks.encoder_decoder import PIDOC_DROPOUT, WIDTHS, EncoderDecoder

SMALL = (4, 8)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(**settings):
    torch.manual_seed(0)
    return EncoderDecoder(**settings)


def test_maps_have_the_published_sizes_and_are_concatenated():
    built = network().eval()
    seen = []
    for layer in [*built.convolutions, *built.deconvolutions, built.output]:
        layer.register_forward_hook(
            lambda module, given, made: seen.append((given[0].shape[1], *made.shape[1:3]))
        )
    with torch.no_grad():
        assert built(normal(1, 1, 160, 160)).shape == (1, 1, 160, 160)
    halved = [(1, 32, 80), (32, 64, 40), (64, 128, 20), (128, 256, 10)]
    # Behind the first deconvolution come its own channels and those of the encoder.
    doubled = [(256, 128, 20), (128 + 128, 64, 40), (64 + 64, 32, 80), (32 + 32, 16, 160)]
    assert seen == [*halved, *doubled, (16 + 1, 1, 160)]
    assert WIDTHS == (32, 64, 128, 256)


def test_the_number_of_weights_is_that_of_the_layers():
    by_hand = 0
    pairs = [(1, 32), (32, 64), (64, 128), (128, 256)]
    pairs += [(256, 128), (256, 64), (128, 32), (64, 16), (17, 1)]
    for n_in, n_out in pairs:
        by_hand += 9 * n_in * n_out + n_out
    assert sum(weight.numel() for weight in network().parameters()) == by_hand == 876_682


def test_dropout_is_the_published_one_and_stands_behind_every_layer():
    built = network()
    assert built.dropout.p == pytest.approx(0.0031623, rel=1e-4)
    assert built.dropout.p == PIDOC_DROPOUT
    calls = []
    built.dropout.register_forward_hook(lambda *given: calls.append(1))
    built(normal(1, 1, 16, 16))
    assert len(calls) == 8


@pytest.mark.parametrize("size", [(160, 160), (16, 48), (50, 37), (1, 5)])
def test_any_size_comes_back(size):
    built = network(n_channels=2, n_maps=3, widths=SMALL).eval()
    with torch.no_grad():
        assert built(normal(2, 2, *size)).shape == (2, 3, *size)


def test_padding_repeats_the_edge():
    built = network(widths=SMALL).eval()
    maps = normal(1, 1, 6, 8)
    by_hand = torch.cat([maps, maps[..., -1:, :], maps[..., -1:, :]], -2)
    with torch.no_grad():
        torch.testing.assert_close(built(maps), built(by_hand)[..., :6, :])


def test_every_weight_gets_a_gradient():
    built = network(widths=SMALL, dropout=0.0)
    (built(normal(4, 1, 16, 16)) * normal(4, 1, 16, 16, seed=1)).sum().backward()
    for name, weight in built.named_parameters():
        assert weight.grad is not None, name
        assert float(weight.grad.abs().max()) > 0, name


def test_first_weights_are_glorot_s():
    for layer in network().modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
            limit = (6 / (9 * (layer.in_channels + layer.out_channels))) ** 0.5
            assert 0.9 * limit < float(layer.weight.detach().abs().max()) <= limit * (1 + 1e-6)
            assert float(layer.bias.detach().abs().max()) == 0


def test_it_learns_a_few_maps_by_heart():
    built = network(widths=(8, 16), dropout=0.0)
    maps, target = normal(4, 1, 16, 16), normal(4, 1, 16, 16, seed=1)
    optimiser = torch.optim.Adam(built.parameters(), lr=10**-2.5)
    first = None
    for _ in range(300):
        optimiser.zero_grad()
        loss = (built(maps) - target).square().mean()
        first = loss.detach() if first is None else first
        loss.backward()
        optimiser.step()
    assert float(loss.detach()) < 0.2 * float(first)


@pytest.mark.parametrize("settings", [{"n_channels": 0}, {"widths": ()}, {"widths": (3, 6)}])
def test_impossible_networks_are_refused(settings):
    with pytest.raises(MelotteValueError, match="needs channels"):
        network(**settings)


def test_a_map_without_pixels_is_refused():
    with pytest.raises(MelotteValueError, match=r"\(batch, channels, rows, columns\)"):
        network(widths=SMALL)(torch.zeros(1, 1, 0, 4))
