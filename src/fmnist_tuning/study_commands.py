"""The commands on a study that is there: read it, draw it, judge it, use its best network."""

import json
import logging
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from fmnist_tuning import DEFAULT_STUDY, options
from fmnist_tuning.errors import DataError, FmnistError, PictureError
from fmnist_tuning.options import say
from fmnist_tuning.text import user_path

if TYPE_CHECKING:
    from fmnist_tuning.report.study import StudyResults
    from fmnist_tuning.store.study import Study


def results(
    sweeps: options.Sweeps = None,
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    as_json: options.Json = False,
    as_csv: options.Csv = False,
) -> None:
    """Show each sweep's arms over their seeds, and the verdicts on its claims."""
    if as_json and as_csv:
        raise FmnistError("--json and --csv: found both, allowed: one of them")

    from fmnist_tuning import terminal
    from fmnist_tuning.report.study import as_records, as_table

    found = _read(experiment, tracking_uri, sweeps or (), partly=True)
    if as_json:
        typer.echo(json.dumps(as_records(found), indent=2))
    elif as_csv:
        typer.echo(as_table(found).to_csv(index=False), nl=False)
    else:
        terminal.print_study(terminal.console(), found)
        terminal.facts(terminal.console(stderr=True), {"browse": found.study.browse_hint()})
    _name_unreadable(found)


def plot(
    sweeps: options.Sweeps = None,
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    data_dir: options.DataDir = None,
    output: options.FigureFolder = None,
    file_format: Annotated[
        Literal["png", "svg", "pdf"] | None,
        typer.Option("--format", help="File format; default: as in the sweep's file, else png."),
    ] = None,
    style: options.StyleSheet = None,
) -> None:
    """Draw each sweep's figure and learning curves from the runs in MLflow."""
    _load_matplotlib()
    from fmnist_tuning.report.figures.sweep_figures import draw_study, draw_study_claims

    found = _read(experiment, tracking_uri, sweeps or (), partly=True, writing=True)
    for frames in found.sweeps.values():
        if frames.missing:
            say(f"{frames.lacking}: {', '.join(frames.missing[:5])}", err=True)
    for sweep, drawn in draw_study(found.sweeps, file_format, others=found.every, sheet=style):
        _keep(drawn, output, found.study, found.sweep_run_ids[sweep])
    for sweep, frames in found.sweeps.items():
        if any(arm.config.augmentation != "none" for arm in frames.arms):
            from fmnist_tuning.examples import draw_examples

            try:
                examples = draw_examples(
                    frames, data_dir, file_format, digests=found.digests, sheet=style
                )
            except DataError as error:
                say(f"{sweep}: its augmented images are not drawn: {error}", err=True)
            else:
                _keep(examples, output, found.study, found.sweep_run_ids[sweep])
    if not sweeps:
        _keep(draw_study_claims(found.every, file_format, sheet=style), output, found.study)
    _name_unreadable(found)


def journal(
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    output: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="PATH",
            help="The journal's file; default: JOURNAL.md, and JOURNAL-STUDY.md for a study of "
            "another name.",
            show_default=False,
        ),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="Write nothing; exit 1 if the journal is out of date.")
    ] = False,
    html: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="FILE",
            help="Write the journal as one HTML page with its figures too, to be sent on.",
            show_default=False,
        ),
    ] = None,
) -> None:
    """Write the computed parts of the journal from the runs in MLflow; your own text stays."""
    from fmnist_tuning.files import write_whole
    from fmnist_tuning.report.journal.document import journal_diff, read_text, write_journal
    from fmnist_tuning.report.journal.page import render_page

    if check and html is not None:
        raise FmnistError("--check and --html: found both, allowed: one of them")
    output = output or options.journal_file(experiment)
    present = read_text(output)
    figures = options.figure_folder(experiment)
    text = write_journal(_read(experiment, tracking_uri), present, output, figures)
    if not check:
        write_whole(output, text.encode())
        say(output)
        if html is not None:
            write_whole(html, render_page(text, output.parent).encode())
            say(html)
    elif text != present:
        say(journal_diff(present or "", text, output), nl=False)
        raise typer.Exit(1)


def champion(
    *,
    weights: Annotated[
        Path | None,
        typer.Option(
            parser=user_path,
            metavar="FILE",
            help="The best run's weights.pt, if the store does not have it.",
            show_default=False,
        ),
    ] = None,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    data_dir: options.DataDir = None,
    output: options.FigureFolder = None,
    style: options.StyleSheet = None,
) -> None:
    """Register the best arm's network in MLflow, and draw what each finalist gets wrong."""
    _load_matplotlib()
    from fmnist_tuning import terminal
    from fmnist_tuning.champion import evaluate_finalists

    found = _read(experiment, tracking_uri, writing=True)
    for finalist, evaluation in evaluate_finalists(found, data_dir, weights, sheet=style):
        terminal.print_finalist(terminal.console(), finalist, evaluation)
        _keep(evaluation.figures, output, found.study, finalist.run.run_id)
    rule = (
        "the highest lower end of the 95 % interval of its mean, of the arms judged by the same "
        "images; `fmnist journal` says what may be as good"
    )
    terminal.facts(terminal.console(stderr=True), {"rule": rule})


def _read(
    study: str,
    tracking_uri: str | None,
    only: Sequence[str] = (),
    *,
    partly: bool = False,
    writing: bool = False,
) -> "StudyResults":
    """Read a study, and show how far it is read; `report.study.open_study` tells the rest."""
    from fmnist_tuning.reading import Reading
    from fmnist_tuning.report.study import open_study
    from fmnist_tuning.terminal import console

    watch = Reading(console(stderr=True))
    return open_study(study, tracking_uri, only, partly=partly, writing=writing, watch=watch)


def _load_matplotlib() -> None:
    """Import it; it reads the user's matplotlibrc, whose faults are one message of ours."""
    logging.getLogger("matplotlib").addHandler(logging.NullHandler())
    try:
        import_module("matplotlib")
    except (OSError, UnicodeDecodeError) as error:
        raise FmnistError(
            f"matplotlib cannot read its matplotlibrc ({error}); it is in this folder, in the one "
            "that MATPLOTLIBRC or MPLCONFIGDIR names, or in ~/.config/matplotlib"
        ) from None


def _name_unreadable(found: "StudyResults") -> None:
    """Name the sweeps that were left out, and exit with 1 if there are any."""
    for problem in found.unreadable:
        say(f"left out: {problem}", err=True)
    if found.unreadable:
        raise typer.Exit(1)


def _keep(
    figures: Mapping[str, bytes], folder: Path | None, study: "Study", run_id: str | None = None
) -> None:
    """Write figures into a folder, by default the study's, and onto an MLflow run, if given."""
    from fmnist_tuning.files import write_whole
    from fmnist_tuning.store.tracker import Tracker

    folder = folder or options.figure_folder(study.name)
    for name, content in figures.items():
        write_whole(folder / name, content)
        say(folder / name)
    if run_id is not None:
        Tracker(study).log_files(run_id, "plots", [folder / name for name in figures])


def predict(
    images: Annotated[
        list[str],
        typer.Argument(
            metavar="IMAGE...",
            help="Pictures, or numbers of test images, from 0.",
            show_default=False,
        ),
    ],
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
    data_dir: options.DataDir = None,
    as_json: options.Json = False,
) -> None:
    """Name the garment in each image with the network of the study's champion."""
    from fmnist_tuning import terminal
    from fmnist_tuning.prediction import Picture, Unread, config_of, name_garments, read_images
    from fmnist_tuning.store.registry import Registry

    best = Registry.existing(tracking_uri).champion(experiment)
    chosen = read_images(images, config_of(best), data_dir)
    unread = [image for image in chosen if isinstance(image, Unread)]
    pictures = [image for image in chosen if isinstance(image, Picture)]
    if not pictures:
        raise PictureError("\n".join(image.problem for image in unread))
    answers = name_garments(pictures, best, data_dir)
    if as_json:
        named = iter(answers)
        records = [image if isinstance(image, Unread) else next(named) for image in chosen]
        typer.echo(json.dumps([record.as_json() for record in records], indent=2))
    else:
        about = f"{best.run.name}, version {best.version}"
        terminal.facts(terminal.console(stderr=True), {"model": about})
        terminal.print_predictions(terminal.console(), answers)
        for answer in answers:
            if answer.typical is False:
                say(
                    f"{answer.image}: unlike all that the network has seen; do not trust it",
                    err=True,
                )
    for image in unread:
        say(f"error: {image.problem}", err=True)
    if unread:
        raise typer.Exit(1)
