"""Commands agree with each other on one study, and print nothing that is nobody's business."""

import contextlib
import re
import subprocess
import sys

import pytest
from conftest import TINY_RUN
from servers import mlflow_server

from fmnist_tuning.errors import FmnistError
from fmnist_tuning.running.capacity import workers
from fmnist_tuning.running.pool import check_device
from fmnist_tuning.store.study import Study
from fmnist_tuning.store.uris import public

RATES = "sweep: rates\ntitle: Rates\ngrid: {dropout_rate: [0.0, 0.5]}\nseeds: [0, 1]\n"
AGAINST = (
    "sweep: depth\ntitle: Depth\ngrid: {num_conv_layers: [1, 2]}\nseeds: [0, 1]\n"
    "fixed: {dropout_rate: 0.0}\n"
    "claims:\n"
    "  - {that: one block is as good, arm: {num_conv_layers: 1}, versus_sweep: rates,\n"
    "     versus: {dropout_rate: 0.5}, expect: equal, margin: 0.01}\n"
)
# Channels follow the depth here.
SMALL = [option for option in TINY_RUN if "conv_channels" not in option]


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_run_and_results_judge_alike(fmnist_here, sweep_file):
    """One table, though a claim compares with a sweep that was not part of the command."""
    fmnist_here("run", sweep_file(RATES, "rates.yaml"), *SMALL)
    done = fmnist_here("run", sweep_file(AGAINST, "depth.yaml"), *SMALL)
    assert done.returncode == 0, done.stderr
    table = [line for line in done.stdout.splitlines() if line.strip()]
    assert table[0].strip() == "depth: Depth"
    shown = fmnist_here("results", "depth").stdout.splitlines()
    assert [line for line in shown if line.strip()][: len(table)] == table


def test_plan_and_run_have_as_many_workers(fmnist_here, sweep_file, migrated):  # noqa: ARG001
    """On a CPU one a core, or as many as `--jobs` says."""
    path = sweep_file(RATES)
    fmnist_here("run", path, *SMALL)
    more = [*SMALL[1:], "--seeds=9", "--device=cpu"]
    assert f" with {workers()} at a time" in fmnist_here("plan", path, *more).stdout
    assert " with 3 at a time" in fmnist_here("plan", path, *more, "--jobs=3").stdout


@pytest.mark.gpu
def test_plan_has_one_worker_on_a_gpu():
    """As `run` would start."""
    torch = pytest.importorskip("torch")
    if not torch.cuda.is_available():
        pytest.skip("no CUDA device here")
    from fmnist_tuning.running.pool import automatic_workers

    assert automatic_workers("auto") == automatic_workers("cuda") == 1


@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_gpu_that_is_not_there_is_said_at_once(command, sweep_file, tmp_path):
    """Before torch, MLflow or anything else that takes seconds is loaded."""
    with contextlib.suppress(FmnistError):
        check_device("cuda")
        pytest.skip("there is a driver of a GPU here")
    code = (
        "import sys; from fmnist_tuning.cli import main\n"
        f"sys.argv = ['fmnist', {command!r}, {str(sweep_file(RATES))!r}, '--device', 'cuda']\n"
        "try:\n    main()\nfinally:\n    print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.startswith("error: --device cuda: found no driver of a GPU")
    assert not {"torch", "mlflow", "pandas", "scipy"} & set(done.stdout.split())


def test_a_plan_that_cannot_be_made_leaves_nothing(fmnist_here, sweep_file, tmp_path, migrated):
    """Neither a lock nor a sweep in the store."""
    best = sweep_file("sweep: best\ntitle: B\ncombine: {from: [none]}\nseeds: [7]\n")
    done = fmnist_here("run", best, *SMALL)
    assert done.returncode == 2
    assert "best: combines none, not run in this study yet" in done.stderr
    assert not list(tmp_path.glob(".fmnist/*"))
    study = Study.existing(tracking_uri=f"sqlite:///{migrated}")
    assert study.sweeps() == study.unfinished_runs() == []


def test_an_address_whose_password_has_strange_signs(fmnist_here):
    """Also where the server is never asked, since the address is none."""
    for address in ("http://me:geheim/7@127.0.0.1:1", "http://me:ge@heim:7@127.0.0.1:1"):
        done = fmnist_here("results", "--tracking-uri", address)
        assert done.returncode == 2
        assert "geheim" not in done.stderr
        assert "heim" not in done.stderr


SECRET = "geheim!7"  # noqa: S105  nobody's
COMMANDS = (
    ("run", "rates.yaml", *SMALL),
    ("plan", "rates.yaml", *SMALL),
    ("results",),
    ("results", "--json"),
    ("plot",),
    ("journal",),
    ("champion",),
    ("predict", "0"),
    ("export", "file.gz"),
    ("import", "file.gz", "--experiment", "another"),
)


@pytest.mark.slow
def test_no_command_prints_a_password(fmnist_here, sweep_file, tmp_path):
    """Where all goes well, and where the server is gone: it stands in the store's address."""
    sweep_file(RATES, "rates.yaml")
    said = []
    with mlflow_server(tmp_path, "--backend-store-uri", "sqlite:///server.db") as address:
        store = f"--tracking-uri={address.replace('://', f'://me:{SECRET}@')}"
        for command in COMMANDS:
            done = fmnist_here(*command, store)
            assert done.returncode == 0, f"{command}\n{done.stderr}"
            said.append(done.stdout + done.stderr)
    for command in COMMANDS:
        done = fmnist_here(*command, store)
        assert done.returncode == 2
        said.append(done.stdout + done.stderr)
    assert not [text for text in said if SECRET in text]
    assert sum("://me:***@127.0.0.1" in text for text in said) > len(COMMANDS)


@pytest.mark.parametrize(
    ("address", "shown"),
    [
        ("http://me:secret@host:5000/x", "http://me:***@host:5000/x"),
        ("postgresql://me:se/cr@et@host/db", "postgresql://me:***@host/db"),
        ("at http://a:b@h and mysql://c:d@i.", "at http://a:***@h and mysql://c:***@i."),
        ("postgresql://me@srv:secret@host/db", "postgresql://me@srv:***@host/db"),
        ("postgresql://me:12/secret@host/db", "postgresql://me:***@host/db"),
        (
            "postgresql://host/db?user=me&password=secret",
            "postgresql://host/db?user=me&password=***",
        ),
        ("http://host:5000/#/a", "http://host:5000/#/a"),
        ("sqlite:///a:b@c.db", "sqlite:///a:b@c.db"),
    ],
)
def test_how_an_address_is_shown(address, shown):
    """Without its password, whatever signs that has; what is none stays."""
    assert public(address) == shown
    assert not re.search("secret|se/cr", public(address))
