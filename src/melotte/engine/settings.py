"""Settings of a training run: those that decide its result, and local ones that do not.

Every settings class is frozen and knows all its keys: a wrong key or value fails at construction,
in one line that names the key, what was found and what is allowed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from melotte.errors import MelotteValueError, did_you_mean


class Settings(BaseModel):
    """Base of all settings sections.

    Raises
    ------
    MelotteValueError
        One line naming every wrong key, what was found and what is allowed.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise MelotteValueError(_one_line(error, type(self), "")) from None

    # Pydantic's mark of an __init__ that only validates: a section inside a preset is then
    # validated with the preset, so that its errors keep their full key.
    __init__.__pydantic_base_init__ = True  # pyright: ignore[reportFunctionMemberAccess]

    @classmethod
    def parse(cls, values: Mapping[str, Any], section: str = "") -> Self:
        """Settings from a section of a preset.

        Parameters
        ----------
        values : mapping
        section : str
            Name of the section, put before the key in errors (``training.batch_size``).

        Raises
        ------
        MelotteValueError
        """
        try:
            return cls.model_validate(dict(values))
        except ValidationError as error:
            raise MelotteValueError(_one_line(error, cls, section)) from None


class TrainingSettings(Settings):
    """What decides the result of a training run.

    Parameters
    ----------
    seed : int, >= 0
        Keys the mocks, the initial weights and the noise inside the network.
    batch_size : int, > 0
        Mocks in an optimiser step, all views and devices counted.
    views : int, > 0
        Observations drawn of each rendered object; divides ``batch_size``.
    n_batches : int, > 0
        Batches in an epoch; the loss on the validation mocks is measured after each epoch.
    max_epochs : int, > 0
    total_mocks : int, > 0, optional
        Ends the training after this many mocks, whatever ``max_epochs`` says; the learning-rate
        schedule is stretched to it.
    learning_rate : float, > 0
        Largest value, reached after the warm-up.
    schedule : {"cosine", "exponential", "halving", "plateau", "constant"}
        ``cosine`` and ``exponential`` fall to ``final_rate_fraction`` of the learning rate at the
        last step, the latter by the same factor each step; ``halving`` halves after every epoch;
        ``plateau`` multiplies by ``plateau_factor`` after ``plateau_patience`` epochs without a
        better validation loss, and so needs mocks or held-out examples, as ``patience`` does.
    warmup_batches : int, >= 0
        Steps over which the rate rises linearly from zero, with any schedule.
    final_rate_fraction : float, 0 to 1
    plateau_factor : float, 0 to 1
    plateau_patience : int, > 0
    weight_decay : float, >= 0
        Of AdamW (Loshchilov & Hutter 2019); matrices and kernels only, no bias or scale.
    gradient_clip : float, > 0, optional
        Largest norm of the gradient of all weights; none to leave gradients alone.
    precision : {"auto", "32", "bf16"}
        ``bf16`` runs matrix products in bfloat16; ``auto`` does that on CUDA only.
    ema_decay : float, 0 to 1
        Exponential moving average of the weights, which is what is validated and kept; 0 for none.
        It is warmed up: the decay of step t is at most (1 + t) / (10 + t).
    patience : int, > 0, optional
        Epochs without a better validation loss before the training stops; none to go on. Like the
        schedule ``plateau`` it needs mocks or held-out examples to validate on: refused with
        examples where ``validation_fraction`` is 0.
    validation_size : int, > 0
        Mocks in the fixed validation set.
    validation_seed : int, >= 0
        Its seed; its stream is never that of the training, even where the seeds agree.
    constants_size : int, > 0
        Mocks on which the preparation constants are measured.
    reference_size, metrics_size : int, >= 400 and > 0
        Mocks that fit the domain check of the trained model, and fresh ones that judge it.
    mock_share : float, 0 to below 1
        Share of mocks in a batch where a fixed set of examples is trained on. An epoch is then
        one pass over the examples, whatever ``n_batches`` says, and ``max_epochs`` decides, not
        ``total_mocks``.
    validation_fraction : float, 0 to below 1
        Share of the examples' groups that is held out to validate, in place of mocks; with 0 the
        last weights are kept.
    start_parts : tuple of str
        Parts of the network, such as ``encoder``, that take their weights from the model that a
        training starts from; the others begin anew, and the prior may be another. All of them
        where none is named.
    frozen : tuple of str
        Parts of the network that keep their weights and running statistics, such as ``encoder``;
        they work as in a finished model, without dropout. Needs a start
        (``melotte train --from``): weights that are random are not frozen.
    rate_factors : dict of str to float, >= 0
        Parts of the network that train at this multiple of the learning rate.
    max_bad_steps : int, > 0
        Steps in a row whose loss or gradient is not finite before the training fails.
    """

    seed: int = Field(default=0, ge=0)
    batch_size: int = Field(default=256, gt=0)
    views: int = Field(default=1, gt=0)
    n_batches: int = Field(default=200, gt=0)
    max_epochs: int = Field(default=100, gt=0)
    total_mocks: int | None = Field(default=None, gt=0)
    learning_rate: float = Field(default=1e-3, gt=0, allow_inf_nan=False)
    schedule: Literal["cosine", "exponential", "halving", "plateau", "constant"] = "cosine"
    warmup_batches: int = Field(default=100, ge=0)
    final_rate_fraction: float = Field(default=0.01, ge=0, le=1)
    plateau_factor: float = Field(default=0.5, gt=0, lt=1)
    plateau_patience: int = Field(default=5, gt=0)
    weight_decay: float = Field(default=0.01, ge=0, allow_inf_nan=False)
    gradient_clip: float | None = Field(default=5.0, gt=0)
    precision: Literal["auto", "32", "bf16"] = "auto"
    ema_decay: float = Field(default=0.999, ge=0, lt=1)
    patience: int | None = Field(default=None, gt=0)
    validation_size: int = Field(default=2048, gt=0)
    validation_seed: int = Field(default=1, ge=0)
    constants_size: int = Field(default=2048, gt=0)
    reference_size: int = Field(default=10_000, ge=400)
    metrics_size: int = Field(default=5_000, gt=0)
    mock_share: float = Field(default=0.0, ge=0, lt=1)
    validation_fraction: float = Field(default=0.1, ge=0, lt=1)
    start_parts: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    rate_factors: dict[str, Annotated[float, Field(ge=0, allow_inf_nan=False)]] = Field(
        default_factory=dict
    )
    max_bad_steps: int = Field(default=20, gt=0)

    @field_validator("precision", mode="before")
    @classmethod
    def _name_precision(cls, value: Any) -> Any:
        """Take the number 32, as YAML reads it, for its name."""
        return "32" if value == 32 and not isinstance(value, bool) else value

    @model_validator(mode="after")
    def _check_views(self) -> Self:
        if self.batch_size % self.views:
            raise ValueError(
                f"batch_size {self.batch_size} is not a multiple of views {self.views}"
            )
        return self

    @model_validator(mode="after")
    def _check_schedule(self) -> Self:
        if self.schedule == "exponential" and self.final_rate_fraction == 0:
            raise ValueError(
                "final_rate_fraction 0 is never reached by schedule exponential; give more than 0"
            )
        return self

    @property
    def n_steps(self) -> int:
        """Optimiser steps of the whole training."""
        if self.total_mocks is not None:
            return max(1, -(-self.total_mocks // self.batch_size))
        return self.n_batches * self.max_epochs


class LocalSettings(Settings):
    """How this machine trains.

    Nothing here changes what is trained towards. With other devices, or workers beside a GPU, the
    mocks come from other random numbers of the same distribution.

    Parameters
    ----------
    device : str
        ``auto`` (a GPU where there is one), ``cpu``, ``cuda``, ``cuda:1`` or ``mps``.
    devices : int, > 0
        Processes that share each batch, one a device; divides ``batch_size``.
    num_workers : int, >= 0
        Processes that make mocks on the CPU; 0 makes them on the training device.
    threads : int, > 0, optional
        CPU threads of torch; its own choice without.
    checkpoint_seconds : float, > 0
        Least time between two checkpoints.
    tensorboard : bool
        Also write TensorBoard events (needs the extra ``tensorboard``).
    progress : {"auto", "bar", "lines", "none"}
        ``auto`` draws a bar on a terminal and writes plain lines elsewhere.
    line_seconds : float, > 0
        Least time between two plain lines.
    """

    device: str = Field(default="auto", pattern=r"^(auto|cpu|mps|cuda(:\d+)?)$")
    devices: int = Field(default=1, gt=0)
    num_workers: int = Field(default=0, ge=0)
    threads: int | None = Field(default=None, gt=0)
    checkpoint_seconds: float = Field(default=60.0, gt=0)
    tensorboard: bool = False
    progress: Literal["auto", "bar", "lines", "none"] = "auto"
    line_seconds: float = Field(default=20.0, gt=0)


def _one_line(error: ValidationError, cls: type[BaseModel], section: str) -> str:
    return "; ".join(_entry(entry, cls, section) for entry in error.errors())


def _entry(entry: Any, cls: type[BaseModel], section: str) -> str:
    location = [str(part) for part in entry["loc"]]
    key = ".".join([section, *location] if section else location)
    if entry["type"] == "extra_forbidden":
        allowed = sorted(_section(cls, location[:-1]).model_fields)
        hint = did_you_mean(location[-1], allowed)
        return f"{key} is not a setting{hint}; allowed: {', '.join(allowed)}"
    if entry["type"] == "missing":
        return f"{key} is missing"
    if entry["type"] == "value_error":
        said = str(entry["ctx"]["error"])
        return f"{key}: {said}" if key else said
    return f"{key}: found {entry['input']!r}, {str(entry['msg']).removeprefix('Input ')}"


def _section(cls: type[BaseModel], location: list[str]) -> type[BaseModel]:
    for part in location:
        inner = cls.model_fields[part].annotation if part in cls.model_fields else None
        if not (isinstance(inner, type) and issubclass(inner, BaseModel)):
            break
        cls = inner
    return cls
