"""Backgrounds: never from masked pixels, never from another pool's area."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.telescope.background import BackgroundPool


def numbered(rows: int, columns: int, first: int = 0) -> torch.Tensor:
    """A mosaic of one band whose pixels all differ."""
    values = torch.arange(rows * columns, dtype=torch.float32) + first
    return values.reshape(1, rows, columns)


def test_cuts_are_parts_of_the_mosaic_in_all_eight_orientations(
    generator: torch.Generator,
) -> None:
    mosaic = numbered(40, 50)
    cuts = BackgroundPool([mosaic]).cut(200, 7, generator)
    assert cuts.shape == (200, 1, 7, 7)
    seen = set()
    for cut in cuts[:, 0]:
        steps = (float(cut[0, 1] - cut[0, 0]), float(cut[1, 0] - cut[0, 0]))
        seen.add(steps)
        first = int(cut.min())
        row, column = divmod(first, 50)
        part = mosaic[0, row : row + 7, column : column + 7]
        assert torch.equal(cut.flatten().sort().values, part.flatten().sort().values)
    assert seen == {(a, b) for a, b in [(1, 50), (-1, 50), (1, -50), (-1, -50)]} | {
        (b, a) for a, b in [(1, 50), (-1, 50), (1, -50), (-1, -50)]
    }


def test_gathering_cuts_what_slicing_cuts(generator: torch.Generator) -> None:
    pool = BackgroundPool([torch.rand(3, 40, 50), torch.rand(3, 70, 31)])
    tile = torch.randint(2, (100,), generator=generator)
    rows, columns = torch.randint(20, (2, 100), generator=generator)
    turn = torch.arange(100) % 8
    sliced = pool._sliced(tile, rows, columns, turn, 9)
    assert torch.equal(sliced, pool._gathered(tile, rows, columns, turn, 9))


def test_no_cut_touches_a_masked_pixel_or_a_missing_one(generator: torch.Generator) -> None:
    mosaic = torch.ones(2, 60, 60)
    mask = torch.zeros(60, 60, dtype=torch.bool)
    mask[20:25, 30] = True
    marked = mosaic.clone()
    marked[:, mask] = 1e6
    marked[1, 50, 10] = torch.nan
    cuts = BackgroundPool([marked], [mask]).cut(500, 16, generator)
    assert bool((cuts == 1).all())
    # Without the mask the same draws would hit it.
    marked[1, 50, 10] = 1
    assert not bool((BackgroundPool([marked]).cut(500, 16, generator) == 1).all())


def test_areas_of_a_split_share_no_pixel(generator: torch.Generator) -> None:
    pool = BackgroundPool([numbered(30, 100), numbered(90, 30, 10_000)])
    values = []
    for part in pool.split((0.6, 0.2, 0.2)):
        assert part.n_tiles == 2
        values.append(set(part.cut(400, 8, generator).flatten().tolist()))
    assert not values[0] & values[1]
    assert not values[0] & values[2]
    assert not values[1] & values[2]


def test_a_gap_keeps_areas_apart(generator: torch.Generator) -> None:
    first, second = BackgroundPool([numbered(20, 100)]).split((0.5, 0.5), gap=30)
    columns = [part.cut(300, 8, generator).flatten() % 100 for part in (first, second)]
    assert columns[0].max() < 50
    assert columns[1].min() >= 80


def test_the_tile_may_be_chosen_and_seeds_repeat() -> None:
    pool = BackgroundPool([numbered(30, 30), numbered(30, 30, 5_000)])
    tile = torch.tensor([1, 0, 1])
    one, two = (pool.cut(3, 9, torch.Generator().manual_seed(1), tile) for _ in range(2))
    assert torch.equal(one, two)
    assert (one.amin((1, 2, 3)) >= 5_000).tolist() == [True, False, True]


def test_the_free_share_counts_places() -> None:
    mask = torch.zeros(10, 10, dtype=torch.bool)
    mask[:, 5:] = True
    assert BackgroundPool([torch.ones(1, 10, 10)], [mask]).free_share(5) == pytest.approx(6 / 36)


def test_mistakes_are_named(generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match="at least one mosaic"):
        BackgroundPool([])
    with pytest.raises(MelotteValueError, match="same bands"):
        BackgroundPool([torch.ones(3, 9, 9), torch.ones(2, 9, 9)])
    with pytest.raises(MelotteValueError, match="mask 1"):
        BackgroundPool([torch.ones(3, 9, 9)], [torch.zeros(8, 9, dtype=torch.bool)])
    pool = BackgroundPool([torch.ones(3, 9, 9)], [torch.ones(9, 9, dtype=torch.bool)])
    with pytest.raises(MelotteValueError, match="no mosaic holds"):
        pool.cut(1, 10, generator)
    with pytest.raises(MelotteValueError, match="masks leave too little"):
        pool.cut(1, 4, generator)
    with pytest.raises(MelotteValueError, match="shares"):
        pool.split((0.5, 0.0))
