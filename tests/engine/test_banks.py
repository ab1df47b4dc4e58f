"""Banks: shards add up to the whole, interrupted writing goes on, and damage is named."""

from __future__ import annotations

import pickle

import h5py
import numpy as np
import pytest
import torch
from linear_gaussian import PRESET, LinearGaussian

from melotte.engine.banks import BankReader, check_bank, merge_banks, write_bank
from melotte.engine.mocks import MockStream, concatenate, draw_mocks
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.ragged import Ragged
from melotte.systems.base import Batch, Observation


def write(path, ragged=False, n=50, seed=3, system=None, **options):
    system = system or LinearGaussian(ragged=ragged)
    options = {"batch_size": 8, "progress": False} | options
    return write_bank(system, PRESET, path, n, seed, **options)


def assert_same(first, second):
    for name in ("theta", "theta_known", "group", "weight"):
        assert torch.equal(getattr(first, name), getattr(second, name))
    assert first.targets.keys() == second.targets.keys()
    for name, value in first.targets.items():
        assert torch.equal(value, second.targets[name])
    for name, value in first.observation.data.items():
        other = second.observation.data[name]
        if isinstance(value, Ragged):
            assert torch.equal(value.offsets, other.offsets)
            value, other = value.values, other.values
        assert torch.equal(value, other)


def content(path):
    with BankReader(path) as reader:
        return reader.rows(0, len(reader))


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
def test_a_bank_holds_the_mocks_that_are_drawn_with_its_seed(tmp_path, ragged, compression):
    path = write(tmp_path / "bank.h5", ragged, compression=compression)
    drawn = concatenate(draw_mocks(LinearGaussian(ragged=ragged), 50, 3, batch_size=8))
    assert_same(content(path), drawn)
    assert check_bank(path) == []
    assert [one.name for one in tmp_path.iterdir()] == ["bank.h5"]


def test_a_bank_never_holds_training_mocks(tmp_path):
    bank = content(write(tmp_path / "bank.h5"))
    training = concatenate(list(MockStream(LinearGaussian(), 8, seed=3, n_batches=7)))
    assert not torch.isin(bank.theta, training.theta).any()


@pytest.mark.parametrize("ragged", [False, True])
@pytest.mark.parametrize("of", [2, 3, 7])
def test_shards_one_after_another_are_the_whole_bank(tmp_path, ragged, of):
    whole = content(write(tmp_path / "whole.h5", ragged))
    for task in reversed(range(1, of + 1)):
        shard = write(tmp_path / "bank.h5", ragged, task=task, of=of)
        assert check_bank(shard) == []
    assert_same(content(tmp_path / "bank.h5"), whole)
    assert_same(content(tmp_path / "bank.*.h5"), whole)
    merged = merge_banks(tmp_path / "bank.h5", tmp_path / "merged.h5")
    assert_same(content(merged), whole)
    assert check_bank(merged) == []


class Interrupted(LinearGaussian):
    """Is interrupted when the batch of a given turn is drawn."""

    def after(self, turns):
        object.__setattr__(self, "turns", turns)
        return self

    def draw(self, n, generator):
        object.__setattr__(self, "turns", self.turns - 1)
        if self.turns < 0:
            raise KeyboardInterrupt
        return super().draw(n, generator)


@pytest.mark.parametrize("part_seconds", [1e-9, 60.0])
def test_interrupted_writing_goes_on_where_it_stopped(tmp_path, part_seconds):
    whole = content(write(tmp_path / "whole.h5", ragged=True))
    path = tmp_path / "bank.h5"
    with pytest.raises(KeyboardInterrupt, match=r"the same command goes on from .*bank.h5.parts"):
        write(path, system=Interrupted(ragged=True).after(3), part_seconds=part_seconds)
    assert not path.exists()
    with pytest.raises(MelotteValueError, match="unfinished bank of other settings"):
        write(path, ragged=True, seed=4)
    rest = Interrupted(ragged=True).after(4)
    write(path, system=rest)
    assert rest.turns == 0
    assert_same(content(path), whole)
    assert sorted(one.name for one in tmp_path.iterdir()) == ["bank.h5", "whole.h5"]


def test_a_part_that_was_cut_short_is_named(tmp_path):
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "bank.h5", system=Interrupted().after(3), part_seconds=1e-9)
    (part, *_) = sorted((tmp_path / ".bank.h5.parts").iterdir())
    part.write_bytes(part.read_bytes()[:500])
    with pytest.raises(MelotteFileError, match=part.name):
        write(tmp_path / "bank.h5")


def test_a_complete_bank_is_not_written_again_but_another_seed_is(tmp_path):
    path = write(tmp_path / "bank.h5")
    idle = Interrupted().after(0)
    assert write(path, system=idle) == path
    first = content(path)
    second = content(write(path, seed=4))
    assert not torch.equal(first.theta, second.theta)


def test_rows_and_selections_of_many_shards(tmp_path):
    whole = content(write(tmp_path / "whole.h5", ragged=True))
    for task in (1, 2, 3):
        write(tmp_path / "bank.h5", ragged=True, task=task, of=3)
    with BankReader(tmp_path / "bank.h5") as reader:
        assert len(reader) == 50
        assert_same(reader.rows(13, 35), whole.select(torch.arange(13, 35)))
        chosen = torch.tensor([49, 3, 4, 3, 20])
        assert_same(reader.select(chosen), whole.select(chosen))
        assert_same(concatenate(list(reader.batches(11))), whole)
        copy = pickle.loads(pickle.dumps(reader))
        assert_same(copy.rows(0, 5), whole.select(torch.arange(5)))
        for wrong in (torch.tensor([50]), torch.tensor([-1]), torch.tensor([], dtype=torch.int64)):
            with pytest.raises(MelotteValueError, match="row numbers"):
                reader.select(wrong)
        with pytest.raises(MelotteValueError, match="none there"):
            reader.rows(60, 70)


def test_provenance_is_in_the_attributes(tmp_path):
    with BankReader(write(tmp_path / "bank.h5")) as reader:
        assert reader.preset == PRESET
        assert reader.seed == 3
        assert reader.parameters == LinearGaussian().parameters
        assert reader.infos[0].versions["torch"] == torch.__version__


class Rich(LinearGaussian):
    """Mocks with targets, flags, a header and unknown labels."""

    def observe(self, latent, generator, views=1):
        batch = super().observe(latent, generator, views)
        n = len(batch)
        known = torch.arange(n)[:, None] % torch.tensor([2, 3, 5]) != 0
        theta = torch.where(known, batch.theta, torch.nan)
        observation = Observation(
            batch.observation.data,
            flags=torch.arange(n),
            header={"unit": "mag", "counts": list(range(n)), "tool": object()},
        )
        targets = {"visible": torch.arange(n) % 2 == 0, "map": torch.ones(n, 4, 4)}
        return Batch(observation, theta, known, targets, batch.group, batch.weight)


def test_targets_flags_headers_and_unknown_labels_are_kept(tmp_path):
    path = write(tmp_path / "bank.h5", system=Rich())
    batch = content(path)
    assert check_bank(path) == []
    assert batch.targets["visible"].dtype == torch.bool
    assert batch.targets["map"].shape == (50, 4, 4)
    assert batch.observation.flags[:3].tolist() == [0, 1, 2]
    assert batch.observation.header == {"unit": "mag"}
    assert torch.equal(torch.isfinite(batch.theta), batch.theta_known)
    assert not batch.theta_known.all()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"task": 0, "of": 2}, "task 0 of 2"),
        ({"task": 3, "of": 2}, "task 3 of 2"),
        ({"task": 1, "of": 8}, "at most 7 shards"),
        ({"n": 0}, "at least 1 row"),
        ({"views": 3}, "batch_size 8 with views 3"),
    ],
)
def test_counts_that_do_not_go_together_are_refused(tmp_path, options, said):
    with pytest.raises(MelotteValueError, match=said):
        write(tmp_path / "bank.h5", **options)


def test_missing_repeated_and_foreign_shards_are_named(tmp_path):
    shards = [write(tmp_path / "bank.h5", task=task, of=3) for task in (1, 2, 3)]
    for kept, said in [
        ((1, 2), "shard 1 is missing"),
        ((0, 2), "before is missing"),
        ((0, 1), "next is missing"),
    ]:
        with pytest.raises(MelotteFileError, match=said):
            BankReader([shards[i] for i in kept])
    assert len(BankReader([shards[0], shards[2]], whole=False)) == 34
    with pytest.raises(MelotteFileError, match="another of the shards"):
        BankReader([*shards, shards[1]])
    other = write(tmp_path / "other.h5", seed=9)
    with pytest.raises(MelotteFileError, match="of another bank"):
        BankReader([*shards, other], whole=False)
    with pytest.raises(MelotteFileError, match="no such bank"):
        BankReader(tmp_path / "absent.h5")
    with pytest.raises(MelotteFileError, match="no bank was named"):
        BankReader([])


def test_a_bank_of_other_parameters_is_refused(tmp_path):
    path = write(tmp_path / "bank.h5")
    fewer = LinearGaussian(parameters=LinearGaussian().parameters[:2])
    BankReader(path, system=LinearGaussian())
    with pytest.raises(MelotteFileError, match="distance"):
        BankReader(path, system=fewer)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda path: path.write_bytes(b"theta,group\n1,2\n"), "damaged or of another kind"),
        (lambda path: path.write_bytes(b""), "damaged or of another kind"),
        (lambda path: path.write_bytes(path.read_bytes()[:5000]), "cut short"),
        (lambda path: path.unlink(), "no such"),
    ],
)
def test_files_that_are_no_bank_are_refused_in_one_line(tmp_path, change, said):
    path = write(tmp_path / "bank.h5")
    change(path)
    for opened in (BankReader, check_bank):
        with pytest.raises(MelotteFileError, match=said) as caught:
            opened(path)
        assert "\n" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("format", "the well", "not a bank of melotte"),
        ("format_version", 99, "format_version 99"),
        ("seed", None, "without attribute 'seed'"),
        ("parameters", "[", "malformed"),
        ("parameters", '[{"name": "x"}]', "malformed"),
        ("n_total", "many", "malformed"),
    ],
)
def test_wrong_attributes_are_refused(tmp_path, name, value, said):
    path = write(tmp_path / "bank.h5")
    with h5py.File(path, "r+") as file:
        if value is None:
            del file.attrs[name]
        else:
            file.attrs[name] = value
    with pytest.raises(MelotteFileError, match=said):
        check_bank(path)


def set_values(name, rows, value):
    def change(file):
        file[name][rows] = value

    return change


def drop(name):
    def change(file):
        del file[name]

    return change


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (set_values("theta", (4, 0), np.nan), "1 values are marked as known but not finite"),
        (set_values("theta_known", (slice(2), 1), False), "2 values are marked as unknown but"),
        (set_values("theta", (4, 2), 77.0), "1 values of distance lie outside [0.5, 5.0]"),
        (set_values("weight", 3, -1.0), "weight: 1 values are negative"),
        (set_values("data/x/values", (0, 0), np.inf), "data/x/values: 1 values are infinite"),
        (set_values("data/x/offsets", 5, 0), "do not rise from 0"),
        (set_values("data/x/offsets", -1, 1), "do not rise from 0"),
        (lambda file: file["data/x/offsets"].resize(7, axis=0), "offsets is int64 of shape (7,)"),
        (lambda file: file["group"].resize(7, axis=0), "group has 7 rows"),
        (drop("weight"), "lacks weight"),
        (drop("data"), "lacks data"),
        (drop("data/x"), "data is empty"),
        (drop("data/x/offsets"), "data/x lacks values or offsets"),
    ],
)
def test_the_check_finds_planted_damage(tmp_path, change, said):
    path = write(tmp_path / "bank.h5", ragged=True)
    with h5py.File(path, "r+") as file:
        change(file)
    problems = check_bank(path)
    assert any(said in problem for problem in problems), problems


def test_damage_inside_compressed_rows_is_named(tmp_path):
    path = write(tmp_path / "bank.h5")
    with h5py.File(path) as file:
        offset = file["data/x"].id.get_chunk_info(0).byte_offset
    raw = bytearray(path.read_bytes())
    raw[offset : offset + 200] = b"\xff" * 200
    path.write_bytes(bytes(raw))
    assert any("cannot be read" in problem for problem in check_bank(path))
    with pytest.raises(MelotteFileError, match="damaged in rows 0 to 50"):
        content(path)


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(MelotteFileError, match="does not exist"):
        write(tmp_path / "absent" / "bank.h5")
