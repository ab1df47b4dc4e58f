"""The same stamps come out of every format, byte order and header; what is unclear is refused."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table
from hypothesis import given, settings
from hypothesis import strategies as st

from melotte.errors import MelotteError, MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.io.image_cutouts import read_cutouts
from melotte.io.image_stacks import ExpectedImages, ImageOptions, ImageStack, RejectedImage

BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
EXPECTED = ExpectedImages(BANDS, 16, 0.04)
SAID: dict[str, Any] = {"PIXSCALE": 0.04, "BUNIT": "ELECTRONS/S", "EXPTIME": 900.0}
NAMED = {**SAID, "BAND1": "F336W", "BAND2": "F438W", "BAND3": "F814W"}
N = 5


@pytest.fixture
def cube() -> np.ndarray:
    images = np.random.default_rng(5).normal(1, 1, (N, 3, 16, 16)).astype(np.float32)
    images[2, 1, 3, 4] = np.nan
    images[3, 0, 0, 0] = np.inf
    return images


def write_cube(path: Path, cube: np.ndarray, keywords: dict | None = None) -> Path:
    header = fits.Header(keywords if keywords is not None else NAMED)
    fits.PrimaryHDU(cube, header).writeto(path, overwrite=True)
    return path


def one_stack(source: Any, expected: ExpectedImages = EXPECTED, **options: Any) -> ImageStack:
    (found,) = read_cutouts(source, expected, options)
    assert isinstance(found, ImageStack)
    return found


def in_primary(folder: Path, cube: np.ndarray) -> Any:
    return write_cube(folder / "c.fits", cube)


def in_extension(folder: Path, cube: np.ndarray) -> Any:
    header = fits.Header(NAMED)
    hdus = [fits.PrimaryHDU(), fits.ImageHDU(cube.astype(">f8"), header, name="SCI")]
    fits.HDUList(hdus).writeto(folder / "c.fits")
    return folder / "c.fits"


def gzipped(folder: Path, cube: np.ndarray) -> Any:
    plain = write_cube(folder / "plain.fits", cube)
    (folder / "c.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    return folder / "c.fits.gz"


def an_extension_a_band(folder: Path, cube: np.ndarray) -> Any:
    hdus: list[Any] = [fits.PrimaryHDU(header=fits.Header(SAID))]
    for band in (2, 0, 1):
        hdus.append(fits.ImageHDU(cube[:, band], name=BANDS[band][-5:]))
        hdus.append(fits.ImageHDU(np.ones_like(cube[:, band]), name="WHT"))
    fits.HDUList(hdus).writeto(folder / "c.fits")
    return folder / "c.fits"


def columns_of_a_table(folder: Path, cube: np.ndarray) -> Any:
    table = Table({"note": ["a"] * N, "im_F438W": cube[:, 1], "im_F336W": cube[:, 0]})
    table["im_F814W"] = cube[:, 2]
    hdu = fits.BinTableHDU(table, fits.Header(SAID))
    hdu.header.update(SAID)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / "c.fits")
    return folder / "c.fits"


def one_column_of_a_table(folder: Path, cube: np.ndarray) -> Any:
    hdu = fits.BinTableHDU(Table({"images": cube}))
    hdu.header.update(NAMED)
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(folder / "c.fits")
    return folder / "c.fits"


def a_file_a_band(folder: Path, cube: np.ndarray) -> Any:
    paths = []
    for band in (1, 2, 0):
        path = folder / f"stamps_{BANDS[band][-5:].lower()}.fits"
        paths.append(write_cube(path, cube[:, band].astype(">f8"), SAID))
    return paths


def in_hdf5(folder: Path, cube: np.ndarray) -> Any:
    with h5py.File(folder / "c.h5", "w") as file:
        data = file.create_dataset("images", data=cube)
        data.attrs["bands"] = list(BANDS)
        data.attrs["pixel_scale"] = 0.04
        data.attrs["unit"] = "counts/s"
        file.attrs["exposure"] = [900.0, 900.0, 900.0]
    return folder / "c.h5"


def channels_last(folder: Path, cube: np.ndarray) -> Any:
    return write_cube(folder / "c.fits", np.ascontiguousarray(np.moveaxis(cube, 1, 3)))


WRITERS = [
    in_primary,
    in_extension,
    gzipped,
    an_extension_a_band,
    columns_of_a_table,
    one_column_of_a_table,
    a_file_a_band,
    in_hdf5,
    channels_last,
]


@pytest.mark.parametrize("write", WRITERS, ids=lambda write: write.__name__)
def test_every_format_gives_the_same_stamps(
    write: Callable[[Path, np.ndarray], Any], tmp_path: Path, cube: np.ndarray
) -> None:
    stack = one_stack(write(tmp_path, cube))
    good = np.isfinite(cube)
    assert stack.images.dtype == torch.float32
    np.testing.assert_array_equal(stack.images.numpy()[good], cube[good])
    np.testing.assert_array_equal(stack.bad.numpy(), ~good)
    assert torch.equal(stack.bad, stack.images.isnan())
    assert stack.bands == BANDS
    assert stack.pixel_scale == pytest.approx(0.04)
    assert stack.exposure.tolist() == [900, 900, 900]
    assert len(set(stack.ids)) == N
    assert stack.flags.tolist() == [0, 0, int(Flag.BAD_PIXELS), int(Flag.BAD_PIXELS), 0]


def test_npy_with_everything_given(tmp_path: Path, cube: np.ndarray) -> None:
    np.save(tmp_path / "c.npy", cube)
    stack = one_stack(
        tmp_path / "c.npy", bands="F336W,F438W,F814W", pixel_scale="0.04", unit="DN",
        exposure="100", gain="1.5,1.5,2",
    )  # fmt: skip
    ratio = (stack.images / torch.from_numpy(cube)).nanmedian(dim=0).values.nanmedian(-1).values
    torch.testing.assert_close(ratio[:, 0], torch.tensor([0.015, 0.015, 0.02]))
    assert stack.exposure.tolist() == [100, 100, 100]


def test_planes_in_another_order_and_others_between(tmp_path: Path, cube: np.ndarray) -> None:
    five = np.stack([cube[:, 2], cube[:, 0] * 7, cube[:, 0], cube[:, 1], cube[:, 1] * 9], axis=1)
    names = ["F814W", "F275W", "F336W", "F438W", "F555W"]
    keywords = {**SAID, **{f"BAND{place + 1}": name for place, name in enumerate(names)}}
    stack = one_stack(write_cube(tmp_path / "c.fits", five, keywords))
    np.testing.assert_array_equal(stack.images.numpy()[np.isfinite(cube)], cube[np.isfinite(cube)])


def test_scaled_integers_and_blank_values(tmp_path: Path) -> None:
    path = tmp_path / "c.fits"
    hdu = fits.PrimaryHDU(np.full((N, 3, 16, 16), 40, dtype=np.int16), fits.Header(NAMED))
    hdu.data[1, 2, 8, 8] = -32768
    hdu.header["BLANK"] = -32768
    hdu.header["BSCALE"] = 0.5
    hdu.header["BZERO"] = 2.0
    text = hdu.header.tostring().encode()
    data = hdu.data.astype(">i2").tobytes()
    path.write_bytes(text + data + b"\0" * (-len(data) % 2880))
    stack = one_stack(path)
    assert stack.images[0, 0, 0, 0] == 22
    assert stack.bad.nonzero().tolist() == [[1, 2, 8, 8]]


@pytest.mark.parametrize("compressed", [False, True])
def test_unsigned_integers(compressed: bool, tmp_path: Path) -> None:
    image = np.full((16, 16), 40000, dtype=np.uint16)
    image[3, 4] = 5
    kind = fits.CompImageHDU if compressed else fits.ImageHDU
    hdu = kind(image, fits.Header({**SAID, "FILTER": "F336W"}))
    fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(tmp_path / "c.fits")
    stack = one_stack(tmp_path / "c.fits", ExpectedImages(BANDS[:1], 16, 0.04))
    np.testing.assert_array_equal(stack.images[0, 0].numpy(), image)


def test_names_come_with_the_stamps(tmp_path: Path, cube: np.ndarray) -> None:
    names = [f"PC {number}" for number in range(N)]
    table = fits.BinTableHDU(Table({"ID": names, "mine": np.arange(N) + 70}))
    path = tmp_path / "c.fits"
    fits.HDUList([fits.PrimaryHDU(cube, fits.Header(NAMED)), table]).writeto(path)
    assert one_stack(path).ids == tuple(names)
    assert one_stack(path, ids="mine").ids == ("70", "71", "72", "73", "74")
    with pytest.raises(MelotteValueError, match="no such column"):
        one_stack(path, ids="theirs")


@pytest.mark.parametrize("given", [["", "b", "c", "", "e"], ["a", "b", "c", "d", "b"]])
def test_stamps_without_a_name_are_numbered_and_no_two_have_one(
    tmp_path: Path, cube: np.ndarray, given: list[str]
) -> None:
    path = tmp_path / "c.fits"
    image = fits.PrimaryHDU(cube, fits.Header(NAMED))
    fits.HDUList([image, fits.BinTableHDU(Table({"ID": given}))]).writeto(path)
    if given[0]:
        with pytest.raises(MelotteValueError, match="rows 2 and 5 have one id, 'b'"):
            one_stack(path)
    else:
        assert one_stack(path).ids == ("c-1", "b", "c", "c-4", "e")


def test_many_stamps_come_in_stacks(tmp_path: Path) -> None:
    cube = np.arange(1, 601, dtype=np.float32)[:, None, None, None] * np.ones((1, 3, 4, 4), "f4")
    path = write_cube(tmp_path / "c.fits", cube)
    stacks = list(read_cutouts(path, ExpectedImages(BANDS, 4)))
    assert [len(stack) for stack in stacks] == [256, 256, 88]
    every = torch.cat([stack.images[:, 0, 0, 0] for stack in stacks])
    assert torch.equal(every, torch.arange(1, 601.0))


def test_larger_stamps_are_cropped_about_their_centre(tmp_path: Path, cube: np.ndarray) -> None:
    wide = np.pad(cube, ((0, 0), (0, 0), (5, 5), (5, 5)), constant_values=-99)
    stack = one_stack(write_cube(tmp_path / "c.fits", wide))
    np.testing.assert_array_equal(stack.images.numpy()[np.isfinite(cube)], cube[np.isfinite(cube)])


def test_another_scale_is_resampled_with_its_flux(tmp_path: Path) -> None:
    y, x = np.mgrid[:40, :40]
    source = np.exp(-((x - 19.5) ** 2 + (y - 19.5) ** 2) / 8)
    cube = np.broadcast_to(source, (N, 3, 40, 40))
    stack = one_stack(write_cube(tmp_path / "c.fits", cube, {**NAMED, "PIXSCALE": 0.05}),
                      ExpectedImages(BANDS, 40, 0.04))  # fmt: skip
    assert stack.pixel_scale == pytest.approx(0.04)
    assert stack.header["resampled_from"] == pytest.approx(0.05)
    torch.testing.assert_close(
        stack.images.double().sum((2, 3)), torch.full((N, 3), source.sum()).double(),
        rtol=1e-3, atol=0,
    )  # fmt: skip
    kept = one_stack(tmp_path / "c.fits", ExpectedImages(BANDS, 40))
    assert kept.pixel_scale == pytest.approx(0.05)


def test_zero_points_correct_the_counts(tmp_path: Path, cube: np.ndarray) -> None:
    keywords = {**NAMED, "ZP_AB1": 24.7, "ZP_AB2": 24.8, "ZP_AB3": 25.1}
    path = write_cube(tmp_path / "c.fits", cube, keywords)
    zero_points = dict(zip(BANDS, (24.8, 24.8, 25.0), strict=True))
    stack = one_stack(path, ExpectedImages(BANDS, 16, 0.04, zero_points))
    torch.testing.assert_close(stack.zero_point_offsets, torch.tensor([0.1, 0.0, -0.1]))
    magnitude = torch.tensor([24.8, 24.8, 25.0])[:, None, None] - 2.5 * stack.images.log10()
    theirs = torch.tensor([24.7, 24.8, 25.1])[:, None, None] - 2.5 * torch.from_numpy(cube).log10()
    good = magnitude.isfinite() & theirs.isfinite()
    assert good.sum() > 1000
    torch.testing.assert_close(magnitude[good], theirs[good], rtol=0, atol=1e-4)


def test_an_empty_stamp_is_a_rejected_row(tmp_path: Path, cube: np.ndarray) -> None:
    cube[1] = np.nan
    cube[4, 2] = np.nan
    found = list(read_cutouts(write_cube(tmp_path / "c.fits", cube), EXPECTED))
    rejected = [one for one in found if isinstance(one, RejectedImage)]
    assert [one.id for one in rejected] == ["c-2", "c-5"]
    assert rejected[1].reason == "no pixel with a value in WFC3_UVIS_F814W"
    assert {one.flags for one in rejected} == {int(Flag.FAILED | Flag.BAD_PIXELS)}
    order = [one.ids if isinstance(one, ImageStack) else one.id for one in found]
    assert order == [("c-1",), "c-2", ("c-3", "c-4"), "c-5"]
    allowed = list(read_cutouts(tmp_path / "c.fits", EXPECTED, {"missing_band": "allow"}))
    assert [one.id for one in allowed if isinstance(one, RejectedImage)] == ["c-2"]


def test_a_missing_band_is_an_empty_plane_where_that_is_allowed(
    tmp_path: Path, cube: np.ndarray
) -> None:
    keywords = {**SAID, "BAND1": "F336W", "BAND2": "F814W"}
    path = write_cube(tmp_path / "c.fits", cube[:, ::2], keywords)
    with pytest.raises(MelotteValueError, match="no image in WFC3_UVIS_F438W; found: F336W, F814W"):
        one_stack(path)
    stack = one_stack(path, missing_band="allow")
    assert stack.bad[:, 1].all()
    assert stack.exposure.isnan().tolist() == [False, True, False]
    assert stack.flags.tolist() == [0, 0, 0, int(Flag.BAD_PIXELS), 0]


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        ({"BAND2": None, "BAND1": None, "BAND3": None}, {}, "bands of its 3 planes; give bands="),
        ({"PIXSCALE": None}, {}, "not state the pixel scale; give pixel_scale=ARCSEC"),
        ({"BUNIT": None}, {}, "not state the unit; give unit=electrons/s"),
        ({"BUNIT": "MJy/sr"}, {}, "PHOTFLAM and PHOTPLAM in the header, or zero_point=MAG"),
        ({"BUNIT": "furlong"}, {}, "pixels are in 'furlong'; give unit="),
        ({"BUNIT": "ELECTRONS", "EXPTIME": None}, {}, "no exposure is stated"),
        ({"PIXSCALE": 0.4}, {}, "more than 2 times off"),
        (
            {"EXPTIME": "long", "BUNIT": "ELECTRONS"},
            {},
            r"\(EXPTIME 'long' is not a number\); give",
        ),
        (
            {"GAIN": "DEFAULT", "BUNIT": "COUNTS"},
            {},
            r"no gain .*\(GAIN 'DEFAULT' is not a number\)",
        ),
        ({"PHOTFLAM": "N/A", "BUNIT": "Jy"}, {}, r"\(PHOTFLAM 'N/A' is not a number\)"),
        ({"PIXSCALE": "fine"}, {}, r"the pixel scale \(PIXSCALE 'fine' is not a number\); give"),
        ({"BAND2": "F336W"}, {}, "WFC3_UVIS_F336W is given 2 times"),
        ({}, {"bands": "F336W,F814W"}, "bands lists 2 and the images have 3 planes"),
        ({}, {"exposure": [1, 2]}, "exposure lists 2 and the images have 3 planes"),
        ({}, {"exposure": 0}, "exposure 0 must be above 0"),
        ({}, {"pixel_scale": "wide"}, "pixel_scale .*wide.* is not a number"),
        ({}, {"missing_band": "maybe"}, "'maybe' is not one of refuse, allow"),
        ({}, {"exposures": 1}, "did you mean 'exposure'"),
        ({}, {"hdu": "SCI"}, "no extension 'SCI'; found: 0 PRIMARY"),
    ],
)
def test_what_is_unclear_is_refused_in_one_line(
    change: dict, options: dict, message: str, tmp_path: Path, cube: np.ndarray
) -> None:
    keywords = {key: value for key, value in {**NAMED, **change}.items() if value is not None}
    path = write_cube(tmp_path / "c.fits", cube, keywords)
    with pytest.raises(MelotteValueError, match=message) as caught:
        list(read_cutouts(path, EXPECTED, options))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "exposure"),
    [
        ({"GAIN": "DEFAULT", "PHOTFLAM": "N/A"}, {}, 900),
        ({"EXPTIME": "INDEF"}, {"exposure": 1500}, 1500),
        ({"EXPTIME": "INDEF", "EXPOSURE": 700.0}, {}, 700),
        ({"EXPTIME": "INDEF", "TEXPTIME": 800.0}, {}, 800),
        ({"EXPTIME": "INDEF", "EXPTIME2": 5}, {}, None),
        ({"PIXSCALE": "fine"}, {"pixel_scale": 0.04}, 900),
        ({"GAIN": "DEFAULT", "BUNIT": "DN"}, {"gain": 2.0}, 900),
    ],
)
def test_text_in_a_keyword_that_is_not_needed_does_no_harm(
    change: dict, options: dict, exposure: float | None, tmp_path: Path, cube: np.ndarray
) -> None:
    stack = one_stack(write_cube(tmp_path / "c.fits", cube, {**NAMED, **change}), **options)
    known = torch.tensor([torch.nan, 5, torch.nan] if exposure is None else [float(exposure)] * 3)
    torch.testing.assert_close(stack.exposure, known, equal_nan=True)


def test_smaller_stamps_and_bands_that_do_not_fit_together(
    tmp_path: Path, cube: np.ndarray
) -> None:
    path = write_cube(tmp_path / "c.fits", cube)
    with pytest.raises(MelotteValueError, match=r"16x16 px at 0.04 .* smaller than .* 64x64"):
        one_stack(path, ExpectedImages(BANDS, 64, 0.04))
    first = write_cube(tmp_path / "f336w.fits", cube[:, 0], SAID)
    second = write_cube(tmp_path / "f438w.fits", cube[:4, 1], SAID)
    third = write_cube(tmp_path / "f814w.fits", cube[:, 2], SAID)
    with pytest.raises(MelotteValueError, match="holds 4 stamps"):
        one_stack([first, second, third])
    second = write_cube(tmp_path / "f438w.fits", cube[:, 1], {**SAID, "PIXSCALE": 0.1})
    with pytest.raises(MelotteValueError, match="pixel scales of its bands differ"):
        one_stack([first, second, third])


def test_files_that_are_no_images(tmp_path: Path, cube: np.ndarray) -> None:
    whole = write_cube(tmp_path / "c.fits", cube).read_bytes()
    cases = {
        "cut.fits": whole[:6000],
        "empty.fits": b"",
        "page.fits": b"<html>not found</html>",
        "short.fits.gz": gzip.compress(whole)[:500],
        "broken.h5": b"\x89HDF\r\n\x1a\n" + b"\0" * 50,
        "broken.npy": b"\x93NUMPY\x01\x00",
        "noimage.fits": fits.PrimaryHDU().header.tostring().encode(),
    }
    for name, content in cases.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(MelotteFileError, match=name) as caught:
            list(read_cutouts(tmp_path / name, EXPECTED))
        assert "\n" not in str(caught.value)
    for path in (tmp_path, tmp_path / "none.fits"):
        with pytest.raises(MelotteFileError):
            list(read_cutouts(path, EXPECTED))
    np.save(tmp_path / "text.npy", np.array([["a", "b"]]))
    with pytest.raises(MelotteError):
        list(read_cutouts(tmp_path / "text.npy", EXPECTED, {"bands": "F336W"}))


@given(st.integers(0, 8000), st.binary(min_size=1, max_size=40))
@settings(max_examples=60, deadline=None)
def test_damaged_bytes_never_give_a_bare_traceback(
    tmp_path_factory: pytest.TempPathFactory, place: int, noise: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "damaged.fits"
    write_cube(path, np.ones((2, 3, 16, 16), np.float32))
    content = bytearray(path.read_bytes())
    content[place : place + len(noise)] = noise
    path.write_bytes(bytes(content))
    said = ""
    try:
        list(read_cutouts(path, EXPECTED))
    except MelotteError as error:
        said = str(error)
    assert "\n" not in said


def test_options_of_the_command_line_are_parsed_once() -> None:
    options = ImageOptions.parse({"bands": "F336W, F814W", "exposure": "100,200", "unit": None})
    assert options.bands == ("F336W", "F814W")
    assert options.exposure == (100.0, 200.0)
    assert options == ImageOptions(bands=("F336W", "F814W"), exposure=(100.0, 200.0))


def test_real_stamps_of_globular_clusters(shared_data: Path) -> None:
    path = shared_data / "hst" / "cutouts" / "FCC47_images.fits"
    if not path.is_file():
        pytest.skip("needs the real cutouts in hst/cutouts")
    expected = ExpectedImages(("ACS_WFC_F475W", "ACS_WFC_F850LP"), 20)
    with pytest.raises(MelotteValueError, match="not state the bands of its 2 planes nor the"):
        list(read_cutouts(path, expected))
    said = {"bands": "F475W,F850LP", "pixel_scale": 0.05, "unit": "electrons/s"}
    stacks = [one for one in read_cutouts(path, expected, said) if isinstance(one, ImageStack)]
    assert sum(len(stack) for stack in stacks) == 635
    assert sum(int(stack.bad.sum()) for stack in stacks) == 5534
    with pytest.raises(MelotteValueError, match="found: F475W, F850LP; the model reads WFC3_UVIS"):
        list(read_cutouts(path, ExpectedImages(BANDS, 20), said))
    with pytest.raises(MelotteValueError, match="smaller than the model's 64x64"):
        list(read_cutouts(path, ExpectedImages(expected.bands, 64), said))


def test_a_real_drizzled_image(shared_data: Path) -> None:
    path = shared_data / "hst" / "cutouts" / "xdf_hst_wfc3ir_60mas_f160w_sci.fits"
    if not path.is_file():
        pytest.skip("needs the real cutouts in hst/cutouts")
    stack = one_stack(path, ExpectedImages(("WFC3_IR_F160W",), 64))
    assert stack.pixel_scale == pytest.approx(0.06)
    assert stack.exposure.item() == pytest.approx(330624.39)
    assert stack.images.shape == (1, 1, 64, 64)
