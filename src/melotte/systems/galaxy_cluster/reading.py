"""Galaxy clusters from users' tables, as the network reads them, flagged where they differ."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.galaxy_lists import GalaxyList, GalaxySelection, RejectedGroup
from melotte.io.galaxy_members import read_galaxies
from melotte.io.galaxy_rows import LOG_STELLAR_MASS_RANGE
from melotte.ragged import Ragged
from melotte.systems.base import Observation, RowError
from melotte.systems.galaxy_cluster.galaxy_identity import identity_fields
from melotte.systems.galaxy_cluster.mergers import has_two_peaks
from melotte.systems.galaxy_cluster.settings import APERTURES, DataSettings
from melotte.systems.galaxy_cluster.stellar_masses import (
    CONVENTION,
    StellarMasses,
    faintest_magnitudes,
    stellar_masses,
)
from melotte.telescope.redshifts import magnitude_limited_mass

_Cluster = tuple[GalaxyList, StellarMasses]

READ_BATCH = 256
LIMIT_SLACK = 0.05
"""dex by which a stellar-mass limit may lie outside the training's."""
SAME_APERTURE = 0.02
"""Relative difference of a cylinder from the training's that still counts as the same."""

_SELECTION = tuple(inspect.signature(GalaxySelection).parameters)
_OWN = ("completeness", "log_stellar_mass_limit", "identity")


def observations(
    source: Any, options: Mapping[str, Any], data: DataSettings, reads_limit: bool = False
) -> Iterator[Observation | RowError]:
    """Clusters in tables of galaxies, in batches of up to 256.

    Parameters
    ----------
    source : path, astropy Table, or a sequence of them
    options : mapping
        ``clusters``: table of their positions; ``column``; ``group_by``; ``completeness`` of the
        redshifts in the cylinder, 0 to 1; ``log_stellar_mass_limit``, log10(Msun), below which
        galaxies are left out; ``identity``: whether names and positions of galaxies are kept, see
        :mod:`~melotte.systems.galaxy_cluster.galaxy_identity`; and the settings of
        :class:`~melotte.io.galaxy_lists.GalaxySelection`. Lengths, h and matter density are
        the training's unless they are given.
    data : DataSettings
        What the model was trained on.
    reads_limit : bool
        Whether the model reads the stellar-mass limit, as one that is told the number of galaxies
        or their stellar masses does. Clusters whose limit was not trained on are then flagged; so
        are those of unknown limit, unless mocks with unknown stellar masses were trained on.

    Yields
    ------
    Observation or RowError
        ``galaxies`` hold velocity (km/s), radius (Mpc/h), weight and log10(stellar mass/Msun),
        see :mod:`~melotte.systems.galaxy_cluster.stellar_masses`. Flagged FEW_MEMBERS (fewer
        galaxies than the mocks' fewest), OUT_OF_RANGE (redshift, cylinder, completeness or
        stellar-mass limit not trained on) and MERGER (two velocity peaks).

    Raises
    ------
    MelotteFileError, MelotteValueError
        When a file cannot be read, lacks a column, or an option is unknown or not allowed.
    """
    given = {name: value for name, value in options.items() if value is not None}
    allowed = ("clusters", "column", "group_by", *_OWN, *_SELECTION)
    unknown = [name for name in given if name not in allowed]
    if unknown:
        raise MelotteValueError(
            f"{unknown[0]!r} is not an option of galaxy clusters; allowed: {', '.join(allowed)}"
        )
    completeness = _number(given.pop("completeness", 1.0), "completeness", 0.0, 1.0)
    identity = bool(given.pop("identity", False))
    limit = given.pop("log_stellar_mass_limit", None)
    if limit is not None:
        limit = _number(limit, "log_stellar_mass_limit", *LOG_STELLAR_MASS_RANGE)
    chosen = {"lengths": data.lengths, "h": data.cosmology.h, "omega_m": data.cosmology.omega_m}
    chosen |= {name: given.pop(name) for name in _SELECTION if name in given}
    groups = read_galaxies(source, selection=GalaxySelection(**chosen), **given)
    faintest = faintest_magnitudes([one for one in groups if isinstance(one, GalaxyList)])
    reader = _Reader(data, completeness, limit, reads_limit, identity)
    waiting: list[_Cluster] = []
    for group in groups:
        if isinstance(group, GalaxyList):
            found = _complete(group, faintest[group.source], limit)
        else:
            found = group
        if isinstance(found, RejectedGroup):
            yield RowError(found.id, found.reason, int(Flag.FAILED | Flag.FEW_MEMBERS))
            continue
        waiting.append(found)
        if len(waiting) == READ_BATCH:
            yield reader.observation(waiting)
            waiting = []
    if waiting:
        yield reader.observation(waiting)


def _number(value: Any, name: str, low: float, high: float) -> float:
    """A number in (low, high]."""
    if not isinstance(value, int | float) or not low < value <= high:
        raise MelotteValueError(f"{name} {value} is outside ({low:g}, {high:g}]")
    return float(value)


def _complete(group: GalaxyList, faintest: float, limit: float | None) -> _Cluster | RejectedGroup:
    """A cluster with its galaxies' stellar masses, none of them below a limit that was given."""
    masses = stellar_masses(group, faintest, limit)
    if limit is None:
        return group, masses
    below = masses.log_mass < limit
    reason = f"below log stellar mass {limit:g}"
    if below.all():
        return RejectedGroup(group.id, f"no galaxy is left ({len(below)} {reason})", group.source)
    return group.without(below, reason), replace(masses, log_mass=masses.log_mass[~below])


@dataclass(frozen=True)
class _Reader:
    """Makes observations of lists; fields as the arguments of :func:`observations`."""

    data: DataSettings
    completeness: float
    limit: float | None
    reads_limit: bool
    identity: bool

    def observation(self, clusters: list[_Cluster]) -> Observation:
        """Clusters as one batch."""
        lists = [one for one, _ in clusters]
        tables = [
            torch.tensor(
                np.stack([one.velocity, one.radius, one.weight, masses.log_mass], axis=1),
                dtype=torch.float32,
            )
            for one, masses in clusters
        ]
        redshift = [one.redshift for one in lists]
        limits = [masses.log_limit for _, masses in clusters]
        # A list of velocities without a redshift is read as one at the middle of the training's.
        middle = sum(self.data.redshift) / 2
        known = [z if np.isfinite(z) else middle for z in redshift]
        return Observation(
            {
                "galaxies": Ragged.pack(tables),
                "redshift": _column(known),
                "aperture": _column([one.selection.aperture for one in lists]),
                "velocity_cut": _column([one.selection.velocity_cut for one in lists]),
                "completeness": _column([self.completeness] * len(lists)),
                "log_stellar_mass_limit": _column(limits),
                **(identity_fields(lists) if self.identity else {}),
            },
            ids=tuple(one.id for one in lists),
            flags=torch.tensor([self.flags(*each) for each in clusters]),
            header={
                "n_galaxies": [one.n_galaxies for one in lists],
                "redshift": redshift,
                "velocity_shift": [one.velocity_shift for one in lists],
                "log_stellar_mass_limit": limits,
                "n_dropped": {one.id: dict(one.n_dropped) for one in lists},
                "conventions": self.conventions(lists[0].selection),
            },
        )

    def conventions(self, selection: GalaxySelection) -> dict[str, Any]:
        """What the numbers of a result mean."""
        if self.limit is not None:
            limit = "given"
        elif selection.magnitude_limit is not None:
            limit = f"mass of a red galaxy of r = {selection.magnitude_limit:g} mag"
        else:
            limit = "faintest galaxy of the table that is no outlier"
        return {
            "mass": "log10 of M200c in Msun/h, 200 times the critical density",
            "lengths": f"{selection.lengths} Mpc/h",
            "aperture": f"{selection.aperture:g} Mpc/h",
            "velocity_cut": f"{selection.velocity_cut:g} km/s",
            "velocity": "c (z - z_c)/(1 + z_c)",
            "velocity_centre": selection.velocity_centre,
            "stellar_mass": CONVENTION,
            "log_stellar_mass_limit": limit,
            "h": selection.h,
            "omega_m": selection.omega_m,
        }

    def flags(self, one: GalaxyList, masses: StellarMasses) -> int:
        """Flags of one cluster."""
        data = self.data
        flags = 0
        if one.n_galaxies < data.least_galaxies:
            flags |= Flag.FEW_MEMBERS
        low, high = data.redshift
        trained = [APERTURES[name] for name in data.apertures]
        cylinder = one.selection.aperture, one.selection.velocity_cut
        same = any(np.allclose(cylinder, each, rtol=SAME_APERTURE) for each in trained)
        at_redshift = not np.isfinite(one.redshift) or low - 0.005 <= one.redshift <= high + 0.005
        complete = data.completeness[0] <= self.completeness <= data.completeness[1]
        lengths = one.selection.lengths == data.lengths
        deep = not self.reads_limit or self._trained_limit(masses.log_limit, one.redshift)
        if not (same and at_redshift and complete and lengths and deep):
            flags |= Flag.OUT_OF_RANGE
        if has_two_peaks(one.velocity):
            flags |= Flag.MERGER
        return int(flags)

    def _trained_limit(self, limit: float, redshift: float) -> bool:
        """Whether mocks have this stellar-mass limit at this redshift, or are silent about it."""
        if np.isnan(limit):
            return self.data.stellar_masses_known < 1
        low, high = self.data.log_stellar_mass_limit
        if self.data.magnitude_limit is not None and np.isfinite(redshift):
            cosmology = self.data.cosmology.cosmology()
            bright = magnitude_limited_mass(
                self.data.magnitude_limit, torch.tensor(redshift), cosmology
            )
            low, high = max(low, float(bright)), max(high, float(bright))
        return bool(low - LIMIT_SLACK <= limit <= high + LIMIT_SLACK)


def _column(values: list[float]) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float32)
