import ast
import subprocess
import sys
from pathlib import Path

import pytest

import fmnist_tuning

PACKAGE = Path(fmnist_tuning.__file__).parent

# What each room may import of the package; CONTRIBUTING.md draws the same table.
LAYERS = {
    "errors": 0,
    "printable": 0,
    "records": 0,
    "metrics": 0,
    "writing": 1,
    "config": 1,
    "planning": 2,
    "data": 2,
    "model": 2,
    "training": 3,
    "tracking": 3,
    "analysis": 3,
    "preloaded": 4,
    "worker": 4,
    "results": 4,
    "exchange": 4,
    "wording": 4,
    "figures": 4,
    "pictures": 2,
    "champion": 5,
    "prediction": 5,
    "journal": 5,
    "execution": 5,
    "terminal": 6,
    "cli": 7,
}
NOT_BELOW = {"tracking": {"planning", "data", "model"}, "analysis": {"planning", "data", "model"}}
HEAVY = {"torch", "torchvision", "mlflow", "matplotlib"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path) -> list[str]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            found += [node.module]
            found += [f"{node.module}.{alias.name}" for alias in node.names]
    return found


SOURCES = [p for p in PACKAGE.rglob("*.py") if room_of(p) not in {"__init__", "__main__"}]


def test_every_file_belongs_to_a_room():
    """A new top-level file has to find its place in the table first."""
    assert {room_of(path) for path in SOURCES} == set(LAYERS)


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_point_down_only(path):
    """A file imports its own room and the rooms below, and nothing beside or above."""
    room = room_of(path)
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] != "fmnist_tuning" or len(parts) < 2 or parts[1] == room:
            continue
        assert LAYERS[parts[1]] < LAYERS[room], f"{room} imports {parts[1]}"
        assert parts[1] not in NOT_BELOW.get(room, set()), f"{room} imports {parts[1]}"


def test_only_tracking_knows_mlflow():
    """MLflow has one door."""
    users = {room_of(p) for p in SOURCES if any(n.split(".")[0] == "mlflow" for n in imports_of(p))}
    assert users == {"tracking"}


def test_help_imports_nothing_heavy():
    """What makes a command slow to start is imported by the commands that need it."""
    code = (
        "import sys; sys.argv = ['fmnist', '--help']\n"
        "from fmnist_tuning.cli import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "print('LOADED', *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(done.stdout.split("LOADED")[1].split())
    assert not loaded & (HEAVY | {"pandas", "pydantic", "scipy"})


def test_a_worker_loads_what_training_needs():
    """And no more: several of them run side by side, for as long as the plan does."""
    code = (
        "import sys, fmnist_tuning.worker, fmnist_tuning.preloaded, torch\n"
        "print(torch.cuda.is_initialized(), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cuda, *modules = done.stdout.split()
    assert cuda == "False"  # CUDA works in no process that was forked from one that uses it
    assert {"fmnist_tuning.training", "torch._dynamo"} <= set(modules)
    assert not set(modules) & {"mlflow", "pandas", "scipy", "rich", "torchvision"}
