"""The command line: parse, call, print. What a command needs is imported when it runs."""

import atexit
import gc
import json
import signal
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, NoReturn

import typer

from fmnist_tuning.errors import FmnistError, Interrupted
from fmnist_tuning.printable import printable

if TYPE_CHECKING:
    from fmnist_tuning.config import SweepConfig

app = typer.Typer(
    name="fmnist",
    help="How do a CNN's hyperparameters affect Fashion-MNIST? One YAML file per experiment, every "
    "run tracked in MLflow.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)

Configs = Annotated[
    list[Path],
    typer.Argument(
        metavar="CONFIG...", help="Sweep files, or folders of them.", show_default=False
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Lay a setting over every sweep's `fixed`."),
]
Seeds = Annotated[
    str | None, typer.Option(metavar="N|A,B,...", help="So many seeds, or these, for every arm.")
]
DataDir = Annotated[
    Path | None,
    typer.Option(envvar="FMNIST_DATA_DIR", help="The images' folder.", show_default=False),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow store; default: MLFLOW_TRACKING_URI, then MLflow's own default."),
]
Experiment = Annotated[str, typer.Option(help="The study: a name of an MLflow experiment.")]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")]
Jobs = Annotated[
    str, typer.Option(metavar="auto|N", help="Runs at a time; auto is one a core, or one on a GPU.")
]
Force = Annotated[bool, typer.Option("--force", help="Train again what is finished already.")]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop at the first run that fails; default: go on.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress, only results.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]

Sweeps = Annotated[
    list[str] | None,
    typer.Argument(metavar="[SWEEP]...", help="Ids of sweeps; all without.", show_default=False),
]
StudyFile = Annotated[
    Path, typer.Argument(metavar="FILE", help="Such as study.jsonl.gz.", show_default=False)
]

DEFAULT_STUDY = "fashion_mnist_cnn_tuning"


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"fmnist {installed('fmnist-tuning')}")
        raise typer.Exit


@app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "fmnist run configs/exp1_dropout.yaml\n\n"
    "fmnist run configs/ --seeds 3   (all experiments as one plan, three seeds an arm)\n\n"
    "fmnist run configs/exp1_dropout.yaml --set epochs=1 --set train_size=10000"
)
def run(
    configs: Configs,
    *,
    settings: Settings = None,
    seeds: Seeds = None,
    device: DeviceName = "auto",
    jobs: Jobs = "auto",
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    force: Force = False,
    fail_fast: FailFast = False,
    quiet: Quiet = False,
    as_json: Json = False,
) -> None:
    """Train what the sweeps ask for and the study does not have yet, and track it in MLflow."""
    sweeps, workers = _sweeps(configs, settings, seeds), _jobs(jobs)

    from fmnist_tuning.worker import warm_up

    warm_up()

    from fmnist_tuning import terminal
    from fmnist_tuning.data import find
    from fmnist_tuning.execution import Results, execute
    from fmnist_tuning.tracking import Study

    files = find(data_dir)
    study = Study.open(experiment, tracking_uri)
    out = terminal.console(stderr=True, quiet=quiet)
    terminal.facts(
        out,
        {
            "study": f"{study.name} in {study.place}",
            "data": f"{files.described}, verified, in {files.folder}",
            "plan": ", ".join(sweep.sweep for sweep in sweeps),
        },
    )
    results = Results(sweeps)
    events = execute(
        sweeps,
        study=study,
        files=files,
        device=device,
        jobs=workers,
        force=force,
        fail_fast=fail_fast,
    )
    with closing(events), terminal.RunDisplay(out) as display:
        for event in events:
            results.add(event)
            display.show(event)
    if as_json:
        typer.echo(json.dumps(results.as_json(), indent=2))
    else:
        terminal.print_results(terminal.console(), results)
    terminal.facts(out, {"browse": study.browse_hint()})
    if results.failures:
        failed = terminal.escape(f"failed: {', '.join(results.failures)}")
        out.print(failed, style="red")
        raise typer.Exit(1)


@app.command()
def plan(
    configs: Configs,
    *,
    settings: Settings = None,
    seeds: Seeds = None,
    jobs: Jobs = "auto",
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """List every run in order, and what would be trained, reused and shared, without running it."""
    sweeps, workers = _sweeps(configs, settings, seeds), _jobs(jobs)

    from fmnist_tuning import terminal
    from fmnist_tuning.data import find
    from fmnist_tuning.execution import preview
    from fmnist_tuning.tracking import Study

    files = find(data_dir)
    study = Study.find(experiment, tracking_uri)
    shown = preview(sweeps, study, files.digest, jobs=workers, force=force)
    if as_json:
        typer.echo(json.dumps(shown.as_json(), indent=2))
    else:
        terminal.print_plan(terminal.console(), shown)


@app.command()
def data(
    *,
    data_dir: DataDir = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Get the images where they are missing or damaged.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Say where the images are and whether they are the right ones; --fetch gets them."""
    from fmnist_tuning.data import DEFAULT_FOLDER, find
    from fmnist_tuning.data import fetch as fetch_into
    from fmnist_tuning.errors import DataError, MissingDataError

    try:
        files = find(data_dir)
    except DataError as error:
        if not fetch:
            raise
        # Where they are merely missing, that they are now fetched says it all.
        if not isinstance(error, MissingDataError):
            _say(error, err=True)
        fetch_into(data_dir or DEFAULT_FOLDER, say=lambda text: _say(text, err=True))
        files = find(data_dir)
    if as_json:
        typer.echo(json.dumps(files.as_json(), indent=2))
    else:
        _say(f"{files.folder}: {files.described}, verified (digest {files.digest})")


@app.command()
def results(
    sweeps: Sweeps = None,
    *,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    as_json: Json = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="A row a run as CSV on stdout.")] = False,
) -> None:
    """The tracked arms of each sweep over their seeds, and the verdicts on its claims."""
    if as_json and as_csv:
        raise FmnistError("--json and --csv: found both, allowed: one of them")

    from fmnist_tuning import terminal
    from fmnist_tuning.results import as_records, as_table, read_study

    found = read_study(experiment, tracking_uri, only=sweeps or ())
    if as_json:
        typer.echo(json.dumps(as_records(found), indent=2))
    elif as_csv:
        typer.echo(as_table(found).to_csv(index=False), nl=False)
    else:
        terminal.print_study(terminal.console(), found.sweeps, found.every)


@app.command()
def plot(
    sweeps: Sweeps = None,
    *,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("visualizations"),
    file_format: Annotated[
        Literal["png", "svg", "pdf"] | None,
        typer.Option("--format", help="Instead of what the sweep's file says, or png."),
    ] = None,
) -> None:
    """Draw each sweep's figure and its learning curves from MLflow alone."""
    from fmnist_tuning.figures import draw_study
    from fmnist_tuning.results import read_study
    from fmnist_tuning.writing import write_whole

    found = read_study(experiment, tracking_uri, only=sweeps or ())
    for sweep, frames in found.sweeps.items():
        if frames.missing:
            total = len(frames.missing) + len(frames.runs)
            missing = f"{len(frames.missing)} of {total} runs are not finished"
            _say(f"{sweep}: {missing}: {', '.join(frames.missing[:5])}", err=True)
    for sweep, drawn in draw_study(found.sweeps, file_format):
        for name, content in drawn.items():
            write_whole(output / name, content)
            _say(output / name)
        found.study.log_files(
            found.sweep_run_ids[sweep], "plots", [output / name for name in drawn]
        )


@app.command()
def journal(
    *,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    output: Annotated[Path, typer.Option(help="The journal's file.")] = Path("JOURNAL.md"),
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 when it is behind the study.")
    ] = False,
) -> None:
    """Write the journal's tables, answers and verdicts from MLflow alone; your own text stays."""
    from fmnist_tuning.journal import difference, read_text, write_journal
    from fmnist_tuning.results import read_study
    from fmnist_tuning.writing import write_whole

    present = read_text(output)
    found = read_study(experiment, tracking_uri)
    text = write_journal(found, present, output)
    if not check:
        write_whole(output, text.encode())
        _say(output)
    elif text != present:
        _say(difference(present or "", text, output), nl=False)
        raise typer.Exit(1)


@app.command()
def champion(
    *,
    weights: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A weights.pt for the best run, where the store has none of it.",
            show_default=False,
        ),
    ] = None,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    output: Annotated[Path, typer.Option(help="Folder for the figures.")] = Path("visualizations"),
) -> None:
    """Register the best arm's network in MLflow, and draw what each finalist gets wrong."""
    from fmnist_tuning import terminal
    from fmnist_tuning.champion import check_data, evaluate, finalists, load_images
    from fmnist_tuning.data import find
    from fmnist_tuning.results import read_study
    from fmnist_tuning.tracking import Registry
    from fmnist_tuning.writing import write_whole

    found = read_study(experiment, tracking_uri)
    files, registry = find(data_dir), Registry(found.study.uri)
    last = finalists(found)
    check_data(last[0], files)
    images = load_images(files)
    for finalist in last:
        brought = weights if finalist.champion else None
        evaluation = evaluate(finalist, found, registry, images, brought)
        terminal.print_finalist(terminal.console(), finalist, evaluation)
        paths = [output / name for name in evaluation.figures]
        for path in paths:
            write_whole(path, evaluation.figures[path.name])
            _say(path)
        found.study.log_files(finalist.run.run_id, "plots", paths)


@app.command()
def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="PNG or JPEG files, or numbers of test images, from 0.",
            show_default=False,
        ),
    ],
    *,
    tracking_uri: TrackingUri = None,
    data_dir: DataDir = None,
    as_json: Json = False,
) -> None:
    """Name the garment on each image, by the champion's network."""
    from fmnist_tuning import terminal
    from fmnist_tuning.prediction import predict as predicted
    from fmnist_tuning.prediction import read_images
    from fmnist_tuning.tracking import Registry

    chosen = read_images(images, data_dir)
    best = Registry.existing(tracking_uri).champion()
    answers = predicted(chosen, best)
    if as_json:
        typer.echo(json.dumps([answer.as_json() for answer in answers], indent=2))
    else:
        about = f"{best.run.name}, version {best.version}"
        terminal.facts(terminal.console(stderr=True), {"model": about})
        terminal.print_predictions(terminal.console(), answers)


@app.command()
def export(
    file: StudyFile,
    *,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
) -> None:
    """Write a study's finished runs and its sweeps into one file, for any other store."""
    from fmnist_tuning.exchange import encode, export_study
    from fmnist_tuning.tracking import Study
    from fmnist_tuning.writing import write_whole

    exported = export_study(Study.existing(experiment, tracking_uri))
    write_whole(file, encode(exported.entries))
    for what in exported.left_out:
        typer.echo(f"left out: {what}", err=True)
    typer.echo(f"{file}: {exported}")


@app.command("import")
def import_(
    file: StudyFile,
    *,
    experiment: Experiment = DEFAULT_STUDY,
    tracking_uri: TrackingUri = None,
) -> None:
    """Add to a study what such a file has and the study lacks; what is finished stays."""
    from fmnist_tuning.exchange import import_study, read_file

    typer.echo(import_study(read_file(file), experiment, tracking_uri))


def main() -> None:
    """The console script: one line and an exit code for whatever a user can act on."""
    atexit.register(_leave_at_once)
    for interrupting in (signal.SIGINT, signal.SIGTERM):
        signal.signal(interrupting, _interrupt)
    try:
        app()
    except FmnistError as error:
        _say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Interrupted as interruption:
        typer.echo("interrupted; the same command goes on with what is left", err=True)
        sys.exit(interruption.exit_code)


def _leave_at_once() -> None:
    """Spare Python its last garbage collection: to take MLflow apart, it needs a second.

    Not with torch, whose bindings take what is left for a leak, and say so.
    """
    if "torch" not in sys.modules:
        gc.freeze()


def _say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print what may hold names from outside."""
    typer.echo(printable(str(text)), err=err, nl=nl)


def _sweeps(
    configs: list[Path], settings: list[str] | None, seeds: str | None
) -> "list[SweepConfig]":
    from fmnist_tuning.config import load_sweeps, parse_overrides, parse_seeds

    return load_sweeps(
        configs, parse_overrides(settings or []), None if seeds is None else parse_seeds(seeds)
    )


def _jobs(text: str) -> int | None:
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= 256:  # noqa: PLR2004
        return int(text)
    raise FmnistError(f"--jobs: found {text[:80]!r}, allowed: auto, or a number from 1 to 256")


def _interrupt(number: int, _frame: object) -> NoReturn:
    signal.signal(number, signal.SIG_DFL)  # the second time ends it at once; workers follow
    raise Interrupted
