"""A cluster that evolves: stars, orbits, tide and stellar evolution together."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteValueError
from melotte.sky.imf import Kroupa2001
from melotte.sky.isochrones import StellarGrid
from melotte.sky.monte_carlo.binaries import HEAT
from melotte.sky.monte_carlo.equilibria import Equilibrium
from melotte.sky.monte_carlo.mergers import merge_inspiralling
from melotte.sky.monte_carlo.potential import (
    potential_of_shells,
    strong_deflection_radius,
    total_energy,
)
from melotte.sky.monte_carlo.stellar_life import StellarLives, event_times, types_at_birth
from melotte.sky.monte_carlo.steps import ESCAPED, ESCAPED_ENERGY, advance
from melotte.sky.monte_carlo.supernovae import kick
from melotte.sky.monte_carlo.tides import CircularOrbit, escape_times
from melotte.sky.monte_carlo.units import GRAVITY
from melotte.sky.natal_kicks import natal_kick_speeds
from melotte.sky.remnant_table import BLACK_HOLE, remnants_of

Array = NDArray[np.float64]

FEWEST = 100
"""A cluster of fewer shells is taken as dissolved."""


@dataclass(frozen=True)
class ClusterModel:
    """Everything that a cluster begins with.

    Parameters
    ----------
    n_stars : int, >= 1000
    equilibrium : Equilibrium
        Plummer's or King's model.
    metallicity : float, [Fe/H]
    lowest_mass, highest_mass : float, Msun
        Limits of Kroupa's (2001) mass function.
    orbit : CircularOrbit, optional
        Isolated when not given.
    black_holes : "fallback", "none" or "all"
        Natal kicks of black holes: those of neutron stars times 1 minus the fallback fraction;
        all of them leave at birth; none is kicked.
    neutron_star_dispersion : float, km/s
        One-dimensional, of the Maxwellian of kicks.
    stellar_evolution : bool
    binaries : bool
        Whether three-body encounters bind stars.
    deflection : float, in (0, 0.5]
        Mean sin^2(beta/2) in an interval: accuracy.
    coulomb_factor : float
        gamma of the Coulomb logarithm ln(gamma N); 0.02 for stars of many masses, 0.11 for equal
        ones (Giersz & Heggie 1994, 1996).
    seed : int
    """

    n_stars: int
    equilibrium: Equilibrium
    metallicity: float = -1.3
    lowest_mass: float = 0.1
    highest_mass: float = 50.0
    orbit: CircularOrbit | None = None
    black_holes: str = "fallback"
    neutron_star_dispersion: float = 265.0
    stellar_evolution: bool = True
    binaries: bool = True
    deflection: float = 0.1
    coulomb_factor: float = 0.02
    seed: int = 1

    def __post_init__(self) -> None:
        if not self.n_stars >= 1000:
            raise MelotteValueError(f"n_stars must be at least 1000, found {self.n_stars}")
        if self.black_holes not in ("fallback", "none", "all"):
            raise MelotteValueError(
                f"black_holes must be 'fallback', 'none' or 'all', found {self.black_holes!r}"
            )
        if not 0 < self.deflection <= 0.5:
            raise MelotteValueError(f"deflection must be in (0, 0.5], found {self.deflection:g}")


@dataclass
class History:
    """What a run writes down at every stellar-evolution step; lists of one value each."""

    time: list[float] = field(default_factory=list)
    n_stars: list[int] = field(default_factory=list)
    mass: list[float] = field(default_factory=list)
    lagrangian_radii: list[list[float]] = field(default_factory=list)
    n_black_holes: list[int] = field(default_factory=list)
    n_binaries: list[int] = field(default_factory=list)
    energy_error: list[float] = field(default_factory=list)


FRACTIONS = (0.01, 0.1, 0.5, 0.9)
"""Of the mass, whose radii the history holds."""


class ClusterEvolution:
    """One cluster in time.

    Parameters
    ----------
    model : ClusterModel
    masses : array, shape (n_stars,), Msun, optional
        Initial masses instead of drawn ones.
    """

    def __init__(self, model: ClusterModel, masses: Array | None = None) -> None:
        self.model = model
        generator = self._generator(0)
        if masses is None:
            imf = Kroupa2001(model.lowest_mass, model.highest_mass)
            uniform = generator.random(model.n_stars)
            masses = _quantiles(imf, uniform)
        if len(masses) != model.n_stars:
            raise MelotteValueError(f"{len(masses)} masses for {model.n_stars} stars")
        begin = model.equilibrium.draw(model.n_stars, float(masses.sum()), generator)
        order = np.argsort(begin[0])
        self.n = model.n_stars
        self.shells = np.ascontiguousarray(np.vstack([begin, masses])[:, order])
        self.names = order.astype(np.int64)
        self.stars = np.zeros((3, model.n_stars))
        self.stars[0] = masses
        self.initial_mass = np.array(masses, dtype=np.float64)
        self.companion = np.full(model.n_stars, -1, dtype=np.int64)
        self.kind = types_at_birth(masses)
        self.merged = np.zeros(model.n_stars, dtype=bool)
        self.time = 0.0
        self.step = 0
        self.events = 0
        self.ledger = np.zeros(6)
        self.counters = np.zeros(5, dtype=np.int64)
        self.energies = np.zeros(2)
        self.drift = 0.0
        self.history = History()
        self.softening = self._softening()
        self.initial_energy = self._energy()
        self._lives: StellarLives | None = None
        self._kicks = np.zeros(model.n_stars)
        if model.stellar_evolution:
            remnants = remnants_of(self.initial_mass, model.metallicity)
            self._lives = StellarLives(
                self.initial_mass, model.metallicity, remnants, StellarGrid.shipped()
            )
            self._kicks = natal_kick_speeds(
                remnants,
                self._generator(1),
                neutron_star_dispersion=model.neutron_star_dispersion,
                black_hole="fallback" if model.black_holes == "fallback" else "none",
            )
            if model.black_holes == "none":
                self._kicks[remnants.kind == BLACK_HOLE] = np.inf

    def run(
        self,
        until: float,
        snapshot_times: Sequence[float] = (),
        report: Callable[[float], None] | None = None,
    ) -> Iterator[float]:
        """Evolve, and stop at chosen times.

        Parameters
        ----------
        until : float, Myr
        snapshot_times : sequence of float, Myr
        report : callable, optional
            Called with the time (Myr) after every stellar-evolution step.

        Yields
        ------
        float
            Each of ``snapshot_times`` that the cluster lives to see, when it is reached.
        """
        wanted = sorted(time for time in snapshot_times if self.time <= time <= until)
        if self.events == 0 and wanted and wanted[0] == 0:
            yield 0.0
        times = np.union1d(event_times(until), wanted)
        for time in times[times > self.time]:
            self._dynamics(float(time))
            self._evolve_stars()
            self._tide()
            if self.n < FEWEST:
                return
            self._write_down()
            if report is not None:
                report(self.time)
            if time in wanted:
                yield float(time)

    @property
    def total_mass(self) -> float:
        """Msun."""
        return float(self.shells[3, : self.n].sum())

    def lagrangian_radii(self, fractions: Sequence[float]) -> Array:
        """Radii that hold fractions of the mass, pc."""
        inside = np.cumsum(self.shells[3, : self.n])
        return np.interp(np.array(fractions) * inside[-1], inside, self.shells[0, : self.n])

    @property
    def energy_error(self) -> float:
        """Energy that was neither lost, carried away nor given, relative to the initial one."""
        return self.drift / abs(self.initial_energy)

    def _dynamics(self, until: float) -> None:
        self.softening = self._softening()
        before = self._energy()
        settings = np.array(
            [
                self.model.deflection,
                math.log(max(self.model.coulomb_factor * self.n, 3.0)),
                min(max(0.1 * self.time, 5.0), 100.0),
                self._escape_energy(),
                float(self.model.binaries),
                self.softening,
            ]
        )
        self.n, self.time, self.step = advance(
            self.shells, self.names, self.n, self.stars, self.companion, self.time, until,
            settings, self.model.seed, self.step, self.ledger, self.counters,
            self.energies,
        )  # fmt: skip
        self.time = until
        self.drift += self._energy() - before

    def _softening(self) -> float:
        return strong_deflection_radius(self.shells, self.n)

    def _energy(self) -> float:
        """Energy of all shells and of those that left, less what binaries gave."""
        kinetic, binding = total_energy(self.shells, self.n, self.softening)
        return kinetic + binding + self.energies[ESCAPED_ENERGY] - self.ledger[HEAT]

    def _escape_energy(self) -> float:
        """Energy above which a star leaves at once, (km/s)^2."""
        if self.model.orbit is None:
            return 0.0
        mass = self.total_mass
        return -GRAVITY * mass / self.model.orbit.tidal_radius(mass)

    def _tide(self) -> None:
        """Let potential escapers find the way out; merge black holes that spiral in."""
        span = self.time - (self.history.time[-1] if self.history.time else 0.0)
        self.events += 1
        generator = self._generator(1 + self.events)
        merge_inspiralling(self, span, generator)
        if self.model.orbit is None or span <= 0:
            return
        potential = np.empty(self.n)
        shells = self.shells[:, : self.n]
        mass = potential_of_shells(shells[0], shells[3], self.n, self.softening, potential)
        times = np.empty(self.n)
        escape_times(
            shells, self.n, self.softening, potential, mass,
            self.model.orbit.tidal_radius(mass), self.model.orbit.neck_frequencies(), times,
        )  # fmt: skip
        leaving = generator.random(self.n) < -np.expm1(-span / np.maximum(times, 1e-9))
        energy = 0.5 * (shells[1] ** 2 + shells[2] ** 2) + potential
        energy += GRAVITY * shells[3] / np.maximum(shells[0], self.softening)
        self.energies[ESCAPED_ENERGY] += float((shells[3] * energy)[leaving].sum())
        self.counters[ESCAPED] += int(leaving.sum())
        self.keep(~leaving)

    def keep(self, kept: NDArray[np.bool_]) -> None:
        """Leave out shells; ``kept`` has the shape (n,)."""
        remaining = int(kept.sum())
        self.shells[:, :remaining] = self.shells[:, : self.n][:, kept]
        self.names[:remaining] = self.names[: self.n][kept]
        self.n = remaining

    def push(self, shell: int, velocity: Array) -> None:
        """Add a velocity, km/s: two components across the radius and one along it."""
        radial, across = self.shells[1, shell] + velocity[2], self.shells[2, shell] + velocity[0]
        self.shells[1, shell] = radial
        self.shells[2, shell] = math.hypot(across, velocity[1])

    def insert(self, freed: Sequence[tuple[int, int, Array]]) -> None:
        """Put stars that left binaries beside a shell, with its velocity and a push (km/s).

        Parameters
        ----------
        freed : sequence of (shell, star, velocity)
        """
        if not freed:
            return
        shells = [one[0] for one in freed]
        after = np.array(shells) + 1
        columns = self.shells[:, shells].copy()
        self.shells[:, : self.n + len(freed)] = np.insert(
            self.shells[:, : self.n], after, columns, axis=1
        )
        names = np.insert(self.names[: self.n], after, [one[1] for one in freed])
        self.names[: self.n + len(freed)] = names
        self.n += len(freed)
        place = {int(name): i for i, name in enumerate(names)}
        for _, star, velocity in freed:
            self.push(place[star], velocity)

    def _evolve_stars(self) -> None:
        """Masses of the new age; dying stars become remnants and are kicked."""
        if self._lives is None:
            return
        mass, kind = self._lives.at(self.time)
        held = self.held_stars()
        born = held & (kind >= 10) & (self.kind < 10)
        changed = held & ~self.merged
        before = self.stars[0].copy()
        self.stars[0, changed] = mass[changed]
        self.kind[changed] = kind[changed]
        exploded = born & (kind >= 13)
        self._widen(before, exploded)
        generator = self._generator(-1 - self.events)
        stars = np.nonzero(exploded | (born & (self._kicks > 0)))[0]
        kick(self, stars, self._kicks, generator, before)
        self._weigh()

    def _widen(self, before: Array, exploded: NDArray[np.bool_]) -> None:
        """Orbits of binaries that lost mass slowly: the axis times the mass stays."""
        first = self.names[: self.n]
        first = first[self.companion[first] >= 0]
        second = self.companion[first]
        slow = ~(exploded[first] | exploded[second])
        first, second = first[slow], second[slow]
        mass = self.stars[0, first] + self.stars[0, second]
        whole = mass > 0
        factor = (before[first] + before[second])[whole] / mass[whole]
        self.stars[1, first[whole]] *= factor

    def held_stars(self) -> NDArray[np.bool_]:
        """Which stars are in the cluster, shape (n_stars,)."""
        held = np.zeros(self.model.n_stars, dtype=bool)
        first = self.names[: self.n]
        held[first] = True
        second = self.companion[first]
        held[second[second >= 0]] = True
        return held

    def _weigh(self) -> None:
        """Shells' masses from their stars'; empty shells go, and stars of which nothing is left."""
        first = self.names[: self.n]
        second = self.companion[first]
        broken = (second >= 0) & ((self.stars[0, first] <= 0) | (self.stars[0, second] <= 0))
        self.companion[first[broken]] = -1
        self.names[: self.n] = np.where(broken & (self.stars[0, first] <= 0), second, first)
        first = self.names[: self.n]
        second = self.companion[first]
        mass = self.stars[0, first] + np.where(second >= 0, self.stars[0, second], 0.0)
        self.shells[3, : self.n] = mass
        if (mass <= 0).any():
            self.keep(mass > 0)

    def _write_down(self) -> None:
        held = self.held_stars()
        self.history.time.append(self.time)
        self.history.n_stars.append(int(held.sum()))
        self.history.mass.append(self.total_mass)
        self.history.lagrangian_radii.append(self.lagrangian_radii(FRACTIONS).tolist())
        self.history.n_black_holes.append(int((held & (self.kind == BLACK_HOLE)).sum()))
        self.history.n_binaries.append(int((self.companion[self.names[: self.n]] >= 0).sum()))
        self.history.energy_error.append(self.energy_error)

    def _generator(self, stream: int) -> np.random.Generator:
        return np.random.default_rng([self.model.seed, stream + (1 << 32)])


def _quantiles(imf: Kroupa2001, uniform: Array) -> Array:
    import torch

    return imf.quantile(torch.from_numpy(uniform)).numpy()
