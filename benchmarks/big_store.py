"""How do `results`, `plot`, `journal`, `export` and `import` grow with the store?

Makes a store of made-up runs in the current, empty folder (by SQL, in seconds) and times the
commands on it:  python benchmarks/big_store.py 1000
"""

import random
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

from fmnist_tuning.store.study import Study
from fmnist_tuning.store.tracker import Tracker
from fmnist_tuning.sweeps.cost import parameter_count
from fmnist_tuning.sweeps.runs import runs_of
from fmnist_tuning.sweeps.sweep import Figure, Sweep

DIGEST = "0123456789abcdef"
ARMS, SEEDS, EPOCHS = 5, 10, 10
CURVES = (
    "train_loss",
    "train_accuracy",
    "val_loss",
    "val_accuracy",
    "epoch_seconds",
    "images_per_second",
)
FINAL = (
    "final_train_loss",
    "final_train_accuracy",
    "final_val_loss",
    "final_val_accuracy",
    "best_val_accuracy",
    "best_epoch",
    "train_seconds",
    "epochs_to_80",
    "total_params",
)
COMMANDS = (
    ["results", "--json"],
    ["results", "sweep0000"],
    ["plot", "sweep0000"],
    ["journal"],
    ["export", "study.jsonl.gz"],
    ["import", "study.jsonl.gz", "--tracking-uri", "sqlite:///again.db"],
)


def make_sweeps(runs: int) -> list[Sweep]:
    """Sweeps of 50 runs each."""
    return [
        Sweep(
            sweep=f"sweep{number:04}",
            title=f"Sweep {number}",
            grid={"dropout_rate": [0.0, 0.2, 0.3, 0.5, 0.7]},
            fixed={"learning_rate": 1e-3 + number * 1e-6},
            seeds=tuple(range(SEEDS)),
            figure=Figure(kind="trend", x="dropout_rate", file=f"sweep{number:04}.png"),
        )
        for number in range(runs // (ARMS * SEEDS))
    ]


def fill(sweeps: list[Sweep]) -> None:
    """Write the sweeps by the program's own door, and their runs past it."""
    study = Study.open()
    rows: dict[str, list[tuple[object, ...]]] = {
        table: [] for table in ("runs", "metrics", "latest_metrics", "params", "tags")
    }
    rng, now = random.Random(0), 1_700_000_000_000
    for sweep in sweeps:
        Tracker(study).begin_sweep(sweep, DIGEST)
        for run in runs_of(sweep, DIGEST):
            run_id = uuid.uuid4().hex
            own = (run_id, run.name, "LOCAL", "fmnist run", "", "me", "FINISHED", now, now + 1_000)
            rows["runs"].append(
                (*own, "", "active", f"/nowhere/{run_id}", study.experiment_id, None)
            )
            rows["params"] += [(key, value, run_id) for key, value in run.config.params().items()]
            tags = {
                "fmnist.kind": "run",
                "fmnist.fingerprint": run.fingerprint,
                "fmnist.sweeps": sweep.id,
                "fmnist.data": DIGEST,
                "fmnist.device": "cpu",
                "mlflow.runName": run.name,
            }
            rows["tags"] += [(key, value, run_id) for key, value in tags.items()]
            for step in range(1, EPOCHS + 1):
                values = [(key, rng.random(), now, run_id, step, False) for key in CURVES]
                rows["metrics"] += values
                if step == EPOCHS:
                    rows["latest_metrics"] += [(k, v, t, s, n, r) for k, v, t, r, s, n in values]
            for key in FINAL:
                drawn = rng.gauss(0.92, 0.0027)
                value = parameter_count(run.config) if key == "total_params" else drawn
                rows["metrics"].append((key, value, now, run_id, 0, False))
                rows["latest_metrics"].append((key, value, now, 0, False, run_id))
    with sqlite3.connect("mlflow.db") as database:
        for table, content in rows.items():
            places = ",".join("?" * len(content[0]))
            database.executemany(f"insert into {table} values ({places})", content)  # noqa: S608


def main() -> None:
    """Make the store and print a line a command."""
    if any(Path().iterdir()):
        sys.exit("run this in an empty folder: it makes a store there")
    runs = int(sys.argv[1])
    fill(make_sweeps(runs))
    for command in COMMANDS:
        started = time.perf_counter()
        subprocess.run(["fmnist", *command], check=True, capture_output=True)
        took = time.perf_counter() - started
        print(f"{runs:>6} runs  fmnist {' '.join(command[:2]):<22} {took:6.1f} s")


if __name__ == "__main__":
    main()
