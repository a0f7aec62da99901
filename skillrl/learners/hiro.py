"""HIRO: Data-Efficient Hierarchical Reinforcement Learning (Nachum et al. 2018, arXiv:1805.08296).

Objective: two levels learn from one rollout, the upper one to earn the env's own reward by the goals g that it sets,
the lower one to earn −‖s + g − s'‖ (eq. 3). A goal is set every c env steps, an offset from where the body is; it stays
at the same place as the body moves, by h(s, g, s') = s + g − s'.

Off-policy relabelling (section 3.3): the goals that the upper level learns from are those that the lower level, as it
is now, would have needed to act as it did: of {g, s_{t+c} − s_t, 8 draws around that} the one with the highest
Σ_i log μ(a_i | s_i, g_i) ∝ −½ Σ_i ‖a_i − μ(s_i, g_i)‖², g_{i+1} = h(s_i, g_i, s_{i+1}).

What differs from the paper or its code (tensorflow/models, research/efficient-hrl), and why:
- Goals have one range, for all of ``goal_view``; on the Ant the paper's have 15, of which x,y have ±10.
- The upper level is updated as often as the lower one, not a tenth as often.
- Rewards within a decision are discounted, as everywhere here: γ = 0.999 per env step is the paper's 0.99 a decision.
- Noise that explores is 0.1 of the range of goals, and of actions: the paper's 1.0 of goals that reach 10. The critic's
  loss is TD3's and not Huber's.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from skillrl.agents.base import Agent, build, check, check_whole
from skillrl.agents.td3 import TD3
from skillrl.learners.base import Batches, Learner
from skillrl.selector import Selector
from skillrl.skill_policy import ActorPolicy, SkillPolicy, columns_on
from skillrl.skill_spaces import Box, Discrete
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Selection, Spec

PAPER_AGENT = partial(TD3, actor_lr=1e-4)  # research/efficient-hrl, configs/train_uvf.gin; of both levels
ALONE = Discrete(1)  # the upper level's networks are conditioned on nothing


class HIROPolicy(ActorPolicy):
    """Both levels: (obs, g) → action, and ``upper``, obs → g. The lower one ``ReachesGoals``.

    Args:
        goal_obs: what goals are offsets of. upper_obs: what the upper level sees. hold: env steps of a goal, c.
    """

    space: Box

    def __init__(
        self, *, goal_obs: Field, upper_obs: Field, hold: int, space: Box, hidden_dims: Sequence[int], **rest: Any
    ):
        both: dict[str, Any] = {"goal_obs": goal_obs, "upper_obs": upper_obs, "hold": hold}
        super().__init__(space=space, hidden_dims=hidden_dims, **both, **rest)
        self.goal_obs, self.hold = goal_obs, hold
        kind = type(self.actor)
        self.upper = ActorPolicy(obs=upper_obs, action=space.action(), space=ALONE, hidden_dims=hidden_dims, actor=kind)

    def selector(self, spec: Spec) -> "Subgoals":
        """The upper level, for an env of ``spec``."""
        return Subgoals(self, spec)

    def goal_to_skill(self, obs: Tensor, goal: Tensor) -> Tensor:
        return (goal - obs).clamp(self.space.low, self.space.high)


class Subgoals(Selector):
    """The upper level's side of the option loop."""

    def __init__(self, policy: HIROPolicy, spec: Spec):
        self.policy, self.hold = policy, policy.hold
        self.seen, self.place = spec.obs.columns(policy.upper.obs), spec.obs.columns(policy.goal_obs)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        seen = obs[..., columns_on(self.seen, obs.device)]
        nothing = torch.zeros(len(first), dtype=torch.int64, device=obs.device)
        action, _ = self.policy.upper.act(seen, nothing, deterministic=deterministic, generator=generator)
        return Selection(self.policy.space.project(action))

    def advance(self, obs: Tensor, z: Tensor, next_obs: Tensor) -> Tensor:
        """h: the goal stays where it is, as the body moves."""
        place = columns_on(self.place, obs.device)
        return z + obs[..., place] - next_obs[..., place]


class HIRO(Learner):
    """Args:
    agent: of both levels, off-policy: td3 or sac.
    goal_view: what goals are offsets of. goal_range: how far they reach, in its own units.
    hold: env steps of a goal, c.
    candidates: goals that relabelling chooses from, the one that was set among them; 1 is no relabelling.
    reward_scale: of the upper level's reward.
    upper_gamma: discount of one env step for the upper level; the agent's own is the lower one's.
    policy_view: what the lower level sees besides its goal. hidden_dims: of all networks.
    batch_size: transitions, and decisions, an update.
    """

    policy: HIROPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        agent: Callable[..., Agent] = PAPER_AGENT,
        goal_view: str = "xy",
        goal_range: float = 10.0,
        hold: int = 10,
        candidates: int = 10,
        reward_scale: float = 0.1,
        upper_gamma: float = 0.999,
        hidden_dims: Sequence[int] = (300, 300),
        policy_view: str | None = None,
        batch_size: int = 100,
    ):
        check("learner", goal_range=(goal_range, "(0, inf)"), reward_scale=(reward_scale, "(0, inf)"))
        check("learner", upper_gamma=(upper_gamma, "[0, 1]"))
        check_whole("learner", hold=hold, candidates=candidates, batch_size=batch_size)
        super().__init__(spec)
        goal_obs, seen = spec.obs.select(goal_view), spec.obs.select(policy_view)
        space = Box(goal_obs.dim, -goal_range, goal_range)
        policy, self.lower = build(
            agent,
            spec,
            obs=seen,
            action=spec.action,
            space=space,
            hidden_dims=hidden_dims,
            policy_class=HIROPolicy,
            goal_obs=goal_obs,
            upper_obs=spec.obs,
            hold=hold,
        )
        assert isinstance(policy, HIROPolicy)
        self.policy = policy
        upper = Spec(spec.obs, space.action(), horizon=spec.horizon)
        _, self.upper = build(
            agent,
            upper,
            obs=spec.obs,
            action=upper.action,
            space=ALONE,
            hidden_dims=hidden_dims,
            policy_class=upper_of(self.policy),
        )
        if self.lower.need("transitions", 1).fresh:
            raise ValueError("learner hiro needs an off-policy agent: take agent@learner.agent=td3 or sac")
        self.gamma = upper_gamma  # what decisions are collected with
        self.columns, self.place = spec.obs.columns(seen), spec.obs.columns(goal_obs)
        self.candidates, self.reward_scale, self.batch_size = candidates, reward_scale, batch_size

    def prior(self) -> Selector:
        return self.policy.selector(self.spec)

    def needs(self) -> dict[str, Need]:
        length = max(self.policy.hold, 2)  # of 1, the steps would not come along
        return {
            "lower": self.lower.need("transitions", self.batch_size),
            "upper": Need("decisions", self.batch_size, length=length),
        }

    def update(self, batches: Batches) -> Metrics:
        lower, upper = batches["lower"], batches["upper"]
        assert isinstance(lower, Batch) and isinstance(upper, Batch)
        return self.update_lower(lower) | self.update_upper(upper)

    # ---- the lower level

    def update_lower(self, batch: Batch) -> Metrics:
        seen = columns_on(self.columns, batch["obs"].device)
        next_z = self.stay(batch["z"], batch["obs"], batch["next_obs"])
        reward = -next_z.norm(dim=-1)
        told = batch.replace(
            obs=batch["obs"][..., seen],
            next_obs=batch["next_obs"][..., seen],
            next_z=next_z,
            reward=reward,
            discount=self.lower.gamma * (1 - batch["terminated"].float()),
        )
        metrics = self.lower.update(told, self.generator)
        return _named("lower", metrics) | {"reward/intrinsic": reward.mean()}

    def stay(self, z: Tensor, obs: Tensor, next_obs: Tensor) -> Tensor:
        """h(s, g, s') = s + g − s', whole observations (..., obs_dim)."""
        place = columns_on(self.place, obs.device)
        return z + obs[..., place] - next_obs[..., place]

    # ---- the upper level

    def update_upper(self, batch: Batch) -> Metrics:
        z = self.relabel(batch)
        told = batch.replace(
            action=z / self.policy.space.high,
            reward=self.reward_scale * batch["reward"],
            z=torch.zeros_like(batch["duration"]),
            next_z=torch.zeros_like(batch["duration"]),
        )
        metrics = self.upper.update(told, self.generator)
        moved = (z - batch["z"]).norm(dim=-1)
        return _named("upper", metrics) | {"relabel/moved": moved.mean(), "reward/decision": batch["reward"].mean()}

    @torch.no_grad()
    def relabel(self, batch: Batch) -> Tensor:
        """The goals (B, dim) under which the lower level would most likely have acted as it did."""
        tried = self.tried(batch)  # (candidates, B, dim)
        best = self.log_likelihood(batch, tried).argmax(0)  # (B,)
        return torch.take_along_dim(tried, best[None, :, None], 0).squeeze(0)

    def tried(self, batch: Batch) -> Tensor:
        """(candidates, B, dim): the goal that was set, where the steps led, and draws around that."""
        led = self.stay(torch.zeros_like(batch["z"]), batch["next_obs"], batch["obs"])  # s_{t+c} − s_t
        space, draws = self.policy.space, max(self.candidates - 2, 0)
        noise = torch.randn((draws, *led.shape), generator=self.generator, device=led.device)
        others = torch.cat([led[None], led + 0.5 * space.high * noise])[: self.candidates - 1]
        return torch.cat([batch["z"][None], others.clamp(space.low, space.high)])

    def log_likelihood(self, batch: Batch, tried: Tensor) -> Tensor:
        """−½ Σ_i ‖a_i − μ(s_i, g_i)‖², (candidates, B): of the lower level's actions, had these been the goals."""
        obs, action, mask = batch["step_obs"], batch["step_action"], batch["step_mask"]  # (B, c, ...)
        z = self.stay(tried.unsqueeze(2), obs[:, :1], obs)  # (candidates, B, c, dim)
        seen = obs[..., columns_on(self.columns, obs.device)].expand(len(tried), *obs.shape[:2], -1)
        off = (action - self.policy.dist(seen, z).mode()).square().sum(-1)  # (candidates, B, c)
        return -0.5 * (off * mask).sum(-1)


def upper_of(policy: HIROPolicy) -> Any:
    """As the class of a policy that is already there."""

    def made(**_: Any) -> SkillPolicy:
        return policy.upper

    return made


def _named(level: str, metrics: Metrics) -> Metrics:
    """``critic/loss`` of a level as ``lower_critic/loss``."""
    return {f"{level}_{name}": value for name, value in metrics.items()}
