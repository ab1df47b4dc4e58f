"""M13: the light of a real image, and a model's mass, beside counted stars.

The counts are GCfit's number density profile (of de Boer et al. 2019, MNRAS 485, 4906: Gaia, Hubble
and ground-based stars on one scale). Their unit is not that of light, so a factor and a level of
the sky are fitted between 0.3 arcmin, within which few giants are much of the light, and the
image's edge. What is left is the difference in shape, in dex. A map of mass has a factor
alone. Centre and sky are found as `melotte infer` finds them.

    python benchmarks/m13_profile.py --data DIR [--model globular] [--json out.json]
"""

from __future__ import annotations

import argparse
import json
import warnings
from itertools import pairwise
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import proj_plane_pixel_scales
from numpy.typing import NDArray

import melotte
from melotte.engine.json_values import plain_json
from melotte.flags import decode_flags
from melotte.telescope.cluster_centres import centre_of_light
from melotte.telescope.map_measurements import sky_level

Array = NDArray[np.float64]

INNERMOST = 0.3
"""Arcmin."""
N_RINGS, N_SECTORS = 10, 8
OPTIONS = {"bands": "V", "zero_point": 22.4, "extinction_v": 0.06}
"""The image states no zero point: this one makes its light the catalogue's, V = 5.78."""
DISTANCE = 7.1
"""kpc: Baumgardt & Vasiliev 2021, MNRAS 505, 5957."""


def counted_stars(path: Path) -> tuple[Array, Array, Array]:
    """Radii (arcmin), numbers an arcmin^2 without the field's, and their errors."""
    with h5py.File(path) as read:
        group = read["number_density"]
        radius, density, error = (np.asarray(group[name], float) for name in ("r", "Σ", "ΔΣ"))
        return radius, density - float(group.attrs["background"]), error


def in_rings(radius: Array, density: Array, error: Array, edges: Array) -> tuple[Array, Array]:
    """Density in rings by a power law between the points about each, and its error."""
    found, spread = [], []
    for low, high in pairwise(edges):
        near = (radius > low / 1.3) & (radius < high * 1.3) & (density > 0)
        if near.sum() < 3:
            found.append(np.nan)
            spread.append(np.nan)
            continue
        middle = np.log(np.sqrt(low * high))
        weight = density[near] / error[near]
        fit, covariance = np.polyfit(
            np.log(radius[near]) - middle, np.log(density[near]), 1, w=weight, cov="unscaled"
        )
        found.append(np.exp(fit[1]))
        spread.append(found[-1] * np.sqrt(covariance[1, 1]))
    return np.array(found), np.array(spread)


def ring_means(image: Array, centre: tuple[float, float], edges: Array) -> tuple[Array, Array]:
    """Mean of an image in rings (edges in pixels), and its error from sectors of each."""
    rows, columns = np.indices(image.shape)
    across, down = columns - centre[0], rows - centre[1]
    radius = np.hypot(across, down)
    sector = ((np.arctan2(down, across) / (2 * np.pi) + 0.5) * N_SECTORS).astype(int) % N_SECTORS
    means, errors = [], []
    for low, high in pairwise(edges):
        inside = (radius >= low) & (radius < high) & np.isfinite(image)
        parts = [
            image[inside & (sector == one)].mean()
            for one in range(N_SECTORS)
            if (inside & (sector == one)).any()
        ]
        means.append(float(image[inside].mean()) if inside.any() else np.nan)
        errors.append(float(np.std(parts, ddof=1) / np.sqrt(len(parts))) if parts[1:] else np.nan)
    return np.array(means), np.array(errors)


def compared(
    values: Array, errors: Array, counts: Array, used: NDArray[np.bool_], with_level: bool
) -> tuple[float, float, Array]:
    """Factor and level that make ``values`` of counts, and what is left, dex."""
    columns = [counts, np.ones_like(counts)][: 2 if with_level else 1]
    design = np.stack(columns, 1)[used] / errors[used, None]
    factor, *rest = np.linalg.lstsq(design, values[used] / errors[used])[0].tolist()
    level = rest[0] if rest else 0.0
    with np.errstate(invalid="ignore", divide="ignore"):
        left = np.log10((values - level) / (factor * counts))
    return factor, level, left


def light(image_path: Path, profile: tuple[Array, Array, Array]) -> dict[str, Any]:
    """Rings of the image beside the counts."""
    with fits.open(image_path) as opened:
        image = np.asarray(opened[0].data, float)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            scale = float(np.mean(proj_plane_pixel_scales(WCS(opened[0].header)))) * 60
    found = centre_of_light(image)
    centre = (found.column, found.row)
    sky = sky_level(image, centre)
    edges = np.geomspace(0.1, 0.5 * min(image.shape) * scale, N_RINGS + 1)
    means, errors = ring_means(image - sky, centre, edges / scale)
    return {"sky": sky, "centre": centre, **_beside(means, errors, profile, edges, True)}


def mass(image_path: Path, model: str, profile: tuple[Array, Array, Array]) -> dict[str, Any]:
    """Rings of a model's median map of mass beside the counts, and what the model says."""
    result = melotte.infer(
        model, [str(image_path)], options=OPTIONS, known={"distance": DISTANCE}, maps=True, seed=1
    )
    (name,), (layers,) = result.ids, result.maps
    (image,) = [one.values.astype(float) for one in layers if one.name == "mass"]
    scale = result.header["light_maps"][name]["pixel_scale"] / 60
    edges = np.geomspace(0.1, 0.5 * min(image.shape) * scale, N_RINGS + 1)
    middle = ((image.shape[1] - 1) / 2, (image.shape[0] - 1) / 2)
    means, errors = ring_means(image, middle, edges / scale)
    flags = decode_flags(int(result.flags[0]))
    return {"flags": flags, **_beside(means, errors, profile, edges, False)}


def _beside(
    means: Array, errors: Array, profile: tuple[Array, Array, Array], edges: Array, level: bool
) -> dict[str, Any]:
    counts, spread = in_rings(*profile, edges)
    # Both errors count, the counts' as part of them.
    total = np.hypot(errors, means * spread / counts)
    used = np.isfinite(total) & (edges[:-1] >= INNERMOST) & (means > 0)
    factor, offset, left = compared(means, total, counts, used, level)
    rows = [
        {"from": low, "to": high, "value": value, "error": error, "counts": count, "left": one}
        for low, high, value, error, count, one in zip(
            edges[:-1], edges[1:], means, total, counts, left, strict=True
        )
    ]
    rms = float(np.sqrt(np.nanmean(left[used] ** 2)))
    return {"factor": factor, "level": offset, "rms_dex": rms, "rings": rows}


def print_rings(title: str, found: dict[str, Any], unit: str) -> None:
    """A table of rings, and what they come to."""
    print(f"\n{title}")
    print(f"{'ring, arcmin':>14} {unit:>14} {'error':>9} {'stars/arcmin2':>14} {'left, dex':>10}")
    for ring in found["rings"]:
        print(
            f"{ring['from']:6.2f} to {ring['to']:4.2f} {ring['value']:14.4g} {ring['error']:9.2g} "
            f"{ring['counts']:14.5g} {ring['left']:10.3f}"
        )
    level = f", a level of {found['level']:.3g}" if found["level"] else ""
    print(f"factor {found['factor']:.4g}{level}; rms of what is left {found['rms_dex']:.3f} dex")


def main() -> None:
    """Compare, print and write."""
    parser = argparse.ArgumentParser(description="M13 beside counted stars")
    parser.add_argument("--data", type=Path, required=True, help="folder that holds globular/")
    parser.add_argument("--model", default="globular", help='name or file; "none" for light alone')
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    image = given.data / "globular" / "m13.fits"
    profile = counted_stars(given.data / "globular" / "profiles" / "NGC6205.hdf")
    found: dict[str, Any] = {"light": light(image, profile)}
    centre = found["light"]["centre"]
    print(f"centre at column {centre[0]:.1f}, row {centre[1]:.1f}; sky {found['light']['sky']:.2f}")
    print_rings("light, counts a pixel above the sky", found["light"], "counts/px")
    if given.model != "none":
        found["mass"] = mass(image, given.model, profile)
        print_rings(f"mass, median of {given.model}", found["mass"], "Msun/px")
        print("flags:", ", ".join(found["mass"]["flags"]) or "none")
    if given.json:
        given.json.write_text(json.dumps(plain_json(found, "m13")) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
