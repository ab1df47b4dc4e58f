"""The MIST v2.5 isochrones of ``lachesis-grids`` as dense integer arrays over [Fe/H], age, EEP."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

FILE = "lachesis_grids/grids/mist_v2.5_vvcrit0.4.h5"
LOWEST_METALLICITY = -2.5
LAST_EEP = 1408
"""End of the thermally pulsing asymptotic giant branch; what follows is a dark remnant."""

HIGHEST_START = 0.4
"""Lowest initial mass, Msun, above which an isochrone is continued to lower masses."""

MASSES = ("initial_mass", "star_mass")

LOG_LUMINOSITY_STEP = 2e-4
LOG_TEFF_STEP = 1e-4
MASS_RATIO_STEP = 1e-4


@dataclass(frozen=True)
class IsochroneCube:
    """Isochrones; arrays over ([Fe/H], log age, EEP).

    Before its first EEP and after its last an isochrone repeats its end value, so that
    differences along EEP vanish there.
    """

    metallicity: np.ndarray
    log_age: np.ndarray
    first_eep: np.ndarray
    last_eep: np.ndarray
    initial_mass: np.ndarray
    mass_ratio: np.ndarray
    log_luminosity: np.ndarray
    log_teff: np.ndarray


def read_cube(folder: Path) -> IsochroneCube:
    """Read and check the cube; ``folder`` is the unpacked package."""
    with h5py.File(folder / FILE) as file:
        columns = list(file.attrs["columns"])
        values = file["values"][:]
        lengths, offsets = file["lengths"][:], file["offsets"][:]
        metallicity, log_age = file["feh_values"][:], file["age_values"][:]
    # The rows of a node follow those of the node before; ``offsets`` counts EEPs, not rows.
    starts = np.concatenate([[0], np.cumsum(lengths)])
    kept = np.flatnonzero(metallicity >= LOWEST_METALLICITY - 1e-9)
    shape = (len(kept), len(log_age), LAST_EEP)
    named = {
        name: np.empty(shape, np.float32)
        for name in ("initial_mass", "star_mass", "log_L", "log_Teff", "log_g")
    }
    first, last = np.empty(shape[:2], np.int16), np.empty(shape[:2], np.int16)
    all_eeps = np.arange(1, LAST_EEP + 1)
    for i, node in enumerate(kept):
        for j in range(len(log_age)):
            row = node * len(log_age) + j
            table = values[starts[row] : starts[row + 1]]
            eep = offsets[row] + np.arange(len(table))
            whole = np.isfinite(table[:, [columns.index(name) for name in named]]).all(1)
            whole &= eep <= LAST_EEP
            if not np.array_equal(table[whole, 0], eep[whole]):
                raise SystemExit(f"node {row}: EEP column does not match the row offset")
            mass = table[whole, columns.index("initial_mass")]
            if (np.diff(mass) < 0).any():
                raise SystemExit(f"node {row}: initial mass falls with EEP")
            first[i, j], last[i, j] = eep[whole][0], eep[whole][-1]
            for name, array in named.items():
                column = table[whole, columns.index(name)]
                array[i, j] = np.interp(all_eeps, eep[whole], column)
    _check_gravity(named)
    _extend_downwards(named, first)
    return IsochroneCube(
        metallicity[kept],
        log_age,
        first,
        last,
        named["initial_mass"],
        named["star_mass"] / named["initial_mass"],
        named["log_L"],
        named["log_Teff"],
    )


def _extend_downwards(named: dict[str, np.ndarray], first: np.ndarray) -> None:
    """Continue isochrones that start above ``HIGHEST_START`` as the next metal-poorer one runs.

    At [Fe/H] = 0.5 the cube starts at 0.5 Msun, elsewhere at 0.1 to 0.26 Msun. Below its start
    an isochrone takes the masses of its neighbour, and the neighbour's L, Teff and gravity
    shifted so that they join.
    """
    mass = named["initial_mass"]
    n_extended = 0
    for i, j in np.argwhere(mass[1:, :, 0] > HIGHEST_START) + np.array([1, 0]):
        start, neighbour = first[i, j] - 1, mass[i - 1, j]
        lowest = first[i - 1, j] - 1
        joint = np.interp(mass[i, j, start], neighbour[lowest:], np.arange(lowest, LAST_EEP))
        n_new = int(min(start, joint - lowest))
        places = joint - np.arange(n_new, 0, -1)
        for name, array in named.items():
            there = np.interp([*places, joint], np.arange(LAST_EEP), array[i - 1, j])
            shift = 0.0 if name in MASSES else array[i, j, start] - there[-1]
            array[i, j, start - n_new : start] = there[:-1] + shift
            array[i, j, : start - n_new] = array[i, j, start - n_new]
        first[i, j] -= n_new
        n_extended += 1
    print(f"{n_extended} isochrones that start above {HIGHEST_START} Msun continued downwards")


def _check_gravity(named: dict[str, np.ndarray]) -> None:
    """The gravity that the reader computes from mass, L and Teff must be the table's."""
    computed = (
        4.4380
        + np.log10(named["star_mass"])
        + 4 * (named["log_Teff"] - np.log10(5772.0))
        - named["log_L"]
    )
    difference = np.abs(computed - named["log_g"])
    print(
        f"log g computed - tabulated: median {np.median(difference):.4f}, largest "
        f"{difference.max():.3f}, 99.9 % below {np.percentile(difference, 99.9):.4f}"
    )


def write_cube(cube: IsochroneCube, group: h5py.Group) -> None:
    """Write as differences along EEP of integers: lossless for the mass, quantised for the rest.

    Initial masses keep all 32 bits: on evolved phases neighbouring EEPs differ by 1e-6 of
    their mass.
    """
    group["metallicity"] = cube.metallicity
    group["log_age"] = cube.log_age
    group["first_eep"] = cube.first_eep
    group["last_eep"] = cube.last_eep
    bits = np.ascontiguousarray(cube.initial_mass, np.float32).view(np.int32)
    _write_differences(group, "initial_mass_bits", bits, 1.0)
    for name, step in (
        ("mass_ratio", MASS_RATIO_STEP),
        ("log_luminosity", LOG_LUMINOSITY_STEP),
        ("log_teff", LOG_TEFF_STEP),
    ):
        quantised = np.round(getattr(cube, name) / step).astype(np.int32)
        _write_differences(group, name, quantised, step)


def _write_differences(group: h5py.Group, name: str, integers: np.ndarray, step: float) -> None:
    differences = np.diff(integers, axis=-1, prepend=np.int32(0))
    small = np.abs(differences[..., 1:]).max() < 2**15
    start = differences[..., 0].copy()
    differences[..., 0] = 0
    group[name + "_start"] = start
    dataset = group.create_dataset(
        name,
        data=differences.astype(np.int16 if small else np.int32),
        compression="gzip",
        compression_opts=9,
        shuffle=True,
        chunks=(1, *differences.shape[1:]),
    )
    dataset.attrs["step"] = step
