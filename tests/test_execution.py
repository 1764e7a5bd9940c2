import contextlib
import multiprocessing
import os
import signal
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import CONFIGS, TINY

from fmnist_tuning.data.files import find
from fmnist_tuning.errors import ConfigError
from fmnist_tuning.running.engine import execute
from fmnist_tuning.running.events import (
    Blocked,
    Chosen,
    EpochEnded,
    Failed,
    Finished,
    Ready,
    Resumed,
    Reused,
    Started,
)
from fmnist_tuning.running.planning import plan_study
from fmnist_tuning.running.pool import WorkerPool
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.reading import load_sweeps

CROSSED = (
    "sweep: crossed\ntitle: C\ngrid: {dropout_rate: [0.0, 0.6], use_batch_norm: [true, false]}\n"
)
DEPTH = "sweep: depth\ntitle: D\nfixed: {dropout_rate: 0.0}\ngrid: {num_conv_layers: [1, 2]}\n"
BEST = "sweep: best\ntitle: B\ncombine: {from: [crossed, depth], top: 2}\nseeds: [1000]\n"

# Channels follow the depth here.
SETTINGS = {key: value for key, value in TINY.items() if key != "conv_channels"} | {"epochs": 1}


@pytest.fixture
def study(migrated):
    return Study.open("study", f"sqlite:///{migrated}")


def execution(sweeps, study, files, *, force=False, fail_fast=False, device="auto", jobs=None):
    """The events of sweeps, planned and run as the command does."""
    plan = plan_study(sweeps, study, files.digest, force=force)
    with closing(WorkerPool([files], device, jobs)) as pool:
        yield from execute(plan, study, files.digest, pool, force=force, fail_fast=fail_fast)


@pytest.fixture
def go(study, tiny_data):
    """Runs sweeps to their end; gives the events."""

    def run(*paths, settings=SETTINGS, seeds=None, **options):
        sweeps = load_sweeps(paths, settings, seeds)
        # Starting a worker takes longer than these trainings.
        options = {"jobs": 1} | options
        return list(execution(sweeps, study, find(tiny_data), **options))

    return run


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def statuses(study):
    from mlflow import MlflowClient

    runs = MlflowClient(study.uri).search_runs([study.experiment_id])
    return {run.info.run_name: run.info.status for run in runs}


def accuracies(events):
    return {
        (event.run.fingerprint, event.metrics.epoch): (
            event.metrics.train_loss,
            event.metrics.val_accuracy,
        )
        for event in of(EpochEnded, events)
    }


def test_experiment_6_from_the_others(go, study, sweep_file):
    """In one plan: the sweeps first, then the best predicted combinations on fresh seeds."""
    files = [sweep_file(text, f"{name}.yaml") for name, text in
             (("a", CROSSED), ("b", DEPTH), ("c", BEST))]  # fmt: skip
    events = go(*files, jobs=None)
    # crossed has 4 arms; depth's second arm is the first of them.
    assert len(of(Started, events)) == 4 + 1 + 2
    assert [event.run.sweep for event in of(Reused, events)] == ["depth"]
    (chosen,) = of(Chosen, events)
    arms = chosen.sweep.arms
    assert [arm.name for arm in arms] == ["A", "B"]
    assert {key for arm in arms for key in arm.overrides} == {
        "dropout_rate", "use_batch_norm", "num_conv_layers",
    }  # fmt: skip
    assert arms[0].predicted >= arms[1].predicted
    assert {e.run.config.seed for e in of(Finished, events) if e.run.sweep == "best"} == {1000}
    # Alone, now that the others are finished, it comes to the same and trains nothing.
    assert not of(Started, go(files[2]))
    # In the store: the decided arms, and every sweep of a shared run.
    assert study.definitions(["best"])["best"].arms[0].name == "A"
    shared = [run for run in study.finished_runs().values() if len(run.sweeps) > 1]
    assert [run.sweeps for run in shared] == [("crossed", "depth")]
    assert set(statuses(study).values()) == {"FINISHED"}


def test_experiment_6_alone_and_too_early(go, sweep_file, study):
    """The error names what is missing, and nothing is trained."""
    best = sweep_file(BEST, "best.yaml")
    with pytest.raises(ConfigError) as caught:
        go(best)
    assert caught.value.problems == [
        "best: combines crossed, depth, not run in this study yet; run them first, or all in one "
        "plan: `fmnist run configs/`"
    ]
    assert statuses(study) == {}


def test_a_failed_arm_is_data(go, study, sweep_file):
    """FAILED with its reason; the others go on; what combines it is not run; the rest is kept."""
    bad = sweep_file("sweep: crossed\ntitle: R\ngrid: {learning_rate: [1.0e+30, 0.001]}\n")
    best = sweep_file(BEST.replace(", depth", ""), "best.yaml")
    events = go(bad, best)
    (failed,) = of(Failed, events)
    assert "the loss is not a finite number in epoch 1" in failed.reason
    assert len(of(Finished, events)) == 1
    (blocked,) = of(Blocked, events)
    assert "1 of 2 runs are not finished: learning_rate=1e+30 seed=0" in blocked.reason
    assert statuses(study) == {
        "crossed": "FAILED",
        "crossed 1e+30 #0": "FAILED",
        "crossed 0.001 #0": "FINISHED",
    }
    # The next run tries the failed one again, and only that.
    assert [e.run.name for e in of(Started, go(bad))] == ["learning_rate=1e+30 seed=0"]


def test_alone_or_side_by_side_the_same_numbers(go, sweep_file):
    """Bit for bit, whatever the number of workers; --force trains again and agrees."""
    crossed = sweep_file(CROSSED)
    alone = go(crossed)
    beside = go(crossed, jobs=2, force=True)
    assert of(Ready, alone)[0].workers == 1
    assert of(Ready, beside)[0].workers == 2
    assert len(of(Finished, beside)) == 4
    assert accuracies(alone) == accuracies(beside)


@pytest.mark.slow
def test_the_last_runs_take_turns(go, study, sweep_file):
    """Of three runs on two workers none waits for another's end, and the numbers are the same."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.1, 0.2]}\n")
    settings = SETTINGS | {"epochs": 20}  # long enough for the second worker to have started
    beside = go(path, jobs=2, settings=settings)
    ended = [event for event in beside if isinstance(event, (EpochEnded, Finished))]
    first = next(place for place, event in enumerate(ended) if isinstance(event, Finished))
    assert len({event.run.name for event in ended[:first]}) == 3
    assert len(of(Started, beside)) == 3
    assert not of(Resumed, beside)
    assert statuses(study) == dict.fromkeys(
        ["s", *(f"s {rate} #0" for rate in (0.0, 0.1, 0.2))], "FINISHED"
    )
    runs = [run.run_id for run in study.finished_runs().values()]
    epochs = study.curves(runs, ["val_accuracy"]).groupby("run_id")["epoch"].apply(list)
    assert epochs.tolist() == [list(range(1, 21))] * 3
    alone = go(path, settings=settings, force=True)
    assert accuracies(alone) == accuracies(beside)


@pytest.mark.slow
def test_a_worker_that_dies_fails_its_run_alone(study, tiny_data, sweep_file):
    """A worker ended by kill -9: one FAILED run, and a new worker for the rest."""
    arms = ", ".join(
        f"{{name: {name}, epochs: {n}}}" for name, n in (("a", 40), ("b", 1), ("c", 2))
    )
    settings = {key: value for key, value in SETTINGS.items() if key != "epochs"}
    sweeps = load_sweeps([sweep_file(f"sweep: s\ntitle: S\narms: [{arms}]\n")], settings)
    events, killed = [], False
    for event in execution(sweeps, study, find(tiny_data), jobs=1):
        events.append(event)
        if isinstance(event, EpochEnded) and not killed:
            (worker,) = multiprocessing.active_children()
            time.sleep(0.3)  # with more to say, which nobody has read yet
            os.kill(worker.pid, signal.SIGKILL)
            worker.join()
            killed = True
    (failed,) = of(Failed, events)
    assert failed.run.arm.name == "a"
    assert "ended by SIGKILL" in failed.reason
    assert [e.run.arm.name for e in of(Finished, events)] == ["b", "c"]
    assert statuses(study)[failed.run.short_name] == "FAILED"


@pytest.mark.slow
def test_the_server_of_the_workers_dies(go, study, tiny_data, sweep_file):
    """Those that it has started go on, and another one starts the next."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.1, 0.2]}\n")
    sweeps, killed = load_sweeps([path], SETTINGS | {"epochs": 10}), False
    for event in execution(sweeps, study, find(tiny_data), jobs=2):
        if isinstance(event, EpochEnded) and not killed:
            os.kill(server_of(os.getpid()), signal.SIGKILL)
            killed = True
    assert set(statuses(study).values()) == {"FINISHED"}
    assert len(statuses(study)) == 4
    assert not of(Started, go(path, settings=SETTINGS | {"epochs": 10}))


@pytest.mark.gpu
def test_a_plan_on_a_gpu(go, study, sweep_file):
    """Workers are forked; CUDA starts in each of them."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.1, 0.2]}\n")
    assert len(of(Finished, go(path, device="cuda", jobs=2))) == 3
    assert {run.device for run in study.finished_runs().values()} == {"cuda"}


def test_closing_early_marks_what_ran_as_killed(study, tiny_data, sweep_file):
    """Whoever stops listening leaves nothing RUNNING, and no process behind."""
    sweeps = load_sweeps([sweep_file(CROSSED)], SETTINGS | {"epochs": 50})
    events = execution(sweeps, study, find(tiny_data), jobs=2)
    next(event for event in events if isinstance(event, EpochEnded))
    events.close()
    assert set(statuses(study).values()) == {"KILLED"}
    assert multiprocessing.active_children() == []


@pytest.mark.slow
@pytest.mark.parametrize("interruption", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_an_interrupted_command(start_fmnist, sweep_file, migrated, interruption):
    """Also as the connection closes: exit code 130, one line, nothing RUNNING, it can go on."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.1]}\n")
    settings = [f"--set={key}={value}" for key, value in (TINY | {"epochs": 300}).items()]
    process = start_fmnist("run", path, *settings, "--jobs=1")
    for line in process.stderr:
        if "epoch 2/" in line:
            break
    os.killpg(process.pid, interruption)
    _, rest = process.communicate(timeout=30)
    assert process.returncode == 130
    assert rest.splitlines()[-1] == "interrupted; run the same command again to continue"
    assert "Traceback" not in rest
    study = Study.find(tracking_uri=f"sqlite:///{migrated}")
    assert statuses(study) == {"s": "KILLED", "s 0.0 #0": "KILLED"}


def server_of(pid):
    """The process that a command's workers are forked from."""
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(OSError):  # it has just ended
            if "multiprocessing.forkserver" in Path(f"/proc/{child}/cmdline").read_text():
                return int(child)
    return None


@pytest.mark.slow
def test_interrupted_while_it_loads(start_fmnist, sweep_file):
    """Also what loads torch in the background ends without a word."""
    process = start_fmnist("run", sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0]}\n"))
    deadline = time.monotonic() + 30
    while server_of(process.pid) is None:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    out, err = process.communicate(timeout=30)
    assert process.returncode == 130
    assert (out, err) == ("", "interrupted; run the same command again to continue\n")


def test_images_that_vanish_under_a_plan(study, sweep_file, tmp_path):
    """What is trained on is what was verified, in memory, whatever becomes of the files."""
    from conftest import write_data

    folder = write_data(tmp_path / "images")
    files = find(folder)
    for path in folder.iterdir():
        path.unlink()
    sweeps = load_sweeps([sweep_file(DEPTH)], SETTINGS)
    assert len(of(Finished, execution(sweeps, study, files, jobs=1))) == 2


def test_tf32_without_a_gpu_fails_the_run(go, sweep_file):
    """With the remedy; nothing is trained in another precision than was asked for."""
    (failed,) = of(
        Failed,
        go(sweep_file("sweep: s\ntitle: S\narms: [{name: a, precision: tf32}]\n"), device="cpu"),
    )
    assert failed.reason == "precision tf32 needs a CUDA device; on a CPU, train in float32 or bf16"


def test_the_plan_of_an_empty_study():
    """19 runs that make 13 trainings, three of them still to be decided."""
    plan = plan_study(load_sweeps(CONFIGS), None, "digest")
    assert len(plan.rows) + plan.pending_runs == 20
    assert len(plan.trainings) + plan.pending_runs == 14
    assert plan.seconds(2) is None
    assert plan.rows[5].source == "exp1_dropout: dropout_rate=0.5 seed=0"


def test_the_plan_after_a_sweep(go, study, sweep_file, tiny_data):
    """What is reused and from where; how long the rest takes; combinations once they can be."""
    crossed = sweep_file(CROSSED, "a.yaml")
    depth = sweep_file(DEPTH, "b.yaml")
    best = sweep_file(BEST, "c.yaml")
    go(crossed)
    digest = find(tiny_data).digest
    plan = plan_study(load_sweeps([crossed, depth, best], SETTINGS), study, digest)
    assert [row.action for row in plan.rows] == ["reuse"] * 4 + ["train", "reuse"]
    assert plan.rows[5].source == "crossed: crossed 0.0 BN #0"
    assert plan.seconds(2) > 0
    assert [sweep.id for sweep in plan.pending] == ["best"]
    go(depth)
    plan = plan_study(load_sweeps([best], SETTINGS), study, digest)
    assert [row.run.arm.name for row in plan.rows] == ["A", "B"]
    assert plan.chosen[0].arms[0].predicted > 0
    with pytest.raises(ConfigError, match="combines crossed, depth, not run in this study yet"):
        plan_study(load_sweeps([best], SETTINGS), None, digest)


def test_seeds_that_are_not_fresh(go, sweep_file):
    """A seed must not judge what it helped to choose."""
    crossed = sweep_file(CROSSED, "a.yaml")
    best = sweep_file(BEST.replace(", depth", "").replace("1000", "0"), "b.yaml")
    (blocked,) = of(Blocked, go(crossed, best))
    assert "seeds: found [0], which the combined sweeps used" in blocked.reason


@pytest.mark.slow
def test_files_of_runs_that_are_over_are_deleted(go, sweep_file, study):
    """What another machine has finished, or somebody deleted; not what is unknown or unfinished."""
    (first, *_) = of(Finished, go(sweep_file(DEPTH, "depth.yaml")))
    finished = study.finished_run(first.run.fingerprint).run_id
    client, folder = study.client, study.state_folder
    made = {
        name: client.create_run(study.experiment_id).info.run_id for name in ("open", "deleted")
    }
    client.delete_run(made["deleted"])
    ids = {"finished": finished, "unknown": "0" * 32, **made}
    for run_id in ids.values():
        (folder / f"{run_id}.pt").write_bytes(b"a checkpoint")
    go(sweep_file(DEPTH, "depth.yaml"))
    left = {name for name, run_id in ids.items() if (folder / f"{run_id}.pt").exists()}
    assert left == {"open", "unknown"}
