"""Globular clusters beside the literature: joined by name, light at their distance."""

import numpy as np
import pytest

from melotte.engine.model_files import Model
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.report.field_luminosities import PUBLISHED_CLUSTERS
from melotte.report.map_comparison import (
    field_light,
    literature_columns,
    measured_columns,
    write_map_comparison,
)
from melotte.systems.registry import build_system, load_preset


@pytest.fixture
def literature(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("Cluster,distance,mass_to_light_v,log_age\nNGC 1,10,2.0,10.1\nNGC 2,20,,10\n")
    return path


def measured(preset, columns=()):
    model = Model(build_system(load_preset(preset)), {}, {}, None)
    n = len(model.parameters)
    quantiles = np.full((2, 3, n), 0.5) * np.array([0.9, 1.0, 1.1])[None, :, None]
    extra = {name: ResultColumn(np.array(values)) for name, values in columns}
    result = InferenceResult(
        ("ngc1", "NGC 3"), model.parameters, quantiles, np.array([0, 1]), columns=extra
    )
    return model, result


def test_light_is_that_of_the_sun_at_ten_parsec():
    assert field_light(np.array([4.81]), np.array([0.01]))[0] == pytest.approx(1.0)
    ratio = field_light(np.array([15.0]), np.array([20.0])) / field_light(
        np.array([15.0]), np.array([10.0])
    )
    assert ratio[0] == pytest.approx(4.0)


def test_clusters_are_joined_by_name(literature):
    found = literature_columns(literature, ("ngc1", "NGC 2", "NGC 3"))
    np.testing.assert_allclose(found["distance"], [10, 20, np.nan])
    np.testing.assert_allclose(found["mass_to_light_v"], [2, np.nan, np.nan])
    np.testing.assert_allclose(found["age"], [10**1.1, 10, np.nan])


def test_estimates_of_either_network_are_in_the_same_terms():
    _, ours = measured("globular")
    assert set(measured_columns(ours)) == {"mass_to_light_v", "age", "distance"}
    _, theirs = measured("globular-pidoc", [("age_estimate", [-1.0, 16.0])])
    found = measured_columns(theirs)
    assert set(found) == {"age", "distance"}
    np.testing.assert_allclose(found["age"][1], [-1, 16])


@pytest.mark.parametrize("preset", ["globular", "globular-pidoc"])
def test_the_figure_is_written_for_known_clusters_alone(tmp_path, literature, preset):
    columns = [("field_magnitude_v", [14.0, 15.0]), ("log_map_mass", [3.5, 3.6])]
    model, result = measured(preset, columns)
    path = write_map_comparison(model, result, literature, tmp_path)
    assert path is not None
    assert path.stat().st_size > 5000
    literature.write_text("id,distance\nPal 99,10\n")
    assert write_map_comparison(model, result, literature, tmp_path) is None


def test_published_m_over_l_is_the_map_s_mass_over_the_field_s_light():
    # NGC 6517, log M = 4.15 (Table 3).
    known = PUBLISHED_CLUSTERS
    assert 10**4.15 / known.luminosity[4] == pytest.approx(known.pidoc_mass_to_light[4], rel=0.01)
