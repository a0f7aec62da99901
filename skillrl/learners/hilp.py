"""HILP: Foundation Policies with Hilbert Representations (Park et al. 2024, arXiv:2402.15567).

Objective: φ such that ‖φ(s) − φ(g)‖ is the number of steps from s to g, then skills that go along every direction of φ.

    V(s, g) = −‖φ(s) − φ(g)‖  →  −1[s ≠ g] + γ 1[s ≠ g] V'(s', g),   by an expectile (eqs. 4 to 6)
    r(s', z) = (φ(s') − E φ)·z

φ is learnt by goal-conditioned IQL: goals lie ahead in the same episode, or anywhere in the data; there are two φ, of
which the first is used, and each has a slow copy. The policy is learnt from the same data, by successor features ψ(s,
a, z) of φ(s') − E φ, climbing ψ·z; or, of an agent with one value (DQN), from r itself. z is drawn for each batch anew:
half from the sphere, half the φ of other states in the batch, whitened. Those of the data are not read.

From a dataset (``data=``) as in the paper, or from its own experience, where z is kept for ``hold`` steps.

What differs from the paper or its code (seohongpark/HILP, hilp_zsrl), and why:
- Paper (eq. 7): r = (φ(s') − φ(s))·z. Its zero-shot code, and with it its table of results, takes centred states as
  here (``feature_type: state``), which says itself where to stay; the author confirms it in the repository's issue 1.
- The code fits ψ·z alone to its target, here each axis of ψ is fitted.
- The code's policy has a fixed deviation of 0.2: SAC's target entropy here is that normal's, −0.19 nats an axis.
- The expectile is the zero-shot code's, 0.5; its goal-reaching code has 0.95, with which V is the shortest way's.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.estimators import regression
from skillrl.layers import feature_mlp
from skillrl.learners.base import Batches, DirectedLearner
from skillrl.networks import SuccessorCritic
from skillrl.optim import Adam, descend, frozen_copy, polyak
from skillrl.skill_policy import DirectedPolicy
from skillrl.skill_spaces import Sphere, WideSphere
from skillrl.spec import Batch, Field, Metrics, Need, Spec

PAPER_AGENT = partial(
    SAC, gamma=0.98, tau=0.01, lr=1e-4, alpha_init=0.01, target_entropy_multiplier=0.19, entropy_in_target=False
)
MEAN_RATE = 0.005  # of the running mean of φ
SAME = 1e-6  # how near an observation is to its goal when it is the goal
RIDGE = 1e-6  # of φ's mean square: what keeps a covariance invertible


class HILPPolicy(DirectedPolicy):
    """Skills along φ, for goals (``ReachesGoals``) and for rewards (``FitsRewards``)."""

    phi_mean: Tensor

    def __init__(self, *, encoder_obs: Field, **rest: Any):
        super().__init__(encoder_obs=encoder_obs, **rest)
        self.reward_obs = encoder_obs
        self.register_buffer("phi_mean", torch.zeros(self.space.direction_dim))

    def make_encoder(self, in_dim: int, hidden_dims: Sequence[int], out_dim: int) -> nn.Module:
        return feature_mlp(in_dim, hidden_dims, out_dim)

    def features(self, obs: Tensor) -> Tensor:
        """φ(s) − E φ, (B, direction_dim)."""
        return self.phi(obs) - self.phi_mean

    def reward_to_skill(self, obs: Tensor, reward: Tensor) -> Tensor:
        """z ∝ argmin_w Σ (w·(φ(s) − E φ) − r)²."""
        return self.space.toward(regression(self.features(obs), reward))


class HILP(DirectedLearner):
    """Skills along every direction of a space in which distances are numbers of steps.

    Args:
        skill_space: directions in φ's space, of which there are as many axes.
        encoder_view: what φ sees; None is all of the observation. encoder_dims: its widths. encoder_lr: Adam's, of φ.
        encoder_tau: rate of φ's slow copies. goal_gamma: γ of V. expectile: of V; above 0.5, V is that of a policy that
            is better than the data's.
        goal_future: goals lie Geometric(1 − goal_future) steps ahead. random_goals: share of goals that are any state.
        data_skills: share of z that are states' φ.
    """

    policy: HILPPolicy
    agent: Any  # an off-policy agent, which has a critic

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Sphere = WideSphere(50),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_dims: Sequence[int] = (512, 512),
        encoder_lr: float = 5e-4,
        encoder_tau: float = 0.005,
        goal_gamma: float = 0.98,
        expectile: float = 0.5,
        goal_future: float = 0.99,
        random_goals: float = 0.375,
        data_skills: float = 0.5,
        batch_size: int = 1024,
        hold: int | None = 300,
    ):
        check("learner", encoder_tau=(encoder_tau, "(0, 1]"), goal_gamma=(goal_gamma, "[0, 1)"))
        check("learner", expectile=(expectile, "(0, 1)"), goal_future=(goal_future, "[0, 1)"))
        check("learner", random_goals=(random_goals, "[0, 1]"), data_skills=(data_skills, "[0, 1]"))
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            encoder_view=encoder_view,
            encoder_dims=list(encoder_dims),
            encoder_lr=encoder_lr,
            batch_size=batch_size,
            hold=hold,
            critic=SuccessorCritic,
            policy_class=HILPPolicy,
        )
        self.need = self.agent.need("transitions", batch_size)
        if self.need.fresh:
            raise ValueError("learner hilp learns for skills that it did not follow: take agent sac or dqn")
        self.encoder_tau, self.goal_gamma, self.expectile = encoder_tau, goal_gamma, expectile
        self.goal_future, self.random_goals, self.data_skills = goal_future, random_goals, data_skills
        columns = spec.obs.select(encoder_view).dim
        twin = self.policy.make_encoder(columns, encoder_dims, skill_space.direction_dim)
        self.phis = nn.ModuleList([self.policy.encoder, twin])
        self.slow_phis = frozen_copy(self.phis)
        self.encoder_optimizer = Adam(self.phis.parameters(), encoder_lr)

    def needs(self) -> dict[str, Need]:
        return {"batch": replace(self.need, future=self.goal_future)}

    def update(self, batches: Batches) -> Metrics:
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        return super().update({"batch": batch.replace(z=self.draw_skills(batch))})

    # ---- φ

    def fit(self, batch: Batch) -> Metrics:
        """One step of both φ on their expectile losses, then of their slow copies and of φ's mean."""
        obs, next_obs = self.seen(batch["obs"]).float(), self.seen(batch["next_obs"]).float()
        loss, metrics = self.value_loss(obs, next_obs, self.draw_goals(batch).float())
        descend(self.encoder_optimizer, loss)
        polyak(self.slow_phis, self.phis, self.encoder_tau)
        with torch.no_grad():
            self.policy.phi_mean.lerp_(self.policy.phi(obs).mean(0), MEAN_RATE)
        return metrics

    def draw_goals(self, batch: Batch) -> Tensor:
        """φ's view of goals: later in the episode, or where another episode of the batch was."""
        goal = self.seen(batch["goal"])
        anywhere = self.seen(batch["obs"])[self.permutation(goal)]
        return torch.where((self.uniform(goal) < self.random_goals).unsqueeze(-1), anywhere, goal)

    def value_loss(self, obs: Tensor, next_obs: Tensor, goal: Tensor) -> tuple[Tensor, Metrics]:
        """Expectile losses of V₁ and V₂, each to its own slow copy's target, weighted by the advantage of both."""
        away = ((obs - goal).norm(dim=-1) >= SAME).float()  # (B,): −1 is paid and V goes on until the goal is there
        with torch.no_grad():
            slow_next = values(self.slow_phis, next_obs, goal)  # (2, B)
            best = away * (self.goal_gamma * slow_next.amin(0) - 1)
            advantage = best - values(self.slow_phis, obs, goal).mean(0)
            weight = torch.where(advantage >= 0, self.expectile, 1 - self.expectile)
            target = away * (self.goal_gamma * slow_next - 1)  # (2, B)
        value = values(self.phis, obs, goal)
        loss = (weight * (target - value).square()).mean(-1).sum()
        return loss, {
            "encoder/loss": loss.detach(),
            "encoder/value": value.detach().mean(),
            "encoder/advantage": advantage.mean(),
        }

    # ---- skills

    def draw_skills(self, batch: Batch) -> Tensor:
        """(B, dim), from the sphere and, some of them, towards states of the batch."""
        obs = batch["obs"]
        z = self.skill_space.sample(len(obs), self.generator).to(obs.device)
        with torch.no_grad():
            features = self.policy.features(self.seen(batch["next_obs"]))[self.permutation(obs)]
            toward = self.skill_space.toward(whitened(features))
        return torch.where((self.uniform(obs) < self.data_skills).unsqueeze(-1), toward, z)

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """φ(s') − E φ, (B, dim), what ψ sums; or along z, (B,), for a critic of one value."""
        features = self.policy.features(self.seen(batch["next_obs"]))
        return features if isinstance(self.agent.critic, SuccessorCritic) else self.along(features, batch["z"])

    def uniform(self, like: Tensor) -> Tensor:
        """A number in [0, 1) for each row, (B,)."""
        return torch.rand(len(like), generator=self.generator, device=like.device)

    def permutation(self, like: Tensor) -> Tensor:
        """An order of the rows, (B,)."""
        return torch.randperm(len(like), generator=self.generator, device=like.device)


def values(phis: Any, obs: Tensor, goal: Tensor) -> Tensor:
    """V = −‖φ(s) − φ(g)‖ of each φ, (2, B); not below 1e-3 in size, where the root has a gradient."""
    distances = [(phi(obs) - phi(goal)).square().sum(-1).clamp(min=1e-6).sqrt() for phi in phis]
    return -torch.stack(distances)


def whitened(features: Tensor) -> Tensor:
    """Features (B, D) times the inverse of E f fᵀ."""
    square = features.T @ features / len(features)
    ridge = RIDGE * square.diagonal().mean().clamp(min=RIDGE) * torch.eye(len(square), device=square.device)
    return torch.linalg.solve_ex(square + ridge, features.T)[0].T
