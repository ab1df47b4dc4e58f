"""Settings of pi-DOC's networks."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from melotte.engine.settings import Settings
from melotte.networks import encoder_decoder, pooling_cnn
from melotte.networks.encoder_decoder import PIDOC_DROPOUT

Widths = tuple[Annotated[int, Field(ge=2)], ...]


class PiDocSettings(Settings):
    """The encoder-decoder of the map and the network of age and distance.

    Parameters
    ----------
    loss : {"perceptual", "mse"}
        Of the map.
    vgg16 : str, optional
        File of VGG16's first weights for the perceptual loss, as
        :func:`melotte.networks.vgg16_weights.read_vgg16` takes it; torchvision's without.
    grey : (float, float)
        log10(Msun/px) that become the 0 and 255 of a grey photograph for the perceptual loss.
    widths, regression_widths : list of int
        Channels of the convolutions of each network. Published only in a figure: these are ours.
    dropout : float
    """

    loss: Literal["perceptual", "mse"] = "perceptual"
    vgg16: str | None = None
    grey: tuple[float, float] = (-3.0, 2.0)
    widths: Widths = encoder_decoder.WIDTHS
    regression_widths: Widths = pooling_cnn.WIDTHS
    dropout: Annotated[float, Field(ge=0, lt=1)] = PIDOC_DROPOUT
