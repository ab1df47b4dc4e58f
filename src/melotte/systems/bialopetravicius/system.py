"""The two papers' systems: their mocks, preparations, networks and losses.

References
----------
Bialopetravičius, Narbutis & Vansevičius 2019, A&A 621, A103 (Paper I).
Bialopetravičius & Narbutis 2020, AJ 160, 264 (Paper II).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from melotte.engine.results import ResultColumn, described
from melotte.errors import MelotteValueError
from melotte.systems.base import Batch, Field, Observation, Output
from melotte.systems.bialopetravicius.losses import paper_one_loss, paper_two_loss
from melotte.systems.bialopetravicius.networks import PaperOneNetwork, PaperTwoNetwork
from melotte.systems.bialopetravicius.preparation import (
    paper_one_preparation,
    paper_two_preparation,
)
from melotte.systems.bialopetravicius.settings import PaperOneSettings, PaperTwoSettings
from melotte.systems.cluster_images.settings import DataSettings
from melotte.systems.cluster_images.system import ImageSystem


class PaperSystem(ImageSystem):
    """What the two papers' systems share: images alone are prepared, without measured constants.

    Parameters
    ----------
    data : DataSettings
    model : PaperOneSettings or PaperTwoSettings

    Raises
    ------
    MelotteValueError
        When clusters would be drawn outside the ranges of the network.
    """

    prepared: Callable[[Tensor], Tensor]
    """Network input from images (batch, n_bands, n_rows, n_columns) in counts/s."""

    def __init__(self, data: DataSettings, model: PaperOneSettings | PaperTwoSettings) -> None:
        super().__init__(data, model.parameters())
        _check_within(data, model)

    def constants(self, batch: Batch) -> dict[str, Any]:
        """None are needed."""
        del batch
        return {}

    def prepare(self, observation: Observation, constants: Mapping[str, Any]) -> dict[str, Field]:
        """The images as the paper prepares them."""
        del constants
        return {"image": self.prepared(_image(observation))}


class PaperOne(PaperSystem):
    """Age, mass and size of M31's clusters by regression, without extinction.

    Parameters
    ----------
    data : DataSettings
        All clusters of one extinction.
    model : PaperOneSettings

    Raises
    ------
    MelotteValueError
        When clusters would be drawn outside the ranges of the network, or with extinctions.
    """

    name = "bialopetravicius2019"
    outputs = (Output("posterior", "vector", "age, mass and size"),)

    def __init__(self, data: DataSettings, model: PaperOneSettings) -> None:
        if data.clusters.reddened:
            raise MelotteValueError(
                "data.clusters.extinction_v: this network knows one extinction alone, found "
                f"{list(data.clusters.extinction_v)}"
            )
        super().__init__(data, model)
        self.model = model

    prepared = staticmethod(paper_one_preparation)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`PaperOneNetwork`."""
        del constants
        return PaperOneNetwork(len(self.data.bands), self.model)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """The paper's smooth L1 loss; see :func:`paper_one_loss`."""
        return paper_one_loss(outputs, batch, self.model)


class PaperTwo(PaperSystem):
    """Age, extinction, mass, size, class and visibility of M83's clusters on grids.

    Parameters
    ----------
    data : DataSettings
    model : PaperTwoSettings

    Raises
    ------
    MelotteValueError
        When clusters would be drawn outside the grids.
    """

    name = "bialopetravicius2020"
    outputs = (
        Output("posterior", "vector", "age, extinction, mass and size"),
        Output("class", "class", "a cluster, or background alone"),
    )

    def __init__(self, data: DataSettings, model: PaperTwoSettings) -> None:
        super().__init__(data, model)
        self.model = model

    prepared = staticmethod(paper_two_preparation)

    def network(self, constants: Mapping[str, Any]) -> nn.Module:
        """Build an untrained :class:`PaperTwoNetwork`."""
        del constants
        return PaperTwoNetwork(len(self.data.bands), self.model)

    def loss(self, outputs: Mapping[str, Any], batch: Batch) -> dict[str, Tensor]:
        """The paper's four cross-entropies; see :func:`paper_two_loss`."""
        return paper_two_loss(outputs, batch, self.model)

    @property
    def described_columns(self) -> dict[str, tuple[str, str]]:
        """Units and descriptions of :meth:`result_columns`."""
        columns = {
            "class_probability": ("", "probability of a cluster"),
            "visibility": ("", "visibility around its highest bin"),
        }
        for parameter in self.parameters:
            about = f"{parameter.name} around the highest bin of its activations"
            columns[f"{parameter.name}_peak"] = (parameter.unit, about)
        return columns

    def result_columns(
        self, observation: Observation, outputs: Mapping[str, Any]
    ) -> dict[str, ResultColumn]:
        """Probability of a cluster, visibility, and the papers' point estimates.

        ``NAME_peak`` is the average around the highest bin (Sect. 3.2), which the paper's figures
        show.
        """
        del observation
        values = {
            "class_probability": torch.sigmoid(outputs["class"].float()).cpu().numpy(),
            "visibility": outputs["visibility"].float().cpu().numpy(),
        }
        peak = outputs["posterior"].mode().cpu()
        for i, parameter in enumerate(self.parameters):
            values[f"{parameter.name}_peak"] = np.asarray(parameter.from_unit(peak[:, i]))
        return described(values, self.described_columns)


def _image(observation: Observation) -> Tensor:
    image = observation.data["image"]
    if not isinstance(image, Tensor) or image.ndim != 4:
        raise MelotteValueError("image: needs shape (batch, n_bands, n_rows, n_columns)")
    return image.float()


def _check_within(data: DataSettings, model: PaperOneSettings | PaperTwoSettings) -> None:
    for parameter in model.parameters():
        low, high = getattr(data.clusters, parameter.name)
        # The networks' ends are written with six digits.
        slack = 1e-5 * (abs(parameter.low) + abs(parameter.high))
        if low < parameter.low - slack or high > parameter.high + slack:
            raise MelotteValueError(
                f"data.clusters.{parameter.name}: [{low}, {high}] must lie within the network's "
                f"[{parameter.low}, {parameter.high}]"
            )
