"""Stellar initial mass functions: densities, quantiles and samples."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged, offsets_of


class InitialMassFunction(ABC):
    """Number distribution of initial masses between two limits, normalised to one star.

    Parameters
    ----------
    low, high : float, Msun, 0 < low < high
    """

    def __init__(self, low: float, high: float) -> None:
        if not 0 < low < high < math.inf:
            raise MelotteValueError(f"mass limits must be 0 < low < high, found {low}, {high}")
        self.low = float(low)
        self.high = float(high)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.low:g}, {self.high:g})"

    @abstractmethod
    def pdf(self, mass: Tensor) -> Tensor:
        """Density dN / dM, per Msun, of masses in Msun; 0 outside the limits."""

    @abstractmethod
    def cdf(self, mass: Tensor) -> Tensor:
        """Fraction of stars below masses in Msun; float64."""

    @abstractmethod
    def quantile(self, fraction: Tensor) -> Tensor:
        """Mass, Msun, below which a fraction in [0, 1] of stars are; dtype of ``fraction``."""

    @property
    @abstractmethod
    def mean_mass(self) -> float:
        """Mean mass of a star, Msun."""

    def sample(self, shape: Sequence[int], generator: torch.Generator) -> Tensor:
        """Draw masses.

        Parameters
        ----------
        shape : sequence of int
        generator : torch.Generator
            Masses are drawn on its device.

        Returns
        -------
        Tensor of float64, of that shape, Msun
        """
        return self.quantile(_uniform(tuple(shape), generator))

    def sample_between(self, low: Tensor, high: Tensor, generator: torch.Generator) -> Tensor:
        """Draw one mass between each pair of bounds.

        Parameters
        ----------
        low, high : Tensor, shapes that broadcast, Msun
            Bounds outside the limits of the mass function count as the limits.
        generator : torch.Generator, on the device of the bounds

        Returns
        -------
        Tensor of float64, the broadcast shape, Msun
        """
        low, high = torch.broadcast_tensors(low.double(), high.double())
        below, above = self.cdf(low), self.cdf(high)
        mass = self.quantile(below + (above - below) * _uniform(low.shape, generator))
        return torch.minimum(torch.maximum(mass, low.clamp(min=self.low)), high)

    def sample_to_total_mass(self, total_mass: Tensor, generator: torch.Generator) -> Ragged:
        """Draw the stars of clusters of given total initial mass.

        Stars are added until their sum passes the total; the last is kept when that brings the
        sum nearer to it ("stop nearest").

        Parameters
        ----------
        total_mass : Tensor, shape (n_clusters,), Msun, >= 0
        generator : torch.Generator, on the device of ``total_mass``

        Returns
        -------
        Ragged, values of float64, Msun
            One set of masses a cluster; ``.index`` gives each star's cluster.

        Raises
        ------
        MelotteValueError
            When a total is negative, infinite or NaN.

        References
        ----------
        Haas & Anders 2010, A&A 512, A79, Sect. 2.2, on sampling that stops nearest.
        """
        target = total_mass.double()
        if not bool((torch.isfinite(target) & (target >= 0)).all()):
            raise MelotteValueError("total masses must be finite and not negative")
        drawn: list[Tensor] = []
        owners: list[Tensor] = []
        missing = target.clone()
        active = torch.arange(len(target), device=target.device)
        while len(active):
            expected = missing[active] / self.mean_mass
            counts = (expected + 4 * torch.sqrt(expected) + 8).ceil().long()
            owner = torch.repeat_interleave(active, counts)
            mass = self.sample((len(owner),), generator)
            offsets = offsets_of(counts)
            running = torch.cat([mass.new_zeros(1), mass.cumsum(0)])
            before = running[:-1] - torch.repeat_interleave(running[offsets[:-1]], counts)
            keep = before + mass / 2 <= missing[owner]
            # Adding stops at the first star that is refused, so every later one is too.
            refusals = torch.cat([mass.new_zeros(1), (~keep).double().cumsum(0)])
            earlier = refusals[1:] - torch.repeat_interleave(refusals[offsets[:-1]], counts)
            keep = earlier == 0
            drawn.append(mass[keep])
            owners.append(owner[keep])
            used = torch.zeros_like(target).index_add_(0, owner[keep], mass[keep])
            refused = refusals[offsets[1:]] > refusals[offsets[:-1]]
            missing = missing - used
            # The last star drawn may be the one that passed the total.
            active = active[~refused & (missing[active] > 0)]
        masses, clusters = torch.cat(drawn or [target[:0]]), torch.cat(owners or [active])
        order = torch.argsort(clusters, stable=True)
        counts = torch.bincount(clusters, minlength=len(target))
        return Ragged(masses[order], offsets_of(counts))


class BrokenPowerLaw(InitialMassFunction):
    """Piecewise power law dN / dM ~ M^-slope, continuous.

    Parameters
    ----------
    low, high : float, Msun
    breaks : sequence of float, Msun, rise
        Those outside the limits are ignored.
    slopes : sequence of float
        One more than ``breaks``; none of them 1 or 2.
    """

    def __init__(
        self, low: float, high: float, breaks: Sequence[float], slopes: Sequence[float]
    ) -> None:
        super().__init__(low, high)
        edges, exponents = [self.low], []
        for edge, slope in zip([*breaks, math.inf], slopes, strict=True):
            if edge <= self.low:
                continue
            exponents.append(slope)
            edges.append(min(edge, self.high))
            if edge >= self.high:
                break
        scale = [1.0]
        for i in range(1, len(exponents)):
            scale.append(scale[-1] * edges[i] ** (exponents[i] - exponents[i - 1]))
        pieces = list(zip(scale, exponents, edges[:-1], edges[1:], strict=True))
        numbers = [_power_integral(*piece) for piece in pieces]
        masses = [_power_integral(k, slope - 1, a, b) for k, slope, a, b in pieces]
        total = sum(numbers)
        self._mean_mass = sum(masses) / total
        self._edges = torch.tensor(edges, dtype=torch.float64)
        self._slopes = torch.tensor(exponents, dtype=torch.float64)
        self._scale = torch.tensor(scale, dtype=torch.float64) / total
        fractions = torch.tensor([0.0, *numbers], dtype=torch.float64).cumsum(0) / total
        self._fractions = fractions / fractions[-1]

    @property
    def mean_mass(self) -> float:
        """Mean mass of a star, Msun."""
        return self._mean_mass

    def pdf(self, mass: Tensor) -> Tensor:
        """Density dN / dM, per Msun, of masses in Msun; 0 outside the limits."""
        piece, (_, slope, scale, _) = self._pieces(mass.double(), self._edges)
        inside = (mass >= self.low) & (mass <= self.high)
        density = scale[piece] * mass.double() ** -slope[piece]
        return torch.where(inside, density, 0.0).to(mass.dtype)

    def cdf(self, mass: Tensor) -> Tensor:
        """Fraction of stars below masses in Msun; float64."""
        inside = mass.double().clamp(self.low, self.high)
        piece, (edges, slopes, scale, fractions) = self._pieces(inside, self._edges)
        power = 1 - slopes[piece]
        part = scale[piece] / power * (inside**power - edges[piece] ** power)
        return (fractions[piece] + part).clamp(0, 1)

    def quantile(self, fraction: Tensor) -> Tensor:
        """Mass, Msun, below which a fraction in [0, 1] of stars are; dtype of ``fraction``."""
        wanted = fraction.double()
        piece, (edges, slopes, scale, fractions) = self._pieces(wanted, self._fractions)
        power = 1 - slopes[piece]
        base = edges[piece] ** power + (wanted - fractions[piece]) * power / scale[piece]
        return (base ** (1 / power)).clamp(self.low, self.high).to(fraction.dtype)

    def _pieces(self, value: Tensor, edges: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The piece each value falls in, and (edges, slopes, scale, fractions) on its device."""
        device = value.device
        inner = edges[1:-1].to(device)
        constants = (self._edges, self._slopes, self._scale, self._fractions)
        piece = torch.bucketize(value, inner, right=True)
        return piece, tuple(constant.to(device) for constant in constants)


class Kroupa2001(BrokenPowerLaw):
    """Slope 0.3 below 0.08 Msun, 1.3 to 0.5 Msun, 2.3 above.

    Parameters
    ----------
    low, high : float, Msun, in [0.01, 300]

    References
    ----------
    Kroupa 2001, MNRAS 322, 231, Eq. 2.
    """

    def __init__(self, low: float = 0.08, high: float = 120.0) -> None:
        super().__init__(low, high, (0.08, 0.5), (0.3, 1.3, 2.3))


class Salpeter(BrokenPowerLaw):
    """Slope 2.35 throughout.

    Parameters
    ----------
    low, high : float, Msun

    References
    ----------
    Salpeter 1955, ApJ 121, 161, Eq. 5.
    """

    def __init__(self, low: float = 0.1, high: float = 120.0) -> None:
        super().__init__(low, high, (), (2.35,))


class Chabrier2003(InitialMassFunction):
    """Log-normal of single stars below 1 Msun, slope 2.3 above, continuous.

    Parameters
    ----------
    low, high : float, Msun, low < 1 < high

    References
    ----------
    Chabrier 2003, PASP 115, 763, Eq. 17 and Table 1.
    """

    CENTRE = math.log(0.079)
    WIDTH = 0.69 * math.log(10)
    SLOPE = 2.3

    def __init__(self, low: float = 0.08, high: float = 120.0) -> None:
        super().__init__(low, high)
        if not low < 1 < high:
            raise MelotteValueError(f"Chabrier2003 needs low < 1 < high, found {low}, {high}")
        self._lowest = _normal_cdf((math.log(low) - self.CENTRE) / self.WIDTH)
        self._at_one = _normal_cdf(-self.CENTRE / self.WIDTH)
        height = math.exp(-0.5 * (self.CENTRE / self.WIDTH) ** 2)
        # Density of the log-normal at 1 Msun, which the power law continues.
        self._joint = height / (self.WIDTH * math.sqrt(2 * math.pi))
        below = self._at_one - self._lowest
        above = _power_integral(self._joint, self.SLOPE, 1.0, high)
        self._total = below + above
        self._share = below / self._total
        shift = [
            _normal_cdf((math.log(m) - self.CENTRE) / self.WIDTH - self.WIDTH) for m in (low, 1.0)
        ]
        mass_below = math.exp(self.CENTRE + self.WIDTH**2 / 2) * (shift[1] - shift[0])
        mass_above = _power_integral(self._joint, self.SLOPE - 1, 1.0, high)
        self._mean_mass = (mass_below + mass_above) / self._total

    @property
    def mean_mass(self) -> float:
        """Mean mass of a star, Msun."""
        return self._mean_mass

    def pdf(self, mass: Tensor) -> Tensor:
        """Density dN / dM, per Msun, of masses in Msun; 0 outside the limits."""
        wide = mass.double()
        place = (torch.log(wide) - self.CENTRE) / self.WIDTH
        normal = torch.exp(-0.5 * place**2) / (self.WIDTH * math.sqrt(2 * math.pi) * wide)
        density = torch.where(wide < 1, normal, self._joint * wide**-self.SLOPE) / self._total
        inside = (wide >= self.low) & (wide <= self.high)
        return torch.where(inside, density, 0.0).to(mass.dtype)

    def cdf(self, mass: Tensor) -> Tensor:
        """Fraction of stars below masses in Msun; float64."""
        wide = mass.double().clamp(self.low, self.high)
        normal = torch.special.ndtr((torch.log(wide) - self.CENTRE) / self.WIDTH) - self._lowest
        power = 1 - self.SLOPE
        above = self._joint / power * (wide.clamp(min=1) ** power - 1)
        return (
            torch.where(wide < 1, normal / self._total, self._share + above / self._total)
        ).clamp(0, 1)

    def quantile(self, fraction: Tensor) -> Tensor:
        """Mass, Msun, below which a fraction in [0, 1] of stars are; dtype of ``fraction``."""
        wanted = fraction.double()
        normal = torch.special.ndtri((wanted * self._total + self._lowest).clamp(max=self._at_one))
        below = torch.exp(self.CENTRE + self.WIDTH * normal)
        power = 1 - self.SLOPE
        excess = (wanted - self._share).clamp(min=0) * self._total / self._joint
        above = (1 + power * excess) ** (1 / power)
        mass = torch.where(wanted < self._share, below, above)
        return mass.clamp(self.low, self.high).to(fraction.dtype)


def _power_integral(scale: float, slope: float, low: float, high: float) -> float:
    """Integral of scale * M^-slope; the slope is not 1."""
    power = 1 - slope
    return scale / power * (high**power - low**power)


def _normal_cdf(value: float) -> float:
    return 0.5 * math.erfc(-value / math.sqrt(2))


def _uniform(shape: Sequence[int], generator: torch.Generator) -> Tensor:
    return torch.rand(
        tuple(shape), dtype=torch.float64, generator=generator, device=generator.device
    )
