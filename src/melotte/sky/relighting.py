"""Magnitudes of a cluster's stars, were its metallicity another.

A star keeps its place in the order of masses: one at the turn-off stays there, a giant stays as
far up the giant branch. The turn-off's mass depends on the metallicity, by some per cent for 0.3
dex, so that stars near it stand for slightly heavier or lighter ones; those far below keep their
mass. Populations of stars relit by 0.3 dex have the light in V of true ones of that metallicity to
0.05 mag, and their B - V to 0.02 mag, at 0.8 to 13 Gyr.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.sky.isochrones import StellarGrid, rising_points

END_OF_MAIN_SEQUENCE = 454
"""Equivalent evolutionary point (Dotter 2016, ApJS 222, 8, Table 2)."""

_BRANCHES = {3: (454, 605), 4: (605, 707), 5: (707, 808), 6: (808, 1409)}
"""Points between which stars are of a type: 3 first giant branch, 4 core helium burning, 5 and 6
asymptotic giant branch (Hurley, Pols & Tout 2000)."""

_BY_BRIGHTNESS = (3, 5)
"""Types whose stars brighten on their way."""

_UNMOVED = 0.4
"""Stars of less than this part of the turn-off's mass keep their mass."""

_HERTZSPRUNG_GAP = 2


@dataclass(frozen=True)
class MagnitudeShifts:
    """What the magnitudes of one cluster's stars change by.

    Parameters
    ----------
    mass : Tensor, shape (n_nodes,), Msun, rises
    dwarf : Tensor, shape (n_nodes, n_bands), mag
        Of stars on the main sequence, at these masses.
    branches : mapping of int to (Tensor, Tensor)
        By stellar type: magnitudes in the first band, shape (n_nodes,), that rise, and the shifts
        there, (n_nodes, n_bands); a single node where a type has one shift.
    """

    mass: Tensor
    dwarf: Tensor
    branches: Mapping[int, tuple[Tensor, Tensor]]

    def of(self, mass: Tensor, kind: Tensor, magnitude: Tensor) -> Tensor:
        """Shifts of stars.

        Parameters
        ----------
        mass : Tensor, shape (n,), Msun
        kind : Tensor, shape (n,)
            Stellar types of Hurley, Pols & Tout 2000.
        magnitude : Tensor, shape (n,), mag
            In the first band.

        Returns
        -------
        Tensor, shape (n, n_bands), mag
            0 for helium stars, white dwarfs and what is dark.
        """
        shift = mass.new_zeros(len(mass), self.dwarf.shape[1])
        dwarfs = torch.nonzero(kind <= 1)[:, 0]
        shift[dwarfs] = _interpolated(mass[dwarfs], self.mass, self.dwarf)
        for branch, (nodes, shifts) in self.branches.items():
            here = (kind == branch) | ((kind == _HERTZSPRUNG_GAP) & (branch == _BY_BRIGHTNESS[0]))
            stars = torch.nonzero(here)[:, 0]
            if len(stars):
                shift[stars] = _interpolated(magnitude[stars], nodes, shifts)
        return shift


def magnitude_shifts(
    grid: StellarGrid,
    log_age: Tensor,
    metallicity: Tensor,
    wanted: Tensor,
    bands: Sequence[str],
) -> list[MagnitudeShifts]:
    """Shifts of some clusters from one metallicity to another.

    Parameters
    ----------
    grid : StellarGrid
    log_age : Tensor, shape (n,), log10(age / yr)
    metallicity, wanted : Tensor, shape (n,), [Fe/H]
        That the clusters have, and are to have.
    bands : sequence of str

    Returns
    -------
    list of MagnitudeShifts

    Raises
    ------
    MelotteValueError
        When an age or metallicity is outside the grid.
    """
    ages = torch.cat([log_age, log_age])
    iron = torch.cat([metallicity, wanted])
    points = grid.isochrone_points(ages, iron)
    magnitude = grid.magnitudes(points.stars, 0.0, bands, iron[:, None])
    n = len(log_age)
    return [
        _shifts(
            points.eep,
            (points.initial_mass[i], points.initial_mass[n + i]),
            (magnitude[i].double(), magnitude[n + i].double()),
            int(torch.minimum(points.last[i], points.last[n + i])),
        )
        for i in range(n)
    ]


def _shifts(
    eep: Tensor, mass: tuple[Tensor, Tensor], magnitude: tuple[Tensor, Tensor], last: int
) -> MagnitudeShifts:
    """Shifts between two isochrones, of which points up to ``last`` are common to both."""
    end = int(torch.searchsorted(eep, END_OF_MAIN_SEQUENCE).clamp(max=last))
    chosen = [rising_points(one[: end + 1]) for one in mass]
    old, new = (
        (one[points], light[points])
        for points, one, light in zip(chosen, mass, magnitude, strict=True)
    )
    ratio = mass[1][end] / mass[0][end]
    part = ((old[0] / mass[0][end] - _UNMOVED) / (1 - _UNMOVED)).clamp(min=0)
    place = old[0] * (1 + (ratio - 1) * part)
    inside = place >= new[0][0]
    dwarf = _interpolated(place, *new) - old[1]
    change = magnitude[1] - magnitude[0]
    branches = {}
    for kind, (begin, stop) in _BRANCHES.items():
        low, high = (int(torch.searchsorted(eep, one).clamp(max=last)) for one in (begin, stop))
        light, step = magnitude[0][low : high + 1, 0], change[low : high + 1]
        if kind in _BY_BRIGHTNESS and high > low:
            # From the bright end; where a star turns back for a while, its brightest so far holds.
            branches[kind] = light.cummin(0).values.flip(0).float(), step.flip(0).float()
            continue
        weight = torch.diff(mass[0][low : high + 1], append=mass[0][high : high + 1]).clamp(min=0)
        weight = weight + 1e-12
        mean = (step * weight[:, None]).sum(0, keepdim=True) / weight.sum()
        branches[kind] = light[:1].float(), mean.float()
    return MagnitudeShifts(old[0][inside].float(), dwarf[inside].float(), branches)


def _interpolated(place: Tensor, nodes: Tensor, values: Tensor) -> Tensor:
    """Values (n_nodes, n_bands) between nodes that do not fall, at places (n,); the ends hold."""
    if len(nodes) == 1:
        return values.expand(len(place), -1)
    right = torch.searchsorted(nodes, place.contiguous()).clamp(1, len(nodes) - 1)
    low, high = nodes[right - 1], nodes[right]
    part = ((place - low) / (high - low).clamp(min=1e-9)).clamp(0, 1)[:, None]
    return values[right - 1] * (1 - part) + values[right] * part
