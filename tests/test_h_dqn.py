"""h-DQN: goals, rewards and exploration by hand; four rooms, which its twin learns less of."""

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from checks import Check
from torch import Generator

from envs.point import Point
from envs.rooms import Rooms
from envs.rooms_goal import RoomsGoal
from skillrl.agents.dqn import DQN
from skillrl.agents.ppo import PPO
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.h_dqn import DOORS, HDQN, HDQNPolicy
from skillrl.selector import BringsSelector
from skillrl.skill_library import load, save
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, begin, train

torch.set_num_threads(1)
SPEC = Spec.from_env(Rooms(num_envs=1))
GOALS = [[1.0, 0.0], [0.0, -1.0]]


def make(**changes: Any) -> HDQN:
    return HDQN(SPEC, **{"goals": GOALS, "hidden_dims": (8,), "batch_size": 16, **changes})


# ---- exact


def test_a_goal_is_reached_within_its_radius_and_there_the_skill_stops():
    policy = make(radius=0.4).policy
    obs, z = torch.tensor([[1.3, 0.0], [1.5, 0.0], [1.0, 0.0], [0.0, -1.0]]), torch.tensor([0, 0, 1, 1])
    assert policy.reached(obs, z).tolist() == [True, False, False, True]
    assert policy.stop(obs, z, torch.ones(4)).tolist() == [1, 0, 0, 1]


@pytest.mark.parametrize(("intrinsic", "extrinsic"), [(1.0, 0.0), (2.0, 0.5), (0.0, 1.0)])
def test_the_controller_is_paid_for_its_goal_and_nothing_follows_that(intrinsic: float, extrinsic: float):
    learner, seen = make(intrinsic_weight=intrinsic, extrinsic_weight=extrinsic), []
    learner.controller.update = lambda batch, generator: seen.append(batch) or {}
    batch = Batch(
        obs=torch.zeros(3, 2),
        next_obs=torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]]),
        z=torch.tensor([0, 1, 0]),
        reward=torch.tensor([0.0, 4.0, 4.0]),
        discount=torch.tensor([0.99, 0.99, 0.0]),
    )
    learner.update_controller(batch)
    (told,) = seen
    assert told["reward"].tolist() == [intrinsic, 4 * extrinsic, 4 * extrinsic]
    assert told["discount"].tolist() == pytest.approx([0.0, 0.99, 0.0]) and torch.equal(told["next_z"], told["z"])


def test_the_meta_controller_learns_of_its_choices_by_the_envs_reward():
    learner, seen = make(), []
    learner.meta.update = lambda batch, generator: seen.append(batch) or {}
    batch = Batch(obs=torch.zeros(2, 2), z=torch.tensor([1, 0]), reward=torch.tensor([3.0, 0.0]))
    learner.update_meta(batch.replace(duration=torch.tensor([4, 2]), discount=torch.tensor([0.9, 0.0])))
    (told,) = seen
    assert told["action"].tolist() == [1, 0] and told["z"].tolist() == told["next_z"].tolist() == [0, 0]
    assert told["reward"].tolist() == [3.0, 0.0] and told["discount"].tolist() == pytest.approx([0.9, 0.0])


def test_a_goal_that_is_reached_more_often_is_explored_less():
    """Goal 0 came 2 times of 3, goal 1 was not tried: by hand, and never below the agent's ε."""
    learner = make(success_rate=0.5)
    there = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 0.0]])
    batch = Batch(obs=there, next_obs=there, z=torch.zeros(3, dtype=torch.int64))
    learner.explore(batch)
    mean = (2 / 3) * (1 - 0.5**3)
    assert learner.reached.tolist() == pytest.approx([mean, 0.0])
    assert learner.policy.actor.epsilon.tolist() == pytest.approx([1 - mean, 1.0])
    for _ in range(50):
        learner.explore(batch.replace(next_obs=there[:1].expand(3, 2)))
    assert learner.policy.actor.epsilon.tolist() == pytest.approx([learner.controller.epsilon_final, 1.0])
    obs, z = torch.zeros(6000, 2), torch.tensor([0, 1]).repeat(3000)
    action, _ = learner.policy.act(obs, z, generator=Generator().manual_seed(0))
    best = learner.policy.act(obs, z, deterministic=True)[0]
    other = (action != best).float()
    assert other[z == 0].mean().item() == pytest.approx(0.1 * 0.8, abs=0.02)
    assert other[z == 1].mean().item() == pytest.approx(0.8, abs=0.03)


def test_another_goal_is_chosen_where_one_is_reached_or_given_up():
    env = Rooms(num_envs=8, horizon=40)
    learner = make(hold=6, goals=[[1.0, 0.0], [4.0, -5.0]])
    state = begin(env=env, learner=learner, data=Replay(4000, 8), schedule=Schedule(0, collect=8), seed=0)
    was: Any = None
    for _ in range(200):
        step, _ = state.collector.tick()
        if was is not None:
            over = learner.policy.reached(was["next_obs"], was["z"]) | was["truncated"] | (was["skill_step"] == 5)
            assert torch.equal(step["skill_step"] == 0, over)
        was = step


def test_both_levels_are_saved_together(tmp_path: Path):
    learner = make()
    saved = load(save(learner.policy, tmp_path))
    assert isinstance(saved, BringsSelector) and saved.goals.tolist() == GOALS
    obs, rng = torch.randn(6, 2), Generator().manual_seed(0)
    asked = (obs, (), (), torch.ones(6, dtype=torch.bool), rng, True)
    assert torch.equal(saved.selector(SPEC).select(*asked).z, learner.prior().select(*asked).z)


def test_what_it_cannot_do_is_refused_in_a_line():
    with pytest.raises(ValueError, match="needs a discrete action"):
        HDQN(Spec.from_env(Point(num_envs=1)))
    with pytest.raises(ValueError, match=r"learner\.goals is \[\[1\.0\]\]: it must be a list of goals of 2 numbers"):
        make(goals=[[1.0]])
    with pytest.raises(ValueError, match="needs agent dqn"):
        make(agent=PPO)
    with pytest.raises(ValueError, match=r"learner\.hold is 0"):
        make(hold=0)


# ---- learning


FAR = [[4.0, -5.0]]
AGENT = partial(DQN, lr=1e-3, target_every=200, double_q=True, gamma=0.95, epsilon_final=0.1)
SMALL: dict[str, Any] = {  # of conf/experiment/small/h_dqn.yaml
    "agent": partial(AGENT, epsilon_updates=1000),
    "meta_agent": partial(AGENT, epsilon_updates=1500),
    "goals": [*DOORS, *FAR],
    "hold": 12,
    "success_rate": 0.05,
    "hidden_dims": (64,),
    "batch_size": 64,
}
TWIN = {"intrinsic_weight": 0.0, "extrinsic_weight": 1.0}


def rooms(n: int, horizon: int = 40) -> RoomsGoal:
    """To one corner, from anywhere."""
    return RoomsGoal(num_envs=n, horizon=horizon, goals=FAR, observe=["cell", "xy"], random_start=True)


def doors_reached(policy: HDQNPolicy, seed: int) -> float:
    """The share of doors that are come to within 12 steps, from anywhere; an episode may end on the way."""
    told = rollout(rooms(96, horizon=12), policy, torch.arange(96) % len(DOORS), seed=seed)
    door = np.array(DOORS)[np.arange(96) % len(DOORS)]
    return float((np.linalg.norm(told.coordinates - door[:, None], axis=-1) < 0.4).any(1).mean())


@pytest.mark.learning("skillrl/learners/h_dqn.py", "skillrl/agents/dqn.py", "skillrl/data/collector.py")
@pytest.mark.parametrize("arm", ["h-DQN", "no intrinsic reward"])
def test_h_dqn_in_the_rooms(arm: str, seed: int, check: Check):
    """The controller learns the way to each goal, and both levels together the way to the corner."""
    torch.manual_seed(seed)
    learner = HDQN(Spec.from_env(rooms(1)), **SMALL, **({} if arm == "h-DQN" else TWIN))
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 16, gamma=learner.gamma, seed=seed)
    told = list[float]()
    train(
        env=rooms(16),
        learner=learner,
        data=data,
        schedule=Schedule(40_000, warmup=1600, collect=16),
        hooks=[lambda state: told.extend(episode["episode/success"] for episode in state.episodes)],
        seed=seed,
    )
    measured = {"doors reached": (doors_reached(learner.policy, seed), ">= 0.5" if arm == "h-DQN" else "< 0.5")}
    if arm == "h-DQN":  # of the last third of the episodes while learning, in which chance still has a part
        measured["success"] = (float(np.mean(told[-len(told) // 3 :])), ">= 0.8")
    check(measured)
