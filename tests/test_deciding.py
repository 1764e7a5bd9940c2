"""`--decide`: which arms get how many seeds, what is said of it, and that it ends."""

import json
import re
import signal

import pytest
from conftest import TINY
from studies import frames_of, sweep_of

from fmnist_tuning.deciding import cost, first_looks, forecasts, last_look, next_look, states
from fmnist_tuning.sweeps.looks import STANDARD_LOOKS

TEXT = """
sweep: one
title: One
grid: {dropout_rate: [0.1, 0.3, 0.5]}
claims:
  - {that: clear, arm: {dropout_rate: 0.1}, versus: {dropout_rate: 0.5}, expect: higher,
     margin: 0.002}
  - {that: open, arm: {dropout_rate: 0.1}, versus: {dropout_rate: 0.3}, expect: higher,
     margin: 0.002}
"""
SETTINGS = " ".join(f"--set {key}={str(value).replace(' ', '')}" for key, value in TINY.items())
DECIDE = ["--decide", "--jobs=1", *SETTINGS.replace("--set ", "--set=").split()]


def luck(config):
    """By seed and by arm."""
    return 0.0008 * ((config.seed * 7 + round(config.dropout_rate * 10) * 3) % 5 - 2)


def accuracy(config):
    return {0.1: 0.92, 0.3: 0.9185, 0.5: 0.60}[config.dropout_rate] + luck(config)


@pytest.fixture
def first(tmp_path):
    """The sweep at its first look."""
    return first_looks([sweep_of(TEXT, tmp_path)], {})[0]


def look(sweep, most=40):
    every = {sweep.id: frames_of(sweep, accuracy)}
    found = states([sweep], every, most)
    return found, next_look([sweep], found, every)[0]


def test_the_first_look(first, tmp_path):
    """Three seeds at least, more where more are asked for, and the standard looks."""
    assert first.seeds == (0, 1, 2)
    assert first.looks == STANDARD_LOOKS
    more = sweep_of(TEXT, tmp_path).changed(seeds=(4, 5, 6, 7), looks=(4, 9))
    assert first_looks([more], {})[0] == more
    plain = sweep_of(TEXT[: TEXT.index("claims:")], tmp_path)
    assert first_looks([plain], {})[0] == plain


def test_only_the_arms_of_undecided_claims(first):
    """They get the seeds of the next look; the others keep theirs."""
    found, further = look(first)
    assert [state.decided for state in found] == [True, False]
    assert found[1].target == 5
    assert further.arm_seeds == {"dropout_rate=0.1": 5, "dropout_rate=0.3": 5}
    assert [len(further.seeds_of(arm)) for arm in further.arms] == [5, 5, 3]
    assert cost(found[1], 5, {"one": frames_of(first, accuracy)}) == (4, 4 * 8.0)


def test_it_ends(first):
    """At the last look within the limit, or when all is decided."""
    sweep, looks = first, []
    for _ in STANDARD_LOOKS:
        found, further = look(sweep, most=12)
        looks.append(found[1].verdict.look)
        if further == sweep:
            break
        sweep = further
    assert looks == [3, 5, 8, 12]
    assert max(sweep.arm_seeds.values()) == 12


def test_a_sweeps_own_limit(first):
    """`max_seeds` in its file goes before the command's."""
    found, further = look(first.changed(max_seeds=4))
    assert found[1].target is None
    assert further == first.changed(max_seeds=4)


def test_the_other_sweeps_arms_are_extended_there(first, tmp_path):
    """A claim that compares with another sweep needs seeds of both."""
    text = (
        "sweep: two\ntitle: Two\narms: [{name: A, dropout_rate: 0.3, epochs: 9}]\n"
        "claims: [{that: x, arm: {name: A}, versus_sweep: one, versus: {dropout_rate: 0.3},\n"
        "  expect: higher, margin: 0.002}]\n"
    )
    two = first_looks([sweep_of(text, tmp_path)], {})[0]
    every = {"one": frames_of(first, accuracy), "two": frames_of(two, accuracy)}
    found = states([two], every, 40)
    extended = {sweep.id: sweep.arm_seeds for sweep in next_look([two], found, every)}
    assert extended == {"two": {two.arms[0].label: 5}, "one": {"dropout_rate=0.3": 5}}


def test_at_most(first):
    """Every arm of a claim that seeds can decide, to the last look within the limit."""
    assert last_look(first, 20).runs == 3 * 18
    exact = first.changed(
        claims=tuple(claim.model_dump() | {"metric": "total_params"} for claim in first.claims)
    )
    assert last_look(exact, 20).runs == 3 * 3


def test_forecasts(first):
    """Of the study's own spread where it has one, else of the shipped study's, said so."""
    (one, _) = forecasts([first], {})
    assert one.assumed
    assert one.seeds == 3
    assert 0.01 < one.sees < 0.2
    longer = first.changed(seeds=tuple(range(8)))
    (own, _) = forecasts([longer], {"one": frames_of(longer, accuracy)})
    assert not own.assumed
    assert own.sees < one.sees
    (alone, _) = forecasts([first.changed(seeds=(0,), looks=())], {})
    assert alone.sees is None


def test_a_plan_says_what_its_seeds_can_see(fmnist_here, sweep_file):
    """Without a study, by the shipped one's spread; with `--decide` what all looks cost at most."""
    done = fmnist_here("plan", sweep_file(TEXT), "--seeds=3", "--decide", "--max-seeds=12")
    assert done.returncode == 0, done.stderr
    said = " ".join(done.stdout.split())
    assert "if repeats differ as in the shipped study: one: clear: " in said
    assert re.search(
        r"one: clear: not even 40 seeds see 0\.20 points \(3 planned, which see [0-9.]+ points\)",
        said,
    )
    assert "with --decide at most 36 trainings" in said


@pytest.mark.slow
def test_a_study_is_decided(fmnist_here, sweep_file):
    """Look after look; the command again trains nothing; results agree with what was said."""
    path = sweep_file(TEXT.replace("0.3, 0.5", "0.3, 0.9").replace("0.5}", "0.9}"))
    done = fmnist_here("run", path, *DECIDE, "--max-seeds=5", "--json")
    assert done.returncode == 0, done.stderr
    said = json.loads(done.stdout)
    verdicts = [claim["verdict"] for claim in said["sweeps"][0]["claims"]]
    looks = [claim["look"] for claim in said["sweeps"][0]["claims"]]
    assert re.findall(r"claims\s+(\d) of 2 are decided", done.stderr)
    assert set(looks) <= {3, 5}
    assert (max(looks) == 5) == ("inconclusive" in verdicts or 5 in looks)
    again = fmnist_here("run", path, *DECIDE, "--max-seeds=5", "--json")
    assert json.loads(again.stdout)["sweeps"] == said["sweeps"]
    assert "started" not in again.stderr
    shown = json.loads(fmnist_here("results", "--json").stdout)
    assert shown == said["sweeps"]


@pytest.mark.slow
def test_interrupted_between_looks(start_fmnist, fmnist_here, sweep_file):
    """The same command goes on, to the same verdicts as without interruption."""
    path = sweep_file(TEXT)
    process = start_fmnist("run", path, *DECIDE, "--max-seeds=5")
    for line in process.stderr:
        if line.startswith("claims"):
            process.send_signal(signal.SIGINT)
            break
    process.communicate(timeout=100)
    assert process.returncode == 130
    done = fmnist_here("run", path, *DECIDE, "--max-seeds=5", "--json")
    assert done.returncode == 0, done.stderr
    seeds = {run["seed"] for run in json.loads(done.stdout)["runs"]}
    assert seeds >= {0, 1, 2}


@pytest.mark.slow
def test_two_commands_decide_at_once(start_fmnist, sweep_file):
    """They share the trainings, and both come to the same verdicts."""
    path = sweep_file(TEXT)
    both = [start_fmnist("run", path, *DECIDE, "--max-seeds=5", "--json") for _ in range(2)]
    said = [process.communicate(timeout=200) for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    first, second = (json.loads(out)["sweeps"] for out, _ in said)
    assert first == second
    started = [text.count(": started") for _, text in said]
    assert sum(started) == len(json.loads(said[0][0])["runs"])


EXACT = "metric: total_params, margin: 0"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "decided"),
    [
        (TEXT[: TEXT.index("claims:")], None),
        (TEXT.replace("margin: 0.002", EXACT), "2 of 2"),
        ("sweep: one\ntitle: One\narms: [{name: a}]\n", None),
    ],
    ids=["no claims", "exact claims", "one arm"],
)
def test_nothing_to_decide(fmnist_here, sweep_file, text, decided):
    """One look is enough, and the command says what there is."""
    done = fmnist_here("run", sweep_file(text), *DECIDE)
    assert done.returncode == 0, done.stderr
    found = re.search(r"claims\s+(\d of \d) are decided", done.stderr)
    assert (found and found[1]) == (decided or "0 of 0")


@pytest.mark.slow
def test_an_arm_that_always_fails(fmnist_here, sweep_file):
    """Its claims are not judged, the others are, and the command ends with 1."""
    text = TEXT.replace(
        "grid: {dropout_rate: [0.1, 0.3, 0.5]}",
        (
            "arms: [{name: a, dropout_rate: 0.1}, {name: b, dropout_rate: 0.3},\n"
            "  {name: c, dropout_rate: 0.5, learning_rate: 1.0e+30}]"
        ),
    )
    done = fmnist_here("run", sweep_file(text), *DECIDE, "--max-seeds=5")
    assert done.returncode == 1
    assert "clear: not judged: runs are missing" in " ".join(done.stderr.split())
    assert "failed: one c" in done.stderr


@pytest.mark.slow
def test_a_budget_that_is_too_short(fmnist_here, sweep_file):
    """No look is started that it cannot finish by the plan's own estimate."""
    path = sweep_file(TEXT)
    assert fmnist_here("run", path, *DECIDE, "--max-seeds=3").returncode == 0
    done = fmnist_here("run", path, *DECIDE, "--budget=1s")
    assert done.returncode in {0, 2}, done.stderr
    assert "not started" in done.stderr or "are decided" in done.stderr


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--budget=3h"], "--budget: has an effect with --decide only"),
        (["--max-seeds=5"], "--max-seeds: has an effect with --decide only"),
        (["--decide", "--force"], "--force and --decide: found both"),
        (["--decide", "--budget=soon"], "--budget: found 'soon', allowed: a time, such as 45m"),
        (["--decide", "--budget=0h"], "--budget: found '0h', allowed: a time"),
        (["--decide", "--max-seeds=1"], "--max-seeds: found 1, allowed: from 3 to 1,000"),
    ],
)
def test_options_that_do_not_fit(fmnist_here, sweep_file, options, message):
    """One message, exit code 2, nothing trained."""
    done = fmnist_here("run", sweep_file(TEXT), *options)
    assert done.returncode == 2
    assert message in done.stderr
