"""A controller that is an RL agent over decisions: DQN where skills can be counted, SAC where not, PPO for either.

It maximises E[Σ γ^i r_i + γ^k V(s')]: the SMDP of options held for k steps (Sutton, Precup & Singh 1999), with the
agent's own γ per env step.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Generator, Tensor

from skillrl.agents.base import Agent, build
from skillrl.agents.dqn import DQN
from skillrl.controllers.base import Controller
from skillrl.learners.base import Batches
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy, columns_on
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Carry, Metrics, Need, Selection, Spec

NO_SKILL = Discrete(1)  # the controller's own networks are conditioned on nothing


class RL(Controller):
    """Chooses z every ``hold`` env steps and learns from what came of it.

    Args:
        skills: frozen. agent: ``agent(spec, actor=..., critic=...)``, a class or a partial.
        hidden_dims: widths of its networks. obs_view: what it sees of the task; None is all.
        batch_size: decisions an update; of an on-policy agent, the fresh ones that an update waits for.
    """

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        agent: Callable[..., Agent] = DQN,
        hold: int = 10,
        hidden_dims: Sequence[int] = (256, 256),
        obs_view: str | None = None,
        batch_size: int = 128,
    ):
        super().__init__(spec, skills, hold=hold)
        obs = spec.obs.select(obs_view)
        self.columns, self.batch_size = spec.obs.columns(obs), batch_size
        self.team = spec.agents > 1
        if self.team:
            obs = obs.as_one()  # one choice for all of them, by what all of them see
        action = skills.space.action()
        chooser = Spec(obs, action, horizon=spec.horizon)
        self.chooser, self.agent = build(
            agent, chooser, obs=obs, action=action, space=NO_SKILL, hidden_dims=hidden_dims
        )
        self.gamma = self.agent.gamma

    def prior(self) -> Selector:
        return Choosing(self)

    def needs(self) -> dict[str, Need]:
        return {"decisions": self.agent.need("decisions", self.batch_size)}

    def update(self, batches: Batches) -> Metrics:
        batch = batches["decisions"]
        assert isinstance(batch, Batch)
        columns = columns_on(self.columns, batch["obs"].device)
        nothing = torch.zeros_like(batch["duration"])
        seen = batch.replace(
            obs=batch["obs"][..., columns],
            next_obs=batch["next_obs"][..., columns],
            action=batch["choice"],
            z=nothing,
            next_z=nothing,
        )
        if self.team:
            seen = seen.as_one()
        return self.agent.update(seen, self.generator) | {"reward/decision": seen.flat()["reward"].mean()}


class Choosing(Selector):
    """The controller's side of the option loop."""

    def __init__(self, controller: RL):
        self.controller, self.hold = controller, controller.hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        seen = obs[..., columns_on(self.controller.columns, obs.device)]
        seen = seen.flatten(-2) if self.controller.team else seen
        nothing = torch.zeros(len(first), dtype=torch.int64, device=obs.device)
        choice, extras = self.controller.chooser.act(seen, nothing, deterministic=deterministic, generator=generator)
        return Selection(self.controller.skills.space.project(choice), extras={"choice": choice, **extras})
