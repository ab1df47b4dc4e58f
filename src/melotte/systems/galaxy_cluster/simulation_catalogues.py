"""Clusters and galaxies of a simulation's catalogues, as mocks of a preset are made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import Field

from melotte.engine.settings import Settings
from melotte.errors import MelotteValueError
from melotte.io.gaia_columns import normalised
from melotte.io.halo_catalogues import NO_PARENT, SimulatedHaloes, read_haloes
from melotte.systems.galaxy_cluster.settings import DataSettings
from melotte.telescope.cylinders import Box, Targets

Array = NDArray[np.float64]

M200C_NAMES = ("m200c", "m_200c", "halo_mass_200c")
"""Columns that are masses within 200 times the critical density by their name."""

SHALLOW = 0.1
"""dex by which the lightest galaxy of a catalogue may miss the preset's stellar-mass limit."""


class CatalogueSettings(Settings):
    """How a catalogue is looked at.

    Parameters
    ----------
    box_size : float, comoving Mpc/h
        Side of the periodic box.
    redshift : float, optional
        Of the snapshot; by default the preset's, where that is a single one.
    masses : {"flat", "natural"}
        Rare clusters are looked at more often, so that their number is the same in every 0.1 dex
        of mass; or every cluster as often as any other.
    most_views : float
        Mean number of lines of sight to one cluster, at most.
    hubble : float, optional
        Given where halo masses are in Msun and not Msun/h.
    """

    box_size: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    redshift: Annotated[float, Field(ge=0, le=0.6)] | None = None
    masses: Literal["flat", "natural"] = "flat"
    most_views: Annotated[float, Field(ge=1)] = 100.0
    hubble: Annotated[float, Field(gt=0, lt=2)] | None = None


@dataclass(frozen=True)
class ClusterCatalogue:
    """What is looked at, and the galaxies around.

    Parameters
    ----------
    box : Box
        Galaxies down to the lightest that the preset asks for.
    clusters : Targets
        Haloes that are no subhaloes, in the preset's range of masses.
    log_mass : array, shape (n_clusters,), log10(M200c/(Msun/h))
    redshift : float
    members_known : bool
        Whether the catalogue says which halo a galaxy belongs to.
    provenance : dict
        Files, columns and numbers, as JSON values.
    """

    box: Box
    clusters: Targets
    log_mass: Array
    redshift: float
    members_known: bool
    provenance: dict[str, Any]


def read_catalogue(
    paths: Sequence[str | Path],
    settings: CatalogueSettings,
    data: DataSettings,
    column: Mapping[str, str] | None = None,
) -> ClusterCatalogue:
    """Read the catalogues of one snapshot.

    Galaxies are the rows with a stellar mass, clusters those with M200c and no parent. One file
    may hold both; or one has the galaxies (UniverseMachine) and another the haloes (Rockstar), and
    each may be cut into several files.

    Parameters
    ----------
    paths : sequence of path
        See :func:`melotte.io.halo_catalogues.read_haloes`.
    settings : CatalogueSettings
    data : DataSettings
        Of the preset: range of masses, stellar-mass limit, and whether centrals count.
    column : mapping, optional
        From melotte's names to the files'. A ``mass`` given here counts as M200c.

    Returns
    -------
    ClusterCatalogue

    Raises
    ------
    MelotteFileError, MelotteValueError
        When a file cannot be read, or the catalogues do not hold what the preset asks for.
    """
    redshift = _redshift(settings, data)
    low, high = data.prior.log_m200c
    lightest = data.log_stellar_mass_limit[0]
    found = [
        read_haloes(
            path,
            settings.box_size,
            column,
            # Rounded, so that a mass at the very edge is kept; cut again below.
            lowest={"mass": 10 ** (low - 0.001), "stellar_mass": 10 ** (lightest - 0.001)},
            hubble=settings.hubble,
            any_bound=True,
            lenient=len(paths) > 1,
        )
        for path in paths
    ]
    _check_mapping(column or {}, found)
    haloes = [one for one in found if _has_m200c(one, column or {})]
    if not haloes:
        raise MelotteValueError(
            f"{_names(found)}: no column is M200c (halo mass: "
            f"{', '.join(one.columns.get('mass', 'none') for one in found)}); give a catalogue "
            "that has it, or take another mass for it with --column mass=THEIRS"
        )
    populated = [one for one in found if "stellar_mass" in one.columns]
    if not populated:
        raise MelotteValueError(
            f"{_names(found)}: no column for stellar_mass; map yours with "
            "--column stellar_mass=THEIRS"
        )
    clusters = _clusters(haloes, low, high)
    box = _box(_galaxies(populated, data), settings.box_size)
    members_known = all("parent_id" in one.columns for one in populated)
    identifiers = np.concatenate([one.id for one in clusters])
    if members_known and not np.isin(box.host_id, identifiers).any():
        raise MelotteValueError(
            f"{_names(populated)}: no galaxy's parent is one of the clusters of {_names(haloes)}; "
            "both must be of one simulation, with the same ids"
        )
    if not (members_known or data.contaminated):
        raise MelotteValueError(
            f"{_names(populated)}: true members alone are asked for, and no column for parent_id "
            "tells them; map yours with --column parent_id=THEIRS"
        )
    log_mass = np.concatenate([one.log_mass for one in clusters])
    position = np.concatenate([one.position for one in clusters])
    velocity = np.concatenate([one.velocity for one in clusters])
    return ClusterCatalogue(
        box=box,
        clusters=Targets(identifiers, position, velocity),
        log_mass=log_mass,
        redshift=redshift,
        members_known=members_known,
        provenance={
            "files": [Path(path).name for path in paths],
            "mass_column": haloes[0].columns["mass"],
            "columns": [dict(one.columns) for one in found],
            **settings.model_dump(mode="json"),
            "redshift": redshift,
            "n_clusters": len(log_mass),
            "n_galaxies": len(box.position),
            "members": "known" if members_known else "unknown",
            "sha256": _digest(identifiers, log_mass, position, velocity, box),
        },
    )


def _redshift(settings: CatalogueSettings, data: DataSettings) -> float:
    low, high = data.redshift
    if settings.redshift is None:
        if low != high:
            raise MelotteValueError(
                f"the preset's redshifts are {low:g} to {high:g}; say which the snapshot has, "
                "with --redshift"
            )
        return low
    if not low <= settings.redshift <= high:
        raise MelotteValueError(
            f"redshift {settings.redshift:g} is outside the preset's [{low:g}, {high:g}]; "
            "change data.redshift (data.mocks.redshift of the seed's networks)"
        )
    return settings.redshift


def _check_mapping(column: Mapping[str, str], found: Sequence[SimulatedHaloes]) -> None:
    for name, theirs in column.items():
        if not any(name in one.columns for one in found):
            raise MelotteValueError(
                f"--column {name}={theirs}: {_names(found)} have no such column"
            )


def _has_m200c(one: SimulatedHaloes, column: Mapping[str, str]) -> bool:
    theirs = one.columns.get("mass")
    if theirs is None:
        return False
    return normalised(theirs) in M200C_NAMES or column.get("mass", "").lower() == theirs.lower()


def _clusters(haloes: Sequence[SimulatedHaloes], low: float, high: float) -> list[SimulatedHaloes]:
    clusters = [
        one.select((one.parent_id == NO_PARENT) & (one.log_mass >= low) & (one.log_mass <= high))
        for one in haloes
    ]
    identifiers = np.concatenate([one.id for one in clusters])
    if not len(identifiers):
        raise MelotteValueError(
            f"{_names(haloes)}: no halo without a parent has log10(M200c/(Msun/h)) within "
            f"[{low:g}, {high:g}]; masses in Msun need --option hubble=0.6777 or the like"
        )
    names, counts = np.unique(identifiers, return_counts=True)
    if (counts > 1).any():
        raise MelotteValueError(
            f"{_names(haloes)}: halo {names[counts > 1][0]} is listed more than once; "
            "give the catalogues of one snapshot"
        )
    return clusters


def _galaxies(populated: Sequence[SimulatedHaloes], data: DataSettings) -> list[SimulatedHaloes]:
    """Galaxies that the preset asks for."""
    lightest = data.log_stellar_mass_limit[0]
    deep = [one.select(one.log_stellar_mass >= lightest) for one in populated]
    everything = np.concatenate([one.log_stellar_mass for one in deep])
    if not len(everything) or everything.min() > lightest + SHALLOW:
        lowest = f"{everything.min():.2f}" if len(everything) else "none"
        raise MelotteValueError(
            f"{_names(populated)}: the preset asks for galaxies from log stellar mass "
            f"{lightest:g} on, and the lightest above it is {lowest}; change "
            "data.log_stellar_mass_limit (data.mocks... of the seed's networks)"
        )
    if data.centrals:
        return deep
    satellites = [one.select(one.parent_id != NO_PARENT) for one in deep]
    if not sum(len(one) for one in satellites):
        raise MelotteValueError(
            f"{_names(populated)}: the preset leaves centrals out, and no galaxy has a parent; map "
            "yours with --column parent_id=THEIRS, or set data.centrals=true"
        )
    return satellites


def _box(galaxies: Sequence[SimulatedHaloes], size: float) -> Box:
    return Box(
        size,
        np.concatenate([one.position for one in galaxies]),
        np.concatenate([one.velocity for one in galaxies]),
        np.concatenate([one.host_id for one in galaxies]),
        np.concatenate([one.log_stellar_mass for one in galaxies]),
    )


def _digest(identifiers: Any, log_mass: Array, position: Array, velocity: Array, box: Box) -> str:
    state = hashlib.sha256()
    arrays = (
        identifiers, log_mass, position, velocity, box.position, box.velocity, box.host_id,
        box.log_stellar_mass,
    )  # fmt: skip
    for array in arrays:
        state.update(np.ascontiguousarray(array).tobytes())
    return state.hexdigest()


def _names(found: Sequence[SimulatedHaloes]) -> str:
    return ", ".join(one.source for one in found)
