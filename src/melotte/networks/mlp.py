"""Small multilayer perceptrons that heads share."""

from __future__ import annotations

from torch import nn


def perceptron(n_in: int, hidden: int, n_out: int) -> nn.Sequential:
    """Two hidden layers with GELU between.

    Parameters
    ----------
    n_in, hidden, n_out : int

    Returns
    -------
    nn.Sequential
        Maps (..., n_in) to (..., n_out).
    """
    return nn.Sequential(
        nn.Linear(n_in, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, n_out),
    )
