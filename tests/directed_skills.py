"""Skills on the point env that are meant to lead along z: where they lead, and whether a goal can be aimed at."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from envs.point import Point
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.base import Learner
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Batch, Carry, Need, Selection, Spec
from skillrl.training import Schedule, State, train

REACH = 10.0  # of the point in its 50 steps
SHORT = partial(Point, step_radius=0.05)
"""The point with steps of a quarter of the length. Inputs of up to 10 lie far beyond 1, about where the first layer's
units bend: a fresh φ is made of wedges there, and may keep a crease between two. Up to 2.5 it is smooth."""
TENTH: dict[Any, float] = {Point: 1.0, SHORT: 0.25}  # of the reach; in it is told where skills lead


def pretrained(make: Callable[[Spec], Learner], seed: int, env_steps: int, env: Any = Point) -> State:
    torch.manual_seed(seed)
    env = env(num_envs=8)
    learner = make(Spec.from_env(env))
    learner.generator.manual_seed(seed)
    data = Replay(100_000, 8, gamma=learner.gamma, seed=seed)
    return train(env=env, learner=learner, data=data, schedule=Schedule(env_steps, warmup=1000), seed=seed)


def ends(policy: SkillPolicy, z: Tensor, env: Any = Point) -> np.ndarray:
    """Where each skill's mean action leads to, (R, 2); episodes start at 0."""
    told = rollout(env(num_envs=len(z)), policy, z, seed=0)
    return told.coordinates[np.arange(len(z)), told.length]


def radius(policy: SkillPolicy, z: Tensor, env: Any = Point) -> float:
    return float(np.linalg.norm(ends(policy, z, env), axis=-1).mean()) / TENTH[env]


def angles_agree(policy: SkillPolicy, env: Any = Point) -> float:
    """|E[exp(i(angle of the end ∓ angle of z))]| over 32 z on the circle: 1 if they are the same up to a rotation and a
    reflection, 0 if they have nothing to do with each other."""
    angle = np.arange(32) * (2 * math.pi / 32)
    z = torch.as_tensor(np.stack([np.cos(angle), np.sin(angle)], -1), dtype=torch.float32)
    x, y = ends(policy, z, env).T
    led = np.arctan2(y, x)
    return float(max(abs(np.exp(1j * (led - sign * angle)).mean()) for sign in (1, -1)))


class Aim(Selector):
    """Row i goes for its goal, aimed anew every step."""

    hold = 1

    def __init__(self, policy: Any, goals: Tensor):
        self.policy, self.goals = policy, goals

    def initial(self, n: int) -> Carry:
        return (torch.arange(n),)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        return Selection(self.policy.goal_to_skill(obs, self.goals[carry[0]]), carry)


def goals_reached(policy: Any, env: Any = Point, count: int = 48) -> float:
    """The share of goals all over the disc of 0.9 of the reach to which the point comes within a tenth of it."""
    generator = np.random.default_rng(0)
    angle, far = generator.uniform(0, 2 * math.pi, count), 0.9 * REACH * np.sqrt(generator.uniform(0.05, 1, count))
    goals = TENTH[env] * np.stack([far * np.cos(angle), far * np.sin(angle)], -1)
    aim = Aim(policy, torch.as_tensor(goals, dtype=torch.float32))
    told = rollout(env(num_envs=count), policy, aim, seed=0)
    distance = np.linalg.norm(told.coordinates - goals[:, None], axis=-1)  # (R, T + 1)
    return float((distance.min(1) <= TENTH[env]).mean())


def squared_steps(state: State) -> Tensor:
    """‖φ(s') − φ(s)‖² of 4,096 transitions of the replay."""
    batch = state.data.sample_one(Need("transitions", 4096))
    assert isinstance(batch, Batch)
    with torch.no_grad():
        return state.learner.step_in_phi(batch).square().sum(-1)
