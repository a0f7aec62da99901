"""Our batched bodies against Gymnasium's own v5 environments: equal bit for bit."""

import gymnasium
import mujoco
import numpy as np
import pytest

from envs.ant import Ant
from envs.half_cheetah import HalfCheetah
from envs.hopper import Hopper
from envs.humanoid import Humanoid
from envs.swimmer import Swimmer
from envs.walker2d import Walker2d

STATE = mujoco.mjtState.mjSTATE_INTEGRATION
HORIZON, ROWS = 150, 2

CASES = {
    "HalfCheetah": (HalfCheetah, ["x"], ["joints", "velocities"], {}, {"truncated"}),
    "Hopper": (Hopper, ["x"], ["joints", "velocities"], {"terminate": True}, {"terminated"}),
    "Swimmer": (Swimmer, ["front"], ["joints", "velocities"], {}, {"truncated"}),
    "Ant": (Ant, ["xy"], ["joints", "velocities", "contacts"], {"terminate": True}, {"truncated", "terminated"}),
    "Walker2d": (Walker2d, ["x"], ["joints", "velocities"], {"terminate": True}, {"terminated"}),
    "Humanoid": (
        Humanoid,
        ["xy"],
        ["joints", "velocities", "inertias", "body_velocities", "actuators", "contacts"],
        {"terminate": True},
        {"terminated"},
    ),
}


def _gymnasium(name: str, **kwargs) -> gymnasium.Env:
    return gymnasium.make(f"{name}-v5", max_episode_steps=HORIZON, disable_env_checker=True, **kwargs)


def _start_from(theirs: gymnasium.Env, qpos: np.ndarray, qvel: np.ndarray) -> np.ndarray:
    """Gymnasium's env at the start of an episode from our positions and velocities."""
    theirs.reset()  # for its time limit
    raw = theirs.unwrapped
    mujoco.mj_resetData(raw.model, raw.data)  # its reset has left a warm start behind
    raw.set_state(qpos, qvel)
    return raw._get_obs()


@pytest.mark.parametrize(
    "position, steps, skip",
    [(False, 1000, {}), (True, 200, {}), (True, 200, {"frame_skip": 7})],
    ids=["without_position", "with_position", "frame_skip"],
)
@pytest.mark.parametrize("name", CASES)
def test_equals_gymnasium_bit_for_bit(name: str, position: bool, steps: int, skip: dict) -> None:
    make, where, rest, settings, expected_ends = CASES[name]
    ours = make(
        num_envs=ROWS,
        horizon=HORIZON,
        dtype="float64",
        observe=[*(where if position else []), *rest],
        **settings,
        **skip,
    )
    theirs = _gymnasium(name, exclude_current_positions_from_observation=not position, **skip)
    low, high = theirs.action_space.low, theirs.action_space.high
    rng = np.random.default_rng(1)
    obs, _ = ours.reset(seed=0)
    row = 1  # not the first: its neighbour must not matter
    start = ours.state_dict()["now"]
    assert np.array_equal(_start_from(theirs, start["qpos"][row], start["qvel"][row]), obs[row])
    ended = set()
    for _ in range(steps):
        action = rng.uniform(-1, 1, (ROWS, *ours.single_action_space.shape)).astype(np.float32)
        scaled = low + np.float32(0.5) * (action[row] + np.float32(1)) * (high - low)
        assert scaled.dtype == np.float32
        obs, reward, terminated, truncated, info = ours.step(action)
        their_obs, their_reward, their_terminated, their_truncated, _ = theirs.step(scaled)
        assert np.array_equal(info["final_obs"][row], their_obs)
        assert reward[row] == their_reward
        assert (terminated[row], truncated[row]) == (their_terminated, their_truncated)
        if terminated[row] or truncated[row]:
            ended |= {"terminated"} if terminated[row] else {"truncated"}
            start = ours.state_dict()["now"]
            assert np.array_equal(_start_from(theirs, start["qpos"][row], start["qvel"][row]), obs[row])
    assert ended == expected_ends if not position else ended  # without an end of an episode it would say little
    theirs.close()
    ours.close()


@pytest.mark.parametrize("name", CASES)
def test_goes_on_from_gymnasiums_state(name: str) -> None:
    """The other way: Gymnasium's state in the middle of an episode, put into ours."""
    make, where, rest, settings, _ = CASES[name]
    ours = make(num_envs=1, horizon=HORIZON, dtype="float64", observe=[*where, *rest], **dict.fromkeys(settings, False))
    alive = {"terminate_when_unhealthy": False} if settings else {}
    theirs = _gymnasium(name, exclude_current_positions_from_observation=False, **alive)
    theirs.reset(seed=3)
    raw = theirs.unwrapped
    rng = np.random.default_rng(2)
    actions = [rng.uniform(-1, 1, theirs.action_space.shape).astype(np.float32) for _ in range(105)]
    low, high = theirs.action_space.low, theirs.action_space.high
    scaled = [low + np.float32(0.5) * (action + np.float32(1)) * (high - low) for action in actions]
    for action in scaled[:5]:
        theirs.step(action)
    ours.reset(seed=0)
    state = ours.state_dict()
    mujoco.mj_getState(raw.model, raw.data, state["physics"][0], STATE)
    parts = {"torso": raw.data.xpos[1], "mass": raw.data.subtree_com[1]}  # what is not called as in MuJoCo
    for key in state["now"]:
        state["now"][key][0] = parts[key] if key in parts else getattr(raw.data, key)
    ours.load_state_dict(state)
    for action, their_action in zip(actions[5:], scaled[5:], strict=True):
        _, reward, terminated, _, info = ours.step(action[None])
        their_obs, their_reward, their_terminated, _, _ = theirs.step(their_action)
        assert np.array_equal(info["final_obs"][0], their_obs)
        assert reward[0] == their_reward
        assert not terminated[0] and not their_terminated
    theirs.close()
    ours.close()
