"""The galaxy-cluster system: galaxies in projected phase space, read as sets."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from melotte.engine.prior_densities import NamedPriors
from melotte.networks.heads import build_head
from melotte.networks.sets import SetEncoder, segment_mean
from melotte.parameters import Parameter, Prior
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Field, Observation, Output, RowError
from melotte.systems.galaxy_cluster import preparation
from melotte.systems.galaxy_cluster.settings import (
    AugmentationSettings,
    DataSettings,
    ModelSettings,
)
from melotte.systems.galaxy_cluster.simulator import ClusterHalos, GalaxyClusterSimulator

COLUMNS = ("velocity", "radius", "weight", "log_stellar_mass")
"""Columns of ``galaxies``: km/s in the cluster's frame, Mpc/h, NaN or a weight, log10(Msun)."""


class GalaxyCluster:
    """Posterior over log10(M200c/(Msun/h)) of the galaxies in a cylinder around a cluster.

    Parameters
    ----------
    data : DataSettings
    model : ModelSettings
    """

    name = "galaxy-cluster"
    outputs = (Output("posterior", "vector", "mass"),)

    def __init__(self, data: DataSettings, model: ModelSettings) -> None:
        self.data = data
        self.model = model
        self.parameters: tuple[Parameter, ...] = data.prior.parameters()
        self._simulators: dict[torch.device, GalaxyClusterSimulator] = {}

    def draw(self, n: int, generator: torch.Generator) -> ClusterHalos:
        """Draw ``n`` clusters with their galaxies in phase space."""
        return self.simulator(generator.device).draw(n, generator)

    def observe(self, latent: ClusterHalos, generator: torch.Generator, views: int = 1) -> Batch:
        """Look at each cluster along ``views`` lines of sight."""
        seen = latent.views(views) if views > 1 else latent
        table, extras = self.simulator(generator.device).observe(seen, generator)
        velocity, radius, stellar_mass, member, chance = table.values.unbind(-1)

        # Nothing is drawn where nothing is open, so that such mocks stay what they were.
        limit = extras["log_stellar_mass_limit"]
        share = self.data.stellar_masses_known
        if share < 1:
            told = torch.rand(table.n_sets, generator=generator, device=velocity.device)
            stellar_mass = torch.where((told < share)[table.index], stellar_mass, torch.nan)
            # Half of the tables without stellar masses do not even say how deep they go.
            limit = torch.where(told < (1 + share) / 2, limit, torch.nan)
        weight = torch.ones_like(velocity)
        if self.data.weights_known > 0:
            told = torch.rand(table.n_sets, generator=generator, device=velocity.device)
            known = (told < self.data.weights_known)[table.index]
            weight = torch.where(known, 1 / chance.clamp(min=0.05), weight)
        columns = torch.stack([velocity, radius, weight, stellar_mass], -1)
        data: dict[str, Field] = {
            "galaxies": Ragged(columns, table.offsets),
            "is_member": Ragged(member[:, None], table.offsets),
            "redshift": extras["redshift"],
            "aperture": extras["aperture_mpc_h"],
            "velocity_cut": extras["velocity_cut"],
            "completeness": extras["completeness"],
            "log_stellar_mass_limit": limit,
        }
        group = torch.arange(len(latent), device=latent.theta.device)
        return Batch.labelled(Observation(data), seen.theta, group=group.repeat_interleave(views))

    def augment(self, batch: Batch, generator: torch.Generator) -> Batch:
        """Turn velocities round and leave galaxies out, for a fixed set of examples."""
        return augmented(batch, self.data.augmentation, generator)

    def constants(self, batch: Batch) -> dict[str, Any]:
        """Means and standard deviations of the features over mocks."""
        return preparation.measure_constants(batch.observation, self.model)

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """Standardised features of galaxies (Ragged) and clusters (batch, n_context)."""
        return preparation.standardised(observation, constants, self.model)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`GalaxyNetwork`."""
        del constants
        return GalaxyNetwork(self.model)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """Terms of the loss, each (batch,).

        The negative log posterior density in the unit cube; and, where the truth is known, the
        mean binary cross-entropy of the galaxies' memberships, in ``membership_weight``.
        """
        unit = Prior(self.parameters).to_unit(batch.theta)
        log_prob = outputs["posterior"].log_prob_known(unit, batch.theta_known)
        terms = {"negative_log_posterior": -log_prob}
        if "member" in outputs and "is_member" in batch.observation.data:
            terms["membership"] = self.model.membership_weight * membership_loss(
                outputs["member"], batch.observation
            )
        return terms

    def read(self, source: Any, options: Mapping[str, Any]) -> Iterator[Observation | RowError]:
        """Clusters in tables of galaxies; see :func:`melotte.io.galaxy_members.read_galaxies`."""
        from melotte.systems.galaxy_cluster.reading import observations

        reads_limit = self.model.richness or self.model.stellar_masses
        yield from observations(source, options, self.data, reads_limit)

    def named_priors(self) -> NamedPriors:
        """Priors to ask for by name: ``mass-function``, the halo mass function's."""
        from melotte.systems.galaxy_cluster.mass_prior import named_priors

        return named_priors(self.data)

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        """Counts and moments of velocities and radii of each cluster."""
        return preparation.summaries(observation), preparation.SUMMARIES

    def simulator(self, device: torch.device) -> GalaxyClusterSimulator:
        """The simulator on a device, built on first use."""
        if device not in self._simulators:
            self._simulators[device] = GalaxyClusterSimulator(self.data, device)
        return self._simulators[device]


class GalaxyNetwork(nn.Module):
    """Set encoder and posterior head; the same for a cluster and its mirror image in velocity.

    The features of a cluster are the mean of those that the encoder gives with velocities as
    they are and turned round, because which side is approaching says nothing of the mass. Training
    reads a cluster once, as it stands: mocks are as often turned one way as the other.

    Parameters
    ----------
    settings : ModelSettings
    """

    def __init__(self, settings: ModelSettings) -> None:
        super().__init__()
        n_context = len(preparation.CONTEXT_FEATURES)
        n_context += len(preparation.RICHNESS_FEATURES) if settings.richness else 0
        self.encoder = SetEncoder(
            n_element=len(preparation.GALAXY_FEATURES),
            n_context=n_context,
            width=settings.width,
            blocks=settings.blocks,
            attention_seeds=settings.attention_seeds,
            features=settings.features,
            sharpness=settings.sharpness,
        )
        self.dropout = nn.Dropout(settings.dropout)
        self.head = build_head(settings.head, settings.features, 1, **settings.head_settings)
        self.membership = (
            nn.Sequential(nn.LayerNorm(settings.width), nn.Linear(settings.width, 1))
            if settings.membership_weight > 0
            else None
        )

    def forward(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        """What the network says of a batch.

        Returns
        -------
        dict
            ``posterior`` in the unit cube; the ``embedding`` (batch, features) behind it; and
            ``member`` (n_galaxies,), the logit that each galaxy belongs to its cluster's halo,
            where ``membership_weight`` asks for it.
        """
        galaxies, context = inputs["galaxies"], inputs["context"]
        turned = galaxies.values * galaxies.values.new_tensor(
            [-1.0] + [1.0] * (galaxies.values.shape[1] - 1)
        )
        embedding, each = self.encoder.encode(galaxies, context)
        if not self.training:
            mirrored, mirrored_each = self.encoder.encode(Ragged(turned, galaxies.offsets), context)
            embedding, each = (embedding + mirrored) / 2, (each + mirrored_each) / 2
        outputs = {"posterior": self.head(self.dropout(embedding)), "embedding": embedding}
        if self.membership is not None:
            outputs["member"] = self.membership(each)[:, 0]
        return outputs


def membership_loss(logit: Tensor, observation: Observation) -> Tensor:
    """Mean binary cross-entropy of a cluster's galaxies, (batch,); 0 where no truth is known.

    Parameters
    ----------
    logit : Tensor, shape (n_galaxies,)
    observation : Observation
        ``is_member``: Ragged with 1 or 0, NaN where unknown.
    """
    truth = observation.data["is_member"]
    assert isinstance(truth, Ragged)
    member = truth.values[:, 0]
    known = torch.isfinite(member)
    surprise = nn.functional.binary_cross_entropy_with_logits(
        logit.float(), torch.where(known, member, 0.5), reduction="none"
    )
    columns = torch.stack([torch.where(known, surprise, 0.0), known.to(surprise.dtype)], -1)
    total, n = segment_mean(columns, truth.index, truth.counts).unbind(-1)
    return total / n.clamp(min=1e-6)


def augmented(batch: Batch, settings: AugmentationSettings, generator: torch.Generator) -> Batch:
    """Clusters with fewer galaxies, and half of them with velocities turned round.

    Parameters
    ----------
    batch : Batch
    settings : AugmentationSettings
        A cluster keeps a share of its galaxies drawn from ``kept_galaxies``, but never fewer than
        ``least_galaxies``; its completeness shrinks with it.
    generator : torch.Generator

    Returns
    -------
    Batch
    """
    data = dict(batch.observation.data)
    galaxies = data["galaxies"]
    completeness = data["completeness"]
    assert isinstance(galaxies, Ragged)
    assert isinstance(completeness, Tensor)
    counts, index, device = galaxies.counts, galaxies.index, generator.device

    def uniform(n: int) -> Tensor:
        return torch.rand(n, generator=generator, device=device)

    low, high = settings.kept_galaxies
    share = low + (high - low) * uniform(len(counts))
    share = torch.maximum(share, settings.least_galaxies / counts.clamp(min=1)).clamp(max=1)
    keep = uniform(len(index)) < share[index]
    values = galaxies.values
    if settings.turn_velocities:
        sign = torch.where(uniform(len(counts)) < 0.5, -1.0, 1.0)
        values = values.clone()
        values[:, 0] *= sign[index]
    for name, value in data.items():
        if isinstance(value, Ragged):
            chosen = Ragged(values, value.offsets) if name == "galaxies" else value
            data[name] = chosen.where(keep)
    data["completeness"] = completeness * share
    return replace(batch, observation=replace(batch.observation, data=data))
