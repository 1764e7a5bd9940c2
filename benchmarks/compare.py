"""fmnist beside a plain PyTorch script and Lightning: the same trainings, in turn, on this machine.

    python benchmarks/compare.py one       one training: plain, lightning, fmnist
    python benchmarks/compare.py exp1      experiment 1, five trainings: plain, fmnist
    python benchmarks/compare.py six       all six experiments: plain (19 trainings), fmnist (13)
    python benchmarks/compare.py ray       experiment 1: fmnist, and fmnist with --executor ray

Other programs make any machine slower from minute to minute, so nothing here is compared but runs
of one round, side by side. Prints, and adds a section to benchmarks/RESULTS.md.
"""

import argparse
import contextlib
import gzip
import json
import os
import platform
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from fmnist_tuning.data.files import find
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.sweep import Sweep

HERE = Path(__file__).parent
CONFIGS = HERE.parent / "configs"
STEP_GFLOP = 1.6  # of the base configuration at batch 64, forward and backward
BATCH = 64
SWEPT = ("num_conv_layers", "use_batch_norm", "use_pooling", "dropout_rate")


@dataclass
class Timing:
    """One process: its wall time, its own training images a second, its largest memory."""

    seconds: float
    images_per_second: float
    peak_mib: float
    beside_epochs: float = 0.0


def timed(command: list[str], environment: dict[str, str]) -> tuple[Timing, str]:
    """Run a command to its end."""
    started = time.perf_counter()
    with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as err:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=err,
            env=os.environ | environment,
            cwd=HERE,
            start_new_session=True,
        )
        largest = 0.0
        try:
            while process.poll() is None:
                largest = max(largest, peak_mib(process.pid))
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(timeout=0.2)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
        seconds = time.perf_counter() - started
        out.seek(0)
        err.seek(0)
        if process.returncode:
            sys.exit(f"{command[:3]} failed:\n{err.read()[-3000:]}")
        text = out.read()
    return Timing(seconds, 0.0, largest), text


def peak_mib(session: int) -> float:
    """The largest that any process of a session has been so far, in MiB; Linux knows."""
    peaks = [0.0]
    for status in Path("/proc").glob("[0-9]*/status"):
        try:
            if os.getsid(int(status.parent.name)) == session:
                found = re.search(r"VmHWM:\s*(\d+) kB", status.read_text(encoding="utf-8"))
                peaks.append(int(found[1]) / 1024 if found else 0.0)
        except OSError:  # it has just ended
            continue
    return max(peaks)


def script(name: str, task: dict[str, object]) -> Timing:
    """One of the scripts beside this file."""
    timing, text = timed([sys.executable, str(HERE / name), json.dumps(task)], {})
    timing.images_per_second = json.loads(text.splitlines()[-1])["images_per_second"]
    return timing


def fmnist(
    configs: list[str], sizes: dict[str, int], folder: Path, data: Path, executor: str = "local"
) -> Timing:
    """`fmnist run` into a store of its own."""
    settings = [f"--set={key}={value}" for key, value in sizes.items()]
    store = f"sqlite:///{folder}/fmnist-{executor}.db"
    command = [sys.executable, "-m", "fmnist_tuning", "run", *configs, *settings, "--quiet"]
    command.append(f"--executor={executor}")
    timing, _ = timed([*command, f"--tracking-uri={store}"], {"FMNIST_DATA_DIR": str(data)})
    study = Study.find(tracking_uri=store)
    runs = study.finished_runs().values() if study else ()
    timing.images_per_second = statistics.median(r.metrics["images_per_second"] for r in runs)
    timing.beside_epochs = timing.seconds - sum(r.metrics["train_seconds"] for r in runs)
    return timing


def torchvision_root(folder: Path, data: Path) -> Path:
    """The images where torchvision looks for them."""
    raw = folder / "FashionMNIST/raw"
    raw.mkdir(parents=True)
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (source,) = data.rglob(f"{name}-ubyte*")
        opener = gzip.open if source.suffix == ".gz" else open
        with opener(source, "rb") as opened, (raw / f"{name}-ubyte").open("wb") as target:
            shutil.copyfileobj(opened, target)
    return folder


def arms_of(sweeps: list[Sweep]) -> list[dict[str, object]]:
    """Every arm as the plain script takes it; three of the best guess for a combination."""
    arms: list[dict[str, object]] = []
    for sweep in sweeps:
        if sweep.pending:
            arms += [{"num_conv_layers": 3, "dropout_rate": rate} for rate in (0.2, 0.3, 0.5)]
        for arm in sweep.arms:
            arms.append({key: getattr(arm.config, key) for key in SWEPT})
    return arms


def processor() -> str:
    """The processor's name, without what tells the machine apart."""
    found = re.search(r"model name\s*: (.*)", Path("/proc/cpuinfo").read_text(encoding="utf-8"))
    return found[1] if found else platform.machine()


def floor() -> tuple[float, float]:
    """What one thread can do: GFLOP/s multiplying matrices, GB/s copying memory."""
    done = subprocess.run(
        [sys.executable, str(HERE / "floor.py")], check=True, capture_output=True, text=True
    )
    gflops, copies = json.loads(done.stdout)
    return gflops, copies


def spread(values: list[float], digits: int = 0) -> str:
    """Minimum, median, maximum."""
    found = (min(values), statistics.median(values), max(values))
    return " / ".join(f"{value:,.{digits}f}" for value in found)


def report(
    what: str,
    title: str,
    rounds: list[dict[str, Timing]],
    floors: list[tuple[float, float]],
) -> str:
    """A section of RESULTS.md."""
    gflops, copies = zip(*floors, strict=True)
    reference = next(iter(rounds[0]))
    lines = [
        f"## {title}",
        "",
        f"`python benchmarks/compare.py {what}`, {len(rounds)} rounds, "
        f"{datetime.now(UTC):%Y-%m-%d}; {processor()}, {os.cpu_count()} cores; "
        f"Python {platform.python_version()}, torch {version('torch')}. One thread multiplied "
        f"matrices at {spread(list(gflops))} GFLOP/s and copied {spread(list(copies), 1)} GB/s.",
        "",
        "Each cell: minimum / median / maximum of the rounds; ratios round by round.",
        "",
        f"| way | wall, s | training images/s, one worker | faster than {reference}, whole process "
        "| largest process, MiB |",
        "| --- | ---: | ---: | ---: | ---: |",
    ]
    for way in rounds[0]:
        own = [one[way] for one in rounds]
        ratios = [one[reference].seconds / one[way].seconds for one in rounds]
        lines.append(
            f"| {way} | {spread([t.seconds for t in own], 1)} "
            f"| {spread([t.images_per_second for t in own])} | {spread(ratios, 2)} "
            f"| {max(t.peak_mib for t in own):,.0f} |"
        )
    if what == "one":
        steps = [
            BATCH / one["fmnist"].images_per_second / (STEP_GFLOP / rate)
            for one, rate in zip(rounds, gflops, strict=True)
        ]
        beside = [one["fmnist"].beside_epochs for one in rounds]
        shares = [100 * one["fmnist"].beside_epochs / one["fmnist"].seconds for one in rounds]
        lines += [
            "",
            f"A step of fmnist takes {spread(steps, 2)} times what its multiplications alone "
            f"would ({STEP_GFLOP} GFLOP at the rate above). Beside its epochs (start-up, tracking, "
            f"and the last evaluation of all training images) it takes {spread(beside, 1)} s: "
            f"{spread(shares, 1)} % of this process.",
        ]
    return "\n".join(lines) + "\n\n"


def main() -> None:
    """Run the rounds and write what came of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("one", "exp1", "six", "ray"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--train-size", type=int, default=10_000)
    chosen = parser.parse_args()
    sizes = {
        "epochs": chosen.epochs,
        "train_size": chosen.train_size,
        "val_size": chosen.train_size // 6,
    }
    named = os.environ.get("FMNIST_DATA_DIR")
    data = find(Path(named) if named else None).folder
    first = CONFIGS / "exp1_dropout.yaml"
    configs = {"exp1": first, "ray": first, "six": CONFIGS}.get(chosen.what)
    rounds, floors = [], []
    with tempfile.TemporaryDirectory() as folder:
        root = torchvision_root(Path(folder) / "torchvision", data)
        if configs is None:
            configs = Path(folder) / "one.yaml"
            configs.write_text("sweep: one\ntitle: One\narms: [{name: base}]\n")
        task = {**sizes, "root": str(root), "arms": arms_of(load_sweeps([configs]))}
        for number in range(chosen.rounds):
            own = Path(folder) / str(number)
            own.mkdir()
            task["tracking_uri"] = f"sqlite:///{own}/plain.db"
            floors.append(floor())
            ways = (
                {} if chosen.what == "ray" else {"plain": lambda: script("plain_script.py", task)}
            )
            if chosen.what == "one" and find_spec("lightning"):
                ways["lightning"] = lambda: script("lightning_script.py", task)
            ways["fmnist"] = lambda own=own: fmnist([str(configs)], sizes, own, data)
            if chosen.what == "ray":
                ways["fmnist on Ray"] = lambda own=own: fmnist(
                    [str(configs)], sizes, own, data, "ray"
                )
            # Every other round backwards: what drifts during a round does not favour one way.
            order = list(ways) if number % 2 == 0 else list(reversed(ways))
            timings = {way: ways[way]() for way in order}
            rounds.append({way: timings[way] for way in ways})
            print(number, {way: round(t.seconds, 1) for way, t in rounds[-1].items()}, flush=True)
    trainings = len(task["arms"])
    what = {
        "one": "One training",
        "exp1": "Experiment 1",
        "ray": "Ray on one machine",
        "six": "The six experiments",
    }
    size = f"{chosen.epochs} epochs of {chosen.train_size:,} images"
    title = f"{what[chosen.what]}: {trainings} trainings as written, {size}"
    section = report(chosen.what, title, rounds, floors)
    print(section)
    results = HERE / "RESULTS.md"
    with results.open("a", encoding="utf-8") as file:
        file.write(section)


if __name__ == "__main__":
    main()
