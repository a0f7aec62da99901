"""A controller over frozen skills: what explores is the choice among them, and nothing else differs from its use."""

import pytest
import torch

from envs.goal import PointGoal
from envs.point import Point
from skillrl.controllers.rl import RL
from skillrl.data.replay import Replay
from skillrl.evaluation.rollouts import rollout
from skillrl.learners.diayn import DIAYN
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Discrete
from skillrl.spec import Spec
from skillrl.training import Schedule, train


class Told(ActorPolicy):
    """Keeps what it was asked for."""

    asked: list[bool]

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        self.asked.append(deterministic)
        return super().act(obs, z, carry, deterministic=deterministic, generator=generator)


def told_by(spec: Spec) -> Told:
    policy = Told(obs=spec.obs.select("xy"), action=spec.action, space=Discrete(8), hidden_dims=[8])
    policy.asked = []
    return policy


def test_frozen_skills_act_in_control_as_they_do_when_it_is_evaluated():
    env = PointGoal(num_envs=4)
    spec = Spec.from_env(env)
    skills = told_by(spec)
    controller = RL(spec, skills, hold=5, hidden_dims=[8])
    train(env=env, learner=controller, data=Replay(1000, 4, gamma=0.99), schedule=Schedule(400, collect=8))
    assert len(skills.asked) == 100 and all(skills.asked)


def test_a_skill_that_is_being_learnt_is_sampled():
    env = Point(num_envs=4)
    learner = DIAYN(Spec.from_env(env), skill_space=Discrete(8), hidden_dims=[8])
    learner.policy = told_by(learner.spec)
    train(env=env, learner=learner, data=Replay(1000, 4, gamma=0.99), schedule=Schedule(40, warmup=1000))
    assert len(learner.policy.asked) == 10 and not any(learner.policy.asked)


@pytest.mark.parametrize("greedy", [False, True])
def test_the_choice_explores_in_training_alone(greedy: bool):
    env = PointGoal(num_envs=64)
    spec = Spec.from_env(env)
    skills = told_by(spec)
    controller = RL(spec, skills, hold=1, hidden_dims=[8])
    torch.manual_seed(0)
    z = rollout(env, skills, controller.prior(), seed=0, deterministic=greedy).z[:, 0]
    assert (len(set(z.tolist())) == 8) == (not greedy)
