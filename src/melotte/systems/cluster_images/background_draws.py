"""Random backgrounds to add to images of clusters: how far a field moves what is inferred.

As Bialopetravičius & Narbutis 2020, Sect. 3.3, proposes: backgrounds are added to a cluster's
image and the inference is repeated. The background is counted twice then, so the scatter is larger
than the field's true share of the errors.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.io.image_cutouts import resampling_step
from melotte.io.image_files import merged_header, open_fits, reading_fits
from melotte.io.image_grids import reference_band, to_pixel, to_sky
from melotte.io.image_headers import match_bands, plain_band, read_band_header
from melotte.io.image_mosaics import read_mosaic_cutouts
from melotte.io.image_positions import ImagePositions, read_positions
from melotte.io.image_stacks import ExpectedImages, ImageOptions, ImageStack
from melotte.io.reprojection import celestial, first_image
from melotte.io.table_files import listed
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

    Of several bricks of a band, all are used, each by its area.

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
        objects = read_positions(positions, chosen.column, chosen.pixel_origin)
        bricks = _bricks(paths, objects, expected, chosen)
        found: list[Tensor] = []
        for _ in range(MOST_TRIES):
            free = _free_places(bricks, generator)
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


@dataclass(frozen=True)
class _Brick:
    """One image of the band whose grid stamps are cut on.

    Parameters
    ----------
    extent : array, shape (2,), px
        Columns and rows.
    wcs : astropy WCS, or None
    side : float, px
        Of a stamp.
    taken : array, shape (n, 2), px
        Columns and rows of the objects.
    """

    extent: Array
    wcs: Any
    side: float
    taken: Array

    @property
    def area(self) -> float:
        """Of the centres of stamps inside, deg2; px where it has no coordinates."""
        from astropy.wcs.utils import proj_plane_pixel_area

        pixel = 1.0 if self.wcs is None else float(proj_plane_pixel_area(self.wcs))
        return pixel * float(np.prod(np.maximum(self.extent - self.side, 0) + 1))

    def centres(self, uniform: Array) -> Array:
        """Centres (n, 2) of stamps inside, from numbers in [0, 1]."""
        return (self.side - 1) / 2 + uniform * np.maximum(self.extent - self.side, 0)

    def free(self, centres: Array) -> NDArray[np.bool_]:
        """Which stamps hold no object, shape (n,)."""
        apart = np.abs(centres[:, None] - self.taken[None]).max(-1) > self.side / 2
        return apart.all(1)

    def depth(self, places: Array) -> Array:
        """Distance (n,) of places to the nearest edge, px; below 0 outside."""
        return np.minimum(places + 0.5, self.extent - 0.5 - places).min(-1)


def _bricks(
    paths: Sequence[str | Path],
    objects: ImagePositions,
    expected: ExpectedImages,
    options: ImageOptions,
) -> list[_Brick]:
    """Images of the band whose grid stamps are cut on; the first file's without coordinates."""
    files = [Path(path) for path in paths]
    every: list[_Brick] = []
    names: list[str] = []
    scales: list[float] = []
    for place, path in enumerate(files):
        with open_fits(path) as opened, reading_fits(path):
            hdu = first_image(opened, path, options.hdu)
            header = read_band_header(merged_header(opened, hdu), None, path)
            header = options.of_plane(header, place, len(files), str(path))
            wcs = celestial(hdu, opened, path, needed=False)
            extent = np.array(hdu.shape[::-1], dtype=np.float64)
        scale = header.pixel_scale
        step = resampling_step(scale, expected) if scale > 0 else 1.0
        every.append(_Brick(extent, wcs, expected.size * step, np.zeros((0, 2))))
        names.append(plain_band(header.band))
        scales.append(scale)
    distinct = list(dict.fromkeys(names))
    where = listed([str(path) for path in files], most=3)
    matched = match_bands(distinct, expected.bands, where, options.missing_band == "allow")
    bands = [
        [
            number
            for number, name in enumerate(names)
            if place is not None and name == distinct[place]
        ]
        for place in matched
    ]
    first = every[0]
    if any(every[number].wcs is None for number in (0, *chain.from_iterable(bands))):
        if objects.x is None or objects.y is None:
            raise MelotteValueError(
                f"{where}: no celestial coordinates for columns ra and dec; give x and y"
            )
        taken = np.stack([objects.x, objects.y], 1)
        return [replace(first, wcs=None, taken=_known(taken))]
    sky = _on_sky(objects, first.wcs)
    of_bands = [[scales[number] for number in ones] for ones in bands]
    chosen = [every[number] for number in bands[reference_band(of_bands, expected.served_scales)]]
    return [replace(one, taken=_known(to_pixel(one.wcs, sky))) for one in chosen]


def _on_sky(objects: ImagePositions, wcs: Any) -> Any:
    """Known positions on the sky, those in pixels by the coordinates of the first image."""
    from astropy.coordinates import SkyCoord

    if objects.ra is None or objects.dec is None:
        return to_sky(wcs, _known(np.stack([np.asarray(objects.x), np.asarray(objects.y)], 1)))
    degrees = _known(np.stack([objects.ra, objects.dec], 1))
    return SkyCoord(degrees[:, 0], degrees[:, 1], unit="deg", frame="icrs")


def _known(pairs: Array) -> Array:
    """Rows (n, 2) that hold two numbers."""
    return pairs[np.isfinite(pairs).all(1)]


def _free_places(bricks: Sequence[_Brick], generator: torch.Generator) -> ImagePositions:
    """Random centres of stamps inside the images that hold no object.

    Where images overlap, a place is one of that in which it lies deepest, which is cut.
    """
    uniform = torch.rand(PLACES_A_TRY, 2, generator=generator, dtype=torch.float64).numpy()
    areas = torch.tensor([one.area for one in bricks], dtype=torch.float64)
    of = torch.multinomial(areas, PLACES_A_TRY, replacement=True, generator=generator).numpy()
    place = np.zeros((PLACES_A_TRY, 2))
    free = np.zeros(PLACES_A_TRY, dtype=bool)
    for number, brick in enumerate(bricks):
        rows = np.flatnonzero(of == number)
        centres = brick.centres(uniform[rows])
        free[rows] = brick.free(centres)
        if brick.wcs is None:
            place[rows] = centres
            continue
        sky = to_sky(brick.wcs, centres)
        place[rows] = np.stack([sky.ra.deg, sky.dec.deg], 1)
        depth = np.stack([one.depth(to_pixel(one.wcs, sky)) for one in bricks])
        free[rows] &= np.nan_to_num(depth, nan=-np.inf).argmax(0) == number
    ids = tuple(str(number) for number in range(int(free.sum())))
    first, second = place[free].T
    if bricks[0].wcs is None:
        return ImagePositions(ids, x=first, y=second)
    return ImagePositions(ids, ra=first, dec=second)
