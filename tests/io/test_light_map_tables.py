"""Tables of images of globular clusters: units of their columns, and the files that they name."""

import numpy as np
import pytest
from astropy.table import Column, MaskedColumn, Table
from light_map_files import write_image

from melotte.errors import MelotteValueError
from melotte.io.image_stacks import RejectedImage
from melotte.io.light_map_tables import COLUMN_UNITS
from melotte.io.light_maps import named_files, read_light_maps

KNOWN_UNITS = {"distance": "kpc", "log_age": "", "metallicity": ""}


@pytest.fixture
def folder(tmp_path):
    values = np.random.default_rng(4).uniform(5, 9, (40, 48))
    write_image(tmp_path / "a.fits", values, None, FILTER="V", MAGZPT=25.0, BUNIT="counts")
    return tmp_path


def written(folder, name="list.ecsv", **columns):
    """A table of one image, with an exposure and a scale unless told otherwise."""
    columns = {"exposure": [90.0], "pixel_scale": [0.25]} | columns
    table = Table({"id": ["one"], "V": ["a.fits"], **columns})
    form = {"format": "votable"} if name.endswith(".vot") else {}
    table.write(folder / name, overwrite=True, **form)
    return folder / name


def read(path):
    (found,) = read_light_maps([path], None, KNOWN_UNITS)
    return found


@pytest.mark.parametrize("name", ["list.ecsv", "list.fits", "list.parquet", "list.vot"])
def test_units_of_columns_are_converted(folder, name):
    path = written(
        folder,
        name,
        distance=Column([7100.0], unit="pc"),
        distance_error=Column([90], unit="pc"),
        extinction_v=Column([60.0], unit="mmag"),
        pixel_scale=Column([0.25 / 60], unit="arcmin"),
        psf_fwhm=Column([0.9 / 3600], unit="deg"),
        exposure=Column([1.5], unit="min"),
        ra=Column([20.0], unit="hourangle" if name == "list.ecsv" else "deg"),
        dec=Column([-1800.0], unit="arcmin"),
        known_distance=Column([7.1e-3], unit="Mpc"),
        zero_point=Column([25.0], unit="mag"),
        size=Column([160], unit="pix"),
    )
    found = read(path)
    assert not isinstance(found, RejectedImage), found.reason
    assert found.pixel_scale == pytest.approx(0.25)
    assert found.psf_fwhm == pytest.approx(0.9)
    assert np.nanmedian(found.images) == pytest.approx(7 / 90, rel=0.05)
    options = found.options
    assert options.ra == pytest.approx(300 if name == "list.ecsv" else 20)
    assert (options.dec, options.size) == (pytest.approx(-30), 160)
    assert (options.distance, options.distance_error) == pytest.approx((7.1, 0.09))
    assert options.extinction_v == pytest.approx(0.06)
    assert found.known == {"distance": pytest.approx(7.1)}


def test_a_column_without_a_unit_is_in_the_default_one(folder):
    found = read(written(folder, distance=[7.1], psf_fwhm=[0.9], x=[20.0], y=[11.0]))
    assert (found.options.distance, found.psf_fwhm, found.options.x) == (7.1, 0.9, 20)
    scale = Column([0.25], unit="arcsec / pix")
    assert read(written(folder, pixel_scale=scale)).pixel_scale == 0.25
    exposures = Column(["1.5"], unit="min")
    assert read(written(folder, exposure=exposures)).options.image.exposure == (90.0,)


@pytest.mark.parametrize(
    ("name", "unit", "needed"),
    [
        ("distance", "mas", "kpc"),
        ("extinction_v", "Jy", "mag"),
        ("zero_point", "mag(ST)", "mag"),
        ("exposure", "adu", "s"),
        ("pixel_scale", "pix", "arcsec"),
        ("ra", "h", "deg"),
        ("x", "arcsec", "px"),
        ("known_distance", "mag", "kpc"),
        ("known_log_age", "Gyr", "a plain number"),
    ],
)
def test_a_unit_that_does_not_convert_is_refused(folder, name, unit, needed):
    path = written(folder, **{name: Column([10.0], unit=unit)})
    with pytest.raises(MelotteValueError) as caught:
        read(path)
    said = str(caught.value)
    assert said.startswith(f"{path}: column {name!r} is in '{unit.rstrip(')')}")
    assert said.endswith(f"a unit that converts to {needed} is needed")


@pytest.mark.parametrize(("unit", "system"), [
    ("mag(AB)", "ab"), ("ABmag", "ab"), ("mag (Vega)", "vega"), ("vegamag", "vega"),
])  # fmt: skip
def test_a_unit_tells_the_system_of_zero_points(folder, unit, system):
    zero_point = Column([25.0], unit="mag")
    other = {"ab": "vega", "vega": "ab"}[system]
    plain = written(folder, "plain.ecsv", zero_point=zero_point, zero_point_system=[system])
    path = written(folder, zero_point=zero_point)
    both = written(folder, "both.ecsv", zero_point=zero_point, zero_point_system=[other])
    for one in (path, both):
        text = one.read_text()
        assert "unit: mag" in text
        one.write_text(text.replace("unit: mag", f"unit: {unit}"))
    found = read(path)
    assert found.options.zero_point_system == system
    np.testing.assert_array_equal(found.images, read(plain).images)
    assert read(both).reason == (
        f"zero_point_system '{other}' contradicts the unit of the column zero_point, of {system}"
    )


def test_known_values_without_a_unit_of_their_own(folder):
    found = read(written(folder, known_log_age=Column([10.0], unit="dex"), known_metallicity=[-1]))
    assert found.known == {"log_age": 10.0, "metallicity": -1.0}


def test_levels_are_in_the_unit_of_the_image(folder):
    for unit in ("ct", "counts / pix", "adu"):
        found = read(written(folder, sky=Column([9.0], unit=unit)))
        assert found.sky == pytest.approx((0.1,))
    for name, unit in (("sky", "mag"), ("noise", "ct / s"), ("saturation", "electron")):
        path = written(folder, **{name: Column([9.0], unit=unit)})
        found = read(path)
        assert isinstance(found, RejectedImage)
        assert found.reason == (
            f"{path}: column {name!r} is in {unit!r}; the unit of the pixels of "
            f"{folder / 'a.fits'}, counts, is needed"
        )


def test_every_option_that_is_a_number_has_a_unit_or_none():
    from melotte.io.light_map_options import OPTION_NAMES
    from melotte.io.light_map_tables import IMAGE_COLUMNS

    without = {
        "bands", "unit", "hdu", "pixel_origin", "column", "zero_point_system", "mask", "dispersion",
    }  # fmt: skip
    assert {*COLUMN_UNITS, *IMAGE_COLUMNS} == set(OPTION_NAMES) - without


def test_files_that_a_table_names_are_found(folder):
    path = written(folder, mask=["sub/m.fits"], B=MaskedColumn(["b.fits"], mask=[True]))
    found = named_files([folder / "a.fits", path, folder / "none.ecsv"])
    assert sorted(found) == [folder / "a.fits", folder / "sub" / "m.fits"]
    Table({"ra": [1.0]}).write(folder / "stars.ecsv")
    assert named_files([folder / "stars.ecsv"]) == []
