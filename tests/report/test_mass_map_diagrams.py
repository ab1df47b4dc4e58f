"""Diagrams of measured globular clusters show what their file of maps says."""

import numpy as np
import pytest
import torch

from melotte.api import infer_observations
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.engine.random import Stream
from melotte.report.image_products import measured_images
from melotte.report.mass_map_diagrams import mass_map_diagram
from melotte.systems.base import Observation
from melotte.systems.registry import build_system, load_preset

SIZES = {
    "globular": ["data.size=48", "model.widths=[8, 8]", "model.blocks=[1, 1]"],
    "globular-pidoc": [
        "data.size=32",
        "model.loss=mse",
        "model.widths=[4, 4]",
        "model.regression_widths=[4, 4]",
        "data.families.test=[test]",
    ],
}


@pytest.mark.parametrize("preset", list(SIZES))
@pytest.mark.parametrize("known", [{}, {"distance": 25.0}])
def test_the_curves_are_those_of_the_file(preset, known):
    settings = [*SIZES[preset], "data.library=small", "data.least_stars=100"]
    chosen = load_preset(preset, settings)
    system = build_system(chosen)
    batch = mock_batch(system.in_area("test"), 4, 5, Stream.MOCKS, 0)
    constants = system.constants(batch)
    torch.manual_seed(2)
    model = Model(
        system, chosen.model_dump(mode="json"), constants, system.network(constants).eval()
    )
    observation = batch.observation.select(torch.tensor([1]))
    observation = Observation(observation.data, ("a",), header=observation.header)
    given = known if preset == "globular" else {}
    result = infer_observations(
        model, [observation], progress=False, maps=True, known=given, samples=5
    )
    (layer,) = (one for one in result.maps[0] if one.name == "profile")
    table = dict(zip((one[0] for one in layer.columns), layer.values, strict=True))
    (image,) = measured_images(result, [observation])
    figure = mass_map_diagram(model, result, image)
    above, below = figure.axes[-2:]
    scale = float(observation.data["pixel_scale"][0])
    filled = table["area_arcsec2"] > 0
    per_pixel = (table["mass"] / (table["area_arcsec2"] / scale**2))[filled]
    np.testing.assert_allclose(above.lines[0].get_ydata()[filled], per_pixel, rtol=1e-4)
    np.testing.assert_allclose(above.lines[0].get_xdata(), table["radius_arcsec"], rtol=1e-5)
    np.testing.assert_allclose(below.lines[0].get_ydata(), table["mass_to_light_v"], rtol=1e-4)
    assert len(above.collections) == (preset == "globular")
