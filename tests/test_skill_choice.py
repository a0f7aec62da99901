"""Successive elimination: its bounds hold, and it needs fewer rollouts than a uniform trial to be as sure."""

import numpy as np
import pytest

from skillrl.skill_choice import SuccessiveElimination, radius

ARMS = {  # mean and std of the returns of each skill; the best is the last
    "evenly spaced": (np.arange(8.0), np.full(8, 1.0)),
    "of different stds": (np.arange(8.0), np.array([0.2, 2.0, 0.5, 1.0, 0.1, 2.0, 0.4, 1.0])),
    "a close rival": (np.array([*np.linspace(0, 4, 14), 5.0, 6.0]), np.full(16, 1.0)),
    "of a large offset": (1e4 + np.arange(6.0), np.full(6, 1.0)),
}
TRIALS = 200


def eliminate(means: np.ndarray, stds: np.ndarray, generator: np.random.Generator) -> SuccessiveElimination:
    trial = SuccessiveElimination(len(means))
    while not trial.decided:
        trial.tell(generator.normal(means[trial.left], stds[trial.left]))
    return trial


def uniform(means: np.ndarray, stds: np.ndarray, generator: np.random.Generator) -> tuple[int, int]:
    """The arm, and the rollouts, of a trial that plays every arm until the best one's bound clears all others'."""
    returns = np.empty((len(means), 0))
    while True:
        returns = np.column_stack([returns, generator.normal(means, stds)])
        if (n := returns.shape[1]) < 2:
            continue
        mean, half = returns.mean(1), radius(returns.std(1, ddof=1), n, len(means), 0.05)
        best = int(mean.argmax())
        if (mean + half < mean[best] - half[best]).sum() == len(means) - 1:
            return best, returns.size


@pytest.mark.parametrize("arms", ARMS)
def test_elimination_needs_at_most_half_of_a_uniform_trials_rollouts(arms: str):
    means, stds = ARMS[arms]
    generator = np.random.default_rng(0)
    trials = [eliminate(means, stds, generator) for _ in range(TRIALS)]
    others = [uniform(means, stds, generator) for _ in range(TRIALS)]
    right = len(means) - 1
    assert np.mean([trial.best == right for trial in trials]) >= 0.95
    assert np.mean([best == right for best, _ in others]) >= 0.95
    used, needed = np.mean([trial.rollouts for trial in trials]), np.mean([rollouts for _, rollouts in others])
    assert used <= 0.5 * needed
    told = np.mean([trial.rollouts_uniform for trial in trials])  # what a real choice reports, without a second trial
    assert told == pytest.approx(needed, rel=0.1)


def test_where_all_others_are_alike_little_is_saved_and_nothing_lost():
    """No trial can do better by leaving skills out early, if they all stand out as late as the last one."""
    means, stds, generator = np.array([0.0] * 7 + [2.0]), np.full(8, 1.0), np.random.default_rng(0)
    used = np.mean([eliminate(means, stds, generator).rollouts for _ in range(TRIALS)])
    needed = np.mean([uniform(means, stds, generator)[1] for _ in range(TRIALS)])
    assert 0.5 * needed < used <= needed


def test_all_bounds_hold_at_once_at_the_confidence():
    """Over all skills and stages; at a confidence of 0.5, so that a bound that is too narrow is caught."""
    generator, stages, arms, delta = np.random.default_rng(1), 60, 4, 0.5
    broken = 0
    for _ in range(1000):
        returns = generator.normal(0, np.array([[0.1], [1.0], [5.0], [1.0]]), (arms, stages))
        n = np.arange(1, stages + 1)
        mean = returns.cumsum(1) / n
        broken += any(
            (np.abs(mean[:, k - 1]) > radius(returns[:, :k].std(1, ddof=1), k, arms, delta)).any()
            for k in range(2, stages + 1)
        )
    assert 0.02 < broken / 1000 <= delta, "they hold, and are not so wide that they say nothing"


def test_the_radius_by_hand():
    share = 2 * 0.05 / (8 * 5 * 6)
    assert radius(np.array([3.0]), 5, 8, 0.05) == pytest.approx(3 * (4 * (share**-0.5 - 1) / 5) ** 0.5)
    assert np.isinf(radius(np.array([0.0, 1.0]), 1, 2, 0.05)).all()
    large = radius(np.array([2.0]), 1_000_000, 8, 0.05)[0]  # the sub-Gaussian one
    assert large == pytest.approx(2 * (2 * np.log(8 * 1e6 * (1e6 + 1) / 0.1) / 1e6) ** 0.5, rel=1e-3)


def test_what_is_certain_takes_two_stages():
    trial = SuccessiveElimination(3)
    trial.tell([1.0, 5.0, 5.0])
    assert not trial.decided and trial.left == [0, 1, 2]
    trial.tell([1.0, 5.0, 5.0])
    assert trial.decided and trial.left == [1, 2] and trial.best == 1
    assert (trial.rollouts, trial.rollouts_uniform) == (6, 6)


def test_two_equal_returns_do_not_make_a_skill_certain():
    """Success or failure: a skill that failed twice has an estimated std of 0, and is not out for that."""
    trial = SuccessiveElimination(3)
    trial.tell([0.0, 1.0, 1.0])
    trial.tell([0.0, 1.0, 0.0])
    assert trial.left == [0, 1, 2] and not trial.decided


def test_one_skill_needs_no_trial():
    trial = SuccessiveElimination(1)
    assert trial.decided and trial.best == 0 and trial.rollouts == trial.rollouts_uniform == 0
    trial.tell([1.0])
    assert not trial.alike


def test_skills_are_alike_until_one_earns_something_else():
    trial = SuccessiveElimination(2)
    trial.tell([1.0, 1.0])
    assert trial.alike
    trial.tell([1.0, 2.0])
    assert not trial.alike


@pytest.mark.parametrize("confidence", [0.0, 1.0, -1.0])
def test_a_confidence_is_a_probability(confidence: float):
    with pytest.raises(ValueError, match="confidence is"):
        SuccessiveElimination(2, confidence=confidence)
