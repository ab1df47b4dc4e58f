"""What a page says of measured cluster images: class, visibility, other backgrounds."""

from __future__ import annotations

from typing import Any

import numpy as np

from melotte.report.image_products import SCATTER
from melotte.report.page import PageFigure, PageTable, Section
from melotte.report.style import BLUE, label, new_figure

CLASS, VISIBILITY = "class_probability", "visibility"
LIKELY, CLEAR = 0.5, 2.0


def image_sections(table: Any) -> list[Section]:
    """Sections on the cluster images of a result table.

    Parameters
    ----------
    table : astropy Table
        That ``infer`` wrote.

    Returns
    -------
    list of Section
    """
    sections = []
    if CLASS in table.colnames and VISIBILITY in table.colnames:
        sections.append(_presence_section(table))
    scattered = [name for name in table.colnames if name.endswith(f"_{SCATTER}")]
    if scattered:
        sections.append(_scatter_section(table, scattered))
    return sections


def _presence_section(table: Any) -> Section:
    chance = np.asarray(table[CLASS], dtype=float)
    seen = np.asarray(table[VISIBILITY], dtype=float)
    figure, axes = new_figure(4.4, 3.0)
    good = np.isfinite(chance) & np.isfinite(seen) & (seen > 0)
    axes[0, 0].plot(seen[good], chance[good], ls="none", marker="o", ms=3.5, color=BLUE, alpha=0.6)
    axes[0, 0].set(xscale="log", ylim=(-0.03, 1.03))
    label(axes[0, 0], "visibility", "probability of a cluster")
    unlikely = int((chance < LIKELY).sum())
    faint = int((seen < CLEAR).sum())
    text = [
        f"{unlikely} of {int(np.isfinite(chance).sum())} images hold a cluster with a probability "
        f"below {LIKELY:g}; their parameters mean nothing. {faint} have a visibility below "
        f"{CLEAR:g}: the errors of clusters that hardly stand out are large, and selection acts on "
        "them."
    ]
    caption = (
        "Visibility (mean flux a pixel within the half-number radius over the background's "
        "scatter) and the probability that there is a cluster."
    )
    shown = [PageFigure(figure, caption, "class and visibility of the images")]
    return Section("Cluster or background?", text, None, shown)


def _scatter_section(table: Any, columns: list[str]) -> Section:
    n = table.meta.get("melotte", {}).get("provenance", {}).get("background_draws", "several")
    rows = []
    for column in columns:
        name = column.removesuffix(f"_{SCATTER}")
        scatter = np.asarray(table[column], dtype=float)
        high, low = (np.asarray(table[f"{name}_{q}"], dtype=float) for q in (84, 16))
        known = np.isfinite(scatter) & np.isfinite(high - low)
        if known.any():
            width = np.median((high - low)[known] / 2)
            middle, most = np.quantile(scatter[known], [0.5, 0.9])
            rows.append([name, f"{middle:.3f}", f"{most:.3f}", f"{width:.3f}"])
    text = [
        f"Inference was repeated with {n} random backgrounds, one at a time, added to each image. "
        "The scatter of the medians says how far a field can move them. The image's own background "
        "is still there, so it is counted twice and the scatter is more than the field's true "
        "share of the errors (Bialopetravičius & Narbutis 2020, Sect. 3.3)."
    ]
    header = ["parameter", "median scatter", "90 %", "median 68 % half-width"]
    return Section("Other backgrounds", text, PageTable(header, rows))
