"""What every controller shares: it is a Learner whose behaviour is somebody's skills and whose prior is itself."""

from torch import nn

from skillrl.learners.base import Learner
from skillrl.skill_policy import SkillPolicy, freeze
from skillrl.spec import Field, Spec


class Controller(Learner):
    """Chooses z for frozen ``skills`` on the task of ``spec``.

    The skills are used, not owned: they are neither trained nor saved with the controller. They act by their mode, as
    they will when the controller is evaluated; what explores is the choice among them.
    """

    deterministic = True

    def __init__(self, spec: Spec, skills: SkillPolicy, *, hold: int):
        super().__init__(spec)
        if not isinstance(hold, int) or hold < 1:
            raise ValueError(f"controller.hold is {hold!r}: a decision lasts at least 1 env step")
        spec.obs.columns(skills.obs)  # refuses skills of another observation
        if skills.action != spec.action:
            raise ValueError(f"these skills act with {skills.action}, the task wants {spec.action}")
        self.hold = hold
        self._skills = (freeze(skills),)  # in a tuple, so that nn.Module does not count it among its own

    @property
    def skills(self) -> SkillPolicy:
        return self._skills[0]

    def behaviour(self) -> SkillPolicy:
        return self.skills

    def _apply(self, fn, recurse: bool = True) -> nn.Module:  # type: ignore[no-untyped-def]
        """Moves to a device together with its skills."""
        self.skills._apply(fn, recurse)
        return super()._apply(fn, recurse)


def goal_and_part(spec: Spec, goal: str, where: Field, part: str) -> tuple[slice, slice]:
    """Columns of the task's observation that are the goal, and those of ``where``, which the skills know, that shall
    become it. Errors: ValueError that names ``controller.goal`` or ``controller.part``."""
    if part not in where.names:
        raise ValueError(f"controller.part is {part!r}: these skills know {', '.join(where.names) or 'no parts'}")
    wanted, known = slice(*spec.obs.names[spec.obs.parts(goal)[0]]), slice(*where.names[part])
    if wanted.stop - wanted.start != known.stop - known.start:
        raise ValueError(f"controller.goal {goal!r} is not as wide as controller.part {part!r}")
    return wanted, known
