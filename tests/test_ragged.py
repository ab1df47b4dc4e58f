import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged

SIZES = st.lists(st.integers(0, 6), min_size=1, max_size=8)


def numbered(sizes):
    return Ragged.pack([torch.full((n, 1), float(i)) for i, n in enumerate(sizes)])


@given(SIZES)
def test_index_names_the_set_of_each_element(sizes):
    sets = numbered(sizes)
    assert sets.counts.tolist() == sizes
    assert sets.index.tolist() == sets.values[:, 0].long().tolist()


@given(SIZES, st.data())
def test_select_is_indexing(sizes, data):
    sets = numbered(sizes)
    chosen = data.draw(st.lists(st.integers(0, len(sizes) - 1), max_size=6))
    picked = sets.select(torch.tensor(chosen, dtype=torch.int64))
    assert [picked[i].tolist() for i in range(len(chosen))] == [sets[i].tolist() for i in chosen]


@given(SIZES, st.data())
def test_where_keeps_marked_elements(sizes, data):
    sets = numbered(sizes)
    total = sum(sizes)
    keep = torch.tensor(data.draw(st.lists(st.booleans(), min_size=total, max_size=total)))
    kept = sets.where(keep.bool().reshape(total))
    kept.check()
    assert kept.index.tolist() == kept.values[:, 0].long().tolist()
    assert len(kept.values) == int(keep.sum()) if total else len(kept.values) == 0


@pytest.mark.parametrize("offsets", [[0, 2, 1, 3], [1, 3], [0, 4]])
def test_check_finds_offsets_that_do_not_partition(offsets):
    with pytest.raises(MelotteValueError, match="rise from 0 to 3"):
        Ragged(torch.zeros(3, 1), torch.tensor(offsets)).check()


def test_offsets_must_be_whole_numbers():
    with pytest.raises(MelotteValueError, match="int64"):
        Ragged(torch.zeros(3, 1), torch.tensor([0.0, 3.0]))
