"""Banks of mocks, or of the clusters of a simulation; fields of galaxies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from melotte.api.sources import Paths, listed
from melotte.errors import MelotteValueError
from melotte.named_words import named_words

if TYPE_CHECKING:
    from melotte.systems.base import System
    from melotte.systems.galaxy_cluster.simulated_clusters import SimulatedClusters

FIELD_GALAXIES = ("m31", "m83")
FIELD_SETTINGS: dict[str, type[int] | type[float]] = {
    "size": int,
    "radius": float,
    "exposure_factor": float,
    "sky_kept": float,
}


def simulate(
    preset: str | Path,
    output: str | Path,
    n: int,
    *,
    seed: int = 0,
    task: int = 1,
    of: int = 1,
    overrides: Sequence[str] = (),
    progress: bool | None = None,
    catalogues: Paths | None = None,
    column: Mapping[str, str] | None = None,
    options: Mapping[str, Any] | None = None,
) -> Path:
    """Write a bank of mocks, or of the clusters of a simulation.

    Parameters
    ----------
    preset : str or Path
    output : str or Path
        The bank, ``.h5``; with ``of`` > 1, the shard.
    n : int
        Mocks in the whole bank, all shards together.
    seed : int
    task, of : int
        This is shard ``task`` (1-based) of ``of``.
    overrides : sequence of ``section.key=value``
    progress : bool, optional
        Show progress; by default when attached to a terminal.
    catalogues : path or paths, optional
        Galaxies and haloes of one snapshot of a simulation, in place of mocks (galaxy clusters);
        see :func:`melotte.systems.galaxy_cluster.simulation_catalogues.read_catalogue`.
    column : mapping, optional
        Our names of the catalogues' columns to theirs.
    options : mapping, optional
        With catalogues: ``box_size`` (comoving Mpc/h) and the other fields of
        :class:`~melotte.systems.galaxy_cluster.simulation_catalogues.CatalogueSettings`.

    Returns
    -------
    Path
        The bank that was written.

    Raises
    ------
    MelotteValueError, MelotteFileError
        When a setting is not allowed, or a catalogue cannot be read or does not hold what the
        preset asks for.
    """
    from melotte.engine.banks import write_bank
    from melotte.systems.registry import build_system, load_preset

    settings = load_preset(preset, overrides)
    system = build_system(settings)
    content = settings.model_dump(mode="json")
    if catalogues is not None:
        system = _simulated(system, listed(catalogues), n, column, options or {})
        content["catalogue"] = system.catalogue.provenance
    elif column or options:
        raise MelotteValueError("columns and options are those of catalogues; none is given")
    return write_bank(
        system,
        content,
        Path(output),
        n=n,
        seed=seed,
        task=task,
        of=of,
        progress=progress,
    )


def simulate_field(
    words: Sequence[str], output: str | Path | None = None, *, seed: int = 0
) -> tuple[Path, ...]:
    """Write a simulated field of a galaxy as FITS mosaics, from words of the command line.

    Parameters
    ----------
    words : sequence of str
        ``m31`` or ``m83``, then ``NAME=VALUE`` of
        :func:`melotte.api.fields.simulate_field_mosaic`: ``size``, ``radius``,
        ``exposure_factor``, ``sky_kept``.
    output : path, optional
        Folder; ``m83-field`` and the like by default.
    seed : int

    Returns
    -------
    tuple of Path
        One file a band.

    Raises
    ------
    MelotteValueError, MelotteFileError
        When a word is not allowed, or a file cannot be written.
    """
    from melotte.api.fields import simulate_field_mosaic

    if not words or words[0] not in FIELD_GALAXIES:
        found = repr(words[0]) if words else "nothing"
        raise MelotteValueError(f"field of {found}; allowed: {', '.join(FIELD_GALAXIES)}")
    settings: dict[str, Any] = {}
    for name, text in named_words(words[1:]).items():
        if name not in FIELD_SETTINGS:
            raise MelotteValueError(
                f"'{name}={text}' is not a setting of a field; allowed: "
                f"{', '.join(f'{one}=NUMBER' for one in FIELD_SETTINGS)}"
            )
        try:
            settings[name] = FIELD_SETTINGS[name](text)
        except ValueError as error:
            raise MelotteValueError(f"{name}={text}: needs a number") from error
    folder = Path(f"{words[0]}-field") if output is None else Path(output)
    return simulate_field_mosaic(words[0], folder, seed=seed, **settings)


def _simulated(
    system: System,
    catalogues: Sequence[str | Path],
    n: int,
    column: Mapping[str, str] | None,
    options: Mapping[str, Any],
) -> SimulatedClusters:
    """The clusters of a simulation as a system like this one observes them."""
    from melotte.systems.galaxy_cluster.simulated_clusters import SimulatedClusters
    from melotte.systems.galaxy_cluster.simulation_catalogues import (
        CatalogueSettings,
        read_catalogue,
    )
    from melotte.systems.galaxy_cluster.system import GalaxyCluster

    clusters = getattr(system, "clusters", system)
    if not isinstance(clusters, GalaxyCluster):
        raise MelotteValueError(
            f"catalogues of simulations are for galaxy clusters, not for {system.name}"
        )
    settings = CatalogueSettings.parse(options, "catalogue")
    catalogue = read_catalogue(catalogues, settings, clusters.data, column)
    return SimulatedClusters(clusters, catalogue, settings, n, system)
