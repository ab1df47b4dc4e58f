"""What a user's mosaics lend as backgrounds, and what is kept out of them."""

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.io.field_files import write_mosaic
from melotte.systems.cluster_images.mosaics import mosaic_background
from melotte.systems.registry import build_system, load_preset
from melotte.telescope.passbands import passband

BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")


@pytest.fixture
def paths(tmp_path):
    filters = [passband(band) for band in BANDS]
    return write_mosaic(
        tmp_path / "field",
        np.broadcast_to(np.arange(31 * 41, dtype=np.float32).reshape(31, 41), (3, 31, 41)),
        BANDS,
        pixel_scale=0.04,
        exposure=(1890.0, 1880.0, 1203.0),
        zero_points_ab=[one.zero_point_ab for one in filters],
        pivot_nm=[one.pivot_nm for one in filters],
        centre=(204.25, -29.87),
    )


def settings(paths, table):
    overrides = [
        f"data.fields.mosaics={[str(path) for path in paths]}",
        f"data.fields.masks=['{table}']",
        "data.fields.mask_radius=0.13",
        "data.camera.pixel_scale=0.04",
    ]
    return build_system(load_preset("m83", overrides)).data


def masked(paths, table):
    """Pixels that no background of one pixel is ever cut from: each pixel holds its own number."""
    pool = mosaic_background(settings(paths, table))
    cut = pool.cut(40_000, 1, keyed_generator(1, 1))[:, 0, 0, 0]
    # Zero points of headers are rounded: counts agree to 1e-4.
    mask = np.ones(31 * 41, dtype=bool)
    mask[np.unique((1.00004 * cut).round().int().numpy())] = False
    return mask.reshape(31, 41)


def test_objects_listed_on_the_sky_are_masked(paths, tmp_path):
    place = WCS(fits.getheader(paths[0])).pixel_to_world([20, 0, 400], [15, 30, 400])
    table = tmp_path / "known.ecsv"
    Table({"ra": place.ra.deg, "dec": place.dec.deg}).write(table)
    mask = masked(paths, table)
    rows, columns = np.nonzero(mask[5:25, 10:30])
    # Pixels within 0.13 / 0.04 = 3.25 pixels: 37; a quarter of them about the corner.
    assert (len(rows), rows.mean() + 5, columns.mean() + 10) == (37, 15, 20)
    assert mask.sum() == 37 + 13


def test_a_radius_of_the_table_wins_where_it_is_given(paths, tmp_path):
    table = tmp_path / "known.ecsv"
    Table({"x": [20.0, 5.0], "y": [15.0, 15.0], "radius": [0.05, np.nan]}).write(table)
    mask = masked(paths, table)
    assert mask[:, 13:].sum() == 5
    assert mask[:, :13].sum() == 37


def test_mosaics_without_coordinates_cannot_mask_the_sky(paths, tmp_path):
    for path in paths:
        with fits.open(path, mode="update") as opened:
            header = opened[0].header
            for key in ("CTYPE1", "CTYPE2", "CRVAL1", "CRVAL2", "CRPIX1", "CRPIX2"):
                header.remove(key, ignore_missing=True)
    table = tmp_path / "known.ecsv"
    Table({"ra": [204.25], "dec": [-29.87]}).write(table)
    with pytest.raises(MelotteValueError, match="no celestial coordinates"):
        masked(paths, table)
