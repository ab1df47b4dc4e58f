import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.telescope.gaia import RELEASES, gaia_release, scattered_errors


@pytest.mark.parametrize("name", ["DR3", "EDR3", "Gaia DR3", "gaiadr3", "edr3"])
def test_edr3_and_dr3_are_one_release(name):
    assert gaia_release(name).name == "EDR3"


def test_unknown_release_names_the_known_ones():
    with pytest.raises(MelotteValueError, match="DR2, EDR3, DR3"):
        gaia_release("DR9")


def test_parallax_errors_match_the_published_ones():
    # Lindegren et al. 2021, Table 4 (5- and 6-parameter solutions): median parallax
    # uncertainty 0.02-0.03 mas for G = 9-14, 0.07 at 17, 0.5 at 20.
    errors = RELEASES["EDR3"].parallax_error(torch.tensor([13.0, 17.0, 20.0]))
    assert errors.tolist() == pytest.approx([0.0145, 0.067, 0.38], rel=0.35)


def test_dr2_is_worse_than_edr3_where_both_are_limited_by_photons():
    g = torch.linspace(9, 20, 12)
    ratio = RELEASES["DR2"].parallax_error(g) / RELEASES["EDR3"].parallax_error(g)
    assert (ratio > 1).all()
    assert (ratio < 3).all()


@pytest.mark.parametrize("release", RELEASES)
def test_errors_are_positive_and_finite_at_any_magnitude(release):
    g = torch.tensor([-5.0, 0.0, 3.99, 21.0, 30.0, float("nan"), float("inf")])
    assert (RELEASES[release].parallax_error(g) > 0).all()
    for error in RELEASES[release].photometric_errors(g, g, g):
        assert torch.isfinite(error).all()
        assert (error > 0).all()


def test_scatter_is_lognormal_about_the_median(generator):
    errors = scattered_errors(torch.full((50_000,), 0.1), 0.115, generator)
    logs = errors.log10()
    assert float(logs.mean()) == pytest.approx(-1, abs=0.003)
    assert float(logs.std()) == pytest.approx(0.115, rel=0.02)


def test_curves_match_the_shared_members(shared_data):
    parquet = pytest.importorskip("pyarrow.parquet")
    table = parquet.read_table(
        shared_data / "opencluster" / "members_gaia_edr3.parquet", columns=["Gmag", "e_Plx"]
    )
    g, error = torch.tensor(table["Gmag"].to_numpy()), torch.tensor(table["e_Plx"].to_numpy())
    ratio = (error / RELEASES["EDR3"].parallax_error(g)).log10()
    for magnitude in range(9, 19):
        chosen = (g - magnitude).abs() < 0.5
        assert abs(float(ratio[chosen].median())) < 0.05, magnitude
