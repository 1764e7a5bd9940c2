"""A study read back from a real store: results, figures and journal, by the real commands."""

import csv
import io
import json
import re

import pytest
from rich.console import Console
from studies import plausible, six_experiments, write_study

from fmnist_tuning.report.study import read_study
from fmnist_tuning.store.study import Study
from fmnist_tuning.sweeps.sweep import Sweep
from fmnist_tuning.terminal import print_study

STUDY = "fashion_mnist_cnn_tuning"
FIGURES = {
    "dropout_impact",
    "batch_norm_comparison",
    "conv_depth_impact",
    "pooling_comparison",
    "interactions_heatmap",
    "top_configs",
}


def test_a_study_is_what_its_store_holds(study_of_six):
    """Sweeps by id, shared runs in each of them, nothing missing."""
    found = read_study(Study.existing(STUDY, f"sqlite:///{study_of_six}"))
    assert list(found.sweeps) == [sweep.id for sweep in six_experiments()]
    assert [len(frames.runs) for frames in found.sweeps.values()] == [10, 4, 6, 4, 8, 6]
    assert not any(frames.missing for frames in found.sweeps.values())
    base = found.sweeps["exp2_batch_norm"].runs.set_index(["arm", "seed"])
    shared = found.sweeps["exp1_dropout"].runs.set_index(["arm", "seed"])
    assert (
        base.loc[("use_batch_norm=True", 1), "run_id"]
        == shared.loc[("dropout_rate=0.5", 1), "run_id"]
    )
    config = six_experiments()[0].arms[3].config.model_copy(update={"seed": 1})
    assert shared.loc[("dropout_rate=0.5", 1), "final_val_accuracy"] == plausible(config)


def test_a_claim_against_a_sweep_that_is_not_shown(study_of_six):
    """Asked for one sweep alone, the other is still there to compare with."""
    found = read_study(Study.existing(STUDY, f"sqlite:///{study_of_six}"), only=["exp6_combined"])
    assert list(found.sweeps) == ["exp6_combined"]
    assert "exp1_dropout" in found.every


@pytest.mark.usefixtures("study_of_six")
def test_results_as_a_table(fmnist_here):
    """An arm a row, the claims' verdicts below."""
    done = fmnist_here("results", "exp2_batch_norm")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].strip() == "exp2_batch_norm: Batch Normalization Impact"
    assert " ± " in done.stdout
    assert "batch norm validates better: " in done.stdout
    assert "exp1_dropout" not in done.stdout
    assert "mlflow ui" in done.stderr


@pytest.mark.parametrize("width", [60, 80, 100, 160])
def test_tables_on_a_narrow_terminal(study_of_six, width):
    """Arms, marks, seeds and accuracies stay whole; what has no room is named below the table."""
    found = read_study(Study.existing(STUDY, f"sqlite:///{study_of_six}"))
    out = Console(width=width, file=io.StringIO())
    print_study(out, found)
    text = out.file.getvalue()
    assert "…" not in text
    # Sentences are left to the terminal, which wraps them.
    tables = [line for line in text.splitlines() if not re.search("not shown|late: mean", line)]
    assert max(map(len, tables)) <= width
    for frames in found.sweeps.values():
        rows = [line.split()[:3] for line in text.splitlines()]
        for name in {word for arm in frames.arms for word in arm.label.split()}:
            assert any(name in row for row in rows), name
    assert "val acc %" in text
    assert ("not shown, as the terminal is narrow: time" in text) == (width < 160)


@pytest.mark.usefixtures("study_of_six")
def test_results_as_json(fmnist_here):
    """Fractions in full precision, and null where something is unknown."""
    records = json.loads(fmnist_here("results", "--json").stdout)
    assert [record["sweep"] for record in records] == [sweep.id for sweep in six_experiments()]
    arm = records[0]["arms"][0]
    assert arm["config"]["dropout_rate"] == 0.0
    accuracy = arm["metrics"]["final_val_accuracy"]
    configs = [six_experiments()[0].arms[0].config.model_copy(update={"seed": s}) for s in (0, 1)]
    assert accuracy["mean"] == pytest.approx(sum(map(plausible, configs)) / 2, abs=1e-12)
    assert accuracy["seeds"] == 2
    claim = records[3]["claims"][0]
    assert claim["verdict"] == "supported"
    assert claim["contrast"]["difference"] == 421_834 - 6_442_954


@pytest.mark.usefixtures("study_of_six")
def test_results_as_csv(fmnist_here):
    """A row a run of a sweep."""
    rows = list(csv.DictReader(io.StringIO(fmnist_here("results", "--csv").stdout)))
    assert len(rows) == 38
    assert rows[0]["sweep"] == "exp1_dropout"
    assert 0 < float(rows[0]["final_val_accuracy"]) < 1


@pytest.mark.slow
@pytest.mark.usefixtures("study_of_six")
def test_plot_draws_the_journals_figures(fmnist_here, tmp_path, study_of_six):
    """Into visualizations/, and onto each sweep's run in MLflow."""
    done = fmnist_here("plot", "--experiment", STUDY)
    assert done.returncode == 0, done.stderr
    drawn = {path.stem for path in (tmp_path / "visualizations").glob("*.png")}
    assert drawn == FIGURES | {"claims"} | {f"{sweep.id}_curves" for sweep in six_experiments()}
    assert len(done.stdout.splitlines()) == 13
    found = read_study(Study.existing(STUDY, f"sqlite:///{study_of_six}"))
    from mlflow import MlflowClient

    client = MlflowClient(f"sqlite:///{study_of_six}")
    logged = client.list_artifacts(found.sweep_run_ids["exp4_pooling"], "plots")
    assert {item.path for item in logged} == {
        "plots/pooling_comparison.png",
        "plots/exp4_pooling_curves.png",
    }


@pytest.mark.usefixtures("study_of_six")
def test_plot_one_sweep_elsewhere(fmnist_here, tmp_path):
    """Another folder, another format."""
    done = fmnist_here("plot", "exp1_dropout", "--output", "paper/figures", "--format", "svg")
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (tmp_path / "paper/figures").iterdir()) == [
        "dropout_impact.svg",
        "exp1_dropout_curves.svg",
    ]


@pytest.mark.usefixtures("study_of_six")
def test_the_journal_from_nothing(fmnist_here, tmp_path):
    """Written, the same a second time, and up to date by its own check."""
    assert fmnist_here("journal").returncode == 0
    path = tmp_path / "JOURNAL.md"
    first = path.read_bytes()
    text = first.decode()
    for said in ("**Date Started:** 2", "| 0.0 ", "optimal_config", "'dropout_rate': 0.", "3.11.7"):
        assert said in text
    assert "38 runs of 6 sweeps, which are 26 trainings" in text
    assert "nan" not in text.lower().split()
    assert "Not run yet" not in text
    assert "The highest mean of the study is" not in text  # which is the combination's
    assert "Z80 &lt;b&gt;\\|" in text
    assert fmnist_here("journal").returncode == 0
    assert path.read_bytes() == first
    assert fmnist_here("journal", "--check").returncode == 0


def test_a_combination_does_not_win_by_being_one(fmnist_here, tmp_path, migrated):
    """The best of all arms is named with the rule, and what it is beside the base configuration."""
    write_study(
        six_experiments(),
        f"sqlite:///{migrated}",
        lambda config: 0.9 - (config.seed >= 1000) / 100 + config.dropout_rate / 50,
    )
    assert fmnist_here("journal").returncode == 0
    text = (tmp_path / "JOURNAL.md").read_text(encoding="utf-8")
    best = "**Best combination:** Dropout rate 0.7, in `exp1_dropout`, with a validation accuracy, "
    assert best in text
    assert "The rule: of all configurations, " in text
    assert re.search(r"It was chosen from \d+ by the runs that measure it", text)
    versus = (
        "**Against the base configuration:** Validation accuracy, last 3 epochs, better: +0.40 "
    )
    assert versus in text


@pytest.mark.usefixtures("study_of_six")
def test_the_journal_keeps_what_a_person_wrote(fmnist_here, tmp_path):
    """Between, before and after the blocks; what stood in a block is computed anew."""
    fmnist_here("journal")
    path = tmp_path / "JOURNAL.md"
    fresh = path.read_text(encoding="utf-8")
    mine = "Mine, with trailing space \n\n\tand a tab.\n"
    text = fresh.replace("## Experiment 2", f"{mine}## Experiment 2") + mine
    path.write_text(text.replace("**Total Runs:** 38", "**Total Runs:** 99"), encoding="utf-8")
    stale = fmnist_here("journal", "--check")
    assert stale.returncode == 1
    assert "-**Total Runs:** 99" in stale.stdout
    assert "+**Total Runs:** 38" in stale.stdout
    assert fmnist_here("journal").returncode == 0
    assert path.read_text(encoding="utf-8") == text


@pytest.mark.usefixtures("study_of_six")
def test_a_damaged_journal_is_left_alone(fmnist_here, tmp_path):
    """One line that names the marker, exit code 2, nothing written."""
    path = tmp_path / "JOURNAL.md"
    path.write_text("# My own journal\n", encoding="utf-8")
    done = fmnist_here("journal")
    assert done.returncode == 2
    assert done.stderr.startswith("error: JOURNAL.md: the markers of started, ")
    assert path.read_text(encoding="utf-8") == "# My own journal\n"


@pytest.mark.usefixtures("study_of_six")
def test_another_sweep_finds_its_place(fmnist_here, tmp_path, study_of_six):
    """A seventh experiment is reported without a template of its own."""
    seventh = Sweep(
        sweep="width",
        title="Width | of <b>hidden</b>",
        grid={"fc_units": [[64], [128]]},
        seeds=(0, 1),
    )
    write_study([seventh], f"sqlite:///{study_of_six}")
    assert fmnist_here("journal").returncode == 0
    text = (tmp_path / "JOURNAL.md").read_text(encoding="utf-8")
    assert "### Width \\| of &lt;b&gt;hidden&lt;/b&gt;" in text
    assert "hidden units 64" in text


def test_half_a_study(fmnist_here, tmp_path, migrated):
    """Everything works with one sweep half done, and says what is missing."""
    write_study(
        six_experiments()[:1],
        f"sqlite:///{migrated}",
        keep=lambda run: run.config.dropout_rate < 0.4,
    )
    plotted = fmnist_here("plot")
    assert plotted.returncode == 0, plotted.stderr
    assert "exp1_dropout: 4 of 10 runs are not finished: dropout_rate=0.5 seed=0" in plotted.stderr
    assert "4 of 10 runs are not finished" in fmnist_here("results").stdout
    assert fmnist_here("journal").returncode == 0
    text = (tmp_path / "JOURNAL.md").read_text(encoding="utf-8")
    assert "*Not run yet: `fmnist run configs/exp2_batch_norm.yaml`.*" in text
    assert "6 finished" in text


@pytest.mark.usefixtures("migrated")
@pytest.mark.parametrize("command", ["results", "plot", "journal"])
def test_no_study(fmnist_here, tmp_path, command):
    """One clear line, exit code 2, no file."""
    done = fmnist_here(command)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: there is no study {STUDY} in sqlite:///")
    assert len(done.stderr.splitlines()) == 1
    # MLflow 3.8 makes its `mlruns` as soon as a store is opened.
    assert {path.name for path in tmp_path.iterdir()} <= {"mlflow.db", "mlruns"}


@pytest.mark.usefixtures("study_of_six")
@pytest.mark.parametrize("command", ["results", "plot"])
def test_an_unknown_sweep(fmnist_here, command):
    """With those that there are."""
    done = fmnist_here(command, "exp9")
    assert done.returncode == 2
    assert f"the study {STUDY} has no sweep exp9; it has exp1_dropout, " in done.stderr


def test_an_empty_study(fmnist_here, migrated):
    """Begun, but nothing finished."""
    write_study(six_experiments()[:1], f"sqlite:///{migrated}", keep=lambda _: False)
    done = fmnist_here("plot")
    assert done.returncode == 2
    assert f"there is no finished run in the study {STUDY}" in done.stderr


@pytest.mark.usefixtures("study_of_six")
def test_an_output_that_cannot_be_written(fmnist_here, tmp_path):
    """A file where the folder should be."""
    (tmp_path / "visualizations").write_text("in the way")
    done = fmnist_here("plot", "exp1_dropout")
    assert done.returncode == 2
    assert "visualizations" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.slow
def test_the_file_store_reads_the_same(study_of_six, tmp_path):
    """Curves come run by run there, and in bulk from a database."""
    write_study(six_experiments()[:2], f"file:{tmp_path}/mlruns")
    folder = read_study(Study.existing(STUDY, f"file:{tmp_path}/mlruns"), only=["exp1_dropout"])
    database = read_study(Study.existing(STUDY, f"sqlite:///{study_of_six}"), only=["exp1_dropout"])
    columns = ["arm", "seed", "epoch", "metric", "value"]
    one, other = (
        found.sweeps["exp1_dropout"].curves[columns].sort_values(columns, ignore_index=True)
        for found in (folder, database)
    )
    assert one.equals(other)


@pytest.mark.usefixtures("study_of_six")
def test_one_unreadable_sweep_among_others(fmnist_here, tmp_path):
    """It is named, the others are shown and drawn, and the exit code is 1."""
    study = Study.existing(STUDY)
    client = study.client
    (run,) = client.search_runs([study.experiment_id], "attributes.run_name = 'exp3_conv_depth'")
    client.set_tag(run.info.run_id, "fmnist.definition", "none")
    named = "left out: the study's definition of exp3_conv_depth cannot be read: "
    done = fmnist_here("results", "--csv")
    assert done.returncode == 1
    assert done.stderr.startswith(named)
    assert "exp2_batch_norm" in done.stdout
    done = fmnist_here("plot")
    assert done.returncode == 1
    assert named in done.stderr
    assert (tmp_path / "visualizations/exp2_batch_norm_curves.png").exists()
    done = fmnist_here("journal")
    assert done.returncode == 2
    assert not (tmp_path / "JOURNAL.md").exists()
