"""Training: reaches the exact posterior, and resumes as if nothing had happened."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from linear_gaussian import PARAMETERS, PRESET, LinearGaussian, build

from melotte.engine.batch_sources import MockSource
from melotte.engine.model_files import load_model
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.training import TrainingFailedError, TrainingInterrupted, train
from melotte.engine.validation import ValidationSet
from melotte.errors import MelotteFileError, MelotteValueError, MissingExtraError

QUICK = {
    "seed": 1,
    "batch_size": 16,
    "n_batches": 6,
    "max_epochs": 4,
    "warmup_batches": 3,
    "validation_size": 64,
    "constants_size": 64,
    "ema_decay": 0.9,
}
EVERY_STEP = LocalSettings(checkpoint_seconds=1e-9, progress="none")
SILENT = LocalSettings(progress="none", device="cpu")


class Recording(LinearGaussian):
    """Keeps what the loss is asked of while training, and can act at a chosen training step."""

    def start(self, act_at=None, act=None):
        object.__setattr__(self, "seen", [])
        object.__setattr__(self, "act_at", act_at)
        object.__setattr__(self, "act", act)
        return self

    def loss(self, outputs, batch):
        terms = super().loss(outputs, batch)
        if torch.is_grad_enabled():
            self.seen.append(batch.theta.sum().item())
            if len(self.seen) == self.act_at:
                return self.act(terms)
        return terms


class KilledError(Exception):
    pass


def die(terms):
    raise KilledError


def settings(**changes):
    return TrainingSettings.parse(QUICK | changes)


def run(output, system=None, local=SILENT, resume="auto", max_time=None, start=None, **changes):
    system = LinearGaussian() if system is None else system
    return train(
        system,
        PRESET,
        settings(**changes),
        local,
        output,
        resume=resume,
        max_time=max_time,
        start=start,
    )


def weights(model):
    return torch.cat([one.flatten() for one in model.network.state_dict().values()])


def log_of(output):
    lines = (output.with_name(output.name + ".run") / "log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


@pytest.fixture(scope="module")
def straight(tmp_path_factory):
    """An uninterrupted run and the batches that it saw."""
    system = Recording().start()
    model = run(tmp_path_factory.mktemp("straight") / "model.safetensors", system)
    return model, system.seen


@pytest.mark.parametrize("ragged", [False, True])
def test_training_reaches_the_exact_posterior(tmp_path, ragged):
    system = LinearGaussian(ragged=ragged)
    chosen = settings(
        batch_size=128, n_batches=200, max_epochs=3, learning_rate=5e-3, ema_decay=0.98
    )
    model = train(system, PRESET, chosen, SILENT, tmp_path / "model.safetensors")
    judge = chosen.model_copy(update={"validation_size": 1024, "validation_seed": 9})
    cpu = torch.device("cpu")
    mocks = MockSource(system, judge).validation(cpu)
    reached = ValidationSet(system, model.constants, mocks, 9, cpu).measure(model.network)
    best = ValidationSet(system, system.identity_constants, mocks, 9, cpu).measure(
        system.exact_network()
    )
    # The loss is the cross entropy: its excess is the divergence from the exact posterior.
    assert 0 < reached["loss"] - best["loss"] < 0.15


def test_a_killed_run_resumes_with_the_same_mocks_and_ends_with_the_same_weights(
    tmp_path, straight
):
    output = tmp_path / "model.safetensors"
    first = Recording().start(act_at=9, act=die)
    with pytest.raises(KilledError):
        run(output, first, EVERY_STEP)
    second = Recording().start()
    model = run(output, second)
    expected, seen = straight
    assert first.seen[:8] + second.seen == seen
    assert len(set(seen)) == len(seen) == 24
    assert torch.equal(weights(model), weights(expected))
    assert model.metrics == expected.metrics


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_a_signal_saves_a_checkpoint_and_says_how_to_resume(tmp_path, straight, name):
    def interrupt(terms):
        os.kill(os.getpid(), getattr(signal, name))
        return terms

    before = signal.getsignal(signal.SIGTERM)
    output = tmp_path / "model.safetensors"
    with pytest.raises(TrainingInterrupted, match=f"{name}: stopped at step 10 of 24.*--resume"):
        run(output, Recording().start(act_at=10, act=interrupt))
    assert not output.exists()
    assert signal.getsignal(signal.SIGTERM) is before
    resumed = Recording().start()
    model = run(output, resumed)
    assert len(resumed.seen) == 14
    assert torch.equal(weights(model), weights(straight[0]))


def test_max_time_writes_a_model_and_the_run_goes_on_later(tmp_path, straight):
    output = tmp_path / "model.safetensors"
    early = run(output, max_time=1e-9)
    assert (early.provenance["steps"], early.provenance["stopped"]) == (1, "max_time")
    assert load_model(output, build).provenance == early.provenance
    model = run(output, max_time="1h")
    assert torch.equal(weights(model), weights(straight[0]))
    assert model.provenance["stopped"] == "finished"
    again = run(output)
    assert torch.equal(weights(again), weights(model))


@pytest.mark.filterwarnings("ignore:This DataLoader will create:UserWarning")
def test_local_settings_have_no_effect_on_the_result(tmp_path, straight):
    local = LocalSettings(num_workers=2, threads=1, progress="none", device="cpu")
    model = run(tmp_path / "model.safetensors", local=local)
    assert torch.equal(weights(model), weights(straight[0]))
    other = run(tmp_path / "other.safetensors", seed=2)
    assert not torch.equal(weights(other), weights(straight[0]))


def test_resume_from_a_named_folder_never_and_a_missing_one(tmp_path, straight):
    first = tmp_path / "first.safetensors"
    run(first, max_time=1e-9)
    second = tmp_path / "second.safetensors"
    run(second, resume=f"{first}.run")
    assert log_of(second)[0] == {"event": "resumed", "step": 1}
    run(second, resume="never")
    assert log_of(second)[0]["event"] == "epoch"
    with pytest.raises(MelotteFileError, match="no such checkpoint"):
        run(second, resume=tmp_path / "absent")


def test_a_run_is_not_resumed_under_other_settings(tmp_path):
    output = tmp_path / "model.safetensors"
    run(output, max_time=1e-9)
    with pytest.raises(
        MelotteValueError, match=r"training.learning_rate was 0.001, is 0.5"
    ) as error:
        run(output, learning_rate=0.5)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"weights", b"PK\x03\x04 not a zip"])
def test_a_damaged_checkpoint_is_refused_in_one_line(tmp_path, content):
    output = tmp_path / "model.safetensors"
    folder = tmp_path / "model.safetensors.run"
    folder.mkdir()
    (folder / "last.ckpt").write_bytes(content)
    with pytest.raises(MelotteFileError, match="not a checkpoint of melotte") as error:
        run(output)
    assert "\n" not in str(error.value)


def test_a_checkpoint_that_would_run_code_is_refused(tmp_path):
    folder = tmp_path / "model.safetensors.run"
    folder.mkdir()
    torch.save({"version": 1, "state": Path("x")}, folder / "last.ckpt")
    with pytest.raises(MelotteFileError, match="not a checkpoint of melotte"):
        run(tmp_path / "model.safetensors")


def test_a_step_without_a_finite_loss_is_skipped_and_counted(tmp_path):
    def spoil(terms):
        return {name: term * float("nan") for name, term in terms.items()}

    output = tmp_path / "model.safetensors"
    model = run(output, Recording().start(act_at=5, act=spoil))
    assert model.provenance["skipped_steps"] == 1
    assert torch.isfinite(weights(model)).all()
    epochs = [entry for entry in log_of(output) if entry["event"] == "epoch"]
    assert [entry["skipped"] for entry in epochs] == [1, 1, 1, 1]
    assert all(abs(entry["training_loss"]) < 100 for entry in epochs)


def test_a_skipped_step_leaves_weights_and_moments_alone(tmp_path):
    def spoil(terms):
        return {name: term * float("inf") for name, term in terms.items()}

    output = tmp_path / "model.safetensors"
    with pytest.raises(KilledError):
        run(output, Recording().start(act_at=4, act=die), EVERY_STEP)
    before = torch.load(f"{output}.run/last.ckpt", weights_only=True)
    resumed = Recording().start(act_at=1, act=spoil)
    run(output, resumed, EVERY_STEP, max_time=1e-9)
    after = torch.load(f"{output}.run/last.ckpt", weights_only=True)
    assert after["state"]["step"] == before["state"]["step"] + 1
    for part in ("network", "average"):
        for name, value in before[part].items():
            assert torch.equal(value, after[part][name])
    for number, moments in before["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, after["optimizer"]["state"][number][name])


def test_many_bad_steps_in_a_row_fail_with_the_reason(tmp_path):
    class Broken(LinearGaussian):
        def loss(self, outputs, batch):
            return {"posterior": super().loss(outputs, batch)["posterior"] * float("nan")}

    with pytest.raises(TrainingFailedError, match=r"3 steps in a row.*learning_rate"):
        run(tmp_path / "model.safetensors", Broken(), max_bad_steps=3)


def test_a_validation_loss_that_is_never_finite_fails_and_says_so(tmp_path, capsys):
    class Blind(LinearGaussian):
        def loss(self, outputs, batch):
            terms = super().loss(outputs, batch)
            if torch.is_grad_enabled():
                return terms
            return {name: term * float("nan") for name, term in terms.items()}

    output = tmp_path / "model.safetensors"
    for _ in range(2):
        with pytest.raises(TrainingFailedError, match=r"validation loss was never finite, up to"):
            run(output, Blind(), local=LocalSettings(progress="lines", device="cpu"))
    assert not output.exists()
    assert "validation loss nan (not finite)" in capsys.readouterr().err


def test_a_set_up_that_fails_leaves_the_earlier_run_alone(tmp_path):
    output = tmp_path / "model.safetensors"
    run(output, max_time=1e-9)
    with pytest.raises(MelotteValueError, match="no part 'nose'"):
        run(output, resume="never", rate_factors={"nose": 0.5})
    assert run(output).provenance["steps"] == 24
    assert "resumed" in [entry["event"] for entry in log_of(output)]


def test_patience_stops_a_training_that_gets_no_better(tmp_path):
    model = run(tmp_path / "model.safetensors", patience=2, learning_rate=1e-30, max_epochs=50)
    assert model.provenance["stopped"] == "early stopping"
    assert model.provenance["steps"] == 18


def test_plateau_lowers_the_learning_rate(tmp_path):
    output = tmp_path / "model.safetensors"
    run(output, schedule="plateau", plateau_patience=1, learning_rate=1e-30, warmup_batches=0)
    rates = [entry["learning_rate"] for entry in log_of(output) if entry["event"] == "epoch"]
    assert rates == pytest.approx([1e-30, 1e-30, 0.5e-30, 0.25e-30])


def test_the_moving_average_is_what_is_kept(tmp_path):
    output = tmp_path / "model.safetensors"
    averaged = run(output)
    checkpoint = torch.load(f"{output}.run/last.ckpt", weights_only=True)
    name = "head.weight"
    assert torch.equal(averaged.network.state_dict()[name], checkpoint["best"][name])
    assert not torch.equal(checkpoint["network"][name], checkpoint["average"][name])
    plain = run(tmp_path / "plain.safetensors", ema_decay=0)
    checkpoint = torch.load(f"{tmp_path / 'plain.safetensors'}.run/last.ckpt", weights_only=True)
    assert checkpoint["average"] is None
    assert not torch.equal(weights(plain), weights(averaged))


def test_reduced_precision_trains_float32_weights(tmp_path, straight):
    model = run(tmp_path / "model.safetensors", precision="bf16")
    assert model.provenance["precision"] == "bf16"
    assert weights(model).dtype == torch.float32
    assert not torch.equal(weights(model), weights(straight[0]))
    assert model.metrics["validation_loss"] == pytest.approx(
        straight[0].metrics["validation_loss"], abs=0.2
    )


def test_reduced_precision_is_for_the_network_and_not_for_densities(tmp_path):
    seen = []

    class Watching(LinearGaussian):
        def loss(self, outputs, batch):
            weight = torch.ones(3, 3)
            seen.append((outputs["embedding"].dtype, (weight @ weight).dtype))
            return super().loss(outputs, batch)

    run(tmp_path / "model.safetensors", Watching(), precision="bf16", total_mocks=16)
    assert seen[0] == (torch.bfloat16, torch.float32)
    assert seen[-1] == (torch.float32, torch.float32)


def test_validation_draws_the_same_numbers_every_time(tmp_path):
    class Drawing(LinearGaussian):
        def loss(self, outputs, batch):
            terms = super().loss(outputs, batch)
            return {"posterior": terms["posterior"] + torch.randn(len(batch))}

    chosen = settings()
    system = Drawing()
    cpu = torch.device("cpu")
    mocks = MockSource(system, chosen).validation(cpu)
    validation = ValidationSet(system, system.identity_constants, mocks, 1, cpu)
    network = system.exact_network()
    assert validation.measure(network) == validation.measure(network)


def test_total_mocks_and_provenance(tmp_path):
    output = tmp_path / "model.safetensors"
    run(output, total_mocks=100)
    model = load_model(output, build)
    assert model.provenance["mocks"] == 112
    assert model.provenance["seed"] == 1
    assert model.provenance["device"] == "cpu"
    assert model.preset["training"]["total_mocks"] == 100
    assert model.provenance["versions"]["torch"] == torch.__version__


def test_finish_decides_what_is_written(tmp_path):
    def finish(model):
        model.reference = {"mean": torch.ones(3)}
        return model

    output = tmp_path / "model.safetensors"
    train(LinearGaussian(), PRESET, settings(max_epochs=1), SILENT, output, finish=finish)
    assert torch.equal(load_model(output, build).reference["mean"], torch.ones(3))


def test_tensorboard_events_or_the_extra_to_install(tmp_path, monkeypatch):
    local = LocalSettings(tensorboard=True, progress="none")
    run(tmp_path / "model.safetensors", local=local, max_epochs=1)
    assert list((tmp_path / "model.safetensors.run" / "tensorboard").glob("events*"))
    monkeypatch.setitem(sys.modules, "tensorboard", None)
    with pytest.raises(MissingExtraError, match=r"melotte\[tensorboard\]"):
        run(tmp_path / "other.safetensors", local=local, max_epochs=1)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"max_time": "soon"}, "max_time 'soon'"),
        ({"max_time": "0s"}, "above 0"),
        ({"local": LocalSettings(device="cuda:7")}, "device cuda:7 is not on this machine"),
        ({"local": LocalSettings(devices=3)}, "not a multiple of devices 3"),
    ],
)
def test_wrong_requests_are_refused(tmp_path, changes, said):
    with pytest.raises(MelotteValueError, match=said):
        run(tmp_path / "model.safetensors", **changes)


def test_a_missing_output_folder_is_refused_before_training(tmp_path):
    with pytest.raises(MelotteFileError, match="does not exist"):
        run(tmp_path / "absent" / "model.safetensors")


def test_steps_leave_nothing_behind_for_devices_that_are_not_used(tmp_path):
    queued = len(torch.cuda._queued_calls)
    run(tmp_path / "model.safetensors")
    assert len(torch.cuda._queued_calls) == queued


def test_a_batch_job_of_several_tasks_changes_nothing(tmp_path, straight, monkeypatch):
    job = {"NTASKS": "4", "JOB_NAME": "melotte", "PROCID": "1", "LOCALID": "1", "JOB_ID": "7"}
    for name, value in job.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    model = run(tmp_path / "model.safetensors")
    assert torch.equal(weights(model), weights(straight[0]))
    assert (tmp_path / "model.safetensors").exists()


def test_the_callers_random_numbers_are_left_alone(tmp_path):
    before = torch.get_rng_state()
    run(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)


def test_lines_of_progress_when_not_on_a_terminal(tmp_path, capsys):
    run(tmp_path / "model.safetensors", local=LocalSettings(line_seconds=1e-9))
    lines = capsys.readouterr().err.splitlines()
    assert any("training 7/24" in line and "left) loss" in line for line in lines)
    assert sum(line.startswith("epoch") for line in lines) == 4


SCRIPT = """
import sys
sys.path.insert(0, {tests!r})
import torch
torch.set_num_threads(1)
from linear_gaussian import PRESET, LinearGaussian
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.training import train

if __name__ == "__main__":
    local = LocalSettings(checkpoint_seconds=1e-9, progress="none", device="cpu", devices={devices})
    train(LinearGaussian(), PRESET, TrainingSettings(**{settings!r}), local, {output!r})
"""


def script(tmp_path, output, devices, **changes):
    path = tmp_path / "train.py"
    tests = str(Path(__file__).parent)
    content = SCRIPT.format(
        tests=tests, devices=devices, settings=QUICK | changes, output=str(output)
    )
    path.write_text(content)
    return [sys.executable, str(path)]


@pytest.mark.slow
def test_sigkill_then_resume_gives_the_weights_of_an_uninterrupted_run(tmp_path):
    output = tmp_path / "model.safetensors"
    changes = {"max_epochs": 300}
    process = subprocess.Popen(script(tmp_path, output, 1, **changes))
    checkpoint = tmp_path / "model.safetensors.run" / "last.ckpt"
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.5)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    step = torch.load(checkpoint, weights_only=True)["state"]["step"]
    assert 0 < step < 1800
    resumed = run(output, **changes)
    expected = run(tmp_path / "straight.safetensors", **changes)
    assert torch.equal(weights(resumed), weights(expected))


@pytest.mark.slow
def test_two_processes_share_every_batch_and_agree_with_one(tmp_path):
    output = tmp_path / "model.safetensors"
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    changes = {"batch_size": 64, "n_batches": 50, "max_epochs": 4, "learning_rate": 5e-3}
    subprocess.run(script(tmp_path, output, 2, **changes), check=True, env=environment, timeout=300)
    shared = load_model(output, build)
    assert shared.provenance["devices"] == 2
    assert shared.provenance["steps"] == 200
    alone = run(tmp_path / "alone.safetensors", **changes)
    assert shared.metrics["validation_loss"] == pytest.approx(
        alone.metrics["validation_loss"], abs=0.1
    )


def test_training_from_a_model_keeps_frozen_parts(tmp_path):
    first = run(tmp_path / "first.safetensors")
    before = {name: value.clone() for name, value in first.network.state_dict().items()}
    parts = [name for name, _ in first.network.named_children()]
    frozen = parts[0]
    second = run(tmp_path / "second.safetensors", start=first, frozen=(frozen,), seed=9)
    assert second.constants == first.constants
    assert second.provenance["start"] == first.provenance
    after = second.network.state_dict()
    same = {name for name in before if torch.equal(before[name], after[name])}
    assert same == {name for name in before if name.startswith(f"{frozen}.")}
    third = tmp_path / "third.safetensors"
    for names, start, said in (
        (("nose",), None, "no part 'nose'"),
        ((frozen,), None, f"weights of {frozen}, and these would be random: start from a model"),
        (tuple(parts), first, f"frozen {', '.join(parts)} leaves no part of the network to train"),
    ):
        with pytest.raises(MelotteValueError, match=said):
            run(third, frozen=names, start=start)


def test_a_start_must_be_of_the_same_system_and_parameters(tmp_path):
    first = run(tmp_path / "first.safetensors")
    wider = replace(PARAMETERS[2], high=6.0)
    for system, said in (
        (LinearGaussian(name="other"), "model of linear-gaussian, this preset is of other"),
        (
            LinearGaussian(parameters=(*PARAMETERS[:2], wider)),
            r"another prior: distance 0.5 to 5.0 kpc \(linear\), here distance 0.5 to 6.0 kpc",
        ),
        (LinearGaussian(parameters=PARAMETERS[:2]), "another prior: log_age 6.0 .*, distance 0.5"),
    ):
        with pytest.raises(MelotteValueError, match=said) as caught:
            run(tmp_path / "second.safetensors", system, start=first)
        assert "\n" not in str(caught.value)
    described = replace(PARAMETERS[2], description="distance from the Sun")
    same = LinearGaussian(parameters=(*PARAMETERS[:2], described))
    run(tmp_path / "second.safetensors", same, start=first, max_epochs=1)
