"""The command line: parses and calls, nothing else. Heavy imports wait inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

app = typer.Typer(
    name="melotte",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Weigh, date and measure star clusters and galaxy clusters.",
)

Preset = Annotated[str, typer.Argument(help="A shipped preset's name, or a YAML file.")]
Overrides = Annotated[
    list[str] | None, typer.Argument(help="Settings to change: section.key=value.")
]
Model = Annotated[str, typer.Argument(help="A shipped model's name, or a .safetensors file.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
Columns = Annotated[
    list[str] | None, typer.Option("--column", help="NAME=theirs, as often as needed.")
]
GroupBy = Annotated[str | None, typer.Option(help="Column that names the object of each row.")]
Release = Annotated[str | None, typer.Option(help="DR2, EDR3 or DR3, where the table is silent.")]
MinProbability = Annotated[
    float | None, typer.Option(min=0, max=1, help="Drop stars of lower membership probability.")
]
Clusters = Annotated[Path | None, typer.Option(help="Galaxy clusters: table of their positions.")]
ReaderOptions = Annotated[
    list[str] | None,
    typer.Option("--option", help="NAME=VALUE of the reader, such as aperture=1.6."),
]


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("melotte-demo"),
    seed: Annotated[int, typer.Option(min=0)] = 0,
) -> None:
    """Make mocks of every system, infer them with the shipped models, write one HTML report."""
    from melotte.demo import run_demo

    report = run_demo(output, seed=seed)
    typer.echo(f"report: {report}")


@app.command()
def models() -> None:
    """List the shipped models: ranges and headline metrics."""
    from melotte.report.tables import models_table

    models_table()


@app.command()
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
            "n_stars=1e4,2e5 and the like."
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
) -> None:
    """Write a fixed bank (HDF5) of mocks or of a simulation's clusters, or a galaxy's field.

    melotte simulate field m83 size=1024 -o DIR writes FITS mosaics with coordinates, one a band.
    melotte simulate clusters training -n 20 --workers 4 -o library.h5 evolves globular clusters.
    """
    if preset == "clusters":
        from melotte.api.cluster_runs import simulate_clusters

        library = simulate_clusters(
            overrides or [], output, n or 1, seed=seed, task=task, of=of, workers=workers
        )
        typer.echo(f"library: {library}")
        return
    if preset == "field":
        from melotte.api.simulation import simulate_field

        for path in simulate_field(overrides or [], output, seed=seed):
            typer.echo(f"mosaic: {path}")
        return
    from melotte.api import simulate as run

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
        column=_columns(column),
        options=_options(option) | {name: v for name, v in given.items() if v is not None},
    )
    typer.echo(f"bank: {path}")


@app.command()
def train(
    preset: Preset,
    overrides: Overrides = None,
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("model.safetensors"),
    resume: Annotated[str, typer.Option(help="auto, never or a run folder.")] = "auto",
    max_time: Annotated[str | None, typer.Option(help="Such as 90s, 30m or 2h.")] = None,
    start: Annotated[str | None, typer.Option("--from", help="Begin from this model.")] = None,
    bank: Annotated[list[Path] | None, typer.Option(help="Train on this bank, or shards.")] = None,
    members: Annotated[
        list[Path] | None, typer.Option(help="Train on real clusters: tables of members.")
    ] = None,
    labels: Annotated[
        Path | None, typer.Option(help="Their catalogued parameters, with --members.")
    ] = None,
    label_id: Annotated[
        str | None, typer.Option(help="Column of the labels that names the cluster.")
    ] = None,
    group_by: GroupBy = None,
    column: Columns = None,
    release: Release = None,
    min_probability: MinProbability = None,
    device: Device = "auto",
) -> None:
    """Train a preset's network on mocks made on the fly, on a bank, or on labelled clusters."""
    from melotte.api import train as run
    from melotte.report.training import notes_shown, training_examples

    examples = training_examples(
        preset,
        overrides or (),
        bank,
        members,
        labels,
        {
            "label_id": label_id,
            "group_by": group_by,
            "column": _columns(column),
            "release": release,
            "min_probability": min_probability,
        },
        typer.echo,
    )
    with notes_shown(lambda line: typer.echo(line, err=True)):
        run(
            preset,
            output,
            overrides=overrides or (),
            resume=resume,
            max_time=max_time,
            device=device,
            start=start,
            examples=examples,
        )
    typer.echo(f"model: {output}")


@app.command()
def evaluate(
    model: Model,
    bank: Annotated[list[Path] | None, typer.Option(help="A fixed bank or its shards.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Mocks to draw without a bank.")] = 5000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the metrics here.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures.")] = None,
    device: Device = "auto",
) -> None:
    """Judge a model on mocks it has not seen: errors, coverage, calibration."""
    from melotte.api import evaluate as run
    from melotte.api import load
    from melotte.report.evaluation import show_evaluation, write_evaluation

    loaded = load(model, device)
    evaluation = run(loaded, bank=bank, n=n, seed=seed)
    for path in write_evaluation(evaluation, loaded, json_file, figures):
        typer.echo(f"wrote {path}", err=True)
    show_evaluation(evaluation)


@app.command()
def infer(
    model: Model,
    inputs: Annotated[
        list[Path],
        typer.Argument(metavar="INPUTS...", help="Tables of members, or images of clusters."),
    ],
    output: Annotated[Path, typer.Option("-o", "--output", help=".ecsv, .fits, .parquet or .vot")],
    mosaic: Annotated[
        bool, typer.Option("--mosaic", help="INPUTS are mosaics, one a band, to cut images from.")
    ] = False,
    positions: Annotated[
        Path | None, typer.Option(help="With --mosaic: table of ra and dec, or x and y.")
    ] = None,
    deredden: Annotated[
        str | None,
        typer.Option(metavar="COLUMN", help="Of the positions: A_V to take off each image."),
    ] = None,
    background_draws: Annotated[
        int, typer.Option(min=0, help="Images: repeat with so many random backgrounds added.")
    ] = 0,
    samples: Annotated[int, typer.Option(min=0, help="Posterior samples to keep.")] = 0,
    samples_file: Annotated[Path | None, typer.Option(help="HDF5 file for the samples.")] = None,
    group_by: GroupBy = None,
    column: Columns = None,
    release: Release = None,
    min_probability: MinProbability = None,
    values_as: Annotated[
        str | None, typer.Option("--as", help="Values as this catalogue's, or all.")
    ] = None,
    clusters: Clusters = None,
    option: ReaderOptions = None,
    prior: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE|NAME", help="Reweight to priors of a YAML file, or to mass-function."
        ),
    ] = None,
    known: Annotated[
        list[str] | None,
        typer.Option("--known", help="NAME=VALUE of a first parameter, such as distance=7.1."),
    ] = None,
    maps: Annotated[
        Path | None, typer.Option(help="FITS file for the maps that the model infers.")
    ] = None,
    compare: Annotated[Path | None, typer.Option(help="Table of literature values.")] = None,
    compare_extinction_offset: Annotated[
        float, typer.Option(metavar="A_V", help="Foreground to add to the literature's A_V, mag.")
    ] = 0.0,
    figures: Annotated[Path | None, typer.Option(help="Folder for figures of each object.")] = None,
    stars: Annotated[
        Path | None, typer.Option(help="Table of the stars: binaries, stragglers, masses.")
    ] = None,
    galaxies: Annotated[
        Path | None, typer.Option(help="Table of the galaxies: which are members.")
    ] = None,
    predictive: Annotated[
        bool, typer.Option("--predictive", help="Check that each fit looks like the data.")
    ] = False,
    seed: Annotated[int, typer.Option(min=0)] = 0,
    device: Device = "auto",
    json_rows: Annotated[bool, typer.Option("--json", help="Also print the rows as JSON.")] = False,
) -> None:
    """Measure every object in some tables."""
    from melotte.report.inference import InferenceRequest, run_inference

    request = InferenceRequest(
        model=model,
        inputs=tuple(inputs),
        output=output,
        mosaic=mosaic,
        positions=positions,
        deredden=deredden,
        background_draws=background_draws,
        samples=samples,
        samples_file=samples_file,
        group_by=group_by,
        column=_columns(column),
        release=release,
        min_probability=min_probability,
        values_as=values_as,
        clusters=clusters,
        options=_options(option),
        prior=prior,
        compare=compare,
        compare_extinction_offset=compare_extinction_offset,
        figures=figures,
        stars=stars,
        galaxies=galaxies,
        predictive=predictive,
        known=_known(known),
        maps=maps,
        seed=seed,
        device=device,
        json_rows=json_rows,
    )
    run_inference(request, typer.echo)


@app.command()
def explain(
    model: Model,
    source: Annotated[Path, typer.Argument(metavar="INPUT", help="A table of members, or images.")],
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("explained.html"),
    parameter: Annotated[str | None, typer.Option(help="One parameter; default all.")] = None,
    object_id: Annotated[str | None, typer.Option("--id", help="Object to explain.")] = None,
    group_by: GroupBy = None,
    column: Columns = None,
    release: Release = None,
    clusters: Clusters = None,
    option: ReaderOptions = None,
    device: Device = "auto",
) -> None:
    """Show what the network read: attributions of every star, galaxy or pixel."""
    from melotte.report.explanation import write_explanation

    path = write_explanation(
        model,
        source,
        output,
        parameter=parameter,
        object_id=object_id,
        options={
            "group_by": group_by,
            "column": _columns(column),
            "release": release,
            "min_probability": None,
            **({} if clusters is None else {"clusters": clusters}),
            **_options(option),
        },
        device=device,
    )
    typer.echo(f"explanation: {path}")


@app.command()
def report(
    result: Annotated[Path, typer.Argument(help="A table that infer wrote.")],
    output: Annotated[Path, typer.Option("-o", "--output")] = Path("report.html"),
) -> None:
    """Turn a result table into one HTML page."""
    from melotte.report.page import write_result_report

    typer.echo(f"report: {write_result_report(result, output)}")


@app.command()
def adql(
    cluster: Annotated[str | None, typer.Option(help="Name of a well-known cluster.")] = None,
    ra: Annotated[float | None, typer.Option(help="Right ascension, deg.")] = None,
    dec: Annotated[float | None, typer.Option(help="Declination, deg.")] = None,
    radius: Annotated[float | None, typer.Option(help="Radius of the cone, deg.")] = None,
    release: Annotated[str, typer.Option(help="gaiadr2, gaiaedr3 or gaiadr3.")] = "gaiadr3",
    g_limit: Annotated[float, typer.Option(help="Faintest G, mag.")] = 18.0,
) -> None:
    """Print the Gaia archive query that gives the columns infer needs."""
    from melotte.io.adql import cone_query

    query = cone_query(
        name=cluster, ra=ra, dec=dec, radius=radius, release=release, g_limit=g_limit
    )
    typer.echo(query, nl=False)


@app.command()
def check(
    file: Annotated[Path, typer.Argument(help="A bank, a model, a table or images.")],
    system: Annotated[
        str | None,
        typer.Option(
            help="open-cluster or galaxy-cluster for a table, a preset such as m83 for images, "
            "where the file does not tell."
        ),
    ] = None,
    column: Columns = None,
    group_by: GroupBy = None,
    clusters: Clusters = None,
    option: ReaderOptions = None,
) -> None:
    """Validate a bank, a model, an input table or images, and say what is wrong."""
    from melotte.report.checking import check_file

    found = check_file(
        file,
        system=system,
        column=_columns(column),
        group_by=group_by,
        clusters=clusters,
        options=_options(option),
    )
    typer.echo(found)


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; the exit code is 0 done, 1 failed, 2 wrong input or setting.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.
    """
    from melotte.errors import MelotteError

    try:
        words = sys.argv[1:] if argv is None else argv
        code = app(args=words or ["--help"], standalone_mode=False)
    except (typer.Abort, KeyboardInterrupt) as error:
        _complain(str(error) or "interrupted")
        sys.exit(130)
    except MelotteError as error:
        _complain(str(error))
        sys.exit(2)
    except BrokenPipeError:
        sys.exit(1)
    except OSError as error:
        _complain(str(error))
        sys.exit(1)
    except Exception as error:
        if type(error).__name__ == "TrainingFailedError":
            _complain(str(error))
            sys.exit(1)
        # Usage errors of click, which some versions of typer carry inside: known by their method.
        message = getattr(error, "format_message", None)
        if message is None:
            raise
        _complain(message())
        sys.exit(2)
    sys.exit(code if isinstance(code, int) else 0)


def _columns(pairs: list[str] | None) -> dict[str, str]:
    from melotte.io.column_options import parse_column_options

    return parse_column_options(pairs or [])


def _options(pairs: list[str] | None) -> dict[str, Any]:
    from melotte.report.inference import parse_options

    return parse_options(pairs or [])


def _known(pairs: list[str] | None) -> dict[str, float]:
    from melotte.engine.known_values import parse_known

    return parse_known(pairs or [])


def _complain(message: str) -> None:
    line = " ".join(message.split())
    typer.echo(f"melotte: error: {line}", err=True)


if __name__ == "__main__":
    main()
