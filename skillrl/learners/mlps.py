"""MLPS: Meta-Learning Parameterized Skills (Fu et al. 2023, arXiv:2206.03597).

Objective: for each family k of tasks, one policy π_k(a | s, z) for all of its tasks, where z is told from context c:

    q(z | c) ∝ N(0, I) Π_n N(z; f(s_n, a_n, r_n, s_n'))
    max E_{z ~ q(·|c)} [Σ γ^t r_t] − kl_weight · KL(q(z|c) ‖ N(0, I)) − smoothness · E_ij (|μ_i − μ_j| / κ − d_ij)²

by off-policy meta-RL (PEARL, Rakelly et al. 2019, arXiv:1903.08254): SAC on (s, z), the critic's error teaches q too.
The last term makes the parameter a usable action: a controller chooses (k, z) and holds it for T steps (the
temporally extended parameterised-action MDP; ``controllers/hybrid.py``).

That term is *reconstructed*: its exact form was not to be had, and the paper came without code. It is ours, derived
from what it is for, that what lies near in z does nearly the same. The paths of two skills part from where both are at
a rate that their actions' difference bounds, so d is that difference by the mode, averaged over states of the replay.
z shall be isometric to it within a family (Kruskal's raw stress): μ_i is the posterior's mean given all of an episode,
and κ = √(2 dim) / rms d sets the scale, by which two draws of N(0, I) are as far apart. Only q is moved, towards what
the policy does now, and the term is in units of actions, so that it says little while all skills do nearly the same.
(In units of z it kept q from telling tasks before the policy could act on them. Distances of the episodes' own paths
let q tell what was done in place of what was asked for.)

What differs besides, and why:
- The prior is a factor of the posterior, so that it is what is left of no context.
- Context is what an episode has shown up to a random step of its own: what there is when z is chosen anew in it.
- q is also given the reward times action and move: which of them paid is what tells a task, and a small network is
  slow to find a product.
- The critic's error is computed a second time for q: agents here step their own networks alone.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn

from skillrl.agents.base import Agent, build, check, check_whole
from skillrl.agents.sac import SAC
from skillrl.layers import mlp
from skillrl.learners.base import Batches, Learner, refuse_teams
from skillrl.optim import Adam, descend
from skillrl.selector import Selector
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import Hybrid
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Selection, Spec

PAPER_SPACE = Hybrid(1, 5)  # PEARL's latent_size
PRECISION = 10.0  # the most that one transition can tell: without a bound a lucky one would drown all others


class ContextPolicy(ActorPolicy):
    """π_k(a | s, z), and q(z | c), which is reusable: it needs no gradient for a task that is new."""

    def __init__(self, *, space: Hybrid, hidden_dims: Sequence[int], encoder_dims: Sequence[int], **rest: Any):
        super().__init__(space=space, hidden_dims=hidden_dims, encoder_dims=list(encoder_dims), **rest)
        assert isinstance(self.action, Field)
        width = 3 * self.obs.dim + 2 * self.action.dim + 1 + space.n
        self.encoder = mlp(width, encoder_dims, 2 * space.dim)

    def factor(self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor, family: Tensor) -> Tensor:
        """What one transition tells of z: precision and precision · mean, (..., 2 dim). family: one-hot."""
        move, paid = next_obs.float() - obs.float(), reward.unsqueeze(-1).float()
        inputs = [obs.float(), move, action, paid, paid * action, paid * move, family.float()]
        mean, raw = self.encoder(torch.cat(inputs, -1)).chunk(2, -1)
        precision = PRECISION * torch.sigmoid(raw)
        return torch.cat([precision, precision * mean], -1)

    def posterior(self, factors: Tensor) -> tuple[Tensor, Tensor]:
        """Sums of factors (..., 2 dim) → mean and standard deviation of q(z | c), (..., dim)."""
        precision, weighted = factors.chunk(2, -1)
        return weighted / (1 + precision), (1 + precision).rsqrt()


class Inferring(Selector):
    """z from what the episode has shown so far, drawn anew every ``hold`` env steps; at its start from the prior.

    Its carry: the sum of the factors, and the observation before.
    """

    def __init__(self, learner: "MLPS", hold: int):
        self.learner, self.hold = learner, hold

    def initial(self, n: int) -> Carry:
        learner, device = self.learner, next(self.learner.parameters()).device
        wide = learner.spec.obs.dim
        return torch.zeros(n, 2 * learner.space.dim, device=device), torch.zeros(n, wide, device=device)

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        total, before = carry
        if self.learner.paid is not None:
            paid = obs[..., self.learner.paid].sum(-1)
            total = torch.where(first[:, None], 0.0, total + self.learner.factor(before, prev_action, paid, obs))
        return total, obs.float()

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        mean, std = self.learner.policy.posterior(carry[0])
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        parameter = mean if deterministic else mean + std * noise
        return Selection(self.learner.space.pair(self.learner.family(obs).argmax(-1), parameter), carry=carry)


class MLPS(Learner):
    """Skills (k, z) for families of tasks.

    Args:
        skill_space: families, and the parameter's dim.
        agent: SAC. hidden_dims, encoder_dims: widths of its networks, and of q's. encoder_lr: Adam's, of q.
        policy_view: what skills, critic and q see, there and where skills are used; None is all of the observation.
        family_view: the part that says the family, one-hot; None: there is but one.
        paid_view: the part that says the last step's reward; None: z is the prior's while collecting.
        kl_weight, smoothness: weights of the last two terms.
        episodes: an update. hold: env steps before z is drawn anew while collecting.
    """

    policy: ContextPolicy
    agent: SAC

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Hybrid = PAPER_SPACE,
        agent: Callable[..., Agent] = SAC,
        hidden_dims: Sequence[int] = (256, 256),
        encoder_dims: Sequence[int] = (200, 200, 200),
        encoder_lr: float = 3e-4,
        policy_view: str | None = None,
        family_view: str | None = None,
        paid_view: str | None = None,
        kl_weight: float = 0.1,
        smoothness: float = 1.0,
        episodes: int = 16,
        hold: int = 10,
    ):
        super().__init__(spec)
        refuse_teams(self, spec)
        check("learner", encoder_lr=(encoder_lr, "(0, inf)"), kl_weight=(kl_weight, "[0, inf)"))
        check("learner", smoothness=(smoothness, "[0, inf)"))
        check_whole("learner", episodes=episodes, hold=hold)
        if not isinstance(skill_space, Hybrid):
            raise ValueError("learner mlps needs a skill_space of families and parameters: Hybrid")
        if not isinstance(spec.action, Field):
            raise ValueError("learner mlps needs a box action, this one is discrete")
        seen = spec.obs.select(policy_view)
        self.families = None if family_view is None else span(spec.obs, family_view)
        self.paid = None if paid_view is None else span(spec.obs, paid_view)
        said = 1 if self.families is None else self.families.stop - self.families.start
        if said != skill_space.n:
            raise ValueError(f"learner.skill_space.n is {skill_space.n}, but family_view tells {said} families")
        policy, taught = build(
            agent,
            spec,
            obs=seen,
            action=spec.action,
            space=skill_space,
            hidden_dims=hidden_dims,
            policy_class=ContextPolicy,
            encoder_dims=encoder_dims,
        )
        if not isinstance(taught, SAC) or not isinstance(policy, ContextPolicy):
            raise ValueError("learner mlps needs agent sac")
        self.policy, self.space, self.agent, self.gamma = policy, skill_space, taught, taught.gamma
        self.columns = spec.obs.columns(seen)
        self.encoder_optimizer = Adam(policy.encoder.parameters(), encoder_lr)
        self.kl_weight, self.smoothness, self.episodes, self.hold = kl_weight, smoothness, episodes, hold

    def prior(self) -> Selector:
        return Inferring(self, self.hold)

    def kept_critic(self) -> nn.Module | None:
        critic: nn.Module = self.agent.critic
        return critic

    def needs(self) -> dict[str, Need]:
        return {"episodes": Need("episodes", self.episodes, length=self.spec.horizon)}

    def seen(self, obs: Tensor) -> Tensor:
        return obs[..., columns_on(self.columns, obs.device)]

    def family(self, obs: Tensor) -> Tensor:
        """One-hot, (..., n)."""
        return torch.ones_like(obs[..., :1]) if self.families is None else obs[..., self.families]

    def factor(self, obs: Tensor, action: Tensor, reward: Tensor, next_obs: Tensor) -> Tensor:
        """Of whole observations; see ``ContextPolicy.factor``."""
        return self.policy.factor(self.seen(obs), action, reward, self.seen(next_obs), self.family(obs))

    def update(self, batches: Batches) -> Metrics:
        """q, by the critic's error, the KL and the smoothness; then the agent, with z as it was drawn."""
        batch = batches["episodes"]
        assert isinstance(batch, Batch)
        factors = self.factor(batch["obs"], batch["action"], batch["reward"], batch["next_obs"])  # (E, T, 2 dim)
        count, length = batch["mask"].shape
        upto = torch.randint(length + 1, (count, 1), generator=self.generator, device=factors.device)
        shown = batch["mask"] & (torch.arange(length, device=factors.device) < upto)
        mean, std = self.policy.posterior((factors * shown.unsqueeze(-1)).sum(1))  # (E, dim)
        noise = torch.randn(mean.shape, generator=self.generator, device=mean.device)
        family = self.family(batch["obs"][:, 0]).argmax(-1)  # (E,)
        z = self.space.pair(family, mean + std * noise)
        steps = self.steps(batch)

        alpha = self.agent.log_alpha.detach().exp()
        critic_loss, _ = self.agent.critic_loss(self.with_z(steps, z), alpha, self.generator)
        kl = (0.5 * (mean.square() + std.square() - 1) - std.log()).sum(-1).mean()
        whole, _ = self.policy.posterior((factors * batch["mask"].unsqueeze(-1)).sum(1))
        at = torch.randint(length, (count, 1, 1), generator=self.generator, device=factors.device)
        states = torch.take_along_dim(self.seen(batch["obs"]), at, 1).squeeze(1)  # one of each episode
        stress = self.stress(whole, family, self.distances(self.space.pair(family, whole.detach()), states))
        descend(self.encoder_optimizer, critic_loss + self.kl_weight * kl + self.smoothness * stress)

        metrics = self.agent.update(self.with_z(steps, z.detach()), self.generator)
        return metrics | {
            "context/kl": kl.detach(),
            "context/stress": stress.detach(),
            "context/std": std.detach().mean(),
            "reward/task": batch["reward"].mean(),
        }

    def steps(self, batch: Batch) -> Batch:
        """All entries of the episodes, (E · T, ...), as the agent sees them. Padding repeats a step, which is real."""
        names = ("action", "reward", "discount")
        flat = Batch({name: batch[name].flatten(0, 1) for name in names})
        return flat.replace(
            obs=self.seen(batch["obs"]).flatten(0, 1), next_obs=self.seen(batch["next_obs"]).flatten(0, 1)
        )

    def with_z(self, steps: Batch, z: Tensor) -> Batch:
        """z (E, 1 + dim) of each episode, at each of its steps."""
        own = z.repeat_interleave(len(steps["reward"]) // len(z), 0, output_size=len(steps["reward"]))
        return steps.replace(z=own, next_z=own.detach())

    @torch.no_grad()
    def distances(self, z: Tensor, states: Tensor) -> Tensor:
        """d_ij, the mean over states (M, obs_dim) of |π(s, z_i) − π(s, z_j)|, by the mode; z (E, 1 + dim) → (E, E)."""
        count, many = len(z), len(states)
        skills = z.unsqueeze(1).expand(-1, many, -1)
        action = self.policy.dist(states.expand(count, -1, -1), skills).mode()  # (E, M, A)
        return (action.unsqueeze(0) - action.unsqueeze(1)).norm(dim=-1).mean(-1)

    def stress(self, mean: Tensor, family: Tensor, distance: Tensor) -> Tensor:
        """E_ij (|μ_i − μ_j| / κ − d_ij)² over the pairs of one family."""
        count = len(mean)
        pairs = torch.ones(count, count, device=mean.device).triu(1) * (family[:, None] == family)
        total = pairs.sum().clamp(min=1)
        rms = ((pairs * distance.square()).sum() / total).sqrt()
        scale = rms / math.sqrt(2 * self.space.dim)  # 1 / κ
        apart = ((mean.unsqueeze(0) - mean.unsqueeze(1)).square().sum(-1) + 1e-12).sqrt()
        return (pairs * (scale * apart - distance).square()).sum() / total


def span(obs: Field, part: str) -> slice:
    """The columns of one part. Errors: ValueError where there is none of that name."""
    names = obs.parts(part)
    if len(names) != 1:
        raise ValueError(f"view {part!r} has {len(names)} parts: name one of them")
    return slice(*obs.names[names[0]])
