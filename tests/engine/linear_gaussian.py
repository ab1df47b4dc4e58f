"""A system whose posterior is known exactly: three slopes seen through a linear map with noise.

``x = A theta + noise`` with orthogonal columns of ``A`` and a box prior, so that the posterior is
a product of truncated normal distributions. With ``ragged`` every object is a set of 1 to 8
repeated measurements.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError
from melotte.networks.posteriors import UnitPosterior
from melotte.parameters import Parameter, Prior
from melotte.ragged import Ragged, offsets_of
from melotte.systems.base import Batch, Field, Observation, Output, RowError

PARAMETERS = (
    Parameter("log_age", 6.0, 10.0, description="log10(age/yr)"),
    Parameter("extinction_v", 0.0, 3.0, unit="mag", description="A_V"),
    Parameter("distance", 0.5, 5.0, unit="kpc", description="distance"),
)
PRESET: dict[str, Any] = {
    "name": "linear-gaussian",
    "system": "linear-gaussian",
    "data": {"noise": 0.2, "n_data": 5, "ragged": False},
    "model": {"width": 32},
    "training": {"seed": 1, "batch_size": 64, "n_batches": 5, "max_epochs": 2},
    "local": {},
}


class TruncatedNormals(UnitPosterior):
    """Independent normal distributions truncated to the unit cube; exact in every method.

    Parameters
    ----------
    loc, scale : Tensor, shape (batch, n_parameters), unit cube
    """

    def __init__(self, loc: Tensor, scale: Tensor) -> None:
        self.loc = loc
        self.scale = scale
        self._low = torch.special.ndtr((0.0 - loc.double()) / scale.double())
        self._high = torch.special.ndtr((1.0 - loc.double()) / scale.double())

    @property
    def n_parameters(self) -> int:
        return self.loc.shape[1]

    def __len__(self) -> int:
        return len(self.loc)

    def select(self, chosen: Tensor) -> TruncatedNormals:
        return TruncatedNormals(self.loc[chosen], self.scale[chosen])

    def _terms(self, u: Tensor) -> Tensor:
        score = (u - self.loc) / self.scale
        mass = (self._high - self._low).clamp(min=1e-30).log().to(u.dtype)
        density = -0.5 * score**2 - self.scale.log() - 0.5 * math.log(2 * math.pi) - mass
        return torch.where((u >= 0) & (u <= 1), density, torch.full_like(density, -math.inf))

    def log_prob(self, u: Tensor) -> Tensor:
        return self._terms(u).sum(-1)

    def log_prob_known(self, u: Tensor, known: Tensor) -> Tensor:
        filled = torch.where(known, u, torch.full_like(u, 0.5))
        return torch.where(known, self._terms(filled), torch.zeros_like(u)).sum(-1)

    def _from_uniform(self, uniform: Tensor, insert: int) -> Tensor:
        low, high = self._low.unsqueeze(insert), self._high.unsqueeze(insert)
        loc, scale = self.loc.double().unsqueeze(insert), self.scale.double().unsqueeze(insert)
        u = loc + scale * torch.special.ndtri(low + (high - low) * uniform.double())
        return u.clamp(0, 1).to(self.loc.dtype)

    def sample(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        shape = (len(self.loc), n, self.n_parameters)
        uniform = torch.rand(shape, generator=generator, device=self.loc.device)
        return self._from_uniform(uniform, 1)

    def quantile(self, q: Tensor, generator: torch.Generator | None = None) -> Tensor:
        levels = q.to(self.loc)[None, :, None].expand(len(self.loc), len(q), self.n_parameters)
        return self._from_uniform(levels, 1)

    def mean(self) -> Tensor:
        loc, scale = self.loc.double(), self.scale.double()
        low, high = (0 - loc) / scale, (1 - loc) / scale
        density = (torch.exp(-0.5 * low**2) - torch.exp(-0.5 * high**2)) / math.sqrt(2 * math.pi)
        shift = density / (self._high - self._low).clamp(min=1e-30)
        return (loc + scale * shift).clamp(0, 1).to(self.loc.dtype)

    def mode(self) -> Tensor:
        return self.loc.clamp(0, 1)


class SmallNetwork(nn.Module):
    """Features of a vector, or of a set through its mean and size, to truncated normals."""

    def __init__(self, n_data: int, width: int, n_parameters: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Linear(n_data + 1, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.skip = nn.Linear(n_data + 1, 2 * n_parameters)
        self.head = nn.Linear(width, 2 * n_parameters)

    def forward(self, inputs: Mapping[str, Field]) -> dict[str, Any]:
        x = inputs["x"]
        if isinstance(x, Ragged):
            total = torch.zeros(x.n_sets, x.values.shape[1], device=x.values.device)
            total = total.index_add(0, x.index, x.values.to(total.dtype))
            mean = total / x.counts.clamp(min=1)[:, None]
            row = torch.cat([mean, x.counts[:, None].to(mean).log1p()], 1)
        else:
            row = torch.cat([x, torch.ones_like(x[:, :1])], 1)
        embedding = self.features(row)
        loc, log_scale = (self.head(embedding) + self.skip(row)).float().chunk(2, -1)
        scale = 1e-3 + nn.functional.softplus(log_scale)
        return {"posterior": TruncatedNormals(loc + 0.5, scale), "embedding": embedding}


@dataclass(frozen=True)
class LinearGaussian:
    """The system; see the module's description.

    Parameters
    ----------
    noise : float, > 0
        Standard deviation of every datum.
    n_data : int, >= 3
    ragged : bool
        Sets of repeated measurements in place of one vector.
    width : int
        Hidden width of the network.
    """

    noise: float = 0.2
    n_data: int = 5
    ragged: bool = False
    width: int = 32
    name: str = "linear-gaussian"
    parameters: tuple[Parameter, ...] = PARAMETERS
    outputs: tuple[Output, ...] = (Output("posterior", "vector"),)

    @property
    def prior(self) -> Prior:
        return Prior(self.parameters)

    @property
    def matrix(self) -> Tensor:
        """The map from unit cube to data, shape (n_data, 3); its columns are orthogonal."""
        rows = torch.arange(self.n_data, dtype=torch.float32)[:, None] + 0.5
        waves = torch.cos(math.pi / self.n_data * rows * torch.arange(1.0, 4.0))
        return waves * torch.tensor([1.0, 0.7, 1.5])

    def draw(self, n: int, generator: torch.Generator) -> dict[str, Tensor]:
        return {"theta": self.prior.sample(n, generator)}

    def observe(self, latent: Any, generator: torch.Generator, views: int = 1) -> Batch:
        theta = latent["theta"].repeat_interleave(views, 0)
        device = generator.device
        n = len(theta)
        group = torch.arange(len(latent["theta"]), device=device).repeat_interleave(views)
        signal = self.prior.to_unit(theta) @ self.matrix.to(device).T
        if self.ragged:
            counts = torch.randint(1, 9, (n,), generator=generator, device=device)
            signal = signal.repeat_interleave(counts, 0)
        noise = torch.randn(signal.shape, generator=generator, device=device)
        values = signal + self.noise * noise
        x = Ragged(values, offsets_of(counts)) if self.ragged else values
        return Batch.labelled(Observation({"x": x}), theta, group=group)

    def constants(self, batch: Batch) -> dict[str, Any]:
        x = batch.observation.data["x"]
        values = x.values if isinstance(x, Ragged) else x
        return {"mean": values.mean(0).tolist(), "std": values.std(0).tolist()}

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        x = observation.data["x"]
        values = x.values if isinstance(x, Ragged) else x
        scaled = (values - values.new_tensor(constants["mean"])) / values.new_tensor(
            constants["std"]
        )
        return {"x": Ragged(scaled, x.offsets) if isinstance(x, Ragged) else scaled}

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        return SmallNetwork(self.n_data, self.width, len(self.parameters))

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        unit = self.prior.to_unit(batch.theta)
        return {"posterior": -outputs["posterior"].log_prob_known(unit, batch.theta_known)}

    def read(
        self, source: Any, options: Mapping[str, Any]
    ) -> Iterator[Observation | RowError]:  # pragma: no cover
        yield from source

    def summaries(self, observation: Observation) -> tuple[Tensor, tuple[str, ...]]:
        x = observation.data["x"]
        if not isinstance(x, Ragged):
            return x, tuple(f"x{i}" for i in range(self.n_data))
        total = torch.zeros(x.n_sets, self.n_data, device=x.values.device)
        mean = total.index_add(0, x.index, x.values) / x.counts[:, None]
        return mean, tuple(f"x{i}" for i in range(self.n_data))

    def exact_posterior(self, observation: Observation) -> TruncatedNormals:
        """The true posterior in the unit cube."""
        mean, _ = self.summaries(observation)
        x = observation.data["x"]
        matrix = self.matrix.to(mean)
        power = (matrix**2).sum(0)
        counts = x.counts.to(mean) if isinstance(x, Ragged) else mean.new_ones(len(mean))
        scale = self.noise / (counts[:, None] * power).sqrt()
        return TruncatedNormals(mean @ matrix / power, scale)

    def exact_network(self) -> nn.Module:
        """A network without weights that gives the true posterior (no training needed).

        It reads unprepared data, so use it with ``constants`` of mean 0 and deviation 1.
        """
        return _ExactNetwork(self)

    @property
    def identity_constants(self) -> dict[str, Any]:
        """Preparation constants that change nothing."""
        return {"mean": [0.0] * self.n_data, "std": [1.0] * self.n_data}


class _ExactNetwork(nn.Module):
    def __init__(self, system: LinearGaussian) -> None:
        super().__init__()
        self.system = system

    def forward(self, inputs: Mapping[str, Field]) -> dict[str, Any]:
        observation = Observation(inputs)
        summaries, _ = self.system.summaries(observation)
        return {"posterior": self.system.exact_posterior(observation), "embedding": summaries}


def build(preset: Mapping[str, Any]) -> LinearGaussian:
    """The system of a preset."""
    if preset.get("system") != "linear-gaussian":
        raise MelotteValueError(
            f"system {preset.get('system')!r} is not known; allowed: linear-gaussian"
        )
    return LinearGaussian(**preset.get("data", {}), **preset.get("model", {}))
