"""DUSDi: disentangled unsupervised skill discovery (Hu et al. 2024, arXiv:2410.11251).

Objective: max Σ_i I(S^i; Z^i) − λ I(S^¬i; Z^i): factor i of a skill moves factor i of the state, and no other. The
reward is a vector, one channel a factor,

    r_i = log q_i(z^i | s'^i) − log p(z^i)  −  λ (log q_¬i(z^i | s'^¬i) − log p(z^i))

and so is the critic, Q = Σ_i Q_i: each channel is taught by its own reward alone, which is what makes many factors
learnable at once (the paper's Q decomposition).

What differs from the paper or its code (JiahengHu/DUSDi), and why:
- As in the code: λ is 0 unless asked for; q_i is not fitted, and pays nothing, in the first steps of a skill, when the
  state is still the last one's; the entropy bonus has a channel of its own.
- The code's critic with "state masks" weighs all inputs alike: it is one network a channel, each of which sees
  everything, as here. Its networks have a layer more, with LayerNorm.
- Of two critics the one of the lower sum is taken, whole; the code takes the minimum channel by channel.
- The code turns λ on after 1M env steps; here it is what it is.
- Alike for all: plain MLPs instead of the code's LayerNorm trunk; log-deviations are clamped and not squashed.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.layers import mlp
from skillrl.learners.base import RewardLearner
from skillrl.networks import FactoredCritic
from skillrl.optim import Adam, descend
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import MultiDiscrete
from skillrl.spec import Batch, Field, Metrics, Spec

PAPER_AGENT = partial(SAC, tau=0.01, lr=1e-4, alpha=0.3)  # JiahengHu/DUSDi, agent/dusdi_diayn.yaml, of its particles


class Discriminators(nn.Module):
    """One q_i(z^i | s^i) a factor of the skill, each of which sees its own columns alone."""

    def __init__(self, columns: Sequence[Sequence[int]], hidden_dims: Sequence[int], n: int):
        super().__init__()
        self.columns = [list(own) for own in columns]
        self.nets = nn.ModuleList(mlp(len(own), hidden_dims, n) for own in self.columns)

    def forward(self, obs: Tensor) -> Tensor:
        """Log-probabilities (B, factors, n)."""
        seen = [obs.float()[..., columns_on(own, obs.device)] for own in self.columns]
        return torch.stack([net(one) for net, one in zip(self.nets, seen, strict=True)], -2).log_softmax(-1)

    def log_prob(self, obs: Tensor, z: Tensor) -> Tensor:
        """log q_i(z^i | s^i) of each factor, (B, factors)."""
        return self(obs).gather(-1, z.unsqueeze(-1)).squeeze(-1)


class DUSDiPolicy(ActorPolicy):
    """The skills with the discriminators that taught them: ``InfersSkills``, by q(z | s) = Π_i q_i(z^i | s^i).

    factors: the columns of ``posterior_obs`` that each factor of the skill is told by.
    """

    def __init__(
        self,
        *,
        space: MultiDiscrete,
        hidden_dims: Sequence[int],
        posterior_obs: Field,
        factors: Sequence[Sequence[int]],
        **rest: Any,
    ):
        own: dict[str, Any] = {"posterior_obs": posterior_obs, "factors": [list(columns) for columns in factors]}
        super().__init__(space=space, hidden_dims=hidden_dims, **own, **rest)
        self.posterior_obs = posterior_obs
        self.discriminators = Discriminators(factors, hidden_dims, space.n)

    def log_posterior(self, obs: Tensor, z: Tensor | None = None) -> Tensor:
        """log q(z | s), (B,); without z, of all combinations, (B, count)."""
        if z is not None:
            return self.discriminators.log_prob(obs, z).sum(-1)
        if self.space.count is None:
            raise ValueError("these skills cannot be counted: say of which z the posterior is wanted")
        every = self.space.enumerate().to(obs.device)  # (count, factors)
        return self.discriminators(obs)[:, torch.arange(every.shape[1], device=obs.device), every].sum(-1)


class DUSDi(RewardLearner):
    """Skills of several factors, each of which moves its own part of the state.

    Args:
        skill_space: a choice of n for each factor.
        factors: the view or part of the observation that each factor of a skill is told by, in order; None: the
            observation's columns in order, cut into as many pieces as there are factors.
        anti_coef: λ, what is paid for hiding a factor of the skill from all other factors of the state.
        settle_steps: env steps of a skill which count for nothing.
        discriminator_lr: Adam's. hidden_dims: widths of discriminators and of each channel of the critic too.
    """

    policy: DUSDiPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: MultiDiscrete = MultiDiscrete(n=5, factors=2),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        factors: Sequence[str] | None = None,
        anti_coef: float = 0.0,
        settle_steps: int = 10,
        discriminator_lr: float = 1e-4,
        batch_size: int = 1024,
        hold: int | None = 50,
    ):
        check("learner", anti_coef=(anti_coef, "[0, inf)"), settle_steps=(settle_steps, "[0, inf)"))
        if not isinstance(skill_space, MultiDiscrete):
            raise ValueError(f"learner.skill_space is {type(skill_space).__name__}: DUSDi's is a MultiDiscrete")
        if settle_steps >= (spec.horizon if hold is None else hold):
            raise ValueError(f"learner.settle_steps is {settle_steps}: a skill is not held for longer than that")
        own = columns_of(spec.obs, factors, skill_space.factors)
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=hold,
            critic=FactoredCritic,
            policy_class=DUSDiPolicy,
            posterior_obs=spec.obs,
            factors=own,
        )
        if not isinstance(self.kept_critic(), FactoredCritic):
            raise ValueError("learner dusdi needs an agent whose critic has a channel for each factor: take agent sac")
        self.log_chance = -math.log(skill_space.n)
        self.anti_coef, self.settle_steps = anti_coef, settle_steps
        self.anti = Discriminators(others(own), hidden_dims, skill_space.n) if anti_coef > 0 else None
        parameters = list(self.policy.discriminators.parameters())
        parameters += [] if self.anti is None else list(self.anti.parameters())
        self.discriminator_optimizer = Adam(parameters, discriminator_lr)

    def settled(self, batch: Batch) -> Tensor:
        """1 where the skill has had its ``settle_steps``, else 0: (B, 1)."""
        return (batch["skill_step"] >= self.settle_steps).float().unsqueeze(-1)

    def fit(self, batch: Batch) -> Metrics:
        """Cross-entropy of every discriminator, summed."""
        next_obs, z, counts = batch["next_obs"], batch["z"], self.settled(batch)
        share = counts / counts.sum().clamp(min=1)
        log_q = self.policy.discriminators(next_obs)  # (B, factors, n)
        loss = -(share * log_q.gather(-1, z.unsqueeze(-1)).squeeze(-1)).sum()
        if self.anti is not None:
            loss = loss - (share * self.anti.log_prob(next_obs, z)).sum()
        descend(self.discriminator_optimizer, loss)
        right = (share * (log_q.argmax(-1) == z)).sum(0)  # (factors,)
        return {"discriminator/loss": loss.detach()} | {
            f"discriminator/accuracy_{i}": accuracy for i, accuracy in enumerate(right)
        }

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """One channel a factor, (B, factors): at most log n each."""
        reward = self.policy.discriminators.log_prob(batch["next_obs"], batch["z"]) - self.log_chance
        if self.anti is not None:
            reward = reward - self.anti_coef * (self.anti.log_prob(batch["next_obs"], batch["z"]) - self.log_chance)
        return reward * self.settled(batch)


def columns_of(obs: Field, factors: Sequence[str] | None, count: int) -> list[list[int]]:
    """The columns of ``obs`` by which each of ``count`` factors is told. Errors: ValueError of one line."""
    if factors is None:
        if obs.dim < count:
            raise ValueError(f"learner.skill_space.factors is {count}: the observation has {obs.dim} columns only")
        return [piece.tolist() for piece in np.array_split(range(obs.dim), count)]
    if isinstance(factors, str) or len(factors) != count:
        raise ValueError(f"learner.factors is {factors!r}: it must list a view for each of {count} skill_space.factors")
    found = [obs.columns(obs.select(view)) for view in factors]
    return [list(range(obs.dim)) if columns is None else columns for columns in found]


def others(own: Sequence[Sequence[int]]) -> list[list[int]]:
    """For each factor the columns of all other factors. Errors: ValueError where a factor has no others."""
    rest = [sorted({c for columns in own for c in columns} - set(columns)) for columns in own]
    if not all(rest):
        raise ValueError("learner.anti_coef is above 0: each factor needs columns that are not its own")
    return rest
