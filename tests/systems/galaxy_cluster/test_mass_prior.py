"""Under the mass function masses are calibrated for clusters as nature makes them."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.stats import kstest
from torch import nn

from melotte.engine.inference import infer_batches
from melotte.engine.model_files import Model
from melotte.networks.point import PointPosterior
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.mass_prior import mass_function
from melotte.systems.galaxy_cluster.settings import DataSettings, ModelSettings, PriorSettings
from melotte.systems.galaxy_cluster.system import GalaxyCluster

SCATTER = 0.25
"""dex, of the estimates of mass."""
N_CLUSTERS = 1500
COSMOLOGY = DataSettings().cosmology.cosmology()


class ScatteredMasses(GalaxyCluster):
    """Clusters of which a mass with normal scatter is observed, so that posteriors are exact."""

    def prepare(self, observation, constants):
        return {"estimate": self.parameters[0].to_unit(observation.data["estimate"])}

    def network(self, constants):
        return ExactNetwork(SCATTER / (self.parameters[0].high - self.parameters[0].low))


class ExactNetwork(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, inputs):
        place = inputs["estimate"][:, None]
        posterior = PointPosterior(place, torch.full_like(place, self.scale), "mse")
        return {"posterior": posterior, "embedding": place}


@pytest.fixture(scope="module")
def system():
    natural = DataSettings(
        prior=PriorSettings(mass_function=True), redshift=(0.02, 0.35), least_galaxies=1
    )
    return ScatteredMasses(natural, ModelSettings())


@pytest.fixture(scope="module")
def model(system):
    return Model(system, {"name": "scattered"}, {}, system.network({}))


@pytest.fixture(scope="module")
def clusters(system):
    """True masses, and observations of them."""
    generator = torch.Generator().manual_seed(11)
    drawn = system.draw(N_CLUSTERS, generator)
    truth = drawn.theta[:, 0]
    estimate = truth + SCATTER * torch.randn(N_CLUSTERS, generator=generator)
    ids = tuple(str(i) for i in range(N_CLUSTERS))
    return truth, Observation({"estimate": estimate, "redshift": drawn.redshift}, ids)


def judged(model, clusters, prior):
    """Bias of the posterior mean, its standard error, and ranks of the truth in [0, 1]."""
    truth, observation = clusters
    result = infer_batches(model, [observation], n_samples=1000, prior_file=prior)
    mean = result.samples[:, :, 0].mean(1)
    off = mean - truth.numpy()
    rank = (result.samples[:, :, 0] < truth.numpy()[:, None]).mean(1)
    return off.mean(), off.std() / np.sqrt(len(off)), rank, result


def test_natural_clusters_are_calibrated_under_the_mass_function_alone(model, clusters):
    bias, error, rank, result = judged(model, clusters, "mass-function")
    assert abs(bias) < 3.5 * error
    assert kstest(rank, "uniform").pvalue > 1e-3
    assert (result.columns["prior_sample_size"].values > 100).mean() > 0.9
    assert result.provenance["prior"]["parameters"] == {"log_m200c": "mass-function"}

    flat, error, rank, _ = judged(model, clusters, None)
    assert flat > 0.1
    assert flat > 20 * error
    assert kstest(rank, "uniform").pvalue < 1e-20


def test_the_mass_function_of_another_redshift_is_caught(model, clusters):
    truth, observation = clusters
    data = dict(observation.data) | {"redshift": torch.full_like(truth, 0.6)}
    elsewhere = truth, Observation(data, observation.ids)
    bias, error, _, _ = judged(model, elsewhere, "mass-function")
    assert bias < -3.5 * error


def test_the_prior_is_the_mass_function_of_colossus():
    from colossus.cosmology import cosmology
    from colossus.lss import mass_function as colossus

    log_mass = np.linspace(13.5, 15.2, 18)
    for redshift in (0.0, 0.117, 0.275, 0.6):
        (density,) = mass_function(torch.tensor([redshift], dtype=torch.float64), COSMOLOGY)
        found = density.log_prob(torch.tensor(log_mass)).numpy()
        before = cosmology.current_cosmo
        names = {"Om0": "omega_m", "Ob0": "omega_b", "sigma8": "sigma8", "ns": "n_s"}
        numbers = {ours: getattr(COSMOLOGY, theirs) for ours, theirs in names.items()}
        try:
            cosmology.setCosmology(
                "test",
                {"flat": True, "H0": 100 * COSMOLOGY.h, **numbers},
                relspecies=False,
                persistence="",
            )
            expected = np.log(
                colossus.massFunction(
                    10.0**log_mass, redshift, mdef="200c", model="tinker08", q_out="dndlnM"
                )
            )
        finally:
            cosmology.current_cosmo = before
        # Constants do not matter; a step of 0.05 in redshift is interpolated.
        difference = found - expected
        assert np.ptp(difference) < 0.01
        assert difference[0] == pytest.approx(np.log(np.log(10)), abs=0.01)


def test_each_cluster_has_its_own_redshift_and_an_unknown_one_the_middle(system):
    give = system.named_priors()["mass-function"]["log_m200c"]
    seen = Observation({"redshift": torch.tensor([0.05, 0.3, torch.nan, 0.185, 0.9, 0.6])})
    near, far, unknown, middle, beyond, last = give(seen)
    mass = torch.tensor([14.0, 15.0], dtype=torch.float64)

    def fall(density):
        return float(density.log_prob(mass).diff())

    assert fall(far) < fall(near) - 0.3
    assert fall(unknown) == pytest.approx(fall(middle), abs=1e-6)
    assert fall(beyond) == pytest.approx(fall(last), abs=1e-6)
