"""A worker process on this machine: it trains, writes checkpoints, and tells the parent."""

import multiprocessing
import os
import signal
import threading
import warnings
from multiprocessing.connection import Connection

from fmnist_tuning.data.shared import SharedImages
from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running.events import Failed
from fmnist_tuning.running.trainer import Device, Trainer


def serve(connection: Connection, images: SharedImages, device: Device) -> None:
    """A worker's life: load once, then train each task until the pipe closes.

    It sends its `Environment`, or a text that says why it cannot work; then the events of each run.
    """
    # Ctrl-C reaches all processes of the terminal, but only the parent should handle it.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    warnings.filterwarnings("ignore")
    _end_with_parent()
    try:
        trainer = Trainer(images.arrays, device)
    except FmnistError as error:
        connection.send(str(error))
        return
    try:
        connection.send(trainer.environment)
        while True:
            task = connection.recv()
            for news in trainer.train(task.run, task.saved(), task.epochs):
                event = task.keep(news)
                connection.send(event)
                if isinstance(event, Failed):
                    break
    except (EOFError, OSError):
        return  # the parent has ended or closed the pipe


def _end_with_parent() -> None:
    """End with the parent, even in mid-epoch, because another command may continue the run."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
