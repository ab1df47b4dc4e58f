"""Text tables: CSV, TSV and their kin (also VizieR's), and ECSV."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError
from melotte.io.arrow_columns import from_arrow
from melotte.io.table_files import MISSING_WORDS, TableFile, one_line, shortened

if TYPE_CHECKING:
    import pyarrow

Chooser = Callable[[Sequence[str]], Sequence[str]]
"""From the names in a file to the names that are wanted."""

_DELIMITERS = {",": "comma", "\t": "tab", ";": "semicolon", "|": "bar"}
_MOST_BLOCK = 1_900_000_000


@dataclass(frozen=True)
class _Layout:
    """Where in a delimited text the names and the data are."""

    delimiter: str
    names: list[str]
    start: int
    """Offset of the first data line, bytes."""
    first_line: int
    """Number of the first data line; the first line of the file is 1."""
    units: dict[str, str]
    comments: list[str]


def read_csv(path: Path, content: bytes, choose: Chooser) -> TableFile:
    """Read comma-, tab-, semicolon- or bar-separated text with one line of column names.

    Lines that start with ``#`` are comments. The lines of units and of dashes below the names that
    VizieR writes are understood.

    Parameters
    ----------
    path : Path
    content : bytes, UTF-8
    choose : callable
        From the names in the file to those wanted.

    Raises
    ------
    MelotteFileError
        When there is no line of names, a row has more or fewer values than there are names, or the
        text is not UTF-8.
    """
    content = content.removeprefix(b"\xef\xbb\xbf")
    layout = _layout(path, content)
    chosen = choose(layout.names)
    columns = _columns(path, content, layout, chosen)
    units = {name: layout.units[name] for name in chosen if name in layout.units}
    metadata = {"comments": " ".join(layout.comments)} if layout.comments else {}
    return TableFile(path, "csv", columns, units, metadata)


def read_ecsv(path: Path, content: bytes, choose: Chooser) -> TableFile:
    """Read an enhanced CSV (Astropy APE 6) with its units and metadata.

    Parameters and errors are those of :func:`read_csv`; a header that is no valid ECSV is a
    MelotteFileError too.
    """
    header = _ecsv_header(path, content)
    described = {str(entry["name"]): entry for entry in header["datatype"]}
    layout = _layout(path, content, delimiter=str(header.get("delimiter", " ")))
    if list(described) != layout.names:
        raise MelotteFileError(
            f"{path}: the ECSV header describes columns {shortened(str(list(described)), 100)} "
            f"but the data begin with {shortened(str(layout.names), 100)}"
        )
    chosen = choose(layout.names)
    columns = _columns(path, content, layout, chosen)
    for name in chosen:
        if described[name].get("datatype") == "string" and columns[name].dtype.kind != "O":
            columns[name] = columns[name].astype(str).astype(object)
    units = {name: str(described[name]["unit"]) for name in chosen if described[name].get("unit")}
    metadata = {str(key): str(value) for key, value in (header.get("meta") or {}).items()}
    return TableFile(path, "ecsv", columns, units, metadata)


def _ecsv_header(path: Path, content: bytes) -> dict[str, Any]:
    from astropy.table import meta

    lines = []
    for raw in content.splitlines():
        if not raw.startswith(b"#"):
            break
        lines.append(raw.decode("utf-8", "replace").removeprefix("#").removeprefix(" "))
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            header = meta.get_header_from_yaml(lines[1:])
        if not all("name" in entry for entry in header["datatype"]):
            raise ValueError("an entry of datatype has no name")
    # The YAML reader raises errors of many unrelated classes, its own and builtin ones.
    except Exception as error:
        raise MelotteFileError(
            f"{path}: the ECSV header is broken ({one_line(error)}); write the table again with "
            "astropy's Table.write(..., format='ascii.ecsv')"
        ) from error
    return header


def _layout(path: Path, content: bytes, delimiter: str | None = None) -> _Layout:
    """Find the line of column names, and what else stands above the data."""
    _refuse_other_encodings(path, content)
    comments: list[str] = []
    above: list[tuple[int, int, int, str]] = []
    offset, number = 0, 0
    while offset < len(content) and len(above) < 3:
        end = content.find(b"\n", offset)
        end = len(content) if end < 0 else end
        number += 1
        line = content[offset:end].decode("utf-8").rstrip("\r")
        if not above and line.startswith("#"):
            comments.append(line.lstrip("# "))
        elif line.strip():
            above.append((offset, end + 1, number, line))
        offset = end + 1
    if not above:
        raise MelotteFileError(f"{path} holds comments only; a line of column names is needed")
    header_start, start, line_number, header = above[0]
    if delimiter is None:
        delimiter = max(_DELIMITERS, key=header.count)
        if header.count(delimiter) == 0:
            raise MelotteFileError(
                f"{path}: line {line_number} {shortened(header)!r} holds no comma, tab, "
                "semicolon or bar; a line of column names separated by one of them is needed"
            )
    names = _cells(header, delimiter)
    if all(_is_number(name) for name in names):
        commented = _cells(comments[-1], delimiter) if comments else []
        if len(commented) != len(names):
            raise MelotteFileError(
                f"{path}: line {line_number} holds numbers; a line of column names is needed above"
            )
        names, start, line_number, above = commented, header_start, line_number - 1, []
    names = [name or f"column_{i + 1}" for i, name in enumerate(names)]
    units: dict[str, str] = {}
    if len(above) == 3 and set(above[2][3]) <= set("-" + delimiter + " "):
        stated = _cells(above[1][3], delimiter)
        units = {name: unit for name, unit in zip(names, stated, strict=False) if unit}
        start, line_number = above[2][1], above[2][2]
    return _Layout(delimiter, names, start, line_number + 1, units, comments)


def _refuse_other_encodings(path: Path, content: bytes) -> None:
    try:
        content.decode("utf-8")
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise MelotteFileError(
            f"{path}: line {line} is not UTF-8 text; save the table as UTF-8"
        ) from error


def _cells(line: str, delimiter: str) -> list[str]:
    try:
        cells = next(csv.reader([line], delimiter=delimiter, skipinitialspace=True))
    except (csv.Error, StopIteration):
        cells = line.split(delimiter)
    return [cell.strip() for cell in cells]


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def _columns(
    path: Path, content: bytes, layout: _Layout, chosen: Sequence[str]
) -> dict[str, NDArray[Any]]:
    """Parse the chosen columns; a column with any text in it stays text."""
    import pyarrow as pa
    from pyarrow import csv as arrow_csv

    body = pa.py_buffer(content)[layout.start :] if layout.start < len(content) else b""
    if not bytes(body[:4096]).strip() and not bytes(body).strip():
        return {name: np.zeros(0) for name in chosen}
    broken: list[Any] = []

    def on_ragged_row(row: Any) -> str:
        if row.text.startswith("#"):
            return "skip"
        broken.append(row)
        return "error"

    # One block, so that a column is whole numbers or text only when all of it is.
    block = min(max(len(body), 1), _MOST_BLOCK)
    missing = sorted({w for word in MISSING_WORDS for w in (word, word.upper(), word.title())})
    try:
        table: pyarrow.Table = arrow_csv.read_csv(
            pa.BufferReader(body),
            read_options=arrow_csv.ReadOptions(
                column_names=layout.names, block_size=block, use_threads=False
            ),
            parse_options=arrow_csv.ParseOptions(
                delimiter=layout.delimiter, invalid_row_handler=on_ragged_row
            ),
            convert_options=arrow_csv.ConvertOptions(
                include_columns=list(chosen),
                null_values=[*missing, "NaN"],
                strings_can_be_null=True,
                true_values=[],
                false_values=[],
                timestamp_parsers=["%Y-%m-%dT%H:%M:%SZ"],
            ),
        )
    except pa.ArrowException as error:
        if broken:
            row = broken[0]
            where = f"line {layout.first_line + row.number - 1}" if row.number else "a line"
            raise MelotteFileError(
                f"{path}: {where} holds {row.actual_columns} values but there are "
                f"{row.expected_columns} column names: {shortened(row.text)!r}"
            ) from error
        raise MelotteFileError(f"{path}: the text table is broken: {one_line(error)}") from error
    return {name: from_arrow(table.column(name)) for name in chosen}
