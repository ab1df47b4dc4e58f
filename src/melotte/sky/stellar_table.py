"""Reading of the stellar table that melotte ships: isochrones and bolometric corrections."""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import as_file, files
from typing import Any

import h5py
import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteFileError
from melotte.sky.isochrone_tables import IsochroneTable
from melotte.sky.photometry import BolometricCorrections

TABLE_VERSION = 1

PHASE_STARTS = (202, 454, 605, 707, 808)
"""EEPs at which MIST's phases 0, 2, 3, 4, 5 start (Dotter 2016, Table 2); before is -1."""

PHASES = (-1, 0, 2, 3, 4, 5)


def provenance() -> dict[str, Any]:
    """Sources of the shipped table: packages with versions and hashes, citations, law."""
    with _open() as file:
        return json.loads(str(file.attrs["provenance"]))


@cache
def shipped_isochrones() -> IsochroneTable:
    """The isochrones: MIST v2.5, v/vcrit = 0.4, on the CPU; read once.

    References
    ----------
    Choi et al. 2016, ApJ 823, 102; Dotter 2016, ApJS 222, 8.
    """
    with _open() as file:
        group = file["isochrones"]
        metallicity, log_age = group["metallicity"][:], group["log_age"][:]
        last_eep = group["last_eep"][:].astype(np.int64)
        bits, _ = _integers(group, "initial_mass_bits")
        mass = bits.view(np.float32)
        state = np.empty((*mass.shape, 3), np.float32)
        for i, name in enumerate(("mass_ratio", "log_luminosity", "log_teff")):
            integers, step = _integers(group, name)
            np.multiply(integers, np.float32(step), out=state[..., i])
    n_eeps = mass.shape[-1]
    return IsochroneTable(
        torch.from_numpy(metallicity),
        torch.from_numpy(log_age),
        torch.from_numpy(mass.reshape(-1, n_eeps)),
        torch.from_numpy(state.reshape(-1, n_eeps, 3)),
        torch.from_numpy(last_eep.reshape(-1) - 1),
        1,
        torch.tensor(PHASE_STARTS),
        torch.tensor(PHASES, dtype=torch.int8),
    )


@cache
def shipped_corrections() -> BolometricCorrections:
    """The bolometric corrections, on the CPU; bands are read when first used."""
    with _open() as file:
        group = file["corrections"]
        log_teff = torch.from_numpy(np.log10(group["teff"][:])).to(torch.float32)
        log_g, metallicity = _even_axis(group, "log_g"), _even_axis(group, "metallicity")
        offset = float(group.attrs["metallicity_offset"])
        largest = float(group.attrs["extinction_v_range"][1])
        bands = tuple(group["bands"])
    return BolometricCorrections(log_teff, log_g, metallicity, offset, largest, bands, shipped_band)


@cache
def shipped_band(name: str) -> Tensor:
    """Coefficients of a band's cubic in A_V, shape (4, n_metallicity, n_teff, n_log_g), mag."""
    with _open() as file:
        dataset = file["corrections/bands"][name]
        integers = dataset[:]
        low, step = dataset.attrs["low"], dataset.attrs["step"]
    np.cumsum(integers, axis=2, dtype=np.uint16, out=integers)
    wide = (slice(None), None, None, None)
    values = integers * step[wide].astype(np.float32) + low[wide].astype(np.float32)
    return torch.from_numpy(values)


def _open() -> Any:  # h5py's own annotations do not tell groups from datasets
    resource = files("melotte") / "data" / "stellar_table.h5"
    with as_file(resource) as path:
        try:
            file = h5py.File(path)
        except OSError as error:
            raise MelotteFileError(f"{path}: the shipped stellar table cannot be read") from error
    version = int(file.attrs.get("version", 0))
    if version != TABLE_VERSION:
        file.close()
        raise MelotteFileError(
            f"{path}: stellar table of version {version}, this melotte reads {TABLE_VERSION}"
        )
    return file


def _integers(group: Any, name: str) -> tuple[np.ndarray, float]:
    """Undo the differences along EEP; int32."""
    differences = group[name][:].astype(np.int32)
    differences[..., 0] = group[name + "_start"][:]
    np.cumsum(differences, axis=-1, dtype=np.int32, out=differences)
    return differences, float(group[name].attrs["step"])


def _even_axis(group: Any, name: str) -> tuple[float, float, int]:
    nodes = group[name][:]
    steps = np.diff(nodes)
    if np.ptp(steps) > 1e-6:
        raise MelotteFileError(f"the shipped stellar table's {name} is not evenly spaced")
    return float(nodes[0]), float(steps[0]), len(nodes)
