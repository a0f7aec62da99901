"""The mobile arm and its goals: what is seen from the base, what pays, what walls stop."""

from typing import Any

import numpy as np
import pytest

from envs.arm_goals import ArmDrive, ArmFarReach, ArmReach
from envs.mobile_arm import LENGTH, MobileArm

AHEAD, LEFT, TURN, SHOULDER, ELBOW, WRIST = range(6)


def put(env: Any, **values: Any) -> np.ndarray:
    """Of every row: qpos, qvel and goal exchanged; then a step of no speed is nearly none. Returns what is seen."""
    state = env.state_dict()
    for name, value in values.items():
        state["now"][name][:] = value
        if name == "qpos":
            state["physics"][:, 1:7] = value
        if name == "qvel":
            state["physics"][:, 7:13] = value
    env.load_state_dict(state)
    return part(env, step(env)[0], "goal") if "goal" in env.metadata["obs_names"] else np.zeros(0)


def step(env: Any, **speeds: float) -> tuple:
    action = np.zeros(env.action_space.shape, np.float32)
    for name, speed in speeds.items():
        action[:, globals()[name.upper()]] = speed
    return env.step(action)


def part(env: Any, obs: np.ndarray, name: str) -> np.ndarray:
    return obs[:, slice(*env.metadata["obs_names"][name])]


def started(make: Any, **settings: Any) -> Any:
    env = make(num_envs=3, dtype="float64", reset_noise_scale=0.0, **settings)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("yaw", [0.0, 1.0, -2.5])
def test_speeds_are_the_bases_own(yaw: float):
    env = started(MobileArm)
    for moving, turn in (("ahead", 0.0), ("left", np.pi / 2)):
        put(env, qpos=[0, 0, yaw, 0, 0, 0], qvel=0)
        for _ in range(20):
            obs, *_ = step(env, **{moving: 1.0})
        direction = np.array([np.cos(yaw + turn), np.sin(yaw + turn)])
        xy, velocities = part(env, obs, "xy"), part(env, obs, "velocities")
        along = xy @ direction
        assert (along > 0.8).all() and (along <= 20 * 0.05).all()
        assert np.allclose(xy, along[:, None] * direction, atol=0.02)
        assert np.allclose(velocities[:, :2], [1, 0] if moving == "ahead" else [0, 1], atol=0.05)
        assert np.allclose(part(env, obs, "heading"), [np.cos(yaw), np.sin(yaw)], atol=0.03)


def test_the_arm_folded_and_stretched():
    env = started(MobileArm)
    put(env, qpos=[2, -1, 0.7, 0, 0, 0], qvel=0)
    folded = part(env, step(env)[0], "hand")
    assert (np.linalg.norm(folded, axis=1) < 0.3).all()
    put(env, qpos=[2, -1, 0.7, *np.radians([-80, 160, -150])], qvel=0)
    obs = step(env)[0]
    assert np.allclose(part(env, obs, "hand"), [LENGTH, 0], atol=0.01), "seen from the base, whatever its place"


def test_what_is_seen_does_not_depend_on_where_in_the_world_it_is():
    env = started(ArmReach)
    start = env.state_dict()["now"]["goal"][0]
    seen = []
    for xy, yaw in (((0.0, 0.0), 0.0), ((3.0, -2.0), 2.0)):
        turned = np.array([[np.cos(yaw), -np.sin(yaw)], [np.sin(yaw), np.cos(yaw)]]) @ start
        put(env, qpos=[*xy, yaw, -0.3, 0.5, -0.2], qvel=0, goal=np.array(xy) + turned)
        states = [step(env, ahead=0.5, turn=0.3, elbow=-0.4)[0] for _ in range(15)]
        seen.append(states)
    assert np.allclose(*seen, atol=1e-6)


def test_driving_pays_for_nearness_and_a_folded_arm():
    env = started(ArmDrive, fold=0.5, effort=0.3)
    put(env, qpos=[1, 2, 0.5, -0.3, 0.6, -0.9], qvel=0, goal=[1, 2.5])
    _, reward, _, _, info = step(env)
    assert np.allclose(reward, -0.5 - 0.5 * 0.6, atol=0.01) and not info["success"].any()
    seen = put(env, qpos=[1, 2, np.pi / 2, 0, 0, 0], qvel=0, goal=[1, 2.05])
    assert np.allclose(seen, [0.05, 0], atol=0.01) and step(env)[4]["success"].all(), "the base, and not the hand"


@pytest.mark.parametrize(("make", "settings"), [(ArmDrive, {"fold": 0.0}), (ArmReach, {"still": 0.0})])
def test_effort_costs_the_mean_of_the_squared_actions(make: Any, settings: dict[str, float]):
    """Each action of 1 is that actuator's greatest speed, and more than 1 is not asked of it."""
    rewards = []
    for effort in (0.0, 0.6):
        env = started(make, effort=effort, **settings)
        _, reward, *_ = env.step(np.tile(np.float32([1, -0.5, 5, 0.4, 0.2, -1]), (3, 1)))
        rewards.append(reward)
    assert np.allclose(rewards[0] - rewards[1], 0.6 * (1 + 0.25 + 1 + 0.16 + 0.04 + 1) / 6, atol=1e-6)


def test_reaching_pays_for_the_hand_and_for_standing_still():
    env = started(ArmReach, still=2.0, effort=0.3)
    stretched = [0, 0, 0, *np.radians([-80, 160, -150])]
    put(env, qpos=stretched, qvel=0, goal=[LENGTH, 0.4])
    reward = step(env)[1]
    assert np.allclose(reward, -0.4, atol=0.01)
    put(env, qpos=stretched, qvel=0, goal=[LENGTH + 1, 0])
    for _ in range(10):
        obs, reward, *_ = step(env, ahead=1.0)
    distance = np.linalg.norm(part(env, obs, "goal") - part(env, obs, "hand"), axis=1)
    speed = np.linalg.norm(part(env, obs, "velocities")[:, :2], axis=1)
    assert (speed > 0.9).all() and np.allclose(reward, -distance - 2 * speed - 0.3 / 6, atol=1e-6)


def test_far_goals_pay_for_the_hand_and_once_more_inside():
    env = started(ArmFarReach)
    stretched = [0.7, 0, 0, *np.radians([-80, 160, -150])]
    for offset, bonus in ((0.05, 1), (0.15, 0)):
        put(env, qpos=stretched, qvel=0, goal=[0.7 + LENGTH, offset])
        _, reward, terminated, _, info = step(env)
        assert np.allclose(reward, bonus - offset, atol=0.01) and (info["success"] == bool(bonus)).all()
        assert not terminated.any()


def test_walls_stop_the_base_and_not_the_arm():
    env = started(ArmFarReach)
    put(env, qpos=[0.5, 0, 0, 0, 0, 0], qvel=0)
    for _ in range(40):
        obs, *_ = step(env, ahead=1.0)
    assert (part(env, obs, "xy")[:, 0] < 1.0 - 0.22 + 0.02).all()
    arm = {"shoulder": np.radians(-80), "elbow": np.radians(160), "wrist": np.radians(-150)}
    put(env, qpos=[0.78, 0, 0, *arm.values()], qvel=0)
    hand = part(env, step(env)[0], "hand")
    assert np.allclose(hand, [LENGTH, 0], atol=0.01), "it stays stretched across the wall"


def farther_axis(goals: np.ndarray) -> np.ndarray:
    assert (np.abs(goals).min(axis=1) <= 1.0 - 0.22).all(), "opposite to where the base can stand"
    return np.abs(goals).max(axis=1)


@pytest.mark.parametrize(
    ("make", "far", "low", "high"),
    [
        (ArmDrive, lambda goals: np.linalg.norm(goals, axis=1), 0.0, 2.0),
        (ArmReach, lambda goals: np.linalg.norm(goals, axis=1), 0.3, 0.65),
        (ArmFarReach, farther_axis, 1.0 + 0.04 + 0.2, 1.0 + 0.04 + 0.35),
    ],
    ids=["drive", "reach", "far_reach"],
)
def test_goals_are_drawn_anew_within_their_range(make: Any, far: Any, low: float, high: float):
    env = make(num_envs=8, horizon=1, dtype="float64", frame_skip=1)
    env.reset(seed=0)
    drawn = []
    for _ in range(100):
        drawn.append(env.state_dict()["now"]["goal"])
        step(env)
    goals = np.concatenate(drawn)
    assert len(np.unique(goals, axis=0)) == len(goals)
    distance, slack = far(goals), 0.1 * (high - low)
    assert low <= distance.min() < low + slack and high - slack < distance.max() <= high
    angles = np.arctan2(goals[:, 1], goals[:, 0])
    assert (np.histogram(angles, 4, (-np.pi, np.pi))[0] > 140).all(), "in every direction"


@pytest.mark.parametrize(
    ("make", "settings", "line"),
    [
        (ArmReach, {"goal_range": [0.3, 0.9]}, r"goal_range=\[0.3, 0.9\]: must be within \[0, 0.7\]"),
        (ArmReach, {"goal_range": [0.5, 0.5]}, r"goal_range=\[0.5, 0.5\]: must be \[low, high\]"),
        (ArmFarReach, {"beyond": [0.2, 0.6]}, r"beyond=\[0.2, 0.6\]: must be within \[0.1, 0.44\]"),
        (ArmFarReach, {"beyond": [0.05, 0.3]}, r"beyond=\[0.05, 0.3\]"),
        (ArmFarReach, {"room": 0}, "room=0: must be a number above 0"),
        (ArmReach, {"effort": -1}, "effort=-1: must be a number of at least 0"),
        (ArmDrive, {"fold": -1}, "fold=-1: must be a number of at least 0"),
        (ArmDrive, {"goal_range": -1}, "goal_range=-1: must be a number above 0"),
    ],
)
def test_settings_that_make_no_sense_are_named(make: Any, settings: dict[str, Any], line: str):
    with pytest.raises(ValueError, match=line):
        make(num_envs=1, **settings)
