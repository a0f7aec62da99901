"""Options are an SMDP: on a deterministic env, everything a decision reports equals what its primitive steps say."""

import numpy as np
import pytest
import torch
from counting_env import CountingEnv
from gymnasium.utils.env_checker import check_env as gymnasium_check
from stable_baselines3.common.env_checker import check_env as sb3_check

from envs.point import Point
from envs.swimmer import Swimmer
from skillrl.composition.skill_env import SkillEnv, SkillVectorEnv
from skillrl.data.collector import Collector
from skillrl.learners.diayn import DIAYN
from skillrl.learners.primitive import Primitive
from skillrl.selector import Fixed, Prior
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Spec

LENGTHS, TERMINATES = (5, 7, 12), (True, False, False)


class Push(SkillPolicy):
    """Skill z pushes by z/10, and remembers what it saw."""

    seen: list[torch.Tensor]

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        self.seen.append(obs.clone())
        return (z / 10.0)[:, None], {}


def pushing(hold: int, gamma: float = 0.9) -> tuple[CountingEnv, SkillVectorEnv, Push]:
    env = CountingEnv(LENGTHS, TERMINATES)
    spec = Spec.from_env(env)
    policy = Push(obs=spec.obs, action=spec.action, space=Discrete(5))
    policy.seen = []
    return env, SkillVectorEnv(env, policy, hold=hold, gamma=gamma), policy


def by_hand(row: int, t: int, z: int, hold: int, gamma: float) -> tuple[float, int]:
    """Σ γ^i r_i of a decision of CountingEnv that starts at t, and its duration."""
    k = min(hold, LENGTHS[row] - t)
    return sum(gamma**i * (row + 10 * (t + i) + z / 10) for i in range(k)), k


@pytest.mark.parametrize("gamma", [1.0, 0.9])
def test_reward_discount_and_duration_are_those_of_the_primitive_steps(gamma: float):
    _, env, _ = pushing(hold=4, gamma=gamma)
    env.reset(seed=0)
    t = [0, 0, 0]
    ends = set()
    for decision in range(12):
        z = np.array([decision % 5, 1, 4])
        obs, reward, terminated, truncated, info = env.step(z)
        for row in range(3):
            paid, k = by_hand(row, t[row], z[row], 4, gamma)
            t[row] += k
            done = t[row] == LENGTHS[row]
            assert reward[row] == pytest.approx(paid, rel=1e-6)
            assert info["duration"][row] == k
            assert (terminated[row], truncated[row]) == (done and TERMINATES[row], done and not TERMINATES[row])
            assert info["discount"][row] == pytest.approx(0.0 if terminated[row] else gamma**k)
            if done:
                ends.add((row, k))
                assert info["final_obs"][row][2] == LENGTHS[row]
                t[row] = 0
            assert obs[row][2] == t[row]  # the reset's observation where the episode ended
    assert {(0, 1), (1, 3), (2, 4)} <= ends  # ended early by termination, early by truncation, and exactly at the hold


def test_the_first_decision_after_a_reset_sees_the_resets_observation():
    _, env, policy = pushing(hold=4)
    obs, _ = env.reset(seed=0)
    resets = 0
    for _ in range(8):  # episodes end on the way, by themselves
        policy.seen.clear()
        resets += int((obs[:, 2] == 0).sum())
        following, *_ = env.step(np.array([1, 2, 3]))
        assert torch.equal(policy.seen[0], torch.as_tensor(obs))
        obs = following
    assert resets > 5
    obs, _ = env.reset(seed=1)  # and in the middle of one
    policy.seen.clear()
    env.step(np.array([0, 0, 0]))
    assert torch.equal(policy.seen[0], torch.as_tensor(obs)) and (obs[:, 2] == 0).all()


def test_rows_that_wait_do_not_move():
    env, skills, _ = pushing(hold=4)
    skills.reset(seed=0)
    skills.step(np.array([0, 0, 0]))  # all at t = 4
    skills.step(np.array([0, 0, 0]))  # row 0 ends after 1 step, row 1 after 3, row 2 after 4
    assert env.steps.tolist() == [5, 7, 8]  # each was stepped as often as its decisions say, no more
    assert env.t.tolist() == [0, 0, 8]


def test_hold_1_over_primitive_actions_is_the_flat_env():
    def make() -> Swimmer:
        return Swimmer(num_envs=3, horizon=17)

    flat, below = make(), make()
    spec = Spec.from_env(flat)
    composed = SkillVectorEnv(below, Primitive(spec).policy, hold=1, gamma=0.5)
    a, _ = flat.reset(seed=5)
    b, _ = composed.reset(seed=5)
    assert np.array_equal(a, b)
    rng = np.random.default_rng(0)
    for _ in range(40):
        action = rng.uniform(-1, 1, (3, 2)).astype(np.float32)
        a, r, te, tr, info = flat.step(action)
        b, q, se, sr, skill_info = composed.step(action)
        assert np.array_equal(a, b) and np.array_equal(r.astype(np.float32), q.astype(np.float32))
        assert np.array_equal(te, se) and np.array_equal(tr, sr)
        if tr.any():
            assert np.array_equal(info["final_obs"][tr], skill_info["final_obs"][tr])
    flat.close()
    composed.close()


def test_a_longer_hold_is_action_repeat():
    flat, below = Point(num_envs=2, horizon=9), Point(num_envs=2, horizon=9)
    composed = SkillVectorEnv(below, Primitive(Spec.from_env(flat)).policy, hold=4, gamma=0.9)
    flat.reset(seed=0)
    composed.reset(seed=0)
    action = np.array([[0.3, -0.2], [1.0, 0.5]], dtype=np.float32)
    for _ in range(4):
        obs, *_ = flat.step(action)
    assert np.array_equal(composed.step(action)[0], obs)


def one(env_class: type, **arguments):
    env = env_class(num_envs=1, **arguments)
    learner = DIAYN(Spec.from_env(env), skill_space=Discrete(4), hidden_dims=(8,))
    return env, learner.policy


@pytest.mark.parametrize("env_class", [Point, Swimmer])
@pytest.mark.parametrize("primitive", [False, True])
def test_checkers_accept_skill_env(env_class: type, primitive: bool):
    env, policy = one(env_class, horizon=12)
    if primitive:
        policy = Primitive(Spec.from_env(env)).policy
    single = SkillEnv(env, policy, hold=5)
    gymnasium_check(single, skip_render_check=True)
    sb3_check(single, warn=False)
    _, info = single.reset(seed=3)
    assert "xy" in info
    obs, _, terminated, truncated, info = single.step(single.action_space.sample())
    assert not terminated and not truncated and info["duration"] == 5
    for expected in (5, 2):
        obs, _, terminated, truncated, info = single.step(single.action_space.sample())
        assert info["duration"] == expected
    assert truncated and np.allclose(obs[:2], info["xy"])  # the final observation, not the next reset's
    single.close()


def test_reset_without_a_seed_goes_on_with_new_episodes():
    env, policy = one(Swimmer, horizon=12)
    single = SkillEnv(env, policy, hold=5)
    first, second, third = single.reset(seed=1)[0], single.reset()[0], single.reset()[0]
    assert not np.array_equal(first, second) and not np.array_equal(second, third)
    assert np.array_equal(single.reset(seed=1)[0], first)


def test_it_says_what_is_wrong():
    env, policy = one(Point)
    with pytest.raises(ValueError, match="hold is 0"):
        SkillEnv(env, policy, hold=0)
    with pytest.raises(ValueError, match="num_envs=1"):
        SkillEnv(Point(num_envs=2), policy, hold=3)
    with pytest.raises(ValueError, match="'joints' is wanted, this env has xy"):
        SkillEnv(Point(num_envs=1), one(Swimmer)[1], hold=3)


def test_a_skill_is_held_until_its_own_clock_says_so():
    """z changes every 3 steps of each row's own episode, never by a global clock."""
    env = CountingEnv(LENGTHS, TERMINATES)
    spec = Spec.from_env(env)
    policy = Push(obs=spec.obs, action=spec.action, space=Discrete(1000))
    policy.seen = []
    collector = Collector(env, policy, Prior(policy.space, hold=3), spec=spec, seed=0)
    collector.reset(0)
    held: dict[tuple[int, int, int], set[int]] = {}
    for _ in range(40):
        step, _ = collector.tick()
        for row, episode, t in step["obs"][:, :3].int().tolist():
            held.setdefault((row, episode, t // 3), set()).add(int(step["z"][row]))
            assert int(step["skill_step"][row]) == t % 3
    assert all(len(skills) == 1 for skills in held.values())
    assert len({next(iter(skills)) for skills in held.values()}) > 0.9 * len(held)


def test_fixed_deals_row_i_its_skill():
    env = CountingEnv(LENGTHS, TERMINATES)
    spec = Spec.from_env(env)
    policy = Push(obs=spec.obs, action=spec.action, space=Discrete(5))
    policy.seen = []
    collector = Collector(env, policy, Fixed(torch.tensor([4, 0, 2])), spec=spec)
    collector.reset(0)
    assert collector.tick()[0]["z"].tolist() == [4, 0, 2]


def test_a_primitive_box_is_the_action_space():
    spec = Spec.from_env(Point(num_envs=1))
    assert Primitive(spec).policy.space == Box(2)
