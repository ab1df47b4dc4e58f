"""The optimiser's steps, as a Lightning module. The only file that imports Lightning at its top.

Lightning places the network, runs it in reduced precision and joins several devices. Everything
that a resumed run must know is in :class:`~melotte.engine.run_folders.TrainingState` and the
tensors of the checkpoint, so that a run continues exactly, in the middle of an epoch too.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from melotte.engine.batch_sources import BatchSource
from melotte.engine.learning_rates import ema_decay, learning_rate
from melotte.engine.random import Stream, seed_globally
from melotte.engine.run_folders import TrainingState
from melotte.engine.settings import LocalSettings, TrainingSettings
from melotte.engine.validation import ValidationSet, weighted_loss
from melotte.engine.weight_averages import WeightAverage
from melotte.systems.base import Batch, System


class Optimisation(pl.LightningModule):
    """Trains a network on the batches of a source.

    Parameters
    ----------
    system : System
    constants : mapping
    network : nn.Module
    average : WeightAverage, optional
    source : BatchSource
    local : LocalSettings
    state : TrainingState
        Is advanced.
    optimizer_state : dict, optional
        Of a checkpoint.
    before_first_step : callable
        Called when Lightning has set itself up, its signal handlers too.
    after_step : callable
        Called with this module when a step is over; may set ``trainer.should_stop``.
    """

    def __init__(
        self,
        system: System,
        constants: Mapping[str, Any],
        network: nn.Module,
        average: WeightAverage | None,
        source: BatchSource,
        local: LocalSettings,
        state: TrainingState,
        optimizer_state: dict[str, Any] | None,
        before_first_step: Callable[[], None],
        after_step: Callable[[Optimisation], None],
    ) -> None:
        super().__init__()
        self.system = system
        self.constants = constants
        self.network = network
        self.average = average
        self.source = source
        self.settings: TrainingSettings = source.settings
        self.local = local
        self.state = state
        self.before_first_step = before_first_step
        self.after_step = after_step
        self.optimizer: torch.optim.Optimizer | None = None
        self.validation: ValidationSet | None = None
        self.begun = time.monotonic()
        self._optimizer_state = optimizer_state
        self._seconds_before = state.seconds
        self._loss_sum: Tensor | None = None
        self._loss_count = 0
        self._bad = False

    def configure_optimizers(self) -> torch.optim.Optimizer:
        """AdamW with decay on matrices and kernels; continues from the checkpoint."""
        decay = self.settings.weight_decay
        groups = [
            {"params": part, "weight_decay": decay * kernels, "factor": factor}
            for factor, trained in self._by_rate().items()
            for kernels in (1.0, 0.0)
            if (part := [one for one in trained if (one.ndim >= 2) == bool(kernels)])
        ]
        self.optimizer = torch.optim.AdamW(
            groups,
            lr=self.settings.learning_rate,
            fused=self.device.type in ("cpu", "cuda"),
        )
        if self._optimizer_state is not None:
            self.optimizer.load_state_dict(self._optimizer_state)
        return self.optimizer

    def on_fit_start(self) -> None:
        """Draw the validation mocks on the device that trains."""
        if self.average is not None:
            self.average.network.to(self.device)
        self.validation = ValidationSet(
            self.system,
            self.constants,
            self.source.validation(self.device),
            self.settings.validation_seed,
            self.device,
        )

    def on_train_start(self) -> None:
        """Let the training prepare for its first step."""
        self.before_first_step()

    def train_dataloader(self) -> DataLoader[Batch]:
        """Batches from the next one on."""
        world_size = self.trainer.world_size
        start = self.state.step * world_size
        stream = self.source.stream(start, self.device, self.global_rank, world_size)
        return DataLoader(stream, batch_size=None, num_workers=self.local.num_workers)

    def transfer_batch_to_device(
        self, batch: Batch, device: torch.device, dataloader_idx: int
    ) -> Batch:
        """Move a batch that a worker made on the CPU."""
        return batch if batch.theta.device == device else batch.to(device)

    def on_train_batch_start(self, batch: Batch, batch_idx: int) -> None:
        """Key the noise inside the network and set the learning rate, by the step's number.

        Parts that are frozen work as they will when the model is applied: running statistics stay
        and nothing is dropped.
        """
        for name in self.settings.frozen:
            self.network.get_submodule(name).eval()
        seed, step = self.settings.seed, self.state.step
        seed_globally(self.device, seed, Stream.NETWORK_NOISE, self.global_rank, step)
        rate = learning_rate(self.settings, step, self.state.plateau_drops)
        if self.optimizer is not None:
            for group in self.optimizer.param_groups:
                group["lr"] = rate * group["factor"]

    def training_step(self, batch: Batch, batch_idx: int) -> Tensor:
        """Loss of a batch."""
        with torch.autocast(self.device.type, enabled=False), torch.no_grad():
            inputs = self.system.prepare(batch.observation, self.constants)
        outputs = self.network(inputs)
        # Densities are computed in full precision; only the network's products are reduced.
        with torch.autocast(self.device.type, enabled=False):
            loss = weighted_loss(self.system.loss(outputs, batch), batch.weight)
        seen = torch.nan_to_num(loss.detach(), nan=0.0, posinf=0.0, neginf=0.0)
        self._loss_sum = seen if self._loss_sum is None else self._loss_sum + seen
        return loss

    def on_before_optimizer_step(self, optimizer: torch.optim.Optimizer) -> None:
        """Clip the gradient; skip the step where it is not finite.

        Every rank sees the same gradient here, so all skip together. Without gradients, AdamW
        leaves weights, moments and decay as they are.
        """
        weights = [one for one in self.network.parameters() if one.grad is not None]
        limit = self.settings.gradient_clip
        norm = nn.utils.clip_grad_norm_(weights, float("inf") if limit is None else limit)
        self._bad = not bool(torch.isfinite(norm))
        if self._bad:
            for one in weights:
                one.grad = None

    def on_train_batch_end(self, outputs: Any, batch: Batch, batch_idx: int) -> None:
        """Advance the state, then let the training look at it."""
        if self._bad:
            self.state.skipped += 1
            self.state.bad_in_a_row += 1
        else:
            self.state.bad_in_a_row = 0
            self._loss_count += 1
            if self.average is not None:
                decay = ema_decay(self.settings, self.state.step)
                self.average.update(self.network, decay)
        self.state.step += 1
        self.state.seconds = self._seconds_before + time.monotonic() - self.begun
        self.after_step(self)

    def _by_rate(self) -> dict[float, list[nn.Parameter]]:
        """Trained weights by the factor of their learning rate."""
        factors = self.settings.rate_factors
        parts: dict[float, list[nn.Parameter]] = {}
        for name, weight in self.network.named_parameters():
            if weight.requires_grad:
                within = [part for part in factors if name.startswith(part + ".")]
                factor = factors[max(within, key=len)] if within else 1.0
                parts.setdefault(factor, []).append(weight)
        return parts

    @property
    def kept(self) -> nn.Module:
        """The network that is validated and kept: the average where there is one."""
        return self.network if self.average is None else self.average.network

    def measure(self) -> dict[str, float]:
        """Validation loss and its terms; every rank must call it."""
        if self.validation is None:
            return {"loss": float("nan")}
        return self.validation.measure(self.kept, self.global_rank, self.trainer.world_size)

    def mean_loss(self, restart: bool = False) -> float:
        """Mean training loss over the epoch so far; NaN without a good step.

        Parameters
        ----------
        restart : bool
            Begin the next epoch's mean.
        """
        count = self._loss_count
        mean = (
            float("nan") if self._loss_sum is None or not count else float(self._loss_sum) / count
        )
        if restart:
            self._loss_sum, self._loss_count = None, 0
        return mean
