"""Teams of particles: forces, walls, sights and rewards worked out by hand, and mpe2's own numbers bit for bit."""

import numpy as np
import pytest

from envs.mpe import MPE
from envs.particles import FORCE, ParticleSimulator, Sides, Spread, others, repulsion, touched
from envs.single import Single


def put(env: Spread | Sides, row: int, **arrays: np.ndarray) -> None:
    """Places (and landmarks) of a team, at rest."""
    state = env.state_dict()
    for name, value in arrays.items():
        state["now"][name][row] = value
    teams = state["physics"].reshape(env.num_envs, -1, 4)
    teams[row, :, :2], teams[row, :, 2:] = state["now"]["xy"][row], 0.0
    state["now"]["velocity"][row] = 0.0
    env.load_state_dict(state)


def simulator(xy: list, velocity: list, **arguments: object) -> ParticleSimulator:
    """One team, there and at that speed."""
    made = ParticleSimulator(agents=len(xy), **arguments)  # type: ignore[arg-type]
    made.bind({"xy": np.array([xy], float), "velocity": np.array([velocity], float)})
    return made


def test_a_particle_moves_by_the_speed_it_had_and_a_force_is_cut_to_the_box() -> None:
    one = simulator([[0, 0], [3, 3]], [[1, 0], [0, 0]])
    one.step(one.control(np.array([[[0, 2.0], [-0.5, 0]]], np.float32)), [0])
    state = one.state().reshape(2, 4)
    assert state[0].tolist() == [0.1, 0.0, 0.75, FORCE * 0.1] and state[1].tolist() == [3, 3, -0.25, 0]


def test_two_that_touch_push_each_other_apart_and_others_do_not() -> None:
    push = repulsion(np.array([[0.2, 0.0], [0.0, -0.31]]), 0.3)
    assert push[0] == pytest.approx([100 * 0.1, 0], rel=1e-6) and np.abs(push[1]).max() < 1e-4
    pair = simulator([[0.2, 0], [0, 0], [5, 0]], [[0, 0]] * 3, radius=0.15)
    pair.step(np.zeros((1, 3, 2)), [0])
    velocity = pair.state().reshape(3, 4)[:, 2]
    assert velocity == pytest.approx([1.0, -1.0, 0.0], rel=1e-6)
    free = simulator([[0.2, 0], [0, 0]], [[0, 0]] * 2)
    free.step(np.zeros((1, 2, 2)), [0])
    assert not free.state().reshape(2, 4)[:, 2:].any()


def test_walls_stop_what_runs_into_them_along_that_axis_alone() -> None:
    one = simulator([[0.95, 0.0], [0.0, -0.2]], [[1, 0.5], [0, 1]], walls=[1.0, 0.2])
    one.step(np.zeros((1, 2, 2)), [0])
    state = one.state().reshape(2, 4)
    assert state[0].tolist() == [1.0, 0.05, 0.0, 0.375]
    assert state[1] == pytest.approx([0.0, -0.1, 0.0, 0.75])  # that goes away from its wall keeps its speed


def test_each_sees_the_others_from_itself_in_their_order() -> None:
    xy = np.array([[[0.0, 0], [1, 0], [0, 2]]])
    assert others(xy)[0].tolist() == [[1, 0, 0, 2], [-1, 0, -1, 2], [0, -2, 1, -2]]
    env = Spread(num_envs=2, observe=["id", "landmarks", "others"])
    env.reset(seed=0)
    put(env, 1, xy=xy[0], landmarks=np.array([[1.0, 1], [0, 0], [5, 5]]))
    obs = env.step(np.zeros(env.action_space.shape, np.float32))[0]
    assert obs[1, :, :3].tolist() == np.eye(3).tolist()
    assert obs[1, 1, 3:].tolist() == [0, 1, -1, 0, 4, 5, -1, 0, -1, 2]


def test_spread_pays_all_for_what_is_covered_and_each_for_whom_it_touches() -> None:
    xy, landmarks = np.array([[0.0, 0], [0.2, 0], [2, 0]]), np.array([[0.0, 0], [2, 1], [2, 0.05]])
    assert touched(xy[None], 0.3)[0].tolist() == [1, 1, 0]
    covered = -(0 + 1 + 0.05)
    for ratio in (0.0, 0.5, 1.0):
        env = Spread(num_envs=1, local_ratio=ratio)
        env.reset(seed=0)
        put(env, 0, xy=xy, landmarks=landmarks)
        _, reward, _, _, info = env.step(np.zeros((1, 3, 2), np.float32))  # at rest, nobody has moved yet
        assert reward[0] == pytest.approx((1 - ratio) * covered + ratio * np.array([-1, -1, 0]))
        assert not info["final_info"]["success"].any()
    put(env, 0, xy=xy, landmarks=xy[[2, 0, 1]] + 0.05)
    assert env.step(np.zeros((1, 3, 2), np.float32))[4]["final_info"]["success"].all()


def test_the_single_face_of_a_team_adds_up_its_rewards() -> None:
    env, batch = Single(Spread(num_envs=1)), Spread(num_envs=1)
    env.reset(seed=3)
    batch.reset(seed=3)
    action = np.random.default_rng(0).uniform(-1, 1, (1, 3, 2)).astype(np.float32)
    assert env.step(action[0])[1] == batch.step(action)[1].sum() < 0


def test_wrong_values_are_named() -> None:
    for arguments, message in (
        ({"agents": 1}, "agents=1: must be an integer of at least 2"),
        ({"local_ratio": 1.5}, "local_ratio=1.5"),
        ({"radius": 0.0}, "radius=0.0"),
        ({"cover": -1}, "cover=-1"),
    ):
        with pytest.raises(ValueError, match=message):
            Spread(**arguments)
    with pytest.raises(ValueError, match=r"length=0: must be"):
        Sides(length=0)


# ---- mpe2


def test_spread_is_mpe2s_bit_for_bit() -> None:
    ours, theirs = Spread(num_envs=3, dtype="float64"), MPE(num_envs=3)
    ours.reset(seed=0)
    theirs.reset(seed=1)
    for row, team in enumerate(theirs._envs):
        world = team.env.unwrapped.world
        for agent in world.agents:
            agent.state.p_pos *= 0.3  # near each other: they collide
        xy, landmarks = ([entity.state.p_pos for entity in group] for group in (world.agents, world.landmarks))
        put(ours, row, xy=np.array(xy), landmarks=np.array(landmarks))
    rng, collisions = np.random.default_rng(0), 0
    for _ in range(24):
        action = rng.integers(-64, 65, (3, 3, 2)).astype(np.float32) / 64  # that scaling to [0, 1] does not round
        right, left = np.maximum(action, 0), np.maximum(-action, 0)
        five = np.stack([left[..., 0] * 0, left[..., 0], right[..., 0], left[..., 1], right[..., 1]], -1)
        obs, reward, *_ = ours.step(right - left)
        their_obs, their_reward, *_ = theirs.step(2 * five - 1)
        assert np.array_equal(obs.astype(np.float32), their_obs[..., :14]) and np.array_equal(reward, their_reward)
        collisions += touched(ours.state_dict()["now"]["xy"], 0.3).sum()
    assert collisions > 10
    assert not their_obs[..., 14:].any()  # a channel that nobody speaks on


def test_mpe_keeps_the_conventions() -> None:
    env = MPE(num_envs=3, horizon=6)
    assert (env.metadata["agents"], env.metadata["exact_resume"]) == (3, False)
    obs, info = env.reset(seed=0)
    assert obs.shape == (3, 3, 18) and np.array_equal(info["xy"], obs[..., 2:4].astype(np.float64))
    rng, clock = np.random.default_rng(0), np.zeros(3, dtype=int)
    for _ in range(25):
        active = rng.random(3) < 0.6
        action = rng.uniform(-1, 1, env.action_space.shape).astype(np.float32)
        new, reward, terminated, truncated, info = env.step(action, active)
        clock += active
        assert reward.shape == (3, 3) and not reward[~active].any() and np.array_equal(new[~active], obs[~active])
        assert not terminated.any() and np.array_equal(truncated, clock >= 6)
        assert (info["final_obs"][truncated] != new[truncated]).any() == truncated.any()
        clock[truncated], obs = 0, new
    state, runs = env.state_dict(), []
    for _ in range(2):
        env.load_state_dict(state)
        runs.append(env.step(np.zeros(env.action_space.shape, np.float32))[0])
    assert np.array_equal(*runs)
    assert env.render_rows([1], width=64, height=48)[0].shape == (48, 64, 3)


def test_of_unequal_agents_the_narrower_are_padded() -> None:
    env = MPE(id="simple_tag_v3", num_envs=1)
    assert env.single_observation_space.shape == (4, 16) and env.metadata["agents"] == 4
    env.reset(seed=0)
    for _ in range(2):
        obs, *_ = env.step(np.random.default_rng(0).uniform(-1, 1, env.action_space.shape).astype(np.float32))
    assert obs[0, :3, 14:].any() and not obs[0, 3, 14:].any()  # the prey sees two numbers less


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"id": "simple_nothing_v0"}, r"env\.id='simple_nothing_v0': mpe2 has collect_treasure_v1, "),
        ({"id": "simple_v3"}, r"env\.id='simple_v3': this world has one agent"),
        ({"kwargs": {"M": 3}}, r"env\.kwargs=.*simple_spread_v3 does not take them"),
        ({"kwargs": {"local_ratio": 2.0}}, r"env\.kwargs=.*does not take them: local_ratio"),
        ({"parts": {"xy": 99}}, r"env\.parts=.* 18 wide"),
        ({"parts": {"velocity": 2}}, r"coverage\.key: unknown name 'xy'"),
    ],
)
def test_what_mpe_does_not_take_is_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        MPE(num_envs=1, **arguments)
    assert "\n" not in str(caught.value)


def test_without_mpe2_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}", name="mpe2")

    monkeypatch.setattr("envs.mpe.importlib.import_module", missing)
    with pytest.raises(ValueError, match=r"^env=mpe needs mpe2, .*: pip install 'skillrl\[mpe\]'$"):
        MPE(num_envs=1)
