"""Planning in skill space: a plan's value by hand, the mean's average, and goals reached where the model is right."""

import pytest
import torch
from torch import Tensor

from envs.goal import PointGoal
from skillrl.controllers.planner import Planner
from skillrl.distributions import TanhNormal
from skillrl.evaluation.rollouts import rollout
from skillrl.skill_policy import ActorPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Field, Spec

SPEC = Spec.from_env(PointGoal(num_envs=1))
XY = SPEC.obs.select("xy")


class Straight(ActorPolicy):
    """Skills that go along z, with a model that is right, or by ``sign`` −1 wrong."""

    def __init__(self, sign: float = 1.0, space: Box | Discrete = Box(2)):
        super().__init__(obs=XY, action=SPEC.action, space=space, hidden_dims=[4])
        self.predict_obs, self.sign = XY, sign
        self.actor.forward = lambda obs, z: TanhNormal(torch.atanh(0.99 * z), torch.full_like(z, -9.0))

    def predict(self, obs: Tensor, z: Tensor) -> Tensor:
        return obs + self.sign * 0.2 * z / z.norm(dim=-1, keepdim=True).clamp(min=1)


def test_the_value_of_a_plan_by_hand():
    """From 0 along x for 2 steps, then along y for 2; the goal is at (1, 0)."""
    planner = Planner(SPEC, Straight(), hold=2, horizon=2, candidates=1)
    plan = torch.tensor([[[[1.0, 0.0], [0.0, 1.0]]]])  # (candidates, B, horizon, dim)
    value = planner.value(torch.zeros(1, 2), torch.tensor([[1.0, 0.0]]), plan)
    wanted = -(0.8 + 0.6 + (0.6**2 + 0.2**2) ** 0.5 + (0.6**2 + 0.4**2) ** 0.5)
    assert value.item() == pytest.approx(wanted)


def test_the_mean_becomes_the_weighted_average_of_what_was_tried():
    planner = Planner(SPEC, Straight(), hold=1, candidates=3, refinements=1, gamma=2.0)
    tried: list[Tensor] = []
    planner.value = lambda seen, goal, plans: (tried.append(plans), torch.tensor([[0.0], [-1.0], [-3.0]]))[1]
    mean = planner.refine(torch.zeros(1, 4), torch.zeros(1, 1, 2), torch.Generator().manual_seed(0))
    weight = torch.tensor([0.0, -2.0, -6.0]).exp()
    torch.testing.assert_close(mean, ((weight / weight.sum())[:, None, None, None] * tried[0]).sum(0))


def test_later_skills_lean_on_earlier_ones_and_stay_in_the_box():
    planner = Planner(SPEC, Straight(), hold=1, horizon=3, candidates=500, refinements=1, smoothing=0.9)
    tried: list[Tensor] = []
    planner.value = lambda seen, goal, plans: (tried.append(plans), plans.new_zeros(plans.shape[:2]))[1]
    planner.refine(torch.zeros(1, 4), torch.zeros(1, 3, 2), torch.Generator().manual_seed(0))
    step = (tried[0][:, :, 1:] - tried[0][:, :, :-1]).abs()
    assert tried[0].abs().max() <= 1 and step.max() <= 0.1 * 2 + 1e-6


@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_goals_are_reached_where_the_model_is_right_and_missed_where_it_is_wrong(sign: float):
    env = PointGoal(num_envs=16)
    planner = Planner(SPEC, Straight(sign), hold=5)
    told = rollout(env, planner.behaviour(), planner.prior(), seed=0)
    assert (told.returns == (1 if sign > 0 else 0)).all()


def test_what_cannot_be_planned_with_is_refused_in_one_line():
    blind = ActorPolicy(obs=XY, action=SPEC.action, space=Box(2), hidden_dims=[4])
    with pytest.raises(ValueError, match="needs skills that predict what comes next"):
        Planner(SPEC, blind)
    with pytest.raises(ValueError, match="needs a Box of skills"):
        Planner(SPEC, Straight(space=Discrete(2)))
    with pytest.raises(ValueError, match=r"controller\.part is 'z': these skills know xy"):
        Planner(SPEC, Straight(), part="z")
    narrow = Spec(Field((3,), names={"xy": (0, 2), "goal": (2, 3)}), SPEC.action, horizon=50)
    with pytest.raises(ValueError, match="is not as wide"):
        Planner(narrow, Straight())
