"""What ``evaluate`` draws of models that read images of star clusters."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from melotte.report.cluster_image_figures import (
    background_selection_figure,
    selection_figure,
    true_inferred_figure,
)
from melotte.report.visibility_figures import class_visibility_figure, coverage_visibility_figure
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
    "bounds": "True and inferred values: cells are the darker the more mock clusters lie in them, "
    "and 95 % of the clusters lie between the dashed lines. Dots, in every panel the same, are the "
    "5 % whose age is wrong by more than that: red where it is inferred too young, pink too old. "
    "Dotted, for M83: published bounds, of the paper's ranges and mocks on real fields "
    "(Bialopetravičius & Narbutis 2020, Fig. 10).",
    "coverage-68": "Coverage of the 68 % intervals by visibility. Right posteriors cover at their "
    "level in bins of what is inferred; in bins of what is true they need not.",
    "coverage-95": "Coverage of the 95 % intervals by visibility.",
    "classes": "Probability of a cluster and visibility, of mock clusters and of empty fields "
    "(Fig. 12); visibilities below 0.1 are drawn there.",
    "selection": "Inferred parameters of the mock clusters by their inferred visibility (Fig. 13).",
    "fields": "What is inferred of empty fields, in pairs of parameters: a dot is one field, the "
    "larger the higher the probability p of a cluster that is inferred of it. Grey dots behind "
    "them are what is inferred of mock clusters (Fig. 14).",
}


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
    found["classes"] = class_visibility_figure(
        readings.probability, readings.visibility, cluster, readings.true_visibility
    )
    quoted = readings.quoted
    if cluster.any():
        seen = readings.visibility[cluster]
        found["selection"] = selection_figure(quoted[cluster], parameters, seen)
    if not cluster.all():
        found["fields"] = background_selection_figure(
            quoted[~cluster], parameters, readings.probability[~cluster], quoted[cluster]
        )
    return found


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
        found[name.replace("_", "-")] = coverage_visibility_figure(
            bin_names(), curves, level, "visibility"
        )
    return found
