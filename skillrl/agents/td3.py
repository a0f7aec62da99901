"""Twin delayed deep deterministic policy gradient (Fujimoto et al. 2018, arXiv:1802.09477), with the losses and the
order of Stable-Baselines3.

    Q_i(s, a, z)  →  r + discount · min_j Q'_j(s', π'(s') + clipped noise, z'),   π climbs Q_1   (algorithm 1)

The actor and all targets move at every ``policy_delay``-th update. As an update may not branch on a count (it can be
captured in a graph), the step is made each time and taken back where it is not due.
"""

from types import MappingProxyType

import torch
from torch import Generator, Tensor
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.networks import Critic, NoisyActor
from skillrl.optim import Adam, descend, descend_where, frozen_copy, polyak_where
from skillrl.spec import Batch, Discrete, Metrics, Spec


class TD3(Agent):
    """Args:
    actor: (obs, z) → a mode, with noise around it that the agent sets.
    critic: (obs, z, action) → (ensemble, B, 1).
    gamma: discount of one env step; the batch arrives with γ^k · (1 − terminated) in ``discount``.
    tau: rate of the target networks.
    actor_lr, critic_lr: of Adam.
    policy_delay: updates of the critic for one of the actor and the targets.
    noise: deviation of the normal noise that explores.
    target_noise, target_noise_clip: deviation of the noise on the target's actions, and where it is cut off.
    """

    policy_arguments = MappingProxyType({"actor": NoisyActor})
    updates: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        actor: NoisyActor,
        critic: Critic,
        gamma: float = 0.99,
        tau: float = 0.005,
        actor_lr: float = 1e-3,
        critic_lr: float = 1e-3,
        policy_delay: int = 2,
        noise: float = 0.1,
        target_noise: float = 0.2,
        target_noise_clip: float = 0.5,
    ):
        super().__init__(spec)
        if isinstance(spec.action, Discrete):
            raise ValueError("agent td3 needs a box action, this one is discrete: take agent dqn")
        if not isinstance(actor, NoisyActor):
            raise ValueError("agent td3 needs an actor with noise around a mode, this learner has another: take sac")
        if critic.channels != 1:
            raise ValueError(f"agent td3 needs a critic of one channel, this one has {critic.channels}: take agent sac")
        check("agent", gamma=(gamma, "[0, 1]"), tau=(tau, "(0, 1]"))
        check("agent", actor_lr=(actor_lr, "(0, inf)"), critic_lr=(critic_lr, "(0, inf)"))
        check("agent", noise=(noise, "[0, inf)"), target_noise=(target_noise, "[0, inf)"))
        check("agent", target_noise_clip=(target_noise_clip, "[0, inf)"))
        check_whole("agent", policy_delay=policy_delay)
        self.gamma, self.tau, self.policy_delay = gamma, tau, policy_delay
        self.target_noise, self.target_noise_clip = target_noise, target_noise_clip
        actor.set_noise(noise, float("inf"))
        self.actor, self.target_actor = actor, frozen_copy(actor)
        self.critic, self.target_critic = critic, frozen_copy(critic)
        self.actor_optimizer = Adam(actor.parameters(), actor_lr)
        self.critic_optimizer = Adam(critic.parameters(), critic_lr)
        self.register_buffer("updates", torch.zeros((), dtype=torch.int64))

    def update(self, batch: Batch, generator: Generator | None = None) -> Metrics:
        """One step of the critic on obs, action, reward, next_obs, discount, z, next_z; of the rest where it is due."""
        self.updates += 1
        due = self.updates % self.policy_delay == 0
        critic_loss, q = self.critic_loss(batch, generator)
        descend(self.critic_optimizer, critic_loss)
        actor_loss = self.actor_loss(batch)
        descend_where(due, self.actor_optimizer, actor_loss)
        polyak_where(due, self.target_critic, self.critic, self.tau)
        polyak_where(due, self.target_actor, self.actor, self.tau)
        return {"critic/loss": critic_loss.detach(), "critic/q": q.detach().mean(), "actor/loss": actor_loss.detach()}

    @torch.no_grad()
    def target(self, batch: Batch, generator: Generator | None = None) -> Tensor:
        """r + discount · the lower Q' of a smoothed action, (B,)."""
        next_obs, next_z = batch["next_obs"], batch.get("next_z", batch["z"])
        mode = self.target_actor(next_obs, next_z).mode()
        noise = self.target_noise * torch.randn(mode.shape, generator=generator, device=mode.device)
        noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
        q = self.target_critic(next_obs, next_z, (mode + noise).clamp(-1, 1))  # (ensemble, B, 1)
        return batch["reward"] + batch["discount"] * q.squeeze(-1).amin(0)

    def critic_loss(self, batch: Batch, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        """The squared error to the target, summed over the ensemble; and Q (ensemble, B)."""
        target = self.target(batch, generator)
        q = self.critic(batch["obs"], batch["z"], batch["action"]).squeeze(-1)
        return len(q) * F.mse_loss(q, target.expand_as(q)), q

    def actor_loss(self, batch: Batch) -> Tensor:
        """−Q_1 at the actor's own actions."""
        action = self.actor(batch["obs"], batch["z"]).mode()
        return -self.critic(batch["obs"], batch["z"], action)[0].mean()
