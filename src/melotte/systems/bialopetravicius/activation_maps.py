"""Paper II's outputs: softmax grids with Gaussian targets, unfolded to a point around the peak."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from melotte.networks.grid import PEAK_BINS, GridPosterior


class ActivationMap(GridPosterior):
    """Activations over bins of one or more parameters; see :class:`GridPosterior`.

    References
    ----------
    Bialopetravičius & Narbutis 2020, Sect. 3.2.
    """

    def select(self, chosen: Tensor) -> ActivationMap:
        """Maps of some objects, by their int64 numbers."""
        return ActivationMap(self.log_mass[chosen], self.softness)

    def mode(self) -> Tensor:
        """The paper's estimate: the average of the bins around the highest, by activation.

        Bins count whose centres are within a radius of ``PEAK_BINS`` bin widths, which in a joint
        grid is a ball, not a box; shape (batch, n_parameters), unit cube.
        """
        mass = self.log_mass.exp()
        peak = torch.unravel_index(mass.flatten(1).argmax(1), self.bins)
        distance = torch.zeros_like(mass)
        for i, place in enumerate(peak):
            offset = torch.arange(self.bins[i], device=mass.device) - place[:, None]
            shape = [len(mass)] + [1] * self.n_parameters
            shape[1 + i] = self.bins[i]
            distance = distance + offset.view(shape) ** 2
        near = torch.where(distance <= PEAK_BINS**2, self.log_mass, -torch.inf)
        return GridPosterior(torch.log_softmax(near.flatten(1), 1).view_as(mass)).mean()

    def cross_entropy(self, u: Tensor, known: Tensor | None = None) -> Tensor:
        """Categorical cross-entropy with the soft targets (Eq. 4), whether or not in training.

        Parameters
        ----------
        u : Tensor, shape (batch, n_parameters)
            True values on the unit cube; beyond it they count to the bins at its faces.
        known : BoolTensor, shape (batch, n_parameters), optional
            The activations are summed over unknown parameters; without a known one it is 0.

        Returns
        -------
        Tensor, shape (batch,), >= 0
        """
        known = torch.ones_like(u, dtype=torch.bool) if known is None else known
        logs = u.new_tensor([math.log(n) for n in self.bins])
        # The grid's density takes soft targets with gradients only, and validation has none.
        with torch.enable_grad():
            density = self.log_prob_known(torch.where(known, u, 0.5).clamp(0, 1), known)
        return torch.where(known, logs, 0.0).sum(-1) - density
