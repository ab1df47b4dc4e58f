from __future__ import annotations

import math

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.sky.isochrones import StellarGrid
from melotte.sky.photometry import BAND_ALIASES, REDUCE_FROM, SHIPPED_BANDS, band_name
from melotte.sky.stars import Stars
from melotte.sky.stellar_table import provenance

GRID = StellarGrid.shipped()

# Vega magnitudes of the Sun in FSPS (data/magsun.dat; Conroy & Gunn 2010).
SUN = {
    "WFC3_UVIS_F336W": 5.47,
    "WFC3_UVIS_F438W": 5.49,
    "ACS_WFC_F475W": 5.20,
    "ACS_WFC_F814W": 4.10,
    "Bessell_V": 4.81,
    "WFC3_UVIS_F275W": 6.99,
    "WFC3_UVIS_F475W": 5.19,
    "WFC3_UVIS_F555W": 4.89,
    "WFC3_UVIS_F606W": 4.65,
    "WFC3_UVIS_F814W": 4.11,
    "WFC3_IR_F110W": 3.79,
    "WFC3_IR_F160W": 3.40,
    "ACS_WFC_F435W": 5.48,
    "ACS_WFC_F555W": 4.85,
    "ACS_WFC_F606W": 4.64,
    "2MASS_J": 3.67,
    "2MASS_H": 3.34,
    "Bessell_U": 5.55,
    "Bessell_B": 5.46,
    "Bessell_R": 4.41,
    "Bessell_I": 4.10,
}
SOLAR_METALLICITY_OF_THE_CORRECTIONS = -math.log10(0.0185 / 0.0142)


def star(teff: float, log_g: float, n: int = 1) -> Stars:
    zero = torch.zeros(n, dtype=torch.float64)
    return Stars(
        zero,
        zero + math.log10(teff),
        zero + log_g,
        zero + 1,
        torch.zeros(n, dtype=torch.int8),
        torch.ones(n, dtype=torch.bool),
    )


def absolute(teff: float, log_g: float, band: str, metallicity: float, dust: float = 0) -> float:
    return float(GRID.magnitudes(star(teff, log_g), dust, [band], metallicity))


@pytest.mark.parametrize("band", SUN)
def test_the_sun(band: str) -> None:
    found = absolute(5772, 4.438, band, SOLAR_METALLICITY_OF_THE_CORRECTIONS)
    # U and B differ most among the optical bands; F275W rests on two distant anchors.
    tolerance = {"WFC3_UVIS_F275W": 0.1, "Bessell_U": 0.07, "Bessell_B": 0.06}.get(band, 0.05)
    assert found == pytest.approx(SUN[band], abs=tolerance)


@pytest.mark.parametrize(
    ("band", "expected"),
    [
        ("WFC3_UVIS_F336W", 5.44),
        ("WFC3_UVIS_F438W", 5.49),
        ("ACS_WFC_F475W", 5.17),
        ("ACS_WFC_F814W", 4.09),
        ("Bessell_V", 4.77),
    ],
)
def test_the_sun_as_measured(band: str, expected: float) -> None:
    """This table's own solar magnitudes."""
    found = absolute(5772, 4.438, band, SOLAR_METALLICITY_OF_THE_CORRECTIONS)
    assert found == pytest.approx(expected, abs=0.01)


@pytest.mark.parametrize("band", [b for b in SHIPPED_BANDS if not b.startswith("PS_")])
def test_vega_has_no_colour(band: str) -> None:
    """An A0 dwarf like Vega has every Vega colour near zero; on the AB scale it would not."""
    reference = absolute(9600, 3.95, "Bessell_V", -0.5)
    tolerance = 0.12 if band.endswith(("F275W", "F336W", "_U")) else 0.06
    assert absolute(9600, 3.95, band, -0.5) == pytest.approx(reference, abs=tolerance)


@pytest.mark.parametrize(("band", "offset"), [("PS_g", -0.11), ("PS_i", 0.37), ("PS_y", 0.54)])
def test_pan_starrs_is_ab(band: str, offset: float) -> None:
    """Vega's AB magnitudes, Tonry et al. 2012, ApJ 750, 99, and Willmer 2018, ApJS 236, 47."""
    reference = absolute(9600, 3.95, "Bessell_V", -0.5)
    assert absolute(9600, 3.95, band, -0.5) - reference == pytest.approx(offset, abs=0.05)


@pytest.mark.parametrize(
    ("band", "hot", "cool"),
    [
        ("WFC3_UVIS_F275W", 2.04, 1.86),
        ("WFC3_UVIS_F336W", 1.64, 1.61),
        ("Bessell_V", 1.01, 0.98),
        ("ACS_WFC_F435W", 1.34, 1.28),
        ("ACS_WFC_F606W", 0.95, 0.89),
        ("WFC3_IR_F160W", 0.21, 0.20),
        ("Gaia_G_EDR3", 0.97, 0.75),
    ],
)
def test_extinction_in_bands(band: str, hot: float, cool: float) -> None:
    """A_band / A_V of a 10,000 K dwarf and a 4,000 K giant at A_V = 1, CCM89."""
    corrections = GRID.corrections
    teff = torch.tensor([10_000.0, 4000.0]).log10()
    log_g = torch.tensor([4.0, 1.0])
    found = corrections.extinction(teff, log_g, 0.0, 1.0, [band])[:, 0]
    assert found.tolist() == pytest.approx([hot, cool], abs=0.03)


def test_extinction_grows_smoothly() -> None:
    """Zero without dust; rising; continuous in value and slope past the fitted 6 mag."""
    dust = torch.linspace(-0.5, 12, 1251, dtype=torch.float64)
    one = star(5000, 4.0, 1251)
    for band in GRID.bands:
        extinction = GRID.magnitudes(one, dust, [band], 0.0)[:, 0] - absolute(5000, 4.0, band, 0.0)
        assert float(extinction[50].abs()) < 1e-5
        steps = extinction.diff()
        assert (steps > 0).all()
        assert float(steps.diff().abs().max()) < 1e-4


def test_all_paths_agree(generator: torch.Generator) -> None:
    """Reduced tables with one or many A_V, and the general path, give the same."""
    n = REDUCE_FROM
    uniform = torch.rand(3, n, generator=generator, dtype=torch.float64)
    stars = GRID.evolve(
        0.1 + 4 * uniform,
        torch.tensor([[7.9], [9.2], [9.9]]),
        torch.tensor([[0.1], [-0.9], [-2.3]]),
    )
    bands = ["F275W", "ACS_WFC_F475W", "Gaia_G_DR2", "PS_y", "F160W"]
    dust = torch.tensor([[0.0], [1.3], [7.0]], dtype=torch.float64)
    metallicity = torch.tensor([[0.1], [-0.9], [-2.3]], dtype=torch.float64)
    one = GRID.magnitudes(stars, dust, bands, metallicity)
    many = GRID.magnitudes(stars, dust.expand(3, n), bands, metallicity)
    general = GRID.magnitudes(stars, dust.expand(3, n), bands, metallicity.expand(3, n))
    few = GRID.magnitudes(stars.select((slice(None), slice(0, 9))), dust, bands, metallicity)
    assert one.shape == (3, n, 5)
    alive = stars.alive
    assert 0 < int(alive.sum()) < 3 * n
    assert torch.allclose(one[alive], general[alive], atol=2e-5)
    assert torch.allclose(many[alive], general[alive], atol=2e-5)
    assert torch.allclose(few[alive[:, :9]], general[:, :9][alive[:, :9]], atol=2e-5)
    assert torch.isinf(one[~alive]).all()


def test_order_of_bands_is_kept() -> None:
    both = GRID.magnitudes(star(4500, 2.0), 0.4, ["I", "B"], 0.0)[0]
    assert float(both[0]) == pytest.approx(absolute(4500, 2.0, "Bessell_I", 0.0, 0.4), abs=1e-5)
    assert float(both[1]) == pytest.approx(absolute(4500, 2.0, "Bessell_B", 0.0, 0.4), abs=1e-5)


def test_band_names() -> None:
    assert set(SHIPPED_BANDS) == set(StellarGrid.shipped().bands)
    assert set(BAND_ALIASES.values()) <= set(SHIPPED_BANDS)
    assert band_name("F336W") == "WFC3_UVIS_F336W"
    assert band_name("V") == "Bessell_V"
    with pytest.raises(MelotteValueError, match="say WFC3_UVIS_F814W or ACS_WFC_F814W"):
        band_name("F814W")
    with pytest.raises(MelotteValueError, match="no band 'F999W'; there are WFC3_UVIS_F275W"):
        band_name("F999W")


def test_provenance_names_sources() -> None:
    sources = provenance()
    assert {one["name"] for one in sources["inputs"]} >= {"lachesis-grids", "hostphot"}
    assert all(len(one["sha256"]) == 64 for one in sources["inputs"])
    assert any("Choi et al. 2016" in one for one in sources["citations"])
