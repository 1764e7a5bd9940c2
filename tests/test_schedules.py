import itertools
import math

import pytest

from fmnist_tuning.training.learning_rate import learning_rates

STEPS = 20  # an epoch


def rates(schedule="constant", epochs=10, rate=0.4, **settings):
    made = learning_rates(
        learning_rate=rate, epochs=epochs, epoch_steps=STEPS, schedule=schedule, **settings
    )
    return None if made is None else list(made)


def test_without_schedule_the_optimizer_is_left_alone():
    """So that older runs can be repeated bit for bit."""
    assert rates() is None


@pytest.mark.parametrize("final", [0.0, 0.1])
def test_a_cosine_and_a_line_end_at_the_final_rate(final):
    """By their definitions, at every step."""
    turns = [step / 200 for step in range(200)]
    cosine = [final + (0.4 - final) * (1 + math.cos(math.pi * t)) / 2 for t in turns]
    line = [0.4 + (final - 0.4) * t for t in turns]
    assert rates("cosine", final_learning_rate=final) == pytest.approx(cosine, abs=1e-12)
    assert rates("linear", final_learning_rate=final) == pytest.approx(line, abs=1e-12)


def test_steps_fall_by_a_factor():
    """After each so many epochs."""
    wanted = [0.4] * 60 + [0.2] * 60 + [0.1] * 60 + [0.05] * 20
    assert rates("step", step_epochs=3, step_factor=0.5) == pytest.approx(wanted)


@pytest.mark.parametrize("schedule", ["constant", "step", "cosine", "linear"])
def test_a_warm_up_comes_first(schedule):
    """It rises step by step to the learning rate, and the schedule takes what is left of it."""
    made = rates(schedule, warmup_epochs=1.5)
    assert made[:30] == pytest.approx([0.4 * (step + 1) / 31 for step in range(30)])
    # What follows is the schedule of a shorter training.
    rest = learning_rates(
        learning_rate=0.4, epochs=1, epoch_steps=170, schedule=schedule,
        **({"step_epochs": 4} if schedule == "step" else {}),
    )  # fmt: skip
    wanted = [0.4] * 170 if rest is None or schedule == "step" else list(rest)
    if schedule == "step":  # counted in epochs of 20 steps
        wanted = [0.4] * 80 + [0.04] * 80 + [0.004] * 10
    assert made[30:] == pytest.approx(wanted, abs=1e-12)


def test_one_cycle_rises_and_falls():
    """From a 25th of the learning rate to all of it, and down to the final one."""
    made = rates("one_cycle", warmup_epochs=3.0, final_learning_rate=0.001)
    highest = made.index(max(made))
    assert made[0] == pytest.approx(0.4 / 25)
    assert (highest, made[highest]) == (59, pytest.approx(0.4))
    assert made[-1] == pytest.approx(0.001)
    assert made[: highest + 1] == sorted(made[: highest + 1])
    assert made[highest:] == sorted(made[highest:], reverse=True)
    assert rates("one_cycle", warmup_epochs=3.0)[-1] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("warmup", [0.0, 0.01, 0.5, 0.99])
@pytest.mark.parametrize(
    ("schedule", "epoch_steps"),
    [
        *itertools.product(["constant", "step", "cosine", "linear"], [1, 2, 50]),
        *itertools.product(["one_cycle"], [3, 50]),  # settings refuse shorter ones
    ],
)
def test_the_shortest_trainings_have_a_rate_for_each_step(schedule, warmup, epoch_steps):
    """All of them positive numbers, as far as the settings admit them."""
    made = learning_rates(
        learning_rate=0.1, epochs=1, epoch_steps=epoch_steps, schedule=schedule,
        warmup_epochs=warmup,
    )  # fmt: skip
    if made is not None:
        found = list(made)
        assert len(found) == epoch_steps
        assert all(0 <= rate <= 0.1 + 1e-12 for rate in found)
