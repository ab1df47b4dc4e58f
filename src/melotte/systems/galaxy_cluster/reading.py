"""Galaxy clusters from users' tables, as the network reads them, flagged where they differ."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import torch

from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.galaxy_lists import GalaxyList, GalaxySelection, RejectedGroup
from melotte.io.galaxy_members import read_galaxies
from melotte.ragged import Ragged
from melotte.systems.base import Observation, RowError
from melotte.systems.galaxy_cluster.mergers import has_two_peaks
from melotte.systems.galaxy_cluster.settings import APERTURES, DataSettings

READ_BATCH = 256
SAME_APERTURE = 0.02
"""Relative difference of a cylinder from the training's that still counts as the same."""

_SELECTION = tuple(inspect.signature(GalaxySelection).parameters)
_OWN = ("completeness",)


def observations(
    source: Any, options: Mapping[str, Any], data: DataSettings
) -> Iterator[Observation | RowError]:
    """Clusters in tables of galaxies, in batches of up to 256.

    Parameters
    ----------
    source : path, astropy Table, or a sequence of them
    options : mapping
        ``clusters``: table of their positions; ``column``; ``group_by``; ``completeness`` of the
        redshifts in the cylinder, 0 to 1; and the settings of
        :class:`~melotte.io.galaxy_lists.GalaxySelection`. Lengths, h and matter density are
        the training's unless they are given.
    data : DataSettings
        What the model was trained on.

    Yields
    ------
    Observation or RowError
        Flagged FEW_MEMBERS (fewer galaxies than the mocks' fewest), OUT_OF_RANGE (redshift or
        cylinder not trained on) and MERGER (two velocity peaks).

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
    completeness = float(given.pop("completeness", 1.0))
    if not 0 < completeness <= 1:
        raise MelotteValueError(f"completeness {completeness:g} is outside (0, 1]")
    chosen = {"lengths": data.lengths, "h": data.cosmology.h, "omega_m": data.cosmology.omega_m}
    chosen |= {name: given.pop(name) for name in _SELECTION if name in given}
    groups = read_galaxies(source, selection=GalaxySelection(**chosen), **given)
    waiting: list[GalaxyList] = []
    for group in groups:
        if isinstance(group, RejectedGroup):
            yield RowError(group.id, group.reason, int(Flag.FAILED | Flag.FEW_MEMBERS))
            continue
        waiting.append(group)
        if len(waiting) == READ_BATCH:
            yield _observation(waiting, completeness, data)
            waiting = []
    if waiting:
        yield _observation(waiting, completeness, data)


def _observation(lists: list[GalaxyList], completeness: float, data: DataSettings) -> Observation:
    tables = [
        torch.tensor(
            np.stack(
                [one.velocity, one.radius, one.weight, np.full(one.n_galaxies, np.nan)], axis=1
            ),
            dtype=torch.float32,
        )
        for one in lists
    ]
    n = len(lists)

    def column(values: list[float]) -> torch.Tensor:
        return torch.tensor(values, dtype=torch.float32)

    redshift = [one.redshift for one in lists]
    selection = lists[0].selection
    # A list of velocities without a redshift is read as one at the middle of the training range.
    middle = (data.redshift[0] + data.redshift[1]) / 2
    known = [z if np.isfinite(z) else middle for z in redshift]
    return Observation(
        {
            "galaxies": Ragged.pack(tables),
            "redshift": column(known),
            "aperture": column([one.selection.aperture for one in lists]),
            "velocity_cut": column([one.selection.velocity_cut for one in lists]),
            "completeness": column([completeness] * n),
            "log_stellar_mass_limit": column([np.nan] * n),
        },
        ids=tuple(one.id for one in lists),
        flags=torch.tensor([_flags(one, completeness, data) for one in lists]),
        header={
            "n_galaxies": [one.n_galaxies for one in lists],
            "redshift": redshift,
            "velocity_shift": [one.velocity_shift for one in lists],
            "n_dropped": {one.id: dict(one.n_dropped) for one in lists},
            "conventions": {
                "mass": "log10 of M200c in Msun/h, 200 times the critical density",
                "lengths": f"{selection.lengths} Mpc/h",
                "aperture": f"{selection.aperture:g} Mpc/h",
                "velocity_cut": f"{selection.velocity_cut:g} km/s",
                "velocity": "c (z - z_c)/(1 + z_c)",
                "velocity_centre": selection.velocity_centre,
                "h": selection.h,
                "omega_m": selection.omega_m,
            },
        },
    )


def _flags(one: GalaxyList, completeness: float, data: DataSettings) -> int:
    flags = 0
    if one.n_galaxies < data.least_galaxies:
        flags |= Flag.FEW_MEMBERS
    low, high = data.redshift
    trained = [APERTURES[name] for name in data.apertures]
    cylinder = one.selection.aperture, one.selection.velocity_cut
    same = any(np.allclose(cylinder, each, rtol=SAME_APERTURE) for each in trained)
    at_redshift = not np.isfinite(one.redshift) or low - 0.005 <= one.redshift <= high + 0.005
    complete = data.completeness[0] <= completeness <= data.completeness[1]
    lengths = one.selection.lengths == data.lengths
    if not (same and at_redshift and complete and lengths):
        flags |= Flag.OUT_OF_RANGE
    if has_two_peaks(one.velocity):
        flags |= Flag.MERGER
    return int(flags)
