"""pi-DOC's network of age and distance: published layers, standardised targets."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.pooling_cnn import PoolingCNN

MEANS, DEVIATIONS = (7.5, 52.0), (3.9, 31.0)


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def network(size=(160, 160), **settings):
    torch.manual_seed(0)
    return PoolingCNN(size, settings.pop("mean", MEANS), settings.pop("deviation", DEVIATIONS))


def test_sizes_are_halved_four_times_and_flattened():
    built = network().eval()
    seen = []
    for layer in [*built.convolutions, built.output]:
        layer.register_forward_pre_hook(
            lambda module, given: seen.append(tuple(given[0].shape[1:]))
        )
    with torch.no_grad():
        assert built(normal(3, 1, 160, 160)).shape == (3, 2)
    assert seen == [(1, 160, 160), (16, 80, 80), (32, 40, 40), (64, 20, 20), (128 * 100,)]


def test_the_number_of_weights_is_that_of_the_layers():
    pairs = [(1, 16), (16, 32), (32, 64), (64, 128)]
    by_hand = sum(9 * n_in * n_out + n_out for n_in, n_out in pairs) + 12_800 * 2 + 2
    assert sum(weight.numel() for weight in network().parameters()) == by_hand == 122_754


def test_dropout_stands_behind_every_pooling():
    built = network((16, 16))
    calls = []
    built.dropout.register_forward_hook(lambda *given: calls.append(1))
    built(normal(1, 1, 16, 16))
    assert len(calls) == 4
    assert built.dropout.p == pytest.approx(10**-2.5)


def test_targets_are_standardised_and_restored():
    built = network((16, 16))
    targets = torch.tensor(MEANS) + torch.tensor(DEVIATIONS) * normal(50, 2)
    standard = built.standardised(targets)
    torch.testing.assert_close(standard, normal(50, 2), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(built.restored(standard), targets)


def test_the_targets_statistics_travel_with_the_weights():
    built = network((16, 16))
    other = network((16, 16), mean=(0.0, 0.0), deviation=(1.0, 1.0))
    other.load_state_dict(built.state_dict())
    torch.testing.assert_close(other.restored(torch.zeros(1, 2)), torch.tensor([MEANS]))


def test_it_learns_a_few_numbers_by_heart():
    built = network((16, 16))
    maps, target = normal(8, 1, 16, 16), normal(8, 2, seed=1)
    optimiser = torch.optim.Adam(built.parameters(), lr=1e-3)
    for _ in range(80):
        optimiser.zero_grad()
        loss = (built(maps) - target).square().mean()
        loss.backward()
        optimiser.step()
    built.eval()
    with torch.no_grad():
        assert float((built(maps) - target).square().mean()) < 0.1
    assert all(float(weight.grad.abs().max()) > 0 for weight in built.parameters())


def test_maps_of_another_size_are_refused():
    with pytest.raises(MelotteValueError, match="16 x 32 pixels; this network takes 16 x 16"):
        network((16, 16))(torch.zeros(1, 1, 16, 32))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": (15, 160)}, "cannot be pooled 4 times"),
        ({"mean": (1.0,)}, "a mean and a deviation above 0 each"),
        ({"deviation": (1.0, 0.0)}, "a mean and a deviation above 0 each"),
    ],
)
def test_impossible_networks_are_refused(settings, message):
    with pytest.raises(MelotteValueError, match=message):
        network(**settings)
