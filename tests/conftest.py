"""Real things made tiny: IDX files, stores and projects that behave like the real ones."""

import gzip
import hashlib
import os
import shutil
import signal
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

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


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch, tmp_path):
    """No test sees the developer's stores, data or colours, nor leaves anything behind."""
    for name in ("MLFLOW_TRACKING_URI", "FMNIST_DATA_DIR", "FORCE_COLOR", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.chdir(tmp_path)


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
            text=True,
            timeout=120,
            check=False,
            **options,
        )

    return run


@pytest.fixture
def fmnist_here(monkeypatch, capsys, tiny_data) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same command line in this process: three seconds of imports less a call."""
    from fmnist_tuning.cli import main

    monkeypatch.setenv("FMNIST_DATA_DIR", str(tiny_data))

    def run(*arguments: object):
        handlers = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
        monkeypatch.setattr(sys, "argv", ["fmnist", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as end:
            code = end.code or 0
        finally:
            for number, handler in zip((signal.SIGINT, signal.SIGTERM), handlers, strict=True):
                signal.signal(number, handler)
        shown = capsys.readouterr()
        return subprocess.CompletedProcess(arguments, code, shown.out, shown.err)

    return run


@pytest.fixture(scope="session")
def _blank_store(tmp_path_factory) -> Path:
    from mlflow import MlflowClient

    path = tmp_path_factory.mktemp("blank") / "mlflow.db"
    MlflowClient(f"sqlite:///{path}").search_experiments()
    return path


@pytest.fixture
def migrated(tmp_path, _blank_store) -> Path:
    """MLflow's default store in the test's folder, as empty as a new one.

    The migrations that make one take three seconds; most tests are about something else.
    """
    return Path(shutil.copy(_blank_store, tmp_path / "mlflow.db"))


@pytest.fixture(scope="session")
def _exported(tmp_path_factory, _blank_store) -> Path:
    from studies import write_study
    from test_results import sweeps

    folder = tmp_path_factory.mktemp("exported")
    shutil.copy(_blank_store, folder / "mlflow.db")
    write_study(sweeps(), f"sqlite:///{folder}/mlflow.db")
    done = subprocess.run(
        [sys.executable, "-m", "fmnist_tuning", "export", "study.jsonl.gz"],
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    assert (done.stdout, done.stderr) == ("study.jsonl.gz: 26 runs and 6 sweeps\n", "")
    return folder


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
