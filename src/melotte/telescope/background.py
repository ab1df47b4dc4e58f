"""Backgrounds for mock clusters, cut from mosaics, with training and test areas kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from melotte.errors import MelotteValueError
from melotte.telescope.fields import FieldImage

_MOST_TRIES = 200


class BackgroundPool:
    """Mosaics of which any part that no mask covers may serve as a background.

    Parameters
    ----------
    tiles : sequence of FieldImage or of Tensor, shape (n_bands, n_rows, n_columns), counts/s
        Sizes may differ; bands may not. Pixels that are not finite are taken as masked.
    masks : sequence of BoolTensor, shape (n_rows, n_columns), or None, optional
        True where no background may be cut: saturated stars, known clusters and galaxies,
        missing data.
    mask_saturated : bool
        Also mask the saturated pixels of simulated fields.

    Raises
    ------
    MelotteValueError
        When there is no tile, or tiles and masks do not fit.
    """

    def __init__(
        self,
        tiles: Sequence[FieldImage | Tensor],
        masks: Sequence[Tensor | None] | None = None,
        mask_saturated: bool = False,
    ) -> None:
        if not len(tiles):
            raise MelotteValueError("a pool of backgrounds needs at least one mosaic")
        if masks is not None and len(masks) != len(tiles):
            raise MelotteValueError(f"{len(tiles)} mosaics, but {len(masks)} masks")
        self._images: list[Tensor] = []
        self._covered: list[Tensor] = []
        self._flat: Tensor | None = None
        for i, tile in enumerate(tiles):
            image = tile.image if isinstance(tile, FieldImage) else tile
            if image.ndim != 3 or len(image) != len(self._images[0] if i else image):
                raise MelotteValueError(
                    f"mosaic {i + 1} has shape {tuple(image.shape)}; all must be "
                    "(n_bands, n_rows, n_columns) with the same bands"
                )
            masked = ~torch.isfinite(image).all(0)
            if isinstance(tile, FieldImage) and mask_saturated:
                masked |= tile.saturated.any(0)
            given = None if masks is None else masks[i]
            if given is not None:
                if given.shape != masked.shape:
                    raise MelotteValueError(
                        f"mask {i + 1} has shape {tuple(given.shape)}; its mosaic has "
                        f"{tuple(masked.shape)} pixels"
                    )
                masked |= given.bool()
            self._images.append(image.float())
            # Summed-area table: whether any rectangle is free is four look-ups.
            table = torch.zeros(masked.shape[0] + 1, masked.shape[1] + 1, dtype=torch.int64)
            table[1:, 1:] = masked.long().cumsum(0).cumsum(1)
            self._covered.append(table)

    @property
    def n_tiles(self) -> int:
        """Number of mosaics."""
        return len(self._images)

    @property
    def n_bands(self) -> int:
        """Number of bands."""
        return len(self._images[0])

    @property
    def device(self) -> torch.device:
        """Where the mosaics are."""
        return self._images[0].device

    def to(self, device: torch.device | str) -> BackgroundPool:
        """The same pool on another device."""
        pool = object.__new__(BackgroundPool)
        pool._images = [image.to(device) for image in self._images]
        pool._covered = self._covered
        pool._flat = None
        return pool

    def free_share(self, size: int) -> float:
        """Share of all places where a background of a size can be cut."""
        free, places = 0, 0
        for table in self._covered:
            counts = _covered_pixels(table, size)
            free += int((counts == 0).sum())
            places += counts.numel()
        return free / max(places, 1)

    def cut(
        self,
        n: int,
        size: int,
        generator: torch.Generator,
        tile: Tensor | None = None,
    ) -> Tensor:
        """Cut backgrounds at random places, flipped and turned by multiples of 90 degrees.

        Parameters
        ----------
        n : int
        size : int, pixels along a side
        generator : torch.Generator, on the CPU
        tile : Tensor of int64, shape (n,), optional
            From which mosaic each is cut; when not given, each mosaic serves in proportion to
            the number of places on it.

        Returns
        -------
        Tensor, shape (n, n_bands, size, size), counts/s

        Raises
        ------
        MelotteValueError
            When no mosaic is large enough, or one has no unmasked place of that size.
        """
        shapes = [image.shape[-2:] for image in self._images]
        places = torch.tensor([max(0, r - size + 1) * max(0, c - size + 1) for r, c in shapes])
        if tile is None:
            if not int(places.sum()):
                raise MelotteValueError(f"no mosaic holds a background of {size} pixels a side")
            tile = torch.multinomial(places.double(), n, True, generator=generator)
        elif len(tile) != n:
            raise MelotteValueError(f"tile names {len(tile)} mosaics for {n} backgrounds")
        rows, columns = self._corners(tile, size, places, generator)
        turn = torch.randint(8, (n,), generator=generator)
        if self.device.type == "cpu":
            return self._sliced(tile, rows, columns, turn, size)
        return self._gathered(tile, rows, columns, turn, size)

    def _sliced(
        self, tile: Tensor, rows: Tensor, columns: Tensor, turn: Tensor, size: int
    ) -> Tensor:
        """Cut one by one: quickest where starting an operation costs nothing."""
        result = torch.empty(len(tile), self.n_bands, size, size, device=self.device)
        places = zip(tile.tolist(), rows.tolist(), columns.tolist(), turn.tolist(), strict=True)
        for i, (which, row, column, turns) in enumerate(places):
            part = self._images[which][:, row : row + size, column : column + size]
            if turns >= 4:
                part = part.flip(-1)
            result[i] = torch.rot90(part, turns % 4, (-2, -1))
        return result

    def _gathered(
        self, tile: Tensor, rows: Tensor, columns: Tensor, turn: Tensor, size: int
    ) -> Tensor:
        """The same cuts in one operation, for a device where each has a price."""
        if self._flat is None:
            self._flat = torch.cat([image.reshape(-1) for image in self._images])
        shapes = torch.tensor([image.shape for image in self._images])
        starts = shapes.prod(1).cumsum(0) - shapes.prod(1)
        wide, area = shapes[tile, 2], shapes[tile, 1] * shapes[tile, 2]
        first = (starts[tile] + rows * wide + columns).to(self.device)
        wide, area = wide.to(self.device), area.to(self.device)
        square = torch.arange(size * size).view(size, size)
        turned = [torch.rot90(square, k) for k in range(4)]
        turned += [torch.rot90(square.flip(-1), k) for k in range(4)]
        order = torch.stack(turned)[turn].to(self.device)
        inside = order // size * wide[:, None, None] + order % size
        bands = torch.arange(self.n_bands, device=self.device)[:, None, None]
        index = first[:, None, None, None] + bands * area[:, None, None, None] + inside[:, None]
        return self._flat[index]

    def _corners(
        self, tile: Tensor, size: int, places: Tensor, generator: torch.Generator
    ) -> tuple[Tensor, Tensor]:
        """Upper left corners of unmasked squares."""
        extent = torch.tensor([image.shape[-2:] for image in self._images])[tile] - size + 1
        if not bool((places[tile] > 0).all()):
            raise MelotteValueError(f"a mosaic is smaller than {size} pixels a side")
        corner = torch.zeros(len(tile), 2, dtype=torch.int64)
        missing = torch.arange(len(tile))
        for _ in range(_MOST_TRIES):
            uniform = torch.rand(len(missing), 2, generator=generator, dtype=torch.float64)
            corner[missing] = (uniform * extent[missing]).long()
            taken = torch.zeros(len(missing), dtype=torch.bool)
            for which in torch.unique(tile[missing]).tolist():
                of_tile = tile[missing] == which
                chosen = corner[missing[of_tile]]
                taken[of_tile] = _covered_at(self._covered[which], chosen, size) > 0
            missing = missing[taken]
            if not len(missing):
                return corner[:, 0], corner[:, 1]
        raise MelotteValueError(
            f"{_MOST_TRIES} tries found no unmasked square of {size} pixels on mosaic "
            f"{int(tile[missing[0]]) + 1}; its masks leave too little"
        )

    def split(
        self, shares: Sequence[float] = (0.7, 0.15, 0.15), gap: int = 0
    ) -> tuple[BackgroundPool, ...]:
        """Pools of separate areas, such as for training, validation and testing.

        Every mosaic is cut into strips across its longer side, so that each pool sees every part
        of the galaxy.

        Parameters
        ----------
        shares : sequence of float, > 0
            Of the area; they are scaled to sum to 1.
        gap : int, pixels
            Left out between strips.

        Returns
        -------
        tuple of BackgroundPool, one for each share
        """
        if not shares or min(shares) <= 0:
            raise MelotteValueError(f"shares must be above 0, found {tuple(shares)}")
        pools: list[list[tuple[Tensor, Tensor]]] = [[] for _ in shares]
        for image, table in zip(self._images, self._covered, strict=True):
            masked = (table.diff(dim=0).diff(dim=1)) > 0
            along = 1 if image.shape[1] >= image.shape[2] else 2
            length = image.shape[along]
            bounds = [0.0, *torch.tensor(shares).double().cumsum(0).tolist()]
            for i, pool in enumerate(pools):
                first = round(length * bounds[i] / bounds[-1]) + (gap if i else 0)
                last = round(length * bounds[i + 1] / bounds[-1])
                if last > first:
                    strip = image.narrow(along, first, last - first)
                    pool.append((strip, masked.narrow(along - 1, first, last - first)))
        if not all(pools):
            raise MelotteValueError("the mosaics are too small for these shares and this gap")
        return tuple(
            BackgroundPool([image for image, _ in pool], [mask for _, mask in pool])
            for pool in pools
        )


def _covered_pixels(table: Tensor, size: int) -> Tensor:
    """Masked pixels in every square of a size, by its upper left corner."""
    if min(table.shape) <= size:
        return table.new_zeros(0)
    return table[size:, size:] - table[:-size, size:] - table[size:, :-size] + table[:-size, :-size]


def _covered_at(table: Tensor, corner: Tensor, size: int) -> Tensor:
    """Masked pixels in squares with given upper left corners (row, column)."""
    row, column = corner.unbind(1)
    far_row, far_column = row + size, column + size
    return (
        table[far_row, far_column]
        - table[row, far_column]
        - table[far_row, column]
        + table[row, column]
    )
