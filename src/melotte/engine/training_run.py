"""One training run: its checkpoint, epochs, early stop and the model that comes of it."""

from __future__ import annotations

import copy
import math
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from melotte.engine.batch_sources import ExampleSource, MockSource
from melotte.engine.devices import device_name, placement, resolved_device
from melotte.engine.freed_memory import keep_freed_memory
from melotte.engine.interruptions import Interruptions
from melotte.engine.json_values import plain_json
from melotte.engine.model_files import Model, library_versions, save_model
from melotte.engine.progress import Progress
from melotte.engine.random import Stream, seeded_globally
from melotte.engine.run_folders import RunFolder, TrainingState, folder_of
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.starting_weights import check_start, set_rates, starting_constants, take_weights
from melotte.engine.weight_averages import WeightAverage
from melotte.errors import MelotteFileError, WorkFailedError, require
from melotte.systems.base import Batch, System

if TYPE_CHECKING:
    from melotte.engine.optimisation import Optimisation

_STOP_CODES = {0: "", 1: "max_time", 2: "interrupted"}


class TrainingInterrupted(KeyboardInterrupt):
    """The run was asked to stop (SIGINT, SIGTERM); its checkpoint is written."""


class TrainingFailedError(WorkFailedError):
    """The loss was not finite for many steps in a row."""


class TrainingRun:
    """One call of :func:`train`."""

    def __init__(
        self,
        system: System,
        preset: Mapping[str, Any],
        settings: TrainingSettings,
        local: LocalSettings,
        output: Path,
        resume: str | os.PathLike[str],
        limit: float | None,
        device: torch.device | str | None,
        progress: bool | None,
        start: Model | None = None,
        examples: Batch | None = None,
    ) -> None:
        self.begun = time.monotonic()
        self.start = start
        if start is not None:
            check_start(system, start, settings.start_parts)
        self.source = (
            MockSource(system, settings)
            if examples is None
            else ExampleSource(system, settings, examples)
        )
        self.system, self.local = system, local
        self.settings = settings = self.source.settings
        self.output, self.limit = output, limit
        self.device = resolved_device(local.device if device in (None, "auto") else device)
        rank = os.environ.get("RANK", os.environ.get("LOCAL_RANK", "0"))
        self.leads = local.devices == 1 or int(rank) == 0
        sections = {"training": settings.model_dump(mode="json")}
        self.preset = plain_json(
            dict(preset) | sections | {"local": local.model_dump(mode="json")}, "preset"
        )
        decisive = {k: self.preset.get(k) for k in ("name", "system", "data", "model")}
        self.folder = RunFolder(
            folder_of(output),
            decisive
            | sections
            | {"devices": local.devices}
            | self.source.identity()
            | ({} if start is None else {"start": plain_json(start.provenance, "start")}),
        )
        self.state = TrainingState()
        checkpoint = self._checkpoint(resume)
        self._set_up(checkpoint)
        if self.leads:
            # Only now: what cannot be set up leaves no folder, and an earlier run as it was.
            self.folder.create(afresh=checkpoint is None)
            if checkpoint is not None:
                self.folder.log({"event": "resumed", "step": self.state.step})
        self.progress = Progress(
            settings.n_steps,
            "training",
            self.state.step,
            (local.progress if progress is None else progress) if self.leads else "none",
            local.line_seconds,
        )
        self.stop = ""
        self.interruptions = Interruptions()
        self.last_saved = time.monotonic()
        self.writer: Any = None

    def carry_out(self, finish: Callable[[Model], Model] | None) -> Model:
        """Train, then write and return the model."""
        import pytorch_lightning as pl

        from melotte.engine.optimisation import Optimisation

        optimisation = Optimisation(
            self.system,
            self.constants,
            self.network,
            self.average,
            self.source,
            self.local,
            self.state,
            self.optimizer_state,
            self.interruptions.install,
            self._after_step,
        )
        if self.device.type == "cpu":
            keep_freed_memory()
        remaining = self.settings.n_steps - self.state.step
        final: dict[str, Tensor] | None = None
        try:
            if remaining > 0 and not self.state.stopped_early:
                if self.local.tensorboard and self.leads:
                    self.writer = _summary_writer(self.folder.path / "tensorboard")
                trainer = pl.Trainer(
                    **placement(self.device, self.local.devices),
                    precision="bf16-mixed" if self._wants_bf16() else "32-true",
                    max_steps=remaining,
                    max_epochs=-1,
                    logger=False,
                    enable_checkpointing=False,
                    enable_progress_bar=False,
                    enable_model_summary=False,
                    use_distributed_sampler=False,
                    default_root_dir=self.folder.path,
                )
                self.interruptions.remember()
                trainer.fit(optimisation)
                final = self._ended(optimisation)
        finally:
            self.interruptions.restore()
            self.progress.close()
            if self.writer is not None:
                self.writer.close()
        return self._model(self._kept() if final is None else final, finish)

    def _checkpoint(self, resume: str | os.PathLike[str]) -> dict[str, Any] | None:
        if resume == "never":
            return None
        if resume == "auto":
            return self.folder.load() if self.folder.checkpoint_path.exists() else None
        path = Path(resume)
        path = path / "last.ckpt" if path.is_dir() else path
        if not path.exists():
            raise MelotteFileError(
                f"{path}: no such checkpoint; resume is auto, never, a run folder or a checkpoint"
            )
        return self.folder.load(path)

    def _set_up(self, checkpoint: dict[str, Any] | None) -> None:
        settings = self.settings
        if checkpoint is None:
            self.constants = starting_constants(
                self.system,
                self.start,
                settings.start_parts,
                lambda: plain_json(self.source.constants(), "constants"),
            )
        else:
            self.constants = checkpoint["constants"]
            self.state.copy_from(checkpoint["state"])
        self.source.check(self.constants)
        with seeded_globally(settings.seed, Stream.INITIAL_WEIGHTS, 0):
            self.network = self.system.network(self.constants)
        if checkpoint is None and self.start is not None:
            take_weights(self.network, self.start, settings.start_parts)
        set_rates(self.network, settings, begun=checkpoint is not None or self.start is not None)
        self.average = (
            WeightAverage(self.network, copy.deepcopy(self.network))
            if settings.ema_decay > 0
            else None
        )
        self.best: dict[str, Tensor] | None = None
        self.optimizer_state: dict[str, Any] | None = None
        if checkpoint is not None:
            self.network.load_state_dict(checkpoint["network"])
            if self.average is not None:
                self.average.network.load_state_dict(checkpoint["average"])
            self.best, self.optimizer_state = checkpoint["best"], checkpoint["optimizer"]

    def _after_step(self, run: Optimisation) -> None:
        state, settings = self.state, self.settings
        if state.bad_in_a_row:
            self._warn_of_bad_step()
        finished = state.step >= settings.n_steps
        if state.step % settings.n_batches == 0 or finished:
            self._end_epoch(run)
        stop = self._asked_to_stop(run)
        if finished or state.stopped_early:
            self.stop = "finished" if finished else "early stopping"
        else:
            self.stop = stop
        run.trainer.should_stop = bool(self.stop)
        elapsed = time.monotonic() - self.last_saved
        if self.stop or elapsed >= self.local.checkpoint_seconds:
            self._save(run)
        self._show(run)

    def _end_epoch(self, run: Optimisation) -> None:
        state, settings = self.state, self.settings
        measured = run.measure()
        finite = math.isfinite(measured["loss"])
        if finite and measured["loss"] < state.best_loss:
            state.best_loss, state.best_step = measured["loss"], state.step
            state.epochs_since_best = state.epochs_since_drop = 0
            self.best = _on_cpu(run.kept)
        else:
            state.epochs_since_best += 1
            state.epochs_since_drop += 1
            if state.epochs_since_drop >= settings.plateau_patience:
                state.plateau_drops += 1
                state.epochs_since_drop = 0
            if settings.patience is not None and state.epochs_since_best >= settings.patience:
                state.stopped_early = True
        loss = run.mean_loss(restart=True)
        if not self.leads:
            return
        epoch = -(-state.step // settings.n_batches)
        validated = measured["loss"] if finite else None
        rate = run.optimizer.param_groups[0]["lr"] if run.optimizer is not None else None
        entry = {
            "event": "epoch",
            "epoch": epoch,
            "step": state.step,
            "mocks": round(state.step * settings.batch_size * self.source.mock_share),
            "seconds": round(state.seconds, 2),
            "training_loss": loss,
            "validation_loss": validated,
            "validation_terms": {k: v for k, v in measured.items() if k != "loss"},
            "best": state.best_step == state.step,
            "learning_rate": rate,
            "skipped": state.skipped,
        }
        self.folder.log(entry)
        self.progress.say(
            f"epoch {epoch}: training loss {loss:.4f}"
            + (f", validation loss {measured['loss']:.4f}" if self.source.validates else "")
            + (" (not finite)" if self.source.validates and not finite else "")
            + (" (best)" if entry["best"] else "")
        )
        if self.writer is not None:
            self.writer.add_scalar("loss/training", loss, state.step)
            self.writer.add_scalar("learning_rate", rate, state.step)
            for name, value in measured.items():
                self.writer.add_scalar(f"validation/{name}", value, state.step)

    def _asked_to_stop(self, run: Optimisation) -> str:
        late = self.limit is not None and time.monotonic() - self.begun >= self.limit
        code = 2 if self.interruptions.number else 1 if late else 0
        if run.trainer.world_size > 1:
            shared = torch.tensor([code], device=run.device)
            torch.distributed.all_reduce(shared, torch.distributed.ReduceOp.MAX)
            code = int(shared)
        return _STOP_CODES[code]

    def _save(self, run: Optimisation) -> None:
        self.last_saved = time.monotonic()
        if not self.leads or run.optimizer is None:
            return
        self.folder.save(
            self.state,
            self.constants,
            self.network.state_dict(),
            None if self.average is None else self.average.network.state_dict(),
            self.best,
            run.optimizer.state_dict(),
        )

    def _show(self, run: Optimisation) -> None:
        details = []
        if self.progress.wants_details:
            self.progress.shown()
            loss = run.mean_loss()
            # There is none before the first step of an epoch.
            if math.isfinite(loss):
                details.append(f"loss {loss:.4f}")
            if math.isfinite(self.state.best_loss):
                details.append(f"best validation {self.state.best_loss:.4f}")
            if self.state.skipped:
                details.append(f"{self.state.skipped} skipped")
        self.progress.update(self.state.step, ", ".join(details))

    def _warn_of_bad_step(self) -> None:
        state, allowed = self.state, self.settings.max_bad_steps
        if state.bad_in_a_row >= allowed:
            raise TrainingFailedError(
                f"the gradient was not finite for {allowed} steps in a row, up to step "
                f"{state.step} ({state.skipped} skipped in all): lower training.learning_rate "
                f"({self.settings.learning_rate:g}) or look for NaN in the "
                + ("mocks" if isinstance(self.source, MockSource) else "examples")
            )
        if self.leads and (state.skipped & (state.skipped - 1)) == 0:
            self.folder.log({"event": "skipped", "step": state.step, "skipped": state.skipped})
            self.progress.say(
                f"step {state.step} skipped: its gradient is not finite ({state.skipped} so far)"
            )

    def _ended(self, run: Optimisation) -> dict[str, Tensor]:
        """Weights to keep, once the loop has ended."""
        command = f"the same command with --resume auto goes on from {self.folder.path}"
        if self.stop == "interrupted":
            if self.leads:
                self.folder.log({"event": "interrupted", "step": self.state.step})
            raise TrainingInterrupted(
                f"{self.interruptions.name or 'signal'}: stopped at step {self.state.step} of "
                f"{self.settings.n_steps}, checkpoint saved; {command}"
            )
        if self.stop == "max_time":
            self.progress.say(
                f"max_time reached at step {self.state.step} of {self.settings.n_steps}; {command}"
            )
            # Not into the state: the run that goes on must not know of this extra look.
            if run.validation is not None and self.state.step % self.settings.n_batches:
                measured = run.validation.measure(run.kept)
                if self.best is None or measured["loss"] < self.state.best_loss:
                    return _on_cpu(run.kept)
        return self._kept()

    def _kept(self) -> dict[str, Tensor]:
        """The best weights, or the last of the network that is kept; of a finished run too."""
        if self.best is not None:
            return self.best
        if self.source.validates and self.state.step >= self.settings.n_batches:
            raise TrainingFailedError(
                f"the validation loss was never finite, up to step {self.state.step}: lower "
                f"training.learning_rate ({self.settings.learning_rate:g})"
            )
        return _on_cpu(self.network if self.average is None else self.average.network)

    def _model(self, weights: dict[str, Tensor], finish: Callable[[Model], Model] | None) -> Model:
        network = self.network
        network.load_state_dict(weights)
        state, settings = self.state, self.settings
        provenance = {
            "seed": settings.seed,
            "steps": state.step,
            "of_steps": settings.n_steps,
            "skipped_steps": state.skipped,
            "mocks": round(state.step * settings.batch_size * self.source.mock_share),
            "best_step": state.best_step,
            "stopped": self.stop or ("early stopping" if state.stopped_early else "finished"),
            "seconds": round(state.seconds, 3),
            "device": device_name(self.device),
            "devices": self.local.devices,
            "precision": "bf16" if self._wants_bf16() else "32",
            "versions": library_versions(),
        } | self.source.identity()
        if self.start is not None:
            provenance["start"] = self.start.provenance
        metrics = {"validation_loss": state.best_loss}
        model = Model(
            self.system,
            self.preset,
            self.constants,
            network.to(self.device).eval(),
            plain_json(provenance, "provenance"),
            plain_json(metrics, "metrics", nulls=True),
        )
        if self.leads:
            model = model if finish is None else finish(model)
            save_model(self.output, model)
            self.folder.log({"event": "written", "step": state.step, "stopped": self.stop})
        return model

    def _wants_bf16(self) -> bool:
        if self.settings.precision == "auto":
            return self.device.type == "cuda" and torch.cuda.is_bf16_supported()
        return self.settings.precision == "bf16"


def _on_cpu(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _summary_writer(path: Path) -> Any:
    require("tensorboard", "tensorboard")
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(path))
