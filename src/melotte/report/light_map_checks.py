"""What images of globular clusters hold, as a model of them reads them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteError
from melotte.flags import Flag
from melotte.io.image_files import image_format
from melotte.io.image_stacks import RejectedImage
from melotte.io.light_map_options import LightMapOptions
from melotte.io.light_maps import LightImages, read_light_maps
from melotte.io.light_planes import FLUX_ZERO_POINT, light_planes, plane_bands
from melotte.systems.base import Observation, RowError
from melotte.systems.globular_clusters.reading import clusters, parameter_units
from melotte.systems.globular_clusters.settings import DataSettings

SHOWN = 3
"""Objects that are named, of those with something to say of them."""

_VEGA = ("V", "B")


@dataclass(frozen=True)
class _Cluster:
    """A cluster that can be read, without its images."""

    id: str
    bands: tuple[str, ...]
    shape: tuple[int, int]
    pixel_scale: float
    placed: bool
    listed: bool
    stated_width: bool
    needs_extinction: bool
    observation: Observation

    @property
    def notes(self) -> Mapping[str, Any]:
        return self.observation.header["light_maps"][self.id]

    @property
    def remarks(self) -> list[str]:
        return list(self.observation.header.get("remarks", {}).get(self.id, []))

    @property
    def holed(self) -> bool:
        assigned = self.observation.flags
        return assigned is not None and bool(int(assigned) & int(Flag.BAD_PIXELS))


def check_light_maps(
    path: Path, preset: str, data: DataSettings, options: Mapping[str, Any]
) -> str:
    """Read a cluster's image, or a table of images, as ``infer`` does; say what was found.

    An extinction that is missing is named and does not stop the check.

    Parameters
    ----------
    path : Path
        FITS image, or a table that lists images.
    preset : str
        Name of what reads them, for the text.
    data : DataSettings
        Its settings.
    options : mapping
        See :class:`melotte.io.light_map_options.LightMapOptions`.

    Returns
    -------
    str
        A line on the file, and one for each thing that was understood or is wrong.

    Raises
    ------
    MelotteFileError, MelotteValueError
        What is wrong, in one line.
    """
    found = list(_clusters(path, data, options))
    first = found[0] if len(found) == 1 else None
    if isinstance(first, _Cluster) and not first.listed:
        return "\n".join(_image_lines(path, preset, first, data, options))
    return "\n".join(_table_lines(path, preset, found))


def light_map_bands(path: Path, options: Mapping[str, Any]) -> tuple[str, ...]:
    """Bands of a FITS file, where all of them are bands of maps of light; else none."""
    try:
        if image_format(path) != "fits":
            return ()
        return tuple(plane_bands(path, LightMapOptions.parse(options)))
    except MelotteError:
        return ()


def first_lines(lines: Sequence[str], others: str) -> list[str]:
    """The first few lines, and how many ``others`` there are."""
    shown = [f"  {one}" for one in lines[:SHOWN]]
    if len(lines) > SHOWN:
        shown.append(f"  and {len(lines) - SHOWN} more {others}")
    return shown


def _clusters(
    path: Path, data: DataSettings, options: Mapping[str, Any]
) -> Iterator[_Cluster | RowError]:
    """Clusters of a file, one at a time; without dust where infer needs an extinction."""
    needing: set[str] = set()

    def clear(images: LightImages | RejectedImage) -> LightImages | RejectedImage:
        if isinstance(images, RejectedImage) or not math.isnan(images.options.extinction_v):
            return images
        needing.add(images.id)
        options = replace(images.options, extinction_v=0.0, extinction_error=math.nan)
        return replace(images, options=options)

    entries: Iterable[LightImages | RejectedImage] = read_light_maps(
        [path], options, parameter_units(data)
    )
    if data.extinction.mean > 0:
        entries = map(clear, entries)
    for found in clusters(entries, data):
        if isinstance(found, RowError):
            yield found
        else:
            yield _described(*found, found[0].id in needing)


def _described(images: LightImages, observation: Observation, needed: bool) -> _Cluster:
    return _Cluster(
        images.id,
        images.bands,
        (int(images.images.shape[1]), int(images.images.shape[2])),
        images.pixel_scale,
        images.wcs is not None,
        images.listed,
        math.isfinite(images.psf_fwhm) and math.isnan(images.options.psf_fwhm),
        needed,
        observation,
    )


def _image_lines(
    path: Path, preset: str, one: _Cluster, data: DataSettings, options: Mapping[str, Any]
) -> list[str]:
    """What was understood of a single image."""
    rows, columns = one.shape
    notes = one.notes
    coordinates = "celestial coordinates" if one.placed else "no celestial coordinates"
    levels = [float(level) for level in notes["sky"].split(",")]
    factors, units = _units(path, one, options)
    sky = ", ".join(
        f"{band} {level / factor:.5g}{_brightness(level, one.pixel_scale)}"
        for (band, factor), level in zip(factors.items(), levels, strict=True)
    )
    seeing = "stated in the header" if one.stated_width else notes["psf_fwhm_from"]
    lines = [
        f"{path}: {columns}x{rows} px of {one.pixel_scale:.4g} arcsec in "
        f"{' and '.join(one.bands)}, {coordinates}; read by {preset}",
        f"zero point: {units}",
        f"sky: {sky} a pixel, {notes['sky_from']}",
    ]
    if data.noise != "none":
        lines.append(f"noise: {_noise(one, data, factors)}, {notes['noise_from']}")
    lines += [
        f"seeing: {notes['psf_fwhm']:.3g} arcsec, {seeing}",
        f"centre: column {notes['x']:.1f}, row {notes['y']:.1f} from 0, {notes['centre_from']}",
        f"map: {_map(one)}",
    ]
    if "dispersions" in notes:
        lines.append(f"dispersions: {notes['dispersions']}")
    lines += one.remarks
    if one.needs_extinction:
        lines.append("extinction_v is not given; infer needs it: --option extinction_v=A_V, in mag")
    return [lines[0], *(f"  {line}" for line in lines[1:])]


def _units(path: Path, one: _Cluster, options: Mapping[str, Any]) -> tuple[dict[str, float], str]:
    """Flux of one of the image's units in each band, and its magnitude in words."""
    factors, said = {}, {}
    for plane in light_planes(path, LightMapOptions.parse(options)):
        header, band = plane.header, plane.band
        unit = header.unit or "unit (not stated, so taken as a rate)"
        timed = f" of {header.exposure:g} s" if math.isfinite(header.exposure) else ""
        magnitude = FLUX_ZERO_POINT - 2.5 * math.log10(plane.factor)
        system = "Vega" if band in _VEGA else "AB"
        factors[band] = plane.factor
        said[band] = f"1 {unit}{timed} is {band} = {magnitude:.2f} mag ({system})"
    return {band: factors[band] for band in one.bands}, "; ".join(said[band] for band in one.bands)


def _brightness(flux: float, pixel_scale: float) -> str:
    """Surface brightness of a flux in a pixel, between brackets; none for what is not positive."""
    if flux <= 0:
        return ""
    return f" ({FLUX_ZERO_POINT - 2.5 * math.log10(flux / pixel_scale**2):.2f} mag/arcsec2)"


def _noise(one: _Cluster, data: DataSettings, factors: Mapping[str, float]) -> str:
    """Standard deviation in a pixel of the map, in each band that there is."""
    scale = float(one.notes["pixel_scale"])
    levels = one.observation.data["noise"][0].tolist()
    found = {band: level for band, level in zip(data.bands, levels, strict=True) if level == level}
    # What is made of g and r has no unit of its own.
    said = (
        f"{band} {level / factors[band]:.3g}" if band in factors else band
        for band, level in found.items()
    )
    bright = (_brightness(level, scale) for level in found.values())
    return ", ".join(map("".join, zip(said, bright, strict=True))) + " a pixel of the map"


def _map(one: _Cluster) -> str:
    """Size of the map that the network reads, what of it is unknown, and where it lies."""
    flux = np.asarray(one.observation.data["flux"][0])
    unknown = np.isnan(flux[np.isfinite(flux).any((1, 2))]).any(0)
    share = f"{100 * float(unknown.mean()):.1f} % of pixels unknown"
    if one.holed and not unknown.any():
        share = "some pixels unknown, filled from around"
    scale = float(one.notes["pixel_scale"])
    text = (
        f"{flux.shape[2]}x{flux.shape[1]} px of {scale:.4g} arcsec ({one.notes['pixels']}), {share}"
    )
    header = one.observation.header
    if "ra" in header:
        text += f", about ra {header['ra'][0]:.5f}, dec {header['dec'][0]:.5f}"
    return text


def _table_lines(path: Path, preset: str, found: Sequence[_Cluster | RowError]) -> list[str]:
    """What was understood of a table of images."""
    good = [one for one in found if isinstance(one, _Cluster)]
    lost = [one for one in found if isinstance(one, RowError)]
    line = f"{path}: {len(good)} of {len(found)} clusters can be read by {preset}"
    if good:
        bands = Counter(" and ".join(one.bands) for one in good)
        kinds = ", ".join(f"{n} in {name}" for name, n in bands.most_common())
        scales = _range([one.pixel_scale for one in good])
        widths = _range([float(one.notes["psf_fwhm"]) for one in good])
        n_holed = sum(one.holed for one in good)
        line += f": {kinds}; pixels of {scales} arcsec, seeing {widths} arcsec; "
        line += f"{n_holed} with unknown pixels"
    remarked = [f"{one.id}: {'; '.join(one.remarks)}" for one in good if one.remarks]
    needing = [one.id for one in good if one.needs_extinction]
    lines = [line]
    lines += first_lines([f"{one.id}: {one.reason}" for one in lost], "that cannot be read")
    lines += first_lines(remarked, "with remarks")
    if needing:
        lines.append(
            f"  {len(needing)} without extinction_v, which infer needs: a column of the table, or "
            "--option extinction_v=A_V, in mag"
        )
    return lines


def _range(values: Sequence[float]) -> str:
    low, high = f"{min(values):.3g}", f"{max(values):.3g}"
    return low if low == high else f"{low} to {high}"
