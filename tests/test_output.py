"""What reaches the screen: on narrow and dumb terminals, in poor encodings, on full disks."""

import fcntl
import io
import os
import pty
import re
import shlex
import signal
import struct
import subprocess
import sys
import termios
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from conftest import TINY_RUN
from rich.console import Console

from fmnist_tuning.metrics import ACCURACY, EpochMetrics
from fmnist_tuning.options import degrade_output
from fmnist_tuning.progress import RunDisplay
from fmnist_tuning.running.events import (
    Environment,
    EpochEnded,
    Ready,
    Restarted,
    Resumed,
    Reused,
    Started,
)
from fmnist_tuning.running.pace import Pace
from fmnist_tuning.sweeps.plan import make_plan
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.text import counted

GRID = "grid: {dropout_rate: [0.1], use_batch_norm: [true, false]}"
SWEEP = f"sweep: exp9_long_name\ntitle: S\n{GRID}\n"
EPOCH = EpochMetrics(1, 0.5678, 0.8123, 0.4321, 0.8456, 10.0, 1000.0)


@pytest.fixture
def plan(sweep_file):
    (sweep,) = load_sweeps([sweep_file(SWEEP)], {"epochs": 4})
    return make_plan([sweep], "d", finished={}, stored={})


def ready(plan):
    runs = tuple(row.run for row in plan.trainings)
    return Ready(Environment("cpu", "Z80", 1, "2.9", "3.11"), 2, runs)


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_the_progress_on_a_terminal(plan, width):
    """Bars, counts, the time left, and below them what each run measured; seeds are told apart."""
    out = Console(file=io.StringIO(), force_terminal=True, width=width, color_system=None)
    with RunDisplay(out, plan) as display:
        display.show(ready(plan))
        for row in plan.trainings:
            display.show(Started(row.run))
        display.show(EpochEnded(plan.trainings[0].run, EPOCH))
        screen = Console(file=io.StringIO(), width=width)
        screen.print(*display.progress.get_renderables(), sep="\n")
    lines = screen.file.getvalue().splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["plan", "exp9", "exp9"]
    assert "1/8 epochs" in lines[0]
    assert "40 s left" in lines[0]
    assert "exp9 0.1 BN #0" in lines[1]
    assert "exp9 0.1 no BN #0" in lines[2]
    assert "━" in lines[0]
    figures = " ".join(" ".join(lines[3:]).split())
    expected = "train loss 0.5678 acc 81.23 %, val loss 0.4321 acc 84.56 %"
    assert figures == f"exp9 0.1 BN #0: {expected}"
    assert max(map(len, lines)) <= width


def test_the_time_left(plan):
    """Of what is left by two workers, at the pace that was measured; unknown before that."""
    pace, (first, second) = Pace(plan), (row.run for row in plan.trainings)
    assert pace.seconds_left(2) is None
    pace.advance(first, 1, 10.0)
    assert pace.seconds_left(1) == pytest.approx(70, abs=0.5)
    assert pace.seconds_left(2) == pytest.approx(40, abs=0.5)  # the other one's four epochs
    pace.advance(second, 3)  # resumed: done before, no measurement
    assert pace.seconds_left(1) == pytest.approx(40, abs=0.5)
    pace.restart(second)
    assert pace.seconds_left(1) == pytest.approx(70, abs=0.5)
    pace.end(first)
    pace.end(second)
    assert pace.seconds_left(2) == 0


def test_the_time_left_does_not_restart(plan):
    """What `begin` repeats is not counted twice; a combination's arms replace their estimate."""
    ahead = SimpleNamespace(trainings=plan.trainings, pending_runs=2)
    pace, (first, second) = Pace(ahead), (row.run for row in plan.trainings)
    pace.advance(first, 4, 40.0)
    pace.begin([first, second])
    assert pace.seconds_left(1) == pytest.approx(120, abs=0.5)  # four epochs, and eight to come
    pace.begin([replace(first, fingerprint="chosen")])
    assert pace.seconds_left(1) == pytest.approx(80, abs=0.5)


def test_a_run_that_another_command_has_finished(plan):
    """It counts as done in the plan's bar; one that was reused from the start does not."""
    out = Console(file=io.StringIO(), force_terminal=True, width=80)
    with RunDisplay(out, plan) as display:
        display.show(ready(plan))
        run = plan.trainings[0].run
        other = replace(run, fingerprint="from before")
        for reused in (other, run, run):
            display.show(Reused(reused, {ACCURACY: 0.9}))
        assert display.progress.tasks[0].completed == run.config.epochs


@pytest.mark.parametrize(("count", "lines"), [(3, 3), (60, 1)])
def test_many_reused_runs_are_one_line(plan, count, lines):
    """A decided study has hundreds of them."""
    out = Console(file=io.StringIO(), width=120)
    with RunDisplay(out, plan) as display:
        for _ in range(count):
            display.show(Reused(plan.rows[0].run, {ACCURACY: 0.9}))
    shown = out.file.getvalue().splitlines()
    assert len(shown) == lines
    assert (shown[0] == "exp9_long_name: 60 runs reused") == (lines == 1)


def test_the_plans_own_estimate_comes_first(sweep_file):
    """While nothing has been measured: three trainings by one worker, by two, and by many."""
    text = SWEEP.replace(GRID, "grid: {dropout_rate: [0.1, 0.2, 0.3]}")
    (sweep,) = load_sweeps([sweep_file(text)], {})
    plan = make_plan([sweep], "d", finished={}, stored={})
    assert Pace(plan).seconds_left(1) is None
    rows = [replace(row, seconds=60.0) for row in plan.rows]
    pace = Pace(replace(plan, rows=tuple(rows)))
    assert [round(pace.seconds_left(workers)) for workers in (1, 2, 9)] == [180, 90, 60]
    # One arm is estimated otherwise, for example because it was trained on a busy machine.
    rows[0] = replace(rows[0], seconds=6000.0)
    assert round(Pace(replace(plan, rows=tuple(rows))).seconds_left(1)) == 180


def test_a_run_that_goes_on_or_starts_over(plan):
    """The plan's bar counts what is done."""
    out = Console(file=io.StringIO(), force_terminal=True, width=80)
    with RunDisplay(out, plan) as display:
        display.show(ready(plan))
        run = plan.trainings[0].run
        display.show(Started(run))
        display.show(Resumed(run, (EPOCH, EPOCH)))
        assert [task.completed for task in display.progress.tasks] == [2, 2]
        display.show(Restarted(run, "its checkpoint is damaged"))
        assert [task.completed for task in display.progress.tasks] == [0, 0]


@pytest.mark.parametrize(
    ("encoding", "written"),
    [("ascii", "91.5 +- 0.2; -0.3 -> Uber ?"), ("latin-1", "91.5 ± 0.2; -0.3 -> Über ?")],
)
def test_signs_that_the_output_lacks(encoding, written):
    """The nearest that there is, and never an error."""
    stream = io.TextIOWrapper(io.BytesIO(), encoding=encoding)
    degrade_output(stream)
    stream.write("91.5 ± 0.2; −0.3 → Über 鞋")
    stream.flush()
    assert stream.buffer.getvalue().decode(encoding) == written


@pytest.mark.slow
@pytest.mark.usefixtures("study_of_six")
@pytest.mark.parametrize(
    "poor",
    [
        {"PYTHONIOENCODING": "ascii"},
        {"LC_ALL": "POSIX", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"},
    ],
)
def test_results_in_a_poor_encoding(fmnist, poor):
    """Everything is printed."""
    done = fmnist("results", "exp2_batch_norm", env=poor)
    assert done.returncode == 0, done.stderr
    assert "+-" in done.stdout
    assert "batch norm validates better" in done.stdout


@pytest.mark.slow
@pytest.mark.usefixtures("study_of_six")
@pytest.mark.parametrize("arguments", [["results"], ["results", "--json"], ["export", "-"]])
def test_a_full_disk(tmp_path, arguments):
    """One line, exit code 2, no traceback."""
    command = [sys.executable, "-m", "fmnist_tuning", *arguments]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            command, stdout=full, stderr=subprocess.PIPE, text=True, cwd=tmp_path, check=False
        )
    assert done.returncode == 2
    assert done.stderr == "error: the output cannot be written: No space left on device\n"


@pytest.mark.slow
@pytest.mark.usefixtures("study_of_six")
def test_a_pipe_that_closes(tmp_path):
    """`fmnist results | head -1` is no mistake of the user."""
    command = f"{sys.executable} -m fmnist_tuning results --csv | head -1"
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, cwd=tmp_path, check=False
    )
    assert done.stdout.startswith("sweep,arm,seed")
    assert "Traceback" not in done.stderr


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_a_dumb_terminal_gets_lines(tmp_path, tiny_data, sweep_file):
    """A line an epoch, as in a file; and the first line comes before MLflow is loaded."""
    file = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0]}\n")
    command = [sys.executable, "-m", "fmnist_tuning", "run", str(file), *TINY_RUN]
    environment = {**os.environ, "TERM": "dumb", "FMNIST_DATA_DIR": str(tiny_data)}
    done = subprocess.run(
        ["script", "-qec", shlex.join(command), "/dev/null"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("plan    s")
    assert "epoch 2/2: train loss" in done.stdout
    assert re.search(r"judge   \S*fmnist results", done.stdout)


def test_one_of_a_thing():
    """`1 run`, not `1 runs`."""
    assert [counted(n, "run") for n in (0, 1, 1200)] == ["0 runs", "1 run", "1,200 runs"]


@pytest.mark.slow
def test_help_says_nothing_else(tmp_path):
    """A command that has not begun is not loading anything."""
    command = shlex.join([sys.executable, "-m", "fmnist_tuning", "results", "--help"])
    done = subprocess.run(
        ["script", "-qec", command, "/dev/null"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert "Show each sweep" in done.stdout
    assert "loading" not in done.stdout


@pytest.mark.long
@pytest.mark.slow
def test_a_terminal_that_is_resized(tmp_path, sweep_file, tiny_data):
    """The bars take the new width at once; no line of them is longer than the terminal."""
    path = sweep_file(SWEEP.replace("0.1]", "0.1, 0.2, 0.3]"))
    parent, child = pty.openpty()
    resize(child, 100)
    command = [sys.executable, "-m", "fmnist_tuning", "run", str(path), *TINY_RUN]
    environment = {**os.environ, "FMNIST_DATA_DIR": str(tiny_data), "TERM": "xterm"}
    for name in ("COLUMNS", "LINES", "CI"):
        environment.pop(name, None)
    with subprocess.Popen(
        [part.replace("epochs=2", "epochs=99") for part in command],
        cwd=tmp_path,
        env=environment,
        stdin=child,
        stdout=child,
        stderr=child,
        start_new_session=True,
    ) as process:
        os.close(child)
        wide = seen(parent, until="/594 epochs")
        resize(parent, 60)
        process.send_signal(signal.SIGWINCH)
        narrow = seen(parent)
    assert process.returncode == 0
    assert "/594 epochs" in wide
    bars = [line for line in narrow.splitlines() if re.search(r"━.*/\d+ epochs", line)]
    # Those of the moment of the change may still be of the old width.
    assert len(bars) > 12
    assert all(len(line.rstrip()) <= 60 for line in bars[6:])


def resize(terminal: int, columns: int) -> None:
    """Give a terminal another width."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def seen(terminal: int, until: str | None = None) -> str:
    """What a terminal was sent, without its control sequences."""
    text = ""
    while until is None or until not in text:
        try:
            part = os.read(terminal, 65_536)
        except OSError:  # the program has ended
            break
        text += re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", part.decode(errors="replace"))
    return text.replace("\r", "\n")
