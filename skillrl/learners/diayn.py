"""DIAYN: Diversity Is All You Need (Eysenbach et al. 2018).

Objective: max I(S; Z) + H(A | S, Z), by r(s', z) = log q(z | s') − log p(z), with q fitted by cross-entropy (eq. 3).

What differs from the paper and its code (haarnoja/sac), and why:
- The reward and the discriminator take s', not s, as METRA's, CSF's and the URL benchmark's ports do: it is s' that the
  action brought about.
- SAC with twin critics and a tanh-normal policy in place of SAC-v1's value network and mixture policy.
- ``discriminator_noise``, off by default, is not in the paper: a discriminator that sees x,y exactly tells skills
  apart when they have hardly moved, and from then on pays nothing for going further.
- z is drawn anew each episode; the code draws it once per 1000-step epoch, so that episodes that end early share it.
- The released sampler acts on the pre-reset observation after a mid-epoch reset, and stores that; ours cannot.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skillrl.agents.base import Agent, adam, check, descend
from skillrl.agents.sac import SAC
from skillrl.learners.base import RewardLearner
from skillrl.networks import mlp
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Field, Metrics, Spec

PAPER_AGENT = partial(SAC, gamma=0.99, tau=0.01, lr=3e-4, alpha=0.1)  # haarnoja/sac, examples/mujoco_all_diayn.py


class DIAYNPolicy(ActorPolicy):
    """The skills with the discriminator q(z | s) that taught them: ``InfersSkills``."""

    def __init__(self, *, space: Discrete, hidden_dims: Sequence[int], posterior_obs: Field, **rest: Any):
        super().__init__(space=space, hidden_dims=hidden_dims, posterior_obs=posterior_obs, **rest)
        self.posterior_obs = posterior_obs
        self.discriminator = mlp(posterior_obs.dim, hidden_dims, space.n)

    def log_posterior(self, obs: Tensor) -> Tensor:
        """log q(z | s), (B, K)."""
        return self.discriminator(obs.float()).log_softmax(-1)


class DIAYN(RewardLearner):
    """Skills that can be told apart by where they lead.

    Args:
        skill_space: K skills, uniformly.
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
        skill_space: Discrete = Discrete(50),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (300, 300),
        policy_view: str | None = None,
        discriminator_view: str | None = None,
        discriminator_lr: float = 3e-4,
        discriminator_noise: float = 0.0,
        batch_size: int = 128,
        hold: int | None = None,
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
            policy_class=DIAYNPolicy,
            posterior_obs=seen,
        )
        check("learner", discriminator_noise=(discriminator_noise, "[0, inf)"))
        self.skill_space, self.discriminator_noise = skill_space, discriminator_noise
        self.discriminator_columns = spec.obs.columns(seen)
        self.discriminator_optimizer = adam(self.policy.discriminator.parameters(), discriminator_lr)

    def seen(self, next_obs: Tensor) -> Tensor:
        """The discriminator's view (B, ...) of whole observations."""
        return next_obs[..., columns_on(self.discriminator_columns, next_obs.device)]

    def log_q(self, next_obs: Tensor) -> Tensor:
        """log q(z | s'), (B, K), of whole observations."""
        return self.policy.log_posterior(self.seen(next_obs))

    def fit(self, batch: Batch) -> Metrics:
        seen = self.seen(batch["next_obs"])
        if self.discriminator_noise > 0:
            noise = torch.randn(seen.shape, generator=self.generator, device=seen.device)
            seen = seen + self.discriminator_noise * noise
        logits = self.policy.log_posterior(seen)
        loss = F.nll_loss(logits, batch["z"])
        descend(self.discriminator_optimizer, loss)
        hits = (logits.argmax(-1) == batch["z"]).float()
        return {"discriminator/loss": loss.detach(), "discriminator/accuracy": hits.mean()}

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """log q(z | s') − log p(z), (B,): at most log K."""
        log_q = self.log_q(batch["next_obs"]).gather(-1, batch["z"].unsqueeze(-1)).squeeze(-1)
        return log_q - self.skill_space.log_prob(batch["z"])
