"""Deep Q-network (Mnih et al. 2015, Nature 518), with the loss and the order of Stable-Baselines3.

    Q(s, a, z)  →  r + γ^k (1 − terminated) max_a' Q'(s', a', z),   Q' a copy of Q that is renewed now and then

Differs from the paper as Stable-Baselines3 does: Adam in place of RMSProp, gradients clipped by their norm. An ensemble
(of one, by default) is read as its minimum; ``double_q`` is van Hasselt et al. 2016 (arXiv:1509.06461).
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.networks import Critic, DiscreteCritic, EpsilonGreedy, ValueActor
from skillrl.optim import Adam, descend, frozen_copy
from skillrl.skill_policy import SkillPolicy, ValuePolicy
from skillrl.spec import Batch, Discrete, Metrics, Spec


class DQN(Agent):
    """Args:
    actor: ε-greedy on ``critic``; its ε is annealed here.
    critic: (obs, z) → (ensemble, B, n).
    gamma: discount of one env step; the batch arrives with γ^k · (1 − terminated) in ``discount``.
    lr: of Adam.
    target_every: updates between two copies of the critic into its target.
    double_q: the critic itself chooses the action that its target values.
    max_grad_norm: gradients are scaled down to this norm.
    epsilon_final: where ε, which starts at 1, ends.
    epsilon_updates: after that many updates, linearly.
    """

    policy_class = ValuePolicy
    policy_arguments = MappingProxyType({"actor": ValueActor})
    updates: Tensor

    @classmethod
    def critic_of(cls, policy: SkillPolicy, make: Callable[..., Critic], hidden_dims: Sequence[int]) -> nn.Module:
        """The policy's own, which it acts by."""
        actor = getattr(policy, "actor", None)
        if not isinstance(actor, EpsilonGreedy):
            raise ValueError(
                "agent dqn needs a policy that acts by its values, this learner has another: take sac or ppo"
            )
        return actor.critic

    def __init__(
        self,
        spec: Spec,
        *,
        actor: EpsilonGreedy,
        critic: DiscreteCritic,
        gamma: float = 0.99,
        lr: float = 1e-4,
        target_every: int = 10_000,
        double_q: bool = False,
        max_grad_norm: float = 10.0,
        epsilon_final: float = 0.05,
        epsilon_updates: int = 250_000,
    ):
        super().__init__(spec)
        if not isinstance(spec.action, Discrete):
            raise ValueError("agent dqn needs a discrete action, this one is a box: take agent sac")
        check("agent", gamma=(gamma, "[0, 1]"), lr=(lr, "(0, inf)"), max_grad_norm=(max_grad_norm, "(0, inf)"))
        check("agent", epsilon_final=(epsilon_final, "[0, 1]"))
        check_whole("agent", target_every=target_every, epsilon_updates=epsilon_updates)
        self.gamma, self.target_every, self.double_q, self.max_grad_norm = gamma, target_every, double_q, max_grad_norm
        self.epsilon_final, self.epsilon_updates = epsilon_final, epsilon_updates
        self.actor, self.critic, self.target_critic = actor, critic, frozen_copy(critic)
        self.optimizer = Adam(critic.parameters(), lr)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def update(self, batch: Batch, generator: Generator | None = None) -> Metrics:
        """One step of the critic on obs, action, reward, next_obs, discount, z, next_z; then its target and ε."""
        loss, q = self.critic_loss(batch)
        descend(self.optimizer, loss, max_norm=self.max_grad_norm)
        self.updates += 1
        copy_where(self.updates % self.target_every == 0, self.target_critic, self.critic)
        progress = (self.updates / self.epsilon_updates).clamp(max=1)
        self.actor.epsilon.copy_(1 + progress * (self.epsilon_final - 1))
        return {
            "critic/loss": loss.detach(),
            "critic/q": q.detach().mean(),
            "actor/epsilon": self.actor.epsilon.clone(),
        }

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """r + discount · max_a' Q'(s', a'), (B,)."""
        next_obs, next_z = batch["next_obs"], batch.get("next_z", batch["z"])
        values = self.target_critic(next_obs, next_z).amin(0)  # (B, n)
        chooser = self.critic(next_obs, next_z).amin(0) if self.double_q else values
        best = chooser.argmax(-1, keepdim=True)  # (B, 1)
        return batch["reward"] + batch["discount"] * values.gather(-1, best).squeeze(-1)

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Huber's loss to the target, summed over the ensemble; and Q of the actions taken, (ensemble, B)."""
        target = self.target(batch)
        values = self.critic(batch["obs"], batch["z"])  # (ensemble, B, n)
        q = torch.take_along_dim(values, batch["action"].unsqueeze(-1)[None], -1).squeeze(-1)
        return len(q) * F.smooth_l1_loss(q, target.expand_as(q)), q


@torch.no_grad()
def copy_where(due: Tensor, target: nn.Module, source: nn.Module) -> None:
    """target ← source if ``due`` (a 0-d bool), without asking the device which it is."""
    for old, new in zip(target.parameters(), source.parameters()):
        old.copy_(torch.where(due, new, old))
