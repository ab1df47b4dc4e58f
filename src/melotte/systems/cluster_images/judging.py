"""Judges models of cluster images: what ``evaluate`` adds for them.

Beside the errors and the calibration of all mocks, how both depend on how well a cluster is seen,
and which mocks would be selected as clusters. Sizes are compared as logarithms.

References
----------
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II), Sects. 4.1 and 4.2, Figs. 10-14.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.coverage import interval_coverage, pit_values, sbc_ranks
from melotte.engine.point_errors import point_errors
from melotte.engine.random import keyed_generator
from melotte.parameters import Parameter, Prior, on_scale
from melotte.systems.base import Batch
from melotte.systems.cluster_images.settings import DataSettings
from melotte.systems.cluster_images.system import LOW_VISIBILITY

if TYPE_CHECKING:
    from melotte.systems.cluster_images.system import ImageSystem

Array = NDArray[np.float64]
Chosen = NDArray[np.bool_]

N_SAMPLES = 400
VISIBILITIES = (0.0, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, math.inf)
"""Ends of the bins of visibility."""
LEVELS = {"coverage_68": 0.68, "coverage_95": 0.95}
PROBABILITIES = (0.5, 0.99)
"""Probabilities of a cluster above which objects are selected (Paper II, Figs. 12 and 14)."""
BOUND = 0.95
PUBLISHED_BOUNDS = {
    "log_age": 0.9,
    "extinction_v": 1.4,
    "log_mass": 0.4,
    "half_number_radius": 0.2,
}
"""Bounds of 95 % of the errors of mocks on M83's real fields, dex and mag (Paper II, Sect. 4.1)."""
PUBLISHED_BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
_SEED, _STREAM = 1, 78


@dataclass(frozen=True)
class ImageReadings:
    """What is true of mocks, and what a network says of them.

    Parameters
    ----------
    truth : array, shape (n, n_parameters), physical units
        NaN where unknown, and without a cluster.
    estimates : dict of str to array, shape (n, n_parameters), physical units
        Posterior medians, and ``peak`` where the system quotes ``NAME_peak``.
    pit : array, shape (n, n_parameters), 0 to 1
        Share of the posterior below the truth; NaN where that is unknown.
    is_cluster : array of bool, shape (n,)
    true_visibility : array, shape (n,), >= 0
        0 without a cluster.
    probability : array, shape (n,), 0 to 1, or None
        Of a cluster.
    visibility : array, shape (n,), >= 0, or None
        Inferred.
    visibility_ends : array, shape (n, 2), or None
        16 and 84 % of the inferred visibility.
    group : array of int, shape (n,)
        Mocks of one group are not independent.
    """

    truth: Array
    estimates: Mapping[str, Array]
    pit: Array
    is_cluster: Chosen
    true_visibility: Array
    probability: Array | None
    visibility: Array | None
    visibility_ends: Array | None
    group: NDArray[np.int64]

    @property
    def quoted(self) -> Array:
        """The estimate that the system's figures show: its peak, or the median."""
        return self.estimates.get("peak", self.estimates["median"])


class ImageJudge:
    """Collects what a network says of mocks, and measures it.

    Parameters
    ----------
    system : ImageSystem
        Networks without a class or a visibility are judged by the rest.
    """

    def __init__(self, system: ImageSystem) -> None:
        self.system = system
        self.parameters: tuple[Parameter, ...] = system.parameters
        self._prior = Prior(system.parameters)
        self._parts: dict[str, list[NDArray[Any]]] = {}
        self._batches = 0

    def add(self, outputs: Mapping[str, Any], batch: Batch) -> None:
        """Count a batch."""
        device = outputs["embedding"].device
        generator = keyed_generator(_SEED, _STREAM, self._batches, device=device)
        with torch.no_grad():
            unit = outputs["posterior"].sample(N_SAMPLES, generator).cpu().double()
        theta = torch.where(batch.theta_known, batch.theta, torch.nan).cpu().double()
        middle = torch.tensor([0.5], dtype=torch.float64)
        median = self._prior.from_unit(torch.quantile(unit, middle, dim=1)[0])
        self._keep("truth", theta)
        self._keep("median", median)
        self._keep("ranks", sbc_ranks(unit.numpy(), self._prior.to_unit(theta).numpy()))
        self._keep("group", batch.group)
        self._keep("is_cluster", batch.targets["class"] > 0.5)
        self._keep("true_visibility", batch.targets["visibility"].double())
        describe = getattr(self.system, "result_columns", None)
        columns = {} if describe is None else describe(batch.observation, outputs)
        for name in ("class_probability", "visibility", "visibility_16", "visibility_84"):
            if name in columns:
                self._keep(name, np.asarray(columns[name].values, dtype=float))
        peaks = [f"{parameter.name}_peak" for parameter in self.parameters]
        if all(name in columns for name in peaks):
            self._keep("peak", np.stack([np.asarray(columns[name].values) for name in peaks], 1))
        self._batches += 1

    def _keep(self, name: str, values: Tensor | NDArray[Any]) -> None:
        given = values.cpu().numpy() if isinstance(values, Tensor) else values
        self._parts.setdefault(name, []).append(given)

    @property
    def published_bounds(self) -> dict[str, float]:
        """Published 95 % bounds by parameter, dex and mag; empty unless this is Paper II's M83."""
        return published_bounds(self.system.data)

    def readings(self) -> ImageReadings:
        """Truths and readings of all batches, of which there must have been one."""
        found = {name: np.concatenate(parts) for name, parts in self._parts.items()}
        ends = [found[name] for name in ("visibility_16", "visibility_84") if name in found]
        return ImageReadings(
            truth=found["truth"],
            estimates={name: found[name] for name in ("median", "peak") if name in found},
            pit=pit_values(found["ranks"], N_SAMPLES, _SEED),
            is_cluster=found["is_cluster"],
            true_visibility=found["true_visibility"],
            probability=found.get("class_probability"),
            visibility=found.get("visibility"),
            visibility_ends=np.stack(ends, 1) if len(ends) == 2 else None,
            group=found["group"],
        )

    def result(self, progress: bool | None = None) -> dict[str, Any]:
        """Numbers of all batches; what cannot be said is left out, or NaN in a bin.

        Parameters
        ----------
        progress : bool, optional
            Whether long work is shown; nothing here takes long.

        Returns
        -------
        dict
            ``bounds_95``: 95th percentile of the medians' absolute errors by parameter (dex, mag;
            sizes in dex), ``bounds_95_peak`` of the estimates that Paper II quotes, and
            ``published_bounds_95`` of :data:`PUBLISHED_BOUNDS`; ``by_visibility`` and
            ``by_inferred_visibility``: see :func:`by_visibility`; ``visibility_dex``: errors of
            log10 of the inferred visibility, ``visibility_coverage_68`` of its interval;
            ``selected_clusters`` and ``selected_empty``: see :func:`selected`.
        """
        one = self.readings()
        found: dict[str, Any] = {}
        for name, estimate in one.estimates.items():
            key = "bounds_95" if name == "median" else f"bounds_95_{name}"
            errors = errors_on_scale(estimate, one.truth, self.parameters)[one.is_cluster]
            found[key] = {
                parameter.name: bound(errors[:, i]) for i, parameter in enumerate(self.parameters)
            }
        if self.published_bounds:
            found["published_bounds_95"] = self.published_bounds
        found["by_visibility"] = by_visibility(one, one.true_visibility, self.parameters)
        if one.visibility is not None:
            found["by_inferred_visibility"] = by_visibility(one, one.visibility, self.parameters)
            found |= visibility_errors(one)
        if one.probability is not None:
            found["selected_clusters"] = selected(one, one.is_cluster)
            found["selected_empty"] = selected(one, ~one.is_cluster)
        return found


def published_bounds(data: DataSettings) -> dict[str, float]:
    """:data:`PUBLISHED_BOUNDS` for clusters in M83 seen in Paper II's bands, else nothing."""
    same = data.fields.galaxy == "m83" and tuple(data.bands) == PUBLISHED_BANDS
    return dict(PUBLISHED_BOUNDS) if same else {}


def bin_names() -> list[str]:
    """Of the bins of visibility."""
    pairs = itertools.pairwise(VISIBILITIES)
    return [f"{low:g}-{high:g}" if high < math.inf else f"> {low:g}" for low, high in pairs]


def errors_on_scale(estimate: Array, truth: Array, parameters: tuple[Parameter, ...]) -> Array:
    """Estimate less truth, shape (n, n_parameters); of log10 where a parameter's scale is that."""
    columns = [
        on_scale(parameter, estimate[:, i]) - on_scale(parameter, truth[:, i])
        for i, parameter in enumerate(parameters)
    ]
    return np.stack(columns, 1)


def bound(error: Array) -> float:
    """95th percentile of absolute errors; NaN of fewer than two."""
    size = np.abs(error[np.isfinite(error)])
    return float(np.quantile(size, BOUND)) if len(size) > 1 else math.nan


def by_visibility(
    readings: ImageReadings, visibility: Array, parameters: tuple[Parameter, ...]
) -> dict[str, Any]:
    """Errors and coverage of clusters in bins of :data:`VISIBILITIES`.

    Parameters
    ----------
    readings : ImageReadings
    visibility : array, shape (n,), >= 0
        Inferred or true. A right posterior covers at its level in every bin of what is inferred;
        in bins of what is true it need not.
    parameters : tuple of Parameter

    Returns
    -------
    dict
        ``bins``: their names; ``n``: clusters in each; ``class_0.5``: the share of these that is
        taken for a cluster, where that is asked; ``bounds_95``, ``coverage_68``,
        ``coverage_68_error``, ``coverage_95`` and ``coverage_95_error``: lists by parameter, of
        medians and central intervals.
    """
    pairs = itertools.pairwise(VISIBILITIES)
    cluster = readings.is_cluster
    bins = [cluster & (visibility >= low) & (visibility < high) for low, high in pairs]
    found: dict[str, Any] = {"bins": bin_names(), "n": [int(one.sum()) for one in bins]}
    if readings.probability is not None:
        taken = readings.probability > PROBABILITIES[0]
        found[f"class_{PROBABILITIES[0]:g}"] = [_share(taken[one]) for one in bins]
    errors = errors_on_scale(readings.estimates["median"], readings.truth, parameters)
    found["bounds_95"] = {
        parameter.name: [bound(errors[one, i]) for one in bins]
        for i, parameter in enumerate(parameters)
    }
    for name, level in LEVELS.items():
        found[name], found[f"{name}_error"] = {}, {}
        for i, parameter in enumerate(parameters):
            entries = [
                interval_coverage(readings.pit[one, i], level, readings.group[one]) for one in bins
            ]
            found[name][parameter.name] = [entry.fraction for entry in entries]
            found[f"{name}_error"][parameter.name] = [entry.error for entry in entries]
    return found


def visibility_errors(readings: ImageReadings) -> dict[str, Any]:
    """Errors of the inferred visibility of clusters.

    Returns
    -------
    dict
        ``visibility_dex``: statistics of log10, and ``visibility_coverage_68`` where the system
        gives 16 and 84 %.
    """
    true, given = readings.true_visibility, readings.visibility
    if given is None:
        return {}
    known = readings.is_cluster & (true > 0) & (given > 0)
    errors = point_errors(np.log10(given[known]), np.log10(true[known]))
    found: dict[str, Any] = {"visibility_dex": errors.as_json()}
    if readings.visibility_ends is not None:
        low, high = readings.visibility_ends[known].T
        held = (true[known] >= low) & (true[known] <= high)
        found["visibility_coverage_68"] = _share(held)
    return found


def selected(readings: ImageReadings, chosen: Chosen) -> dict[str, float]:
    """Shares of some mocks that are selected by class and visibility.

    Parameters
    ----------
    readings : ImageReadings
        With a probability.
    chosen : array of bool, shape (n,)
        Of which mocks.

    Returns
    -------
    dict
        ``class_0.5`` and ``class_0.99``: probability of a cluster above that; ``visible``: inferred
        visibility above :data:`LOW_VISIBILITY`; ``class_0.5_visible`` and ``class_0.99_visible``:
        both.
    """
    found: dict[str, float] = {}
    if readings.probability is None:
        return found
    taken = {f"class_{least:g}": readings.probability > least for least in PROBABILITIES}
    found |= {name: _share(one[chosen]) for name, one in taken.items()}
    if readings.visibility is not None:
        visible = readings.visibility > LOW_VISIBILITY
        found["visible"] = _share(visible[chosen])
        found |= {f"{name}_visible": _share((one & visible)[chosen]) for name, one in taken.items()}
    return found


def _share(which: Chosen) -> float:
    return float(which.mean()) if len(which) else math.nan
