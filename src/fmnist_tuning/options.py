"""What several commands share: options as Typer takes them, and the way to say something."""

import codecs
import io
import math
import re
import unicodedata
from pathlib import Path
from typing import Annotated, Literal, NamedTuple, TextIO

import typer

from fmnist_tuning import DEFAULT_STUDY
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.text import file_name, printable, user_path

_MAX_JOBS = 256
_LEAST_SEEDS, _STANDARD_SEEDS, _MOST_SEEDS = 3, 40, 1_000
_DEGRADE = "fmnist"
_PLAIN = {"±": "+-", "−": "-", "–": "-", "→": "->", "×": "x", "≈": "~", "…": "...", "’": "'"}

Configs = Annotated[
    list[Path],
    typer.Argument(
        parser=user_path,
        metavar="CONFIG...",
        help="Sweep files, or folders of them.",
        show_default=False,
    ),
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="KEY=VALUE", help="Change a setting in all sweeps."),
]
Seeds = Annotated[
    str | None,
    typer.Option(
        metavar="N|A,B,...",
        help="Number of seeds (3) or a list (0,1,2), for every arm; 7, is seed 7 alone.",
    ),
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        metavar="PATH",
        envvar="FMNIST_DATA_DIR",
        help="The folder of the images.",
        show_default=False,
    ),
]
TrackingUri = Annotated[
    str | None,
    typer.Option(help="MLflow store; default: MLFLOW_TRACKING_URI, then MLflow's own default."),
]
Experiment = Annotated[
    str,
    typer.Option("--experiment", "--study", help="The study: the name of an MLflow experiment."),
]
DeviceName = Annotated[Literal["auto", "cpu", "cuda"], typer.Option(help="Where to train.")]
Jobs = Annotated[
    str,
    typer.Option(
        metavar="auto|N", help="Runs that train at the same time; auto: one per core, one on a GPU."
    ),
]
Executor = Annotated[
    Literal["local", "ray"],
    typer.Option(help="What runs the trainings: processes of this machine, or a Ray cluster."),
]
Address = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT",
        help="With --executor ray: the cluster to use; default: RAY_ADDRESS, then this machine.",
        show_default=False,
    ),
]
GpusPerRun = Annotated[
    float | None,
    typer.Option(
        metavar="PART",
        help="With --executor ray: a run's part of a GPU, such as 0.25; default: 1.",
        show_default=False,
    ),
]
Force = Annotated[bool, typer.Option("--force", help="Train finished runs again.")]
Replace = Annotated[
    bool,
    typer.Option("--replace", help="Let a sweep replace the study's one of that id, in results."),
]
Decide = Annotated[
    bool,
    typer.Option(
        "--decide",
        help="Add seeds, look after look, to the arms of undecided claims, until all are decided.",
    ),
]
MaxSeeds = Annotated[
    int | None,
    typer.Option(
        metavar="N", help="With --decide: seeds of an arm at most; default: 40.", show_default=False
    ),
]
Budget = Annotated[
    str | None,
    typer.Option(
        metavar="TIME",
        help="With --decide: start no look that would end later, such as 45m or 3h.",
        show_default=False,
    ),
]
FailFast = Annotated[
    bool, typer.Option("--fail-fast", help="Stop when a run fails; default: the others go on.")
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Show results only, no progress.")]
Json = Annotated[bool, typer.Option("--json", help="Results as JSON on stdout.")]
Csv = Annotated[bool, typer.Option("--csv", help="A row a run as CSV on stdout.")]
Sweeps = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[SWEEP]...", help="Sweep ids; default: all sweeps.", show_default=False
    ),
]
FigureFolder = Annotated[
    Path | None,
    typer.Option(
        parser=user_path,
        metavar="PATH",
        help="Folder for the figures; default: visualizations, with a folder in it for each study "
        "of another name.",
        show_default=False,
    ),
]
StyleSheet = Annotated[
    str | None,
    typer.Option(
        "--style",
        metavar="FILE",
        help="A matplotlib style sheet, or the name of one of matplotlib's styles; a matplotlibrc "
        "counts too.",
        show_default=False,
    ),
]
StudyFile = Annotated[
    Path,
    typer.Argument(
        parser=user_path,
        metavar="FILE",
        help="Such as study.jsonl.gz, or study.jsonl; - is the standard input or output.",
        show_default=False,
    ),
]


def parse_jobs(text: str) -> int | None:
    """How many workers `--jobs` asks for; None for `auto`.

    Raises:
        FmnistError: For anything else.
    """
    if text == "auto":
        return None
    if text.isascii() and text.isdigit() and 1 <= int(text[:9]) <= _MAX_JOBS:
        return int(text)
    raise FmnistError(f"--jobs: found {text[:80]!r}, allowed: auto, or a number from 1 to 256")


class Cluster(NamedTuple):
    """Which cluster trains, and how its GPUs are shared."""

    address: str | None
    gpus_per_run: float


def cluster(executor: str, address: str | None, gpus_per_run: float | None) -> Cluster | None:
    """The cluster that `--executor ray` means; None for this machine's processes.

    Raises:
        FmnistError: For options of a cluster without one, and for no part of a GPU.
    """
    if executor == "local":
        for name, value in (("--address", address), ("--gpus-per-run", gpus_per_run)):
            if value is not None:
                raise FmnistError(f"{name}: has an effect with --executor ray only")
        return None
    if gpus_per_run is not None and not 0 < gpus_per_run <= 1:
        raise FmnistError(
            f"--gpus-per-run: found {gpus_per_run:g}, allowed: above 0, and 1 at most"
        )
    return Cluster(address, gpus_per_run or 1.0)


class Limits(NamedTuple):
    """How far `--decide` goes."""

    seeds: int  # of an arm, at most
    seconds: float  # from the start of the command


def limits(
    *, decide: bool, max_seeds: int | None, budget: str | None, force: bool
) -> Limits | None:
    """The limits of `--decide`; None without it.

    Raises:
        FmnistError: For limits without it, limits that are none, and `--force` beside it.
    """
    if not decide:
        for name, value in (("--max-seeds", max_seeds), ("--budget", budget)):
            if value is not None:
                raise FmnistError(f"{name}: has an effect with --decide only")
        return None
    if force:
        raise FmnistError(
            "--force and --decide: found both, allowed: one of them; first train again, then decide"
        )
    if max_seeds is not None and not _LEAST_SEEDS <= max_seeds <= _MOST_SEEDS:
        raise FmnistError(
            f"--max-seeds: found {max_seeds}, allowed: from {_LEAST_SEEDS} to {_MOST_SEEDS:,}"
        )
    return Limits(max_seeds or _STANDARD_SEEDS, _seconds(budget))


def _seconds(budget: str | None) -> float:
    if budget is None:
        return math.inf
    parts = re.fullmatch(r"(?:(\d{1,4})h)?(?:(\d{1,5})m)?(?:(\d{1,6})s)?", budget)
    numbers = [int(part or 0) for part in parts.groups()] if parts else []
    if not any(numbers):
        raise FmnistError(
            f"--budget: found {budget[:80]!r}, allowed: a time, such as 45m, 3h or 1h30m"
        )
    hours, minutes, seconds = numbers
    return hours * 3600.0 + minutes * 60.0 + seconds


def figure_folder(study: str) -> Path:
    """Where a study's figures go; another study than the default one has a folder of its own."""
    folder = Path("visualizations")
    return folder if study == DEFAULT_STUDY else folder / file_name(study)


def journal_file(study: str) -> Path:
    """Where a study's journal is."""
    return Path("JOURNAL.md" if study == DEFAULT_STUDY else f"JOURNAL-{file_name(study)}.md")


def degrade_output(*streams: TextIO) -> None:
    """Let streams write what their encoding lacks in other signs, instead of failing."""
    codecs.register_error(_DEGRADE, _degraded)
    for stream in streams:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors=_DEGRADE)


def _degraded(error: UnicodeError) -> tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)  # noqa: S101  we only write
    lacking = error.object[error.start : error.end]
    plain = "".join(
        _PLAIN.get(sign)
        or unicodedata.normalize("NFKD", sign).encode("ascii", "ignore").decode()
        or "?"
        for sign in lacking
    )
    return plain, error.end


def say(text: object, *, err: bool = False, nl: bool = True) -> None:
    """Print what may hold names from outside."""
    typer.echo(printable(str(text)), err=err, nl=nl)
