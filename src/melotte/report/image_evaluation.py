"""What ``evaluate`` draws of models that read images of star clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib.collections import PathCollection
from numpy.typing import ArrayLike

from melotte.report.cluster_image_figures import (
    FAINTEST_SHOWN,
    background_selection_figure,
    class_visibility_figure,
    coverage_visibility_figure,
    selection_figure,
    true_inferred_figure,
)
from melotte.report.style import label
from melotte.systems.cluster_images.judging import (
    LEVELS,
    ImageJudge,
    ImageReadings,
    bin_names,
    by_visibility,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CAPTIONS = {
    "bounds": "True and inferred values; 95 % of the clusters lie between the dashed lines. Those "
    "beyond the bound of ages are red where they are taken for younger than they are, and blue for "
    "older. Dotted, for M83: published bounds, of the paper's ranges and mocks on real fields "
    "(Bialopetravičius & Narbutis 2020, Fig. 10).",
    "coverage-68": "Coverage of the 68 % intervals by visibility. Right posteriors cover at their "
    "level in bins of what is inferred; in bins of what is true they need not.",
    "coverage-95": "Coverage of the 95 % intervals by visibility.",
    "classes": "Probability of a cluster and visibility, of mock clusters and of empty fields "
    "(Fig. 12); visibilities below 0.1 are drawn there.",
    "selection": "Inferred parameters of the mock clusters by their inferred visibility (Fig. 13).",
    "fields": "What is inferred of empty fields, by how much they look like clusters, before the "
    "mock clusters in grey (Fig. 14).",
}

ROOM = 0.25
"""How far axes of coverage reach below what is right, at least."""
LEGEND = 0.3
"""Share of the range of coverages that the legend takes below them."""


def image_figures(judge: ImageJudge) -> dict[str, Figure]:
    """Figures by name; those whose quantities are known.

    Parameters
    ----------
    judge : ImageJudge
        After the last mock.
    """
    readings, parameters = judge.readings(), judge.parameters
    cluster = readings.is_cluster
    found: dict[str, Figure] = {}
    if cluster.any():
        truth = readings.truth[cluster]
        results = {name: (truth, one[cluster]) for name, one in readings.estimates.items()}
        found["bounds"] = true_inferred_figure(results, parameters, judge.published_bounds or None)
        found |= coverage_figures(judge, readings)
    if readings.probability is None or readings.visibility is None:
        return found
    found["classes"] = _class_figure(readings.probability, readings.visibility, readings)
    quoted = readings.quoted
    if cluster.any():
        seen = readings.visibility[cluster]
        found["selection"] = selection_figure(quoted[cluster], parameters, seen)
    if not cluster.all():
        found["fields"] = background_selection_figure(
            quoted[~cluster], parameters, readings.probability[~cluster], quoted[cluster]
        )
    return found


def _class_figure(probability: ArrayLike, visibility: ArrayLike, readings: ImageReadings) -> Figure:
    """Class and visibility; true visibilities are held like the inferred ones, to be compared."""
    held = np.maximum(readings.true_visibility, FAINTEST_SHOWN)
    figure = class_visibility_figure(probability, visibility, readings.is_cluster, held)
    for panel in figure.axes:
        for dots in panel.collections:
            if isinstance(dots, PathCollection):
                # Those of the faintest lie on the axis, and would be cut in half.
                dots.set_clip_on(False)
    return figure


def coverage_figures(judge: ImageJudge, readings: ImageReadings) -> dict[str, Figure]:
    """Coverage of both levels in bins of true and, where there is one, of inferred visibility."""
    rows = {"true": by_visibility(readings, readings.true_visibility, judge.parameters)}
    if readings.visibility is not None:
        rows["inferred"] = by_visibility(readings, readings.visibility, judge.parameters)
    found = {}
    for name, level in LEVELS.items():
        curves: dict[str, Any] = {
            title: {key: (row[name][key], row[f"{name}_error"][key]) for key in row[name]}
            for title, row in rows.items()
        }
        figure = coverage_visibility_figure(bin_names(), curves, level)
        lowest = min(_lowest(*pair) for one in curves.values() for pair in one.values())
        for panel in figure.axes:
            panel.set_ylim(bottom=max(0.0, min(level - ROOM, lowest - LEGEND * (1 - lowest))))
            label(panel, "visibility")
        found[name.replace("_", "-")] = figure
    return found


def _lowest(fraction: ArrayLike, error: ArrayLike) -> float:
    """Lowest end of the error bars; 1 where there is none."""
    ends = np.asarray(fraction, dtype=float) - np.nan_to_num(np.asarray(error, dtype=float))
    return float(ends[np.isfinite(ends)].min(initial=1.0))
