"""The ``explain`` command: which stars a network read, and what they told it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from melotte import api
from melotte.engine.attribution import attribute
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.report.page import PageFigure, PageTable, Section, write_page
from melotte.systems.base import Observation
from melotte.systems.open_cluster.preparation import thin

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

STRONGEST = 15


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
    """Explain the posterior mean of one object, star by star, as an HTML page.

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
        When the parameter or the object is unknown.
    """
    model = api.load(model_name, device)
    names = [one.name for one in model.parameters]
    if parameter is not None and parameter not in names:
        raise MelotteValueError(f"parameter {parameter!r} is unknown; known: {', '.join(names)}")
    observation = _one_object(model, source, object_id, options)
    observation = as_read(model, observation)
    name = observation.ids[0]
    sections = [
        explain_parameter(model, observation, one)
        for one in (names if parameter is None else [parameter])
    ]
    lead = (
        "Each star's attribution is how far it moved the posterior mean from that of a "
        "featureless list (integrated gradients, summed over the star's features). "
        "Positive: towards larger values."
    )
    provenance = {"model": model.name, "input": source.name, "object": name}
    return write_page(output, f"What {model.name} read in {name}", lead, sections, provenance)


def explain_parameter(model: Model, observation: Observation, parameter: str) -> Section:
    """Attributions of one object's stars and list features for one parameter."""
    result = attribute(model, observation, parameter)
    stars: Any = observation.data["stars"]
    inputs = result.values["stars"]
    shares = inputs.values if isinstance(inputs, Ragged) else inputs
    per_star = shares.sum(-1).detach().cpu().numpy()
    table: np.ndarray = stars.values.cpu().numpy()
    figure = Figure(figsize=(5.4, 5.2), layout="constrained")
    axes = figure.add_subplot()
    largest = float(np.abs(per_star).max()) or 1.0
    order = np.argsort(np.abs(per_star))
    drawn = axes.scatter(
        table[order, 1],
        table[order, 0],
        c=per_star[order],
        s=6 + 60 * np.abs(per_star[order]) / largest,
        cmap="RdBu_r",
        vmin=-largest,
        vmax=largest,
        edgecolors="#55606b",
        linewidths=0.25,
    )
    figure.colorbar(drawn, ax=axes, label=f"attribution to {parameter}")
    axes.invert_yaxis()
    axes.set_xlabel("BP − RP / mag")
    axes.set_ylabel("G / mag")
    strongest = np.argsort(-np.abs(per_star))[:STRONGEST]
    rows = [
        [f"{table[i, 0]:.2f}", f"{table[i, 1]:.2f}", f"{table[i, 2]:.3f}", f"{per_star[i]:+.4f}"]
        for i in strongest
    ]
    context = float(torch.as_tensor(result.values["context"]).sum())
    text = [
        f"Stars together moved the mean of {parameter} by {per_star.sum():+.3f}, "
        f"features of the list as a whole by {context:+.3f} (in units of the parameter)."
    ]
    caption = "The list's colour-magnitude diagram; size and colour give each star's attribution."
    return Section(
        parameter,
        text,
        PageTable(["G", "BP − RP", "parallax / mas", "attribution"], rows),
        [PageFigure(figure, caption, f"attributions of stars to {parameter}")],
    )


def as_read(model: Model, observation: Observation) -> Observation:
    """The observation with the stars that the network reads: longer lists are sampled down."""
    stars: Any = observation.data["stars"]
    system: Any = model.system
    data = dict(observation.data) | {"stars": thin(stars, system.data.max_stars)}
    return replace(observation, data=data)


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
