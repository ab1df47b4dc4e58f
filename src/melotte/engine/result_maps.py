"""Maps that a model infers, with their errors and coordinates, as multi-extension FITS files.

Whatever a system calls an output of kind ``map`` is served: its values, their scale where the
network gives one, and the maps and tables that the system derives from them.
"""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.engine.atomic_files import write_atomically
from melotte.engine.json_values import plain_json
from melotte.engine.result_tables import check_file_place
from melotte.engine.results import REMARKS, ResultColumn
from melotte.errors import MelotteValueError
from melotte.flags import decode_flags
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.base import Observation, Output

if TYPE_CHECKING:
    from melotte.engine.results import InferenceResult
    from melotte.systems.base import System

SUFFIXES = (".fits", ".fit")
_LONGEST_CARD = 60


@dataclass(frozen=True)
class MapLayer:
    """One map of one object.

    Parameters
    ----------
    name : str
    values : array, float32, shape (n_rows, n_columns), or (n_maps, n_rows, n_columns)
    unit : str
    description : str
    degrees : float, optional
        Of freedom of Student's distribution, for a scale.
    """

    name: str
    values: NDArray[np.float32]
    unit: str = ""
    description: str = ""
    degrees: float | None = None


@dataclass(frozen=True)
class TableLayer(MapLayer):
    """A table that follows from the maps of one object.

    Parameters
    ----------
    values : array, float32, shape (n_columns, n_rows)
    columns : tuple of (name, unit, description)
        One a row of ``values``.
    numbers : tuple of (keyword, value, description)
        That hold for the whole table; keywords of at most 8 capitals.
    """

    columns: tuple[tuple[str, str, str], ...] = ()
    numbers: tuple[tuple[str, float, str], ...] = ()


@dataclass(frozen=True)
class DerivedTables:
    """What a system's ``derived_maps`` may give under a name: one table an object of a batch.

    Parameters
    ----------
    columns : mapping of str to ResultColumn
        Values of shape (batch, n_rows).
    numbers : mapping of str to ResultColumn
        Values of shape (batch,), by keyword of FITS.
    description : str
    """

    columns: Mapping[str, ResultColumn]
    numbers: Mapping[str, ResultColumn]
    description: str = ""


def map_outputs(system: System) -> tuple[Output, ...]:
    """Outputs of a system that are maps."""
    return tuple(one for one in system.outputs if one.kind == "map")


def object_maps(
    system: System,
    observation: Observation,
    outputs: Mapping[str, Any],
    medians: Mapping[str, NDArray[np.float64]],
) -> list[tuple[MapLayer, ...]]:
    """Maps of each object of a batch.

    Parameters
    ----------
    system : System
        With ``derived_maps(observation, outputs, medians)``, if it has any: a mapping from names
        to (values (batch, n_rows, n_columns), unit, description) or to :class:`DerivedTables`.
    observation : Observation
    outputs : mapping
        Of the network.
    medians : mapping of str to array, shape (batch,)
        Posterior medians of the parameters.

    Returns
    -------
    list of tuple of MapLayer, one an object
    """
    n = len(observation)
    layers: list[list[MapLayer]] = [[] for _ in range(n)]
    for output in map_outputs(system):
        value: Any = outputs[output.name]
        posterior = value if isinstance(value, MapPosterior) else None
        mean = _plain(value if posterior is None else posterior.mean)
        scale = None if posterior is None else _plain(posterior.scale)
        degrees = None
        if posterior is not None and posterior.degrees is not None:
            degrees = float(posterior.degrees.flatten()[0])
        kind = "standard deviation" if degrees is None else "scale of Student's distribution"
        for i in range(n):
            layers[i].append(MapLayer(output.name, mean[i], "", output.description))
            if scale is not None:
                about = f"{kind} of {output.description}"
                layers[i].append(
                    MapLayer(f"{output.name}_scale", scale[i], "", about, degrees=degrees)
                )
    derive = getattr(system, "derived_maps", None)
    found = {} if derive is None else derive(observation, outputs, medians)
    for name, given in found.items():
        for i in range(n):
            if isinstance(given, DerivedTables):
                layers[i].append(_table_layer(name, given, i))
            else:
                values, unit, description = given
                plain = np.asarray(values[i], dtype=np.float32)
                layers[i].append(MapLayer(name, plain, unit, description))
    return [tuple(one) for one in layers]


def _table_layer(name: str, tables: DerivedTables, row: int) -> TableLayer:
    """The table of one object of a batch."""
    columns, numbers = tables.columns.items(), tables.numbers.items()
    return TableLayer(
        name,
        np.stack([one.values[row] for _, one in columns]).astype(np.float32),
        description=tables.description,
        columns=tuple((key, one.unit, one.description) for key, one in columns),
        numbers=tuple((key, float(one.values[row]), one.description) for key, one in numbers),
    )


def check_maps_path(path: str | Path, system: System) -> None:
    """Find out before long work whether maps can be written.

    Raises
    ------
    MelotteValueError
        When the system infers no maps, or the suffix is not .fits.
    MelotteFileError
        When the folder does not exist or the path is a folder.
    """
    if not map_outputs(system):
        raise MelotteValueError(f"maps: this model infers none; its system is {system.name}")
    if Path(path).suffix.lower() not in SUFFIXES:
        raise MelotteValueError(
            f"{Path(path).name}: maps are written as FITS; give a name that ends in .fits"
        )
    check_file_place(Path(path))


def write_maps(result: InferenceResult, path: str | Path) -> Path:
    """Write the maps of a result.

    Parameters
    ----------
    result : InferenceResult
        With maps; ``header["wcs"]`` may hold, by id, cards of FITS with their coordinates.
    path : path
        The primary header holds where the maps come from. Extensions have the layer's name in
        capitals (``MASS_MAP``, ``MASS_MAP_SCALE``, ...) and the object's row, from 1, as
        ``EXTVER``; an object that failed has none. A :class:`TableLayer` is a BINTABLE with its
        columns' descriptions as ``TCOMM``.

    Raises
    ------
    MelotteValueError
        When the result has no maps.
    MelotteFileError
        When the file cannot be written.
    """
    from astropy.io import fits

    if not result.maps:
        raise MelotteValueError("the result has no maps to write; ask for them with --maps FILE")
    primary = fits.PrimaryHDU()
    for key, value, comment in _provenance(result):
        primary.header[key] = (value, comment)
    file = fits.HDUList([primary])
    coordinates, known = result.header.get("wcs", {}), result.header.get("known", {})
    remarks = result.header.get(REMARKS, {})
    for row, layers in enumerate(result.maps):
        world = _world(coordinates.get(result.ids[row], ""))
        for layer in layers:
            if isinstance(layer, TableLayer):
                hdu = _table_extension(layer)
            else:
                hdu = fits.ImageHDU(layer.values.astype(np.float32), name=layer.name.upper())
                if world is not None:
                    hdu.header.update(world)
            hdu.ver = row + 1
            hdu.header["OBJECT"] = _card(result.ids[row])
            if layer.unit:
                hdu.header["BUNIT"] = layer.unit
            if layer.degrees is not None:
                hdu.header["DEGREES"] = (layer.degrees, "of freedom of Student's distribution")
            flags = int(result.flags[row])
            hdu.header["FLAGS"] = (flags, "sum of bits")
            hdu.header.add_comment(_ascii(layer.description))
            if flags:
                hdu.header.add_comment(f"flags: {', '.join(decode_flags(flags))}")
            if result.ids[row] in known:
                hdu.header["KNOWN"] = _known_card(known[result.ids[row]])
            reason = result.reasons.get(result.ids[row], "")
            for text in filter(None, (reason, *remarks.get(result.ids[row], ()))):
                hdu.header.add_comment(_ascii(text))
            file.append(hdu)
    content = io.BytesIO()
    file.writeto(content)
    write_atomically(path, content.getvalue())
    return Path(path)


def _table_extension(layer: TableLayer) -> Any:
    """A table as an extension: units and descriptions by column, its numbers as cards."""
    from astropy.io import fits

    columns = [
        fits.Column(name, "E", unit=unit or None, array=values)
        for (name, unit, _), values in zip(layer.columns, layer.values, strict=True)
    ]
    hdu = fits.BinTableHDU.from_columns(columns, name=layer.name.upper())
    for place, (_, _, description) in enumerate(layer.columns, 1):
        hdu.header[f"TCOMM{place}"] = _ascii(description)
    for key, value, description in layer.numbers:
        hdu.header[key] = (value, _card(description, 40))
    return hdu


def _provenance(result: InferenceResult) -> list[tuple[str, Any, str]]:
    """Cards of the primary header."""
    known = result.provenance
    training = known.get("training", {})
    inputs: Sequence[str] = known.get("inputs", ())
    cards = [
        ("CREATOR", f"melotte {known.get('version', '')}".strip(), "program that wrote this file"),
        ("MODEL", _card(str(known.get("model", ""))), "that inferred the maps"),
        ("SYSTEM", _card(str(known.get("system", ""))), ""),
        ("SEED", int(known.get("seed", 0)), "of the samples"),
        ("TRAINSD", int(training.get("seed", -1)), "seed of the model's training"),
    ]
    cards += [
        (f"INPUT{number}", _card(name), "file that was read")
        for number, name in enumerate(inputs[:99], 1)
    ]
    given = known.get("known")
    if given:
        cards.append(("KNOWN", _known_card(given), ""))
    return cards


def _known_card(values: Mapping[str, float]) -> str:
    """Values that were given, as JSON; FITS continues what one card does not hold."""
    return _ascii(json.dumps(plain_json(values, "known")))


def _world(cards: str) -> Any:
    if not cards:
        return None
    from astropy.io import fits

    return fits.Header.fromstring(cards)


def _plain(value: Any) -> NDArray[np.float32]:
    """Maps (batch, n_maps, rows, columns) as an array; without the axis of one map alone."""
    maps = value.detach().cpu().float().numpy()
    return maps[:, 0] if maps.ndim == 4 and maps.shape[1] == 1 else maps


def _card(text: str, longest: int = _LONGEST_CARD) -> str:
    return _ascii(text)[:longest]


def _ascii(text: str) -> str:
    """Text as cards of FITS may hold it."""
    plain = text.encode("ascii", "replace").decode("ascii")
    return "".join(letter if letter.isprintable() else " " for letter in plain)
