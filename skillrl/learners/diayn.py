"""DIAYN: Diversity Is All You Need (Eysenbach et al. 2018).

Objective: max I(S; Z) + H(A | S, Z), by r(s', z) = log q(z | s') − log p(z), with q fitted by cross-entropy (eq. 3).

z is one of K, as in the paper, or continuous with a standard normal prior: then q is a normal whose mean and deviation
the discriminator gives, as in the DIAYN that METRA (Park et al. 2024, arXiv:2310.08887) compares itself with.

What differs from the paper and its code (haarnoja/sac), and why:
- The reward and the discriminator take s', not s, as METRA's, CSF's and the URL benchmark's ports do: it is s' that the
  action brought about.
- SAC with twin critics and a tanh-normal policy in place of SAC-v1's value network and mixture policy.
- ``discriminator_noise``, off by default, is not in the paper: a discriminator that sees x,y exactly tells skills
  apart when they have hardly moved, and from then on pays nothing for going further. That it helps a controller is
  not shown: docs/results/discriminator_noise.md.
- z is drawn anew each episode; the code draws it once per 1000-step epoch, so that episodes that end early share it.
- With a normal prior, − log p(z) stays in the reward, as in CSF's code; METRA's leaves it out. Mean and deviation share
  their hidden layers.
- The released sampler acts on the pre-reset observation after a mid-epoch reset, and stores that; ours cannot.
"""

import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skillrl.agents.base import Agent, check
from skillrl.agents.sac import SAC
from skillrl.distributions import Categorical, DiagonalNormal
from skillrl.layers import mlp
from skillrl.learners.base import RewardLearner
from skillrl.networks import LOG_STD_MAX
from skillrl.optim import Adam, descend
from skillrl.skill_policy import ActorPolicy, columns_on, standardizer
from skillrl.skill_spaces import Discrete, Gaussian
from skillrl.spec import Batch, Field, Metrics, Spec

PAPER_AGENT = partial(SAC, gamma=0.99, tau=0.01, lr=3e-4, alpha=0.1)  # haarnoja/sac, examples/mujoco_all_diayn.py
LOG_STD_MIN = math.log(1e-6)  # of a continuous posterior; METRA's


class DIAYNPolicy(ActorPolicy):
    """The skills with the discriminator q(z | s) that taught them: ``InfersSkills``."""

    def __init__(self, *, space: Discrete | Gaussian, hidden_dims: Sequence[int], posterior_obs: Field, **rest: Any):
        super().__init__(space=space, hidden_dims=hidden_dims, posterior_obs=posterior_obs, **rest)
        self.posterior_normalizer = standardizer(posterior_obs, self.arguments["normalize"])
        if not isinstance(space, Discrete | Gaussian):
            raise ValueError(f"skill_space is {type(space).__name__}: DIAYN's posterior is for Discrete or Gaussian")
        self.posterior_obs = posterior_obs
        self.discriminator = mlp(
            posterior_obs.dim, hidden_dims, space.n if isinstance(space, Discrete) else 2 * space.dim
        )

    def posterior(self, obs: Tensor) -> Categorical | DiagonalNormal:
        """q(z | s)."""
        out = self.discriminator(self.posterior_normalizer(obs.float()))
        if isinstance(self.space, Discrete):
            return Categorical(out)
        mean, log_std = out.chunk(2, -1)
        return DiagonalNormal(mean, log_std.clamp(LOG_STD_MIN, LOG_STD_MAX))

    def log_posterior(self, obs: Tensor, z: Tensor | None = None) -> Tensor:
        """log q(z | s), (B,); of a discrete z that is not given, of all K, (B, K)."""
        posterior = self.posterior(obs)
        if z is not None:
            return posterior.log_prob(z)
        if isinstance(posterior, DiagonalNormal):
            raise ValueError("these skills cannot be counted: say of which z the posterior is wanted")
        return posterior.logits


class DIAYN(RewardLearner):
    """Skills that can be told apart by where they lead.

    Args:
        skill_space: K skills, uniformly; or z from a standard normal.
        discriminator_view: what the discriminator sees; ``xy`` is the paper's prior for navigation (its section 4.2).
        discriminator_lr: Adam's. hidden_dims: widths of the discriminator too.
        discriminator_noise: standard deviation, in the view's units, of normal noise on what the discriminator is
            fitted to (the reward is read without it): skills that are less apart than that count as alike, and so
            must spread. 0 is the paper's.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Discrete | Gaussian = Discrete(50),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (300, 300),
        policy_view: str | None = None,
        discriminator_view: str | None = None,
        discriminator_lr: float = 3e-4,
        discriminator_noise: float = 0.0,
        batch_size: int = 128,
        hold: int | None = None,
        normalize_obs: bool = False,
    ):
        seen = spec.obs.select(discriminator_view)
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=hold,
            normalize_obs=normalize_obs,
            policy_class=DIAYNPolicy,
            posterior_obs=seen,
        )
        check("learner", discriminator_noise=(discriminator_noise, "[0, inf)"))
        self.skill_space, self.discriminator_noise = skill_space, discriminator_noise
        self.discriminator_columns = spec.obs.columns(seen)
        self.discriminator_optimizer = Adam(self.policy.discriminator.parameters(), discriminator_lr)

    def normalizers(self) -> list[tuple[Any, list[int] | None]]:
        return [*super().normalizers(), (self.policy.posterior_normalizer, self.discriminator_columns)]

    def seen(self, next_obs: Tensor) -> Tensor:
        """The discriminator's view (B, ...) of whole observations."""
        return next_obs[..., columns_on(self.discriminator_columns, next_obs.device)]

    def log_q(self, next_obs: Tensor, z: Tensor | None = None) -> Tensor:
        """The policy's ``log_posterior``, of whole observations."""
        return self.policy.log_posterior(self.seen(next_obs), z)

    def fit(self, batch: Batch) -> Metrics:
        seen = self.seen(batch["next_obs"])
        if self.discriminator_noise > 0:
            noise = torch.randn(seen.shape, generator=self.generator, device=seen.device)
            seen = seen + self.discriminator_noise * noise
        posterior = self.policy.posterior(seen)
        loss = -posterior.log_prob(batch["z"]).mean()
        descend(self.discriminator_optimizer, loss)
        metrics = {"discriminator/loss": loss.detach()}
        if isinstance(posterior, Categorical):
            return metrics | {"discriminator/accuracy": (posterior.mode() == batch["z"]).float().mean()}
        return metrics | {"discriminator/std": posterior.log_std.detach().exp().mean()}

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """log q(z | s') − log p(z), (B,): at most log K where there are K."""
        return self.log_q(batch["next_obs"], batch["z"]) - self.skill_space.log_prob(batch["z"])
