"""Mock galaxy clusters as a redshift survey records them.

:meth:`GalaxyClusterSimulator.draw` draws haloes with their galaxies in phase space;
:meth:`GalaxyClusterSimulator.observe` looks at them from a random direction through the haloes
around them. Galaxies of all clusters lie end to end, so nothing is padded.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from melotte.parameters import Prior
from melotte.ragged import Ragged, offsets_of
from melotte.sky.halo_occupation import HaloOccupation
from melotte.sky.halo_statistics import LOG_MASSES, HaloStatistics
from melotte.sky.interlopers import Surroundings
from melotte.sky.phase_space import Dynamics, Haloes, PhaseSpace, random_rotations
from melotte.systems.galaxy_cluster.settings import APERTURES, DataSettings
from melotte.telescope.redshifts import (
    angular_separation,
    fibre_collisions,
    magnitude_limited_mass,
    measured_velocity,
    radial_completeness,
    recentred_velocity,
    relativistic_sum,
)

COLUMNS = ("velocity", "radius", "log_stellar_mass", "is_member", "completeness")
"""Columns of a galaxy: km/s in the cluster's frame, Mpc/h, log10(Msun), 1 or 0 (truth), and the
chance, 0 to 1, that one at its place has a redshift."""

CHUNK = 512
"""Clusters that are made at once: more need more memory and are no faster."""

MOST_TRIALS = 200
"""Lines of sight tried until a halo shows enough galaxies."""


@dataclass(frozen=True)
class ClusterHalos:
    """Hidden state of a batch of clusters; tensors of shape (batch,).

    ``theta`` (batch, 1) is log10(M200c/(Msun/h)); ``aperture`` in Mpc/h and ``velocity_cut`` in
    km/s are the cylinder; ``log_stellar_mass_limit`` includes the magnitude limit; the other
    fields are named as in :class:`~melotte.systems.galaxy_cluster.settings.DataSettings`.
    ``haloes`` is their structure, and ``galaxies`` (n_galaxies, 7) their galaxies: position
    (comoving Mpc/h) and velocity (km/s) along the principal axes, log10(stellar mass/Msun).
    """

    theta: Tensor
    redshift: Tensor
    aperture: Tensor
    velocity_cut: Tensor
    log_stellar_mass_limit: Tensor
    completeness: Tensor
    completeness_gradient: Tensor
    redshift_error: Tensor
    interloper_density: Tensor
    haloes: Haloes
    galaxies: Ragged

    def __len__(self) -> int:
        return len(self.theta)

    def select(self, chosen: Tensor) -> ClusterHalos:
        """Some of the clusters, in the order of ``chosen`` (int64 numbers)."""
        values: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            packed = isinstance(value, Haloes | Ragged)
            values[field.name] = value.select(chosen) if packed else value[chosen]
        return ClusterHalos(**values)

    def views(self, n: int) -> ClusterHalos:
        """Every cluster ``n`` times in a row, to be seen along as many lines of sight."""
        rows = torch.arange(len(self), device=self.theta.device)
        return self.select(rows.repeat_interleave(n))


class GalaxyClusterSimulator:
    """Draws mock clusters and observes them.

    Parameters
    ----------
    data : DataSettings
    device : torch.device or str
        Where mocks are made; generators must live there too.
    """

    def __init__(self, data: DataSettings, device: torch.device | str = "cpu") -> None:
        self.data = data
        self.device = torch.device(device)
        self.cosmology = data.cosmology.cosmology()
        self.prior = Prior(data.prior.parameters())
        environment = data.environment()
        lightest = environment.log_lightest_mass or LOG_MASSES[0]
        self.statistics = HaloStatistics(self.cosmology, data.redshift, self.device, lightest)
        self.phase_space = PhaseSpace(Dynamics(), self.cosmology, self.device)
        self.surroundings = Surroundings(environment, self.statistics)
        self.occupation = HaloOccupation(data.occupation(), self.cosmology.h, self.device)
        self._natural = self.statistics.masses(*data.prior.log_m200c)

    def draw(self, n: int, generator: torch.Generator) -> ClusterHalos:
        """Draw ``n`` clusters from the prior and the catalogue's selection.

        A halo enters with the chance that one line of sight shows ``least_galaxies``. With
        :meth:`observe`, which looks until a line of sight does, halo and observation then have
        exactly their joint distribution given that selection.
        """
        drawn: list[ClusterHalos] = []
        missing = n
        while missing > 0:
            trial = self._draw_any(min(math.ceil(1.15 * missing) + 4, CHUNK), generator)
            seen = self._look(trial, generator)
            chosen = torch.nonzero(seen.counts >= self.data.least_galaxies)[:missing, 0]
            drawn.append(trial.select(chosen))
            missing -= len(chosen)
        return _joined(drawn)

    def observe(
        self, halos: ClusterHalos, generator: torch.Generator
    ) -> tuple[Ragged, dict[str, Tensor]]:
        """Look at each cluster along one random line of sight.

        Returns
        -------
        galaxies : Ragged, values of shape (n_galaxies, 5)
            Columns as in ``COLUMNS``, in random order within a cluster.
        extras : dict of Tensor, shape (batch,)
            ``redshift``, ``aperture_mpc_h``, ``velocity_cut``, ``completeness``,
            ``log_stellar_mass_limit`` and ``n_galaxies`` (float).
        """
        sets: list[Ragged] = []
        rows = torch.arange(len(halos), device=self.device)
        for chunk in rows.split(CHUNK):
            sets.append(self._observe_chunk(halos.select(chunk), generator))
        galaxies = _concatenated(sets)
        extras = {
            "redshift": halos.redshift,
            "aperture_mpc_h": halos.aperture,
            "velocity_cut": halos.velocity_cut,
            "completeness": halos.completeness,
            "log_stellar_mass_limit": halos.log_stellar_mass_limit,
            "n_galaxies": galaxies.counts.to(halos.theta.dtype),
        }
        return galaxies, extras

    def _observe_chunk(self, halos: ClusterHalos, generator: torch.Generator) -> Ragged:
        """Look until each cluster shows enough galaxies."""
        waiting = torch.arange(len(halos), device=self.device)
        parts, owners = [], []
        for trial in range(MOST_TRIALS):
            seen = self._look(halos.select(waiting), generator)
            enough = seen.counts >= self.data.least_galaxies
            if trial == MOST_TRIALS - 1:
                enough = torch.ones_like(enough)
            done = torch.nonzero(enough)[:, 0]
            parts.append(seen.select(done))
            owners.append(waiting[done])
            waiting = waiting[~enough]
            if not len(waiting):
                break
        return _concatenated(parts).select(torch.argsort(torch.cat(owners)))

    def _draw_any(self, n: int, generator: torch.Generator) -> ClusterHalos:
        data = self.data

        def uniform(bounds: tuple[float, float]) -> Tensor:
            low, high = bounds
            return low + (high - low) * torch.rand(n, generator=generator, device=self.device)

        redshift = uniform(data.redshift)
        theta = self.prior.sample(n, generator)
        if data.prior.mass_function:
            theta = self._natural.draw(redshift, generator)[:, None]
        log_mass = theta[:, 0]
        limit = uniform(data.log_stellar_mass_limit)
        if data.magnitude_limit is not None:
            bright = magnitude_limited_mass(data.magnitude_limit, redshift, self.cosmology)
            limit = torch.maximum(limit, bright)
        cylinders = torch.tensor([APERTURES[name] for name in data.apertures], device=self.device)
        cylinder = cylinders[
            torch.randint(len(cylinders), (n,), generator=generator, device=self.device)
        ]
        haloes = self.phase_space.haloes(log_mass, redshift, generator, uniform(data.velocity_bias))
        counts = self.occupation.counts(log_mass, limit, generator)
        position, velocity, _ = self.phase_space.members(
            haloes, counts, uniform(data.subgroup_rate), generator
        )
        stellar = self.occupation.stellar_masses(
            torch.repeat_interleave(log_mass, counts),
            torch.repeat_interleave(limit, counts),
            generator,
        )
        galaxies = torch.cat([position, velocity, stellar[:, None]], 1)
        return ClusterHalos(
            theta=theta,
            redshift=redshift,
            aperture=cylinder[:, 0],
            velocity_cut=cylinder[:, 1],
            log_stellar_mass_limit=limit,
            completeness=uniform(data.completeness),
            completeness_gradient=uniform(data.completeness_gradient),
            redshift_error=uniform(data.redshift_error),
            interloper_density=uniform(data.interloper_density),
            haloes=haloes,
            galaxies=Ragged(galaxies, offsets_of(counts)),
        )

    def _look(self, halos: ClusterHalos, generator: torch.Generator) -> Ragged:
        """Galaxies that one line of sight shows, whatever their number."""
        owner, table = self._galaxies_along(halos, generator)
        return self._record(halos, owner, table, generator)

    def _galaxies_along(
        self, halos: ClusterHalos, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Cluster and (x, y, z, v, log stellar mass, member) of all galaxies in one direction."""
        owner = halos.galaxies.index
        turned = random_rotations(len(halos), generator)[owner]
        inside = halos.galaxies.values
        position = torch.einsum("nij,nj->ni", turned, inside[:, :3])
        velocity = (turned[:, 2] * inside[:, 3:6]).sum(1, keepdim=True)
        one = torch.ones_like(velocity)
        owners, tables = [owner], [torch.cat([position, velocity, inside[:, 6:], one], 1)]
        if self.data.centrals:
            stellar = self.occupation.central_masses(halos.theta[:, 0], generator)
            seen = stellar > halos.log_stellar_mass_limit
            rest = torch.zeros(len(halos), 4, device=self.device)
            central = torch.cat([rest, stellar[:, None], torch.ones_like(rest[:, :1])], 1)
            owners.append(torch.nonzero(seen)[:, 0])
            tables.append(central[seen])
        if self.data.contaminated:
            for cluster, table in self._interlopers(halos, generator):
                owners.append(cluster)
                tables.append(table)
        return torch.cat(owners), torch.cat(tables)

    def _interlopers(
        self, halos: ClusterHalos, generator: torch.Generator
    ) -> list[tuple[Tensor, Tensor]]:
        """Clusters and tables of the galaxies of haloes along the line of sight."""
        limit = halos.log_stellar_mass_limit
        around = self.surroundings.draw(
            halos.theta[:, 0],
            halos.redshift,
            halos.aperture * self._comoving(halos.redshift),
            halos.velocity_cut,
            halos.interloper_density,
            generator,
            self.occupation.lowest_halo_mass(limit),
        )
        found: list[tuple[Tensor, Tensor]] = []
        if self.data.centrals:
            stellar = self.occupation.central_masses(around.log_mass, generator)
            seen = stellar > limit[around.cluster]
            columns = [around.position, around.velocity[:, 2:], stellar[:, None]]
            table = torch.cat([*columns, torch.zeros_like(stellar[:, None])], 1)
            found.append((around.cluster[seen], table[seen]))
        counts = self.occupation.counts(around.log_mass, limit[around.cluster], generator)
        populated = counts > 0
        around, counts = around.select(populated), counts[populated]
        redshift = halos.redshift[around.cluster]
        haloes = self.phase_space.haloes(around.log_mass, redshift, generator)
        halo = torch.repeat_interleave(counts)
        position, velocity = self.phase_space.galaxies(haloes, halo, generator)
        turned = random_rotations(len(haloes), generator)[halo]
        position = torch.einsum("nij,nj->ni", turned, position) + around.position[halo]
        velocity = (turned[:, 2] * velocity).sum(1) + around.velocity[halo, 2]
        cluster = around.cluster[halo]
        stellar = self.occupation.stellar_masses(around.log_mass[halo], limit[cluster], generator)
        table = torch.stack([velocity, stellar, torch.zeros_like(velocity)], 1)
        found.append((cluster, torch.cat([position, table], 1)))
        return found

    def _record(
        self, halos: ClusterHalos, owner: Tensor, table: Tensor, generator: torch.Generator
    ) -> Ragged:
        """Measure, miss and cut galaxies."""
        data, n = self.data, len(halos)
        redshift = halos.redshift[owner]
        flow = self.cosmology.comoving_hubble_rate(redshift) * table[:, 2]
        velocity = relativistic_sum(flow, table[:, 3])
        velocity = measured_velocity(velocity, halos.redshift_error[owner], redshift, generator)
        unit = self._comoving(halos.redshift)
        sky = table[:, :2] / unit[owner, None]
        if data.centring_error > 0:
            offset = torch.randn(n, 2, generator=generator, device=self.device)
            sky = sky + data.centring_error * offset[owner]
        radius = sky.norm(dim=1)
        chance = radial_completeness(
            radius, halos.aperture[owner], halos.completeness[owner],
            halos.completeness_gradient[owner],
        )  # fmt: skip
        keep = torch.rand(len(owner), generator=generator, device=self.device) < chance
        if data.contaminated:
            keep &= radius < halos.aperture[owner]
        if data.fibre_separation > 0:
            rows = torch.nonzero(keep)[:, 0]
            targets = _packed(sky[rows], owner[rows], n)
            apart = angular_separation(data.fibre_separation, halos.redshift, self.cosmology)
            order = torch.argsort(owner[rows], stable=True)
            fibre = fibre_collisions(targets, apart / unit, data.fibre_loss, generator)
            keep[rows[order]] = fibre
        if data.velocity_centre == "galaxies":
            velocity = recentred_velocity(velocity, owner, keep, halos.velocity_cut)
        if data.contaminated:
            keep &= velocity.abs() < halos.velocity_cut[owner]
        columns = torch.stack([velocity, radius, table[:, 4], table[:, 5], chance], 1)
        kept = torch.nonzero(keep)[:, 0]
        # Members come first in the table: the order must not tell them from interlopers.
        kept = kept[torch.randperm(len(kept), generator=generator, device=self.device)]
        return _packed(columns[kept], owner[kept], n)

    def _comoving(self, redshift: Tensor) -> Tensor:
        """Comoving length of one Mpc/h in the unit of the catalogue."""
        return 1 + redshift if self.data.lengths == "physical" else torch.ones_like(redshift)


def _packed(values: Tensor, owner: Tensor, n_sets: int) -> Ragged:
    """Rows in any order, by the set that owns each."""
    order = torch.argsort(owner, stable=True)
    return Ragged(values[order], offsets_of(torch.bincount(owner, minlength=n_sets)))


def _concatenated(sets: list[Ragged]) -> Ragged:
    counts = torch.cat([one.counts for one in sets])
    return Ragged(torch.cat([one.values for one in sets]), offsets_of(counts))


def _joined(parts: list[ClusterHalos]) -> ClusterHalos:
    def join(values: list[Any]) -> Any:
        if isinstance(values[0], Ragged):
            return _concatenated(values)
        if isinstance(values[0], Haloes):
            return Haloes(
                **{
                    field.name: torch.cat([getattr(one, field.name) for one in values])
                    for field in fields(Haloes)
                }
            )
        return torch.cat(values)

    return ClusterHalos(
        **{
            field.name: join([getattr(part, field.name) for part in parts])
            for field in fields(ClusterHalos)
        }
    )
