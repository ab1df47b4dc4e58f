"""What a page says of a result table: counts, flags, distributions, the first rows."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from melotte.engine.result_tables import read_result_table
from melotte.errors import MelotteFileError
from melotte.flags import MEANING, Flag, decode_flags
from melotte.report.page import PageFigure, PageTable, Section
from melotte.report.stored_figures import figure_sections
from melotte.report.style import BLUE, label, new_figure, with_unit

MOST_ROWS = 200
WORST_FITS = 20
POOR_FIT = 0.01
MOST_COLUMNS = 5
"""Parameters beside each other in the figure of distributions."""
STEPS = (1, 2, 5, 10)
"""Of its ticks."""
STAR_COUNTS = ("n_single", "n_binaries", "n_blue_stragglers", "n_off_sequence")
"""Columns that ``infer --stars`` adds to a result."""


def result_sections(path: Path) -> tuple[list[Section], dict[str, Any]]:
    """Sections and provenance of a table that ``infer`` wrote.

    Parameters
    ----------
    path : Path

    Returns
    -------
    sections : list of Section
    provenance : dict

    Raises
    ------
    MelotteFileError
        When the file is no result table.
    """
    table: Any = read_result_table(path)
    names = [name[:-3] for name in table.colnames if name.endswith("_50")]
    if "id" not in table.colnames or "flags" not in table.colnames or not names:
        raise MelotteFileError(
            f"{path}: is no result table; needs id, NAME_16, NAME_50, NAME_84 and flags, "
            f"found {', '.join(table.colnames[:8])}"
        )
    sections = [flag_section(table), distribution_section(table, names)]
    if STAR_COUNTS[0] in table.colnames:
        sections.append(star_section(table))
    if "predictive_p" in table.colnames:
        sections.append(predictive_section(table))
    if "log_m200c" in names:
        from melotte.report.galaxy_page import galaxy_sections

        sections.extend(galaxy_sections(table, path.parent))
    if "half_number_radius" in names:
        from melotte.report.image_page import image_sections

        sections.extend(image_sections(table))
    sections.extend(figure_sections(table, path.parent))
    sections.append(rows_section(table, names))
    return sections, dict(table.meta.get("melotte", {}))


def flag_section(table: Any) -> Section:
    """How many rows carry which flag, and what it means."""
    flags = np.asarray(table["flags"])
    clean = int((flags == 0).sum())
    rows = [
        [flag.name or "", str(int(((flags & flag) > 0).sum())), MEANING[flag]]
        for flag in Flag
        if ((flags & flag) > 0).any()
    ]
    text = [f"{_counted(len(table), 'object')}, {clean:,} without a flag."]
    return Section("Flags", text, PageTable(["flag", "rows", "meaning"], rows) if rows else None)


def star_section(table: Any) -> Section:
    """How many binaries and blue-straggler candidates each cluster has; the most first."""
    names = [name for name in STAR_COUNTS if name in table.colnames]
    counts = np.stack([np.asarray(table[name], dtype=int) for name in names], -1)
    candidates = counts[:, [n != "n_single" for n in names]].sum(1)
    order = np.lexsort((np.arange(len(table)), -candidates))[:MOST_ROWS]
    rows = [[str(table["id"][i]), *(str(n) for n in counts[i])] for i in order]
    total = ", ".join(
        f"{int(n)} {_in_words(name)}" for name, n in zip(names, counts.sum(0), strict=True)
    )
    text = [f"All clusters: {total}."]
    if len(table) > MOST_ROWS:
        text.append(f"The {MOST_ROWS} clusters with the most candidates.")
    header = ["id", *(_in_words(name) for name in names)]
    return Section("Stars", text, PageTable(header, rows))


def predictive_section(table: Any) -> Section:
    """How well lists replicated from the posterior look like the real ones; the worst fits."""
    p = np.asarray(table["predictive_p"], dtype=float)
    known = p[np.isfinite(p)]
    figure = Figure(figsize=(4.6, 2.8), layout="constrained")
    axes = figure.subplots()
    axes.hist(known, bins=20, range=(0, 1), color="#3b6ea5")
    axes.axhline(len(known) / 20, color="#c8472b", lw=1, ls="--")
    axes.set_xlabel("predictive p-value")
    axes.set_ylabel("objects")
    order = [i for i in np.argsort(p, kind="stable") if np.isfinite(p[i])][:WORST_FITS]
    rows = [[str(table["id"][i]), f"{p[i]:.4f}", str(table["predictive_worst"][i])] for i in order]
    text = [
        f"{int((known < POOR_FIT).sum())} of {len(known)} fits have p below {POOR_FIT}: what "
        "is simulated from their posteriors does not look like what was observed. The worst:"
    ]
    caption = "Predictive p-values; the line is what right fits would give."
    return Section(
        "Does the fit look like the data?",
        text,
        PageTable(["id", "p", "worst statistic"], rows),
        [PageFigure(figure, caption, "histogram of predictive p-values")],
    )


def _per_unit(table: Any, name: str) -> str:
    """What follows a parameter's name: `` / kpc``, or nothing where it has no unit."""
    unit = table[f"{name}_50"].unit
    return f" / {unit}" if unit else ""


def _counted(n: int, what: str) -> str:
    return f"{n:,} {what}" if n == 1 else f"{n:,} {what}s"


def _in_words(name: str) -> str:
    return name.removeprefix("n_").replace("_", " ")


def distribution_section(table: Any, names: list[str]) -> Section:
    """Histograms of medians, and of the half-widths of the 68 % intervals."""
    columns = min(len(names), MOST_COLUMNS)
    blocks = -(-len(names) // columns)
    figure, axes = new_figure(2.6 * columns, 3.9 * blocks, 2 * blocks, columns)
    for panel in axes[-2:, (len(names) - 1) % columns + 1 :].flat:
        panel.set_visible(False)
    for k, name in enumerate(names):
        block, column = divmod(k, columns)
        middle = np.asarray(table[f"{name}_50"], dtype=float)
        width = np.asarray(table[f"{name}_84"], dtype=float)
        width = (width - np.asarray(table[f"{name}_16"], dtype=float)) / 2
        written = with_unit(name, str(table[f"{name}_50"].unit or ""))
        for row, (values, text) in enumerate(((middle, written), (width, f"± of {written}"))):
            panel = axes[2 * block + row, column]
            values = values[np.isfinite(values)]
            if len(values):
                panel.hist(values, bins=30, color=BLUE)
            panel.xaxis.set_major_locator(MaxNLocator(4, steps=STEPS))
            panel.yaxis.set_major_locator(MaxNLocator(4, integer=True, steps=STEPS))
            label(panel, text, "objects" if column == 0 else "")
    caption = "Posterior medians, and half-widths of the 68 % intervals."
    return Section(
        "Distributions", figures=[PageFigure(figure, caption, "histograms of the results")]
    )


def rows_section(table: Any, names: list[str]) -> Section:
    """The first rows as text: median with upper and lower error, and flags in words."""
    rows = []
    for row in table[:MOST_ROWS]:
        cells = [str(row["id"])]
        for name in names:
            low, middle, high = (float(row[f"{name}_{q}"]) for q in (16, 50, 84))
            cells.append(interval_text(low, middle, high))
        cells.append(" ".join(decode_flags(int(row["flags"]))))
        rows.append(cells)
    text = [] if len(table) <= MOST_ROWS else [f"The first {MOST_ROWS} of {len(table)} rows."]
    header = ["id", *(name + _per_unit(table, name) for name in names), "flags"]
    return Section("Objects", text, PageTable(header, rows))


def interval_text(low: float, middle: float, high: float) -> str:
    """A median with its upper and lower error, to the digits that they warrant."""
    if not np.isfinite([low, middle, high]).all():
        return "–"
    error = min(high - middle, middle - low)
    digits = 2 if error <= 0 else int(np.clip(1 - np.floor(np.log10(error)), 0, 4))
    return f"{middle:.{digits}f} +{high - middle:.{digits}f} −{middle - low:.{digits}f}"
