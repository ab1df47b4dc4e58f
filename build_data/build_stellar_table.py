"""Build ``src/melotte/data/stellar_table.h5`` from pinned packages: see README.md beside this."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import h5py
import numpy as np
from bolometric_corrections import (
    DIRECT_BANDS,
    CorrectionTables,
    all_corrections,
    cubic_in_extinction,
    write_band,
)
from hst_bands import HST_BANDS, read_spectra
from isochrone_cube import read_cube, write_cube
from package_inputs import PACKAGES, fetch

VERSION = 1
METALLICITY_OFFSET = float(np.log10(0.0185 / 0.0142))
"""[Fe/H] of the corrections minus that of the isochrones: their solar Z are 0.0142 and 0.0185."""

CITATIONS = (
    "Dotter 2016, ApJS 222, 8",
    "Choi et al. 2016, ApJ 823, 102",
    "Paxton et al. 2011, ApJS 192, 3; 2013, ApJS 208, 4; 2015, ApJS 220, 15",
    "Castelli & Kurucz 2003, IAU Symp. 210, A20",
    "Cardelli, Clayton & Mathis 1989, ApJ 345, 245",
    "Bohlin 2014, AJ 147, 127 (Vega)",
)


def main() -> None:
    """Fetch, check, compute, write."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=Path, default=here.parent / "build" / "inputs")
    parser.add_argument(
        "--output",
        type=Path,
        default=here.parent / "src" / "melotte" / "data" / "stellar_table.h5",
    )
    arguments = parser.parse_args()
    packages = fetch(arguments.inputs)

    cube = read_cube(packages["lachesis-grids"])
    tables = CorrectionTables(packages["astrolachesis"])
    spectra = read_spectra(packages["SEDFit"], packages["hostphot"], packages["astro-sedpy"])
    print("band                 pivot    AB-Vega  cubic in A_V over 0-6: largest, 99 %")
    bands = all_corrections(tables, spectra)
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    partial = arguments.output.with_suffix(".partial")
    with h5py.File(partial, "w", libver="latest") as file:
        write_cube(cube, file.create_group("isochrones"))
        group = file.create_group("corrections")
        axes = tables.axes
        group["teff"], group["log_g"] = axes.teff, axes.log_g
        group["metallicity"] = axes.metallicity
        group.attrs["extinction_v_range"] = [axes.extinction_v[0], axes.extinction_v[-1]]
        group.attrs["metallicity_offset"] = METALLICITY_OFFSET
        stored = group.create_group("bands")
        for name, corrections in bands.items():
            coefficients = cubic_in_extinction(corrections, axes.extinction_v)
            write_band(stored, name, coefficients)
            stored[name].attrs["zero_point"] = "AB" if name.startswith("PS_") else "Vega"
            stored[name].attrs["source"] = _source(name)
            _print_quality(name, corrections, coefficients, axes.extinction_v, spectra.passbands)
        file.attrs["version"] = VERSION
        file.attrs["provenance"] = json.dumps(
            {
                "inputs": [vars(package) for package in PACKAGES],
                "citations": CITATIONS,
                "isochrones": "MIST v2.5, v/vcrit = 0.4, EEPs 1-1408",
                "extinction": "CCM89, R_V = 3.1",
            }
        )
    partial.replace(arguments.output)
    print(f"{arguments.output}: {arguments.output.stat().st_size / 1e6:.2f} MB")


def _source(name: str) -> str:
    if name in DIRECT_BANDS:
        return "MIST bolometric corrections"
    weights = " + ".join(f"{weight:g} {band}" for band, weight in HST_BANDS[name][1].items())
    return f"{weights} of MIST, difference by ATLAS9 spectra"


def _print_quality(name, corrections, coefficients, extinction_v, passbands) -> None:
    powers = extinction_v[:, None] ** np.arange(4)
    error = np.abs(np.einsum("ak,k...->...a", powers, coefficients) - corrections)
    known = passbands.get(name)
    text = f"{known.pivot:8.1f} {known.ab_minus_vega:8.3f}" if known else " " * 17
    print(f"{name:18s} {text}  {error.max():.4f} {np.percentile(error, 99):.4f}")


if __name__ == "__main__":
    main()
