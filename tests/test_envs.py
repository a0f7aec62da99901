"""The batched envs' conventions: autoreset, rows that wait, exact state, goals, the single face, errors, pictures."""

import copy
import importlib
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import yaml
from gymnasium.spaces import Discrete
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, VectorEnv
from same import assert_same

from envs.ant import Ant
from envs.goal import AntGoal, PointGoal, SwimmerGoal
from envs.hopper import Hopper
from envs.humanoid import Humanoid
from envs.particles import Spread
from envs.point import Point
from envs.single import Single
from envs.swimmer import Swimmer
from envs.walker2d import Walker2d

CONF = Path(__file__).parent.parent / "conf"


def from_yaml(path: Path, **changes: Any) -> VectorEnv:
    """What a config builds, with `workers` in this process."""
    config = yaml.safe_load(path.read_text())
    module, name = config.pop("_target_").rsplit(".", 1)
    if "workers" in config:
        config["workers"] = 0
    if config.get("id") == "???":
        config["id"] = "Pendulum-v1"
    return getattr(importlib.import_module(module), name)(**{**config, **changes})


YAMLS = [path for folder in ("env", "task") for path in sorted((CONF / folder).glob("*.yaml"))]
YAMLS = [path for path in YAMLS if "_target_: envs." in path.read_text()]


def class_of(path: Path) -> type[VectorEnv]:
    module, name = yaml.safe_load(path.read_text())["_target_"].rsplit(".", 1)
    return getattr(importlib.import_module(module), name)


ENVS = [class_of(path) for path in YAMLS if path.stem not in ("gymnasium", "mpe")]  # which have tests of their own


def actions(env: VectorEnv, steps: int, seed: int = 0) -> np.ndarray:
    """(steps, N, d), some beyond [-1, 1]; where they are discrete (steps, N), as floats, which can be NaN."""
    if isinstance(env.single_action_space, Discrete):
        count = int(env.single_action_space.n)
        return np.random.default_rng(seed).integers(count, size=(steps, env.num_envs)).astype(np.float32)
    return np.random.default_rng(seed).uniform(-1.2, 1.2, (steps, *env.action_space.shape)).astype(np.float32)


# --- configs -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_every_config_passes_both_checkers(path: Path) -> None:
    from stable_baselines3.common.env_checker import check_env as check_env_sb3

    check_env(Single(from_yaml(path, num_envs=1)), skip_render_check=True)
    env = Single(from_yaml(path, num_envs=1))
    check_env_sb3(env, skip_render_check=True)
    assert env.observation_space.contains(env.reset(seed=0)[0])
    env.close()


@pytest.mark.parametrize("path", YAMLS, ids=lambda path: path.stem)
def test_metadata_describes_the_observation(path: Path) -> None:
    env = from_yaml(path, num_envs=2)
    meta = env.metadata
    stops = [0]
    for start, stop in meta["obs_names"].values():
        assert start == stops[-1] and stop > start
        stops.append(stop)
    assert stops[-1] == env.single_observation_space.shape[-1]
    assert all(set(parts) <= set(meta["obs_names"]) for parts in meta["views"].values())
    assert meta["autoreset_mode"] is AutoresetMode.SAME_STEP
    _, info = env.reset(seed=0)
    keys = [*meta["record"], *([meta["coverage"]["key"]] if meta["coverage"] else [])]
    assert all(len(info[key]) == 2 for key in keys)
    env.close()


def test_observe_chooses_and_orders_the_parts() -> None:
    whole = Swimmer(num_envs=2)
    hidden = Swimmer(num_envs=2, observe=["velocities", "joints"], record=["xy"])
    obs, info = whole.reset(seed=1)
    other, other_info = hidden.reset(seed=1)
    assert hidden.metadata["obs_names"] == {"velocities": [0, 5], "joints": [5, 8]}
    assert hidden.metadata["record"] == ["xy"]
    assert np.array_equal(np.concatenate([obs[:, 5:], obs[:, 2:5]], axis=1), other)
    assert np.array_equal(info["xy"], other_info["xy"])  # the info has it in either case
    assert "xy" not in hidden.metadata["views"] and "xy" in whole.metadata["views"]


# --- autoreset ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENVS, ids=lambda make: make.__name__)
def test_same_step_autoreset_against_an_env_that_never_resets(make: type[VectorEnv]) -> None:
    """Each episode again in an env with a horizon that it never reaches: the same until the end, which it passes."""
    env, reference = make(num_envs=3, horizon=17), make(num_envs=3, horizon=10_000)
    obs, _ = env.reset(seed=5)
    reference.reset(seed=5)
    reference.load_state_dict(env.state_dict())
    clock = np.zeros(3, dtype=int)
    ends = 0
    for action in actions(env, 60):
        obs, reward, terminated, truncated, info = env.step(action)
        true_obs, true_reward, true_terminated, _, true_info = reference.step(action)
        clock += 1
        ended = terminated | truncated
        ends += ended.sum()
        # The reference resets rows that terminate too; its final_obs is not.
        assert np.array_equal(info["final_obs"], true_info["final_obs"])
        assert np.array_equal(info["final_obs"][~true_terminated], true_obs[~true_terminated])
        assert np.array_equal(reward, true_reward) and np.array_equal(terminated, true_terminated)
        assert np.array_equal(truncated, clock >= 17)
        assert np.array_equal(info["_final_obs"], ended) and np.array_equal(info["_final_info"], ended)
        assert np.array_equal(info["final_info"]["_xy"], ended)
        assert np.array_equal(info["final_info"]["xy"], true_info["final_info"]["xy"])
        assert np.array_equal(info["final_obs"][~ended], obs[~ended])
        assert np.array_equal(info["final_info"]["xy"][~ended], info["xy"][~ended])
        if ended.any():
            assert not np.array_equal(info["final_obs"][ended], obs[ended])
            clock[ended] = 0
            reference.load_state_dict(env.state_dict())
            start = 1.0 if "agents" in env.metadata else 0.2  # teams start anywhere in their world
            assert (np.abs(info["xy"][ended]) <= start).all()  # after the reset: near the origin
    assert ends >= 9
    env.close()
    reference.close()


def test_reset_mask_resets_only_its_rows() -> None:
    env = Swimmer(num_envs=4)
    env.reset(seed=0)
    for action in actions(env, 5):
        obs, *_ = env.step(action)
    before = env.state_dict()
    mask = np.array([False, True, False, True])
    new, _ = env.reset(options={"reset_mask": mask})
    after = env.state_dict()
    assert np.array_equal(new[~mask], obs[~mask]) and not (new[mask] == obs[mask]).all(axis=1).any()
    assert after["clock"].tolist() == [5, 0, 5, 0]
    assert np.array_equal(after["physics"][~mask], before["physics"][~mask])
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(options={"reset_mask": np.zeros(4, dtype=bool)})


def test_seeds_make_rows_and_rows_differ() -> None:
    env = Swimmer(num_envs=3)
    first, _ = env.reset(seed=7)
    for action in actions(env, 3):
        env.step(action)
    again, _ = env.reset(seed=7)
    assert np.array_equal(first, again)
    assert not np.array_equal(first[0], first[1])
    assert not np.array_equal(first, env.reset(seed=8)[0])
    assert not np.array_equal(again, env.reset()[0])  # no seed: the generators go on
    larger = Swimmer(num_envs=5)
    assert np.array_equal(larger.reset(seed=7)[0][:3], first)  # a row is made from (seed, row) alone


# --- rows that wait ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [*ENVS], ids=lambda make: make.__name__)
def test_rows_that_wait_do_not_move(make: type[VectorEnv]) -> None:
    env = make(num_envs=4, horizon=6)
    obs, _ = env.reset(seed=0)
    rng = np.random.default_rng(1)
    for action in actions(env, 20):
        active = rng.random(4) < 0.5
        before = env.state_dict()
        action[~active] = np.nan  # nobody looks at it
        new, reward, terminated, truncated, info = env.step(action, active)
        after = env.state_dict()
        wait = ~active
        for left, right in ((before, after), (before["now"], after["now"])):
            for key in set(left) - {"now"}:
                assert np.array_equal(left[key][wait], right[key][wait]), key
        assert np.array_equal(new[wait], obs[wait]) and np.array_equal(info["final_obs"][wait], obs[wait])
        assert not reward[wait].any() and not terminated[wait].any() and not truncated[wait].any()
        assert (after["clock"][active] != before["clock"][active]).all()
        obs = new


@pytest.mark.parametrize("make", [SwimmerGoal, Hopper], ids=lambda make: make.__name__)
def test_waiting_changes_nothing_for_the_others_nor_for_oneself(make: type[VectorEnv]) -> None:
    """Rows stepped in turns go through the same states as rows stepped together."""
    together, turns = make(num_envs=2, horizon=9), make(num_envs=2, horizon=9)
    together.reset(seed=0)
    turns.reset(seed=0)
    for action in actions(together, 30):
        all_at_once = together.step(action)
        first = turns.step(action, np.array([True, False]))
        second = turns.step(action, np.array([False, True]))
        assert np.array_equal(all_at_once[0], second[0])
        assert np.array_equal(all_at_once[1], first[1] + second[1])
    assert_same(together.state_dict(), turns.state_dict())


# --- exact state -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENVS, ids=lambda make: make.__name__)
def test_state_goes_on_bit_for_bit_in_the_middle_of_episodes(make: type[VectorEnv]) -> None:
    env, fresh = make(num_envs=3, horizon=40), make(num_envs=3, horizon=40)
    env.reset(seed=2)
    plan = actions(env, 90)
    for action in plan[:25]:
        env.step(action)
    state = copy.deepcopy(env.state_dict())
    expected = [env.step(action) for action in plan[25:]]
    fresh.load_state_dict(state)  # a new process would have nothing else
    for action, step in zip(plan[25:], expected, strict=True):
        assert_same(fresh.step(action), step)
    assert_same(fresh.state_dict(), env.state_dict())
    env.load_state_dict(state)  # and where other things have happened since
    assert_same(env.step(plan[25]), expected[0])


def test_state_is_numpy_with_a_row_for_each_env() -> None:
    env = SwimmerGoal(num_envs=3)
    env.reset(seed=0)

    def look(value: Any) -> None:
        if isinstance(value, dict):
            for inner in value.values():
                look(inner)
        else:
            assert isinstance(value, np.ndarray) and len(value) == 3 and value.dtype in (np.float64, np.int64)

    state = env.state_dict()
    look(state)
    with pytest.raises(ValueError, match=r"3 rows: env\.num_envs is 2"):
        SwimmerGoal(num_envs=2).load_state_dict(state)
    with pytest.raises(ValueError, match="another env"):
        Swimmer(num_envs=3).load_state_dict(state)
    with pytest.raises(ValueError, match="not one of this kind"):
        Swimmer(num_envs=3).load_state_dict({"generator": state["generator"]})


# --- point and goal ----------------------------------------------------------------------------------------------


def test_point_moves_by_the_action_clipped_to_the_disc() -> None:
    env = Point(num_envs=4, dtype="float64")
    obs, _ = env.reset(seed=0)
    assert np.array_equal(obs, np.zeros((4, 2)))
    action = np.array([[0.3, -0.4], [3.0, 4.0], [1.0, 1.0], [0.0, 0.0]], dtype=np.float32)
    expected = 0.2 * np.array([[0.3, -0.4], [0.6, 0.8], [0.5**0.5, 0.5**0.5], [0.0, 0.0]])
    for step in range(1, 50):
        obs, reward, terminated, truncated, _ = env.step(action)
        assert np.allclose(obs, step * expected, atol=1e-6)
        assert not reward.any() and not terminated.any() and not truncated.any()
    obs, *_, truncated, info = env.step(action)
    assert truncated.all() and np.allclose(info["final_obs"], 50 * expected, atol=1e-6) and not obs.any()


@pytest.mark.parametrize("make", [PointGoal, SwimmerGoal, AntGoal], ids=lambda make: make.__name__)
def test_goals_are_drawn_anew_each_episode(make: type[VectorEnv]) -> None:
    env = make(num_envs=4, horizon=1, goals=4, distance=2.0, radius=0.5)
    obs, _ = env.reset(seed=0)
    start, stop = env.metadata["obs_names"]["goal"]
    seen = []
    for _ in range(30):
        seen.append(obs[:, start:stop])
        obs, _, _, truncated, info = env.step(np.zeros(env.action_space.shape, np.float32))
        assert truncated.all() and np.array_equal(info["final_obs"][:, start:stop], seen[-1])  # held until the end
    goals = np.array(seen)  # (30, 4, 2)
    directions = np.array([[2, 0], [0, 2], [-2, 0], [0, -2]])
    which = np.linalg.norm(goals[:, :, None] - directions, axis=-1)
    assert (which.min(axis=-1) < 1e-6).all()
    counts = np.array([np.bincount(row, minlength=4) for row in which.argmin(axis=-1).T])  # (4 rows, 4 directions)
    assert (counts > 0).all()  # each row meets each direction


def test_point_goal_ends_exactly_on_entering_the_radius() -> None:
    env = PointGoal(num_envs=8, dtype="float64", distance=4.0, radius=0.9)  # 3.1 to go in steps of 0.2: the 16th enters
    obs, info = env.reset(seed=3)
    assert not info["success"].any()
    goal = obs[:, 2:].copy()
    away = np.arange(8) == 5
    towards = np.where(away[:, None], -goal, goal).astype(np.float32) / 4
    for step in range(1, 20):
        obs, reward, terminated, truncated, info = env.step(towards)
        distance = np.linalg.norm(info["final_obs"][:, :2] - goal, axis=1)
        entered = distance <= 0.9
        assert np.array_equal(terminated, entered) and np.array_equal(info["final_info"]["success"], entered)
        assert np.array_equal(reward, entered.astype(float)) and not truncated.any()
        assert not info["success"].any()  # after the reset: the next episode's
        if entered.any():
            assert step == 16
            break
    assert np.array_equal(entered, ~away)


def test_swimmer_goal_success_follows_the_bodys_position() -> None:
    env = SwimmerGoal(num_envs=3, distance=1.0, radius=0.4)
    env.reset(seed=0)
    state = env.state_dict()
    goal = state["now"]["goal"]
    inside, outside = goal[0] * 0.65, goal[1] * 0.3
    for row, xy in ((0, inside), (1, outside)):
        state["now"]["qpos"][row, :2] = xy
        state["physics"][row, 1:3] = xy  # time first, then positions
    env.load_state_dict(state)
    _, reward, terminated, truncated, info = env.step(np.zeros((3, 2), np.float32))
    assert terminated.tolist() == [True, False, False] and reward.tolist() == [1.0, 0.0, 0.0]
    assert info["final_info"]["success"].tolist() == [True, False, False] and not truncated.any()
    assert np.allclose(info["final_info"]["xy"][0], inside, atol=0.2)


def test_bodies_end_early_only_where_terminate_says_so() -> None:
    for make in (Hopper, Ant, Walker2d, Humanoid):
        ends = {}
        for terminate in (True, False):
            env = make(num_envs=4, terminate=terminate)
            env.reset(seed=0)
            ends[terminate] = sum(env.step(action)[2].sum() for action in actions(env, 150))
        assert ends[True] > 0 and ends[False] == 0


# --- one row -----------------------------------------------------------------------------------------------------


def test_single_shows_the_true_end_and_goes_on() -> None:
    env, batch = Single(Swimmer(num_envs=1, horizon=5)), Swimmer(num_envs=1, horizon=5)
    obs, _ = env.reset(seed=4)
    batch_obs, _ = batch.reset(seed=4)
    assert np.array_equal(obs, batch_obs[0])
    for number, action in enumerate(actions(batch, 12), start=1):
        obs, reward, terminated, truncated, info = env.step(action[0])
        batch_obs, batch_reward, _, _, batch_info = batch.step(action)
        assert np.array_equal(obs, batch_info["final_obs"][0]) and reward == batch_reward[0]
        assert np.array_equal(info["xy"], batch_info["final_info"]["xy"][0])
        assert isinstance(reward, float) and terminated is False and truncated is (number % 5 == 0)
        if truncated:
            with pytest.raises(gymnasium.error.ResetNeeded):
                env.step(action[0])
            assert np.array_equal(env.reset()[0], batch_obs[0])
    with pytest.raises(ValueError, match=r"env\.num_envs=2"):
        Single(Swimmer(num_envs=2))


# --- impossible values -------------------------------------------------------------------------------------------

ERRORS = [
    (Swimmer, {"num_envs": 0}, "num_envs=0"),
    (Swimmer, {"num_envs": 2.5}, "num_envs=2.5"),
    (Swimmer, {"horizon": 0}, "horizon=0"),
    (Point, {"horizon": None}, "horizon=None"),
    (Swimmer, {"workers": -1}, "workers=-1"),
    (Swimmer, {"dtype": "float16"}, "dtype='float16': must be float32 or float64"),
    (Swimmer, {"observe": ["xy", "wings"]}, "unknown name 'wings'; it must be one of xy, front, joints, velocities"),
    (Swimmer, {"observe": ["xy", "xy"]}, "observe=.*twice"),
    (Swimmer, {"observe": []}, "observe="),
    (Swimmer, {"observe": "xy"}, "observe='xy': must be a list"),
    (Swimmer, {"observe": ["xy", "pixels"]}, "observe=.*pixels cannot stand beside other parts"),
    (Spread, {"observe": ["pixels"]}, "observe=.*one picture of a team"),
    (Swimmer, {"views": {"xy": ["wings"]}}, "views.xy: unknown name 'wings'"),
    (Swimmer, {"record": ["wings"]}, "record: unknown name 'wings'"),
    (Swimmer, {"coverage": {"key": "wings", "cell": 1.0}}, "coverage.key: unknown name 'wings'"),
    (Swimmer, {"coverage": {"key": "xy", "cell": 0.0}}, "coverage.cell=0.0"),
    (Swimmer, {"coverage": {"key": "xy"}}, "coverage="),
    (Swimmer, {"reset_noise_scale": -0.1}, "reset_noise_scale=-0.1"),
    (Ant, {"frame_skip": 0}, "frame_skip=0"),
    (Hopper, {"healthy_z_range": [1.0, 0.5]}, "healthy_z_range"),
    (Ant, {"contact_force_range": 3}, "contact_force_range=3"),
    (Point, {"step_radius": 0}, "step_radius=0"),
    (PointGoal, {"radius": 0.0}, "radius=0.0"),
    (PointGoal, {"distance": float("nan")}, "distance=nan"),
    (PointGoal, {"radius": 5.0}, "radius=5.0: must be below distance=4.0"),
    (SwimmerGoal, {"goals": 3}, "goals=3: must be an integer of at least 4"),
]


@pytest.mark.parametrize("make, arguments, message", ERRORS)
def test_impossible_values_are_one_line(make: type[VectorEnv], arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        make(**arguments)
    assert "\n" not in str(caught.value)


def test_wrong_use_is_refused() -> None:
    env = Swimmer(num_envs=2)
    action = np.zeros((2, 2), np.float32)
    with pytest.raises(gymnasium.error.ResetNeeded):
        env.step(action)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"must be \(2, 2\)"):
        env.step(np.zeros(2))
    with pytest.raises(RuntimeError, match="without step_async"):
        env.step_wait()
    env.step_async(action)
    for call in (env.state_dict, env.reset, lambda: env.step_async(action)):
        with pytest.raises(RuntimeError, match="in flight"):
            call()
    env.step_wait()
    env.close()
    env.close()
    with pytest.raises(RuntimeError, match="closed"):
        env.step(action)


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", ENVS, ids=lambda make: make.__name__)
@pytest.mark.parametrize("camera", ["track", "top"])
def test_pictures_show_the_body_and_its_goal(make: type[VectorEnv], camera: str) -> None:
    """The body is orange and the goal green, against a floor and a sky that are grey or blue."""
    env = make(num_envs=2)
    env.reset(seed=0)
    state = copy.deepcopy(env.state_dict())
    size = {"width": 160, "height": 120}
    frames = env.render_rows([1, 0], camera=camera, **size)
    assert [frame.shape for frame in frames] == [(120, 160, 3)] * 2 and frames[0].dtype == np.uint8
    red, green, blue = frames[0].astype(int).transpose(2, 0, 1)
    body = (red > blue + 50) & (red > green + 20)  # (120, 160)
    assert body.mean() > 0.001
    assert ((green > red + 30) & (green > blue + 20)).any() == ("goal" in env.metadata["obs_names"])
    assert_same(state, env.state_dict())  # looking changes nothing
    assert_same(env.render_rows([1], camera=camera, **size), frames[:1])
    env.close()


def test_the_picture_is_the_right_way_up_and_follows_the_body() -> None:
    env = Hopper(num_envs=1)
    env.reset(seed=0)
    frame = env.render_rows([0])[0].astype(int)
    assert frame[:30].mean(axis=(0, 1))[2] > frame[-30:].mean(axis=(0, 1))[2] + 40  # the sky is above
    body = (frame[..., 0] > frame[..., 2] + 50).any(axis=1).nonzero()[0]
    assert body.min() < 80 and body.max() > 160  # large, and upright on its foot
    state = env.state_dict()
    state["now"]["qpos"][0, 0] = state["physics"][0, 1] = 5.0
    env.load_state_dict(state)
    moved = env.render_rows([0])[0].astype(int)
    columns = [np.flatnonzero((image[..., 0] > image[..., 2] + 50).any(axis=0)) for image in (frame, moved)]
    assert abs(columns[0].mean() - columns[1].mean()) < 3


# --- pictures as observations --------------------------------------------------------------------------------------

ALONE = [make for make in dict.fromkeys(ENVS) if "agents" not in make.__init__.__annotations__]


@pytest.mark.parametrize("make", ALONE, ids=lambda make: make.__name__)
def test_pixels_are_what_is_drawn_of_the_row(make: type[VectorEnv]) -> None:
    """Beside an env that observes the state: the same world, and pictures of it, at ends those of the true end."""
    env, state = make(num_envs=3, horizon=3, observe=["pixels"]), make(num_envs=3, horizon=3)
    obs, info = env.reset(seed=1)
    state.reset(seed=1)
    assert env.single_observation_space.shape == obs.shape[1:] == (64, 64, 3) and obs.dtype == np.uint8
    assert env.metadata["obs_names"] == {"pixels": [0, 3]}
    assert env.metadata["coverage"] == state.metadata["coverage"]
    for step, action in enumerate(actions(env, 4)):
        active = np.array([True, step != 1, True])
        before = obs
        obs, reward, terminated, truncated, info = env.step(action, active)
        _, true_reward, true_terminated, true_truncated, true_info = state.step(action, active)
        assert_same([reward, terminated, truncated], [true_reward, true_terminated, true_truncated])
        assert np.array_equal(info["final_info"]["xy"], true_info["final_info"]["xy"])
        assert_same(list(obs), state.render_rows(range(3), width=64, height=64))
        ended = terminated | truncated
        assert_same(list(info["final_obs"][~ended]), list(obs[~ended]))
        assert active[1] or np.array_equal(obs[1], before[1])
    assert len(np.unique(obs.reshape(-1, 3), axis=0)) > 3
    env.close()
    state.close()


def test_the_last_picture_of_an_episode_is_its_own() -> None:
    ends, goes_on = (Hopper(num_envs=2, horizon=horizon, observe=["pixels"]) for horizon in (4, 100))
    ends.reset(seed=3)
    goes_on.reset(seed=3)
    for action in actions(ends, 4):
        *_, truncated, info = ends.step(action)
        obs, *_ = goes_on.step(action)
        assert np.array_equal(info["final_obs"], obs)
    assert truncated.all() and not np.array_equal(info["final_obs"], ends.step(action)[0])


@pytest.mark.parametrize("workers", [0, 2])
def test_pixels_go_on_bit_for_bit_whoever_draws_them(workers: int) -> None:
    env, other = (Hopper(num_envs=3, horizon=5, observe=["pixels"], workers=n) for n in (workers, 0))
    env.reset(seed=0)
    steps = actions(env, 12)
    for action in steps[:7]:
        env.step(action)
    other.load_state_dict(env.state_dict())
    for action in steps[7:]:
        assert_same(env.step(action), other.step(action))
    env.close()
    other.close()
