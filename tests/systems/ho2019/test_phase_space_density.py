"""Kernel densities against scipy's, and where scipy's are not defined."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import gaussian_kde

from melotte.ragged import Ragged, offsets_of
from melotte.systems.ho2019 import phase_space_density as module
from melotte.systems.ho2019.phase_space_density import phase_space_density, velocity_density

BINS, BANDWIDTH = 48, 0.25
CUT, APERTURE = 2500.0, 1.6


def centres(low: float, high: float) -> np.ndarray:
    edges = np.linspace(low, high, BINS + 1)
    return (edges[1:] + edges[:-1]) / 2


def scipys_densities(
    galaxies: np.ndarray, cut: float = CUT, aperture: float = APERTURE, bandwidth: float = BANDWIDTH
) -> tuple[np.ndarray, np.ndarray]:
    """Both inputs of one cluster, columns (velocity, radius), as published."""
    velocity, radius = centres(-cut, cut), centres(0, aperture)
    along = gaussian_kde(galaxies[:, 0], bandwidth)(velocity)
    mesh = np.meshgrid(velocity, radius, indexing="ij")
    plane = gaussian_kde(galaxies[:, :2].T, bandwidth)(np.stack([one.ravel() for one in mesh]))
    return along / along.sum(), plane.reshape(BINS, BINS) / plane.sum()


def densities(
    galaxies: Ragged, cut: float = CUT, aperture: float = APERTURE
) -> tuple[torch.Tensor, torch.Tensor]:
    cuts = torch.full((galaxies.n_sets,), cut)
    apertures = torch.full((galaxies.n_sets,), aperture)
    return (
        velocity_density(galaxies, cuts, BINS, BANDWIDTH),
        phase_space_density(galaxies, cuts, apertures, BINS, BANDWIDTH),
    )


def planted(correlation: float, n: int, seed: int) -> torch.Tensor:
    """Galaxies whose velocities and radii go together."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, n))
    second = correlation * first + np.sqrt(1 - correlation**2) * second
    radius = np.clip(0.8 + 0.25 * second, 0.0, 1.6)
    return torch.tensor(np.stack([600 * first, radius], 1), dtype=torch.float32)


def test_mocks_have_scipys_densities(published_mocks):
    galaxies = published_mocks.observation.data["galaxies"]
    along, plane = densities(galaxies)
    for i in range(40):
        expected = scipys_densities(galaxies[i].double().numpy())
        for found, wanted in zip((along[i], plane[i]), expected, strict=True):
            assert found.sum().item() == pytest.approx(1, abs=1e-5)
            assert np.abs(found.numpy() - wanted).max() < 1e-5 * wanted.max()
    # Another bandwidth would not pass.
    other = scipys_densities(galaxies[0].double().numpy(), bandwidth=0.26)
    assert np.abs(along[0].numpy() - other[0]).max() > 1e-3 * other[0].max()
    assert np.abs(plane[0].numpy() - other[1]).max() > 1e-3 * other[1].max()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, -0.97])
def test_correlated_galaxies_have_scipys_densities(correlation):
    lists = [planted(correlation, n, n) for n in (12, 60, 300)]
    _, plane = densities(Ragged.pack(lists))
    for found, one in zip(plane, lists, strict=True):
        _, wanted = scipys_densities(one.double().numpy())
        assert np.abs(found.numpy() - wanted).max() < 1e-5 * wanted.max()


def test_both_ways_of_summing_agree(published_mocks, monkeypatch):
    galaxies = published_mocks.observation.data["galaxies"].select(torch.arange(30))
    used = []
    direct = module._direct_sums
    monkeypatch.setattr(module, "_direct_sums", lambda *a: (used.append(len(a[1])), direct(*a))[1])
    _, mixed = densities(galaxies)
    before = sum(used)
    monkeypatch.setattr(module, "LARGEST_EXPONENT", 0.0)
    _, plain = densities(galaxies)
    assert before < 15
    assert sum(used) - before == 30
    assert torch.allclose(mixed, plain, rtol=0, atol=1e-6 * float(plain.max()))


def test_the_grid_follows_the_cylinder_of_each_cluster():
    one = planted(0.2, 80, 3)
    both = Ragged.pack([one, one])
    cut, aperture = torch.tensor([2500.0, 3785.0]), torch.tensor([1.6, 2.3])
    plane = phase_space_density(both, cut, aperture, BINS, BANDWIDTH)
    _, wanted = scipys_densities(one.double().numpy(), 3785.0, 2.3)
    assert np.abs(plane[1].numpy() - wanted).max() < 1e-5 * wanted.max()
    assert (plane[0] - plane[1]).abs().max() > 0.1 * plane[0].max()


def test_turned_velocities_turn_the_densities(published_mocks):
    galaxies = published_mocks.observation.data["galaxies"]
    turned = Ragged(galaxies.values * torch.tensor([-1.0, 1.0, 1.0, 1.0]), galaxies.offsets)
    for found, mirrored in zip(densities(turned), densities(galaxies), strict=True):
        scale = float(mirrored.max())
        assert torch.allclose(found, mirrored.flip(1), rtol=0, atol=1e-6 * scale)
        assert not torch.allclose(found, mirrored, rtol=0, atol=1e-2 * scale)


def test_clusters_do_not_mix_and_few_galaxies_are_allowed():
    many, two, one = planted(0.3, 50, 1), planted(0.0, 2, 2), planted(0.0, 1, 3)
    values = torch.cat([many, two, one])
    lists = Ragged(values, offsets_of(torch.tensor([50, 0, 2, 1])))
    for found in densities(lists):
        flat = found.flatten(1)
        assert torch.isfinite(flat).all()
        assert torch.allclose(flat.sum(1), torch.tensor([1.0, 0.0, 1.0, 1.0]))
    for found, alone in zip(densities(lists), densities(Ragged.pack([many])), strict=True):
        assert torch.allclose(found[0], alone[0], atol=1e-7)
