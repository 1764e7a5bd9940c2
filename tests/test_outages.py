"""A store on PostgreSQL that is away for a while in mid-training: no epoch is lost or doubled."""

import os
import signal
import threading

import pytest
from conftest import TINY
from servers import Gate

from fmnist_tuning.data.files import find
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.running.engine import execute, plan_study
from fmnist_tuning.running.events import EpochEnded, Finished
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.reading import load_sweeps

SWEEP = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.5]}\n"
EPOCHS = 5
# Longer than the tests of every day.
SECONDS = float(os.environ.get("FMNIST_TEST_OUTAGE", "3"))


def seen_through(study, path, files, at_epoch, act):
    """Train a sweep; do something after an epoch of its first run, while the second is to come."""
    sweeps, acted = load_sweeps([path], TINY | {"epochs": EPOCHS}), False
    happened = []
    for event in execute(plan_study(sweeps, study, files.digest), study, files, jobs=1):
        happened.append(event)
        if isinstance(event, EpochEnded) and event.metrics.epoch == at_epoch and not acted:
            acted = True
            act()
    return happened


def assert_whole(study):
    """Two finished runs, with each metric of each epoch once, and nothing beside them."""
    found = [*study.search("run")]
    assert [run.info.status for run in found] == ["FINISHED"] * 2
    assert [run.info.status for run in study.search("sweep")] == ["FINISHED"]
    for run in found:
        for metric in EpochMetrics(1, 0.1, 0.1, 0.1, 0.1, 1.0, 1.0).metrics():
            history = study.client.get_metric_history(run.info.run_id, metric)
            assert [one.step for one in history] == list(range(1, EPOCHS + 1)), metric


@pytest.mark.slow
@pytest.mark.parametrize("way", ["server", "database"])
@pytest.mark.parametrize("outage", ["network", "database stopped", "database restarted", "frozen"])
def test_a_store_that_is_away(cluster, tiny_data, sweep_file, request, way, outage):
    """Waited for, over an MLflow server and without one; then the study is complete."""
    if (way, outage) == ("database", "frozen"):
        pytest.skip("there is no MLflow server on this way")
    gate = Gate(cluster.server if way == "server" else cluster.address.rpartition("/")[0])
    address = (
        gate.address
        if way == "server"
        else cluster.address.replace(str(cluster.port), gate.address.rpartition(":")[2])
    )
    study = Study.open(request.node.name, address)

    def act():
        match outage:
            case "network":
                gate.shut()
                threading.Timer(SECONDS, gate.open).start()
            case "database stopped":
                cluster.stop()
                threading.Timer(SECONDS, cluster.start).start()
            case "database restarted":
                cluster.restart()
            case "frozen":
                os.killpg(cluster.server_pid, signal.SIGSTOP)
                resume = (cluster.server_pid, signal.SIGCONT)
                threading.Timer(SECONDS, os.killpg, resume).start()

    happened = seen_through(study, sweep_file(SWEEP), find(tiny_data), 2, act)
    assert len([event for event in happened if isinstance(event, Finished)]) == 2
    assert_whole(study)
    gate.shut()


@pytest.mark.slow
def test_an_answer_that_is_lost(cluster, monkeypatch):
    """What was written and is sent again, is there once: on a server and on the database alone."""
    for number, address in enumerate((cluster.server, cluster.address)):
        study = Study.open(f"lost answers {number}", address)
        tracker = Tracker(study)
        run_id = tracker.start_run(
            "r", sweeps={"s": ""}, fingerprint="f", params={"a": "1"}, tags={}
        )
        log_batch = study.client.log_batch

        def twice(*arguments, log_batch=log_batch, **options):
            log_batch(*arguments, **options)
            log_batch(*arguments, **options)

        with monkeypatch.context() as patch:
            if number == 0:
                patch.setattr(study.client, "log_batch", twice)
            tracker.log_epoch(run_id, EpochMetrics(1, 0.5, 0.8, 0.4, float("nan"), 1.5, 1000.0))
        for metric in ("val_loss", "val_accuracy"):
            assert [m.step for m in study.client.get_metric_history(run_id, metric)] == [1]
        for _ in range(2):
            tracker.delete(run_id)
        assert tracker.is_deleted(run_id)


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
