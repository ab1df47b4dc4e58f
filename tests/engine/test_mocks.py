"""Mock streams: the same batches whoever makes them and wherever a run starts."""

from __future__ import annotations

import pytest
import torch
from linear_gaussian import LinearGaussian
from torch.utils.data import DataLoader

from melotte.engine.mocks import MockStream, concatenate, draw_mocks
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged


def values(batch):
    x = batch.observation.data["x"]
    return x.values if isinstance(x, Ragged) else x


def thetas(batches):
    return [batch.theta for batch in batches]


def assert_same(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        assert torch.equal(one.theta, other.theta)
        assert torch.equal(values(one), values(other))
        assert torch.equal(one.group, other.group)


@pytest.mark.parametrize("ragged", [False, True])
def test_a_stream_started_late_continues_the_same_batches(ragged):
    system = LinearGaussian(ragged=ragged)
    whole = list(MockStream(system, 8, seed=1, n_batches=6))
    late = list(MockStream(system, 8, seed=1, start=4, n_batches=2))
    assert_same(whole[4:], late)
    assert len(torch.unique(torch.cat(thetas(whole)), dim=0)) == 48


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_worker_processes_keep_the_order(n_workers):
    system = LinearGaussian(ragged=True)
    alone = list(MockStream(system, 4, seed=2, start=3, n_batches=7))
    stream = MockStream(system, 4, seed=2, start=3, n_batches=7)
    assert_same(alone, list(DataLoader(stream, batch_size=None, num_workers=n_workers)))


def test_ranks_share_the_batches_without_repeating_or_skipping():
    system = LinearGaussian()
    alone = list(MockStream(system, 4, seed=2, n_batches=6))
    ranks = [
        list(MockStream(system, 4, seed=2, n_batches=6, rank=rank, world_size=3))
        for rank in range(3)
    ]
    assert_same(alone, [ranks[k % 3][k // 3] for k in range(6)])


def test_views_are_of_the_same_object_with_other_noise():
    (batch,) = MockStream(LinearGaussian(), 6, seed=1, n_batches=1, views=3)
    assert torch.equal(batch.theta[0], batch.theta[2])
    assert not torch.equal(values(batch)[0], values(batch)[2])
    assert batch.group.tolist() == [0, 0, 0, 1, 1, 1]


def test_views_must_divide_the_batch():
    with pytest.raises(MelotteValueError, match="batch_size 4 with views 3"):
        MockStream(LinearGaussian(), 4, seed=1, views=3)


@pytest.mark.parametrize("ragged", [False, True])
def test_first_mocks_do_not_depend_on_how_many_are_drawn(ragged):
    system = LinearGaussian(ragged=ragged)
    few = concatenate(draw_mocks(system, 10, seed=5, batch_size=8))
    many = concatenate(draw_mocks(system, 30, seed=5, batch_size=8))
    assert len(few) == 10
    assert_same([few], [many.select(torch.arange(10))])


def test_drawn_mocks_are_never_those_of_training_and_their_groups_are_unique():
    system = LinearGaussian()
    drawn = concatenate(draw_mocks(system, 16, seed=5, batch_size=8))
    training = concatenate(list(MockStream(system, 8, seed=5, n_batches=2)))
    assert not torch.isin(drawn.theta, training.theta).any()
    assert len(torch.unique(drawn.group)) == 16


def test_groups_of_a_library_are_kept():
    class Library(LinearGaussian):
        shared_groups = True

    batch = concatenate(draw_mocks(Library(), 16, seed=5, batch_size=8))
    assert batch.group.tolist() == [*range(8), *range(8)]


def test_joining_ragged_batches_keeps_every_set():
    batches = draw_mocks(LinearGaussian(ragged=True), 9, seed=5, batch_size=4)
    x = concatenate(batches).observation.data["x"]
    assert isinstance(x, Ragged)
    x.check()
    third = batches[1].observation.data["x"]
    assert isinstance(third, Ragged)
    assert torch.equal(x[5], third[1])
    with pytest.raises(MelotteValueError, match="no batches"):
        concatenate([])
