"""From simulated clusters to the stars that maps are made of."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.io.star_snapshots import StarSnapshot
from melotte.ragged import Ragged
from melotte.telescope.panstarrs import ColourRelation
from melotte.telescope.projected_stars import ProjectedStars


def projected_stars(
    snapshots: Sequence[StarSnapshot],
    bands: Sequence[Literal["V", "B"]] = ("V", "B"),
    device: torch.device | str = "cpu",
) -> ProjectedStars:
    """Stars of snapshots as they stand on the sky.

    Parameters
    ----------
    snapshots : sequence of StarSnapshot
        From :meth:`StarSnapshot.projected`: z is the line of sight. Velocities are 0 where the
        simulation gives none.
    bands : sequence of {"V", "B"}
    device : device

    Raises
    ------
    MelotteValueError
        When places or magnitudes of stars are unknown, or a band is not one of the two.
    """
    sets = []
    for snapshot in snapshots:
        if snapshot.position is None:
            raise MelotteValueError(
                "maps need the places of stars on the sky; call projected() of the snapshot first"
            )
        velocity = np.zeros(len(snapshot))
        if snapshot.velocity is not None:
            velocity = snapshot.velocity[:, 2]
        light = [10 ** (-0.4 * _magnitude(snapshot, band)) for band in bands]
        columns = [*snapshot.position[:, :2].T, *light, snapshot.mass, velocity]
        sets.append(torch.from_numpy(np.stack(columns, 1)).float())
    return ProjectedStars.of(Ragged.pack(sets).to(device))


def panstarrs_luminosities(luminosity: Tensor, relation: ColourRelation) -> Tensor:
    """Luminosities in Pan-STARRS g and r of stars of given ones in V and B.

    Parameters
    ----------
    luminosity : Tensor, shape (n_stars, 2)
        In V and B, in units of a star of absolute magnitude 0.
    relation : ColourRelation

    Returns
    -------
    Tensor, shape (n_stars, 2)
        In g and r (AB); 0 where V or B are.
    """
    v, b = (-2.5 * torch.log10(luminosity)).unbind(1)
    g, r = relation.panstarrs(b, v)
    found = torch.stack([10 ** (-0.4 * g), 10 ** (-0.4 * r)], 1)
    return torch.where((luminosity > 0).all(1, keepdim=True), found, 0.0)


def _magnitude(snapshot: StarSnapshot, band: str) -> np.ndarray:
    """Absolute magnitudes, all of them known."""
    columns = {"V": snapshot.magnitude_v, "B": snapshot.magnitude_b}
    if band not in columns:
        raise MelotteValueError(f"bands of snapshots are V and B, found {band!r}")
    unknown = int(np.isnan(columns[band]).sum())
    if unknown:
        raise MelotteValueError(
            f"{unknown} of {len(snapshot)} stars have no magnitude in {band}; fill them with "
            "melotte.sky.snapshot_photometry.with_photometry first"
        )
    return columns[band]
