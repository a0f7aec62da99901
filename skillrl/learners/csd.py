"""CSD: Controllability-Aware Unsupervised Skill Discovery (Park et al. 2023, arXiv:2302.05103).

Objective: max E[(φ(s') − φ(s))·z]  so that  ‖φ(s') − φ(s)‖² ≤ d(s, s'): LSD's, but far is what is unlikely under a
learned density q(s' − s | s), a normal. With its mean μ and its deviation σ, both read at s,

    d(s, s') = mean_i ((s' − s)_i − μ_i)² · (σ_i⁻¹ / geometric mean of σ⁻¹)²

so that a step along what hardly moves by chance is long; the geometric mean leaves only the ratios of the σ. The policy
earns r = (φ(s') − φ(s))·z, times ``reward_scale``; φ ascends it plus λ·min(ε, d − mean_i (φ(s') − φ(s))_i²), and λ
descends on that. Means over axes, not sums, are the code's.

What differs from the paper or its code (seohongpark/CSD-locomotion), and why:
- The code trains on the newest 10 trajectories alone (Ant, HalfCheetah): 64 updates of the agent and 32 of φ an epoch.
  Here the replay serves all learners alike, and one update is one of each.
- The code normalises observations by moments of 10,000 random rollouts of 50 steps, which it ships for each env; here
  they are those of what was collected before the first update.
"""

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.distributions import DiagonalNormal
from skillrl.estimators import DualVariable
from skillrl.layers import mlp
from skillrl.learners.base import DirectedLearner
from skillrl.networks import LOG_STD_MAX
from skillrl.optim import Adam, descend
from skillrl.skill_spaces import Discrete, Gaussian
from skillrl.spec import Batch, Metrics, Spec

PAPER_AGENT = partial(SAC, lr=1e-4, alpha=0.03)  # seohongpark/CSD-locomotion, README: Ant
LOG_STD_MIN = -10.0  # of the density


class CSD(DirectedLearner):
    """Skills that change what is hard to change.

    Args:
        skill_space: as many axes of φ as there are skills, or directions in φ's space.
        encoder_view: what φ and the density see; None is all of the observation.
        encoder_lr: Adam's, of φ. density_lr: of q. dual_lr: of log λ. dual_init: λ at the start. dual_slack: ε.
        reward_scale: what the policy's reward is multiplied by. hidden_dims: widths of φ and q too.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Discrete | Gaussian = Discrete(16),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (512, 512),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_lr: float = 1e-4,
        density_lr: float = 1e-4,
        dual_lr: float = 1e-4,
        dual_init: float = 3000.0,
        dual_slack: float = 1e-6,
        reward_scale: float = 10.0,
        batch_size: int = 1024,
        hold: int | None = None,
        normalize_obs: bool = True,
    ):
        check("learner", density_lr=(density_lr, "(0, inf)"), reward_scale=(reward_scale, "(0, inf)"))
        check("learner", dual_lr=(dual_lr, "(0, inf)"), dual_init=(dual_init, "(0, inf)"))
        check("learner", dual_slack=(dual_slack, "(0, inf)"))
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            encoder_view=encoder_view,
            encoder_lr=encoder_lr,
            batch_size=batch_size,
            hold=hold,
            normalize_obs=normalize_obs,
        )
        self.reward_scale = reward_scale
        seen = self.policy.goal_obs.dim
        self.density = mlp(seen, hidden_dims, 2 * seen)
        self.density_optimizer = Adam(self.density.parameters(), density_lr)
        self.dual = DualVariable(init=dual_init, lr=dual_lr, tolerance=dual_slack)

    def step_density(self, obs: Tensor) -> DiagonalNormal:
        """q(s' − s | s), of observations as φ sees them, normalised."""
        mean, log_std = self.density(obs.float()).chunk(2, -1)
        return DiagonalNormal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))

    @torch.no_grad()
    def distance(self, density: DiagonalNormal, step: Tensor) -> Tensor:
        """d(s, s'), (B,), of steps s' − s (B, ...)."""
        log_scale = -density.log_std
        ratio = (log_scale - log_scale.mean(-1, keepdim=True)).exp()
        return ((step - density.mean) * ratio).square().mean(-1)

    def fit(self, batch: Batch) -> Metrics:
        """φ up its objective, λ down the constraint's slack, q towards the steps that are made."""
        obs, next_obs = (self.policy.goal_normalizer(self.seen(batch[key])) for key in ("obs", "next_obs"))
        density = self.step_density(obs)
        step = self.step_in_phi(batch)
        penalty = self.dual.penalty(self.distance(density, next_obs - obs) - step.square().mean(-1))
        loss = -(self.along(step, batch["z"]) + self.dual.value() * penalty).mean()
        descend(self.encoder_optimizer, loss)
        self.dual.update(penalty)
        density_loss = -density.log_prob(next_obs - obs).mean()
        descend(self.density_optimizer, density_loss)
        return {
            "encoder/loss": loss.detach(),
            "encoder/squared_step": step.detach().square().sum(-1).mean(),
            "dual/value": self.dual.value(),
            "dual/penalty": penalty.detach().mean(),
            "density/loss": density_loss.detach(),
        }

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        return self.reward_scale * super().intrinsic_reward(batch)
