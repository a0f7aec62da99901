"""Zero-shot goals: z points from where the body is to the goal, and skills that know no way are refused."""

import pytest
import torch
from torch import Tensor, nn

from envs.goal import PointGoal
from skillrl.controllers.zero_shot import ZeroShot
from skillrl.distributions import TanhNormal
from skillrl.evaluation.rollouts import rollout
from skillrl.skill_policy import ActorPolicy, DirectedPolicy
from skillrl.skill_spaces import Sphere
from skillrl.spec import Field, Spec

SPEC = Spec.from_env(PointGoal(num_envs=1))
AHEAD = torch.eye(2)
ASIDE = torch.tensor([[0.9, 0.44], [-0.44, 0.9]])  # a turn by 26 degrees


def straight(turn: Tensor = AHEAD) -> DirectedPolicy:
    """Skills that go along z, turned, and a φ that is the plane itself."""
    policy = DirectedPolicy(
        obs=SPEC.obs.select("xy"),
        action=SPEC.action,
        space=Sphere(2),
        hidden_dims=[4],
        encoder_obs=SPEC.obs.select("xy"),
    )
    policy.encoder = nn.Identity()
    policy.actor.forward = lambda obs, z: TanhNormal(torch.atanh(0.9 * z @ turn), torch.full_like(z, -5.0))
    return policy


def test_z_points_at_the_goal():
    controller = ZeroShot(SPEC, straight())
    obs = torch.tensor([[1.0, 1.0, 4.0, 5.0], [0.0, 0.0, 0.0, -2.0]])  # xy, goal
    torch.testing.assert_close(controller.aim(obs), torch.tensor([[0.6, 0.8], [0.0, -1.0]]))


@pytest.mark.parametrize("hold", [1, 5])
def test_straight_skills_reach_every_goal_without_learning(hold: int):
    """Held, an aim still lasts no longer than the goal is wide."""
    env = PointGoal(num_envs=16)
    controller = ZeroShot(SPEC, straight(), hold=hold)
    told = rollout(env, controller.behaviour(), controller.prior(), seed=0)
    assert (told.returns == 1).all()


def test_an_aim_is_held():
    """Skills that go past: aimed anew at each step they turn round, held they are gone for the rest of the episode."""
    reached = []
    for hold in (1, 50):
        controller = ZeroShot(SPEC, straight(ASIDE), hold=hold)
        told = rollout(PointGoal(num_envs=16, distance=6.0), controller.behaviour(), controller.prior(), seed=0)
        reached.append(float(told.returns.mean()))
    assert reached == [1.0, 0.0]


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
