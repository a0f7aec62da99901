"""FB: forward-backward representations (Touati & Ollivier 2021, arXiv:2103.07945; Touati et al. 2023, 2209.14935).

Objective: F and B such that F(s, a, z)·B(s') is how often, discounted, s' comes after (s, a) under π_z, relative to how
often it is in the data, and π_z = argmax_a F(s, a, z)·z. Then z = E[r(s) B(s)] is the best policy for any reward r.

    min E[(F(s, a, z)·B(s⁺) − γ F'(s', π_z(s'), z)·B'(s⁺))²] / 2 − E[F(s, a, z)·B(s')]          (2021, eq. 9)
      + E[(B(s)·B(s⁺))²] − 2 E[‖B(s)‖²]      with s⁺ any state: E B Bᵀ = I                      (2023, appendix)

z and B lie on the sphere of radius √dim. z is drawn for each batch anew: half from the sphere, half B of other states
in the batch; those of the data are not read. From a dataset (``data=``), or from its own experience, where z is kept
for ``hold`` steps.

What differs from the papers or their code (facebookresearch/controllable_agent), and why:
- As in the code, there are two F, and the lower F·B is the target; s⁺ are the batch's s', so that the pairs of one
  batch are enough.
- Later versions of the code add a loss on F·z (``q_loss``): it is not in the papers, and not here.
- Of discrete actions π_z is a softmax of F·z / ``temperature`` in the target, as in the code's discrete agent: a greedy
  one jumps as F moves, and F runs after it. It acts ε-greedily, and greedily once it is learnt.
- Plain layers of ``hidden_dims`` for F and the policy, where the code embeds (s, a) and (s, z) apart.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from skillrl.agents.base import check
from skillrl.layers import feature_mlp
from skillrl.learners.base import Batches, Learner, refuse_teams
from skillrl.networks import EpsilonGreedy, NoisyActor, SuccessorCritic, SuccessorValues
from skillrl.optim import Adam, descend, frozen_copy, polyak
from skillrl.selector import Prior, Selector
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import SkillSpace, WideSphere
from skillrl.spec import Batch, Discrete, Field, Metrics, Need, Spec


class SuccessorActor(EpsilonGreedy):
    """ε-greedy on F·z, of discrete actions. It owns F."""

    def __init__(self, obs: Field, action: Discrete, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__(SuccessorValues(obs, action, space, hidden_dims))


class FBPolicy(ActorPolicy):
    """The policies π_z with B, which says what z a goal (``ReachesGoals``) or a reward (``FitsRewards``) wants."""

    def __init__(
        self,
        *,
        action: Field | Discrete,
        space: WideSphere,
        encoder_obs: Field,
        encoder_dims: Sequence[int],
        **rest: Any,
    ):
        kept: dict[str, Any] = {"encoder_obs": encoder_obs, "encoder_dims": list(encoder_dims)}
        rest.setdefault("actor", SuccessorActor if isinstance(action, Discrete) else NoisyActor)
        super().__init__(action=action, space=space, **kept, **rest)
        self.goal_obs = self.reward_obs = encoder_obs
        self.encoder = feature_mlp(encoder_obs.dim, encoder_dims, space.direction_dim)

    def backward_map(self, obs: Tensor) -> Tensor:
        """B, (B, dim), of length √dim."""
        return self.space.project(self.encoder(obs.float()))

    def goal_to_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        """B(goal), wherever one is."""
        return self.backward_map(goal)

    def reward_to_skill(self, obs: Tensor, reward: Tensor) -> Tensor:
        """E[r B], at the length of all z."""
        if not reward.any():
            raise ValueError("the reward is 0 in all samples: no skill earns it better than another")
        return self.space.toward((reward.unsqueeze(-1) * self.backward_map(obs)).mean(0))


class FB(Learner):
    """Skills that are the best policies of all rewards that B can tell apart.

    Args:
        skill_space: as many axes as F and B have.
        hidden_dims: widths of F and of the policy. encoder_dims: of B. encoder_view: what B sees.
        gamma, tau, lr: the discount, the rate of the slow F and B, Adam's rate for everything.
        orthonormality: weight of B's loss.
        data_skills: share of z that are B of states.
        noise, noise_clip: of a box policy's actions, its deviation and where it is cut off, in training.
        temperature: of discrete actions, of the softmax that the target follows, in F·z. epsilon: how often any of them
            is taken while collecting.
    """

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: WideSphere = WideSphere(50),
        hidden_dims: Sequence[int] = (1024, 1024),
        policy_view: str | None = None,
        encoder_view: str | None = None,
        encoder_dims: Sequence[int] = (256, 256),
        gamma: float = 0.98,
        tau: float = 0.01,
        lr: float = 1e-4,
        orthonormality: float = 1.0,
        data_skills: float = 0.5,
        noise: float = 0.2,
        noise_clip: float = 0.3,
        temperature: float = 100.0,
        epsilon: float = 0.2,
        batch_size: int = 1024,
        hold: int | None = 300,
    ):
        super().__init__(spec)
        refuse_teams(self, spec)
        check("learner", gamma=(gamma, "[0, 1)"), tau=(tau, "(0, 1]"), lr=(lr, "(0, inf)"), epsilon=(epsilon, "[0, 1]"))
        check("learner", orthonormality=(orthonormality, "[0, inf)"), data_skills=(data_skills, "[0, 1]"))
        check("learner", temperature=(temperature, "(0, inf)"))
        check("learner", noise=(noise, "(0, inf)"), noise_clip=(noise_clip, "(0, inf)"))
        if not isinstance(skill_space, WideSphere):
            raise ValueError(f"skill_space is {type(skill_space).__name__}: FB's z and B lie on a WideSphere")
        obs, seen = spec.obs.select(policy_view), spec.obs.select(encoder_view)
        self.columns, self.encoder_columns = spec.obs.columns(obs), spec.obs.columns(seen)
        self.policy = FBPolicy(
            obs=obs,
            action=spec.action,
            space=skill_space,
            hidden_dims=list(hidden_dims),
            encoder_obs=seen,
            encoder_dims=encoder_dims,
        )
        if isinstance(spec.action, Discrete):
            self.forward_map: Any = self.policy.actor.critic
            self.policy.actor.epsilon.fill_(epsilon)
        else:
            self.forward_map = SuccessorCritic(obs, spec.action, skill_space, hidden_dims)
            self.policy.actor.set_noise(noise, noise_clip)
            self.actor_optimizer = Adam(self.policy.actor.parameters(), lr)
        self.slow_forward: Any = frozen_copy(self.forward_map)
        self.slow_encoder = frozen_copy(self.policy.encoder)
        self.optimizer = Adam([*self.forward_map.parameters(), *self.policy.encoder.parameters()], lr)
        self.skill_space, self.gamma, self.tau, self.temperature = skill_space, gamma, tau, temperature
        self.orthonormality, self.data_skills, self.batch_size = orthonormality, data_skills, batch_size
        self.selector = Prior(skill_space, hold=hold)

    def prior(self) -> Selector:
        return self.selector

    def kept_critic(self) -> nn.Module | None:
        return self.forward_map

    def needs(self) -> dict[str, Need]:
        return {"batch": Need("transitions", self.batch_size)}

    def update(self, batches: Batches) -> Metrics:
        """One step of F and B, one of the policy, one of the slow copies."""
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        columns = columns_on(self.columns, batch["obs"].device)
        state = batch["next_obs"][..., columns_on(self.encoder_columns, batch["obs"].device)]
        batch = batch.replace(
            obs=batch["obs"][..., columns], next_obs=batch["next_obs"][..., columns], z=self.draw_skills(state)
        )
        loss, metrics = self.loss(batch, state)
        descend(self.optimizer, loss)
        metrics |= self.update_actor(batch)
        polyak(self.slow_forward, self.forward_map, self.tau)
        polyak(self.slow_encoder, self.policy.encoder, self.tau)
        return metrics

    def draw_skills(self, state: Tensor) -> Tensor:
        """(B, dim), from the sphere and, some of them, B of states of the batch."""
        n, device = len(state), state.device
        z = self.skill_space.sample(n, self.generator).to(device)
        with torch.no_grad():
            toward = self.policy.backward_map(state)[torch.randperm(n, generator=self.generator, device=device)]
        mixed = torch.rand(n, generator=self.generator, device=device) < self.data_skills
        return torch.where(mixed.unsqueeze(-1), toward, z)

    def loss(self, batch: Batch, state: Tensor) -> tuple[Tensor, Metrics]:
        """Of F and B; ``state`` (B, ...) is what B sees of s'. Pairs off the diagonal have nothing in common."""
        backward = self.policy.backward_map(state)  # (B, dim)
        with torch.no_grad():
            slow = self.skill_space.project(self.slow_encoder(state.float()))
            target = batch["discount"].unsqueeze(-1) * (self.next_successors(batch) @ slow.T).amin(0)  # (B, B)
        measure = self.successors(batch) @ backward.T  # (2, B, B)
        successor = sum(0.5 * off_diagonal(one - target) - one.diagonal().mean() for one in measure)
        alike = backward @ backward.T
        orthonormal = off_diagonal(alike) - 2 * alike.diagonal().mean()
        metrics = {
            "forward/loss": successor.detach(),
            "forward/measure": measure.detach().mean(),
            "backward/loss": orthonormal.detach(),
        }
        return successor + self.orthonormality * orthonormal, metrics

    def successors(self, batch: Batch) -> Tensor:
        """F(s, a, z), (2, B, dim)."""
        taken = getattr(self.forward_map, "chosen", self.forward_map)
        return taken(batch["obs"], batch["z"], batch["action"])

    def next_successors(self, batch: Batch) -> Tensor:
        """F'(s', π_z(s'), z), (2, B, dim): at an action of the policy's, or their mean over a softmax."""
        obs, z = batch["next_obs"], batch["z"]
        if isinstance(self.slow_forward, SuccessorCritic):
            return self.slow_forward(obs, z, self.policy.dist(obs, z).sample(self.generator)[0])
        chance = self.chances(self.slow_forward, obs, z)
        return (chance.unsqueeze(-1) * self.slow_forward.successors(obs, z)).sum(-2)

    def chances(self, values: nn.Module, obs: Tensor, z: Tensor) -> Tensor:
        """π_z of discrete actions in the target, (B, n)."""
        return (values(obs, z).amin(0) / self.temperature).softmax(-1)

    def update_actor(self, batch: Batch) -> Metrics:
        """Up the lower F·z. Of discrete actions the policy is F's own maximum."""
        if not isinstance(self.forward_map, SuccessorCritic):
            return {}
        action, _ = self.policy.dist(batch["obs"], batch["z"]).sample(self.generator)
        value = self.forward_map.reduce(self.forward_map(batch["obs"], batch["z"], action), batch["z"]).amin(0)
        descend(self.actor_optimizer, -value.mean())
        return {"actor/value": value.detach().mean()}


def off_diagonal(pairs: Tensor) -> Tensor:
    """The mean square of a matrix (B, B) off its diagonal, ()."""
    n = len(pairs)
    return (pairs.square().sum() - pairs.diagonal().square().sum()) / (n * (n - 1))
