"""Four rooms with a goal: the usual map, what is paid, where goals stand and when they move, exactly resumed."""

from typing import Any

import numpy as np
import pytest
from same import assert_same

from envs.rooms import PLANS
from envs.rooms_goal import RoomsGoal

STAY, UP, DOWN, LEFT, RIGHT = range(5)


def test_the_large_layout_is_that_of_papers_on_options():
    """104 states, four doors: without those the rooms are apart."""
    plan = PLANS["large"]
    assert len(plan.states) == 104 and plan.free.shape == (13, 13)
    doors = [[5, -2], [1, -5], [8, -6], [5, -9]]
    assert (plan.index(np.array(doors)) >= 0).all()
    reached = {0}
    for _ in range(40):
        at = plan.states[sorted(reached)]
        near = [i for move in ([0, 1], [0, -1], [1, 0], [-1, 0]) for i in plan.index(plan.moved(at, np.array(move)))]
        reached |= set(near) - set(plan.index(np.array(doors)).tolist())
    assert len(reached) == 25, "a room of 5 × 5"


def test_the_goal_pays_once_and_ends_the_episode():
    env = RoomsGoal(num_envs=2, goals=[[1, -1]], observe=["xy", "goal"])
    obs, _ = env.reset(seed=0)
    assert obs.tolist() == [[0, 0, 1, -1]] * 2
    for action in (RIGHT, DOWN):
        obs, reward, terminated, truncated, info = env.step(np.array([action, STAY]))
        done = action == DOWN
        assert reward.tolist() == [done, 0] and terminated.tolist() == [done, False] and not truncated.any()
        assert info["final_info"]["success"].tolist() == [done, False]
    assert obs[0].tolist() == [0, 0, 1, -1] and info["final_obs"][0].tolist() == [1, -1, 1, -1]


def test_goals_move_with_the_episode_after_so_many_steps_of_the_row_and_the_last_one_stays():
    env = RoomsGoal(num_envs=1, goals=[[4, -5], [3, 0], [1, 0]], move_every=4, horizon=3, observe=["goal"])
    seen = [env.reset(seed=0)[0][0].tolist()]
    seen += [env.step(np.array([STAY]))[0][0].tolist() for _ in range(16)]
    assert seen == [[4, -5]] * 6 + [[3, 0]] * 3 + [[1, 0]] * 8  # episodes begin at 0, 3, 6, …; goals move at 4, 8


def test_starts_are_any_state_but_the_goals_where_asked_for():
    env = RoomsGoal(num_envs=400, random_start=True)
    starts = {tuple(xy) for xy in env.reset(seed=0)[0][:, :2].tolist()}
    assert len(starts) == 22 and not starts & {(4, -5), (3, 0)}


def test_a_third_of_the_moves_lead_to_any_state_beside():
    """From (0, 0), a corner, a failed move leads right or down; else the walker stays, as told."""
    env = RoomsGoal(num_envs=6000, slip=1 / 3, horizon=1)
    env.reset(seed=0)
    after = env.step(np.full(6000, STAY))[-1]["final_info"]["xy"]
    shares = [(after == place).all(axis=1).mean() for place in ([0, 0], [1, 0], [0, -1])]
    assert shares == pytest.approx([2 / 3, 1 / 6, 1 / 6], abs=0.02) and sum(shares) == 1


def test_it_goes_on_exactly_with_the_goals_that_have_moved():
    actions = np.random.default_rng(0).integers(5, size=(40, 4))
    settings: dict[str, Any] = {"num_envs": 4, "move_every": 10, "horizon": 7, "random_start": True, "slip": 0.3}
    one, other = RoomsGoal(**settings), RoomsGoal(**settings)
    one.reset(seed=0), other.reset(seed=1)
    for action in actions[:15]:
        one.step(action)
    other.load_state_dict(one.state_dict())
    for action in actions[15:]:
        assert_same(one.step(action), other.step(action))


@pytest.mark.parametrize("goals", [[], [[0, 0]], [[2, 0]], [[50, 0]], [[0.5, 0]], [1, 2, 3], "x"])
def test_what_is_no_goal_is_refused(goals: Any):
    with pytest.raises(ValueError, match="must be a list of"):
        RoomsGoal(goals=goals)
    with pytest.raises(ValueError, match="layout='huge': must be one of small, large"):
        RoomsGoal(layout="huge")
    with pytest.raises(ValueError, match=r"slip=1\.5: must be in \[0, 1\]"):
        RoomsGoal(slip=1.5)
