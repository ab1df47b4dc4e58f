from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import integrate, stats

from melotte.errors import MelotteValueError
from melotte.sky.imf import BrokenPowerLaw, Chabrier2003, InitialMassFunction, Kroupa2001, Salpeter

FUNCTIONS = [
    Kroupa2001(),
    Kroupa2001(0.01, 300.0),
    Kroupa2001(0.3, 0.4),
    Salpeter(),
    Chabrier2003(),
    BrokenPowerLaw(0.1, 100.0, (0.5, 1.0, 200.0), (1.3, 2.3, 2.7, 9.0)),
]
each = pytest.mark.parametrize("imf", FUNCTIONS, ids=repr)


def integral(imf: InitialMassFunction, power: float) -> float:
    def integrand(log_mass: float) -> float:
        mass = np.exp(log_mass)
        return float(imf.pdf(torch.tensor(mass, dtype=torch.float64))) * mass ** (power + 1)

    breaks = [np.log(m) for m in (0.08, 0.5, 1.0) if imf.low < m < imf.high]
    found = integrate.quad(
        integrand, np.log(imf.low), np.log(imf.high), points=breaks, limit=200, epsabs=1e-12
    )
    return found[0]


@each
def test_density_integrates_to_one_and_to_the_mean_mass(imf: InitialMassFunction) -> None:
    assert integral(imf, 0) == pytest.approx(1, abs=1e-8)
    assert integral(imf, 1) == pytest.approx(imf.mean_mass, rel=1e-7)


@each
def test_cdf_is_the_integral_of_the_density(imf: InitialMassFunction) -> None:
    mass = torch.logspace(np.log10(imf.low), np.log10(imf.high), 200_001, dtype=torch.float64)
    numeric = torch.cumulative_trapezoid(imf.pdf(mass), mass)
    assert (imf.cdf(mass)[1:] - numeric).abs().max() < 1e-4
    assert imf.cdf(mass[[0, -1]]).tolist() == pytest.approx([0, 1], abs=1e-12)
    assert imf.cdf(torch.tensor([imf.low / 2, imf.high * 2])).tolist() == pytest.approx([0, 1])
    assert imf.pdf(torch.tensor([imf.low / 2, imf.high * 2])).tolist() == [0, 0]


@each
def test_quantile_inverts_cdf(imf: InitialMassFunction) -> None:
    fraction = torch.linspace(0, 1, 10_001, dtype=torch.float64)
    mass = imf.quantile(fraction)
    assert (imf.cdf(mass) - fraction).abs().max() < 1e-12
    assert (mass.diff() > 0).all()
    assert imf.quantile(fraction.float()).dtype == torch.float32


@each
def test_samples_follow_the_cdf(imf: InitialMassFunction, generator: torch.Generator) -> None:
    mass = imf.sample((20_000,), generator)
    assert mass.dtype == torch.float64
    test = stats.kstest(mass.numpy(), lambda m: imf.cdf(torch.from_numpy(m)).numpy())
    assert test.pvalue > 1e-3
    wrong = (
        Kroupa2001(imf.low, imf.high) if isinstance(imf, Salpeter) else Salpeter(imf.low, imf.high)
    )
    assert (
        stats.kstest(mass.numpy(), lambda m: wrong.cdf(torch.from_numpy(m)).numpy()).pvalue < 1e-6
    )


def test_slopes_of_kroupa() -> None:
    """Kroupa 2001, Eq. 2, and continuity at its breaks."""
    imf = Kroupa2001(0.01, 100.0)
    for low, high, slope in ((0.02, 0.07, 0.3), (0.1, 0.4, 1.3), (0.6, 90.0, 2.3)):
        density = imf.pdf(torch.tensor([low, high], dtype=torch.float64))
        assert float(-density.log().diff()) / np.log(high / low) == pytest.approx(slope)
    for edge in (0.08, 0.5):
        sides = imf.pdf(torch.tensor([edge * (1 - 1e-9), edge * (1 + 1e-9)], dtype=torch.float64))
        assert float(sides[0] / sides[1]) == pytest.approx(1, abs=1e-7)


def test_published_chabrier() -> None:
    """Chabrier 2003, Table 1: amplitudes 0.158 and 0.0443 per log10 M below and above 1 Msun."""
    imf = Chabrier2003(0.01, 100.0)
    mass = torch.tensor([0.079, 10.0], dtype=torch.float64)
    per_decade = imf.pdf(mass) * mass * np.log(10)
    expected = 0.158 / (0.0443 * 10**-1.3)
    assert float(per_decade[0] / per_decade[1]) == pytest.approx(expected, rel=0.01)


def test_truncated_samples(generator: torch.Generator) -> None:
    imf = Kroupa2001()
    low = torch.tensor([[0.2], [5.0], [0.01]])
    high = torch.tensor([[0.6], [7.0], [0.1]])
    mass = imf.sample_between(low.expand(3, 5000), high, generator)
    assert mass.shape == (3, 5000)
    floor = torch.tensor([[0.2], [5.0], [0.08]], dtype=torch.float64)
    assert (mass >= floor - 1e-7).all()
    assert (mass <= high.double() + 1e-12).all()
    for row, (a, b) in zip(mass, [(0.2, 0.6), (5.0, 7.0), (0.08, 0.1)], strict=True):
        inside = Kroupa2001(a, b)
        p = stats.kstest(row.numpy(), lambda m, i=inside: i.cdf(torch.from_numpy(m)).numpy()).pvalue
        assert p > 1e-3


def test_total_mass(generator: torch.Generator) -> None:
    imf = Kroupa2001()
    total = torch.tensor([1e4, 0.0, 300.0, 1e5, 50.0])
    masses = imf.sample_to_total_mass(total, generator)
    masses.check()
    sums = torch.zeros(5, dtype=torch.float64).index_add_(0, masses.index, masses.values)
    assert masses.counts[1] == 0
    # Stopping nearest misses by at most half of the heaviest star; typically by far less.
    assert (sums - total).abs().max() < imf.high / 2
    assert float((sums[3] - 1e5).abs()) < 60


def test_total_mass_is_unbiased(generator: torch.Generator) -> None:
    """Over many clusters the sum is right to the scatter of the last star."""
    imf = Kroupa2001()
    n = 2000
    masses = imf.sample_to_total_mass(torch.full((n,), 500.0), generator)
    sums = torch.zeros(n, dtype=torch.float64).index_add_(0, masses.index, masses.values)
    assert float(sums.mean()) == pytest.approx(500, abs=4 * float(sums.std()) / n**0.5 + 0.5)
    assert masses.values.mean() == pytest.approx(imf.mean_mass, rel=0.02)


def test_generator_decides() -> None:
    def draw(seed: int) -> torch.Tensor:
        generator = torch.Generator().manual_seed(seed)
        return Kroupa2001().sample_to_total_mass(torch.tensor([1e3, 2e3]), generator).values

    assert torch.equal(draw(1), draw(1))
    assert len(draw(1)) != len(draw(2)) or not torch.equal(draw(1), draw(2))


@pytest.mark.parametrize("total", [-1.0, float("nan"), float("inf")])
def test_impossible_totals(total: float, generator: torch.Generator) -> None:
    with pytest.raises(MelotteValueError, match="finite and not negative"):
        Kroupa2001().sample_to_total_mass(torch.tensor([total]), generator)


@pytest.mark.parametrize(("low", "high"), [(0.0, 1.0), (2.0, 1.0), (1.0, float("inf"))])
def test_impossible_limits(low: float, high: float) -> None:
    with pytest.raises(MelotteValueError, match="0 < low < high"):
        Kroupa2001(low, high)
    with pytest.raises(MelotteValueError):
        Chabrier2003(2.0, 3.0)
