"""Arrow columns as numpy arrays with this package's convention for missing values."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.io.table_files import LARGEST_EXACT

if TYPE_CHECKING:
    import pyarrow


def from_arrow(column: pyarrow.ChunkedArray) -> NDArray[Any]:
    """An Arrow column as a numpy array, shape (n_rows,).

    Missing numbers are NaN, missing text ``None``; whole numbers too long for float64 stay int64
    and are -1 where missing.
    """
    import pyarrow as pa

    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
        kind = column.type
    if pa.types.is_null(kind):
        return np.full(len(column), np.nan)
    if pa.types.is_decimal(kind) or pa.types.is_float16(kind):
        column = column.cast(pa.float64())
    elif pa.types.is_integer(kind) and column.null_count:
        return filled_integers(column.fill_null(0).to_numpy(), column.is_null().to_numpy())
    elif pa.types.is_boolean(kind):
        column = column.cast(pa.int8())
        if column.null_count:
            column = column.cast(pa.float32())
    elif pa.types.is_temporal(kind):
        column = column.cast(pa.string())
    return column.to_numpy()


def filled_integers(values: NDArray[Any], missing: NDArray[np.bool_]) -> NDArray[Any]:
    """Integers of which some are missing: float64 with NaN, or int64 with -1 where too long."""
    known = values[~missing]
    if len(known) and np.abs(known.astype(np.float64)).max() > LARGEST_EXACT:
        return np.where(missing, -1, values.astype(np.int64))
    return np.where(missing, np.nan, values.astype(np.float64))
