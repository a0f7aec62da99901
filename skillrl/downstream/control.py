"""Control: a controller chooses among frozen skills."""

from collections.abc import Callable

from torch import Tensor

from skillrl.downstream.base import Use
from skillrl.learners.base import Learner
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Spec
from skillrl.training import Schedule


class Control(Use):
    """A controller chooses among frozen skills.

    Args:
        env_steps: budget in primitive steps. warmup, collect, updates, overlap: as in pretraining.
        capacity: of the replay, in env steps.
    """

    name, folder = "control", "controller"

    def __init__(
        self,
        *,
        env_steps: int = 100_000,
        warmup: int = 1_000,
        collect: int = 8,
        updates: int = 1,
        overlap: bool = False,
        capacity: int = 1_000_000,
    ):
        self.schedule = Schedule(env_steps, warmup, collect, updates, overlap)
        self.capacity = capacity

    def learner(
        self,
        spec: Spec,
        skills: SkillPolicy,
        controller: Callable[..., Learner] | None,
        critic: Callable[[], dict[str, Tensor]],
    ) -> Learner:
        """The controller over ``skills`` on the task of ``spec``."""
        if controller is None:
            raise ValueError("downstream=control needs a controller: add controller=dqn, sac or random")
        return controller(spec, skills)
