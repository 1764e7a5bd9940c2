"""Accidents, each with the promise that must be kept: nothing lost, nothing trained twice."""

import json
import multiprocessing
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import threading
import time
from contextlib import closing, contextmanager, suppress
from functools import partial

import pytest
import torch
from conftest import TINY
from servers import Gate

from fmnist_tuning.data.files import find
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.running.engine import execute
from fmnist_tuning.running.events import (
    Abandoned,
    EpochEnded,
    Failed,
    Finished,
    Ready,
    Restarted,
    Resumed,
    Reused,
    Started,
    Waiting,
)
from fmnist_tuning.running.ledger import Ledger
from fmnist_tuning.running.locks import RunLocks
from fmnist_tuning.running.planning import plan_study
from fmnist_tuning.running.pool import WorkerPool
from fmnist_tuning.store.records import UnfinishedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.reading import load_sweeps

SWEEP = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.5]}\n"
ONE = "sweep: s\ntitle: S\narms: [{name: one}]\n"
SETTINGS = TINY | {"epochs": 4}
DECISIVE = ("train_loss", "train_accuracy", "val_loss", "val_accuracy")
# More than once: how often the slow test kills a study.
KILLS = int(os.environ.get("FMNIST_KILLS", "3"))


@pytest.fixture
def study(migrated):
    return Study.open("study", f"sqlite:///{migrated}")


def execution(sweeps, study, files, *, jobs=None, **options):
    """The events of sweeps, planned and run as the command does."""
    plan = plan_study(sweeps, study, files.digest)
    with closing(WorkerPool([files], "auto", jobs)) as pool:
        yield from execute(plan, study, files.digest, pool, **options)


@pytest.fixture
def begun(tiny_data, sweep_file):
    """Begins a sweep in a study; gives the generator of its events."""

    def begin(study, text=SWEEP, settings=SETTINGS, **options):
        sweeps = load_sweeps([sweep_file(text)], settings)
        return execution(sweeps, study, find(tiny_data), **({"jobs": 1} | options))

    return begin


@pytest.fixture
def events(begun, study):
    """The same in the test's study."""
    return partial(begun, study)


def of(kind, happened):
    return [event for event in happened if isinstance(event, kind)]


def break_off(happened, after_epoch):
    """Stop listening once an epoch is there, as an interrupted command does."""
    next(e for e in happened if isinstance(e, EpochEnded) and e.metrics.epoch == after_epoch)
    happened.close()


def client(study):
    from mlflow import MlflowClient

    return MlflowClient(study.uri)


def runs(study):
    return client(study).search_runs([study.experiment_id], "tags.`fmnist.kind` = 'run'")


def numbers(study):
    """Every decisive value of every finished run, step by step, doubled ones included."""
    return {
        run.data.tags["fmnist.fingerprint"]: {
            "curves": [
                sorted(
                    [m.step, m.value] for m in client(study).get_metric_history(run.info.run_id, k)
                )
                for k in DECISIVE
            ],
            "outcome": {
                key: run.data.metrics[key]
                for key in ("final_train_loss", "final_val_accuracy", "epochs_to_80", "best_epoch")
                if key in run.data.metrics
            },
        }
        for run in runs(study)
        if run.info.status == "FINISHED"
    }


@pytest.fixture(scope="session")
def unbroken(made_once, tiny_data, blank_store):
    """The numbers of the sweep without any accident."""

    def make(folder):
        shutil.copy(blank_store, folder / "mlflow.db")
        (folder / "sweep.yaml").write_text(SWEEP, encoding="utf-8")
        study = Study.open("study", f"sqlite:///{folder}/mlflow.db")
        sweeps = load_sweeps([folder / "sweep.yaml"], SETTINGS)
        list(execution(sweeps, study, find(tiny_data), jobs=1))
        (folder / "numbers.json").write_text(json.dumps(numbers(study)))

    return json.loads((made_once("unbroken", make) / "numbers.json").read_text())


def checkpoints(study):
    """The whole ones: a worker that is killed while it writes leaves a part under another name."""
    return sorted(path.name for path in study.state_folder.glob("*.pt"))


def assert_whole(study, unbroken):
    """As if nothing had happened."""
    assert numbers(study) == unbroken
    statuses = [run.info.status for run in runs(study)]
    assert statuses.count("FINISHED") == len(unbroken)
    assert "RUNNING" not in statuses
    assert [*study.state_folder.glob("*.pt*")] == []


def test_a_broken_run_goes_on(events, study, unbroken):
    """From its last whole epoch, in the same MLflow run, to the numbers of an unbroken one."""
    break_off(events(), after_epoch=2)
    (broken,) = runs(study)
    assert broken.info.status == "KILLED"
    assert checkpoints(study) == [f"{broken.info.run_id}.pt"]
    (checkpoint,) = study.state_folder.glob("*.pt")
    # The worker may end another epoch before it is stopped.
    whole = len(torch.load(checkpoint, weights_only=True)["history"])
    assert whole >= 2
    happened = list(events())
    assert [(e.run.name, e.epochs) for e in of(Resumed, happened)] == [
        ("dropout_rate=0.0 seed=0", whole)
    ]
    assert broken.info.run_id in {run.info.run_id for run in runs(study)}
    assert len(runs(study)) == 2
    assert_whole(study, unbroken)
    finished = client(study).get_run(broken.info.run_id)
    assert "fmnist.reason" not in finished.data.tags
    assert "mlflow.note.content" not in finished.data.tags


def test_a_broken_run_that_another_sweep_takes_up(events, study):
    """It belongs to both from then on."""
    break_off(events(ONE), after_epoch=2)
    assert of(Resumed, list(events(ONE.replace("sweep: s", "sweep: t"))))
    (run,) = study.finished_runs().values()
    assert run.sweeps == ("s", "t")


def test_an_epoch_that_the_store_did_not_get(events, study, unbroken):
    """A kill between checkpoint and store loses no step; the checkpoint holds its metrics."""
    break_off(events(), after_epoch=2)
    with sqlite3.connect(study.uri.removeprefix("sqlite:///")) as database:
        database.execute("delete from metrics where step = 2")
    list(events())
    assert_whole(study, unbroken)


@pytest.mark.parametrize("damage", ["cut", "empty", "another network's", "no archive"])
def test_a_checkpoint_that_cannot_be_used(events, study, unbroken, damage):
    """Set aside with a line; that run starts over, and no step is doubled."""
    break_off(events(), after_epoch=2)
    (path,) = study.state_folder.glob("*.pt")
    content = path.read_bytes()
    if damage == "another network's":
        break_off(events(ONE, SETTINGS | {"fc_units": [17]}), after_epoch=1)
        (other,) = set(study.state_folder.glob("*.pt")) - {path}
        content = other.read_bytes()
        other.unlink()
    else:
        content = {"cut": content[:-100], "empty": b"", "no archive": b"\x80\x02rubbish"}[damage]
    path.write_bytes(content)
    (restarted,) = of(Restarted, list(events()))
    assert restarted.reason.startswith("its checkpoint is damaged (")
    assert restarted.reason.endswith(f": set aside as {path.with_suffix('.damaged')}")
    assert path.with_suffix(".damaged").read_bytes() == content
    assert numbers(study).items() >= unbroken.items()
    assert checkpoints(study) == []


def test_a_checkpoint_of_another_kind_of_device(events, study, unbroken):
    """Half a training on each would have the numbers of neither: a run of its own."""
    break_off(events(), after_epoch=2)
    (broken,) = runs(study)
    client(study).set_tag(broken.info.run_id, "fmnist.device", "cuda")
    assert not of(Resumed, list(events()))
    assert numbers(study) == unbroken
    assert client(study).get_run(broken.info.run_id).info.status == "KILLED"


def test_a_worker_that_died_is_no_loss(events, study, unbroken):
    """Its run is FAILED and the others go on; the next command takes it up where it was."""
    happened = []
    for event in events():
        happened.append(event)
        if isinstance(event, EpochEnded) and len(of(EpochEnded, happened)) == 2:
            (worker,) = multiprocessing.active_children()
            os.kill(worker.pid, signal.SIGKILL)
    (failed,) = of(Failed, happened)
    assert failed.reason == "its worker process was ended by SIGKILL (out of memory?)"
    assert len(of(Finished, happened)) == 1
    (resumed,) = of(Resumed, list(events()))
    assert resumed.epochs >= 2
    assert_whole(study, unbroken)


@pytest.mark.slow
def test_paused_runs_go_on(begun, events, study):
    """Broken off while three take turns on two workers: all three go on, to the same numbers."""
    text, settings = SWEEP.replace("0.5]", "0.5, 0.9]"), SETTINGS | {"epochs": 12}
    happened, names = events(text, jobs=2, settings=settings), set()
    while len(names) < 3:
        event = next(happened)
        names |= {event.run.name} if isinstance(event, EpochEnded) else set()
    happened.close()
    assert [run.info.status for run in runs(study)] == ["KILLED"] * 3
    assert len(checkpoints(study)) == 3
    happened = list(events(text, jobs=2, settings=settings))
    assert len(of(Resumed, happened)) == len(of(Finished, happened)) == len(runs(study)) == 3
    alone = Study.open("alone", study.uri)
    list(begun(alone, text, settings))
    assert_whole(study, numbers(alone))


def test_a_run_that_fails_by_itself_starts_over(events, study):
    """Its checkpoint would only lead to the same end."""
    bad = "sweep: s\ntitle: S\narms: [{name: bad, learning_rate: 1.0e+30}]\n"
    assert of(Failed, list(events(bad)))
    assert checkpoints(study) == []
    assert not of(Resumed, list(events(bad)))


def test_fail_fast(events, study):
    """The first failure ends the plan: the others are KILLED or never begun, and can go on."""
    bad = "sweep: s\ntitle: S\ngrid: {learning_rate: [1.0e+30, 0.001, 0.002]}\n"
    happened = list(events(bad, fail_fast=True))
    assert len(of(Failed, happened)) == 1
    assert not of(Finished, happened)
    assert [run.info.status for run in runs(study)] == ["FAILED"]
    assert len(of(Finished, list(events(bad)))) == 2


def test_a_run_that_nobody_trains_any_more(events, study):
    """RUNNING in the store and not in the plan: marked KILLED, and said; sweeps likewise."""
    own = {"fmnist.kind": "run", "fmnist.fingerprint": "0" * 16, "fmnist.owner": "a" * 32}
    dead = client(study).create_run(study.experiment_id, run_name="old", tags=own)
    assert [event.name for event in of(Abandoned, events(ONE))] == ["old"]
    assert not of(Abandoned, events(ONE))
    ended = client(study).get_run(dead.info.run_id)
    assert ended.info.status == "KILLED"
    assert ended.data.tags["fmnist.reason"] == "its process stopped unexpectedly"


@pytest.fixture
def asked(monkeypatch):
    """Calls a function once, right after the store has answered its nth question."""

    def after(nth, act):
        search, calls = Study.search, iter(range(1, 100))

        def answer(*arguments):
            found = [*search(*arguments)]
            if next(calls) == nth:
                act()
            return iter(found)

        monkeypatch.setattr(Study, "search", answer)

    return after


@pytest.mark.parametrize("nth", range(1, 5))
def test_a_run_that_ends_while_another_command_asks(begun, study, asked, nth):
    """Wherever between its questions that is: it is neither trained again nor taken for dead."""
    first = begun(study, ONE)
    ready = next(event for event in first if isinstance(event, Ready))
    run = next(event.run for event in first if isinstance(event, Started))
    other = Ledger(study, "", force=False)
    asked(nth, lambda: list(first))
    assert [*other.bury_the_dead([], [])] == []
    assert other.claim(run, {"s": "one"}, ready.environment) is not True
    list(first)
    assert [run.info.status for run in runs(study)] == ["FINISHED"]
    other.close("interrupted", store_failed=False)


def test_a_run_that_another_command_takes_up_is_not_buried(begun, study, asked):
    """A dead command's run, taken up right after it was listed as dead."""
    break_off(begun(study, ONE), after_epoch=1)
    (run,) = runs(study)
    client(study).update_run(run.info.run_id, status="RUNNING")
    client(study).set_tag(run.info.run_id, "fmnist.owner", "a" * 32)
    alive = RunLocks(study.state_folder, local=True)
    asked(1, lambda: client(study).set_tag(run.info.run_id, "fmnist.owner", alive.owner))
    other = Ledger(study, "", force=False)
    assert run.info.run_name not in [*other.bury_the_dead([], [])]
    assert client(study).get_run(run.info.run_id).info.status == "RUNNING"
    other.close("interrupted", store_failed=False)
    alive.close()


def test_whose_command_lives(tmp_path):
    """A lock tells, however its holder ended; without a trace of it, a local run is dead."""
    ours, theirs = RunLocks(tmp_path, local=True), RunLocks(tmp_path, local=True)
    run = UnfinishedRun("r", "n", "run", "f", "RUNNING", theirs.owner, "", {})
    assert ours.alive(run)
    theirs.close()
    assert not ours.alive(run)
    for owner in ("", "../../x", "A" * 32):
        assert not ours.alive(UnfinishedRun("r", "n", "run", "f", "RUNNING", owner, "", {}))
    ours.close()
    assert not list(tmp_path.glob("[0-9a-f]*.lock"))


def test_heartbeats_from_another_machine(tmp_path):
    """What counts is that they change: a clock set back or ahead, here or there, kills nobody."""
    now = 1000.0
    locks = RunLocks(tmp_path, local=False, clock=lambda: now)

    def alive(heartbeat, run="r", owner="b"):
        return locks.alive(
            UnfinishedRun(run, "n", "run", "f", "RUNNING", owner * 32, heartbeat, {})
        )

    def pass_time(seconds):
        nonlocal now
        for _ in range(seconds):
            now += 1
            locks.listen()  # as a command does while it trains

    assert alive("9999999999")  # their clock is centuries ahead
    pass_time(40)
    assert alive("0")  # and was set back
    pass_time(40)
    assert alive("0")
    pass_time(40)
    assert not alive("0")
    assert alive("20")
    pass_time(80)
    assert not alive("20")
    assert alive("20", owner="c")  # another command has taken the run up
    assert alive("", "another")  # perhaps it has only just begun
    pass_time(80)
    assert not alive("", "another")
    now += 80  # the store was away, or this machine slept
    assert alive("", "another")  # so nobody could be heard
    pass_time(80)
    assert not alive("", "another")
    locks.close()


def arguments(path, epochs=4, study="study"):
    settings = [f"--set={key}={value}" for key, value in (TINY | {"epochs": epochs}).items()]
    return ["run", path, *settings, "--jobs=1", f"--experiment={study}"]


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_twice(start_fmnist, sweep_file, study, interruption):
    """The second one does not wait for anything, and leaves no process behind."""
    process = start_fmnist(*arguments(sweep_file(SWEEP), epochs=500))
    next(line for line in process.stderr if "epoch 2/" in line)
    children = subprocess.run(
        ["pgrep", "-g", str(process.pid)], capture_output=True, text=True, check=False
    ).stdout.split()
    assert len(children) >= 2
    with sqlite3.connect(study.uri.removeprefix("sqlite:///"), isolation_level=None) as database:
        database.execute("begin exclusive")  # so that a clean end has to wait
        os.killpg(process.pid, interruption)
        time.sleep(0.5)
        started = time.monotonic()
        os.killpg(process.pid, interruption)
        process.communicate(timeout=10)
        assert time.monotonic() - started < 5
    assert process.returncode == -interruption
    deadline = time.monotonic() + 10
    while subprocess.run(
        ["pgrep", "-g", str(process.pid)], check=False, capture_output=True
    ).stdout:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.mark.slow
def test_kill_9_at_random_moments(start_fmnist, fmnist_here, sweep_file, study, unbroken):
    """The whole process group, again and again; then one more command, and nothing shows."""
    path = sweep_file(SWEEP)
    rng = random.Random(0)  # noqa: S311
    for _ in range(KILLS):
        process = start_fmnist(*arguments(path))
        process.stderr.readline()  # it has imported what it needs
        time.sleep(rng.uniform(0, 3))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    done = fmnist_here(*arguments(path))
    assert done.returncode == 0, done.stderr
    assert_whole(study, unbroken)


@pytest.mark.slow
def test_two_commands_at_once(start_fmnist, sweep_file, study, unbroken):
    """Each run is trained by one of them, and both end with all results."""
    path = sweep_file(SWEEP)
    both = [start_fmnist(*arguments(path)) for _ in range(2)]
    said = [process.communicate(timeout=100) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert sum(text.count(": started") for _, text in said) == 2
    assert len([*study.search("sweep")]) == 1
    assert_whole(study, unbroken)


@pytest.fixture
def impatient(study):
    """The study, through a URI that lets SQLite wait for a lock for one second, and not for five.

    MLflow tries four times, whatever a try takes.
    """
    return Study.open("study", f"{study.uri}?timeout=1")


@contextmanager
def locked(study):
    """Nobody else can read or write the store."""
    path = study.uri.removeprefix("sqlite:///")
    with closing(sqlite3.connect(path, isolation_level=None, check_same_thread=False)) as database:
        database.execute("begin exclusive")
        yield database


@pytest.mark.slow
def test_a_database_that_is_locked_for_a_while(begun, study, impatient, unbroken):
    """For longer than one try takes, in mid-run: waited for."""
    happened = begun(impatient)
    seen = [next(e for e in happened if isinstance(e, EpochEnded))]
    with locked(study) as database:
        threading.Timer(2.5, database.rollback).start()
        seen += list(happened)
    assert len(of(Finished, seen)) == 2
    assert_whole(study, unbroken)


@pytest.mark.long
@pytest.mark.slow
def test_a_database_that_is_locked_for_good(begun, study, impatient, unbroken):
    """After a few tries one error that says how to go on; then the same command does."""
    happened = begun(impatient)
    next(e for e in happened if isinstance(e, EpochEnded) and e.metrics.epoch == 2)
    with locked(study):
        with pytest.raises(TrackingError, match="database is locked") as caught:
            list(happened)
        assert str(caught.value).endswith("run the same command to continue")
    assert of(Resumed, list(begun(impatient)))[0].epochs >= 2
    assert_whole(study, unbroken)


@pytest.fixture
def remote(server, request):
    """A server that can be away, and a study of the test's own on it."""
    gate = Gate(server)
    yield gate, Study.open(request.node.name, gate.address)
    gate.shut()


@pytest.mark.slow
def test_a_server_that_is_away(begun, remote, unbroken):
    """For some seconds in mid-run: waited for, no step lost."""
    gate, study = remote
    happened = begun(study)
    seen = [next(e for e in happened if isinstance(e, EpochEnded) and e.metrics.epoch == 3)]
    gate.shut()
    threading.Timer(3, gate.open).start()
    seen += list(happened)
    assert len(of(Finished, seen)) == 2
    assert_whole(study, unbroken)


@pytest.mark.slow
def test_a_server_that_is_gone(start_fmnist, fmnist_here, sweep_file, remote, unbroken):
    """Exit code 2 and how to go on; the checkpoint stands, and the next command goes on from it."""
    gate, study = remote
    command = (*arguments(sweep_file(SWEEP), study=study.name), f"--tracking-uri={study.uri}")
    process = start_fmnist(*command, env={"MLFLOW_HTTP_REQUEST_MAX_RETRIES": "1"})
    next(line for line in process.stderr if "epoch 2/" in line)
    gate.shut()
    _, rest = process.communicate(timeout=60)
    assert process.returncode == 2, rest
    assert "finished epochs are kept" in rest.splitlines()[-1]
    assert "run the same command to continue" in rest.splitlines()[-1]
    gate.open()
    done = fmnist_here(*command)
    assert done.returncode == 0, done.stderr
    assert "continues after epoch " in done.stderr
    assert "waiting" not in done.stderr  # its lock tells that the first command is no more
    assert_whole(study, unbroken)


@contextmanager
def disk(folder, size):
    """A disk of its own on a folder, with room for little."""
    folder.mkdir(exist_ok=True)
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(folder)]
    if subprocess.run(mount, check=False, capture_output=True).returncode:
        pytest.skip("needs the right to mount a tmpfs")
    try:
        yield folder
    finally:
        subprocess.run(["umount", str(folder)], check=True)


@pytest.fixture
def small_disk(study):
    """The checkpoints on a disk of their own."""
    with disk(study.state_folder, "192k") as folder:
        yield folder


def test_no_room_for_an_artefact(events, study, migrated):
    """Said before anything is trained; with room, the same command does all of it."""
    with disk(migrated.parent / "mlruns", "1m") as folder:
        (folder / "other").write_bytes(b"x" * 2**20)
        with pytest.raises(TrackingError, match="No space left on device"):
            list(events())
        assert not runs(study)
        (folder / "other").unlink()
        assert len(of(Finished, events())) == 2
    statuses = [run.info.status for run in client(study).search_runs([study.experiment_id])]
    assert statuses == ["FINISHED"] * 3


def test_no_room_for_a_network(events, study, unbroken, migrated):
    """The command ends with the reason; with room, the next has only the network left to keep."""
    with disk(migrated.parent / "mlruns", "1m") as folder:
        (folder / "other").write_bytes(b"x" * (2**20 - 16_384))
        with pytest.raises(
            TrackingError, match=r"No space left on device.*finished epochs are kept"
        ):
            list(events())
        (folder / "other").unlink()
        happened = list(events())
        assert of(Resumed, happened)[0].epochs == SETTINGS["epochs"]
        assert_whole(study, unbroken)


def test_a_full_disk(events, study, unbroken, small_disk):
    """The run is FAILED with that reason, the last good checkpoint survives, and room heals it."""
    happened = []
    for event in events():
        happened.append(event)
        if isinstance(event, EpochEnded) and len(of(EpochEnded, happened)) == 1:
            free = os.statvfs(small_disk).f_bavail * os.statvfs(small_disk).f_bsize
            with suppress(OSError):  # the worker may have taken some of it meanwhile
                (small_disk / "other").write_bytes(b"x" * max(free - 4096, 1))
    failures = of(Failed, happened)
    assert len(failures) == 2
    assert "cannot be written: No space left on device; the last good checkpoint is kept" in (
        failures[0].reason
    )
    assert len(checkpoints(study)) >= 1
    (small_disk / "other").unlink()
    subprocess.run(["mount", "-o", "remount,size=4m", str(small_disk)], check=True)
    happened = list(events())
    assert of(Resumed, happened)[0].epochs >= 1
    assert_whole(study, unbroken)


def test_what_is_finished_is_not_begun(events, study):
    """The second command of the same sweep reuses, and leaves no lock behind."""
    list(events())
    happened = list(events())
    assert len(of(Reused, happened)) == 2
    assert not of(Started, happened)
    assert not of(Waiting, happened)
    assert [path.name for path in study.state_folder.iterdir()] == ["claims.lock"]
