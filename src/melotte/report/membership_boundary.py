"""Where in phase space a cluster's galaxies cease to be members, as its network has it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from melotte.ragged import Ragged
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.membership import member_probabilities

if TYPE_CHECKING:
    from torch import Tensor

    from melotte.engine.model_files import Model

Array = NDArray[np.float64]

N_RADII, N_SPEEDS = 16, 13
INNERMOST = 0.02
"""Smallest radius of a probe, in apertures."""
SMALLEST_CHANCE = 1e-6


@dataclass(frozen=True)
class MembershipBoundary:
    """Speed at which membership is as likely as not, against the projected radius.

    Parameters
    ----------
    radius : array, shape (n_radii,), Mpc/h, rising
    speed : array, shape (n_radii,), km/s
        The velocity cut where even galaxies there are members; 0 where even those at rest are not.
    """

    radius: Array
    speed: Array

    def at(self, radius: ArrayLike) -> Array:
        """Speed at any radii, between those of the boundary; its ends beyond them."""
        return np.interp(np.asarray(radius, dtype=float), self.radius, self.speed)


def membership_boundary(model: Model, observation: Observation) -> MembershipBoundary:
    """Ask the network of a further galaxy, one place in phase space after the other.

    Each probe is one galaxy added to the cluster's own list: the answer is about this cluster,
    which a single further galaxy hardly changes. Galaxies at the same radius and speed that come
    and go count equally. Between the speeds of the probes the logit is interpolated.

    Parameters
    ----------
    model : Model
        That gives memberships.
    observation : Observation
        One cluster.

    Returns
    -------
    MembershipBoundary
        At each radius the lowest speed beyond which membership is less likely than not; as the
        amplitude of a caustic it falls with radius where the mocks' members do, but it is a line
        of equal chance, not an escape velocity.
    """
    data: Any = observation.data
    aperture, cut = float(data["aperture"][0]), float(data["velocity_cut"][0])
    radius = aperture * np.linspace(INNERMOST, 1, N_RADII)
    speed = cut * np.linspace(0, 1, N_SPEEDS)
    signs = np.array([-1.0, 1.0])
    grid = np.stack(np.meshgrid(radius, speed, signs, indexing="ij"), -1).reshape(-1, 3)
    places = torch.tensor(np.stack([grid[:, 1] * grid[:, 2], grid[:, 0]], -1), dtype=torch.float32)
    chance = probe_memberships(model, observation, places).double().numpy()
    chance = chance.reshape(N_RADII, N_SPEEDS, 2).mean(-1).clip(SMALLEST_CHANCE, 1 - 1e-6)
    logit = np.log(chance / (1 - chance))
    return MembershipBoundary(radius, np.array([_crossing(speed, row) for row in logit]))


def probe_memberships(model: Model, observation: Observation, places: Tensor) -> Tensor:
    """Member probability of further galaxies, each alone added to the cluster.

    Parameters
    ----------
    model : Model
    observation : Observation
        One cluster.
    places : Tensor, shape (n_probes, 2)
        Velocity (km/s) and radius (Mpc/h). Probes have weight 1 and the cluster's median stellar
        mass.

    Returns
    -------
    Tensor, shape (n_probes,), float32 on the CPU
    """
    galaxies: Any = observation.data["galaxies"]
    own: Tensor = galaxies.values.cpu()
    n, n_probes = len(own), len(places)
    others = own[:, 2:].nanmedian(0).values.expand(n_probes, -1).clone()
    others[:, 0] = 1.0
    probes = torch.cat([places.to(own), others], -1)
    values = torch.cat([own.expand(n_probes, -1, -1), probes[:, None]], 1).flatten(0, 1)
    rows = torch.zeros(n_probes, dtype=torch.int64)
    # Other sets, such as the truth of mocks, do not hold the probe and are not read.
    context = {k: v.cpu() for k, v in observation.data.items() if not isinstance(v, Ragged)}
    repeated = Observation(context).select(rows)
    offsets = torch.arange(n_probes + 1) * (n + 1)
    added = Observation({**repeated.data, "galaxies": Ragged(values, offsets)})
    return member_probabilities(model, added).view(n_probes, n + 1)[:, -1]


def _crossing(speed: Array, logit: Array) -> float:
    """Lowest speed at which the logit falls below 0."""
    below = np.flatnonzero(logit < 0)
    if not len(below):
        return float(speed[-1])
    k = int(below[0])
    if k == 0:
        return 0.0
    share = logit[k - 1] / (logit[k - 1] - logit[k])
    return float(speed[k - 1] + share * (speed[k] - speed[k - 1]))
