"""Stores on this machine: made and migrated whole or not at all, under whatever name."""

import gzip
import os
import shutil
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import pytest
from conftest import ROOT, TINY_RUN
from mlflow import MlflowClient

from fmnist_tuning.errors import FmnistError, TrackingError
from fmnist_tuning.store import uris
from fmnist_tuning.store.study import Study

# A study of six runs, as MLflow 3.8.1 stored it.
OLD_STORE = ROOT / "tests/mlflow_3_8_1.sql.gz"
KILLS = int(os.environ.get("FMNIST_TEST_KILLS", "2"))
KILLED_WITHIN_SECONDS = 10 if KILLS > 10 else 5


def old_store(place: Path) -> None:
    with closing(sqlite3.connect(place)) as database:
        database.executescript(gzip.decompress(OLD_STORE.read_bytes()).decode())


def rows(place: Path, query: str) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(place)) as database:
        return database.execute(query).fetchall()


@pytest.mark.slow
@pytest.mark.parametrize("store", ["fresh", "of MLflow 3.8.1"])
@pytest.mark.parametrize("kill", range(KILLS))
def test_a_command_that_is_killed_as_it_opens_a_store(tmp_path, original, store, kill):
    """Wherever the kill comes, the next command goes on, and an old store's runs are there."""
    if store != "fresh":
        old_store(tmp_path / "mlflow.db")
    command = [sys.executable, "-m", "fmnist_tuning", "import", original, "--study", "s"]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True)
    time.sleep((kill + 0.5) * KILLED_WITHIN_SECONDS / KILLS)
    os.killpg(process.pid, 9)
    process.wait()
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = rows(tmp_path / "mlflow.db", "SELECT count(*) FROM runs WHERE experiment_id = 1")
    if store != "fresh":
        assert found == [(7,)]  # and the sweep's own run


def test_an_old_store_is_migrated_on_a_copy(tmp_path, fmnist_here):
    """Its runs are read, and nothing else stays in the folder."""
    old_store(tmp_path / "mlflow.db")
    done = fmnist_here("results", "--csv")
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 7
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def test_a_migration_keeps_the_file(tmp_path):
    """Its owner, its rights, and whoever has it open."""
    place = tmp_path / "mlflow.db"
    old_store(place)
    place.chmod(0o640)
    before = place.stat()
    with closing(sqlite3.connect(place)) as reader:
        Study.existing()
        assert reader.execute("SELECT count(*) FROM runs").fetchone() == (7,)
    after = place.stat()
    assert (after.st_ino, after.st_mode) == (before.st_ino, before.st_mode)


def test_a_migration_that_fails_leaves_the_old_store(tmp_path, monkeypatch):
    """To the byte."""
    from fmnist_tuning.store import sqlite

    old_store(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()

    def fail(path: Path) -> None:
        path.write_bytes(b"half")
        raise sqlite3.OperationalError("disk full")

    monkeypatch.setattr(sqlite, "_open", fail)
    with pytest.raises(TrackingError, match="disk full"):
        Study.existing()
    assert (tmp_path / "mlflow.db").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


def set_back(place: Path) -> None:
    """Let MLflow believe that tables which are there have to be made yet."""
    with closing(sqlite3.connect(place)) as database:
        database.execute("UPDATE alembic_version SET version_num = '451aebb31d03'")
        database.commit()


def test_what_a_killed_mlflow_left_half_made(tmp_path, blank_store):
    """It holds nothing, and is kept aside, each time."""
    from fmnist_tuning.store import sqlite

    for _ in range(2):
        shutil.copy(blank_store, "mlflow.db")
        set_back(tmp_path / "mlflow.db")
        sqlite.prepare(tmp_path / "mlflow.db", timeout=5)
    assert Study.open("s").experiment_id
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "mlflow.db",
        "mlflow.db.unfinished",
        "mlflow.db.unfinished-2",
    ]


def test_a_damaged_store_that_holds_runs_is_not_touched(tmp_path):
    """MLflow's error is told; a person decides."""
    old_store(tmp_path / "mlflow.db")
    set_back(tmp_path / "mlflow.db")
    before = (tmp_path / "mlflow.db").read_bytes()
    with pytest.raises(TrackingError, match=r"the tracking store .* failed"):
        Study.existing()
    assert (tmp_path / "mlflow.db").read_bytes() == before


@pytest.mark.parametrize(
    "written",
    [
        lambda client: client.create_experiment("mine"),
        lambda client: client.set_experiment_tag("0", "mlflow.note.content", "mine"),
        lambda client: client.create_registered_model("mine"),
    ],
)
def test_a_damaged_store_without_runs_is_not_touched(tmp_path, blank_store, written):
    """An experiment, a note, a model: a person has used it."""
    shutil.copy(blank_store, "mlflow.db")
    written(MlflowClient(f"sqlite:///{tmp_path}/mlflow.db", f"sqlite:///{tmp_path}/mlflow.db"))
    set_back(tmp_path / "mlflow.db")
    with pytest.raises(TrackingError, match=r"the tracking store .* failed"):
        Study.open("s")
    assert [path.name for path in tmp_path.iterdir()] == ["mlflow.db"]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_what_others_write_during_a_migration(tmp_path, monkeypatch, mode):
    """It is refused to them, not lost."""
    from fmnist_tuning.store import sqlite

    place = tmp_path / "mlflow.db"
    old_store(place)
    with closing(sqlite3.connect(place)) as database:
        database.execute(f"PRAGMA journal_mode = {mode}")
    refused, migrate = [], sqlite._open  # noqa: SLF001

    def write_meanwhile(copy: Path) -> None:
        migrate(copy)
        with closing(sqlite3.connect(place, timeout=0)) as other:
            try:
                other.execute("UPDATE experiments SET name = 'renamed' WHERE experiment_id = 1")
                other.commit()
            except sqlite3.OperationalError as error:
                refused.append(str(error))

    monkeypatch.setattr(sqlite, "_open", write_meanwhile)
    Study.existing()
    assert refused == ["database is locked"]
    assert rows(place, "PRAGMA journal_mode") == [(mode.lower(),)]
    assert rows(place, "SELECT count(*) FROM runs") == [(7,)]


@pytest.mark.parametrize("mode", ["DELETE", "WAL"])
def test_a_migration_while_another_writes(tmp_path, mode):
    """It waits as long as its address says, changes nothing, and says what to do."""
    place = tmp_path / "mlflow.db"
    old_store(place)
    with closing(sqlite3.connect(place)) as other:
        other.execute(f"PRAGMA journal_mode = {mode}")
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(TrackingError, match="another program has it open"):
            Study.open("s", "sqlite:///mlflow.db?timeout=1")
        other.execute("UPDATE experiments SET name = 'renamed' WHERE experiment_id = 1")
        other.commit()
    assert Study.existing("renamed").experiment_id == "1"


def test_two_commands_migrate_at_once(tmp_path, monkeypatch):
    """The second one waits, and finds it done."""
    from fmnist_tuning.store import sqlite

    place = tmp_path / "mlflow.db"
    old_store(place)
    migrate, second = sqlite._open, []  # noqa: SLF001

    def slowly(copy: Path) -> None:
        if not second:
            second.append(subprocess.Popen([sys.executable, "-m", "fmnist_tuning", "results"]))
            time.sleep(3)
        migrate(copy)

    monkeypatch.setattr(sqlite, "_open", slowly)
    Study.existing()
    assert second[0].wait() == 0
    assert rows(place, "SELECT count(*) FROM runs") == [(7,)]


def test_leftovers_of_killed_migrations(tmp_path, blank_store):
    """They go with the next command, also if nothing is left to migrate."""
    shutil.copy(blank_store, "mlflow.db")
    old, new = tmp_path / ".mlflow.db.new-old", tmp_path / ".mlflow.db.new-young"
    for folder in (old, new):
        folder.mkdir()
    os.utime(old, (0, 0))
    Study.open("s")
    assert not old.exists()
    assert new.exists()  # another command may be at work in it


@pytest.mark.slow
@pytest.mark.parametrize("name", ["100% real", "José's runs #2"])
def test_a_folder_of_any_name(tmp_path, call_in, blank_store, name):
    """Every command works there, and the store is the one that a bare `mlflow ui` shows."""
    folder = tmp_path / name
    folder.mkdir()
    shutil.copy(blank_store, folder / "mlflow.db")
    (folder / "one.yaml").write_text("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.2]}\n")
    call_in(folder, "run", "one.yaml", *TINY_RUN)
    for command in ("plot", "journal", "champion", "results", "predict 0", "export s.jsonl.gz"):
        call_in(folder, *command.split())
    call_in(folder, "import", "s.jsonl.gz", "--study", "again")
    there = {path.name for path in folder.iterdir()}
    assert there == {
        *(".fmnist", "JOURNAL.md", "mlflow.db", "mlruns", "one.yaml", "s.jsonl.gz"),
        "visualizations",
    }
    assert list((folder / "mlruns").rglob("weights.pt"))


@pytest.mark.parametrize(("name", "found"), [("what?", "?"), ("my%20runs", "%20")])
def test_a_folder_that_no_address_can_name(tmp_path, monkeypatch, name, found):
    """Another file would be made."""
    (tmp_path / name).mkdir()
    monkeypatch.chdir(tmp_path / name)
    with pytest.raises(TrackingError) as caught:
        uris.resolve(None)
    assert f"{name}: found {found} in the folder's name" in str(caught.value)


MEANT = {
    "127.0.0.1:5000": "did you mean http://127.0.0.1:5000?",
    "[::1]:5000/": "did you mean http://[::1]:5000/?",
    "localhost:5000": "did you mean http://localhost:5000?",
    "//host:80/ml": "did you mean http://host:80/ml?",
    "http:/host": "did you mean http://host?",
    "https:host": "did you mean https://host?",
    "'http://host'": "did you mean http://host?",
    '"sqlite:///a.db"': "did you mean sqlite:///a.db?",
    "mlflow.db": "a database is sqlite:///mlflow.db",
    "file:runs.sqlite": "a database is sqlite:///runs.sqlite",
    "~/a.db": "a database is sqlite:///~/a.db",
}


@pytest.mark.parametrize("uri", MEANT)
@pytest.mark.parametrize("place", ["option", "environment"])
def test_no_name_of_a_server_or_database_becomes_a_folder(tmp_path, monkeypatch, uri, place):
    """The message says what was meant; nothing is made."""
    option = uri if place == "option" else None
    if option is None:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    with pytest.raises(TrackingError) as caught:
        Study.open("s", option)
    assert str(caught.value).endswith(MEANT[uri])
    assert [*tmp_path.iterdir()] == []


def test_a_file_is_no_folder_of_runs(tmp_path):
    """Whatever its name."""
    (tmp_path / "store").write_text("x")
    with pytest.raises(TrackingError, match="a database is sqlite:///store"):
        uris.resolve("store")


@pytest.mark.parametrize("uri", ["~/runs", "file:~/runs", "sqlite:///~/runs.db"])
def test_the_home_folder(tmp_path, monkeypatch, uri):
    """`~` means the same as in a shell, which does not expand it inside an option."""
    monkeypatch.setenv("HOME", str(tmp_path))
    found = uris.local_path(uris.resolve(uri))
    assert found is not None
    assert found.parent == tmp_path


def test_a_token_is_not_shown():
    """It may stand where a name and a password usually are."""
    assert uris.public("https://s3cret@host/x") == "https://***@host/x"
    assert uris.public("postgresql://ada@host/x") == "postgresql://ada@host/x"


def test_how_long_a_locked_database_is_waited_for(blank_store):
    """As its address says."""
    shutil.copy(blank_store, "mlflow.db")
    with closing(sqlite3.connect("mlflow.db")) as other:
        other.execute("BEGIN EXCLUSIVE")
        start = time.monotonic()
        with pytest.raises(TrackingError, match="locked"):
            Study.open("s", "sqlite:///mlflow.db?timeout=1")
        assert time.monotonic() - start < 15


@pytest.mark.usefixtures("migrated")
def test_a_deleted_study(fmnist_here):
    """Reading and writing commands say the same, with the command that brings it back."""
    study = Study.open()
    study.client.delete_experiment(study.experiment_id)
    restore = f"`MLFLOW_TRACKING_URI={study.uri} mlflow experiments restore --experiment-id 1`"
    for command in ("results", "export x.jsonl.gz", "journal"):
        done = fmnist_here(*command.split())
        assert done.returncode == 2
        assert restore in done.stderr


@pytest.mark.usefixtures("migrated")
def test_a_study_that_is_not_there(fmnist_here):
    """Those that are there are named."""
    Study.open("trial")
    assert "(it has trial)" in fmnist_here("results").stderr


@pytest.mark.slow
def test_a_user_without_home_or_account():
    """As in a container with an arbitrary user: MLflow's import would fail."""
    code = """
import os, pwd, sys
os.environ.pop("HOME")
def unknown(uid): raise KeyError(uid)
pwd.getpwuid = unknown
sys.argv = ["fmnist", "results"]
from fmnist_tuning.cli import main
main()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "there is no study" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_a_project_that_was_moved(tmp_path, call_in, fmnist, blank_store):
    """Networks and models are found beside the store, and new files go there."""
    old, new = tmp_path / "old", tmp_path / "new"
    old.mkdir()
    shutil.copy(blank_store, old / "mlflow.db")
    (old / "one.yaml").write_text("sweep: one\ntitle: One\ngrid: {dropout_rate: [0.2]}\n")
    call_in(old, "run", "one.yaml", *TINY_RUN)
    call_in(old, "champion")
    old.rename(new)
    for command in ("predict 0", "champion", "run one.yaml --seeds 2"):
        options = TINY_RUN if command.startswith("run") else ()
        # In a process of its own: MLflow remembers where the artefacts of a run are.
        done = fmnist(*command.split(), *options, cwd=new)
        assert done.returncode == 0, done.stderr
    assert not old.exists()
    places = rows(new / "mlflow.db", "SELECT artifact_uri FROM runs")
    assert {place for (place,) in places} == {
        path.as_uri() for path in new.glob("mlruns/fashion_mnist_cnn_tuning/*/artifacts")
    }


def test_a_copied_project_uses_its_own_artefacts(tmp_path, monkeypatch):
    """Not those of the original; artefacts that a person put elsewhere stay there."""
    original, copy = tmp_path / "one", tmp_path / "two"
    (original / "mlruns/s").mkdir(parents=True)
    old_store(original / "mlflow.db")
    Study.open("s", f"sqlite:///{original}/mlflow.db")
    elsewhere = Study.open("s", f"sqlite:///{original}/mlflow.db").client
    elsewhere.create_experiment("other", (tmp_path / "bucket/mlruns/other").as_uri())
    (tmp_path / "bucket/mlruns/other").mkdir(parents=True)
    shutil.copytree(original, copy)
    monkeypatch.chdir(copy)
    client = Study.existing("s").client
    Study.existing("other")
    places = {e.name: e.artifact_location for e in client.search_experiments()}
    assert places["s"] == (copy / "mlruns/s").as_uri()
    assert places["other"] == (tmp_path / "bucket/mlruns/other").as_uri()
    assert elsewhere.get_experiment_by_name("s").artifact_location.endswith("/one/mlruns/s")


def two_studies(place: Path) -> MlflowClient:
    """A database with artefacts of two studies in its `mlruns`, as another project had it."""
    client = MlflowClient(f"sqlite:///{place}/mlflow.db")
    for name in ("s", "t"):
        location = (place / "mlruns" / name).as_uri()
        run = client.create_run(client.create_experiment(name, location))
        client.log_text(run.info.run_id, "here", "note.txt")
    return client


def artifact_places(project: Path) -> set[str]:
    """Which project each run's artefacts are in."""
    found = rows(project / "mlflow.db", "SELECT artifact_uri FROM runs")
    return {uri.split("/mlruns/")[0].rpartition("/")[2] + uri.split("/")[-3] for (uri,) in found}


def test_what_is_not_here_stays_where_it_is(tmp_path, blank_store):
    """A database that was copied with one study's artefacts finds the other's in the original."""
    original, copy = tmp_path / "one", tmp_path / "two"
    original.mkdir()
    shutil.copy(blank_store, original / "mlflow.db")
    two_studies(original)
    (copy / "mlruns").mkdir(parents=True)
    shutil.copy(original / "mlflow.db", copy)
    shutil.copytree(original / "mlruns/s", copy / "mlruns/s")
    Study.open("t", f"sqlite:///{copy}/mlflow.db")
    assert artifact_places(copy) == {"ones", "onet"}
    Study.open("s", f"sqlite:///{copy}/mlflow.db")
    assert artifact_places(copy) == {"twos", "onet"}


def test_a_disk_that_is_absent_for_a_moment(tmp_path, blank_store):
    """Reading changes no path; writing makes no folders of a project that has left."""
    original, copy = tmp_path / "one", tmp_path / "two"
    original.mkdir()
    shutil.copy(blank_store, original / "mlflow.db")
    two_studies(original)
    copy.mkdir()
    shutil.copy(original / "mlflow.db", copy)
    original.rename(tmp_path / "away")
    Study.existing("s", f"sqlite:///{copy}/mlflow.db")
    assert artifact_places(copy) == {"ones", "onet"}
    # In a process of its own: MLflow remembers where the artefacts of a run are.
    code = (
        "from fmnist_tuning.store.study import Study\n"
        f"study = Study.existing('s', 'sqlite:///{copy}/mlflow.db', writing=True)\n"
        "(run,) = study.client.search_runs([study.experiment_id])\n"
        "study.client.log_text(run.info.run_id, 'new', 'note.txt')\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    assert artifact_places(copy) == {"twos", "onet"}
    assert (copy / "mlruns/s").exists()
    assert not original.exists()


def test_one_database_by_two_paths(tmp_path, blank_store):
    """Locks and checkpoints are the same, so a live run is not taken over."""
    (tmp_path / "real").mkdir()
    shutil.copy(blank_store, tmp_path / "real/mlflow.db")
    (tmp_path / "link.db").symlink_to("real/mlflow.db")
    (tmp_path / "folder").symlink_to("real")
    found = {
        Study.open("s", f"sqlite:///{path}").state_folder
        for path in ("link.db", "real/mlflow.db", "folder/mlflow.db")
    }
    assert found == {tmp_path / "real/.fmnist"}


@pytest.mark.parametrize("failure", [NotImplementedError(), OSError(37, "No locks available")])
def test_a_file_system_without_locks(tmp_path, monkeypatch, failure):
    """The message says so."""
    from filelock import FileLock

    from fmnist_tuning.running.locks import RunLocks

    def fail(_: FileLock) -> None:
        raise failure

    monkeypatch.setattr(FileLock, "_acquire", fail)
    with pytest.raises(FmnistError, match=r"this file system has no locks \(flock\)"):
        RunLocks(tmp_path, local=True)
