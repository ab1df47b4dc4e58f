"""Backgrounds by area: simulated fields, each seen by one of the set-ups, or a user's mosaics."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.sky.galaxy_fields import draw_environment
from melotte.systems.cluster_images.set_ups import SetUps
from melotte.systems.cluster_images.settings import DataSettings
from melotte.telescope.background import BackgroundPool
from melotte.telescope.fields import simulate_field

_AREA_NUMBERS = {"training": 0, "validation": 1, "test": 2}
_SHARES = (0.7, 0.15, 0.15)


@dataclass(frozen=True)
class AreaFields:
    """Backgrounds of one area.

    Parameters
    ----------
    pool : BackgroundPool
    tiles_of : Tensor of int64, shape (n_set_ups, n_each), or None
        Tiles that show what each set-up sees; any tile does for all set-ups without.
    """

    pool: BackgroundPool
    tiles_of: Tensor | None

    def cut(self, set_up: Tensor, size: int, generator: torch.Generator) -> Tensor:
        """Backgrounds (n, n_bands, size, size), counts/s, as these set-ups see them.

        Parameters
        ----------
        set_up : Tensor of int64, shape (n,)
        size : int, px
        generator : torch.Generator
            Of any device.
        """
        n = len(set_up)
        if generator.device.type != "cpu":
            # Places are chosen on the CPU, from a seed of the same stream.
            seed = torch.randint(1 << 62, (1,), generator=generator, device=generator.device)
            generator = torch.Generator().manual_seed(int(seed))
        tile = None
        if self.tiles_of is not None:
            choice = torch.randint(self.tiles_of.shape[1], (n,), generator=generator)
            tile = self.tiles_of[set_up.cpu(), choice]
        return self.pool.cut(n, size, generator, tile)


_OF_MOSAICS = ("pixel_scale", "blur", "exposure_factor", "distance_modulus", "metallicity")
"""Ranges of which a camera with mosaics of its own has one value; clusters are made with it."""


def fields_of(
    data: DataSettings, set_ups: SetUps, area: str, device: torch.device | str
) -> AreaFields:
    """The backgrounds of an area.

    Parameters
    ----------
    data : DataSettings
    set_ups : SetUps
        Of the area.
    area : {"training", "validation", "test"}
    device : torch.device or str
    """
    number = _AREA_NUMBERS[area]
    if data.fields.mosaics is not None:
        return AreaFields(_mosaic_pool(data, number).to(device), None)
    settings = data.fields
    n_tiles = settings.tiles if area == "training" else settings.held_out_tiles
    n_each = max(1, n_tiles // len(set_ups))
    tiles = []
    for i in range(len(set_ups) * n_each):
        generator = keyed_generator(settings.seed, number, 1, i)
        environment = draw_environment(settings.galaxy, generator)
        camera = set_ups.cameras[i // n_each]
        tiles.append(simulate_field(environment, camera, settings.size, generator))
    order = torch.arange(len(set_ups) * n_each).view(len(set_ups), n_each)
    return AreaFields(
        BackgroundPool(tiles, mask_saturated=settings.mask_saturated).to(device), order
    )


def _mosaic_pool(data: DataSettings, number: int) -> BackgroundPool:
    """The area's part of the user's mosaics."""
    from melotte.systems.cluster_images.mosaics import mosaic_background

    if data.setups != 1:
        raise MelotteValueError("data.setups: mosaics have one set-up, so this must be 1")
    wide = [name for name in _OF_MOSAICS if len(set(getattr(data.camera, name))) > 1]
    if wide:
        raise MelotteValueError(
            "data.camera: mosaics have one set-up, so each of "
            f"{', '.join(wide)} must be one number, that of the mosaics, such as "
            f"data.camera.{wide[0]}={getattr(data.camera, wide[0])[0]:g}"
        )
    whole = mosaic_background(data)
    shares = ", ".join(f"{100 * one:.0f}" for one in _SHARES)
    small = (
        f"data.fields.mosaics: strips of {shares} % of their longer side are for training, "
        f"validation and tests, {data.size} px apart, and one of them has no unmasked place for an "
        f"image of {data.size} px: give larger mosaics, or mask less"
    )
    try:
        pool = whole.split(_SHARES, gap=data.size)[number]
    except MelotteValueError as error:
        raise MelotteValueError(small) from error
    if not pool.free_share(data.size):
        raise MelotteValueError(small)
    return pool
