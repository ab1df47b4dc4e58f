"""What kind of table a file is, told from its content, and what a table that was read holds."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from melotte.errors import MelotteFileError, MelotteValueError

ALLOWED = "CSV, TSV, ECSV, FITS, VOTable or parquet"
"""The formats of tables, as error messages list them."""

MISSING_WORDS = frozenset({"", "nan", "null", "none", "na", "n/a", "--", "---", "indef", "<na>"})
"""Texts that stand for a missing number, in lower case."""

LARGEST_EXACT = 2**53
"""Integers up to this magnitude survive a conversion to float64."""

_FOREIGN = (
    (b"\x89HDF", "an HDF5 file"),
    (b"PK\x03\x04", "a zip or spreadsheet file"),
    (b"%PDF", "a PDF file"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"\xff\xfe", "UTF-16 text"),
    (b"\xfe\xff", "UTF-16 text"),
    (b"\x93NUMPY", "a numpy array file"),
    (b"BZh", "a bzip2 file"),
    (b"\xfd7zXZ", "an xz file"),
)


@dataclass(frozen=True)
class TableFile:
    """Columns read from a user's file.

    Parameters
    ----------
    path : Path
    format : str
        One of ``"csv"``, ``"ecsv"``, ``"fits"``, ``"votable"``, ``"parquet"``, ``"memory"``.
    columns : mapping of str to array, each of shape (n_rows, ...)
        Native byte order; text is an object array with ``None`` where missing. Missing values of
        number columns are NaN; integers too long for float64, such as Gaia source identifiers,
        stay int64 and are -1 where missing.
    units : mapping of str to str
        The unit the file states; columns without one are absent.
    metadata : mapping of str to str
        Whatever else the file says of itself, flattened to text.
    """

    path: Path
    format: str
    columns: Mapping[str, NDArray[Any]]
    units: Mapping[str, str] = field(default_factory=dict)
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(next(iter(self.columns.values())))

    def numbers(self, name: str) -> NDArray[np.float64]:
        """A column as float64, shape (n_rows,); missing values are NaN.

        Raises
        ------
        MelotteValueError
            When the column is absent, holds arrays, or holds a text that is no number; the message
            names the row (the first data row is 1) and the column.
        """
        values = self._one_dimensional(name)
        if values.dtype.kind in "biuf":
            return values.astype(np.float64)
        numbers = np.full(len(values), np.nan)
        for row, value in enumerate(values):
            text = "" if value is None else str(value).strip()
            if text.lower() in MISSING_WORDS:
                continue
            try:
                if "_" in text:
                    raise ValueError
                numbers[row] = float(text)
            except ValueError:
                raise MelotteValueError(
                    f"{self.path}: row {row + 1}, column {name!r}: {shortened(text)!r} is not a "
                    "number (the first data row is 1; leave a missing value empty or write NaN)"
                ) from None
        return numbers

    def numbers_in(self, name: str, unit: str) -> NDArray[np.float64]:
        """A column in a unit, shape (n_rows,); one without a unit is taken to be in it already.

        Raises
        ------
        MelotteValueError
            As :meth:`numbers`, and when the stated unit does not convert.
        """
        values = self.numbers(name)
        scale = self.unit_scale(name, unit)
        return values if scale == 1 else values * scale

    def unit_scale(self, name: str, *units: str) -> float:
        """Factor from a column's stated unit to the first of ``units`` that it converts to.

        It is 1 where the column states none, or one of them. ``""`` is that of plain numbers.

        Raises
        ------
        MelotteValueError
            When it converts to none of them.
        """
        stated = self.units.get(name, "").strip().strip("[]()")
        if not stated or stated in (*units, "-", "---"):
            return 1.0
        from astropy import units as astropy_units

        for unit in units:
            try:
                wanted = astropy_units.Unit(unit)
                return float(np.asarray(astropy_units.Unit(stated).to(wanted)))
            except (ValueError, TypeError, astropy_units.UnitsError):
                continue
        raise MelotteValueError(
            f"{self.path}: column {name!r} is in {stated!r}; a unit that converts to "
            f"{units[0] or 'a plain number'} is needed"
        )

    def integers(self, name: str) -> NDArray[np.int64]:
        """A column of whole numbers as int64, shape (n_rows,); missing values are -1.

        Raises
        ------
        MelotteValueError
            As :meth:`numbers`, and when a value is not whole.
        """
        values = self._one_dimensional(name)
        if values.dtype.kind in "iu":
            return values.astype(np.int64)
        if values.dtype.kind == "O":
            exact = self._exact_integers(values)
            if exact is not None:
                return exact
        numbers = self.numbers(name)
        known = np.isfinite(numbers)
        broken = known & ((np.floor(numbers) != numbers) | (np.abs(numbers) > 2**63 - 1024))
        if broken.any():
            row = int(np.argmax(broken))
            raise MelotteValueError(
                f"{self.path}: row {row + 1}, column {name!r}: {numbers[row]:g} is not a whole "
                "number that fits 64 bits"
            )
        return np.where(known, numbers, -1).astype(np.int64)

    def text(self, name: str) -> NDArray[np.object_]:
        """A column as text, shape (n_rows,); whole numbers lose their ``.0``, missing is ``""``."""
        values = self._one_dimensional(name)
        if values.dtype.kind == "f":
            written = [
                ""
                if np.isnan(v)
                else str(int(v))
                if v == np.floor(v) and np.isfinite(v)
                else f"{v}"
                for v in values.tolist()
            ]
        elif values.dtype.kind in "biu":
            written = [str(value) for value in values.tolist()]
        else:
            written = ["" if value is None else str(value).strip() for value in values.tolist()]
        return np.array(written, dtype=object)

    @staticmethod
    def _exact_integers(values: NDArray[Any]) -> NDArray[np.int64] | None:
        """Identifiers written as text, without the detour through float64 that would round them."""
        try:
            return np.array(
                [-1 if v is None or not str(v).strip() else int(str(v)) for v in values],
                dtype=np.int64,
            )
        except (ValueError, OverflowError):
            return None

    def _one_dimensional(self, name: str) -> NDArray[Any]:
        if name not in self.columns:
            raise MelotteValueError(
                f"{self.path} has no column {name!r}; found: {listed(self.columns)}"
            )
        values = self.columns[name]
        if values.ndim != 1:
            raise MelotteValueError(
                f"{self.path}: column {name!r} holds arrays of shape {values.shape[1:]}; "
                "one value a row is needed"
            )
        return values


def listed(names: Any, most: int = 24) -> str:
    """Names separated by commas, cut after ``most``."""
    names = [str(name) for name in names]
    rest = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(shortened(name) for name in names[:most]) + rest


def shortened(text: str, most: int = 40) -> str:
    """Text on one printable line, at most ``most`` characters long."""
    text = "".join(c if c.isprintable() else " " for c in " ".join(text.split()))
    return text if len(text) <= most else text[: most - 3] + "..."


def one_line(error: BaseException) -> str:
    """The first line of an exception's message, for the tail of our own."""
    lines = str(error).strip().splitlines()
    return shortened(lines[0], 160) if lines else type(error).__name__


def read_bytes(path: Path) -> bytes:
    """Content of a file, unpacked when it is gzipped.

    Raises
    ------
    MelotteFileError
        When the file is missing, a folder, unreadable, empty, or a damaged gzip stream.
    """
    content = _content(path)
    if content[:2] != b"\x1f\x8b":
        return content
    try:
        content = gzip.decompress(content)
    except (OSError, EOFError, zlib.error) as error:
        raise MelotteFileError(
            f"{path}: the gzip stream is cut short or damaged ({one_line(error)}); "
            "fetch the file again"
        ) from error
    if not content.strip():
        raise MelotteFileError(f"{path} unpacks to nothing; {ALLOWED} is needed")
    return content


def _content(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise MelotteFileError(f"{path} is a folder; give a file: {ALLOWED}")
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise MelotteFileError(f"{path} does not exist; give a file: {ALLOWED}") from error
    except (OSError, ValueError) as error:
        if isinstance(error, MelotteFileError):
            raise
        reason = getattr(error, "strerror", None) or one_line(error)
        raise MelotteFileError(f"{shortened(str(path), 200)} cannot be read: {reason}") from error
    if not content.strip():
        raise MelotteFileError(f"{path} is empty; {ALLOWED} is needed")
    return content


def table_format(path: Path, content: bytes) -> str:
    """Kind of table, told from the content first and the file name second.

    Parameters
    ----------
    path : Path
    content : bytes
        All or the first few thousand bytes, unpacked.

    Returns
    -------
    str
        ``"parquet"``, ``"fits"``, ``"votable"``, ``"ecsv"`` or ``"csv"``.

    Raises
    ------
    MelotteFileError
        When the content is none of them.
    """
    head = content[:4096]
    for magic, kind in _FOREIGN:
        if head.startswith(magic):
            raise MelotteFileError(f"{path} is {kind}; {ALLOWED} is needed")
    if head.startswith(b"PAR1"):
        return "parquet"
    if head.startswith(b"SIMPLE  ="):
        return "fits"
    text = head.removeprefix(b"\xef\xbb\xbf").lstrip()
    lower = text.lower()
    if lower.startswith((b"<!doctype html", b"<html")) or (text[:1] == b"<" and b"<html" in lower):
        raise MelotteFileError(
            f"{path} is a web page (HTML), perhaps a failed download; {ALLOWED} is needed"
        )
    if text.startswith(b"<"):
        if b"VOTABLE" in content[:65536].upper():
            return "votable"
        raise MelotteFileError(f"{path} is XML without a VOTABLE; {ALLOWED} is needed")
    if text.startswith((b"{", b"[")):
        raise MelotteFileError(f"{path} looks like JSON; {ALLOWED} is needed")
    if b"\0" in head or sum(byte < 32 and byte not in (9, 10, 12, 13) for byte in head) > 4:
        expected = _expected_kind(path)
        raise MelotteFileError(f"{path} is binary and no {expected} file; {ALLOWED} is needed")
    if text.startswith(b"# %ECSV"):
        return "ecsv"
    suffix = _suffix(path)
    if suffix in (".fits", ".fit", ".parquet", ".pq", ".vot", ".xml"):
        raise MelotteFileError(
            f"{path} is text and no {_expected_kind(path)} file as its name says; "
            f"{ALLOWED} is needed"
        )
    return "csv"


def _suffix(path: Path) -> str:
    suffixes = [suffix.lower() for suffix in path.suffixes if suffix.lower() != ".gz"]
    return suffixes[-1] if suffixes else ""


def _expected_kind(path: Path) -> str:
    named = {
        ".fits": "FITS",
        ".fit": "FITS",
        ".parquet": "parquet",
        ".pq": "parquet",
        ".vot": "VOTable",
        ".xml": "VOTable",
    }
    return named.get(_suffix(path), "table")
