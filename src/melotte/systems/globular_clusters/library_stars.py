"""The stars of a library of evolved clusters, kept in half precision, and who serves which area."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.sky.cluster_libraries import ClusterLibrary, LibraryRun, shipped_library
from melotte.sky.dark_mass import ForceShells
from melotte.systems.areas import AREAS, Area
from melotte.systems.globular_clusters.settings import SMALL_LIBRARY, DataSettings

HELD_OUT_SHARE = 0.1
"""Of the training families, for each area that has no family of its own."""

AGE_BIN = 0.1
"""Of log10 age, in which ages count as alike."""
SPECTRAL_LIMIT = 6.0
"""Absolute V magnitude of the faintest stars that matter to a spectrum of a cluster."""

FAINT_LIGHT = 0.05
"""Part of a cluster's light in V that its faint stars give together."""
LEAST_THINNED = 3000
"""Stars of the smallest cluster that has faint ones."""

_LEAST_TRACERS = 200
_COLUMNS = ("radius", "mass", "magnitude_v", "magnitude_b")
_NUMBERS = ("second", "first", "count", "bright", "faint", "key", "run", "chance")
_VELOCITIES = ("radial_velocity", "tangential_velocity")


@dataclass(frozen=True)
class LibraryStars:
    """Snapshots of the runs of one area.

    Parameters
    ----------
    columns : dict of str to Tensor of float16, shape (n_stars,)
        pc, km/s, Msun, absolute magnitudes and, where they are relit, stellar types; all snapshots
        end to end; of each, first the bright stars, then the faint ones, then dark ones.
    second : BoolTensor, shape (n_stars,)
        Whether a star shares an unresolved binary with the one before it.
    first, count : Tensor of int64, shape (n_snapshots,)
        Where a snapshot begins, and its stars.
    bright, faint : Tensor of int64, shape (n_snapshots,)
        How many of them are bright and faint: see :func:`light_order`.
    key : Tensor of int64, shape (n_snapshots,)
        A number that is the snapshot's own, whatever else the library holds.
    run : Tensor of int64, shape (n_snapshots,)
        Number of its run among all of the library, in the order of their names.
    chance : Tensor of float64, shape (n_snapshots,)
        Of being drawn; they sum to 1.
    truth : dict of str to Tensor of float32, shape (n_snapshots,)
        ``log_age``, ``metallicity``, ``log_total_mass``, ``half_mass_radius``,
        ``remnant_fraction``.
    shells : ForceShells, optional
        Of the snapshots, where clusters may have dark mass.
    """

    columns: dict[str, Tensor]
    second: Tensor
    first: Tensor
    count: Tensor
    bright: Tensor
    faint: Tensor
    key: Tensor
    run: Tensor
    chance: Tensor
    truth: dict[str, Tensor]
    shells: ForceShells | None = None

    @property
    def nbytes(self) -> int:
        """Memory of the stars."""
        kept = (*self.columns.values(), self.second)
        return sum(one.numel() * one.element_size() for one in kept)

    def choose(self, n: int, generator: torch.Generator) -> Tensor:
        """Numbers of ``n`` snapshots, each drawn by its chance."""
        uniform = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        found = torch.searchsorted(self.chance.cumsum(0), uniform, right=True)
        return found.clamp(max=len(self.chance) - 1)

    def gathered(self, name: str, snapshot: Tensor) -> Tensor:
        """A column, or ``second``, of the stars of some snapshots, end to end."""
        column = self.second if name == "second" else self.columns[name]
        bounds = zip(self.first[snapshot].tolist(), self.count[snapshot].tolist(), strict=True)
        return torch.cat([column[low : low + many] for low, many in bounds])

    def to(self, device: torch.device | str) -> LibraryStars:
        """The same stars on another device."""
        moved = {name: getattr(self, name).to(device) for name in _NUMBERS}
        return LibraryStars(
            columns={name: one.to(device) for name, one in self.columns.items()},
            truth={name: one.to(device) for name, one in self.truth.items()},
            shells=None if self.shells is None else self.shells.to(device),
            **moved,
        )


def load_stars(data: DataSettings, area: Area) -> LibraryStars:
    """Read what an area needs of the libraries.

    Parameters
    ----------
    data : DataSettings
    area : {"training", "validation", "test"}

    Returns
    -------
    LibraryStars

    Raises
    ------
    MelotteFileError
        When a file is no library.
    MelotteValueError
        When no library is named, a file hides behind the word ``small``, or the library holds no
        fitting snapshot for the area.
    """
    if not data.library:
        raise MelotteValueError(
            "data.library names no library of evolved clusters; make one with 'melotte simulate "
            "clusters' and give it as data.library=FILE, or try out with a few clusters that "
            f"melotte ships: data.library={SMALL_LIBRARY}"
        )
    names = _COLUMNS + (_VELOCITIES if data.dispersion_share > 0 else ())
    names += ("kind",) if data.metallicity_spread > 0 and area == "training" else ()
    limits = {one.name: (one.low, one.high) for one in data.cluster_parameters()}
    stars: dict[str, list[np.ndarray]] = {name: [] for name in (*names, "second")}
    rows: list[list[float]] = []
    labels: list[list[int]] = []
    truths: list[str] = []
    shells: list[ForceShells] = []
    with named_library(data.library) as library:
        families = {run.family for run in library.runs}
        for number, run in enumerate(sorted(library.runs, key=lambda one: one.name)):
            for step in _steps_of(run, area, data, families):
                if run.counts[step] < data.least_stars:
                    continue
                snapshot = library.snapshot(run, step)
                truth = truths_of(snapshot)
                if any(not limits[k][0] <= truth[k] <= limits[k][1] for k in truth):
                    continue
                second = np.r_[False, np.diff(snapshot.system) == 0]
                order, bright, faint = light_order(snapshot.magnitude_v, second)
                for name in names:
                    stars[name].append(getattr(snapshot, name)[order].astype(np.float16))
                stars["second"].append(second[order])
                if data.dark_mass.share > 0:
                    shells.append(_shells_of(snapshot))
                truths = list(truth)
                rows.append(list(truth.values()))
                word = _word(f"{run.name}/{step}") >> 32
                labels.append([number, run.counts[step], word, bright, faint])
    if not rows:
        raise MelotteValueError(
            f"data.library: no snapshot for the area {area!r} in {', '.join(data.library)} "
            f"(families {', '.join(sorted(families)) or 'none'}; wanted "
            f"{', '.join(getattr(data.families, area)) or 'none'}, or a tenth of "
            f"{', '.join(data.families.training)}), of {data.least_stars} stars or more and "
            "within the ranges of data; evolve more runs or families"
        )
    label = torch.tensor(labels)
    values = torch.tensor(rows, dtype=torch.float32)
    truth = {name: values[:, i].contiguous() for i, name in enumerate(truths)}
    return LibraryStars(
        {name: torch.from_numpy(np.concatenate(stars[name])) for name in names},
        torch.from_numpy(np.concatenate(stars["second"])),
        label[:, 1].cumsum(0) - label[:, 1],
        label[:, 1],
        label[:, 3],
        label[:, 4],
        label[:, 2],
        label[:, 0],
        draw_chances(label[:, 0], truth["log_age"], data.run_power, data.age_flattening),
        truth,
        ForceShells.join(shells) if shells else None,
    )


@contextmanager
def named_library(names: Sequence[str]) -> Iterator[ClusterLibrary]:
    """The libraries that settings name, read as one.

    Parameters
    ----------
    names : sequence of str
        Files, or :data:`SMALL_LIBRARY` for the shipped one.

    Raises
    ------
    MelotteFileError
        When a file is no library.
    MelotteValueError
        When there is a file called as the shipped library is: either may be meant.
    """
    with ExitStack() as opened:
        paths: list[str | Path] = []
        for name in names:
            if name == SMALL_LIBRARY and Path(name).is_file():
                raise MelotteValueError(
                    f"data.library={name} is the library that melotte ships, and a file here has "
                    f"that name; give the file as ./{name}, or rename it to use the shipped one"
                )
            shipped = name == SMALL_LIBRARY
            paths.append(opened.enter_context(shipped_library()) if shipped else name)
        yield opened.enter_context(ClusterLibrary(paths))


def draw_chances(
    run: Tensor, log_age: Tensor, run_power: float = 0.5, age_flattening: float = 0.0
) -> Tensor:
    """Chances of snapshots to be drawn.

    A run of many snapshots lives long and changes; one of a few is a cluster that dissolved. Drawn
    by snapshots, the latter are hardly seen; drawn by runs, each of their few snapshots is seen too
    often to stand for anything but itself.

    Parameters
    ----------
    run : Tensor of int64, shape (n,)
        The run of each snapshot.
    log_age : Tensor, shape (n,)
    run_power : float, in [0, 1]
        Runs are drawn by this power of the number of their snapshots.
    age_flattening : float, in [0, 1]
        Snapshots of a log age that many have are drawn more rarely, by this power of their number.

    Returns
    -------
    Tensor of float64, shape (n,)
        They sum to 1.
    """
    _, place, counts = torch.unique(run, return_inverse=True, return_counts=True)
    chance = counts[place].double() ** (run_power - 1)
    if age_flattening > 0:
        bins = (log_age.double() / AGE_BIN).floor().long()
        _, of_age, _ = torch.unique(bins, return_inverse=True, return_counts=True)
        crowd = torch.zeros(int(of_age.max()) + 1, dtype=torch.float64, device=run.device)
        crowd.index_add_(0, of_age, chance)
        chance = chance * crowd[of_age] ** -age_flattening
    return chance / chance.sum()


def truths_of(snapshot: StarSnapshot) -> dict[str, float]:
    """What is inferred of a cluster, however it is looked at.

    Parameters
    ----------
    snapshot : StarSnapshot

    Returns
    -------
    dict
        ``log_age`` log10(yr) since the simulation began, ``metallicity``, ``log_total_mass``
        log10(Msun), ``half_mass_radius`` pc, ``remnant_fraction``.
    """
    total = snapshot.total_mass
    remnants = snapshot.is_dark | snapshot.is_white_dwarf
    return {
        "log_age": float(np.log10(max(snapshot.time, 1e-6) * 1e6)),
        "metallicity": snapshot.metallicity,
        "log_total_mass": float(np.log10(total)),
        "half_mass_radius": snapshot.half_mass_radius,
        "remnant_fraction": float(snapshot.mass[remnants].sum() / total),
    }


def light_order(magnitude_v: NDArray, second: NDArray) -> tuple[NDArray, int, int]:
    """An order of stars by what they matter to the light; systems stay together.

    Parameters
    ----------
    magnitude_v : array, shape (n_stars,)
    second : array of bool, shape (n_stars,)
        Whether a star shares a system with the one before it.

    Returns
    -------
    order : array of int64, shape (n_stars,)
        Bright stars, then the faintest of all that together give ``FAINT_LIGHT`` of the light, then
        dark ones, each as they were. No star of a small cluster is faint.
    bright, faint : int
        Their numbers.
    """
    begin = np.flatnonzero(~second)
    system = np.cumsum(~second) - 1
    light = np.add.reduceat(10 ** (-0.4 * magnitude_v), begin)
    kind = np.where(light > 0, 0, 2)
    if len(second) >= LEAST_THINNED:
        rising = np.argsort(light, kind="stable")
        low = np.cumsum(light[rising]) <= FAINT_LIGHT * light.sum()
        kind[rising[low & (light[rising] > 0)]] = 1
    kinds = kind[system]
    order = np.argsort(kinds, kind="stable")
    return order, int((kinds == 0).sum()), int((kinds == 1).sum())


def _shells_of(snapshot: StarSnapshot) -> ForceShells:
    """Shells whose tracers are the stars that a spectrum shows: bright ones, if there are many."""
    bright = snapshot.magnitude_v < SPECTRAL_LIMIT
    if bright.sum() < _LEAST_TRACERS:
        bright = np.isfinite(snapshot.magnitude_v)
    if not bright.any():
        bright = np.ones(len(snapshot), dtype=bool)
    radius = np.asarray(snapshot.radius, dtype=np.float64)
    return ForceShells.measure(radius, snapshot.mass, bright, snapshot.half_mass_radius)


def _steps_of(run: LibraryRun, area: Area, data: DataSettings, families: set[str]) -> Sequence[int]:
    """Numbers of the snapshots of a run that belong to an area."""
    every = range(len(run.times))
    lacking: list[Area] = [
        one for one in AREAS[1:] if not families & set(getattr(data.families, one))
    ]
    if area not in lacking and area != "training":
        return every if run.family in getattr(data.families, area) else ()
    if run.family not in data.families.training:
        return ()
    if data.split == "run":
        return every if _area_of(run.name, lacking) == area else ()
    return [step for step in every if _area_of(f"{run.name}/{step}", lacking) == area]


def _area_of(name: str, lacking: Sequence[Area]) -> Area:
    """The area that a run or snapshot of a training family serves."""
    place = _word(name) / 2**64
    for number, area in enumerate(lacking):
        if place < (number + 1) * HELD_OUT_SHARE:
            return area
    return "training"


def _word(name: str) -> int:
    """A number of 64 bits that follows from a name alone."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
