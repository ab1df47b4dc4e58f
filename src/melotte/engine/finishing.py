"""What a trained network still needs before it is a model: domain check, metrics, calibration."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.engine.domain import DomainReference
from melotte.engine.evaluation import evaluate
from melotte.engine.mocks import batch_of_many
from melotte.engine.model_files import Model
from melotte.engine.network_outputs import run_network
from melotte.engine.random import Stream
from melotte.engine.settings import TrainingSettings

BATCH_SIZE = 256
METRIC_SEED = 1_000


def finish_model(model: Model, settings: TrainingSettings) -> Model:
    """Fit the domain check, then judge the model on fresh mocks and store what was found.

    Parameters
    ----------
    model : Model
    settings : TrainingSettings
        Says on how many mocks.

    Returns
    -------
    Model
        The same model, with ``reference``, ``metrics`` and ``calibration`` filled.
    """
    with_domain_reference(model, settings.reference_size)
    evaluation = evaluate(model, n=settings.metrics_size, seed=METRIC_SEED)
    model.metrics = evaluation.as_json()
    model.calibration = evaluation.calibration.as_json()
    return model


def with_domain_reference(model: Model, n: int, seed: int = 0) -> Model:
    """Fit the domain check on mocks of its own stream and store it in the model.

    Parameters
    ----------
    model : Model
    n : int
        Mocks; :meth:`DomainReference.fit` says which of them do what.
    seed : int

    Returns
    -------
    Model
        The same model, with ``reference`` filled.
    """
    summaries: list[Tensor] = []
    embeddings: list[Tensor] = []
    groups: list[Tensor] = []
    for number in range(-(-n // BATCH_SIZE)):
        batch = batch_of_many(model.system, n, number, seed, BATCH_SIZE, stream=Stream.REFERENCE)
        outputs = run_network(model, batch.observation)
        embeddings.append(outputs["embedding"].float().cpu())
        summaries.append(model.system.summaries(batch.observation)[0].cpu())
        groups.append(batch.group.cpu())
    fitted = DomainReference.fit(
        torch.cat(summaries), torch.cat(embeddings), seed, torch.cat(groups)
    )
    model.reference = fitted.tensors()
    return model
