"""Which stars of an open cluster its network read, and what they told it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.figure import Figure

from melotte.engine.attribution import attribute
from melotte.ragged import Ragged
from melotte.report.page import PageFigure, PageTable, Section
from melotte.systems.base import Observation
from melotte.systems.open_cluster.preparation import thin

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

STRONGEST = 15
LEAD = (
    "Each star's attribution is how far it moved the posterior mean from that of a "
    "featureless list (integrated gradients, summed over the star's features). "
    "Positive: towards larger values."
)


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
