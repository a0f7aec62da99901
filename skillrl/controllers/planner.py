"""Planning with skills: model-predictive path integral control in skill space, as DADS uses its skills.

(Sharma et al. 2020, arXiv:1907.01657, algorithm 2; google-research/dads.) A plan is a few skills in a row, each held
for ``hold`` env steps. Candidates are drawn around the plan's mean, the skills' own model predicts where each leads,
and the mean becomes their average, weighted by exp(γ (R − max R)). R sums −‖part − goal‖ over the predicted steps. The
first skill is used, then the plan moves on by one: it is the selector's carry.

As in the code, candidates have a variance of 1.5 and are cut to [-1, 1], later skills of a plan lean on earlier ones
(``smoothing``), and a new end of the plan is drawn from a standard normal.
"""

import torch
from torch import Generator, Tensor

from skillrl.agents.base import check, check_whole
from skillrl.controllers.base import Controller, goal_and_part
from skillrl.selector import Selector
from skillrl.skill_policy import PredictsNext, SkillPolicy, columns_on
from skillrl.skill_spaces import Box
from skillrl.spec import Carry, Selection, Spec

STD = 1.5**0.5  # google-research/dads, initial covariance of a plan


class Planner(Controller):
    """Goes for the task's goal. It learns nothing: ``downstream.env_steps=0`` goes on to the evaluation.

    Args:
        hold: env steps a skill, in the plan and in the env. horizon: skills a plan.
        candidates: plans tried in each refinement. refinements: of the mean. gamma: how sharply candidates are weighed.
        smoothing: how much of the skill before goes into a later one.
        goal: the part of the task's observation that is the goal. part: what shall become it; the skills predict it.
    """

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        hold: int = 10,
        horizon: int = 1,
        candidates: int = 50,
        refinements: int = 10,
        gamma: float = 10.0,
        smoothing: float = 0.9,
        goal: str = "goal",
        part: str = "xy",
    ):
        super().__init__(spec, skills, hold=hold)
        check_whole("controller", horizon=horizon, candidates=candidates, refinements=refinements)
        check("controller", gamma=(gamma, "(0, inf)"), smoothing=(smoothing, "[0, 1)"))
        if not isinstance(skills, PredictsNext):
            raise ValueError("controller planner needs skills that predict what comes next: dads")
        if not isinstance(skills.space, Box):
            raise ValueError("controller planner needs a Box of skills, to draw plans in")
        where = skills.predict_obs
        self.columns = spec.obs.columns(where)
        self.goal, self.part = goal_and_part(spec, goal, where, part)
        self.horizon, self.candidates, self.refinements = horizon, candidates, refinements
        self.weight, self.smoothing = gamma, smoothing

    def prior(self) -> Selector:
        return Planning(self)

    def refine(self, obs: Tensor, mean: Tensor, generator: Generator) -> Tensor:
        """The plan's mean (B, horizon, dim), made better for whole observations (B, ...)."""
        seen = obs[..., columns_on(self.columns, obs.device)]
        for _ in range(self.refinements):
            shape = (self.candidates, *mean.shape)
            tried = (mean + STD * torch.randn(shape, generator=generator, device=obs.device)).clamp(-1, 1)
            for k in range(1, self.horizon):
                tried[:, :, k] = self.smoothing * tried[:, :, k - 1] + (1 - self.smoothing) * tried[:, :, k]
            value = self.value(seen, obs[..., self.goal], tried)  # (candidates, B)
            weight = (self.weight * (value - value.amax(0))).softmax(0)
            mean = (weight[..., None, None] * tried).sum(0)
        return mean

    def value(self, seen: Tensor, goal: Tensor, plans: Tensor) -> Tensor:
        """−Σ ‖part − goal‖, (candidates, B), of plans (candidates, B, horizon, dim) from ``seen`` (B, ...)."""
        skills = self.skills
        assert isinstance(skills, PredictsNext)
        state = seen.expand(len(plans), *seen.shape)
        value = plans.new_zeros(plans.shape[:2])
        for k in range(self.horizon):
            z = skills.space.project(plans[:, :, k])
            for _ in range(self.hold):
                state = skills.predict(state, z)
                value = value - (state[..., self.part] - goal).norm(dim=-1)
        return value


class Planning(Selector):
    """The controller's side of the option loop. Its carry is each row's plan."""

    def __init__(self, controller: Planner):
        self.controller, self.hold = controller, controller.hold

    def initial(self, n: int) -> Carry:
        controller = self.controller
        device = next(controller.skills.parameters()).device
        return (torch.zeros(n, controller.horizon, controller.skills.space.embed_dim, device=device),)

    @torch.no_grad()
    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        plan = torch.where(first[:, None, None], self.fresh(len(first), generator), carry[0])
        plan = self.controller.refine(obs, plan, generator)
        later = torch.cat([plan[:, 1:], self.fresh(len(first), generator)[:, :1]], 1)
        return Selection(self.controller.skills.space.project(plan[:, 0]), (later,))

    def fresh(self, n: int, generator: Generator) -> Tensor:
        shape = (n, self.controller.horizon, self.controller.skills.space.embed_dim)
        return torch.randn(shape, generator=generator, device=generator.device)
