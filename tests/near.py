"""To be near a place on the point env: skills from imagination and the choice among them, for two test files."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from envs.point import COVERAGE, VIEWS, Point, PointTask
from envs.vector import BatchedEnv
from skillrl.controllers.imagined import Imagined
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.choreographer import Choreographer, ChoreographerPolicy
from skillrl.learners.primitive import Primitive
from skillrl.models.timeline import timeline
from skillrl.selector import Prior
from skillrl.skill_spaces import Codebook
from skillrl.spec import Batch, Spec
from skillrl.training import Schedule, train

SKILLS: dict[str, Any] = {"hidden_dims": (64, 64), "deter": 64, "stoch": 8, "classes": 8, "hidden": 64}
SKILLS |= {"model_lr": 1e-3, "lr": 2e-3, "batch_size": 16, "length": 12, "starts": 64}
SKILLS |= {"neighbours": 8, "target_every": 10, "resample_every": 20}
CHOICE: dict[str, Any] = {"hidden_dims": (64, 64), "model_lr": 1e-3, "batch_size": 32, "length": 12}
CHOICE |= {"starts": 128, "entropy": 3e-3, "random_steps": 500}


class NearTask(PointTask):
    """Pays for being near ``place``: 1 for each step that ends within ``radius`` of it and nothing elsewhere; without
    a radius 1 there, 0.6 at a distance of 1, and ever less."""

    def __init__(self, place: tuple[float, float], radius: float | None, **settings: Any):
        super().__init__(**settings)
        self.place, self.radius = np.array(place), radius

    def reward(self, before: Any, now: Any, control: np.ndarray, dt: float) -> np.ndarray:
        distance = np.linalg.norm(now["xy"] - self.place, axis=-1)
        return np.exp(-np.square(distance) / 2) if self.radius is None else (distance < self.radius).astype(np.float64)


class PointNear(BatchedEnv):
    def __init__(self, num_envs: int, place: tuple[float, float], radius: float | None, **size: Any):
        facts: dict[str, Any] = {"observe": ["xy"], "views": VIEWS, "coverage": COVERAGE, "record": []}
        task, horizon = NearTask(place, radius, **size), size["horizon"]
        super().__init__(task, num_envs=num_envs, workers=0, horizon=horizon, dtype="float32", **facts)


class Wanderer(Primitive):
    """Random actions, each held for ``hold`` steps."""

    def __init__(self, spec: Spec, hold: int):
        super().__init__(spec)
        self.hold = hold

    def prior(self) -> Prior:
        return Prior(self.policy.space, hold=self.hold)


@dataclass(frozen=True)
class NearTraining:
    """How skills are pretrained on such a point env, and how the choice among them is learnt.

    size: step_radius and horizon of the env. radius: of a place; see ``NearTask``.
    codes: how many there are.
    held: env steps of each of the random actions that skills are learnt from.
    updates: of model, codes and skills.
    env_steps: of the task. per_round: updates after each 16 of them.
    skills, choice: what else both are given.
    """

    size: dict[str, Any]
    radius: float | None
    codes: int
    held: int
    updates: int
    env_steps: int
    per_round: int
    skills: dict[str, Any]
    choice: dict[str, Any]

    def env(self, num_envs: int, place: tuple[float, float]) -> PointNear:
        return PointNear(num_envs, place, self.radius, **self.size)

    def learner(self, seed: int) -> Choreographer:
        torch.manual_seed(seed)
        spec = Spec.from_env(Point(num_envs=1, **self.size))
        return Choreographer(spec, skill_space=Codebook(self.codes), **(SKILLS | self.skills))

    def fresh(self, seed: int) -> ChoreographerPolicy:
        """The same architecture, which has learnt nothing."""
        return self.learner(seed).policy

    def wandered(self, seed: int) -> Replay:
        env = Point(num_envs=8, **self.size)
        learner = Wanderer(Spec.from_env(env), self.held)
        data = Replay(20_000, 8, seed=seed)
        train(env=env, learner=learner, data=data, schedule=Schedule(6000, collect=8, updates=0), seed=seed)
        return data

    def pretrained(self, seed: int) -> ChoreographerPolicy:
        """Model, codes and skills, from data alone."""
        data = self.wandered(seed)
        learner = self.learner(seed)
        learner.generator.manual_seed(seed)
        for _ in range(self.updates):
            batch = data.sample(learner.needs())["sequences"]
            assert isinstance(batch, Batch)
            states, _, _ = learner.fit_model(timeline(batch))
            learner.fit_codes(states.deter.flatten(0, 1))
            learner.learn_skills(learner.some(states))
            learner.get_buffer("updates").add_(1)
            learner.maintain(0)
        return learner.policy

    def adapted(
        self, seed: int, skills: ChoreographerPolicy, place: tuple[float, float], *, frozen: bool = False
    ) -> Imagined:
        env = self.env(8, place)
        held = {"random_hold": self.size["horizon"]}
        learner = Imagined(Spec.from_env(env), skills, frozen=frozen, **(CHOICE | held | self.choice))
        learner.generator.manual_seed(seed)
        data = Replay(20_000, 8, gamma=learner.gamma, seed=seed)
        schedule = Schedule(self.env_steps, warmup=500, collect=16, updates=self.per_round)
        train(env=env, learner=learner, data=data, schedule=schedule, seed=seed)
        return learner

    def returned(self, learner: Imagined, place: tuple[float, float], seed: int) -> float:
        env = self.env(16, place)
        return float(rollout(env, learner.behaviour(), learner.prior(), seed=seed).returns.mean())
