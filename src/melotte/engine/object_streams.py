"""Random streams of single objects, keyed by their id: the same alone or among others."""

from __future__ import annotations

import hashlib

import torch

from melotte.engine.random import keyed_generator

INFERENCE_STREAM = 16
PRIOR_STREAM = 17
EVALUATION_STREAM = 18
PREDICTIVE_STREAM = 19


def object_generator(
    seed: int, stream: int, name: str, device: torch.device | str = "cpu"
) -> torch.Generator:
    """A generator for one object.

    Parameters
    ----------
    seed : int, >= 0
    stream : int, >= 0
        What it is for.
    name : str
        The object's id; objects of one name share their random numbers, which does no harm.
    device : torch.device or str

    Returns
    -------
    torch.Generator
    """
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).digest()
    return keyed_generator(seed, stream, int.from_bytes(digest[:4], "little"), device=device)
