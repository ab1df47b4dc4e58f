"""Which galaxies of a cluster its network read, and what they told it of the mass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from melotte.engine.attribution import (
    Attribution,
    attribute,
    occlude,
    rank_agreement,
    untrained_copy,
)
from melotte.ragged import Ragged
from melotte.report.page import PageFigure, PageTable, Section
from melotte.report.style import GREY, INK, SMALL, label, new_figure, with_unit
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.preparation import (
    CONTEXT_FEATURES,
    GALAXY_FEATURES,
    RICHNESS_FEATURES,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from melotte.engine.model_files import Model

Array = NDArray[np.float64]

STRONGEST = 15
N_RADII, N_SPEEDS = 5, 5
"""Cells of phase space: in radius over the aperture, and in speed over the velocity cut."""
ALIKE = 0.5
"""Rank agreement with an untrained network above which a warning is given."""
CHANGES = "RdBu_r"
LEAD = (
    "What the network read, asked in three ways. Left out: how far the posterior mean moves when a "
    "galaxy, or all galaxies of a cell in phase space, are taken out of the list and everything is "
    "made anew from the rest. Attributed (integrated gradients): how the difference from a "
    "featureless list is shared among galaxies and features. And the same of a network with random "
    "weights, which has learnt nothing: what looks alike there says nothing of what was learnt."
)


@dataclass(frozen=True)
class CellChanges:
    """What removing all galaxies of a cell of phase space does to the posterior mean.

    Parameters
    ----------
    radius_edges : array, shape (n_radii + 1,), in apertures
    speed_edges : array, shape (n_speeds + 1,), in velocity cuts
    counts : array of int64, shape (n_radii, n_speeds)
    change : array, shape (n_radii, n_speeds), the parameter's unit
        Mean with the galaxies less that without them; NaN for a cell without galaxies, or with
        all of them.
    """

    radius_edges: Array
    speed_edges: Array
    counts: NDArray[np.int64]
    change: Array


def explain_galaxies(model: Model, observation: Observation, parameter: str) -> list[Section]:
    """Sections on one cluster: galaxies, cells of phase space, features, and the control."""
    whole = attribute(model, observation, parameter)
    left_out = occlude(model, observation, parameter, "galaxies").cpu().double().numpy()
    shares = galaxy_shares(whole)
    cells = cell_changes(model, observation, parameter)
    sections = [
        _galaxies_section(observation, parameter, left_out, shares, whole),
        _cells_section(parameter, cells, float(whole.prediction[0])),
    ]
    if shares is not None:
        sections.append(_features_section(parameter, whole))
    untrained = untrained_copy(model)
    others: dict[str, tuple[Any, Any]] = {}
    others["left out"] = (left_out, occlude(untrained, observation, parameter, "galaxies"))
    if shares is not None:
        random = galaxy_shares(attribute(untrained, observation, parameter))
        others["attributed"] = (shares, random)
    both = None if shares is None else rank_agreement(left_out, shares)
    sections.append(_control_section(others, both))
    return sections


def galaxy_shares(result: Attribution) -> Array | None:
    """Attributions of galaxies, summed over their features, (n_galaxies,); None without any.

    Networks that read a density, not galaxies, have none.
    """
    values = result.values.get("galaxies")
    if not isinstance(values, Ragged):
        return None
    return values.values.sum(-1).detach().cpu().double().numpy()


def cell_changes(
    model: Model,
    observation: Observation,
    parameter: str,
    n_radii: int = N_RADII,
    n_speeds: int = N_SPEEDS,
) -> CellChanges:
    """Take out the galaxies of one cell of phase space after the other.

    Parameters
    ----------
    model : Model
    observation : Observation
        One cluster.
    parameter : str
    n_radii, n_speeds : int, > 0
        Cells in radius, out to the aperture, and in speed, up to the velocity cut.

    Returns
    -------
    CellChanges
    """
    data: Any = observation.data
    galaxies: Ragged = data["galaxies"]
    table = galaxies.values.cpu().double().numpy()
    radius = table[:, 1] / float(data["aperture"][0])
    speed = np.abs(table[:, 0]) / float(data["velocity_cut"][0])
    r_edges, v_edges = np.linspace(0, 1, n_radii + 1), np.linspace(0, 1, n_speeds + 1)
    row = np.clip(np.searchsorted(r_edges, radius, side="right") - 1, 0, n_radii - 1)
    column = np.clip(np.searchsorted(v_edges, speed, side="right") - 1, 0, n_speeds - 1)
    cell = row * n_speeds + column
    counts = np.bincount(cell, minlength=n_radii * n_speeds)
    asked = np.flatnonzero((counts > 0) & (counts < len(cell)))
    change = np.full(len(counts), np.nan)
    if len(asked):
        # The first is the cluster itself: all differ by the removal alone.
        repeated = observation.select(torch.zeros(len(asked) + 1, dtype=torch.int64))
        keep = np.concatenate([np.ones(len(cell), dtype=bool), *(cell != one for one in asked)])
        sets: Any = repeated.data["galaxies"]
        lacking = sets.where(torch.tensor(keep, device=sets.values.device))
        lacking = replace(repeated, data={**repeated.data, "galaxies": lacking})
        mean = attribute(model, lacking, parameter, steps=1).prediction.cpu().double().numpy()
        change[asked] = mean[0] - mean[1:]
    shape = n_radii, n_speeds
    return CellChanges(r_edges, v_edges, counts.reshape(shape), change.reshape(shape))


def cells_figure(parameter: str, cells: CellChanges) -> Figure:
    """Map of the changes, with the number of galaxies in every cell."""
    figure, axes = new_figure(5.6, 4.4)
    panel = axes[0, 0]
    largest = float(np.nanmax(np.abs(cells.change), initial=1e-6))
    drawn = panel.pcolormesh(
        cells.radius_edges, cells.speed_edges, cells.change.T,
        cmap=CHANGES, vmin=-largest, vmax=largest, edgecolors="white", linewidth=0.8,
    )  # fmt: skip
    for i, r in enumerate((cells.radius_edges[1:] + cells.radius_edges[:-1]) / 2):
        for j, v in enumerate((cells.speed_edges[1:] + cells.speed_edges[:-1]) / 2):
            n, value = int(cells.counts[i, j]), cells.change[i, j]
            strong = np.isfinite(value) and abs(value) > 0.6 * largest
            text = f"{value:+.3f}\n{n}".replace("-", "−") if np.isfinite(value) else str(n)
            colour = "white" if strong else GREY if n == 0 else INK
            panel.text(r, v, text, ha="center", va="center", fontsize=SMALL, color=colour)
    _colour_bar(figure, drawn, panel, f"mean {with_unit(parameter, '')} with, less without")
    label(panel, "$R$ / aperture", "|velocity| / velocity cut")
    return figure


def attribution_figure(
    observation: Observation, parameter: str, left_out: Array, shares: Array | None
) -> Figure:
    """Galaxies in phase space, coloured by what leaving out and attribution say of them."""
    data: Any = observation.data
    table = data["galaxies"].values.cpu().double().numpy()
    panels = [("left out, one at a time", left_out)]
    if shares is not None:
        panels.append(("attributed", shares))
    figure, axes = new_figure(4.9 * len(panels), 4.3, 1, len(panels), sharey=True)
    for number, (panel, (title, values)) in enumerate(zip(axes[0], panels, strict=True)):
        finite = np.nan_to_num(values)
        largest = float(np.abs(finite).max(initial=0.0)) or 1.0
        order = np.argsort(np.abs(finite))
        drawn = panel.scatter(
            table[order, 1], table[order, 0], c=finite[order],
            s=5 + 50 * np.abs(finite[order]) / largest, cmap=CHANGES,
            vmin=-largest, vmax=largest, edgecolors=INK, linewidths=0.2, rasterized=True,
        )  # fmt: skip
        cut = float(data["velocity_cut"][0])
        panel.set(xlim=(0, float(data["aperture"][0])), ylim=(-cut, cut))
        panel.xaxis.set_major_locator(MaxNLocator(5))
        _colour_bar(figure, drawn, panel, f"change of {with_unit(parameter, '')}")
        velocity = "line-of-sight velocity / (km/s)" if number == 0 else ""
        label(panel, "$R$ / (Mpc/h)", velocity, title)
    return figure


def _galaxies_section(
    observation: Observation,
    parameter: str,
    left_out: Array,
    shares: Array | None,
    whole: Attribution,
) -> Section:
    data: Any = observation.data
    table = data["galaxies"].values.cpu().double().numpy()
    header = ["R / (Mpc/h)", "velocity / (km/s)", "left out", "attributed"]
    strongest = np.argsort(-np.abs(np.nan_to_num(left_out)))[:STRONGEST]
    rows = [
        [f"{table[i, 1]:.3f}", f"{table[i, 0]:+.0f}", f"{left_out[i]:+.4f}"]
        + ([] if shares is None else [f"{shares[i]:+.4f}"])
        for i in strongest
    ]
    ordered = np.sort(np.abs(np.nan_to_num(left_out)))[::-1]
    half = int(np.searchsorted(np.cumsum(ordered), ordered.sum() / 2)) + 1
    text = [
        f"The posterior mean of {parameter} is {float(whole.prediction[0]):.3f}, from {len(table)} "
        f"galaxies. Leaving out a single one moves it by {np.nanmax(np.abs(left_out)):.3f} at most "
        f"and by {np.nanmedian(np.abs(left_out)):.4f} in the middle; {half} galaxies carry half "
        "of all such changes. Positive: the galaxy makes the mass larger.",
    ]
    if shares is not None:
        context = float(torch.as_tensor(whole.values["context"]).sum())
        text.append(
            f"A featureless list would give {float(whole.baseline[0]):.3f}. Of the difference the "
            f"galaxies' own features carry {shares.sum():+.3f}, features of the list as a whole, "
            f"which are made of all galaxies, {context:+.3f}; the sum misses "
            f"{float(whole.residual[0]):+.3f}, the error of the integration. A galaxy works "
            "through both, which only leaving it out can show."
        )
    else:
        text.append(
            "This network reads a density of the galaxies in phase space, so that nothing can be "
            "attributed to single ones."
        )
    caption = "Each galaxy in phase space; size and colour say how far it moved the mean."
    figure = attribution_figure(observation, parameter, left_out, shares)
    return Section(
        f"{parameter}: galaxy by galaxy",
        text,
        PageTable(header[: 3 + (shares is not None)], rows),
        [PageFigure(figure, caption, f"what galaxies told of {parameter}")],
    )


def _cells_section(parameter: str, cells: CellChanges, mean: float) -> Section:
    known = np.isfinite(cells.change)
    text = [
        "All galaxies of a cell are left out together, and the mean is made anew from the rest. "
        "Red: without them the mass comes out smaller, so they speak for a larger one.",
    ]
    if known.any():
        i, j = np.unravel_index(np.nanargmax(np.abs(cells.change)), cells.change.shape)
        r, v = cells.radius_edges, cells.speed_edges
        value = cells.change[i, j]
        text.append(
            f"Most telling are the {cells.counts[i, j]} galaxies at {r[i]:.1f} to {r[i + 1]:.1f} "
            f"apertures and {v[j]:.1f} to {v[j + 1]:.1f} velocity cuts: without them the mean "
            f"would be {mean - value:.3f}, {'smaller' if value > 0 else 'larger'} by "
            f"{abs(value):.3f}."
        )
    caption = "Change of the mean (above) and number of galaxies (below) in each cell."
    figure = PageFigure(cells_figure(parameter, cells), caption, "changes by cell of phase space")
    return Section(f"{parameter}: cells of phase space", text, None, [figure])


def _features_section(parameter: str, whole: Attribution) -> Section:
    """What each feature carried, of galaxies all together and of the list."""
    galaxies: Any = whole.values["galaxies"]
    context = torch.as_tensor(whole.values["context"]).flatten().tolist()
    entries = [
        (name, "galaxies", value)
        for name, value in _named(GALAXY_FEATURES, galaxies.values.sum(0).tolist())
    ]
    entries += [
        (name, "list", value)
        for name, value in _named((*CONTEXT_FEATURES, *RICHNESS_FEATURES), context)
    ]
    entries.sort(key=lambda one: -abs(one[2]))
    rows = [[name.replace("_", " "), of, f"{value:+.4f}"] for name, of, value in entries]
    scatter = {"log_velocity_scatter", "log_velocity_std", "speed_in_scatter", "speed", "velocity"}
    total = sum(abs(value) for *_, value in entries) or 1.0
    kinematic = sum(abs(value) for name, _, value in entries if name in scatter)
    first, of, value = entries[0]
    text = [
        f"The strongest feature is {first.replace('_', ' ')} of the {of}, which moved the mean by "
        f"{value:+.3f}. Features of the velocities carry {100 * kinematic / total:.0f} % of all "
        "that is attributed, sizes counted without their signs.",
        "What is attributed is measured from a list all of whose features have the mean of the "
        "mocks, so a feature that is as in the mean mock carries nothing however much is read.",
    ]
    return Section(f"{parameter}: features", text, PageTable(["feature", "of", "carried"], rows))


def _control_section(pairs: dict[str, tuple[Any, Any]], both: float | None) -> Section:
    rows, alike = [], []
    for name, (trained, random) in pairs.items():
        first = torch.as_tensor(trained).cpu().double()
        second = torch.as_tensor(random).cpu().double()
        signed, sizes = rank_agreement(first, second), rank_agreement(first.abs(), second.abs())
        ratio = float(second.abs().nanmedian() / first.abs().nanmedian().clamp(min=1e-12))
        rows.append([name, _written(signed), _written(sizes), f"{ratio:.2f}"])
        if abs(sizes) > ALIKE:
            alike.append(name)
    text = [
        "Rank agreement (Spearman) of the galaxies' values with those of the same network with "
        "random weights (Adebayo et al. 2018): near 0 what is shown was learnt, near ±1 it "
        "is the shape of the input alone. The last column compares the sizes of typical values.",
    ]
    if alike:
        text.append(
            f"What is {' and '.join(alike)} agrees by more than {ALIKE}: to a large part the ranks "
            "of these galaxies come from where they lie in phase space, not from what was learnt."
        )
    if both is not None:
        text.append(
            f"Leaving out and attribution agree with each other by {_written(both)} in rank."
        )
    header = ["values", "agreement, signed", "agreement of sizes", "random / trained"]
    return Section("Control: a network that has learnt nothing", text, PageTable(header, rows))


def _named(names: Sequence[str], values: Sequence[float]) -> list[tuple[str, float]]:
    """Names of values, of which there may be fewer: the last names belong to larger models."""
    return list(zip(names, values, strict=False))


def _written(value: float) -> str:
    return f"{value:+.2f}" if np.isfinite(value) else "–"


def _colour_bar(figure: Figure, drawn: Any, axes: Axes, text: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, pad=0.01)
    bar.set_label(text, fontsize=SMALL + 1, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
