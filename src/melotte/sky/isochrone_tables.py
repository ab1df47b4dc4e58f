"""Interpolation in tabulated isochrones: stars of given mass, age and metallicity, batched.

Isochrones of neighbouring ages and metallicities are interpolated linearly at fixed equivalent
evolutionary point (EEP), then along initial mass (Dotter 2016, ApJS 222, 8, Sect. 2).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag

from melotte.errors import MelotteValueError
from melotte.sky.stars import DEAD, Stars

SHARED_FROM = 300
"""Stars per cluster from which building its isochrone is cheaper than searching star by star."""

FAINT_SLOPE = 2.0
"""d log L / d log M below the lowest mass of an isochrone."""

SOLAR_LOG_TEFF = 3.7613526
SOLAR_LOG_G = 4.4380676
_SNAP = 1e-5
_MASS_ROUNDING = 1.2e-7


@dataclass(frozen=True)
class IsochroneTable:
    """Isochrones on a grid of metallicity and age, over EEPs.

    Before its first EEP and after its last a node repeats its end values.

    Parameters
    ----------
    metallicity : Tensor of float64, shape (n_metallicities,), [Fe/H], rises
    log_age : Tensor of float64, shape (n_ages,), log10(age / yr), rises
    initial_mass : Tensor, shape (n_metallicities * n_ages, n_eeps), Msun, never falls
    state : Tensor, shape (n_metallicities * n_ages, n_eeps, 3 + n_bands)
        Current over initial mass, log10(L / Lsun), log10(Teff / K), native magnitudes.
    last : Tensor of int64, shape (n_metallicities * n_ages,)
        Index of the last EEP of each node.
    first_eep : int
        EEP of index 0.
    phase_starts : Tensor, shape (n_phases - 1,)
        EEPs at which the second and later phases start.
    phases : Tensor of int8, shape (n_phases,)
    """

    metallicity: Tensor
    log_age: Tensor
    initial_mass: Tensor
    state: Tensor
    last: Tensor
    first_eep: int
    phase_starts: Tensor
    phases: Tensor

    @property
    def n_eeps(self) -> int:
        """Number of tabulated points of an isochrone."""
        return self.initial_mass.shape[1]

    def to(self, device: torch.device | str) -> IsochroneTable:
        """The same table on another device."""
        return replace(
            self,
            **{
                name: value.to(device)
                for name, value in vars(self).items()
                if isinstance(value, Tensor)
            },
        )

    def corners(self, log_age: Tensor, metallicity: Tensor) -> tuple[Tensor, Tensor]:
        """The four nodes around an age and a metallicity, and their weights.

        Parameters
        ----------
        log_age, metallicity : Tensor, shape (n,)

        Returns
        -------
        nodes : Tensor of int64, shape (4, n)
            A node without weight is replaced by one with.
        weights : Tensor of float64, shape (4, n)

        Raises
        ------
        MelotteValueError
            When a value is outside the table or NaN.
        """
        low_z, high_z, part_z = _bracket(metallicity, self.metallicity, "metallicity [Fe/H]")
        low_t, high_t, part_t = _bracket(log_age, self.log_age, "log_age")
        n_ages = len(self.log_age)
        nodes = torch.stack(
            [
                low_z * n_ages + low_t,
                low_z * n_ages + high_t,
                high_z * n_ages + low_t,
                high_z * n_ages + high_t,
            ]
        )
        weights = torch.stack(
            [
                (1 - part_z) * (1 - part_t),
                (1 - part_z) * part_t,
                part_z * (1 - part_t),
                part_z * part_t,
            ]
        )
        return nodes, weights

    def isochrones(self, log_age: Tensor, metallicity: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Whole isochrones.

        Parameters
        ----------
        log_age, metallicity : Tensor, shape (n,)

        Returns
        -------
        initial_mass : Tensor of float64, shape (n, n_eeps), Msun
        state : Tensor, shape (n, n_eeps, 3 + n_bands)
        last : Tensor of int64, shape (n,)
            Index of the tip: the last EEP that all nodes have.
        """
        nodes, weights = self.corners(log_age, metallicity)
        mass = torch.zeros(len(log_age), self.n_eeps, dtype=torch.float64, device=nodes.device)
        state = torch.zeros(len(log_age), *self.state.shape[1:], device=nodes.device)
        for node, weight in zip(nodes, weights, strict=True):
            mass += weight[:, None] * self.initial_mass[node]
            state += weight[:, None, None].to(state.dtype) * self.state[node]
        return mass, state, self.last[nodes].amin(0)

    def mass_range(self, log_age: Tensor, metallicity: Tensor) -> tuple[Tensor, Tensor]:
        """Lowest and tip initial mass, Msun, float64, shape (n,) each."""
        nodes, weights = self.corners(log_age, metallicity)
        tip = self.last[nodes].amin(0)
        lowest = (self.initial_mass[nodes, 0] * weights).sum(0)
        return lowest, (self.initial_mass[nodes, tip.expand_as(nodes)] * weights).sum(0)

    def evolve(self, initial_mass: Tensor, log_age: Tensor, metallicity: Tensor) -> Stars:
        """States of stars.

        Parameters
        ----------
        initial_mass : Tensor, shape (..., n_stars), Msun, > 0
        log_age, metallicity : Tensor, shape (..., 1) or (..., n_stars)

        Returns
        -------
        Stars, of the dtype of ``initial_mass``
        """
        shape = torch.broadcast_shapes(initial_mass.shape, log_age.shape, metallicity.shape)
        initial_mass = initial_mass.expand(shape)
        shared = max(_last_size(log_age), _last_size(metallicity)) == 1
        if shared and shape and shape[-1] >= SHARED_FROM:
            stars = self._evolve_shared(initial_mass, log_age, metallicity)
        else:
            stars = self._evolve_each(
                initial_mass.reshape(-1),
                log_age.expand(shape).reshape(-1),
                metallicity.expand(shape).reshape(-1),
            )
        return stars.reshape(*shape)

    def _evolve_shared(self, initial_mass: Tensor, log_age: Tensor, metallicity: Tensor) -> Stars:
        """Many stars of each cluster: build the clusters' isochrones, then search them."""
        batch = initial_mass.shape[:-1]
        mass = initial_mass.reshape(-1, initial_mass.shape[-1]).double().contiguous()
        ages = log_age.expand(*batch, 1).reshape(-1)
        masses, state, last = self.isochrones(ages, metallicity.expand(*batch, 1).reshape(-1))
        tip = masses.gather(1, last[:, None])
        beyond = torch.arange(self.n_eeps, device=last.device) > last[:, None]
        right = torch.searchsorted(masses.masked_fill(beyond, torch.inf), mass, right=True)
        # The tip itself belongs to the last interval.
        left = torch.minimum((right - 1).clamp(min=0), (last[:, None] - 1).clamp(min=0))
        row = left + self.n_eeps * torch.arange(len(mass), device=left.device)[:, None]
        flat = masses.reshape(-1)
        below, above = flat[row], flat[row + 1]
        part = _fraction(mass, below, above).reshape(-1)
        rows = torch.stack([row.reshape(-1), row.reshape(-1) + 1], 1)
        weights = torch.stack([1 - part, part], 1)
        found = _weighted_rows(state.reshape(-1, state.shape[-1]), rows, weights)
        lowest = masses[:, :1].expand_as(mass).reshape(-1)
        tip = tip.expand_as(mass).reshape(-1)
        return self._stars(mass.reshape(-1), found, left.reshape(-1), lowest, tip, initial_mass)

    def _evolve_each(self, initial_mass: Tensor, log_age: Tensor, metallicity: Tensor) -> Stars:
        """Every star with its own age and metallicity: bisect in EEP, star by star."""
        nodes, weights = self.corners(log_age, metallicity)
        mass = initial_mass.double()
        start = nodes * self.n_eeps
        flat = self.initial_mass.reshape(-1)

        def mass_at(eep: Tensor) -> Tensor:
            return (torch.take(flat, start + eep) * weights).sum(0)

        last = self.last[nodes].amin(0)
        low, high = torch.zeros_like(last), last
        # Invariant: mass_at(low) <= mass < mass_at(high), but for masses outside the isochrone.
        for _ in range(int(self.n_eeps).bit_length()):
            middle = (low + high) // 2
            heavier = mass_at(middle) > mass
            high = torch.where(heavier, middle, high)
            low = torch.where(heavier, low, middle)
        left = torch.minimum(low, (last - 1).clamp(min=0))
        part = _fraction(mass, mass_at(left), mass_at(left + 1))
        rows = torch.cat([start + left, start + left + 1]).T.contiguous()
        bag_weights = torch.cat([weights * (1 - part), weights * part]).T
        found = _weighted_rows(self.state.reshape(-1, self.state.shape[-1]), rows, bag_weights)
        lowest, tip = mass_at(torch.zeros_like(last)), mass_at(last)
        return self._stars(mass, found, left, lowest, tip, initial_mass)

    def _stars(
        self,
        mass: Tensor,
        state: Tensor,
        index: Tensor,
        lowest: Tensor,
        tip: Tensor,
        like: Tensor,
    ) -> Stars:
        alive = mass <= tip * (1 + _MASS_ROUNDING)
        dtype = like.dtype
        state = state.to(dtype)
        deficit = torch.log10((mass / lowest).clamp(max=1.0)).to(dtype)
        log_luminosity = state[:, 1] + FAINT_SLOPE * deficit
        log_teff = state[:, 2].contiguous()
        current_mass = state[:, 0] * mass.to(dtype)
        log_g = log_gravity(current_mass, log_luminosity, log_teff)
        phase = self.phases[torch.bucketize(index + self.first_eep, self.phase_starts, right=True)]
        native = None
        if state.shape[1] > 3:
            faded = state[:, 3:] - 2.5 * FAINT_SLOPE * deficit[:, None]
            native = torch.where(alive[:, None], faded, torch.inf)
        return Stars(
            torch.where(alive, log_luminosity, -torch.inf),
            log_teff,
            log_g,
            torch.where(alive, current_mass, 0.0),
            torch.where(alive, phase, phase.new_tensor(DEAD)),
            alive,
            native,
        )


def log_gravity(mass: Tensor, log_luminosity: Tensor, log_teff: Tensor) -> Tensor:
    """Surface gravity, log10(g / (cm / s^2)), from mass in Msun, log10(L / Lsun), log10(Teff / K).

    The nominal Sun, 5772 K, has 4.4381 (Prsa et al. 2016, AJ 152, 41).
    """
    return SOLAR_LOG_G + torch.log10(mass) + 4 * (log_teff - SOLAR_LOG_TEFF) - log_luminosity


def _bracket(value: Tensor, nodes: Tensor, name: str) -> tuple[Tensor, Tensor, Tensor]:
    """Indices of the nodes below and above, and the fraction of the way between, float64."""
    value = value.double()
    low, high = float(nodes[0]), float(nodes[-1])
    inside = (value >= low - 1e-4) & (value <= high + 1e-4)
    if not bool(inside.all()):
        culprit = float(value[~inside][0])
        allowed = f"[{low:g}, {high:g}]" if high > low else f"{low:g} only"
        raise MelotteValueError(f"{name} {culprit:g} is outside the isochrones' range, {allowed}")
    if len(nodes) == 1:
        zero = torch.zeros_like(value, dtype=torch.int64)
        return zero, zero, torch.zeros_like(value)
    left = torch.searchsorted(nodes, value.contiguous(), right=True) - 1
    left = left.clamp(0, len(nodes) - 2)
    part = ((value - nodes[left]) / (nodes[left + 1] - nodes[left])).clamp(0, 1)
    part = torch.where(part < _SNAP, 0.0, torch.where(part > 1 - _SNAP, 1.0, part))
    return (
        torch.where(part < 1, left, left + 1),
        torch.where(part > 0, left + 1, left),
        part,
    )


def _fraction(mass: Tensor, below: Tensor, above: Tensor) -> Tensor:
    """How far a mass is from ``below`` to ``above``, in [0, 1]; 1 where the two are equal."""
    width = above - below
    part = (mass - below) / torch.where(width > 0, width, 1.0)
    return torch.where(width > 0, part.clamp(0, 1), 1.0)


def _weighted_rows(table: Tensor, rows: Tensor, weights: Tensor) -> Tensor:
    """Sum of rows of ``table`` (n, c): rows and weights (m, k) give (m, c)."""
    return embedding_bag(rows, table, mode="sum", per_sample_weights=weights.to(table.dtype))


def _last_size(tensor: Tensor) -> int:
    return tensor.shape[-1] if tensor.ndim else 1
