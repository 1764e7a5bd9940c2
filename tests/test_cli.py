import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from conftest import TINY_RUN

ONE = "sweep: one\ntitle: One arm\ngrid: {dropout_rate: [0.3]}\n"


def test_help_shows_examples(fmnist_here):
    """Somebody's first look."""
    done = fmnist_here("run", "--help")
    assert done.returncode == 0
    assert "fmnist run configs/exp1_dropout.yaml" in done.stdout
    for option in ("--set", "--seeds", "--device", "--jobs", "--force", "--tracking-uri", "--json"):
        assert option in done.stdout


def test_shell_completion_installs(fmnist, tmp_path):
    """Typer's own; it only has to be switched on."""
    env = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = fmnist("--install-completion", "bash", env=env)
    assert done.returncode == 0, done.stderr
    assert "bash completion installed" in done.stdout


BAD = [
    (["run"], "Missing argument"),
    (["run", "nowhere.yaml"], "nowhere.yaml: no such file"),
    (["run", "one.yaml", "--set", "epoch=1"], "--set epoch: unknown key; did you mean epochs?"),
    (["run", "one.yaml", "--seeds", "x"], "--seeds: found 'x'"),
    (["run", "one.yaml", "--jobs", "0"], "--jobs: found '0', allowed: auto, or a number from 1"),
    (["run", "one.yaml", "--data-dir", "nowhere"], "the Fashion-MNIST images are not in nowhere"),
    (["run", "one.yaml", "--tracking-uri", "http://127.0.0.1:9"], "no MLflow server answers at"),
    (["plan", "one.yaml", "--data-dir", "nowhere"], "`fmnist data --fetch` gets them"),
    (["data", "--data-dir", "nowhere"], "the Fashion-MNIST images are not in nowhere"),
    (["run", "bad.yaml"], "bad.yaml:3: grid.dropout: unknown key; did you mean dropout_rate?"),
    (["quatsch"], "No such command"),
]


@pytest.mark.parametrize(("arguments", "message"), BAD, ids=[" ".join(a) for a, _ in BAD])
def test_a_users_mistake(fmnist_here, sweep_file, tmp_path, arguments, message):
    """One clear message on stderr, exit code 2, no traceback, no store."""
    sweep_file(ONE, "one.yaml")
    sweep_file("sweep: bad\ntitle: B\ngrid: {dropout: [1]}\n", "bad.yaml")
    done = fmnist_here(*arguments)
    assert done.returncode == 2
    assert message in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert not (tmp_path / "mlflow.db").exists()


RUNNER = """
import atexit, sys
from pathlib import Path
from fmnist_tuning.cli import main
if __name__ == "__main__":
    atexit.register(lambda: Path("loaded").write_text(" ".join(sys.modules)))
    main()
"""


@pytest.fixture(scope="session")
def whole_run(made_once, tiny_data, blank_store):
    """The folder of one `fmnist run` in a process of its own: what it said and what it loaded."""

    def make(folder):
        shutil.copy(blank_store, folder / "mlflow.db")
        (folder / "one.yaml").write_text(ONE)
        (folder / "runner.py").write_text(RUNNER)
        with (folder / "stdout").open("w") as out, (folder / "stderr").open("w") as err:
            subprocess.run(
                [sys.executable, "runner.py", "run", "one.yaml", *TINY_RUN],
                env={**os.environ, "FMNIST_DATA_DIR": str(tiny_data)},
                cwd=folder,
                stdout=out,
                stderr=err,
                check=True,
            )

    return made_once("whole_run", make)


@pytest.mark.slow
def test_the_parent_needs_no_torch(whole_run):
    """Nor two seconds to import it: what workers send is plain."""
    loaded = (whole_run / "loaded").read_text().split()
    assert "mlflow" in loaded
    assert "torch" not in loaded


@pytest.mark.slow
def test_what_a_person_sees_off_a_terminal(whole_run):
    """Facts, one plain line an epoch, where to look next; the table alone on stdout."""
    out, err = ((whole_run / name).read_text() for name in ("stdout", "stderr"))
    lines = err.splitlines()
    assert lines[0] == "plan    one"
    assert lines[1].startswith("study   fashion_mnist_cnn_tuning in sqlite:///")
    assert lines[2].startswith("data    not Fashion-MNIST but your own data, 300 + 100 images")
    assert lines[3].startswith("device  ")
    epochs = [line for line in lines if "epoch" in line]
    assert len(epochs) == 2
    assert epochs[0].startswith("one dropout_rate=0.3 seed=0: epoch 1/2: train loss ")
    # By its path where the environment's commands are not on the PATH, as in `make test`.
    assert re.match(r"browse  (\S+/)?mlflow ui +then open http://127\.0\.0\.1:5000/#/", lines[-1])
    assert out.splitlines()[0].strip() == "one: One arm"
    for column in ("train acc", "val acc", "train loss", "val loss", "gap", "params", "time"):
        assert column in out
    assert "\x1b" not in out + err


@pytest.mark.usefixtures("migrated")
def test_quiet_and_json(fmnist_here, sweep_file):
    """Nothing but results, and those for programs: fractions, full precision, stable keys."""
    done = fmnist_here("run", sweep_file(ONE), *TINY_RUN, "--seeds", "2", "--quiet", "--json")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    runs = json.loads(done.stdout)
    assert [run["seed"] for run in runs] == [0, 1]
    for run in runs:
        assert run["status"] == "finished"
        assert run["config"]["dropout_rate"] == 0.3
        assert 0 <= run["metrics"]["final_val_accuracy"] <= 1


@pytest.mark.usefixtures("migrated")
def test_a_failed_arm_is_named_and_the_exit_code_is_1(fmnist_here, sweep_file):
    """Not 0, and not 2: the configuration was fine."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {learning_rate: [1.0e+30]}\n")
    done = fmnist_here("run", path, *TINY_RUN)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "failed: s learning_rate=1e+30 seed=0"
    assert "FAILED: the loss is not a finite number in epoch 1" in " ".join(done.stdout.split())


def test_plan_lists_every_run(fmnist_here, sweep_file):
    """In order, with what they add up to; and the same as JSON."""
    path = sweep_file("sweep: s\ntitle: S\ngrid: {dropout_rate: [0.1, 0.2]}\n")
    done = fmnist_here("plan", path, "--seeds", "2")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("421,834") == 4
    assert "4 runs make 4 trainings; no earlier run shows how long they take" in done.stdout
    plan = json.loads(fmnist_here("plan", path, "--json").stdout)
    assert [run["action"] for run in plan["runs"]] == ["train", "train"]
    assert plan["total_trainings"] == 2


def test_data_says_where_and_what(fmnist_here, tiny_data):
    """The folder, the kind, the verdict."""
    done = fmnist_here("data")
    assert done.returncode == 0
    assert f"{tiny_data}: not Fashion-MNIST but your own data, 300 + 100 images" in done.stdout
    assert json.loads(fmnist_here("data", "--json").stdout)["train_images"] == 300


def test_data_fetch_does_nothing_twice(fmnist_here):
    """Images that are there and right are left alone."""
    assert fmnist_here("data", "--fetch").stderr == ""


def test_the_version(fmnist):
    """Of the installed package."""
    from importlib.metadata import version

    assert fmnist("--version").stdout.strip() == f"fmnist {version('fmnist-tuning')}"
