"""How good maps of mass and what goes with them are: the statistics of Chardin & Bianchini 2021.

Errors are in bins of what was predicted (Eq. 2), their means over bins, with errors by bootstrap
over runs; see :mod:`melotte.engine.binned_errors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import special

from melotte.engine.binned_errors import BinMeans, BinnedErrors, percent_error
from melotte.engine.coverage import interval_coverage, mean_and_error
from melotte.engine.point_errors import point_errors
from melotte.systems.globular_clusters.map_readings import (
    AT_DISTANCE,
    MAP_MASS,
    MAP_MASS_TO_LIGHT,
    MapReading,
    MapTruth,
)
from melotte.systems.globular_clusters.radial_profiles import mass_centres, radial_profiles

Array = NDArray[np.floating[Any]]

LOG_EDGES = np.arange(-4.0, 8.25, 0.25)
"""Bins of log10 mass, of a pixel or a map, and of log10 M/L, dex."""
AGE_EDGES = np.arange(0.0, 21.0)
"""Bins of predicted age, Gyr."""
FINE_EDGES = np.linspace(-4.0, 6.0, 201)
"""Of the histogram of pixels, dex."""
BRIGHT = -1.0
"""log10(Msun/px) from which pixels are bright (Sect. 4.1.2)."""
PERCENT = {
    "total_mass_percent_error": (f"mass_fov{AT_DISTANCE}", "mass_fov", MAP_MASS),
    "total_mass_unknown_distance_percent_error": ("mass_fov", MAP_MASS),
    "map_mass_percent_error": (MAP_MASS,),
    "mass_to_light_percent_error": (f"mass_to_light_v{AT_DISTANCE}", MAP_MASS_TO_LIGHT),
    "mass_to_light_unknown_distance_percent_error": ("mass_to_light_v",),
    "map_mass_to_light_percent_error": (MAP_MASS_TO_LIGHT,),
}
"""Percent errors, by the estimates that they are of: the first that a network gives."""
COVERED = {"coverage_68": 0.68, "coverage_95": 0.95}
DISTANCES = 12
"""Most distances that are told apart; of more, octaves."""


class MapScores:
    """Collects truths and readings batch by batch.

    Parameters
    ----------
    log_floor : float
        log10(Msun/px) of the least mass of a pixel. Pixels that are predicted at it or below are
        left out, of errors and coverage: there the truth is not known better than that.
    """

    def __init__(self, log_floor: float) -> None:
        self.log_floor = log_floor
        self.pixels = BinnedErrors(LOG_EDGES)
        self.histogram = np.zeros((len(FINE_EDGES) - 1,) * 2)
        self._squares = np.zeros(4)
        self._parts: dict[str, list[NDArray[Any]]] = {}

    def add(self, truth: MapTruth, reading: MapReading) -> None:
        """Count a batch."""
        self._count_pixels(truth, reading)
        self._keep("group", truth.group)
        self._keep("light", truth.light)
        for name, values in truth.values.items():
            self._keep(f"true {name}", values)
        for name, values in reading.values.items():
            self._keep(f"predicted {name}", values)
        for name, values in reading.pit.items():
            self._keep(f"pit {name}", values)
        mass = 10.0 ** truth.log_map.astype(np.float64)
        centres = mass_centres(mass)
        self._keep("true profile", radial_profiles(mass, centres))
        given = 10.0 ** reading.log_map.astype(np.float64)
        self._keep("predicted profile", radial_profiles(given, centres))
        if reading.scale is not None:
            inside = pixel_coverage(truth, reading, self.log_floor)
            for name, share in zip(COVERED, inside, strict=True):
                self._keep(f"pixel {name}", share)

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Everything that is known of each map, end to end: ``true NAME``, ``predicted NAME``."""
        return {name: np.concatenate(parts) for name, parts in self._parts.items()}

    def binned(self) -> dict[str, BinMeans]:
        """Errors in bins of the prediction.

        Returns
        -------
        dict
            ``pixel_percent_error``, ``pixel_percent_error_bright``, ``age_mae_gyr``, those of
            ``PERCENT`` that there are estimates for.
        """
        known = self.arrays()
        pixels = self.pixels.means()
        found = {
            "pixel_percent_error": pixels,
            "pixel_percent_error_bright": pixels.since(BRIGHT),
        }
        for key, names in PERCENT.items():
            name = next((one for one in names if f"predicted {one}" in known), None)
            if name is not None:
                true, given = compared(known, name)
                found[key] = percent_means(true, given, known["group"])
        if "predicted age" in known:
            ages = BinnedErrors(AGE_EDGES)
            true, given = compared(known, "age")
            ages.add(np.clip(given, 0, AGE_EDGES[-1]), np.abs(given - true), known["group"])
            found["age_mae_gyr"] = ages.means()
        return found

    def result(self) -> dict[str, Any]:
        """All numbers, by the names that the JSON of an evaluation has.

        Returns
        -------
        dict
            Means over bins of :meth:`binned`; ``errors`` of the same; ``bins``: ``least`` and
            ``most``; ``age``, ``distance`` and others: ``mae``, ``r2``, ``mse`` over maps;
            ``distance_mae_kpc``, ``distance_mean_kpc`` and ``distance_std_kpc`` by distance;
            ``map_r2`` and ``map_mse`` of log10 pixels; ``half_mass_radius_percent_error`` over
            maps; ``profile_percent_error``: medians over maps in 25 rings; ``pixel_coverage_68``
            and so on with ``..._error``; ``coverage_at_distance``: of what is inferred where the
            distance is known.
        """
        known, binned = self.arrays(), self.binned()
        found: dict[str, Any] = {name: one.mean for name, one in binned.items()}
        found["errors"] = {name: one.error for name, one in binned.items()}
        found["bins"] = {name: one.as_json() for name, one in binned.items()}
        found |= self._map_fit()
        found["over_maps"] = {
            name: _errors(*compared(known, name))
            for name in ("age", "distance", "metallicity", "half_mass_radius", "remnant_fraction")
            if f"predicted {name}" in known and f"true {name}" in known
        }
        if "predicted distance" in known:
            found |= distance_rows(*compared(known, "distance"))
        if "predicted half_mass_radius" in known:
            true, given = compared(known, "half_mass_radius")
            found["half_mass_radius_percent_error"] = float(np.nanmean(percent_error(given, true)))
        found["profile_percent_error"] = profile_errors(known).tolist()
        for name in COVERED:
            if f"pixel {name}" in known:
                share = known[f"pixel {name}"]
                good = np.isfinite(share)
                mean, error = mean_and_error(share[good], known["group"][good])
                found |= {f"pixel_{name}": mean, f"pixel_{name}_error": error}
        found["coverage_at_distance"] = {
            name.removeprefix("pit ").removesuffix(AT_DISTANCE): coverage_of(
                known[name], known["group"]
            )
            for name in known
            if name.startswith("pit ") and name.endswith(AT_DISTANCE)
        }
        return found

    def _keep(self, name: str, values: NDArray[Any]) -> None:
        self._parts.setdefault(name, []).append(np.asarray(values))

    def _count_pixels(self, truth: MapTruth, reading: MapReading) -> None:
        true, given = (one.astype(np.float64) for one in (truth.log_map, reading.log_map))
        chosen = given > self.log_floor
        error = percent_error(1.0, 10 ** (true - given))
        self.pixels.add(np.where(chosen, given, np.nan), error, truth.group)
        n_bins = len(FINE_EDGES) - 1
        step = FINE_EDGES[1] - FINE_EDGES[0]
        row, column = (
            np.clip((one[chosen] - FINE_EDGES[0]) / step, 0, n_bins - 1).astype(np.int64)
            for one in (true, given)
        )
        counts = np.bincount(row * n_bins + column, minlength=n_bins**2)
        self.histogram += counts.reshape(n_bins, n_bins)
        residual = np.square(given - true).sum()
        self._squares += [true.size, true.sum(), np.square(true).sum(), residual]

    def _map_fit(self) -> dict[str, float]:
        n, total, squares, residual = self._squares
        spread = squares - total**2 / max(n, 1)
        return {
            "map_r2": float(1 - residual / spread) if spread > 0 else math.nan,
            "map_mse": float(residual / n) if n else math.nan,
        }


def compared(known: Mapping[str, Array], name: str) -> tuple[Array, Array]:
    """Truth and prediction of a quantity; the truth of what needs the distance is the same."""
    return known[f"true {name.removesuffix(AT_DISTANCE)}"], known[f"predicted {name}"]


def percent_means(true: Array, given: Array, group: NDArray[Any]) -> BinMeans:
    """Percent errors of positive numbers, in bins of the logarithm of the prediction."""
    bins = BinnedErrors(LOG_EDGES)
    good = given > 0
    bins.add(np.log10(given[good]), percent_error(given[good], true[good]), group[good])
    return bins.means()


def pixel_coverage(truth: MapTruth, reading: MapReading, log_floor: float) -> Array:
    """Share of each map's pixels whose truth lies in the central intervals, shape (2, n).

    Of a pixel at the floor no more is known than that it is there or below: it counts for the part
    of its posterior below the floor that lies in the interval. Pixels that are predicted at the
    floor or below do not count; NaN for a map of such alone.
    """
    if reading.scale is None:
        return np.full((len(COVERED), len(truth.log_map)), np.nan)
    chosen = reading.log_map > log_floor
    number = np.maximum(chosen.sum((1, 2)), 1)
    at_floor = chosen & (truth.log_map <= log_floor + 1e-5)
    below = _cumulative(
        (log_floor - reading.log_map[at_floor]) / reading.scale[at_floor], reading.degrees
    )
    score = np.abs(truth.log_map - reading.log_map) / reading.scale
    shares = []
    for level in COVERED.values():
        half = _quantile(0.5 + level / 2, reading.degrees)
        inside = (score <= half).astype(np.float64)
        low = 0.5 - level / 2
        held = np.clip(np.minimum(below, 1 - low) - low, 0, None)
        inside[at_floor] = held / np.maximum(below, 1e-12)
        shares.append(np.where(chosen, inside, 0.0).sum((1, 2)) / number)
    return np.where(chosen.any((1, 2)), np.stack(shares), np.nan)


def coverage_of(pit: Array, group: NDArray[Any]) -> dict[str, float]:
    """Coverage of central 68 and 95 % intervals with their errors over runs."""
    found: dict[str, float] = {}
    for name, level in COVERED.items():
        one = interval_coverage(pit, level, group)
        found |= {name: one.fraction, f"{name}_error": one.error}
    return found


def distance_rows(true: Array, given: Array) -> dict[str, dict[str, float]]:
    """Errors by distance (Table 2): of each where there are few, else of octaves."""
    whole = np.round(true, 3)
    places = np.unique(whole[np.isfinite(whole)])
    if len(places) <= DISTANCES:
        names = {f"{one:g}": whole == one for one in places}
    else:
        octave = np.floor(np.log2(whole))
        names = {
            f"{2.0**one:g}-{2.0 ** (one + 1):g}": octave == one
            for one in np.unique(octave[np.isfinite(octave)])
        }
    chosen = {name: rows & np.isfinite(given) for name, rows in names.items()}
    chosen = {name: rows for name, rows in chosen.items() if rows.any()}
    return {
        "distance_mae_kpc": {
            name: float(np.abs(given - true)[rows].mean()) for name, rows in chosen.items()
        },
        "distance_mean_kpc": {name: float(given[rows].mean()) for name, rows in chosen.items()},
        "distance_std_kpc": {name: float(given[rows].std()) for name, rows in chosen.items()},
    }


def profile_errors(known: Mapping[str, Array]) -> Array:
    """Medians over maps of ``100 |predicted - true| / predicted`` in rings, shape (n_bins,)."""
    error = percent_error(known["predicted profile"], known["true profile"])
    bare = ~np.isfinite(error).any(0)
    error[:, bare] = 0.0
    return np.where(bare, np.nan, np.nanmedian(error, 0))


def _errors(true: Array, given: Array) -> dict[str, float | None]:
    found = point_errors(given, true).as_json()
    return found | {"mse": float(np.nanmean(np.square(given - true)))}


def _cumulative(score: Array, degrees: float | None) -> Array:
    return special.ndtr(score) if degrees is None else special.stdtr(degrees, score)


def _quantile(level: float, degrees: float | None) -> float:
    return float(special.ndtri(level) if degrees is None else special.stdtrit(degrees, level))
