"""Goals without learning: z is the skill that leads along φ(goal) − φ(s), as METRA, LSD and CSF reach goals.

(Park et al. 2022, arXiv:2202.00914; 2024, arXiv:2310.08887; Zheng et al. 2024, arXiv:2412.08021.) The goal is the
present observation with one part exchanged, so that what is not asked for stays as it is.
"""

import torch
from torch import Generator, Tensor

from skillrl.controllers.base import Controller, goal_and_part
from skillrl.selector import Selector
from skillrl.skill_policy import ReachesGoals, SkillPolicy, columns_on
from skillrl.spec import Carry, Selection, Spec


class ZeroShot(Controller):
    """Aims anew every ``hold`` env steps. It learns nothing: ``downstream.env_steps=0`` goes on to the evaluation.

    Args:
        hold: 1 re-aims at every step, as the papers do.
        goal: the part of the task's observation that is the goal.
        part: the part of the observation that shall become it.
    """

    def __init__(self, spec: Spec, skills: SkillPolicy, *, hold: int = 1, goal: str = "goal", part: str = "xy"):
        super().__init__(spec, skills, hold=hold)
        if not isinstance(skills, ReachesGoals):
            raise ValueError("controller zero_shot needs skills that know the way to a goal: metra, csf, hilp, …")
        where = skills.goal_obs
        self.columns = spec.obs.columns(where)
        self.goal, self.part = goal_and_part(spec, goal, where, part)

    def prior(self) -> Selector:
        return Aiming(self)

    def aim(self, obs: Tensor) -> Tensor:
        """Of whole observations (B, ...): z (B, ...)."""
        seen = obs[..., columns_on(self.columns, obs.device)]
        goal = seen.clone()
        goal[..., self.part] = obs[..., self.goal]
        skills = self.skills
        assert isinstance(skills, ReachesGoals)
        return skills.goal_to_skill(seen, goal)


class Aiming(Selector):
    """The controller's side of the option loop."""

    def __init__(self, controller: ZeroShot):
        self.controller, self.hold = controller, controller.hold

    @torch.no_grad()
    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        return Selection(self.controller.aim(obs))
