"""Residual encoder of small images, told of its circumstances.

Plain residual stages (He et al. 2016), each followed by a scale and a shift of its channels that
the context sets (Perez et al. 2018, FiLM), and an average in rings around the centre, where the
object is, in place of one over the whole image.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from melotte.errors import MelotteValueError


class ImageEncoder(nn.Module):
    """Images and context to features.

    Parameters
    ----------
    n_bands, n_context, n_features : int
    widths : sequence of int
        Channels of each stage; every stage but the first halves the image.
    blocks : sequence of int
        Residual blocks of each stage.
    stem_stride : int
        Stride of the first convolution, 5 pixels wide.
    rings : int
        Rings in which the last stage is averaged.
    dropout : float
        Before the features.
    """

    def __init__(
        self,
        n_bands: int,
        n_context: int,
        n_features: int,
        widths: Sequence[int] = (32, 64, 128, 128),
        blocks: Sequence[int] = (2, 2, 2, 2),
        stem_stride: int = 2,
        rings: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(widths) != len(blocks) or not widths:
            raise MelotteValueError(
                f"widths {list(widths)} and blocks {list(blocks)}: one of each a stage"
            )
        self.rings, self.widths = rings, tuple(widths)
        self.stem = nn.Sequential(
            nn.Conv2d(n_bands, widths[0], 5, stem_stride, 2, bias=False),
            nn.BatchNorm2d(widths[0]),
            nn.ReLU(inplace=True),
        )
        self.stages = residual_stages(widths, blocks)
        self.circumstances = nn.Sequential(nn.Linear(n_context, 64), nn.GELU())
        films = [nn.Linear(64, 2 * width) for width in widths]
        for film in films:
            nn.init.zeros_(film.weight)
            nn.init.zeros_(film.bias)
        self.films = nn.ModuleList(films)
        self.features = nn.Sequential(
            nn.LayerNorm(rings * widths[-1] + n_context),
            nn.Linear(rings * widths[-1] + n_context, n_features),
            nn.GELU(),
            nn.Dropout(dropout),
            nn.Linear(n_features, n_features),
            nn.GELU(),
        )
        self.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]

    def forward(self, image: Tensor, context: Tensor) -> Tensor:
        """Features of a batch.

        Parameters
        ----------
        image : Tensor, shape (batch, n_bands, n_rows, n_columns)
        context : Tensor, shape (batch, n_context)

        Returns
        -------
        Tensor, shape (batch, n_features)
        """
        state = self.stem(image.contiguous(memory_format=torch.channels_last))
        told = self.circumstances(context)
        for stage, film in zip(self.stages, self.films, strict=True):
            scale, shift = film(told)[..., None, None].chunk(2, 1)
            state = torch.addcmul(shift.to(state), stage(state), 1 + scale.to(state))
        pooled = ring_means(state, self.rings)
        return self.features(torch.cat([pooled, context.to(pooled)], 1))

    def rearranged(self, bands: Sequence[int], context: Sequence[int]) -> dict[str, Tensor]:
        """Weights of all that reads the inputs, for an encoder whose inputs stand elsewhere.

        Parameters
        ----------
        bands, context : sequence of int
            For each input of the other encoder its place here; below 0 where there is none, and
            its weights are zero.

        Returns
        -------
        dict of str to Tensor
            By their names in the state.
        """
        norm, layer = self.features[0], self.features[1]
        assert isinstance(norm, nn.LayerNorm)
        assert isinstance(layer, nn.Linear)
        n_pooled = self.rings * self.widths[-1]
        read = [*range(n_pooled), *(n_pooled + i if i >= 0 else i for i in context)]
        weights = self.state_dict()
        return {
            "stem.0.weight": _placed(weights["stem.0.weight"], bands),
            "circumstances.0.weight": _placed(weights["circumstances.0.weight"], context),
            # A new input passes the normalisation as it is; the layer behind does not read it.
            "features.0.weight": _placed(norm.weight.detach()[None], read, 1.0)[0],
            "features.0.bias": _placed(norm.bias.detach()[None], read)[0],
            "features.1.weight": _placed(layer.weight.detach(), read),
        }


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation beside a shortcut.

    Parameters
    ----------
    n_in, n_out, stride : int
    """

    def __init__(self, n_in: int, n_out: int, stride: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(n_in, n_out, 3, stride, 1, bias=False),
            nn.BatchNorm2d(n_out),
            nn.ReLU(inplace=True),
            nn.Conv2d(n_out, n_out, 3, 1, 1, bias=False),
            nn.BatchNorm2d(n_out),
        )
        # Starts as the shortcut alone, which lets high learning rates settle.
        nn.init.zeros_(self.body[-1].weight)  # type: ignore[arg-type]
        self.shortcut = (
            nn.Identity()
            if stride == 1 and n_in == n_out
            else nn.Sequential(nn.Conv2d(n_in, n_out, 1, stride, bias=False), nn.BatchNorm2d(n_out))
        )

    def forward(self, state: Tensor) -> Tensor:
        """Maps (batch, n_in, rows, columns) to (batch, n_out, rows / stride, ...)."""
        return torch.relu_(self.body(state) + self.shortcut(state))


def _placed(weight: Tensor, places: Sequence[int], new: float = 0.0) -> Tensor:
    """Columns (dimension 1) of a weight at some places; ``new`` where a place is below 0."""
    chosen = torch.tensor(list(places), device=weight.device)
    placed = weight[:, chosen.clamp(min=0)]
    placed[:, chosen < 0] = new
    return placed


def residual_stages(widths: Sequence[int], blocks: Sequence[int]) -> nn.ModuleList:
    """Stages of residual blocks, each but the first of half the size of the one before.

    Parameters
    ----------
    widths : sequence of int
        Channels of each stage; the first also of what enters.
    blocks : sequence of int
        Residual blocks of each stage.

    Returns
    -------
    ModuleList of Sequential
    """
    stages = nn.ModuleList()
    before = widths[0]
    for number, (width, depth) in enumerate(zip(widths, blocks, strict=True)):
        strides = [2 if number else 1] + [1] * (depth - 1)
        layers = []
        for stride in strides:
            layers.append(ResidualBlock(before, width, stride))
            before = width
        stages.append(nn.Sequential(*layers))
    return stages


def ring_means(state: Tensor, rings: int) -> Tensor:
    """Means of each channel in rings of equal width around the centre.

    Parameters
    ----------
    state : Tensor, shape (batch, n_channels, n_rows, n_columns)
    rings : int

    Returns
    -------
    Tensor, shape (batch, rings * n_channels)
        The outermost ring holds the corners too.
    """
    if rings == 1:
        return state.mean((2, 3))
    n_rows, n_columns = state.shape[-2:]
    y = torch.arange(n_rows, device=state.device) - (n_rows - 1) / 2
    x = torch.arange(n_columns, device=state.device) - (n_columns - 1) / 2
    radius = torch.hypot(y[:, None], x[None, :])
    ring = (radius / (min(n_rows, n_columns) / 2) * rings).long().clamp(max=rings - 1)
    weight = nn.functional.one_hot(ring.flatten(), rings).to(state)
    weight = weight / weight.sum(0).clamp(min=1)
    return (state.flatten(2) @ weight).flatten(1)
