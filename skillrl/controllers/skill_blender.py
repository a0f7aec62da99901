"""SkillBlender (Kuang et al. 2025, arXiv:2506.09366): one network tells every skill what to do, and how much it counts.

    a ~ N(Σ_i W_i ⊙ μ_i(s, g_i), σ²),    (g, w) = f(s),    W = softmax of w over the skills, for each joint by itself

The skills are frozen; PPO climbs the task's reward, and its gradient reaches f through them. f decides at every env
step, and the noise is on the blended action. With ``weights: skill`` a skill has one weight for all joints, as in MCP
(Peng et al. 2019, arXiv:1905.09808; there each skill's precision weighs in as well).

What differs from the released code (Humanoid-SkillBlender), and why:
- A goal is clamped in units of its range, there in its own: the range then does not change how fast it is learnt.
- PPO's step size is constant; there it follows the KL divergence. Networks are this project's (tanh), there ELU.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from skillrl.agents.base import Agent
from skillrl.agents.ppo import PPO
from skillrl.composition.blending import Blend, Commanded, gathered
from skillrl.controllers.base import Controller
from skillrl.distributions import DiagonalNormal
from skillrl.learners.base import Batches
from skillrl.networks import OnPolicyActor, Value
from skillrl.selector import Prior, Selector
from skillrl.skill_policy import ActorPolicy, SkillPolicy, columns_on
from skillrl.skill_spaces import Discrete, SkillSpace
from skillrl.spec import Batch, Field, Metrics, Need, Spec

PAPER_AGENT = partial(
    PPO, gamma=0.994, gae_lambda=0.9, n_epochs=2, minibatch_size=1024, ent_coef=1e-3, vf_coef=1.0, max_grad_norm=1.0
)
NOTHING = Discrete(1)  # the blended policy is no choice of anything


class BlendingActor(OnPolicyActor):
    """f, and the frozen blend behind it: obs → a normal around the blended action, of one deviation for all states."""

    log_std: nn.Parameter

    def __init__(self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int], *, blend: Blend):
        super().__init__(obs, Field((blend.space.embed_dim,)), space, hidden_dims)
        self.log_std = nn.Parameter(torch.zeros(action.dim))
        self.columns = obs.columns(blend.obs)
        self._blend = (blend,)  # in a tuple, so that nn.Module does not count it among its own

    def tells(self, obs: Tensor) -> Tensor:
        """f: (..., dim), a z of the blend."""
        return self.net(obs.float())

    def forward(self, obs: Tensor, z: Tensor) -> DiagonalNormal:
        seen = obs[..., columns_on(self.columns, obs.device)].float()
        mean = self._blend[0].mean(seen, self.tells(obs))
        return DiagonalNormal(mean, self.log_std.expand_as(mean))


class SkillBlender(Controller):
    """Acts by a blend of ``skills`` and further ones, and learns how to blend.

    Args:
        skills: the run's own, frozen. primitives: folders of the others, each a run or its skills.
        goal: the part of what a skill observes that is its goal, which f gives; what has a continuous z is told that.
        ranges: of each skill, ``skills`` first: the largest entry of its goal, in the goal's units; or one for all.
        weights: "joint", for each action by itself; "skill", one for all actions.
        agent: PPO, or a partial of it. hidden_dims: widths of f. critic_dims: of V.
        batch_size: fresh env steps an update.
    """

    deterministic = False  # what explores is the noise on the blended action

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        primitives: Sequence[str] = (),
        goal: str = "goal",
        ranges: Sequence[float] = (1.0,),
        weights: str = "joint",
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (512, 256, 128),
        critic_dims: Sequence[int] = (768, 256, 128),
        batch_size: int = 4096,
    ):
        spec.obs.columns(skills.obs)  # the run's own act on the task by themselves too, when they are evaluated
        parts = gathered(skills, primitives)
        reach = checked(ranges, len(parts))
        names = ["skills", *(f"controller.primitives[{i}]" for i in range(len(primitives)))]
        told = [Commanded(one, name=name, goal=goal, reach=r) for one, name, r in zip(parts, names, reach, strict=True)]
        blend = Blend(told, weights=weights)
        super().__init__(spec, blend, hold=1)
        if not issubclass(getattr(agent, "func", agent), PPO):  # type: ignore[arg-type]
            raise ValueError("controller.agent must be ppo: the noise is on the blended action, and not f's own")
        self.blended = ActorPolicy(
            obs=spec.obs,
            action=spec.action,
            space=NOTHING,
            hidden_dims=hidden_dims,
            actor=partial(BlendingActor, blend=blend),  # type: ignore[arg-type]  # never saved, so no class
        )
        self.batch_size = batch_size
        self.agent = agent(spec, actor=self.blended.actor, critic=Value(spec.obs, NOTHING, critic_dims))
        self.gamma = self.agent.gamma

    def behaviour(self) -> SkillPolicy:
        return self.blended

    def prior(self) -> Selector:
        return Prior(NOTHING)

    def needs(self) -> dict[str, Need]:
        return {"steps": self.agent.need("transitions", self.batch_size)}

    def update(self, batches: Batches) -> Metrics:
        batch = batches["steps"]
        assert isinstance(batch, Batch)
        metrics = self.agent.update(batch, self.generator)
        return metrics | {"reward/task": batch.flat()["reward"].mean()}


def checked(ranges: Sequence[float], count: int) -> list[float]:
    """One for each skill. Errors: ValueError that names ``controller.ranges``."""
    if len(ranges) not in (1, count):
        raise ValueError(f"controller.ranges has {len(ranges)} numbers for {count} skills: give one each, or one")
    for i, value in enumerate(ranges):
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < float("inf"):
            raise ValueError(f"controller.ranges[{i}] is {value!r}: it must be a number above 0")
    return [float(value) for value in ranges] * (count if len(ranges) == 1 else 1)
