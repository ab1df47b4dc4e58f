"""Result tables and samples on disk: ECSV, FITS, parquet, VOTable and HDF5.

Every format keeps units, column descriptions, ids as text and the provenance; nothing is left
half-written, and the same result gives the same bytes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte.engine.atomic_files import write_atomically
from melotte.engine.json_values import plain_json
from melotte.engine.results import LEVELS, InferenceResult
from melotte.engine.table_encodings import DECODERS, ENCODERS, META
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag

if TYPE_CHECKING:
    from astropy.table import Table

FLAGS_DESCRIPTION = "bits: " + ", ".join(f"{int(flag)} {flag.name}" for flag in Flag)


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
    table.meta[META] = plain_json(
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
    encode = _format(path, ENCODERS)
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
    _format(Path(path), ENCODERS)
    check_file_place(Path(path))


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
    check_file_place(Path(path))


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
    decode = _format(path, DECODERS)
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
            file.attrs[META] = json.dumps(provenance)
        temporary.replace(path)
    except OSError as error:
        raise MelotteFileError(f"{path}: cannot be written: {error}") from error
    finally:
        temporary.unlink(missing_ok=True)
    return path


def check_file_place(path: Path) -> None:
    """Refuse a path that is a folder or lies in none.

    Raises
    ------
    MelotteFileError
    """
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
