"""Several machines on one study: each has its own folder for locks; they share a server only."""

import io
import itertools
import json
import os
import random
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from conftest import TINY
from rich.console import Console

from fmnist_tuning.data.files import find
from fmnist_tuning.metrics import EpochMetrics
from fmnist_tuning.progress import follow
from fmnist_tuning.running.contest import Contest
from fmnist_tuning.running.engine import execute
from fmnist_tuning.running.events import Environment, EpochEnded, Reused, Waiting
from fmnist_tuning.running.ledger import Ledger
from fmnist_tuning.running.planning import plan_study
from fmnist_tuning.running.pool import WorkerPool
from fmnist_tuning.store import records
from fmnist_tuning.store.records import TrackedRun, UnfinishedRun
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.runs import runs_of

# More than once: how often the slow tests let machines collide.
COLLISIONS = int(os.environ.get("FMNIST_TEST_COLLISIONS", "5"))
COMMANDS = 8

ONE = "sweep: s\ntitle: S\narms: [{name: one}]\n"
USERS = {"s": "one"}
CPU = Environment("cpu", "a processor", 1, "2.9", "3.12")
EPOCH = EpochMetrics(1, 0.5, 0.8, 0.4, 0.85, 1.5, 1000.0)
OUTCOME = {
    "final_train_accuracy": 0.9,
    "final_val_accuracy": 0.8,
    "total_params": 1000.0,
    "train_seconds": 1.0,
}


@pytest.fixture(params=["server", pytest.param("on_postgres", marks=pytest.mark.long)])
def address(request):
    """A real MLflow server on SQLite, and one on PostgreSQL."""
    return request.getfixturevalue(request.param)


@pytest.fixture
def machines(tmp_path, monkeypatch):
    """Ledgers on one study, each as if on a machine of its own."""
    made = []

    def make(study, count, **options):
        for _ in range(count):
            folder = tmp_path / f"machine{len(made)}"
            folder.mkdir()
            monkeypatch.chdir(folder)
            made.append(Ledger(study, "digest", **({"force": False} | options)))
        return made[-count:]

    yield make
    for ledger in made:
        ledger.close("interrupted", store_failed=False)


@pytest.fixture
def runs(sweep_file):
    """As many different runs as asked for."""

    def of(count):
        (sweep,) = load_sweeps([sweep_file(ONE)], TINY, tuple(range(count)))
        return runs_of(sweep, "digest")

    return of


@pytest.fixture
def planned(server, sweep_file, tiny_data):
    """A study on a server, the plan of a training that would take long, and its images."""

    def plan(name):
        study, files = Study.open(name, server), find(tiny_data)
        sweeps = load_sweeps([sweep_file(ONE)], TINY | {"epochs": 2_000})
        return study, plan_study(sweeps, study, files.digest), files

    return plan


def finish(ledger, run):
    weights = ledger.files(run)[1]
    weights.parent.mkdir()
    weights.write_bytes(b"a network")
    ledger.finish(run, OUTCOME)


def statuses(study, run):
    """Of the runs with this fingerprint that are not in MLflow's trash."""
    query = f"tags.`{records.FINGERPRINT}` = '{run.fingerprint}'"
    return [found.info.status for found in study.search("run", query)]


@pytest.fixture
def collide(monkeypatch):
    """Lets machines claim a run when all have seen nobody else; each step may take some seconds."""
    slow, rng = {"seconds": 0.0}, random.Random(0)  # noqa: S311
    announce, together = Tracker.announce_run, []

    def all_at_once(*arguments, **options):
        if together:
            together[0].wait()
        return announce(*arguments, **options)

    def slowly(step):
        def do(*arguments):
            time.sleep(rng.uniform(0, slow["seconds"]))
            return step(*arguments)

        return do

    monkeypatch.setattr(Tracker, "announce_run", all_at_once)
    monkeypatch.setattr(Study, "attempts", slowly(Study.attempts))
    for step in ("claim_run", "close_run"):
        monkeypatch.setattr(Tracker, step, slowly(getattr(Tracker, step)))

    def claims(ledgers, run, seconds):
        slow["seconds"], together[:] = seconds, [threading.Barrier(len(ledgers))]
        with ThreadPoolExecutor(len(ledgers)) as pool:
            found = [*pool.map(lambda ledger: ledger.claim(run, USERS, CPU), ledgers)]
        slow["seconds"], together[:] = 0.0, []
        return found

    return claims


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 3])
def test_machines_that_begin_a_run_at_the_same_moment(address, machines, runs, collide, count):
    """Exactly one trains it; the others wait, and use its result. Whatever step is slow."""
    study = Study.open(f"{count} at the same moment", address)
    ledgers, winners = machines(study, count), []
    for number, run in enumerate(runs(COLLISIONS)):
        claims = collide(ledgers, run, (0.0, 0.02, 0.1)[number % 3])
        assert set(claims) <= {True, False}
        assert claims.count(True) <= 1, claims
        if True not in claims:  # the last one closed the others' runs, and had to give way
            claims = [ledger.claim(run, USERS, CPU) for ledger in ledgers]
            assert claims.count(True) == 1, claims
        winner = ledgers[claims.index(True)]
        winners.append(claims.index(True))
        for ledger in ledgers:
            if ledger is not winner:
                assert ledger.claim(run, USERS, CPU) is False
        assert statuses(study, run) == ["RUNNING"]
        finish(winner, run)
        for ledger in ledgers:
            reused = ledger.claim(run, USERS, CPU)
            assert isinstance(reused, TrackedRun), reused
        assert statuses(study, run) == ["FINISHED"]
    print(f"{len(winners)} collisions of {count} machines; winners:", *winners)  # noqa: T201


class Store:
    """What a contest asks of a store, answered step by step as a schedule says."""

    def __init__(self, schedule):
        self.runs, self.turn = {}, threading.Condition()
        self.schedule, self.ended = list(schedule), set()

    def step(self, who):
        """Wait for one's turn; those who have ended are passed over."""
        self.turn.wait_for(lambda: self._next() in {who, None})
        if self.schedule:
            self.schedule.pop(0)

    def _next(self):
        while self.schedule and self.schedule[0] in self.ended:
            self.schedule.pop(0)
        return self.schedule[0] if self.schedule else None


class Machine:
    """The same store as one machine sees it: in place of a `Study` and of a `Tracker`."""

    def __init__(self, store, who, run_id):
        self.store, self.who, self.own = store, who, run_id

    def _step(self, act):
        with self.store.turn:
            self.store.step(self.who)
            found = act()
            self.store.turn.notify_all()
            return found

    def announce_run(self, *_, **__):
        return self._step(lambda: self.store.runs.setdefault(self.own, "open") and self.own)

    def attempts(self, _):
        return self._step(
            lambda: (
                [
                    UnfinishedRun(id_, "n", "run", "f", "RUNNING", id_, "", {}, claim)
                    for id_, claim in self.store.runs.items()
                ],
                False,
            )
        )

    def _decide(self, run_id, claim):
        if self.store.runs.get(run_id) == "open":
            self.store.runs[run_id] = claim
        return self.store.runs.get(run_id) == claim

    def claim_run(self, run_id, *_):
        return self._step(lambda: self._decide(run_id, "claimed"))

    def close_run(self, run_id, _):
        return self._step(lambda: self._decide(run_id, "closed") or run_id not in self.store.runs)

    def end_run(self, *_):
        pass

    def delete(self, run_id):
        self._step(lambda: self.store.runs.pop(run_id, None))


def trained(run, schedule, ids):
    """Who trains a run, if everybody's steps come in this order."""
    store = Store(schedule)
    winners = []

    def go(who):
        machine = Machine(store, who, ids[who])
        contest = Contest(machine, machine, force=False)
        won = contest.start(run, USERS, {records.OWNER: ids[who]}, [])
        with store.turn:
            store.ended.add(who)
            if won:
                winners.append(who)
            store.turn.notify_all()

    threads = [threading.Thread(target=go, args=(who,)) for who in range(len(ids))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
        assert not thread.is_alive(), schedule
    return winners


def test_every_order_of_two_machines_steps(runs):
    """Whatever comes first, one of the two trains."""
    (run,) = runs(1)
    for places in itertools.combinations(range(8), 4):
        schedule = [0 if place in places else 1 for place in range(8)]
        for ids in ("ab", "ba"):
            assert len(trained(run, schedule, ids)) == 1, (schedule, ids)


def test_orders_of_three_machines_steps(runs):
    """One of the three trains, or none if the last one closed the others and had to give way."""
    (run,) = runs(1)
    rng = random.Random(0)  # noqa: S311
    counts = []
    for _ in range(150):
        schedule = [0, 1, 2] * 5
        rng.shuffle(schedule)
        counts.append(len(trained(run, schedule, rng.sample("abc", 3))))
    assert max(counts) == 1
    assert counts.count(1) > 130


@pytest.mark.long
@pytest.mark.slow
def test_eight_commands_at_once(on_postgres, tmp_path, tiny_data, sweep_file):
    """As if on eight machines: every run is trained exactly once, and every command has all."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.2, 0.4, 0.6]}\n")
    settings = [f"--set={key}={value}" for key, value in (TINY | {"epochs": 1}).items()]
    command = ["run", path, *settings, "--jobs=1", "--experiment=eight", "--json"]
    processes = []
    for number in range(COMMANDS):
        folder = tmp_path / f"machine{number}"
        folder.mkdir()
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "fmnist_tuning", *command],
                cwd=folder,
                env={
                    **os.environ,
                    "FMNIST_DATA_DIR": str(tiny_data),
                    "MLFLOW_TRACKING_URI": on_postgres,
                },
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    said = [process.communicate(timeout=280) for process in processes]
    assert [process.returncode for process in processes] == [0] * COMMANDS, said
    study = Study.existing("eight", on_postgres)
    trained = [line for _, err in said for line in err.splitlines() if line.endswith(": started")]
    assert len(set(trained)) == len(trained) == 4, trained
    found = [*study.search("run")]
    assert [run.info.status for run in found] == ["FINISHED"] * 4
    assert len({run.data.tags[records.FINGERPRINT] for run in found}) == 4
    assert [run.info.status for run in study.search("sweep")] == ["FINISHED"]
    for out, _ in said:  # each has the results of all
        accuracies = {one["fingerprint"]: one["metrics"]["final_val_accuracy"]
                      for one in json.loads(out)}  # fmt: skip
        assert accuracies == {
            run.data.tags[records.FINGERPRINT]: run.data.metrics["final_val_accuracy"]
            for run in found
        }
    for run in found:
        history = study.client.get_metric_history(run.info.run_id, "val_loss")
        assert [metric.step for metric in history] == [1]


@pytest.mark.long
@pytest.mark.slow
def test_machines_that_begin_a_broken_run(server, machines, runs, collide, tmp_path):
    """One has its checkpoint and goes on in the same MLflow run, if it is the one that trains."""
    study = Study.open("broken runs", server)
    machines(study, 1)
    went_on = []
    for run in runs(4):
        os.chdir(tmp_path / "machine0")
        first = Ledger(study, "digest", force=False)
        assert first.claim(run, USERS, CPU) is True
        first.log_epoch(run, EPOCH)
        checkpoint = first.files(run)[0]
        checkpoint.write_bytes(b"a checkpoint")
        first.close("interrupted", store_failed=False)
        assert statuses(study, run) == ["KILLED"]
        again = Ledger(study, "digest", force=False)
        ledgers = [again, *machines(study, 1)]
        claims = collide(ledgers, run, 0.02)
        while True not in claims:
            claims = [ledger.claim(run, USERS, CPU) for ledger in ledgers]
        assert claims.count(True) == 1
        assert statuses(study, run).count("RUNNING") == 1
        winner = ledgers[claims.index(True)]
        went_on.append(winner.files(run)[0] == checkpoint)
        assert went_on[-1] == (winner is again)
        finish(winner, run)
        assert statuses(study, run) == ["FINISHED"]
        for ledger in ledgers:
            ledger.close("interrupted", store_failed=False)
    assert len(went_on) == 4


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("noticed", ["while the other trains", "when the other has finished"])
def test_a_command_that_was_silent_for_too_long(machines, planned, monkeypatch, noticed):
    """Another machine takes its run over; it notices, stops training, and uses the result."""
    study, plan, files = planned(f"silent, noticed {noticed}")
    run, happened, others = plan.rows[0].run, [], []

    def take_over():
        others[:] = (other,) = machines(study, 1)
        with monkeypatch.context() as patch:
            patch.setattr("fmnist_tuning.running.locks._SILENT_SECONDS", 0.1)
            assert other.claim(run, USERS, CPU) is False  # it hears of the run for the first time
            time.sleep(0.2)
            assert other.claim(run, USERS, CPU) is True
        if noticed == "while the other trains":
            monkeypatch.setattr("fmnist_tuning.running.ledger.HEARTBEAT_SECONDS", 0.1)
        else:
            finish(other, run)

    def happening():
        with closing(WorkerPool([files], "auto", 1)) as pool:
            for event in execute(plan, study, files.digest, pool):
                yield event
                if isinstance(event, EpochEnded) and EpochEnded not in happened:
                    take_over()
                if isinstance(event, Waiting) and noticed == "while the other trains":
                    finish(others[0], run)
                happened.append(type(event))

    text = io.StringIO()
    results = follow(Console(file=text, force_terminal=True, width=200), plan, happening())
    assert happened[-2:] == [Waiting, Reused]
    assert "another command trains it; waiting for its result" in text.getvalue()
    assert results.fingerprints == {run.fingerprint}
    assert not results.failed
    assert statuses(study, run) == ["FINISHED"]


@pytest.mark.slow
def test_a_command_that_dies_as_it_begins_a_run(server, machines, runs, monkeypatch):
    """Its run is open; the next machine closes it, so it stays out even if it only slept."""
    study, (run,) = Study.open("dies", server), runs(1)
    (other,), tracker = machines(study, 1), Tracker(study)
    tags = {records.OWNER: "a" * 32}
    asleep = tracker.announce_run("r", sweeps=USERS, fingerprint=run.fingerprint, tags=tags)
    assert other.claim(run, USERS, CPU) is False
    monkeypatch.setattr("fmnist_tuning.running.locks._SILENT_SECONDS", 0.1)
    time.sleep(0.2)
    assert other.claim(run, USERS, CPU) is True
    assert tracker.claim_run(asleep, run.config.params(), tags) is False
    finish(other, run)
    assert statuses(study, run) == ["FINISHED"]


@pytest.mark.long
@pytest.mark.slow
def test_runs_of_a_new_study_that_begin_at_the_same_moment(address, machines, runs, monkeypatch):
    """Each machine trains its own, though MLflow makes their common data set only once."""
    study = Study.open("all begin", address)
    ledgers, together, log = machines(study, 4), threading.Barrier(4), study.client.log_inputs
    first = threading.local()

    def all_at_once(*arguments, **options):
        if not hasattr(first, "over"):
            first.over = True
            together.wait()
        log(*arguments, **options)

    monkeypatch.setattr(study.client, "log_inputs", all_at_once)
    mine = runs(4)
    with ThreadPoolExecutor(4) as pool:
        claims = [*pool.map(lambda ledger, run: ledger.claim(run, USERS, CPU), ledgers, mine)]
    assert claims == [True] * 4
    for run in study.search("run"):
        (used,) = study.client.get_run(run.info.run_id).inputs.dataset_inputs
        assert used.dataset.digest == "digest"


@pytest.mark.long
@pytest.mark.slow
@pytest.mark.parametrize("count", [2, 4])
def test_machines_that_begin_a_sweep_at_the_same_moment(
    server, machines, sweep_file, monkeypatch, count
):
    """It has one run of its own in MLflow, which all of them use."""
    study = Study.open(f"{count} begin a sweep", server)
    (sweep,) = load_sweeps([sweep_file(ONE)], TINY)
    ledgers, together = machines(study, count), threading.Barrier(count)
    look, looked = Study.sweep_run, set()

    def all_look_first(*arguments):
        found = look(*arguments)
        if threading.get_ident() not in looked:
            looked.add(threading.get_ident())
            together.wait()
        return found

    monkeypatch.setattr(Study, "sweep_run", all_look_first)
    with ThreadPoolExecutor(count) as pool:
        [*pool.map(lambda ledger: ledger.sweeps.begin(sweep), ledgers)]
    for ledger in ledgers:  # one whose run was deleted uses the other one from then on
        ledger.sweeps.end(sweep, "FINISHED")
    assert [run.info.status for run in study.search("sweep")] == ["FINISHED"]
    assert study.definitions(["s"]) == {"s": sweep}
