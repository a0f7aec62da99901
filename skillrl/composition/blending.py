"""Several frozen skills act at once: each is told what to do, and their actions are averaged joint by joint.

SkillBlender (Kuang et al. 2025, arXiv:2506.09366): with a command c_i and a vector w_i of weights for each skill,

    a = Σ_i W_i ⊙ μ_i(s, c_i),    W = softmax of w over the skills, for each joint by itself
"""

from collections.abc import Sequence

import torch
from torch import Generator, Tensor

from skillrl.skill_library import load
from skillrl.skill_policy import SkillPolicy, columns_on
from skillrl.skill_spaces import Gaussian
from skillrl.spec import Carry, Discrete, Field

WEIGHTS = ("joint", "skill")


def gathered(first: SkillPolicy, paths: Sequence[str]) -> list[SkillPolicy]:
    """The skills that a controller was handed, and those of its ``primitives``, folders of runs or of skills.

    Errors: ValueError that names ``controller.primitives[i]``.
    """
    found = [first]
    for i, path in enumerate(paths):
        try:
            found.append(load(path))
        except ValueError as error:
            raise ValueError(f"controller.primitives[{i}]: {error}") from error
    return found


class Commanded:
    """One skill, and what it can be told: the part ``goal`` of what it observes, and its z where there is any.

    A command is (..., dim), clamped to [-1, 1]; a goal is that times ``reach``, z what its space makes of it.

    Args:
        name: of the skills in messages. reach: the largest entry of a goal, in the goal's own units.
    """

    def __init__(self, skills: SkillPolicy, *, name: str, goal: str, reach: float):
        self.skills, self.reach = skills, reach
        start, stop = skills.obs.names.get(goal, (0, 0))
        self.goal, self.goal_dim = slice(start, stop), stop - start
        choice = Field((0,)) if skills.space.count == 1 else skills.space.action()
        if isinstance(choice, Discrete) or isinstance(skills.action, Discrete):
            raise ValueError(f"{name}: blending needs skills of a box action, and of a continuous z or of one z")
        if skills.initial(1) or type(skills).dist is SkillPolicy.dist:
            raise ValueError(f"{name}: blending needs skills that give a distribution of actions, without memory")
        self.dim = self.goal_dim + choice.dim
        if self.dim == 0:
            raise ValueError(f"{name}: blending needs skills that can be told something, by {goal!r} or by z")

    @property
    def seen(self) -> Field:
        """What it observes beside its goal, by name."""
        names = self.skills.obs.names
        others = [part for part in names if slice(*names[part]) != self.goal]
        return self.skills.obs if not names or not self.goal_dim else named(self.skills.obs, others)

    def mode(self, seen: Tensor, command: Tensor) -> Tensor:
        """seen (..., d) of ``seen``, command (..., dim) → its most likely action (..., A)."""
        goal, choice = command.clamp(-1, 1).split([self.goal_dim, self.dim - self.goal_dim], -1)
        at = self.goal.start
        obs = torch.cat([seen[..., :at], self.reach * goal, seen[..., at:]], -1)
        nothing = torch.zeros(seen.shape[:-1], dtype=torch.int64, device=seen.device)
        return self.skills.dist(obs, self.skills.space.project(choice) if choice.shape[-1] else nothing).mode()


def named(obs: Field, parts: Sequence[str]) -> Field:
    """Of ``obs``, the columns of ``parts`` alone, in order."""
    return Field((obs.dim,), obs.dtype, obs.names, {"kept": tuple(parts)}).select("kept")


class Blend(SkillPolicy):
    """Skills as one: z (..., commands of all, then weights) says what each is told and how much it counts.

    It observes all that any of them does, but for their goals. Its action is their average, without noise.

    Args:
        skills: each with its command. weights: "joint", one for each action; "skill", one for all of a skill's.
    """

    def __init__(self, skills: Sequence[Commanded], *, weights: str):
        if weights not in WEIGHTS:
            raise ValueError(f"controller.weights is {weights!r}: it can be {', '.join(WEIGHTS)}")
        first, joints = skills[0].skills, 1
        for i, other in enumerate(skills):
            if other.skills.action != first.action:
                raise ValueError(f"skill {i} acts with {other.skills.action}, the first with {first.action}")
        if weights == "joint":
            assert isinstance(first.action, Field)
            joints = first.action.dim
        self.shape = (len(skills), joints)
        self.widths = [*(one.dim for one in skills), len(skills) * joints]
        super().__init__(obs=union([one.seen for one in skills]), action=first.action, space=Gaussian(sum(self.widths)))
        self.commanded = tuple(skills)
        self.parts = torch.nn.ModuleList(one.skills for one in skills)
        self.columns = [self.obs.columns(one.seen) for one in skills]

    def shares(self, z: Tensor) -> Tensor:
        """z (..., dim) → W (..., skills, joints), or (..., skills, 1); over the skills it sums to 1."""
        return z[..., -self.widths[-1] :].unflatten(-1, self.shape).softmax(-2)

    def mean(self, obs: Tensor, z: Tensor) -> Tensor:
        """The average action (..., A), not yet in the box; differentiable in obs and z."""
        *commands, _ = z.split(self.widths, -1)
        told = zip(self.commanded, self.columns, commands, strict=True)
        modes = [one.mode(obs[..., columns_on(columns, obs.device)], command) for one, columns, command in told]
        return (self.shares(z) * torch.stack(modes, -2)).sum(-2)

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        return self.mean(obs, z).clamp(-1, 1), {}


def union(fields: Sequence[Field]) -> Field:
    """All parts of all of them, each once, one after the other; without names they must be alike.

    Errors: ValueError where a part is of two widths, or some have names and others none.
    """
    if not any(field.names for field in fields):
        if any(field.shape != fields[0].shape for field in fields):
            raise ValueError(f"skills of observations {[field.shape for field in fields]} cannot be blended")
        return fields[0]
    names: dict[str, tuple[int, int]] = {}
    stop = 0
    for field in fields:
        if not field.names:
            raise ValueError("skills whose observation has no named parts cannot be blended with others")
        for part, (a, b) in field.names.items():
            if part not in names:
                names[part], stop = (stop, stop + b - a), stop + b - a
            elif names[part][1] - names[part][0] != b - a:
                raise ValueError(f"observation part {part!r} is {b - a} wide for one of the skills, not for another")
    return Field((stop,), fields[0].dtype, names)
