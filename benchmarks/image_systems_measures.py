"""Numbers of the image-system benchmark: errors, coverage, classes, shapes, groups."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from image_systems_methods import LIMITED, Reading, Truth
from numpy.typing import NDArray

from melotte.engine.coverage import interval_coverage, pit_values, sbc_ranks
from melotte.engine.evaluation import roc_auc
from melotte.engine.point_errors import point_errors
from melotte.parameters import Parameter
from melotte.report.posterior_shapes import map_shapes
from melotte.systems.cluster_images.judging import LEVELS, VISIBILITIES, bound

Array = NDArray[np.floating[Any]]

RESAMPLES = 200
OLD = 8.0
"""log10(age/yr) from which age and extinction are hard to tell apart (Paper II, Sect. 4.1)."""
SEEN = 2.0
"""Visibility above which a cluster should be told from its background."""


def in_bin(visibility: Array, number: int) -> NDArray[np.bool_]:
    """Which clusters are in a bin of visibility."""
    return (visibility >= VISIBILITIES[number]) & (visibility < VISIBILITIES[number + 1])


def bound_and_error(error: Array, seed: int = 0) -> tuple[float, float]:
    """95th percentile of absolute errors, and the standard deviation of its resamples."""
    size = np.abs(error[np.isfinite(error)])
    if len(size) < 2:
        return math.nan, math.nan
    rows = np.random.default_rng(seed).integers(len(size), size=(RESAMPLES, len(size)))
    return bound(error), float(np.quantile(size[rows], 0.95, axis=1).std())


def error_rows(
    truth: Truth, reading: Reading, parameters: Sequence[Parameter]
) -> dict[str, dict[str, Any]]:
    """Errors of each parameter on the axes' scale: of the quoted estimate and of the median.

    ``p95_abs`` is the paper's bound, with the error of resampling clusters; ``core`` half of the
    range that holds the middle 68 % of the errors; ``p95_young`` and ``p95_old`` the bound below
    and above an age of 10^8 yr; ``p95_by_visibility`` in bins of true visibility.
    """
    rows: dict[str, dict[str, Any]] = {}
    known = truth.is_cluster
    names = [parameter.name for parameter in parameters]
    bins = [in_bin(truth.visibility[known], k) for k in range(len(VISIBILITIES) - 1)]
    ages = truth.theta[known, names.index("log_age")] if "log_age" in names else None
    for i, parameter in enumerate(parameters):
        true = truth.theta[known, i]
        rows[parameter.name] = {}
        for name, values in (("point", reading.point), ("median", reading.median)):
            given = values[known, i]
            found = point_errors(given, true).as_json()
            low, high = np.nanquantile(given - true, [0.16, 0.84])
            found["p95_error"] = bound_and_error(given - true)[1]
            found["core"] = float(high - low) / 2
            if ages is not None:
                young = ages < OLD
                found["p95_young"] = bound((given - true)[young])
                found["p95_old"] = bound((given - true)[~young])
            found["p95_by_visibility"] = [bound((given - true)[one]) for one in bins]
            rows[parameter.name][name] = found
    return rows


def ratios(
    truth: Truth, reading: Reading, other: Reading, parameters: Sequence[Parameter]
) -> dict[str, dict[str, float]]:
    """95 % bounds of one method over those of another, resampling the same clusters of both."""
    rows: dict[str, dict[str, float]] = {}
    known = np.flatnonzero(truth.is_cluster)
    drawn = np.random.default_rng(0).integers(len(known), size=(RESAMPLES, len(known)))
    for i, parameter in enumerate(parameters):
        true = truth.theta[known, i]
        one, two = (np.abs(r.point[known, i] - true) for r in (reading, other))
        resampled = np.quantile(one[drawn], 0.95, 1) / np.quantile(two[drawn], 0.95, 1)
        rows[parameter.name] = {
            "ratio": float(np.quantile(one, 0.95) / np.quantile(two, 0.95)),
            "error": float(resampled.std()),
        }
    return rows


def coverage_rows(
    truth: Truth, reading: Reading, parameters: Sequence[Parameter]
) -> dict[str, dict[str, Any]]:
    """Coverage of the central 68 and 95 % intervals, of all clusters and by visibility.

    Each entry is (fraction, standard error, number of clusters).
    """
    known = truth.is_cluster
    ranks = sbc_ranks(reading.samples[known], truth.theta[known])
    pit = pit_values(ranks, reading.samples.shape[1])
    seen = truth.visibility[known]
    rows: dict[str, dict[str, Any]] = {}
    for i, parameter in enumerate(parameters):

        def entry(chosen: NDArray[np.bool_], level: float, i: int = i) -> list[float]:
            found = interval_coverage(pit[chosen, i], level)
            return [found.fraction, found.error, int(chosen.sum())]

        rows[parameter.name] = {
            name: {
                "all": entry(np.ones(len(seen), dtype=bool), level),
                "by_visibility": [
                    entry(in_bin(seen, k), level) for k in range(len(VISIBILITIES) - 1)
                ],
            }
            for name, level in LEVELS.items()
        }
    return rows


def class_rows(truth: Truth, reading: Reading) -> dict[str, Any] | None:
    """How clusters are told from empty fields, of all and by the clusters' visibility."""
    probability, cluster = reading.probability, truth.is_cluster
    if not np.isfinite(probability).any() or cluster.all() or not cluster.any():
        return None
    empty = probability[~cluster]

    def entry(chosen: NDArray[np.bool_]) -> dict[str, float]:
        given = probability[cluster][chosen]
        area = roc_auc(
            np.concatenate([given, empty]).astype(float),
            np.arange(len(given) + len(empty)) < len(given),
        )
        found = float((given > 0.5).mean()) if len(given) else math.nan
        return {
            "n": int(chosen.sum()),
            "roc_auc": area,
            "error": area_error(area, len(given), len(empty)),
            "found": found,
        }

    seen = truth.visibility[cluster]
    return {
        "all": entry(np.ones(len(seen), dtype=bool)),
        "seen": entry(seen > SEEN),
        "by_visibility": [entry(in_bin(seen, k)) for k in range(len(VISIBILITIES) - 1)],
        "accuracy": float(((probability > 0.5) == cluster).mean()),
        "false_alarms": float((empty > 0.5).mean()),
        "false_alarms_at_0.99": float((empty > 0.99).mean()),
    }


def area_error(area: float, n_positive: int, n_negative: int) -> float:
    """Standard error of an area under the ROC curve (Hanley & McNeil 1982, Eq. 1)."""
    if not n_positive or not n_negative:
        return math.nan
    one, two = area / (2 - area), 2 * area**2 / (1 + area)
    variance = area * (1 - area)
    variance += (n_positive - 1) * (one - area**2) + (n_negative - 1) * (two - area**2)
    return math.sqrt(max(variance, 0.0) / (n_positive * n_negative))


def visibility_rows(truth: Truth, reading: Reading) -> dict[str, float] | None:
    """Errors of the inferred visibility of clusters, dex."""
    known = truth.is_cluster & (truth.visibility > 0) & (reading.visibility > 0)
    if not known.any():
        return None
    error = np.log10(reading.visibility[known] / truth.visibility[known])
    return {
        "bias": float(error.mean()),
        "std": float(error.std()),
        "p95_abs": bound(error),
    }


def shape_rows(
    truth: Truth, reading: Reading, parameters: Sequence[Parameter]
) -> dict[str, Any] | None:
    """Bimodal and extended maps of age and extinction, and whether the bimodal cover the truth."""
    if not reading.maps.shape[1]:
        return None
    known = truth.is_cluster
    shapes = map_shapes(reading.maps[known])
    row: dict[str, Any] = dict(shapes.as_json())
    names = [p.name for p in parameters]
    for kind, chosen in (("bimodal", shapes.bimodal), ("extended", shapes.extended)):
        if not chosen.any():
            continue
        ranks = sbc_ranks(reading.samples[known][chosen], truth.theta[known][chosen])
        pit = pit_values(ranks, reading.samples.shape[1])
        for name in ("log_age", "extinction_v"):
            found = interval_coverage(pit[:, names.index(name)], 0.95)
            row[f"{kind}_{name}_coverage_95"] = [found.fraction, found.error]
    return row


def change_rows(
    truth: Truth, plain: Reading, changed: Reading, parameters: Sequence[Parameter]
) -> dict[str, dict[str, float]]:
    """How estimates move when pictures change: scatter and shift between the two, and bounds."""
    rows: dict[str, dict[str, float]] = {}
    known = truth.is_cluster
    for i, parameter in enumerate(parameters):
        true = truth.theta[known, i]
        one, two = plain.point[known, i], changed.point[known, i]
        before, after = np.quantile(np.abs(one - true), 0.95), np.quantile(np.abs(two - true), 0.95)
        rows[parameter.name] = {
            "shift": float((two - one).mean()),
            "scatter": float((two - one).std()),
            "p95_ratio": float(after / before),
            "std_ratio": float((two - true).std() / (one - true).std()),
        }
    return rows


def measured(
    truth: Truth, readings: Mapping[str, Reading], parameters: Sequence[Parameter]
) -> dict[str, dict[str, Any]]:
    """All numbers of every method on the same mocks."""
    found: dict[str, dict[str, Any]] = {}
    for key, reading in readings.items():
        found[key] = {
            "errors": error_rows(truth, reading, parameters),
            "coverage": coverage_rows(truth, reading, parameters),
            "class": None if key.endswith(LIMITED) else class_rows(truth, reading),
            "visibility": None if key.endswith(LIMITED) else visibility_rows(truth, reading),
            "shapes": shape_rows(truth, reading, parameters),
        }
        if key != "faithful" and "faithful" in readings:
            found[key]["bounds_over_faithful"] = ratios(
                truth, reading, readings["faithful"], parameters
            )
    return found
