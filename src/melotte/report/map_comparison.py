"""Measured globular clusters beside literature values, as pi-DOC's paper shows its 17."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.api import plain_name
from melotte.flags import Flag
from melotte.io.table_files import TableFile
from melotte.report.field_luminosities import literature_figure, measured_light_figure
from melotte.report.literature import literature_values
from melotte.report.stored_figures import LITERATURE, LUMINOSITIES
from melotte.report.style import save
from melotte.systems.globular_clusters.derived_maps import luminosity
from melotte.systems.globular_clusters.system import ClusterMapSystem
from melotte.telescope.map_noise import FLUX_ZERO_POINT

if TYPE_CHECKING:
    from collections.abc import Sequence

    from melotte.engine.model_files import Model
    from melotte.engine.results import InferenceResult
    from melotte.systems.base import Observation

Array = NDArray[np.floating[Any]]

MAGNITUDE = "field_magnitude_v"
WARNED = int(Flag.OUT_OF_DOMAIN | Flag.OUT_OF_RANGE | Flag.FAILED)


def write_map_figures(
    model: Model,
    result: InferenceResult,
    observations: Sequence[Observation],
    literature: TableFile | None,
    folder: Path,
) -> None:
    """Write what shows all globular clusters of a result together; nothing for other systems.

    See :func:`write_luminosities`, and :func:`write_map_comparison` where there is literature.
    """
    write_luminosities(model, result, observations, folder)
    if literature is not None:
        write_map_comparison(model, result, literature, folder)


def write_luminosities(
    model: Model, result: InferenceResult, observations: Sequence[Observation], folder: Path
) -> Path | None:
    """Write ``luminosities.png``: light of the field against distance, beside what is served.

    Light is that of the known pixels at the inferred distance, or the one that was given; an
    extinction that the model was told is taken off.

    Parameters
    ----------
    model : Model
    result : InferenceResult
    observations : sequence of Observation
        That were measured, in the order of the rows.
    folder : Path

    Returns
    -------
    Path or None
        None for other systems, and where no cluster was measured.
    """
    if not isinstance(model.system, ClusterMapSystem) or MAGNITUDE not in result.columns:
        return None
    magnitude = np.asarray(result.columns[MAGNITUDE].values, dtype=float)
    far = measured_columns(result)["distance"]
    light = field_light(magnitude, far, told_extinctions(result, observations))
    if not np.isfinite(light[1]).any():
        return None
    inside = (result.flags & WARNED) == 0
    figure = measured_light_figure(light, far, inside, model.system.data.served, result.ids)
    return save(figure, folder / LUMINOSITIES)


def told_extinctions(result: InferenceResult, observations: Sequence[Observation]) -> Array:
    """A_V that the model was told of each row, shape (n,), mag; 0 where it was told none."""
    from melotte.report.image_products import measured_images

    found = np.zeros(len(result))
    for image in measured_images(result, observations):
        dust = image.observation.data.get("extinction_v")
        if isinstance(dust, torch.Tensor):
            found[image.row] = float(dust[0])
    return found


def write_map_comparison(
    model: Model, result: InferenceResult, literature: TableFile, folder: Path
) -> Path | None:
    """Write ``literature.png``: M/L, age and distance beside the literature, by light.

    Light is that of the field of view at the literature's distance, or at the inferred one where
    there is none, without extinction taken off. The mass of a map is divided by it where a network
    gives no M/L.

    Parameters
    ----------
    model : Model
    result : InferenceResult
    literature : TableFile
        Of :func:`~melotte.io.literature_tables.read_literature`: ``id`` and any of
        ``mass_to_light_v``, ``age`` (Gyr) or ``log_age``, ``distance`` (kpc).
    folder : Path

    Returns
    -------
    Path or None
        None for other systems, and where the table has none of the clusters.
    """
    if not isinstance(model.system, ClusterMapSystem):
        return None
    known = literature_columns(literature, result.ids)
    if not any(np.isfinite(values).any() for values in known.values()):
        return None
    estimates = measured_columns(result)
    far = np.where(np.isfinite(known["distance"]), known["distance"], estimates["distance"][1])
    light = field_light(np.asarray(result.columns[MAGNITUDE].values, dtype=float), far)
    if "mass_to_light_v" not in estimates:
        mass = 10 ** np.asarray(result.columns["log_map_mass"].values, dtype=float)
        estimates["mass_to_light_v"] = np.repeat((mass / light)[None], 3, 0)
    figure = literature_figure(estimates, known, light, (result.flags & WARNED) == 0)
    return save(figure, folder / LITERATURE)


def literature_columns(literature: TableFile, ids: tuple[str, ...]) -> dict[str, Array]:
    """``mass_to_light_v``, ``age`` (Gyr) and ``distance`` of clusters, NaN where not listed."""
    found = {}
    for name in ("mass_to_light_v", "age", "distance"):
        values = literature_values(literature, name)
        rows = [values.get(plain_name(one)) for one in ids]
        found[name] = np.array([np.nan if row is None else row[0].value for row in rows])
    return found


def measured_columns(result: InferenceResult) -> dict[str, Array]:
    """16, 50 and 84 % of M/L, age (Gyr) and distance, shape (3, n), those that were inferred."""
    quantiles = np.asarray(result.quantiles, dtype=float)
    given = {name: quantiles[:, :, i].T for i, name in enumerate(result.names)}
    if "log_age" in given:
        given["age"] = 10 ** (given["log_age"] - 9)
    for name in ("age", "distance"):
        # Plain numbers of a network that knows no posterior may leave the range.
        if f"{name}_estimate" in result.columns:
            plain = np.asarray(result.columns[f"{name}_estimate"].values, dtype=float)
            given[name] = np.repeat(plain[None], 3, 0)
    return {name: given[name] for name in ("mass_to_light_v", "age", "distance") if name in given}


def field_light(magnitude: Array, distance: Array, extinction_v: Array | float = 0.0) -> Array:
    """Luminosity in V, Lsun_V, of apparent magnitudes at distances, kpc, behind A_V, mag.

    Arrays are broadcast against each other.
    """
    bare = np.asarray(magnitude, dtype=float) - extinction_v
    flux, far = np.broadcast_arrays(10 ** (0.4 * (FLUX_ZERO_POINT - bare)), distance)
    flat = (torch.tensor(one, dtype=torch.float64).flatten() for one in (flux, far))
    return luminosity(*flat).numpy().reshape(flux.shape)
