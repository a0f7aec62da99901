"""Proximal policy optimisation (Schulman et al. 2017, arXiv:1707.06347), as Stable-Baselines3 has it.

    π maximises  E[ min(ρ A, clip(ρ, 1 − ε, 1 + ε) A) ],   ρ = π(a | s, z) / π_old(a | s, z)   (eq. 7)

On-policy: it learns once from what was collected since its last update, and then never again. A is the generalised
advantage (Schulman et al. 2016, arXiv:1506.02438), with each step's own discount: of a decision of k env steps, γ^k.
"""

from collections.abc import Callable, Sequence
from types import MappingProxyType
from typing import Literal

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.networks import Critic, OnPolicyActor, Value
from skillrl.optim import Adam, descend
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Batch, Metrics, Need, Spec

LEARNT_FROM = ("obs", "z", "raw_action", "log_prob", "advantage", "returns")


class PPO(Agent):
    """Args:
    actor: (obs, z) → a distribution with an entropy; its policy stores ``raw_action`` and ``log_prob``.
    critic: (obs, z) → V, (B,).
    gamma: discount of one env step; the batch arrives with γ^k · (1 − terminated) in ``discount``.
    lr: of Adam, for both.
    gae_lambda: λ of the generalised advantage, per step or decision.
    clip_range: ε.
    n_epochs: passes over a rollout.
    minibatch_size: steps of one gradient step; the advantages are normalised within.
    ent_coef, vf_coef: weights of the entropy bonus and of the critic's squared error.
    max_grad_norm: the gradient of both together is scaled down to this norm.
    """

    policy_arguments = MappingProxyType({"actor": OnPolicyActor})

    def __init__(
        self,
        spec: Spec,
        *,
        actor: nn.Module,
        critic: nn.Module,
        gamma: float = 0.99,
        lr: float = 3e-4,
        gae_lambda: float = 0.95,
        clip_range: float = 0.2,
        n_epochs: int = 10,
        minibatch_size: int = 64,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
    ):
        super().__init__(spec)
        check("agent", gamma=(gamma, "[0, 1]"), lr=(lr, "(0, inf)"), gae_lambda=(gae_lambda, "[0, 1]"))
        check("agent", clip_range=(clip_range, "(0, inf)"), max_grad_norm=(max_grad_norm, "(0, inf)"))
        check("agent", ent_coef=(ent_coef, "[0, inf)"), vf_coef=(vf_coef, "[0, inf)"))
        check_whole("agent", n_epochs=n_epochs, minibatch_size=minibatch_size)
        self.gamma, self.gae_lambda, self.clip_range = gamma, gae_lambda, clip_range
        self.n_epochs, self.minibatch_size = n_epochs, minibatch_size
        self.ent_coef, self.vf_coef, self.max_grad_norm = ent_coef, vf_coef, max_grad_norm
        self.actor, self.critic = actor, critic
        self.optimizer = Adam([*actor.parameters(), *critic.parameters()], lr, eps=1e-5)

    @classmethod
    def critic_of(cls, policy: SkillPolicy, make: Callable[..., Critic], hidden_dims: Sequence[int]) -> nn.Module:
        """V(obs, z): there is no Q here, whatever ``make`` would make."""
        return Value(policy.obs, policy.space, hidden_dims)

    def need(self, of: Literal["transitions", "decisions"], batch_size: int) -> Need:
        """All that is fresh, once it is ``batch_size``: (N, T)."""
        return Need("fresh" if of == "transitions" else "fresh_decisions", batch_size)

    def update(self, batch: Batch, generator: Generator | None = None) -> Metrics:
        """``n_epochs`` over a rollout (N, T): obs, z, raw_action, log_prob, reward, next_obs, discount, first, mask."""
        if missing := {"mask", "raw_action", "log_prob"} - batch.keys():
            raise ValueError(
                f"agent ppo learns from its own fresh rollouts, this has no {min(missing)}: take agent sac"
            )
        if batch["reward"].shape != batch["mask"].shape:
            shape = tuple(batch["reward"].shape)
            raise ValueError(f"agent ppo learns from one reward a step, this one has the shape {shape}: take agent sac")
        advantage, returns = self.advantages(batch)
        steps = batch.replace(advantage=advantage, returns=returns).flat()
        steps = Batch({name: steps[name] for name in LEARNT_FROM})
        epochs: list[list[Metrics]] = []
        for _ in range(self.n_epochs):
            order = torch.randperm(len(steps["obs"]), generator=generator, device=returns.device)
            epochs.append([self.step(steps, rows) for rows in order.split(self.minibatch_size)])
        metrics = mean_of([metrics for epoch in epochs for metrics in epoch])
        metrics["actor/kl"] = mean_of(epochs[-1])["actor/kl"]  # what all epochs together came to
        error, spread = steps["advantage"].var(), steps["returns"].var()  # the first is of returns − V
        return metrics | {"critic/explained_variance": 1 - error / spread, "critic/value": steps["returns"].mean()}

    @torch.no_grad()
    def advantages(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """A_t = δ_t + λ discount_t A_{t+1}, δ_t = r_t + discount_t V(s_{t+1}) − V(s_t), and A + V, both (N, T).

        The sum stops where the next step is of another episode, or of another skill than this one's value assumed;
        V(s_{t+1}) itself is left out by termination alone.
        """
        value = self.critic(batch["obs"], batch["z"])  # (N, T)
        next_value = self.critic(batch["next_obs"], batch.get("next_z", batch["z"]))
        delta = batch["reward"] + batch["discount"] * next_value - value
        decay = self.gae_lambda * batch["discount"] * goes_on(batch)
        advantage, later = torch.zeros_like(delta), torch.zeros_like(delta[:, 0])
        for t in reversed(range(delta.shape[1])):
            later = delta[:, t] + decay[:, t] * later
            advantage[:, t] = later
        return advantage, advantage + value

    def step(self, steps: Batch, rows: Tensor) -> Metrics:
        """One gradient step on these rows of ``steps`` (B, ...)."""
        loss, metrics = self.loss(Batch({name: value[rows] for name, value in steps.items()}))
        descend(self.optimizer, loss, max_norm=self.max_grad_norm)
        return metrics

    def loss(self, steps: Batch) -> tuple[Tensor, Metrics]:
        """Clipped surrogate + vf_coef · squared error − ent_coef · entropy, and what they are made of."""
        dist = self.actor(steps["obs"], steps["z"])
        advantage = steps["advantage"]
        if len(advantage) > 1:
            advantage = (advantage - advantage.mean()) / (advantage.std() + 1e-8)
        log_ratio = dist.log_prob(steps["raw_action"]) - steps["log_prob"]
        ratio = log_ratio.exp()
        clipped = ratio.clamp(1 - self.clip_range, 1 + self.clip_range)
        actor_loss = -torch.minimum(advantage * ratio, advantage * clipped).mean()
        critic_loss = F.mse_loss(self.critic(steps["obs"], steps["z"]), steps["returns"])
        entropy = dist.entropy().mean()
        metrics = {
            "actor/loss": actor_loss,
            "actor/entropy": entropy,
            "actor/kl": (ratio - 1 - log_ratio).mean(),  # Schulman's estimate of KL(old, new), never negative
            "actor/clip_fraction": ((ratio - 1).abs() > self.clip_range).float().mean(),
            "critic/loss": critic_loss,
        }
        loss = actor_loss - self.ent_coef * entropy + self.vf_coef * critic_loss
        return loss, {name: value.detach() for name, value in metrics.items()}


def goes_on(batch: Batch) -> Tensor:
    """Whether the entry after this one in its row goes on from it, (N, T): in its episode, with its next_z."""
    z, next_z = batch["z"], batch.get("next_z", batch["z"])
    same_z = (z[:, 1:] == next_z[:, :-1]).flatten(2).all(-1) if z.dim() > 2 else z[:, 1:] == next_z[:, :-1]
    follows = batch["mask"][:, 1:] & ~batch["first"][:, 1:] & same_z
    return F.pad(follows, (0, 1))


def mean_of(metrics: Sequence[Metrics]) -> Metrics:
    """The mean of each metric over gradient steps."""
    return {name: torch.stack([one[name] for one in metrics]).mean() for name in metrics[0]}
