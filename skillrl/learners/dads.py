"""DADS: dynamics-aware discovery of skills (Sharma et al. 2019/20, arXiv:1907.01657; off-policy: arXiv:2004.12974).

Objective: max I(S'; Z | S), by r(s, z, s') = log q(s' | s, z) − log mean_i q(s' | s, z_i), z_i from the prior, with q
fitted by maximum likelihood to s' − s: skills that are told apart by what they do next, and whose effect can be
predicted, so that a planner can choose them.

q is a mixture of normals of unit variance over a normalised s' − s. So a perfect q earns 1.12 to 1.19 nats where that
has two axes, and nowhere near the log(L + 1) of a q that is certain.

Two views: q sees and predicts ``dynamics_view`` (x, y in the paper's navigation), the policy sees ``policy_view``.

As in the code (google-research/dads) and not in the paper: the true z stands in the denominator too, the differences of
log q are clipped to ±50, and off-policy transitions count for q by clipped importance weights. What differs, and why:
- z is drawn anew each episode; the code's further draws begin after 2,000 steps, which no episode of its configs has.
- The code scales the reward by 10 and tunes the temperature from 1; here it is fixed at 0.1, as in the port to METRA's
  code by CSF (Zheng et al. 2024).
- ``predict`` is the mean of the most likely component; the code's default is the mixture's mean, which may lie between.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.agents.sac import SAC
from skillrl.distributions import DiagonalNormal
from skillrl.layers import mlp
from skillrl.learners.base import Batches, RewardLearner
from skillrl.networks import OnPolicyActor
from skillrl.optim import Adam, descend
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import Box, SkillSpace
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Spec

PAPER_AGENT = partial(SAC, alpha=0.1)  # google-research/dads, configs/ant_xy_offpolicy.txt
MOMENTUM, EPS = 0.01, 1e-3  # of batch normalisation: TensorFlow's defaults, which the code leaves
CLIP = 50.0  # of differences of log q


class SkillDynamics(nn.Module):
    """q(Δ | s, z), a mixture of normals of unit variance over the normalised step Δ = s' − s.

    Statistics of a batch are used, and taken into the running ones, only where ``fitting``; everything else reads the
    running ones, whatever mode the module is in.

    Args:
        dim: columns of s. blind: those of them that are predicted and not looked at.
    """

    def __init__(self, dim: int, space: SkillSpace, hidden_dims: Sequence[int], components: int, blind: Sequence[int]):
        super().__init__()
        self.space, self.dim, self.components = space, dim, components
        self.looks_at = [column for column in range(dim) if column not in blind]
        self.input_norm = nn.BatchNorm1d(len(self.looks_at), EPS, MOMENTUM) if self.looks_at else None
        self.step_norm = nn.BatchNorm1d(dim, EPS, MOMENTUM, affine=False)
        self.net = mlp(len(self.looks_at) + space.embed_dim, hidden_dims, components * (1 + dim))

    def mixture(self, obs: Tensor, z: Tensor, *, fitting: bool = False) -> tuple[Tensor, Tensor]:
        """Log-weights (B, K) and means (B, K, dim), of normalised steps."""
        parts = [self.space.embed(z)]
        if self.input_norm is not None:
            seen = obs.float()[..., columns_on(self.looks_at, obs.device)]
            parts.append(_normalised(self.input_norm, seen, fitting))
        out = self.net(torch.cat(parts, -1))
        logits, means = out[..., : self.components], out[..., self.components :]
        return logits.log_softmax(-1), means.unflatten(-1, (self.components, self.dim))

    def log_prob(self, obs: Tensor, z: Tensor, next_obs: Tensor, *, fitting: bool = False) -> Tensor:
        """log q of the normalised step, (B,). obs, next_obs (B, dim); z as the space samples it."""
        weights, means = self.mixture(obs, z, fitting=fitting)
        step = _normalised(self.step_norm, (next_obs - obs).float(), fitting)
        components = DiagonalNormal(means, torch.zeros_like(means)).log_prob(step.unsqueeze(-2))  # (B, K)
        return (weights + components).logsumexp(-1)

    def predict(self, obs: Tensor, z: Tensor) -> Tensor:
        """obs after one step by the most likely component, (B, dim)."""
        weights, means = self.mixture(obs, z)
        likely = weights.argmax(-1)[..., None, None].expand(*weights.shape[:-1], 1, self.dim)
        mean, var = self.step_norm.running_mean, self.step_norm.running_var
        assert mean is not None and var is not None
        return obs + means.gather(-2, likely).squeeze(-2) * (var + EPS).sqrt() + mean


def _normalised(norm: nn.BatchNorm1d, value: Tensor, fitting: bool) -> Tensor:
    """(B, dim) by the batch's statistics if ``fitting``, else by the running ones."""
    return F.batch_norm(
        value, norm.running_mean, norm.running_var, norm.weight, norm.bias, fitting, MOMENTUM, EPS
    )  # the module itself would go by its mode, which anyone may set


class DADSPolicy(ActorPolicy):
    """The skills with the dynamics that taught them: ``PredictsNext``. With each draw its log-probability is stored,
    by which what is learnt from it later can be weighed."""

    def __init__(
        self,
        *,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        predict_obs: Field,
        components: int,
        blind: Sequence[int],
        **rest: Any,
    ):
        own: dict[str, Any] = {"predict_obs": predict_obs, "components": components, "blind": list(blind)}
        super().__init__(space=space, hidden_dims=hidden_dims, **own, **rest)
        self.predict_obs = predict_obs
        self.dynamics = SkillDynamics(predict_obs.dim, space, hidden_dims, components, blind)

    def predict(self, obs: Tensor, z: Tensor) -> Tensor:
        return self.dynamics.predict(obs, z)

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        if deterministic or isinstance(self.actor, OnPolicyActor):  # that one tells it already
            return super().act(obs, z, carry, deterministic=deterministic, generator=generator)
        dist = self.dist(obs, z, carry)
        action, _ = dist.sample(generator)
        return action, {"log_prob": dist.log_prob(action)}  # as it is computed later, so that the ratio starts at 1


class DADS(RewardLearner):
    """Skills whose next step can be predicted from them, and not without them.

    Args:
        skill_space: the prior over z; of any kind.
        dynamics_view: what the dynamics see and predict; None is all of the observation.
        blind_view: what of it they predict without looking at it, as the code does with x, y; None is nothing.
        dynamics_lr: Adam's. components: of the mixture. hidden_dims: widths of the dynamics too.
        prior_samples: L, fresh for each transition.
        importance_clip: by how much at most a transition weighs more, or less, because the policy has moved on since it
            acted; None weighs all alike.
        dynamics_updates, agent_updates: steps of each an update, every one with a batch of its own.
    """

    policy: DADSPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: SkillSpace = Box(2),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (512, 512),
        policy_view: str | None = None,
        dynamics_view: str | None = None,
        blind_view: str | None = None,
        dynamics_lr: float = 3e-4,
        components: int = 4,
        prior_samples: int = 100,
        importance_clip: float | None = 10.0,
        dynamics_updates: int = 8,
        agent_updates: int = 64,
        batch_size: int = 256,
        hold: int | None = None,
        normalize_obs: bool = False,
    ):
        check("learner", dynamics_lr=(dynamics_lr, "(0, inf)"))
        check("learner", importance_clip=(1.0 if importance_clip is None else importance_clip, "[1, inf)"))
        check_whole("learner", components=components, prior_samples=prior_samples)
        check_whole("learner", dynamics_updates=dynamics_updates, agent_updates=agent_updates)
        seen = spec.obs.select(dynamics_view)
        blind = [] if blind_view is None else seen.columns(spec.obs.select(blind_view))
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=hold,
            normalize_obs=normalize_obs,
            policy_class=DADSPolicy,
            predict_obs=seen,
            components=components,
            blind=list(range(seen.dim)) if blind is None else blind,
        )
        self.skill_space, self.dynamics_columns = skill_space, spec.obs.columns(seen)
        self.prior_samples, self.importance_clip = prior_samples, importance_clip
        self.dynamics_updates, self.agent_updates = dynamics_updates, agent_updates
        self.dynamics_optimizer = Adam(self.policy.dynamics.parameters(), dynamics_lr)
        if self.needs()["batch"].fresh and agent_updates > 1:
            raise ValueError(f"learner.agent_updates is {agent_updates}: an on-policy agent needs 1, of what is fresh")

    def needs(self) -> dict[str, Need]:
        return {
            "dynamics": Need("transitions", self.batch_size, repeats=self.dynamics_updates),
            "batch": replace(self.agent.need("transitions", self.batch_size), repeats=self.agent_updates),
        }

    def update(self, batches: Batches) -> Metrics:
        """First the dynamics, then the agent by the reward of those. Metrics are each its last step's."""
        metrics: Metrics = {}
        for batch in several(batches["dynamics"]):
            metrics |= self.fit(batch)
        for batch in several(batches["batch"]):
            metrics |= self.teach(batch)
        return metrics

    def seen(self, obs: Tensor) -> Tensor:
        """The dynamics' view of whole observations."""
        return obs[..., columns_on(self.dynamics_columns, obs.device)]

    def fit(self, batch: Batch) -> Metrics:
        """Maximum likelihood, the transitions weighed by how likely today's policy would have acted so."""
        obs, next_obs = self.seen(batch["obs"]), self.seen(batch["next_obs"])
        log_q = self.policy.dynamics.log_prob(obs, batch["z"], next_obs, fitting=True)
        weights = self.importance(batch)
        loss = -(weights * log_q).mean()
        descend(self.dynamics_optimizer, loss)
        return {
            "dynamics/loss": loss.detach(),
            "dynamics/log_q": log_q.detach().mean(),
            "dynamics/weight": weights.mean(),
        }

    @torch.no_grad()
    def importance(self, batch: Batch) -> Tensor:
        """π(a | s, z) today over what it was, clipped to [1/ε, ε], (B,)."""
        if self.importance_clip is None:
            return torch.ones_like(batch["reward"])
        obs = batch["obs"][..., columns_on(self.columns, batch["obs"].device)]
        action = batch.get("raw_action", batch["action"])  # of an on-policy actor: before it was clipped to the box
        ratio = (self.policy.dist(obs, batch["z"]).log_prob(action) - batch["log_prob"]).exp()
        return ratio.clamp(1 / self.importance_clip, self.importance_clip)

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """log(L + 1) − log(1 + Σ_i exp(log q(s' | s, z_i) − log q(s' | s, z))), (B,): at most log(L + 1)."""
        obs, next_obs, z = self.seen(batch["obs"]), self.seen(batch["next_obs"]), batch["z"]
        rows, samples = len(z), self.prior_samples
        others = self.skill_space.sample(rows * samples, self.generator).to(z.device)
        repeated = [value.repeat_interleave(samples, 0) for value in (obs, next_obs)]
        log_others = self.policy.dynamics.log_prob(repeated[0], others, repeated[1]).view(rows, samples)
        log_own = self.policy.dynamics.log_prob(obs, z, next_obs)
        apart = (log_others - log_own.unsqueeze(1)).clamp(-CLIP, CLIP)  # (B, L)
        return math.log(samples + 1) - F.pad(apart, (1, 0)).logsumexp(1)


def several(batches: Batch | list[Batch]) -> list[Batch]:
    """What a need with any number of repeats brought."""
    return batches if isinstance(batches, list) else [batches]
