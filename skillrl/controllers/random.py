"""Skills by chance: the baseline that every controller must beat."""

from skillrl.controllers.base import Controller
from skillrl.selector import Prior, Selector
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec


class Random(Controller):
    """A fresh z from the prior every ``hold`` env steps."""

    def __init__(self, spec: Spec, skills: SkillPolicy, *, hold: int = 10):
        super().__init__(spec, skills, hold=hold)

    def prior(self) -> Selector:
        return Prior(self.skills.space, hold=self.hold)
