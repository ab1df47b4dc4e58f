"""Error statistics of point estimates against the truth."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class PointErrors:
    """Errors of an estimate, in the parameter's unit.

    Parameters
    ----------
    n : int
        Finite pairs.
    bias : float
        Mean of estimate less truth.
    std : float
        Standard deviation of that difference about the bias (n - 1 in the denominator).
    mae : float
        Mean of its absolute value.
    r2 : float
        1 - sum (estimate - truth)^2 / sum (truth - mean truth)^2; may be negative.
    p95_abs : float
        95 % quantile of its absolute value.
    """

    n: int
    bias: float
    std: float
    mae: float
    r2: float
    p95_abs: float

    def as_json(self) -> dict[str, float | None]:
        """The five statistics; None where there are too few mocks."""
        values = asdict(self)
        del values["n"]
        return {key: value if math.isfinite(value) else None for key, value in values.items()}


def point_errors(estimate: ArrayLike, truth: ArrayLike) -> PointErrors:
    """Statistics of the errors of one parameter.

    Parameters
    ----------
    estimate, truth : array, shape (n,), the parameter's unit
        Pairs with a value that is not finite are left out.

    Returns
    -------
    PointErrors
        NaN where fewer than two pairs remain.
    """
    given, true = np.asarray(estimate, dtype=float), np.asarray(truth, dtype=float)
    finite = np.isfinite(given) & np.isfinite(true)
    given, true = given[finite], true[finite]
    n = len(true)
    if n < 2:
        return PointErrors(n, *(math.nan,) * 5)
    error = given - true
    scatter = float(((true - true.mean()) ** 2).sum())
    return PointErrors(
        n,
        float(error.mean()),
        float(error.std(ddof=1)),
        float(np.abs(error).mean()),
        1 - float((error**2).sum()) / scatter if scatter > 0 else math.nan,
        float(np.quantile(np.abs(error), 0.95)),
    )
