"""What the program must never do, wherever it reads or writes."""

import ast
import os
import stat
import subprocess
from pathlib import Path

import pytest
from studies import sweep_of, write_study
from test_layers import PACKAGE

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.files import write_whole
from fmnist_tuning.report.journal.document import read_text
from fmnist_tuning.text import printable

FORBIDDEN = {
    *("eval", "exec", "compile", "os.system", "os.popen", "yaml.load", "yaml.unsafe_load"),
    *("yaml.full_load", "marshal.loads", "torch.load", "np.load", "pd.read_pickle"),
}
UNSAFE_MODULES = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}


def dangers(source: str) -> list[str]:
    """What a source calls or imports that runs code out of data, or a shell."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import | ast.ImportFrom):
            names = [alias.name for alias in node.names]
            modules = [node.module or ""] if isinstance(node, ast.ImportFrom) else names
            found += [name for name in modules if name.split(".")[0] in UNSAFE_MODULES]
        elif isinstance(node, ast.Call):
            options = {k.arg: getattr(k.value, "value", None) for k in node.keywords}
            name = ast.unparse(node.func)
            safe = (name == "torch.load" and options.get("weights_only") is True) or (
                name == "np.load" and options.get("allow_pickle") is False
            )
            if name in FORBIDDEN and not safe:
                found.append(name)
            if options.get("shell", False) is not False:
                found.append(f"{name}(shell=...)")
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.rglob("*.py")), ids=lambda path: path.stem)
def test_no_data_is_run_as_code(path):
    """No shell, no pickle but our own processes' pipes, no evaluation."""
    assert dangers(path.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "source",
    ["eval('1')", "import pickle", "from pickle import loads", "torch.load(p)", "yaml.load(t)",
     "torch.load(p, weights_only=False)", "np.load(p)",
     "run('x', shell=True)", "run('x', shell=x)"],
)  # fmt: skip
def test_a_danger_is_seen(source):
    """The test above can fail."""
    assert dangers(source) != []
    assert dangers("torch.load(p, weights_only=True); ast.literal_eval(t)") == []


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain é × \U0001f4a5\n", "plain é × \U0001f4a5\n"),
        ("\x1b[31m\x07\r\t\x7f\x9b", r"\x1b[31m\x07\r\t\x7f\x9b"),
        ("a\u202eb\u2066c", r"a\u202eb\u2066c"),
        ("\udcff\u2028", r"\udcff\u2028"),
    ],
)
def test_what_a_terminal_would_obey_is_shown(text, shown):
    assert printable(text) == shown


def test_files_are_written_under_the_users_own_umask(tmp_path):
    """A new one; and one that is there keeps the rights that it has."""
    before = os.umask(0o027)
    try:
        write_whole(tmp_path / "new/file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new/file").stat().st_mode) == 0o640
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o750
    (tmp_path / "new/file").chmod(0o604)
    write_whole(tmp_path / "new/file", b"y")
    assert stat.S_IMODE((tmp_path / "new/file").stat().st_mode) == 0o604


def test_a_symbolic_link_stays_and_its_target_is_written(tmp_path):
    """A link to a file, and one to nothing yet."""
    for target in ("there", "new"):
        (tmp_path / "there").write_bytes(b"old")
        (tmp_path / f"to_{target}").symlink_to(target)
        write_whole(tmp_path / f"to_{target}", b"x")
        assert (tmp_path / f"to_{target}").is_symlink()
        assert (tmp_path / target).read_bytes() == b"x"


def test_what_is_no_ordinary_file_is_written_into(tmp_path):
    """A pipe stays a pipe."""
    os.mkfifo(tmp_path / "pipe")
    reader = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    write_whole(tmp_path / "pipe", b"x")
    assert os.read(reader, 9) == b"x"
    os.close(reader)
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


def test_a_file_system_without_permissions(tmp_path, monkeypatch):
    """A file is written all the same."""

    def refuse(_: int, __: int) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "fchmod", refuse)
    write_whole(tmp_path / "file", b"x")
    assert (tmp_path / "file").read_bytes() == b"x"


def test_a_place_that_cannot_be_written(tmp_path):
    """What was there is still there, and nothing beside it."""
    for path, reason in (
        (Path("/proc/nowhere/x"), "No such file or directory"),
        (tmp_path, "Is a directory"),
        (tmp_path / "file/x", f"{tmp_path}/file is not a folder"),
        (tmp_path / "file/x/y", "Not a directory"),
        (tmp_path / ("x" * 300), "File name too long"),
    ):
        (tmp_path / "file").write_bytes(b"kept")
        with pytest.raises(FmnistError) as caught:
            write_whole(path, b"new")
        assert str(caught.value) == f"{path}: cannot be written: {reason}"
        assert (tmp_path / "file").read_bytes() == b"kept"
        assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.fixture
def read_only(tmp_path):
    """A folder on a file system that is mounted read-only, which binds root as well."""
    folder = tmp_path / "read-only"
    folder.mkdir()
    (folder / "JOURNAL.md").write_text("kept")
    mount = ["mount", "--bind", str(folder), str(folder)]
    try:
        subprocess.run(mount, check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("needs the right to mount")
    subprocess.run(["mount", "-o", "remount,bind,ro", str(folder)], check=True, capture_output=True)
    yield folder
    subprocess.run(["umount", str(folder)], check=True, capture_output=True)


SWEEP = "sweep: one\ntitle: One\ngrid: {dropout_rate: [0.1, 0.3]}\n"


def test_outputs_that_cannot_be_written(fmnist_here, tmp_path, migrated):
    """One line, exit code 2, and the study as it was; for root too."""
    write_study([sweep_of(SWEEP, tmp_path)], f"sqlite:///{migrated}")
    before = fmnist_here("results", "--json").stdout
    (tmp_path / "taken").write_text("kept")
    for command, output, reason in (
        ("plot", "/proc/x", "one.png: cannot be written: No such file or directory"),
        ("plot", "taken", "one.png: cannot be written: taken is not a folder"),
        ("plot", "x" * 300, "one.png: cannot be written: File name too long"),
        ("journal", "/proc/x/J.md", "J.md: cannot be written: No such file or directory"),
        ("journal", "taken/J.md", "J.md: cannot be read: Not a directory"),
        ("journal", ".", ".: cannot be read: Is a directory"),
    ):
        done = fmnist_here(command, "--output", output)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("error: ")
        assert done.stderr.endswith(f"{reason}\n")
        assert len(done.stderr.splitlines()) == 1
    assert (tmp_path / "taken").read_text() == "kept"
    assert fmnist_here("results", "--json").stdout == before


def test_an_output_folder_that_is_read_only(fmnist_here, tmp_path, migrated, read_only):
    write_study([sweep_of(SWEEP, tmp_path)], f"sqlite:///{migrated}")
    for command, output in (("plot", read_only), ("journal", read_only / "x.md")):
        done = fmnist_here(command, "--output", output)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.endswith(": cannot be written: Read-only file system\n")
    assert (read_only / "JOURNAL.md").read_text() == "kept"


def test_artefacts_that_cannot_be_written(fmnist_here, tmp_path, migrated):
    """A file where MLflow's folder should be: the figures are there all the same."""
    write_study([sweep_of(SWEEP, tmp_path)], f"sqlite:///{migrated}")
    (tmp_path / "mlruns").rename(tmp_path / "moved")
    (tmp_path / "mlruns").write_text("in the way")
    done = fmnist_here("plot")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: the tracking store sqlite:///{migrated} failed: ")
    assert "Not a directory" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert len(list((tmp_path / "visualizations").iterdir())) == 2


@pytest.mark.slow
def test_a_store_that_is_read_only(fmnist, sweep_file, read_only):
    """Nothing is trained; MLflow's own traceback does not reach the user."""
    for store in (f"sqlite:///{read_only}/new.db", f"file:{read_only}/mlruns"):
        done = fmnist("run", sweep_file(SWEEP), "--set=train_size=200", "--tracking-uri", store)
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("plan    ")
        assert "\nerror: the tracking store " in done.stderr
        assert len(done.stderr.splitlines()) == 2


def test_a_pipe_is_not_read_for_what_is_there(tmp_path):
    """A journal written into one would wait for ever."""
    os.mkfifo(tmp_path / "pipe")
    assert read_text(tmp_path / "pipe") is None
