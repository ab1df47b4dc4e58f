"""Globular clusters beside the literature: joined by name, light at their distance."""

import numpy as np
import pytest
import torch
from astropy import units
from astropy.table import Table

from melotte import api
from melotte.engine.model_files import Model
from melotte.engine.results import InferenceResult, ResultColumn
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.literature_tables import read_literature
from melotte.report.field_luminosities import PUBLISHED_CLUSTERS
from melotte.report.literature_comparison import comparison_lines
from melotte.report.map_comparison import (
    field_light,
    literature_columns,
    measured_columns,
    told_extinctions,
    write_luminosities,
    write_map_comparison,
    write_map_figures,
)
from melotte.systems.base import Observation
from melotte.systems.registry import build_system, load_preset


@pytest.fixture
def literature(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("Cluster,distance,mass_to_light_v,log_age\nNGC 1,10,2.0,10.1\nNGC 2,20,,10\n")
    return path


def known(path):
    return read_literature(path, "globular-clusters", {"distance": "kpc"})


def measured(preset, columns=()):
    model = Model(build_system(load_preset(preset)), {}, {}, None)
    n = len(model.parameters)
    quantiles = np.full((2, 3, n), 0.5) * np.array([0.9, 1.0, 1.1])[None, :, None]
    extra = {name: ResultColumn(np.array(values)) for name, values in columns}
    result = InferenceResult(
        ("ngc1", "NGC 3"),
        model.parameters,
        quantiles,
        np.array([0, 1]),
        columns=extra,
        provenance={"system": model.system.name},
    )
    return model, result


def test_light_is_that_of_the_sun_at_ten_parsec():
    assert field_light(np.array([4.81]), np.array([0.01]))[0] == pytest.approx(1.0)
    ratio = field_light(np.array([15.0]), np.array([20.0])) / field_light(
        np.array([15.0]), np.array([10.0])
    )
    assert ratio[0] == pytest.approx(4.0)


def test_dust_is_taken_off_the_light_of_each_row():
    dust, far = np.array([0.0, 2.5]), np.array([[10.0, 20.0]] * 3)
    found = field_light(np.array([15.0, 15.0]), far, dust)
    assert found.shape == (3, 2)
    np.testing.assert_allclose(found[:, 1] / found[:, 0], 40.0)


@pytest.mark.parametrize("preset", ["globular", "globular-pidoc"])
def test_light_against_distance_is_written_without_literature(tmp_path, preset):
    model, result = measured(preset, [("field_magnitude_v", [14.0, np.nan])])
    told = Observation({"extinction_v": torch.tensor([0.3, 0.7])}, result.ids)
    np.testing.assert_allclose(told_extinctions(result, [told]), [0.3, 0.7], rtol=1e-6)
    write_map_figures(model, result, [told], None, tmp_path)
    assert [one.name for one in tmp_path.iterdir()] == ["luminosities.png"]
    dark = measured(preset, [("field_magnitude_v", [np.nan, np.nan])])[1]
    assert write_luminosities(model, dark, [], tmp_path) is None
    failed = measured(preset)[1]
    assert write_luminosities(model, failed, [], tmp_path) is None


def test_other_systems_have_no_light_against_distance(tmp_path):
    model = Model(build_system(load_preset("open-cluster")), {}, {}, None)
    write_map_figures(model, measured("globular")[1], [], None, tmp_path)
    assert not list(tmp_path.iterdir())


def test_clusters_are_joined_by_name(literature):
    found = literature_columns(known(literature), ("ngc1", "NGC 2", "NGC 3"))
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


@pytest.mark.parametrize(
    "given",
    [
        {"age": [12.5, np.nan]},
        {"Age": [12.5, 0.0], "distance": [10.0, 20.0]},
        {"age": [12_500.0, np.nan] * units.Myr, "distance": [10_000.0, 20_000.0] * units.pc},
        {"age": [12.5, np.nan], "log_age": [np.nan, np.nan]},
        {"log_age": [np.log10(12.5e9), np.nan]},
    ],
)
def test_ages_of_either_form_are_compared_and_drawn(tmp_path, given):
    path = tmp_path / "known.ecsv"
    Table({"id": ["NGC 1", "NGC 3"], **given}).write(path)
    for preset, name, value in (
        ("globular", "log_age", np.log10(12.5e9)),
        ("globular-pidoc", "age", 12.5),
    ):
        _, result = measured(preset)
        joined = api.compare(result.table(), path)
        np.testing.assert_allclose(joined[f"{name}_literature"], [value, np.nan])
        np.testing.assert_allclose(joined[f"{name}_difference"], [0.5 - value, np.nan])
        assert ("distance_literature" in joined.colnames) == ("distance" in given)
        assert any(line.startswith(f"  {name}: ours") for line in comparison_lines(joined, "it"))
        drawn = literature_columns(known(path), result.ids)
        np.testing.assert_allclose(drawn["age"], [12.5, np.nan])
        far = [10, 20] if "distance" in given else [np.nan, np.nan]
        np.testing.assert_allclose(drawn["distance"], far)


def test_ages_of_another_result_are_drawn(tmp_path):
    _, result = measured("globular")
    path = result.write(tmp_path / "other.ecsv")
    found = literature_columns(known(path), result.ids)
    np.testing.assert_allclose(found["age"], 10 ** (0.5 - 9))


def test_an_age_that_is_stated_twice_stays_as_stated(tmp_path):
    path = tmp_path / "known.csv"
    path.write_text("id,age,log_age\nNGC 1,12,10\n")
    _, result = measured("globular")
    assert api.compare(result.table(), path)["log_age_literature"][0] == 10
    assert literature_columns(known(path), ("NGC 1",))["age"][0] == 12


def test_an_age_in_no_unit_of_time_or_of_another_system_is_refused(tmp_path):
    path = tmp_path / "known.ecsv"
    Table({"id": ["NGC 1"], "age": [12.5] * units.kpc}).write(path)
    _, result = measured("globular")
    with pytest.raises(MelotteValueError, match=r"'age' is in 'kpc'; .* converts to Gyr"):
        api.compare(result.table(), path)
    Table({"id": ["NGC 1"], "age": [12.5]}).write(path, overwrite=True)
    other = result.table()
    other.meta["melotte"]["provenance"]["system"] = "open-cluster"
    with pytest.raises(MelotteFileError, match="needs one of the columns"):
        api.compare(other, path)


@pytest.mark.parametrize("preset", ["globular", "globular-pidoc"])
def test_the_figure_is_written_for_known_clusters_alone(tmp_path, literature, preset):
    columns = [("field_magnitude_v", [14.0, 15.0]), ("log_map_mass", [3.5, 3.6])]
    model, result = measured(preset, columns)
    path = write_map_comparison(model, result, known(literature), tmp_path)
    assert path is not None
    assert path.stat().st_size > 2000
    literature.write_text("id,distance\nPal 99,10\n")
    assert write_map_comparison(model, result, known(literature), tmp_path) is None


def test_published_m_over_l_is_the_map_s_mass_over_the_field_s_light():
    # NGC 6517, log M = 4.15 (Table 3).
    known = PUBLISHED_CLUSTERS
    assert 10**4.15 / known.luminosity[4] == pytest.approx(known.pidoc_mass_to_light[4], rel=0.01)
