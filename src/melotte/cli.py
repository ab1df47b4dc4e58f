"""The command line: parses and calls, nothing else. Heavy imports wait inside the commands."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from melotte.cli_simulation import simulate
from melotte.cli_words import (
    Clusters,
    Columns,
    Device,
    GroupBy,
    MinProbability,
    Model,
    Overrides,
    Preset,
    ReaderOptions,
    Release,
    columns_of,
    known_of,
    options_of,
)
from melotte.errors import WorkFailedError
from melotte.exit_codes import Commands, exit_with

app = typer.Typer(
    name="melotte",
    cls=Commands,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Weigh, date and measure star clusters and galaxy clusters.",
)


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


app.command()(simulate)


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
    figures: Annotated[
        Path | None, typer.Option(help="Folder for the learning curve, learning.png.")
    ] = None,
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
            "column": columns_of(column),
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
    if figures is not None:
        from melotte.engine.run_folders import folder_of
        from melotte.report.learning_curves import write_learning_curve

        drawn = write_learning_curve(folder_of(output), figures)
        typer.echo("figures: none, no pass was done" if drawn is None else f"figures: {drawn}")


@app.command()
def evaluate(
    model: Model,
    overrides: Overrides = None,
    bank: Annotated[list[Path] | None, typer.Option(help="A fixed bank or its shards.")] = None,
    n: Annotated[int, typer.Option("-n", min=1, help="Mocks to draw without a bank.")] = 5000,
    seed: Annotated[int, typer.Option(min=0)] = 1,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write the metrics here.")
    ] = None,
    figures: Annotated[Path | None, typer.Option(help="Folder for the figures.")] = None,
    device: Device = "auto",
) -> None:
    """Judge a model on mocks it has not seen, or on those of other data settings."""
    from melotte.api import evaluate as run
    from melotte.api import load
    from melotte.report.evaluation import show_evaluation, write_evaluation

    loaded = load(model, device)
    evaluation = run(loaded, bank=bank, n=n, seed=seed, overrides=overrides or ())
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
        int,
        typer.Option(min=0, help="Images: repeat with 2 or more random backgrounds added."),
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
    figures_of: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="With --figures: of this object, as often as needed."),
    ] = None,
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
        column=columns_of(column),
        release=release,
        min_probability=min_probability,
        values_as=values_as,
        clusters=clusters,
        options=options_of(option),
        prior=prior,
        compare=compare,
        compare_extinction_offset=compare_extinction_offset,
        figures=figures,
        figures_of=tuple(figures_of or ()),
        stars=stars,
        galaxies=galaxies,
        predictive=predictive,
        known=known_of(known),
        maps=maps,
        seed=seed,
        device=device,
        json_rows=json_rows,
    )
    result = run_inference(request, typer.echo)
    if not result.measured.any():
        raise WorkFailedError(f"no object could be measured; {output} says why of each")


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
            "column": columns_of(column),
            "release": release,
            "min_probability": None,
            **({} if clusters is None else {"clusters": clusters}),
            **options_of(option),
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
    file: Annotated[Path, typer.Argument(help="A bank, a model, a library, a table or images.")],
    system: Annotated[
        str | None,
        typer.Option(
            help="open-cluster or galaxy-cluster for a table, a preset such as m83 or globular for "
            "images and tables of images, where the file does not tell."
        ),
    ] = None,
    column: Columns = None,
    group_by: GroupBy = None,
    clusters: Clusters = None,
    option: ReaderOptions = None,
) -> None:
    """Validate a bank, a model, a library, an input table or images; say what is wrong."""
    from melotte.report.checking import check_file

    found = check_file(
        file,
        system=system,
        column=columns_of(column),
        group_by=group_by,
        clusters=clusters,
        options=options_of(option),
    )
    typer.echo(found)


def main(argv: list[str] | None = None) -> Any:
    """Run the command line; the exit code is 0 done, 1 failed, 2 wrong input or setting.

    Parameters
    ----------
    argv : list of str, optional
        Arguments without the program's name; by default those of the process.
    """
    try:
        words = sys.argv[1:] if argv is None else argv
        code = app(args=words or ["--help"], standalone_mode=False)
    except (Exception, KeyboardInterrupt) as error:
        exit_with(error)
        raise
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()
