"""Binaries, blue stragglers and masses on lists of which every star is known."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from melotte.sky.isochrones import StellarGrid
from melotte.systems.open_cluster.known_stars import known_list
from melotte.systems.open_cluster.sequences import RATIOS, cluster_sequences
from melotte.systems.open_cluster.settings import DataSettings
from melotte.systems.open_cluster.stars import CLASSES, classify_stars
from melotte.telescope.gaia import gaia_release

SETTINGS = DataSettings()
CLUSTERS = ((8.9, 0.4, 0.9, 0.0), (9.4, 0.9, 1.3, -0.1), (8.1, 1.2, 0.6, 0.0))
SINGLE, BINARY, STRAGGLER, OFF = range(4)


@pytest.fixture(scope="module")
def grid():
    bands = [*gaia_release("EDR3").bands, *gaia_release("DR2").bands]
    return StellarGrid.shipped(bands)


def samples_about(theta, n=16, width=(0.02, 0.02, 0.01, 0.02)):
    rng = np.random.default_rng(4)
    return np.asarray(theta) + np.asarray(width) * rng.normal(size=(n, 4))


@pytest.fixture(scope="module")
def classified(grid):
    """Truth and classification of clusters of three ages, 400 stars each."""
    generator = torch.Generator().manual_seed(11)
    pairs = []
    for theta in CLUSTERS:
        settings = {"settings": SETTINGS, "stragglers": 4}
        truth = known_list(grid, np.array(theta), 400, generator, **settings)
        found = classify_stars(truth.stars, samples_about(theta), "EDR3", SETTINGS, grid)
        pairs.append((theta, truth, found))
    return pairs


def test_probabilities_are_probabilities(classified):
    for _, truth, found in classified:
        assert found.probability.shape == (len(truth.stars), len(CLASSES))
        assert (found.probability >= 0).all()
        np.testing.assert_allclose(found.probability.sum(1), 1, atol=1e-9)
        assert found.share.sum() == pytest.approx(1)


def test_binaries_of_heavy_companions_are_found_and_few_others(classified):
    ratio = np.concatenate([truth.ratio for _, truth, _ in classified])
    kind = np.concatenate([found.kind for *_, found in classified])
    binary = kind == BINARY
    assert binary[ratio > 0.7].mean() > 0.85
    assert (ratio[binary] >= 0.5).mean() > 0.92
    odd = np.concatenate([truth.straggler | truth.field for _, truth, _ in classified])
    single = (ratio == 0) & ~odd
    assert binary[single].mean() < 0.01
    assert (kind[single] == OFF).mean() < 0.02


def test_shuffled_mass_ratios_would_fail_the_purity(classified):
    """The purity asked for is far above that of a random choice."""
    ratio = np.concatenate([truth.ratio for _, truth, _ in classified])
    assert (ratio >= 0.5).mean() < 0.3


def test_blue_stragglers_are_found_in_old_clusters_alone(classified):
    old = [(truth, found) for theta, truth, found in classified if theta[0] > 8.6]
    straggler = np.concatenate([truth.straggler for truth, _ in old])
    kind = np.concatenate([found.kind for _, found in old])
    assert (kind[straggler] == STRAGGLER).mean() >= 0.6
    assert (kind[~straggler] == STRAGGLER).mean() < 0.005
    young = next(found for theta, _, found in classified if theta[0] < 8.4)
    assert (young.probability[:, STRAGGLER] == 0).all()


def test_masses_and_mass_ratios_on_the_main_sequence(classified):
    for _, truth, found in classified:
        dwarf = (truth.mass > 0) & (truth.mass < 0.8 * np.max(truth.mass[~truth.straggler]))
        single = dwarf & (truth.ratio == 0) & (found.kind == SINGLE)
        error = found.mass[single] / truth.mass[single] - 1
        assert abs(np.median(error)) < 0.03
        assert np.quantile(np.abs(error), 0.9) < 0.06
        binary = dwarf & (truth.ratio > 0.7) & (found.kind == BINARY)
        primary = found.primary_mass[binary] / truth.mass[binary] - 1
        assert np.median(np.abs(primary)) < 0.04
        difference = found.mass_ratio[binary] - truth.ratio[binary]
        assert np.median(np.abs(difference)) < 0.08
        assert np.isfinite(found.mass_ratio_error[binary]).all()


def test_a_star_on_a_sequence_has_no_distance_from_it(grid):
    theta = np.array([[8.8, 0.5, 1.0, 0.0]])
    sequences = cluster_sequences(grid, theta, gaia_release("EDR3"), 18.0)
    rows = []
    for curve in (0, len(RATIOS)):
        place = sequences.points[0, curve, 4:32:2]
        stars = np.full((len(place), 7), np.nan)
        stars[:, 0], stars[:, 1] = place[:, 1], place[:, 0]
        stars[:, 2:4] = 1.0, 0.02
        rows.append(stars)
    stars = np.concatenate(rows)
    stars = np.concatenate([stars, stars[: len(rows[0])]])
    found = classify_stars(stars, theta, "EDR3", SETTINGS, grid)
    n = len(rows[0])
    # Half of the stars are equal-mass binaries, which pulls on the fitted offsets a little.
    assert np.abs(found.single_distance[:n]).max() < 1.2
    assert np.abs(found.binary_distance[n : 2 * n]).max() < 1.2
    assert np.median(found.single_distance[n : 2 * n]) > 3
    assert np.median(found.binary_distance[:n]) < -3
    assert (found.kind[n : 2 * n] == BINARY).mean() > 0.9


def test_membership_decides_of_two_stars_at_one_place(grid):
    generator = torch.Generator().manual_seed(2)
    theta = CLUSTERS[0]
    stars = known_list(grid, np.array(theta), 200, generator, settings=SETTINGS).stars
    pair = stars[:2].copy()
    pair[:] = pair[0]
    pair[:, 1] += 0.25
    pair[:, 6] = 0.99, 0.05
    stars = np.concatenate([stars, pair])
    found = classify_stars(stars, samples_about(theta), "EDR3", SETTINGS, grid)
    assert found.probability[-1, OFF] > found.probability[-2, OFF]


def test_lists_without_errors_or_memberships_are_classified(grid):
    generator = torch.Generator().manual_seed(2)
    theta = CLUSTERS[0]
    stars = known_list(grid, np.array(theta), 60, generator, settings=SETTINGS).stars
    bare = stars.copy()
    bare[:, 4:] = np.nan
    for release in ("EDR3", "DR2"):
        found = classify_stars(bare, samples_about(theta), release, SETTINGS, grid)
        assert np.isfinite(found.probability).all()
        assert (found.membership == 1).all()


def test_one_star_and_impossible_samples_do_no_harm(grid):
    star = np.array([[12.0, 0.9, 1.0, 0.02, 0.003, 0.004, 1.0]])
    found = classify_stars(star, np.array([[10.2, 6.0, 15.0, 0.5]]), "EDR3", SETTINGS, grid)
    assert np.isfinite(found.probability).all()
    assert found.kind[0] == OFF
    assert np.isnan(found.primary_mass[0])
