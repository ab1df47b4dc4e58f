"""FITS, VOTable and parquet tables."""

from __future__ import annotations

import io
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteError, MelotteFileError
from melotte.io.arrow_columns import filled_integers, from_arrow
from melotte.io.delimited_text import Chooser
from melotte.io.table_files import TableFile, one_line, shortened


def read_parquet(path: Path, content: bytes, choose: Chooser) -> TableFile:
    """Read a parquet table; units come from the fields' metadata or from astropy's.

    The ``NAME.mask`` columns that astropy writes beside masked ones are applied and hidden.

    Parameters
    ----------
    path : Path
    content : bytes
    choose : callable
        From the names in the file to those wanted; only these are decoded.

    Raises
    ------
    MelotteFileError
        When the file is truncated or damaged.
    """
    import pyarrow as pa
    from pyarrow import parquet

    try:
        opened = parquet.ParquetFile(pa.BufferReader(content))
        schema = opened.schema_arrow
        metadata = _decoded(schema.metadata)
        header = metadata.pop("table_meta_yaml", "")
        masks = {f"{name}.mask" for name in schema.names if header} & set(schema.names)
        hidden = masks | {name for name in schema.names if name.startswith("__index_level_")}
        chosen = choose([name for name in schema.names if name not in hidden])
        used = [f"{name}.mask" for name in chosen if f"{name}.mask" in masks]
        table = opened.read(columns=[*chosen, *used])
        arrays = {name: from_arrow(table.column(name)) for name in [*chosen, *used]}
    except (pa.ArrowException, OSError, ValueError) as error:
        if isinstance(error, MelotteError):
            raise
        raise MelotteFileError(
            f"{path}: the parquet file is truncated or damaged ({one_line(error)})"
        ) from error
    units = _astropy_units(header)
    for name in chosen:
        stated = _decoded(schema.field(name).metadata).get("unit")
        if stated:
            units[name] = stated
    columns = {name: arrays[name] for name in chosen}
    for name in used:
        masked = name.removesuffix(".mask")
        missing = arrays[name].astype(bool)
        columns[masked] = from_masked(np.ma.MaskedArray(columns[masked], missing))
    return TableFile(
        path, "parquet", columns, {n: u for n, u in units.items() if n in columns}, metadata
    )


def _decoded(metadata: Mapping[bytes, bytes] | None) -> dict[str, str]:
    machinery = (b"pandas", b"ARROW:schema")
    return {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in (metadata or {}).items()
        if key not in machinery
    }


def _astropy_units(header: str) -> dict[str, str]:
    """Units in the YAML header that astropy puts into the parquet files it writes."""
    if not header:
        return {}
    from astropy.table import meta

    try:
        entries = meta.get_header_from_yaml(header.splitlines())["datatype"]
        return {str(e["name"]): str(e["unit"]) for e in entries if e.get("unit")}
    # A broken header costs the units, not the table; YAML raises errors of many classes.
    except Exception:
        return {}


def read_fits(path: Path, content: bytes, choose: Chooser) -> TableFile:
    """Read the first table of a FITS file; big-endian columns become native.

    Parameters and errors are those of :func:`read_parquet`; a file without a table is a
    MelotteFileError too.
    """
    from astropy.io import fits

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        try:
            with fits.open(io.BytesIO(content), memmap=False) as opened:
                primary: Any = opened[0]
                tables = [h for h in opened if isinstance(h, fits.BinTableHDU | fits.TableHDU)]
                _refuse_truncated(path, heard)
                if not tables:
                    raise MelotteFileError(
                        f"{path} is a FITS file without a table (it has {len(opened)} image HDU); "
                        "a table extension is needed"
                    )
                hdu: Any = tables[0]
                chosen = choose([str(name) for name in hdu.columns.names])
                columns = {name: _fits_column(hdu, name) for name in chosen}
                _refuse_truncated(path, heard)
                units = {n: str(hdu.columns[n].unit) for n in chosen if hdu.columns[n].unit}
                cards = [*primary.header.cards, *hdu.header.cards]
                metadata = {str(card.keyword): str(card.value) for card in cards if card.keyword}
        except MelotteError:
            raise
        # A damaged FITS file surfaces as whichever exception astropy's parser stumbles into.
        except Exception as error:
            raise MelotteFileError(
                f"{path}: the FITS file is truncated or damaged ({one_line(error)})"
            ) from error
    return TableFile(path, "fits", columns, units, metadata)


def _refuse_truncated(path: Path, heard: list[warnings.WarningMessage]) -> None:
    for warning in heard:
        if "truncated" in str(warning.message):
            raise MelotteFileError(
                f"{path}: the FITS file is truncated ({shortened(str(warning.message), 120)}); "
                "fetch it again"
            )


def _fits_column(hdu: Any, name: str) -> NDArray[Any]:
    values = np.asarray(hdu.data[name])
    if values.dtype.kind == "S":
        values = np.char.decode(values, "utf-8", "replace")
    if values.dtype.kind == "U":
        stripped = np.char.strip(values).astype(object)
        stripped[stripped == ""] = None
        return stripped
    values = values.astype(values.dtype.newbyteorder("="))
    null = hdu.columns[name].null
    if null is not None and values.dtype.kind in "iu":
        missing = values == int(null)
        if missing.any():
            return filled_integers(values, missing)
    return values


def read_votable(path: Path, content: bytes, choose: Chooser) -> TableFile:
    """Read the first table of a VOTable (any serialisation).

    Parameters and errors are those of :func:`read_parquet`; a file without a table is a
    MelotteFileError too, which repeats the archive's own message when the query had failed.
    """
    from astropy.io import votable

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened = votable.parse(io.BytesIO(content), verify="ignore")
            infos = [info for resource in opened.resources for info in resource.infos]
            table = next(iter(opened.iter_tables()), None)
        # Broken XML surfaces as whichever exception astropy's parser stumbles into.
        except Exception as error:
            raise MelotteFileError(
                f"{path}: the VOTable is truncated or damaged ({one_line(error)})"
            ) from error
    if table is None or not table.fields:
        said = " ".join(str(i.content or i.value or "") for i in infos if i.value == "ERROR")
        told = f"; the archive said: {shortened(said, 120)}" if said.strip() else ""
        raise MelotteFileError(f"{path} is a VOTable without a table{told}")
    names = [str(field.name) for field in table.fields]
    chosen = choose(names)
    keys = {str(field.name): field.ID for field in table.fields}
    columns = {name: from_masked(table.array[keys[name]]) for name in chosen}
    units = {str(f.name): str(f.unit) for f in table.fields if f.unit and f.name in columns}
    metadata = {str(info.name): str(info.value) for info in [*opened.infos, *infos]}
    for key, value in (("description", table.description), ("name", table.name)):
        if value:
            metadata[key] = str(value)
    if opened.resources and opened.resources[0].description:
        metadata["resource"] = str(opened.resources[0].description)
    return TableFile(path, "votable", columns, units, metadata)


def from_masked(column: Any) -> NDArray[Any]:
    """A column, masked or not, with native byte order and missing values as NaN, -1 or None."""
    values = np.asarray(np.ma.getdata(column))
    missing = np.ma.getmaskarray(column)
    values = values.astype(values.dtype.newbyteorder("="))
    if values.dtype.kind in "SU":
        if values.dtype.kind == "S":
            values = np.char.decode(values, "utf-8", "replace")
        values = values.astype(object)
    if values.dtype.kind == "O":
        if values.ndim == 1 and missing.shape == values.shape:
            values = values.copy()
            values[missing] = None
        return values
    if missing.shape == values.shape and missing.any():
        if values.dtype.kind == "f":
            return np.where(missing, np.nan, values).astype(values.dtype)
        if values.dtype.kind in "iub":
            return filled_integers(values, missing)
    return values
