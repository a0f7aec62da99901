"""Skills and the env's own actions in one space, so that a controller can choose either.

Options beside primitives (Sutton, Precup & Singh 1999, section 3): a skill lasts as long as its controller holds it, an
action one env step, since it stops for sure. Values of both kinds are backed up over the steps that they lasted,
r_1 + … + γ^{k−1} r_k + γ^k max Q, so that they can be weighed against each other.
"""

import torch
from torch import Generator, Tensor

from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Discrete
from skillrl.spec import Carry
from skillrl.spec import Discrete as DiscreteAction


class Mixed(SkillPolicy):
    """z below the number of skills is that skill; above it, an action: of a box, one end of an axis."""

    actions: Tensor

    def __init__(self, skills: SkillPolicy):
        count = skills.space.count
        if not isinstance(skills.space, Discrete) or count is None:
            raise ValueError("controller mixed needs skills that can be counted, these are not")
        if isinstance(skills.action, DiscreteAction):
            actions = torch.arange(skills.action.n)
        else:
            ends = torch.eye(skills.action.dim)
            actions = torch.cat([ends, -ends])  # (2 · dim, dim)
        super().__init__(obs=skills.obs, action=skills.action, space=Discrete(count + len(actions)))
        self.skills, self.count = skills, count
        self.register_buffer("actions", actions)

    def initial(self, n: int) -> Carry:
        return self.skills.initial(n)

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        return self.skills.observe(obs, prev_action, first, carry)

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        skill = z.clamp(max=self.count - 1)
        by_skill, _ = self.skills.act(obs, skill, carry, deterministic=deterministic, generator=generator)
        action = self.actions[(z - self.count).clamp(min=0)]
        is_skill = (z < self.count).reshape(-1, *[1] * (action.dim() - 1))
        return torch.where(is_skill, by_skill, action), {}

    def stop(self, obs: Tensor, z: Tensor, skill_step: Tensor) -> Tensor:
        """1 for an action; for a skill its own, or 0."""
        ends = self.skills.stop(obs, z.clamp(max=self.count - 1), skill_step)
        ends = torch.zeros(len(z), device=z.device) if ends is None else ends
        return torch.where(z < self.count, ends, torch.ones_like(ends))
