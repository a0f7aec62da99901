"""Soft actor-critic (Haarnoja et al. 2018, arXiv:1812.05905), with the losses and the order of Stable-Baselines3.

    π maximises  E[ Σ γ^t (r_t + α H(π(·|s_t, z))) ],  α such that the entropy stays at its target

What is more than there: z conditions everything; the critic may have channels (successor features, one value a
factor), whose ``reduce`` says what is climbed; ``entropy_in_target=False`` leaves the entropy bonus to the actor alone.
A critic with an ``entropy_channel`` sums the bonus there, so that the other channels stay each its own reward's.
Leading axes are free: (B,), or (B, A) for agents that share parameters.
"""

import math

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check
from skillrl.networks import Critic
from skillrl.optim import Adam, descend, frozen_copy, polyak
from skillrl.spec import Batch, Discrete, Metrics, Spec


class SAC(Agent):
    """Args:
    actor: (obs, z) → a distribution that can be reparametrised.
    critic: (obs, z, action) → (ensemble, B, C), with ``reduce``.
    gamma: discount of one env step; the batch arrives with γ^k · (1 − terminated) in ``discount``.
    tau: rate of the target network.
    lr: of Adam, for actor, critic and alpha.
    alpha: the temperature; None tunes it so that the entropy meets its target.
    alpha_init, alpha_min: where the tuned temperature starts, and the floor under it.
    target_entropy_multiplier: the target is minus this many nats per action dimension.
    entropy_in_target: whether the critic's target pays for entropy: in its only channel, or in the one kept for it.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        actor: nn.Module,
        critic: Critic,
        gamma: float = 0.99,
        tau: float = 0.005,
        lr: float = 3e-4,
        alpha: float | None = None,
        alpha_init: float = 1.0,
        alpha_min: float = 0.0,
        target_entropy_multiplier: float = 1.0,
        entropy_in_target: bool = True,
    ):
        super().__init__(spec)
        if isinstance(spec.action, Discrete):
            raise ValueError("agent sac needs a box action, this one is discrete: take agent dqn")
        check("agent", gamma=(gamma, "[0, 1]"), tau=(tau, "(0, 1]"), lr=(lr, "(0, inf)"))
        check("agent", alpha=(0.0 if alpha is None else alpha, "[0, inf)"), alpha_min=(alpha_min, "[0, inf)"))
        check("agent", alpha_init=(alpha_init, f"[{alpha_min}, inf)" if alpha_min > 0 else "(0, inf)"))
        check("agent", target_entropy_multiplier=(target_entropy_multiplier, "(-inf, inf)"))
        channels = critic.channels
        self.entropy_channel = getattr(critic, "entropy_channel", False)
        if entropy_in_target and channels > 1 and not self.entropy_channel:
            raise ValueError(f"agent.entropy_in_target is true, the critic has {channels} channels: set it to false")
        self.gamma, self.tau, self.entropy_in_target = gamma, tau, entropy_in_target
        self.actor, self.critic, self.target_critic = actor, critic, frozen_copy(critic)
        self.actor_optimizer = Adam(actor.parameters(), lr)
        self.critic_optimizer = Adam(critic.parameters(), lr)

        self.tuned = alpha is None
        self.log_alpha = nn.Parameter(torch.tensor(alpha_init if alpha is None else alpha).log(), self.tuned)
        self.log_alpha_min = math.log(alpha_min) if alpha_min > 0 else -math.inf
        self.target_entropy = -target_entropy_multiplier * spec.action.dim
        self.alpha_optimizer = Adam([self.log_alpha], lr) if self.tuned else None

    def update(self, batch: Batch, generator: Generator | None = None) -> Metrics:
        """One step of alpha, critic, actor and target on obs, action, reward, next_obs, discount, z, next_z."""
        alpha = self.log_alpha.detach().exp()  # from before its step, for both losses
        action, log_prob = self.actor(batch["obs"], batch["z"]).sample(generator)
        metrics = self.update_alpha(log_prob.detach())

        critic_loss, q = self.critic_loss(batch, alpha, generator)
        descend(self.critic_optimizer, critic_loss)

        actor_loss = self.actor_loss(batch, alpha, action, log_prob)
        descend(self.actor_optimizer, actor_loss)

        polyak(self.target_critic, self.critic, self.tau)
        return metrics | {
            "critic/loss": critic_loss.detach(),
            "critic/q": q.detach().mean(),
            "actor/loss": actor_loss.detach(),
            "actor/entropy": -log_prob.detach().mean(),
            "alpha/value": alpha,
        }

    def update_alpha(self, log_prob: Tensor) -> Metrics:
        """Raise alpha while the entropy is below its target, lower it while it is above."""
        if self.alpha_optimizer is None:
            return {}
        excess = log_prob.mean() + self.target_entropy  # nats; the loss is −log α · excess: its gradient is −excess
        loss = -self.log_alpha.detach() * excess
        self.log_alpha.grad = -excess
        self.alpha_optimizer.step()
        with torch.no_grad():
            self.log_alpha.clamp_(min=self.log_alpha_min)  # the parameter itself, so that it does not wind up below
        return {"alpha/loss": loss}

    @torch.no_grad()
    def target(self, batch: Batch, alpha: Tensor, generator: Generator | None = None) -> Tensor:
        """r + discount · (Q'(s', a') − α log π(a')), (B, C); the twin is the one of the lower ``reduce``, whole."""
        next_obs, next_z = batch["next_obs"], batch.get("next_z", batch["z"])
        next_action, log_prob = self.actor(next_obs, next_z).sample(generator)
        q = self.target_critic(next_obs, next_z, next_action)  # (ensemble, B, C)
        lower = self.critic.reduce(q, next_z).min(0, keepdim=True).indices  # (1, B)
        next_q = q.gather(0, lower.unsqueeze(-1).expand(-1, *q.shape[1:])).squeeze(0)  # (B, C)
        if self.entropy_in_target:
            next_q[..., -1] -= alpha * log_prob
        return self._channels(batch) + batch["discount"].unsqueeze(-1) * next_q

    def critic_loss(self, batch: Batch, alpha: Tensor, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """Half the squared error to the target, summed over the ensemble; and Q (ensemble, B, C)."""
        target = self.target(batch, alpha, generator)
        q = self.critic(batch["obs"], batch["z"], batch["action"])
        return 0.5 * len(q) * F.mse_loss(q, target.expand_as(q)), q

    def actor_loss(self, batch: Batch, alpha: Tensor, action: Tensor, log_prob: Tensor) -> Tensor:
        """α log π(a) − the lower of the ensemble's ``reduce``, at the actor's own actions."""
        q = self.critic.reduce(self.critic(batch["obs"], batch["z"], action), batch["z"])  # (ensemble, B)
        return (alpha * log_prob - q.amin(0)).mean()

    def _channels(self, batch: Batch) -> Tensor:
        """The reward as (B, C), and as many channels as the critic has: else it would broadcast in silence."""
        reward = batch["reward"]
        reward = reward.unsqueeze(-1) if reward.dim() == batch["discount"].dim() else reward
        reward = F.pad(reward, (0, 1)) if self.entropy_channel else reward
        if reward.shape[-1] != self.critic.channels:
            raise ValueError(f"the reward has {reward.shape[-1]} channels, the critic has {self.critic.channels}")
        return reward
