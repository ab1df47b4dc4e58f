"""Radial profiles of maps of mass: sums, planted M/L, unknown pixels, files, pi-DOC."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from astropy import units
from astropy.io import fits
from astropy.table import QTable
from small_library import SMALL

from melotte.api import infer_observations
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model
from melotte.flags import Flag
from melotte.networks.map_posteriors import MapPosterior
from melotte.systems.base import Observation
from melotte.systems.globular_clusters.derived_maps import luminosity, smoothed_light
from melotte.systems.globular_clusters.mass_profiles import mass_profiles
from melotte.systems.globular_clusters.settings import DataSettings
from melotte.systems.registry import build_system, load_preset

SIDE, SCALE, DISTANCE = 64, 0.5, 20.0
DATA = DataSettings(size=SIDE, mass_smoothing=0)
MEDIANS = {"distance": np.array([DISTANCE])}
TINY_PIDOC = ["data.size=32", "data.least_stars=100", "model.loss=mse", "model.widths=[4, 4]"]


def profiles_of(observation, mass_map):
    return mass_profiles(observation, mass_map, smoothed_light(observation, MEDIANS, DATA))


def cluster(ratio=1.7, noise=1e-6, hole=None):
    """A cluster whose M/L is the same everywhere, off the middle; dust of 0.5 mag before it."""
    rows, columns = np.mgrid[:SIDE, :SIDE]
    flux = torch.from_numpy(100 / (1 + ((rows - 30) ** 2 + (columns - 35) ** 2) / 25))[None, None]
    dust = torch.tensor([0.5])
    light = luminosity(flux, torch.tensor([DISTANCE], dtype=torch.float64), dust)
    flux = flux.float()
    if hole is not None:
        flux[:, :, *hole] = torch.nan
    fields = {
        "flux": flux,
        "noise": torch.tensor([[noise]]),
        "pixel_scale": torch.tensor([SCALE]),
        "psf_fwhm": torch.tensor([1.0]),
        "extinction_v": dust,
    }
    return Observation(fields, ("a",)), torch.log10(ratio * light)


def test_rings_hold_the_map_s_mass_and_its_ratio_to_light():
    observation, log_mass = cluster()
    found = profiles_of(observation, log_mass)
    np.testing.assert_allclose(found.centres, [[35, 30]], atol=1)
    rows, columns = np.mgrid[:SIDE, :SIDE]
    radius = np.hypot(columns - found.centres[0, 0], rows - found.centres[0, 1]) * SCALE
    mass = 10 ** log_mass[0, 0].numpy()
    within = radius < found.edges[0, -1]
    assert found.mass.sum() == pytest.approx(mass[within].sum())
    assert found.area.sum() == pytest.approx(within.sum() * SCALE**2)
    third = (radius >= found.edges[0, 3]) & (radius < found.edges[0, 4])
    assert found.mass[0, 3] == pytest.approx(mass[third].sum())
    np.testing.assert_allclose(found.mass_to_light_v, 1.7, rtol=1e-4)
    np.testing.assert_allclose(found.light, found.mass / 1.7, rtol=1e-4)
    assert (found.known == 1).all()
    assert np.isnan(found.low).all()
    assert np.isnan(found.high).all()


def test_bands_are_sums_of_the_pixels_quantiles():
    observation, log_mass = cluster()
    posterior = MapPosterior(log_mass, torch.full_like(log_mass, 0.2))
    found = profiles_of(observation, posterior)
    # 84 % of a normal distribution lie below 0.9945 standard deviations.
    np.testing.assert_allclose(found.high, found.mass * 10 ** (0.2 * 0.99446), rtol=1e-4)
    np.testing.assert_allclose(found.low, found.mass * 10 ** (-0.2 * 0.99446), rtol=1e-4)
    student = MapPosterior(log_mass, posterior.scale, torch.tensor([3.0]))
    wider = profiles_of(observation, student)
    assert (wider.high > found.high).all()


def test_unknown_pixels_are_in_neither_side_of_the_ratio():
    observation, log_mass = cluster(hole=(slice(20, 34), slice(33, 60)))
    # Whatever the network makes of the hole, the rings around it keep their M/L.
    log_mass[:, :, 20:28, 45:60] += 0.5
    found = profiles_of(observation, log_mass)
    partly = found.known[0] > 0
    assert (found.known[0, :13] < 1).all()
    assert np.isnan(found.mass_to_light_v[0, ~partly]).all()
    np.testing.assert_allclose(found.mass_to_light_v[0, partly], 1.7, rtol=1e-4)
    assert found.mass.sum() == pytest.approx(float((10**log_mass).sum()), rel=2e-3)
    blind, log_mass = cluster(hole=(slice(None), slice(None)))
    found = profiles_of(blind, log_mass)
    assert np.isnan(found.mass_to_light_v).all()
    assert (found.known == 0).all()
    assert (found.light == 0).all()
    assert (found.mass > 0).all()


def test_light_below_the_noise_gives_no_ratio():
    found = profiles_of(*cluster(noise=30.0))
    given = np.isfinite(found.mass_to_light_v[0])
    assert given[:10].all()
    assert not given[-1]


def untrained(library, preset, settings):
    chosen = load_preset(preset, [*settings, f"data.library={library}"])
    system = build_system(chosen)
    batch = mock_batch(system, 8, 5, 0)
    constants = system.constants(batch)
    torch.manual_seed(2)
    network = system.network(constants).eval()
    return Model(system, chosen.model_dump(mode="json"), constants, network), batch.observation


@pytest.mark.parametrize(
    ("preset", "settings"),
    [
        ("globular", [*SMALL, "data.served={}"]),
        (
            "globular-pidoc",
            [
                *TINY_PIDOC,
                "model.regression_widths=[4, 4]",
                "data.families.training=[training, pidoc-training]",
            ],
        ),
    ],
)
def test_profiles_are_written_with_the_maps_and_read_again(library, tmp_path, preset, settings):
    model, observation = untrained(library, preset, settings)
    if preset == "globular":
        observation.data["flux"][0, :, 10:20, 15:30] = torch.nan
    result = infer_observations(model, [observation], progress=False, maps=True)
    result.flags[0] = int(Flag.OUT_OF_RANGE | Flag.MULTIMODAL)
    remark = f"seen through {'a' * 90} of dust"
    result = replace(result, header={**result.header, "remarks": {"1": [remark]}})
    path = result.write_maps(tmp_path / "maps.fits")
    for row in (1, 2, len(result)):
        with fits.open(path) as found:
            hdu = found["PROFILE", row]
            table, cards = QTable.read(hdu), hdu.header
            mass = found["MASS", row].data
            bands = [np.array(hdu.data[name]) for name in ("mass_16", "mass", "mass_84")]
        assert cards["OBJECT"] == str(row)
        comments = "".join(cards["COMMENT"])
        assert ("flags: OUT_OF_RANGE, MULTIMODAL" in comments) == (row == 1)
        assert (remark in comments) == (row == 1)
        assert "wrong together" in cards[f"TCOMM{table.colnames.index('mass_16') + 1}"]
        assert table["radius_arcsec"].unit == units.arcsec
        assert table["light"].unit == units.solLum
        assert (table["inner_arcsec"][1:] == table["outer_arcsec"][:-1]).all()
        density = (table["mass"] / table["area_arcsec2"]).to_value("solMass / arcsec2")
        np.testing.assert_allclose(
            table["surface_density"].to_value("solMass / arcsec2"), density, rtol=1e-5
        )
        rows, columns = np.indices(mass.shape) + 1
        radius = np.hypot(columns - cards["XCENTRE"], rows - cards["YCENTRE"])
        scale = float(observation.data["pixel_scale"][row - 1])
        within = mass[radius * scale < table["outer_arcsec"][-1].value]
        assert table["mass"].sum().value == pytest.approx(within.sum(), rel=1e-4)
        if preset == "globular":
            filled = table["area_arcsec2"].value > 0
            assert (np.diff(np.stack(bands)[:, filled], axis=0) > 0).all()
            seen = observation.data["flux"][row - 1, 0].isfinite().numpy()
            share = seen[radius * scale < table["outer_arcsec"][-1].value].mean()
            area = table["area_arcsec2"].value
            assert share == pytest.approx(np.nansum(area * table["known_share"]) / area.sum())
            assert share < 1 or row > 1
        else:
            assert np.isnan(bands[0]).all()
            assert np.isfinite(table["mass_to_light_v"]).any()
