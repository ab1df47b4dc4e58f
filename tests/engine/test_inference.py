"""Inference gives the exact posterior's quantiles, row by row, whatever the other rows are."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian, TruncatedNormals
from torch import nn

from melotte.engine import inference
from melotte.engine.domain import DomainReference
from melotte.engine.inference import chunks, infer_batches
from melotte.engine.model_files import Model
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.networks.posteriors import UnitPosterior
from melotte.ragged import Ragged
from melotte.systems.base import Observation, RowError


class RowwiseNormals(TruncatedNormals):
    """The exact posterior, able to give single rows; its quantiles are in closed form."""

    def select(self, rows):
        return type(self)(self.loc[rows], self.scale[rows])


class SampledNormals(RowwiseNormals):
    """The same with quantiles from samples, as most heads have."""

    quantile = UnitPosterior.quantile


class ExactNetwork(nn.Module):
    """The exact posterior; data above 1e6 make it fail, as a damaged row would."""

    def __init__(self, system, posterior=RowwiseNormals):
        super().__init__()
        self.system, self.posterior = system, posterior

    def forward(self, inputs):
        observation = Observation(inputs)
        summaries, _ = self.system.summaries(observation)
        if (summaries > 1e6).any():
            raise RuntimeError("matrix\nis singular")
        exact = self.system.exact_posterior(observation)
        return {"posterior": self.posterior(exact.loc, exact.scale), "embedding": summaries}


def make_model(ragged=False, noise=0.2, reference=False, posterior=RowwiseNormals):
    system = LinearGaussian(noise=noise, ragged=ragged)
    model = Model(system, dict(PRESET), system.identity_constants, ExactNetwork(system, posterior))
    if reference:
        mocks = observe(system, 4000, seed=77)
        summaries, _ = system.summaries(mocks)
        model.reference = DomainReference.fit(summaries, summaries).tensors()
    return model


def observe(system, n, seed=5, ids=True):
    generator = torch.Generator().manual_seed(seed)
    batch = system.observe(system.draw(n, generator), generator)
    names = tuple(f"cluster {i}" for i in range(n)) if ids else ()
    return Observation(batch.observation.data, names)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("posterior", [RowwiseNormals, SampledNormals])
def test_quantiles_and_samples_are_those_of_the_exact_posterior(ragged, posterior):
    model = make_model(ragged, posterior=posterior)
    observation = observe(model.system, 40)
    result = infer_batches(model, [observation], n_samples=2000)
    exact = model.system.exact_posterior(observation)
    levels = torch.tensor([0.16, 0.5, 0.84])
    expected = model.prior.from_unit(exact.quantile(levels)).numpy()
    width = (expected[:, 2] - expected[:, 0])[:, None]
    assert result.quantiles.shape == (40, 3, 3)
    exactly = posterior is RowwiseNormals
    assert np.abs((result.quantiles - expected) / width).max() < (1e-5 if exactly else 0.12)
    assert result.samples.shape == (40, 2000, 3)
    drawn = np.quantile(result.samples, [0.16, 0.5, 0.84], axis=1).transpose(1, 0, 2)
    assert np.abs((drawn - result.quantiles) / width).max() < (0.12 if exactly else 1e-4)
    assert result.ids == observation.ids
    assert result.provenance["version"]
    assert result.provenance["seed"] == 0


@pytest.mark.parametrize("ragged", [False, True])
def test_a_row_does_not_depend_on_the_others(ragged):
    model = make_model(ragged)
    observation = observe(model.system, 12)
    together = infer_batches(model, [observation], n_samples=50)
    order = torch.tensor([7, 3, 11])
    some = infer_batches(
        model,
        [RowError("x", "no", 0), observation.select(order)],
        n_samples=50,
        batch_size=2,
    )
    np.testing.assert_allclose(some.quantiles[1:], together.quantiles[order], rtol=1e-4)
    np.testing.assert_allclose(some.samples[1:], together.samples[order], rtol=1e-4)
    again = infer_batches(model, [observation], n_samples=50)
    np.testing.assert_array_equal(again.samples, together.samples)
    other = infer_batches(model, [observation], n_samples=50, seed=1)
    assert np.abs(other.samples - together.samples).max() > 0.01


def test_bad_rows_fail_alone():
    model = make_model()
    observation = observe(model.system, 9)
    x = observation.data["x"].clone()
    x[2], x[5, 1] = 1e9, torch.nan
    flags = torch.zeros(9, dtype=torch.int64)
    flags[2] = int(Flag.BAD_PIXELS)
    entries = [
        RowError("lost", "file is empty", int(Flag.FAILED | Flag.FEW_MEMBERS)),
        Observation({"x": x}, observation.ids, flags),
        RowError("also lost", "no stars", 0),
    ]
    result = infer_batches(model, entries, n_samples=10)
    assert len(result) == 11
    failed = (result.flags & Flag.FAILED) > 0
    assert np.flatnonzero(failed).tolist() == [0, 3, 6, 10]
    assert np.isnan(result.quantiles[failed]).all()
    assert np.isnan(result.samples[failed]).all()
    assert np.isfinite(result.quantiles[~failed]).all()
    assert result.flags[0] == Flag.FAILED | Flag.FEW_MEMBERS
    assert result.flags[3] == Flag.FAILED | Flag.BAD_PIXELS
    assert result.reasons["lost"] == "file is empty"
    assert result.reasons["cluster 2"] == "RuntimeError: matrix is singular"
    assert result.reasons["cluster 5"] == "posterior is not finite"
    good = infer_batches(model, [observation], n_samples=10)
    np.testing.assert_allclose(result.quantiles[4], good.quantiles[3], rtol=1e-4)


def test_reasons_of_a_repeated_id_are_all_kept():
    lost = [RowError("a", reason, 0) for reason in ("no stars", "file is empty", "no stars")]
    result = infer_batches(make_model(), [*lost, RowError("b", "no stars", 0)])
    assert result.reasons == {"a": "no stars; file is empty", "b": "no stars"}


def test_an_empty_set_fails_alone():
    model = make_model(ragged=True, reference=True)
    x = observe(model.system, 3).data["x"]
    sets = Ragged.pack([x[0], torch.zeros(0, 5), x[2]])
    result = infer_batches(model, [Observation({"x": sets}, ("a", "empty", "c"))])
    assert ((result.flags & Flag.FAILED) > 0).tolist() == [False, True, False]
    assert np.isfinite(result.quantiles[[0, 2]]).all()


def test_a_model_file_that_does_not_fit_is_no_bad_row():
    model = make_model()
    summaries = torch.randn(500, 4, generator=torch.Generator().manual_seed(1))
    model.reference = DomainReference.fit(summaries, summaries).tensors()
    with pytest.raises(MelotteFileError, match="5 summaries"):
        infer_batches(model, [observe(model.system, 3)])


def test_a_fault_of_the_program_is_not_hidden_as_a_bad_row():
    model = make_model()
    model.network.forward = lambda inputs: inputs["misspelt"]
    with pytest.raises(KeyError):
        infer_batches(model, [observe(model.system, 3)])


def test_flags_of_observation_domain_and_posterior_are_merged():
    model = make_model(reference=True)
    observation = observe(model.system, 200, seed=6)
    x = observation.data["x"].clone()
    x[0] += torch.tensor([3.0, -3.0, 3.0, -3.0, 3.0])
    flags = torch.full((200,), int(Flag.FEW_MEMBERS))
    result = infer_batches(model, [Observation({"x": x}, observation.ids, flags)])
    assert (result.flags & Flag.FEW_MEMBERS).all()
    assert result.flags[0] & Flag.OUT_OF_DOMAIN
    assert result.columns["domain_score"].values[0] > 1
    assert "sigma" in result.reasons["cluster 0"]
    outside = (result.flags & Flag.OUT_OF_DOMAIN) > 0
    assert outside[1:].mean() < 0.05
    edge = (result.flags & Flag.PRIOR_EDGE) > 0
    exact = model.system.exact_posterior(observation)
    unit = exact.sample(2000, torch.Generator().manual_seed(7)).numpy()
    near = ((unit < 0.02).mean(1) > 0.15) | ((unit > 0.98).mean(1) > 0.15)
    assert edge[1:][near[1:, 0]].all()
    assert not edge[1:][
        (unit[1:, :, [0, 2]] < 0.97).all((1, 2)) & (unit[1:] > 0.03).all((1, 2))
    ].any()


def test_rows_without_ids_are_numbered():
    model = make_model()
    entries = [observe(model.system, 2, ids=False), RowError("x", "no", 0)]
    entries.append(observe(model.system, 2, ids=False))
    assert infer_batches(model, entries).ids == ("1", "2", "x", "4", "5")


def test_header_lists_become_columns():
    model = make_model()
    observation = observe(model.system, 3)
    header = {"n_members": [5, 6, 7], "n_dropped": {"cluster 0": 2}, "unit": "mag"}
    entries = [Observation(observation.data, observation.ids, None, header)]
    result = infer_batches(model, [*entries, RowError("x", "no", 0)], batch_size=2)
    np.testing.assert_array_equal(result.columns["n_members"].values, [5, 6, 7, np.nan])
    assert result.header == {"n_dropped": {"cluster 0": 2}, "unit": "mag"}
    assert "n_members" in result.table().colnames


def test_headers_of_all_batches_are_joined():
    model = make_model()
    first, second = observe(model.system, 3), observe(model.system, 2, seed=6)
    headers = [
        {"x": [1.0, 2.0, 3.0], "images": {"sources": ["a", "b"], "units": ["e/s"], "scale": 1.0}},
        {"x": [4.0, 5.0], "images": {"sources": ["c", "b"], "units": ["e/s"], "scale": 2.0}},
    ]
    entries = [
        Observation(first.data, ("p", "q", "p"), None, headers[0]),
        RowError("lost", "no", 0, {"ra": 7.0}),
        Observation(second.data, ("q", "r"), None, headers[1]),
    ]
    result = infer_batches(model, entries)
    np.testing.assert_array_equal(result.columns["x"].values, [1, 2, 3, np.nan, 4, 5])
    np.testing.assert_array_equal(result.columns["ra"].values, [np.nan] * 3 + [7] + [np.nan] * 2)
    joined = {"sources": ["a", "b", "c"], "units": ["e/s"], "scale": 2.0}
    assert result.header == {"images": joined}
    assert headers[0]["images"]["sources"] == ["a", "b"]


def test_nothing_to_measure():
    result = infer_batches(make_model(), [], n_samples=3)
    assert len(result.table()) == 0
    assert result.samples.shape == (0, 3, 3)


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_chunks_keep_order_and_respect_both_limits(batch_size, monkeypatch):
    monkeypatch.setattr(inference, "LARGEST_BATCH_ELEMENTS", 10)
    sizes = [4, 4, 4, 0, 25, 1, 1, 1, 9]
    sets = Ragged.pack([torch.full((size, 1), float(i)) for i, size in enumerate(sizes)])
    parts = list(chunks(Observation({"x": sets}, tuple(map(str, sizes))), batch_size))
    assert [name for part in parts for name in part.ids] == list(map(str, sizes))
    for part in parts:
        counts = part.data["x"].counts
        assert len(part) <= batch_size
        assert len(part) == 1 or int(counts.sum()) <= 10


def test_wrong_settings_are_refused():
    with pytest.raises(MelotteValueError, match="batch_size 0"):
        infer_batches(make_model(), [], batch_size=0)


def test_user_priors_reweight_to_the_product(tmp_path):
    """A normal prior on one parameter of a normal posterior: the product is known."""
    model = make_model(noise=0.12)
    observation = observe(model.system, 200, seed=8)
    exact = model.system.exact_posterior(observation)
    inner = ((exact.loc - 0.5).abs() + 3 * exact.scale < 0.5).all(1)
    observation = observation.select(torch.nonzero(inner)[:20, 0])
    exact = model.system.exact_posterior(observation)
    loc = 6 + 4 * exact.loc[:, 0].numpy()
    sd = 4 * exact.scale[:, 0].numpy()
    path = tmp_path / "prior.yaml"
    path.write_text(
        f"log_age: {{mean: {loc[0] + sd[0]}, sd: 0.3}}\n"
        "objects:\n"
        f"  {observation.ids[1]}:\n    log_age: {{low: 6.0, high: {loc[1]}}}\n"
        f"  {observation.ids[2]}:\n    distance: {{low: 0.5, high: 5.0}}\n"
        f"  {observation.ids[3]}:\n    log_age: {{low: 6.0, high: 6.0001}}\n"
    )
    result = infer_batches(model, [observation], n_samples=1000, prior_file=path)
    plain = infer_batches(model, [observation])
    mean = loc[0] + sd[0]
    precision = 1 / sd**2 + 1 / 0.3**2
    expected = (loc / sd**2 + mean / 0.3**2) / precision
    width = precision**-0.5
    effective = result.columns["prior_sample_size"].values
    usual = np.r_[0, 4 : len(loc)]
    trusted = usual[effective[usual] > 300]
    assert len(trusted) > 5
    assert (
        np.abs((result.quantiles[trusted, 1, 0] - expected[trusted]) / width[trusted]).max() < 0.2
    )
    spread = (result.quantiles[trusted, 2, 0] - result.quantiles[trusted, 0, 0]) / 2
    np.testing.assert_allclose(spread, 0.9945 * width[trusted], rtol=0.2)
    assert (result.samples[1, :, 0] <= loc[1] + 1e-4).all()
    assert effective[1] == pytest.approx(2000, rel=0.1)
    np.testing.assert_allclose(result.quantiles[2, 1, 1], plain.quantiles[2, 1, 1], rtol=0.1)
    assert result.flags[3] & Flag.FAILED
    assert "prior" in result.reasons[observation.ids[3]]
    np.testing.assert_allclose(result.quantiles[4:, 1, 2], plain.quantiles[4:, 1, 2], atol=0.3)


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("age: {mean: 1, sd: 1}", "age is no parameter.*log_age, extinction_v, distance"),
        ("log_age: {mean: 8, sd: 0}", "sd 0 must be above 0"),
        ("log_age: {mean: 8}", "allowed: {mean"),
        ("log_age: {low: 11, high: 12}", r"\[6.0, 10.0\]"),
        ("log_age: 8", "found 8"),
        ("objects: [1]", "objects must map"),
        ("objects: {a: {b: {mean: 1, sd: 1}}}", "objects.a"),
        ("", "must map parameters"),
        ("a: [", "not valid YAML"),
    ],
)
def test_wrong_prior_files_are_refused(text, complaint, tmp_path):
    path = tmp_path / "prior.yaml"
    path.write_text(text)
    with pytest.raises((MelotteValueError, MelotteFileError), match=complaint):
        infer_batches(make_model(), [], prior_file=path)


def test_inference_does_not_import_lightning():
    code = (
        "import sys, melotte.engine.inference, melotte.engine.result_tables, melotte.engine.domain;"
        "bad = {'lightning', 'pytorch_lightning', 'matplotlib', 'pandas'} & set(sys.modules);"
        "sys.exit(str(bad) if bad else 0)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
