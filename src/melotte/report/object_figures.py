"""Figures of each object that ``infer`` measured: the system says which."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from melotte.api import plain_name
from melotte.errors import MelotteValueError, did_you_mean
from melotte.systems.base import Observation, RowError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.engine.model_files import Model
    from melotte.engine.results import InferenceResult
    from melotte.io.table_files import TableFile
    from melotte.report.cluster_galaxies import ClusterGalaxies

    Drawn = Iterator[tuple[str, dict[str, Figure]]]

MOST_FIGURES = 200
"""Objects that get figures of their own; a larger table's are the first ones."""


@dataclass(frozen=True)
class Drawing:
    """What figures are made of.

    Parameters
    ----------
    model : Model
    result : InferenceResult
        With samples.
    observations : sequence of Observation
        That were measured, in the order of the rows.
    literature : TableFile, optional
        Table of literature values, drawn beside the posterior of a galaxy cluster.
    galaxies : sequence of ClusterGalaxies, optional
        Galaxy clusters with memberships, where these are known already.
    names : collection of str
        Objects to draw; all of them where empty.
    """

    model: Model
    result: InferenceResult
    observations: Sequence[Observation]
    literature: TableFile | None = None
    galaxies: Sequence[ClusterGalaxies] | None = None
    names: Collection[str] = ()

    def wants(self, name: str) -> bool:
        """Whether figures of an object were asked for."""
        return not self.names or name in self.names


def with_named(
    entries: Iterable[Observation | RowError], names: Collection[str]
) -> list[Observation | RowError]:
    """Everything that was read, where all objects that figures are asked for are among it.

    Parameters
    ----------
    entries : iterable of Observation or RowError
    names : collection of str

    Raises
    ------
    MelotteValueError
        When an object is not in the inputs.
    """
    read = list(entries)
    ids = [(entry.id,) if isinstance(entry, RowError) else entry.ids for entry in read]
    known = dict.fromkeys(name for some in ids for name in some)
    for name in names:
        if name not in known:
            some = ", ".join(list(known)[:5]) + (", ..." if len(known) > 5 else "")
            raise MelotteValueError(
                f"--figures-of {name!r}: no such object in the inputs"
                f"{did_you_mean(name, known)}; they hold {some or 'none'}"
            )
    return read


def write_figures(drawing: Drawing, folder: Path) -> int:
    """Write the figures of the objects that are named, or of the first ``MOST_FIGURES``.

    Parameters
    ----------
    drawing : Drawing
    folder : Path
        Made where it does not exist; gets ``ID_diagram.png`` and ``ID_corner.png`` of an open
        cluster (``ID_as_CATALOGUE_...`` of values as a catalogue's), ``ID_diagram.png`` (phase
        space) and ``ID_mass.png`` of a galaxy cluster; ``ID_diagram.png`` (image, prediction,
        residual), ``ID_ages.png`` and ``ID_corner.png`` of a cluster's image; ``ID_diagram.png``
        (light, map of mass, its error) and ``ID_corner.png`` of a globular cluster.

    Returns
    -------
    int
        Objects that were drawn.
    """
    from melotte.report.style import save

    folder.mkdir(parents=True, exist_ok=True)
    draw = _SYSTEMS.get(drawing.model.system.name)
    if draw is None or drawing.result.samples is None:
        return 0
    n_drawn, stems = 0, FileStems()
    waiting: dict[str, list[str]] = {}
    for name in np.asarray(drawing.result.ids)[drawing.result.measured].tolist():
        waiting.setdefault(name, []).append(stems(name))
    for name, figures in draw(drawing):
        stem = waiting[name].pop(0) if waiting.get(name) else stems(name)
        for kind, figure in figures.items():
            save(figure, folder / f"{stem}_{kind}.png")
        n_drawn += 1
        if n_drawn == MOST_FIGURES and not drawing.names:
            break
    return n_drawn


def figure_lines(drawing: Drawing, folder: Path, n_drawn: int) -> Iterator[str]:
    """How many objects were drawn, and which of those that were named could not be."""
    yield f"figures: {n_drawn} in {folder}"
    result = drawing.result
    measured = {name for name, good in zip(result.ids, result.measured, strict=True) if good}
    for name in drawing.names:
        if name not in measured:
            yield f"  no figure of {name}: it could not be measured"


class FileStems:
    """Beginnings of the file names of objects' figures: no two alike, none of a hidden file.

    Called for one object after the other, of all rows that were measured in their order.
    """

    def __init__(self) -> None:
        self._taken: set[str] = set()

    def __call__(self, name: str) -> str:
        """The beginning for one more object; ``_2``, ``_3`` behind what another one has."""
        kept = (letter if letter.isalnum() or letter in "-_." else "_" for letter in name)
        stem = re.sub(r"^\.", "_", "".join(kept))
        candidates = (stem if number == 1 else f"{stem}_{number}" for number in count(1))
        # Some file systems do not tell small letters from capitals.
        found = next(one for one in candidates if one.lower() not in self._taken)
        self._taken.add(found.lower())
        return found


def open_clusters(drawing: Drawing) -> Drawn:
    """Colour-magnitude diagrams with isochrones, and corner plots.

    As a catalogue that does not give all parameters, a corner plot of those that it gives.
    """
    from melotte.report.cluster_diagrams import cluster_figure
    from melotte.report.cluster_stars import classified, is_physical, member_lists, shown_name
    from melotte.report.figures import corner_figure

    model, result = drawing.model, drawing.result
    names = [parameter.name for parameter in result.parameters]
    units = [parameter.unit for parameter in result.parameters]
    every: Any = result.samples
    for members in member_lists(result, drawing.observations):
        if not drawing.wants(members.name):
            continue
        # Values as a catalogue gives them need not go with our isochrones: no classes then.
        physical = is_physical(result, members.row)
        found = classified(model, result, members) if physical else None
        samples = every[members.row]
        name = shown_name(result, members)
        given = np.isfinite(samples).all(0)
        if not given.all():
            which = np.flatnonzero(given)
            own = corner_figure(
                samples[:, which], [names[i] for i in which], [units[i] for i in which]
            )
            yield name, {"corner": own}
            continue
        diagram = cluster_figure(
            name,
            members.stars,
            samples,
            names,
            units,
            release=members.release,
            found=found,
        )
        yield name, {"diagram": diagram, "corner": corner_figure(samples, names, units)}


def galaxy_clusters(drawing: Drawing) -> Drawn:
    """Galaxies in phase space, and the mass beside other values of it."""
    from melotte.report.classical_masses import classical_masses
    from melotte.report.cluster_galaxies import galaxy_lists, with_memberships
    from melotte.report.galaxy_cluster_diagrams import phase_space_figure
    from melotte.report.literature import literature_values
    from melotte.report.mass_diagrams import mass_figure

    result, table = drawing.result, drawing.literature
    mass = result.parameters[0]
    others = {} if table is None else literature_values(table, mass.name)
    every: Any = result.samples
    # One after the other: the first few of many are drawn.
    for one in drawing.galaxies or galaxy_lists(result, drawing.observations):
        if not drawing.wants(one.name):
            continue
        known = one.membership is not None
        cluster = one if known else with_memberships(drawing.model, [one])[0]
        beside = mass_figure(
            one.name,
            every[one.row, :, 0],
            mass,
            literature=others.get(plain_name(one.name), ()),
            classical=classical_masses(one),
            method=str(result.provenance.get("model", "melotte")),
            flat_prior=result.provenance.get("prior_file") is None,
        )
        yield one.name, {"diagram": phase_space_figure(cluster), "mass": beside}


def cluster_images(drawing: Drawing) -> Drawn:
    """Images beside what the posterior predicts, age with extinction, and corner plots."""
    from melotte.report.corner import corner_figure
    from melotte.report.image_figures import age_extinction_figure, predicted_figure
    from melotte.report.image_products import captions_of, predictions

    model, result = drawing.model, drawing.result
    system: Any = model.system
    units = [parameter.unit for parameter in result.parameters]
    every: Any = result.samples
    seed = int(result.provenance.get("seed", 0))
    for image, predicted in predictions(
        model, result, drawing.observations, seed, wanted=drawing.wants
    ):
        captions = captions_of(result, image, predicted)
        samples = every[image.row]
        figures = {
            "diagram": predicted_figure(predicted, system.data.bands, captions),
            "corner": corner_figure(samples, result.names, units),
        }
        if "extinction_v" in result.names:
            figures["ages"] = age_extinction_figure(samples, result.parameters, image.name)
        yield image.name, figures


def globular_clusters(drawing: Drawing) -> Drawn:
    """Light, map of mass with its error and profiles, and corner plots."""
    from melotte.report.corner import corner_figure
    from melotte.report.image_products import measured_images
    from melotte.report.mass_map_diagrams import mass_map_diagram

    result = drawing.result
    units = [parameter.unit for parameter in result.parameters]
    every: Any = result.samples
    for image in measured_images(result, drawing.observations):
        if not drawing.wants(image.name):
            continue
        diagram = mass_map_diagram(drawing.model, result, image)
        corner = corner_figure(every[image.row], result.names, units)
        yield image.name, {"diagram": diagram, "corner": corner}


_SYSTEMS: dict[str, Callable[..., Drawn]] = {
    "chardin-bianchini": globular_clusters,
    "globular-clusters": globular_clusters,
    "bialopetravicius2019": cluster_images,
    "bialopetravicius2020": cluster_images,
    "cluster-images": cluster_images,
    "open-cluster": open_clusters,
    "galaxy-cluster": galaxy_clusters,
    "ho2019": galaxy_clusters,
}
