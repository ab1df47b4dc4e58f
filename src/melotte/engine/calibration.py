"""The verdict on every parameter: calibrated, biased, overconfident or underconfident.

A posterior whose stated width is too small is worse than none. This judges the posteriors of
mocks by the ranks of their true parameters (see :mod:`melotte.engine.coverage`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy import special

from melotte.engine.coverage import (
    ExpectedCoverage,
    expected_coverage,
    group_codes,
    interval_coverage,
    mean_and_error,
    pit_values,
    sbc_ranks,
    uniformity,
)
from melotte.errors import MelotteValueError

LEVELS = (0.68, 0.95)
SIGNIFICANCE = 3.0
"""Standard errors beyond which a deviation counts."""
FEWEST_GROUPS = 10
"""Independent groups of mocks below which standard errors are too uncertain for a verdict."""
SMALLEST_SHIFT = 0.05
SMALLEST_STRETCH = 0.03
"""Deviations below these do not count, however many mocks prove them (see `verdict_of`)."""


@dataclass(frozen=True)
class ParameterCalibration:
    """How well one parameter's posteriors are calibrated.

    Parameters
    ----------
    n, n_groups : int
        Mocks with a known truth, and the independent groups among them.
    coverage_68, coverage_68_error, coverage_95, coverage_95_error : float
    shift, shift_error : float
        Mean of (truth - posterior centre) in posterior widths (normal scores of the ranks).
    stretch, stretch_error : float
        Actual spread of the truth over the stated width: above 1 is overconfident.
    p_value : float
        Of uniform ranks.
    rank_histogram : tuple of int
        Counts of ranks in equal bins from 0 to n_samples.
    verdict : {"calibrated", "biased", "overconfident", "underconfident", "misshapen", "unknown"}
        ``"unknown"`` from fewer than :data:`FEWEST_GROUPS` groups.
    """

    n: int
    n_groups: int
    coverage_68: float
    coverage_68_error: float
    coverage_95: float
    coverage_95_error: float
    shift: float
    shift_error: float
    stretch: float
    stretch_error: float
    p_value: float
    rank_histogram: tuple[int, ...]
    verdict: str


def judge_parameter(
    ranks: ArrayLike,
    n_samples: int,
    group: ArrayLike | None = None,
    seed: int = 0,
    n_bins: int = 20,
) -> ParameterCalibration:
    """Calibration of one parameter from its ranks, shape (n,); -1 is ignored."""
    number = np.asarray(ranks)
    known = number >= 0
    codes = group_codes(group, len(number))[known]
    pit = pit_values(number[known], n_samples, seed)
    narrow, wide = (interval_coverage(pit, level, codes) for level in LEVELS)
    # Scores of jittered ranks have unit variance for right posteriors at any n_samples.
    score = special.ndtri(np.clip(pit, 1e-9, 1 - 1e-9))
    shift, shift_error = mean_and_error(score, codes)
    variance, variance_error = mean_and_error((score - shift) ** 2, codes)
    stretch = math.sqrt(variance) if variance >= 0 else math.nan
    stretch_error = variance_error / (2 * stretch) if stretch > 0 else math.nan
    p_value = uniformity(pit, codes, n_bins)
    n_groups = len(np.unique(codes))
    histogram = np.histogram(pit, bins=n_bins, range=(0, 1))[0]
    return ParameterCalibration(
        len(pit),
        n_groups,
        narrow.fraction,
        narrow.error,
        wide.fraction,
        wide.error,
        shift,
        shift_error,
        stretch,
        stretch_error,
        p_value,
        tuple(int(count) for count in histogram),
        verdict_of(shift, shift_error, stretch, stretch_error, p_value)
        if n_groups >= FEWEST_GROUPS
        else "unknown",
    )


def verdict_of(
    shift: float, shift_error: float, stretch: float, stretch_error: float, p_value: float
) -> str:
    """One word on a parameter; the larger of two significant deviations names it.

    A deviation counts when it exceeds ``SIGNIFICANCE`` standard errors *and* is large enough to
    matter: a shift of 0.05 posterior widths, or a width wrong by 3 % (which changes the coverage
    of a 68 % interval by 1.4 %). Non-uniform ranks (p < 0.001) with neither are ``"misshapen"``.
    """
    if not (math.isfinite(shift_error) and math.isfinite(stretch_error)):
        return "unknown"
    biased = abs(shift) > max(SIGNIFICANCE * shift_error, SMALLEST_SHIFT)
    excess = stretch - 1
    scaled = abs(excess) > max(SIGNIFICANCE * stretch_error, SMALLEST_STRETCH)
    if biased and (not scaled or abs(shift) >= abs(excess)):
        return "biased"
    if scaled:
        return "overconfident" if excess > 0 else "underconfident"
    return "misshapen" if p_value < 1e-3 else "calibrated"


@dataclass(frozen=True)
class CalibrationReport:
    """Calibration of a model on mocks; :func:`calibrate` makes it.

    Parameters
    ----------
    n_samples : int
        Posterior samples of every mock.
    parameters : dict of str to ParameterCalibration
    joint : ExpectedCoverage
        Of all parameters together.
    """

    n_samples: int
    parameters: dict[str, ParameterCalibration]
    joint: ExpectedCoverage

    @property
    def verdicts(self) -> dict[str, str]:
        """One word for every parameter."""
        return {name: entry.verdict for name, entry in self.parameters.items()}

    def as_json(self) -> dict[str, Any]:
        """Plain dictionary for a model file or an evaluation; NaN becomes None."""
        return _without_nan(asdict(self))

    @classmethod
    def from_json(cls, entry: dict[str, Any]) -> CalibrationReport:
        """Inverse of :meth:`as_json`."""
        try:
            parameters = {
                name: ParameterCalibration(**_restored(one))
                for name, one in entry["parameters"].items()
            }
            joint = ExpectedCoverage(**_restored(entry["joint"]))
            return cls(int(entry["n_samples"]), parameters, joint)
        except (KeyError, TypeError, AttributeError) as error:
            raise MelotteValueError(f"malformed calibration entry: {error}") from error


def calibrate(
    samples: ArrayLike,
    truth: ArrayLike,
    names: Sequence[str],
    group: ArrayLike | None = None,
    seed: int = 0,
) -> CalibrationReport:
    """Judge posteriors of mocks.

    Parameters
    ----------
    samples : array, shape (n, n_samples, n_parameters)
        In the unit cube of the prior, so that joint distances weigh every parameter alike.
    truth : array, shape (n, n_parameters)
        Same scale; NaN where unknown.
    names : sequence of str, length n_parameters
    group : array of int, shape (n,), optional
        Mocks that share a parent share a number.
    seed : int
        Of the references and the jitter within ranks.

    Returns
    -------
    CalibrationReport
    """
    ranks = sbc_ranks(samples, truth)
    n_samples = np.shape(samples)[1]
    if len(names) != ranks.shape[1]:
        raise MelotteValueError(f"{len(names)} names for {ranks.shape[1]} parameters")
    parameters = {
        name: judge_parameter(ranks[:, i], n_samples, group, seed + i)
        for i, name in enumerate(names)
    }
    return CalibrationReport(n_samples, parameters, expected_coverage(samples, truth, group, seed))


def _without_nan(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_nan(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nan(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _restored(entry: dict[str, Any]) -> dict[str, Any]:
    def number(value: Any) -> Any:
        return math.nan if value is None else value

    return {
        key: tuple(map(number, value)) if isinstance(value, list) else number(value)
        for key, value in entry.items()
    }
