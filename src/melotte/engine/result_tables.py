"""Result tables and samples on disk: ECSV, FITS, parquet, VOTable and HDF5.

Every format keeps units, column descriptions, ids as text and the provenance; nothing is left
half-written, and the same result gives the same bytes.
"""

from __future__ import annotations

import io
import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte.engine.atomic_files import write_atomically
from melotte.engine.json_values import plain_json
from melotte.engine.results import LEVELS, InferenceResult
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag

if TYPE_CHECKING:
    from astropy.table import Table

FLAGS_DESCRIPTION = "bits: " + ", ".join(f"{int(flag)} {flag.name}" for flag in Flag)
_KEY = "melotte"


def result_table(result: InferenceResult) -> Table:
    """One row an object: id, quantiles of every parameter, own columns, flags.

    Parameters
    ----------
    result : InferenceResult

    Returns
    -------
    astropy Table
        Columns ``id``, ``NAME_16``, ``NAME_50``, ``NAME_84`` in the parameter's unit, the
        system's own, ``flags``; ``meta["melotte"]`` holds the provenance, the reader's header and
        the reasons of failed rows. Control characters in ids become spaces.
    """
    from astropy.table import Column, Table

    table: Any = Table()
    ids = [_printable(name) for name in result.ids]
    table["id"] = Column(ids, dtype=str, description="object")
    for i, parameter in enumerate(result.parameters):
        for k, level in enumerate(LEVELS):
            percent = round(100 * level)
            table[f"{parameter.name}_{percent}"] = Column(
                result.quantiles[:, k, i],
                unit=parameter.unit or None,
                description=f"{percent} % quantile of {parameter.description or parameter.name}",
            )
    for name, own in result.columns.items():
        if name in table.colnames or name == "flags":
            raise MelotteValueError(f"column {name!r} of the system clashes with the table's own")
        table[name] = Column(own.values, unit=own.unit or None, description=own.description)
    table["flags"] = Column(result.flags, dtype=np.int64, description=FLAGS_DESCRIPTION)
    table.meta[_KEY] = plain_json(
        {
            "provenance": dict(result.provenance),
            "header": dict(result.header),
            "reasons": dict(result.reasons),
        },
        "provenance",
        nulls=True,
    )
    return table


def write_result_table(result: InferenceResult, path: str | Path) -> Path:
    """Write a result table; the suffix chooses the format.

    Parameters
    ----------
    result : InferenceResult
    path : path
        ``.ecsv``, ``.fits``, ``.parquet`` or ``.vot``; an existing file is replaced, whole.

    Returns
    -------
    Path

    Raises
    ------
    MelotteValueError
        For another suffix.
    MelotteFileError
        When the file cannot be written.
    """
    return write_table(result_table(result), path)


def write_table(table: Table, path: str | Path) -> Path:
    """Write any table in the formats of result tables, provenance in ``meta["melotte"]``.

    Parameters
    ----------
    table : astropy Table
        Columns of numbers and texts.
    path : path
        As :func:`write_result_table` takes it.

    Raises
    ------
    MelotteValueError, MelotteFileError
        As :func:`write_result_table` does.
    """
    path = Path(path)
    encode = _format(path, _ENCODERS)
    write_atomically(path, encode(table))
    return path


def check_result_path(path: str | Path) -> None:
    """Find out before long work whether a result table can be written to a path.

    Raises
    ------
    MelotteValueError
        For a suffix that is no table format.
    MelotteFileError
        When the folder does not exist or the path is a folder.
    """
    _format(Path(path), _ENCODERS)
    _check_place(Path(path))


def check_samples_path(path: str | Path) -> None:
    """Find out before long work whether samples can be written to a path (.h5 or .hdf5).

    Raises
    ------
    MelotteValueError
        For another suffix.
    MelotteFileError
        When the folder does not exist or the path is a folder.
    """
    _format(Path(path), {".h5": None, ".hdf5": None})
    _check_place(Path(path))


def read_result_table(path: str | Path) -> Table:
    """Read what :func:`write_result_table` wrote, with units, descriptions and provenance.

    Raises
    ------
    MelotteValueError
        For an unknown suffix.
    MelotteFileError
        When the file cannot be read, or is not a result table.
    """
    path = Path(path)
    decode = _format(path, _DECODERS)
    try:
        table = decode(path.read_bytes())
    except OSError as error:
        reason = error.strerror or " ".join(str(error).split())
        raise MelotteFileError(f"{path}: cannot be read: {reason}") from error
    except Exception as error:
        line = " ".join(str(error).split())
        raise MelotteFileError(f"{path}: not a readable {path.suffix} table: {line}") from error
    if "id" not in table.colnames or "flags" not in table.colnames:
        found = ", ".join(table.colnames)
        raise MelotteFileError(
            f"{path}: not a result table of melotte (needs columns id and flags; found {found})"
        )
    return table


def write_samples(result: InferenceResult, path: str | Path) -> Path:
    """Write posterior samples as HDF5.

    Parameters
    ----------
    result : InferenceResult
        With samples.
    path : path
        Datasets ``samples`` (object, sample, parameter) float32, ``id``, ``parameters``,
        ``units``, ``flags`` and, where the result has it, ``values_as``; the attribute
        ``melotte`` holds the provenance as JSON.

    Returns
    -------
    Path

    Raises
    ------
    MelotteValueError
        When the result has no samples.
    MelotteFileError
        When the file cannot be written.
    """
    import h5py

    if result.samples is None:
        raise MelotteValueError("the result has no samples to write; ask for some with --samples N")
    path = Path(path)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    text = h5py.string_dtype()
    provenance = plain_json(dict(result.provenance), "provenance", nulls=True)
    try:
        with h5py.File(temporary, "w") as file:
            file.create_dataset("samples", data=result.samples, dtype="f4")
            file["id"] = np.array([_printable(name) for name in result.ids], dtype=text)
            file["parameters"] = np.array(result.names, dtype=text)
            units = [parameter.unit for parameter in result.parameters]
            file["units"] = np.array(units, dtype=text)
            file["flags"] = result.flags
            if "values_as" in result.columns:
                whose = result.columns["values_as"].values
                file["values_as"] = np.array([str(name) for name in whose], dtype=text)
            file.attrs[_KEY] = json.dumps(provenance)
        temporary.replace(path)
    except OSError as error:
        raise MelotteFileError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def _check_place(path: Path) -> None:
    if path.is_dir():
        raise MelotteFileError(f"{path}: is a folder, not a file to write")
    if not path.parent.is_dir():
        raise MelotteFileError(f"{path}: the folder {path.parent} does not exist")


def _format(path: Path, known: Mapping[str, Any]) -> Any:
    suffix = path.suffix.lower()
    if suffix not in known:
        raise MelotteValueError(
            f"{path.name}: suffix {path.suffix!r} is not a format to write here; "
            f"allowed: {', '.join(known)}"
        )
    return known[suffix]


def _printable(name: str) -> str:
    return "".join(letter if letter.isprintable() else " " for letter in name)


def _without_meta(table: Any) -> Any:
    plain = table.copy(copy_data=False)
    plain.meta.clear()
    return plain


def _text_of(table: Any) -> str:
    return json.dumps(table.meta.get(_KEY, {}), ensure_ascii=True, sort_keys=True)


def _to_ecsv(table: Any) -> bytes:
    buffer = io.StringIO()
    table.write(buffer, format="ascii.ecsv")
    return buffer.getvalue().encode("utf-8")


def _from_ecsv(content: bytes) -> Any:
    from astropy.table import Table

    return _filled(Table.read(content.decode("utf-8").splitlines(), format="ascii.ecsv"))


def _to_fits(table: Any) -> bytes:
    """FITS holds ASCII only: other letters of ids and texts become backslash escapes."""
    from astropy.io import fits

    plain = _without_meta(table)
    for name in plain.colnames:
        if plain[name].dtype.kind == "U":
            ascii_text = [_ascii(str(value)) for value in plain[name]]
            plain[name] = np.array(ascii_text, dtype=str) if ascii_text else np.array([], "U1")
            plain[name].description = table[name].description
    hdu = fits.table_to_hdu(plain)
    for number, name in enumerate(plain.colnames, start=1):
        if plain[name].description:
            hdu.header[f"TCOMM{number}"] = _ascii(plain[name].description)
    hdu.name = "RESULT"
    hdu.header["MELOTTE"] = _text_of(table)
    buffer = io.BytesIO()
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(buffer)
    return buffer.getvalue()


def _from_fits(content: bytes) -> Any:
    from astropy.io import fits
    from astropy.table import Table

    with fits.open(io.BytesIO(content), memmap=False) as hdus:
        table: Any = Table.read(hdus[1], format="fits", character_as_bytes=False)
        header: Any = hdus["RESULT"].header  # pyright: ignore[reportAttributeAccessIssue]
    for number, name in enumerate(table.colnames, start=1):
        table[name].description = header.get(f"TCOMM{number}")
    table.meta = {_KEY: json.loads(header.get("MELOTTE", "{}"))}
    return _filled(table)


def _to_parquet(table: Any) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    arrays, fields = [], []
    for name in table.colnames:
        column = table[name]
        text = column.dtype.kind in "US"
        arrays.append(pa.array(column.tolist() if text else np.asarray(column)))
        metadata = {"unit": str(column.unit or ""), "description": column.description or ""}
        fields.append(pa.field(name, arrays[-1].type, metadata=metadata))
    if not len(table):
        kinds = [table[name].dtype.kind for name in table.colnames]
        types = [pa.string() if kind in "US" else None for kind in kinds]
        arrays = [
            array if kind is None else pa.array([], kind)
            for array, kind in zip(arrays, types, strict=True)
        ]
        fields = [f.with_type(a.type) for f, a in zip(fields, arrays, strict=True)]
    schema = pa.schema(fields, metadata={_KEY: _text_of(table)})
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_arrays(arrays, schema=schema), buffer)
    return buffer.getvalue()


def _from_parquet(content: bytes) -> Any:
    import pyarrow.parquet as pq
    from astropy.table import Column, Table

    stored = pq.read_table(io.BytesIO(content))
    table: Any = Table()
    for field, column in zip(stored.schema, stored.columns, strict=True):
        about = {key.decode(): value.decode() for key, value in (field.metadata or {}).items()}
        values = column.to_numpy()
        table[field.name] = Column(
            values.astype(str) if values.dtype == object else values,
            unit=about.get("unit") or None,
            description=about.get("description"),
        )
    text = (stored.schema.metadata or {}).get(_KEY.encode(), b"{}")
    table.meta[_KEY] = json.loads(text)
    return table


def _to_votable(table: Any) -> bytes:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    votable = from_table(_without_meta(table))
    votable.resources[0].infos.append(Info(name=_KEY, value=_text_of(table)))
    buffer = io.BytesIO()
    votable.to_xml(buffer)
    return buffer.getvalue()


def _from_votable(content: bytes) -> Any:
    from astropy.io.votable import parse

    votable = parse(io.BytesIO(content))
    table: Any = votable.get_first_table().to_table(use_names_over_ids=True)
    infos = {info.name: info.value for info in votable.resources[0].infos}
    table.meta = {_KEY: json.loads(str(infos.get(_KEY, "{}")))}
    for name in table.colnames:
        table[name].description = " ".join((table[name].description or "").split()) or None
        if table[name].dtype.kind == "O":
            table[name] = np.asarray(table[name]).astype(str)
    return _filled(table)


def _filled(table: Any) -> Any:
    """Readers mask NaN; a result table has NaN, not gaps."""
    from astropy.table import Table

    filled: Any = Table(meta=table.meta)
    for name in table.colnames:
        column = table[name]
        if hasattr(column, "mask"):
            kind = column.dtype.kind
            column = column.filled(math.nan if kind == "f" else "" if kind == "U" else 0)
        filled[name] = column
    return filled


def _ascii(text: str) -> str:
    return text.encode("ascii", "backslashreplace").decode("ascii")


_ENCODERS: dict[str, Callable[[Any], bytes]] = {
    ".ecsv": _to_ecsv,
    ".fits": _to_fits,
    ".parquet": _to_parquet,
    ".vot": _to_votable,
}
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    ".ecsv": _from_ecsv,
    ".fits": _from_fits,
    ".parquet": _from_parquet,
    ".vot": _from_votable,
}
