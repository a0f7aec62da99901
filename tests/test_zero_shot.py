"""Zero-shot goals: z points from where the body is to the goal, and skills that know no way are refused."""

import pytest
import torch
from torch import nn

from envs.goal import PointGoal
from skillrl.controllers.zero_shot import ZeroShot
from skillrl.distributions import TanhNormal
from skillrl.evaluation.rollouts import rollout
from skillrl.skill_policy import ActorPolicy, DirectedPolicy
from skillrl.skill_spaces import Sphere
from skillrl.spec import Field, Spec

SPEC = Spec.from_env(PointGoal(num_envs=1))


def straight() -> DirectedPolicy:
    """Skills that go along z, and a φ that is the plane itself."""
    policy = DirectedPolicy(
        obs=SPEC.obs.select("xy"),
        action=SPEC.action,
        space=Sphere(2),
        hidden_dims=[4],
        encoder_obs=SPEC.obs.select("xy"),
    )
    policy.encoder = nn.Identity()
    policy.actor.forward = lambda obs, z: TanhNormal(5 * z, torch.full_like(z, -5.0))
    return policy


def test_z_points_at_the_goal():
    controller = ZeroShot(SPEC, straight())
    obs = torch.tensor([[1.0, 1.0, 4.0, 5.0], [0.0, 0.0, 0.0, -2.0]])  # xy, goal
    torch.testing.assert_close(controller.aim(obs), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


def test_straight_skills_reach_every_goal_without_learning():
    env = PointGoal(num_envs=16)
    controller = ZeroShot(SPEC, straight())
    told = rollout(env, controller.behaviour(), controller.prior(), seed=0)
    assert (told.returns == 1).all()


def test_what_cannot_be_aimed_is_refused_in_one_line():
    xy = SPEC.obs.select("xy")
    blind = ActorPolicy(obs=xy, action=SPEC.action, space=Sphere(2), hidden_dims=[4])
    with pytest.raises(ValueError, match="needs skills that know the way to a goal"):
        ZeroShot(SPEC, blind)
    with pytest.raises(ValueError, match=r"controller\.part is 'z': these skills know xy"):
        ZeroShot(SPEC, straight(), part="z")
    with pytest.raises(ValueError, match="'nowhere' is not known to this env"):
        ZeroShot(SPEC, straight(), goal="nowhere")
    narrow = Spec(Field((3,), names={"xy": (0, 2), "goal": (2, 3)}), SPEC.action, horizon=50)
    with pytest.raises(ValueError, match="is not as wide"):
        ZeroShot(narrow, straight())
