import os
import signal
import subprocess
import sys

import pytest
import sqlalchemy

from fmnist_tuning import interruption
from fmnist_tuning.errors import Interrupted
from fmnist_tuning.interruption import check, handle_signals, shielded
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker


@pytest.fixture
def interrupt(monkeypatch):
    """Sends this process a signal that it handles as the command line does."""
    numbers = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {number: signal.getsignal(number) for number in numbers}
    monkeypatch.setattr(interruption, "_asked", False)
    handle_signals()
    yield lambda: os.kill(os.getpid(), signal.SIGTERM)
    for number, handler in before.items():
        signal.signal(number, handler)


def test_outside_of_a_shield(interrupt):
    """A signal ends what the command is doing."""
    with pytest.raises(Interrupted):
        interrupt()


def test_within_shields(interrupt):
    """What is shielded is done to its end; then the command ends, and nothing more is begun."""
    done = []

    def work():
        with shielded():
            with shielded():
                interrupt()
                done.append("inner")
            done.append("outer")

    with pytest.raises(Interrupted):
        work()
    assert done == ["inner", "outer"]
    with pytest.raises(Interrupted), shielded():
        pass


def test_an_error_within_a_shield(interrupt):
    """An error is not replaced by the interruption that came before it."""

    @shielded()
    def work():
        interrupt()
        raise ValueError("wrong")

    with pytest.raises(ValueError, match="wrong"):
        work()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_signal_that_a_finalizer_swallows(interrupt):
    """Python drops what is raised in a finalizer; the next step raises it again."""

    class Finalized:
        def __del__(self):
            interrupt()

    found = Finalized()
    del found
    with pytest.raises(Interrupted):
        check()


def test_a_signal_while_the_database_works(interrupt, migrated):
    """A write is whole, and the database stays open for what the command still has to write."""
    study = Study.open("study", f"sqlite:///{migrated}")
    run = study.client.create_run(study.experiment_id).info.run_id
    tracker, asked = Tracker(study), []
    engine = study.client._tracking_client.store.engine  # noqa: SLF001

    @sqlalchemy.event.listens_for(engine, "before_cursor_execute")
    def cut(*_):
        if not asked:
            asked.append(True)
            interrupt()

    with pytest.raises(Interrupted):
        tracker.end_run(run, "KILLED", "interrupted")
    found = study.client.get_run(run)
    assert found.info.status == "KILLED"
    assert found.data.tags["fmnist.reason"] == "interrupted"


def test_a_second_signal():
    """Whoever asks twice does not wait, not even for a database."""
    code = (
        "import os, signal\n"
        "from fmnist_tuning.interruption import handle_signals, shielded\n"
        "handle_signals()\n"
        "with shielded():\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('once', flush=True)\n"
        "    os.kill(os.getpid(), signal.SIGINT)\n"
        "    print('twice', flush=True)\n"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False
    )
    assert (ended.returncode, ended.stdout) == (-signal.SIGINT, "once\n")
