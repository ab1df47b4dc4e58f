"""The ``explain`` command: what a network read in one object, drawn as its system asks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from melotte import api
from melotte.errors import MelotteValueError
from melotte.report.page import Section, write_page
from melotte.report.star_attributions import as_read, explain_parameter
from melotte.systems.base import Observation

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

__all__ = ["Explainer", "as_read", "explain_parameter", "explainer_of", "write_explanation"]


@dataclass(frozen=True)
class Explainer:
    """How the objects of one kind are explained.

    Parameters
    ----------
    lead : str
        First sentences of the page.
    sections : callable
        From model, observation of one object and name of a parameter.
    as_read : callable, optional
        The observation with only what the network reads of it.
    """

    lead: str
    sections: Callable[[Model, Observation, str], Sequence[Section]]
    as_read: Callable[[Model, Observation], Observation] | None = None


def explainer_of(model: Model) -> Explainer:
    """How the model's objects are explained.

    Raises
    ------
    MelotteValueError
        When its system has no explanation.
    """
    build = _SYSTEMS.get(model.system.name)
    if build is None:
        raise MelotteValueError(
            f"explain is for {', '.join(_SYSTEMS)}; this model measures {model.system.name}"
        )
    return build()


def write_explanation(
    model_name: str,
    source: Path,
    output: Path,
    *,
    parameter: str | None,
    object_id: str | None,
    options: Mapping[str, Any],
    device: str = "auto",
) -> Path:
    """Explain the posterior mean of one object, element by element, as an HTML page.

    Parameters
    ----------
    model_name : str
    source : Path
    output : Path
    parameter : str, optional
        One of the model's; all of them by default.
    object_id : str, optional
        Needed where the table holds several objects.
    options : mapping
        As for :meth:`melotte.systems.base.System.read`.
    device : str

    Returns
    -------
    Path

    Raises
    ------
    MelotteValueError
        When the parameter or the object is unknown, or the system has no explanation.
    """
    model = api.load(model_name, device)
    explainer = explainer_of(model)
    names = [one.name for one in model.parameters]
    if parameter is not None and parameter not in names:
        raise MelotteValueError(f"parameter {parameter!r} is unknown; known: {', '.join(names)}")
    observation = _one_object(model, source, object_id, options)
    if explainer.as_read is not None:
        observation = explainer.as_read(model, observation)
    name = observation.ids[0]
    sections = [
        section
        for one in (names if parameter is None else [parameter])
        for section in explainer.sections(model, observation, one)
    ]
    provenance = {"model": model.name, "input": source.name, "object": name}
    title = f"What {model.name} read in {name}"
    return write_page(output, title, explainer.lead, sections, provenance)


def _open_clusters() -> Explainer:
    from melotte.report import star_attributions

    def sections(model: Model, observation: Observation, parameter: str) -> Sequence[Section]:
        return [explain_parameter(model, observation, parameter)]

    return Explainer(star_attributions.LEAD, sections, as_read)


def _galaxy_clusters() -> Explainer:
    from melotte.report import galaxy_attributions

    return Explainer(galaxy_attributions.LEAD, galaxy_attributions.explain_galaxies)


def _cluster_images() -> Explainer:
    from melotte.report import image_attributions

    return Explainer(image_attributions.LEAD, image_attributions.explain_image)


_SYSTEMS: dict[str, Callable[[], Explainer]] = {
    "bialopetravicius2019": _cluster_images,
    "bialopetravicius2020": _cluster_images,
    "cluster-images": _cluster_images,
    "open-cluster": _open_clusters,
    "galaxy-cluster": _galaxy_clusters,
    "ho2019": _galaxy_clusters,
}


def _one_object(
    model: Model, source: Path, object_id: str | None, options: Mapping[str, Any]
) -> Observation:
    found: list[str] = []
    chosen: Observation | None = None
    for entry in model.system.read([source], options):
        if not isinstance(entry, Observation):
            continue
        for i, name in enumerate(entry.ids):
            found.append(name)
            if name == object_id or (object_id is None and chosen is None):
                chosen = entry.select(torch.tensor([i]))
    if object_id is None and len(found) > 1:
        raise MelotteValueError(
            f"{source}: holds {len(found)} objects; choose one with --id, such as {found[0]}"
        )
    if chosen is None:
        some = ", ".join(found[:5])
        raise MelotteValueError(
            f"{source}: no usable object {object_id!r}; found: {some or 'none'}"
        )
    return chosen
