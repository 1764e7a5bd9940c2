"""The documents say what is there, and all of it."""

import json
import re
import shlex
import shutil

import pytest
from conftest import CONFIGS, EXPERIMENTS, ROOT

from fmnist_tuning.cli import app
from fmnist_tuning.report.figures.kinds import axes_by_kind
from fmnist_tuning.sweeps.reading import load_sweeps
from fmnist_tuning.sweeps.settings import RunConfig

README = (ROOT / "README.md").read_text(encoding="utf-8")
SMALL = ["epochs=1", "train_size=64", "val_size=50", "batch_size=32", "fc_units=[8]"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, re.DOTALL)


def commands() -> list[list[str]]:
    """Every `fmnist` command of the README's shell blocks, without its comment."""
    lines = [line for block in blocks("sh") for line in block.splitlines()]
    return [shlex.split(line, comments=True)[1:] for line in lines if line.startswith("fmnist ")]


def test_the_readme_shows_every_command():
    """In the table, under the name that the command line has."""
    listed = set(re.findall(r"^\| `fmnist (\w+)", README, re.MULTILINE))
    assert listed == {
        command.name or command.callback.__name__ for command in app.registered_commands
    }


def test_the_readme_shows_every_setting():
    """In the table of settings; `seed` is set by `seeds`."""
    table = README.partition("| setting |")[2].partition("\n\n")[0]
    listed = set(
        re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in table.splitlines()[2:]))
    )
    assert listed == set(RunConfig.model_fields) - {"seed"}


@pytest.mark.slow
@pytest.mark.usefixtures("migrated")
def test_every_command_of_the_readme(fmnist_here, tmp_path, tiny_data):
    """One after the other in one folder, as a reader would, on tiny data.

    But for the stores, which test_tracking.py has, and for clusters, which test_ray.py has.
    """
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    shutil.copytree(tiny_data, tmp_path / "data")
    elsewhere = {"--tracking-uri", "--address"}
    shown = [command for command in commands() if not elsewhere & set(command)]
    assert len(shown) >= 5
    for command in shown:
        small = ["--jobs=1", "--seeds=2", *(f"--set={setting}" for setting in SMALL)]
        small += ["--max-seeds=3"] if "--decide" in command else []
        done = fmnist_here(*command, *(small if command[0] in {"run", "plan"} else []))
        assert done.returncode == 0, f"{command}\n{done.stderr}"


def test_the_seventh_experiment(tmp_path):
    """The README's own YAML is a sweep that could be run."""
    text, _ = blocks("yaml")
    path = tmp_path / "width.yaml"
    path.write_text(text, encoding="utf-8")
    (sweep,) = load_sweeps([path])
    assert len(sweep.arms) == 6


def test_a_seventh_file_beside_the_six(fmnist_here, tmp_path):
    """Planned with the others and after them, without a line of Python."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    text, _ = blocks("yaml")
    (tmp_path / "configs/width.yaml").write_text(text, encoding="utf-8")
    done = fmnist_here("plan", "configs", "--json")
    assert done.returncode == 0, done.stderr
    planned = [run["sweep"] for run in json.loads(done.stdout)["runs"]]
    # The sixth is decided by the runs of the first five.
    assert list(dict.fromkeys(planned)) == [*EXPERIMENTS[:5], "width"]


def test_the_mistake_in_the_readme(fmnist_here, tmp_path):
    """What a typing error prints is what the README says it prints."""
    text, _ = blocks("yaml")
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs/width.yaml").write_text(text, encoding="utf-8")
    (console,) = blocks("console")
    prompt, _, output = console.partition("\n")
    done = fmnist_here(*shlex.split(prompt.removeprefix("$ fmnist ")))
    assert done.stderr == output
    assert done.returncode == 2


@pytest.mark.parametrize("page", ["README.md", "docs/search.md"])
def test_the_search_is_one(page, tmp_path):
    """The file of the README and that of its own page can be run."""
    text = (ROOT / page).read_text(encoding="utf-8")
    *_, block = re.findall(r"```yaml\n(.*?)```", text, re.DOTALL)
    (tmp_path / "hunt.yaml").write_text(block, encoding="utf-8")
    search, finalists = load_sweeps([tmp_path / "hunt.yaml"], figures=axes_by_kind())
    assert search.search
    assert finalists.combine.trials == search.search.trials == 40


def test_the_rooms_in_contributing():
    """Every module of the package stands in the table of rooms."""
    table = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    package = ROOT / "src/fmnist_tuning"
    rooms = {f"{path.parent.name}/" for path in package.glob("*/__init__.py")}
    rooms |= {path.name for path in package.glob("[a-z]*.py")}
    assert {room for room in rooms if f"`{room}`" not in table} == set()


MORE = sorted((ROOT / "configs/more").glob("*.yaml"))


@pytest.mark.parametrize("path", [*CONFIGS, *MORE], ids=lambda p: p.stem)
def test_every_sweep_file_opens_with_its_command(path):
    """What to type, and how long it takes."""
    folder = path.parent.relative_to(ROOT)
    first, second = path.read_text(encoding="utf-8").splitlines()[:2]
    assert re.match(rf"# Run:   fmnist run {folder}/({path.name})?(\s|$)", first)
    assert re.match(r"# Takes: about \d+ ", second)


def test_more_experiments_are_sweeps():
    """All of them together, in the order of their numbers; each has claims, a search by itself."""
    sweeps = load_sweeps([ROOT / "configs/more"], figures=axes_by_kind())
    numbered = [sweep.id for sweep in sweeps if sweep.id.startswith("exp")]
    assert [int(re.sub(r"\D", "", sweep)) for sweep in numbered] == [7, 8, 9, 10, 11, 12, 12]
    assert all((sweep.claims and sweep.figure) or sweep.search for sweep in sweeps)
    assert {path.name for path in MORE} <= set(re.findall(r"[\w]+\.yaml", README))
