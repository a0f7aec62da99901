"""MASD: skill discovery of coordination in multi-agent reinforcement learning (He et al. 2020, arXiv:2006.04021).

Objective: max I(Z; S^1, …, S^N) − λ/N Σ_i I(Z; S^i): a skill shows in what all agents do together, and in none of them
alone. Every agent of the team is paid the same,

    r = log q(z | s'^1, …, s'^N)  −  λ/N Σ_i log q_i(z | s'^i)  −  (1 − λ) log p(z)

q and each q_i are fitted by cross-entropy. Since the policy climbs against the q_i, they are its adversaries: the
information bottleneck. Without it (λ = 0) this is DIAYN of the team's state, where one agent may say it all and the
others do nothing.

All agents act by the same z, each by what it sees itself; the critic sees what all of them see and do (``TeamCritic``).

What differs from the paper, of which no code was released, and why:
- Agents share the parameters of their actor, which can tell them apart by what they see (an env's part ``id``, at the
  least); the critic has a value for each.
- λ, learning rates and widths are not the paper's, which we could not check: the agent is SAC as in its own paper.
  With λ = 1 a single agent that says it all still earns (1 − 1/N) log K, and policies stay there; with λ = N nothing.
- The q_i have ELUs, since rectifiers die while there is nothing to learn, and then an adversary is none.
- As in DIAYN here, reward and discriminators take s', which the action brought about.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.layers import mlp
from skillrl.learners.base import RewardLearner
from skillrl.optim import Adam, descend
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Field, Metrics, Spec


class MASDPolicy(ActorPolicy):
    """The team's skills with the joint discriminator q(z | s^1, …, s^N): ``InfersSkills``."""

    def __init__(self, *, space: Discrete, hidden_dims: Sequence[int], posterior_obs: Field, **rest: Any):
        super().__init__(space=space, hidden_dims=hidden_dims, posterior_obs=posterior_obs, **rest)
        self.posterior_obs = posterior_obs
        self.discriminator = mlp(posterior_obs.as_one().dim, hidden_dims, space.n)

    def log_posterior(self, obs: Tensor, z: Tensor | None = None) -> Tensor:
        """obs (B, agents, d) → log q(z | obs), (B,); without z, of all K, (B, K)."""
        log_q = self.discriminator(obs.float().flatten(-2)).log_softmax(-1)
        return log_q if z is None else log_q.gather(-1, z.unsqueeze(-1)).squeeze(-1)


class MASD(RewardLearner):
    """Skills of a team, one z for all of it.

    Args:
        skill_space: K skills, uniformly.
        state_view: what of each agent's observation is its state, for the discriminators: something of its own, such as
            xy. What it sees of others would tell of them. None is all of it.
        bottleneck: λ; N agents make what one of them tells worthless at λ = N.
        discriminator_lr: Adam's, of all discriminators. hidden_dims: widths of them too.
    """

    teams = True
    policy: MASDPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Discrete = Discrete(8),
        agent: Callable[..., Agent] = SAC,
        hidden_dims: Sequence[int] = (256, 256),
        policy_view: str | None = None,
        state_view: str | None = "xy",
        bottleneck: float = 1.0,
        discriminator_lr: float = 3e-4,
        batch_size: int = 256,
        hold: int | None = None,
    ):
        if spec.agents < 2:
            raise ValueError("learner masd needs a team of at least 2 agents, this env has 1: take diayn")
        if not isinstance(skill_space, Discrete):
            raise ValueError(f"learner.skill_space is {type(skill_space).__name__}: MASD's is Discrete")
        check("learner", bottleneck=(bottleneck, "[0, inf)"), discriminator_lr=(discriminator_lr, "(0, inf)"))
        seen = spec.obs.select(state_view)
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=hold,
            policy_class=MASDPolicy,
            posterior_obs=seen,
        )
        self.skill_space, self.bottleneck = skill_space, bottleneck
        self.state_columns = spec.obs.columns(seen)
        self.alone = nn.ModuleList(mlp(seen.dim, hidden_dims, skill_space.n, nn.ELU) for _ in range(spec.agents))
        parameters = [*self.policy.discriminator.parameters(), *self.alone.parameters()]
        self.discriminator_optimizer = Adam(parameters, discriminator_lr)

    def seen(self, obs: Tensor) -> Tensor:
        """The agents' states (B, agents, d), of their whole observations."""
        return obs[..., columns_on(self.state_columns, obs.device)]

    def log_q_alone(self, obs: Tensor) -> Tensor:
        """log q_i(· | s^i) of each agent by its own state, (B, agents, K), of whole observations."""
        states = self.seen(obs).float().unbind(-2)
        return torch.stack([net(own) for net, own in zip(self.alone, states, strict=True)], -2).log_softmax(-1)

    def fit(self, batch: Batch) -> Metrics:
        """The cross-entropy of the joint discriminator and of every agent's, each of its own network."""
        next_obs, z = batch["next_obs"], batch["z"]
        log_q, alone = self.policy.log_posterior(self.seen(next_obs)), self.log_q_alone(next_obs)
        told = z.unsqueeze(-1).expand(alone.shape[:-1])  # (B, agents)
        loss = F.nll_loss(log_q, z)
        loss_alone = -alone.gather(-1, told.unsqueeze(-1)).mean((0, 2))  # (agents,)
        descend(self.discriminator_optimizer, loss + loss_alone.sum())
        return {
            "discriminator/loss": loss.detach(),
            "discriminator/accuracy": (log_q.argmax(-1) == z).float().mean(),
            "discriminator/accuracy_alone": (alone.argmax(-1) == told).float().mean(),
        }

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """Each agent's, (B, agents), all the same: log K at most, where nobody alone says more than chance."""
        next_obs, z = batch["next_obs"], batch["z"]
        together = self.policy.log_posterior(self.seen(next_obs), z)  # (B,)
        alone = self.log_q_alone(next_obs)
        told = z[:, None, None].expand(*alone.shape[:-1], 1)
        leak = alone.gather(-1, told).squeeze(-1).mean(-1)  # (B,)
        reward = together - self.bottleneck * leak - (1 - self.bottleneck) * self.skill_space.log_prob(z)
        return reward.unsqueeze(-1).expand(alone.shape[:-1])
