"""What the benchmark of maps prints."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from melotte.systems.globular_clusters.judging import PUBLISHED, PUBLISHED_BINS

ROWS = {
    "pixel_percent_error": "pixels, %",
    "pixel_percent_error_bright": "pixels, log M/px > -1, %",
    "total_mass_percent_error": "mass of the field, %",
    "total_mass_unknown_distance_percent_error": "  distance unknown, %",
    "map_mass_percent_error": "  sum of the map, %",
    "mass_to_light_percent_error": "M/L, distance known, %",
    "mass_to_light_unknown_distance_percent_error": "  distance unknown, %",
    "map_mass_to_light_percent_error": "  of the map, %",
    "age_mae_gyr": "age, Gyr",
}
GOALS = {
    "pixel_percent_error": 18.0,
    "pixel_percent_error_bright": 13.0,
    "total_mass_percent_error": 8.0,
    "mass_to_light_percent_error": 7.0,
    "age_mae_gyr": 0.8,
}
DISTANCE_GOALS = {"15": 1.5, "30": 3.0, "60": 4.5, "80": 5.0}
WIDTH = 22


def show_errors(
    found: Mapping[str, Mapping[str, Any]], floor: Mapping[str, float], with_published: bool
) -> None:
    """Published | each method | floor | goal, with errors by bootstrap over runs."""
    keys = list(found)
    _heading(["published", *keys, "floor", "goal"])
    for name, title in ROWS.items():
        cells = [_published(name) if with_published else "-"]
        for key in keys:
            cells.append(_with_error(found[key].get(name), found[key]["errors"].get(name)))
        cells += [_number(floor.get(name)), _number(GOALS.get(name))]
        if any(cell != "-" for cell in cells[1:-2]):
            _row(title, cells)
    distances = list(dict.fromkeys(d for key in keys for d in found[key]["distance_mae_kpc"]))
    for distance in distances:
        published = PUBLISHED["distance_mae_kpc"].get(distance) if with_published else None
        cells = [_number(published)]
        cells += [_number(found[key]["distance_mae_kpc"].get(distance)) for key in keys]
        goal = DISTANCE_GOALS.get(distance) if with_published else None
        _row(f"distance at {distance} kpc, kpc", [*cells, "-", _number(goal)])
    over_maps = (
        ("age", "mae", "age over maps, Gyr"),
        ("age", "r2", "age, R2"),
        ("age", "mse", "age, MSE"),
        ("distance", "r2", "distance, R2"),
        ("metallicity", "mae", "[Fe/H], dex"),
        ("remnant_fraction", "mae", "remnants, part of mass"),
    )
    for name, statistic, title in over_maps:
        values = [found[key]["over_maps"].get(name, {}).get(statistic) for key in keys]
        if any(value is not None for value in values):
            _row(title, ["-", *map(_number, values), "-", "-"])
    for name, title, published in (
        ("half_mass_radius_percent_error", "half-mass radius, %", None),
        ("map_r2", "map, R2", 0.95),
        ("map_mse", "map, MSE", 0.05),
    ):
        values = [found[key].get(name) for key in keys]
        shown = _number(published) if with_published else "-"
        _row(title, [shown, *map(_number, values), "-", "-"])
    _row("rings, median over 25, %", ["-", *[_rings(found[key]) for key in keys], "-", "-"])


def show_ratios(found: Mapping[str, Mapping[str, Any]], baseline: str) -> None:
    """Errors over the baseline's, on the same mocks."""
    keys = [key for key in found if "over_baseline" in found[key]]
    if not keys:
        return
    print(f"\nErrors over those of {baseline} (bootstrap over the same runs)")
    _heading(keys)
    for name, title in ROWS.items():
        cells = [_with_error(*found[key]["over_baseline"].get(name, (None, None))) for key in keys]
        if any(cell != "-" for cell in cells):
            _row(title, cells)


def show_coverage(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Coverage of 68 and 95 % intervals of parameters and pixels, %."""
    keys = [key for key in found if found[key]["coverage"] or "pixel_coverage_68" in found[key]]
    if not keys:
        return
    print("\nCoverage of 68 | 95 % intervals, %")
    _heading(keys)
    names = list(dict.fromkeys(name for key in keys for name in found[key]["coverage"]))
    for name in names:
        _row(name, [_coverage(found[key]["coverage"].get(name)) for key in keys])
    pixels = [
        {
            f"coverage_{level}{end}": found[key].get(f"pixel_coverage_{level}{end}")
            for level in (68, 95)
            for end in ("", "_error")
        }
        for key in keys
    ]
    _row("pixels", [_coverage(one if one["coverage_68"] is not None else None) for one in pixels])


def show_flags(found: Mapping[str, Mapping[str, Any]]) -> None:
    """Shares of mocks that are flagged, by case."""
    print("\nFlagged OUT_OF_DOMAIN or OUT_OF_RANGE, %; true distance in the 95 % of the rest, %")
    keys = list(found)
    _heading(keys)
    for case in dict.fromkeys(case for key in keys for case in found[key]):
        cells = []
        for key in keys:
            one = found[key].get(case)
            if one is None:
                cells.append("no such mock")
                continue
            rest = one["distance_inside"]
            cells.append(
                f"{100 * one['flagged']:.1f}"
                + (f" | {100 * rest:.0f}" if math.isfinite(rest) else "")
            )
        _row(case, cells)


def show_speed(seconds: Mapping[int, Mapping[str, float]]) -> None:
    """Milliseconds a map, by the number of maps at a time."""
    print("\nProcessor time a map, one thread, ms (published: 70 one at a time, 22 in bulk)")
    keys = list(next(iter(seconds.values())))
    _heading(keys)
    for size, row in seconds.items():
        _row(f"{size} at a time", [f"{1000 * row[key]:.2f}" for key in keys])


def _heading(names: Sequence[str]) -> None:
    _row("", [name if len(name) < WIDTH else f"{name[: WIDTH - 2]}." for name in names])


def _row(title: str, cells: Sequence[str]) -> None:
    print(f"{title:34s}" + "".join(f"{cell:>{WIDTH}s}" for cell in cells))


def _published(name: str) -> str:
    if name not in PUBLISHED or isinstance(PUBLISHED[name], dict):
        return "-"
    text = f"{PUBLISHED[name]:g}"
    if name in PUBLISHED_BINS:
        low, high = PUBLISHED_BINS[name]
        text += f" [{low:g}, {high:g}]"
    return text


def _number(value: Any) -> str:
    if not isinstance(value, int | float) or not math.isfinite(value):
        return "-"
    return f"{value:.3g}"


def _with_error(value: Any, error: Any) -> str:
    text = _number(value)
    return text if text == "-" or _number(error) == "-" else f"{text} +- {error:.2g}"


def _rings(row: Mapping[str, Any]) -> str:
    known = sorted(value for value in row["profile_percent_error"] if math.isfinite(value))
    return _number(known[len(known) // 2]) if known else "-"


def _coverage(row: Mapping[str, Any] | None) -> str:
    if row is None or not math.isfinite(row["coverage_68"]):
        return "-"
    return f"{100 * row['coverage_68']:.1f} | {100 * row['coverage_95']:.1f}"
