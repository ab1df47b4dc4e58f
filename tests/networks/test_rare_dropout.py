"""Dropout of few neurons."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.networks.rare_dropout import RareDropout


@pytest.mark.parametrize("share", [0.003, 0.3, 0.9])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_each_number_is_dropped_as_often_and_the_mean_stays(share, layout):
    torch.manual_seed(1)
    state = torch.ones(8, 5, 50, 60).contiguous(memory_format=layout)
    found = RareDropout(share)(state)
    assert found.shape == state.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    n = state.numel()
    tolerance = 4 * (share * (1 - share) / n) ** 0.5
    assert float((found == 0).float().mean()) == pytest.approx(share, abs=tolerance)
    assert sorted(found.unique().tolist()) == pytest.approx([0, 1 / (1 - share)])
    # Neighbours, and the same place of another map, are dropped independently.
    dropped = (found == 0).float()
    for axis in range(4):
        pairs = dropped.narrow(axis, 1, dropped.shape[axis] - 1)
        both = (pairs * dropped.narrow(axis, 0, dropped.shape[axis] - 1)).mean()
        scatter = 6 * (share**2 / pairs.numel()) ** 0.5 + 6 * tolerance * share
        assert float(both) == pytest.approx(share**2, abs=scatter)


def test_gradients_are_those_of_what_was_kept():
    state = torch.randn(4, 3, 20, 20, requires_grad=True)
    found = RareDropout(0.2)(state)
    found.sum().backward()
    torch.testing.assert_close(state.grad, (found != 0) * 1.25)


def test_every_draw_is_another_and_seeds_repeat_it():
    state, layer = torch.ones(1, 4, 32, 32), RareDropout(0.1)
    torch.manual_seed(3)
    first, second = layer(state), layer(state)
    torch.manual_seed(3)
    assert torch.equal(layer(state), first)
    assert not torch.equal(first, second)


def test_nothing_is_dropped_in_prediction_or_of_a_share_of_0():
    state = torch.randn(2, 3, 8, 8)
    assert RareDropout(0.5).eval()(state) is state
    assert RareDropout(0.0)(state) is state
    with pytest.raises(MelotteValueError, match="below 1, found 1"):
        RareDropout(1.0)
