"""A real MLflow server on 127.0.0.1, as small as it comes, and a gate before it."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


def start_server(
    folder: Path, *arguments: str, command: str = "server", workers: int = 1, port: int = 0
) -> tuple[subprocess.Popen[bytes], str]:
    """Start `mlflow server` (or `ui`) in a folder; gives it and its address once it answers."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", port))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", "mlflow", command, "--port", str(port)),
            *("--workers", str(workers), *arguments),
        ],
        cwd=folder,
        env={**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    address = f"http://127.0.0.1:{port}"
    try:
        _wait_for(f"{address}/health")
    except BaseException:
        os.killpg(process.pid, signal.SIGKILL)
        raise
    return process, address


@contextmanager
def mlflow_server(folder: Path, *arguments: str, command: str = "server") -> Iterator[str]:
    """The address of a server of one's own, which ends with the block."""
    process, address = start_server(folder, *arguments, command=command)
    try:
        yield address
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _wait_for(url: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            with urllib.request.urlopen(url, timeout=5):  # noqa: S310
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.1)


class Gate:
    """An address before a server's own. Shut, it cuts every connection and refuses new ones.

    To its callers the server has been killed, and the next one is there as soon as it is opened:
    no other test that uses the server notices, and nobody waits for one to start.
    """

    def __init__(self, server: str) -> None:
        self._server = int(server.rpartition(":")[2])
        self._port = 0
        self._open: list[socket.socket] = []
        self.open()
        self.address = f"http://127.0.0.1:{self._port}"

    def open(self) -> None:
        """Let callers through."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self._port))
        listener.listen()
        self._port = listener.getsockname()[1]
        self._open = [listener]
        threading.Thread(target=self._accept, args=(listener,), daemon=True).start()

    def shut(self) -> None:
        """Hang up on everybody."""
        for end in self._open:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self._open = []

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was shut
            while True:
                caller, _ = listener.accept()
                try:
                    called = socket.create_connection(("127.0.0.1", self._server))
                except OSError:  # the server itself is away
                    caller.close()
                    continue
                self._open += [caller, called]
                for ends in ((caller, called), (called, caller)):
                    threading.Thread(target=_carry, args=ends, daemon=True).start()


def _carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while content := source.recv(65_536):
            target.sendall(content)
        target.shutdown(socket.SHUT_WR)
