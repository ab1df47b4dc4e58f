"""Lists with catalogued labels: joining, augmentation, and a network that learns them."""

from dataclasses import replace

import numpy as np
import pytest
import torch

import melotte
from melotte.api import plain_name
from melotte.engine.inference import infer_batches, run_network
from melotte.engine.mocks import draw_mocks
from melotte.engine.settings import LocalSettings
from melotte.engine.training import train
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.io.cluster_labels import TYPICAL_SCATTER, ClusterLabels
from melotte.parameters import Prior
from melotte.systems.base import RowError
from melotte.systems.open_cluster.labelled import augmented, label_lists
from melotte.systems.open_cluster.settings import AugmentationSettings
from melotte.systems.open_cluster.shifts import FEWEST_STARS
from melotte.systems.registry import build_system, load_preset

OVERRIDES = ("model.label_sources=[One, Other]", "model.ensemble=1")


@pytest.fixture(scope="module")
def system():
    return build_system(load_preset("open-cluster-catalogues", OVERRIDES))


@pytest.fixture(scope="module")
def mocks(system):
    return draw_mocks(system, 256, seed=41, batch_size=256)[0]


def named(batch):
    return replace(batch.observation, ids=tuple(f"C {i}" for i in range(len(batch))))


def labels_of(batch, shift=0.4):
    """``One`` gives the truth (no [Fe/H]), ``Other`` ages ``shift`` older."""
    values = np.full((len(batch), 2, 4), np.nan)
    values[:, 0] = values[:, 1] = batch.theta.numpy()
    values[:, 0, 3] = np.nan
    values[:, 1, 0] += shift
    return ClusterLabels(
        tuple(f"c_{i}" for i in range(len(batch))), ("Other", "One"), values[:, ::-1]
    )


def joined(system, batch, **more):
    return system.label([named(batch)], labels_of(batch, **more), plain_name)


def test_lists_meet_their_labels(system, mocks):
    result = joined(system, mocks)
    batch = result.batch
    assert len(batch) == len(mocks)
    assert result.ids[:2] == ("C 0", "C 1")
    labels = batch.targets["labels"]
    assert torch.allclose(labels[:, 0, :3], mocks.theta[:, :3])
    assert torch.isnan(labels[:, 0, 3]).all()
    older = mocks.theta[:, 0] + 0.4
    inside = older <= system.parameters[0].high
    assert torch.allclose(labels[inside, 1, 0], older[inside], atol=1e-5)
    assert torch.isnan(labels[~inside, 1, 0]).all()
    assert not batch.theta_known.any()


def test_lists_without_labels_are_counted(system, mocks):
    few = mocks.select(torch.arange(10))
    labels = labels_of(mocks.select(torch.arange(7)))
    entries = [RowError("broken", "no star", 1), named(few)]
    result = label_lists(entries, labels, ("One",), Prior(system.parameters), plain_name)
    assert (len(result.batch), result.n_unlabelled, result.n_rejected) == (7, 3, 1)
    with pytest.raises(MelotteValueError, match="no list has a label of Nobody: 10 lists"):
        label_lists(entries, labels, ("Nobody",), Prior(system.parameters), plain_name)


def one_source(*named):
    """Labels of the catalogue ``One``: (name, log_age) pairs."""
    values = np.full((len(named), 1, 4), np.nan)
    values[:, 0, 0] = [age for _, age in named]
    return ClusterLabels(tuple(name for name, _ in named), ("One",), values)


def ages_of(system, mocks, names, labels):
    some = replace(mocks.select(torch.arange(len(names))).observation, ids=tuple(names))
    result = label_lists([some], labels, ("One",), Prior(system.parameters), plain_name)
    ages = result.batch.targets["labels"][:, 0, 0].tolist()
    return dict(zip(result.ids, ages, strict=True)), result


def test_the_exact_name_counts_first_and_spellings_of_one_cluster_are_merged(system, mocks):
    labels = one_source(("NGC 5", 8.0), ("NGC_0005", np.nan), ("IC-1", np.nan), ("IC_01", 9.0))
    ages, result = ages_of(system, mocks, ["NGC 5", "IC 1"], labels)
    assert ages == {"NGC 5": 8.0, "IC 1": 9.0}
    assert result.n_ambiguous == 0


def test_numbers_tell_clusters_apart_whose_plain_names_agree(system, mocks):
    labels = one_source(("ESO 92-05", 8.0), ("ESO 9-205", 9.0), ("ESO 12-3", 7.0))
    names = ["ESO_092_05", "ESO_009_205", "eso9205", "ESO 1-23", "eso123"]
    ages, result = ages_of(system, mocks, names, labels)
    assert ages == {"ESO_092_05": 8.0, "ESO_009_205": 9.0, "eso123": 7.0}
    assert (result.n_ambiguous, result.n_unlabelled) == (1, 2)
    assert "without a label: 2 (1 of ambiguous name)" in result.lines()[0]


def test_a_list_without_a_name_has_no_label(system, mocks):
    for unnamed in ("-", ""):
        labels = one_source((unnamed, 8.0), ("A", 9.0))
        assert ages_of(system, mocks, ["", "A"], labels)[0] == {"A": 9.0}


def test_groups_go_by_name_whatever_the_order_of_the_labels(system, mocks):
    pairs = [("A 1", 8.0), ("B 2", 9.0), ("C 3", 7.0)]
    names = ["B 2", "C_3", "A 1", "C 3"]
    one, other = (
        ages_of(system, mocks, names, one_source(*order))[1].batch for order in (pairs, pairs[::-1])
    )
    assert one.group.tolist() == other.group.tolist() == [1, 2, 0, 2]


def test_labels_outside_the_prior_are_counted_and_all_of_them_refused(system, mocks):
    few = mocks.select(torch.arange(10))
    labels = labels_of(few, shift=0.0)
    labels.values[0, 1, 2] = 400.0
    result = system.label([named(few)], labels, plain_name)
    assert result.counts["One"]["distance"] == (9, 1)
    assert result.counts["One"]["metallicity"] == (0, 0)
    assert "distance 9 (1 outside the prior)" in result.lines()[1]
    labels.values[:, 1, 2] *= 1000
    with pytest.raises(MelotteValueError, match=r"of One: no distance .* 0.03 to 15 kpc; they are"):
        system.label([named(few)], labels, plain_name)


def test_labels_of_one_catalogue_get_typical_noise(system, mocks):
    few = mocks.select(torch.arange(10))
    scatter = system.label([named(few)], labels_of(few), plain_name).batch.targets["label_scatter"]
    assert scatter[3, 0].tolist() == pytest.approx(TYPICAL_SCATTER)


def test_short_lists_keep_their_stars(system, mocks, generator):
    batch = joined(system, mocks).batch
    settings = AugmentationSettings(kept_stars=(0.0, 0.01), most_stars=10)
    before = batch.observation.data["stars"].counts
    after = augmented(batch, settings, generator).observation.data["stars"].counts
    assert (after >= before.clamp(max=FEWEST_STARS)).all()
    assert after[before > 40].float().mean() < FEWEST_STARS + 4


def test_no_list_is_moved_out_of_the_prior(system, mocks):
    batch = joined(system, mocks, shift=0.0).batch
    settings = AugmentationSettings(
        kept_stars=(1.0, 1.0),
        most_stars=10_000,
        error_share=0.0,
        extinction_shift=3.0,
        distance_shift=5.0,
        label_noise=(0.0, 0.0, 0.0, 0.0),
    )
    prior = Prior(system.parameters)

    def beyond(changed):
        unit = prior.to_unit(changed.targets["labels"])
        return ((unit < 0) | (unit > 1)).flatten(1).any(1)

    free, kept = (
        augmented(batch, settings, torch.Generator().manual_seed(3), limit)
        for limit in (None, prior)
    )
    outside = beyond(free)
    assert outside.sum() > 10
    assert not beyond(kept).any()
    still = torch.nan_to_num(kept.targets["labels"]) == torch.nan_to_num(batch.targets["labels"])
    assert still[outside].all()
    assert not still[~outside].all()
    stars, unmoved = (one.observation.data["stars"] for one in (batch, kept))
    row = int(torch.nonzero(outside)[0])
    assert torch.equal(unmoved[row][:, 0], stars[row][:, 0])


def test_augmentation_keeps_what_it_should(system, mocks, generator):
    batch = joined(system, mocks).batch
    settings = AugmentationSettings(
        kept_stars=(0.5, 0.8), most_stars=60, label_noise=(0.0, 0.0, 0.0, 0.0)
    )
    changed = augmented(batch, settings, generator)
    before = batch.observation.data["stars"].counts
    after = changed.observation.data["stars"].counts
    assert after.sum() < 0.8 * before.sum()
    assert (after <= before).all()
    assert (after[before > 200].float().mean() - 60).abs() < 6
    assert torch.equal(changed.observation.data["n_listed"], after.float())
    same = torch.nan_to_num(changed.targets["labels"]) == torch.nan_to_num(batch.targets["labels"])
    assert same.all()
    repeated = augmented(batch, settings, torch.Generator().manual_seed(1))
    again = augmented(batch, settings, torch.Generator().manual_seed(1))
    first, second = (one.observation.data["stars"].values for one in (repeated, again))
    assert torch.equal(torch.nan_to_num(first), torch.nan_to_num(second))
    assert augmented(mocks, settings, generator) is mocks


def test_label_noise_has_the_scatter_of_the_catalogues(system, mocks, generator):
    batch = joined(system, mocks).batch
    batch = replace(batch, targets=batch.targets | {"label_scatter": torch.full((256, 2, 4), 0.2)})
    noisy = augmented(
        batch, AugmentationSettings(label_noise=(0.5, 0.5, 0.5, 0.5)), generator
    ).targets["labels"]
    change = noisy - batch.targets["labels"]
    # Half of the draws of Student's t with three degrees of freedom lie within 0.765.
    assert change[:, 0, 0].abs().median() == pytest.approx(0.0765, rel=0.2)
    relative = torch.log(noisy / batch.targets["labels"])[:, 1, 2]
    assert relative.abs().median() == pytest.approx(0.0765, rel=0.2)
    assert torch.isnan(noisy[:, 0, 3]).all()


def test_moved_lists_take_their_labels_along(system, mocks):
    batch = joined(system, mocks, shift=0.0).batch
    settings = AugmentationSettings(
        kept_stars=(1.0, 1.0),
        most_stars=10_000,
        error_share=0.0,
        extinction_shift=1.0,
        distance_shift=2.0,
        label_noise=(0.0, 0.0, 0.0, 0.0),
    )
    changed = augmented(batch, settings, torch.Generator().manual_seed(3))
    dust = (changed.targets["labels"] - batch.targets["labels"])[:, 0, 1]
    modulus = 5 * torch.log10(changed.targets["labels"] / batch.targets["labels"])[:, 0, 2]
    assert ((dust >= 0) & (dust <= 1)).all()
    assert ((modulus > -1e-4) & (modulus < 2.001)).all()
    assert 0.2 < (dust > 0.01).float().mean() < 0.6
    still = (dust == 0) & (modulus.abs() < 1e-5)
    assert 0.1 < still.float().mean() < 0.7
    # The observed medians move by the labels' shift, up to the stars that leave the list.
    only_far = (dust == 0) & (modulus > 0.5)
    stars, moved = batch.observation.data["stars"], changed.observation.data["stars"]
    assert only_far.sum() >= 10
    for i in torch.nonzero(only_far)[:10, 0].tolist():
        brightest = moved[i][:, 0].min() - stars[i][:, 0].min()
        assert brightest == pytest.approx(float(modulus[i]), abs=1e-3)


@pytest.fixture(scope="module")
def learned(tmp_path_factory, system, mocks):
    """The shipped physics, and two catalogues learned from labelled mocks in a few steps."""
    preset = load_preset(
        "open-cluster-catalogues",
        (
            *OVERRIDES,
            "training.max_epochs=12",
            "training.batch_size=64",
            "training.learning_rate=3e-3",
            "training.precision=32",
            "training.warmup_batches=4",
            "training.ema_decay=0.5",
            "training.rate_factors={}",
            "data.augmentation.most_stars=60",
        ),
    )
    path = tmp_path_factory.mktemp("learned") / "model.safetensors"
    return train(
        system,
        preset.model_dump(mode="json"),
        preset.training,
        LocalSettings(progress="none"),
        path,
        start=melotte.load("open-cluster", "cpu"),
        examples=joined(system, mocks).batch,
    )


def asked(observation, source):
    data = dict(observation.data) | {"source": torch.full((len(observation),), float(source))}
    return replace(observation, data=data)


def test_catalogues_are_learned_and_the_physics_stays(system, mocks, learned):
    physics = melotte.load("open-cluster", "cpu")
    some = mocks.observation.select(torch.arange(80))
    before = run_network(physics, some)["posterior"].mean()
    assert torch.equal(run_network(learned, some)["posterior"].mean(), before)
    assert torch.equal(run_network(learned, asked(some, 0))["posterior"].mean(), before)
    one, other = (
        learned.prior.from_unit(run_network(learned, asked(some, k))["posterior"].mean())[:, 0]
        for k in (1, 2)
    )
    # The other catalogue's ages are 0.4 dex older.
    assert (other - one).median() == pytest.approx(0.4, abs=0.15)


def test_what_a_catalogue_never_gave_is_not_given(mocks, learned):
    assert learned.network.catalogues.taught.tolist() == [
        [True, True, True, False],
        [True, True, True, True],
    ]
    some = named(mocks.select(torch.arange(5)))
    results = [infer_batches(learned, [asked(some, k)], n_samples=4) for k in (0, 1, 2)]
    given = [np.isfinite(one.quantiles).all((0, 1)).tolist() for one in results]
    assert given == [[True] * 4, [True, True, True, False], [True] * 4]
    assert not any(one.flags[0] & Flag.FAILED for one in results)
    assert np.isnan(results[1].samples[..., 3]).all()
    assert np.isfinite(results[1].samples[..., :3]).all()


def test_a_batch_asks_for_one_kind_of_values(mocks, learned):
    some = mocks.observation.select(torch.arange(2))
    mixed = replace(some, data=dict(some.data) | {"source": torch.tensor([0.0, 1.0])})
    with pytest.raises(MelotteValueError, match="at once"):
        run_network(learned, mixed)


def test_the_catalogue_is_chosen_by_name(system):
    assert system.sources(None) == (0,)
    assert system.sources("simulation") == (0,)
    assert system.sources("oTHER") == (2,)
    assert system.sources("all") == (0, 1, 2)
    with pytest.raises(MelotteValueError, match=r"does not know 'MWSC'; .*simulation, One, Other"):
        system.sources("MWSC")


def test_members_of_an_ensemble_take_turns_and_are_mixed(mocks):
    system = build_system(
        load_preset("open-cluster-catalogues", (*OVERRIDES[:1], "model.ensemble=3"))
    )
    network = system.network({})
    network.adopt(melotte.load("open-cluster", "cpu").network)
    batch = joined(system, mocks.select(torch.arange(6))).batch
    inputs = system.prepare(batch.observation, melotte.load("open-cluster", "cpu").constants)
    torch.manual_seed(2)
    trained = set()
    for _ in range(12):
        network.train().zero_grad()
        system.loss(network(inputs), batch)["negative_log_posterior"].sum().backward()
        touched = {
            name.split(".")[2]
            for name, weight in network.catalogues.named_parameters(prefix="catalogues")
            if weight.grad is not None and weight.grad.abs().sum() > 0
        }
        assert len(touched) == 1
        trained |= touched
    assert trained == {"0", "1", "2"}
    network.eval()
    with torch.no_grad():
        mixed = network(inputs)["posterior"]
    assert len(mixed.members) == 3
    assert len(mixed) == len(network(inputs)["pairs"])


@pytest.mark.parametrize("names", ["[Other, One]", "[One, Third]"])
def test_weights_of_a_catalogue_never_become_another_ones(learned, names):
    other = build_system(
        load_preset("open-cluster-catalogues", (f"model.label_sources={names}", *OVERRIDES[1:]))
    ).network({})
    other.adopt(learned.network)
    ours, theirs = other.state_dict(), learned.network.state_dict()
    encoder = next(key for key in theirs if key.startswith("encoder."))
    assert torch.equal(ours["catalogues.members.0." + encoder], theirs[encoder])
    assert not torch.equal(theirs["catalogues.members.0." + encoder], theirs[encoder])
    assert not other.catalogues.taught.any()
    assert not other.catalogues.members[0].modulation.weight.any()


def test_a_start_under_another_prior_or_none_at_all_is_one_line(system, mocks, tmp_path):
    batch = joined(system, mocks.select(torch.arange(20))).batch
    shipped = melotte.load("open-cluster", "cpu")
    for change, start, said in (
        ("data.prior.distance=[0.03, 5.0]", shipped, r"distance 0\.03 to 15\.0 kpc .* here .*5\.0"),
        ("data.prior.metallicity_width=0.3", shipped, r"deviation 0\.25\), here .*0\.3\)"),
        ("model.ensemble=1", None, r"encoder, head, .* random: start from a model"),
    ):
        preset = load_preset("open-cluster-catalogues", (*OVERRIDES, change))
        with pytest.raises(MelotteValueError, match=said) as caught:
            train(
                build_system(preset),
                preset.model_dump(mode="json"),
                preset.training,
                LocalSettings(progress="none"),
                tmp_path / "model.safetensors",
                start=start,
                examples=batch,
            )
        assert "\n" not in str(caught.value)


def test_a_model_is_started_from_whatever_catalogues_it_knows(learned):
    weights = learned.network.state_dict()
    same = build_system(load_preset("open-cluster-catalogues", OVERRIDES)).network({})
    same.adopt(learned.network)
    name = "catalogues.members.0.adapter.1.weight"
    assert torch.equal(same.state_dict()[name], weights[name])
    other = build_system(
        load_preset("open-cluster-catalogues", ("model.label_sources=[A, B, C]",))
    ).network({})
    other.adopt(learned.network)
    state = other.state_dict()
    copied = [key for key in weights if key.startswith(("encoder.", "head."))]
    assert copied
    for key in copied:
        assert torch.equal(state["catalogues.members.0." + key], weights[key])
    assert not state["catalogues.taught"].any()
    plain = build_system(load_preset("open-cluster")).network({})
    plain.adopt(learned.network)
    assert not any(key.startswith("catalogues") for key in plain.state_dict())
