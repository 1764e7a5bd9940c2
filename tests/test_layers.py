import ast
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

import fmnist_tuning

PACKAGE = Path(fmnist_tuning.__file__).parent

# What each room may import of the package; CONTRIBUTING.md draws the same table.
LAYERS = {
    "errors": 0,
    "metrics": 0,
    "text": 0,
    "files": 1,
    "interruption": 1,
    "options": 1,
    "sweeps": 2,
    "analysis": 3,
    "data": 3,
    "store": 3,
    "training": 4,
    "transfer": 4,
    "report": 4,
    "running": 5,
    "champion": 5,
    "deciding": 5,
    "inputs": 5,
    "examples": 5,
    "prediction": 5,
    "terminal": 6,
    "outlook": 7,
    "plan_table": 7,
    "progress": 7,
    "reading": 7,
    "study_commands": 8,
    "transfer_commands": 8,
    "training_commands": 8,
    "cli": 9,
}
# Below them, and none of their business all the same.
NOT_BELOW = {
    "analysis": {"data", "store"},
    "report": {"data", "training"},
    "running": {"analysis", "report"},
    "store": {"analysis", "data"},
    "training": {"analysis", "store"},
}
HEAVY = {"torch", "torchvision", "mlflow", "matplotlib"}


def room_of(path: Path) -> str:
    return path.relative_to(PACKAGE).parts[0].removesuffix(".py")


def imports_of(path: Path, *, top: bool = False) -> list[str]:
    """What a file imports, anywhere or (`top`) as it is loaded."""
    found, tree = [], ast.parse(path.read_text())
    for node in tree.body if top else ast.walk(tree):
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
        if parts[0] != "fmnist_tuning" or parts[1:2] in ([], [room], ["DEFAULT_STUDY"]):
            continue
        assert LAYERS[parts[1]] < LAYERS[room], f"{room} imports {parts[1]}"
        assert parts[1] not in NOT_BELOW.get(room, set()), f"{room} imports {parts[1]}"


def test_only_the_store_knows_mlflow():
    """MLflow has one door."""
    users = {room_of(p) for p in SOURCES if any(n.split(".")[0] == "mlflow" for n in imports_of(p))}
    assert users == {"store"}


def test_only_the_cluster_knows_ray():
    """Nothing else changes when Ray does, and whoever has no cluster never loads it."""
    users = {p.name for p in SOURCES if any(n.split(".")[0] == "ray" for n in imports_of(p))}
    assert users == {"cluster.py", "ray_pool.py", "ray_worker.py"}


def test_only_one_file_knows_optuna():
    """What a search asks of it is asked in one place."""
    users = {p.name for p in SOURCES if any(n.split(".")[0] == "optuna" for n in imports_of(p))}
    assert users == {"proposing.py"}


def size(node: ast.FunctionDef, path: Path) -> int:
    """The lines of a function; of a command's, without the options in its signature."""
    command = path.name in {
        "cli.py",
        "study_commands.py",
        "training_commands.py",
        "transfer_commands.py",
    } and not node.name.startswith("_")
    first = node.body[0].lineno if command else node.lineno
    return node.end_lineno - first + 1


def test_the_house_stays_small():
    """Files of 300 lines, functions of 50 but for a command's options, imports 10 deep at most."""
    texts = {path: path.read_text() for path in SOURCES}
    assert [path for path, text in texts.items() if len(text.splitlines()) > 300] == []
    functions = [
        (path.name, node.name, size(node, path))
        for path, text in texts.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef)
    ]
    assert [function for function in functions if function[2] > 50] == []
    modules = {
        ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts): path for path in SOURCES
    }
    imports = {
        name: {found for found in imports_of(path, top=True) if found in modules} - {name}
        for name, path in modules.items()
    }

    @cache
    def depth(name):
        return 1 + max(map(depth, imports[name]), default=0)

    assert max(map(depth, modules)) <= 10


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


@pytest.mark.slow
def test_a_worker_loads_what_training_needs():
    """And no more: several of them run side by side, for as long as the plan does."""
    code = (
        "import sys, fmnist_tuning.running.worker, fmnist_tuning.running.preloaded, torch\n"
        "print(torch.cuda.is_initialized(), *sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    cuda, *modules = done.stdout.split()
    assert cuda == "False"  # CUDA works in no process that was forked from one that uses it
    assert {"fmnist_tuning.training.loop", "torch._dynamo"} <= set(modules)
    assert not set(modules) & {"mlflow", "pandas", "scipy", "rich", "torchvision"}
