"""Build ``src/melotte/data/remnants.h5`` with COSMIC's single stars: see README.md beside this."""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import tempfile
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path

import h5py
import numpy as np

VERSION = 1
COSMIC_VERSION = "4.3.3"
SOLAR_METAL_FRACTION = 0.0185
"""Z of [Fe/H] = 0: that of the shipped isochrones, whose clock the table stands beside."""

METALLICITIES = np.linspace(-2.25, 0.20, 26)
"""[Fe/H] of the nodes: Z of 1.04e-4 to 0.0293; SSE holds for 1e-4 to 0.03."""

SMALLEST_MASS, LARGEST_MASS = 0.08, 150.0
DWARFS_BELOW = 0.5
N_DWARFS, N_STARS = 12, 400
"""Initial masses a node below and above :data:`DWARFS_BELOW`, before boundaries are sought."""

LONGEST_LIFE, LONGEST_DWARF_LIFE = 2e5, 1e8
"""Myr; SSE's steps make the end of the run cost as much as the star's life."""

BOUNDARY_WIDTH = 1e-4
"""Relative width to which the initial masses between two branches are known."""

TOLERANCES = {"remnant_mass": 2e-3, "log_lifetime": 1e-3, "fallback": 3e-3}
"""Largest error of linear interpolation in log mass: relative, dex, absolute."""

FLAGS = {
    "windflag": 3,
    "LBV_flag": 2,
    "eddlimflag": 0,
    "neta": 0.5,
    "zsun": 0.02,
    "ifflag": 0,
    "ecsn": 2.25,
    "ecsn_mlow": 1.6,
    "remnantflag": 3,
    "rembar_massloss": -0.1,
    "mxns": 3.0,
    "pisn": 45.0,
    "kickflag": 1,
    "bhflag": 1,
    "sigma": 265.0,
    "sigmadiv": -20.0,
    "rtmsflag": 0,
}
"""What is set of COSMIC; all else is the package's default.

Winds of Vink with luminous blue variables at 1.5e-4 Msun/yr, no initial-final mass relation of Han
(white dwarfs are SSE's cores), electron capture for helium cores of 1.6 to 2.25 Msun.
"""

PROTO_MASS = 1.0
ELECTRON_CAPTURE_CORE = 1.38
LARGEST_NEUTRON_STAR = 3.0
PULSATIONS_FROM, DISRUPTION_FROM, DISRUPTION_TO = 45.0, 65.0, 135.0

BRANCHES = {
    "helium white dwarf": 10,
    "carbon-oxygen white dwarf": 11,
    "oxygen-neon white dwarf": 12,
    "electron-capture neutron star": 13,
    "core-collapse neutron star": 13,
    "black hole, CO core below 7": 14,
    "black hole, CO core 7 to 11": 14,
    "black hole, CO core above 11": 14,
    "black hole after pulsations": 14,
    "pair-instability supernova": 15,
}
"""Kinds (kw) of the branches; a branch's number is its place here, 16 more for stripped stars."""

STRIPPED = 16

CITATIONS = (
    "Hurley, Pols & Tout 2000, MNRAS 315, 543 (SSE)",
    "Breivik et al. 2020, ApJ 898, 71 (COSMIC)",
    "Vink, de Koter & Lamers 2001, A&A 369, 574; Belczynski et al. 2010, ApJ 714, 1217 (winds)",
    "Fryer et al. 2012, ApJ 749, 91, Eqs. 13-16 (rapid supernovae)",
    "Belczynski et al. 2016, A&A 594, A97 (pair instability)",
    "Kremer et al. 2020, ApJS 247, 48 (choice of all these for the CMC catalogue)",
)


@dataclass
class Fates:
    """What stars leave behind, ordered by node of metallicity, then by initial mass."""

    node: np.ndarray
    initial_mass: np.ndarray
    branch: np.ndarray
    remnant_mass: np.ndarray
    log_lifetime: np.ndarray
    fallback: np.ndarray

    def joined(self, other: Fates) -> Fates:
        """Both, in order."""
        pairs = zip(vars(self).values(), vars(other).values(), strict=True)
        values = [np.concatenate(pair) for pair in pairs]
        order = np.lexsort((values[1], values[0]))
        return Fates(*(value[order] for value in values))

    def select(self, chosen: np.ndarray) -> Fates:
        """Some of them."""
        return Fates(*(value[chosen] for value in vars(self).values()))


def main() -> None:
    """Evolve, find the boundaries, thin, write."""
    here = Path(__file__).resolve().parent
    parser = argparse.ArgumentParser(description=__doc__)
    default = here.parent / "src" / "melotte" / "data" / "remnants.h5"
    parser.add_argument("--output", type=Path, default=default)
    arguments = parser.parse_args()
    output = arguments.output.resolve()
    found = version("cosmic-popsynth")
    if found != COSMIC_VERSION:
        raise SystemExit(f"cosmic-popsynth is {found}, must be {COSMIC_VERSION}")

    dwarfs = np.geomspace(SMALLEST_MASS, DWARFS_BELOW, N_DWARFS, endpoint=False)
    masses = np.concatenate([dwarfs, np.geomspace(DWARFS_BELOW, LARGEST_MASS, N_STARS)])
    nodes = np.repeat(np.arange(len(METALLICITIES)), len(masses))
    fates = resolved(evolve(nodes, np.tile(masses, len(METALLICITIES))))
    make_lifetimes_fall(fates)
    fates = thinned(fates)
    for node, metallicity in enumerate(METALLICITIES):
        one = fates.select(fates.node == node)
        starts = np.flatnonzero(np.diff(one.branch, prepend=-1))
        runs = ", ".join(f"{one.initial_mass[i]:.2f}: {one.branch[i]}" for i in starts)
        print(f"[Fe/H] {metallicity:6.3f}, {len(one.branch):3d} masses, branches from {runs}")
    write(fates, output)
    print(f"{output}: {output.stat().st_size / 1e3:.1f} kB")


def evolve(node: np.ndarray, initial_mass: np.ndarray) -> Fates:
    """Evolve single stars to their ends."""
    from cosmic.evolve import Evolve
    from cosmic.sample.initialbinarytable import InitialBinaryTable

    n = len(initial_mass)
    table = InitialBinaryTable.InitialBinaries(
        m1=initial_mass,
        m2=np.zeros(n),
        porb=-np.ones(n),
        ecc=-np.ones(n),
        tphysf=np.where(initial_mass < DWARFS_BELOW, LONGEST_DWARF_LIFE, LONGEST_LIFE),
        kstar1=np.where(initial_mass < 0.7, 0, 1),
        kstar2=np.full(n, 15),
        metallicity=SOLAR_METAL_FRACTION * 10.0 ** METALLICITIES[node],
    )
    with (
        warnings.catch_warnings(),
        contextlib.redirect_stdout(io.StringIO()),
        tempfile.TemporaryDirectory() as scratch,
        contextlib.chdir(scratch),  # COSMIC leaves a file fort.99 where it runs
    ):
        warnings.simplefilter("ignore")
        phases, *_ = Evolve.evolve(
            initialbinarytable=table,
            BSEDict=settings(),
            SSEDict={"stellar_engine": "sse"},
            pool=InProcess(),
            nproc=1,
            randomseed=1,
        )
    every = range(n)
    remnant = phases[phases.kstar_1 >= 10].groupby("bin_num").first().reindex(every)
    collapse = phases[phases.evol_type == 15].groupby("bin_num").first().reindex(every)
    return classified(node, initial_mass, remnant, collapse)


class InProcess:
    """What COSMIC asks of a pool, without another process."""

    def map(self, function, items):
        """Apply a function to all items."""
        return [function(item) for item in items]


def settings() -> dict[str, object]:
    """COSMIC's defaults, with :data:`FLAGS` over them."""
    text = (files("cosmic") / "data" / "cosmic-settings.json").read_text(encoding="utf-8")
    values: dict[str, object] = {}
    for category in json.loads(text):
        if category["category"] != "bse":
            continue
        for setting in category["settings"]:
            chosen = next(option["name"] for option in setting["options"] if option.get("default"))
            values[setting["name"]] = _number(chosen)
    return values | FLAGS


def _number(text: object) -> object:
    if not isinstance(text, str):
        return text
    if not text.startswith("["):
        return float(text)
    # The only expression in COSMIC's own lists is the fraction 2.0/21.0.
    return json.loads(text.replace("2.0/21.0", repr(2.0 / 21.0)))


def classified(node: np.ndarray, initial_mass: np.ndarray, remnant, collapse) -> Fates:
    """Branch, mass and fallback from the states before and after the end.

    White dwarfs are as COSMIC gives them. Collapses are computed here, from COSMIC's masses of
    star and carbon-oxygen core just before, by Fryer et al. 2012, Eqs. 15-16 with their
    proto-remnant of 1.0 Msun: COSMIC itself has 1.1 Msun of a later paper, the CMC catalogue 1.0.
    """
    kind = remnant.kstar_1.to_numpy()
    star = collapse.mass_1.to_numpy()
    carbon_oxygen = collapse.massc_co_layer_1.to_numpy()
    helium_core = carbon_oxygen + collapse.massc_he_layer_1.to_numpy()
    electron_capture = (kind == 13) & np.isclose(
        remnant.mass_1.to_numpy(), 0.9 * ELECTRON_CAPTURE_CORE
    )
    fallback = rapid_fallback(star, carbon_oxygen)
    baryonic = PROTO_MASS + fallback * (star - PROTO_MASS)
    baryonic = np.where(electron_capture, ELECTRON_CAPTURE_CORE, baryonic)
    neutron_star = (np.sqrt(1 + 0.3 * baryonic) - 1) / 0.15
    collapsed = np.isfinite(star)
    is_black_hole = collapsed & (neutron_star > LARGEST_NEUTRON_STAR)

    pulsates = is_black_hole & (helium_core >= PULSATIONS_FROM) & (helium_core < DISRUPTION_FROM)
    disrupted = is_black_hole & (helium_core >= DISRUPTION_FROM) & (helium_core < DISRUPTION_TO)
    mass = np.where(collapsed, np.where(is_black_hole, 0.9 * baryonic, neutron_star), 0.0)
    mass = np.where(collapsed, mass, remnant.mass_1.to_numpy())
    mass = np.where(pulsates, 0.9 * PULSATIONS_FROM, np.where(disrupted, 0.0, mass))

    branch = np.select(
        [
            disrupted,
            pulsates,
            is_black_hole & (carbon_oxygen >= 11),
            is_black_hole & (carbon_oxygen >= 7),
            is_black_hole,
            electron_capture,
            collapsed,
            kind == 12,
            kind == 11,
        ],
        [9, 8, 7, 6, 5, 3, 4, 2, 1],
        default=0,
    )
    stripped = collapsed & (collapse.kstar_1.to_numpy() >= 7)
    fallback = np.where(electron_capture | ~collapsed | disrupted, 0.0, fallback)
    return Fates(
        node,
        initial_mass,
        branch + STRIPPED * stripped,
        mass,
        np.log10(remnant.tphys.to_numpy()),
        np.where(pulsates, 1.0, fallback),
    )


def rapid_fallback(star: np.ndarray, core: np.ndarray) -> np.ndarray:
    """Fraction of the envelope that falls back, Fryer et al. 2012, Eq. 16."""
    above = star - PROTO_MASS
    slope = 0.25 - 1.275 / above
    return np.select(
        [core < 2.5, core < 6, core < 7, core < 11],
        [0.2 / above, (0.286 * core - 0.514) / above, 1.0, slope * core + 1 - 11 * slope],
        default=1.0,
    )


def resolved(fates: Fates) -> Fates:
    """Bisect every change of branch down to :data:`BOUNDARY_WIDTH`."""
    while True:
        mass = fates.initial_mass
        wide = np.diff(np.log(mass)) > BOUNDARY_WIDTH
        changes = np.flatnonzero((np.diff(fates.branch) != 0) & (np.diff(fates.node) == 0) & wide)
        print(f"{len(changes)} boundaries to halve")
        if not len(changes):
            return fates
        middle = np.sqrt(mass[changes] * mass[changes + 1])
        fates = fates.joined(evolve(fates.node[changes], middle))


def make_lifetimes_fall(fates: Fates) -> None:
    """Lifetimes that never rise with initial mass, in place.

    SSE's rise by up to 0.005 dex where stars of 0.7 to 0.85 Msun begin to keep their envelopes
    through helium burning (ages above 14 Gyr), and by less at other changes of branch: there the
    longer lives are cut.
    """
    largest = 0.0
    for node in range(len(METALLICITIES)):
        chosen = fates.node == node
        lives = fates.log_lifetime[chosen]
        falling = np.minimum.accumulate(lives)
        largest = max(largest, float((lives - falling).max()))
        fates.log_lifetime[chosen] = falling
    print(f"lifetimes cut by at most {largest:.4f} dex")


def thinned(fates: Fates) -> Fates:
    """Drop what linear interpolation in log mass within a branch gives back."""
    kept = np.zeros(len(fates.branch), bool)
    ends = np.flatnonzero((np.diff(fates.branch) != 0) | (np.diff(fates.node) != 0)) + 1
    for start, stop in zip([0, *ends], [*ends, len(kept)], strict=True):
        _keep(fates, int(start), int(stop) - 1, kept)
    return fates.select(kept)


def _keep(fates: Fates, first: int, last: int, kept: np.ndarray) -> None:
    """Mark the ends of a stretch, and of the two that it must be cut into."""
    kept[[first, last]] = True
    if last - first < 2:
        return
    inside = slice(first, last + 1)
    log_mass = np.log(fates.initial_mass[inside])
    worst = np.zeros(last - first + 1)
    for name, tolerance in TOLERANCES.items():
        values = getattr(fates, name)[inside]
        line = np.interp(log_mass, log_mass[[0, -1]], values[[0, -1]])
        scale = np.maximum(values, 1e-3) if name == "remnant_mass" else 1.0
        np.maximum(worst, np.abs(values - line) / scale / tolerance, out=worst)
    if worst.max() > 1:
        cut = first + int(worst.argmax())
        _keep(fates, first, cut, kept)
        _keep(fates, cut, last, kept)


def write(fates: Fates, path: Path) -> None:
    """One stretch of rows a metallicity, one after another."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    with h5py.File(partial, "w", libver="latest") as file:
        file["metallicity"] = METALLICITIES
        file["offsets"] = np.searchsorted(fates.node, np.arange(len(METALLICITIES) + 1))
        for name, kind in {
            "initial_mass": np.float32,
            "remnant_mass": np.float32,
            "log_lifetime": np.float32,
            "fallback": np.float32,
            "branch": np.int8,
        }.items():
            values = getattr(fates, name).astype(kind)
            file.create_dataset(name, data=values, compression="gzip", shuffle=True)
        file["branch_kinds"] = np.array(list(BRANCHES.values()), np.int8)
        file.attrs["version"] = VERSION
        file.attrs["provenance"] = json.dumps(
            {
                "package": f"cosmic-popsynth {COSMIC_VERSION}",
                "licence": "COSMIC is under the GPL; this file holds numbers that it put out",
                "flags": FLAGS,
                "collapse": "Fryer et al. 2012, Eqs. 13-16, from COSMIC's masses before collapse",
                "solar_metal_fraction": SOLAR_METAL_FRACTION,
                "tolerances": TOLERANCES,
                "branches": list(BRANCHES),
                "stripped": STRIPPED,
                "units": {
                    "initial_mass": "Msun",
                    "remnant_mass": "Msun",
                    "log_lifetime": "dex Myr",
                },
                "citations": CITATIONS,
            }
        )
    partial.replace(path)


if __name__ == "__main__":
    main()
