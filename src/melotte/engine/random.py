"""Random streams keyed by seed, purpose and batch number.

Any batch can be made again, alone and in any order, which is what lets a resumed training
continue exactly and lets a bank be written in shards. Every purpose has its own stream, so that
validation mocks, banks and training never share a draw, whatever seeds they are given.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch

from melotte.errors import MelotteValueError

_WORD = 1 << 32


class Stream(IntEnum):
    """What a keyed stream is for; training batches are keyed by (seed, batch) alone."""

    MOCKS = 1
    VALIDATION = 2
    NETWORK_NOISE = 3
    INITIAL_WEIGHTS = 4
    CONSTANTS = 5
    REFERENCE = 6
    EXAMPLES = 7


def keyed_seed(seed: int, *keys: int) -> int:
    """A well-mixed 64-bit seed.

    The low 32 bits are a permutation of the last key: streams that differ in their last key
    alone (the batches of one run) differ there too. That matters because torch seeds its CPU
    generator from the low 32 bits only, where hashed seeds of 100,000 batches would be expected
    to collide once.

    Parameters
    ----------
    seed : int, >= 0
    keys : int, >= 0
        At least one; the last one below 2**32.

    Returns
    -------
    int, 0 to 2**64 - 1

    Raises
    ------
    MelotteValueError
        When the seed or a key is negative, or the last key is 2**32 or more.
    """
    if seed < 0 or not keys or min(keys) < 0 or keys[-1] >= _WORD:
        raise MelotteValueError(
            f"seed {seed} with keys {keys}: all must be >= 0, with at least one key and the "
            f"last one below {_WORD}"
        )
    *purpose, last = (int(key) for key in keys)
    shift, flip, high = (
        int(word) for word in np.random.SeedSequence(int(seed), spawn_key=purpose).generate_state(3)
    )
    low = _permuted((last + shift) % _WORD) ^ flip
    return _permuted(high ^ low) * _WORD + low


def keyed_generator(seed: int, *keys: int, device: torch.device | str = "cpu") -> torch.Generator:
    """A generator for one purpose and one batch.

    Parameters
    ----------
    seed : int, >= 0
    keys : int, >= 0
        Purpose (see :class:`Stream`), batch number and so on; the last one below 2**32.
    device : torch.device or str
        Where the draws are made; CPU and GPU draws differ for the same keys.

    Returns
    -------
    torch.Generator
    """
    return torch.Generator(device=device).manual_seed(keyed_seed(seed, *keys))


@contextmanager
def seeded_globally(seed: int, *keys: int) -> Iterator[None]:
    """Key torch's global CPU generator for a while, then put it back as it was.

    For code that takes no generator, such as the initialisation of layers.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(keyed_seed(seed, *keys))
        yield


def seed_globally(device: torch.device, seed: int, *keys: int) -> None:
    """Key the global generators of the CPU and of one device, for noise inside a network.

    In place of ``torch.manual_seed``, which also queues a call, with its stack trace, for every
    kind of device that the process has not begun to use: slow, and it never forgets them.
    """
    word = keyed_seed(seed, *keys)
    torch.default_generator.manual_seed(word)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(word)
    elif device.type == "mps":
        torch.mps.manual_seed(word)


def _permuted(word: int) -> int:
    # The finaliser of MurmurHash3 (Appleby 2011), a permutation of the 32-bit words.
    word ^= word >> 16
    word = word * 0x85EBCA6B % _WORD
    word ^= word >> 13
    word = word * 0xC2B2AE35 % _WORD
    return word ^ word >> 16
