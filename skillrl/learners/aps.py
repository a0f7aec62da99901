"""APS: active pretraining with successor features (Liu & Abbeel 2021, arXiv:2108.13956).

Objective: max I(S; Z) = H(S) − H(S | Z), by r(s', z) = log(1 + how far the nearest others are in φ) + φ̂(s')·z, with φ
fitted to ascend E[φ̂(s')·z]: skills go where few states are, and where φ̂ = φ / ‖φ‖ points along z. Then z is the task
of any reward that is linear in φ̂, and is found by its regression.

Distances are those to the k nearest others of the batch, in φ, by their running mean.

What differs from the paper or its code (rll-research/url_benchmark), and why:
- ψ sums φ̂ and nothing else, as the name says, and the bonus has a channel of its own: Q = ψ·z + that. The code fits
  ψ·z alone to the sum of both rewards, so that its ψ is no successor feature.
- A point is not among its own nearest: in the code it is the first of the k, at distance 0.
- The regression is of r on φ̂. The code hands its arguments over the wrong way round: what it solves is not that.
- The code stores a skill with the action before its first, and pays one reward for three steps. Neither is here.
- SAC in place of DDPG: its target entropy is that of the code's noise, a normal of deviation 0.2, −0.19 nats an axis.
- The paper's generalised policy improvement is for countable actions, and neither in the code nor here.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from skillrl.agents.base import Agent, check, check_whole
from skillrl.agents.sac import SAC
from skillrl.estimators import knn_distances, regression
from skillrl.layers import mlp
from skillrl.learners.base import RewardLearner
from skillrl.moments import Moments
from skillrl.networks import Critic, along_axes
from skillrl.optim import Adam, descend
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import SkillSpace, Sphere
from skillrl.spec import Batch, Field, Metrics, Spec

PAPER_AGENT = partial(SAC, tau=0.01, lr=1e-4, alpha_init=0.01, target_entropy_multiplier=0.19, entropy_in_target=False)
TINY = 1e-8  # where all that was seen is one state


class BonusCritic(Critic):
    """ψ(obs, a, z), an axis a channel, and in the last channel what the bonus sums to. The actor climbs ψ·z + that."""

    def __init__(self, obs: Field, action: Field, space: SkillSpace, hidden_dims: Sequence[int], *, ensemble: int = 2):
        super().__init__(obs, action, space, hidden_dims, ensemble=ensemble, channels=space.direction_dim + 1)
        self.register_buffer("along", along_axes(space, self.channels))

    def reduce(self, q: Tensor, z: Tensor) -> Tensor:
        return (q[..., :-1] * self.space.direction(z)).sum(-1) + q[..., -1]


class APSPolicy(ActorPolicy):
    """The skills with φ, which says what z a reward wants: ``FitsRewards``."""

    def __init__(self, *, space: Sphere, hidden_dims: Sequence[int], encoder_obs: Field, **rest: Any):
        super().__init__(space=space, hidden_dims=hidden_dims, encoder_obs=encoder_obs, **rest)
        self.reward_obs = encoder_obs
        self.encoder = mlp(encoder_obs.dim, hidden_dims, space.direction_dim)

    def features(self, obs: Tensor) -> Tensor:
        """φ̂, (B, dim), of length 1."""
        return F.normalize(self.encoder(obs.float()), dim=-1)

    def reward_to_skill(self, obs: Tensor, reward: Tensor) -> Tensor:
        """z ∝ argmin_w Σ (w·φ̂(s) − r)²."""
        return self.space.toward(regression(self.features(obs), reward))


class APS(RewardLearner):
    """Skills that go along every direction of φ̂, and out to where few states are.

    Args:
        skill_space: directions in φ's space.
        encoder_view: what φ sees; None is all of the observation. encoder_lr: Adam's, of φ.
        neighbours: k, of the distances. distance_floor: what is taken off them, in their running mean.
        hidden_dims: widths of φ too.
    """

    policy: APSPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Sphere = Sphere(10),
        agent: Callable[..., Agent] = PAPER_AGENT,
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_lr: float = 1e-4,
        neighbours: int = 12,
        distance_floor: float = 1e-4,
        batch_size: int = 1024,
        hold: int | None = 5,
    ):
        check("learner", encoder_lr=(encoder_lr, "(0, inf)"), distance_floor=(distance_floor, "[0, inf)"))
        check_whole("learner", neighbours=neighbours)
        if neighbours >= batch_size:
            raise ValueError(f"learner.neighbours is {neighbours}: it must be below batch_size, {batch_size}")
        seen = spec.obs.select(encoder_view)
        super().__init__(
            spec,
            skill_space=skill_space,
            agent=agent,
            hidden_dims=hidden_dims,
            policy_view=policy_view,
            batch_size=batch_size,
            hold=hold,
            critic=BonusCritic,
            policy_class=APSPolicy,
            encoder_obs=seen,
        )
        if not isinstance(self.kept_critic(), BonusCritic):
            raise ValueError("learner aps needs an agent whose critic has an axis for each of φ's: take agent sac")
        self.skill_space, self.encoder_columns = skill_space, spec.obs.columns(seen)
        self.neighbours, self.distance_floor = neighbours, distance_floor
        self.distance = Moments()
        self.encoder_optimizer = Adam(self.policy.encoder.parameters(), encoder_lr)

    def seen(self, obs: Tensor) -> Tensor:
        """φ's view of whole observations."""
        return obs[..., columns_on(self.encoder_columns, obs.device)]

    def fit(self, batch: Batch) -> Metrics:
        """φ̂ of where steps led turns towards their z; then distances go into their running mean."""
        next_obs = self.seen(batch["next_obs"])
        along = (self.policy.features(next_obs) * self.skill_space.direction(batch["z"])).sum(-1).mean()
        descend(self.encoder_optimizer, -along)
        self.distance.update(self.distances(next_obs).flatten())
        return {"reward/along": along.detach(), "encoder/distance": self.distance.mean.clone()}

    @torch.no_grad()
    def distances(self, next_obs: Tensor) -> Tensor:
        """In φ, of each to its nearest others, (B, neighbours)."""
        return knn_distances(self.policy.encoder(next_obs.float()), self.neighbours)

    def bonus(self, next_obs: Tensor) -> Tensor:
        """log(1 + mean distance to the nearest others, by what it is as a rule), (B,)."""
        far = self.distances(next_obs) / self.distance.mean.clamp(min=TINY)
        return (far - self.distance_floor).clamp(min=0).mean(-1).log1p()

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """φ̂(s'), what ψ sums, and the bonus: (B, dim + 1)."""
        next_obs = self.seen(batch["next_obs"])
        return torch.cat([self.policy.features(next_obs), self.bonus(next_obs).unsqueeze(-1)], -1)
