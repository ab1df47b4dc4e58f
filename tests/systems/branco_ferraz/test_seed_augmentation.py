"""Copies of clusters: consistent physics, labels in range, groups kept together."""

from __future__ import annotations

import torch

from melotte.ragged import Ragged
from melotte.systems.base import Batch, Observation
from melotte.systems.branco_ferraz.augmentation import doubled, shifted, thinned
from melotte.systems.open_cluster.preparation import pack_lists


def near_clusters(n: int = 30, n_stars: int = 80, extinction_v: float = 0.3) -> Batch:
    """Clusters at 0.3 kpc of bright yellow stars without errors, whose shifts can be read off."""
    table = torch.full((n_stars, 7), torch.nan)
    table[:, 0] = torch.linspace(9.0, 17.9, n_stars)
    table[:, 1] = 1.0
    table[:, 2] = 1 / 0.3
    table[:, 3:6] = 1e-9
    data = pack_lists([table.clone() for _ in range(n)], [n_stars] * n, [False] * n)
    theta = torch.tensor([[8.5, extinction_v, 0.3]]).repeat(n, 1)
    return Batch.labelled(Observation(data), theta)


def stars_of(batch: Batch) -> Ragged:
    stars = batch.observation.data["stars"]
    assert isinstance(stars, Ragged)
    return stars


def test_a_copys_magnitudes_colours_and_parallaxes_agree_with_its_labels(generator):
    original = near_clusters()
    copy = shifted(original, generator)
    modulus = 5 * torch.log10(copy.theta[:, 2] / original.theta[:, 2])
    extinction = copy.theta[:, 1] - original.theta[:, 1]
    assert modulus.min() >= 0
    assert modulus.std() > 0.3
    assert extinction.std() > 0.3
    for i in range(len(copy)):
        moved, still = stars_of(copy)[i], stars_of(original)[i]
        still = still[: len(moved)]
        assert torch.allclose(moved[:, 2], 1 / copy.theta[i, 2], rtol=1e-3)
        added_g = moved[:, 0] - still[:, 0] - modulus[i]
        added_colour = moved[:, 1] - still[:, 1]
        # A yellow star: A_G is about 0.8 A_V, E(BP-RP) about 0.4 A_V.
        assert torch.all((added_g - 0.79 * extinction[i]).abs() < 0.05 * extinction[i] + 1e-3)
        assert torch.all((added_colour - 0.40 * extinction[i]).abs() < 0.05 * extinction[i] + 1e-3)
        assert moved[:, 0].max() <= 17.9 + 1e-4


def test_labels_of_copies_stay_within_the_papers_limits(generator):
    copy = shifted(near_clusters(200), generator)
    modulus = 5 * torch.log10(copy.theta[:, 2]) + 10
    assert 9.5 < modulus.max() <= 10.0 + 1e-4
    assert 2.7 < copy.theta[:, 1].max() <= 3.0
    assert torch.equal(copy.theta[:, 0], near_clusters(200).theta[:, 0])


def test_a_cluster_beyond_a_limit_or_without_a_label_keeps_its_place(generator):
    far = near_clusters(20, extinction_v=4.0)
    far.theta[:10, 2] = 3.0
    far.theta[10:, 2] = torch.nan
    far = Batch.labelled(far.observation, far.theta)
    copy = shifted(far, generator)
    assert torch.allclose(copy.theta, far.theta, equal_nan=True)
    assert torch.allclose(stars_of(copy).values, stars_of(far).values, equal_nan=True)


def test_doubling_adds_one_copy_of_each_and_keeps_pairs_together(generator):
    original = near_clusters(12)
    both = doubled(original, generator)
    assert len(both) == len(both.observation) == 24
    assert torch.equal(both.group[:12], both.group[12:])
    first = stars_of(both.select(torch.arange(12)))
    assert torch.allclose(first.values, stars_of(original).values, equal_nan=True)
    assert torch.equal(both.theta[:12], original.theta)
    listed = both.observation.data["n_listed"]
    assert isinstance(listed, torch.Tensor)
    assert torch.equal(listed, stars_of(both).counts.float())


def test_settings_choose_how_many_copies(seed_system, mocks, generator):
    n = len(mocks)
    assert seed_system("ann").enlarged(mocks, generator) is mocks
    paper = seed_system("ann", "data.augmentation=paper").enlarged(mocks, generator)
    assert len(paper) == 2 * n
    larger = seed_system("ann", "data.augmentation=larger", "data.larger.copies=3")
    made = larger.enlarged(mocks, generator)
    assert len(made) == 4 * n
    ranges = torch.tensor([[one.low, one.high] for one in larger.parameters])
    assert torch.all(made.theta >= ranges[:, 0])
    assert torch.all(made.theta <= ranges[:, 1])
    assert stars_of(made.select(torch.arange(n, 4 * n))).counts.float().mean() < (
        0.9 * stars_of(made.select(torch.arange(n))).counts.float().mean()
    )


def test_thinning_keeps_stars_of_the_list_and_ten_at_least(generator):
    original = near_clusters(50, n_stars=40)
    few = thinned(original, (0.1, 0.8), generator)
    counts = stars_of(few).counts
    assert counts.min() == 10
    assert 25 < counts.max() <= 32
    listed = set(stars_of(original)[0][:, 0].tolist())
    for i in range(len(few)):
        kept = stars_of(few)[i][:, 0].tolist()
        assert len(set(kept)) == len(kept)
        assert set(kept) <= listed


def test_the_same_generator_gives_the_same_copies():
    made = [doubled(near_clusters(8), torch.Generator().manual_seed(1)).theta for _ in range(2)]
    assert torch.equal(*made)
    assert not torch.equal(
        made[0], doubled(near_clusters(8), torch.Generator().manual_seed(2)).theta
    )


def test_keeping_all_changes_nothing(generator):
    original = near_clusters(5)
    same = thinned(original, (1.0, 1.0), generator)
    assert torch.equal(stars_of(same).counts, stars_of(original).counts)
