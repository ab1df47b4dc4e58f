"""The command ``simulate``: banks of mocks, fields of galaxies, libraries of evolved clusters."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from melotte.cli_words import Columns, columns_of, options_of
from melotte.errors import MelotteValueError, WorkFailedError, refuse_unused


def simulate(
    preset: Annotated[
        str,
        typer.Argument(help="A shipped preset's name, a YAML file, or the word field or clusters."),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            help="Settings to change: section.key=value. After field: m31 or m83, and size=2048, "
            "radius=KPC, exposure_factor=1, sky_kept=1. After clusters: a family, and "
            "n_stars=1e4,2e5 and the like, or files with --from-snapshots."
        ),
    ] = None,
    n: Annotated[
        int | None,
        typer.Option("-n", min=1, help="Mocks in the whole bank [1000]; runs of clusters [1]."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="bank.h5; of a field, its folder.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    task: Annotated[int, typer.Option(min=1, help="This shard's number, from 1.")] = 1,
    of: Annotated[int, typer.Option(min=1, help="Number of shards.")] = 1,
    catalogue: Annotated[
        list[Path] | None,
        typer.Option(help="Galaxy clusters: take these of a simulation, in place of mocks."),
    ] = None,
    box_size: Annotated[
        float | None, typer.Option(help="Side of its periodic box, comoving Mpc/h.")
    ] = None,
    redshift: Annotated[float | None, typer.Option(help="Of its snapshot.")] = None,
    column: Columns = None,
    option: Annotated[
        list[str] | None, typer.Option("--option", help="NAME=VALUE, such as masses=natural.")
    ] = None,
    workers: Annotated[int, typer.Option(min=1, help="Processes that evolve clusters.")] = 1,
    from_snapshots: Annotated[
        bool,
        typer.Option(
            "--from-snapshots",
            help="After clusters: FILE or RUN=FILE of your own simulations; --option "
            "family=training, metallicity, time, format and the like.",
        ),
    ] = False,
) -> None:
    """Write a fixed bank (HDF5) of mocks or of a simulation's clusters, or a galaxy's field.

    melotte simulate field m83 size=1024 -o DIR writes FITS mosaics with coordinates, one a band.
    melotte simulate clusters training -n 20 --workers 4 -o library.h5 evolves globular clusters;
    melotte simulate clusters --from-snapshots run1/* -o library.h5 takes simulations of your own.
    """
    of_catalogues = {"--catalogue": catalogue, "--box-size": box_size, "--redshift": redshift}
    of_tables = {"--column": column, "--option": option}
    of_many = {"-n": n is not None, "--task": task > 1, "--of": of > 1}
    of_runs = {"--workers": workers > 1}
    if from_snapshots:
        unused = of_many | {"--seed": seed} | of_catalogues | of_runs
        library = _snapshot_library(preset, overrides or [], output, column, option, unused)
        _tell_of_library(library)
        return
    if preset == "clusters":
        from melotte.api.cluster_runs import simulate_clusters

        refuse_unused("clusters", of_catalogues | of_tables)
        library = simulate_clusters(
            overrides or [], output, n or 1, seed=seed, task=task, of=of, workers=workers
        )
        _tell_of_library(library)
        return
    if preset == "field":
        from melotte.api.simulation import simulate_field

        refuse_unused("fields", of_many | of_catalogues | of_tables | of_runs)
        for path in simulate_field(overrides or [], output, seed=seed):
            typer.echo(f"mosaic: {path}")
        return
    from melotte.api import simulate as run

    refuse_unused("banks", of_runs)
    given = {"box_size": box_size, "redshift": redshift}
    path = run(
        preset,
        output or Path("bank.h5"),
        n or 1000,
        seed=seed,
        task=task,
        of=of,
        overrides=overrides or (),
        catalogues=catalogue or None,
        column=columns_of(column),
        options=options_of(option) | {name: v for name, v in given.items() if v is not None},
    )
    typer.echo(f"bank: {path}")


def _tell_of_library(path: Path) -> None:
    """Where a library is, and which of its runs hold nothing."""
    from melotte.sky.cluster_libraries import ClusterLibrary

    with ClusterLibrary(path) as library:
        runs = library.runs
    typer.echo(f"library: {path}")
    typer.echo(f"  runs: {len(runs)}, snapshots: {sum(len(one.times) for one in runs)}")
    empty = [one.name for one in runs if not one.times]
    if len(empty) == len(runs):
        raise WorkFailedError(
            f"{path}: holds nothing, every cluster dissolved before its first snapshot; "
            "give an earlier first_snapshot, more stars or smaller radii"
        )
    if empty:
        typer.echo(f"  dissolved before their first snapshot: {', '.join(empty)}")


def _snapshot_library(
    preset: str,
    files: list[str],
    output: Path | None,
    column: list[str] | None,
    option: list[str] | None,
    unused: dict[str, Any],
) -> Path:
    from melotte.api import library_of_snapshots

    if preset != "clusters":
        raise MelotteValueError(
            f"--from-snapshots makes a library: simulate clusters, not {preset}, --from-snapshots"
        )
    refuse_unused("--from-snapshots", unused)
    options = options_of(option)
    family = str(options.pop("family", "training"))
    return library_of_snapshots(
        files, output, family=family, column=columns_of(column), options=options
    )
