"""Distances that are told: in mocks, by users, and to the network; centres that are given."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from small_library import SMALL

from melotte.engine.mocks import mock_batch
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.systems.globular_clusters.reading import observations
from melotte.systems.registry import build_system, load_preset

sys.path.insert(0, str(Path(__file__).parents[2] / "io"))
from light_map_files import write_image

GIVEN = {"sky": 0, "x": 23.5, "y": 23.5, "psf_fwhm": 1.0, "noise": 0.1, "extinction_v": 0.1}


def system_of(library, share):
    settings = [*SMALL, f"data.distance_share={share}", "data.distance_error=[0.02, 0.1]"]
    return build_system(load_preset("globular", [*settings, f"data.library={library}"]))


@pytest.fixture
def image(tmp_path):
    values = np.random.default_rng(3).normal(5, 0.1, (48, 48))
    return write_image(tmp_path / "a.fits", values, FILTER="V", MAGZPT=25.0)


def test_mocks_are_told_as_often_and_as_well_as_they_say(library):
    batch = mock_batch(system_of(library, 0.5), 400, 3, 0)
    data = batch.observation.data
    given = data["distance_told"].isfinite()
    assert 0.4 < float(given.float().mean()) < 0.6
    assert torch.equal(given, data["distance_error"].isfinite())
    true, error = batch.theta[given, 0], data["distance_error"][given]
    assert 0.02 <= float(error.min()) < 0.03
    assert 0.08 < float(error.max()) <= 0.1
    deviate = (data["distance_told"][given] / true - 1) / error
    assert float(deviate.mean()) == pytest.approx(0, abs=0.25)
    assert float(deviate.std()) == pytest.approx(1, abs=0.2)


def test_the_network_has_the_input_only_where_some_are_told(library):
    told, never, silent = (system_of(library, share) for share in (1.0, "null", 0.0))
    sizes = {}
    for name, system in (("told", told), ("never", never), ("silent", silent)):
        batch = mock_batch(system, 16, 3, 0)
        constants = system.constants(batch)
        inputs = system.prepare(batch.observation, constants)
        assert torch.isfinite(inputs["conditions"]).all()
        sizes[name] = inputs["conditions"].shape[1]
        system.network(constants)(inputs)["posterior"].sample(2)
    assert "distance_told" not in mock_batch(never, 4, 3, 0).observation.data
    assert not mock_batch(silent, 16, 3, 0).observation.data["distance_told"].isfinite().any()
    assert sizes["told"] == sizes["silent"] == sizes["never"] + 3


def test_a_known_distance_is_told_as_well_as_any(library):
    system = system_of(library, 0.5)
    batch = mock_batch(system, 16, 3, 0)
    constants = system.constants(batch)
    found = system.with_known(batch.observation, {"distance": 20.0})
    assert torch.equal(found.data["distance_told"], torch.full((16,), 20.0))
    assert torch.equal(found.data["distance_error"], torch.full((16,), 0.02))
    before, after = (
        system.prepare(one, constants)["conditions"] for one in (batch.observation, found)
    )
    changed = (before != after).any(0)
    assert int(changed.sum()) == 3
    assert system.with_known(batch.observation, {"log_age": 10.0}) is batch.observation
    never = system_of(library, "null")
    assert never.with_known(batch.observation, {"distance": 20.0}) is batch.observation


def test_users_distances(library, image):
    system = system_of(library, 0.5)

    def told(**options):
        (found,) = observations([image], {**GIVEN, **options}, system.data)
        data = found.data
        return float(data["distance_told"]), float(data["distance_error"]), found

    assert told(distance=20, distance_error=1)[:2] == pytest.approx((20, 0.05))
    assert told(distance=20)[:2] == pytest.approx((20, np.sqrt(0.02 * 0.1)))
    assert told(distance=20, distance_error=0.1)[:2] == pytest.approx((20, 0.02))
    assert np.isnan(told()[:2]).all()
    assert not int(told(distance=20)[2].flags) & Flag.OUT_OF_RANGE
    for far, said in (
        ({"distance": 900}, "distance 900 kpc outside [10, 60]"),
        ({"distance": 20, "distance_error": 8}, "distance_error 8 kpc above 2"),
    ):
        found = told(**far)[2]
        assert int(found.flags) & Flag.OUT_OF_RANGE
        assert said in found.header["light_maps"]["a"]["outside_training"]
    with pytest.raises(MelotteValueError, match="distance_error without distance"):
        told(distance_error=1)
    with pytest.raises(MelotteValueError, match="give --known distance=KPC"):
        list(observations([image], {**GIVEN, "distance": 20}, system_of(library, "null").data))


def test_a_centre_in_pixels_and_in_coordinates_must_agree(library, image):
    data = system_of(library, 0.5).data
    given = GIVEN | {"ra": 200.0, "dec": -30.0}
    (found,) = observations([image], given | {"x": 24.0, "y": 23.0}, data)
    (pixels,) = observations([image], GIVEN | {"x": 24.0, "y": 23.0}, data)
    np.testing.assert_array_equal(found.data["flux"], pixels.data["flux"])
    on_sky = {name: one for name, one in given.items() if name not in "xy"}
    (placed,) = observations([image], on_sky, data)
    (middle,) = observations([image], GIVEN, data)
    np.testing.assert_array_equal(placed.data["flux"], middle.data["flux"])
    with pytest.raises(MelotteValueError, match=r"x, y and ra, dec are 3 arcsec apart"):
        list(observations([image], given | {"x": 23.5, "y": 11.5}, data))
