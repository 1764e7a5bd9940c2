"""Studies of many runs: read completely, with a word on how far it is, and planned in few lines."""

import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console
from studies import six_experiments, sweep_of, write_study

from fmnist_tuning.plan_table import print_plan
from fmnist_tuning.reading import Reading
from fmnist_tuning.report.study import as_table, read_study
from fmnist_tuning.store import columns, records
from fmnist_tuning.store.bulk import unwatched
from fmnist_tuning.store.snapshot import Snapshot
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.plan import make_plan

GRID = """sweep: grid
title: A large grid
grid:
  dropout_rate: [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
  learning_rate: [0.001, 0.002, 0.003, 0.004, 0.005, 0.006, 0.007, 0.008, 0.009, 0.01]
  batch_size: [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192]
seeds: [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]
"""


@pytest.fixture
def study(migrated):
    """The six experiments, which are 40 runs."""
    uri = f"sqlite:///{migrated}"
    write_study(six_experiments(), uri)
    return Study.existing(tracking_uri=uri)


def planned(sweeps):
    return make_plan(sweeps, "digest", finished={}, stored={})


def printed(plan):
    """What `fmnist plan` prints, without the spaces that align it."""
    out = Console(file=io.StringIO(), width=120)
    print_plan(out, plan, workers=2)
    return [" ".join(line.split()) for line in out.file.getvalue().splitlines() if line.strip()]


class Clock:
    """Goes on by two seconds whenever it is asked."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        self.now += 2.0
        return self.now


def test_a_study_of_many_pages_is_read_completely(study, monkeypatch):
    """Runs and curves are the same whatever the pages are; later pages are larger."""
    whole = as_table(read_study(study))
    monkeypatch.setattr("fmnist_tuning.store.bulk._PAGE", 3)
    monkeypatch.setattr("fmnist_tuning.store.columns._CHUNK", 3)
    monkeypatch.setattr("fmnist_tuning.store.bulk._HISTORY_RUNS", 3)
    assert as_table(read_study(study)).equals(whole)
    assert len(whole) == 38


def test_a_long_read_says_how_far_it_is(study, monkeypatch):
    """In plain lines where no terminal is, and only after some seconds."""
    monkeypatch.setattr("fmnist_tuning.store.bulk._PAGE", 3)
    monkeypatch.setattr("fmnist_tuning.store.columns._CHUNK", 3)
    out = Console(file=io.StringIO(), width=120)
    runs = replace(study, watch=Reading(out, Clock())).finished_runs()
    lines = out.file.getvalue().splitlines()
    assert lines[0] == "reading runs: 6 so far"
    assert 1 < len(lines) < len(runs) / 3


def test_columns_are_what_the_client_reads(study):
    """Every run, in the same order, with all that records hold, whatever has happened to it."""
    client, runs = study.client, list(study.search("run", "status = 'FINISHED'"))
    first, second, third, fourth = (run.info.run_id for run in runs[:4])
    client.delete_run(first)
    client.set_terminated(second, "FAILED")
    client.log_metric(third, "strange", math.nan)
    client.set_tag(fourth, records.RETRAINS, third)
    client.set_tag(fourth, "of_a_person", "é \n")
    expected = [records.tracked_run(run) for run in study.search("run", "status = 'FINISHED'")]
    tag = (records.KIND, "run")
    found = columns.finished_runs(client, study.uri, study.experiment_id, tag, unwatched)
    assert list(map(repr, map(records.tracked_run, found))) == list(map(repr, expected))
    assert len(expected) == len(runs) - 2


def test_without_columns_the_client_reads(study, monkeypatch):
    """A newer MLflow may have others; a server shows none."""
    whole = study.finished_runs()
    monkeypatch.delattr("mlflow.store.tracking.dbmodels.models.SqlLatestMetric")
    tag = (records.KIND, "run")
    parts = (study.client, study.uri, study.experiment_id, tag, unwatched)
    assert columns.finished_runs(*parts) is None
    assert study.finished_runs() == whole


def test_a_short_read_says_nothing(study):
    """Nobody waits for it."""
    out = Console(file=io.StringIO(), width=120)
    replace(study, watch=Reading(out, lambda: 0.0)).finished_runs()
    assert not out.file.getvalue()


def test_a_terminal_shows_a_spinner(study):
    """It is gone when the read has ended, and quiet commands have none."""
    for quiet in (False, True):
        out = Console(file=io.StringIO(), width=120, force_terminal=True, quiet=quiet)
        replace(study, watch=Reading(out)).finished_runs()
        assert ("reading runs" in out.file.getvalue()) is not quiet


def test_a_snapshot_reads_once(study):
    """`plan` asks for the runs several times, and a large study takes long to read."""
    asked = []
    watch = Reading(Console(file=io.StringIO()))
    snapshot = Snapshot.of(replace(study, watch=lambda what: asked.append(what) or watch(what)))
    assert snapshot.finished_runs() is snapshot.finished_runs()
    assert snapshot.sweeps() is snapshot.sweeps()
    assert asked == ["runs", "runs"]


def test_a_large_plan_is_printed_by_sweep(tmp_path):
    """10,000 runs are a line, with what to do to see them all."""
    plan = planned([sweep_of(GRID, tmp_path)])
    assert printed(plan)[-3:] == [
        "grid 1,000 10,000 10,000",
        "10,000 runs make 10,000 trainings; no earlier run shows how long they take",
        "`fmnist plan --json` lists every run",
    ]
    assert len(json.loads(json.dumps(plan.as_json()))["runs"]) == 10_000


def test_of_many_sweeps_those_that_train_are_shown(tmp_path):
    """At most 200 of them; the others are counted."""
    text = "sweep: sNUMBER\ntitle: S\ngrid: {dropout_rate: [RATES]}\n"
    sweeps = [
        sweep_of(text.replace("NUMBER", f"{n:03}").replace("RATES", "0.1, 0.2"), tmp_path)
        for n in range(220)
    ]
    sweeps.append(sweep_of(text.replace("NUMBER", "999").replace("RATES", "0.3, 0.4"), tmp_path))
    lines = printed(planned(sweeps))
    assert [line.split()[0] for line in lines[2:4]] == ["s000", "s999"]
    assert "and 21 further sweeps" in lines


def test_a_small_plan_has_a_line_for_each_run(tmp_path):
    """As long as a person can read them."""
    text = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.1, 0.2]}\nseeds: [0, 1]\n"
    lines = printed(planned([sweep_of(text, tmp_path)]))
    assert [line.split()[0] for line in lines[2:6]] == ["1", "2", "3", "4"]
