"""Where the stamps of a file lie: FITS cubes, extensions and tables, HDF5 and npy arrays."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.io.gaia_columns import matching_name
from melotte.io.image_files import (
    chosen_hdu,
    has_real_numbers,
    image_format,
    is_image,
    mask_of,
    merged_header,
    open_fits,
    reading_fits,
    science_images,
    unfilled,
    weighed_pixels,
    weight_of,
)
from melotte.io.image_headers import (
    BandHeader,
    band_in,
    filter_of,
    plane_count,
    read_band_header,
)
from melotte.io.image_stacks import ExpectedImages, ImageOptions, Images
from melotte.io.table_files import listed, one_line

ID_NAMES = ("id", "ids", "name", "names", "object_id", "cluster_id", "cluster", "source_id")
"""Names, in lower case, of columns and data sets that hold objects' names."""
_DATA_SETS = ("images", "image", "cutouts", "stamps", "data")


@dataclass(frozen=True)
class Planes:
    """Stamps that lie in one array: ``read(rows)`` gives (n, n_planes, n_rows, n_columns).

    Pixels are NaN where they are not finite, have no weight, are masked or blank.
    """

    path: Path
    n: int
    shape: tuple[int, int]
    headers: tuple[BandHeader, ...]
    read: Callable[[slice], Images]
    ids: tuple[str, ...] = ()


def planes_of(
    path: Path, stack: ExitStack, expected: ExpectedImages, options: ImageOptions, alone: bool
) -> list[Planes]:
    """What one file holds.

    Parameters
    ----------
    path : Path
    stack : ExitStack
        Closes the file when it is left.
    expected : ExpectedImages
    options : ImageOptions
    alone : bool
        Whether the file holds a single band.

    Raises
    ------
    MelotteFileError
        When the file is missing, damaged or holds no images.
    MelotteValueError
        When its arrays have no shape of stamps, or an option names what is not there.
    """
    kind = image_format(path)
    if kind == "fits":
        opened = stack.enter_context(open_fits(path))
        with reading_fits(path):
            return _from_fits(path, opened, expected, options, alone)
    if kind == "hdf5":
        return [_from_hdf5(path, stack, expected, options, alone)]
    try:
        array = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError) as error:
        raise MelotteFileError(
            f"{path}: the npy file is truncated or damaged ({one_line(error)})"
        ) from error
    return [_from_array(path, array, {}, expected, options, alone)]


def _from_fits(
    path: Path, opened: Any, expected: ExpectedImages, options: ImageOptions, alone: bool
) -> list[Planes]:
    from astropy.io import fits

    if options.hdu:
        science = [chosen_hdu(opened, options.hdu, path)]
    else:
        science = science_images(opened)
        science = science or [one for one in opened if isinstance(one, fits.BinTableHDU)]
    if not science:
        raise MelotteFileError(f"{path} is a FITS file without images; stamps are needed")
    if isinstance(science[0], fits.BinTableHDU):
        return [_from_table(path, science[0], merged_header(opened, science[0]), options)]
    if not is_image(science[0]):
        raise MelotteValueError(f"{path}: extension {options.hdu or 0} holds no image")
    by_band = [
        one
        for one in science
        if filter_of(one.name) or ("FILTER" in one.header and len(one.shape) < 4)
    ]
    chosen = by_band if len(by_band) > 1 else science[:1]
    parts = [
        _from_array(
            path,
            one,
            merged_header(opened, one),
            expected,
            options,
            alone or len(chosen) > 1,
            (weight_of(one, opened), mask_of(one, opened, path)),
        )
        for one in chosen
    ]
    ids = _ids_beside(path, opened, parts[0].n, options)
    return [replace(part, ids=ids) for part in parts]


def _from_array(
    path: Path,
    array: Any,
    header: Mapping[str, Any],
    expected: ExpectedImages,
    options: ImageOptions,
    alone: bool,
    beside: tuple[Any, Any] = (None, None),
) -> Planes:
    """Stamps of an array or image extension of 2, 3 or 4 axes, with its weights and its mask."""
    shape = [int(n) for n in array.shape]
    named = 1 if alone else len(options.bands) or plane_count(header)
    last = len(shape) == 4 and shape[1] == shape[2] != shape[-1] < 16
    if len(shape) == 4:
        n_planes = shape[-1] if last else shape[1]
    elif len(shape) == 3 and not alone and shape[0] == (named or len(expected.bands)) > 1:
        n_planes = shape[0]
    elif len(shape) in (2, 3):
        n_planes = 1
    else:
        raise MelotteValueError(
            f"{path} holds an array of shape {side_by_side(shape)}; "
            "stamps of (objects, bands, rows, columns) are needed"
        )
    single = len(shape) == 2 or (len(shape) == 3 and n_planes > 1)
    n = 1 if single else shape[0]
    stamp = (shape[-3], shape[-2]) if last else (shape[-2], shape[-1])
    if n < 1 or min(stamp) < 1 or (alone and n_planes > 1):
        raise MelotteValueError(
            f"{path} holds an array of shape {side_by_side(shape)}; "
            + ("one band a file is needed" if n and alone else "it has no stamps")
        )

    def read(rows: slice) -> Images:
        part = (slice(None),) if single else (rows,)
        if hasattr(array, "header"):
            values = weighed_pixels(array, beside[0], part, path, beside[1])
        else:
            values = _native(array[part[0]], path)
        if last:
            values = np.moveaxis(values, 3, 1)
        values = values.reshape(-1, n_planes, *stamp)
        return unfilled(values) if has_real_numbers(array) else values

    headers = tuple(
        read_band_header(header, None if n_planes == 1 else place, path)
        for place in range(n_planes)
    )
    if n_planes > 1:
        headers = tuple(
            replace(one, band="")
            if one.band == filter_of(path.name) and not plane_count(header)
            else one
            for one in headers
        )
    return Planes(path, n, stamp, headers, read)


def _from_table(path: Path, hdu: Any, header: Mapping[str, Any], options: ImageOptions) -> Planes:
    """Stamps in the columns of a FITS table: one a band, or all bands in one."""
    columns = {str(one.name): one for one in hdu.columns}
    n = int(hdu.header["NAXIS2"])
    if n < 1:
        raise MelotteFileError(f"{path} has a table but no rows; at least one object is needed")
    # A column of another kind must not stop those with images, so a value decides, not a format.
    first = hdu.data[:1]
    shapes = {
        name: np.shape(first[name])[1:]
        for name in columns
        if np.asarray(first[name]).dtype.kind in "fiu"
    }
    whole = [name for name, shape in shapes.items() if len(shape) == 3]
    flat = [name for name, shape in shapes.items() if len(shape) == 2]
    if options.bands and len(options.bands) == len(flat):
        pass
    elif any(filter_of(name) for name in flat):
        flat = [name for name in flat if filter_of(name)]
    if not whole and not flat:
        raise MelotteFileError(
            f"{path} is a FITS table without a column of images; found: {listed(columns)}"
        )
    names = whole[:1] or flat
    if len({shapes[name] for name in names}) > 1:
        raise MelotteValueError(
            f"{path}: its columns of images differ in size, "
            + listed([f"{name} {side_by_side(shapes[name][-2:])}" for name in names])
        )
    headers: list[BandHeader] = []
    if whole:
        n_planes = int(shapes[names[0]][0])
        headers = [
            read_band_header(header, None if n_planes == 1 else place) for place in range(n_planes)
        ]
        headers = [replace(one, unit=one.unit or columns[names[0]].unit or "") for one in headers]
    else:
        for place, name in enumerate(names):
            own = read_band_header(header, place)
            unit = columns[name].unit or own.unit
            headers.append(replace(own, band=band_in(name), unit=unit or ""))

    def read(rows: slice) -> Images:
        planes = []
        for name in names:
            values = hdu.data[name][rows]
            plane = _native(values, path)
            planes.append(unfilled(plane) if has_real_numbers(values) else plane)
        return planes[0] if whole else np.stack(planes, axis=1)

    stamp = (int(shapes[names[0]][-2]), int(shapes[names[0]][-1]))
    ids = _column_ids(path, hdu, options)
    return Planes(path, n, stamp, tuple(headers), read, ids)


def _from_hdf5(
    path: Path, stack: ExitStack, expected: ExpectedImages, options: ImageOptions, alone: bool
) -> Planes:
    import h5py

    try:
        file = stack.enter_context(h5py.File(path, "r"))
        arrays = {
            name: node
            for name, node in _data_sets(file)
            if node.ndim >= 2 and node.dtype.kind in "fiu"
        }
        known = [name for name in _DATA_SETS if name in arrays]
        deep = [name for name, node in arrays.items() if node.ndim == 4]
        name = options.hdu or (known or (deep if len(deep) == 1 else [""]))[0]
        if name not in arrays:
            raise MelotteValueError(
                f"{path} has no data set {name or 'images'!r} of images; found: "
                f"{listed(arrays) or 'none'}; name it with hdu=..."
            )
        header = _attributes({**file.attrs, **arrays[name].attrs})
        ids: tuple[str, ...] = ()
        wanted = [options.ids] if options.ids else [one for one in ID_NAMES if one in file]
        if wanted:
            if wanted[0] not in file:
                raise MelotteValueError(f"{path} has no data set {wanted[0]!r} for ids")
            ids = tuple(_text(value) for value in np.asarray(file[wanted[0]]).tolist())
    except (OSError, KeyError, ValueError, RuntimeError) as error:
        if isinstance(error, MelotteError):
            raise
        raise MelotteFileError(
            f"{path}: the HDF5 file is truncated or damaged ({one_line(error)})"
        ) from error
    part = _from_array(path, arrays[name], header, expected, options, alone)
    return replace(part, ids=ids if len(ids) == part.n else ())


def _data_sets(file: Any) -> list[tuple[str, Any]]:
    import h5py

    found: list[tuple[str, Any]] = []
    file.visititems(
        lambda name, node: found.append((name, node)) if isinstance(node, h5py.Dataset) else None
    )
    return found


_ATTRIBUTES = {
    "pixel_scale": "PIXSCALE",
    "exposure": "EXPTIME",
    "unit": "BUNIT",
    "units": "BUNIT",
    "gain": "GAIN",
    "zero_point_ab": "ZP_AB",
}


def _attributes(attributes: Mapping[str, Any]) -> dict[str, Any]:
    """Attributes of HDF5 as the header keywords that mean the same."""
    header: dict[str, Any] = {}
    for name, value in attributes.items():
        values = np.asarray(value).reshape(-1).tolist()
        if name == "bands":
            header["BANDS"] = ",".join(_text(one) for one in values)
            continue
        key = _ATTRIBUTES.get(name, name.upper())
        for place, one in enumerate(values):
            header[key if len(values) == 1 else f"{key}{place + 1}"] = (
                _text(one) if isinstance(one, bytes | str) else one
            )
    return header


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def _native(values: Any, path: Path) -> Images:
    """Values as native float32."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.asarray(values)
            if array.dtype.kind not in "fiub":
                raise ValueError(f"values of type {array.dtype}")
            return array.astype(np.float32)
        except (OSError, TypeError, ValueError) as error:
            raise MelotteFileError(
                f"{path}: its pixels cannot be read ({one_line(error)})"
            ) from error


def _ids_beside(path: Path, opened: Any, n: int, options: ImageOptions) -> tuple[str, ...]:
    """Names in a table extension with a row for each stamp."""
    from astropy.io import fits

    for one in opened:
        if isinstance(one, fits.BinTableHDU) and one.header["NAXIS2"] == n:
            ids = _column_ids(path, one, options)
            if ids:
                return ids
    if options.ids:
        raise MelotteValueError(f"{path} has no table of {n} rows with a column {options.ids!r}")
    return ()


def _column_ids(path: Path, hdu: Any, options: ImageOptions) -> tuple[str, ...]:
    names = [str(name) for name in hdu.columns.names]
    if options.ids:
        found = [matching_name(options.ids, names, str(path), "ids=")]
    else:
        found = [name for alias in ID_NAMES for name in names if name.lower() == alias]
    if not found:
        return ()
    return tuple(_text(value).strip() for value in np.asarray(hdu.data[found[0]]).tolist())


def side_by_side(shape: Sequence[int]) -> str:
    """A shape as ``64x64``."""
    return "x".join(str(int(n)) for n in shape)
