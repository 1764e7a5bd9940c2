"""How do the commands that read a study grow with it?

Makes a store of made-up runs in the current, empty folder (past MLflow, so that it takes seconds),
and measures the commands on it, in wall time, processor time and peak memory:

    python benchmarks/big_store.py 1000
    python benchmarks/big_store.py 10000 --store postgresql --repeat 3
"""

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from statistics import median

import yaml
from databases import Database, Postgresql, Sqlite, postgresql_server
from made_study import make_sweeps, rows_of

from fmnist_tuning.data.files import find
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.sweep import Sweep

COMMANDS = (
    "plan configs",
    "plan grid.yaml",
    "results",
    "results sweep0000",
    "results --json",
    "results --csv",
    "plot sweep0000",
    "journal",
    "export study.jsonl.gz",
    "import study.jsonl.gz --tracking-uri sqlite:///again.db",
)
STANDARD = COMMANDS[:-2]
GRID = {
    "dropout_rate": [0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9],
    "learning_rate": [0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1],
    "batch_size": [16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192],
    "weight_decay": [0.0, 1e-6, 2e-6, 5e-6, 1e-5, 2e-5, 5e-5, 1e-4, 2e-4, 5e-4],
}
"""10,000 arms; with 10 seeds each they are 100,000 runs, of which none is in the study."""


def fill(sweeps: list[Sweep], database: Database) -> None:
    """Make the experiment by the program's own door, and write its runs past it."""
    study = Study.open(tracking_uri=database.uri)
    for rows in rows_of(sweeps, find(None).digest, int(study.experiment_id)):
        for table, content in rows.items():
            database.insert(table, [*content[0]], [tuple(row.values()) for row in content])
    database.finish()


def write_configs(sweeps: list[Sweep]) -> None:
    """Write the sweeps' files, and one large grid."""
    folder = Path("configs")
    folder.mkdir()
    for sweep in sweeps:
        _write(folder / f"{sweep.id}.yaml", sweep.definition())
    grid = {"sweep": "grid", "title": "A large grid", "grid": GRID, "seeds": [*range(10)]}
    _write(Path("grid.yaml"), grid)


def _write(path: Path, content: object) -> None:
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")


_MEASURED = """
import json, resource, subprocess, sys, time
started = time.perf_counter()
with open("output.log", "wb") as log:
    code = subprocess.run(sys.argv[1:], stdout=log, stderr=log).returncode
took = time.perf_counter() - started
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([code, took, used.ru_utime + used.ru_stime, used.ru_maxrss / 1024]))
"""
"""A small process that starts a command: Linux counts the memory of the process that starts one as
the command's own.
"""


def measure(command: str, uri: str) -> tuple[float, float, float]:
    """Wall and processor seconds of a command, and the largest memory of its process in MiB."""
    program = Path(sys.executable).with_name("fmnist")
    answer = subprocess.run(
        [sys.executable, "-IS", "-c", _MEASURED, str(program), *shlex.split(command)],
        check=True,
        capture_output=True,
        env={"MLFLOW_TRACKING_URI": uri, **os.environ},
    )
    code, took, busy, memory = json.loads(answer.stdout)
    if code:
        sys.exit(f"fmnist {command}\n{Path('output.log').read_text(encoding='utf-8')[-2_000:]}")
    return took, busy, memory


def options() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("runs", type=int, help="how many, in sweeps of 50")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--repeat", type=int, default=1, help="how often each command is measured")
    parser.add_argument("--all", action="store_true", help="export and import too")
    parser.add_argument("--only", nargs="+", metavar="COMMAND", help="these commands instead")
    parser.add_argument("--keep", action="store_true", help="use the store that is here (SQLite)")
    return parser.parse_args()


def main() -> None:
    """Make the store and print a line a command."""
    asked = options()
    if any(Path().iterdir()) and not asked.keep:
        sys.exit("run this in an empty folder: it makes a store there")
    with ExitStack() as stack:
        started = time.perf_counter()
        uri = Sqlite.uri
        if not asked.keep:
            sweeps = make_sweeps(asked.runs)
            write_configs(sweeps)
            database: Database
            if asked.store == "postgresql":
                database = Postgresql(stack.enter_context(postgresql_server()))
            else:
                Study.open(tracking_uri=uri)  # makes the file
                database = Sqlite()
            fill(sweeps, database)
            uri = database.uri
            print(f"{asked.runs:>6} runs  made in {time.perf_counter() - started:.0f} s")
        for command in asked.only or (COMMANDS if asked.all else STANDARD):
            measured = [measure(command, uri) for _ in range(asked.repeat)]
            seconds, busy, memory = zip(*measured, strict=True)
            print(
                f"{asked.runs:>6} runs  {asked.store}  fmnist {command:<24.24}"
                f"{min(seconds):7.1f} s (median {median(seconds):.1f})"
                f"{min(busy):7.1f} s of processor{max(memory):8,.0f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
