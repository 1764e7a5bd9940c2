"""Real things made tiny: IDX files, stores and projects that behave like the real ones."""

import gzip
import hashlib
import io
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock

# Whoever starts the tests in the background may ignore these, and every process inherits that.
for number in (signal.SIGINT, signal.SIGHUP):
    if signal.getsignal(number) is signal.SIG_IGN:
        signal.signal(number, signal.SIG_DFL)

ROOT = Path(__file__).parents[1]
REAL_DATA = Path("/usr/share/datasets/fashion-mnist")

TRAIN_COUNT, TEST_COUNT = 300, 100

# Small enough to train in a second, and of the same parts as the real thing.
TINY = {
    "train_size": 200,
    "val_size": 100,
    "epochs": 2,
    "batch_size": 32,
    "conv_channels": [4, 8],
    "fc_units": [16],
}
# Starting a worker takes longer than its tiny training: one will do.
TINY_RUN = ["--jobs=1", *(f"--set={key}={value}" for key, value in TINY.items())]

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


# By name: a seventh file in `configs/` is nobody's business here.
EXPERIMENTS = (
    "exp1_dropout",
    "exp2_batch_norm",
    "exp3_conv_depth",
    "exp4_pooling",
    "exp5_interactions",
    "exp6_combined",
)
CONFIGS = [ROOT / f"configs/{name}.yaml" for name in EXPERIMENTS]


@pytest.hookimpl(tryfirst=True)  # before `-m` deselects
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The slow tests first, so that no worker is left alone with one at the end."""
    for item in items:
        if "crowned" in getattr(item, "fixturenames", ()):
            item.add_marker("slow")  # its study is trained and registered first
    items.sort(key=lambda item: item.get_closest_marker("slow") is None)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """End the servers that the workers of this run have shared."""
    if hasattr(session.config, "workerinput"):
        return
    base = session.config._tmp_path_factory.getbasetemp()  # noqa: SLF001
    for file in base.glob("*.made/pid"):
        with suppress(ProcessLookupError):
            os.killpg(int(file.read_text()), signal.SIGKILL)
    for file in base.glob("*.made/cluster"):
        from postgres import Cluster

        folder, port = file.read_text().split("\n")
        Cluster(Path(folder), int(port)).remove()


@pytest.fixture(scope="session")
def made_once(tmp_path_factory) -> Callable[[str, Callable[[Path], None]], Path]:
    """Has a folder made by the first worker that needs it; all the others use the same one."""
    base = tmp_path_factory.getbasetemp()
    base = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def folder_of(name: str, make: Callable[[Path], None]) -> Path:
        folder = base / f"{name}.made"
        with FileLock(base / f"{name}.lock"):
            if not folder.exists():
                folder.mkdir()
                try:
                    make(folder)
                except BaseException:
                    shutil.rmtree(folder)
                    raise
        return folder

    return folder_of


def matplotlibs_own() -> str:
    """The file with which matplotlib comes."""
    package = find_spec("matplotlib")
    return str(Path(package.origin).parent / "mpl-data/matplotlibrc")


# No test sees the developer's stores, data, colours or figure styles, fixtures of a whole session
# included.
for _name in ("MLFLOW_TRACKING_URI", "FMNIST_DATA_DIR", "FORCE_COLOR", "NO_COLOR"):
    os.environ.pop(_name, None)
os.environ["MATPLOTLIBRC"] = matplotlibs_own()


@pytest.fixture(autouse=True)
def _in_a_folder_of_its_own(monkeypatch, tmp_path):
    """No test leaves anything behind."""
    monkeypatch.chdir(tmp_path)


def lacking(told: str, expected: str) -> str:
    """The first part of what is expected (` … ` between parts) that a message lacks."""
    position = 0
    for part in expected.split(" … "):
        position = told.find(part, position)
        if position < 0:
            return part
        position += len(part)
    return ""


def idx(array: np.ndarray) -> bytes:
    """An array of bytes in the IDX format."""
    header = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return header + array.astype(np.uint8).tobytes()


def tiny_images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise with a bright square whose place tells the class: learnable in two epochs."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    rng.shuffle(labels)
    images = rng.integers(0, 60, (count, 28, 28))
    for image, label in zip(images, labels, strict=True):
        row, column = divmod(int(label), 4)
        image[2 + 8 * row : 9 + 8 * row, 7 * column : 6 + 7 * column] += 150
    return images, labels


def write_data(folder: Path, *, checksums: bool = True, gzipped: bool = False) -> Path:
    """Four IDX files, and the checksums that admit them in place of Fashion-MNIST."""
    folder.mkdir(parents=True, exist_ok=True)
    arrays = (*tiny_images(TRAIN_COUNT, 1), *tiny_images(TEST_COUNT, 2))
    lines = []
    for name, array in zip(NAMES, arrays, strict=True):
        content = idx(array)
        if gzipped:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
        lines.append(f"{hashlib.sha256(content).hexdigest()}  {name}")
    if checksums:
        (folder / "SHA256SUMS").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory) -> Path:
    """A folder with 300 training and 100 test images."""
    return write_data(tmp_path_factory.mktemp("images"))


@pytest.fixture
def sweep_file(tmp_path) -> Callable[[str, str], Path]:
    """Writes a sweep file into the test's folder."""

    def write(text: str, name: str = "sweep.yaml") -> Path:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


@pytest.fixture
def fmnist(tmp_path, tiny_data) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs the real command line in the test's folder, as a process of its own."""

    def run(*arguments: object, env=None, data=True, script=None, **options):
        environment = {**os.environ, **(env or {})}
        if data:
            environment["FMNIST_DATA_DIR"] = str(tiny_data)
        return subprocess.run(
            [
                sys.executable,
                *([script] if script else ["-m", "fmnist_tuning"]),
                *map(str, arguments),
            ],
            cwd=options.pop("cwd", tmp_path),
            env=environment,
            capture_output=True,
            text=options.pop("text", True),
            timeout=120,
            check=False,
            **options,
        )

    return run


def call(*arguments: object) -> subprocess.CompletedProcess[str]:
    """The command line in this process: three seconds of imports less."""
    from fmnist_tuning.cli import main

    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    streams = [io.TextIOWrapper(io.BytesIO(), "utf-8", newline="") for _ in range(2)]
    code = 0
    try:
        with (
            pytest.MonkeyPatch.context() as patch,
            redirect_stdout(streams[0]),
            redirect_stderr(streams[1]),
        ):
            patch.setattr(sys, "argv", ["fmnist", *map(str, arguments)])
            main()
    except SystemExit as end:
        code = end.code or 0
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    said = []
    for stream in streams:
        stream.flush()
        said.append(stream.buffer.getvalue().decode())
    return subprocess.CompletedProcess(arguments, code, *said)


@pytest.fixture
def fmnist_here(monkeypatch, tiny_data) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same command line in this process."""
    monkeypatch.setenv("FMNIST_DATA_DIR", str(tiny_data))
    return call


@pytest.fixture(scope="session")
def call_in(tiny_data) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same in a folder that outlives the test; what fails there fails what needs it."""

    def run(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("FMNIST_DATA_DIR", str(tiny_data))
            patch.chdir(folder)
            done = call(*arguments)
        assert done.returncode == 0, done.stderr
        return done

    return run


@pytest.fixture(scope="session")
def blank_store(made_once) -> Path:
    def make(folder: Path) -> None:
        from mlflow import MlflowClient

        MlflowClient(f"sqlite:///{folder}/mlflow.db").search_experiments()

    return made_once("blank", make) / "mlflow.db"


@pytest.fixture
def migrated(tmp_path, blank_store) -> Path:
    """MLflow's default store in the test's folder, as empty as a new one.

    The migrations that make one take three seconds; most tests are about something else.
    """
    return Path(shutil.copy(blank_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def server(made_once, blank_store) -> str:
    """The address of a real MLflow server, one for the whole run: name experiments of your own."""
    from servers import start_server

    def make(folder: Path) -> None:
        shutil.copy(blank_store, folder / "server.db")
        process, address = start_server(
            folder, "--backend-store-uri", f"sqlite:///{folder}/server.db"
        )
        (folder / "pid").write_text(str(process.pid))
        (folder / "address").write_text(address)

    return (made_once("server", make) / "address").read_text()


@pytest.fixture(scope="session")
def _cluster(made_once):
    """A PostgreSQL, and a real MLflow server on it, one of each for the whole run."""
    from postgres import Cluster, skip_without_postgres
    from servers import start_server

    skip_without_postgres()

    def make(folder: Path) -> None:
        cluster = Cluster.make()
        (folder / "cluster").write_text(f"{cluster.folder}\n{cluster.port}")
        process, address = start_server(folder, "--backend-store-uri", cluster.address, workers=2)
        (folder / "pid").write_text(str(process.pid))
        (folder / "address").write_text(address)

    return made_once("postgres", make)


@pytest.fixture
def cluster(_cluster):
    """The PostgreSQL, for this test alone while it runs: it may be stopped and started."""
    from postgres import Cluster

    folder, port = (_cluster / "cluster").read_text().split("\n")
    with FileLock(_cluster / "alone.lock"):
        server, pid = ((_cluster / name).read_text() for name in ("address", "pid"))
        yield Cluster(Path(folder), int(port), server, int(pid))


@pytest.fixture
def on_postgres(cluster) -> str:
    """The address of the MLflow server on it: name experiments of your own."""
    return cluster.server


@pytest.fixture(scope="session")
def _written(made_once, blank_store) -> Path:
    from studies import six_experiments, write_study

    def make(folder: Path) -> None:
        shutil.copy(blank_store, folder / "mlflow.db")
        write_study(six_experiments(), f"sqlite:///{folder}/mlflow.db")

    return made_once("study", make) / "mlflow.db"


@pytest.fixture
def study_of_six(tmp_path, _written) -> Path:
    """A finished study of all six experiments, in MLflow's default store in the test's folder."""
    return Path(shutil.copy(_written, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def _exported(made_once, call_in, _written) -> Path:
    def make(folder: Path) -> None:
        shutil.copy(_written, folder / "mlflow.db")
        done = call_in(folder, "export", "study.jsonl.gz")
        assert (done.stdout, done.stderr) == ("study.jsonl.gz: 26 runs and 6 sweeps\n", "")

    return made_once("exported", make)


@pytest.fixture
def original(tmp_path, _exported) -> Path:
    """The exported file of all six experiments, in the test's folder, and its `original.db`."""
    shutil.copy(_exported / "mlflow.db", tmp_path / "original.db")
    return Path(shutil.copy(_exported / "study.jsonl.gz", tmp_path))


@pytest.fixture
def start_fmnist(tmp_path, tiny_data) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Starts the real command line and leaves it running; ends it with the test."""
    processes: list[subprocess.Popen[str]] = []

    def start(*arguments: object, env: dict[str, str] | None = None) -> subprocess.Popen[str]:
        processes.append(
            subprocess.Popen(
                [sys.executable, "-m", "fmnist_tuning", *map(str, arguments)],
                cwd=tmp_path,
                env={**os.environ, "FMNIST_DATA_DIR": str(tiny_data), **(env or {})},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                start_new_session=True,
            )
        )
        return processes[-1]

    yield start
    for process in processes:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Fashion-MNIST itself, where Debian's package has put it."""
    if not REAL_DATA.is_dir():
        pytest.skip("needs Debian's dataset-fashion-mnist")
    return REAL_DATA
