"""The tables and figures of the galaxy-cluster benchmark, from its rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from galaxy_cluster_methods import METHODS

DRAWN = ("msigma", "cnn1d", "cnn2d", "ours", "ours-richness")
"""Methods in the figures."""
RATES = np.array([0.2, 0.4, 0.6, 0.8, 0.9])
"""Sampling rates of the figure."""

PUBLISHED = {
    "M-sigma pure": (0.025, 0.169, 0.183, 0.181, -0.254, 0.418, 0.016, 0.004, 0.237),
    "M-sigma contaminated": (-0.087, 0.365, 0.329, 0.378, 0.356, 0.612, 0.55, 0.001, 0.269),
    "SDM1D": (-0.060, 0.146, 0.128, 0.151, 0.797, 2.194, 0.065, -0.140, 0.174),
    "SDM2D": (-0.014, 0.148, 0.148, 0.160, 0.337, 2.129, 0.049, 0.001, 0.255),
    "CNN1D": (0.011, 0.169, 0.163, 0.171, 0.172, 0.776, 0.042, -0.029, 0.113),
    "CNN2D": (0.034, 0.114, 0.119, 0.127, 0.097, 1.577, 0.011, -0.028, 0.082),
}
"""Abbas 2019, tables 1 and 2: median, 84th and 16th percentiles from it, standard deviation,
skewness, kurtosis, bias of the abundance, then median and 16-84 range of eps_r for rates of 0.6
to 0.8: on another simulation, with which no number here may be compared as better or worse."""


def show(
    rows: dict[str, dict[str, Any]], n_train: int, n_test: int, seed: int, beside: bool = True
) -> None:
    """Print both tables; ``beside`` the published numbers, for mocks of that selection."""
    print(
        f"\n{n_train} training clusters, {n_test} test clusters at least, "
        f"seed {seed}, CPU, {torch.get_num_threads()} thread\n"
        "Table 1: eps = log10(predicted/true), 10^14 to 10^15 Msun/h\n"
        f"{'':34s}{'median':>8s}{'+84':>7s}{'-16':>7s}{'std':>7s}{'+-':>7s}{'skew':>7s}{'kurt':>7s}"
        f"{'abund.':>8s}{'in 68%':>8s}{'in 95%':>8s}{'fit s':>8s}{'ms':>7s}{'n':>6s}"
    )
    for name, row in rows.items():
        coverage = "".join(
            f"{row[key]:8.3f}" if key in row else " " * 8 for key in ("coverage_68", "coverage_95")
        )
        fit = row["seconds_to_fit"]
        print(
            f"{row['title']:34s}{row['median']:8.3f}{row['high']:7.3f}{row['low']:7.3f}"
            f"{row['std']:7.3f}{row['errors']['std']:7.4f}{row['skewness']:7.2f}{row['kurtosis']:7.2f}"
            f"{row['edgeworth']:8.3f}{coverage}{fit if fit is not None else float('nan'):8.1f}"
            f"{row['seconds_per_cluster'] * 1e3:7.2f}{row['n_test']:6d}"
        )
        published = PUBLISHED.get(METHODS[name].published) if beside else None
        if published:
            median, high, low, std, skewness, kurtosis, bias = published[:7]
            print(
                f"{'  as published, MultiDark':34s}{median:8.3f}{high:7.3f}{low:7.3f}{std:7.3f}"
                f"{'':7s}{skewness:7.2f}{kurtosis:7.2f}{bias:8.3f}"
            )
    print(
        "\nTable 2: eps_r = log10(mass of 60 to 80 % of the galaxies / mass of all), 10 draws\n"
        f"{'':34s}{'mean of the draws':>26s}{'single draws':>18s}{'told the share':>18s}\n"
        f"{'':34s}{'median':>8s}{'width':>9s}{'+-':>9s}{'median':>9s}{'width':>9s}"
        f"{'median':>9s}{'width':>9s}{'published':>18s}"
    )
    for name, row in rows.items():
        one, told = row["robustness"], row.get("robustness_told")
        published = PUBLISHED.get(METHODS[name].published) if beside else None
        print(
            f"{row['title']:34s}{one['median']:8.3f}{one['width']:9.3f}{one['errors']['width']:9.4f}"
            f"{one['single_median']:9.3f}{one['single_width']:9.3f}"
            + (f"{told['median']:9.3f}{told['width']:9.3f}" if told else " " * 18)
            + (f"{published[7]:9.3f}{published[8]:9.3f}" if published else "")
        )


def draw(rows: dict[str, dict[str, Any]], folder: Path) -> None:
    """The essay's figures: errors against mass, their distributions, robustness."""
    from melotte.report.galaxy_cluster_figures import error_figure, pdf_figure, robustness_figure
    from melotte.report.style import save

    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name in DRAWN if name in rows]
    pairs = {
        rows[name]["title"]: (
            np.array(rows[name]["true"]),
            np.array(rows[name]["predicted"], float),
        )
        for name in names
    }
    save(error_figure(pairs), folder / "errors-against-mass.png")
    save(pdf_figure(pairs), folder / "error-distributions.png")
    curves = {
        rows[name]["title"]: (RATES, *np.array(rows[name]["by_rate"])[:, [1, 0, 2]].T)
        for name in names
    }
    save(robustness_figure(curves), folder / "robustness.png")
    print(f"figures: {folder}")
