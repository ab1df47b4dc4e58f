"""Rows of a result: what is told of one object, or why it could not be measured.

The network sees a chunk of observations at once; where the chunk fails, its halves are tried, so
that one object's fault costs no other its row.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.domain import DomainReference
from melotte.engine.known_values import leading_values
from melotte.engine.network_outputs import draw_by_object, run_network
from melotte.engine.posterior_flags import flag_posteriors
from melotte.engine.result_maps import MapLayer, object_maps
from melotte.engine.results import LEVELS, InferenceResult, ResultColumn
from melotte.engine.reweighting import FEW_SAMPLES, PriorReweighting, Reweighted
from melotte.engine.served_ranges import flag_unserved
from melotte.errors import MelotteError, MelotteValueError
from melotte.flags import Flag
from melotte.networks.conditioned import GivenPosterior
from melotte.networks.posteriors import UnitPosterior
from melotte.parameters import Parameter
from melotte.systems.base import Observation

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

LEAST_SAMPLES = 500
"""Samples drawn of every posterior, for quantiles and flags, when fewer are asked for."""
REWEIGHTED_SAMPLES = 4000
_ROW_FAULTS = (ValueError, RuntimeError, IndexError, ArithmeticError)
_COLUMNS = {
    "domain_score": ("", "distance from the training mocks; OUT_OF_DOMAIN above 1"),
    "x": ("pix", "column in the image that mosaic names; the first pixel's centre is 0"),
    "y": ("pix", "row in the image that mosaic names; the first pixel's centre is 0"),
    "mosaic": ("", "image on whose grid the object was cut"),
    "values_as": ("", "whose values these are: the simulation's, or a catalogue's"),
    "prior_sample_size": ("", "effective samples after reweighting; not reliable below 100"),
}


@dataclass
class ResultRow:
    """One object's result; arrays are None where it failed."""

    id: str
    flags: int
    quantiles: NDArray[np.float64] | None = None
    samples: NDArray[np.float32] | None = None
    columns: dict[str, Any] = field(default_factory=dict)
    maps: tuple[MapLayer, ...] = ()
    reason: str = ""


class RowMaker:
    """Turns chunks of observations into rows.

    Parameters
    ----------
    model : Model
    n_samples : int, >= 0
        Posterior samples to keep of every object.
    seed : int, >= 0
    prior : PriorReweighting, optional
        Priors in place of the training's.
    known : mapping of str to float, optional
        Values of the first parameters, where they are known. An observation's header may have
        ``known``, by id, with further ones or others.
    maps : bool
        Keep the maps of every object.
    """

    def __init__(
        self,
        model: Model,
        n_samples: int,
        seed: int,
        prior: PriorReweighting | None,
        known: Mapping[str, float] | None = None,
        maps: bool = False,
    ) -> None:
        self.model = model
        self.n_samples = n_samples
        self.seed = seed
        self.prior = prior
        self.known = dict(known or {})
        # A fault of what holds for all objects is raised before the first of them.
        self._leading(self.known)
        self.maps = maps
        self.domain = DomainReference.from_tensors(model.reference) if model.reference else None
        self.described: dict[str, tuple[str, str]] = dict(
            getattr(model.system, "described_columns", {})
        )

    @property
    def columns(self) -> list[str]:
        """Names of the columns that every result of this model has, measured or not."""
        own = {"domain_score": self.domain, "prior_sample_size": self.prior}
        return [*self.described, *(name for name, source in own.items() if source is not None)]

    def rows(self, observation: Observation) -> list[ResultRow]:
        """Rows of a chunk; where the chunk fails as a whole, of each object alone."""
        if len(observation) > 1 and observation.header.get("known"):
            return self._apart(observation, 1)
        try:
            return self._measured(observation)
        except _ROW_FAULTS as error:
            if len(observation) == 1:
                flags = int(Flag.FAILED)
                if observation.flags is not None:
                    flags |= int(observation.flags[0])
                reason = " ".join(str(error).split())
                if not isinstance(error, MelotteError):
                    reason = f"{type(error).__name__}: {reason}"
                return [ResultRow(observation.ids[0], flags, reason=reason)]
        return self._apart(observation, (len(observation) + 1) // 2)

    def _apart(self, observation: Observation, size: int) -> list[ResultRow]:
        """Rows of parts of a chunk."""
        parts = torch.arange(len(observation)).split(size)
        return [row for part in parts for row in self.rows(observation.select(part))]

    def _measured(self, observation: Observation) -> list[ResultRow]:
        model, ids = self.model, observation.ids
        known = self._known(observation)
        leading = self._leading(known)
        tell = getattr(model.system, "with_known", None)
        if known and tell is not None:
            observation = tell(observation, known)
        outputs = run_network(model, observation)
        n_known = 0 if leading is None else len(leading)
        if leading is not None:
            outputs = {**outputs, "posterior": GivenPosterior(outputs["posterior"], leading)}
        reweighted = self._reweighted(observation, outputs)
        if reweighted is None:
            n_drawn = max(self.n_samples, LEAST_SAMPLES)
            unit = draw_by_object(outputs, n_drawn, self.seed, ids).cpu().double()
        else:
            unit = reweighted.unit
        given = self._given(observation)
        flags = np.zeros(len(ids), dtype=np.int64)
        if observation.flags is not None:
            flags |= observation.flags.cpu().numpy()
        columns = self._columns(observation, outputs)
        raised = getattr(model.system, "result_flags", None)
        if raised is not None:
            flags |= raised(observation, outputs).numpy()
        reasons = [""] * len(ids)
        if self.domain is not None:
            summaries, names = model.system.summaries(observation)
            judged = self.domain.judge(summaries, outputs["embedding"], names)
            flags |= judged.flags
            reasons = list(judged.reasons)
            columns["domain_score"] = judged.score
        # Heads with a closed form override the quantiles that the interface takes from samples.
        closed_form = type(outputs["posterior"]).quantile is not UnitPosterior.quantile
        if reweighted is not None:
            columns["prior_sample_size"] = reweighted.effective
            flags |= _flags_of_reweighted(reweighted, model.parameters)
        else:
            open_ = given & (np.arange(len(given)) >= n_known)
            parameters = [one for one, kept in zip(model.parameters, open_, strict=True) if kept]
            flags |= flag_posteriors(unit.numpy()[..., open_], parameters)
        beyond, unserved = flag_unserved(model, unit)
        flags |= beyond
        reasons = ["; ".join(filter(None, pair)) for pair in zip(reasons, unserved, strict=True)]
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        if reweighted is not None:
            quantiles = reweighted.quantiles
        elif closed_form:
            quantiles = outputs["posterior"].quantile(levels.float()).cpu().double()
        else:
            quantiles = torch.quantile(unit, levels, dim=1).movedim(0, 1)
        physical = model.prior.from_unit(quantiles).numpy()
        kept = model.prior.from_unit(unit[:, : self.n_samples]).float().numpy()
        physical[..., ~given] = np.nan
        kept[..., ~given] = np.nan
        maps: list[tuple[MapLayer, ...]] = [()] * len(ids)
        if self.maps:
            medians = {name: physical[:, 1, i] for i, name in enumerate(model.prior.names)}
            maps = object_maps(model.system, observation, outputs, medians)
        rows = []
        for i, name in enumerate(ids):
            own = {key: values[i] for key, values in columns.items()}
            if np.isfinite(physical[i][:, given]).all():
                samples = kept[i] if self.n_samples else None
                row = ResultRow(name, int(flags[i]), physical[i], samples, own, maps[i], reasons[i])
                rows.append(row)
            else:
                failed = int(flags[i]) | int(Flag.FAILED)
                excluded = reweighted is not None and not reweighted.effective[i]
                reason = (
                    "the prior asked for excludes it" if excluded else "posterior is not finite"
                )
                rows.append(ResultRow(name, failed, columns=own, reason=reason))
        return rows

    def _known(self, observation: Observation) -> dict[str, float]:
        """Known values: those of all objects, and those of this one."""
        return self.known | observation.header.get("known", {}).get(observation.ids[0], {})

    def _leading(self, known: Mapping[str, float]) -> Tensor | None:
        """Known values in the unit cube; refused beside a prior."""
        if known and self.prior is not None:
            raise MelotteValueError("a prior and known values do not go together; give one of them")
        return leading_values(self.model, known)

    def _reweighted(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> Reweighted | None:
        """Posteriors under the priors asked for, if any."""
        if self.prior is None:
            return None
        ids, posterior = observation.ids, outputs["posterior"]
        densities = self.prior.of_objects(observation)
        n = max(self.n_samples, REWEIGHTED_SAMPLES)
        levels = torch.tensor(LEVELS, dtype=torch.float64)
        if posterior.n_parameters == 1:
            return self.prior.on_grid(posterior, densities, ids, n, self.seed, levels)
        unit = draw_by_object(outputs, n, self.seed, ids).cpu().double()
        return self.prior.resample(unit, densities, ids, self.seed, levels)

    def _given(self, observation: Observation) -> NDArray[np.bool_]:
        """Which parameters the model gives for these objects; a system may withhold some."""
        withhold = getattr(self.model.system, "withheld", None)
        mask = None if withhold is None else withhold(observation, self.model.network)
        if mask is None:
            return np.ones(len(self.model.parameters), dtype=bool)
        return ~mask.cpu().numpy()

    def _columns(self, observation: Observation, outputs: Mapping[str, Any]) -> dict[str, Any]:
        describe = getattr(self.model.system, "result_columns", None)
        if describe is None:
            return {}
        own: Mapping[str, ResultColumn] = describe(observation, outputs)
        for name, column in own.items():
            self.described[name] = (column.unit, column.description)
        return {name: column.values for name, column in own.items()}


def _flags_of_reweighted(
    reweighted: Reweighted, parameters: Sequence[Parameter]
) -> NDArray[np.int64]:
    """Posterior flags from as many samples as are independent; none from too few."""
    flags = np.zeros(len(reweighted.unit), dtype=np.int64)
    for i, size in enumerate(reweighted.independent):
        if size >= FEW_SAMPLES:
            unit = reweighted.unit[i : i + 1, :size].numpy()
            flags[i] = flag_posteriors(unit, parameters)[0]
    return flags


def collected(
    rows: Sequence[ResultRow],
    maker: RowMaker,
    header: dict[str, Any],
    provenance: dict[str, Any],
) -> InferenceResult:
    """Rows as one result: NaN where an object failed or a column is not its own."""
    n_samples = maker.n_samples
    parameters = maker.model.parameters
    quantiles = np.full((len(rows), len(LEVELS), len(parameters)), np.nan)
    samples = np.full((len(rows), n_samples, len(parameters)), np.nan, dtype=np.float32)
    for i, row in enumerate(rows):
        if row.quantiles is not None:
            quantiles[i] = row.quantiles
        if row.samples is not None:
            samples[i] = row.samples
    names = dict.fromkeys([*maker.columns, *(name for row in rows for name in row.columns)])
    columns = {}
    for name in names:
        unit, description = maker.described.get(name, _COLUMNS.get(name, ("", "")))
        given = [row.columns.get(name) for row in rows]
        missing = "" if any(isinstance(one, str) for one in given) else np.nan
        values = np.array([missing if one is None else one for one in given])
        columns[name] = ResultColumn(values, unit, description)
    return InferenceResult(
        ids=tuple(row.id for row in rows),
        parameters=parameters,
        quantiles=quantiles,
        flags=np.array([row.flags for row in rows], dtype=np.int64),
        samples=samples if n_samples else None,
        columns=columns,
        maps=tuple(row.maps for row in rows) if maker.maps else (),
        reasons=_reasons(rows),
        header=header,
        provenance=provenance,
    )


def _reasons(rows: Sequence[ResultRow]) -> dict[str, str]:
    """Reasons by id; those of an id that several rows have are joined."""
    found: dict[str, dict[str, None]] = {}
    for row in rows:
        if row.reason:
            found.setdefault(row.id, {})[row.reason] = None
    return {name: "; ".join(reasons) for name, reasons in found.items()}
