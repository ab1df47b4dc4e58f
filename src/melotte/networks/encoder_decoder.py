"""Maps to maps by strided convolutions and deconvolutions, with skip connections.

The network that predicts mass maps in pi-DOC. Published are the kinds and numbers of its layers,
the sizes of its maps, the concatenated skip connections and the dropout. Its kernels, channels and
activations stand in a figure alone or nowhere, and are ours: kernels of 3 by 3 pixels and strides
of 2; 32, 64, 128, 256 channels in the encoder and 128, 64, 32, 16 in the decoder; ReLU behind each
layer; a linear convolution that makes the map; first weights after Glorot & Bengio (2010) and
biases of 0, as Keras has them.

References
----------
Chardin & Bianchini 2021, MNRAS 504, 5656, Sect. 3.1.1 and Fig. 1.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from melotte.errors import MelotteValueError
from melotte.networks.map_padding import padded
from melotte.networks.rare_dropout import RareDropout

PIDOC_DROPOUT = 10**-2.5
"""Share of neurons turned off behind each layer, in training (Sect. 3.1.1)."""

WIDTHS = (32, 64, 128, 256)
"""Channels of the four convolutions; ours."""


class EncoderDecoder(nn.Module):
    """Convolutions that halve the map each, as many deconvolutions that double it again.

    Behind every deconvolution its map is concatenated with that of the same size in the encoder,
    the input itself at full size (Sect. 3.1.1).

    Parameters
    ----------
    n_channels, n_maps : int, > 0
        Of the input and the output.
    widths : sequence of int
        Channels behind each convolution; deconvolutions mirror them and end with half of the
        first.
    dropout : float, in [0, 1)

    Raises
    ------
    MelotteValueError
        When a number of channels is not positive, or the first width is odd.
    """

    def __init__(
        self,
        n_channels: int = 1,
        n_maps: int = 1,
        widths: Sequence[int] = WIDTHS,
        dropout: float = PIDOC_DROPOUT,
    ) -> None:
        super().__init__()
        if not widths or min(n_channels, n_maps, *widths) < 1 or widths[0] % 2:
            raise MelotteValueError(
                f"an encoder-decoder needs channels: found {n_channels} of the input, {n_maps} of "
                f"the output and {list(widths)} between, the first of which must be even"
            )
        self.multiple = 2 ** len(widths)
        self.dropout = RareDropout(dropout)
        before = [n_channels, *widths[:-1]]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(n_in, n_out, 3, 2, 1) for n_in, n_out in zip(before, widths, strict=True)
        )
        self.deconvolutions = nn.ModuleList()
        n_in = widths[-1]
        for n_out, n_skip in zip([*widths[-2::-1], widths[0] // 2], before[::-1], strict=True):
            self.deconvolutions.append(nn.ConvTranspose2d(n_in, n_out, 3, 2, 1, output_padding=1))
            n_in = n_out + n_skip
        self.output = nn.Conv2d(n_in, n_maps, 3, 1, 1)
        begin_as_keras(self)
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, maps: Tensor) -> Tensor:
        """Predicted maps.

        Parameters
        ----------
        maps : Tensor, shape (batch, n_channels, rows, columns)
            Finite. Sizes that are no multiples of 16 (of 2 to the number of convolutions) are
            padded with the last row and column, and the padding is cut off the output.

        Returns
        -------
        Tensor, shape (batch, n_maps, rows, columns)
        """
        rows, columns = maps.shape[-2:]
        state = padded(maps, self.multiple).contiguous(memory_format=torch.channels_last)
        skips = []
        for convolution in self.convolutions:
            skips.append(state)
            state = self.dropout(functional.relu(convolution(state), inplace=True))
        for deconvolution, skip in zip(self.deconvolutions, reversed(skips), strict=True):
            state = self.dropout(functional.relu(deconvolution(state), inplace=True))
            state = torch.cat([state, skip], 1)
        return self.output(state)[..., :rows, :columns]


def begin_as_keras(network: nn.Module) -> None:
    """Draw a network's first weights as Keras does by default.

    Parameters
    ----------
    network : nn.Module
        Its convolutions, deconvolutions and dense layers are set, in place.

    References
    ----------
    Glorot & Bengio 2010, Eq. 16: uniform weights; biases are 0.
    """
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
