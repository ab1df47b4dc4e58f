"""Figures that ``infer`` wrote into a folder, as sections of the page of its table."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte.flags import Flag
from melotte.report.object_figures import FileStems
from melotte.report.page import PageImage, Section

if TYPE_CHECKING:
    from melotte.engine.results import InferenceResult

FIGURE_FOLDER, COMPARED_WITH = "figures", "compared_with"
"""Entries of a result's header: where its figures lie, from the result's own folder; and the
table that it was compared with."""
MOST_OBJECTS = 24
"""Objects whose figures are shown."""
COMPARISON, LITERATURE = "comparison.png", "literature.png"
LUMINOSITIES, MASS_FUNCTION = "luminosities.png", "mass_function.png"


@dataclass(frozen=True)
class ObjectFigures:
    """Figures of each object of one kind.

    Parameters
    ----------
    column : str
        That tables of such objects have.
    title : str
    captions : mapping
        From the end of a file's name to what it shows.
    """

    column: str
    title: str
    captions: Mapping[str, str]


CLUSTER_IMAGES = ObjectFigures(
    "half_number_radius_50",
    "Images and what the posterior predicts",
    {
        "diagram": (
            "Observed image, mean of the images that the posterior predicts, and what is left in "
            "scatters of the background, by band; right: mean brightness in annuli (68 % of the "
            "predictions are shaded) in the same scatters, σ_b. The circle has the median "
            "half-number radius. χ²/px is the mean squared residual within the radius of the "
            "dotted line over the variance that is expected of background, photons and posterior: "
            "near 1 where the prediction fits, above it where something is left."
        ),
        "ages": (
            "Where age and extinction may lie over the whole range of the prior (contours: 68 and "
            "95 %), and the mass that goes with each sample."
        ),
    },
)
MASS_MAPS = ObjectFigures(
    "field_magnitude_v",
    "Light and maps of mass",
    {
        "diagram": (
            "Light in V, the median map of mass and the standard error of its pixels; right: mass "
            "and M/L in rings about the centre of mass, with the band of the pixels' errors as if "
            "all of a ring were wrong together."
        ),
    },
)
OPEN_CLUSTERS = ObjectFigures(
    "metallicity_50",
    "Diagrams and isochrones",
    {
        "diagram": (
            "Members, the median isochrone with the 68 % band of the posterior, and the line of "
            "binaries of equal masses."
        ),
    },
)
KINDS = (CLUSTER_IMAGES, MASS_MAPS, OPEN_CLUSTERS)
"""The first whose column a table has is its kind."""
OF_ALL = {
    LUMINOSITIES: (
        "Light of the fields",
        "Light of each field of view against distance, beside what the model serves and the 17 "
        "clusters of Chardin & Bianchini 2021 (after their Fig. 10).",
    ),
    MASS_FUNCTION: (
        "Masses and ages",
        "Numbers of clusters by mass and age beside power laws of index −2, with and without "
        "truncation; nothing is corrected for selection (Bialopetravičius & Narbutis 2020, "
        "Fig. 20).",
    ),
}
BESIDE_LITERATURE = {
    COMPARISON: "Medians and 68 % intervals against the table's values.",
    LITERATURE: (
        "M/L, age and distance beside the table's, and what is left against the light of the field "
        "of view, with the 17 clusters of Chardin & Bianchini 2021 (after their Fig. 11)."
    ),
}


def with_figure_folder(
    result: InferenceResult, folder: Path, output: Path, compared_with: Path | None = None
) -> InferenceResult:
    """The result with the folder of its figures in the header, for the report to find.

    Parameters
    ----------
    result : InferenceResult
    folder : Path
        Of the figures.
    output : Path
        Of the result.
    compared_with : Path, optional
        Table of literature values that is drawn beside it.
    """
    place = Path(os.path.relpath(folder.resolve(), output.resolve().parent)).as_posix()
    entries = {FIGURE_FOLDER: place}
    if compared_with is not None:
        entries[COMPARED_WITH] = compared_with.name
    return replace(result, header={**result.header, **entries})


def figure_sections(table: Any, folder: Path) -> Iterator[Section]:
    """Sections of the figures that lie where the table says; none where they are gone.

    Parameters
    ----------
    table : astropy Table
        That ``infer`` wrote.
    folder : Path
        Where the table lies; the folder of figures is looked for from there.

    Yields
    ------
    Section
    """
    header: Mapping[str, Any] = table.meta.get("melotte", {}).get("header", {})
    if not header.get(FIGURE_FOLDER):
        return
    place = folder / str(header[FIGURE_FOLDER])
    for name, (title, caption) in OF_ALL.items():
        if (place / name).is_file():
            yield Section(title, figures=[PageImage(place / name, caption, title)])
    if header.get(COMPARED_WITH):
        title = f"Beside {header[COMPARED_WITH]}"
        for name, caption in BESIDE_LITERATURE.items():
            if (place / name).is_file():
                yield Section(title, figures=[PageImage(place / name, caption, title)])
    kind = next((one for one in KINDS if one.column in table.colnames), None)
    section = None if kind is None else _objects_section(table, place, kind)
    if section is not None:
        yield section


def _objects_section(table: Any, folder: Path, kind: ObjectFigures) -> Section | None:
    """Figures of the first objects, as they lie in the folder; None where there are none."""
    measured = (np.asarray(table["flags"]) & int(Flag.FAILED)) == 0
    ids, stems = np.asarray(table["id"]).astype(str)[measured].tolist(), FileStems()
    begin = [(name, folder / stems(name)) for name in ids]
    drawn = [(name, stem) for name, stem in begin if Path(f"{stem}_diagram.png").is_file()]
    if not drawn:
        return None
    figures = [
        PageImage(path, caption if number == 0 else f"{name}.", f"{ending} of {name}")
        for number, (name, stem) in enumerate(drawn[:MOST_OBJECTS])
        for ending, caption in kind.captions.items()
        if (path := Path(f"{stem}_{ending}.png")).is_file()
    ]
    more = len(drawn) > MOST_OBJECTS
    text = [f"The first {MOST_OBJECTS} of {len(drawn)} objects."] if more else []
    return Section(kind.title, text, None, figures)
