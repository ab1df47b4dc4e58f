"""What single stars leave behind: kinds, masses and fallback by initial mass and metallicity.

The shipped table was made with SSE in COSMIC (see ``build_data/README.md``), with the choices of
the CMC Cluster Catalogue (Kremer et al. 2020, ApJS 247, 48), so that clusters evolved with it may
be compared with those. Collapses follow the rapid engine of Fryer et al. 2012, ApJ 749, 91,
Eqs. 13-16.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, fields
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import h5py
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.sky.remnants import remnant_mass

TABLE_VERSION = 1

HELIUM_WHITE_DWARF = 10
CARBON_OXYGEN_WHITE_DWARF = 11
OXYGEN_NEON_WHITE_DWARF = 12
NEUTRON_STAR = 13
BLACK_HOLE = 14
NO_REMNANT = 15

SMALLEST_MASS, LARGEST_MASS = 0.08, 150.0
METALLICITY_RANGE = (-2.6, 0.5)
"""[Fe/H] that is answered; the table's nodes end at -2.25 and 0.20, beyond them it is constant."""

WHITE_DWARF_MASSES = ("sse", "cummings")

_STRIPPED = 16
_ELECTRON_CAPTURE = 3


@dataclass(frozen=True)
class Remnants:
    """What stars leave behind; every array has the shape of the initial masses.

    Parameters
    ----------
    mass : array of float64, Msun
        Gravitational mass; 0 where nothing is left.
    kind : array of int8
        SSE's stellar type: 10, 11, 12 white dwarfs of helium, carbon-oxygen, oxygen-neon;
        13 neutron star; 14 black hole; 15 nothing (pair-instability supernova).
    fallback : array of float64, 0 to 1
        Fraction of the star outside the proto-remnant that falls back; 0 for white dwarfs.
    electron_capture : array of bool
        Neutron stars born in an electron-capture supernova.
    """

    mass: NDArray[np.float64]
    kind: NDArray[np.int8]
    fallback: NDArray[np.float64]
    electron_capture: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.mass)

    def select(self, chosen: Any) -> Remnants:
        """Index every array alike: ``array[chosen]``."""
        return Remnants(*(getattr(self, field.name)[chosen] for field in fields(self)))


def remnants_of(
    initial_mass: ArrayLike, metallicity: float, *, white_dwarfs: str = "sse"
) -> Remnants:
    """Remnants of single stars.

    Within a branch (a kind, and for collapses the regime of the engine and whether the star had
    lost its envelope) the table is linear in the logarithm of the initial mass and in [Fe/H];
    it is never averaged over a change of branch: there the nearest entry counts.

    Parameters
    ----------
    initial_mass : array, any shape, Msun, 0.08 to 150
    metallicity : float
        [Fe/H], -2.6 to 0.5, with Z = 0.0185 at 0 as in the shipped isochrones. Constant below
        -2.25 and above 0.20, where SSE ends.
    white_dwarfs : str
        ``"sse"``: the core masses of SSE, as the CMC catalogue has them. ``"cummings"``: the
        relation found for white dwarfs of clusters near solar metallicity, at every metallicity.
        With a Kroupa mass function at 12 Gyr, SSE's weigh 21 % more in all at [Fe/H] = -2, as
        much within 1 % at -1, 3 % less at 0.

    Returns
    -------
    Remnants of the same shape; every star is answered, whether it dies within any age or not

    Raises
    ------
    MelotteValueError
        For masses or metallicities outside these ranges, NaN included, or another word.

    References
    ----------
    Hurley, Pols & Tout 2000, MNRAS 315, 543; Fryer et al. 2012, ApJ 749, 91, Eqs. 13-16;
    Belczynski et al. 2016, A&A 594, A97 (pair instability); Kremer et al. 2020, ApJS 247, 48;
    Cummings et al. 2018, ApJ 866, 21, Eqs. 4-6.
    """
    if white_dwarfs not in WHITE_DWARF_MASSES:
        allowed = ", ".join(WHITE_DWARF_MASSES)
        raise MelotteValueError(f"white_dwarfs is {white_dwarfs!r}, must be one of: {allowed}")
    log_mass = _log_mass(initial_mass)
    near, far, weight = _nodes(metallicity)
    mass, fallback, branch = _remnants_at(near, log_mass)
    if weight > 0:
        other_mass, other_fallback, other_branch = _remnants_at(far, log_mass)
        share = np.where(branch == other_branch, weight, 0.0)
        mass = mass + share * (other_mass - mass)
        fallback = fallback + share * (other_fallback - fallback)
    bare = branch % _STRIPPED
    kind = _table().branch_kinds[bare]
    if white_dwarfs == "cummings":
        observed = remnant_mass(torch.from_numpy(np.exp(log_mass))).numpy()
        mass = np.where(kind < NEUTRON_STAR, observed, mass)
    return Remnants(mass, kind, fallback, bare == _ELECTRON_CAPTURE)


def lifetime(initial_mass: ArrayLike, metallicity: float) -> NDArray[np.float64]:
    """Time from the zero-age main sequence to the remnant, in SSE's clock.

    Parameters
    ----------
    initial_mass : array, any shape, Msun, 0.08 to 150
    metallicity : float, [Fe/H], as in :func:`remnants_of`

    Returns
    -------
    array of the same shape, Myr; falls with mass

    Raises
    ------
    MelotteValueError
        For masses or metallicities outside these ranges, NaN included.

    References
    ----------
    Hurley, Pols & Tout 2000, MNRAS 315, 543.
    """
    log_mass = _log_mass(initial_mass)
    near, far, weight = _nodes(metallicity)
    near_life, far_life = _log_lifetime_at(near, log_mass), _log_lifetime_at(far, log_mass)
    return 10.0 ** ((1 - weight) * near_life + weight * far_life)


def dying_mass(age: ArrayLike, metallicity: float) -> NDArray[np.float64]:
    """Initial mass of the stars that become remnants at an age, in SSE's clock.

    Parameters
    ----------
    age : array, any shape, Myr, >= 0
    metallicity : float, [Fe/H], as in :func:`remnants_of`

    Returns
    -------
    array of the same shape, Msun, 0.08 to 150; 150 where no star has died yet

    Raises
    ------
    MelotteValueError
        For a negative age or a metallicity outside the range.
    """
    ages = np.asarray(age, np.float64)
    if not (ages >= 0).all():
        raise MelotteValueError("ages must be 0 Myr or more, not negative or NaN")
    masses = np.geomspace(SMALLEST_MASS, LARGEST_MASS, 4096)
    lives = lifetime(masses, metallicity)
    with np.errstate(divide="ignore"):
        log_age = np.log(ages)
    return np.exp(np.interp(log_age, np.log(lives[::-1]), np.log(masses[::-1])))


def lowest_initial_mass(kind: int, metallicity: float) -> float:
    """Lowest initial mass that ends as a kind or as a higher one.

    Parameters
    ----------
    kind : int, 10 to 14
        :data:`NEUTRON_STAR` gives the boundary between white dwarfs and neutron stars.
    metallicity : float, [Fe/H], as in :func:`remnants_of`

    Returns
    -------
    float, Msun; 0.08 where all stars do, infinity where none does

    Raises
    ------
    MelotteValueError
        For a metallicity outside the range.
    """
    masses = np.geomspace(SMALLEST_MASS, LARGEST_MASS, 65536)
    reached = remnants_of(masses, metallicity).kind >= kind
    return float(masses[reached.argmax()]) if reached.any() else float("inf")


def remnant_provenance() -> dict[str, Any]:
    """Sources of the shipped table: package, version, flags, citations, licence."""
    return _table().provenance


@dataclass(frozen=True)
class _Table:
    metallicity: NDArray[np.float64]
    offsets: NDArray[np.int64]
    log_mass: NDArray[np.float64]
    remnant_mass: NDArray[np.float64]
    log_lifetime: NDArray[np.float64]
    fallback: NDArray[np.float64]
    branch: NDArray[np.int8]
    branch_kinds: NDArray[np.int8]
    provenance: dict[str, Any]

    def at(self, node: int, *names: str) -> list[NDArray[Any]]:
        rows = slice(self.offsets[node], self.offsets[node + 1])
        return [getattr(self, name)[rows] for name in names]


@cache
def _table() -> _Table:
    resource = files("melotte") / "data" / "remnants.h5"
    with as_file(resource) as path:
        try:
            file: Any = h5py.File(path)
        except OSError as error:
            raise MelotteFileError(f"{path}: the shipped remnants cannot be read") from error
        with file:
            version = int(file.attrs.get("version", 0))
            if version != TABLE_VERSION:
                raise MelotteFileError(
                    f"{path}: remnants of version {version}, this melotte reads {TABLE_VERSION}"
                )
            wide = {
                name: file[name][:].astype(np.float64)
                for name in ("metallicity", "remnant_mass", "log_lifetime", "fallback")
            }
            return _Table(
                offsets=file["offsets"][:].astype(np.int64),
                log_mass=np.log(file["initial_mass"][:].astype(np.float64)),
                branch=file["branch"][:],
                branch_kinds=file["branch_kinds"][:],
                provenance=json.loads(str(file.attrs["provenance"])),
                **wide,
            )


def _log_mass(initial_mass: ArrayLike) -> NDArray[np.float64]:
    masses = np.asarray(initial_mass, np.float64)
    # A part in 1e6 beyond the ends lets masses through that were rounded to single precision.
    inside = (masses >= SMALLEST_MASS * (1 - 1e-6)) & (masses <= LARGEST_MASS * (1 + 1e-6))
    if not inside.all():
        wrong = masses[~inside].flat[0]
        raise MelotteValueError(
            f"initial mass {wrong:g} Msun is outside the remnants' range "
            f"[{SMALLEST_MASS:g}, {LARGEST_MASS:g}] Msun"
        )
    return np.log(masses)


def _nodes(metallicity: float) -> tuple[int, int, float]:
    """The nearest node in [Fe/H], the other one beside, and that one's weight, at most 0.5."""
    low, high = METALLICITY_RANGE
    if not low <= metallicity <= high:
        raise MelotteValueError(
            f"metallicity {metallicity:g} is outside the remnants' range [{low:g}, {high:g}]"
        )
    nodes = _table().metallicity
    place = float(np.interp(metallicity, nodes, np.arange(len(nodes))))
    left = min(int(place), len(nodes) - 2)
    weight = place - left
    if weight <= 0.5:
        return left, left + 1, weight
    return left + 1, left, 1 - weight


def _log_lifetime_at(node: int, log_mass: NDArray[np.float64]) -> NDArray[np.float64]:
    nodes, log_lifetime = _table().at(node, "log_mass", "log_lifetime")
    return np.interp(log_mass, nodes, log_lifetime)


def _remnants_at(
    node: int, log_mass: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int8]]:
    """Mass, fallback and branch at one node of metallicity."""
    nodes, mass, fallback, branch = _table().at(
        node, "log_mass", "remnant_mass", "fallback", "branch"
    )
    left = np.clip(np.searchsorted(nodes, log_mass, side="right") - 1, 0, len(nodes) - 2)
    share = np.clip((log_mass - nodes[left]) / (nodes[left + 1] - nodes[left]), 0.0, 1.0)
    share = np.where(branch[left] == branch[left + 1], share, np.round(share))
    return (
        mass[left] + share * (mass[left + 1] - mass[left]),
        fallback[left] + share * (fallback[left + 1] - fallback[left]),
        np.where(share <= 0.5, branch[left], branch[left + 1]),
    )
