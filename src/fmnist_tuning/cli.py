"""The command line: parse, call, print. What a command needs is imported when it runs."""

import atexit
import contextlib
import errno
import functools
import gc
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, ParamSpec

import typer

from fmnist_tuning import options
from fmnist_tuning.errors import DataError, FmnistError, Interrupted, MissingDataError
from fmnist_tuning.interruption import handle_signals
from fmnist_tuning.options import degrade_output, say
from fmnist_tuning.study_commands import champion, journal, plot, predict, results
from fmnist_tuning.sweeps.datasets import DatasetName
from fmnist_tuning.training_commands import plan, run
from fmnist_tuning.transfer_commands import export, import_

_Options = ParamSpec("_Options")
_GARBAGE = 1_000_000
"""New objects until Python looks for garbage. MLflow makes a hundred for each run that it reads, so
looking through them after every 700, as is standard, takes longer than reading.
"""

_UNWRITABLE = {errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EPIPE}

app = typer.Typer(
    name="fmnist",
    help="How do a CNN's hyperparameters affect Fashion-MNIST? One YAML file per experiment, every "
    "run tracked in MLflow.",
    no_args_is_help=True,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
)


def _announced(command: Callable[_Options, None]) -> Callable[_Options, None]:
    """Let a command say that it works, on a terminal: pandas and MLflow take seconds to load."""

    @functools.wraps(command)
    def announce(*args: _Options.args, **options: _Options.kwargs) -> None:
        if sys.stderr.isatty():
            typer.secho("loading the study ...", err=True, dim=True)
        command(*args, **options)

    return announce


@app.callback(invoke_without_command=True)
def _version(
    *,
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.")] = False,
) -> None:
    if version:
        from importlib.metadata import version as installed

        typer.echo(f"fmnist {installed('fmnist-tuning')}")
        raise typer.Exit


@app.command()
def data(
    *,
    data_dir: options.DataDir = None,
    fetch: Annotated[
        bool, typer.Option("--fetch", help="Download the images if they are missing or damaged.")
    ] = False,
    csv: Annotated[
        tuple[Path, Path] | None,
        typer.Option(
            metavar="TRAIN TEST",
            help="Make the images of two CSV files: a label, then 784 pixels.",
            show_default=False,
        ),
    ] = None,
    dataset: Annotated[
        DatasetName, typer.Option(help="A data set, as the setting of that name has it.")
    ] = "fashion_mnist",
    as_json: options.Json = False,
) -> None:
    """Show where the images are and check them; --fetch downloads them."""
    from fmnist_tuning.data.catalogue import find_dataset
    from fmnist_tuning.data.fetch import fetch_images
    from fmnist_tuning.data.files import DEFAULT_FOLDER

    if csv is not None and dataset != "fashion_mnist":
        raise FmnistError(f"--csv: makes images like Fashion-MNIST's; found --dataset {dataset}")
    if csv is not None:
        from fmnist_tuning.data.tables import convert

        convert(csv, data_dir or DEFAULT_FOLDER)
    try:
        files = find_dataset(dataset, data_dir)
    except DataError as error:
        if not fetch:
            raise
        # Where they are merely missing, that they are now fetched says it all.
        if not isinstance(error, MissingDataError):
            say(error, err=True)
        folder, tell = data_dir or DEFAULT_FOLDER, functools.partial(say, err=True)
        if dataset == "fashion_mnist":
            fetch_images(folder, say=tell)
        else:
            from fmnist_tuning.data.fetch_others import fetch_dataset

            fetch_dataset(dataset, folder, say=tell)
        files = find_dataset(dataset, data_dir)
    if as_json:
        typer.echo(json.dumps(files.as_json(), indent=2))
    else:
        say(f"{files.folder}: {files.described}, verified (digest {files.digest})")


app.command(
    epilog="[bold]Examples[/bold]\n\n"
    "fmnist run configs/exp1_dropout.yaml\n\n"
    "fmnist run configs/ --seeds 3   (all experiments as one plan, three seeds an arm)\n\n"
    "fmnist run configs/ --decide   (as many seeds as the verdicts take)\n\n"
    "fmnist run configs/exp1_dropout.yaml --set epochs=1 --set train_size=10000"
)(run)
app.command()(_announced(plan))
for _command in (results, plot, journal, champion, predict, export):
    app.command()(_announced(_command))
app.command("import")(_announced(import_))


def main() -> None:
    """The console script: one line and an exit code for whatever a user can act on."""
    atexit.register(_leave_at_once)
    gc.set_threshold(_GARBAGE)
    handle_signals()
    degrade_output(sys.stdout, sys.stderr)
    try:
        _call()
    except OSError as error:
        if error.errno not in _UNWRITABLE:
            raise
        # Whatever else is said cannot be written either, at least not there.
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError):
                stream.flush()
            with contextlib.suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        sys.exit(2)


def _call() -> None:
    try:
        try:
            app()
        finally:
            sys.stdout.flush()
    except FmnistError as error:
        say(f"error: {error}", err=True)
        sys.exit(error.exit_code)
    except Interrupted as interruption:
        say("interrupted; run the same command again to continue", err=True)
        sys.exit(interruption.exit_code)
    except OSError as error:
        if error.errno in _UNWRITABLE and error.errno != errno.EPIPE:
            say(f"error: the output cannot be written: {error.strerror}", err=True)
        raise


def _leave_at_once() -> None:
    """Spare Python its last garbage collection: to take MLflow apart, it needs a second.

    Not with torch, whose bindings take what is left for a leak, and say so.
    """
    if "torch" not in sys.modules:
        gc.freeze()
