"""Stamps out of mosaics: the right pixels, at the right place, with their flux, on one grid."""

from __future__ import annotations

import gzip
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from astropy.coordinates import FK5, SkyCoord
from astropy.io import fits
from astropy.table import Table
from mosaic_files import sources, tangent_wcs, write_mosaic

from melotte.errors import MelotteFileError, MelotteValueError, MissingExtraError
from melotte.flags import Flag
from melotte.io.image_grids import tangent_plane
from melotte.io.image_mosaics import read_mosaic_cutouts
from melotte.io.image_positions import ImagePositions, read_positions
from melotte.io.image_stacks import ExpectedImages, ImageStack, RejectedImage
from melotte.io.reprojection import celestial

BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")
SHAPE = (200, 240)
EXPECTED = ExpectedImages(BANDS, 32, 0.04)
COLUMNS, ROWS = np.array([60.2, 119.9, 170.4, 90.2]), np.array([50.0, 99.6, 140.3, 150.8])
WCS = tangent_wcs(0.04, SHAPE)
SKY = WCS.pixel_to_world(COLUMNS, ROWS)
POSITIONS = ImagePositions(("a", "b", "c", "d"), SKY.ra.deg, SKY.dec.deg)


@pytest.fixture(scope="module")
def same_grid(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("mosaics")
    image = sources(WCS, SHAPE, SKY, 0.04)
    return [
        write_mosaic(folder / f"{band[-5:]}.fits", image * (place + 1) + 1e-9, WCS, band[-5:])
        for place, band in enumerate(BANDS)
    ]


def one_stack(
    paths: Any, positions: Any = POSITIONS, expected: ExpectedImages = EXPECTED, **options: Any
) -> ImageStack:
    (found,) = read_mosaic_cutouts(paths, positions, expected, options)
    assert isinstance(found, ImageStack)
    return found


def centroids(images: torch.Tensor) -> torch.Tensor:
    """Column and row of the light in each plane."""
    images = images.nan_to_num().double()
    steps = torch.arange(images.shape[-1], dtype=torch.float64)
    total = images.sum((-2, -1))
    return torch.stack(
        [(images.sum(-2) * steps).sum(-1) / total, (images.sum(-1) * steps).sum(-1) / total], -1
    )


def test_pixels_of_one_grid_are_copied(same_grid: list[Path]) -> None:
    stack = one_stack(same_grid)
    assert stack.ids == POSITIONS.ids
    assert stack.header["resampled_bands"] == []
    assert not stack.bad.any()
    whole = fits.getdata(same_grid[0])
    for row, (x, y) in enumerate(zip(COLUMNS, ROWS, strict=True)):
        left, top = int(np.ceil(x - 16 - 1e-6)), int(np.ceil(y - 16 - 1e-6))
        np.testing.assert_array_equal(
            stack.images[row, 0].numpy(), whole[top : top + 32, left : left + 32]
        )
    np.testing.assert_allclose(stack.header["x"], COLUMNS, atol=1e-6)
    np.testing.assert_allclose(stack.header["y"], ROWS, atol=1e-6)
    np.testing.assert_allclose(stack.header["ra"], SKY.ra.deg, atol=1e-12)


def test_the_object_is_within_half_a_pixel_of_the_centre(same_grid: list[Path]) -> None:
    offset = (centroids(one_stack(same_grid).images) - 15.5).abs()
    assert offset.max() < 0.5 + 1e-3
    assert offset.max() > 0.3


def test_pixel_positions_and_other_frames_mean_the_same(
    same_grid: list[Path], tmp_path: Path
) -> None:
    stack = one_stack(same_grid)
    Table({"name": list("abcd"), "x": COLUMNS, "y": ROWS}).write(tmp_path / "p.csv")
    assert torch.equal(one_stack(same_grid, tmp_path / "p.csv").images, stack.images)
    Table({"X_IMAGE": COLUMNS + 1, "Y_IMAGE": ROWS + 1}).write(tmp_path / "s.csv")
    assert torch.equal(one_stack(same_grid, tmp_path / "s.csv").images, stack.images)
    table = Table({"id": list("abcd"), "RA": SKY.ra.to("rad"), "Dec": SKY.dec})
    table.write(tmp_path / "p.ecsv")
    assert torch.equal(one_stack(same_grid, tmp_path / "p.ecsv").images, stack.images)
    hours = SKY.ra.to_string("hourangle", sep=":", precision=6)
    Table({"RAJ2000": hours, "DEJ2000": SKY.dec.to_string(sep=":", precision=6)}).write(
        tmp_path / "h.csv"
    )
    assert torch.equal(one_stack(same_grid, tmp_path / "h.csv").images, stack.images)


def test_fk5_mosaics_are_found_from_icrs_positions(tmp_path: Path) -> None:
    wcs = WCS.deepcopy()
    wcs.wcs.radesys, wcs.wcs.equinox = "FK5", 1975.0
    sky = wcs.pixel_to_world(COLUMNS, ROWS)
    assert isinstance(sky.frame, FK5)
    image = sources(wcs, SHAPE, sky, 0.04)
    paths = [write_mosaic(tmp_path / f"{b[-5:]}.fits", image, wcs, b[-5:]) for b in BANDS]
    here = ImagePositions(POSITIONS.ids, sky.icrs.ra.deg, sky.icrs.dec.deg)
    np.testing.assert_allclose(one_stack(paths, here).header["x"], COLUMNS, atol=1e-3)


GRIDS = {
    "another scale": (0.05, 0.0, (0.0, 0.0)),
    "half a pixel off": (0.04, 0.0, (0.5, 0.3)),
    "turned": (0.05, 40.0, (3.0, -2.0)),
}


@pytest.mark.parametrize("grid", GRIDS)
def test_other_grids_are_brought_to_the_first(
    grid: str, same_grid: list[Path], tmp_path: Path
) -> None:
    if grid == "turned":
        pytest.importorskip("reproject")
    scale, turn, shift = GRIDS[grid]
    shape = (260, 300)
    wcs = tangent_wcs(scale, shape, turn, shift)
    moved = write_mosaic(tmp_path / "m.fits", sources(wcs, shape, SKY, scale) + 1e-9, wcs, "F814W")
    stack = one_stack([*same_grid[:2], moved])
    assert stack.header["resampled_bands"] == [BANDS[2]]
    assert not stack.bad.any()
    flux = stack.images.double().sum((2, 3))
    np.testing.assert_allclose(flux[:, 2], flux[:, 0], rtol=1e-3)
    centres = centroids(stack.images)
    torch.testing.assert_close(centres[:, 2], centres[:, 0], rtol=0, atol=0.02)


def test_the_models_scale_is_kept_or_made(tmp_path: Path) -> None:
    wcs = tangent_wcs(0.05, SHAPE)
    sky = wcs.pixel_to_world(COLUMNS, ROWS)
    image = sources(wcs, SHAPE, sky, 0.05) + 1e-9
    paths = [write_mosaic(tmp_path / f"{b[-5:]}.fits", image, wcs, b[-5:]) for b in BANDS]
    here = ImagePositions(POSITIONS.ids, sky.ra.deg, sky.dec.deg)
    made = one_stack(paths, here)
    assert made.pixel_scale == pytest.approx(0.04, rel=1e-6)
    assert made.header["resampled_from"] == pytest.approx(0.05, rel=1e-6)
    np.testing.assert_allclose(made.images.double().sum((2, 3)), 1, rtol=1e-3)
    torch.testing.assert_close(
        centroids(made.images), torch.full((4, 3, 2), 15.5).double(), rtol=0, atol=0.01
    )
    kept = one_stack(paths, here, ExpectedImages(BANDS, 32))
    assert kept.pixel_scale == pytest.approx(0.05, rel=1e-6)
    assert kept.header["resampled_bands"] == []


def test_of_a_range_of_scales_the_grid_is_that_of_a_band_inside(tmp_path: Path) -> None:
    paths = []
    for band, scale in zip(BANDS, (0.04, 0.05, 0.05), strict=True):
        wcs = tangent_wcs(scale, SHAPE)
        image = sources(wcs, SHAPE, SKY, scale) + 1e-9
        paths.append(write_mosaic(tmp_path / f"{band[-5:]}.fits", image, wcs, band[-5:]))
    served = ExpectedImages(BANDS, 32, served_scales=(0.045, 0.055))
    stack = one_stack(paths, expected=served)
    assert stack.pixel_scale == pytest.approx(0.05)
    assert stack.header["grid"] == str(paths[1])
    assert stack.header["resampled_bands"] == [BANDS[0]]
    np.testing.assert_allclose(stack.images.double().sum((2, 3)), 1, rtol=1e-3)
    centres = centroids(stack.images)
    torch.testing.assert_close(centres[:, 0], centres[:, 1], rtol=0, atol=0.02)
    expected_x = tangent_wcs(0.05, SHAPE).world_to_pixel(SKY)[0]
    np.testing.assert_allclose(stack.header["x"], expected_x, atol=1e-6)
    for outside in (ExpectedImages(BANDS, 32), ExpectedImages(BANDS, 32, None, {}, (0.07, 0.08))):
        stack = one_stack(paths, expected=outside)
        assert stack.pixel_scale == pytest.approx(0.04)
        assert stack.header["grid"] == str(paths[0])


def test_a_pixel_scale_that_contradicts_the_coordinates_is_refused(same_grid: list[Path]) -> None:
    with pytest.raises(MelotteValueError, match=r"pixel_scale=0.05 is given, and .* say 0.04 arcs"):
        one_stack(same_grid, pixel_scale=0.05)
    assert one_stack(same_grid, pixel_scale=0.0404).pixel_scale == pytest.approx(0.0404)


def test_without_the_extra_turned_bands_are_refused(
    same_grid: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wcs = tangent_wcs(0.04, SHAPE, 40.0)
    turned = write_mosaic(tmp_path / "m.fits", np.ones(SHAPE), wcs, "F814W")
    monkeypatch.setitem(sys.modules, "reproject", None)
    with pytest.raises(MissingExtraError, match=r"melotte\[images\]"):
        one_stack([*same_grid[:2], turned])


def test_rows_outside_or_without_a_position_are_rejected(same_grid: list[Path]) -> None:
    sky = WCS.pixel_to_world([100.0, -40.0, 3.0, 100.0], [100.0, 100.0, 100.0, 100.0])
    ra, dec = sky.ra.deg.copy(), sky.dec.deg.copy()
    ra[3] = np.nan
    there = np.append(ra, 190.0), np.append(dec, -41.0)
    found = list(read_mosaic_cutouts(same_grid, ImagePositions(tuple("abcde"), *there), EXPECTED))
    rejected = {one.id: one for one in found if isinstance(one, RejectedImage)}
    assert rejected.keys() == {"b", "d", "e"}
    assert rejected["b"].reason == "outside the mosaic of WFC3_UVIS_F336W"
    assert rejected["b"].flags == int(Flag.FAILED)
    assert rejected["d"].reason == "no position"
    assert dict(rejected["b"].columns) == pytest.approx({"ra": there[0][1], "dec": there[1][1]})
    assert rejected["e"].columns["ra"] == pytest.approx(190)
    assert not rejected["d"].columns
    order = [one.ids if isinstance(one, ImageStack) else one.id for one in found]
    assert order == [("a",), "b", ("c",), "d", "e"]
    first, second = (one for one in found if isinstance(one, ImageStack))
    assert (first.flags.tolist(), second.flags.tolist()) == ([0], [int(Flag.BAD_PIXELS)])
    assert second.bad[0].sum() == 3 * 32 * (16 - 4 + 1)


def test_nan_zero_weight_and_blank_borders_are_bad(tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    image = rng.normal(1, 0.1, SHAPE).astype(np.float32)
    image[:, :52] = np.nan
    weight = np.ones(SHAPE, np.float32)
    weight[:42] = 0
    image[150:, :] = 0
    image[60, 60] = 0
    header = {**WCS.to_header(), "FILTER": "F336W", "BUNIT": "ELECTRONS/S"}
    hdus = [
        fits.PrimaryHDU(),
        fits.ImageHDU(image.astype(">f8"), fits.Header(header), name="SCI"),
        fits.ImageHDU(weight, name="WHT"),
    ]
    fits.HDUList(hdus).writeto(tmp_path / "m.fits")
    expected = ExpectedImages(BANDS[:1], 32, 0.04)
    bad = one_stack([tmp_path / "m.fits"], expected=expected).bad[:, 0]
    assert bad[0].sum() == 32 * 32 - (32 - 8) * (32 - 7)
    assert bad[0, :8].all()
    assert bad[0, :, :7].all()
    assert not bad[1].any()
    assert bad[3, -17:].all()
    assert not bad[3, :-17].any()


@pytest.mark.parametrize("kind", ["gzip", "fz", "scaled"])
def test_packed_mosaics_give_the_same_stamps(
    kind: str, same_grid: list[Path], tmp_path: Path
) -> None:
    stack = one_stack(same_grid)
    path = tmp_path / "F438W.fits"
    image, header = fits.getdata(same_grid[1], header=True)
    if kind == "gzip":
        path = tmp_path / "F438W.fits.gz"
        path.write_bytes(gzip.compress(same_grid[1].read_bytes(), 1))
    elif kind == "fz":
        hdu = fits.CompImageHDU(
            np.asarray(image), header, compression_type="GZIP_2", quantize_level=0
        )
        path = tmp_path / "F438W.fits.fz"
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
    else:
        header["BSCALE"], header["BZERO"] = 0.5, 0.25
        scaled = ((image.astype(np.float64) - 0.25) / 0.5).astype(">f8")
        header["BITPIX"] = -64
        data = scaled.tobytes()
        path.write_bytes(header.tostring().encode() + data + b"\0" * (-len(data) % 2880))
    again = one_stack([same_grid[0], path, same_grid[2]])
    torch.testing.assert_close(again.images, stack.images, rtol=1e-6, atol=1e-7)


def test_of_several_bricks_the_one_that_holds_the_object(tmp_path: Path) -> None:
    paths, every = [], WCS.pixel_to_world(COLUMNS, ROWS)
    for number, shift in enumerate([(50, 0), (-50, 0)]):
        wcs = tangent_wcs(0.04, SHAPE, shift=shift)
        image = sources(wcs, SHAPE, every, 0.04) + 1e-9
        for band in BANDS:
            path = tmp_path / f"{band[-5:]}_{number}.fits"
            paths.append(write_mosaic(path, image, wcs, band[-5:], EXPTIME=100.0 + number))
    found = list(read_mosaic_cutouts(paths, POSITIONS, EXPECTED))
    assert [one.id for one in found if isinstance(one, RejectedImage)] == []
    stacks = [one for one in found if isinstance(one, ImageStack)]
    assert [name for stack in stacks for name in stack.ids] == list("abcd")
    for stack in stacks:
        brick = {Path(name).stem[-1] for name in stack.header["sources"]}
        assert len(brick) == 1
        assert stack.exposure.tolist() == [100.0 + int(brick.pop())] * 3
        np.testing.assert_allclose(stack.images.sum((2, 3)), 1, rtol=1e-3)
        assert not stack.bad.any()


def test_bands_come_from_the_header_the_name_or_the_option(
    same_grid: list[Path], tmp_path: Path
) -> None:
    image = fits.getdata(same_grid[2])
    plain = {"FILTER": None, "INSTRUME": None, "DETECTOR": None}
    named = write_mosaic(tmp_path / "m83_f814w_drz.fits", image, WCS, **plain)
    assert torch.equal(one_stack([named, *same_grid[:2]]).images, one_stack(same_grid).images)
    other = write_mosaic(tmp_path / "other.fits", image, WCS, **plain)
    with pytest.raises(MelotteValueError, match="not state"):
        one_stack([other, *same_grid[:2]])
    stack = one_stack([other, *same_grid[:2]], bands="F814W,F336W,F438W")
    assert torch.equal(stack.images, one_stack(same_grid).images)
    acs = write_mosaic(tmp_path / "acs.fits", image, WCS, "F814W", INSTRUME="ACS", DETECTOR="WFC")
    with pytest.raises(MelotteValueError, match=r"no image in WFC3_UVIS_F814W; found: .*ACS_WFC"):
        one_stack([acs, *same_grid[:2]])


def test_a_missing_band_is_refused_or_an_empty_plane(same_grid: list[Path]) -> None:
    with pytest.raises(MelotteValueError, match="no image in WFC3_UVIS_F438W"):
        one_stack(same_grid[::2])
    stack = one_stack(same_grid[::2], missing_band="allow")
    assert stack.bad.flatten(2).all(-1).tolist() == [[False, True, False]] * 4
    alone = one_stack(same_grid[2:], missing_band="allow")
    assert alone.bad.flatten(2).all(-1).tolist() == [[True, True, False]] * 4


def test_images_without_coordinates_need_pixels(tmp_path: Path, same_grid: list[Path]) -> None:
    paths = [
        write_mosaic(tmp_path / f"{b[-5:]}.fits", fits.getdata(p), None, b[-5:], PIXSCALE=0.04)
        for b, p in zip(BANDS, same_grid, strict=True)
    ]
    with pytest.raises(MelotteValueError, match="give columns x and y"):
        one_stack(paths)
    stack = one_stack(paths, ImagePositions(tuple("abcd"), x=COLUMNS, y=ROWS))
    assert torch.equal(stack.images, one_stack(same_grid).images)
    wider = write_mosaic(tmp_path / "w.fits", np.ones((90, 90)), None, "F814W", PIXSCALE=0.04)
    with pytest.raises(MelotteValueError, match="differ in size"):
        one_stack([*paths[:2], wider], ImagePositions(tuple("abcd"), x=COLUMNS, y=ROWS))


def test_what_is_no_mosaic_or_no_table_of_positions(same_grid: list[Path], tmp_path: Path) -> None:
    fits.PrimaryHDU(np.zeros((3, 4, 5))).writeto(tmp_path / "cube.fits")
    with pytest.raises(MelotteFileError, match="no image with two axes"):
        one_stack([tmp_path / "cube.fits"])
    with pytest.raises(MelotteValueError, match="no mosaic was given"):
        one_stack([])
    Table({"id": ["a"], "ra": [10.0]}).write(tmp_path / "half.csv")
    with pytest.raises(MelotteValueError, match="no columns ra and dec, nor x and y"):
        one_stack(same_grid, tmp_path / "half.csv")
    Table({"ra": [10.0], "dec": [95.0]}).write(tmp_path / "pole.csv")
    with pytest.raises(MelotteValueError, match=r"95 is outside \[-90, 90\] deg"):
        one_stack(same_grid, tmp_path / "pole.csv")
    Table({"ra": ["10:xx"], "dec": ["1:2:3"]}).write(tmp_path / "text.csv")
    with pytest.raises(MelotteValueError, match="row 1, column 'ra': '10:xx' is no angle"):
        one_stack(same_grid, tmp_path / "text.csv")


def test_weights_and_masks_are_never_the_image(same_grid: list[Path], tmp_path: Path) -> None:
    plain = one_stack(same_grid)
    weighed, cubes = [], []
    for path in same_grid:
        with fits.open(path) as opened:
            values, header = np.asarray(opened[0].data), opened[0].header
        weight = fits.ImageHDU(np.full(values.shape, 1800.0), name="WHT")
        image = fits.ImageHDU(values, header, name="DRZ")
        weighed.append(tmp_path / f"first_{path.name}")
        fits.HDUList([fits.PrimaryHDU(header=header[6:]), weight, image]).writeto(weighed[-1])
        mask = fits.ImageHDU(np.zeros(values.shape, np.uint8), name="MASK")
        cubes.append(tmp_path / f"cube_{path.name}")
        fits.HDUList([fits.PrimaryHDU(values[None], header), mask]).writeto(cubes[-1])
    torch.testing.assert_close(one_stack(weighed).images, plain.images)
    with pytest.raises(MelotteFileError, match="no image with two axes but one of 1 x "):
        one_stack(cubes)


def test_text_among_the_coordinates_is_named(same_grid: list[Path], tmp_path: Path) -> None:
    for path in same_grid:
        with fits.open(path) as opened:
            opened[0].header["CRVAL1"] = "INDEF"
            opened.writeto(tmp_path / path.name)
    broken = [tmp_path / path.name for path in same_grid]
    with pytest.raises(MelotteValueError, match="no celestial coordinates for columns ra and dec"):
        one_stack(broken)
    with (
        fits.open(broken[0]) as opened,
        pytest.raises(MelotteValueError, match=r"cannot be read \(CRVAL1 'INDEF' is"),
    ):
        celestial(opened[0], opened, broken[0])


@pytest.mark.parametrize("ra", [0.0, 120.0, 250.4, 359.9])
def test_right_ascensions_of_planes_are_not_negative(ra: float) -> None:
    east, north = np.array([1, -1, -1, 1]) * 0.01, np.array([-1, -1, 1, 1]) * 0.01
    plane = tangent_plane(SkyCoord((ra + east) % 360, 36.0 + north, unit="deg"), (8, 8))
    assert 0 <= plane.wcs.crval[0] <= 360
    assert abs((plane.wcs.crval[0] - ra + 180) % 360 - 180) < 1e-9


def test_positions_with_their_own_names_and_radii(tmp_path: Path) -> None:
    table = Table({"obj": [7, 8], "lon": [1.0, 2.0], "lat": [3.0, 4.0], "R": [0.5, 1.0]})
    table["R"].unit = "arcmin"
    table.write(tmp_path / "p.ecsv")
    found = read_positions(
        tmp_path / "p.ecsv", {"id": "obj", "ra": "lon", "dec": "lat", "radius": "R"}
    )
    assert found.ids == ("7", "8")
    assert found.radius is not None
    np.testing.assert_allclose(found.radius, [30, 60])
    with pytest.raises(MelotteValueError, match="unknown NAME 'age'"):
        read_positions(tmp_path / "p.ecsv", {"age": "R"})


def test_an_r_magnitude_is_no_radius(same_grid: list[Path], tmp_path: Path) -> None:
    table = Table({"id": list("abcd"), "x": COLUMNS, "y": ROWS, "r": [20.0, 21.0, 22.0, 23.0]})
    table["r"].unit = "mag"
    table["radius"] = [1.0, 2.0, 3.0, 4.0]
    table["radius"].unit = "kpc"
    table.write(tmp_path / "p.ecsv")
    assert one_stack(same_grid, tmp_path / "p.ecsv").ids == tuple("abcd")
    table["radius"].unit = "arcmin"
    assert read_positions(table).radius is None
    found = read_positions(table, radii=True).radius
    assert found is not None
    np.testing.assert_allclose(found, [60, 120, 180, 240])
    table.remove_column("radius")
    assert read_positions(table, radii=True).radius is None


def test_only_the_pixels_that_are_needed_are_read(
    same_grid: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    from melotte.io import image_files

    read: list[int] = []
    genuine = image_files.pixels

    def counted(hdu: Any, part: Any, path: Path) -> np.ndarray:
        values = genuine(hdu, part, path)
        read.append(values.size)
        return values

    monkeypatch.setattr(image_files, "pixels", counted)
    one_stack(same_grid)
    assert sum(read) == 4 * 3 * 32 * 32


def test_sky_coordinates_make_a_round_trip() -> None:
    from melotte.io.image_grids import to_pixel, to_sky

    pixel = np.array([[3.0, 4.0], [120.25, 80.5]])
    for turn in (0.0, 70.0):
        wcs = tangent_wcs(0.04, SHAPE, turn)
        sky = to_sky(wcs, pixel)
        assert isinstance(sky, SkyCoord)
        np.testing.assert_allclose(to_pixel(wcs, sky), pixel, atol=1e-7)
