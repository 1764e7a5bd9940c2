"""Whole studies as files: out of a store, into another, two halves into one."""

import gzip
import json
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from exchanges import exported, lines_of
from studies import DIGEST, outcome_of, six_experiments, sweep_of, write_study
from test_results import STUDY

from fmnist_tuning.store.importer import Importer
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.runs import fingerprint

TWO = (
    "sweep: two\ntitle: Two arms\nhypothesis: None.\nseeds: [0, 1, 2]\n"
    "grid: {dropout_rate: [0.0, 0.5]}\n"
)


@pytest.mark.slow
def test_there_and_back_gives_the_same_bytes(fmnist_here, original, migrated):
    """SQLite, to SQLite, to the file store, to SQLite again."""
    first = original.read_bytes()
    shutil.copy(migrated, "third.db")
    for uri in (f"sqlite:///{migrated}", "file:./runs", "sqlite:///third.db"):
        done = fmnist_here("import", "again.jsonl.gz" if "runs" in uri else original,
                           "--tracking-uri", uri)  # fmt: skip
        assert done.returncode == 0, done.stderr
        assert done.stdout.endswith(
            ": 26 runs added, 0 were there; 6 sweeps added, 0 got more seeds, 0 were there\n"
        )
        assert exported(fmnist_here, uri) == first


@pytest.mark.slow
def test_through_a_server(fmnist_here, original, server):
    """A real one, over HTTP; a second time adds nothing."""
    store = ("--tracking-uri", server, "--experiment", "exchanged")
    for added, there in ((26, 0), (0, 26)):
        done = fmnist_here("import", original, *store)
        assert f": {added} runs added, {there} were there; " in done.stdout, done.stderr
    assert exported(fmnist_here, *store[1:]) == original.read_bytes()


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_results_figures_and_journal_are_the_same(fmnist_here, original, tmp_path):
    """Byte for byte, but for MLflow's run ids in the CSV; two sweeps' figures stand for all."""
    assert fmnist_here("import", original).returncode == 0
    said: list[list[Any]] = []
    for uri in ("sqlite:///original.db", "sqlite:///mlflow.db"):
        store = ["--tracking-uri", uri]
        assert fmnist_here("journal", *store).returncode == 0
        assert fmnist_here("plot", "exp1_dropout", "exp6_combined", *store).returncode == 0
        table = fmnist_here("results", "--csv", *store).stdout.splitlines()
        column = table[0].split(",").index("run_id")
        said.append(
            [
                fmnist_here("results", "--json", *store).stdout,
                fmnist_here("results", *store).stdout,
                (tmp_path / "JOURNAL.md").read_bytes(),
                {path.name: path.read_bytes() for path in Path("visualizations").iterdir()},
                [row.split(",")[:column] + row.split(",")[column + 1 :] for row in table],
            ]
        )
        (tmp_path / "JOURNAL.md").unlink()
        shutil.rmtree("visualizations")
    assert said[0] == said[1]
    assert len(said[0][3]) == 4


@pytest.mark.usefixtures("migrated")
def test_mlflow_has_it_all(fmnist_here, original):
    """Names, times, tags and every value with its time; no tag of the machine that imports."""
    from mlflow import MlflowClient

    assert fmnist_here("import", original).returncode == 0
    told = []
    for uri in ("sqlite:///original.db", "sqlite:///mlflow.db"):
        client = MlflowClient(uri)
        experiment = client.get_experiment_by_name(STUDY).experiment_id
        runs = sorted(client.search_runs([experiment]), key=lambda run: run.info.start_time)
        told.append(
            [
                (
                    run.info.run_name,
                    run.info.start_time,
                    run.info.end_time,
                    run.data.params,
                    run.data.metrics,
                    run.data.tags,
                    [
                        (value.step, value.timestamp, value.value)
                        for metric in sorted(run.data.metrics)
                        for value in client.get_metric_history(run.info.run_id, metric)
                    ],
                )
                for run in runs
            ]
        )
    assert told[0] == told[1]
    assert len(told[0]) == 32
    (sweep,) = [r for r in client.search_runs([experiment]) if r.info.run_name == "exp4_pooling"]
    assert [file.path for file in client.list_artifacts(sweep.info.run_id)] == ["sweep.yaml"]


def test_a_second_time_adds_nothing(fmnist_here, original, migrated):
    """Not even a byte of the store."""
    assert fmnist_here("import", original).returncode == 0
    before = migrated.read_bytes()
    again = fmnist_here("import", original)
    assert again.stdout.endswith(
        ": 0 runs added, 26 were there; 0 sweeps added, 0 got more seeds, 6 were there\n"
    )
    assert migrated.read_bytes() == before


def test_the_file_is_for_people_too(original):
    """A line an entry, after a header that says what it is; nothing of this machine."""
    lines = lines_of(original)
    assert lines[0] == {
        "format": "fmnist-study", "version": 1, "semantics": 1, "sweeps": 6, "runs": 26,
    }  # fmt: skip
    assert [line["definition"]["sweep"] for line in lines[1:7]] == [s.id for s in six_experiments()]
    assert lines[7]["history"][0]["values"]["final_val_accuracy"] > 0.9
    text = gzip.decompress(original.read_bytes()).decode()
    assert "run_id" not in text
    assert str(original.parent.parent) not in text
    assert original.read_bytes()[:10] == b"\x1f\x8b\x08\0\0\0\0\0\x02\xff"


@pytest.mark.slow
def test_halves_of_two_machines(fmnist_here, tmp_path, migrated):
    """One sweep, three seeds here and three there: all six, whichever half comes first."""
    merged = []
    for number, order in enumerate(("ab", "ba")):
        for half, seeds in (("a", "[0, 1, 2]"), ("b", "[5, 4, 3]")):
            store = f"sqlite:///{tmp_path}/{half}.db"
            if not Path(f"{half}.db").exists():
                shutil.copy(migrated, f"{half}.db")
                write_study([sweep_of(TWO.replace("[0, 1, 2]", seeds), tmp_path)], store)
            assert fmnist_here("export", half, "--tracking-uri", store).returncode == 0
        uri = f"sqlite:///{tmp_path}/merged{number}.db"
        shutil.copy(migrated, f"merged{number}.db")
        fmnist_here("import", order[0], "--tracking-uri", uri)
        done = fmnist_here("import", order[1], "--tracking-uri", uri)
        assert done.stdout.endswith(
            ": 6 runs added, 0 were there; 0 sweeps added, 1 got more seeds, 0 were there\n"
        )
        record = json.loads(fmnist_here("results", "--json", "--tracking-uri", uri).stdout)[0]
        assert [arm["seeds"] for arm in record["arms"]] == [[0, 1, 2, 3, 4, 5]] * 2
        assert record["missing"] == []
        runs = lines_of(tmp_path / "a")[2:] + lines_of(tmp_path / "b")[2:]
        merged.append({line["fingerprint"] for line in runs})
        # The half that is there already brings nothing more.
        again = fmnist_here("import", "a", "--tracking-uri", uri)
        assert again.stdout.endswith("0 sweeps added, 0 got more seeds, 1 were there\n")
    assert merged[0] == merged[1]
    assert len(merged[0]) == 12


def test_a_shared_run_gets_the_other_sweep(fmnist_here, tmp_path, migrated):
    """The run stays as it was measured here; only who uses it is added."""
    shutil.copy(migrated, "b.db")
    write_study([sweep_of(TWO, tmp_path)], f"sqlite:///{migrated}")
    other = sweep_of(TWO.replace("sweep: two", "sweep: too"), tmp_path)
    write_study([other], f"sqlite:///{tmp_path}/b.db", lambda _: 0.5)
    fmnist_here("export", "b", "--tracking-uri", "sqlite:///b.db")
    done = fmnist_here("import", "b")
    assert ": 0 runs added, 6 were there; 1 sweep added, " in done.stdout
    runs = Study.existing().finished_runs().values()
    assert {run.sweeps for run in runs} == {("two", "too")}
    assert all(run.metrics["final_val_accuracy"] > 0.9 for run in runs)


@pytest.mark.parametrize(
    ("change", "differing"),
    [
        (("Two arms", "Too"), "title"),
        (("[0.0, 0.5]", "[0.5, 0.0]"), "grid"),
        (("None.", "A.\nfixed: {epochs: 1}"), "hypothesis, fixed"),
    ],
)
def test_sweeps_that_contradict_each_other(fmnist_here, tmp_path, migrated, change, differing):
    """Named, with what differs, before anything is written: not even the runs."""
    shutil.copy(migrated, "b.db")
    write_study([sweep_of(TWO.replace(*change), tmp_path)], f"sqlite:///{tmp_path}/b.db")
    write_study([sweep_of(TWO, tmp_path)], f"sqlite:///{migrated}", keep=lambda _: False)
    fmnist_here("export", "b", "--tracking-uri", "sqlite:///b.db")
    before = migrated.read_bytes()
    done = fmnist_here("import", "b")
    assert done.returncode == 2
    assert done.stderr == (
        "error: the file contradicts the study, nothing was imported; --experiment names another "
        f"study for it:\ntwo: another {differing} in the study than in the file\n"
    )
    assert migrated.read_bytes() == before
    assert fmnist_here("import", "b", "--experiment", "another").returncode == 0


def test_what_is_left_out(fmnist_here, tmp_path, migrated):
    """Runs that are not finished, earlier ones of one fingerprint, those of other programs."""
    study = Study.open(tracking_uri=f"sqlite:///{migrated}")
    sweep = sweep_of(TWO, tmp_path)
    write_study([sweep], study.uri)
    config = sweep.arms[0].config
    options: dict[str, Any] = {"sweeps": {"two": ""}, "params": config.params()}
    tracker = Tracker(study)
    failed = tracker.start_run("failed", fingerprint="f" * 16, tags={}, **options)
    tracker.end_run(failed, "FAILED", "why not")
    tracker.start_run("under way", fingerprint="e" * 16, tags={}, **options)
    again = tracker.start_run(
        "forced", fingerprint=fingerprint(config, DIGEST), tags={"fmnist.data": DIGEST}, **options
    )
    tracker.finish_run(again, outcome_of(config, 0.75).metrics())
    forged = tracker.start_run("forged", fingerprint="d" * 16, tags={"fmnist.data": "a"}, **options)
    tracker.finish_run(forged, outcome_of(config, 0.9).metrics())
    tracker.begin_sweep(sweep, DIGEST)
    done = fmnist_here("export", "file")
    assert done.stdout == "file: 6 runs and 1 sweep\n"
    assert done.stderr.splitlines() == [
        "left out: 2 runs not finished",
        "left out: 1 finished run that this fmnist would not reuse ('forged': fingerprint: found "
        f"{'d' * 16}, allowed: {fingerprint(config, 'a')}, that of its settings and data)",
    ]
    (line,) = [line for line in lines_of(tmp_path / "file") if line.get("name") == "forced"]
    assert line["history"][0]["values"]["final_val_accuracy"] == 0.75
    # A sweep under way may never end where the file goes.
    assert lines_of(tmp_path / "file")[1]["status"] == "KILLED"


def test_a_run_from_before_a_setting_was_added(fmnist_here, tmp_path, migrated):
    """It is found again, and exported as a run with the value that the setting then had."""
    study = Study.open(tracking_uri=f"sqlite:///{migrated}")
    config = sweep_of(TWO, tmp_path).arms[0].config
    older = {key: text for key, text in config.params().items() if key != "precision"}
    tags, tracker = {"fmnist.data": DIGEST}, Tracker(study)
    mark = fingerprint(config, DIGEST)
    run = tracker.start_run("older", fingerprint=mark, tags=tags, sweeps={"two": ""}, params=older)
    tracker.finish_run(run, outcome_of(config, 0.75).metrics())
    done = fmnist_here("export", "file")
    assert (done.stdout, done.stderr) == ("file: 1 run and 0 sweeps\n", "")
    (line,) = [line for line in lines_of(tmp_path / "file") if line.get("name") == "older"]
    assert line["config"]["precision"] == "float32"


@pytest.mark.usefixtures("migrated")
def test_nothing_to_export(fmnist_here, tmp_path):
    """No study, or no finished run; no file either way."""
    done = fmnist_here("export", "file")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: there is no study {STUDY} in sqlite:///")
    Study.open()
    done = fmnist_here("export", "file")
    assert done.returncode == 2
    assert done.stderr == (
        f"error: there is no finished run in the study {STUDY}; `fmnist run` trains some\n"
    )
    assert not (tmp_path / "file").exists()


@pytest.mark.slow
def test_killed_and_imported_again(start_fmnist, fmnist_here, original, migrated):
    """Kill -9 in the midst of it; the same command adds what is left, and nothing twice."""

    def active() -> int:
        with sqlite3.connect(migrated, timeout=30) as store:
            query = "SELECT count(*) FROM runs WHERE lifecycle_stage = 'active'"
            return int(store.execute(query).fetchone()[0])

    process = start_fmnist("import", original)
    deadline = time.monotonic() + 60
    while active() < 5 and time.monotonic() < deadline and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert 0 < active() < 32
    assert fmnist_here("import", original).returncode == 0
    assert active() == 32
    assert exported(fmnist_here, f"sqlite:///{migrated}") == original.read_bytes()


@pytest.mark.parametrize("store", ["sqlite", "file"])
def test_half_a_run_is_no_run(fmnist_here, original, migrated, store):
    """Whatever was written of it, nobody sees it, and the next import replaces it."""
    study = Study.open(tracking_uri=f"sqlite:///{migrated}" if store == "sqlite" else "file:./runs")
    line = lines_of(original)[7]

    def breaking():
        yield "final_val_accuracy", 0.5, 1, 0
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Importer(study).import_run(
            line["name"],
            params={"epochs": "1"},
            tags={"fmnist.fingerprint": line["fingerprint"], "fmnist.data": DIGEST},
            history=breaking(),
            started=1,
            ended=2,
        )
    assert study.finished_runs() == {}
    assert study.unfinished_runs() == []
    done = fmnist_here("import", original, "--tracking-uri", study.uri)
    assert ": 26 runs added, 0 were there; " in done.stdout, done.stderr
    assert exported(fmnist_here, study.uri) == original.read_bytes()


@pytest.mark.slow
def test_make_study(original, tmp_path):
    """A fresh clone's way to real results; without the file it says so."""
    make = ["make", "-f", ROOT / "Makefile", "-o", ".venv/.ready", "study"]
    settings_of = [f"BIN={Path(sys.executable).parent}", f"STUDY={original.name}"]
    done = subprocess.run([*make, *settings_of], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ": 26 runs added, 0 were there; " in done.stdout
    assert (tmp_path / "mlflow.db").is_file()
    none = subprocess.run([*make, "STUDY=none.gz"], capture_output=True, text=True, check=False)
    assert none.returncode != 0
    assert "none.gz is not here" in none.stderr


@pytest.mark.parametrize("name", ["study.jsonl", "unpacked.jsonl.gz"])
def test_a_file_that_a_browser_has_unpacked(fmnist_here, original, tmp_path, name):
    """Plain lines are read under either name, and `export` writes them into a `.jsonl`."""
    plain = gzip.decompress(original.read_bytes())
    (tmp_path / name).write_bytes(plain)
    done = fmnist_here("import", name, "--study", "plain")
    assert done.returncode == 0, done.stderr
    assert fmnist_here("export", "again.jsonl", "--study", "plain").returncode == 0
    assert (tmp_path / "again.jsonl").read_bytes() == plain


@pytest.mark.slow
@pytest.mark.parametrize("name", ["-", "/dev/stdout"])
def test_export_to_stdout(fmnist, study_of_six, name):
    """The file alone, for a pipe; what people read goes to stderr."""
    assert study_of_six.exists()
    done = fmnist("export", name, text=False)
    assert done.returncode == 0, done.stderr
    assert len(gzip.decompress(done.stdout).splitlines()) == 33
    assert done.stderr.endswith(b"26 runs and 6 sweeps\n")


def test_import_from_the_standard_input(original, migrated):
    """`-` is what another command writes there, packed or plain."""
    packed = original.read_bytes()
    for number, content in enumerate((packed, gzip.decompress(packed))):
        command = [sys.executable, "-m", "fmnist_tuning", "import", "-", "--study", f"in{number}"]
        done = subprocess.run(
            command, input=content, capture_output=True, cwd=migrated.parent, check=False
        )
        assert done.returncode == 0, done.stderr
        assert b"runs added" in done.stdout
    found = [Study.existing(f"in{number}").finished_runs() for number in (0, 1)]
    assert found[0].keys() == found[1].keys()
    assert found[0]


def test_import_from_a_pipe(fmnist_here, original, tmp_path):
    """As `export -` writes it, packed or plain; a named pipe cannot go back either."""
    os.mkfifo(tmp_path / "pipe")
    packed = original.read_bytes()
    for number, content in enumerate((packed, gzip.decompress(packed))):
        writer = threading.Thread(target=(tmp_path / "pipe").write_bytes, args=[content])
        writer.start()
        done = fmnist_here("import", "pipe", "--study", f"piped{number}")
        writer.join()
        assert done.returncode == 0, done.stderr
