import pytest
import torch

from melotte.ragged import Ragged
from melotte.sky.isochrones import StellarGrid
from melotte.systems.open_cluster.shifts import moved, star_reddening
from melotte.telescope.gaia import RELEASES

BANDS = ["Gaia_G_EDR3", "Gaia_BP_EDR3", "Gaia_RP_EDR3"]


def seen(a_v, distance=1.0):
    """G and BP-RP of dwarfs of 0.5 to 5 Msun at 10 Myr behind dust."""
    grid = StellarGrid.shipped(BANDS)
    mass = torch.linspace(0.7, 5.0, 40, dtype=torch.float64)
    age, metallicity = torch.tensor([7.8]), torch.tensor([0.0])
    stars = grid.evolve(mass[None], age[:, None], metallicity[:, None])
    magnitudes = grid.magnitudes(stars, a_v, BANDS, metallicity[:, None])[0].float()
    modulus = 5 * torch.log10(torch.tensor(distance)) + 10
    return magnitudes[:, 0] + modulus, magnitudes[:, 1] - magnitudes[:, 2]


@pytest.mark.parametrize(("before", "after"), [(0.0, 1.0), (0.4, 2.5), (2.0, 5.0)])
def test_reddening_follows_the_stellar_table_star_by_star(before, after):
    g, colour = seen(before)
    new_g, new_colour = seen(after)
    full = torch.full_like(g, before), torch.full_like(g, after)
    delta_g, delta_colour = star_reddening("EDR3").added(colour, *full)
    assert (delta_g - (new_g - g)).abs().max() < 0.03 * (after - before)
    assert (delta_colour - (new_colour - colour)).abs().max() < 0.03 * (after - before)


def test_dust_added_in_two_steps_is_dust_added_at_once():
    colour = torch.linspace(-0.2, 2.5, 30)
    level = [torch.full_like(colour, value) for value in (0.3, 1.1, 2.9)]
    table = star_reddening("DR2")
    first = table.added(colour, level[0], level[1])
    second = table.added(colour + first[1], level[1], level[2])
    once = table.added(colour, level[0], level[2])
    assert torch.allclose(first[0] + second[0], once[0], atol=1e-4)
    assert torch.allclose(first[1] + second[1], once[1], atol=1e-4)


def members(a_v=0.5, distance=1.0):
    g, colour = seen(a_v, distance)
    n = len(g)
    error = RELEASES["EDR3"].parallax_error(g)
    table = torch.stack(
        [
            g,
            colour,
            torch.full((n,), 1 / distance),
            error,
            torch.full((n,), 0.003),
            torch.full((n,), 0.01),
            torch.full((n,), 0.9),
        ],
        -1,
    )
    return Ragged.pack([table, table])


def test_a_list_moves_as_a_whole(generator):
    lists = members()
    zero = torch.zeros(2)
    stars, done = moved(
        lists,
        zero,
        torch.full((2,), 0.5),
        torch.ones(2),
        torch.tensor([1.0, 0.0]),
        torch.tensor([2.0, 0.0]),
        generator,
    )
    assert done.tolist() == [True, True]
    assert torch.equal(stars[1], lists[1])
    far = 10 ** (2.0 / 5)
    expected_g, expected_colour = seen(1.5, far)
    limit = lists[0][:, 0].max()
    inside = expected_g < limit - 0.05
    kept = stars[0]
    assert int(inside.sum()) <= len(kept) < len(lists[0])
    assert (kept[:, 0] <= limit).all()
    order = torch.argsort(kept[:, 0])[: int(inside.sum())]
    assert torch.allclose(kept[order, 0].sort().values, expected_g[inside].sort().values, atol=0.03)
    assert (kept[:, 3] >= lists[0][: len(kept), 3].min()).all()
    residual = (kept[:, 2] - 1 / far) / kept[:, 3]
    assert residual.abs().mean() < 1.5
    by_g = torch.argsort(expected_g[inside])
    assert (kept[order, 1] - expected_colour[inside][by_g]).abs().max() < 0.15


def test_a_list_that_would_lose_its_stars_stays(generator):
    lists = members()
    stars, done = moved(
        lists,
        torch.zeros(2),
        torch.full((2,), 0.5),
        torch.ones(2),
        torch.zeros(2),
        torch.tensor([9.0, 0.5]),
        generator,
    )
    assert done.tolist() == [False, True]
    assert torch.equal(stars[0], lists[0])
    assert len(stars[1]) < len(lists[1])
