"""Posteriors under another prior are the exact ones, also where hardly a sample agrees."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from linear_gaussian import PARAMETERS, PRESET, LinearGaussian, TruncatedNormals
from torch import Tensor, nn

from melotte.engine.inference import infer_batches
from melotte.engine.model_files import Model
from melotte.engine.prior_densities import Density, TabulatedDensity
from melotte.engine.prior_files import find_prior
from melotte.engine.reweighting import PriorReweighting
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.parameters import Parameter, Prior
from melotte.systems.base import Observation

LEVELS = torch.tensor([0.1587, 0.5, 0.8413], dtype=torch.float64)
NORMAL = torch.special.ndtri(LEVELS)
LINE = Parameter("x", 0.0, 1.0)
LOG_AGE = PARAMETERS[0]


def on_grid(posterior, *densities, n_samples=4000, prior=LINE):
    return PriorReweighting(Prior([prior])).on_grid(
        posterior,
        [{prior.name: one} for one in densities],
        [f"row {i}" for i in range(len(densities))],
        n_samples,
        3,
        LEVELS,
    )


def normals(*pairs):
    table = torch.tensor(pairs, dtype=torch.float64)
    return TruncatedNormals(table[:, :1], table[:, 1:])


@pytest.mark.parametrize("distance", [0.0, 1.0, 6.0, 12.0])
def test_normal_prior_gives_the_product_of_normals(distance):
    """Twelve standard deviations away not one sample in 10^6 would agree."""
    loc, sd, width = 0.2, 0.03, 0.02
    mean = loc + distance * sd
    precision = 1 / sd**2 + 1 / width**2
    centre = (loc / sd**2 + mean / width**2) / precision
    expected = centre + NORMAL * precision**-0.5
    posterior = normals((loc, sd))
    found = on_grid(posterior, Density(mean=mean, sd=width))
    error = (found.quantiles[0, :, 0] - expected).abs().max() * precision**0.5
    assert error < 0.002
    drawn = found.unit[0, :, 0]
    assert abs(float(drawn.mean()) - centre) * precision**0.5 < 4 / math.sqrt(4000)
    assert float(drawn.std()) * precision**0.5 == pytest.approx(1, abs=0.05)

    weighted = PriorReweighting(Prior([LINE])).resample(
        posterior.sample(4000, torch.Generator().manual_seed(1)),
        [{"x": Density(mean=mean, sd=width)}],
        ["row"],
        3,
        LEVELS,
    )
    off = (weighted.quantiles[0, :, 0] - expected).abs().max() * precision**0.5
    # The same law catches weights on samples where these have run out.
    assert (off > 0.3) == (distance >= 6)


@pytest.mark.parametrize("slope", [5.0, 20.0, 60.0])
def test_exponential_table_shifts_a_normal_posterior(slope):
    """exp(-k x) moves a normal by -k sd^2 and leaves exp(-k^2 sd^2) of the samples."""
    loc, sd = 0.5, 0.04
    falling = TabulatedDensity((0.0, 0.3, 1.0), (0.0, -0.3 * slope, -slope))
    found = on_grid(normals((loc, sd)), falling)
    expected = loc - slope * sd**2 + sd * NORMAL
    assert (found.quantiles[0, :, 0] - expected).abs().max() < 0.002 * sd
    assert found.effective[0] == pytest.approx(4000 * math.exp(-((slope * sd) ** 2)), rel=0.01)


def test_effective_number_is_that_of_the_weights():
    posterior = normals((0.4, 0.1))
    density = Density(mean=0.5, sd=0.05)
    found = on_grid(posterior, density, n_samples=20_000)
    drawn = posterior.sample(20_000, torch.Generator().manual_seed(5))
    weighted = PriorReweighting(Prior([LINE])).resample(drawn, [{"x": density}], ["row"], 3, LEVELS)
    assert found.effective[0] == pytest.approx(weighted.effective[0], rel=0.03)


def test_narrow_priors_and_posteriors_do_not_fall_between_cells():
    posterior = normals((0.3, 0.1), (0.30005, 1e-4), (0.3, 0.1))
    flat = Density(low=-1.0, high=2.0)
    found = on_grid(
        posterior, Density(low=0.7, high=0.70001), flat, Density(mean=0.41, sd=1e-5)
    ).quantiles[..., 0]
    assert ((found[0] > 0.7) & (found[0] < 0.70001)).all()
    assert found[0, 1] == pytest.approx(0.700005, abs=1e-7)
    np.testing.assert_allclose(found[1], 0.30005 + 1e-4 * NORMAL, atol=1e-6)
    np.testing.assert_allclose(found[2], 0.41 + 1e-5 * NORMAL, atol=1e-7)


def test_the_training_prior_is_divided_out():
    """A log-uniform training prior replaced by the flat one: weight grows with the value."""
    parameter = Parameter("x", 1.0, 100.0, scale="log")
    flat = Density(low=1.0, high=100.0)
    whole = TruncatedNormals(torch.tensor([[0.5]]), torch.tensor([[1e3]]))
    found = parameter.from_unit(on_grid(whole, flat, prior=parameter).quantiles[0, :, 0])
    np.testing.assert_allclose(found, 1 + 99 * LEVELS, rtol=1e-3)


def test_rows_are_the_same_alone_and_among_others():
    density = Density(mean=0.5, sd=0.1)
    both = on_grid(normals((0.4, 0.1), (0.6, 0.02)), density, density)
    alone = on_grid(normals((0.4, 0.1)), density)
    torch.testing.assert_close(both.unit[:1], alone.unit)
    assert not torch.equal(both.unit[0], both.unit[1])


@dataclass(frozen=True)
class OneSlope(LinearGaussian):
    """The linear system of one parameter, which offers a prior of its own."""

    parameters: tuple[Parameter, ...] = (LOG_AGE,)

    @property
    def matrix(self) -> Tensor:
        return super().matrix[:, :1]

    def named_priors(self):
        def near_the_data(observation):
            return [Density(mean=7.0 + float(x[0]), sd=0.2) for x in observation.data["x"]]

        return {"near": {"log_age": near_the_data}}


@pytest.fixture(scope="module")
def model():
    system = OneSlope(noise=0.2)
    return Model(system, dict(PRESET), system.identity_constants, system.exact_network())


@pytest.fixture(scope="module")
def observation(model):
    seen = model.system.observe(
        {"theta": torch.linspace(7.0, 9.0, 30)[:, None]}, torch.Generator().manual_seed(2)
    ).observation
    return Observation(seen.data, tuple(f"object {i}" for i in range(30)))


def product(model, observation, means, sd):
    """Exact quantiles under normal priors, in the unit of the parameter."""
    exact = model.system.exact_posterior(observation)
    low, high = LOG_AGE.low, LOG_AGE.high
    precision = 1 / exact.scale[:, 0] ** 2 + ((high - low) / sd) ** 2
    prior = (means - low) / (high - low) * ((high - low) / sd) ** 2
    centre = (exact.loc[:, 0] / exact.scale[:, 0] ** 2 + prior) / precision
    unit = TruncatedNormals(centre[:, None], precision[:, None] ** -0.5).quantile(LEVELS.float())
    return (low + (high - low) * unit[..., 0]).numpy()


def test_a_name_gives_each_object_the_prior_that_the_system_says(model, observation):
    result = infer_batches(model, [observation], prior_file="near", n_samples=4, batch_size=7)
    means = 7.0 + observation.data["x"][:, 0]
    expected = product(model, observation, means, 0.2)
    np.testing.assert_allclose(result.quantiles[..., 0], expected, atol=2e-3)
    assert result.provenance["prior"] == {
        "parameters": {"log_age": "near"},
        "objects_with_their_own": 0,
        "method": "density on a grid",
    }
    assert result.provenance["prior_file"] is None
    assert result.samples.shape == (30, 4, 1)


def test_a_file_mixes_names_tables_and_single_objects(model, observation, tmp_path):
    path = tmp_path / "prior.yaml"
    path.write_text(
        "log_age: near\n"
        "objects:\n"
        "  object 3: {log_age: {table: [[6.0, 0.0], [10.0, -8.0]]}}\n"
        "  object 4: {log_age: {mean: 12.5, sd: 0.01}}\n"
        "  object 5: {log_age: {low: 9.0, high: 9.5}}\n"
    )
    result = infer_batches(model, [observation], prior_file=str(path))
    named = infer_batches(model, [observation], prior_file="near")
    others = np.r_[0:3, 6:30]
    np.testing.assert_array_equal(result.quantiles[others], named.quantiles[others])
    exact = model.system.exact_posterior(observation).select(torch.tensor([3]))
    shifted = TruncatedNormals(exact.loc - 8.0 * exact.scale**2, exact.scale)
    expected = 6 + 4 * shifted.quantile(LEVELS.float())[0, :, 0]
    np.testing.assert_allclose(result.quantiles[3, :, 0], expected, atol=0.003)
    assert result.quantiles[4, 1, 0] > 9.9
    assert ((result.quantiles[5] >= 9.0) & (result.quantiles[5] <= 9.5)).all()
    assert result.provenance["prior_file"] == "prior.yaml"
    assert result.provenance["prior"]["objects_with_their_own"] == 3


class CutNormals(TruncatedNormals):
    """No density at all above 0.9 of the unit range."""

    def select(self, chosen):
        return CutNormals(self.loc[chosen], self.scale[chosen])

    def log_prob(self, u):
        return torch.where(u[:, 0] > 0.9, -torch.inf, super().log_prob(u))


class CutNetwork(nn.Module):
    def __init__(self, system):
        super().__init__()
        self.exact = system.exact_network()

    def forward(self, inputs):
        outputs = self.exact(inputs)
        exact = outputs["posterior"]
        return outputs | {"posterior": CutNormals(exact.loc, exact.scale)}


def test_an_excluded_object_fails_and_leaves_the_others(model, observation, tmp_path):
    path = tmp_path / "prior.yml"
    path.write_text("objects: {object 1: {log_age: {table: [[9.9, 0], [11, 0]]}}}")
    network = CutNetwork(model.system)
    cut = Model(model.system, dict(PRESET), model.system.identity_constants, network)
    result = infer_batches(cut, [observation], prior_file=path)
    assert result.flags[1] & Flag.FAILED
    assert "excludes" in result.reasons["object 1"]
    assert result.columns["prior_sample_size"].values[1] == 0
    assert np.isfinite(np.delete(result.quantiles, 1, 0)).all()


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("log_age: nar", "'nar' is no prior on it .*near"),
        ("log_age: {table: 3}", "pairs of numbers"),
        ("log_age: {table: [[7, 0, 1], [8, 0]]}", "pairs of numbers"),
        ("log_age: {table: [[7, 0]]}", "at least 2"),
        ("log_age: {table: [[8, 0], [7, 0]]}", "must rise; found 7 after 8"),
        ("log_age: {table: [[7, 0], [8, .inf]]}", "pairs of numbers"),
        ("log_age: {table: [[1, 0], [2, 0]]}", r"\[6.0, 10.0\]"),
        ("log_age: {low: true, high: 9}", "allowed"),
    ],
)
def test_wrong_entries_are_refused(model, text, complaint, tmp_path):
    path = tmp_path / "prior.yaml"
    path.write_text(text)
    with pytest.raises(MelotteValueError, match=complaint):
        infer_batches(model, [], prior_file=path)


def test_unknown_names_are_refused_with_those_that_exist(model, tmp_path):
    for source in ("far", "far.yaml", tmp_path / "far.yml", tmp_path):
        with pytest.raises(MelotteFileError, match=r"far|test_unknown.* \(near\)"):
            infer_batches(model, [], prior_file=source)
    with pytest.raises(MelotteFileError, match="offers none"):
        find_prior("near", Prior(PARAMETERS))


def test_only_a_file_that_says_it_is_yaml_goes_before_a_name(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "near").write_text("log_age: {low: 6, high: 7}")
    assert find_prior("near", Prior([LOG_AGE]), model.system.named_priors()).described()[
        "parameters"
    ] == {"log_age": "near"}
