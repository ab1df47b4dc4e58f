"""The first weights of VGG16, from a file or from torchvision.

Both hold the network of Simonyan & Zisserman (2014) as its authors trained it, on photographs.

References
----------
Simonyan & Zisserman 2014, arXiv:1409.1556, configuration D.
"""

from __future__ import annotations

import importlib
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from melotte.errors import MelotteFileError, MelotteValueError, MissingExtraError

LAYERS: dict[str, tuple[int, int]] = {
    "block1_conv1": (3, 64),
    "block1_conv2": (64, 64),
    "block2_conv1": (64, 128),
    "block2_conv2": (128, 128),
}
"""Channels into and out of each layer, by its name in Keras."""

_IN_TORCHVISION = {"block1_conv1": 0, "block1_conv2": 2, "block2_conv1": 5, "block2_conv2": 7}

Weights = dict[str, tuple[Tensor, Tensor]]
"""Kernel (out, in, 3, 3) and bias (out,) of each layer; the first takes blue, green and red."""


def read_vgg16(path: str | Path) -> Weights:
    """Read weights from a NumPy archive.

    Parameters
    ----------
    path : str or Path
        ``.npz`` with the keys ``LAYER_kernel`` (3, 3, in, out) and ``LAYER_bias`` (out,) of every
        layer of :data:`LAYERS`, as Keras names and orders them: the first layer takes blue, green
        and red. Other keys are left alone.

    Returns
    -------
    dict
        See :data:`Weights`.

    Raises
    ------
    MelotteFileError
        When the file is missing, no such archive, or lacks a key.
    MelotteValueError
        When an array has another shape or is not finite.
    """
    path = Path(path)
    arrays: dict[str, np.ndarray] = {}
    try:
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = [f"{layer}_{part}" for layer in LAYERS for part in ("kernel", "bias")]
            missing = [name for name in names if name not in archive]
            if not missing:
                arrays = {name: archive[name] for name in names}
    except FileNotFoundError:
        raise MelotteFileError(f"{path}: there is no such file of VGG16 weights") from None
    except (OSError, ValueError, TypeError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise MelotteFileError(f"{path}: not a NumPy archive of VGG16 weights ({error})") from None
    if missing:
        raise MelotteFileError(
            f"{path}: no array {missing[0]!r}; needed are a kernel and a bias of "
            f"{', '.join(LAYERS)}"
        )
    return _checked(
        {
            layer: (arrays[f"{layer}_kernel"].transpose(3, 2, 0, 1), arrays[f"{layer}_bias"])
            for layer in LAYERS
            if arrays[f"{layer}_kernel"].ndim == 4
        },
        str(path),
    )


def vgg16_of_torchvision() -> Weights:
    """The same weights from torchvision, which downloads them when they are first needed.

    Returns
    -------
    dict
        See :data:`Weights`; torchvision's first layer takes red, green and blue, and is turned.

    Raises
    ------
    MissingExtraError
        When torchvision is not installed.
    """
    try:
        models: Any = importlib.import_module("torchvision.models")
    except ImportError as error:
        raise MissingExtraError(
            "torchvision is not installed, from which the weights of VGG16 would come; install it "
            "with: pip install torchvision, or name a file of weights"
        ) from error
    # Of its two sets of weights, the one that the authors of VGG16 trained.
    network = models.vgg16(weights=models.VGG16_Weights.IMAGENET1K_FEATURES)
    found = {}
    for layer, place in _IN_TORCHVISION.items():
        kernel = network.features[place].weight.detach()
        if layer == "block1_conv1":
            kernel = kernel.flip(1)
        found[layer] = (kernel.cpu().numpy(), network.features[place].bias.detach().cpu().numpy())
    return _checked(found, "torchvision")


def _checked(arrays: Mapping[str, tuple[np.ndarray, np.ndarray]], source: str) -> Weights:
    weights = {}
    for layer, (n_in, n_out) in LAYERS.items():
        wanted = ((n_out, n_in, 3, 3), (n_out,))
        found = tuple(one.shape for one in arrays[layer]) if layer in arrays else None
        if found != wanted:
            raise MelotteValueError(
                f"{source}: {layer} needs a kernel for {n_in} channels in, {n_out} out and 3 x 3 "
                f"pixels, and {n_out} biases"
            )
        kernel, bias = (
            torch.from_numpy(np.ascontiguousarray(one, dtype=np.float32)) for one in arrays[layer]
        )
        if not bool(kernel.isfinite().all() and bias.isfinite().all()):
            raise MelotteValueError(f"{source}: weights of {layer} are not finite")
        weights[layer] = (kernel, bias)
    return weights
