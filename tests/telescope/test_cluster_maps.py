"""Maps of clusters: every star where it is, with its light, behind its seeing."""

from __future__ import annotations

import galsim
import numpy as np
import pytest
import torch

from melotte.errors import MelotteValueError
from melotte.ragged import Ragged
from melotte.telescope.cluster_maps import MapGrid, mass_map, render_light, star_sums
from melotte.telescope.moffat import MoffatPSF
from melotte.telescope.projected_stars import Pointing, ProjectedStars

SMALL = MapGrid(40, 40)


def plummer(counts: list[int], scale: float, generator: torch.Generator) -> ProjectedStars:
    """Plummer spheres on the sky, with a wide range of luminosities in two bands."""
    n = sum(counts)
    radius = scale / torch.sqrt(torch.rand(n, generator=generator) ** (-2 / 3) - 1)
    direction = torch.nn.functional.normalize(torch.randn(n, 3, generator=generator), dim=1)
    light = 10 ** (torch.randn(n, 2, generator=generator) - 2)
    return ProjectedStars(
        (direction * radius[:, None])[:, :2],
        light,
        torch.rand(n, generator=generator),
        5 * torch.randn(n, generator=generator),
        torch.tensor([0, *np.cumsum(counts).tolist()]),
    )


def by_galsim(
    stars: ProjectedStars, pointing: Pointing, grid: MapGrid, band: int = 0
) -> np.ndarray:
    """The first map's light, star by star."""
    tight = galsim.GSParams(folding_threshold=3e-4, maxk_threshold=1e-4, kvalue_accuracy=1e-7)
    profile = galsim.Moffat(beta=grid.beta, fwhm=float(pointing.psf_fwhm[0]), gsparams=tight)
    scale = float(pointing.pixel_scale[0])
    image = galsim.ImageD(grid.columns, grid.rows, scale=scale)
    one = ProjectedStars.of(Ragged(_columns(stars), stars.offsets).select(torch.tensor([0])))
    light = one.luminosity[:, band].tolist()
    for (x, y), flux in zip(pointing.on_sky(one).tolist(), light, strict=True):
        star = profile.withFlux(flux).shift(x, y)
        star.drawImage(image=image, add_to_image=True, center=image.true_center)
    return image.array


def _columns(stars: ProjectedStars) -> torch.Tensor:
    last = [stars.mass[:, None], stars.velocity[:, None]]
    return torch.cat([stars.position, stars.luminosity, *last], 1)


@pytest.mark.parametrize(("width", "scale"), [(0.5, 0.25), (1.3, 0.25), (2.0, 0.4)])
def test_light_is_that_of_galsim_star_by_star(
    width: float, scale: float, generator: torch.Generator
) -> None:
    stars = plummer([25], 1.0, generator)
    pointing = Pointing.of(1, 40.0, (0.7, -0.4), width, scale)
    ours = render_light(stars, pointing, SMALL)[0, 0].double().numpy()
    theirs = by_galsim(stars, pointing, SMALL)
    residual = np.sqrt(((ours - theirs) ** 2).mean()) / theirs.max()
    assert residual < 1e-4
    assert ours.sum() == pytest.approx(theirs.sum(), rel=1e-3)
    # A seeing that is wrong by 2 % would be noticed.
    wrong = Pointing.of(1, 40.0, (0.7, -0.4), 1.02 * width, scale)
    off = render_light(stars, wrong, SMALL)[0, 0].double().numpy()
    assert np.sqrt(((off - theirs) ** 2).mean()) / theirs.max() > 1e-4


def test_light_in_an_aperture_is_the_profiles(generator: torch.Generator) -> None:
    grid = MapGrid(161, 161)
    star = ProjectedStars.of(Ragged.pack([torch.tensor([[0.0, 0.0, 3.0, 1.0, 0.0]])]))
    image = render_light(star, Pointing.of(1, 30.0, psf_fwhm=2.0), grid)[0, 0]
    axis = torch.arange(161) - 80
    inside = axis[:, None].square() + axis.square() <= 60**2
    expected = 3 * MoffatPSF(2.0).light_within(60 * 0.25)
    assert float(image[inside].sum()) == pytest.approx(expected, rel=1e-3)
    # What the wings carry out of the map is lost.
    assert float(image.sum()) < 3 * (1 - 3e-4)


def test_each_map_has_its_own_distance_centre_seeing_and_pixels(
    generator: torch.Generator,
) -> None:
    stars = plummer([300, 0, 500], 3.0, generator)
    pointing = Pointing(
        torch.tensor([10.0, 30.0, 80.0]),
        torch.tensor([[2.0, 1.0], [0.0, 0.0], [-3.0, 4.0]]),
        torch.tensor([0.5, 1.0, 1.8]),
        torch.tensor([0.25, 0.3, 0.4]),
    )
    together = render_light(stars, pointing, SMALL)
    masses = mass_map(stars, pointing, SMALL)
    for i in (0, 2):
        part = slice(int(stars.offsets[i]), int(stars.offsets[i + 1]))
        alone = ProjectedStars.of(Ragged.pack([_columns(stars)[part]]))
        here = Pointing.of(
            1,
            float(pointing.distance[i]),
            pointing.centre[i],
            float(pointing.psf_fwhm[i]),
            float(pointing.pixel_scale[i]),
        )
        one = render_light(alone, here, SMALL)[0]
        assert torch.allclose(together[i], one, atol=1e-6 * float(one.max()))
        assert torch.equal(masses[i], mass_map(alone, here, SMALL)[0])
    assert float(together[1].abs().max()) == 0


def test_bands_may_have_their_own_seeing(generator: torch.Generator) -> None:
    stars = plummer([100], 1.0, generator)
    both = Pointing.of(1, 30.0, psf_fwhm=torch.tensor([[0.7, 1.6]]))
    found = render_light(stars, both, SMALL)
    for band, width in enumerate((0.7, 1.6)):
        one = render_light(stars, Pointing.of(1, 30.0, psf_fwhm=width), SMALL)
        assert torch.allclose(found[:, band], one[:, band], atol=1e-6 * float(one.max()))


@pytest.mark.parametrize("shape", [(30, 41), (41, 30), (24, 24)])
def test_a_map_of_any_shape_is_cut_around_its_middle(
    shape: tuple[int, int], generator: torch.Generator
) -> None:
    stars = plummer([20], 0.7, generator)
    grid = MapGrid(*shape)
    pointing = Pointing.of(1, 30.0, psf_fwhm=0.9)
    ours = render_light(stars, pointing, grid)[0, 0].double().numpy()
    theirs = by_galsim(stars, pointing, grid)
    assert ours.shape == shape
    assert np.sqrt(((ours - theirs) ** 2).mean()) < 1e-4 * theirs.max()


def test_mass_stands_in_the_pixel_of_its_star(generator: torch.Generator) -> None:
    stars = plummer([4000], 3.0, generator)
    pointing = Pointing.of(1, 60.0, (1.0, 2.0))
    grid = MapGrid(50, 70)
    place = pointing.on_sky(stars).numpy()
    edges = [(np.arange(n + 1) - n / 2) * 0.25 for n in (50, 70)]
    weights = stars.mass.double().numpy()
    expected = np.histogram2d(place[:, 1], place[:, 0], edges, weights=weights)[0]
    assert np.allclose(mass_map(stars, pointing, grid)[0].numpy(), expected, atol=1e-5)
    numbers = star_sums(torch.ones(4000, 1), stars, pointing, grid)
    assert float(numbers.sum()) == np.histogram2d(place[:, 1], place[:, 0], edges)[0].sum()


def test_mass_and_light_are_registered(generator: torch.Generator) -> None:
    grid = MapGrid(41, 33)
    row = torch.tensor([[0.4, -0.8, 1.0, 1.0, 0.0]])
    star = ProjectedStars.of(Ragged.pack([row]))
    pointing = Pointing.of(1, 100.0)
    light = render_light(star, pointing, grid)[0, 0]
    mass = mass_map(star, pointing, grid)[0]
    assert int(light.argmax()) == int(mass.argmax())


def test_a_cluster_twice_as_far_is_half_as_large(generator: torch.Generator) -> None:
    stars = plummer([200], 0.5, generator)
    near = render_light(stars, Pointing.of(1, 30.0, psf_fwhm=1.0, pixel_scale=0.5), SMALL)
    far = render_light(stars, Pointing.of(1, 60.0, psf_fwhm=0.5, pixel_scale=0.25), SMALL)
    assert torch.allclose(near, far, atol=1e-6 * float(near.max()))


def test_compiled_loops_give_the_same_maps(generator: torch.Generator) -> None:
    pytest.importorskip("numba")
    stars = plummer([2000, 300], 2.0, generator)
    pointing = Pointing.of(2, 30.0)
    maps = [
        render_light(stars, pointing, MapGrid(40, 40, deposit=way))  # pyright: ignore[reportArgumentType]
        for way in ("torch", "numba")
    ]
    assert torch.allclose(maps[0], maps[1], atol=2e-6 * float(maps[0].max()))


def test_joined_stars_shine_together(generator: torch.Generator) -> None:
    first, second = plummer([50, 80], 1.0, generator), plummer([0, 30], 1.0, generator)
    pointing = Pointing.of(2, 30.0)
    both = ProjectedStars.join(first, second)
    expected = render_light(first, pointing, SMALL) + render_light(second, pointing, SMALL)
    assert torch.allclose(
        render_light(both, pointing, SMALL), expected, atol=1e-6 * float(expected.max())
    )
    assert both.offsets.tolist() == [0, 50, 160]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: Pointing.of(2, -1.0), "distance must be above 0"),
        (lambda: Pointing.of(2, torch.ones(3)), "found"),
        (lambda: MapGrid(0, 5), "rows and columns"),
        (lambda: ProjectedStars.of(Ragged.pack([torch.ones(3, 4)])), "columns x, y"),
    ],
)
def test_inputs_that_do_not_fit(call, message: str) -> None:
    with pytest.raises(MelotteValueError, match=message):
        call()


def test_clusters_and_pointings_must_be_equally_many(generator: torch.Generator) -> None:
    stars = plummer([5, 5], 1.0, generator)
    with pytest.raises(MelotteValueError, match="2 clusters need as many pointings, found 3"):
        render_light(stars, Pointing.of(3, 10.0))
    with pytest.raises(MelotteValueError, match="cannot be joined"):
        ProjectedStars.join(stars, plummer([5], 1.0, generator))
    with pytest.raises(MelotteValueError, match="3 seeings for 2 bands"):
        render_light(stars, Pointing.of(2, 10.0, psf_fwhm=torch.ones(2, 3)))
