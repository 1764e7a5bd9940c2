"""What is around a command: other files in its folder, a container's limits, a person at MLflow."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_RUN
from test_execution import execution, of, statuses

from fmnist_tuning.data.files import find
from fmnist_tuning.running import capacity
from fmnist_tuning.running.events import EpochEnded, Failed, Finished, Started
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.reading import load_sweeps

NAMES = (
    *("random", "types", "signal", "socket", "struct", "select", "selectors", "tempfile"),
    *("torch", "mlflow", "numpy", "json", "typing", "scipy", "matplotlib", "pandas", "yaml"),
)


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_no_file_in_the_current_folder_is_imported(tmp_path, fmnist, sweep_file):
    """Whatever modules of Python or of libraries they are named after."""
    for name in NAMES:
        (tmp_path / f"{name}.py").write_text(f"raise SystemExit('{name} of the user')\n")
    file = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0]}\n")
    command = Path(sys.executable).with_name("fmnist")
    for arguments in (("run", file, *TINY_RUN), ("plot",), ("results",)):
        done = fmnist(*arguments, script=command)
        assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("shm", ["missing", "read-only"])
def test_shared_memory_that_is_not_there(tiny_data, monkeypatch, shm):
    """The images are then shared in TMPDIR."""
    from fmnist_tuning.data import shared

    monkeypatch.setattr(shared, "_SHM", Path("/nowhere" if shm == "missing" else "/proc/sys"))
    monkeypatch.setattr(shared.heap.Arena, "_dir_candidates", ["/nowhere"])
    found = find(tiny_data)
    images, *_ = shared.SharedImages([found]).arrays["fashion_mnist"]
    assert np.array_equal(images, found.train_images)


def control_groups(root: Path, files: dict[str, str], own: str = "0::/a/b") -> Path:
    for name, text in {"proc/self/cgroup": own, **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(f"{text}\n")
    return root


GIB = 1 << 30
LIMITS = {
    "nothing said": ({}, "0::/", 64),
    "a quota of one": ({"sys/fs/cgroup/a/b/cpu.max": "100000 100000"}, "0::/a/b", 1),
    "two and a half": ({"sys/fs/cgroup/cpu.max": "250000 100000"}, "0::/a/b", 2),
    "half a core": ({"sys/fs/cgroup/a/cpu.max": "50000 100000"}, "0::/a/b", 1),
    "no quota": ({"sys/fs/cgroup/a/b/cpu.max": "max 100000"}, "0::/a/b", 64),
    "version 1": (
        {
            "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "300000",
            "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000",
        },
        "4:cpu,cpuacct:/d\n0::/",
        3,
    ),
    "version 1 without a quota": (
        {
            "sys/fs/cgroup/cpu/d/cpu.cfs_quota_us": "-1",
            "sys/fs/cgroup/cpu/d/cpu.cfs_period_us": "100000",
        },
        "4:cpu,cpuacct:/d",
        64,
    ),
    "memory for two": (
        {
            "sys/fs/cgroup/a/b/memory.max": str(3 * GIB),
            "sys/fs/cgroup/a/b/memory.current": str(GIB // 2),
        },
        "0::/a/b",
        2,
    ),
    "memory that holds files": (
        {
            "sys/fs/cgroup/a/memory.max": str(4 * GIB),
            "sys/fs/cgroup/a/memory.current": str(4 * GIB),
            "sys/fs/cgroup/a/memory.stat": f"anon {GIB}\nfile {3 * GIB}\ninactive_file {3 * GIB}",
        },
        "0::/a",
        3,
    ),
    "memory of version 1 that holds files": (
        {
            "sys/fs/cgroup/memory/d/memory.limit_in_bytes": str(5 * GIB),
            "sys/fs/cgroup/memory/d/memory.usage_in_bytes": str(4 * GIB),
            "sys/fs/cgroup/memory/d/memory.stat": (
                f"inactive_file {GIB}\ntotal_inactive_file {2 * GIB}"
            ),
        },
        "9:memory:/d",
        3,
    ),
    "memory of version 1": (
        {
            "sys/fs/cgroup/memory/d/memory.limit_in_bytes": str(5 * GIB),
            "sys/fs/cgroup/memory/d/memory.usage_in_bytes": "0",
        },
        "9:memory:/d",
        5,
    ),
    "a machine with little memory": ({"proc/meminfo": "MemAvailable:  3500000 kB"}, "0::/", 3),
    "next to none": ({"proc/meminfo": "MemAvailable:  3500 kB"}, "0::/", 1),
}


@pytest.mark.parametrize("case", LIMITS)
def test_how_many_workers_fit(tmp_path, monkeypatch, case):
    """Cores, quotas and memory, of this control group and of those around it."""
    files, own, expected = LIMITS[case]
    monkeypatch.setattr(capacity.os, "sched_getaffinity", lambda _: set(range(64)))
    assert capacity.workers(control_groups(tmp_path, files, own)) == expected


@pytest.fixture
def study(migrated):
    return Study.open("study", f"sqlite:///{migrated}")


@pytest.mark.slow
@pytest.mark.parametrize("deleted", ["run", "sweep"])
def test_a_run_that_is_deleted_while_it_trains(study, tiny_data, sweep_file, deleted):
    """It fails, and the others go on; a sweep's own run is made again."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.1]}\n")
    settings = {"train_size": 200, "val_size": 100, "epochs": 5}
    (sweep,) = load_sweeps([path], settings, None)
    events = []
    for event in execution([sweep], study, find(tiny_data), jobs=1):
        if isinstance(event, EpochEnded) and len(of(EpochEnded, events)) == 1:
            name = "s" if deleted == "sweep" else event.run.short_name
            client = study.client
            (run,) = client.search_runs(["1"], f"attributes.run_name = '{name}'")
            client.delete_run(run.info.run_id)
        events.append(event)
    if deleted == "sweep":
        assert len(of(Finished, events)) == 2
        assert statuses(study) == dict.fromkeys(("s", "s 0.0 #0", "s 0.1 #0"), "FINISHED")
    else:
        (failed,) = of(Failed, events)
        assert failed.reason == "its MLflow run was deleted while it was trained"
        assert len(of(Finished, events)) == 1
        assert statuses(study)["s"] == "FAILED"
        assert not list(study.state_folder.glob("*.pt"))


@pytest.mark.slow
def test_a_deleted_run_whose_training_fails(study, tiny_data, sweep_file):
    """Two misfortunes at once end no other run either."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {learning_rate: [1.0e30, 0.001]}\n")
    settings = {"train_size": 200, "val_size": 100, "epochs": 2}
    (sweep,) = load_sweeps([path], settings, None)
    events = []
    for event in execution([sweep], study, find(tiny_data), jobs=1):
        if isinstance(event, Started) and event.run.config.learning_rate > 1:
            name = f"attributes.run_name = '{event.run.short_name}'"
            (run,) = study.client.search_runs([study.experiment_id], name)
            study.client.delete_run(run.info.run_id)
        events.append(event)
    assert len(of(Failed, events)) == 1
    assert len(of(Finished, events)) == 1


def test_the_run_that_replaces_another_counts(study):
    """Also if the clock was set back in between."""
    from test_tracking import EPOCH, OUTCOME

    from fmnist_tuning.store.tracker import Tracker

    tracker = Tracker(study)
    ids = []
    for ended in (2_000_000, 1_000_000):
        tags = {"fmnist.replaces": ids[0]} if ids else {}
        run_id = tracker.start_run("r", sweeps={}, fingerprint="f", params={}, tags=tags)
        tracker.log_epoch(run_id, EPOCH)
        tracker.finish_run(run_id, OUTCOME.metrics())
        study.client.set_terminated(run_id, "FINISHED", ended)
        ids.append(run_id)
    assert study.finished_runs()["f"].run_id == ids[1]


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_what_a_resumed_sweep_leaves_in_mlflow(fmnist_here, sweep_file):
    """One row a run, and no reason on what has finished."""
    file = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0]}\n")
    from fmnist_tuning.store.tracker import Tracker
    from fmnist_tuning.sweeps.runs import runs_of

    study = Study.open()
    tracker = Tracker(study)
    assert fmnist_here("run", file, *TINY_RUN, "--seeds", "3,").returncode == 0
    plan = json.loads(fmnist_here("plan", file, *TINY_RUN, "--json").stdout)["runs"][0]
    for _ in range(2):
        run_id = tracker.start_run(
            "s 0.0 #0", sweeps={"s": ""}, fingerprint=plan["fingerprint"], params={}, tags={}
        )
        tracker.end_run(run_id, "KILLED", "interrupted")
    sweep = next(s for s in study.sweeps() if s.sweep == "s")
    tracker.end_run(sweep.run_id, "KILLED", "interrupted")
    assert runs_of(sweep.definition.get(), sweep.data_digest)
    assert fmnist_here("run", file, *TINY_RUN).returncode == 0
    assert [*study.unfinished_runs()] == []
    (again,) = study.sweeps()
    assert again.status == "FINISHED"
    assert "fmnist.reason" not in again.tags


def test_nohup_is_respected(tmp_path):
    """A command that ignores SIGHUP goes on ignoring it."""
    code = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "sys.argv = ['fmnist', '--version']\n"
        "from fmnist_tuning.cli import main\n"
        "try: main()\n"
        "except SystemExit: print(signal.getsignal(signal.SIGHUP) is signal.SIG_IGN)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.endswith("True\n"), done.stderr
