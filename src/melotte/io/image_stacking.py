"""Stamps put together as stacks in their order, with those that hold too little between them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from melotte.flags import Flag
from melotte.io.image_headers import BandHeader
from melotte.io.image_stacks import ExpectedImages, Images, ImageStack, RejectedImage

SKY = ("ra", "dec")
"""What the result says of a rejected object too."""


def stacked(
    images: Images,
    ids: Sequence[str],
    template: ImageStack,
    absent: Sequence[int] = (),
    allow_empty: bool = False,
    by_object: Mapping[str, Sequence[Any]] | None = None,
) -> Iterator[ImageStack | RejectedImage]:
    """Stacks of the stamps that hold what is needed and, between them, the others, rejected.

    Parameters
    ----------
    images : array, float32, shape (n, n_bands, size, size), counts/s
        Not finite where there is no value.
    ids : sequence of str, length n
    template : ImageStack
        What is the same for all stamps.
    absent : sequence of int
        Places of bands that no object has.
    allow_empty : bool
        Whether an object may lack bands as long as one has a value.
    by_object : mapping of str to sequence, each of length n
        What the header lists by object.
    """
    bad: NDArray[np.bool_] = ~np.isfinite(images)
    images = np.where(bad, np.float32(np.nan), images)
    empty = np.asarray(bad.all(axis=(2, 3)))
    there = np.array([place not in absent for place in range(len(template.bands))])
    failed = np.asarray(empty.all(axis=1))
    if not allow_empty:
        failed = failed | np.asarray((empty & there).any(axis=1))
    by_object = by_object or {}
    for lost, run in groupby(range(len(ids)), key=lambda row: bool(failed[row])):
        rows = list(run)
        if lost:
            for row in rows:
                names = [template.bands[place] for place in np.flatnonzero(empty[row] & there)]
                reason = f"no pixel with a value in {', '.join(names)}"
                columns = {key: by_object[key][row] for key in SKY if key in by_object}
                yield RejectedImage(ids[row], reason, columns=columns)
            continue
        part = slice(rows[0], rows[-1] + 1)
        spoiled = bad[part][:, there].any(axis=(1, 2, 3))
        listed = {key: list(values[part]) for key, values in by_object.items()}
        yield replace(
            template,
            images=torch.from_numpy(np.ascontiguousarray(images[part])),
            bad=torch.from_numpy(np.ascontiguousarray(bad[part])),
            ids=tuple(ids[part]),
            flags=torch.from_numpy(np.where(spoiled, int(Flag.BAD_PIXELS), 0).astype(np.int64)),
            header={**template.header, **listed},
        )


def template_stack(
    expected: ExpectedImages,
    headers: Sequence[BandHeader | None],
    pixel_scale: float,
    **header: Any,
) -> ImageStack:
    """An empty stack with what the headers of its bands, None for a missing one, say."""
    offsets = []
    for band, one in zip(expected.bands, headers, strict=True):
        reference = expected.zero_points_ab.get(band, math.nan)
        offset = math.nan if one is None else reference - one.zero_point_ab
        offsets.append(offset if math.isfinite(offset) else 0.0)
    shape = (0, len(expected.bands), expected.size, expected.size)
    return ImageStack(
        images=torch.zeros(shape),
        bad=torch.zeros(shape, dtype=torch.bool),
        ids=(),
        bands=tuple(expected.bands),
        pixel_scale=pixel_scale,
        exposure=torch.tensor([math.nan if one is None else one.exposure for one in headers]),
        zero_point_offsets=torch.tensor(offsets),
        flags=torch.zeros(0, dtype=torch.int64),
        header={
            "units": ["" if one is None else one.unit for one in headers],
            "found_bands": ["" if one is None else one.band for one in headers],
            **header,
        },
    )
