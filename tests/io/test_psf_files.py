"""PSFs from files: STScI's grids with their traps, FITS images with their scales."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from astropy.io import fits

from melotte.errors import MelotteFileError, MelotteValueError
from melotte.io.psf_files import read_psf_grid, read_psf_image


def grid_bytes(images: np.ndarray, tail: bytes = b"", **changed: str | None) -> bytes:
    """A file as STScI's: big-endian, positions in cards that end in numbers of two digits."""
    n_y, n_x, n, _ = images.shape
    cards = {
        "SIMPLE": "T", "BITPIX": "-32", "NAXIS": "3", "NAXIS1": str(n), "NAXIS2": str(n),
        "NAXIS3": str(n_y * n_x), "NXPSFs": str(n_x), "NYPSFs": str(n_y),
    }  # fmt: skip
    cards |= {f"IPSFX{i + 1:02d}": str(i * 10) for i in range(n_x)}
    cards |= {f"JPSFY{i + 1:02d}": str(i * 5) for i in range(n_y)}
    cards |= {"IPSFX10": "9999", **changed}
    text = "".join(f"{key:8}= {value:>20}".ljust(80) for key, value in cards.items() if value)
    text += "COMMENT made for a test".ljust(80) + "END".ljust(80)
    header = text.ljust(-(-len(text) // 2880) * 2880).encode()
    return header + images.astype(">f4").tobytes() + tail


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(5).uniform(0.1, 1, (3, 2, 9, 9)).astype(np.float32)


@pytest.mark.parametrize("tail", [b"", b"\x00" * 100, b"PROBLEMS" * 700])
def test_a_grid_whatever_follows_it(tmp_path: Path, images: np.ndarray, tail: bytes) -> None:
    path = tmp_path / "grid.fits"
    path.write_bytes(grid_bytes(images, tail))
    found = read_psf_grid(path, pixel_scale=0.05)
    assert torch.equal(found.images, torch.from_numpy(images))
    assert found.x == (0.0, 10.0)
    assert found.y == (0.0, 5.0, 10.0)
    assert found.scale == 0.0125


def test_markers_become_zero_and_small_negatives_stay(tmp_path: Path, images: np.ndarray) -> None:
    images[0, 0, 0] = -0.1
    images[0, 0, 1, 1] = -0.05
    path = tmp_path / "grid.fits"
    path.write_bytes(grid_bytes(images))
    found = read_psf_grid(path).images[0, 0]
    assert bool((found[0] == 0).all())
    assert float(found[1, 1]) == pytest.approx(-0.05)


def test_damaged_grids_are_refused_in_one_line(tmp_path: Path, images: np.ndarray) -> None:
    whole = grid_bytes(images)
    ascending = {"IPSFX01": "20"}
    wrong = {
        "no FITS": b"not a PSF at all" * 300,
        "truncated: its header": whole[:800],
        "truncated": whole[:-10],
        "NXPSFS": grid_bytes(images, NXPSFs=None),
        "BITPIX -64": grid_bytes(images, BITPIX="-64"),
        "expected 2 x 4": grid_bytes(images, NYPSFs="4", JPSFY04="30"),
        "ascend": grid_bytes(images, **ascending),
        "NaN": grid_bytes(np.where(images > 0.9, np.nan, images)),
    }
    for message, content in wrong.items():
        path = tmp_path / "wrong.fits"
        path.write_bytes(content)
        with pytest.raises(MelotteFileError, match=message) as caught:
            read_psf_grid(path)
        assert "\n" not in str(caught.value)
    with pytest.raises(MelotteFileError, match="cannot be read"):
        read_psf_grid(tmp_path / "missing.fits")


@pytest.mark.parametrize("band", ["F336W", "F438W", "F814W"])
def test_stscis_own_grids(shared_data: Path, band: str) -> None:
    found = read_psf_grid(shared_data / "hst" / "psf" / f"PSFSTD_WFC3UV_{band}.fits")
    assert found.images.shape == (8, 7, 101, 101)
    assert found.images.dtype == torch.float32
    assert float(found.images.min()) > -0.01
    peaks = found.images.view(56, -1).argmax(1)
    assert int((peaks // 101 - 50).abs().max()) <= 1
    assert int((peaks % 101 - 50).abs().max()) <= 1
    assert found.x[0] == found.y[0] == 0
    assert found.x[-1] == found.y[-1] == 4096
    assert torch.allclose(found.images.sum((2, 3)).mean() / 16, torch.tensor(1.06), atol=0.01)


def write(path: Path, data: np.ndarray | None, **header: float | str) -> Path:
    first = fits.PrimaryHDU() if data is None else fits.PrimaryHDU(data)
    first.header.update(header)
    first.writeto(path)
    return path


def test_the_scale_of_an_image(tmp_path: Path) -> None:
    data = np.arange(12, dtype=">f4").reshape(3, 4)
    bare = write(tmp_path / "bare.fits", data)
    stpsf = write(tmp_path / "stpsf.fits", data, PIXELSCL=0.01, OVERSAMP=4)
    found = read_psf_image(bare, pixel_scale=0.05, oversampling=5)
    assert found.scale == 0.01
    assert found.image.dtype == torch.float64
    assert found.image.tolist() == data.tolist()
    assert read_psf_image(bare, pixel_scale=0.05).scale == 0.05
    assert read_psf_image(stpsf).scale == 0.01
    assert read_psf_image(stpsf, pixel_scale=0.08).scale == 0.02
    with pytest.raises(MelotteValueError, match="PIXELSCL or PIXSCALE"):
        read_psf_image(bare)
    with pytest.raises(MelotteValueError, match="needs the pixel_scale"):
        read_psf_image(bare, oversampling=4)
    with pytest.raises(MelotteValueError, match="above 0"):
        read_psf_image(bare, pixel_scale=0.05, oversampling=0)


def test_an_image_in_an_extension(tmp_path: Path) -> None:
    path = tmp_path / "extensions.fits"
    cube = fits.ImageHDU(np.ones((2, 3, 3)), name="CUBE")
    plane = fits.ImageHDU(np.eye(3), name="DET_SAMP")
    plane.header["PIXELSCL"] = 0.04
    fits.HDUList([fits.PrimaryHDU(), cube, plane]).writeto(path)
    assert read_psf_image(path, extension="DET_SAMP").scale == 0.04
    with pytest.raises(MelotteFileError, match=r"two dimensions.*\(2, 3, 3\)"):
        read_psf_image(path)
    with pytest.raises(MelotteFileError, match="no PSF can be read"):
        read_psf_image(path, extension="NONE")
    with pytest.raises(MelotteFileError, match="no image"):
        read_psf_image(write(tmp_path / "empty.fits", None))
    with pytest.raises(MelotteFileError, match="no PSF can be read"):
        read_psf_image(tmp_path / "missing.fits")
