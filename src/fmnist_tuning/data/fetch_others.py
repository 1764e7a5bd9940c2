"""Downloads data sets other than Fashion-MNIST, by torchvision or from their authors' page."""

import hashlib
import io
import socket
import tempfile
from collections.abc import Callable
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any, Final

from fmnist_tuning.data.catalogue import FILES
from fmnist_tuning.data.fetch import NETWORK_TIMEOUT_SECONDS, Say
from fmnist_tuning.data.files import CHECKSUMS, OTHER_LAYOUTS
from fmnist_tuning.errors import DataError
from fmnist_tuning.sweeps.datasets import DATASETS, DatasetName

# torchvision has CIFAR only as pickles, which nothing here loads. The MD5 are those of the page.
_CIFAR_PAGE: Final = "https://www.cs.toronto.edu/~kriz/"
ARCHIVES: Final = {
    "cifar10": (f"{_CIFAR_PAGE}cifar-10-binary.tar.gz", "c32a1d4ab5d03f1284b67883e8d87530"),
    "cifar100": (f"{_CIFAR_PAGE}cifar-100-binary.tar.gz", "03b5dce01913d631647c71ecec9e9cb8"),
}
"""The address of each archive, and its MD5."""

_CLASSES: Final = {"mnist": "MNIST", "kmnist": "KMNIST", "emnist_letters": "EMNIST"}


def fetch_dataset(
    name: DatasetName, folder: Path, *, say: Say, source: tuple[str, str] | type[Any] | None = None
) -> None:
    """Download a data set into a folder of data sets, and list its files in `SHA256SUMS`.

    What is downloaded is checked against its published MD5 before it is unpacked. `source` can
    replace torchvision's class, or an archive's address and MD5.

    Raises:
        DataError: With the reason, and what to do by hand.
    """
    if name in {"fashion_mnist", "folder"}:
        raise DataError(f"--fetch: found --dataset {name}, allowed: {', '.join(FILES)}")
    title, target = DATASETS[name].title, folder.absolute() / OTHER_LAYOUTS[name]
    say(f"fetching {title} ...")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as scratch:
            way = _by_archive if name in ARCHIVES else _by_torchvision
            found = _quietly(lambda: way(name, Path(scratch), source))
            _put(name, found, target)
    except (RuntimeError, OSError, StopIteration) as error:
        lines = [line for line in str(error).splitlines() if line.strip()]
        raise DataError(
            f"{title} could not be fetched: {lines[-1] if lines else type(error).__name__}\n"
            f"To add it by hand, put these files into {target} and list them with `sha256sum * > "
            f"{CHECKSUMS}` there: {', '.join(FILES[name])}"
        ) from None


def _quietly(download: Callable[[], Path]) -> Path:
    progress_bars = io.StringIO()
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(NETWORK_TIMEOUT_SECONDS)  # torchvision's downloads have no time limit
    try:
        with redirect_stderr(progress_bars), redirect_stdout(progress_bars):
            return download()
    finally:
        socket.setdefaulttimeout(before)


def _by_torchvision(name: str, scratch: Path, source: Any) -> Path:
    from torchvision import datasets  # noqa: PLC0415  takes two seconds

    kind = source or getattr(datasets, _CLASSES[name])
    more = {"split": "letters"} if name == "emnist_letters" else {}
    kind(str(scratch), download=True, **more)
    return scratch / str(kind.__name__) / "raw"


def _by_archive(name: str, scratch: Path, source: Any) -> Path:
    from torchvision.datasets.utils import download_and_extract_archive  # noqa: PLC0415

    address, md5 = source or ARCHIVES[name]
    download_and_extract_archive(address, str(scratch), md5=md5)
    return scratch / OTHER_LAYOUTS[name]


def _put(name: str, found: Path, target: Path) -> None:
    """Move the files to their place, and list them last: what is not listed is not used."""
    target.mkdir(parents=True, exist_ok=True)
    listing = target / CHECKSUMS
    listing.unlink(missing_ok=True)
    lines = []
    for each in FILES[name]:
        digest = hashlib.sha256((found / each).read_bytes()).hexdigest()
        lines.append(f"{digest}  {each}\n")
        (target / f"{each}.gz").unlink(missing_ok=True)  # it might be read instead
        (found / each).replace(target / each)
    listing.write_text("".join(lines), encoding="utf-8")
