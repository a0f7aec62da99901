"""An actor and a critic that learn from imagined states alone (DreamerV2, Hafner et al. 2021, arXiv:2010.02193).

    V(s_t) → R_t = r_t + γ_t ((1 − λ) V'(s_{t+1}) + λ R_{t+1}),  R_H = V'(s_H);   the actor climbs R along the dynamics

r_t is paid for being in s_t, V' is a copy of V that is renewed now and then, and γ_t is 0 where s_t is an end. It is no
``Agent``: those learn from batches of a replay, this one from states with the gradient of what led to them.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from skillrl.agents.dqn import copy_where
from skillrl.layers import mlp
from skillrl.optim import Adam, descend, frozen_copy
from skillrl.spec import Metrics

EPS = 1e-5  # Adam's, in DreamerV2 and in Choreographer's code


class ImaginedValue(nn.Module):
    """V of the states that a policy imagines, with its slow copy and its optimiser.

    Args:
        in_dim, hidden_dims: of the critic, (..., in_dim) → (...).
        gamma, trace: γ and λ. target_every: updates after which the slow copy is renewed.
        lr, max_grad_norm, weight_decay: Adam's.
    """

    def __init__(
        self,
        in_dim: int,
        hidden_dims: Sequence[int],
        *,
        gamma: float,
        trace: float,
        target_every: int,
        lr: float,
        max_grad_norm: float,
        weight_decay: float,
    ):
        super().__init__()
        self.critic = nn.Sequential(mlp(in_dim, hidden_dims, 1, nn.ELU), nn.Flatten(-2))
        self.slow_critic = frozen_copy(self.critic)
        self.gamma, self.trace, self.target_every = gamma, trace, target_every
        self.max_grad_norm, self.weight_decay = max_grad_norm, weight_decay
        self.optimizer = Adam(self.critic.parameters(), lr, EPS)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def returns(self, inputs: Tensor, reward: Tensor, goes_on: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """R (H, N), and how much each state counts (H, N), less where an end is likely to have come before.

        inputs (H + 1, N, in_dim), reward (H + 1, N), goes_on (H + 1, N): the probability that a state is no end.
        """
        value = self.slow_critic(inputs)
        discount = torch.full_like(value, self.gamma) if goes_on is None else self.gamma * goes_on
        weight = torch.cat([torch.ones_like(discount[:1]), discount[:-1]]).cumprod(0)
        return lambda_returns(reward, value, discount, self.trace), weight[:-1].detach()

    def advantage(self, inputs: Tensor, returns: Tensor) -> Tensor:
        """How much better than expected it went after each choice, (H − 1, N), without gradient."""
        return (returns[1:] - self.slow_critic(inputs[:-2])).detach()

    def fit(self, inputs: Tensor, returns: Tensor, weight: Tensor) -> Metrics:
        """One step of V towards the returns, then perhaps of its slow copy."""
        value = self.critic(inputs[:-1].detach())
        loss = 0.5 * (weight * (value - returns.detach()).square()).mean()
        descend(self.optimizer, loss, max_norm=self.max_grad_norm, weight_decay=self.weight_decay)
        copy_where(self.get_buffer("updates") % self.target_every == 0, self.slow_critic, self.critic)
        self.get_buffer("updates").add_(1)
        return {"critic/loss": loss.detach(), "critic/value": value.detach().mean()}


class Climber(nn.Module):
    """Climbs imagined returns by the gradient of the dynamics.

    Args:
        actor: called with states and z, gives a distribution with an ``entropy``. value: its own.
        entropy: weight of the actor's. momentum: of the running size by which rewards are divided; 1: they are not.
        lr: of the actor; the rest is as the value's.
    """

    size: Tensor

    def __init__(self, actor: nn.Module, value: ImaginedValue, *, entropy: float, momentum: float, lr: float):
        super().__init__()
        self._actor = (actor,)  # it is its policy's
        self.value, self.entropy, self.momentum = value, entropy, momentum
        self.optimizer = Adam(actor.parameters(), lr, EPS)
        self.register_buffer("size", torch.ones(()))

    def update(self, feat: Tensor, z: Tensor, inputs: Tensor, reward: Tensor) -> Metrics:
        """One step of the actor, one of the critic.

        feat (H + 1, N, feat_dim) and reward (H + 1, N) with the gradient of the actions; z (N, ...) held throughout;
        inputs (H + 1, N, in_dim): what the critic reads.
        """
        self.size.mul_(self.momentum).add_((1 - self.momentum) * reward.detach().abs().mean())
        returns, weight = self.value.returns(inputs, reward / (self.size + 1e-8))
        policy = self._actor[0](feat[:-2].detach(), z.expand(len(feat) - 2, *z.shape))
        entropy = policy.entropy()  # (H − 1, N)
        loss = -(weight[:-1] * (returns[1:] + self.entropy * entropy)).mean()
        metrics = {"actor/return": returns.detach().mean(), "actor/entropy": entropy.detach().mean()}
        limits = {"max_norm": self.value.max_grad_norm, "weight_decay": self.value.weight_decay}
        descend(self.optimizer, loss, **limits)
        return metrics | self.value.fit(inputs, returns, weight)


def lambda_returns(reward: Tensor, value: Tensor, discount: Tensor, trace: float) -> Tensor:
    """R_0 to R_{H−1}, (H, N), of the module's formula; all three (H + 1, N)."""
    ahead, returns = value[-1], list[Tensor]()
    for t in range(len(reward) - 2, -1, -1):
        ahead = reward[t] + discount[t] * torch.lerp(value[t + 1], ahead, trace)
        returns.append(ahead)
    return torch.stack(returns[::-1])
