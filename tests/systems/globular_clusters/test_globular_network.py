"""Preparation, summaries, losses and a short training of the globular clusters' systems."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from small_library import SMALL

from melotte.engine.mocks import mock_batch
from melotte.engine.random import Stream
from melotte.engine.training import train
from melotte.errors import MelotteValueError
from melotte.networks.vgg16_weights import LAYERS
from melotte.parameters import Prior
from melotte.systems.base import Observation
from melotte.systems.registry import build_system, load_preset

QUICK = [
    "training.batch_size=8",
    "training.n_batches=3",
    "training.warmup_batches=1",
    "training.validation_size=8",
    "training.constants_size=16",
    "local.progress=none",
]
SHORT = ["training.views=2", "training.total_mocks=48"]
TINY_PIDOC = ["data.size=32", "data.least_stars=100", "model.loss=mse", "model.widths=[4, 4]"]


@pytest.fixture(scope="module")
def system(library):
    return build_system(load_preset("globular", [*SMALL, f"data.library={library}"]))


@pytest.fixture(scope="module")
def batch(system):
    return mock_batch(system, 32, 1, Stream.CONSTANTS, 0)


@pytest.fixture(scope="module")
def constants(system, batch):
    return system.constants(batch)


def test_labels_lie_in_the_prior(system, batch):
    inside = Prior(system.parameters).to_unit(batch.theta)
    assert bool(batch.theta_known.float().mean() > 0.95)
    known = inside[batch.theta_known]
    assert float(known.min()) >= 0
    assert float(known.max()) <= 1
    assert system.parameters[0].name == "distance"


def test_prepared_maps_are_finite_and_near_one(system, batch, constants):
    found = system.prepare(batch.observation, constants)
    assert found["maps"].shape == (32, 7, 48, 48)
    for value in found.values():
        assert bool(value.isfinite().all())
    told = found["conditions"]
    varied = told.std(0) > 0
    torch.testing.assert_close(told.mean(0), torch.zeros(told.shape[1]), atol=0.1, rtol=0)
    assert int(varied.sum()) > 12


def test_unknown_pixels_bands_and_bins_stay_finite(system, batch, constants):
    data = {name: value.clone() for name, value in batch.observation.data.items()}
    data["flux"][0, 0, :20] = torch.nan
    data["flux"][1] = torch.nan
    data["noise"][1] = torch.nan
    data["flux"][2] = -1.0
    data["dispersion"][:] = torch.nan
    found = system.prepare(Observation(data), constants)
    for value in found.values():
        assert bool(value.isfinite().all())
    assert bool((found["maps"][0, 2, :20] == 1).all())
    assert bool((found["maps"][0, 2, 20:] <= 1).all())
    values, names = system.summaries(Observation(data))
    assert values.shape == (32, len(names))
    assert float(values[0, names.index("unknown_pixels")]) >= 0.416
    assert bool(values[1:3, names.index("log_flux_v")].isnan().all())


def test_other_bands_are_refused(system, batch, constants):
    data = dict(batch.observation.data)
    data["flux"], data["noise"] = data["flux"][:, :1], data["noise"][:, :1]
    with pytest.raises(MelotteValueError, match="found 1 bands, the model reads 2"):
        system.prepare(Observation(data), constants)


def test_every_loss_reaches_its_weights_and_unknown_labels_none(system, batch, constants):
    torch.manual_seed(3)
    network = system.network(constants)
    outputs = network(system.prepare(batch.observation, constants))
    assert outputs["mass_map"].mean.shape == batch.targets["log_mass_map"].shape
    terms = system.loss(outputs, batch)
    assert set(terms) == {"negative_log_posterior", "map"}
    assert all(one.shape == (32,) and bool(one.isfinite().all()) for one in terms.values())
    sum(one.sum() for one in terms.values()).backward()
    silent = [name for name, one in network.named_parameters() if one.grad is None]
    assert not silent
    unknown = torch.zeros_like(batch.theta_known)
    blind = replace(batch, theta=batch.theta * torch.nan, theta_known=unknown)
    outputs = network(system.prepare(batch.observation, constants))
    none = system.loss(outputs, blind)["negative_log_posterior"]
    assert torch.equal(none, torch.zeros(32))


def test_summaries_see_a_brighter_cluster(system, batch):
    values, names = system.summaries(batch.observation)
    data = dict(batch.observation.data)
    data["flux"] = 10 * data["flux"]
    brighter, _ = system.summaries(Observation(data))
    for name in ("log_flux_v", "log_surface_brightness"):
        step = (brighter - values)[:, names.index(name)]
        assert float(step.nanmean()) == pytest.approx(1, abs=1e-4)
    colour = (brighter - values)[:, names.index("colour")]
    assert float(colour.nan_to_num(0).abs().max()) < 1e-4


def trained(path, library, preset, *settings, max_time=None):
    preset = load_preset(preset, [*QUICK, f"data.library={library}", *settings])
    system = build_system(preset)
    content = preset.model_dump(mode="json")
    return train(
        system, content, preset.training, preset.local, path, finish=None, max_time=max_time
    )


def test_a_training_that_was_stopped_ends_as_one_that_was_not(tmp_path, library):
    whole = trained(tmp_path / "whole.safetensors", library, "globular", *SMALL, *SHORT)
    path = tmp_path / "stopped.safetensors"
    early = trained(path, library, "globular", *SMALL, *SHORT, max_time=1e-9)
    assert (early.provenance["steps"], early.provenance["stopped"]) == (1, "max_time")
    resumed = trained(path, library, "globular", *SMALL, *SHORT)
    assert resumed.provenance["stopped"] == "finished"
    for name, value in whole.network.state_dict().items():
        assert torch.equal(value, resumed.network.state_dict()[name]), name
    moved = early.network.state_dict()["maps.stem.weight"]
    assert not torch.equal(moved, whole.network.state_dict()["maps.stem.weight"])
    batch = mock_batch(whole.system, 4, 2, Stream.MOCKS, 0)
    whole.network.eval()
    with torch.no_grad():
        outputs = whole.network(whole.system.prepare(batch.observation, whole.constants))
    column = whole.system.result_columns(batch.observation, outputs)["log_map_mass"]
    assert np.isfinite(column.values).all()
    assert float(outputs["mass_map"].scale.min()) > 0


def test_pidoc_says_what_the_paper_says():
    preset = load_preset("globular-pidoc")
    data = build_system(preset).data
    assert data.distances == (10, 25, 50, 75, 100)
    assert data.test_distances == (15, 30, 60, 80)
    assert (data.psf_fwhms, data.test_psf_fwhms) == ((0.5, 1.5), (1.0,))
    assert data.size * data.pixel_scale[0] == 40
    assert (data.smoothing, data.mass_smoothing, data.offset, data.noise) == (4, 4, 5, "none")
    rates = preset.training
    assert rates.learning_rate == pytest.approx(10**-2.5, rel=1e-4)
    assert rates.learning_rate * rates.rate_factors["regression"] == pytest.approx(1e-4, rel=1e-3)
    assert rates.batch_size * rates.n_batches == 20_000


def test_a_short_training_of_pidoc(tmp_path, library):
    model = trained(
        tmp_path / "pidoc.safetensors",
        library,
        "globular-pidoc",
        *TINY_PIDOC,
        "model.regression_widths=[4, 4]",
        "data.families.test=[test]",
        "data.families.training=[training, pidoc-training]",
        "data.families.validation=[validation]",
        "training.max_epochs=2",
    )
    batch = mock_batch(model.system, 6, 2, Stream.MOCKS, 0)
    assert [one.name for one in model.parameters] == ["age", "distance"]
    assert set(batch.theta[:, 1].tolist()) <= {15.0, 30.0, 60.0, 80.0}
    assert {round(one, 2) for one in batch.theta[:, 0].tolist()} <= {0.5, 4.0, 12.0}
    assert bool(batch.observation.data["flux"].isfinite().all())
    model.network.eval()
    with torch.no_grad():
        outputs = model.network(model.system.prepare(batch.observation, model.constants))
        terms = model.system.loss(outputs, batch)
    assert all(bool(one.isfinite().all()) for one in terms.values())
    assert bool((terms["residual_scale"] == 0).all())
    deviation = torch.tensor(model.constants["deviation"])
    wanted = ((outputs["estimate"] - batch.theta) / deviation).square().mean(1)
    torch.testing.assert_close(terms["age_distance"], wanted)
    columns = model.system.result_columns(batch.observation, outputs)
    estimates = {"age_estimate", "distance_estimate"}
    assert set(columns) == {"log_map_mass", "field_magnitude_v"} | estimates


def test_pidoc_reads_v_alone(library):
    with pytest.raises(MelotteValueError, match="V alone"):
        load_preset("globular-pidoc", ["data.bands=[V, B]"])


def test_pidoc_has_no_served_ranges(library):
    with pytest.raises(MelotteValueError, match=r"data\.served: pi-DOC .* found distance"):
        load_preset("globular-pidoc", ["data.served={distance: [12, 90]}"])


def test_the_perceptual_loss_with_weights_of_a_file(tmp_path, library):
    arrays = {}
    generator = np.random.default_rng(2)
    for layer, (n_in, n_out) in LAYERS.items():
        arrays[f"{layer}_kernel"] = generator.normal(0, 0.05, (3, 3, n_in, n_out))
        arrays[f"{layer}_bias"] = np.zeros(n_out)
    path = tmp_path / "vgg.npz"
    np.savez(path, **{name: one.astype(np.float32) for name, one in arrays.items()})
    settings = [
        f"data.library={library}",
        "data.size=32",
        "data.least_stars=100",
        "model.widths=[4, 4]",
        "model.regression_widths=[4, 4]",
        f"model.vgg16={path}",
    ]
    system = build_system(load_preset("globular-pidoc", settings))
    batch = mock_batch(system, 4, 1, 0)
    constants = system.constants(batch)
    network = system.network(constants)
    outputs = network(system.prepare(batch.observation, constants))
    loss = system.loss(outputs, batch)["map"]
    exact = system.loss(outputs | {"mass_map": batch.targets["log_mass_map"]}, batch)["map"]
    assert bool((loss > 0).all())
    assert bool((exact == 0).all())
    loss.sum().backward()
    assert network.encoder_decoder.output.weight.grad.abs().sum() > 0
