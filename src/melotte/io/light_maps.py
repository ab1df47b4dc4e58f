"""Globular clusters in users' images: all bands of a cluster on one grid, in one unit of flux.

A cluster's bands may be planes of a cube, extensions of a file or files of their own; clusters may
be listed in a table of files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.io.dispersion_files import DispersionImage, read_dispersions
from melotte.io.image_files import image_format, is_image, open_fits, pixels, reading_fits
from melotte.io.image_mosaics import CORNERS, tangent_plane, to_sky
from melotte.io.image_stacks import Images, RejectedImage
from melotte.io.light_grids import common_grid, laid_on, other_scale, pixels_along
from melotte.io.light_map_options import LightMapOptions
from melotte.io.light_map_tables import (
    check_image_units,
    image_table,
    listed_files,
    listed_images,
)
from melotte.io.light_planes import LightPlane, light_planes, plane_bands
from melotte.io.table_files import listed, shortened

_WIDTHS = ("PSF_FWHM", "PSFFWHM")


@dataclass(frozen=True)
class LightImages:
    """A cluster's images, as large as the files have them.

    Parameters
    ----------
    id : str
    bands : tuple of str
        V, or V and B, or g and r.
    images : array, float32, shape (n_bands, n_rows, n_columns)
        In units of a source of magnitude 25, sky included; NaN where there is no value.
    saturated : array of bool, the shape of ``images``
    sky, noise : tuple of float
        Given for each band, in the same unit a pixel; NaN where not given.
    pixel_scale : float, arcsec
    psf_fwhm : float, arcsec
        As the options or the header state it; NaN if neither.
    wcs : astropy WCS or None
        Of ``images``.
    options : LightMapOptions
        Of this object.
    sources : tuple of str
        Names of the files, one a band.
    listed : bool
        In a table, of which a cluster that cannot be measured costs a row.
    dispersions : DispersionImage, optional
    known : mapping of str to float
        What a table's columns ``known_NAME`` say of it.
    """

    id: str
    bands: tuple[str, ...]
    images: Images
    saturated: NDArray[np.bool_]
    sky: tuple[float, ...]
    noise: tuple[float, ...]
    pixel_scale: float
    psf_fwhm: float
    wcs: Any
    options: LightMapOptions
    sources: tuple[str, ...]
    listed: bool = False
    dispersions: DispersionImage | None = None
    known: Mapping[str, float] = field(default_factory=dict)


def read_light_maps(
    sources: Sequence[str | Path],
    options: Mapping[str, Any] | None = None,
    known_units: Mapping[str, str] | None = None,
) -> Iterator[LightImages | RejectedImage]:
    """Read images of globular clusters.

    Several files are the bands of one cluster where all their bands differ, else a cluster each.

    Parameters
    ----------
    sources : sequence of paths
        FITS images, or tables that list them: columns ``file``, or ``V``, ``B``, ``g`` and ``r``;
        ``id``; any option of :class:`LightMapOptions` that differs between clusters; and
        ``known_NAME`` with known values of a model's first parameters. Paths in a table start at
        its folder. Units of its columns are converted.
    options : mapping, optional
        See :class:`LightMapOptions`.
    known_units : mapping of str to str, optional
        Units of the model's parameters, for columns ``known_NAME``.

    Yields
    ------
    LightImages
    RejectedImage
        A cluster of a table whose images cannot be used.

    Raises
    ------
    MelotteFileError
        When a file is missing, damaged or holds no image.
    MelotteValueError
        When band, scale, unit or zero point are missing or do not fit, an option is not allowed,
        a column's unit does not convert, or two clusters have one name.
    """
    given = dict(options or {})
    chosen = LightMapOptions.parse(given)
    files = [Path(one) for one in sources]
    if not files:
        raise MelotteValueError("no image was given; give at least one FITS file")
    images = [one for one in files if _holds_image(one)]
    taken: set[str] = set()
    if images:
        groups = _objects({one: plane_bands(one, chosen, images) for one in images})
        names = _own_names([_stem(group[0]) for group in groups], taken)
        for group, name in zip(groups, names, strict=True):
            planes = [plane for one in group for plane in light_planes(one, chosen, images)]
            yield _joined(planes, name, chosen)
    for one in files:
        if one not in images:
            yield from _from_table(one, given, taken, dict(known_units or {}))


def named_files(sources: Sequence[str | Path]) -> list[Path]:
    """Files that tables of images name; those that cannot be read are left to the reader.

    Parameters
    ----------
    sources : sequence of paths
        Of :func:`read_light_maps`.
    """
    found = []
    for one in sources:
        try:
            found += [] if _holds_image(Path(one)) else listed_files(Path(one))
        except MelotteError:
            continue
    return found


def _holds_image(path: Path) -> bool:
    """Whether a file is an image, not a table; arrays without a header are refused."""
    if not path.is_file():
        raise MelotteFileError(f"{path} does not exist; give FITS images or a table of them")
    try:
        kind = image_format(path)
    except MelotteFileError:
        return False
    if kind != "fits":
        raise MelotteFileError(
            f"{path}: maps of light are read from FITS images, which state scale, band and "
            f"coordinates; found {kind}"
        )
    with open_fits(path) as opened:
        return any(is_image(one) for one in opened)


def cut_coordinates(
    images: LightImages, corner: tuple[float, float], step: float, size: int
) -> tuple[str, float, float] | None:
    """Coordinates of a map that is cut out of an image.

    Parameters
    ----------
    images : LightImages
    corner : (float, float), px
        Column and row of the outer corner of the map's first pixel, in the image, whose own first
        pixel begins at 0.
    step : float, px
        Side of the map's pixels.
    size : int
        Their number along a side.

    Returns
    -------
    header : str
        Of the tangent plane that has its corners where the map has its own, as cards of FITS.
    ra, dec : float, deg, ICRS
        Of the map's middle.
    None comes back where the image has no coordinates.
    """
    if images.wcs is None:
        return None
    half = size * step / 2
    middle = np.array(corner) + half - 0.5
    centre = to_sky(images.wcs, middle)
    plane = tangent_plane(to_sky(images.wcs, middle + half * CORNERS), (size, size))
    return plane.to_header_string(), float(centre.ra.deg), float(centre.dec.deg)


def _objects(bands: Mapping[Path, list[str]]) -> list[list[Path]]:
    """Files of each cluster, by their bands: all of them together, or each file."""
    every = [band for ones in bands.values() for band in ones]
    if len(set(every)) == len(every):
        return [list(bands)]
    if len({tuple(ones) for ones in bands.values()}) > 1:
        raise MelotteValueError(
            f"{listed([str(path) for path in bands], most=3)}: several clusters in different "
            f"bands ({', '.join(every)}); list them in a table with columns id, V and B"
        )
    return [[one] for one in bands]


def _own_names(names: Sequence[str], taken: set[str]) -> Sequence[str]:
    """Names that no other cluster has: results and coordinates are kept by them."""
    for name in names:
        if name in taken:
            raise MelotteValueError(
                f"two clusters are called {name!r}; list them in a table with an id of their own"
            )
        taken.add(name)
    return names


def _joined(
    planes: Sequence[LightPlane],
    name: str,
    options: LightMapOptions,
    known: Mapping[str, float] | None = None,
) -> LightImages:
    """A cluster's bands on the grid of the first one; ``known`` of one that a table lists."""
    by_band = {one.band: one for one in planes}
    where = listed([str(one.path) for one in planes], most=3)
    if "V" in by_band:
        order = [band for band in ("V", "B") if band in by_band]
    elif {"g", "r"} <= by_band.keys():
        order = ["g", "r"]
    else:
        raise MelotteValueError(
            f"{where}: found {', '.join(by_band)}; V, V and B, or g and r are needed"
        )
    used = [by_band[band] for band in order]
    first = common_grid(used)
    stated_scales = [one.header.pixel_scale for one in (first, *used)]
    scale = next((one for one in stated_scales if not math.isnan(one)), math.nan)
    if math.isnan(scale):
        raise MelotteValueError(f"{where} does not state the pixel scale; give pixel_scale=ARCSEC")
    if first is not used[0] and not math.isnan(options.x):
        raise MelotteValueError(f"x and y: {other_scale(used)}; give ra and dec")
    # Of a pixel of the common grid, which holds many pixels of a finer band.
    sides = [pixels_along(one, first) for one in used]
    levels = {
        kind: tuple(
            one.factor * side**power * options.of_band(kind, place, len(used))
            for place, (one, side) in enumerate(zip(used, sides, strict=True))
        )
        for kind, power in (("sky", 2), ("noise", 1))
    }
    images, saturated = [], []
    usable = _usable(options.mask, first) if options.mask else None
    for place, one in enumerate(used):
        limit = options.of_band("saturation", place, len(used))
        if math.isnan(limit):
            limit = _stated_saturation(one)
        full = one.values >= limit if limit > 0 else np.zeros(one.values.shape, bool)
        values = one.values * np.float32(one.factor)
        if one is not first:
            values, full = laid_on(values, full, one, first)
        if usable is not None:
            values = np.where(usable, values, np.float32(np.nan))
        images.append(values)
        saturated.append(full)
    fwhm = options.psf_fwhm
    stated = [one.stated[key] for one in used for key in _WIDTHS if key in one.stated]
    if math.isnan(fwhm) and stated:
        fwhm = LightMapOptions.parse({"psf_fwhm": stated[0]}).psf_fwhm
    return LightImages(
        id=name,
        bands=tuple(order),
        images=np.stack(images),
        saturated=np.stack(saturated),
        sky=levels["sky"],
        noise=levels["noise"],
        pixel_scale=scale,
        psf_fwhm=fwhm,
        wcs=first.wcs,
        options=options,
        sources=tuple(one.path.name for one in used),
        listed=known is not None,
        dispersions=read_dispersions(options.dispersion) if options.dispersion else None,
        known=known or {},
    )


def _stated_saturation(one: LightPlane) -> float:
    """Value from which the header says that pixels are saturated; infinite where it is silent."""
    stated = one.stated.get("SATURATE", math.inf)
    try:
        return float(stated)
    except (TypeError, ValueError):
        raise MelotteValueError(
            f"{one.path}: SATURATE {shortened(str(stated))!r} is not a number; give saturation=..."
        ) from None


def _usable(path: str, first: LightPlane) -> NDArray[np.bool_]:
    with open_fits(Path(path)) as opened, reading_fits(Path(path)):
        masks = [one for one in opened if is_image(one) and len(one.shape) == 2]
        if not masks or masks[0].shape != first.values.shape:
            found = "no image" if not masks else f"an image of {masks[0].shape}"
            raise MelotteValueError(
                f"mask {path}: found {found}; the image {first.path} is {first.values.shape}"
            )
        return pixels(masks[0], (slice(None), slice(None)), Path(path)) == 0


def _from_table(
    path: Path, given: Mapping[str, Any], taken: set[str], known_units: Mapping[str, str]
) -> Iterator[LightImages | RejectedImage]:
    """Clusters that a table lists, one a row."""
    table = image_table(path)
    if "id" in table.columns:
        ids = [str(one) for one in table.text("id")]
    else:
        ids = [f"{_stem(path)}-{row + 1}" for row in range(table.n_rows)]
    for one in listed_images(path, _own_names(ids, taken), table, known_units):
        if isinstance(one, RejectedImage):
            yield one
            continue
        try:
            parsed = LightMapOptions.parse(dict(given) | dict(one.options))
            if not one.files:
                raise MelotteValueError("no file is named")
            planes = [
                plane
                for band, file in one.files.items()
                for plane in light_planes(file, parsed, band=band)
            ]
            check_image_units(path, one.image_units, planes)
            yield _joined(planes, one.id, parsed, one.known)
        except MelotteError as error:
            yield RejectedImage(one.id, str(error), int(Flag.FAILED))


def _stem(path: Path) -> str:
    return path.name.split(".")[0] or path.name
