"""What a simulation of a star cluster knows of its stars at one time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteValueError

SOLAR_MAGNITUDE_V = 4.81
"""Absolute magnitude of the Sun in V, Vega (Willmer 2018, ApJS 236, 47, Table 3)."""

WHITE_DWARFS = (10, 11, 12)
NEUTRON_STAR = 13
BLACK_HOLE = 14
MASSLESS = 15

_PER_STAR = (
    "mass", "kind", "radius", "radial_velocity", "tangential_velocity", "luminosity",
    "temperature", "magnitude_v", "magnitude_b", "initial_mass", "ids", "system",
)  # fmt: skip
_RANGES = {"time": (0.0, 3e4, " Myr"), "metallicity": (-6.0, 1.0, "")}
_KINDS_OF_NUMBERS = {"kind": np.int8, "ids": np.int64, "system": np.int64}


@dataclass(frozen=True, eq=False)
class StarSnapshot:
    """The stars of one cluster at one time, where they are, how they move and shine.

    Places and motions come in one of two forms: `position` (and `velocity`), or, of spherically
    symmetric codes, `radius` (and `radial_velocity`, `tangential_velocity`); neither where a file
    holds stars without places. :meth:`projected` gives the first from either, :meth:`spherical`
    the second. :meth:`of` makes a snapshot of what is known and fills the rest.

    Parameters
    ----------
    time : float, Myr, 0 to 30,000
        Since the simulation began; NaN when unknown.
    metallicity : float, -6 to 1
        [Fe/H]; NaN when unknown.
    mass : array, shape (n,), Msun, >= 0
    kind : array of int8, shape (n,), 0 to 15
        Stellar types of Hurley, Pols & Tout 2000: 0, 1 main sequence; 2 Hertzsprung gap; 3 first
        giant branch; 4 core helium burning; 5, 6 asymptotic giant branch; 7 to 9 helium stars;
        10 to 12 white dwarfs; 13 neutron star; 14 black hole; 15 massless.
    position : array, shape (n, 3), pc, or None
        From the centre of the cluster.
    velocity : array, shape (n, 3), km/s, or None
        In the frame of the cluster.
    radius : array, shape (n,), pc, or None
    radial_velocity : array, shape (n,), km/s, or None
        Outwards is positive.
    tangential_velocity : array, shape (n,), km/s, >= 0, or None
        Its direction across the radius is random.
    luminosity : array, shape (n,), Lsun
        Bolometric; NaN unknown, 0 dark.
    temperature : array, shape (n,), K
        Effective; NaN unknown.
    magnitude_v, magnitude_b : array, shape (n,), mag
        Absolute, Vega, Bessell V and B, without extinction; NaN unknown, +inf dark.
    initial_mass : array, shape (n,), Msun
        NaN unknown.
    ids : array of int64, shape (n,)
    system : array of int64, shape (n,)
        Stars with the same number are one unresolved binary or multiple.
    provenance : mapping
        JSON values: format, file, what was assumed.

    Raises
    ------
    MelotteValueError
        When lengths differ, both forms of place are given, or a time, metallicity, mass, type,
        place or motion is outside its range.
    """

    time: float
    metallicity: float
    mass: NDArray[np.float64]
    kind: NDArray[np.int8]
    position: NDArray[np.float64] | None
    velocity: NDArray[np.float64] | None
    radius: NDArray[np.float64] | None
    radial_velocity: NDArray[np.float64] | None
    tangential_velocity: NDArray[np.float64] | None
    luminosity: NDArray[np.float64]
    temperature: NDArray[np.float64]
    magnitude_v: NDArray[np.float64]
    magnitude_b: NDArray[np.float64]
    initial_mass: NDArray[np.float64]
    ids: NDArray[np.int64]
    system: NDArray[np.int64]
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, (low, high, unit) in _RANGES.items():
            value = getattr(self, name)
            if value < low or value > high:
                raise MelotteValueError(
                    f"{name} of a snapshot is {value:g}; {low:g} to {high:,.0f}{unit} is allowed"
                )
        for name in _PER_STAR:
            self._check(name, (len(self),))
        for name in ("position", "velocity"):
            self._check(name, (len(self), 3))
        if self.position is not None and self.radius is not None:
            raise MelotteValueError("a snapshot holds positions or radii of its stars; got both")
        if (self.radial_velocity is None) != (self.tangential_velocity is None):
            raise MelotteValueError(
                "a snapshot needs both of radial_velocity and tangential_velocity, or none"
            )
        self._refuse("mass", ~(self.mass >= 0) | np.isinf(self.mass), "0 or more Msun")
        self._refuse("kind", (self.kind < 0) | (self.kind > MASSLESS), "stellar types 0 to 15")
        for name in ("position", "velocity", "radius", "radial_velocity", "tangential_velocity"):
            values = getattr(self, name)
            if values is not None:
                broken = ~np.isfinite(values)
                self._refuse(name, broken.any(-1) if values.ndim == 2 else broken, "finite")
        for name in ("radius", "tangential_velocity"):
            values = getattr(self, name)
            if values is not None:
                self._refuse(name, values < 0, "0 or more")

    def _check(self, name: str, shape: tuple[int, ...]) -> None:
        value = getattr(self, name)
        if value is None:
            return
        array = np.ascontiguousarray(value, dtype=_KINDS_OF_NUMBERS.get(name, np.float64))
        if array.shape != shape:
            raise MelotteValueError(
                f"{name} of a snapshot of {len(self)} stars has shape {array.shape}; "
                f"{shape} is needed"
            )
        object.__setattr__(self, name, array)

    def _refuse(self, name: str, broken: NDArray[np.bool_], allowed: str) -> None:
        if broken.any():
            star = int(np.argmax(broken))
            raise MelotteValueError(
                f"star {star + 1} of the snapshot has {name} {getattr(self, name)[star]}; "
                f"allowed: {allowed}"
            )

    @classmethod
    def of(cls, mass: ArrayLike, kind: ArrayLike, **known: Any) -> StarSnapshot:
        """A snapshot of what is known; the rest is unknown, and every star single.

        Parameters
        ----------
        mass, kind : array, shape (n,)
        **known
            Any other field of :class:`StarSnapshot`.
        """
        n = len(np.asarray(mass))
        filled: dict[str, Any] = {
            "time": np.nan,
            "metallicity": np.nan,
            **dict.fromkeys(("position", "velocity", "radius")),
            **dict.fromkeys(("radial_velocity", "tangential_velocity")),
            **{
                name: np.full(n, np.nan)
                for name in (
                    "luminosity", "temperature", "magnitude_v", "magnitude_b", "initial_mass",
                )
            },
            "ids": np.arange(n),
            "system": np.arange(n),
        }  # fmt: skip
        filled.update({name: value for name, value in known.items() if value is not None})
        return cls(mass=np.asarray(mass), kind=np.asarray(kind), **filled)

    def __len__(self) -> int:
        return len(self.mass)

    @property
    def distance_from_centre(self) -> NDArray[np.float64]:
        """Distance of each star from the centre in space, pc, shape (n,).

        Raises
        ------
        MelotteValueError
            When the places of the stars are unknown.
        """
        if self.position is not None:
            return np.linalg.norm(self.position, axis=1)
        if self.radius is None:
            raise MelotteValueError(f"{self._source}: the places of its stars are unknown")
        return self.radius

    @property
    def is_dark(self) -> NDArray[np.bool_]:
        """Neutron stars, black holes and what has no mass, shape (n,)."""
        return self.kind >= NEUTRON_STAR

    @property
    def is_white_dwarf(self) -> NDArray[np.bool_]:
        """White dwarfs of any composition, shape (n,)."""
        return np.isin(self.kind, WHITE_DWARFS)

    @property
    def light_v(self) -> NDArray[np.float64]:
        """Luminosity in V, Lsun_V, shape (n,); 0 for the dark, NaN unknown."""
        return 10 ** (-0.4 * (self.magnitude_v - SOLAR_MAGNITUDE_V))

    @property
    def total_light_v(self) -> float:
        """Luminosity of the cluster in V, Lsun_V.

        Raises
        ------
        MelotteValueError
            When the magnitude of a star is unknown.
        """
        return float(self._known_light().sum())

    @property
    def total_mass(self) -> float:
        """Mass of all stars, Msun."""
        return float(self.mass.sum())

    @property
    def half_mass_radius(self) -> float:
        """Radius of the sphere about the centre that holds half of the mass, pc."""
        return float(self.lagrangian_radii((0.5,))[0])

    @property
    def half_light_radius(self) -> float:
        """Projected radius that holds half of the light in V, pc, averaged over all directions.

        A star at distance r from the centre is seen within R in the fraction
        1 - (1 - R^2/r^2)^(1/2) of all directions, in all for r < R.

        Raises
        ------
        MelotteValueError
            When the magnitude of a star is unknown.
        """
        light, distance = self._known_light(), self.distance_from_centre
        low, high = 0.0, float(distance.max(initial=0.0))
        for _ in range(60):
            middle = 0.5 * (low + high)
            sine = np.minimum(middle / np.maximum(distance, 1e-300), 1.0)
            inside = (light * (1 - np.sqrt(1 - sine**2))).sum()
            low, high = (middle, high) if inside < 0.5 * light.sum() else (low, middle)
        return 0.5 * (low + high)

    def lagrangian_radii(self, fractions: Sequence[float]) -> NDArray[np.float64]:
        """Radii of the spheres about the centre that hold fractions of the mass.

        Parameters
        ----------
        fractions : sequence of float, over 0 to 1

        Returns
        -------
        array, shape (n_fractions,), pc
            Distance of the first star with which the sphere holds the fraction.
        """
        wanted = np.asarray(fractions, dtype=np.float64)
        if len(self) == 0 or ((wanted <= 0) | (wanted > 1)).any():
            raise MelotteValueError(
                f"Lagrangian radii of fractions {wanted.tolist()} of {len(self)} stars; "
                "fractions above 0 and up to 1, and at least one star, are needed"
            )
        order = np.argsort(self.distance_from_centre, kind="stable")
        inside = np.cumsum(self.mass[order])
        place = np.searchsorted(inside, wanted * inside[-1] * (1 - 1e-12))
        return self.distance_from_centre[order][np.minimum(place, len(self) - 1)]

    def projected(self, generator: np.random.Generator) -> StarSnapshot:
        """The same cluster, seen from a random direction: positions and velocities in space.

        Positions are turned all together; radii get a random direction each, and tangential
        velocities one across it. Stars of one system stay together.

        Parameters
        ----------
        generator : numpy.random.Generator

        Returns
        -------
        StarSnapshot
            With `position`, and with `velocity` where motions are known; (x, y) is the plane of
            the sky and z the line of sight. The spherical form is dropped.
        """
        form = dict.fromkeys(("radius", "radial_velocity", "tangential_velocity"))
        if self.position is not None:
            turn = _random_rotation(generator)
            velocity = None if self.velocity is None else self.velocity @ turn.T
            return replace(self, position=self.position @ turn.T, velocity=velocity, **form)
        _, system = np.unique(self.system, return_inverse=True)
        n_systems = int(system.max(initial=-1)) + 1
        outwards = _random_directions(n_systems, generator)
        position = self.distance_from_centre[:, None] * outwards[system]
        velocity = None
        if self.radial_velocity is not None and self.tangential_velocity is not None:
            across = np.cross(outwards, _random_directions(n_systems, generator))
            across /= np.linalg.norm(across, axis=1, keepdims=True)
            velocity = (
                self.radial_velocity[:, None] * outwards[system]
                + self.tangential_velocity[:, None] * across[system]
            )
        return replace(self, position=position, velocity=velocity, **form)

    def spherical(self) -> StarSnapshot:
        """The same cluster by radii, and by velocities along and across them.

        Radii are from the origin of the positions: readers put it at the density centre, at rest
        with the mean of the inner half of the stars. The stars of one system take the place and
        motion of their centre of mass: orbits of binaries are no motion in the cluster.

        Returns
        -------
        StarSnapshot
            With `radius`, and with `radial_velocity` and `tangential_velocity` where motions are
            known (at the very centre all motion is radial); itself where it has no positions.
        """
        if self.position is None:
            return self
        place = self._of_systems(self.position)
        radius = np.linalg.norm(place, axis=1)
        form: dict[str, Any] = {"position": None, "velocity": None, "radius": radius}
        if self.velocity is not None:
            motion = self._of_systems(self.velocity)
            at, arm = radius > 0, np.where(radius > 0, radius, 1.0)
            along = (place * motion).sum(axis=1) / arm
            form["radial_velocity"] = np.where(at, along, np.linalg.norm(motion, axis=1))
            form["tangential_velocity"] = np.linalg.norm(np.cross(place, motion), axis=1) / arm
        return replace(self, **form)

    def select(self, mask: NDArray[Any]) -> StarSnapshot:
        """The stars of a boolean mask or of indices; the centre stays where it is."""
        chosen: dict[str, Any] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            chosen[one.name] = value[mask] if isinstance(value, np.ndarray) else value
        return StarSnapshot(**chosen)

    @property
    def _source(self) -> str:
        return str(self.provenance.get("file", "the snapshot"))

    def _of_systems(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Mean, by mass, of every star's system, shape (n, 3); even where a system has no mass."""
        _, system = np.unique(self.system, return_inverse=True)
        weight = np.where(np.bincount(system, self.mass)[system] > 0, self.mass, 1.0)
        total = np.bincount(system, weight)
        means = [np.bincount(system, weight * column) / total for column in values.T]
        return np.stack(means, axis=1)[system]

    def _known_light(self) -> NDArray[np.float64]:
        light = self.light_v
        unknown = int(np.isnan(light).sum())
        if unknown:
            raise MelotteValueError(
                f"{self._source}: the V magnitudes of {unknown} of {len(self)} stars are unknown; "
                "fill them with "
                "melotte.sky.snapshot_photometry.with_photometry first"
            )
        return light


def _random_directions(n: int, generator: np.random.Generator) -> NDArray[np.float64]:
    """Unit vectors, even over the sphere, shape (n, 3)."""
    vectors = generator.standard_normal((n, 3))
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def _random_rotation(generator: np.random.Generator) -> NDArray[np.float64]:
    """A rotation, even over all (Shoemake 1992, Graphics Gems III, p. 124), shape (3, 3)."""
    w, x, y, z = (q := generator.standard_normal(4)) / np.linalg.norm(q)
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
