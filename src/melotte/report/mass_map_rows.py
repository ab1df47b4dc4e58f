"""The demo's mock globular clusters: light, true and inferred mass, and its standard deviation."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from melotte.report.map_gallery import ERROR, MASS, colour_bar, show_light
from melotte.report.style import INK, SMALL, new_figure
from melotte.systems.globular_clusters.photometry import map_fluxes, map_number

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.engine.result_maps import MapLayer
    from melotte.engine.results import InferenceResult
    from melotte.systems.base import Batch

HEADINGS = ("light in V", "true mass", "inferred mass", "standard deviation")

SAID = {
    "distance": ("distance", "kpc"),
    "log_age": ("age", "Gyr"),
    "log_mass_fov": (r"log(mass/M$_\odot$)", ""),
    "mass_to_light_v": ("M/L", ""),
}
"""Parameters that are written beside the maps: how they are called, and their units."""


@dataclass(frozen=True)
class MassMapRow:
    """One mock cluster.

    Parameters
    ----------
    light : array, shape (rows, columns)
        NaN, drawn red, where unknown.
    true, inferred : array, shape (rows, columns), log10(Msun/px)
    deviation : array, shape (rows, columns), dex
        Standard deviation of ``inferred``.
    pixel_scale : float, arcsec
    said : sequence of (str, str)
        A name and what is said of it, in lines beside the maps.
    """

    light: NDArray[Any]
    true: NDArray[Any]
    inferred: NDArray[Any]
    deviation: NDArray[Any]
    pixel_scale: float
    said: Sequence[tuple[str, str]]


def inferred_maps(
    result: InferenceResult, shape: tuple[int, ...]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Maps of mass of a result that holds maps.

    Parameters
    ----------
    result : InferenceResult
    shape : (n, rows, columns)

    Returns
    -------
    median, deviation : array, shape (n, rows, columns), log10(Msun/px) and dex
        NaN for rows that failed.
    """
    median, deviation = np.full((2, *shape), np.nan, dtype=np.float32)
    for i, layers in enumerate(result.maps):
        for layer in layers:
            if layer.name == "mass_map":
                median[i] = layer.values
            elif layer.name == "mass_map_scale":
                deviation[i] = _standard_deviation(layer)
    return median, deviation


def mock_rows(
    batch: Batch,
    result: InferenceResult,
    maps: tuple[NDArray[np.float32], NDArray[np.float32]],
    chosen: Sequence[int],
) -> list[MassMapRow]:
    """What is drawn of some mocks.

    Parameters
    ----------
    batch : Batch
    result : InferenceResult
        Of the batch.
    maps : (array, array)
        Of :func:`inferred_maps`.
    chosen : sequence of int
        Numbers of the mocks.
    """
    true = batch.targets["log_mass_map"][:, 0].cpu().numpy()
    inferred, deviation = maps
    light = map_fluxes(batch.observation)[0][:, 0].cpu().numpy()
    scales = map_number(batch.observation, "pixel_scale").tolist()
    truth = batch.theta.cpu().numpy()
    rows = []
    for i in chosen:
        said = []
        for name, (text, unit) in SAID.items():
            k = result.names.index(name)
            pair = np.array([truth[i, k], result.quantiles[i, 1, k]])
            if name == "log_age":
                pair = 10 ** (pair - 9)
            numbers = (f"{one:#.3g}".rstrip(".") for one in pair)
            said.append((text, f"{' → '.join(numbers)} {unit}".strip()))
        said.append(("seen in", _channels(batch, i)))
        rows.append(MassMapRow(light[i], true[i], inferred[i], deviation[i], scales[i], said))
    return rows


def mass_map_rows(entries: Sequence[MassMapRow]) -> Figure:
    """A row a cluster: what is said of it, light, true mass, inferred mass, standard deviation.

    Both maps of mass are on one scale, that of the row's bar; deviations of all clusters too.

    Parameters
    ----------
    entries : sequence of MassMapRow

    Returns
    -------
    Figure
    """
    n = max(len(entries), 1)
    widths = [0.85, 1, 1, 1, 1]
    figure, axes = new_figure(10.4, 1.95 * n + 0.3, n, 5, width_ratios=widths)
    largest = max((float(np.quantile(one.deviation, 0.99)) for one in entries), default=1.0)
    for panel in axes.flat:
        panel.set(xticks=[], yticks=[])
        for side in panel.spines.values():
            side.set_visible(False)
    shown: Any = None
    for panels, one in zip(axes, entries, strict=False):
        _say(panels[0], one.said)
        show_light(panels[1], one.light, one.pixel_scale)
        low, high = np.quantile(one.true, [0.02, 0.999])
        mass: dict[str, Any] = {"cmap": MASS, "vmin": low, "vmax": max(high, low + 0.1)}
        panels[2].imshow(one.true, origin="lower", **mass)
        inferred = panels[3].imshow(one.inferred, origin="lower", **mass)
        colour_bar(figure, inferred, [panels[3]], "")
        shown = panels[4].imshow(one.deviation, origin="lower", cmap=ERROR, vmin=0, vmax=largest)
        colour_bar(figure, shown, [panels[4]], "")
    units = ("", r"log(M$_\odot$/px)", r"log(M$_\odot$/px)", "dex")
    for panel, name, unit in zip(axes[0, 1:], HEADINGS, units, strict=True):
        panel.set_title(f"{name}\n{unit}", fontsize=SMALL + 1, color=INK)
    axes[0, 0].set_title("truth →\nposterior median", fontsize=SMALL + 1, color=INK, loc="left")
    return figure


def _channels(batch: Batch, i: int) -> str:
    """What a mock was observed in."""
    data: Any = batch.observation.data
    bands = ("V", "B")[: data["flux"].shape[1]]
    seen = [name for k, name in enumerate(bands) if data["flux"][i, k].isfinite().any()]
    if "dispersion" in data and data["dispersion"][i].isfinite().any():
        seen.append("dispersions")
    if "distance_told" in data and data["distance_told"][i].isfinite():
        seen.append("distance told")
    return ", ".join(seen)


def _standard_deviation(scale: MapLayer) -> NDArray[np.float32]:
    """Of a normal distribution the scale itself; Student's is wider, where it has any."""
    degrees = scale.degrees
    if degrees is None or degrees <= 2:
        return scale.values
    return scale.values * np.float32((degrees / (degrees - 2)) ** 0.5)


def _say(axes: Any, said: Sequence[tuple[str, str]]) -> None:
    """Names in small letters, and under each what is said."""
    step = 1 / max(len(said), 1)
    for line, (name, text) in enumerate(said):
        top = 1 - step * (line + 0.1)
        axes.text(0, top, name, fontsize=SMALL - 1, color=INK, alpha=0.7, va="top")
        axes.text(0, top - 0.42 * step, text, fontsize=SMALL + 1, color=INK, va="top")
