"""What a file of images holds, and whether a model of cluster images can read it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from melotte.errors import MelotteError, MelotteValueError, did_you_mean
from melotte.flags import Flag
from melotte.io.image_files import image_format, is_image, merged_header, open_fits, pixels
from melotte.io.image_headers import BandHeader, filter_of, match_bands, read_band_header
from melotte.io.image_stacks import ImageOptions
from melotte.io.light_map_options import OPTION_NAMES
from melotte.io.reprojection import celestial, first_image
from melotte.report.light_map_checks import check_light_maps, first_lines, light_map_bands
from melotte.report.table_checks import SYSTEMS
from melotte.systems.base import Observation
from melotte.systems.cluster_images.system import ImageSystem
from melotte.systems.globular_clusters.system import ClusterMapSystem

PRESETS = ("m83", "m31")
"""Presets that images are tried with, where none is named."""
MAPS = "globular"
"""Preset that is named for images in bands of maps of light."""


def holds_images(path: Path) -> bool:
    """Whether a file is one of images, not of a table or a bank.

    FITS files are, when an extension is an image with pixels or a table has a column of images;
    HDF5 files, when they are no bank and have an array of three axes or more.
    """
    try:
        kind = image_format(path)
    except MelotteError:
        return False
    if kind == "npy":
        return True
    if kind == "hdf5":
        with h5py.File(path, "r") as file:
            deep: list[str] = []
            file.visititems(
                lambda name, node: (
                    deep.append(name) if isinstance(node, h5py.Dataset) and node.ndim >= 3 else None
                )
            )
            return "theta" not in file and bool(deep)
    with open_fits(path) as opened:
        return any(is_image(one) or _has_image_column(one) for one in opened)


def check_images(
    path: Path, *, system: str | None = None, options: Mapping[str, Any] | None = None
) -> str:
    """Read a file of images as ``infer`` does, and say what was found.

    Parameters
    ----------
    path : Path
        Cutouts, a mosaic of one band, or images of a globular cluster.
    system : str, optional
        Preset that is to read them, such as ``"m83"`` or ``"globular"``; told by the bands by
        default.
    options : mapping, optional
        Of the reader, such as ``{"bands": "F336W,F438W,F814W"}``.

    Returns
    -------
    str
        A line on the file, and one for what is wrong with some of its images.

    Raises
    ------
    MelotteFileError, MelotteValueError
        What is wrong, in one line.
    """
    given = dict(options or {})
    reader = None if system is None else _reader(system)
    if system is not None and isinstance(reader, ClusterMapSystem):
        return check_light_maps(path, system, reader.data, given)
    shared = {one.name for one in fields(ImageOptions)}
    of_maps = [name for name in given if name in OPTION_NAMES and name not in shared]
    if system is None and of_maps:
        raise MelotteValueError(
            f"{of_maps[0]!r} is an option of images of globular clusters; say --system {MAPS}"
        )
    header = _mosaic_header(path, given)
    if header is not None:
        return _mosaic_described(path, header, given)
    refused: list[tuple[str, MelotteValueError]] = []
    for name in PRESETS if system is None else (system,):
        try:
            return _cutouts_described(path, name, given)
        except MelotteValueError as error:
            refused.append((name, error))
    if len(refused) == 1:
        raise refused[0][1]
    bands = light_map_bands(path, given)
    if bands:
        return f"{path}: images in {', '.join(bands)}; {_map_reader(bands)}"
    reasons = "; ".join(f"{name}: {_without(str(error), path)}" for name, error in refused)
    raise MelotteValueError(f"{path}: no model reads these images; {reasons}")


def table_reader(preset: str) -> ClusterMapSystem:
    """The system that reads tables of images of globular clusters.

    Parameters
    ----------
    preset : str
        As ``--system`` names it.

    Raises
    ------
    MelotteValueError
        When it reads no such tables.
    """
    system = _known_reader(preset)
    if isinstance(system, ClusterMapSystem):
        return system
    _, maps = _reading_presets()
    raise MelotteValueError(
        f"--system {preset!r} is not one of {', '.join(SYSTEMS)}, of tables of stars and of "
        f"galaxies, nor of {', '.join(maps)}, of tables of images"
        f"{did_you_mean(preset, (*SYSTEMS, *maps))}"
    )


def _cutouts_described(path: Path, preset: str, options: Mapping[str, Any]) -> str:
    system = _image_system(preset)
    n, flags, lost, about = 0, 0, [], {}
    bad, outside = 0, []
    for entry in system.read([path], options):
        if not isinstance(entry, Observation):
            lost.append(f"{entry.id}: {entry.reason}")
            continue
        n += len(entry)
        if entry.flags is not None:
            flags |= int(np.bitwise_or.reduce(entry.flags.numpy()))
            bad += int(((entry.flags & int(Flag.BAD_PIXELS)) > 0).sum())
        about = {
            "scale": float(np.asarray(entry.data["pixel_scale"])[0]),
            "exposure": np.asarray(entry.data["exposure"])[0].tolist(),
        }
        outside.extend(entry.header.get("outside_training", {}).values())
    bands = ", ".join(system.data.bands)
    size = system.data.size
    lines = [
        f"{path}: {n} image{'' if n == 1 else 's'} of {size}x{size} px for {preset}, in {bands}"
    ]
    if about:
        times = ", ".join(f"{one:.0f}" for one in about["exposure"])
        lines[0] += f"; {about['scale']:.4g} arcsec/px, exposures {times} s"
        lines[0] += f"; {bad} with unknown pixels"
    if flags & int(Flag.OUT_OF_RANGE):
        what = ", ".join(dict.fromkeys(outside))
        lines.append(f"  {what}: outside what {preset} was trained on (flag OUT_OF_RANGE)")
    return "\n".join([*lines, *first_lines(lost, "that cannot be used")])


def _image_system(preset: str) -> ImageSystem:
    system = _reader(preset)
    if not isinstance(system, ImageSystem):
        raise MelotteValueError(f"--system {preset!r} reads images of globular clusters")
    return system


def _reader(preset: str) -> ImageSystem | ClusterMapSystem:
    """The system of a preset that reads images."""
    system = _known_reader(preset)
    if system is None:
        images, maps = _reading_presets()
        raise MelotteValueError(
            f"--system {preset!r} does not read images"
            f"{did_you_mean(preset, (*images, *maps))}; {', '.join(images)} read those of clusters "
            f"in other galaxies, {', '.join(maps)} those of globular clusters"
        )
    return system


def _known_reader(preset: str) -> ImageSystem | ClusterMapSystem | None:
    """The system of a preset that reads images; None for another preset, or none."""
    from melotte.systems.registry import build_system, load_preset, preset_names

    if preset not in preset_names() and not preset.endswith((".yaml", ".yml")):
        return None
    system = build_system(load_preset(preset))
    return system if isinstance(system, ImageSystem | ClusterMapSystem) else None


def _reading_presets() -> tuple[list[str], list[str]]:
    """Names of presets that read images of clusters, and of globular clusters."""
    from melotte.systems.registry import preset_names

    systems = {name: _known_reader(name) for name in preset_names()}
    images, maps = (
        [name for name, one in systems.items() if isinstance(one, kind)]
        for kind in (ImageSystem, ClusterMapSystem)
    )
    return images, maps


def _mosaic_header(path: Path, options: Mapping[str, Any]) -> BandHeader | None:
    """Header of a FITS file with a single image of two axes; None for anything else."""
    if image_format(path) != "fits":
        return None
    with open_fits(path) as opened:
        flat = [one for one in opened if is_image(one) and len(one.shape) == 2]
        deep = any(_has_image_column(one) or (is_image(one) and one not in flat) for one in opened)
        several = sum(bool(filter_of(one.name)) or "FILTER" in one.header for one in flat) > 1
        if deep or several or not flat:
            return None
        hdu = first_image(opened, path, str(options.get("hdu", "")))
        header = read_band_header(merged_header(opened, hdu), None, path)
        return ImageOptions.parse(options).of_plane(header, 0, 1)


def _mosaic_described(path: Path, header: BandHeader, options: Mapping[str, Any]) -> str:
    with open_fits(path) as opened:
        hdu = first_image(opened, path, str(options.get("hdu", "")))
        n_rows, n_columns = hdu.shape
        wcs = celestial(hdu, opened, path, needed=False)
        unknown = blank = 0
        for top in range(0, n_rows, 1024):
            part = pixels(hdu, (slice(top, top + 1024), slice(None)), path)
            unknown += int((~np.isfinite(part)).sum())
            blank += int((part == 0).sum())
    total = n_rows * n_columns
    bands = light_map_bands(path, options)
    stated = [
        ", ".join(bands) or header.band or "band not stated",
        f"{header.pixel_scale:.4g} arcsec/px" if header.pixel_scale > 0 else "scale not stated",
        f"unit {header.unit}" if header.unit else "unit not stated",
        f"exposure {header.exposure:.0f} s" if header.exposure > 0 else "exposure not stated",
        "celestial coordinates" if wcs is not None else "no celestial coordinates",
        f"{100 * unknown / total:.1f} % unknown and {100 * blank / total:.1f} % zero pixels",
    ]
    readers = [name for name in PRESETS if header.band and _is_read(header.band, name)]
    line = f"{path}: mosaic of {n_columns}x{n_rows} px: {', '.join(stated)}"
    if readers:
        return f"{line}; one band of {' and of '.join(readers)} (infer --mosaic, --positions)"
    if bands:
        return f"{line}; {_map_reader(bands)}"
    unread = "a band that no shipped preset reads"
    return f"{line}; {unread if header.band else 'name the band with --option bands=F336W'}"


def _map_reader(bands: Sequence[str]) -> str:
    """What reads images in bands of maps of light."""
    if "V" in bands or {"g", "r"} <= set(bands):
        what = f"{MAPS} reads {'it' if len(bands) == 1 else 'them'}"
    else:
        what = f"{MAPS} reads V, V and B, or g and r"
    return f"{what} (infer {MAPS}; check --system {MAPS} says more)"


def _is_read(band: str, preset: str) -> bool:
    try:
        return any(
            place is not None
            for place in match_bands([band], _image_system(preset).data.bands, "", True)
        )
    except MelotteValueError:
        return False


def _has_image_column(hdu: Any) -> bool:
    """Whether a table has a column whose cells have two axes or more."""
    columns = getattr(hdu, "columns", None)
    if columns is None:
        return False
    return any("," in str(one.dim or "") and "A" not in str(one.format) for one in columns)


def _without(message: str, path: Path) -> str:
    return message.removeprefix(str(path)).lstrip(": ,")
