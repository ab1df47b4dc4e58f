"""What inference gives: quantiles, flags and, on request, samples of every object."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.flags import Flag
from melotte.parameters import Parameter

if TYPE_CHECKING:
    from astropy.table import Table

    from melotte.engine.result_maps import MapLayer

LEVELS = (0.16, 0.5, 0.84)
REMARKS = "remarks"
"""Entry of a result's header: what a person should know of objects, lists by id."""


@dataclass(frozen=True)
class ResultColumn:
    """A column of its own that a system or a check adds to the result table.

    Parameters
    ----------
    values : array, shape (n,)
    unit : str
    description : str
    """

    values: NDArray[Any]
    unit: str = ""
    description: str = ""


def described(
    values: Mapping[str, NDArray[Any]], texts: Mapping[str, tuple[str, str]]
) -> dict[str, ResultColumn]:
    """Columns of these values, with unit and description of each by its name."""
    return {name: ResultColumn(one, *texts[name]) for name, one in values.items()}


@dataclass(frozen=True)
class InferenceResult:
    """Measurements of some objects, one row each, in the order of the input.

    Parameters
    ----------
    ids : tuple of str
    parameters : tuple of Parameter
    quantiles : array, shape (n, 3, n_parameters), physical units
        16, 50 and 84 %; NaN where the row failed.
    flags : array of int64, shape (n,)
        Bits of :class:`melotte.flags.Flag`.
    samples : array of float32, shape (n, n_samples, n_parameters), physical units, or None
        NaN where the row failed.
    columns : dict of str to ResultColumn
    maps : tuple of tuple of MapLayer, one an object
        What :mod:`melotte.engine.result_maps` says of them; empty where none were asked for.
    reasons : dict of str to str
        Why rows failed, or what drove OUT_OF_DOMAIN, by id.
    header : dict
        What the reader says of the objects (rows dropped, by id).
    provenance : dict
        Model, preset, version, seed and inputs; JSON values.
    """

    ids: tuple[str, ...]
    parameters: tuple[Parameter, ...]
    quantiles: NDArray[np.float64]
    flags: NDArray[np.int64]
    samples: NDArray[np.float32] | None = None
    columns: Mapping[str, ResultColumn] = field(default_factory=dict)
    maps: tuple[tuple[MapLayer, ...], ...] = ()
    reasons: Mapping[str, str] = field(default_factory=dict)
    header: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def names(self) -> tuple[str, ...]:
        """Parameter names in order."""
        return tuple(parameter.name for parameter in self.parameters)

    @property
    def measured(self) -> NDArray[np.bool_]:
        """Rows without the flag FAILED, shape (n,)."""
        return (self.flags & int(Flag.FAILED)) == 0

    def table(self) -> Table:
        """Result table; see :func:`melotte.engine.result_tables.result_table`."""
        from melotte.engine.result_tables import result_table

        return result_table(self)

    def write(self, path: str | Path) -> Path:
        """Write the table; see :func:`melotte.engine.result_tables.write_result_table`."""
        from melotte.engine.result_tables import write_result_table

        return write_result_table(self, path)

    def write_maps(self, path: str | Path) -> Path:
        """Write the maps; see :func:`melotte.engine.result_maps.write_maps`."""
        from melotte.engine.result_maps import write_maps

        return write_maps(self, path)

    def write_samples(self, path: str | Path) -> Path:
        """Write the samples; see :func:`melotte.engine.result_tables.write_samples`."""
        from melotte.engine.result_tables import write_samples

        return write_samples(self, path)
