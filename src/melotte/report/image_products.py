"""What ``infer`` adds for cluster images: scatter under other backgrounds, predictive checks."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.engine.object_streams import PREDICTIVE_STREAM, object_generator
from melotte.engine.progress import Progress
from melotte.engine.random import keyed_generator
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteValueError
from melotte.flags import Flag, decode_flags
from melotte.io.image_stacks import STACK_SIZE, ImageOptions
from melotte.report.image_figures import ImageCaptions
from melotte.report.result_page import POOR_FIT, interval_text
from melotte.report.stored_figures import MASS_FUNCTION
from melotte.systems.base import Observation
from melotte.systems.cluster_images.background_draws import (
    Backgrounds,
    MosaicBackgrounds,
    SimulatedBackgrounds,
)
from melotte.systems.cluster_images.dereddening import DUST_TAKEN_OFF, brightened
from melotte.systems.cluster_images.predictive import ImagePredictor, PredictedImages
from melotte.systems.cluster_images.system import ImageSystem

if TYPE_CHECKING:
    from melotte.engine.model_files import Model
    from melotte.report.inference import InferenceRequest

SCATTER = "background_scatter"
FEWEST_MASSES = 20
"""Clusters that a mass function is drawn of."""
SHOWN_MASSES = {"m31": (3.0, (2.0, 4.5)), "m83": (4.0, (3.5, 6.0))}
"""By galaxy: log10(Msun) above which power laws are normalised to the clusters found (Johnson et
al. 2017, ApJ 839, 78; Paper II, Fig. 20), and the range shown, one of whose bins begins there."""
_DRAW_STREAM = 23
_SHORT = {
    "extinction_v": "$A_V$",
    "log_age": "log t",
    "log_mass": "log M",
    "half_number_radius": "$r_h$",
}
_IMAGE_OPTIONS = tuple(one.name for one in fields(ImageOptions))


@dataclass(frozen=True)
class MeasuredImage:
    """One image that was measured.

    Parameters
    ----------
    name : str
    row : int
        In the result.
    observation : Observation
        Of this image alone.
    """

    name: str
    row: int
    observation: Observation


def images_of(model: Model) -> ImageSystem | None:
    """The model's system, where that reads cluster images."""
    return model.system if isinstance(model.system, ImageSystem) else None


def measured_images(
    result: InferenceResult, observations: Sequence[Observation]
) -> Iterator[MeasuredImage]:
    """Images behind the rows of a result that did not fail, in the order of the rows.

    Rows of images that could not be read have none; rows and images go together by their ids in
    their order.
    """
    row = 0
    for batch in observations:
        for i, name in enumerate(batch.ids):
            while row < len(result) and result.ids[row] != name:
                row += 1
            if row == len(result):
                return
            if np.isfinite(result.quantiles[row]).all():
                yield MeasuredImage(name, row, _one_image(batch, i))
            row += 1


def with_image_products(
    model: Model,
    result: InferenceResult,
    observations: Sequence[Observation],
    request: InferenceRequest,
) -> tuple[InferenceResult, list[str]]:
    """The result with the columns that were asked for, and lines for a person."""
    lines: list[str] = []
    if request.background_draws:
        source = backgrounds_for(model, request)
        result = with_background_scatter(model, result, observations, source, request)
        lines.extend(scatter_lines(result))
    if request.predictive:
        result = with_predictive(model, result, observations, request.seed)
        known = result.columns["predictive_p"].values
        known = known[np.isfinite(known)]
        poor = int((known < POOR_FIT).sum())
        lines.append(f"  fits with a predictive p below {POOR_FIT}: {poor} of {len(known)}")
    return result, lines


def backgrounds_for(model: Model, request: InferenceRequest) -> Backgrounds:
    """Where ``--background-draws`` takes backgrounds from: the user's mosaics, or simulations."""
    system: Any = model.system
    if request.positions is None:
        return SimulatedBackgrounds(system.data)
    given = dict(request.options) | {"column": dict(request.column)}
    options = {name: value for name, value in given.items() if name in _IMAGE_OPTIONS}
    return MosaicBackgrounds(request.inputs, request.positions, system.data, options, request.seed)


def with_background_scatter(
    model: Model,
    result: InferenceResult,
    observations: Sequence[Observation],
    backgrounds: Backgrounds,
    request: InferenceRequest,
) -> InferenceResult:
    """The result with ``NAME_background_scatter`` of every parameter.

    Inference is repeated with ``request.background_draws`` random backgrounds, one at a time, added
    to every image; the columns hold the standard deviation of the posterior medians.

    References
    ----------
    Bialopetravičius & Narbutis 2020, AJ 160, 264, Sect. 3.3.
    """
    from melotte import api

    n = request.background_draws
    images = list(measured_images(result, observations))
    medians = np.full((n, len(result), len(result.parameters)), np.nan)
    rows = [one.row for one in images]
    bar = Progress(n, "backgrounds")
    for number in range(n if images else 0):
        generator = keyed_generator(request.seed, _DRAW_STREAM, number)
        again = api.infer_observations(
            model,
            _with_backgrounds(model, images, backgrounds, generator),
            seed=request.seed,
            prior=request.prior,
            progress=False,
        )
        medians[number, rows] = again.quantiles[:, 1]
        bar.update(number + 1)
    bar.close()
    spread = np.full(medians.shape[1:], np.nan)
    if n > 1:
        spread = medians.std(0, ddof=1)
    columns = dict(result.columns)
    for i, parameter in enumerate(result.parameters):
        about = f"standard deviation of the median over {n} backgrounds added to the image"
        columns[f"{parameter.name}_{SCATTER}"] = ResultColumn(spread[:, i], parameter.unit, about)
    provenance = {**result.provenance, "background_draws": n}
    return replace(result, columns=columns, provenance=provenance)


def scatter_lines(result: InferenceResult) -> Iterator[str]:
    """Medians of the scatter beside half-widths of 68 % intervals; nothing where none is known."""
    columns = [result.columns[f"{one.name}_{SCATTER}"].values for one in result.parameters]
    if not np.isfinite(columns).any():
        return
    yield "scatter with other backgrounds (added to the image's own, so counted twice):"
    for i, (parameter, scatter) in enumerate(zip(result.parameters, columns, strict=True)):
        width = (result.quantiles[:, 2, i] - result.quantiles[:, 0, i]) / 2
        if np.isfinite(scatter).any():
            yield (
                f"  {parameter.name}: {np.nanmedian(scatter):.3f} {parameter.unit}".rstrip()
                + f" in the middle; 68 % half-width {np.nanmedian(width):.3f}"
            )


def with_predictive(
    model: Model, result: InferenceResult, observations: Sequence[Observation], seed: int
) -> InferenceResult:
    """The result with ``predictive_p`` and ``predictive_worst`` of every image."""
    p: NDArray[np.float64] = np.full(len(result), np.nan)
    worst = np.array([""] * len(result), dtype=object)
    for image, predicted in predictions(model, result, observations, seed):
        p[image.row], worst[image.row] = predicted.p, predicted.worst
    columns = dict(result.columns) | {
        "predictive_p": ResultColumn(
            p, "", "share of images simulated from the posterior that deviate at least as much"
        ),
        "predictive_worst": ResultColumn(
            worst.astype(str), "", "what deviates most: flux or pixels, and the band"
        ),
    }
    return replace(result, columns=columns)


def predictions(
    model: Model,
    result: InferenceResult,
    observations: Sequence[Observation],
    seed: int,
    wanted: Callable[[str], bool] | None = None,
) -> Iterator[tuple[MeasuredImage, PredictedImages]]:
    """What the posterior predicts of measured images, one after the other.

    Parameters
    ----------
    model : Model
    result : InferenceResult
    observations : sequence of Observation
    seed : int
    wanted : callable, optional
        Says of an image's name whether to predict it; all are by default.

    Raises
    ------
    MelotteValueError
        When the result holds no samples.
    """
    system: Any = model.system
    if result.samples is None:
        raise MelotteValueError("predictions need samples of the posteriors")
    predictor = ImagePredictor(system.data, result.names)
    for image in measured_images(result, observations):
        if wanted is not None and not wanted(image.name):
            continue
        samples = torch.from_numpy(np.asarray(result.samples[image.row]))
        generator = object_generator(seed, PREDICTIVE_STREAM, image.name)
        yield image, predictor.predict(image.observation, samples, generator)


def captions_of(
    result: InferenceResult, image: MeasuredImage, predicted: PredictedImages
) -> ImageCaptions:
    """What is written on the figure of an image: medians with errors, class, visibility, fit."""
    row = image.row
    lines = []
    for i, parameter in enumerate(result.parameters):
        low, middle, high = result.quantiles[row, :, i].tolist()
        name, unit = _SHORT.get(parameter.name, parameter.name), parameter.unit
        lines.append(f"{name} {interval_text(low, middle, high)} {unit}".rstrip())
    for column, text in (("class_probability", "P(cluster)"), ("visibility", "visibility")):
        if column in result.columns:
            lines.append(f"{text} {float(result.columns[column].values[row]):.3g}")
    if np.isfinite(predicted.p):
        lines.append(f"predictive p {predicted.p:.2f}")
    flags = decode_flags(int(result.flags[row]))
    lines += [one.lower().replace("_", " ") for one in flags]
    radius = result.quantiles[row, 1, result.names.index("half_number_radius")]
    scale = torch.as_tensor(image.observation.data["pixel_scale"])
    return ImageCaptions(image.name, float(scale[0]), float(radius), tuple(lines))


def write_mass_function(model: Model, result: InferenceResult, folder: Path) -> Path | None:
    """Write ``mass_function.png``: how many clusters of each mass and age were measured.

    Counted are the medians of clusters with a class probability above 0.5, where the model has
    one, that are not flagged OUT_OF_DOMAIN or FAILED. Nothing is corrected for selection.

    Parameters
    ----------
    model : Model
    result : InferenceResult
    folder : Path

    Returns
    -------
    Path or None
        None for other systems, and where there are fewer than 20 such clusters.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Fig. 20.
    """
    from melotte.report.cluster_image_populations import mass_function_figure
    from melotte.report.style import save

    system = images_of(model)
    if system is None or not {"log_mass", "log_age"} <= set(result.names):
        return None
    counted = (result.flags & int(Flag.OUT_OF_DOMAIN | Flag.FAILED)) == 0
    if "class_probability" in result.columns:
        counted &= np.asarray(result.columns["class_probability"].values, dtype=float) > 0.5
    mass, age = (result.quantiles[:, 1, result.names.index(n)] for n in ("log_mass", "log_age"))
    counted &= np.isfinite(mass) & np.isfinite(age)
    if counted.sum() < FEWEST_MASSES:
        return None
    complete, shown = SHOWN_MASSES[system.data.fields.galaxy]
    figure = mass_function_figure(
        mass[counted], age[counted], complete_above=complete, range_of_masses=shown
    )
    return save(figure, folder / MASS_FUNCTION)


def _one_image(batch: Observation, i: int) -> Observation:
    """One image of a batch, with its own part of what the header lists by object."""
    header: Mapping[str, Any] = batch.header
    own = {
        name: value[i : i + 1] if isinstance(value, list) and len(value) == len(batch) else value
        for name, value in header.items()
    }
    return replace(batch.select(torch.tensor([i])), header=own)


def _with_backgrounds(
    model: Model,
    images: Sequence[MeasuredImage],
    backgrounds: Backgrounds,
    generator: torch.Generator,
) -> Iterator[Observation]:
    """Batches of all images, each with a background of its own."""
    for start in range(0, len(images), STACK_SIZE):
        part = images[start : start + STACK_SIZE]
        seen = [_added(model, one.observation, backgrounds, generator) for one in part]
        data = {
            name: torch.cat([torch.as_tensor(one.data[name]) for one in seen])
            for name in seen[0].data
        }
        yield Observation(data, tuple(one.name for one in part))


def _added(
    model: Model, observation: Observation, backgrounds: Backgrounds, generator: torch.Generator
) -> Observation:
    """An image with a background added, brightened like the image."""
    system: Any = model.system
    background = backgrounds.cut(observation, generator)
    dust = observation.header.get(DUST_TAKEN_OFF)
    if dust is not None:
        background = brightened(background, torch.tensor(dust), system.data.bands)
    data = dict(observation.data)
    image = torch.as_tensor(data["image"])
    data["image"] = image + background.to(image)
    return replace(observation, data=data)
