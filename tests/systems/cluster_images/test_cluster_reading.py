import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Table

from melotte.api.fields import simulate_field_mosaic
from melotte.engine.random import keyed_generator
from melotte.errors import MelotteValueError
from melotte.flags import Flag
from melotte.sky.extinction import ccm89
from melotte.systems.base import Observation, RowError
from melotte.systems.cluster_images.dereddening import brightened
from melotte.systems.cluster_images.reading import circumstances, outside_of_training
from melotte.systems.registry import build_system, load_preset
from melotte.telescope.passbands import passband

BANDS = ("WFC3_UVIS_F336W", "WFC3_UVIS_F438W", "WFC3_UVIS_F814W")


@pytest.fixture(scope="module")
def cutouts(tmp_path_factory, m83_mocks):
    """The mocks as somebody's FITS file."""
    path = tmp_path_factory.mktemp("cutouts") / "stamps.fits"
    image = m83_mocks.observation.data["image"].numpy().astype(">f8")
    header = fits.Header()
    for i, band in enumerate(BANDS):
        header[f"FILTER{i + 1}"] = band.rsplit("_", 1)[1]
    header["INSTRUME"], header["DETECTOR"] = "WFC3", "UVIS"
    header["PIXSCALE"], header["EXPTIME"], header["BUNIT"] = 0.04, 1500.0, "ELECTRONS/S"
    fits.PrimaryHDU(image, header).writeto(path)
    return path


@pytest.fixture(scope="module")
def mosaic(tmp_path_factory):
    return simulate_field_mosaic("m83", tmp_path_factory.mktemp("mosaic"), size=400, seed=4)


def entries(system, source, **options):
    return list(system.read(source, options))


def test_a_file_of_mocks_is_read_as_the_mocks(small_m83, cutouts, m83_mocks):
    found = entries(small_m83, cutouts, distance_modulus=28.2, metallicity=0.0)
    observations = [one for one in found if isinstance(one, Observation)]
    image = torch.cat([one.data["image"] for one in observations])
    known = ~torch.isnan(m83_mocks.observation.data["image"]).all((2, 3)).any(1)
    truth = m83_mocks.observation.data["image"]
    kept = len(image)
    assert kept + len(found) - len(observations) == len(truth)
    assert torch.equal(image.nan_to_num(-9), truth[known].nan_to_num(-9))
    data = observations[0].data
    assert data["exposure"].tolist()[0] == [1500.0] * 3
    assert float(data["distance_modulus"][0]) == pytest.approx(28.2)
    spoilt = torch.isnan(image).any((1, 2, 3))
    flags = torch.cat([one.flags for one in observations])
    assert torch.equal((flags & int(Flag.BAD_PIXELS)) > 0, spoilt)
    assert not bool((flags & int(Flag.OUT_OF_RANGE)).any())


def test_read_images_are_prepared_like_mocks(small_m83, cutouts, m83_mocks):
    constants = small_m83.constants(m83_mocks)
    found = entries(small_m83, cutouts, metallicity=0.0)
    observation = next(one for one in found if isinstance(one, Observation))
    prepared = small_m83.prepare(observation, constants)
    assert prepared["image"].shape[1:] == (3, 48, 48)
    assert all(bool(torch.isfinite(values).all()) for values in prepared.values())


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"distance_modulus": 24.0}, "distance_modulus"),
        ({"metallicity": -2.0}, "metallicity"),
        ({"fwhm": 0.3}, "fwhm"),
        ({"exposure": "1,1,1"}, "exposure"),
    ],
)
def test_what_was_not_trained_on_is_flagged(small_m83, cutouts, options, named):
    found = entries(small_m83, cutouts, **({"metallicity": 0.0} | options))
    observation = next(one for one in found if isinstance(one, Observation))
    assert bool((observation.flags & int(Flag.OUT_OF_RANGE)).all())
    assert observation.header["outside_training"] == dict.fromkeys(observation.ids, named)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fwhm": "wide"}, "needs numbers"),
        ({"fwhm": [0.1, 0.1]}, "needs one positive number, or 3"),
        ({"metallicity": "0.1,0.2"}, "needs one number"),
        ({"colour": 3}, "not an option"),
        ({"group_by": "Cluster"}, "not an option of images"),
        ({"deredden": "AV"}, "needs a table of positions"),
        ({"deredden": "AV", "deredden_v": 0.4}, "does not go with a column of them, 'AV'"),
        ({"deredden_v": -0.1}, r"found -0.1; needs one in \[0, 20\] mag"),
        ({"deredden_v": "0.1,0.2"}, "needs one in"),
        ({"deredden_v": "much"}, "needs numbers"),
    ],
)
def test_options_that_do_not_fit_are_refused(small_m83, cutouts, options, message):
    with pytest.raises(MelotteValueError, match=message):
        entries(small_m83, cutouts, **options)


def test_mosaics_are_cut_at_positions(small_m83, mosaic, tmp_path):
    places = Table({"id": ["a", "b", "off"], "x": [100.0, 180.0, 900.0], "y": [120.0, 90.0, 5.0]})
    places["AV"] = [0.0, 0.5, 0.2]
    path = tmp_path / "places.ecsv"
    places.write(path)
    observation, outside = entries(small_m83, mosaic, positions=path)
    assert outside.id == "off"
    assert outside.columns.keys() == {"ra", "dec", "x", "y", "mosaic"}
    assert outside.flags == Flag.FAILED
    assert len(observation.header["ra"]) == len(observation.header["dec"]) == 2
    assert observation.ids == ("a", "b")
    with fits.open(mosaic[0]) as opened:
        whole = next(one.data for one in opened if one.data is not None)
    assert np.allclose(observation.data["image"][0, 0].numpy()[23, 23], whole[119, 99], rtol=1e-4)
    dereddened = entries(small_m83, mosaic, positions=path, deredden="AV")[0]
    ratio = dereddened.data["image"][1] / observation.data["image"][1]
    law = ccm89([10 * passband(band).pivot_nm for band in BANDS])
    expected = torch.from_numpy(10 ** (0.2 * law)).float()
    assert torch.allclose(ratio.flatten(1).median(1).values, expected, rtol=1e-4)
    assert torch.equal(dereddened.data["image"][0], observation.data["image"][0])
    assert dereddened.header["deredden_extinction_v"] == pytest.approx([0.0, 0.5])
    with pytest.raises(MelotteValueError, match="no column 'dust'"):
        entries(small_m83, mosaic, positions=path, deredden="dust")


def test_each_row_has_its_own_extinction_though_ids_repeat(small_m83, mosaic):
    places = Table({"id": ["s", "s", "t"], "x": [100.0, 180.0, 250.0], "y": [120.0, 90.0, 200.0]})
    (plain,) = entries(small_m83, mosaic, positions=places)
    places["av"] = [0.0, 2.0, 1.0]
    (found,) = entries(small_m83, mosaic, positions=places, deredden="av")
    assert found.ids == plain.ids == ("s", "s", "t")
    assert found.header["deredden_extinction_v"] == [0.0, 2.0, 1.0]
    expected = brightened(plain.data["image"], torch.tensor([0.0, 2.0, 1.0]), BANDS)
    torch.testing.assert_close(found.data["image"], expected)


@pytest.mark.parametrize("missing", [np.ma.masked, np.nan, None])
def test_an_object_without_extinction_fails_alone(small_m83, mosaic, tmp_path, missing):
    places = Table({"id": ["A", "B", "C", "off"], "x": [100.0, 180.0, 250.0, 9e3]}, masked=True)
    places["y"] = [120.0, 90.0, 200.0, 10.0]
    places["av"] = np.ma.array([0.1, 0.2, 0.3, 0.4])
    if missing is None:
        places["av"] = ["0.1", "", "0.3", "0.4"]
    else:
        places["av"][1] = missing
    path = tmp_path / "places.ecsv"
    places.write(path)
    found = entries(small_m83, mosaic, positions=path, deredden="av")
    failed = {one.id: one for one in found if isinstance(one, RowError)}
    assert failed["B"].reason == "no A_V in column 'av'"
    assert failed["B"].flags & Flag.FAILED
    assert "outside the mosaic" in failed["off"].reason
    kept = [one for one in found if isinstance(one, Observation)]
    assert [name for one in kept for name in one.ids] == ["A", "C"]
    taken = [value for one in kept for value in one.header["deredden_extinction_v"]]
    assert taken == pytest.approx([0.1, 0.3])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ([0.1, -0.2], "column 'av' of b is no extinction, found -0.2"),
        ([np.inf, 0.2], "column 'av' of a is no extinction"),
        (["0.1", "much"], "row 2, column 'av': 'much' is not a number"),
    ],
)
def test_values_that_are_no_extinctions_are_refused(small_m83, mosaic, values, message):
    places = Table({"id": ["a", "b"], "x": [100.0, 180.0], "y": [120.0, 90.0], "av": values})
    with pytest.raises(MelotteValueError, match=message):
        entries(small_m83, mosaic, positions=places, deredden="av")


def test_places_of_all_batches_are_listed_by_object(small_m83, mosaic):
    x = np.linspace(40, 340, 300)
    found = entries(small_m83, mosaic, positions=Table({"x": x, "y": x[::-1]}))
    assert [len(one) for one in found] == [256, 44]
    for name, values in (("x", x), ("y", x[::-1])):
        assert np.allclose([value for one in found for value in one.header[name]], values)
    assert {path for one in found for path in one.header["mosaic"]} == {str(mosaic[0])}
    assert found[-1].header["images"]["sources"] == [str(path) for path in mosaic]
    assert not {"x", "y"} & found[-1].header["images"].keys()


def test_one_extinction_is_taken_off_all_cutouts(small_m83, cutouts):
    (plain, *_), (found, *_) = (
        [one for one in entries(small_m83, cutouts, **given) if isinstance(one, Observation)]
        for given in ({}, {"deredden_v": 0.4})
    )
    ratio = (found.data["image"] / plain.data["image"]).nanmedian(-1).values.nanmedian(-1).values
    law = ccm89([10 * passband(band).pivot_nm for band in BANDS])
    expected = np.broadcast_to(10 ** (0.16 * law), ratio.shape)
    known = torch.isfinite(ratio)
    np.testing.assert_allclose(ratio[known], expected[known], rtol=1e-4)
    assert found.header["deredden_extinction_v"] == pytest.approx([0.4] * len(found))
    assert torch.equal(found.flags, plain.flags)


def test_dereddening_brightens_blue_bands_most():
    image = torch.ones(1, 3, 2, 2)
    blue, green, red = brightened(image, torch.tensor([1.0]), BANDS)[0, :, 0, 0].tolist()
    assert blue > green > red > 1.5


def test_a_fixed_set_up_allows_small_differences():
    data = build_system(load_preset("m83-paper2")).data
    camera = {"pixel_scale": 0.0402, "distance_modulus": 28.27, "metallicity": 0.2}
    exposure = torch.tensor(data.camera.exposure)
    said = circumstances({"fwhm": 0.083}, 3)
    assert outside_of_training(camera, exposure * 1.5, said.fwhm * 3, data) == ()
    assert outside_of_training(camera, exposure * 1.5, said.fwhm, data) == ()
    far = outside_of_training(
        camera | {"distance_modulus": 24.5}, exposure * 5, said.fwhm * 3, data
    )
    assert far == ("distance_modulus", "exposure")


@pytest.mark.parametrize("preset", ["m83", "m31"])
def test_one_width_is_judged_in_every_band(preset):
    data = build_system(load_preset(preset)).data
    camera = {"pixel_scale": data.camera.pixel_scale[0], "metallicity": 0.0}
    camera["distance_modulus"] = sum(data.camera.distance_modulus) / 2
    exposure = torch.tensor(data.camera.exposure)
    flagged = set()
    for width in np.arange(0.06, 0.14, 0.005).tolist():
        one = outside_of_training(camera, exposure, (width,), data)
        assert one == outside_of_training(camera, exposure, (width,) * 3, data)
        flagged.add(one)
    assert flagged == {(), ("fwhm",)}


def test_backgrounds_come_from_the_users_mosaics(mosaic, tmp_path):
    table = tmp_path / "known.ecsv"
    Table({"x": [150.0], "y": [20.0], "radius": [0.5]}).write(table)
    overrides = [
        "data.setups=1",
        "data.size=16",
        "data.fields.size=64",
        f"data.fields.mosaics={[str(path) for path in mosaic]}",
        f"data.fields.masks=['{table}']",
        "data.fields.saturation=200.0",
        *(
            f"data.camera.{name}={value}"
            for name, value in (
                ("pixel_scale", 0.04),
                ("blur", 1.0),
                ("distance_modulus", 28.2661),
                ("exposure_factor", 1.0),
                ("metallicity", 0.2),
            )
        ),
    ]
    system = build_system(load_preset("m83", overrides))
    pools = [system.in_area(area).simulator().fields for area in ("training", "test")]
    with fits.open(mosaic[2]) as opened:
        whole = torch.from_numpy(
            next(one.data for one in opened if one.data is not None).astype(np.float32)
        )
    # Zero points of headers are rounded: counts agree to 1e-4.
    whole = (1000 * 0.99996 * whole).round()
    for fields, (first, last) in zip(pools, ((0, 280), (356, 400)), strict=True):
        cut = fields.cut(torch.zeros(6, dtype=torch.int64), 16, keyed_generator(2, 1))
        assert cut.shape == (6, 3, 16, 16)
        strip = set(whole[first:last].flatten().tolist())
        found = (1000 * cut[:, 2]).round().flatten().tolist()
        assert sum(value in strip for value in found) > 0.99 * len(found)


def one_camera(mosaic, **changed):
    """The preset m83 with backgrounds of the mosaic, seen through one camera."""
    camera = {
        "pixel_scale": 0.04,
        "blur": 1.0,
        "distance_modulus": 28.2661,
        "exposure_factor": 1.0,
        "metallicity": 0.2,
    }
    overrides = [
        "data.setups=1",
        f"data.fields.mosaics={[str(path) for path in mosaic]}",
        *(f"data.camera.{name}={value}" for name, value in (camera | changed).items()),
    ]
    return build_system(load_preset("m83", overrides)).simulator()


def test_mosaics_of_another_scale_are_refused(mosaic):
    with pytest.raises(MelotteValueError, match="reproject them"):
        one_camera(mosaic, pixel_scale=0.05).fields  # noqa: B018


def test_mosaics_of_no_one_camera_are_refused(mosaic):
    """A camera drawn at random would make clusters that the mosaics' do not look like."""
    with pytest.raises(MelotteValueError, match=r"of blur, metallicity must be .*camera.blur=0.8"):
        one_camera(mosaic, blur="[0.8,1.4]", metallicity="[0,0.3]").fields  # noqa: B018


def test_mosaics_too_small_for_three_parts_are_refused(mosaic):
    with pytest.raises(MelotteValueError, match=r"strips of 70, 15, 15 %.*give larger mosaics"):
        one_camera(mosaic).fields  # noqa: B018
