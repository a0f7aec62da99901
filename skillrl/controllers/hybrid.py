"""A controller of hybrid actions (k, z): which family of skills, and with what parameter, held for T env steps.

    max E[Σ γ^i r_i + α (H(π(k | s)) + H(π(z | s, k)))],   log π(k, z | s) = log π(k | s) + log π(z | s, k)

on the temporally extended parameterised-action MDP of Fu et al. 2023 (arXiv:2206.03597), whose upper two levels are
π(k | s) and, for each family, π(z | s, k). Learnt by soft actor-critic: the sum over the families is taken exactly, the
parameter of each is reparametrised (Delalleau et al. 2019, arXiv:1912.11077). Theirs is a hierarchical actor-critic
without released code; this one is ours.
"""

import math
from collections.abc import Sequence

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import check, check_whole
from skillrl.controllers.base import Controller
from skillrl.distributions import Categorical, TanhNormal
from skillrl.layers import mlp
from skillrl.learners.base import Batches
from skillrl.networks import LOG_STD_MAX, LOG_STD_MIN
from skillrl.optim import Adam, descend, frozen_copy, polyak
from skillrl.selector import Selector
from skillrl.skill_policy import SkillPolicy, columns_on
from skillrl.skill_spaces import Hybrid as HybridSpace
from skillrl.spec import Batch, Carry, Metrics, Need, Selection, Spec

SPREAD = math.sqrt(3)  # of a box axis, so that the parameters of an even choice vary as the prior's do


class HybridChoice:
    """π(k) π(a | k), a in a box. logits (..., n); mean, log_std (..., n, dim). A choice is (k, a), (..., 1 + dim)."""

    def __init__(self, logits: Tensor, mean: Tensor, log_std: Tensor):
        self.family, self.parameters = Categorical(logits), TanhNormal(mean, log_std)

    def _join(self, k: Tensor, parameters: Tensor) -> Tensor:
        return torch.cat([k.unsqueeze(-1).float(), of_family(parameters, k)], -1)

    def sample(self, generator: Generator | None = None) -> tuple[Tensor, Tensor]:
        k, log_prob = self.family.sample(generator)
        parameters, densities = self.parameters.sample(generator)
        return self._join(k, parameters), log_prob + densities.gather(-1, k.unsqueeze(-1)).squeeze(-1)

    def mode(self) -> Tensor:
        return self._join(self.family.mode(), self.parameters.mode())

    def log_prob(self, choice: Tensor) -> Tensor:
        """log π(k) + log π(a | k): of the other families' parameters it says nothing."""
        k = choice[..., 0].long()
        own = TanhNormal(of_family(self.parameters.mean, k), of_family(self.parameters.log_std, k))
        return self.family.log_prob(k) + own.log_prob(choice[..., 1:])


def of_family(values: Tensor, k: Tensor) -> Tensor:
    """values (..., n, dim), k (...) → (..., dim)."""
    return torch.take_along_dim(values, k[..., None, None], -2).squeeze(-2)


class HybridActor(nn.Module):
    """obs → HybridChoice."""

    def __init__(self, obs_dim: int, n: int, dim: int, hidden_dims: Sequence[int]):
        super().__init__()
        self.n, self.dim = n, dim
        self.net = mlp(obs_dim, hidden_dims, n + 2 * n * dim)

    def forward(self, obs: Tensor) -> HybridChoice:
        out = self.net(obs.float())
        mean, log_std = out[..., self.n :].unflatten(-1, (self.n, 2 * self.dim)).chunk(2, -1)
        return HybridChoice(out[..., : self.n], mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))


class HybridCritic(nn.Module):
    """Two Q(obs, k, a): obs (B, obs_dim), a parameter for each family (B, n, dim) → (2, B, n)."""

    def __init__(self, obs_dim: int, n: int, dim: int, hidden_dims: Sequence[int]):
        super().__init__()
        self.n = n
        self.nets = nn.ModuleList(mlp(obs_dim + n + dim, hidden_dims, 1) for _ in range(2))

    def forward(self, obs: Tensor, parameters: Tensor) -> Tensor:
        each = torch.eye(self.n, device=obs.device).expand(len(obs), self.n, self.n)
        inputs = torch.cat([obs.float().unsqueeze(-2).expand(-1, self.n, -1), each, parameters], -1)
        return torch.stack([net(inputs).squeeze(-1) for net in self.nets])


class Hybrid(Controller):
    """Chooses (k, z) every ``hold`` env steps, for skills of several families.

    Args:
        skills: of the space ``Hybrid``; frozen.
        hidden_dims: widths of its networks. obs_view: what it sees of the task; None is all.
        gamma: discount of one env step. tau: rate of the target network. lr: Adam's.
        alpha: the temperature, of both entropies.
        batch_size: decisions an update.
    """

    def __init__(
        self,
        spec: Spec,
        skills: SkillPolicy,
        *,
        hold: int = 10,
        hidden_dims: Sequence[int] = (256, 256),
        obs_view: str | None = None,
        gamma: float = 0.99,
        tau: float = 0.005,
        lr: float = 3e-4,
        alpha: float = 0.05,
        batch_size: int = 128,
    ):
        super().__init__(spec, skills, hold=hold)
        if not isinstance(skills.space, HybridSpace):
            raise ValueError("controller hybrid needs skills of several families, each with a parameter: learner mlps")
        check(
            "controller", gamma=(gamma, "[0, 1]"), tau=(tau, "(0, 1]"), lr=(lr, "(0, inf)"), alpha=(alpha, "[0, inf)")
        )
        check_whole("controller", batch_size=batch_size)
        obs = spec.obs.select(obs_view)
        self.columns, self.batch_size = spec.obs.columns(obs), batch_size
        self.space, self.gamma, self.tau, self.alpha = skills.space, gamma, tau, alpha
        shape = (obs.dim, self.space.n, self.space.dim, hidden_dims)
        self.actor, self.critic = HybridActor(*shape), HybridCritic(*shape)
        self.target_critic = frozen_copy(self.critic)
        self.actor_optimizer, self.critic_optimizer = (
            Adam(self.actor.parameters(), lr),
            Adam(self.critic.parameters(), lr),
        )

    def prior(self) -> Selector:
        return Choosing(self)

    def needs(self) -> dict[str, Need]:
        return {"decisions": Need("decisions", self.batch_size)}

    def seen(self, obs: Tensor) -> Tensor:
        return obs[..., columns_on(self.columns, obs.device)]

    def update(self, batches: Batches) -> Metrics:
        batch = batches["decisions"]
        assert isinstance(batch, Batch)
        critic_loss, q = self.critic_loss(batch)
        descend(self.critic_optimizer, critic_loss)
        value, entropy = self.value(self.seen(batch["obs"]), self.critic)
        actor_loss = -value.mean()
        descend(self.actor_optimizer, actor_loss)
        polyak(self.target_critic, self.critic, self.tau)
        return {
            "critic/loss": critic_loss.detach(),
            "critic/q": q.detach().mean(),
            "actor/loss": actor_loss.detach(),
            "actor/family_entropy": entropy.detach().mean(),
            "reward/decision": batch["reward"].mean(),
        }

    def value(self, obs: Tensor, critic: nn.Module) -> tuple[Tensor, Tensor]:
        """Σ_k π(k) (Q(k, a_k) − α log π(a_k | k)) + α H(π(k)), a_k drawn, the lower of the twins; and H. Both (B,)."""
        choice = self.actor(obs)
        parameters, densities = choice.parameters.sample(self.generator)  # (B, n, dim), (B, n)
        q = critic(obs, parameters).amin(0)
        entropy = choice.family.entropy()
        soft = (choice.family.logits.exp() * (q - self.alpha * densities)).sum(-1)
        return soft + self.alpha * entropy, entropy

    def critic_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Half the squared error of the chosen (k, a) to r + γ^k V(s'), summed over the twins; and Q, (2, B)."""
        with torch.no_grad():
            following, _ = self.value(self.seen(batch["next_obs"]), self.target_critic)
            target = batch["reward"] + batch["discount"] * following
        k, parameter = batch["choice"][:, 0].long(), batch["choice"][:, 1:]
        every = parameter.unsqueeze(1).expand(-1, self.space.n, -1)
        q = torch.take_along_dim(self.critic(self.seen(batch["obs"]), every), k[None, :, None], -1).squeeze(-1)
        return 0.5 * len(q) * F.mse_loss(q, target.expand_as(q)), q


class Choosing(Selector):
    """The controller's side of the option loop."""

    def __init__(self, controller: Hybrid):
        self.controller, self.hold = controller, controller.hold

    @torch.no_grad()
    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        choice = self.controller.actor(self.controller.seen(obs))
        chosen = choice.mode() if deterministic else choice.sample(generator)[0]
        space = self.controller.space
        return Selection(space.pair(chosen[..., 0], SPREAD * chosen[..., 1:]), extras={"choice": chosen})
