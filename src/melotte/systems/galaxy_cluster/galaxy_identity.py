"""Which galaxies of a user's table an observation holds: their names and positions.

Networks do not read them. They stand among an observation's data, a set for each cluster in step
with its galaxies, so that whatever selects clusters or changes their order keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.io.galaxy_lists import GalaxyList
from melotte.ragged import Ragged
from melotte.systems.base import Field, Observation

NAMES, POSITIONS = "galaxy_names", "galaxy_positions"


@dataclass(frozen=True)
class GalaxyIdentity:
    """Names and positions of one cluster's galaxies, in their order.

    Parameters
    ----------
    name : array of str, shape (n_galaxies,)
        Empty where the table has none.
    ra, dec : array, shape (n_galaxies,), deg
        NaN where the table has none.
    """

    name: NDArray[np.str_]
    ra: NDArray[np.float64]
    dec: NDArray[np.float64]

    @classmethod
    def unknown(cls, n: int) -> GalaxyIdentity:
        """Of n galaxies of which nothing is told."""
        return cls(np.full(n, "", dtype="U1"), np.full(n, np.nan), np.full(n, np.nan))


def identity_fields(lists: Sequence[GalaxyList]) -> dict[str, Field]:
    """Data of an observation that say which galaxies its clusters hold.

    Parameters
    ----------
    lists : sequence of GalaxyList
        One a cluster, not empty.

    Returns
    -------
    dict
        ``galaxy_positions``: Ragged (n_galaxies, 2) float64, deg; ``galaxy_names``: Ragged
        (n_galaxies, width) uint8, UTF-8 filled up with zeros. What no table gives is left out.
    """
    found: dict[str, Field] = {}
    positions = [np.stack([one.ra, one.dec], axis=1, dtype=np.float64) for one in lists]
    if any(np.isfinite(one).any() for one in positions):
        found[POSITIONS] = Ragged.pack([torch.from_numpy(one) for one in positions])
    names = np.concatenate([one.name.astype(str) for one in lists])
    if (names != "").any():
        encoded = np.char.encode(names, "utf-8")
        letters = encoded.view(np.uint8).reshape(len(names), -1).copy()
        parts = torch.from_numpy(letters).split([one.n_galaxies for one in lists])
        found[NAMES] = Ragged.pack(parts)
    return found


def galaxy_identity(observation: Observation, i: int) -> GalaxyIdentity:
    """Which galaxies one cluster of an observation holds.

    Parameters
    ----------
    observation : Observation
    i : int
        The cluster's number in the batch.

    Returns
    -------
    GalaxyIdentity
        All unknown for mocks, and for observations that were read without it.
    """
    data: Any = observation.data
    unknown = GalaxyIdentity.unknown(len(data["galaxies"][i]))
    name, ra, dec = unknown.name, unknown.ra, unknown.dec
    if NAMES in data:
        letters = np.ascontiguousarray(data[NAMES][i].cpu().numpy())
        encoded = letters.view(f"S{letters.shape[1]}")[:, 0]
        name = np.char.decode(encoded, "utf-8")
    if POSITIONS in data:
        ra, dec = data[POSITIONS][i].cpu().numpy().T
    return GalaxyIdentity(name, ra, dec)
