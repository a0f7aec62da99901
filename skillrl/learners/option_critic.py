"""The Option-Critic Architecture (Bacon, Harb & Precup 2017, arXiv:1609.05140).

Objective: max E[Σ γ^t r_t] of the env's own reward, at both levels: options ω are policies π_ω(a | s), terminations
β_ω(s), and values Q_Ω(s, ω) by which they are chosen, ε-greedily. All of it climbs online: with
U(ω, s') = (1 − β_ω(s')) Q_Ω(s', ω) + β_ω(s') max_ω' Q_Ω(s', ω') and g = r + γ (1 − terminated) U(ω, s'),

    Q_Ω(s, ω) → g,   π_ω by ∇ log π_ω(a | s) (g − Q_Ω(s, ω)),   β_ω by −∇ β_ω(s') (Q_Ω(s', ω) − max Q_Ω(s', ·) + ξ)

(theorems 1 and 2, algorithm 1). ξ is the deliberation margin: an option ends where another is better by more than that.
Without it an advantage is never above 0, so nothing ever keeps an option from ending, and options shrink to a step.

What differs from the paper or its code (jeanharb/option_critic), and why:
- Q_U(s, ω, a) is estimated by g instead of being learnt beside Q_Ω, as the paper itself does for Atari.
- Several envs at once: the steps of SGD that the code makes in one env are here the sum of those of all rows. Where
  rows can be in one state, their number times critic_lr must stay below 1.
- Networks without hidden layers have biases: tables with an entry that all states share. Where a goal has gone, all
  values sink at once by it; pure tables did not let go of the old goal in 4,000 env steps of each of 16 rows.
- The code chooses options by a softmax of temperature 0.01 where it was left on last; the paper's are ε-greedy.
- ξ = 0.01 is of the Atari experiments; in four rooms the code has none.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.optim import SGD

from skillrl.agents.base import check, check_whole
from skillrl.distributions import Categorical, DiagonalNormal
from skillrl.layers import mlp, tanh_mlp
from skillrl.learners.base import Batches, Learner
from skillrl.networks import DiscreteCritic, EpsilonGreedy, OnPolicyActor
from skillrl.optim import descend
from skillrl.selector import Selector
from skillrl.skill_policy import ActorPolicy, columns_on
from skillrl.skill_spaces import Discrete
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Selection, Spec
from skillrl.spec import Discrete as DiscreteAction

ALONE = Discrete(1)  # values and terminations are of all options at once


class OptionsActor(OnPolicyActor):
    """π_ω(a | s), a head for each option: linear in s, an option could not depend on s otherwise but all did alike."""

    def __init__(self, obs: Field, action: Field | DiscreteAction, space: Discrete, hidden_dims: Sequence[int]):
        nn.Module.__init__(self)
        self.space, self.count = space, space.n
        self.out = action.n if isinstance(action, DiscreteAction) else action.dim
        self.net = tanh_mlp(obs.dim, hidden_dims, space.n * self.out, gain=0.01)
        self.log_std = None if isinstance(action, DiscreteAction) else nn.Parameter(torch.zeros(self.out))

    def forward(self, obs: Tensor, z: Tensor) -> DiagonalNormal | Categorical:
        heads = self.net(obs.float()).unflatten(-1, (self.count, self.out))
        out = torch.take_along_dim(heads, z[..., None, None], -2).squeeze(-2)
        return Categorical(out) if self.log_std is None else DiagonalNormal(out, self.log_std.expand_as(out))


class OptionsPolicy(ActorPolicy):
    """Options with their terminations, and who chooses among them.

    Args:
        epsilon: how often any option is chosen, while exploring.
    """

    space: Discrete

    def __init__(self, *, obs: Field, space: Discrete, hidden_dims: Sequence[int], epsilon: float, **rest: Any):
        rest.setdefault("actor", OptionsActor)
        super().__init__(obs=obs, space=space, hidden_dims=hidden_dims, epsilon=epsilon, **rest)
        self.termination = mlp(obs.dim, hidden_dims, space.n)
        critic = DiscreteCritic(obs, DiscreteAction(space.n), ALONE, hidden_dims)
        for parameter in [p for net in critic.nets for p in list(net.parameters())[-2:]]:
            nn.init.zeros_(parameter)  # of the last layer: no option looks better before anything was seen
        self.chooser = EpsilonGreedy(critic, epsilon)

    def values(self, obs: Tensor) -> Tensor:
        """Q_Ω(s, ·), (B, n)."""
        return self.chooser.critic(obs, torch.zeros(len(obs), dtype=torch.int64, device=obs.device)).amin(0)

    def terminations(self, obs: Tensor) -> Tensor:
        """β(s) of each option, (B, n)."""
        return self.termination(obs.float()).sigmoid()

    def stop(self, obs: Tensor, z: Tensor, skill_step: Tensor) -> Tensor:
        return of(self.terminations(obs), z)

    def selector(self, spec: Spec) -> "ByValue":
        """The policy over options, for an env of ``spec``."""
        return ByValue(self, spec)


class ByValue(Selector):
    """The policy over options: ε-greedy by Q_Ω. An option lasts until its own termination ends it."""

    hold = None

    def __init__(self, policy: OptionsPolicy, spec: Spec):
        self.policy, self.columns = policy, spec.obs.columns(policy.obs)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        seen = obs[..., columns_on(self.columns, obs.device)]
        dist = self.policy.chooser(seen, torch.zeros(len(first), dtype=torch.int64, device=obs.device))
        return Selection(dist.mode() if deterministic else dist.sample(generator)[0])


class OptionCritic(Learner):
    """Args:
    skill_space: the options.
    gamma: discount of one env step.
    margin: ξ, in units of the return.
    epsilon: of the policy over options.
    ent_coef: weight of an entropy bonus for the options' policies.
    critic_lr, actor_lr, termination_lr: of Adam; with a termination_lr of 0 options end as they did at first.
    hidden_dims: widths of all networks; without any, they are linear in what they see, the paper's in four rooms.
    policy_view: what all of it sees.
    batch_size: env steps over all envs that an update waits for; each is learnt from once.
    """

    policy: OptionsPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: Discrete = Discrete(4),
        gamma: float = 0.99,
        margin: float = 0.01,
        epsilon: float = 0.1,
        ent_coef: float = 0.0,
        critic_lr: float = 0.5,
        actor_lr: float = 25.0,
        termination_lr: float = 0.25,
        hidden_dims: Sequence[int] = (),
        policy_view: str | None = None,
        batch_size: int = 8,
    ):
        check("learner", gamma=(gamma, "[0, 1]"), margin=(margin, "[0, inf)"), epsilon=(epsilon, "[0, 1]"))
        check("learner", ent_coef=(ent_coef, "[0, inf)"), critic_lr=(critic_lr, "(0, inf)"))
        check("learner", actor_lr=(actor_lr, "(0, inf)"), termination_lr=(termination_lr, "[0, inf)"))
        check_whole("learner", batch_size=batch_size)
        super().__init__(spec)
        if not isinstance(skill_space, Discrete):
            raise ValueError("learner option_critic needs skills that can be counted: a Discrete skill_space")
        obs = spec.obs.select(policy_view)
        self.policy = OptionsPolicy(
            obs=obs, action=spec.action, space=skill_space, hidden_dims=hidden_dims, epsilon=epsilon
        )
        self.gamma, self.margin, self.ent_coef, self.batch_size = gamma, margin, ent_coef, batch_size
        self.columns = spec.obs.columns(obs)
        self.critic_optimizer = SGD(self.policy.chooser.critic.parameters(), critic_lr)
        self.actor_optimizer = SGD(self.policy.actor.parameters(), actor_lr)
        self.termination_optimizer = SGD(self.policy.termination.parameters(), termination_lr)

    def prior(self) -> Selector:
        return self.policy.selector(self.spec)

    def needs(self) -> dict[str, Need]:
        return {"rollout": Need("fresh", self.batch_size)}

    def update(self, batches: Batches) -> Metrics:
        rollout = batches["rollout"]
        assert isinstance(rollout, Batch)
        batch = rollout.flat()
        columns = columns_on(self.columns, batch["obs"].device)
        batch = batch.replace(obs=batch["obs"][..., columns], next_obs=batch["next_obs"][..., columns])
        target = self.target(batch)
        q = of(self.policy.values(batch["obs"]), batch["z"])
        critic_loss = 0.5 * (q - target).square().sum()
        actor_loss, entropy = self.actor_loss(batch, target - q.detach())
        termination_loss, ends = self.termination_loss(batch)
        descend(self.critic_optimizer, critic_loss)
        descend(self.actor_optimizer, actor_loss)
        descend(self.termination_optimizer, termination_loss)
        return {
            "critic/loss": critic_loss.detach(),
            "critic/q": q.detach().mean(),
            "actor/entropy": entropy.detach(),
            "option/termination": ends.detach().mean(),
            "option/begun": (batch["skill_step"] == 0).float().mean(),
        }

    @torch.no_grad()
    def target(self, batch: Batch) -> Tensor:
        """g = r + discount · ((1 − β) Q_Ω(s', ω) + β max Q_Ω(s', ·)), (B,)."""
        q = self.policy.values(batch["next_obs"])
        ends = of(self.policy.terminations(batch["next_obs"]), batch["z"])
        return batch["reward"] + batch["discount"] * ((1 - ends) * of(q, batch["z"]) + ends * q.amax(-1))

    def actor_loss(self, batch: Batch, advantage: Tensor) -> tuple[Tensor, Tensor]:
        """−log π_ω(a | s) · advantage − ent_coef · entropy; and the entropy."""
        dist = self.policy.actor(batch["obs"], batch["z"])
        entropy = dist.entropy().mean()
        log_prob = dist.log_prob(batch["raw_action"])
        return -(log_prob * advantage).sum() - self.ent_coef * len(log_prob) * entropy, entropy

    def termination_loss(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """β_ω(s') (Q_Ω(s', ω) − max Q_Ω(s', ·) + ξ), where the episode goes on; and β_ω(s'), (B,)."""
        with torch.no_grad():
            q = self.policy.values(batch["next_obs"])
            worth = of(q, batch["z"]) - q.amax(-1) + self.margin
        ends = of(self.policy.terminations(batch["next_obs"]), batch["z"])
        return (ends * worth * ~batch["terminated"]).sum(), ends


def of(values: Tensor, z: Tensor) -> Tensor:
    """(B, n) and z (B,) → (B,)."""
    return values.gather(-1, z.unsqueeze(-1)).squeeze(-1)
