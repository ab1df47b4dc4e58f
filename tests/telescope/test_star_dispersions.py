"""Dispersions of single stars' velocities."""

from __future__ import annotations

import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.telescope.cluster_maps import MapGrid
from melotte.telescope.measured_dispersions import bins_joined, squared_error
from melotte.telescope.projected_stars import Pointing, ProjectedStars
from melotte.telescope.star_dispersions import StarSurvey, star_dispersions

GRID = MapGrid(64, 64)
FAR = 206.265
"""kpc: a parsec is an arcsecond, the modulus 21.57 mag."""


def even_field(n: int, n_maps: int, sigma: float, generator: torch.Generator) -> ProjectedStars:
    """Stars evenly over 16 pc, of V = 17.57 to 25.57 as seen from FAR."""
    sets = []
    for _ in range(n_maps):
        rows = torch.empty(n, 5)
        rows[:, :2] = (torch.rand(n, 2, generator=generator) - 0.5) * 16
        rows[:, 2] = 10 ** (-0.4 * (8 * torch.rand(n, generator=generator) - 4))
        rows[:, 3] = 1
        rows[:, 4] = sigma * torch.randn(n, generator=generator)
        sets.append(rows)
    return ProjectedStars.of(Ragged.pack(sets))


def test_velocity_errors_are_taken_off_and_scatter_is_told(generator: torch.Generator) -> None:
    stars = even_field(1600, 200, 4.0, generator)
    survey = StarSurvey(16, limit=30.0, velocity_error=3.0)
    found = star_dispersions(stars, Pointing.of(200, FAR), survey, generator, GRID)
    assert found.dispersion.shape == (200, 4, 4)
    squares = found.dispersion.square()
    assert float(squares.mean()) == pytest.approx(16, rel=0.02)
    # 100 stars a bin, of 5 km/s with their errors.
    expected = 25 * (2 / 99) ** 0.5
    assert float(squares.std()) == pytest.approx(expected, rel=0.05)
    told = squared_error(found.dispersion, found.error)
    assert float(told.mean()) == pytest.approx(expected, rel=0.03)


def test_bright_stars_alone_are_measured_and_bins_joined(generator: torch.Generator) -> None:
    stars = even_field(3200, 3, 4.0, generator)
    # An eighth of the stars is brighter, 25 a bin; then a tenth of these is observed; then none.
    survey = StarSurvey(
        16,
        limit=torch.tensor([18.57, 18.57, 17.0]),
        velocity_error=torch.tensor([0.1, 0.1, 0.1]),
        observed_share=torch.tensor([1.0, 0.1, 1.0]),
    )
    found = star_dispersions(stars, Pointing.of(3, FAR), survey, generator, GRID).dispersion
    assert len(found[0].unique()) == 16
    joined = found[1][found[1].isfinite()]
    assert 0 < len(joined.unique()) < len(joined)
    assert bool(found[2].isnan().all())
    assert float(found[0].square().mean()) == pytest.approx(16, rel=0.2)


def test_unresolved_dispersions_are_small_with_finite_errors(generator: torch.Generator) -> None:
    stars = even_field(400, 20, 0.0, generator)
    survey = StarSurvey(16, limit=30.0, velocity_error=2.0)
    found = star_dispersions(stars, Pointing.of(20, FAR), survey, generator, GRID)
    assert bool((found.dispersion > 0).all() & found.error.isfinite().all())
    # Half of the squares come out negative; the error tells how large they might have been.
    assert 0.3 < float((found.dispersion < 0.1).float().mean()) < 0.7
    upper = (found.dispersion + found.error).square()
    assert float(upper.median()) == pytest.approx(4 * (2 / 24) ** 0.5, rel=0.5)


def test_joined_bins_share_out_what_there_is(generator: torch.Generator) -> None:
    moments = torch.randint(1, 9, (5, 2, 10, 10), generator=generator).double()
    sums, n_bins, square = bins_joined(moments, lambda sums, _: sums[:, 0] >= 9, 10)
    seen = sums[:, 0].isfinite()
    assert bool(seen.any())
    assert bool((n_bins[seen] > 1).any())
    for number in range(5):
        places = [square[number] == one for one in square[number][seen[number]].unique()]
        for place in places:
            chosen = place & seen[number]
            for moment in range(2):
                total = float(moments[number, moment][chosen].sum())
                assert sums[number, moment][chosen].tolist() == [total] * int(chosen.sum())
            assert n_bins[number][chosen].tolist() == [int(chosen.sum())] * int(chosen.sum())


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"velocity_error": 0.0}, "velocity_error must be above 0, found 0"),
        ({"observed_share": torch.tensor([0.5, 1.5])}, "observed_share must be 1 or less"),
        ({"least_stars": 2}, "least_stars 3 or more"),
    ],
)
def test_surveys_that_are_refused(settings: dict, complaint: str) -> None:
    with pytest.raises(MelotteValueError, match=complaint):
        StarSurvey(**settings)
