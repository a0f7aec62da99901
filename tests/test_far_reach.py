"""What SkillBlender learns: a far reach takes both driving and reaching; neither alone gets there, nor do its twins."""

import functools
from contextlib import closing
from functools import partial
from typing import Any

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


ARMS = {  # what is blended, how, and the success that is asked of it
    "both": ((ArmDrive, ArmReach), Blend, ">= 0.8"),
    "drive": ((ArmDrive,), Blend, "<= 0.2"),
    "reach": ((ArmReach,), Blend, "<= 0.2"),
    "cut": ((ArmDrive, ArmReach), Cut, "<= 0.2"),
    "lots": ((ArmDrive, ArmReach), Lots, "< 0.8"),
}
REACH = {ArmDrive: 2.0, ArmReach: 0.7}


@pytest.mark.learning(
    "skillrl/controllers/skill_blender.py",
    "skillrl/composition/blending.py",
    "skillrl/agents/ppo.py",
    "envs/arm_goals.py",
    "envs/mobile_arm.py",
)
@pytest.mark.parametrize("arm", ARMS)
def test_far_reach_takes_both_skills(arm: str, seed: int, check: Any, learnt: Any, monkeypatch: pytest.MonkeyPatch):
    makes, kind, gate = ARMS[arm]
    monkeypatch.setattr("skillrl.controllers.skill_blender.Blend", kind)
    first, *others = [learnt(make, seed) for make in makes]
    torch.manual_seed(seed)
    with closing(ArmFarReach(num_envs=64)) as env, closing(ArmFarReach(num_envs=96)) as test:
        learner = SkillBlender(
            Spec.from_env(env),
            load(first),
            primitives=others,
            ranges=[REACH[make] for make in makes],
            agent=partial(PPO, lr=1e-3, gamma=0.9, gae_lambda=0.97, n_epochs=5, minibatch_size=256),
            hidden_dims=(64, 64),
            critic_dims=(64, 64),
            batch_size=1024,
        )
        taught(learner, env, 210_000, seed)
        episodes = rollout(test, learner.behaviour(), learner.prior(), seed=1000 + seed)
    assert episodes.success is not None
    check({"success": (float(episodes.success.mean()), gate)})
