"""Users' maps of velocity dispersions, in the bins of mocks; what a table knows of each cluster."""

import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits
from astropy.table import Column, Table
from small_library import SMALL

from melotte import api
from melotte.cli import main
from melotte.engine.mocks import mock_batch
from melotte.engine.model_files import Model, save_model
from melotte.errors import MelotteFileError, MelotteValueError
from melotte.flags import Flag
from melotte.io.dispersion_files import read_dispersions
from melotte.systems.globular_clusters.reading import observations
from melotte.systems.registry import build_system, load_preset

sys.path.insert(0, str(Path(__file__).parents[2] / "io"))
from light_map_files import coordinates, write_image

SETTINGS = [*SMALL, "data.dispersion_share=0.5", "data.extinction.mean=0"]
GIVEN = {"sky": 0, "x": 23.5, "y": 23.5, "psf_fwhm": 1.0, "noise": 0.1}


@pytest.fixture(scope="module")
def system(library):
    return build_system(load_preset("globular", [*SETTINGS, f"data.library={library}"]))


@pytest.fixture
def image(tmp_path):
    """A flat image of 48 pixels of 0.25 arcsec."""
    return write_image(tmp_path / "a.fits", np.full((48, 48), 5.0), FILTER="V", MAGZPT=25.0)


def write_dispersions(path, values, errors, scale=None, turn=0.0, **cards):
    values, errors = np.broadcast_arrays(values, errors)
    header = fits.Header()
    if scale is not None:
        header = coordinates(values.shape, scale, turn=turn).to_header()
    header.update(cards)
    parts = [fits.PrimaryHDU()]
    for name, one in (("DISPERSION", values), ("DISPERSION_ERROR", errors)):
        parts.append(fits.ImageHDU(one.astype(">f4"), header, name=name))
    fits.HDUList(parts).writeto(path, overwrite=True)
    return path


def read(system, *files, **options):
    (found,) = observations(list(files), {**GIVEN, **options}, system.data)
    return found


def test_a_mock_s_bins_come_back(system, tmp_path):
    batch = mock_batch(system, 16, 5, 0)
    data = batch.observation.data
    row = int(data["dispersion"].isfinite().flatten(1).sum(1).argmax())
    expected = {name: data[name][row] for name in ("dispersion", "dispersion_error")}
    assert int(expected["dispersion"].isfinite().sum()) > 3
    wide = [np.kron(one.numpy(), np.ones((16, 16))) for one in expected.values()]
    scale = float(data["pixel_scale"][row])
    path = tmp_path / "mock.fits"
    write_image(path, data["flux"][row, 0].numpy(), scale, FILTER="V", MAGZPT=25.0)
    found = read(system, path, dispersion=str(write_dispersions(tmp_path / "d.fits", *wide)))
    # A dispersion of 0 cannot be told from a pixel without one.
    seen = expected["dispersion"].numpy() > 0
    for name, values in expected.items():
        np.testing.assert_allclose(
            found.data[name][0].numpy(), np.where(seen, values.numpy(), np.nan), rtol=1e-5
        )
    assert found.header["light_maps"]["mock"]["dispersions"].endswith("of 9 bins")


def test_squares_are_averaged_by_light_and_spectra_are_independent(system, tmp_path):
    values = np.full((48, 48), 1.0)
    values[:, :8] = 3.0
    light = write_image(tmp_path / "a.fits", values, FILTER="V", MAGZPT=25.0)
    sigma, error = np.full((48, 48), 4.0), np.full((48, 48), 0.5)
    sigma[:, :8] = 8.0
    found = read(
        system, light, dispersion=str(write_dispersions(tmp_path / "d.fits", sigma, error))
    )
    # Three quarters of the first bins' light have 8 km/s: two spectra, each of one error.
    mixed = np.sqrt(0.75 * 64 + 0.25 * 16)
    squared = np.hypot(0.75 * (8.5**2 - 8**2), 0.25 * (4.5**2 - 4**2))
    expected = np.sqrt(mixed**2 + squared) - mixed
    assert float(found.data["dispersion"][0, 1, 0]) == pytest.approx(mixed, rel=1e-5)
    assert float(found.data["dispersion_error"][0, 1, 0]) == pytest.approx(expected, rel=1e-5)
    assert float(found.data["dispersion"][0, 2, 2]) == pytest.approx(4.0)
    assert float(found.data["dispersion_error"][0, 2, 2]) == pytest.approx(0.5)
    # 256 spectra of one value but not one error: the mean is known 16 times as well.
    error = 0.5 + 0.01 * np.random.default_rng(3).random((48, 48))
    found = read(system, light, dispersion=str(write_dispersions(tmp_path / "d.fits", 4.0, error)))
    expected = 0.505 * (8 + 0.505) / 16 / 8
    assert float(found.data["dispersion_error"][0, 2, 2]) == pytest.approx(expected, rel=1e-2)


@pytest.mark.parametrize(("scale", "side", "turn"), [(0.2, 80, 0.6), (3.0, 3, 0.0), (9.0, 3, 0.3)])
def test_coordinates_bring_any_grid_to_the_bins(system, image, tmp_path, scale, side, turn):
    _, columns = np.mgrid[:side, :side]
    values = np.where(columns - (side - 1) / 2 < -0.4, 9.0, 5.0)
    path = write_dispersions(tmp_path / "d.fits", values, 0.5, scale, turn)
    found = read(system, image, dispersion=str(path)).data["dispersion"][0].numpy()
    if turn == 0.6:
        # A turned square of 16 arcsec covers the middle and cuts the corners off.
        assert np.isfinite(found[1]).all()
        assert found[1, 0] > 8 > found[1, 2]
    elif scale == 3.0:
        # The map's bins are 4 arcsec, the dispersions' 3: an eighth of the middle one is beside.
        assert found[1, 1] == pytest.approx(np.sqrt(25 + (81 - 25) / 8), rel=1e-3)
        assert found[1, 0] == pytest.approx(9.0)
        # Of the corners only (2.5/4)^2 is covered.
        assert np.isfinite(found[1]).all()
        assert not np.isfinite(found[::2, ::2]).any()
    else:
        assert np.isfinite(found).all()
        np.testing.assert_allclose(found[1, 1], 5.0)


def test_half_of_a_bin_is_needed(system, image, tmp_path):
    values = np.full((48, 48), 5.0)
    values[9:, :16] = np.nan
    values[:, 16:23] = np.nan
    path = write_dispersions(tmp_path / "d.fits", values, 0.5)
    found = read(system, image, dispersion=str(path)).data["dispersion"][0].isfinite()
    assert found.tolist() == [[True, True, True], [False, True, True], [False, True, True]]


def test_units_and_layouts(tmp_path):
    metres = write_dispersions(tmp_path / "m.fits", np.full((4, 4), 5e3), 500.0, BUNIT="m/s")
    cube = tmp_path / "cube.fits"
    fits.PrimaryHDU(np.stack([np.full((4, 4), 5.0), np.full((4, 4), 0.5)])).writeto(cube)
    for path in (metres, cube):
        found = read_dispersions(path)
        np.testing.assert_allclose(found.values, 5.0)
        np.testing.assert_allclose(found.errors, 0.5)


@pytest.mark.parametrize(
    ("values", "error", "cards", "said"),
    [
        (5.0, 0.0, {}, "no pixel has a dispersion and an error above 0"),
        (5e3, 1.0, {}, "a dispersion of 5000 km/s; at most 1000"),
        (5.0, 1.0, {"BUNIT": "mag"}, "BUNIT 'mag' is no unit of dispersions"),
    ],
)
def test_bad_dispersions_are_refused_in_one_line(tmp_path, values, error, cards, said):
    path = write_dispersions(tmp_path / "d.fits", np.full((4, 4), values), error, **cards)
    with pytest.raises(MelotteValueError, match=said):
        read_dispersions(path)


def test_spectra_that_cover_no_bin_are_said_to_be_of_no_use(system, tmp_path):
    few = write_dispersions(tmp_path / "few.fits", np.full((2, 2), 5.0), 1.0, 0.5)
    image = tmp_path / "a.fits"
    write_image(image, np.full((48, 48), 5.0), 0.25, FILTER="V", MAGZPT=25.0)
    found = read(system, image, dispersion=str(few))
    assert not bool(found.data["dispersion"].isfinite().any())
    assert "less than half of every bin" in " ".join(found.header["remarks"]["a"])


def test_dispersions_that_do_not_fit_are_refused(system, image, library, tmp_path):
    small = write_dispersions(tmp_path / "d.fits", np.full((4, 4), 5.0), 1.0)
    with pytest.raises(MelotteValueError, match="both need celestial coordinates"):
        read(system, image, dispersion=str(small))
    with pytest.raises(MelotteFileError, match="does not exist"):
        read(system, image, dispersion="nothing.fits")
    single = tmp_path / "single.fits"
    fits.PrimaryHDU(np.ones((4, 4))).writeto(single)
    with pytest.raises(MelotteValueError, match="are needed; found"):
        read(system, image, dispersion=str(single))
    far = write_dispersions(tmp_path / "far.fits", np.full((4, 4), 5.0), 1.0, 0.2, CRVAL1=210.0)
    with pytest.raises(MelotteValueError, match=r"a: dispersion .* no spectrum lies on the map"):
        read(system, image, dispersion=str(far))
    blind = build_system(
        load_preset("globular", [*SETTINGS, "data.dispersion_share=0", f"data.library={library}"])
    )
    with pytest.raises(MelotteValueError, match="the model reads no dispersions"):
        read(blind, image, dispersion=str(small))


@pytest.fixture(scope="module")
def model(system, tmp_path_factory):
    """A file of an untrained model."""
    preset = load_preset("globular", SETTINGS)
    constants = system.constants(mock_batch(system, 16, 5, 0))
    torch.manual_seed(2)
    path = tmp_path_factory.mktemp("model") / "small.safetensors"
    network = system.network(constants).eval()
    save_model(path, Model(system, preset.model_dump(mode="json"), constants, network))
    return path


@pytest.mark.usefixtures("image")
def test_files_that_a_table_of_images_names_are_not_overwritten(model, tmp_path, capsys):
    write_dispersions(tmp_path / "d.fits", np.full((48, 48), 6.0), 0.5)
    write_image(tmp_path / "m.fits", np.zeros((48, 48)))
    table = tmp_path / "list.ecsv"
    named = {"V": "a.fits", "mask": "m.fits", "dispersion": "d.fits"}
    Table({name: [file] for name, file in named.items()}).write(table)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    out = tmp_path / "out.ecsv"
    for file in named.values():
        path = tmp_path / file
        for words in (("-o", path), ("-o", out, "--maps", path)):
            with pytest.raises(SystemExit) as caught:
                main(["infer", str(model), str(table), *map(str, words)])
            assert caught.value.code == 2
            said = capsys.readouterr().err
            assert f"{words[-2]} {path} is an input, which would be lost" in said
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_table_gives_each_cluster_its_own_distance_and_dispersions(model, image, tmp_path):
    write_dispersions(tmp_path / "d.fits", np.full((48, 48), 6.0), 0.5)
    nothing = [""] * 4
    Table(
        {
            "id": ["near", "far", "beyond", "open"],
            "V": ["a.fits"] * 4,
            "known_distance": Column([12e3, 50e3, 900e3, np.nan], unit="pc"),
            "dispersion": ["d.fits", *nothing[:3]],
        }
    ).write(tmp_path / "list.ecsv")
    result = api.infer(
        str(model), [tmp_path / "list.ecsv"], options=GIVEN, maps=True, progress=False
    )
    distances = result.quantiles[:, :, result.names.index("distance")]
    np.testing.assert_allclose(distances[0], 12.0, rtol=1e-4)
    np.testing.assert_allclose(distances[1], 50.0, rtol=1e-4)
    assert result.flags[2] & Flag.FAILED
    assert "distance 900 is outside the model's range" in result.reasons["beyond"]
    assert distances[3, 0] < distances[3, 2]
    made = result.header["light_maps"]
    assert made["near"]["sky_unit"] == "sources of magnitude 25, a pixel of the file"
    assert made["near"]["dispersions"] == "in 9 of 9 bins"
    assert "dispersions" not in made["far"]
    result.write_maps(tmp_path / "maps.fits")
    with fits.open(tmp_path / "maps.fits") as found:
        assert found["MASS_MAP", 2].header["KNOWN"] == '{"distance": 50.0}'
        assert "KNOWN" not in found["MASS_MAP", 4].header
