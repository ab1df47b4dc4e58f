"""Random backgrounds to add to images of clusters: how far a field moves what is inferred.

As Bialopetravičius & Narbutis 2020, Sect. 3.3, proposes: backgrounds are added to a cluster's
image and the inference is repeated. The background is counted twice then, so the scatter is larger
than the field's true share of the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.io.image_files import open_fits
from melotte.io.image_mosaics import read_mosaic_cutouts
from melotte.io.image_positions import ImagePositions, read_positions
from melotte.io.image_stacks import ImageOptions, ImageStack
from melotte.io.reprojection import celestial, first_image
from melotte.sky.galaxy_fields import draw_environment
from melotte.systems.base import Observation
from melotte.systems.cluster_images.observing import turned
from melotte.systems.cluster_images.predictive import set_up_of
from melotte.systems.cluster_images.reading import expected_images
from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.background import BackgroundPool
from melotte.telescope.fields import simulate_field
from melotte.telescope.setups import ImagingSetup

Array = NDArray[np.float64]

TILES, TILE_SIDE = 6, 3
"""Simulated fields of each set-up, and their side in those of a stamp."""
MOSAIC_PLACES = 96
"""Free places that are cut out of a mosaic."""
PLACES_A_TRY, MOST_TRIES = 256, 12
_STREAM, _PLACES = 3, 4


class Backgrounds(Protocol):
    """Where random backgrounds come from."""

    def cut(self, observation: Observation, generator: torch.Generator) -> Tensor:
        """One background for each image, (n, n_bands, size, size), counts/s."""
        ...


class SimulatedBackgrounds:
    """Backgrounds of fields that are simulated with each object's own set-up.

    Their random numbers are those of no field that a network was trained, validated or tested on.

    Parameters
    ----------
    data : DataSettings
    """

    def __init__(self, data: DataSettings) -> None:
        self.data = data
        self._pools: dict[ImagingSetup, BackgroundPool] = {}

    def cut(self, observation: Observation, generator: torch.Generator) -> Tensor:
        """One background for each image, (n, n_bands, size, size), counts/s."""
        parts = []
        for row in range(len(observation)):
            camera = set_up_of(observation.select(torch.tensor([row])), self.data)
            parts.append(self._pool(camera).cut(1, self.data.size, generator))
        return torch.cat(parts)

    def _pool(self, camera: ImagingSetup) -> BackgroundPool:
        if camera not in self._pools:
            fields = self.data.fields
            tiles = []
            for number in range(TILES):
                generator = keyed_generator(fields.seed, _STREAM, number)
                environment = draw_environment(fields.galaxy, generator)
                side = TILE_SIDE * self.data.size
                tiles.append(simulate_field(environment, camera, side, generator))
            self._pools[camera] = BackgroundPool(tiles)
        return self._pools[camera]


class MosaicBackgrounds:
    """Backgrounds from random free places of the mosaics that objects are cut out of.

    Parameters
    ----------
    paths : sequence of paths
        The mosaics, as :func:`~melotte.io.image_mosaics.read_mosaic_cutouts` reads them.
    positions : path or astropy Table
        Of the objects; no background holds one of them.
    data : DataSettings
    options : mapping
        Those of :class:`~melotte.io.image_stacks.ImageOptions`.
    seed : int

    Raises
    ------
    MelotteValueError
        When the mosaics have no free place without unknown pixels.
    """

    def __init__(
        self,
        paths: Sequence[str | Path],
        positions: Any,
        data: DataSettings,
        options: Mapping[str, Any],
        seed: int,
    ) -> None:
        expected = expected_images(data)
        chosen = ImageOptions.parse(options)
        generator = keyed_generator(seed, _STREAM, _PLACES)
        places = read_positions(positions, chosen.column, chosen.pixel_origin)
        shape, taken = _grid_of(Path(paths[0]), places, chosen)
        found: list[Tensor] = []
        for _ in range(MOST_TRIES):
            place = _free_places(shape, taken, data.size, generator)
            ids = tuple(str(number) for number in range(len(place)))
            free = ImagePositions(ids, x=place[:, 0], y=place[:, 1])
            for stack in read_mosaic_cutouts(paths, free, expected, chosen):
                if isinstance(stack, ImageStack):
                    whole = ~stack.bad.flatten(1).any(1)
                    found.append(stack.images[whole])
            if sum(map(len, found)) >= MOSAIC_PLACES:
                break
        self.images = torch.cat(found)[:MOSAIC_PLACES] if found else torch.zeros(0)
        if not len(self.images):
            raise MelotteValueError(
                "the mosaics have no free place of the model's "
                f"{data.size} px with all pixels known; give larger ones for --background-draws"
            )

    def cut(self, observation: Observation, generator: torch.Generator) -> Tensor:
        """One background for each image, turned at random, (n, n_bands, size, size), counts/s."""
        which = torch.randint(len(self.images), (len(observation),), generator=generator)
        return turned(self.images[which], generator)


def _grid_of(
    path: Path, places: ImagePositions, options: ImageOptions
) -> tuple[tuple[int, int], Array]:
    """Rows and columns of the first mosaic, and the objects' pixels (n, 2) in it."""
    with open_fits(path) as opened:
        hdu = first_image(opened, path, options.hdu)
        shape = int(hdu.shape[0]), int(hdu.shape[1])
        wcs = celestial(hdu, opened, path, needed=False)
    if places.ra is None or places.dec is None or wcs is None:
        if places.x is None or places.y is None:
            raise MelotteValueError(
                f"{path} has no celestial coordinates for columns ra and dec; give x and y"
            )
        return shape, np.stack([places.x, places.y], 1)
    from astropy.coordinates import SkyCoord

    known = np.isfinite(places.ra) & np.isfinite(places.dec)
    sky = SkyCoord(places.ra[known], places.dec[known], unit="deg", frame="icrs")
    column, row = wcs.world_to_pixel(sky)
    return shape, np.stack([np.atleast_1d(column), np.atleast_1d(row)], 1)


def _free_places(
    shape: tuple[int, int], taken: Array, size: int, generator: torch.Generator
) -> Array:
    """Random centres (n, 2), column and row, of stamps inside the image that hold no object."""
    uniform = torch.rand(PLACES_A_TRY, 2, generator=generator, dtype=torch.float64).numpy()
    extent = np.array([shape[1], shape[0]], dtype=np.float64)
    place = (size - 1) / 2 + uniform * np.maximum(extent - size, 0)
    objects = taken[np.isfinite(taken).all(1)]
    apart = np.abs(place[:, None] - objects[None]).max(-1) > size / 2
    return place[apart.all(1)]
