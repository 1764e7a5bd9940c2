"""What a person sees of a search: tables, figures, the journal, the champion."""

import csv
import io
import json

import pytest
from conftest import TINY

from fmnist_tuning.analysis.frames import Summary
from fmnist_tuning.analysis.searching import (
    Finalist,
    finalists_of,
    flattery,
    importances_of,
    ranked_trials,
    trials_of,
)
from fmnist_tuning.metrics import METRICS
from fmnist_tuning.report.study import open_study
from fmnist_tuning.report.wording import finalist_summary, search_summary

TEXT = """\
sweep: hunt
title: A Hunt
fixed: {holdout_size: 80, val_size: 80}
search:
  space:
    dropout_rate: {low: 0.0, high: 0.6}
    learning_rate: {low: 0.0003, high: 0.03, log: true}
    use_batch_norm: [true, false]
  trials: 10
  prune: hyperband
  finalists: 2
"""
GRID = "sweep: grid\ntitle: G\ngrid: {dropout_rate: [0.0, 0.5]}\nseeds: [0, 1]\n"
TINY_RUN = [
    "--jobs=2",
    *(f"--set={k}={v}" for k, v in TINY.items() if k not in {"val_size", "epochs"}),
    "--set=epochs=4",
]


@pytest.fixture(scope="module")
def hunted(made_once, call_in):
    """A folder whose study has a finished search and a grid beside it."""

    def make(folder):
        (folder / "hunt.yaml").write_text(TEXT)
        (folder / "grid.yaml").write_text(GRID)
        call_in(folder, "run", "hunt.yaml", "grid.yaml", *TINY_RUN)

    return made_once("hunted", make)


@pytest.fixture
def here(hunted, monkeypatch, fmnist_here):
    monkeypatch.chdir(hunted)
    return fmnist_here


@pytest.fixture(scope="module")
def found(hunted):
    return open_study("fashion_mnist_cnn_tuning", f"sqlite:///{hunted}/mlflow.db")


@pytest.mark.slow
def test_the_table_has_the_best_trials(here, found):
    """The best come first; pruned ones are counted, and nothing is called missing."""
    done = here("results", "hunt")
    frames = found.sweeps["hunt"]
    counts = f"{len(frames.rows)} complete, {len(frames.pruned)} pruned"
    assert (
        f"10 trials: {counts}; the best is trial {ranked_trials(frames)[0].number}" in done.stdout
    )
    assert len(frames.rows) + len(frames.pruned) == 10
    assert frames.missing == ()
    assert "not finished" not in done.stdout
    values = [trial.value for trial in ranked_trials(frames)]
    assert values == sorted(values, reverse=True)
    lines = [line.split() for line in done.stdout.splitlines() if "params" not in line]
    numbers = [
        int(line[0]) for line in lines if len(line) > 3 and line[0].isdigit() and "=" in line[1]
    ]
    assert numbers == [trial.number for trial in ranked_trials(frames)]


@pytest.mark.slow
def test_flattery_is_the_promise_minus_the_proof(found):
    """Beside the base configuration, which was a trial too: its seed is easy or hard for all."""
    frames, every = found.sweeps["hunt"], found.every
    finalists = finalists_of(frames, every)
    base = trials_of(frames)[0].value
    fresh = found.sweeps["hunt_finalists"]
    (own,) = (arm for arm in fresh.arms if arm.name == "base")
    shown = fresh.by_seed([own], "late_val_accuracy")
    for one in finalists:
        mean = one.fresh.mean - sum(shown.values()) / 3
        assert one.shown == pytest.approx(mean)
        assert one.flattery == pytest.approx(one.score - base - mean)
        assert one.test.seeds == 3
    assert flattery(finalists) == pytest.approx(
        sum(one.flattery for one in finalists) / len(finalists)
    )


@pytest.mark.slow
def test_figures_of_a_search(here, tmp_path, found):
    """History and importances, slices, curves and finalists; they go to MLflow's runs too."""
    done = here("plot", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    names = {path.name for path in tmp_path.glob("*.png")}
    assert names >= {"hunt.png", "hunt_slices.png", "hunt_curves.png", "hunt_finalists.png"}
    kept = found.study.client.list_artifacts(found.sweep_run_ids["hunt"], "plots")
    assert {"plots/hunt.png", "plots/hunt_slices.png"} <= {artifact.path for artifact in kept}


@pytest.mark.slow
def test_the_journal_tells_of_the_search(here, tmp_path):
    """Its space, its best trials, the finalists by fresh seeds, and what mattered."""
    done = here("journal", "--output", tmp_path / "J.md")
    assert done.returncode == 0, done.stderr
    text = (tmp_path / "J.md").read_text()
    section = text[text.index("### A Hunt\n") : text.index("### A Hunt: Finalists")]
    assert "`learning_rate` from 0.0003 to 0.03, by its logarithm" in section
    assert "proposed by `tpe`, pruned by `hyperband`" in section
    assert "**A:**" in section
    assert "**Flattery:**" in section
    assert "**Importance** (fANOVA" in section
    assert "`visualizations/hunt_slices.png`" in section
    assert here("journal", "--output", tmp_path / "J.md", "--check").returncode == 0


@pytest.mark.slow
def test_no_trial_is_the_champion(here, tmp_path):
    """A trial was chosen by one seed; the study's champion comes from what was judged."""
    done = here("champion", "--output", tmp_path)
    assert done.returncode == 0, done.stderr
    assert "champion grid" in done.stdout or "champion hunt_finalists" in done.stdout


@pytest.mark.slow
def test_programs_read_trials_too(here, found):
    """As a record for each complete trial, and a row in the table of runs."""
    (search,) = json.loads(here("results", "hunt", "--json").stdout)
    assert len(search["arms"]) == len(found.sweeps["hunt"].rows)
    assert search["missing"] == []
    trials = search["search"]["trials"]
    assert [trial["trial"] for trial in trials] == [*range(1, 11)]
    assert {trial["state"] for trial in trials} == {"complete", "pruned"}
    assert [one["arm"][:2] for one in search["search"]["finalists"]] == ["A:", "B:"]
    rows = list(csv.DictReader(io.StringIO(here("results", "hunt", "--csv").stdout)))
    assert len(rows) == len(found.sweeps["hunt"].rows)


@pytest.mark.slow
def test_a_plan_lists_what_is_there(here):
    """Pruned trials are neither trained again nor reused."""
    done = here("plan", "hunt.yaml", *TINY_RUN)
    assert "make 0 trainings" in done.stdout
    assert "pruned)" in done.stdout
    longer = here("plan", "hunt.yaml", "--json", *TINY_RUN)
    actions = {row["action"] for row in json.loads(longer.stdout)["runs"]}
    assert actions == {"reuse", "pruned"}


@pytest.mark.slow
def test_shares_add_up(found):
    """The importances of all settings are the whole."""
    shares = importances_of(found.sweeps["hunt"])
    assert set(shares) == {"dropout_rate", "learning_rate", "use_batch_norm"}
    assert sum(shares.values()) == pytest.approx(1)


def finalist(**values):
    fresh = Summary(0.92, 0.002, 0.915, 0.925, 3)
    test = Summary(0.91, 0.002, 0.905, 0.915, 3)
    own = {"arm": None, "score": 0.93, "fresh": fresh, "test": test, "verdict": None}
    own |= {
        "promised": 0.012,
        "shown": 0.008,
        "flattery": 0.004,
        "chance": 0.006,
        "found": "undecided",
    }
    return Finalist(**(own | values))


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"found": "found better"}, "found better than the base configuration. The search scored "
         "93.00 %, +1.20 points beside the base. 3 fresh seeds: 92.00 ± 0.20 %, +0.80 points "
         "beside the base. So it flattered itself by 0.40 points (chance alone: ± 0.60). Test "
         "accuracy: 91.00 ± 0.20 %"),
        ({"found": "equivalent"}, "equivalent to the base configuration"),
        ({"found": "found worse"}, "found worse than the base configuration"),
        ({"flattery": -0.004}, "promised too little by 0.40 points"),
        ({"promised": float("nan")}, "scored 93.00 %. 3 fresh seeds"),
        ({"flattery": float("nan")}, "beside the base. Test accuracy"),
        ({"chance": float("nan")}, "flattered itself by 0.40 points. Test"),
    ],
)  # fmt: skip
def test_words_for_a_finalist(values, said):
    """What it was found to be, what was promised and what was shown."""
    assert said in finalist_summary(METRICS["late_val_accuracy"], finalist(**values))


def test_words_for_a_search_without_a_complete_trial():
    """It has no best one."""
    assert search_summary(METRICS["late_val_accuracy"], [], [], 7) == "0 trials: 7 to come"
