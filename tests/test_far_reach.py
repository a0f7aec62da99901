"""What SkillBlender learns: a far reach takes both driving and reaching; neither alone gets there, nor do its twins."""

import functools
from contextlib import closing
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from envs.arm_goals import ArmDrive, ArmFarReach, ArmReach
from skillrl.agents.ppo import PPO
from skillrl.composition.blending import Blend
from skillrl.controllers.skill_blender import SkillBlender
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.flat import Flat
from skillrl.skill_library import load, save
from skillrl.spec import Spec
from skillrl.training import Schedule, train


class Cut(Blend):
    """Twin: no gradient passes through the skills, so that only the weights are learnt."""

    def mean(self, obs: Tensor, z: Tensor) -> Tensor:
        commands, weights = z.split([sum(self.widths[:-1]), self.widths[-1]], -1)
        return super().mean(obs, torch.cat([commands.detach(), weights], -1))


class Lots(Blend):
    """Twin: a skill's weight in each joint is drawn once, and not learnt."""

    def __init__(self, *given: Any, **settings: Any):
        super().__init__(*given, **settings)
        self.lot = torch.randn(self.shape).softmax(-2)

    def shares(self, z: Tensor) -> Tensor:
        return self.lot.expand(*z.shape[:-1], *self.shape)


class Turns(Blend):
    """Twin: one skill after the other. The heaviest has all of the weight; its gradient is the softmax's
    (straight-through, Bengio et al. 2013, arXiv:1308.3432)."""

    def shares(self, z: Tensor) -> Tensor:
        soft = super().shares(z)
        heaviest = torch.zeros_like(soft).scatter_(-2, soft.argmax(-2, keepdim=True), 1.0)
        return heaviest + soft - soft.detach()


class Counted(ArmFarReach):
    """Keeps the mean square of the actions of each step."""

    def __init__(self, **given: Any):
        super().__init__(**given)
        self.squares: list[float] = []

    def step_async(self, action: np.ndarray, active: np.ndarray | None = None) -> None:
        self.squares.append(float(np.square(action).mean()))
        super().step_async(action, active)


@pytest.fixture(scope="module")
def learnt(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """(primitive, seed) → the folder of its skills, learnt once."""

    @functools.cache
    def folder(make: Any, seed: int) -> str:
        torch.manual_seed(seed)
        with closing(make(num_envs=64)) as env:
            agent = partial(PPO, lr=3e-3, gamma=0.97, n_epochs=5, minibatch_size=256)
            learner = Flat(Spec.from_env(env), agent=agent, hidden_dims=(64, 64), batch_size=1024)
            taught(learner, env, 96_000, seed)
        return str(save(learner.policy, tmp_path_factory.mktemp(make.__name__)))

    return folder


def taught(learner: Any, env: Any, steps: int, seed: int) -> None:
    learner.generator.manual_seed(seed)
    data = Replay(20_000, env.num_envs, gamma=learner.gamma, seed=seed)
    train(env=env, learner=learner, data=data, schedule=Schedule(steps, collect=env.num_envs), seed=seed)


BOTH = {ArmDrive: 2.0, ArmReach: 0.7}  # primitives, each with the largest entry of its goal
ARMS = {  # what is blended, how, by which weights, and the success that is asked of it
    "both": (BOTH, Blend, "joint", ">= 0.8"),
    "drive": ({ArmDrive: 2.0}, Blend, "joint", "<= 0.2"),
    "reach": ({ArmReach: 0.7}, Blend, "joint", "<= 0.2"),
    "cut": (BOTH, Cut, "joint", "<= 0.2"),
    "lots": (BOTH, Lots, "joint", "< 0.8"),
    "turns": (BOTH, Turns, "skill", "< 0.9"),
}
AGENT = partial(PPO, lr=1e-3, gamma=0.9, gae_lambda=0.97, n_epochs=5, minibatch_size=256)
FILES = (
    "skillrl/controllers/skill_blender.py",
    "skillrl/composition/blending.py",
    "skillrl/agents/ppo.py",
    "envs/arm_goals.py",
    "envs/mobile_arm.py",
)


@pytest.fixture
def blender(learnt: Any, monkeypatch: pytest.MonkeyPatch) -> Any:
    """(spec, ranges, kind, weights, seed) → a SkillBlender that has learnt nothing yet."""

    def made(spec: Spec, ranges: dict[Any, float], kind: type[Blend], weights: str, seed: int) -> SkillBlender:
        monkeypatch.setattr("skillrl.controllers.skill_blender.Blend", kind)
        first, *others = [learnt(make, seed) for make in ranges]
        torch.manual_seed(seed)
        return SkillBlender(
            spec,
            load(first),
            primitives=others,
            ranges=list(ranges.values()),
            weights=weights,
            agent=AGENT,
            hidden_dims=(64, 64),
            critic_dims=(64, 64),
            batch_size=1024,
        )

    return made


def measured(make: Any, seed: int) -> dict[str, float]:
    """What ``make(spec)`` has learnt of the far reach: success, and the mean of its squared actions."""
    torch.manual_seed(seed)
    with closing(ArmFarReach(num_envs=64)) as env, closing(Counted(num_envs=96)) as test:
        learner = make(Spec.from_env(env))
        taught(learner, env, 210_000, seed)
        episodes = rollout(test, learner.behaviour(), learner.prior(), seed=1000 + seed)
    assert episodes.success is not None
    return {"success": float(episodes.success.mean()), "mean squared action": float(np.mean(test.squares))}


@pytest.mark.learning(*FILES)
@pytest.mark.parametrize("arm", ARMS)
def test_far_reach_takes_both_skills(arm: str, seed: int, check: Any, blender: Any):
    ranges, kind, weights, gate = ARMS[arm]
    found = measured(lambda spec: blender(spec, ranges, kind, weights, seed), seed)
    check({"success": (found["success"], gate)})


@pytest.mark.proof
def test_far_reach_by_other_means(seed: int, check: Any, blender: Any):
    """One weight a skill, and PPO without skills, get there as well; at what effort is measured beside it."""
    makes = {
        "by joint": lambda spec: blender(spec, BOTH, Blend, "joint", seed),
        "by skill": lambda spec: blender(spec, BOTH, Blend, "skill", seed),
        "flat PPO": lambda spec: Flat(spec, agent=AGENT, hidden_dims=(64, 64), batch_size=1024),
    }
    found = {arm: measured(make, seed) for arm, make in makes.items()}
    gates = {"success": ">= 0.8", "mean squared action": "< 0.7"}  # or most actions are at the edge of their box
    check({f"{name}, {arm}": (value, gates[name]) for arm, of_arm in found.items() for name, value in of_arm.items()})
