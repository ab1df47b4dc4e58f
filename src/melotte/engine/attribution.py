"""What in an observation moved the posterior: attributions of every element, pixel or feature.

Integrated gradients share the difference between the prediction for the observation and that for
a featureless one among the entries of the network's input. Occlusion takes single elements out
of a set (a star, a galaxy) and looks what changes. Both work with any system. An attribution
says what the *network* used; :func:`untrained_copy` gives the control that must show nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike
from scipy import stats
from torch import Tensor

from melotte.engine.network_outputs import device_of
from melotte.engine.random import keyed_generator, seeded_globally
from melotte.errors import MelotteValueError
from melotte.networks.posteriors import UnitPosterior
from melotte.ragged import Ragged
from melotte.systems.base import Field, Observation

if TYPE_CHECKING:
    from melotte.engine.model_files import Model

Predictor = Callable[[Mapping[str, Field]], Tensor]

LARGEST_BATCH_ELEMENTS = 65536
MEAN_SAMPLES = 2000
GRADIENT_SAMPLES = 256
_CONTROL_KEY, _COMMON_KEY, _GRADIENT_KEY = 20, 21, 22


@dataclass(frozen=True)
class Attribution:
    """Attributions of a batch of observations to one parameter.

    Parameters
    ----------
    parameter : str
    values : dict of str to Tensor or Ragged
        Same names and shapes as the network's input; in the parameter's unit (sums over an
        object's entries add up to ``prediction - baseline``).
    prediction, baseline : Tensor, shape (batch,)
        Posterior mean of the observation and of the featureless input, the parameter's unit (the
        mean in the unit cube, mapped to physical values).
    residual : Tensor, shape (batch,)
        ``prediction - baseline`` less the sum of all attributions: the error of the integration
        and, for heads whose mean has no closed form, of sampling.
    """

    parameter: str
    values: Mapping[str, Field]
    prediction: Tensor
    baseline: Tensor
    residual: Tensor


def attribute(
    model: Model,
    observation: Observation,
    parameter: str,
    steps: int = 64,
    baseline: Mapping[str, Field] | None = None,
) -> Attribution:
    """Integrated gradients of the posterior mean with respect to the network's input.

    Parameters
    ----------
    model : Model
    observation : Observation
        A batch; every object is explained by itself.
    parameter : str
    steps : int, > 0
        Points of the midpoint rule along the straight path from baseline to input.
    baseline : mapping, optional
        Featureless input, shaped like the network's. By default zeros, which after preparation
        stand for the mean of the mocks; sets keep their sizes.

    Returns
    -------
    Attribution

    Raises
    ------
    MelotteValueError
        When the parameter is unknown, the baseline does not fit or the posterior's mean has no
        gradient.

    References
    ----------
    Sundararajan, Taly & Yan 2017, arXiv:1703.01365, Eqs. 1 and 3.
    """
    number = _number_of(model, parameter)
    if steps < 1:
        raise MelotteValueError(f"steps {steps} must be at least 1")
    inputs = _prepared(model, observation)
    start = _zeros(inputs) if baseline is None else baseline
    _check_alike(inputs, start)
    predict = _predictor(model, number)
    total = {name: torch.zeros_like(_values(field)) for name, field in inputs.items()}
    for k in range(steps):
        weight = (k + 0.5) / steps
        points = {
            name: torch.lerp(_values(start[name]), _values(field), weight).requires_grad_()
            for name, field in inputs.items()
            if _values(field).is_floating_point()
        }
        placed = {
            name: _like(field, points[name]) if name in points else field
            for name, field in inputs.items()
        }
        with torch.enable_grad():
            mean = _predictor(model, number, gradient_key=k)(placed)
            if not mean.requires_grad:
                raise MelotteValueError(
                    f"the posterior mean of model {model.name} has no gradient; use occlude"
                )
            gradients = torch.autograd.grad(mean.sum(), list(points.values()), allow_unused=True)
        for name, gradient in zip(points, gradients, strict=True):
            if gradient is not None:
                total[name] += gradient / steps
    values: dict[str, Field] = {}
    for name, field in inputs.items():
        path = (_values(field) - _values(start[name])).to(total[name].dtype)
        values[name] = _like(field, total[name] * path)
    with torch.no_grad():
        prediction, origin = predict(inputs), predict(start)
    shared = torch.stack([sums_by_object(field) for field in values.values()]).sum(0)
    return Attribution(parameter, values, prediction, origin, prediction - origin - shared)


def occlude(model: Model, observation: Observation, parameter: str, field: str) -> Tensor:
    """How the posterior mean moves when a single element is taken out of a set.

    The element is removed from the observation itself, so everything that preparation derives
    from the set is made anew.

    Parameters
    ----------
    model : Model
    observation : Observation
        One object.
    parameter : str
    field : str
        Name of the set in ``observation.data``.

    Returns
    -------
    Tensor, shape (n_elements,), the parameter's unit
        Prediction with the element less that without it; NaN for a set of one.

    Raises
    ------
    MelotteValueError
        When the parameter or the field is unknown, the field is no set or there is more than one
        object.
    """
    number = _number_of(model, parameter)
    elements = observation.data.get(field)
    if len(observation) != 1 or not isinstance(elements, Ragged):
        sets = [name for name, one in observation.data.items() if isinstance(one, Ragged)]
        raise MelotteValueError(
            f"occlusion needs one object and the name of a set; found {len(observation)} objects "
            f"and {field!r}; sets: {', '.join(sets) or 'none'}"
        )
    n = len(elements.values)
    predict = _predictor(model, number)
    if n < 2:
        return torch.full((n,), torch.nan)
    observation = observation.to(device_of(model))
    with torch.no_grad():
        whole = predict(_prepared(model, observation))[0]
        parts = []
        for removed in torch.arange(n).split(max(LARGEST_BATCH_ELEMENTS // n, 1)):
            removed = removed.to(whole.device)
            repeated = observation.select(torch.zeros_like(removed))
            sets = repeated.data[field]
            assert isinstance(sets, Ragged)
            keep = torch.ones(len(sets.values), dtype=torch.bool, device=whole.device)
            keep[sets.offsets[:-1] + removed] = False
            lacking = replace(repeated, data={**repeated.data, field: sets.where(keep)})
            parts.append(predict(_prepared(model, lacking)))
    return whole - torch.cat(parts)


def untrained_copy(model: Model, seed: int = 0) -> Model:
    """The same model with fresh random weights: the control of an attribution.

    An explanation that looks the same for it says nothing of what was learnt.

    References
    ----------
    Adebayo et al. 2018, arXiv:1810.03292 (the model-parameter randomisation test).
    """
    with seeded_globally(seed, _CONTROL_KEY):
        network = model.system.network(model.constants)
    return replace(model, network=network.to(device_of(model)).eval())


def rank_agreement(first: ArrayLike | Tensor, second: ArrayLike | Tensor) -> float:
    """Spearman's rank correlation of two attributions of the same entries, -1 to 1.

    NaN where either is constant.
    """
    one, other = (torch.as_tensor(values).detach().cpu().flatten() for values in (first, second))
    if len(one) < 2 or bool((one == one[0]).all()) or bool((other == other[0]).all()):
        return float("nan")
    ranks = [stats.rankdata(values.double().numpy()) for values in (one, other)]
    return float(np.corrcoef(*ranks)[0, 1])


def sums_by_object(field: Field) -> Tensor:
    """Sum of all entries of each object of a batch, shape (batch,)."""
    if not isinstance(field, Ragged):
        return field.flatten(1).sum(1) if field.ndim > 1 else field
    each = field.values.flatten(1).sum(1) if field.values.ndim > 1 else field.values
    return torch.zeros(field.n_sets, dtype=each.dtype, device=each.device).index_add(
        0, field.index, each
    )


def _number_of(model: Model, parameter: str) -> int:
    names = [one.name for one in model.parameters]
    if parameter not in names:
        raise MelotteValueError(f"parameter {parameter!r} is unknown; known: {', '.join(names)}")
    return names.index(parameter)


def _prepared(model: Model, observation: Observation) -> dict[str, Field]:
    return model.system.prepare(observation.to(device_of(model)), model.constants)


def _predictor(model: Model, number: int, gradient_key: int | None = None) -> Predictor:
    """Posterior mean of one parameter (the mean in the unit cube, in physical units), (batch,).

    Heads without a closed mean are sampled. Every object gets the same random numbers, so that
    small differences between objects are not buried; with a ``gradient_key``, each call its own,
    so that the noise of gradients averages out.
    """

    def predict(inputs: Mapping[str, Field]) -> Tensor:
        outputs: Mapping[str, Any] = model.network(inputs)
        posterior = outputs["posterior"]
        if getattr(type(posterior), "mean", None) is not UnitPosterior.mean:
            mean = posterior.mean()
        elif gradient_key is None:
            mean = _common_mean(posterior, outputs["embedding"].device)
        else:
            mean = _differentiable_mean(posterior, gradient_key, outputs["embedding"].device)
        return model.prior.from_unit(mean)[:, number]

    model.network.eval()
    return predict


def _common_mean(posterior: UnitPosterior, device: torch.device) -> Tensor:
    means = []
    for i in range(len(posterior)):
        one = posterior.select(torch.tensor([i], device=device))
        generator = keyed_generator(0, _COMMON_KEY, device=device)
        means.append(one.sample(MEAN_SAMPLES, generator).mean(1))
    return torch.cat(means)


def _differentiable_mean(posterior: UnitPosterior, key: int, device: torch.device) -> Tensor:
    """Mean of samples whose gradient is that of the true mean, by importance weights.

    The weights are all equal, but their gradient is the score of each sample (the likelihood
    ratio gradient, Glynn 1990), less its mean, which lowers the variance.
    """
    n = len(posterior)
    with torch.no_grad():
        generator = keyed_generator(0, _GRADIENT_KEY, key, device=device)
        drawn = posterior.sample(GRADIENT_SAMPLES, generator)
    rows = torch.arange(n, device=device).repeat_interleave(GRADIENT_SAMPLES)
    log_prob = posterior.select(rows).log_prob(drawn.flatten(0, 1)).view(n, GRADIENT_SAMPLES)
    weights = torch.softmax(log_prob - log_prob.detach(), 1)
    return (weights[..., None] * drawn).sum(1)


def _values(field: Field) -> Tensor:
    return field.values if isinstance(field, Ragged) else field


def _like(field: Field, values: Tensor) -> Field:
    return Ragged(values, field.offsets) if isinstance(field, Ragged) else values


def _zeros(inputs: Mapping[str, Field]) -> dict[str, Field]:
    """Zeros in place of numbers; whole numbers (classes, counts) stay."""
    return {
        name: _like(field, torch.zeros_like(_values(field)))
        if _values(field).is_floating_point()
        else field
        for name, field in inputs.items()
    }


def _check_alike(inputs: Mapping[str, Field], baseline: Mapping[str, Field]) -> None:
    wanted = {name: tuple(_values(field).shape) for name, field in inputs.items()}
    found = {name: tuple(_values(field).shape) for name, field in baseline.items()}
    if wanted != found:
        raise MelotteValueError(f"the baseline has shapes {found}; the network's input {wanted}")
