"""Learning-rate schedules as plain functions of the step, so that a resumed run continues them."""

from __future__ import annotations

import math

from melotte.engine.settings import TrainingSettings


def learning_rate(settings: TrainingSettings, step: int, plateau_drops: int = 0) -> float:
    """Learning rate of an optimiser step.

    Parameters
    ----------
    settings : TrainingSettings
    step : int, 0 to ``settings.n_steps - 1``
    plateau_drops : int, >= 0
        How often the ``plateau`` schedule has lowered the rate.

    Returns
    -------
    float, > 0

    References
    ----------
    Cosine: Loshchilov & Hutter 2017, Eq. 5, without restarts.
    """
    peak = settings.learning_rate
    warmup = min(settings.warmup_batches, settings.n_steps // 2)
    if step < warmup:
        return peak * (step + 1) / (warmup + 1)
    if settings.schedule == "cosine":
        last = max(settings.n_steps - 1 - warmup, 1)
        fall = 0.5 * (1 + math.cos(math.pi * min(step - warmup, last) / last))
        return peak * (settings.final_rate_fraction + (1 - settings.final_rate_fraction) * fall)
    if settings.schedule == "exponential":
        last = max(settings.n_steps - 1 - warmup, 1)
        return peak * settings.final_rate_fraction ** (min(step - warmup, last) / last)
    if settings.schedule == "halving":
        return peak * 0.5 ** (step // settings.n_batches)
    if settings.schedule == "plateau":
        return peak * settings.plateau_factor**plateau_drops
    return peak


def ema_decay(settings: TrainingSettings, step: int) -> float:
    """Decay of the moving average of the weights at a step; low at first, so that it forgets."""
    return min(settings.ema_decay, (1 + step) / (10 + step))
