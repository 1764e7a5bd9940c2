"""The commands that take a study elsewhere."""

from dataclasses import replace

import typer

from fmnist_tuning import DEFAULT_STUDY, options
from fmnist_tuning.options import say


def export(
    file: options.StudyFile,
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Write a study's sweeps and finished runs to one file, for any other store; - is stdout."""
    from fmnist_tuning.files import write_whole
    from fmnist_tuning.reading import Reading
    from fmnist_tuning.store.study import Study
    from fmnist_tuning.terminal import console
    from fmnist_tuning.transfer.merge import export_study
    from fmnist_tuning.transfer.study_file import pack_study

    watch = Reading(console(stderr=True))
    exported = export_study(replace(Study.existing(experiment, tracking_uri), watch=watch))
    content = pack_study(exported.entries, compressed=file.suffix != ".jsonl")
    if to_stdout := str(file) in {"-", "/dev/stdout"}:
        typer.get_binary_stream("stdout").write(content)
    else:
        write_whole(file, content)
    for what in exported.left_out:
        say(f"left out: {what}", err=True)
    say(f"{file}: {exported}", err=to_stdout)


def import_(
    file: options.StudyFile,
    *,
    experiment: options.Experiment = DEFAULT_STUDY,
    tracking_uri: options.TrackingUri = None,
) -> None:
    """Add the sweeps and runs of such a file to a study; runs that it has stay as they are."""
    from fmnist_tuning.transfer.merge import import_study
    from fmnist_tuning.transfer.study_file import read_file

    say(import_study(read_file(file), experiment, tracking_uri))
