import heapq
import itertools

import pytest

from fmnist_tuning.running.schedule import Schedule
from fmnist_tuning.sweeps.cost import forward_cost
from fmnist_tuning.sweeps.runs import runs_of
from fmnist_tuning.sweeps.settings import RunConfig
from fmnist_tuning.sweeps.sweep import Sweep


def runs(*arms):
    """Runs with these settings, named a, b, c, ..."""
    named = [{"name": name} | arm for name, arm in zip("abcdefghijklm", arms, strict=False)]
    sweep = Sweep.model_validate({"sweep": "s", "title": "S", "arms": tuple(named)})
    return runs_of(sweep, "digest")


def simulate(trainings, workers, *, in_turns=True, pace=None):
    """Train on paper, where an epoch takes as long as its cost says, or as `pace` says.

    Returns:
        When the last run ended, and what each worker did: `(run's name, epochs)` in turn.
    """
    schedule = Schedule(trainings, workers, in_turns=in_turns)
    pace = pace or {run.arm.name: forward_cost(run.config) for run in trainings}
    done = dict.fromkeys(pace, 0)
    diaries = [[] for _ in range(workers)]
    idle, clock, at_work = list(range(workers)), 0.0, []
    while len(schedule) or at_work:
        for run in schedule.waiting()[: len(idle)]:
            name, worker = run.arm.name, idle.pop(0)
            epochs = schedule.take(run, len(at_work)) or run.config.epochs - done[name]
            diaries[worker].append((name, epochs))
            heapq.heappush(at_work, (clock + epochs * pace[name], worker, epochs, run))
        clock, worker, epochs, run = heapq.heappop(at_work)
        idle.append(worker)
        done[run.arm.name] += epochs
        schedule.trained(run, done[run.arm.name])
        if done[run.arm.name] < run.config.epochs:
            schedule.put_back(run)
    assert list(done.values()) == [run.config.epochs for run in trainings]
    return clock, diaries


BASE = forward_cost(RunConfig())


def test_five_equal_runs_on_two_workers():
    """As long as two and a half, not as three; the first two are trained in one go."""
    five = runs(*({"dropout_rate": rate / 10} for rate in range(5)))
    time, diaries = simulate(five, 2)
    assert time == 25 * BASE
    assert [diary[0] for diary in diaries] == [("a", 10), ("b", 10)]
    assert simulate(five, 2, in_turns=False)[0] == 30 * BASE


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("count", [1, 2, 3, 5, 7, 13])
@pytest.mark.parametrize("depths", [[2], [1, 2, 3]], ids=["equal", "unequal"])
def test_within_an_epoch_of_the_least_time(count, workers, depths):
    """Whatever the numbers of runs and workers."""
    arms = [
        {"dropout_rate": number / 100, "num_conv_layers": depth, "epochs": 20}
        for number, depth in zip(range(count), itertools.cycle(depths), strict=False)
    ]
    trainings = runs(*arms)
    epochs = [forward_cost(run.config) for run in trainings]
    least = max(20 * sum(epochs) / workers, 20 * max(epochs))
    assert least <= simulate(trainings, workers)[0] <= least + max(epochs)


def test_the_longest_runs_go_first():
    """By their cost; equal ones keep their order."""
    four = runs({"epochs": 2}, {}, {"use_pooling": False}, {"dropout_rate": 0.1})
    assert [run.arm.name for run in Schedule(four, 2, in_turns=True).waiting()] == list("cbda")


def test_one_worker_keeps_the_plans_order():
    """And trains each run in one go."""
    _, (diary,) = simulate(runs({"epochs": 2}, {}, {"dropout_rate": 0.1}), 1)
    assert diary == [("a", 2), ("b", 10), ("c", 10)]


def test_as_many_runs_as_workers():
    """Nothing to share out: each is trained in one go."""
    _, diaries = simulate(runs({}, {"dropout_rate": 0.1}), 2)
    assert diaries == [[("a", 10)], [("b", 10)]]


def test_what_another_command_trains_counts_for_nothing():
    """It is asked for last, and nobody is paused for its sake."""
    a, b, c = runs({"num_conv_layers": 3}, {}, {"dropout_rate": 0.1})
    schedule = Schedule([a, b, c], 2, in_turns=True)
    assert schedule.mark_elsewhere(a)
    assert not schedule.mark_elsewhere(a)
    assert schedule.waiting() == [b, c, a]
    assert [schedule.take(b, 0), schedule.take(c, 1)] == [None, None]
    schedule.settle(a)
    assert len(schedule) == 0


def test_a_wrong_estimate_costs_little():
    """A run twice as slow as its cost says is met by shorter turns of the others."""
    five = runs(*({"dropout_rate": rate / 10} for rate in range(5)))
    pace = {"a": 1.0, "b": 1.0, "c": 1.0, "d": 1.0, "e": 2.0}
    assert simulate(five, 2, pace=pace)[0] <= 35
    assert simulate(five, 2, pace=pace, in_turns=False)[0] == 40
