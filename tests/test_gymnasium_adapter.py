"""Any other Gymnasium env through the adapter: scaling, autoreset, rows that wait, resume, spaces, errors."""

import gymnasium
import numpy as np
import pytest
from same import assert_same

from envs.gymnasium_adapter import Gymnasium


def test_adapter_scales_box_actions_and_keeps_gymnasiums_numbers() -> None:
    env = Gymnasium(id="Pendulum-v1", num_envs=2, xy=[0, 1], cell=0.5)
    assert env.metadata["horizon"] == 200 and env.metadata["exact_resume"] is False
    assert env.metadata["coverage"] == {"key": "xy", "cell": 0.5}
    obs, info = env.reset(seed=0)
    assert np.array_equal(info["xy"], obs[:, :2].astype(np.float64))
    plain = gymnasium.make("Pendulum-v1", disable_env_checker=True)
    plain.reset(seed=0)
    plain.unwrapped.state = env._envs[1].unwrapped.state.copy()
    for action in np.random.default_rng(0).uniform(-1, 1, (20, 2, 1)).astype(np.float32):
        obs, reward, *_ = env.step(action)
        plain_obs, plain_reward, *_ = plain.step(action[1] * np.float32(2))  # its torque is in [-2, 2]
        assert np.allclose(obs[1], plain_obs, atol=1e-5) and np.isclose(reward[1], plain_reward, atol=1e-4)


def test_adapter_autoreset_and_rows_that_wait() -> None:
    env = Gymnasium(id="CartPole-v1", num_envs=3, horizon=30)
    obs, _ = env.reset(seed=0)
    assert env.single_action_space == gymnasium.spaces.Discrete(2)
    rng = np.random.default_rng(0)
    clock, ended_by = np.zeros(3, dtype=int), np.zeros(2, dtype=int)
    for step in range(200):
        active = rng.random(3) < 0.7
        states = [np.array(single.unwrapped.state) for single in env._envs]
        action = np.full(3, step % 2) if step < 100 else np.zeros(3, dtype=int)
        new, reward, terminated, truncated, info = env.step(action, active)
        clock += active
        ended = terminated | truncated
        ended_by += [terminated.sum(), truncated.sum()]
        for row in np.flatnonzero(~active):
            assert np.array_equal(states[row], env._envs[row].unwrapped.state)
        assert np.array_equal(new[~active], obs[~active]) and not reward[~active].any() and not ended[~active].any()
        assert np.array_equal(info["final_obs"][~ended], new[~ended]) and np.array_equal(info["_final_obs"], ended)
        for row in np.flatnonzero(terminated):
            assert abs(info["final_obs"][row, 2]) > 0.2  # it fell
        assert (np.abs(new[ended]) <= 0.05).all()  # CartPole starts there
        assert np.array_equal(truncated, clock >= 30)
        clock[ended] = 0
        obs = new
    assert (ended_by > 0).all()


def test_adapter_resumes_with_the_same_fresh_episodes() -> None:
    env = Gymnasium(id="CartPole-v1", num_envs=2)
    env.reset(seed=0)
    for step in range(40):
        env.step(np.full(2, step % 2))
    state = env.state_dict()
    runs = []
    for _ in range(2):
        other = Gymnasium(id="CartPole-v1", num_envs=2)
        other.load_state_dict(state)
        runs.append([other.step(np.full(2, step % 2)) for step in range(60)])
    assert_same(runs[0], runs[1])


class _Images(gymnasium.Env):
    observation_space = gymnasium.spaces.Box(0, 255, (4, 3, 3), np.uint8)
    action_space = gymnasium.spaces.Discrete(3, start=5)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.observation_space.low.copy(), {}

    def step(self, action):
        return np.full((4, 3, 3), action, np.uint8), 1.0, False, False, {}


class _Nested(_Images):
    observation_space = gymnasium.spaces.Dict({"a": gymnasium.spaces.Discrete(2)})


class _Unbounded(_Images):
    action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,), np.float32)


for _name, _class in (("Images", _Images), ("Nested", _Nested), ("Unbounded", _Unbounded)):
    gymnasium.register(f"AdapterTest{_name}-v0", _class, max_episode_steps=7)
gymnasium.register("AdapterTestEndless-v0", _Images)


def test_adapter_spaces() -> None:
    env = Gymnasium(id="AdapterTestImages-v0", num_envs=2)
    obs, _ = env.reset(seed=0)
    assert obs.dtype == np.uint8 and obs.shape == (2, 4, 3, 3) and env.metadata["obs_names"] == {}
    obs, *_ = env.step(np.array([0, 2]))
    assert (obs[0] == 5).all() and (obs[1] == 7).all()  # a Discrete space that starts at 5
    lake = Gymnasium(id="FrozenLake-v1", num_envs=1)
    obs, _ = lake.reset(seed=0)
    assert np.array_equal(obs, np.eye(16, dtype=np.float32)[:1])
    cheetah = Gymnasium(id="HalfCheetah-v5", num_envs=1)
    assert cheetah.single_observation_space.dtype == np.float32 and cheetah.reset(seed=0)[0].dtype == np.float32


ADAPTER_ERRORS = [
    ({"id": "NoSuchEnv-v0"}, r"env\.id='NoSuchEnv-v0'"),
    ({"id": "Pendulum-v99"}, r"env\.id='Pendulum-v99'"),
    ({"id": "os:Pendulum-v1"}, "env.trust_module"),
    ({"id": "no_such_module:A-v0", "trust_module": True}, r"env\.id='no_such_module:A-v0'"),
    ({"id": "AdapterTestNested-v0"}, "observation space Dict.* not supported"),
    ({"id": "AdapterTestUnbounded-v0"}, "action space Box.* not supported"),
    ({"id": "AdapterTestEndless-v0"}, r"env\.horizon"),
    ({"id": "Pendulum-v1", "kwargs": {"nonsense": 1}}, r"env\.kwargs"),
    ({"id": "Pendulum-v1", "xy": [0, 3]}, r"env\.xy"),
]


@pytest.mark.parametrize("arguments, message", ADAPTER_ERRORS)
def test_adapter_errors_are_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Gymnasium(num_envs=1, **arguments)
    assert "\n" not in str(caught.value)
