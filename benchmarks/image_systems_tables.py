"""What the image-system benchmark prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import image_systems_paper1 as paper1
import image_systems_paper2 as paper2
from image_systems_methods import LIMITED

from melotte.parameters import Parameter
from melotte.systems.cluster_images.judging import bin_names

UNITS = {"extinction_v": "mag"}


def show_errors(
    found: Mapping[str, Mapping[str, Any]],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
    published: Mapping[str, float],
) -> None:
    """Scatter, bias and bounds of each parameter; published | faithful | ours."""
    print(
        f"{'':30s}{'method':32s}{'sigma':>8s}{'core':>8s}{'bias':>8s}{'95 %':>8s}{'+-':>7s}"
        f"{'/faithful':>10s}{'+-':>7s}{'< 1e8 yr':>10s}{'older':>8s}{'median: 95 %':>14s}"
    )
    for parameter in parameters:
        name = f"{parameter.name} [{UNITS.get(parameter.name, 'dex')}]"
        if parameter.name in published:
            print(
                f"{name:30s}{'published, real fields':32s}{'':24s}{published[parameter.name]:8.2f}"
            )
            name = ""
        for key, row in found.items():
            one = row["errors"][parameter.name]
            point, median = one["point"], one["median"]
            line = (
                f"{name:30s}{titles[key]:32s}{point['std']:8.3f}{point['core']:8.3f}"
                f"{point['bias']:+8.3f}{point['p95_abs']:8.3f}{point['p95_error']:7.3f}"
            )
            ratio = row.get("bounds_over_faithful", {}).get(parameter.name)
            line += f"{ratio['ratio']:10.3f}{ratio['error']:7.3f}" if ratio else " " * 17
            line += f"{point['p95_young']:10.3f}{point['p95_old']:8.3f}"
            print(f"{line}{median['p95_abs']:14.3f}")
            name = ""


def show_bounds(
    found: Mapping[str, Mapping[str, Any]],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
) -> None:
    """95 % bounds of every method's medians, in bins of visibility."""
    print(f"\n95 % of errors of medians within, by true visibility\n{'':54s}", end="")
    print("".join(f"{name:>10s}" for name in bin_names()))
    for parameter in parameters:
        for key, row in found.items():
            cells = row["errors"][parameter.name]["median"]["p95_by_visibility"]
            line = "".join(f"{cell:10.3f}" for cell in cells)
            print(f"{parameter.name:22s}{titles[key]:32s}{line}")


def show_coverage(
    found: Mapping[str, Mapping[str, Any]],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
) -> None:
    """Coverage of all clusters and in bins of visibility."""
    print(
        f"\nCoverage of 68 and 95 % intervals, %; by true visibility\n{'':63s}{'all':>12s}", end=""
    )
    print("".join(f"{name:>12s}" for name in bin_names()))
    for parameter in parameters:
        for key, row in found.items():
            for level, text in (("coverage_68", "68 %"), ("coverage_95", "95 %")):
                entries = row["coverage"][parameter.name][level]
                cells = [entries["all"], *entries["by_visibility"]]
                print(
                    f"{parameter.name:22s}{titles[key]:34s}{text:>7s}"
                    + "".join(f"{_percent(cell):>12s}" for cell in cells)
                )


def _percent(cell: Sequence[float]) -> str:
    fraction, error, n = cell
    return f"{100 * fraction:.1f}+-{100 * error:.1f}" if n else "-"


def show_classes(found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Clusters told from empty fields."""
    print(
        "\nClusters against empty fields: area under the ROC curve, by true visibility\n"
        f"{'':34s}{'all':>14s}{'> 2':>14s}" + "".join(f"{name:>14s}" for name in bin_names())
    )
    for key, row in found.items():
        classes = row["class"]
        if classes is None:
            continue
        entries = [classes["all"], classes["seen"], *classes["by_visibility"]]
        cells = [
            f"{one['roc_auc']:.4f}({1e4 * one['error']:.0f})" if one["n"] else "-"
            for one in entries
        ]
        print(f"{titles[key]:34s}" + "".join(f"{cell:>14s}" for cell in cells))
        counts = [f"{one['n']}" for one in entries]
        print(f"{'  clusters':34s}" + "".join(f"{cell:>14s}" for cell in counts))
        counts = [f"{100 * one['found']:.1f} %" if one["n"] else "-" for one in entries]
        print(f"{'  found at p > 0.5':34s}" + "".join(f"{cell:>14s}" for cell in counts))
        print(
            f"{'':34s}accuracy {classes['accuracy']:.4f}, false alarms "
            f"{100 * classes['false_alarms']:.2f} % (p > 0.99: "
            f"{100 * classes['false_alarms_at_0.99']:.2f} %)"
        )
        visibility = row["visibility"]
        if visibility:
            print(
                f"{'':34s}inferred visibility: bias {visibility['bias']:+.3f}, sigma "
                f"{visibility['std']:.3f}, 95 % within {visibility['p95_abs']:.3f} dex"
            )


def show_shapes(found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Bimodal and extended posteriors of age and extinction."""
    print(
        "\nPosterior maps of age and A_V on 20 x 10 bins; bimodal: two regions of >= 10 % of the "
        "mass\nwith peaks >= 2 x their saddle; extended: not bimodal, sigma along the longest "
        "direction > 2 bins\n"
        f"{'published, by eye':34s}bimodal {paper2.PUBLISHED_SHAPES['bimodal']}, extended "
        f"{paper2.PUBLISHED_SHAPES['extended']}"
    )
    for key, row in found.items():
        shapes = row["shapes"]
        if shapes is None:
            continue
        cover = shapes.get("bimodal_log_age_coverage_95")
        text = f"; their 95 % intervals of age cover {_percent([*cover, 1])} %" if cover else ""
        print(
            f"{titles[key]:34s}bimodal {100 * shapes['bimodal']:.2f} %, extended "
            f"{100 * shapes['extended']:.1f} %, median length "
            f"{shapes['median_length_bins']:.2f} bins{text}"
        )


def show_speed(speed: Mapping[str, Mapping[str, float]], batch: int) -> None:
    """Time of one core for an image."""
    print(f"\nProcessor time of one core, ms an image, batches of {batch}, least of several")
    columns = ("prepare", "network_fp32", "network_bf16", "whole_fp32")
    print(f"{'':14s}" + "".join(f"{name:>14s}" for name in columns))
    for key, row in speed.items():
        print(f"{key:14s}" + "".join(f"{1e3 * row[name]:14.3f}" for name in columns))
    if {"faithful", "ours"} <= set(speed):
        print(
            f"{'faithful/ours':14s}"
            + "".join(f"{speed['faithful'][n] / speed['ours'][n]:14.2f}" for n in columns)
            + "   (whole: the paper's peak against quantiles of 200 samples)"
        )


def show_stochastic(
    scatter: Mapping[str, Mapping[str, Any]],
    parameters: Sequence[Parameter],
    titles: Mapping[str, str],
) -> None:
    """Scatter of estimates of equal clusters (Paper II, Fig. 9)."""
    names = [p.name for p in parameters]
    print("\nSigma of the estimates of equal clusters: stars differ | fields differ")
    for key, kinds in scatter.items():
        print(titles[key])
        for stars, fields in zip(kinds["stars"], kinds["fields"], strict=True):
            cells = [
                f"{name} {stars['std'][i]:.2f} | {fields['std'][i]:.2f}"
                for i, name in enumerate(names)
            ]
            print(
                f"  log t {stars['log_age']:.1f}  A_V {stars['extinction_v']:.1f}  log M "
                f"{stars['log_mass']:.1f}  visibility {stars['visibility']:8.2f}   "
                + "   ".join(cells)
            )


def show_boxes(found: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """Standard deviations and medians in bins (Paper I, Fig. 8)."""
    print("\nErrors in bins of the truth: sigma (median)")
    for key, rows in found.items():
        if key.endswith(LIMITED):
            continue
        print(titles[key])
        for wrong, columns in rows.items():
            for against, one in columns.items():
                cells = [
                    f"{centre:6.2f}: {std:.3f} ({quantiles[2]:+.3f})"
                    for centre, std, quantiles in zip(
                        one["centres"], one["std"], one["quantiles_2_25_50_75_98"], strict=True
                    )
                ]
                print(f"  {wrong:20s} against {against:20s} " + "  ".join(cells))


def show_groups(found: Mapping[str, Any], titles: Mapping[str, str]) -> None:
    """Ages and sizes that can be told apart (Paper I, Sect. 5.3)."""
    print(
        "\nGroups that can be told apart: most of the 5 nodes along an axis of which no two "
        "ellipses\nof one sigma overlap, mean over the other parameter, by log mass; published: "
        f"{paper1.PUBLISHED['groups']}"
    )
    for key, rows in found.items():
        for what, masses in rows.items():
            cells = "  ".join(f"{mass}: {row['mean']:.1f}" for mass, row in masses.items())
            print(f"  {titles[key]:34s}{what:20s} {cells}")


def show_robustness(found: Mapping[str, Mapping[str, Any]], titles: Mapping[str, str]) -> None:
    """Changes of the estimates when the same clusters are seen otherwise."""
    print("\nThe same clusters seen otherwise: 95 % bound over that of the plain view (shift)")
    for name, methods in found.items():
        for key, rows in methods.items():
            if key.endswith(LIMITED):
                continue
            cells = "  ".join(
                f"{parameter} {row['p95_ratio']:.3f} ({row['shift']:+.3f})"
                for parameter, row in rows.items()
            )
            print(f"  {name:18s}{titles[key]:34s}{cells}")


def show_goals(found: Mapping[str, Mapping[str, Any]], speed: Mapping[str, Any]) -> None:
    """Whether ours does what is wanted of it (Paper II)."""
    ours = found.get("ours")
    if ours is None:
        return
    print("\nGoals of ours")
    for name, goal in paper2.GOALS.items():
        bound = ours["errors"][name]["point"]["p95_abs"]
        line = f"  95 % of {name} {bound:.3f}, wanted <= {goal}: {_met(bound <= goal)}"
        ratio = ours.get("bounds_over_faithful", {}).get(name)
        if ratio:
            line += f"; over faithful {ratio['ratio']:.3f}, wanted <= 0.8: "
            line += _met(ratio["ratio"] <= 0.8)
        print(line)
    if ours["class"]:
        area = ours["class"]["seen"]["roc_auc"]
        print(f"  AUC above visibility 2: {area:.4f}, wanted >= 0.99: {_met(area >= 0.99)}")
    for key in ("ours", "ours-limited"):
        if key not in found:
            continue
        worst = max(
            (
                abs(row[level]["all"][0] - nominal)
                for row in found[key]["coverage"].values()
                for level, nominal in (("coverage_68", 0.68), ("coverage_95", 0.95))
            )
        )
        print(
            f"  largest error of a coverage, {key}: {100 * worst:.1f} %, wanted <= 2: "
            f"{_met(worst <= 0.02)}"
        )
    if {"faithful", "ours"} <= set(speed):
        for name, goal in (("network_fp32", 5.0), ("whole_fp32", 2.5)):
            ratio = speed["faithful"][name] / speed["ours"][name]
            print(f"  {name} {ratio:.2f} x faithful, wanted >= {goal}: {_met(ratio >= goal)}")


def _met(yes: bool) -> str:
    return "met" if yes else "NOT met"
