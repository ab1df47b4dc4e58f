from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.populations import (
    Binaries,
    combine_magnitudes,
    expected_magnitudes,
    integrated_magnitude,
    sample_cluster,
)
from melotte.sky.remnants import remnant_mass

GRID = StellarGrid.shipped(["F336W", "V", "ACS_WFC_F814W"])
BANDS = list(GRID.bands)


def clusters(*rows: tuple[float, float, float, float]) -> list[torch.Tensor]:
    """Total mass, log age, [Fe/H], A_V of each cluster."""
    return list(torch.tensor(rows, dtype=torch.float64).T)


def test_fluxes_add() -> None:
    first = torch.tensor([3.0, 5.0, 4.0, torch.inf, torch.inf])
    second = torch.tensor([3.0, 7.5, torch.inf, 4.0, torch.inf])
    expected = [3 - 2.5 * math.log10(2), 5 - 2.5 * math.log10(1.1), 4.0, 4.0, math.inf]
    assert combine_magnitudes(first, second).tolist() == pytest.approx(expected, abs=1e-5)
    stack = torch.stack([first, second])[..., None]
    assert integrated_magnitude(stack, 0)[:, 0].tolist() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize(("lowest", "exponent"), [(0.1, 0.0), (0.2, 1.5), (0.5, -0.5)])
def test_binaries(lowest: float, exponent: float, generator: torch.Generator) -> None:
    binaries = Binaries(0.4, lowest, exponent)
    primary = torch.full((200_000,), 2.0, dtype=torch.float64)
    companion = binaries.companions(primary, generator)
    paired = companion > 0
    assert float(paired.double().mean()) == pytest.approx(0.4, abs=0.005)
    ratio = companion[paired] / 2
    assert float(ratio.min()) >= lowest
    assert float(ratio.max()) <= 1
    assert float(ratio.mean()) == pytest.approx(binaries.mean_ratio, abs=0.003)
    power = exponent + 1
    median = (0.5 * (1 + lowest**power)) ** (1 / power)
    assert float(ratio.median()) == pytest.approx(median, abs=0.005)


def test_equal_twins() -> None:
    twins = Binaries(1.0, 1.0)
    primary = torch.tensor([0.5, 3.0])
    assert torch.equal(twins.companions(primary, torch.Generator()), primary)
    assert twins.mean_ratio == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 1.5}, "fraction"),
        ({"lowest_ratio": 0.0}, "lowest_ratio"),
        ({"exponent": -1.0}, "exponent"),
    ],
)
def test_impossible_binaries(settings: dict[str, float], message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        Binaries(**settings)


def test_remnants() -> None:
    """Cummings et al. 2018, Eqs. 4-6, at masses within their three segments."""
    mass = torch.tensor([1.0, 3.0, 5.0, 8.4, 8.6, 39.0, 60.0, 0.3], dtype=torch.float64)
    expected = [0.569, 0.745, 1.006, 1.3698, 1.4, 1.4, 30.0, 0.3]
    assert remnant_mass(mass).tolist() == pytest.approx(expected)
    fine = torch.linspace(0.6, 8.49, 10_000, dtype=torch.float64)
    assert (remnant_mass(fine).diff() > -0.01).all()
    assert (remnant_mass(fine) <= fine).all()


def test_cluster_of_given_mass(generator: torch.Generator) -> None:
    """Rich and poor clusters at once, against the sum over their isochrones."""
    drawn = sample_cluster(
        GRID,
        *clusters(
            (2e5, 9.0, -0.3, 0.5), (2e5, 10.0, -1.5, 0.0), (100, 8.0, 0.0, 1.0), (0, 9, 0, 0)
        ),
        BANDS,
        generator,
    )
    light = drawn.integrated()
    for i, (age, metallicity, dust) in enumerate([(9.0, -0.3, 0.5), (10.0, -1.5, 0.0)]):
        expected = expected_magnitudes(
            GRID, age, metallicity, BANDS, total_mass=2e5, extinction_v=dust
        )
        assert light[i].tolist() == pytest.approx(expected.tolist(), abs=0.12)
    assert torch.isinf(light[3]).all()
    assert drawn.initial_mass.counts[3] == 0
    assert torch.equal(drawn.alive, torch.isfinite(drawn.magnitudes).all(1))
    dead = ~drawn.alive
    assert torch.equal(drawn.current_mass[dead], remnant_mass(drawn.initial_mass.values[dead]))
    kept = drawn.current_mass.sum() / drawn.initial_mass.values.sum()
    assert 0.5 < float(kept) < 0.75


def test_poor_clusters_are_like_rich_ones(generator: torch.Generator) -> None:
    """Stars of a poor cluster, done star by star, get the light they have in a rich one."""
    settings = clusters((150, 8.4, -0.2, 0.7), (3000, 8.4, -0.2, 0.7))
    drawn = sample_cluster(GRID, *settings, BANDS, generator)
    for i in range(2):
        rows = drawn.initial_mass.index == i
        stars = GRID.evolve(
            drawn.initial_mass[i][None], torch.tensor([[8.4]]), torch.tensor([[-0.2]])
        )
        expected = GRID.magnitudes(stars, 0.7, BANDS, -0.2)[0]
        living = stars.alive[0]
        assert torch.allclose(drawn.magnitudes[rows][living].double(), expected[living], atol=1e-4)


def test_binaries_in_clusters(generator: torch.Generator) -> None:
    settings = clusters((5e4, 9.3, 0.0, 0.0))
    drawn = sample_cluster(GRID, *settings, BANDS, generator, binaries=Binaries(1.0, 1.0))
    total = float(drawn.initial_mass.values.sum() + drawn.companion_mass.sum())
    assert total == pytest.approx(5e4, rel=0.01)
    stars = GRID.evolve(drawn.initial_mass[0][None], settings[1][:, None], settings[2][:, None])
    single = GRID.magnitudes(stars, 0.0, BANDS, 0.0)[0]
    living = stars.alive[0]
    twice = single[living] - 2.5 * math.log10(2)
    assert torch.allclose(drawn.magnitudes[living].double(), twice, atol=1e-4)


def test_generator_decides() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        settings = clusters((500, 8.0, 0.0, 0.2), (900, 9.0, -1.0, 0.0))
        return sample_cluster(GRID, *settings, BANDS, generator, binaries=Binaries()).magnitudes

    assert torch.equal(draw(3), draw(3))
    assert draw(3).shape != draw(4).shape or not torch.equal(draw(3), draw(4))


def test_light_scales_with_mass() -> None:
    one = expected_magnitudes(GRID, 8.0, 0.0, BANDS, total_mass=1.0)
    thousand = expected_magnitudes(GRID, 8.0, 0.0, BANDS, total_mass=1e3, imf=Kroupa2001())
    assert (one - thousand).tolist() == pytest.approx([7.5] * 3)
