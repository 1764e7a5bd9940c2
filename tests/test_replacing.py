"""A sweep file whose id the study has already: what is the same sweep, and what is refused."""

import shutil

import pytest
from conftest import TINY_RUN

SWEEP = "sweep: s\ntitle: S\ngrid: {dropout_rate: [0.0, 0.2]}\n"
CLAIM = (
    "claims: [{that: x, arm: {dropout_rate: 0.2}, versus: {dropout_rate: 0.0}, "
    "expect: higher, margin: 0.002}]\n"
)


@pytest.fixture(scope="session")
def ran(made_once, call_in, blank_store):
    """A folder in which the sweep has run."""

    def make(folder):
        shutil.copy(blank_store, folder / "mlflow.db")
        (folder / "s.yaml").write_text(SWEEP)
        call_in(folder, "run", "s.yaml", *TINY_RUN)

    return made_once("ran", make)


@pytest.fixture
def plan(ran, tmp_path, fmnist_here):
    """Plans a file in a copy of that study."""
    shutil.copy(ran / "mlflow.db", tmp_path / "mlflow.db")

    def run(text, *options, command="plan"):
        (tmp_path / "again.yaml").write_text(text)
        return fmnist_here(command, "again.yaml", *(options or TINY_RUN))

    return run


SAME = {
    "the file itself": SWEEP,
    "another arm": SWEEP.replace("0.2]", "0.2, 0.3]"),
    "another order": SWEEP.replace("0.0, 0.2", "0.2, 0.0"),
    "more seeds": f"{SWEEP}seeds: [0, 1]\n",
    "other texts, a claim and a figure": f"{SWEEP.replace('title: S', 'title: T')}{CLAIM}"
    "figure: {kind: trend, x: dropout_rate, file: s.png}\n",
    "arms by name": "sweep: s\ntitle: S\narms: [{name: a, dropout_rate: 0}, "
    "{name: b, dropout_rate: 0.2}]\n",
    "another id": SWEEP.replace("sweep: s", "sweep: other").replace("0.0", "0.1"),
}


@pytest.mark.parametrize("case", SAME)
def test_what_replaces_nothing(plan, case):
    """More arms and seeds, other texts, claims and figures."""
    done = plan(SAME[case])
    assert done.returncode == 0, done.stderr


COMBINED = "sweep: c\ntitle: C\nCOMBINE\nseeds: [7]\nFIXED\n"


@pytest.mark.slow
def test_a_combination(ran, tmp_path, fmnist_here):
    """Its file again is no replacement, whatever its sources share; another choice is one."""
    shutil.copy(ran / "mlflow.db", tmp_path / "mlflow.db")
    own = [option for option in TINY_RUN if option.startswith("--jobs")]

    def run(combine, fixed="", command="run"):
        text = COMBINED.replace("COMBINE", f"combine: {{{combine}}}").replace("FIXED", fixed)
        (tmp_path / "c.yaml").write_text(text)
        return fmnist_here(command, "c.yaml", *own)

    for command in ("run", "run", "plan"):
        done = run("from: [s], top: 2", command=command)
        assert done.returncode == 0, done.stderr
    for combine, fixed, change in (
        ("from: [s], top: 1", "", "combine.top: 2 → 1"),
        ("from: [s], top: 2, max_params: 9", "", "combine.max_params: none → 9"),
        ("from: [s], top: 2", "fixed: {learning_rate: 0.01}", "learning_rate: 0.001 → 0.01"),
    ):
        done = run(combine, fixed, command="plan")
        assert done.returncode == 2
        assert f"has it with other settings ({change})" in done.stderr


OTHER = {
    "another setting for all": (
        f"{SWEEP}fixed: {{learning_rate: 0.01}}\n",
        "learning_rate: 0.001 → 0.01",
    ),
    "another value": (SWEEP.replace("0.2", "0.4"), "dropout_rate: 0.2 → 0.0"),
    "another grid": ("sweep: s\ntitle: S\ngrid: {use_pooling: [true, false]}\n", "dropout_rate: 0"),
}


@pytest.mark.parametrize("case", OTHER)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_forgotten_id_is_refused(plan, case, command):
    """The message says what differs and the three ways on; nothing is trained or replaced."""
    text, change = OTHER[case]
    done = plan(text, command=command)
    assert done.returncode == 2
    assert f"the study fashion_mnist_cnn_tuning has it with other settings ({change}" in done.stderr
    for way in ("another id in `sweep:`", "--study", "--replace"):
        assert way in done.stderr
    assert plan(text, *TINY_RUN, "--replace").returncode == 0
    assert plan(SWEEP).returncode == 0


def test_a_setting_of_the_command_line_counts_too(plan):
    """A short trial would replace the real experiment."""
    done = plan(SWEEP, *TINY_RUN, "--set", "learning_rate=0.01")
    assert done.returncode == 2
    assert "(learning_rate: 0.001 → 0.01)" in done.stderr
    assert plan(SWEEP, *TINY_RUN, "--set", "learning_rate=0.01", "--study", "trial").returncode == 0


@pytest.mark.slow
def test_replace_does_it(plan, fmnist_here):
    """And results show the new settings; the old runs stay stored."""
    text = SWEEP.replace("0.2", "0.4")
    assert plan(text, *TINY_RUN, "--replace", command="run").returncode == 0
    assert "dropout_rate=0.4" in fmnist_here("results", "--json").stdout
    assert "dropout_rate=0.2" not in fmnist_here("results", "--json").stdout
    done = plan(SWEEP, *TINY_RUN, "--replace", "--json")
    assert done.stdout.count('"action": "reuse"') == 2


@pytest.mark.usefixtures("migrated")
def test_a_sweep_without_finished_runs_has_nothing_to_lose(fmnist_here, sweep_file):
    """A first try that was stopped at once may be corrected."""
    from fmnist_tuning.store.study import Study
    from fmnist_tuning.store.tracker import Tracker
    from fmnist_tuning.sweeps.reading import load_sweeps

    file = sweep_file(SWEEP)
    Tracker(Study.open()).begin_sweep(load_sweeps([file])[0], "d1")
    assert fmnist_here("plan", file, *TINY_RUN).returncode == 0
