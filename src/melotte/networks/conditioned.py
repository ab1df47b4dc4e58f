"""Autoregressive posteriors at known values of the leading parameters."""

from __future__ import annotations

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.networks.autoregressive import AutoregressivePosterior
from melotte.networks.posteriors import ROWS_AT_ONCE, UnitPosterior


class ConditionedPosterior(UnitPosterior):
    """Posterior of the later parameters of an order, at given values of the first.

    ``p(u_k, ..., u_n | u_<k, features)`` is the product of the later conditional densities, so
    both densities and samples are exact, and cost what those of the whole posterior do. A cluster
    of known extinction is an example, where extinction is first in the order.

    Parameters
    ----------
    posterior : AutoregressivePosterior
    leading : Tensor, shape (batch, n_leading) or (n_leading,), unit cube
        Values of the first parameters, at least one and not all of them. A face of the cube is
        taken as 1e-6 inside it, as in every density.

    Raises
    ------
    MelotteValueError
        When the shape does not fit, or a value is outside the cube or NaN.
    """

    def __init__(self, posterior: AutoregressivePosterior, leading: Tensor) -> None:
        batch, n = len(posterior), posterior.n_parameters
        leading = leading.to(posterior.device, torch.float32)
        if leading.ndim == 1:
            leading = leading.expand(batch, -1)
        if leading.ndim != 2 or len(leading) != batch or not 0 < leading.shape[1] < n:
            raise MelotteValueError(
                f"leading values {tuple(leading.shape)}: needs ({batch}, k) with 1 <= k < {n}"
            )
        if not bool(((leading >= 0) & (leading <= 1)).all()):
            raise MelotteValueError("leading values must lie in the unit cube, from 0 to 1")
        self.whole, self.leading = posterior, leading

    @property
    def n_parameters(self) -> int:
        """Number of parameters that are left."""
        return self.whole.n_parameters - self.leading.shape[1]

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self.whole.device

    def __len__(self) -> int:
        return len(self.whole)

    def select(self, chosen: Tensor) -> ConditionedPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return ConditionedPosterior(self.whole.select(chosen), self.leading[chosen])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density at ``u`` (batch, n_parameters); exact, ``-inf`` outside the cube."""
        whole = self.whole.log_prob(torch.cat([self.leading, u.float()], 1))
        return whole - self._log_prob_leading()

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters; exact where these are the first of those left."""
        known_all = torch.cat([torch.ones_like(self.leading, dtype=torch.bool), known], 1)
        whole = self.whole.log_prob_known(torch.cat([self.leading, u.float()], 1), known_all)
        return whole - self._log_prob_leading()

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples (batch, n, n_parameters); no gradient passes through them."""
        family, k = self.whole._head.family, self.leading.shape[1]
        size = max(1, ROWS_AT_ONCE // max(n, 1))
        values = self.leading[:, None].expand(-1, n, -1)
        with torch.no_grad(), torch.autocast(self.device.type, enabled=False):
            for i in range(k, self.whole.n_parameters):
                shape = (family.n_uniform, len(self), n)
                uniform = torch.rand(shape, generator=generator, device=self.device)
                drawn = values.new_empty(len(self), n)
                for first in range(0, len(self), size):
                    part = slice(first, first + size)
                    settings = self.whole._settings(i, values[part], part)
                    drawn[part] = family.draw(settings, uniform[:, part])
                values = torch.cat([values, drawn[..., None]], -1)
        return values[..., k:]

    def _log_prob_leading(self) -> Tensor:
        n_left = self.n_parameters
        filled = torch.nn.functional.pad(self.leading, (0, n_left), value=0.5)
        known = torch.ones_like(filled, dtype=torch.bool)
        known[:, -n_left:] = False
        return self.whole.log_prob_known(filled, known)


class GivenPosterior(UnitPosterior):
    """All parameters of an autoregressive posterior, the first at given values.

    What :class:`ConditionedPosterior` leaves out, this has: the given values, without any spread.

    Parameters
    ----------
    posterior : AutoregressivePosterior
    leading : Tensor, shape (batch, n_leading) or (n_leading,), unit cube
    """

    def __init__(self, posterior: AutoregressivePosterior, leading: Tensor) -> None:
        self._left = ConditionedPosterior(posterior, leading)
        self._leading = self._left.leading

    @property
    def n_parameters(self) -> int:
        """Number of parameters, the given ones included."""
        return self._left.n_parameters + self._leading.shape[1]

    @property
    def device(self) -> torch.device:
        """Where samples are drawn."""
        return self._left.device

    def __len__(self) -> int:
        return len(self._left)

    def select(self, chosen: Tensor) -> GivenPosterior:
        """Posteriors of some objects, by their int64 numbers."""
        return GivenPosterior(self._left.whole.select(chosen), self._leading[chosen])

    def log_prob(self, u: Tensor) -> Tensor:
        """Log density of the parameters that are left; the given ones are not looked at."""
        return self._left.log_prob(u[:, self._leading.shape[1] :])

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        """Log density of the known parameters of those that are left."""
        k = self._leading.shape[1]
        return self._left.log_prob_known(u[:, k:], known[:, k:])

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """Draw samples (batch, n, n_parameters)."""
        drawn = self._left.sample(n, generator)
        return torch.cat([self._leading[:, None].expand(-1, n, -1), drawn], -1)
