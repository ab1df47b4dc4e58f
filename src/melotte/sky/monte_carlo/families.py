"""Families of clusters: the initial conditions that libraries of runs are drawn from."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from melotte.errors import MelotteValueError, did_you_mean
from melotte.sky.imf import Kroupa2001
from melotte.sky.monte_carlo.equilibria import King, Plummer
from melotte.sky.monte_carlo.evolution import ClusterModel
from melotte.sky.monte_carlo.tides import CircularOrbit

Range = tuple[float, float]

YOUNGEST = 0.1
"""Myr; no isochrone is younger."""

LOWEST_MASS = 0.1
"""Of the mass function, Msun, where a family says nothing else."""

LOWEST_MASSES = (0.08, 0.5)
"""Lower limits of the mass function that are allowed, Msun; the remnant table ends at the least."""

SIZES = (0.05, 100.0)
"""Half-mass radii that clusters may begin with, pc."""

MOST_SNAPSHOTS = 100_000
"""Of one run."""


@dataclass(frozen=True)
class ClusterFamily:
    """What the clusters of a library begin with: each value drawn from a range.

    Parameters
    ----------
    name : str
    stream : int
        Families of different streams never share a draw, whatever their seeds.
    n_stars : (float, float)
        Uniform in its logarithm, as are sizes and orbits.
    half_mass_radius : (float, float), pc
    sizes : tuple of float, pc
        Only these half-mass radii, in turn, where given.
    galactic_radius : (float, float), kpc
        Of circular orbits in a flat rotation curve of 220 km/s.
    metallicity : (float, float), [Fe/H]
    central_potential : (float, float)
        King's W0, uniform, both within [1, 12]; Plummer's model where both are 0.
    filling : float
        Largest half-mass radius in tidal radii, which ends the range of sizes where it is smaller;
        clusters that fill more dissolve young. The least size is drawn all the same.
    lowest_mass, highest_mass : float, Msun
        Limits of the mass function.
    black_holes : str
        As :class:`~melotte.sky.monte_carlo.evolution.ClusterModel` takes it.
    until : float, Myr
    snapshots : int
        Evenly spaced in time up to ``until``; a single one is taken then.
    first_snapshot : float, Myr
        The first of several.
    """

    name: str
    stream: int
    n_stars: Range
    half_mass_radius: Range
    galactic_radius: Range
    metallicity: Range
    sizes: tuple[float, ...] = ()
    central_potential: Range = (0.0, 0.0)
    filling: float = math.inf
    lowest_mass: float = LOWEST_MASS
    highest_mass: float = 100.0
    black_holes: str = "fallback"
    until: float = 14_000.0
    snapshots: int = 40
    first_snapshot: float = 300.0

    def model(self, number: int, seed: int) -> ClusterModel:
        """Initial conditions of one run.

        Parameters
        ----------
        number : int, >= 1
            Of the run in its family.
        seed : int, >= 0

        Returns
        -------
        ClusterModel
        """
        generator = np.random.default_rng([self.stream, seed, number])
        uniform = generator.random(5)
        n_stars = round(_log_uniform(self.n_stars, uniform[0]))
        orbit = CircularOrbit(_log_uniform(self.galactic_radius, uniform[2]))
        if self.sizes:
            size = self.sizes[(number - 1) % len(self.sizes)]
        else:
            mean_mass = Kroupa2001(self.lowest_mass, self.highest_mass).mean_mass
            limit = self.filling * orbit.tidal_radius(n_stars * mean_mass)
            low, high = self.half_mass_radius
            size = _log_uniform((low, min(high, max(limit, low))), uniform[1])
        depth = _uniform(self.central_potential, uniform[4])
        return ClusterModel(
            n_stars=n_stars,
            equilibrium=Plummer(size) if depth == 0 else King(size, depth),
            metallicity=_uniform(self.metallicity, uniform[3]),
            lowest_mass=self.lowest_mass,
            highest_mass=self.highest_mass,
            orbit=orbit,
            black_holes=self.black_holes,
            seed=int(generator.integers(1 << 31)),
        )

    @property
    def times(self) -> tuple[float, ...]:
        """Of the snapshots, Myr."""
        first = self.first_snapshot if self.snapshots > 1 else self.until
        return tuple(np.linspace(first, self.until, self.snapshots).tolist())


_OURS: dict[str, Any] = {
    "n_stars": (2e4, 1.2e5),
    "half_mass_radius": (1.0, 8.0),
    "galactic_radius": (5.0, 40.0),
    "filling": 0.1,
    "metallicity": (-2.2, -0.2),
    "central_potential": (3.0, 8.0),
}
_PIDOC: dict[str, Any] = {
    "n_stars": (5e4, 5e4),
    "galactic_radius": (15.0, 15.0),
    # Z = 0.001, of which the isochrones' solar Z is 18.5 times as much.
    "metallicity": (-1.267, -1.267),
    "highest_mass": 50.0,
    # The code of those runs kicks black holes as it does neutron stars.
    "black_holes": "none",
    "snapshots": 1000,
    "first_snapshot": 14.0,
}

FAMILIES: dict[str, ClusterFamily] = {
    family.name: family
    for family in (
        ClusterFamily("training", 11, **_OURS),
        ClusterFamily("validation", 12, **_OURS),
        ClusterFamily("test", 13, **_OURS),
        ClusterFamily(
            "pidoc-training", 21, half_mass_radius=(1.6, 4.0), sizes=(1.6, 4.0), **_PIDOC
        ),
        ClusterFamily("pidoc-test", 23, half_mass_radius=(3.2, 3.2), sizes=(3.2,), **_PIDOC),
    )
}
"""By name: ours of three kinds of use, and those of Chardin & Bianchini 2021, Table 1."""

_NUMBERS = ("until", "first_snapshot", "lowest_mass", "highest_mass", "snapshots", "filling")


def family_of(name: str, changes: Mapping[str, str] | None = None) -> ClusterFamily:
    """A family by name, with some of its ranges changed.

    Parameters
    ----------
    name : str
        Of :data:`FAMILIES`.
    changes : mapping of str to str, optional
        Field to ``low,high``, one number for both, or a word, such as ``{"n_stars": "2e4,5e4"}``.

    Raises
    ------
    MelotteValueError
        For an unknown name, field or value.
    """
    if name not in FAMILIES:
        raise MelotteValueError(
            f"no family of clusters is called {name!r}{did_you_mean(name, FAMILIES)}; there are "
            f"{', '.join(FAMILIES)}"
        )
    given: dict[str, Any] = {}
    allowed = [one.name for one in fields(ClusterFamily) if one.name not in ("name", "stream")]
    for field, text in (changes or {}).items():
        if field not in allowed:
            raise MelotteValueError(
                f"{field!r} is not a setting of clusters{did_you_mean(field, allowed)}; allowed: "
                f"{', '.join(allowed)}"
            )
        given[field] = _parsed(field, text)
        if field == "half_mass_radius":
            given.setdefault("sizes", ())
    family = replace(FAMILIES[name], **given)
    _check(family)
    return family


def _parsed(field: str, text: str) -> Any:
    if field == "black_holes":
        return text
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise MelotteValueError(f"{field}={text}: needs a number, or low,high") from error
    if field == "sizes":
        return tuple(numbers)
    if field in _NUMBERS:
        if len(numbers) != 1:
            raise MelotteValueError(f"{field}={text}: needs one number")
        return _whole(field, numbers[0]) if field == "snapshots" else numbers[0]
    if len(numbers) > 2:
        raise MelotteValueError(f"{field}={text}: needs a number, or low,high")
    return numbers[0], numbers[-1]


def _whole(field: str, number: float) -> int:
    if not number.is_integer():
        raise MelotteValueError(f"{field}={number:g}: must be a whole number")
    return int(number)


def _check(family: ClusterFamily) -> None:
    limits = {
        "n_stars": (1e3, 1e7),
        "half_mass_radius": SIZES,
        "galactic_radius": (0.1, 1000.0),
        "metallicity": (-2.5, 0.5),
    }
    for name, (least, most) in limits.items():
        low, high = getattr(family, name)
        if not least <= low <= high <= most:
            raise MelotteValueError(
                f"{name}={low:g},{high:g}: must rise within [{least:g}, {most:g}]"
            )
    for size in family.sizes:
        if not SIZES[0] <= size <= SIZES[1]:
            raise MelotteValueError(f"sizes={size:g}: must be in [{SIZES[0]:g}, {SIZES[1]:g}] pc")
    low, high = family.central_potential
    if not (low == high == 0 or 1 <= low <= high <= 12):
        raise MelotteValueError(
            f"central_potential={low:g},{high:g}: must rise within [1, 12], or be 0 for Plummer's "
            "model"
        )
    first = family.first_snapshot if family.snapshots > 1 else family.until
    if not YOUNGEST <= first <= family.until <= 15_000:
        raise MelotteValueError(
            f"first_snapshot={first:g}, until={family.until:g}: must rise within "
            f"[{YOUNGEST:g}, 15000] Myr"
        )
    if not family.filling > 0:
        raise MelotteValueError(f"filling={family.filling:g}: must be above 0")
    if not 1 <= family.snapshots <= MOST_SNAPSHOTS:
        raise MelotteValueError(
            f"snapshots={family.snapshots:g}: must be at least 1, at most {MOST_SNAPSHOTS}"
        )
    least, most = LOWEST_MASSES
    if not least <= family.lowest_mass <= most:
        raise MelotteValueError(
            f"lowest_mass={family.lowest_mass:g}: must be in [{least:g}, {most:g}] Msun"
        )
    if not 1 <= family.highest_mass <= 150:
        raise MelotteValueError(f"highest_mass={family.highest_mass:g}: must be in [1, 150] Msun")
    # What is left, such as the word for black holes, the model itself refuses.
    family.model(1, 0)


def _log_uniform(limits: Range, uniform: float) -> float:
    return math.exp(_uniform((math.log(limits[0]), math.log(limits[1])), uniform))


def _uniform(limits: Range, uniform: float) -> float:
    return limits[0] + (limits[1] - limits[0]) * float(uniform)
