"""The ``evaluate`` command: what an evaluation found, on the terminal, as JSON and as figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from melotte.engine.atomic_files import write_atomically
from melotte.errors import MelotteFileError
from melotte.report.comparison import comparison_rows, comparison_table
from melotte.report.figures import (
    TOO_FEW,
    coverage_figure,
    p_text,
    rank_figure,
    recovery_figure,
)
from melotte.report.image_evaluation import CAPTIONS as IMAGE_CAPTIONS
from melotte.report.image_evaluation import image_figures
from melotte.report.map_evaluation import CAPTIONS as MAP_CAPTIONS
from melotte.report.map_evaluation import map_figures
from melotte.report.page import PageFigure, Section, write_page
from melotte.report.style import save
from melotte.systems.cluster_images.judging import ImageJudge
from melotte.systems.globular_clusters.judging import MapJudge

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import Console

    from melotte.engine.evaluation import Evaluation
    from melotte.engine.model_files import Model


def verdict_lines(evaluation: Evaluation) -> list[str]:
    """One line on calibration, one on flags, one on speed."""
    wrong = {k: v for k, v in evaluation.calibration.verdicts.items() if v != "calibrated"}
    listed = ", ".join(f"{name} {verdict}" for name, verdict in wrong.items())
    joint = p_text(evaluation.calibration.joint.p_value, TOO_FEW)
    rates = evaluation.extra.get("flag_rates", {})
    raised = ", ".join(f"{name} {100 * rate:.1f} %" for name, rate in rates.items() if rate > 0)
    lines = [
        f"calibration: {listed or 'every parameter calibrated'}; joint (TARP) {joint}",
        f"flags on mocks: {raised or 'none'}",
        f"time: {1000 * evaluation.seconds_per_object:.2f} ms an object",
    ]
    if evaluation.n < 5000:
        lines.append(
            f"{evaluation.n} mocks are few: coverages are certain to "
            f"{100 * 3 * (0.68 * 0.32 / max(evaluation.n, 1)) ** 0.5:.0f} % (3 standard errors)"
        )
    return lines


def show_evaluation(evaluation: Evaluation, console: Console | None = None) -> None:
    """Print the table and the verdicts.

    Parameters
    ----------
    evaluation : Evaluation
    console : rich Console, optional
        Standard output by default.
    """
    from rich.console import Console

    console = console or Console()
    console.print(comparison_table(evaluation))
    for line in verdict_lines(evaluation):
        console.print(line, markup=False, highlight=False)


def evaluation_figures(evaluation: Evaluation, model: Model) -> dict[str, Figure]:
    """Figures by name: recovery, coverage, ranks, and what the system's judge has to show."""
    estimate = evaluation.quantiles[:, 1]
    found = {
        "recovery": recovery_figure(evaluation.truth, estimate, model.parameters),
        "coverage": coverage_figure(evaluation.calibration),
        "ranks": rank_figure(evaluation.calibration),
    }
    if isinstance(evaluation.judged, MapJudge):
        found |= map_figures(evaluation.judged)
    elif isinstance(evaluation.judged, ImageJudge):
        found |= image_figures(evaluation.judged)
    return found


def write_evaluation(
    evaluation: Evaluation, model: Model, json_file: Path | None, figures: Path | None
) -> list[Path]:
    """Write the JSON, and a folder of figures with a page that shows them.

    Parameters
    ----------
    evaluation : Evaluation
    model : Model
    json_file : Path, optional
    figures : Path, optional
        Gets ``recovery.png``, ``coverage.png``, ``ranks.png`` and ``evaluation.html``, and those
        of :data:`melotte.report.map_evaluation.CAPTIONS` for maps of mass, or of
        :data:`melotte.report.image_evaluation.CAPTIONS` for images of clusters; made where it does
        not exist.

    Returns
    -------
    list of Path
        What was written.

    Raises
    ------
    MelotteFileError
        When something cannot be written.
    """
    written = []
    if json_file is not None:
        text = json.dumps(evaluation.as_json(), indent=1, allow_nan=False) + "\n"
        write_atomically(json_file, text.encode())
        written.append(json_file)
    if figures is None:
        return written
    try:
        figures.mkdir(parents=True, exist_ok=True)
        drawn = evaluation_figures(evaluation, model)
        for name, figure in drawn.items():
            written.append(save(figure, figures / f"{name}.png"))
    except OSError as error:
        raise MelotteFileError(f"{figures}: cannot be written: {error}") from error
    captions = {
        "recovery": "True and inferred values of the mocks; residuals against either.",
        "coverage": "Coverage less credibility, of all parameters together and of each; "
        "shaded: the 95 and 99.7 % ranges of chance.",
        "ranks": "Ranks of the truth among posterior samples, with the 99 % range of chance.",
        **MAP_CAPTIONS,
        **IMAGE_CAPTIONS,
    }
    sections = [
        Section("In numbers", verdict_lines(evaluation), comparison_rows(evaluation)),
        *(
            Section(
                name.replace("-", " ").capitalize(),
                (),
                None,
                [PageFigure(figure, captions[name], name)],
            )
            for name, figure in drawn.items()
        ),
    ]
    lead = f"{evaluation.n} mocks that the model has not seen (seed {evaluation.seed})."
    provenance = {"model": model.name, **model.provenance}
    page = write_page(
        figures / "evaluation.html", f"Evaluation of {model.name}", lead, sections, provenance
    )
    return [*written, page]
