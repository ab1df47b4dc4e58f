"""Catalogues of mock galaxy clusters that the galaxy-cluster benchmarks learn from and test on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.ragged import Ragged
from melotte.systems.base import Batch
from melotte.systems.galaxy_cluster.settings import DataSettings, ModelSettings, PriorSettings
from melotte.systems.galaxy_cluster.system import GalaxyCluster
from melotte.systems.registry import load_preset

Array = NDArray[np.float64]

PRESET = Path(__file__).with_name("galaxy-cluster-published-mocks.yaml")
"""Our network on the published selection."""
VIEWS = 3
"""Lines of sight of a test halo (Ho et al. 2019)."""
TEST_RANGE = (14.0, 15.0)
"""log10(M200c/(Msun/h)) for which errors are quoted."""
AT_ONCE = 2048
_TRAIN, _TEST, _PURE_TRAIN, _PURE_TEST = range(4)


@dataclass(frozen=True)
class Catalogue:
    """Clusters of known mass.

    Parameters
    ----------
    batch : Batch
        As the galaxy-cluster system gives it; ``group`` numbers the haloes.
    """

    batch: Batch

    def __len__(self) -> int:
        return len(self.batch)

    @property
    def galaxies(self) -> Ragged:
        """Velocity (km/s), radius (Mpc/h), weight, log stellar mass of each galaxy."""
        galaxies = self.batch.observation.data["galaxies"]
        assert isinstance(galaxies, Ragged)
        return galaxies

    @property
    def velocity(self) -> Array:
        """km/s, (n_galaxies,)."""
        return self.galaxies.values[:, 0].double().numpy()

    @property
    def radius(self) -> Array:
        """Mpc/h, (n_galaxies,)."""
        return self.galaxies.values[:, 1].double().numpy()

    @property
    def offsets(self) -> NDArray[np.int64]:
        """(n_clusters + 1,)."""
        return self.galaxies.offsets.numpy()

    @property
    def log_mass(self) -> Array:
        """True log10(M200c/(Msun/h)), (n_clusters,)."""
        return self.batch.theta[:, 0].double().numpy()

    @property
    def group(self) -> NDArray[np.int64]:
        """Number of the halo, (n_clusters,)."""
        return self.batch.group.numpy()

    def numbers(self, name: str) -> Array:
        """A number of each cluster, such as ``redshift``, (n_clusters,)."""
        value = self.batch.observation.data[name]
        assert isinstance(value, torch.Tensor)
        return value.double().numpy()

    def select(self, rows: Sequence[int] | NDArray[Any]) -> Catalogue:
        """Some of the clusters."""
        return Catalogue(self.batch.select(torch.as_tensor(np.asarray(rows), dtype=torch.int64)))

    def with_galaxies(self, rows: NDArray[np.int64], offsets: NDArray[np.int64]) -> Catalogue:
        """The same clusters with some of their galaxies; completeness is as it was."""
        chosen, starts = torch.as_tensor(rows), torch.as_tensor(offsets)
        data = dict(self.batch.observation.data)
        for name, value in data.items():
            if isinstance(value, Ragged):
                data[name] = Ragged(value.values[chosen], starts)
        observation = replace(self.batch.observation, data=data)
        return Catalogue(replace(self.batch, observation=observation))

    def told_completeness(self, completeness: Array) -> Catalogue:
        """The same clusters, said to be so complete."""
        told = torch.as_tensor(completeness, dtype=torch.float32)
        data = {**self.batch.observation.data, "completeness": told}
        return Catalogue(
            replace(self.batch, observation=replace(self.batch.observation, data=data))
        )


@dataclass(frozen=True)
class Catalogues:
    """What a method may learn from, and what it is tested on.

    Parameters
    ----------
    train : Catalogue
        Flat in log mass.
    test : Catalogue
        Other haloes, natural in mass, several lines of sight each.
    pure_train, pure_test : Catalogue
        Likewise, of true members only.
    """

    train: Catalogue
    test: Catalogue
    pure_train: Catalogue
    pure_test: Catalogue


def mock_catalogue(
    data: DataSettings, n: int, seed: int, number: int = 0, views: int = 1
) -> Catalogue:
    """``n`` mock haloes seen along ``views`` lines of sight.

    Parameters
    ----------
    data : DataSettings
    n : int
    seed, number : int
        Catalogues of one seed and different numbers have nothing in common.
    views : int
    """
    system = GalaxyCluster(data, ModelSettings(stellar_masses=True))
    parts: list[Batch] = []
    for part, start in enumerate(range(0, n, AT_ONCE)):
        sequence = np.random.SeedSequence([seed, number, part])
        generator = torch.Generator().manual_seed(int(sequence.generate_state(1)[0]))
        halos = system.draw(min(AT_ONCE, n - start), generator)
        batch = system.observe(halos, generator, views)
        parts.append(replace(batch, group=batch.group + start))
    return Catalogue(joined(parts))


def joined(parts: Sequence[Batch]) -> Batch:
    """Batches end to end."""
    from melotte.engine.mocks import concatenate

    return parts[0] if len(parts) == 1 else concatenate(list(parts))


def published_settings() -> DataSettings:
    """Mocks of the selection of Ho et al. 2019."""
    return DataSettings()


def survey_settings() -> DataSettings:
    """Mocks of surveys of every galaxy, as the shipped models learned from, in one cylinder."""
    data = load_preset("galaxy-cluster").data
    return DataSettings.model_validate({**data, "apertures": ["medium"]})


SELECTIONS: dict[str, Callable[[], DataSettings]] = {
    "published": published_settings,
    "survey": survey_settings,
}


def catalogues_of(selection: str, n_train: int, n_test: int, seed: int) -> Catalogues:
    """Catalogues of melotte's mock.

    Parameters
    ----------
    selection : {"published", "survey"}
    n_train : int
        Training clusters, one line of sight each, 13.5 to 15.5 in log mass.
    n_test : int
        Test clusters at least, :data:`VIEWS` of a halo, of :data:`TEST_RANGE`.
    seed : int
    """
    flat = SELECTIONS[selection]()
    natural = PriorSettings(log_m200c=TEST_RANGE, mass_function=True)
    test = flat.model_copy(update={"prior": natural})
    haloes = -(-n_test // VIEWS)
    pure = {"contaminated": False}
    return Catalogues(
        train=mock_catalogue(flat, n_train, seed, _TRAIN),
        test=mock_catalogue(test, haloes, seed, _TEST, VIEWS),
        pure_train=mock_catalogue(flat.model_copy(update=pure), n_train, seed, _PURE_TRAIN),
        pure_test=mock_catalogue(test.model_copy(update=pure), haloes, seed, _PURE_TEST, VIEWS),
    )
