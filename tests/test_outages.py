"""A store on PostgreSQL that is away for a while in mid-training: no epoch is lost or doubled."""

import os
import signal
import threading
from contextlib import closing
from dataclasses import replace

import pytest
from conftest import TINY
from servers import Gate

from fmnist_tuning.data.files import find
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running.engine import execute
from fmnist_tuning.running.events import EpochEnded, Finished, Resumed
from fmnist_tuning.running.planning import plan_study
from fmnist_tuning.running.pool import WorkerPool
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.reading import load_sweeps

SWEEP = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.5]}\n"
EPOCHS = 5
# Longer than the tests of every day.
SECONDS = float(os.environ.get("FMNIST_TEST_OUTAGE", "3"))


def execution(study, path, files):
    """The events of a sweep, planned and run as the command does."""
    plan = plan_study(load_sweeps([path], TINY | {"epochs": EPOCHS}), study, files.digest)
    with closing(WorkerPool([files], "auto", 1)) as pool:
        yield from execute(plan, study, files.digest, pool)


def assert_whole(study):
    """Two finished runs, with each metric of each epoch once, and nothing beside them."""
    found = [*study.search("run")]
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    assert [run.info.status for run in study.search("sweep")] == ["FINISHED"]
    for run in found:
        for metric in EpochMetrics(1, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0).metrics():
            history = study.client.get_metric_history(run.info.run_id, metric)
            assert [one.step for one in history] == list(range(1, EPOCHS + 1)), metric


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize(
    "outage",
    [
        "server: network",
        "server: frozen",
        "server: database stopped",
        "server: database restarted",
        "database alone: network",
        "database alone: stopped",
        "database alone: restarted",
    ],
)
def test_a_store_that_is_away(cluster, tiny_data, sweep_file, outage):
    """Waited for, over an MLflow server and without one; then the study is complete."""
    way, what = outage.split(": ")
    gate = Gate(cluster.server if way == "server" else cluster.address.rpartition("/")[0])
    address = (
        gate.address
        if way == "server"
        else cluster.address.replace(str(cluster.port), gate.address.rpartition(":")[2])
    )
    study = Study.open(outage, address)

    def act():
        match what.split()[-1]:
            case "network":
                gate.shut()
                threading.Timer(SECONDS, gate.open).start()
            case "stopped":
                cluster.stop()
                threading.Timer(SECONDS, cluster.start).start()
            case "restarted":
                cluster.restart()
            case "frozen":
                os.killpg(cluster.server_pid, signal.SIGSTOP)
                resume = (cluster.server_pid, signal.SIGCONT)
                threading.Timer(SECONDS, os.killpg, resume).start()

    events, happened = execution(study, sweep_file(SWEEP), find(tiny_data)), []
    for event in events:
        happened.append(event)
        if len([one for one in happened if isinstance(one, EpochEnded)]) == 2:
            act()
            break
    happened += events
    assert len([event for event in happened if isinstance(event, Finished)]) == 2
    assert_whole(study)
    gate.shut()


class Twice:
    """A client whose every call is made twice, as if the first answer had been lost."""

    def __init__(self, client):
        self._client = client

    def __getattr__(self, name):
        found = getattr(self._client, name)
        if not callable(found):
            return found

        def twice(*arguments, **options):
            found(*arguments, **options)
            return found(*arguments, **options)

        return twice


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("way", ["server", "address"])
def test_answers_that_are_lost(cluster, tiny_data, sweep_file, way):
    """Whatever is asked again is done once: no run, no sweep and no epoch is doubled."""
    study = Study.open(f"lost answers, {way}", getattr(cluster, way))
    study = replace(study, client=Twice(study.client))
    path, files = sweep_file(SWEEP), find(tiny_data)
    begun = execution(study, path, files)
    next(event for event in begun if isinstance(event, EpochEnded))
    begun.close()
    assert [event for event in execution(study, path, files) if isinstance(event, Resumed)]
    assert_whole(study)


@pytest.mark.parametrize(
    ("uri", "package"),
    [
        ("postgresql+psycopg://ada:s3cret@h/x", "psycopg[binary]"),
        ("mysql+pymysql://ada:s3cret@h/x", "pymysql"),
        ("mysql://ada:s3cret@h/x", "mysqlclient"),
    ],
)
def test_a_database_whose_package_is_missing(uri, package):
    """The message names what to install, and no password."""
    with pytest.raises(TrackingError) as caught:
        Study.open("study", uri)
    assert f"needs the Python package {package}; install it with `pip install" in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_database_that_does_not_answer():
    """One line at once, instead of minutes of tries."""
    pytest.importorskip("psycopg2")
    uri = "postgresql+psycopg2://ada:s3cret@127.0.0.1:9/x"
    with pytest.raises(TrackingError, match="Connection refused") as caught:
        Study.open("study", uri)
    assert "s3cret" not in str(caught.value)
