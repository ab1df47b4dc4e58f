"""The diagram of one measured globular cluster: what the network says of it again, drawn."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from melotte.engine.network_outputs import run_network
from melotte.networks.map_posteriors import MapPosterior
from melotte.report.map_gallery import measured_figure
from melotte.systems.globular_clusters.derived_maps import smoothed_light
from melotte.systems.globular_clusters.mass_profiles import mass_profiles

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from melotte.engine.model_files import Model
    from melotte.engine.results import InferenceResult
    from melotte.report.image_products import MeasuredImage
    from melotte.systems.base import Observation


def mass_map_diagram(model: Model, result: InferenceResult, image: MeasuredImage) -> Figure:
    """Light, map of mass, its error, and profiles of mass and M/L, as a file of maps has them.

    Parameters
    ----------
    model : Model
        Of globular clusters.
    result : InferenceResult
    image : MeasuredImage
        One of its rows.
    """
    system: Any = model.system
    observation = _as_measured(model, result, image)
    found = run_network(model, observation)["mass_map"]
    distance = result.quantiles[image.row : image.row + 1, 1, result.names.index("distance")]
    light = smoothed_light(observation, {"distance": distance}, system.data)
    profiles = mass_profiles(observation, found, light)
    scale = None
    if isinstance(found, MapPosterior):
        found, scale = found.mean, found.standard_deviation()[0, 0].cpu().numpy()
    data: Any = observation.data
    flux, pixel_scale = data["flux"][0, 0].cpu().numpy(), float(data["pixel_scale"][0])
    log_map = found[0, 0].cpu().numpy()
    return measured_figure(flux, log_map, scale, pixel_scale, image.name, profiles)


def _as_measured(model: Model, result: InferenceResult, image: MeasuredImage) -> Observation:
    """The observation with the known values that the network was told."""
    own = result.header.get("known", {}).get(image.name, {})
    known = {**(result.provenance.get("known") or {}), **own}
    tell = getattr(model.system, "with_known", None)
    return image.observation if tell is None or not known else tell(image.observation, known)
