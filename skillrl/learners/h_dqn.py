"""h-DQN: Hierarchical Deep Reinforcement Learning (Kulkarni et al. 2016, arXiv:1604.06057).

Objective: a meta-controller chooses among given goals g, a controller takes actions until g is reached, both are DQNs:

    Q_1(s, a; g)  →  1 where s' reaches g, else γ max_a' Q_1(s', a'; g)          (eq. 1, the critic's intrinsic reward)
    Q_2(s, g)     →  Σ_i γ^i r_i + γ^k max_g' Q_2(s', g')                          (eq. 2, of the env's own reward)

The controller explores less the better it reaches a goal: ε_g = 1 − how often g was reached, while its own annealing
is above that; never less than ε_final.

What differs from the paper, whose code (mrkulk/hierarchical-deep-RL) is of Montezuma's Revenge, and why:
- Q_2 discounts by the env steps that a goal took, as everywhere here; eq. 2 sums rewards without discount.
- How often a goal was reached is a running mean over decisions drawn from the replay, and so is a little late.
- Agents are this project's DQN: Adam and Huber's loss.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import torch
from torch import Generator, Tensor

from skillrl.agents.base import Agent, build, check, check_whole
from skillrl.agents.dqn import DQN
from skillrl.distributions import Distribution, EpsilonGreedyChoice
from skillrl.learners.base import Batches, Learner
from skillrl.networks import ValueActor
from skillrl.selector import Selector
from skillrl.skill_policy import ValuePolicy, columns_on
from skillrl.skill_spaces import Discrete, SkillSpace
from skillrl.spec import Batch, Carry, Field, Metrics, Need, Selection, Spec
from skillrl.spec import Discrete as DiscreteAction

PAPER_AGENT = partial(DQN, lr=2.5e-4, epsilon_final=0.1, epsilon_updates=50_000)  # section 4.2, appendix
DOORS = ((2.0, -1.0), (1.0, -2.0), (3.0, -2.0), (2.0, -5.0))
"""Of the four rooms, and a state between them."""
ALONE = Discrete(1)  # the meta-controller is conditioned on nothing


class GoalActor(ValueActor):
    """ε-greedy with an ε for each goal."""

    def __init__(self, obs: Field, action: Field | DiscreteAction, space: SkillSpace, hidden_dims: Sequence[int]):
        super().__init__(obs, action, space, hidden_dims)
        self.epsilon = torch.ones(space.count or 1)

    def forward(self, obs: Tensor, z: Tensor) -> Distribution:
        return EpsilonGreedyChoice(self.critic(obs, z).amin(0), self.epsilon[z])


class HDQNPolicy(ValuePolicy):
    """The controller, z the number of a goal, and ``meta``, which chooses one. A skill stops in its goal.

    Args:
        goals: (K, dim), in ``goal_obs``, which is part of ``obs``. radius: how near counts as reached.
        meta_obs: what the meta-controller sees. hold: env steps that a goal is tried for; None: no limit.
    """

    space: Discrete
    goals: Tensor

    def __init__(
        self,
        *,
        obs: Field,
        goals: Sequence[Sequence[float]],
        goal_obs: Field,
        radius: float,
        meta_obs: Field,
        hold: int | None,
        hidden_dims: Sequence[int],
        **rest: Any,
    ):
        rest.setdefault("actor", GoalActor)
        given: dict[str, Any] = {"goals": [list(goal) for goal in goals], "goal_obs": goal_obs, "radius": radius}
        super().__init__(obs=obs, hidden_dims=hidden_dims, meta_obs=meta_obs, hold=hold, **given, **rest)
        self.columns, self.radius, self.hold = obs.columns(goal_obs), radius, hold
        self.register_buffer("goals", torch.tensor(given["goals"], dtype=torch.float32), persistent=False)
        chosen = DiscreteAction(self.space.n)
        self.meta = ValuePolicy(obs=meta_obs, action=chosen, space=ALONE, hidden_dims=hidden_dims)

    def reached(self, obs: Tensor, z: Tensor) -> Tensor:
        """Whether ``obs`` (B, ...) is in goal z, (B,) bool."""
        place = obs[..., columns_on(self.columns, obs.device)]
        return (place - self.goals[z]).norm(dim=-1) <= self.radius

    def stop(self, obs: Tensor, z: Tensor, skill_step: Tensor) -> Tensor:
        return self.reached(obs, z).float()

    def selector(self, spec: Spec) -> "Choosing":
        """The meta-controller, for an env of ``spec``."""
        return Choosing(self, spec)


class Choosing(Selector):
    """The meta-controller's side of the option loop."""

    def __init__(self, policy: HDQNPolicy, spec: Spec):
        self.policy, self.hold = policy, policy.hold
        self.columns = spec.obs.columns(policy.meta.obs)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        seen = obs[..., columns_on(self.columns, obs.device)]
        nothing = torch.zeros(len(first), dtype=torch.int64, device=obs.device)
        return Selection(self.policy.meta.act(seen, nothing, deterministic=deterministic, generator=generator)[0])


class HDQN(Learner):
    """Args:
    agent, meta_agent: of the controller and of the meta-controller, each a DQN.
    goals: (K, dim), in ``goal_view``. radius: how near counts as reached.
    hold: env steps after which another goal is chosen; None: no sooner than it is reached, or the episode over.
    intrinsic_weight, extrinsic_weight: what the controller is paid for its goal, and of the env's own reward.
    success_rate: of the running mean of how often goals are reached, a decision.
    hidden_dims: of all networks.
    policy_view: what the controller sees, ``goal_view`` among it.
    batch_size: transitions, and decisions, an update.
    """

    policy: HDQNPolicy
    reached: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        agent: Callable[..., Agent] = PAPER_AGENT,
        meta_agent: Callable[..., Agent] = PAPER_AGENT,
        goals: Sequence[Sequence[float]] = DOORS,
        goal_view: str = "xy",
        radius: float = 0.4,
        hold: int | None = None,
        intrinsic_weight: float = 1.0,
        extrinsic_weight: float = 0.0,
        success_rate: float = 0.01,
        hidden_dims: Sequence[int] = (256, 256),
        policy_view: str | None = None,
        batch_size: int = 256,
    ):
        check("learner", radius=(radius, "[0, inf)"), success_rate=(success_rate, "(0, 1]"))
        for name, weight in {"intrinsic_weight": intrinsic_weight, "extrinsic_weight": extrinsic_weight}.items():
            check("learner", **{name: (weight, "[0, inf)")})
        check_whole("learner", batch_size=batch_size, **({} if hold is None else {"hold": hold}))
        super().__init__(spec)
        if not isinstance(spec.action, DiscreteAction):
            raise ValueError("learner h_dqn needs a discrete action, this one is a box: take learner=hiro")
        goal_obs, seen = spec.obs.select(goal_view), spec.obs.select(policy_view)
        if not goals or any(len(goal) != goal_obs.dim for goal in goals):
            raise ValueError(f"learner.goals is {goals!r}: it must be a list of goals of {goal_obs.dim} numbers each")
        policy, controller = build(
            agent,
            spec,
            obs=seen,
            action=spec.action,
            space=Discrete(len(goals)),
            hidden_dims=hidden_dims,
            policy_class=HDQNPolicy,
            goals=goals,
            goal_obs=goal_obs,
            radius=radius,
            meta_obs=spec.obs,
            hold=hold,
            actor=GoalActor,
        )
        assert isinstance(policy, HDQNPolicy)
        self.policy, meta = policy, policy.meta
        chooser = Spec(spec.obs, meta.action, horizon=spec.horizon)
        if not isinstance(controller, DQN):
            raise ValueError("learner h_dqn needs agent dqn for both of its levels")
        self.controller, self.epsilon_final = controller, controller.epsilon_final
        self.meta = meta_agent(chooser, actor=meta.actor, critic=meta.actor.critic)
        self.gamma = self.controller.gamma
        self.columns, self.batch_size = spec.obs.columns(seen), batch_size
        self.intrinsic_weight, self.extrinsic_weight = intrinsic_weight, extrinsic_weight
        self.success_rate = success_rate
        self.register_buffer("reached", torch.zeros(len(goals)))

    def prior(self) -> Selector:
        return self.policy.selector(self.spec)

    def needs(self) -> dict[str, Need]:
        return {"steps": Need("transitions", self.batch_size), "decisions": Need("decisions", self.batch_size)}

    def update(self, batches: Batches) -> Metrics:
        steps, decisions = batches["steps"], batches["decisions"]
        assert isinstance(steps, Batch) and isinstance(decisions, Batch)
        return self.update_controller(steps) | self.update_meta(decisions) | self.explore(decisions)

    def update_controller(self, batch: Batch) -> Metrics:
        """Of all steps, towards the goals that were tried in them."""
        columns = columns_on(self.columns, batch["obs"].device)
        told = batch.replace(obs=batch["obs"][..., columns], next_obs=batch["next_obs"][..., columns])
        there = self.policy.reached(told["next_obs"], batch["z"]).float()
        reward = self.intrinsic_weight * there + self.extrinsic_weight * batch["reward"]
        told = told.replace(reward=reward, discount=batch["discount"] * (1 - there), next_z=batch["z"])
        metrics = self.controller.update(told, self.generator)
        return {f"controller_{name}": value for name, value in metrics.items() if name.startswith("critic")}

    def update_meta(self, batch: Batch) -> Metrics:
        nothing = torch.zeros_like(batch["duration"])
        told = batch.replace(action=batch["z"], z=nothing, next_z=nothing)
        metrics = self.meta.update(told, self.generator)
        return {f"meta_{name}": value for name, value in metrics.items()}

    def explore(self, batch: Batch) -> Metrics:
        """How often goals were reached, and each one's ε by it."""
        columns = columns_on(self.columns, batch["obs"].device)
        there = self.policy.reached(batch["next_obs"][..., columns], batch["z"]).float()
        tried = torch.zeros_like(self.reached).index_add(0, batch["z"], torch.ones_like(there))  # (K,)
        came = torch.zeros_like(self.reached).index_add(0, batch["z"], there)
        share = 1 - (1 - self.success_rate) ** tried  # of the running mean that is new
        self.reached.lerp_(came / tried.clamp(min=1), share)
        epsilon = self.policy.actor.get_buffer("epsilon")  # all alike, as the agent annealed it
        epsilon.copy_(epsilon.minimum(1 - self.reached).clamp(min=self.epsilon_final))
        return {"goal/reached": self.reached.mean(), "controller_actor/epsilon": epsilon.mean()}
