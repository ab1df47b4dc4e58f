from dataclasses import replace

import pytest
import torch
from linear_gaussian import PARAMETERS, PRESET, LinearGaussian

from melotte.engine.batch_sources import ExampleSource, digest, split_groups
from melotte.engine.mocks import concatenate, draw_mocks
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.training import train
from melotte.errors import MelotteValueError
from melotte.parameters import Prior
from melotte.ragged import Ragged

CPU = torch.device("cpu")
SILENT = LocalSettings(progress="none")


def examples(n=40, seed=3, ragged=False):
    return concatenate(draw_mocks(LinearGaussian(ragged=ragged), n, seed))


def first(stream, n):
    batches = iter(stream)
    return [next(batches) for _ in range(n)]


def explained(network, inputs, batch):
    """Share of the variance of each parameter that the posterior's mean explains."""
    with torch.no_grad():
        unit = network(inputs)["posterior"].mean()
    estimate = Prior(PARAMETERS).from_unit(unit)
    return 1 - ((estimate - batch.theta) ** 2).mean(0) / batch.theta.var(0)


def rows(batches):
    return sorted(tuple(row) for batch in batches for row in batch.theta.tolist())


@pytest.mark.parametrize("ragged", [False, True])
def test_a_pass_shows_every_training_example_once(ragged):
    known = examples(41, ragged=ragged)
    settings = TrainingSettings(batch_size=8, validation_fraction=0.2)
    source = ExampleSource(LinearGaussian(ragged=ragged), settings, known)
    n_batches = source.settings.n_batches
    assert n_batches == 5
    batches = first(source.stream(0, CPU, 0, 1), 2 * n_batches)
    assert rows(batches[:n_batches]) == rows([source.training])
    assert rows(batches[n_batches:]) == rows([source.training])
    order = [batch.theta.tolist() for batch in batches]
    assert order[:n_batches] != order[n_batches:]
    assert len(source.held_out) == 8
    assert rows([source.training, *source.validation(CPU)]) == rows([known])


def test_the_stream_goes_on_where_it_is_told_and_ranks_share_it():
    source = ExampleSource(LinearGaussian(), TrainingSettings(batch_size=8), examples())
    whole = first(source.stream(0, CPU, 0, 1), 9)
    later = first(source.stream(5, CPU, 0, 1), 4)
    assert rows(later) == rows(whole[5:])
    shared = [first(source.stream(0, CPU, rank, 2), 9) for rank in (0, 1)]
    per_pass = -(-36 // 4)
    one_pass = [shared[k % 2][k // 2] for k in range(per_pass)]
    assert rows(one_pass) == rows([source.training])


def test_groups_are_never_on_both_sides():
    group = torch.arange(50) // 3
    training, held = split_groups(group, 0.3, 7)
    assert not set(group[training].tolist()) & set(group[held].tolist())
    assert sorted([*training.tolist(), *held.tolist()]) == list(range(50))
    assert len(set(group[held].tolist())) == 5
    assert len(split_groups(group, 0.0, 7)[1]) == 0


def test_mocks_are_mixed_in_at_their_share():
    settings = TrainingSettings(batch_size=8, mock_share=0.5, validation_fraction=0)
    known = examples(10)
    source = ExampleSource(LinearGaussian(), settings, known)
    batches = first(source.stream(0, CPU, 0, 1), 3)
    assert [len(batch) for batch in batches] == [8, 8, 4]
    labelled = {tuple(row) for row in known.theta.tolist()}
    for batch in batches:
        inside = [tuple(row) in labelled for row in batch.theta.tolist()]
        assert sum(inside) == len(batch) // 2
        mocks = batch.group[~torch.tensor(inside)]
        assert (mocks < 0).all()


def test_the_system_changes_examples_anew_each_time():
    class Shifting(LinearGaussian):
        def augment(self, batch, generator):
            shift = torch.rand(1, generator=generator)
            return replace(batch, theta=batch.theta + shift)

    source = ExampleSource(Shifting(), TrainingSettings(batch_size=64), examples())
    once, again = first(source.stream(0, CPU, 0, 1), 2)
    assert not torch.equal(once.theta.sort(0).values, again.theta.sort(0).values)
    repeated = first(source.stream(1, CPU, 0, 1), 1)[0]
    assert torch.equal(again.theta, repeated.theta)
    assert rows(source.validation(CPU)) == rows([source.held_out])


def test_training_on_examples_learns_them_and_says_which(tmp_path):
    known = examples(300)
    settings = TrainingSettings(
        batch_size=64, max_epochs=120, learning_rate=1e-2, warmup_batches=5, ema_decay=0, seed=2
    )
    output = tmp_path / "model.safetensors"
    model = train(LinearGaussian(), PRESET, settings, SILENT, output, examples=known)
    assert model.provenance["examples"] == {"n": 300, "sha256": digest(known)}
    assert model.provenance["mocks"] == 0
    system, fresh = LinearGaussian(), examples(500, seed=11)
    reached = explained(model.network, system.prepare(fresh.observation, model.constants), fresh)
    exact_inputs = system.prepare(fresh.observation, system.identity_constants)
    best = explained(system.exact_network(), exact_inputs, fresh)
    assert (reached > best - 0.1).all()
    with pytest.raises(MelotteValueError, match=r"examples\.sha256 was"):
        train(LinearGaussian(), PRESET, settings, SILENT, output, examples=examples(300, seed=4))


def test_without_validation_the_last_weights_are_kept(tmp_path):
    settings = TrainingSettings(
        batch_size=64, max_epochs=2, ema_decay=0, validation_fraction=0, warmup_batches=1
    )
    output = tmp_path / "model.safetensors"
    model = train(LinearGaussian(), PRESET, settings, SILENT, output, examples=examples(100))
    assert model.provenance["steps"] == 4
    assert model.metrics["validation_loss"] is None


def test_a_finished_run_gives_the_same_weights_again(tmp_path):
    settings = TrainingSettings(
        batch_size=64, max_epochs=3, ema_decay=0.99, validation_fraction=0, warmup_batches=1
    )
    output = tmp_path / "model.safetensors"
    known = examples(100)
    once, again = (
        train(LinearGaussian(), PRESET, settings, SILENT, output, examples=known).network
        for _ in range(2)
    )
    raw = torch.load(f"{output}.run/last.ckpt", weights_only=True)["network"]
    for name, value in once.state_dict().items():
        assert torch.equal(again.state_dict()[name], value)
    assert not torch.equal(raw["head.weight"], once.state_dict()["head.weight"])


def test_parts_train_at_their_own_rate(tmp_path):
    settings = TrainingSettings(batch_size=64, max_epochs=1, ema_decay=0, warmup_batches=0)
    known = examples(64)
    start = train(
        LinearGaussian(), PRESET, settings, SILENT, tmp_path / "a.safetensors", examples=known
    )
    names = [name for name, _ in start.network.named_children()]
    still = settings.model_copy(update={"rate_factors": {names[0]: 0.0}, "weight_decay": 0.0})
    tuned = train(
        LinearGaussian(),
        PRESET,
        still,
        SILENT,
        tmp_path / "b.safetensors",
        start=start,
        examples=known,
    )
    before, after = start.network.state_dict(), tuned.network.state_dict()
    for name in before:
        same = torch.equal(before[name], after[name])
        assert same == name.startswith(names[0] + ".")
    wrong = settings.model_copy(update={"rate_factors": {"nothing": 1.0}})
    with pytest.raises(MelotteValueError, match="has no part 'nothing'"):
        train(LinearGaussian(), PRESET, wrong, SILENT, tmp_path / "c.safetensors")


def test_a_run_on_examples_goes_on_as_if_it_had_not_been_stopped(tmp_path):
    known = examples(60)
    settings = TrainingSettings(
        batch_size=16, max_epochs=4, warmup_batches=1, ema_decay=0.9, validation_fraction=0.2
    )
    whole, pieces = tmp_path / "whole.safetensors", tmp_path / "pieces.safetensors"
    straight = train(LinearGaussian(), PRESET, settings, SILENT, whole, examples=known)
    steps = []
    while not steps or steps[-1] < 12:
        part = train(
            LinearGaussian(), PRESET, settings, SILENT, pieces, examples=known, max_time=1e-9
        )
        steps.append(part.provenance["steps"])
    assert steps == list(range(1, 13))
    for name, value in straight.network.state_dict().items():
        assert torch.equal(part.network.state_dict()[name], value)


def test_the_digest_knows_groups_and_what_is_known():
    known = examples(20)
    others = (
        replace(known, group=torch.arange(20) // 2),
        replace(known, theta_known=torch.rand(20, 3, generator=torch.Generator()) < 0.5),
        replace(known, theta=known.theta + 1e-4),
    )
    assert len({digest(one) for one in (known, *others)}) == 4
    assert digest(examples(20)) == digest(known)


def test_examples_that_teach_nothing_are_refused():
    known = examples(20)
    unknown = replace(
        known,
        theta=torch.full_like(known.theta, torch.nan),
        theta_known=torch.zeros_like(known.theta_known),
    )
    with pytest.raises(MelotteValueError, match="none of the 20 examples has a known label"):
        ExampleSource(LinearGaussian(), TrainingSettings(), unknown)
    half = replace(unknown, theta_known=known.theta_known)
    with pytest.raises(MelotteValueError, match=r"examples 0, 1, 2 and 17 more: a parameter"):
        ExampleSource(LinearGaussian(), TrainingSettings(), half)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"patience": 3}, "training.patience 3 goes by"),
        ({"schedule": "plateau"}, "training.schedule plateau goes by"),
    ],
)
def test_nothing_goes_by_a_validation_that_is_not_made(changes, said):
    unvalidated = TrainingSettings(validation_fraction=0, **changes)
    with pytest.raises(MelotteValueError, match=said):
        ExampleSource(LinearGaussian(), unvalidated, examples())
    ExampleSource(LinearGaussian(), TrainingSettings(**changes), examples())


def test_mocks_that_carry_other_fields_are_not_mixed_in():
    known = examples(20)
    extra = replace(known, targets={"labels": known.theta})
    settings = TrainingSettings(batch_size=8, mock_share=0.5)
    with pytest.raises(MelotteValueError, match=r"training.mock_share: .* has labels; set it to 0"):
        ExampleSource(LinearGaussian(), settings, extra)


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("held_out", [False, True])
def test_an_example_that_is_not_finite_is_named_and_leaves_no_folder(tmp_path, ragged, held_out):
    system, known = LinearGaussian(ragged=ragged), examples(40, ragged=ragged)
    settings = TrainingSettings(batch_size=16, max_epochs=2, validation_fraction=0.2)
    row = int(split_groups(known.group, 0.2, settings.validation_seed)[int(held_out)][0])
    x = known.observation.data["x"]
    if ragged:
        values = x.values.clone()
        values[x.index == row] = torch.nan
        x = Ragged(values, x.offsets)
    else:
        x = torch.where((torch.arange(40) == row)[:, None], torch.nan, x)
    observation = replace(known.observation, data={"x": x}, ids=tuple(f"N {i}" for i in range(40)))
    broken = replace(known, observation=observation)
    with pytest.raises(MelotteValueError, match=rf"^example N {row}: an observation is not finite"):
        train(system, PRESET, settings, SILENT, tmp_path / "m.safetensors", examples=broken)
    assert not list(tmp_path.iterdir())


def test_a_set_too_small_to_train_on_is_one_line():
    with pytest.raises(MelotteValueError, match="no example is left"):
        ExampleSource(LinearGaussian(), TrainingSettings(), examples(1))
    with pytest.raises(MelotteValueError, match="mock_share"):
        ExampleSource(
            LinearGaussian(), TrainingSettings(batch_size=2, mock_share=0.9), examples(10)
        )
