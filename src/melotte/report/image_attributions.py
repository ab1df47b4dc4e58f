"""What a network read in the image of a cluster: pixel by pixel, ring by ring, patch by patch."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from melotte.engine.attribution import Attribution, attribute, rank_agreement, untrained_copy
from melotte.report.cluster_image_galleries import stretch_of
from melotte.report.image_figures import (
    colour_picture,
    filled,
    short_bands,
    show_picture,
)
from melotte.report.page import PageFigure, PageTable, Section
from melotte.report.style import INK, SMALL, new_figure, with_unit
from melotte.systems.base import Observation
from melotte.systems.cluster_images.preparation import CAMERA, background_of

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.engine.model_files import Model

Array = NDArray[np.float64]

PATCHES = 9
"""Patches along a side, of which one after the other is emptied; odd, so that one is central."""
ALIKE = 0.5
"""Rank agreement with an untrained network above which a warning is given."""
CHANGES = "RdBu_r"
SMOOTHING = 1.0
"""Standard deviation, px, by which attributions of pixels are smoothed in figures."""
LEAD = (
    "What the network read, asked in three ways. Attributed (integrated gradients): how the "
    "difference from a featureless image is shared among pixels, aperture fluxes and what the "
    "header says. Emptied: how far the posterior mean moves when the light of a patch is taken out "
    "of one band, or of all, and everything is made anew. And the same of a network with random "
    "weights, which has learnt nothing: what looks alike there says nothing of what was learnt."
)


@dataclass(frozen=True)
class PatchChanges:
    """What emptying patches of an image does to the posterior mean.

    Parameters
    ----------
    change : array, shape (1 or 1 + n_bands, n_patches, n_patches), the parameter's unit
        Mean with the patch's light less that without it: in all bands, then in each alone.
    """

    change: Array


def explain_image(model: Model, observation: Observation, parameter: str) -> list[Section]:
    """Sections on one image: pixels, patches, features and the control."""
    system: Any = model.system
    bands = tuple(system.data.bands)
    whole = attribute(model, observation, parameter)
    patches = patch_changes(model, observation, parameter)
    pixels = _pixels(whole)
    sections = [
        _pixels_section(observation, parameter, bands, whole, pixels),
        _patches_section(observation, parameter, bands, patches, float(whole.prediction[0])),
    ]
    if "photometry" in whole.values:
        sections.append(_features_section(parameter, bands, system.model.apertures, whole))
    untrained = untrained_copy(model)
    random_pixels = _pixels(attribute(untrained, observation, parameter, steps=16))
    random_patches = patch_changes(untrained, observation, parameter, each_band=False)
    sections.append(
        _control_section(
            {
                "attributed to pixels": (pixels, random_pixels),
                "patches emptied": (patches.change[0], random_patches.change[0]),
            }
        )
    )
    return sections


def patch_changes(
    model: Model,
    observation: Observation,
    parameter: str,
    n_patches: int = PATCHES,
    each_band: bool = True,
) -> PatchChanges:
    """Take the light out of one patch after the other, in all bands and in each alone.

    Pixels of a patch become those of a patch of the border, so that the background's noise stays.

    Parameters
    ----------
    model : Model
    observation : Observation
        One image.
    parameter : str
    n_patches : int, > 0
        Along a side.
    each_band : bool
        Whether the bands are emptied one by one too.
    """
    image = torch.as_tensor(observation.data["image"]).float()
    n_bands, n_rows, n_columns = image.shape[1:]
    level, _ = background_of(image)
    rows = torch.arange(n_rows) * n_patches // n_rows
    columns = torch.arange(n_columns) * n_patches // n_columns
    patch = rows[:, None] * n_patches + columns[None, :]
    empty = _background_image(image[0], level[0])
    emptied = [image[0]]
    single = [[band] for band in range(n_bands)] if each_band else []
    for chosen in [list(range(n_bands)), *single]:
        in_bands = torch.zeros(n_bands, dtype=torch.bool)
        in_bands[chosen] = True
        for number in range(n_patches**2):
            out = in_bands[:, None, None] & (patch == number)
            emptied.append(torch.where(out & torch.isfinite(image[0]), empty, image[0]))
    repeated = observation.select(torch.zeros(len(emptied), dtype=torch.int64))
    lacking = replace(repeated, data={**repeated.data, "image": torch.stack(emptied)})
    mean = attribute(model, lacking, parameter, steps=1).prediction.cpu().double().numpy()
    return PatchChanges((mean[0] - mean[1:]).reshape(1 + len(single), n_patches, n_patches))


def pixels_figure(
    observation: Observation, parameter: str, bands: Sequence[str], pixels: Array
) -> Figure:
    """Each band's image, and over it what its pixels were attributed."""
    image = torch.as_tensor(observation.data["image"])[0].double().cpu().numpy()
    n = len(bands)
    figure, axes = new_figure(2.2 * n + 0.7, 4.5, 2, n)
    grey = stretch_of(filled(image)[None]).applied(image)
    # Single pixels' values are noisy; smoothing keeps their sum.
    smooth = ndimage.gaussian_filter(pixels, (0, SMOOTHING, SMOOTHING), mode="nearest")
    largest = float(np.nanquantile(np.abs(smooth), 0.999)) or 1.0
    drawn: Any = None
    for band, name in enumerate(short_bands(bands)):
        for row in (0, 1):
            show_picture(axes[row, band], grey[band], cmap="gray", vmin=0, vmax=1)
        strength = np.abs(smooth[band]) / largest
        drawn = axes[1, band].imshow(
            smooth[band], origin="lower", interpolation="nearest", cmap=CHANGES,
            vmin=-largest, vmax=largest, alpha=np.clip(strength / 0.25, 0, 0.92),
        )  # fmt: skip
        axes[0, band].set_title(name, fontsize=SMALL + 1, color=INK)
        axes[1, band].set_xlabel(f"sum {pixels[band].sum():+.3f}", fontsize=SMALL, color=INK)
    _bar(figure, drawn, axes.ravel().tolist(), f"carried of {with_unit(parameter, '')}, per pixel")
    return figure


def patches_figure(
    observation: Observation, parameter: str, bands: Sequence[str], patches: PatchChanges
) -> Figure:
    """The colour picture, and the changes when patches are emptied in all bands and in each."""
    image = torch.as_tensor(observation.data["image"])[0].double().cpu().numpy()
    n = len(bands)
    figure, axes = new_figure(1.9 * (n + 2) + 0.6, 2.5, 1, n + 2)
    show_picture(axes[0, 0], colour_picture(image, stretch_of(filled(image)[None])))
    axes[0, 0].set_title("image", fontsize=SMALL + 1, color=INK)
    largest = float(np.nanmax(np.abs(patches.change), initial=1e-9))
    drawn: Any = None
    titles = ["all bands", *short_bands(bands)]
    for panel, title, change in zip(axes[0, 1:], titles, patches.change, strict=True):
        drawn = show_picture(panel, change, cmap=CHANGES, vmin=-largest, vmax=largest)
        panel.set_title(title, fontsize=SMALL + 1, color=INK)
    _bar(figure, drawn, axes[0].tolist(), "mean with, less without")
    return figure


def _pixels(whole: Attribution) -> Array:
    """Attributions of the pixels, (n_bands, n_rows, n_columns)."""
    values: Any = whole.values["image"]
    return values[0].detach().cpu().double().numpy()


def _background_image(image: Tensor, level: Tensor) -> Tensor:
    """Rows of the border over and over: an image of the background alone."""
    n_rows = image.shape[-2]
    depth = max(2, n_rows // 16)
    strip = torch.cat([image[:, :depth], image[:, -depth:]], 1)
    strip = torch.where(torch.isfinite(strip), strip, level[:, None, None])
    return strip.repeat(1, -(-n_rows // strip.shape[1]), 1)[:, :n_rows].nan_to_num(0.0)


def _pixels_section(
    observation: Observation,
    parameter: str,
    bands: Sequence[str],
    whole: Attribution,
    pixels: Array,
) -> Section:
    text = [
        f"The posterior mean of {parameter} is {float(whole.prediction[0]):.3f}; a featureless "
        f"image (a flat background, all other features as in the mean mock) would give "
        f"{float(whole.baseline[0]):.3f}. Of the difference the pixels carry {pixels.sum():+.3f}; "
        f"the sum of all parts misses {float(whole.residual[0]):+.3f}, the error of the "
        "integration.",
    ]
    size = np.abs(pixels).sum((1, 2))
    rows = [
        [name, f"{pixels[band].sum():+.4f}", f"{100 * size[band] / max(size.sum(), 1e-12):.0f} %"]
        for band, name in enumerate(short_bands(bands))
    ]
    caption = (
        "Above: the bands. Below: what each pixel was attributed, over the band; red pixels make "
        f"{parameter} larger. What is transparent carries little; smoothed by a pixel."
    )
    figure = pixels_figure(observation, parameter, bands, pixels)
    return Section(
        f"{parameter}: pixel by pixel",
        text,
        PageTable(["band", "carried", "share of all sizes"], rows),
        [PageFigure(figure, caption, f"what pixels told of {parameter}")],
    )


def _patches_section(
    observation: Observation,
    parameter: str,
    bands: Sequence[str],
    patches: PatchChanges,
    mean: float,
) -> Section:
    text = [
        "The light of a patch is taken out (its pixels become those of the image's border) and the "
        "mean is made anew, from the pixels, the aperture fluxes and the background. Red: without "
        f"this light {parameter} comes out smaller.",
    ]
    change = patches.change
    k, i, j = np.unravel_index(np.nanargmax(np.abs(change)), change.shape)
    where = ["all bands", *short_bands(bands)][int(k)]
    side = change.shape[-1]
    text.append(
        f"Most telling is the light in {where} at column {int(j) + 1} and row {int(i) + 1} of "
        f"{side}: without it the mean would be {mean - change[k, i, j]:.3f}."
    )
    caption = "Change of the mean when patches are emptied, in all bands and in each alone."
    figure = patches_figure(observation, parameter, bands, patches)
    return Section(
        f"{parameter}: patches of light",
        text,
        None,
        [PageFigure(figure, caption, f"changes of {parameter} by patch")],
    )


def _features_section(
    parameter: str, bands: Sequence[str], apertures: Sequence[float], whole: Attribution
) -> Section:
    """What aperture fluxes and the header carried."""
    names = short_bands(bands)
    entries = []
    photometry = torch.as_tensor(whole.values["photometry"])[0].tolist()
    edges = [0.0, *apertures]
    rings = [f"{low:g} to {high:g} px" for low, high in pairwise(edges)]
    keys = [f"flux in {name}, {ring}" for name in names for ring in rings]
    entries += list(zip(keys, photometry, strict=True))
    context = torch.as_tensor(whole.values["context"])[0].tolist()
    parts = ("level of the background", "its scatter", "exposure", "width of stars", "is known")
    keys = [f"{part}, {name}" for part in parts for name in names]
    keys += [name.replace("_", " ") for name in CAMERA]
    entries += list(zip(keys, context, strict=True))
    light, header = sum(photometry), sum(context)
    entries.sort(key=lambda one: -abs(one[1]))
    rows = [[name, f"{value:+.4f}"] for name, value in entries[:15]]
    text = [
        f"Aperture fluxes carry {light:+.3f}, background and header {header:+.3f}. They are "
        "measured from those of the mean mock, so what is as in the mean mock carries nothing. "
        "The strongest:",
    ]
    return Section(f"{parameter}: features", text, PageTable(["feature", "carried"], rows))


def _control_section(pairs: dict[str, tuple[Array, Array]]) -> Section:
    rows, alike = [], []
    for name, (trained, random) in pairs.items():
        signed = rank_agreement(trained.ravel(), random.ravel())
        sizes = rank_agreement(np.abs(trained).ravel(), np.abs(random).ravel())
        rows.append([name, _written(signed), _written(sizes)])
        if abs(sizes) > ALIKE:
            alike.append(name)
    text = [
        "Rank agreement (Spearman) with the same network with random weights (Adebayo et al. "
        "2018): near 0 what is shown was learnt, near ±1 it is the shape of the image alone.",
    ]
    if alike:
        text.append(
            f"Sizes agree by more than {ALIKE} ({', '.join(alike)}): any network would look where "
            "the light is; only signs and the balance between bands were learnt."
        )
    header = ["values", "agreement, signed", "agreement of sizes"]
    return Section("Control: a network that has learnt nothing", text, PageTable(header, rows))


def _written(value: float) -> str:
    return f"{value:+.2f}" if np.isfinite(value) else "–"


def _bar(figure: Figure, drawn: Any, axes: Any, text: str) -> None:
    bar = figure.colorbar(drawn, ax=axes, pad=0.01)
    bar.set_label(text, fontsize=SMALL, color=INK)
    bar.ax.tick_params(labelsize=SMALL)
    bar.outline.set_visible(False)  # pyright: ignore[reportCallIssue]
