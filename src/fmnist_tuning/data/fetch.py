"""Downloads the images with torchvision's downloader, or if this fails, from Debian's package."""

import io
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from fmnist_tuning.data.files import CHECKSUMS, DEBIAN_FOLDER, PUBLISHED, TORCHVISION_LAYOUT, verify
from fmnist_tuning.errors import DataError

PACKAGE: Final = "dataset-fashion-mnist"
NETWORK_TIMEOUT_SECONDS: Final = 30
APT_TIMEOUT_SECONDS: Final = 300

Say = Callable[[str], None]


def fetch_images(
    folder: Path, *, say: Say, dataset: type[Any] | None = None, apt: str | None = "apt-get"
) -> Path:
    """Download and verify the four files, and put them into `folder` in torchvision's layout.

    The files are downloaded to a temporary folder. They are moved only after all four are verified,
    so an incomplete download is never used. `dataset` can replace torchvision's class by one with
    other `mirrors` and `resources`. Without `apt`, Debian's package is not tried.

    Returns:
        The folder with the four files.

    Raises:
        DataError: If every attempt failed; has all reasons, and tells what to do by hand.
    """
    folder = folder.absolute()  # apt and dpkg-deb run in another folder
    if (folder / TORCHVISION_LAYOUT / CHECKSUMS).exists():
        raise DataError(
            f"{folder / TORCHVISION_LAYOUT}: holds your own images, as its {CHECKSUMS} says; "
            "--fetch would replace them: name another folder with --data-dir, or move them away"
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            fetched = _fetch_into(Path(scratch), say, dataset, apt)
            target = folder / TORCHVISION_LAYOUT
            target.mkdir(parents=True, exist_ok=True)
            for name in PUBLISHED:
                present = next(p for p in (fetched / name, fetched / f"{name}.gz") if p.exists())
                # If an old file exists in the other form, it might be read instead.
                for stale in (target / name, target / f"{name}.gz"):
                    stale.unlink(missing_ok=True)
                present.replace(target / present.name)
    except OSError as error:
        raise DataError(f"{folder} cannot be written: {error}") from None
    verify(target)
    return target


def _fetch_into(scratch: Path, say: Say, dataset: type[Any] | None, apt: str | None) -> Path:
    failures = []
    ways: list[tuple[str, Callable[[], Path]]] = [
        ("torchvision's mirror", lambda: _with_torchvision(scratch / "torchvision", dataset))
    ]
    if apt and shutil.which(apt):
        ways.append((f"Debian's {PACKAGE}", lambda: _with_apt(scratch / "apt", apt)))
    for name, way in ways:
        say(f"fetching Fashion-MNIST from {name} ...")
        try:
            found = way()
            verify(found)
        except (RuntimeError, OSError, subprocess.SubprocessError, DataError) as error:
            failures.append(f"  {name}: {_last_line(error)}")
            say(failures[-1].strip())
        else:
            return found
    lines = [
        "Fashion-MNIST could not be fetched:",
        *failures,
        "To add them by hand, put these four files, plain or as .gz, into ./data or the "
        "folder of --data-dir:",
        *(f"  {name}" for name in PUBLISHED),
        f"On Debian or Ubuntu, `sudo apt install {PACKAGE}` puts them into {DEBIAN_FOLDER}, where "
        "fmnist looks too.",
    ]
    raise DataError("\n".join(lines))


def _with_torchvision(scratch: Path, dataset: type[Any] | None) -> Path:
    if dataset is None:
        from torchvision.datasets import FashionMNIST  # noqa: PLC0415  takes two seconds

        dataset = FashionMNIST
    progress_bars = io.StringIO()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_SECONDS)  # torchvision's downloads have no time limit
    try:
        with redirect_stderr(progress_bars), redirect_stdout(progress_bars):
            dataset(str(scratch), download=True)
    finally:
        socket.setdefaulttimeout(before)
    return scratch / dataset.__name__ / "raw"


def _with_apt(scratch: Path, apt: str) -> Path:
    """Unpack Debian's package; no root is needed, because apt keeps its lists in `scratch`."""
    lists, archives = scratch / "lists", scratch / "archives"
    for folder in (lists, archives):
        (folder / "partial").mkdir(parents=True)
    options = [
        f"-oDir::State::Lists={lists}",
        f"-oDir::Cache={scratch}",
        f"-oDir::Cache::Archives={archives}",
        "-oDebug::NoLocking=1",
        "-oAPT::Sandbox::User=",
        f"-oAcquire::http::Timeout={NETWORK_TIMEOUT_SECONDS}",
        "-oAcquire::Retries=1",
        "-qq",
    ]
    for arguments in (["update"], ["download", PACKAGE]):
        _run([apt, *options, *arguments], scratch)
    package = next(scratch.glob(f"{PACKAGE}_*.deb"))
    _run(["dpkg-deb", "--extract", str(package), str(scratch / "unpacked")], scratch)
    return scratch / "unpacked" / DEBIAN_FOLDER.relative_to("/")


def _run(argv: list[str], folder: Path) -> None:
    done = subprocess.run(
        argv, cwd=folder, capture_output=True, text=True, timeout=APT_TIMEOUT_SECONDS, check=False
    )
    if done.returncode:
        raise RuntimeError(done.stderr.strip() or f"{argv[0]} ended with {done.returncode}")


def _last_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
