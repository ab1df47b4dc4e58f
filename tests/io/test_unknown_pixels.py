"""Which pixels are measurements: weights, masks and blank fills, of stamps and of mosaics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from astropy.io import fits
from mosaic_files import tangent_wcs

from melotte.errors import MelotteFileError
from melotte.io.image_cutouts import read_cutouts
from melotte.io.image_files import mask_of, unfilled, weight_of
from melotte.io.image_mosaics import read_mosaic_cutouts
from melotte.io.image_positions import ImagePositions
from melotte.io.image_stacks import ExpectedImages, ImageStack, RejectedImage

BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
FILTERS = tuple(band[-5:] for band in BANDS)
SIDE, EDGE = 32, 10
EXPECTED = ExpectedImages(BANDS, SIDE, 0.04)
SAID: dict[str, Any] = {"PIXSCALE": 0.04, "BUNIT": "ELECTRONS/S", "EXPTIME": 900.0}
WEIGHT = np.ones((SIDE, SIDE), dtype=np.float32)
WEIGHT[:, :EDGE] = 0


@pytest.fixture
def stamps() -> np.ndarray:
    """One faint object in three bands, without an exact zero."""
    return np.random.default_rng(1).normal(0, 1e-4, (3, SIDE, SIDE)).astype(np.float32)


def one_stack(source: Any, expected: ExpectedImages = EXPECTED, **options: Any) -> ImageStack:
    (found,) = read_cutouts(source, expected, options)
    assert isinstance(found, ImageStack)
    return found


def a_file_a_band(folder: Path, stamps: np.ndarray, name: str, second: np.ndarray) -> Any:
    paths = []
    for band, stamp in zip(FILTERS, stamps, strict=True):
        hdus = [
            fits.PrimaryHDU(header=fits.Header({**SAID, "FILTER": band})),
            fits.ImageHDU(stamp, name="SCI"),
            fits.ImageHDU(second, name=name),
        ]
        paths.append(folder / f"{band}.fits")
        fits.HDUList(hdus).writeto(paths[-1])
    return paths


def in_the_primary(folder: Path, stamps: np.ndarray, name: str, second: np.ndarray) -> Any:
    paths = []
    for band, stamp in zip(FILTERS, stamps, strict=True):
        header = fits.Header({**SAID, "FILTER": band})
        paths.append(folder / f"{band}.fits")
        hdus = [fits.PrimaryHDU(stamp, header), fits.ImageHDU(second, name=name)]
        fits.HDUList(hdus).writeto(paths[-1])
    return paths


def an_extension_a_band(folder: Path, stamps: np.ndarray, name: str, second: np.ndarray) -> Any:
    hdus: list[Any] = [fits.PrimaryHDU(header=fits.Header(SAID))]
    for band, stamp in zip(FILTERS, stamps, strict=True):
        hdus += [fits.ImageHDU(stamp, name=band), fits.ImageHDU(second, name=name)]
    fits.HDUList(hdus).writeto(folder / "c.fits")
    return folder / "c.fits"


def one_for_all_bands(folder: Path, stamps: np.ndarray, name: str, second: np.ndarray) -> Any:
    hdus: list[Any] = [fits.PrimaryHDU(header=fits.Header(SAID))]
    hdus += [fits.ImageHDU(one, name=band) for band, one in zip(FILTERS, stamps, strict=True)]
    fits.HDUList([*hdus, fits.ImageHDU(second, name=name)]).writeto(folder / "c.fits")
    return folder / "c.fits"


def a_cube(folder: Path, stamps: np.ndarray, name: str, second: np.ndarray) -> Any:
    named = {f"BAND{number + 1}": band for number, band in enumerate(FILTERS)}
    hdus = [
        fits.PrimaryHDU(stamps[None], fits.Header({**SAID, **named})),
        fits.ImageHDU(np.broadcast_to(second, (1, *stamps.shape)).copy(), name=name),
    ]
    fits.HDUList(hdus).writeto(folder / "c.fits")
    return folder / "c.fits"


@pytest.mark.parametrize("name", ["WHT", "MASK"])
@pytest.mark.parametrize(
    "write",
    [a_file_a_band, in_the_primary, an_extension_a_band, one_for_all_bands, a_cube],
    ids=lambda write: write.__name__,
)
def test_weights_and_masks_hold_for_cutouts(
    write: Any, name: str, tmp_path: Path, stamps: np.ndarray
) -> None:
    unknown = WEIGHT == 0
    stamps[:, unknown] = 7.0
    second = WEIGHT if name == "WHT" else unknown.astype(np.uint8)
    stack = one_stack(write(tmp_path, stamps, name, second))
    np.testing.assert_array_equal(stack.bad[0].numpy(), np.broadcast_to(unknown, stamps.shape))
    np.testing.assert_array_equal(stack.images[0].numpy()[:, ~unknown], stamps[:, ~unknown])


def test_zero_fill_of_cutouts_is_unknown_without_weights(
    tmp_path: Path, stamps: np.ndarray
) -> None:
    stamps[1, :, :EDGE] = 0
    stamps[2, 5, 6] = 0
    unknown = np.zeros(stamps.shape, dtype=bool)
    unknown[1, :, :EDGE] = True
    paths = a_file_a_band(tmp_path, stamps, "CTX", WEIGHT)
    np.testing.assert_array_equal(one_stack(paths).bad[0].numpy(), unknown)
    stated: dict[str, Any] = {"bands": list(FILTERS), "pixel_scale": 0.04, "unit": "electrons/s"}
    np.save(tmp_path / "c.npy", stamps[None])
    np.testing.assert_array_equal(one_stack(tmp_path / "c.npy", **stated).bad[0].numpy(), unknown)
    with h5py.File(tmp_path / "c.h5", "w") as file:
        file["images"] = stamps[None]
    np.testing.assert_array_equal(one_stack(tmp_path / "c.h5", **stated).bad[0].numpy(), unknown)
    stamps[1] = 0
    np.save(tmp_path / "c.npy", stamps[None])
    (found,) = read_cutouts(tmp_path / "c.npy", EXPECTED, stated)
    assert isinstance(found, RejectedImage)
    assert found.reason == "no pixel with a value in WFC3_UVIS_F438W"


def test_faint_stamps_and_integers_are_as_they_were(tmp_path: Path, stamps: np.ndarray) -> None:
    # Ten exact zeros among 1024 pixels are under 1 %.
    stamps[:, 3, :10] = 0
    paths = a_file_a_band(tmp_path, stamps, "CTX", WEIGHT)
    stack = one_stack(paths)
    assert not stack.bad.any()
    np.testing.assert_array_equal(stack.images[0].numpy(), stamps)
    (tmp_path / "whole").mkdir()
    numbers = np.random.default_rng(2).poisson(0.1, stamps.shape).astype(np.int16)
    stack = one_stack(a_file_a_band(tmp_path / "whole", numbers, "CTX", WEIGHT))
    assert not stack.bad.any()
    np.testing.assert_array_equal(stack.images[0].numpy(), numbers)


def test_a_mask_holds_for_mosaics(tmp_path: Path) -> None:
    shape = (100, 110)
    wcs = tangent_wcs(0.04, shape)
    header = fits.Header({**wcs.to_header(), **SAID, "FILTER": "F336W"})
    mask = np.zeros(shape, dtype=np.uint8)
    mask[40:44, 50:53] = 1
    hdus = [fits.PrimaryHDU(np.ones(shape, "f4"), header), fits.ImageHDU(mask, name="MASK")]
    fits.HDUList(hdus).writeto(tmp_path / "m.fits")
    places = ImagePositions(("a",), x=np.array([49.5]), y=np.array([49.5]))
    expected = ExpectedImages(BANDS[:1], SIDE, 0.04)
    (stack,) = read_mosaic_cutouts([tmp_path / "m.fits"], places, expected)
    assert isinstance(stack, ImageStack)
    part = mask[34 : 34 + SIDE, 34 : 34 + SIDE] > 0
    np.testing.assert_array_equal(stack.bad[0, 0].numpy(), part)
    assert part.sum() == 12


def test_a_mask_of_another_shape_is_refused(tmp_path: Path, stamps: np.ndarray) -> None:
    paths = a_file_a_band(tmp_path, stamps, "MASK", WEIGHT[:5])
    with pytest.raises(MelotteFileError, match="its MASK has another shape than its image"):
        one_stack(paths)


def test_weights_go_with_the_image_of_their_number() -> None:
    plane = np.ones((4, 5))
    opened = fits.HDUList([fits.PrimaryHDU()])
    for version in (1, 2):
        opened.append(fits.ImageHDU(plane, name="SCI", ver=version))
    for version in (2, 1):
        opened.append(fits.ImageHDU(plane, name="WHT", ver=version))
    assert weight_of(opened["SCI", 1], opened) is opened["WHT", 1]
    assert weight_of(opened["SCI", 2], opened) is opened["WHT", 2]
    assert mask_of(opened["SCI", 1], opened, Path("x")) is None
    opened["WHT", 1].data = np.ones((5, 4))
    assert weight_of(opened["SCI", 1], opened) is None


def test_blanks_of_a_field_are_counted_where_they_are() -> None:
    field = np.ones((640, 640), dtype=np.float32)
    field[:2, :100] = 0
    assert not np.isnan(unfilled(field.copy())).any()
    np.testing.assert_array_equal(np.isnan(unfilled(field.copy(), tiled=True)), field == 0)
