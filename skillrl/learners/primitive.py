"""The env's own actions as skills: z is the action. Nothing to learn, everything to choose.

Under a controller with ``hold=k`` this is action repeat, with ``hold=1`` it is flat RL: the two baselines that any
hierarchy must beat, through the same code.
"""

from typing import Any

from torch import Generator, Tensor

from skillrl.learners.base import Learner
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Carry, Field, Spec
from skillrl.spec import Discrete as DiscreteAction


class PrimitivePolicy(SkillPolicy):
    """act(obs, z) = z; of a team z holds the actions of all agents, one after the other."""

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return (z.unflatten(-1, self.action.shape) if isinstance(self.action, Field) else z), {}


class Primitive(Learner):
    """A skill for every primitive action. It has no needs, so training it collects and learns nothing."""

    def __init__(self, spec: Spec):
        super().__init__(spec)
        action = spec.action
        space: Any = Discrete(action.n) if isinstance(action, DiscreteAction) else Box(action.as_one().dim)
        self.policy = PrimitivePolicy(obs=spec.obs, action=action, space=space)
