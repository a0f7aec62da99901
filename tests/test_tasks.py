"""Hurdles, goals to stay in, and waypoints: rewards and ends against cases worked out by hand, goals by their draws."""

import copy
from typing import Any

import numpy as np
import pytest
from same import assert_same

from envs.ant_multi_goals import AntMultiGoals
from envs.ant_waypoints import AntWaypoints
from envs.half_cheetah import HalfCheetah
from envs.half_cheetah_goal import HalfCheetahGoal
from envs.half_cheetah_hurdles import HalfCheetahHurdles
from envs.humanoid_goal import HumanoidGoal
from envs.physics import read_model
from envs.vector import BatchedEnv


def still(env: BatchedEnv) -> np.ndarray:
    return np.zeros(env.action_space.shape, np.float32)


def put(state: dict[str, Any], row: int, qpos: dict[int, float]) -> None:
    """Entries of a row's positions: in the physics, where time comes first, and in what the task sees of it."""
    for index, value in qpos.items():
        state["physics"][row, 1 + index] = state["now"]["qpos"][row, index] = value


# --- hurdles -----------------------------------------------------------------------------------------------------


def test_hurdles_stand_where_the_released_model_has_them() -> None:
    env = HalfCheetahHurdles(num_envs=1)
    model = env._task.simulator(1).model
    for number, x in enumerate([-15, -13, -9, -5, -1, 3, 7, 11, 15, 19, 23, 27]):
        geom = model.geom(f"block{number}")
        assert geom.pos.tolist() == [x, 0, 0.2] and geom.size.tolist() == [0.05, 1, 0.03]
        assert geom.friction.tolist() == [0.4, 0.1, 0.1] and geom.solimp[:3].tolist() == [0, 0.8, 0.01]
        assert geom.condim == 3 and geom.contype == geom.conaffinity == 1
    plain = read_model("half_cheetah.xml").compile()
    assert np.array_equal(model.body_mass, plain.body_mass)
    assert model.body(4).name == "bfoot"
    assert [model.body(i).name for i in range(plain.nbody)] == [plain.body(i).name for i in range(plain.nbody)]


FOOT = -0.5 + 0.16 - 0.28  # from the torso to the back foot, with straight joints


@pytest.mark.parametrize(
    ("before", "after", "reward", "hurdle", "success"),
    [
        (2.5, 2.9, 0, 3, False),
        (2.9, 3.1, 1, 7, False),
        (3.1, 2.9, -1, 3, False),  # back again: nothing is earned by going to and fro
        (2.9, 11.5, 3, 15, False),
        (-1.1, -0.9, 0, 3, False),  # a hurdle behind the start does not count
        (-0.9, -1.1, 0, -1, False),
        (26.9, 27.1, 1, 27, True),
        (27.1, 60.0, 0, 27, True),  # beyond the last, which is then behind
    ],
)
def test_a_hurdle_pays_once_when_the_back_foot_has_passed_it(before, after, reward, hurdle, success) -> None:
    env = HalfCheetahHurdles(num_envs=2, dtype="float64", reset_noise_scale=0.0, frame_skip=1)
    env.reset(seed=0)
    state = env.state_dict()
    put(state, 1, {0: after - FOOT, 1: 5.0})  # high above the hurdles
    state["now"]["foot"][1, 0] = before
    env.load_state_dict(state)
    obs, got, terminated, _, info = env.step(still(env))
    start, stop = env.metadata["obs_names"]["hurdle"]
    assert got.tolist() == [0.0, reward] and not terminated.any()
    assert obs[1, start:stop] == pytest.approx([hurdle, hurdle - after], abs=0.01)
    assert obs[0, start:stop] == pytest.approx([3, 3 - FOOT], abs=0.1)  # a start: behind it the one at -1
    assert info["success"].tolist() == [False, success]


def test_far_from_hurdles_it_is_the_half_cheetah_and_at_one_it_is_stopped() -> None:
    rng, ends = np.random.default_rng(0), {}
    plan = rng.uniform(-1, 1, (60, 2, 6)).astype(np.float32)
    for name, env in {
        "plain": HalfCheetah(num_envs=2, dtype="float64"),
        "far": HalfCheetahHurdles(num_envs=2, dtype="float64", hurdles=[-60.0, 60.0]),
        "near": HalfCheetahHurdles(num_envs=2, dtype="float64", hurdles=[0.9]),
    }.items():
        env.reset(seed=0)
        state = env.state_dict()
        state["physics"][:, 1 + 9] = 3.0  # runs ahead
        env.load_state_dict(state)
        for action in plan:
            env.step(action)
        ends[name] = env.state_dict()["now"]["qpos"]
    assert np.array_equal(ends["plain"], ends["far"])
    assert (ends["near"][:, 0] < ends["far"][:, 0] - 0.5).all()


# --- goals to stay in --------------------------------------------------------------------------------------------

STAY = [(HalfCheetahGoal, 1, 100.0, 3.0, 1), (HumanoidGoal, 2, 5.0, 1.5, 2), (AntMultiGoals, 2, 7.5, 3.0, 2)]


@pytest.mark.parametrize(("make", "width", "reach", "radius", "axes"), STAY, ids=lambda v: getattr(v, "__name__", ""))
def test_each_step_inside_the_disc_pays_and_nothing_ends(make, width, reach, radius, axes) -> None:
    env = make(num_envs=3, dtype="float64", reset_noise_scale=0.0)
    assert env.metadata["goal_radius"] == radius
    _, info = env.reset(seed=0)
    assert not info["success"].any()
    for _ in range(3):  # again and again
        state = env.state_dict()
        state["physics"][:, 1:] = state["physics"][0, 1:]
        for row, offset in enumerate([0.95 * radius, 1.05 * radius, 0.0]):
            place = state["now"]["goal"][row] + [offset, 0.0]
            put(state, row, dict(enumerate(place[:axes])))
        env.load_state_dict(state)
        _, reward, terminated, truncated, info = env.step(still(env))
        assert reward.tolist() == [1.0, 0.0, 1.0] and not terminated.any() and not truncated.any()
        assert info["success"].tolist() == [True, False, True]
    mask = np.array([True, False, False])
    assert env.reset(options={"reset_mask": mask})[1]["success"].tolist() == [False, False, True]


@pytest.mark.parametrize(("make", "width", "reach", "radius", "axes"), STAY, ids=lambda v: getattr(v, "__name__", ""))
def test_goals_are_drawn_evenly_from_their_range_in_each_episode(make, width, reach, radius, axes) -> None:
    env = make(num_envs=8, horizon=1, dtype="float64", frame_skip=1)
    start, stop = env.metadata["obs_names"]["goal"]
    assert stop - start == width
    obs, _ = env.reset(seed=0)
    seen = []
    for _ in range(400):
        seen.append(obs[:, start:stop])
        obs, _, _, truncated, info = env.step(still(env))
        assert truncated.all() and np.array_equal(info["final_obs"][:, start:stop], seen[-1])  # held to the end
    goals = np.array(seen) / reach  # (400, 8, width)
    assert (np.abs(goals) <= 1).all()
    for part in (goals[:200], goals[200:], goals[:, ::2], goals[:, 1::2]):
        assert uniform(part)


def uniform(values: np.ndarray) -> bool:
    """Kolmogorov-Smirnov against [-1, 1], along each axis: off by chance in one of 10,000."""
    flat = values.reshape(-1, values.shape[-1])
    steps = np.arange(1, len(flat) + 1) / len(flat)
    off = [np.abs((np.sort(axis) + 1) / 2 - steps).max() for axis in flat.T]
    return bool(np.max(off) < 2.23 / np.sqrt(len(flat)))


def test_uniform_tells_a_uniform_draw_from_others() -> None:
    rng = np.random.default_rng(0)
    assert uniform(rng.uniform(-1, 1, (3000, 2)))
    assert not uniform(rng.uniform(-1, 1, (3000, 2)) * [1, 0.9]) and not uniform(np.full((3000, 1), 0.3))


def course(env: AntMultiGoals, episodes: int) -> np.ndarray:
    """(episodes, T + 1, N, 2): the goal that is seen at each step and, last, in the final observation."""
    start, stop = env.metadata["obs_names"]["goal"]
    obs, _ = env.reset(seed=0)
    seen = []
    for _ in range(episodes):
        steps = [obs[:, start:stop]]
        for _ in range(env.metadata["horizon"]):
            obs, _, _, _, info = env.step(still(env))
            steps.append(info["final_obs"][:, start:stop])
        seen.append(steps)
    return np.array(seen)


def test_the_goal_moves_on_every_so_many_steps_and_all_goals_are_new_in_each_episode() -> None:
    goals = course(AntMultiGoals(num_envs=4, dtype="float64", horizon=8, every=3, frame_skip=1), episodes=150)
    for step in (1, 2, 4, 5, 7, 8):
        assert np.array_equal(goals[:, step], goals[:, step - 1])
    one, two, three = goals[:, 0], goals[:, 3], goals[:, 6]  # (150, 4, 2)
    for leg in (one, two - one, three - two):
        assert uniform(leg[:75] / 7.5) and uniform(leg[75:] / 7.5)
    # CSF's released code draws the second and third once for the life of an env.
    for later in (two, three):
        assert len(np.unique(later.reshape(-1, 2), axis=0)) == 600


def test_the_next_goal_can_be_drawn_around_the_body() -> None:
    env = AntMultiGoals(num_envs=2, dtype="float64", every=1, goal_range=1e-3, around="body")
    env.reset(seed=0)
    state = env.state_dict()
    put(state, 1, {0: 40.0, 1: -30.0})
    env.load_state_dict(state)
    _, _, _, _, info = env.step(still(env))
    goal = env.state_dict()["now"]["goal"]
    assert np.abs(goal - info["xy"]).max() <= 1e-3 and abs(goal[1, 0] - 40) < 1


def test_the_step_that_moves_the_goal_on_is_paid_by_the_goal_that_was_seen() -> None:
    env = AntMultiGoals(num_envs=2, dtype="float64", every=50, observe=["xy", "goal", "age"])
    env.reset(seed=0)
    state = env.state_dict()
    state["now"]["age"][:] = [49, 48]
    for row in (0, 1):
        put(state, row, dict(enumerate(state["now"]["goal"][row])))
    env.load_state_dict(state)
    obs, reward, _, _, info = env.step(still(env))
    assert reward.tolist() == [1.0, 1.0] and info["success"].all()
    assert (obs[:, 2:4] == state["now"]["goal"]).all(axis=1).tolist() == [False, True]
    assert obs[:, 4].tolist() == [0.0, 0.98]


def test_goals_that_move_on_are_the_same_after_a_resume_and_rows_that_wait_keep_theirs() -> None:
    make = {"num_envs": 3, "horizon": 11, "every": 4, "frame_skip": 1}
    env, fresh = AntMultiGoals(**make), AntMultiGoals(**make)
    env.reset(seed=0)
    rng = np.random.default_rng(0)
    active = rng.random((60, 3)) < 0.6
    for mask in active[:30]:
        env.step(still(env), mask)
    state = copy.deepcopy(env.state_dict())
    expected = [env.step(still(env), mask) for mask in active[30:]]
    fresh.load_state_dict(state)
    for mask, step in zip(active[30:], expected, strict=True):
        before = fresh.state_dict()["now"]["goal"]
        assert_same(fresh.step(still(env), mask), step)
        assert np.array_equal(fresh.state_dict()["now"]["goal"][~mask], before[~mask])


# --- waypoints ---------------------------------------------------------------------------------------------------


def test_waypoints_are_reached_in_their_order_and_the_last_ends_the_episode() -> None:
    env = AntWaypoints(num_envs=2, dtype="float64", waypoints=4, distance=5.0, radius=0.8)
    first, info = env.reset(seed=0)
    at = slice(*env.metadata["obs_names"]["goal"])
    reached = env.metadata["obs_names"]["reached"][0]
    course = env.state_dict()["now"]["goals"][0].copy()  # (4, 2)
    assert np.array_equal(first[0, at], course[0]) and first[0, reached] == 0 and not info["success"].any()
    for number, place in enumerate(course):
        beside = place[None] + [[0.9, 0.0], [0.6, 0.0]]
        for target, pays in ((course[(number + 2) % 4], False), (beside[0], False), (beside[1], True)):
            state = env.state_dict()
            state["physics"][0] = state["physics"][1]  # upright and at rest
            put(state, 0, dict(enumerate(target)))
            env.load_state_dict(state)
            obs, reward, terminated, truncated, info = env.step(still(env))
            last = number == 3 and pays
            assert reward.tolist() == [float(pays), 0.0] and terminated.tolist() == [last, False]
            assert info["final_info"]["success"].tolist() == [last, False] and not truncated.any()
            behind = number + pays
            assert info["final_obs"][0, reached] == behind / 4
            assert np.array_equal(info["final_obs"][0, at], course[min(behind, 3)])
    new = env.state_dict()["now"]
    assert new["reached"].tolist() == [0, 0] and not np.array_equal(new["goals"][0], course)
    assert np.array_equal(obs[0, at], new["goals"][0, 0])


def test_courses_have_even_legs_that_never_turn_back_and_are_new_in_each_episode() -> None:
    env = AntWaypoints(num_envs=16, horizon=1, waypoints=5, distance=3.0, frame_skip=1)
    env.reset(seed=0)
    found = []
    for _ in range(120):
        found.append(env.state_dict()["now"]["goals"].copy())
        env.step(still(env))
    courses = np.array(found)  # (120, 16, 5, 2)
    legs = np.diff(courses, axis=2, prepend=0.0)
    assert np.allclose(np.linalg.norm(legs, axis=-1), 3.0)
    heading = np.arctan2(legs[..., 1], legs[..., 0])
    turn = (np.diff(heading, axis=-1) + np.pi) % (2 * np.pi) - np.pi
    for half in (slice(60), slice(60, None)):
        assert uniform(heading[half][..., :1] / np.pi)
        assert uniform(turn[half].reshape(-1, 1) / (np.pi / 2))
    assert len(np.unique(courses.reshape(-1, 10), axis=0)) == 120 * 16


# --- impossible values -------------------------------------------------------------------------------------------

ERRORS = [
    (HalfCheetahHurdles, {"hurdles": [3.0, 3.0]}, r"hurdles=\[3.0, 3.0\]: must be a list of numbers, each above"),
    (HalfCheetahHurdles, {"hurdles": []}, r"hurdles=\[\]"),
    (HalfCheetahHurdles, {"hurdles": [-3.0]}, "hurdles=.*ahead of the start"),
    (HalfCheetahGoal, {"goal_range": 0}, "goal_range=0: must be a number above 0"),
    (HumanoidGoal, {"radius": -1.0}, "radius=-1.0"),
    (AntMultiGoals, {"every": 0}, "every=0: must be an integer of at least 1"),
    (AntMultiGoals, {"around": "start"}, "around='start': must be goal or body"),
    (AntWaypoints, {"waypoints": 0}, "waypoints=0"),
    (AntWaypoints, {"radius": 3.0}, "radius=3.0: must be below distance=3.0"),
]


@pytest.mark.parametrize("make, arguments, message", ERRORS)
def test_impossible_values_are_one_line(make: type[BatchedEnv], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)
