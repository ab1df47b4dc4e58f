"""Bolometric corrections as functions of Teff, log g, [Fe/H], and of A_V as a cubic."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import h5py
import numpy as np
from hst_bands import Spectra, differential_corrections

FILE = "lachesis/Datafiles/BC_tables/bc_tables.h5"
TEFF_LIMIT = 2.0e5
GRAVITY_RANGE = (-1.0, 6.0)
METALLICITY_RANGE = (-2.5, 0.75)

DIRECT_BANDS = {
    **{f"Bessell_{band}": ("UBVRIplus", f"Bessell_{band}") for band in "UBVRI"},
    **{f"2MASS_{band}": ("UBVRIplus", f"2MASS_{band}") for band in ("J", "H", "Ks")},
    **{f"Gaia_{band}_EDR3": ("UBVRIplus", f"Gaia_{band}_EDR3") for band in ("G", "BP", "RP")},
    **{f"Gaia_{band}_DR2": ("UBVRIplus", f"Gaia_{band}_DR2Rev") for band in ("G", "BP", "RP")},
    **{f"PS_{band}": ("PanSTARRS", f"PS_{band}") for band in "grizy"},
}
"""Bands that are in MIST's tables, with the group and the name they have there."""

GALEX_NUV = ("GALEX", "GALEX_NUV")


@dataclass(frozen=True)
class Axes:
    """Nodes of the table: Teff in K, log g, [Fe/H] and A_V in mag."""

    teff: np.ndarray
    log_g: np.ndarray
    metallicity: np.ndarray
    extinction_v: np.ndarray


class CorrectionTables:
    """MIST's tables, cut to the range that stars of the isochrones reach."""

    def __init__(self, folder: Path) -> None:
        self._file = h5py.File(folder / FILE)
        group = self._file["UBVRIplus"]
        rows = group["data"][0]
        teff, log_g, extinction_v = (np.unique(rows[:, i]) for i in (0, 1, 3))
        if set(np.unique(rows[:, 4])) != {np.float32(3.1)}:
            raise SystemExit("the table's R_V is not 3.1 throughout")
        metallicity = group["feh_values"][:]
        self._keep = (
            np.flatnonzero(
                (metallicity >= METALLICITY_RANGE[0]) & (metallicity <= METALLICITY_RANGE[1])
            ),
            np.flatnonzero(teff <= TEFF_LIMIT),
            np.flatnonzero((log_g >= GRAVITY_RANGE[0]) & (log_g <= GRAVITY_RANGE[1])),
        )
        self._full = (teff, log_g, extinction_v)
        self.axes = Axes(
            teff[self._keep[1]].astype(float),
            log_g[self._keep[2]].astype(float),
            metallicity[self._keep[0]].astype(float),
            extinction_v.astype(float),
        )

    def read(self, source: tuple[str, str]) -> np.ndarray:
        """Corrections of a band, mag, over ([Fe/H], Teff, log g, A_V)."""
        group_name, band = source
        group = self._file[group_name]
        column = 5 + [name.decode() for name in group["band_names"][:]].index(band)
        teff, log_g, extinction_v = self._full
        out = np.full((len(self._keep[0]), len(teff), len(log_g), len(extinction_v)), np.nan)
        for i, node in enumerate(self._keep[0]):
            rows = group["data"][node]
            at = [
                np.searchsorted(axis, rows[:, k])
                for axis, k in zip(self._full, (0, 1, 3), strict=True)
            ]
            out[i, at[0], at[1], at[2]] = rows[:, column]
        out = out[:, self._keep[1]][:, :, self._keep[2]]
        if not np.isfinite(out).all():
            raise SystemExit(f"{band}: the table has holes")
        return out


def all_corrections(tables: CorrectionTables, spectra: Spectra) -> dict[str, np.ndarray]:
    """Corrections of every shipped band, mag, over ([Fe/H], Teff, log g, A_V)."""
    bands = {name: tables.read(source) for name, source in DIRECT_BANDS.items()}
    anchors = {**bands, "GALEX_NUV": tables.read(GALEX_NUV)}
    for name, weights, difference in differential_corrections(spectra, tables.axes):
        anchored = sum(weight * anchors[anchor] for anchor, weight in weights.items())
        bands[name] = anchored + difference
    return bands


def cubic_in_extinction(corrections: np.ndarray, extinction_v: np.ndarray) -> np.ndarray:
    """Least-squares cubic in A_V that is exact at A_V = 0.

    Returns
    -------
    array, shape (4, ...)
        The correction c0 + c1 A_V + c2 A_V^2 + c3 A_V^3.
    """
    zero = corrections[..., 0]
    powers = extinction_v[1:, None] ** np.arange(1, 4)
    change = corrections[..., 1:] - zero[..., None]
    solution = np.einsum("ka,...a->k...", np.linalg.pinv(powers), change)
    return np.concatenate([zero[None], solution])


def write_band(group: h5py.Group, name: str, coefficients: np.ndarray) -> None:
    """Write a band's four coefficients, each quantised to 16 bits over its own range."""
    low = coefficients.reshape(4, -1).min(1)
    step = (coefficients.reshape(4, -1).max(1) - low) / 65535
    integers = np.round((coefficients - low[:, None, None, None]) / step[:, None, None, None])
    # Neighbours along Teff are alike: their differences, modulo 2^16, compress best.
    differences = np.diff(integers.astype(np.uint16), axis=2, prepend=np.uint16(0))
    dataset = group.create_dataset(
        name,
        data=differences,
        compression="gzip",
        compression_opts=9,
        shuffle=True,
        chunks=differences.shape,
    )
    dataset.attrs["low"] = low
    dataset.attrs["step"] = step
