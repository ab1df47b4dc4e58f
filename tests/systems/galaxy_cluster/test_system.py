from dataclasses import replace

import pytest
import torch

from melotte.engine.mocks import draw_mocks
from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.base import Observation
from melotte.systems.galaxy_cluster.preparation import SUMMARIES
from melotte.systems.galaxy_cluster.settings import AugmentationSettings
from melotte.systems.galaxy_cluster.system import augmented, membership_loss
from melotte.systems.registry import build_system, load_preset

PRESETS = ("galaxy-cluster", "galaxy-cluster-richness")


@pytest.fixture(scope="module", params=PRESETS)
def system(request):
    return build_system(load_preset(request.param))


@pytest.fixture(scope="module")
def mocks(system):
    return draw_mocks(system, 64, seed=5, batch_size=64)[0]


@pytest.fixture(scope="module")
def network(system, mocks):
    torch.manual_seed(3)
    return system.network(system.constants(mocks)).eval()


def embedding(system, network, mocks, observation):
    with torch.no_grad():
        return network(system.prepare(observation, system.constants(mocks)))["embedding"]


def with_galaxies(observation, galaxies):
    return replace(observation, data=dict(observation.data) | {"galaxies": galaxies})


def test_order_and_sign_of_velocities_do_not_matter(system, mocks, network, generator):
    before = embedding(system, network, mocks, mocks.observation)
    galaxies = mocks.observation.data["galaxies"]
    order = torch.argsort(
        galaxies.index + torch.rand(len(galaxies.values), generator=generator) * 0.9
    )
    turned = galaxies.values[order] * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    changed = with_galaxies(mocks.observation, Ragged(turned, galaxies.offsets))
    assert torch.allclose(embedding(system, network, mocks, changed), before, atol=1e-4)


def test_the_truth_of_membership_is_never_read(system, mocks, network):
    before = embedding(system, network, mocks, mocks.observation)
    member = mocks.observation.data["is_member"]
    data = dict(mocks.observation.data)
    data["is_member"] = Ragged(1 - member.values, member.offsets)
    blind = replace(mocks.observation, data=data)
    assert torch.equal(embedding(system, network, mocks, blind), before)


def test_only_the_richness_preset_reads_the_number_of_galaxies(system, mocks, network):
    galaxies = mocks.observation.data["galaxies"]
    twice = Ragged.pack([torch.cat([galaxies[i], galaxies[i]]) for i in range(len(mocks))])
    before = embedding(system, network, mocks, mocks.observation)
    after = embedding(system, network, mocks, with_galaxies(mocks.observation, twice))
    # A median of an even number of radii is one of two: twice the galaxies may shift it a little.
    changed = float((after - before).abs().mean() / before.std(0).mean())
    assert (changed > 0.1) == system.model.richness


def test_some_tables_give_stellar_masses_depth_or_weights(mocks):
    galaxies = mocks.observation.data["galaxies"]
    limit = mocks.observation.data["log_stellar_mass_limit"]
    stellar = [galaxies[i][:, 3] for i in range(len(mocks))]
    given = torch.stack([torch.isfinite(one).all() for one in stellar])
    assert torch.equal(given, torch.stack([torch.isfinite(one).any() for one in stellar]))
    assert given.any()
    assert torch.isfinite(limit[given]).all()
    assert torch.isnan(limit[~given]).any()
    assert torch.isfinite(limit[~given]).any()
    known = given[galaxies.index]
    assert (galaxies.values[known, 3] >= limit[galaxies.index[known]] - 1e-4).all()
    weighted = torch.stack([(galaxies[i][:, 2] > 1).any() for i in range(len(mocks))])
    assert weighted.any()
    assert not weighted.all()


def test_stellar_masses_are_read_only_if_asked_for(mocks):
    galaxies = mocks.observation.data["galaxies"]
    values = galaxies.values.clone()
    values[:, 3] += 0.3
    heavier = with_galaxies(mocks.observation, Ragged(values, galaxies.offsets))
    for asked in (False, True):
        reads = build_system(load_preset("galaxy-cluster", [f"model.stellar_masses={asked}"]))
        constants = reads.constants(mocks)
        before = reads.prepare(mocks.observation, constants)["galaxies"].values
        after = reads.prepare(heavier, constants)["galaxies"].values
        assert torch.equal(before, after) != asked


def test_what_was_the_same_in_all_mocks_is_not_read(mocks):
    system = build_system(load_preset("galaxy-cluster", ["data.redshift=0.1"]))
    alike = draw_mocks(system, 32, seed=2, batch_size=32)[0]
    elsewhere = {**alike.observation.data, "redshift": torch.full((32,), 0.3)}
    constants = system.constants(alike)
    before = system.prepare(alike.observation, constants)["context"]
    after = system.prepare(replace(alike.observation, data=elsewhere), constants)["context"]
    assert torch.equal(before, after)


def test_memberships_follow_galaxies_and_do_not_know_front_from_back(system, mocks, network):
    constants = system.constants(mocks)
    galaxies = mocks.observation.data["galaxies"]
    order = torch.arange(len(galaxies.values))
    for start, end in zip(galaxies.offsets[:-1], galaxies.offsets[1:], strict=True):
        order[start:end] = torch.arange(start, end).flip(0)
    turned = galaxies.values[order] * torch.tensor([-1.0, 1.0, 1.0, 1.0])
    changed = with_galaxies(mocks.observation, Ragged(turned, galaxies.offsets))
    before = network(system.prepare(mocks.observation, constants))["member"]
    after = network(system.prepare(changed, constants))["member"]
    assert len(before) == len(galaxies.values)
    torch.testing.assert_close(after, before[order], rtol=1e-3, atol=1e-4)


def test_membership_loss_is_the_mean_surprise_of_known_galaxies():
    member = Ragged(torch.tensor([[1.0], [0.0], [torch.nan], [torch.nan]]), torch.tensor([0, 3, 4]))
    logit = torch.tensor([2.0, 2.0, 50.0, -50.0])
    found = membership_loss(logit, Observation({"is_member": member}))
    surprise = torch.log1p(torch.exp(torch.tensor([-2.0, 2.0]))).mean()
    torch.testing.assert_close(found, torch.stack([surprise, torch.tensor(0.0)]))


def test_missing_weights_and_masses_are_allowed(system, mocks, network):
    galaxies = mocks.observation.data["galaxies"]
    values = galaxies.values.clone()
    values[:, 2] = torch.nan
    data = dict(mocks.observation.data)
    data["galaxies"] = Ragged(values, galaxies.offsets)
    data["log_stellar_mass_limit"] = torch.full_like(data["redshift"], torch.nan)
    found = embedding(system, network, mocks, replace(mocks.observation, data=data))
    assert torch.isfinite(found).all()


def test_summaries_are_finite_and_named(system, mocks):
    values, names = system.summaries(mocks.observation)
    assert names == SUMMARIES
    assert values.shape == (64, len(SUMMARIES))
    assert torch.isfinite(values).all()
    few = mocks.observation.select(torch.arange(2))
    alone = with_galaxies(few, Ragged.pack([few.data["galaxies"][0][:1], few.data["galaxies"][1]]))
    assert torch.isfinite(system.summaries(alone)[0]).all()


def test_augmentation_thins_turns_and_says_so(mocks):
    settings = AugmentationSettings(kept_galaxies=(0.5, 0.8), least_galaxies=5)
    changed = augmented(mocks, settings, keyed_generator(1, 2))
    before = mocks.observation.data["galaxies"].counts
    after = changed.observation.data["galaxies"].counts
    share = changed.observation.data["completeness"] / mocks.observation.data["completeness"]
    rich = before > 100
    assert torch.allclose(after[rich] / before[rich], share[rich], atol=0.12)
    assert ((share >= 0.5) & (share <= 1)).all()
    assert torch.equal(changed.observation.data["is_member"].counts, after)
    first = {float(v) for v in mocks.observation.data["galaxies"][0][:, 0]}
    kept = changed.observation.data["galaxies"][0][:, 0].tolist()
    assert all(v in first for v in kept) != all(-v in first for v in kept)
    assert torch.equal(changed.theta, mocks.theta)


def test_a_network_learns_mass_in_a_few_steps(system):
    batch = draw_mocks(system, 128, seed=9, batch_size=128)[0]
    constants = system.constants(batch)
    inputs = system.prepare(batch.observation, constants)
    torch.manual_seed(1)
    network = system.network(constants)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(20):
        loss = system.loss(network(inputs), batch)["negative_log_posterior"].mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(float(loss.detach()))
    assert min(losses) < losses[0] - 0.4


def test_wrong_settings_are_one_line():
    with pytest.raises(MelotteValueError, match="kept_galaxies") as caught:
        load_preset("galaxy-cluster", ["data.augmentation.kept_galaxies=[0.0, 2.0]"])
    assert "\n" not in str(caught.value)
    with pytest.raises(MelotteValueError, match="multiple of attention_seeds"):
        load_preset("galaxy-cluster-richness", ["model.width=50"])
