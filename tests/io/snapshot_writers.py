"""Small simulations written in the layouts of the codes, to be read back."""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np

N_SINGLE, N_PAIRS = 40, 3
RBAR, ZMBAR, TSCALE, VSTAR = 2.0, 500.0, 0.5, 1.5


@dataclass
class Cluster:
    """Stars in physical units: the first ``2 N_PAIRS`` are pairs, two by two."""

    mass: np.ndarray
    position: np.ndarray
    velocity: np.ndarray
    kind: np.ndarray
    luminosity: np.ndarray
    radius: np.ndarray
    name: np.ndarray

    def __len__(self) -> int:
        return len(self.mass)


def cluster(seed: int = 7) -> Cluster:
    """A clump of stars; members of a pair 1e-4 pc apart."""
    generator = np.random.default_rng(seed)
    n = N_SINGLE + 2 * N_PAIRS
    position, velocity = generator.standard_normal((2, n, 3))
    position[1 : 2 * N_PAIRS : 2] = position[0 : 2 * N_PAIRS : 2] + np.array([1e-4, 0, 0])
    return Cluster(
        mass=generator.uniform(0.1, 1.0, n),
        position=position,
        velocity=velocity,
        kind=generator.choice([0, 1, 3, 11], n),
        luminosity=10 ** generator.uniform(-3, 2, n),
        radius=10 ** generator.uniform(-2, 1, n),
        name=generator.permutation(n) + 1,
    )


def record(order: str, *parts: np.ndarray) -> bytes:
    """A Fortran record of a file with 4-byte markers."""
    body = b"".join(np.ascontiguousarray(part).tobytes() for part in parts)
    marker = struct.pack(order + "i", len(body))
    return marker + body + marker


def nbody6(
    stars: Cluster,
    centre: np.ndarray,
    time: float,
    order: str = "<",
    conf3: bool = False,
    ghosts: int = 0,
) -> bytes:
    """One snapshot of ``OUT3`` or ``conf.3``; the pairs' centres of mass stand at the end."""
    real, whole = order + "f4", order + "i4"
    pairs = slice(0, 2 * N_PAIRS)
    weight = stars.mass[pairs].reshape(-1, 2, 1)

    def bodies(values: np.ndarray) -> np.ndarray:
        members = values[pairs].reshape(N_PAIRS, 2, -1)
        means = (weight * members).sum(1) / weight.sum(1)
        return np.concatenate([values.reshape(len(stars), -1), means]).squeeze().astype(real)

    mass = np.concatenate([stars.mass, weight.sum((1, 2))]) / ZMBAR
    if ghosts:
        mass[2 * N_PAIRS : 2 * N_PAIRS + ghosts] = 0
    names = np.concatenate([stars.name, 1000 + np.arange(N_PAIRS)])
    numbers = np.zeros(20)
    numbers[[0, 1, 2, 3, 10, 11]] = time / TSCALE, N_PAIRS, RBAR, ZMBAR, TSCALE, VSTAR
    numbers[6:9] = centre / RBAR
    n = len(mass)
    extra = [np.zeros(2 * n, real)] if conf3 else []
    last = [np.zeros(n, real)] if conf3 else []
    return record(order, np.array([n, 1, 1, 20], whole)) + record(
        order,
        numbers.astype(real),
        mass.astype(real),
        *extra,
        bodies((stars.position + centre) / RBAR),
        bodies(stars.velocity / VSTAR),
        *last,
        names.astype(whole),
    )


def stellar_evolution(stars: Cluster, time: float, plus: bool = False) -> tuple[str, str]:
    """Blocks of ``fort.83`` and ``fort.82``, or of ``sev.83`` and ``bev.82``."""
    log_l, log_r = np.log10(stars.luminosity), np.log10(stars.radius)
    singles = []
    for i in range(2 * N_PAIRS, len(stars)):
        head = f" {time:12.5E} {i + 1:7d} " if plus else " "
        singles.append(
            f"{head}{stars.name[i]:8d} {stars.kind[i]:3d} 1.0 {stars.mass[i]:.3f} "
            f"{log_l[i]:.5f} {log_r[i]:.5f} 3.5"
        )
    pairs = []
    for i in range(0, 2 * N_PAIRS, 2):
        j = i + 1
        head = f" {time:12.5E} {i + 1:7d} {j + 1:7d} " if plus else " "
        pairs.append(
            f"{head}{stars.name[i]} {stars.name[j]} {stars.kind[i]} {stars.kind[j]} 0 1.0 0.5 2.0 "
            f"1.0 {stars.mass[i]:.3f} {stars.mass[j]:.3f} {log_l[i]:.5f} {log_l[j]:.5f} "
            f"{log_r[i]:.5f} {log_r[j]:.5f} 3.5 3.5"
        )
    blocks = []
    for rows in (singles, pairs):
        first = f"{len(rows):8d}{time:9.1f}" if plus else f" ## BEGIN{len(rows):8d}{time:9.1f}"
        last = [] if plus else [f" ## END{len(rows):8d}"]
        blocks.append("\n".join([first, *rows, *last]) + "\n")
    return blocks[0], blocks[1]


def nbody6_gpu(path: Path, stars: Cluster, centre: np.ndarray, listed: bool) -> None:
    """``Step#0``: pair 0 a binary, pair 1 a wide one, pair 2 with a third star a triple.

    With `listed`, members stand among the single stars too, as do their centres of mass.
    """
    teff = 5772 * (stars.luminosity / stars.radius**2) ** 0.25
    n_in = 2 * N_PAIRS + 1
    alone = np.arange(n_in, len(stars))
    with h5py.File(path, "w") as file:
        step = file.create_group("Step#0")
        step.attrs["Time"] = np.float32(100.0 / TSCALE)
        scalars = np.zeros(100, np.float32)
        scalars[[2, 3, 10, 11, 35]] = RBAR, ZMBAR, TSCALE, VSTAR, 0.00142
        scalars[6:9] = centre / RBAR
        step["000 Scalars"] = scalars
        single = np.arange(len(stars)) if listed else alone
        n_centres = 1 if listed else 0

        def put(number: str, values: np.ndarray, centres: float = 0.0) -> None:
            step[number] = np.concatenate([values, np.full(n_centres, centres)])

        for k in range(3):
            put(f"00{1 + k} X{1 + k}", (stars.position + centre)[single, k])
            put(f"00{4 + k} V{1 + k}", stars.velocity[single, k])
        put("023 M", stars.mass[single], 1.0)
        put("027 L*", stars.luminosity[single])
        put("028 Teff*", teff[single])
        put("031 KW", stars.kind[single])
        put("032 Name", stars.name[single], 9000)
        if listed:
            put("033 Type", np.zeros(len(single)), 1)
        pair = np.array([0, 2])
        for k in range(3):
            step[f"10{1 + k} Bin cm X{1 + k}"] = (stars.position + centre)[pair, k]
            step[f"10{4 + k} Bin cm V{1 + k}"] = stars.velocity[pair, k]
            step[f"20{1 + k} Mer XC{1 + k}"] = (stars.position + centre)[[4], k]
            step[f"20{4 + k} Mer VC{1 + k}"] = stars.velocity[[4], k]
        columns = {
            (123, 207): stars.mass, (145, 224): stars.luminosity, (146, 225): teff,
            (158, 244): stars.kind, (161, 248): stars.name,
        }  # fmt: skip
        strides = {123: 1, 145: 3, 146: 3, 158: 1, 161: 1}
        for (binary, merger), values in columns.items():
            for member in range(2):
                step[f"{binary + member * strides[binary]} Bin"] = values[pair + member]
            for member in range(3):
                number = merger + member * (3 if merger in (224, 225) else 1)
                step[f"{number} Mer"] = values[[4 + member]]
        step["160 Bin cm KW"] = np.array([0, -1])


CONVERSION = """#!/bin/bash
# code unit of length (cgs)
lengthunitcgs=6.1714e+18
# code unit of length (parsecs)
lengthunitparsec=2
timeunitcgs=2.70787e+16
timeunitsmyr=800
nbtimeunitcgs=3.0857e+12
"""
"""2 pc, 20 km/s and 800 Myr."""

CMC_NAMES = (
    "id", "m[MSUN]", "r", "vr", "vt", "E", "J", "binflag", "m0[MSUN]", "m1[MSUN]", "id0", "id1",
    "a[AU]", "e", "startype", "luminosity[LSUN]", "radius[RSUN]", "bin_startype0", "bin_startype1",
    "bin_star_lum0[LSUN]", "bin_star_lum1[LSUN]", "bin_star_radius0[RSUN]",
    "bin_star_radius1[RSUN]",
)  # fmt: skip


def cmc_rows(stars: Cluster) -> np.ndarray:
    """One row an object, in code units; columns of single stars are -100 in binaries, and back."""
    rows = np.full((N_SINGLE + N_PAIRS, len(CMC_NAMES)), -100.0)
    r = np.linalg.norm(stars.position, axis=1) / 2
    for row in range(N_SINGLE + N_PAIRS):
        pair = row < N_PAIRS
        i = 2 * row if pair else row + N_PAIRS
        rows[row, [2, 3, 4, 7]] = (
            r[i],
            stars.velocity[i, 0] / 20,
            abs(stars.velocity[i, 1]) / 20,
            pair,
        )
        if not pair:
            rows[row, [0, 1, 14, 15, 16]] = (
                stars.name[i], stars.mass[i], stars.kind[i], stars.luminosity[i], stars.radius[i],
            )  # fmt: skip
            continue
        for first, values in (
            (8, stars.mass), (10, stars.name), (17, stars.kind), (19, stars.luminosity),
            (21, stars.radius),
        ):  # fmt: skip
            rows[row, first : first + 2] = values[i : i + 2]
        rows[row, 1] = stars.mass[i : i + 2].sum()
    return rows


def petar_rows(stars: Cluster, columns: int) -> tuple[np.ndarray, list[int]]:
    """Rows of PeTar of 20 (plain) or 34 (evolving) columns and more, and which are integers."""
    rows = np.zeros((len(stars), columns))
    rows[:, 0], rows[:, 1:4] = stars.mass, stars.position
    rows[:, 4:7] = stars.velocity / 0.977792221
    evolving = columns >= 34
    name = 23 if evolving else 9
    whole = [7, name, columns - 1]
    if evolving:
        rows[:, 12], rows[:, 15], rows[:, 21] = stars.kind, stars.radius, stars.luminosity
        whole.append(12)
    rows[:, name] = stars.name
    return rows, whole
