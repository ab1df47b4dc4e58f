"""Evaluation of the exact network passes; of networks wrong on purpose, it says how."""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian, TruncatedNormals, build
from torch import nn

from melotte.engine.evaluation import evaluate, roc_auc
from melotte.engine.finishing import finish_model
from melotte.engine.model_files import Model, load_model, save_model
from melotte.engine.results import ResultColumn
from melotte.engine.settings import TrainingSettings
from melotte.errors import MelotteValueError
from melotte.systems.base import Output


class WrongNetwork(nn.Module):
    """The exact posterior with its width divided by `stretch` and its centre moved."""

    def __init__(self, system, stretch=1.0, shift=0.0):
        super().__init__()
        self.exact = system.exact_network()
        self.stretch, self.shift = stretch, shift

    def forward(self, inputs):
        outputs = self.exact(inputs)
        exact = outputs["posterior"]
        moved = TruncatedNormals(exact.loc + self.shift * exact.scale, exact.scale / self.stretch)
        return {"posterior": moved, "embedding": outputs["embedding"]}


def make_model(stretch=1.0, shift=0.0, system=None):
    system = system or LinearGaussian(noise=0.1)
    network = WrongNetwork(system, stretch, shift)
    return Model(system, dict(PRESET), system.identity_constants, network)


def test_json_has_the_documented_shape():
    published = {"parameters": {"log_age": {"std": 0.1}}}
    evaluation = evaluate(make_model(), n=300, seed=3, published=published, progress=False)
    content = json.loads(json.dumps(evaluation.as_json(), allow_nan=False))
    assert list(content) == [
        "preset",
        "n",
        "seed",
        "seconds_per_object",
        "parameters",
        "classification",
        "extra",
        "published",
        "faithful",
    ]
    assert content["preset"] == "linear-gaussian"
    assert (content["n"], content["seed"]) == (300, 3)
    assert content["seconds_per_object"] > 0
    assert list(content["parameters"]) == ["log_age", "extinction_v", "distance"]
    assert list(content["parameters"]["distance"]) == [
        "unit",
        "bias",
        "std",
        "mae",
        "r2",
        "p95_abs",
        "coverage_68",
        "coverage_95",
    ]
    assert content["parameters"]["distance"]["unit"] == "kpc"
    assert content["published"] == published
    assert content["faithful"] == {}


def test_exact_network_is_calibrated_and_its_errors_are_those_of_theory():
    model = make_model()
    evaluation = evaluate(model, n=5000, progress=False)
    assert set(evaluation.extra["verdicts"].values()) == {"calibrated"}
    assert evaluation.extra["tarp"]["p_value"] > 1e-3
    assert evaluation.extra["not_finite"] == 0
    power = (model.system.matrix**2).sum(0).numpy()
    for i, parameter in enumerate(model.parameters):
        one = evaluation.parameters[parameter.name]
        assert abs(one["coverage_68"] - 0.68) < 0.025
        assert abs(one["coverage_95"] - 0.95) < 0.012
        # Truncation at the prior's ends makes the error a little smaller than the width.
        width = 0.1 / power[i] ** 0.5 * (parameter.high - parameter.low)
        assert 0.9 * width < one["std"] < 1.03 * width
        assert abs(one["bias"]) < 0.05 * width


@pytest.mark.parametrize(
    ("stretch", "shift", "verdict"),
    [(1.2, 0, "overconfident"), (0.8, 0, "underconfident"), (1, 0.2, "biased")],
)
def test_wrong_networks_are_caught(stretch, shift, verdict):
    evaluation = evaluate(make_model(stretch, shift), n=2000, progress=False)
    assert set(evaluation.extra["verdicts"].values()) == {verdict}
    exact = evaluate(make_model(), n=2000, progress=False)
    assert evaluation.extra["mean_log_prob"] < exact.extra["mean_log_prob"] - 0.03
    if verdict == "overconfident":
        assert evaluation.extra["tarp"]["area"] < -0.01
        assert evaluation.parameters["log_age"]["coverage_68"] < 0.65


def test_same_seed_same_result_and_another_seed_another():
    first = evaluate(make_model(), n=300, seed=1, progress=False).as_json()
    again = evaluate(make_model(), n=300, seed=1, progress=False).as_json()
    other = evaluate(make_model(), n=300, seed=2, progress=False).as_json()
    assert first["parameters"] == again["parameters"]
    assert first["parameters"] != other["parameters"]


def test_a_bank_gives_what_its_mocks_give(tmp_path):
    from melotte.engine.banks import write_bank

    model = make_model()
    write_bank(model.system, dict(PRESET), tmp_path / "bank.h5", n=500, seed=1, progress=False)
    banked = evaluate(model, bank=tmp_path / "bank.h5", progress=False)
    assert banked.n == 500
    assert banked.parameters["log_age"]["r2"] > 0.9


def test_partly_known_labels():
    @dataclass(frozen=True)
    class Partly(LinearGaussian):
        def observe(self, latent, generator, views=1):
            batch = super().observe(latent, generator, views)
            batch.theta[::2, 1] = torch.nan
            batch.theta_known[::2, 1] = False
            return batch

    evaluation = evaluate(make_model(system=Partly(noise=0.1)), n=1000, progress=False)
    assert evaluation.calibration.parameters["extinction_v"].n == 500
    assert np.isnan(evaluation.truth[::2, 1]).all()
    assert evaluation.parameters["extinction_v"]["r2"] > 0.85


def test_classes_and_the_system_s_own_statistics():
    class Counting:
        n = 0

        def add(self, outputs, batch):
            self.n += len(batch)

        def result(self, progress):
            return {"counted": self.n, "shown": progress}

    @dataclass(frozen=True)
    class Classifying(LinearGaussian):
        outputs: tuple[Output, ...] = (Output("posterior", "vector"), Output("class", "class"))

        def observe(self, latent, generator, views=1):
            batch = super().observe(latent, generator, views)
            batch.targets["class"] = (batch.theta[:, 0] > 8).float()
            return batch

        def result_columns(self, observation, outputs):
            mean = outputs["posterior"].mean()[:, 0].numpy()
            return {"class_probability": ResultColumn(1 - mean)}

        def judge(self):
            return Counting()

    evaluation = evaluate(make_model(system=Classifying(noise=0.02)), n=600, progress=False)
    assert evaluation.classification["roc_auc"] < 0.01
    assert evaluation.classification["accuracy"] < 0.05
    assert (evaluation.extra["counted"], evaluation.extra["shown"]) == (600, False)


def test_roc_auc_of_known_cases():
    positive = np.array([True, True, False, False])
    assert roc_auc(np.array([0.9, 0.8, 0.2, 0.1]), positive) == 1
    assert roc_auc(np.array([0.5, 0.5, 0.5, 0.5]), positive) == 0.5
    assert roc_auc(np.array([0.9, 0.2, 0.5, 0.1]), positive) == 0.75
    assert np.isnan(roc_auc(np.array([1.0]), np.array([True])))


def test_finished_model_keeps_domain_check_metrics_and_calibration(tmp_path):
    system = build(PRESET)
    generator = torch.Generator().manual_seed(0)
    constants = system.constants(system.observe(system.draw(200, generator), generator))
    torch.manual_seed(0)
    model = Model(system, dict(PRESET), constants, system.network(constants))
    finished = finish_model(model, TrainingSettings())
    rates = finished.metrics["extra"]["flag_rates"]
    assert rates["OUT_OF_DOMAIN"] == pytest.approx(0.01, abs=0.007)
    save_model(tmp_path / "m.safetensors", finished)
    loaded = load_model(tmp_path / "m.safetensors", build)
    assert set(loaded.reference) == set(finished.reference)
    assert loaded.calibration["parameters"]["log_age"]["verdict"] != "calibrated"
    again = evaluate(loaded, n=500, seed=9, progress=False)
    assert again.extra["flag_rates"]["OUT_OF_DOMAIN"] < 0.03


def test_wrong_settings_are_refused():
    with pytest.raises(MelotteValueError, match="n 0"):
        evaluate(make_model(), n=0)
