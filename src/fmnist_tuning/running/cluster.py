"""The door to Ray: joining a cluster or starting one here, and what its nodes can take."""

import contextlib
import hashlib
import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running.capacity import WORKER_BYTES, workers

if TYPE_CHECKING:
    from fmnist_tuning.running.trainer import Device

_ANSWER_SECONDS: Final = 5.0
_JOIN_SECONDS: Final = 60.0
_SOURCES: Final = Path(__file__).parent.parent
# Ray itself compares its own version and Python's.
_PACKAGES: Final = ("fmnist-tuning", "torch", "numpy")
_CODE: Final = "fmnist's own code"
_INSTALL: Final = "install fmnist with it, `pip install -e '.[ray]'` in its folder"


@dataclass(frozen=True, slots=True)
class Node:
    """A computer of the cluster, in Ray's words a node."""

    id: str
    name: str  # for people
    cpus: int
    gpus: float
    memory_bytes: int

    def slots(self, device: "Device", gpus_per_run: float) -> int:
        """How many workers it can have."""
        if device == "cuda":
            return int(self.gpus) * int(1 / gpus_per_run + 1e-9)  # a worker is on one GPU
        return min(self.cpus, self.memory_bytes // WORKER_BYTES)


class _Starting:
    """Ray as it starts on this machine, while the command does other things.

    Its processes end with the thread that has started them, so this one stays to the end.
    """

    def __init__(self, jobs: int | None) -> None:
        self._started, self._ended = threading.Event(), threading.Event()
        self._error: Exception | None = None
        threading.Thread(target=self._start, args=(jobs,), daemon=True).start()

    def _start(self, jobs: int | None) -> None:
        try:
            _init(None, jobs)
        except Exception as error:  # noqa: BLE001  whoever waits for it gets it
            self._error = error
        finally:
            self._started.set()
        self._ended.wait()

    def wait(self) -> None:
        self._started.wait()
        if self._error is not None:
            raise self._error

    def end(self) -> None:
        self._ended.set()


_starting: _Starting | None = None


def begin(address: str | None, jobs: int | None = None) -> None:
    """Join the cluster at an address, or begin to start Ray on this machine.

    Without an address that of `RAY_ADDRESS` counts, as everywhere in Ray. What starts here listens
    on 127.0.0.1 only, and ends with the command.

    Raises:
        FmnistError: When Ray is not installed, nobody answers, or the cluster takes no one from
            this machine.
    """
    global _starting  # noqa: PLW0603  a process has one Ray
    if importlib.util.find_spec("ray") is None:
        raise FmnistError(f"--executor ray: Ray is not installed here; {_INSTALL}")
    address = address or os.environ.get("RAY_ADDRESS") or None
    address = None if address == "local" else address
    # Without this, a call after a failed start would start Ray again, with none of the rest.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"
    if "ray" not in sys.modules:  # it reads all of them on import
        if address is not None:
            os.environ.setdefault("RAY_NUM_REDIS_GET_RETRIES", "3")  # to join, a second each
        else:
            # Ray's own switch for laptops, where it listens on 127.0.0.1.
            os.environ.setdefault("RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER", "0")
        if address is None or _token_is_here():
            os.environ.setdefault("RAY_AUTH_MODE", "token")
    if address is None:
        _starting = _Starting(jobs)
    else:
        _check_address(address)
        _try(address)
        _init(address, jobs)


def connect() -> None:
    """Wait until Ray has started here; returns at once if this process has joined a cluster.

    Raises:
        FmnistError: When it does not start.
    """
    if _starting is not None:
        _starting.wait()


def disconnect() -> None:
    """Leave the cluster; what was started here ends."""
    global _starting  # noqa: PLW0603
    with contextlib.suppress(FmnistError):
        connect()

    import ray  # noqa: PLC0415

    ray.shutdown()
    if _starting is not None:
        _starting.end()
        _starting = None


def _init(address: str | None, jobs: int | None) -> None:
    import ray  # noqa: PLC0415  takes a second, and is not everybody's

    # Ray prints its own errors to stdout, where our results go, and has no switch for that. What
    # concerns a run is told by the calls that fail.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None  # noqa: SLF001
    count = max(jobs or 0, workers())
    here = {"num_cpus": count, "_memory": count * WORKER_BYTES, "include_dashboard": False}
    before = signal.getsignal(signal.SIGTERM)
    quiet = {"configure_logging": False, "logging_level": "ERROR", "log_to_driver": False}
    try:
        ray.init(address or "local", **quiet, **({} if address else here))
    except Exception as error:  # noqa: BLE001  Ray raises plain ones too
        raise FmnistError(_said(address, str(error))) from None
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)  # Ray's own would end us without a word


def nodes() -> list[Node]:
    """The living nodes of the cluster, by name."""
    import ray  # noqa: PLC0415

    return sorted(map(_node, (n for n in ray.nodes() if n["Alive"])), key=lambda node: node.name)


@contextlib.contextmanager
def answering() -> Iterator[None]:
    """Within it, a cluster that does not answer is an `FmnistError`."""
    import ray  # noqa: PLC0415

    try:
        yield
    except (ray.exceptions.RayError, ConnectionError) as error:
        raise FmnistError(
            f"the cluster does not answer ({_last_line(str(error))}); finished epochs are kept: "
            "when it does, run the same command again to continue"
        ) from None


def versions() -> dict[str, str]:
    """Of what must be the same everywhere, that of this process."""
    found = {package: version(package).partition("+")[0] for package in _PACKAGES}
    code = hashlib.sha256()
    for path in sorted(_SOURCES.rglob("*.py")):
        code.update(path.read_bytes())
    return {**found, _CODE: code.hexdigest()[:8]}


def difference(theirs: dict[str, str]) -> str:
    """What differs on a node from this machine, and the remedy; empty if nothing does."""
    ours = versions()
    found = [
        f"{what} {theirs.get(what)} there and {own} here"
        for what, own in ours.items()
        if theirs.get(what) != own
    ]
    return f"found {' and '.join(found)}, allowed: the same" if found else ""


def loading_failed(error: BaseException) -> str:
    """Why a worker could not load on a node, and the remedy."""
    if missing := missing_module(error):
        return f"Python finds no {missing} there; {_INSTALL} on that node, for Ray's own Python"
    return f"a worker cannot start there ({_last_line(str(error))})"


def missing_module(error: BaseException) -> str | None:
    """The module that a node lacks, if that is what is wrong."""
    found = re.search(r"No module named '([\w.]+)'", str(error))
    return found[1] if found else None


def _try(address: str) -> None:
    """Join and leave in another process: Ray ends the one that it cannot let in, without a word."""
    code = "import sys, ray; ray.init(sys.argv[1], log_to_driver=False)"
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, address],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_JOIN_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise FmnistError(
            f"--address {address}: what answers there is no Ray cluster, or takes longer than "
            f"{_JOIN_SECONDS:.0f} seconds"
        ) from None
    if done.returncode:
        raise FmnistError(_said(address, done.stderr))


def _token_is_here() -> bool:
    """Whether Ray has the token of a cluster on this machine, by its own rules."""
    names = {"RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"}
    return bool(names & os.environ.keys()) or Path("~/.ray/auth_token").expanduser().is_file()


def _node(found: dict[str, Any]) -> Node:
    has = found["Resources"]
    host, address = found["NodeManagerHostname"], found["NodeManagerAddress"]
    return Node(
        id=found["NodeID"],
        name=host if host == address else f"{host} ({address})",
        cpus=int(has.get("CPU", 0)),
        gpus=float(has.get("GPU", 0)),
        memory_bytes=int(has.get("memory", 0)),
    )


def _check_address(address: str) -> None:
    """Say at once that nobody answers; Ray would try for minutes."""
    if address == "auto":
        return
    if address.startswith("ray://"):
        raise FmnistError(
            f"--address: found {address!r}, Ray's address for clients; allowed: HOST:PORT, from a "
            "machine that is a node of the cluster itself (`ray start --address=HOST:PORT`)"
        )
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and 0 < int(port[:6]) < 1 << 16):
        raise FmnistError(f"--address: found {address[:80]!r}, allowed: HOST:PORT, or auto")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _ANSWER_SECONDS).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or error
        raise FmnistError(
            f"--address {address}: nobody answers there ({reason}); start a cluster with `ray "
            "start --head`, which says its address"
        ) from None


def _said(address: str | None, text: str) -> str:
    """Ray's error in words."""
    if address is None:
        return f"--executor ray: Ray does not start on this machine ({_last_line(text)})"
    if found := re.search(r"[Vv]ersion mismatch.*", " ".join(text.split())):
        return f"--address {address}: {found[0][:300]}; install the same on all nodes"
    if address == "auto" and "ConnectionError" in text:
        return (
            "--address auto: there is no cluster on this machine; start one with `ray start "
            "--head`, or leave --address out to use this machine alone"
        )
    if "Failed to connect to socket" in text:
        return (
            f"--address {address}: this machine is not a node of the cluster; `ray start "
            f"--address={address}` makes it one"
        )
    if "AuthToken" in text or "authentication token" in text:
        return (
            f"--address {address}: the cluster asks for its token; set RAY_AUTH_TOKEN to what `ray "
            "get-auth-token` says on its head"
        )
    return f"--address {address}: cannot be joined ({_last_line(text)})"


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1][:300] if lines else "Ray does not say why"
