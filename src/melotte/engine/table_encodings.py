"""Tables as bytes and back: ECSV, FITS, parquet and VOTable.

Every format keeps units, column descriptions and what stands in ``meta["melotte"]``; the same
table gives the same bytes.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Callable
from typing import Any

import numpy as np

META = "melotte"
"""Key of the provenance in a table's ``meta``, and its name in every file."""


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
    table.meta = {META: json.loads(header.get("MELOTTE", "{}"))}
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
    schema = pa.schema(fields, metadata={META: _text_of(table)})
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
    text = (stored.schema.metadata or {}).get(META.encode(), b"{}")
    table.meta[META] = json.loads(text)
    return table


def _to_votable(table: Any) -> bytes:
    from astropy.io.votable import from_table
    from astropy.io.votable.tree import Info

    votable = from_table(_without_meta(table))
    votable.resources[0].infos.append(Info(name=META, value=_text_of(table)))
    buffer = io.BytesIO()
    votable.to_xml(buffer)
    return buffer.getvalue()


def _from_votable(content: bytes) -> Any:
    from astropy.io.votable import parse

    votable = parse(io.BytesIO(content))
    table: Any = votable.get_first_table().to_table(use_names_over_ids=True)
    infos = {info.name: info.value for info in votable.resources[0].infos}
    table.meta = {META: json.loads(str(infos.get(META, "{}")))}
    for name in table.colnames:
        table[name].description = " ".join((table[name].description or "").split()) or None
        if table[name].dtype.kind == "O":
            table[name] = np.asarray(table[name]).astype(str)
    return _filled(table)


def _without_meta(table: Any) -> Any:
    plain = table.copy(copy_data=False)
    plain.meta.clear()
    return plain


def _text_of(table: Any) -> str:
    return json.dumps(table.meta.get(META, {}), ensure_ascii=True, sort_keys=True)


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


ENCODERS: dict[str, Callable[[Any], bytes]] = {
    ".ecsv": _to_ecsv,
    ".fits": _to_fits,
    ".parquet": _to_parquet,
    ".vot": _to_votable,
}
"""By suffix: the bytes of an astropy table."""
DECODERS: dict[str, Callable[[bytes], Any]] = {
    ".ecsv": _from_ecsv,
    ".fits": _from_fits,
    ".parquet": _from_parquet,
    ".vot": _from_votable,
}
"""By suffix: the astropy table of such bytes."""
