"""Judge a model on mocks it has never seen: errors, coverage, calibration, flags and speed."""

from __future__ import annotations

import math
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import stats
from torch import Tensor

from melotte.engine.banks import BankReader
from melotte.engine.calibration import CalibrationReport, calibrate
from melotte.engine.domain import DomainReference
from melotte.engine.json_values import plain_json
from melotte.engine.mocks import batch_of_many
from melotte.engine.network_outputs import run_network
from melotte.engine.object_streams import EVALUATION_STREAM
from melotte.engine.point_errors import point_errors
from melotte.engine.posterior_flags import flag_posteriors
from melotte.engine.progress import Progress
from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.systems.base import Batch

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

Paths = str | os.PathLike[str] | Sequence[str | os.PathLike[str]]
Array = NDArray[np.float64]

N_SAMPLES = 400
BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """What a model is worth on mocks; :meth:`as_json` has the documented shape.

    Parameters
    ----------
    preset : str
    n : int
        Mocks that were judged.
    seed : int
    seconds_per_object : float
        Wall time of preparation, network, 400 samples and quantiles; not of making mocks.
    parameters : dict of str to dict
        ``unit``, ``bias``, ``std``, ``mae``, ``r2``, ``p95_abs`` of the posterior median in the
        parameter's unit, ``coverage_68``, ``coverage_95``.
    classification : dict of str to float
        ``accuracy`` and ``roc_auc``, of a system that classifies.
    extra : dict
        Calibration in detail, flag rates, and the system's own statistics.
    published, faithful : dict
        The same statistics as published, and of the faithful preset on the same mocks.
    calibration : CalibrationReport
    truth : array, shape (n, n_parameters), physical units; NaN where unknown
    quantiles : array, shape (n, 3, n_parameters), physical units: 16, 50 and 84 %
    flags : array of int64, shape (n,)
    group : array of int64, shape (n,)
    judged : object, optional
        The system's own ``judge()``, after the last mock: what its figures are made of.
    """

    preset: str
    n: int
    seed: int
    seconds_per_object: float
    parameters: Mapping[str, Mapping[str, Any]]
    classification: Mapping[str, float]
    extra: Mapping[str, Any]
    published: Mapping[str, Any]
    faithful: Mapping[str, Any]
    calibration: CalibrationReport = field(repr=False)
    truth: Array = field(repr=False)
    quantiles: Array = field(repr=False)
    flags: NDArray[np.int64] = field(repr=False)
    group: NDArray[np.int64] = field(repr=False)
    judged: Any = field(default=None, repr=False)

    def as_json(self) -> dict[str, Any]:
        """The documented JSON object; numbers that are not finite become null."""
        names = (
            "preset",
            "n",
            "seed",
            "seconds_per_object",
            "parameters",
            "classification",
            "extra",
            "published",
            "faithful",
        )
        return plain_json({name: getattr(self, name) for name in names}, "evaluation", nulls=True)


def evaluate(
    model: Model,
    bank: Paths | None = None,
    n: int = 5000,
    seed: int = 1,
    progress: bool | None = None,
    published: Mapping[str, Any] | None = None,
    faithful: Mapping[str, Any] | None = None,
    n_samples: int = N_SAMPLES,
) -> Evaluation:
    """Judge a model on independent mocks.

    Parameters
    ----------
    model : Model
    bank : path or paths, optional
        A fixed bank of its system. Without it, ``n`` mocks are drawn, from a stream that no
        training uses.
    n : int, > 0
        From 5,000 on the error of a coverage is below 0.7 %.
    seed : int, >= 0
        Of the mocks and of the posterior samples.
    progress : bool, optional
    published, faithful : mapping, optional
        Passed on into the result, for the comparison. Without, ``published`` is the system's
        attribute of that name, where it has one.
    n_samples : int, >= 100
        Posterior samples of every mock.

    Returns
    -------
    Evaluation
        ``extra`` holds ``n_groups``, ``point_estimate``, ``mean_log_prob`` (of the truth in the
        unit cube, nats; higher is better, 0 is the prior's), ``verdicts``, ``sbc_p_values``,
        ``shift``, ``stretch``, ``coverage_errors``, ``tarp`` (``area``, ``p_value``),
        ``flag_rates`` (the fraction of mocks with each flag: for OUT_OF_DOMAIN the false-alarm
        rate), ``not_finite``, and what a system's own ``judge()`` adds: an object with
        ``add(outputs, batch)``, called for every batch, and ``result(progress)``, a dictionary.

    Raises
    ------
    MelotteValueError
        When a number is out of range.
    MelotteFileError
        When the bank is damaged or belongs to other parameters.
    """
    if n < 1 or seed < 0 or n_samples < 100:
        raise MelotteValueError(
            f"n {n} must be >= 1, seed {seed} >= 0 and n_samples {n_samples} >= 100"
        )
    reader = None if bank is None else BankReader(bank, system=model.system)
    total = n if reader is None else len(reader)
    work = _Judging(model, n_samples, seed)
    bar = Progress(total, "evaluating", style=progress)
    try:
        for batch in _batches(model, reader, n, seed):
            work.add(batch)
            bar.update(work.done)
    finally:
        bar.close()
        if reader is not None:
            reader.close()
    known: Mapping[str, Any] = getattr(model.system, "published", {})
    return work.evaluation(known if published is None else published, faithful or {}, progress)


def _batches(model: Model, reader: BankReader | None, n: int, seed: int) -> Iterator[Batch]:
    if reader is not None:
        yield from reader.batches(BATCH_SIZE)
        return
    for number in range(-(-n // BATCH_SIZE)):
        yield batch_of_many(model.system, n, number, seed, BATCH_SIZE)


class _Judging:
    """Collects what is needed of every batch."""

    def __init__(self, model: Model, n_samples: int, seed: int) -> None:
        self.model = model
        self.n_samples = n_samples
        self.seed = seed
        self.domain = DomainReference.from_tensors(model.reference) if model.reference else None
        maker = getattr(model.system, "judge", None)
        self.own: Any = None if maker is None else maker()
        self.parts: dict[str, list[Any]] = {}
        self.classes: dict[str, list[tuple[Array, Array]]] = {}
        self.seconds = 0.0
        self.done = 0

    def add(self, batch: Batch) -> None:
        model, number = self.model, len(self.parts.get("flags", []))
        begun = time.perf_counter()
        outputs = run_network(model, batch.observation)
        posterior = outputs["posterior"]
        device = outputs["embedding"].device
        generator = keyed_generator(self.seed, EVALUATION_STREAM, number, device=device)
        with torch.no_grad():
            unit = posterior.sample(self.n_samples, generator).cpu().double()
        levels = torch.tensor([0.16, 0.5, 0.84], dtype=torch.float64)
        quantiles = torch.quantile(unit, levels, dim=1).movedim(0, 1)
        physical = model.prior.from_unit(quantiles)
        self.seconds += time.perf_counter() - begun
        theta = torch.where(batch.theta_known, batch.theta, torch.nan).cpu().double()
        flags = flag_posteriors(unit.numpy(), model.parameters)
        if batch.observation.flags is not None:
            flags |= batch.observation.flags.cpu().numpy()
        raised = getattr(model.system, "result_flags", None)
        if raised is not None:
            flags |= raised(batch.observation, outputs).numpy()
        if self.domain is not None:
            summaries, _ = model.system.summaries(batch.observation)
            flags |= self.domain.judge(summaries, outputs["embedding"]).flags
        self._keep("samples", unit.float())
        self._keep("truth", theta)
        self._keep("unit_truth", model.prior.to_unit(theta))
        self._keep("quantiles", physical)
        self._keep("flags", torch.as_tensor(flags))
        self._keep("log_prob", self._log_prob(posterior, theta, device))
        self._keep("group", batch.group.cpu())
        self._classify(batch, outputs)
        if self.own is not None:
            self.own.add(outputs, batch)
        self.done += len(batch)

    def evaluation(
        self, published: Mapping[str, Any], faithful: Mapping[str, Any], progress: bool | None
    ) -> Evaluation:
        model = self.model
        names = [parameter.name for parameter in model.parameters]
        arrays = {name: torch.cat(parts).numpy() for name, parts in self.parts.items()}
        samples, truth, quantiles = arrays["samples"], arrays["truth"], arrays["quantiles"]
        report = calibrate(samples, arrays["unit_truth"], names, arrays["group"], self.seed)
        parameters = {}
        for i, parameter in enumerate(model.parameters):
            one = report.parameters[parameter.name]
            parameters[parameter.name] = {
                "unit": parameter.unit,
                **point_errors(quantiles[:, 1, i], truth[:, i]).as_json(),
                "coverage_68": one.coverage_68,
                "coverage_95": one.coverage_95,
            }
        flags = arrays["flags"]
        entries = report.parameters.items()
        extra = {
            "n_groups": len(np.unique(arrays["group"])),
            "point_estimate": "median",
            "mean_log_prob": _finite_mean(arrays["log_prob"]),
            "verdicts": report.verdicts,
            "sbc_p_values": {name: one.p_value for name, one in entries},
            "shift": {name: one.shift for name, one in entries},
            "stretch": {name: one.stretch for name, one in entries},
            "coverage_errors": {
                name: {
                    "coverage_68": one.coverage_68_error,
                    "coverage_95": one.coverage_95_error,
                }
                for name, one in entries
            },
            "tarp": {"area": report.joint.area, "p_value": report.joint.p_value},
            "flag_rates": {
                flag.name: float(((flags & flag) > 0).mean())
                for flag in Flag
                if flag != Flag.OUT_OF_DOMAIN or self.domain is not None
            },
            "not_finite": int((~np.isfinite(quantiles).all((1, 2))).sum()),
        }
        if self.own is not None:
            extra |= self.own.result(progress)
        return Evaluation(
            preset=model.name,
            n=self.done,
            seed=self.seed,
            seconds_per_object=self.seconds / max(self.done, 1),
            parameters=parameters,
            classification=self._classification(),
            extra=extra,
            published=published,
            faithful=faithful,
            calibration=report,
            truth=truth,
            quantiles=quantiles,
            flags=flags,
            group=arrays["group"],
            judged=self.own,
        )

    def _keep(self, name: str, values: Tensor) -> None:
        self.parts.setdefault(name, []).append(values)

    def _log_prob(self, posterior: Any, theta: Tensor, device: torch.device) -> Tensor:
        """Log density of the truth in the unit cube, nats; NaN where a label is unknown."""
        known = torch.isfinite(theta).all(1)
        # Rounding may put a truth at an end of its range outside the cube.
        unit = self.model.prior.to_unit(theta).clamp(0, 1).nan_to_num(0.5)
        with torch.no_grad():
            density = posterior.log_prob(unit.float().to(device)).cpu().double()
        return torch.where(known, density, torch.nan)

    def _classify(self, batch: Batch, outputs: Mapping[str, Any]) -> None:
        """Keep probabilities and truths of class outputs: column ``NAME_probability``."""
        describe = getattr(self.model.system, "result_columns", None)
        wanted = [
            output.name
            for output in self.model.system.outputs
            if output.kind == "class" and output.name in batch.targets
        ]
        if describe is None or not wanted:
            return
        columns = describe(batch.observation, outputs)
        for name in wanted:
            if f"{name}_probability" in columns:
                probability = np.asarray(columns[f"{name}_probability"].values, dtype=float)
                target = batch.targets[name].cpu().numpy().astype(float)
                self.classes.setdefault(name, []).append((probability, target))

    def _classification(self) -> dict[str, float]:
        """Of the first class output; further ones go by ``NAME_accuracy`` and so on."""
        found: dict[str, float] = {}
        for number, (name, parts) in enumerate(self.classes.items()):
            probability, target = (np.concatenate(part) for part in zip(*parts, strict=True))
            known = np.isfinite(probability) & np.isfinite(target)
            prefix = "" if number == 0 else f"{name}_"
            right = (probability[known] > 0.5) == (target[known] > 0.5)
            found[f"{prefix}accuracy"] = float(right.mean()) if len(right) else math.nan
            found[f"{prefix}roc_auc"] = roc_auc(probability[known], target[known] > 0.5)
        return found


def _finite_mean(values: Array) -> float:
    known = values[~np.isnan(values)]
    return float(known.mean()) if len(known) else math.nan


def roc_auc(score: Array, positive: NDArray[np.bool_]) -> float:
    """Area under the receiver operating characteristic; ties count half.

    Parameters
    ----------
    score : array, shape (n,)
    positive : array of bool, shape (n,)

    Returns
    -------
    float
        Chance that a positive scores above a negative (Mann-Whitney U); NaN without both.
    """
    n_positive = int(positive.sum())
    n_negative = len(positive) - n_positive
    if not n_positive or not n_negative:
        return math.nan
    ranks = stats.rankdata(score)
    excess = ranks[positive].sum() - n_positive * (n_positive + 1) / 2
    return float(excess / (n_positive * n_negative))
