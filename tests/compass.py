"""Skills of the point env whose numbers are known."""

import math

import torch

from envs.point import Point
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Discrete
from skillrl.spec import Spec


class Compass(SkillPolicy):
    """Skill i walks at full speed in direction i."""

    def act(self, obs, z, carry=(), *, deterministic=False, generator=None):
        angle = z.float() * 2 * math.pi / self.space.n
        return torch.stack([angle.cos(), angle.sin()], -1), {}


def compass(n=8, env=None):
    spec = Spec.from_env(env or Point(num_envs=1))
    return Compass(obs=spec.obs, action=spec.action, space=Discrete(n))
