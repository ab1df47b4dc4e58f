"""Perceptual loss: how far two maps are apart in the eyes of a network that knows photographs.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Appendix A, after Johnson et al. 2016, ECCV.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.vgg16_weights import LAYERS, Weights

COMPARED = ("block1_conv1", "block1_conv2", "block2_conv2")
"""Layers whose outputs are compared (Appendix A)."""

PHOTOGRAPH_MEANS = (103.939, 116.779, 123.68)
"""Mean blue, green and red of the photographs, of 255, that VGG16 wants taken off."""

MAPS_AT_ONCE = {"cpu": 4, "cuda": 32}
"""By device. Of a map of 160 x 160 pixels the features of one layer are 6.6 MB."""


class PerceptualLoss(nn.Module):
    """Sum over three layers of VGG16 of the mean squared difference of their outputs.

    A map of one channel counts as a grey photograph: it is scaled from ``limits`` to 0-255,
    repeated over blue, green and red, and their means are taken off, as VGG16 was trained. The
    paper does not say whether it did so. Values beyond the limits are not cut off, so that they
    have gradients.

    The gradient for the predicted maps is taken with the loss, a few maps at a time, and kept: so
    the memory is that of a few maps, whatever the batch. There are no second derivatives.

    Under autocast features have its precision. For a smooth error of 0.3 % of the limits' range the
    loss in bfloat16 is right to 1 % and its gradient points the same way (cosine 0.96); for 0.1 %
    rounding adds 19 %, and the cosine is 0.90.

    Parameters
    ----------
    weights : dict
        From :func:`~melotte.networks.vgg16_weights.read_vgg16` or
        :func:`~melotte.networks.vgg16_weights.vgg16_of_torchvision`. They do not learn, and are
        no part of the state.
    limits : (float, float)
        Values of the maps that become 0 and 255.
    maps_at_once : int, > 0, optional
        What :data:`MAPS_AT_ONCE` has for the device when not given.

    Raises
    ------
    MelotteValueError
        When the limits are empty or a layer is missing.
    """

    block1_conv1_bias: Tensor
    grey_kernel: Tensor
    mean_kernel: Tensor

    def __init__(
        self,
        weights: Weights,
        limits: tuple[float, float] = (0.0, 1.0),
        maps_at_once: int | None = None,
    ) -> None:
        super().__init__()
        low, high = limits
        if not (low < high and abs(low) + abs(high) < float("inf")):
            raise MelotteValueError(f"limits {limits}: the first must be below the second")
        missing = [layer for layer in LAYERS if layer not in weights]
        if missing or (maps_at_once is not None and maps_at_once < 1):
            raise MelotteValueError(
                f"the perceptual loss needs weights of {', '.join(LAYERS)} and a map or more at "
                f"once; found {', '.join(weights) or 'none'} and {maps_at_once}"
            )
        self.limits, self.maps_at_once = (float(low), float(high)), maps_at_once
        for layer, (kernel, bias) in weights.items():
            stored = kernel.contiguous(memory_format=torch.channels_last)
            self.register_buffer(f"{layer}_kernel", stored, persistent=False)
            self.register_buffer(f"{layer}_bias", bias, persistent=False)
        # Three equal colours meet the sum of their kernels; what their means add differs at the
        # map's edges alone, where a kernel reaches over them.
        first = weights["block1_conv1"][0]
        means = torch.tensor(PHOTOGRAPH_MEANS)[:, None, None]
        self.register_buffer("grey_kernel", first.sum(1, keepdim=True), persistent=False)
        self.register_buffer("mean_kernel", (first * means).sum(1, keepdim=True), persistent=False)

    def forward(self, predicted: Tensor, target: Tensor) -> Tensor:
        """Loss of each pair of maps.

        Parameters
        ----------
        predicted, target : Tensor, shape (batch, 1, rows, columns)
            Finite, in the units of ``limits``; gradients are those of ``predicted`` alone.

        Returns
        -------
        Tensor, shape (batch,), >= 0

        Raises
        ------
        MelotteValueError
            When the shapes differ or there is more than one channel.
        """
        self._check(predicted, target)
        if torch.is_grad_enabled() and predicted.requires_grad:
            loss: Any = _LossWithGradient.apply(predicted, target.detach(), self)
            return loss
        with torch.no_grad():
            return self._loss(predicted, target)

    def features(self, maps: Tensor) -> tuple[Tensor, ...]:
        """Outputs of the compared layers, behind their ReLU.

        Parameters
        ----------
        maps : Tensor, shape (batch, 1, rows, columns)

        Returns
        -------
        tuple of Tensor
            Shapes (batch, 64, rows, columns) twice and (batch, 128, rows // 2, columns // 2).
        """
        low, high = self.limits
        grey = (maps - low) * (255 / (high - low))
        state = functional.conv2d(grey, self.grey_kernel, self.block1_conv1_bias, padding=1)
        everywhere = torch.ones_like(maps[:1])
        state = state - functional.conv2d(everywhere, self.mean_kernel, padding=1)
        state = state.contiguous(memory_format=torch.channels_last)
        found = [functional.relu(state, inplace=True)]
        found.append(self._layer("block1_conv2", found[0]))
        pooled = functional.max_pool2d(found[1], 2)
        found.append(self._layer("block2_conv2", self._layer("block2_conv1", pooled)))
        return tuple(found)

    def _layer(self, name: str, state: Tensor) -> Tensor:
        kernel, bias = getattr(self, f"{name}_kernel"), getattr(self, f"{name}_bias")
        return functional.relu(functional.conv2d(state, kernel, bias, padding=1), inplace=True)

    def _loss(self, predicted: Tensor, target: Tensor) -> Tensor:
        size = self._at_once(predicted)
        parts = zip(predicted.split(size), target.split(size), strict=True)
        found = [self._together(*part) for part in parts]
        return torch.cat(found) if found else predicted.new_zeros(0)

    def _at_once(self, maps: Tensor) -> int:
        return self.maps_at_once or MAPS_AT_ONCE.get(maps.device.type, MAPS_AT_ONCE["cpu"])

    def _together(self, predicted: Tensor, target: Tensor) -> Tensor:
        with torch.no_grad():
            wanted = self.features(target)
        pairs = zip(self.features(predicted), wanted, strict=True)
        means = [(one.float() - other.float()).square().mean((1, 2, 3)) for one, other in pairs]
        return torch.stack(means).sum(0)

    def _check(self, predicted: Tensor, target: Tensor) -> None:
        if predicted.shape != target.shape or predicted.ndim != 4 or predicted.shape[1] != 1:
            raise MelotteValueError(
                f"the perceptual loss compares maps (batch, 1, rows, columns) with as many; found "
                f"{tuple(predicted.shape)} and {tuple(target.shape)}"
            )


class _LossWithGradient(torch.autograd.Function):
    """The loss, with its gradient made along the way: a map's loss depends on that map alone."""

    @staticmethod
    def forward(ctx: Any, predicted: Tensor, target: Tensor, loss: PerceptualLoss) -> Tensor:
        gradient = torch.empty_like(predicted)
        values = []
        size = loss._at_once(predicted)
        for first in range(0, len(predicted), size):
            part = slice(first, first + size)
            with torch.enable_grad():
                leaf = predicted[part].detach().requires_grad_()
                value = loss._together(leaf, target[part])
                (gradient[part],) = torch.autograd.grad(value.sum(), leaf)
            values.append(value.detach())
        ctx.save_for_backward(gradient)
        return torch.cat(values) if values else predicted.new_zeros(0, dtype=torch.float32)

    @staticmethod
    def backward(ctx: Any, *grad_outputs: Tensor) -> tuple[Tensor, None, None]:
        (gradient,) = ctx.saved_tensors
        weight = grad_outputs[0][:, None, None, None].to(gradient)
        return weight * gradient, None, None
