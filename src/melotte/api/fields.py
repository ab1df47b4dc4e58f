"""Simulated mosaics of galaxies' fields."""

from __future__ import annotations

from pathlib import Path

_CENTRES = {"m31": (10.6847, 41.2687), "m83": (204.2538, -29.8658)}
"""Right ascension and declination, deg."""


def simulate_field_mosaic(
    galaxy: str,
    output: str | Path,
    *,
    size: int = 2048,
    seed: int = 0,
    radius: float | None = None,
    exposure_factor: float = 1.0,
    sky_kept: float = 1.0,
) -> tuple[Path, ...]:
    """Simulate a field of M31 or M83 and write it as FITS mosaics with celestial coordinates.

    Parameters
    ----------
    galaxy : str
        "m31", as PHAT images it, or "m83", as its HST mosaic does.
    output : str or Path
        Folder.
    size : int, pixels along a side, 16 to 4096
    seed : int
    radius : float, kpc, optional
        Distance from the galaxy's centre in the plane of its disc, 0 to 40; drawn when not given.
    exposure_factor : float, in [1e-6, 1e6]
        By which exposures are longer than the survey's.
    sky_kept : float, in [0, 1]
        Share of the sky's light left in the mosaic.

    Returns
    -------
    tuple of Path
        One file for each band, in electrons/s.

    Raises
    ------
    MelotteValueError
        When a setting is not allowed.
    MelotteFileError
        When a file cannot be written.
    """
    from dataclasses import replace

    import torch

    from melotte.errors import MelotteValueError
    from melotte.io.field_files import write_mosaic
    from melotte.sky.galaxy_fields import draw_environment
    from melotte.telescope.fields import FieldOptions, simulate_field
    from melotte.telescope.passbands import passband
    from melotte.telescope.setups import SURVEYS

    if not 16 <= size <= 4096:
        raise MelotteValueError(f"size must be in [16, 4096] pixels, found {size}")
    if not 1e-6 <= exposure_factor <= 1e6:
        raise MelotteValueError(f"exposure_factor must be in [1e-6, 1e6], found {exposure_factor}")
    generator = torch.Generator().manual_seed(seed)
    environment = draw_environment(galaxy, generator, radius)
    setup, centre = SURVEYS[galaxy], _CENTRES[galaxy]
    setup = replace(setup, exposure=tuple(exposure_factor * time for time in setup.exposure))
    field = simulate_field(environment, setup, size, generator, FieldOptions(sky_kept=sky_kept))
    filters = [passband(band) for band in field.bands]
    # The field lies straight north of the galaxy's centre: its true place on the disc is not said.
    north = environment.radius * 1000 / setup.parsecs_per_arcsec / 3600
    return write_mosaic(
        output,
        field.image.numpy(),
        field.bands,
        pixel_scale=field.pixel_scale,
        exposure=field.exposure,
        zero_points_ab=[one.zero_point_ab for one in filters],
        pivot_nm=[one.pivot_nm for one in filters],
        centre=(centre[0], centre[1] + north),
        masked=field.saturated.numpy(),
        name=galaxy,
        provenance={
            "GALAXY": galaxy.upper(),
            "RADIUS": round(environment.radius, 4),
            "SEED": seed,
            "SKYKEPT": sky_kept,
        },
    )
