"""A store that somebody else could write to: what it says neither escapes, obeys nor crashes."""

import json
import re
import shutil
from pathlib import Path

import pytest
from conftest import lacking
from studies import sweep_of, write_study

from fmnist_tuning.data.files import verify
from fmnist_tuning.errors import TrackingError
from fmnist_tuning.store.records import DEFINITION, definition_of, has_result
from fmnist_tuning.sweeps.settings import RunConfig

SWEEP = "sweep: one\ntitle: One\ngrid: {dropout_rate: [0.1, 0.3]}\n"
BEST = "sweep: best\ntitle: Best\ncombine: {from: [one]}\nseeds: [7]\n"
# What a terminal obeys, and what turns the direction in which it writes.
OBEYED = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
EVIL = "\x1b[31m\x07[bold]<b>`x`</b>|*$\\frac{$ \u202egnp.exe [a](http://b) fmnist:begin x"


@pytest.fixture(scope="session")
def _written(made_once, blank_store, tiny_data) -> Path:
    def make(folder: Path) -> None:
        shutil.copy(blank_store, folder / "mlflow.db")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("studies.DIGEST", verify(tiny_data).digest)
            sizes = "fixed: {train_size: 300, val_size: 100}\n"  # all that there are
            write_study([sweep_of(SWEEP + sizes, folder)], f"sqlite:///{folder}/mlflow.db")

    return made_once("hostile", make) / "mlflow.db"


@pytest.fixture
def client(tmp_path, _written):
    """A finished study of one sweep in the test's folder, and MLflow's own client to forge it."""
    from mlflow import MlflowClient

    (tmp_path / "one.yaml").write_text(SWEEP)
    (tmp_path / "best.yaml").write_text(BEST)
    return MlflowClient(f"sqlite:///{shutil.copy(_written, tmp_path / 'mlflow.db')}")


@pytest.fixture
def everything(fmnist_here, tiny_data):
    """Runs every command that reads a study, and nothing that trains."""

    def run(*combined: str) -> list:
        data = ("--data-dir", tiny_data)
        commands = [("results",), ("results", "--csv"), ("plot",), ("journal",)]
        commands += [(command, "best.yaml", *data) for command in combined]
        return [fmnist_here(*command) for command in commands]

    return run


def runs_of(client, kind: str) -> list:
    (study,) = (e for e in client.search_experiments() if e.name != "Default")
    return client.search_runs([study.experiment_id], f"tags.`fmnist.kind` = '{kind}'")


def definition(**changes: object) -> str:
    plain = {"sweep": "one", "title": "One", "grid": {"dropout_rate": [0.1, 0.3]}}
    plain["fixed"] = {"train_size": 300, "val_size": 100}
    return json.dumps(plain | changes)


FORGED = {
    "this is no JSON": "'this is no JSON' … JSON",
    "": "'' … JSON",
    "[]": "[] … mapping",
    "{}": "sweep: … required",
    '{"sweep": "one", "title": "\\ud800"}': """'{"sweep": "one", "title": "\\\\ud800"}' … JSON""",
    definition(figure={"kind": "ranking", "file": "../../x"}): "figure.file: … '../../x' … .png",
    definition(figure={"kind": "ranking", "file": "/x.png"}): "figure.file: … '/x.png' … .png",
    definition(sweep="../x"): "sweep: … '../x' … 64 letters",
    definition(sweep="two"): "two",
    definition(grid={}): "none … grid, arms, combine and search",
    definition(grid={}, combine={"from": ["a"]}): "no arms",
    definition(title="\x1b[31m"): "title: … '\\x1b[31m' … control",
    definition(title="x" * 201): "title: … 201 … 200",
    definition(hypothesis="x" * 10_000_000): "250,000",
    definition(seeds=[0] * 2_000): "seeds: … 2,000 … 1,000",
    definition(grid={"epochs": [10**30]}): f"grid.epochs[0]: … {10**30} … 10,000",
    definition(grid={}, arms=[{"name": "a", "predicted": "x"}]): (
        "arms[0].predicted: … 'x' … number"
    ),
}


def stored(text):
    """A definition of the sweep `one`, as the store has it."""
    parts = [text[start : start + 5_000] for start in range(0, len(text), 5_000)] or [""]
    numbered = {f"{DEFINITION}.{place}": part for place, part in enumerate(parts)}
    return definition_of("one", {DEFINITION: str(len(parts)), **numbered})


@pytest.mark.parametrize(("text", "reason"), FORGED.items(), ids=map(str, range(len(FORGED))))
def test_a_forged_definition(text, reason):
    """It is held to the rules of a sweep file."""
    with pytest.raises(TrackingError) as caught:
        stored(text).get()
    told = str(caught.value)
    assert told.startswith("the study's definition of one ")
    assert not lacking(told, f"{reason} … `fmnist run`")


def test_a_definition_of_many_digits():
    """Python itself refuses to write such a number."""
    text = definition().replace("0.1", "1" * 5_000)
    with pytest.raises(TrackingError, match="definition of one cannot be read"):
        stored(text).get()


@pytest.mark.parametrize(
    "tags",
    [
        {"fmnist.definition": "1", "fmnist.definition.0": definition(sweep="../../x")},
        {"fmnist.definition": "2"},
    ],
    ids=["path", "cut"],
)
def test_no_command_believes_it(client, everything, tmp_path, tags):
    """One line each, exit code 2, nothing drawn, written or trained."""
    (run,) = runs_of(client, "sweep")
    for key, value in tags.items():
        client.set_tag(run.info.run_id, key, value)
    for done in everything("plan", "run"):
        assert done.returncode == 2
        *facts, error = done.stderr.splitlines()
        assert error.startswith("error: the study's definition of one cannot be read: ")
        assert [line[:5] for line in facts] in ([], ["plan ", "study", "data "])
        assert not OBEYED.search(done.stderr)
        assert done.stdout == ""
    assert not (tmp_path / "visualizations").exists()
    assert not (tmp_path / "JOURNAL.md").exists()
    assert len(runs_of(client, "run")) == 2


def test_a_sweep_under_another_name(client, everything, tmp_path):
    """A path, an escape sequence and a megabyte: the id that the definition has is another."""
    (run,) = runs_of(client, "sweep")
    for name in ("../../x", EVIL):
        client.update_run(run.info.run_id, name=name)
        for done in everything():
            assert done.returncode == 2
            assert "cannot be read: it is that of one; `fmnist run`" in done.stderr
            assert not OBEYED.search(done.stderr)
    assert not (tmp_path.parent / "x").exists()


def test_names_and_settings_reach_nothing_raw(client, everything, fmnist_here, tiny_data, tmp_path):
    """Neither the terminal nor the journal obeys a run's name, its tags or its params."""
    for run in runs_of(client, "run"):
        client.update_run(run.info.run_id, name=EVIL)
        for tag in ("mlflow.user", "fmnist.device", "fmnist.processor", "fmnist.torch"):
            client.set_tag(run.info.run_id, tag, EVIL)
        client.set_tag(run.info.run_id, "fmnist.sweeps", EVIL)
        client.log_param(run.info.run_id, "added", EVIL)
    for done in everything():
        assert done.returncode == 0, done.stderr
        assert not OBEYED.search(done.stdout + done.stderr)
    planned = fmnist_here("plan", "one.yaml", "--data-dir", tiny_data)
    assert r"\x1b[31m\x07[bold]<b>" in " ".join(planned.stdout.split())
    assert not OBEYED.search(planned.stdout)
    text = (tmp_path / "JOURNAL.md").read_text(encoding="utf-8")
    assert r"[31m [bold]&lt;b&gt;\`x\`&lt;/b&gt;\|\*\$\\frac{\$" in text
    assert r"[a]\(http://b) fmnist: begin x" in text
    assert not OBEYED.search(text)
    assert fmnist_here("journal", "--check").returncode == 0


TITLE = "\U0001f4a5 é\u0301 [b]x[/b] <i>`|*$\\frac{$ \u202egnp.exe fmnist:end one"


def test_a_title_of_signs(client, everything, fmnist_here, tmp_path):
    """Markup, HTML, Markdown, mathematics, a combining mark, emoji and a turn of direction."""
    (run,) = runs_of(client, "sweep")
    client.set_tag(run.info.run_id, "fmnist.definition.0", definition(title=TITLE))
    shown = everything()
    for done in shown:
        assert done.returncode == 0, done.stderr
        assert not OBEYED.search(done.stdout + done.stderr)
    assert "[b]x[/b] <i>`|*$\\frac{$ \\u202egnp.exe" in shown[0].stdout
    assert fmnist_here("plot", "--format", "svg").returncode == 0
    text = (tmp_path / "JOURNAL.md").read_text(encoding="utf-8")
    assert "[b]x[/b] &lt;i&gt;\\`\\|\\*\\$\\\\frac{\\$ gnp.exe fmnist: end one" in text
    assert fmnist_here("journal", "--check").returncode == 0


def test_tags_that_are_no_definition():
    """Their number is a text from outside too."""
    for count in ("99999999999", "9999", "-1", "\x1b[31m", "²", ""):
        tags = {"fmnist.definition": count, "fmnist.definition.0": "{}"}
        assert definition_of("one", tags).parsed is None
    assert definition_of("one", {}).parsed is None


RESULT = {
    "final_train_accuracy": 0.9,
    "final_val_accuracy": 0.9,
    "total_params": 1,
    "train_seconds": 1,
}


@pytest.mark.parametrize("metric", RESULT)
@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), -1])
def test_a_result_that_is_none(metric, value):
    """Each metric that every command needs, and what it cannot be."""
    metrics = {key: number for key, number in (RESULT | {metric: value}).items() if number}
    assert has_result(RESULT)
    assert not has_result(metrics)


def test_a_run_without_a_result_is_not_finished(client, everything):
    """Whatever its status says."""
    forged = next(run for run in runs_of(client, "run") if "0.1" in run.info.run_name)
    client.log_metric(forged.info.run_id, "final_val_accuracy", float("nan"), timestamp=2**50)
    shown = everything()
    assert [done.returncode for done in shown] == [0, 0, 0, 0]
    assert "one: 1 of 2 runs are not finished" in shown[0].stdout


def test_times_and_epochs_beyond_all_bounds(client, everything):
    """No year 300,000 and no epoch of 18 digits makes a traceback."""
    for run in runs_of(client, "run"):
        client.set_terminated(run.info.run_id, "FINISHED", end_time=2**62)
        client.log_metric(run.info.run_id, "val_loss", float("inf"), step=10**18)
        client.log_metric(run.info.run_id, "best_val_accuracy", float("nan"))
    assert [done.returncode for done in everything()] == [0, 0, 0, 0]


def test_params_that_are_no_settings():
    """They are texts from outside, however deep, long or strange."""
    for text in ("[" * 5_000, "-" * 100_000 + "1", "9" * 5_000, "{[]: 1}", "\0", "", "(" * 150):
        assert RunConfig.from_params({"epochs": text}) is None
