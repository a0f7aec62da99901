"""The contract of a skill learner, and the template that most papers fill: fit → relabel → agent.update."""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from skillrl.agents.base import Agent, build, check
from skillrl.networks import Critic
from skillrl.optim import Adam
from skillrl.selector import Prior, Selector
from skillrl.skill_policy import DirectedPolicy, SkillPolicy, columns_on
from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Batch, Metrics, Need, Spec

LOOKED_AT = 10_000
"""Steps that observations are normalised by."""

Batches = dict[str, Batch | list[Batch]]
"""What ``update`` receives: one entry a Need, a list where it asked for repeats."""


class Learner(nn.Module):
    """A skill learner: a skill policy, a prior over z, and an update.

    Everything that training changes is a parameter, a buffer, an optimiser held as an attribute, or ``generator``:
    that is what a checkpoint saves. ``gamma`` is the discount of what its agent is trained on.
    """

    policy: Any  # a SkillPolicy; None for a learner that has no skills of its own
    gamma: float = 0.99
    deterministic: bool = False
    """Whether the behaviour collects by its mode. A selector explores all the same."""

    def __init__(self, spec: Spec):
        super().__init__()
        self.spec = spec
        self.policy = None
        self.generator = torch.Generator()

    def behaviour(self) -> SkillPolicy:
        """The policy that collects: the skill policy itself, unless the paper explores with another."""
        assert self.policy is not None, f"{type(self).__name__} has no policy: it must override behaviour()"
        return self.policy

    def prior(self) -> Selector:
        """Who gives z while collecting."""
        return Prior(self.behaviour().space)

    def kept_policy(self) -> SkillPolicy:
        """What is saved as this learner's skills and used: its policy; where it has none, what collects."""
        return self.behaviour() if self.policy is None else self.policy

    def kept_critic(self) -> nn.Module | None:
        """The critic that taught the skills, kept beside them for those who train them further."""
        return None

    def prepare(self, state: Any) -> None:
        """Before the first round: what has to be tried in the env, counted into the State's env_steps. It leaves fresh
        episodes."""

    def look(self, data: Any) -> None:
        """Once, before the first update: what is to be measured on all that was collected until then, a Replay."""

    def needs(self) -> dict[str, Need]:
        """The data of one update; empty: there is nothing to learn."""
        return {}

    def update(self, batches: Batches) -> Metrics:
        """One round of learning: tensors in, detached tensors out. No logger, no ``.item()``, no global step: it may be
        called once and then only done again (``skillrl.cpu_graph``, ``skillrl.cuda_graph``)."""
        raise NotImplementedError

    def maintain(self, env_steps: int) -> Metrics:
        """Rare host work between rounds: dead codes, curricula."""
        return {}


def measure(data: Any, normalizers: Sequence[tuple[Any, list[int] | None]]) -> None:
    """Show each normaliser its columns of what was collected, of at most ``LOOKED_AT`` steps."""
    obs = data.sample({"seen": Need("transitions", min(len(data), LOOKED_AT))})["seen"]["obs"]
    for normalizer, columns in normalizers:
        normalizer.update(obs[..., columns_on(columns, obs.device)].float())


class RewardLearner(Learner):
    """Pays its own reward: subclasses write ``fit`` and ``intrinsic_reward``.

    Args:
        skill_space: the prior over z.
        agent: ``agent(spec, actor=..., critic=...)`` → Agent; a class or a partial.
        hidden_dims: widths of actor and critic.
        policy_view: which view of the observation actor and critic take; None is all of it.
        batch_size: transitions an update; of an on-policy agent, the fresh ones that an update waits for.
        hold: env steps before z is drawn anew; None is the episode.
        normalize_obs: give every column of the observation in units of its spread in what was collected before the
            first update (at most ``LOOKED_AT`` of those steps); a policy that is normalised keeps these units.
        critic: ``critic(obs, action, space, hidden_dims)``, where the reward has channels.
        policy_class, arguments: a skill policy with more to it than the agent's own, and what it takes.

    Of a team (``spec.agents`` > 1) the actors share their parameters, and the usual critic sees all agents.
    """

    teams: ClassVar[bool] = False
    """Whether it can teach a team: then the reward that it pays there is (B, agents)."""

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: SkillSpace,
        agent: Callable[..., Agent],
        hidden_dims: Sequence[int],
        policy_view: str | None,
        batch_size: int,
        hold: int | None,
        normalize_obs: bool = False,
        critic: Callable[..., Critic] | None = None,
        policy_class: type[SkillPolicy] | None = None,
        **arguments: Any,
    ):
        super().__init__(spec)
        if normalize_obs:
            arguments["normalize"] = True
        if not self.teams:
            refuse_teams(self, spec)
        obs = spec.obs.select(policy_view)
        self.policy, self.agent = build(
            agent,
            spec,
            obs=obs,
            action=spec.action,
            space=skill_space,
            hidden_dims=hidden_dims,
            critic=critic,
            policy_class=policy_class,
            **arguments,
        )
        self.gamma = self.agent.gamma
        self.columns = spec.obs.columns(obs)
        self.batch_size, self.normalize_obs = batch_size, normalize_obs
        self.selector: Selector = Prior(skill_space, hold=hold)

    def prior(self) -> Selector:
        return self.selector

    def kept_critic(self) -> nn.Module | None:
        found = getattr(self.agent, "critic", None)
        return found if isinstance(found, nn.Module) else None

    def needs(self) -> dict[str, Need]:
        return {"batch": self.agent.need("transitions", self.batch_size)}

    def look(self, data: Any) -> None:
        if self.normalize_obs:
            measure(data, self.normalizers())

    def normalizers(self) -> list[tuple[Any, list[int] | None]]:
        """The policy's, each with the columns of whole observations that it is for."""
        return [(self.policy.normalizer, self.columns)]

    def fit(self, batch: Batch) -> Metrics:
        """Learn the representation that the reward is read from. (B, ...), also where the agent wants rollouts."""
        return {}

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        """(B,), or (B, C) for a critic with channels; of a team (B, agents). Called without gradient, on the fresh
        representation."""
        raise NotImplementedError

    def relabel(self, batch: Batch) -> Batch:
        """What the agent sees: its own view, normalised, the fresh reward, and a z that goes on as it is."""
        with torch.no_grad():
            reward = batch.unflat(self.intrinsic_reward(batch.flat()))
        columns = columns_on(self.columns, reward.device)
        obs, next_obs = batch["obs"][..., columns], batch["next_obs"][..., columns]
        if self.normalize_obs:
            obs, next_obs = self.policy.normalizer(obs), self.policy.normalizer(next_obs)
        return batch.replace(obs=obs, next_obs=next_obs, reward=reward, next_z=batch["z"])

    def update(self, batches: Batches) -> Metrics:
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        return self.fit(batch.flat()) | self.teach(batch)

    def teach(self, batch: Batch) -> Metrics:
        """One update of the agent, by the reward as it is now. ``reward/intrinsic`` is the sum of the channels."""
        relabelled = self.relabel(batch)
        metrics = self.agent.update(relabelled, self.generator)
        return metrics | {"reward/intrinsic": relabelled.flat()["reward"].mean()}


def refuse_teams(learner: Learner, spec: Spec) -> None:
    """Errors: ValueError where a row of the env is a team."""
    if spec.agents > 1:
        name = type(learner).__name__
        raise ValueError(f"learner {name} needs an env of one agent, this has {spec.agents}: take masd or flat")


class DirectedLearner(RewardLearner):
    """Skills that are directions in a latent space φ: r = (φ(s') − φ(s))·z. Subclasses write ``fit``, which moves φ.

    Args:
        encoder_view: what φ sees; None is all of the observation. encoder_lr: Adam's, of φ.
        policy_class: a ``DirectedPolicy``. rest: ``RewardLearner``'s.
    """

    policy: DirectedPolicy

    def __init__(
        self,
        spec: Spec,
        *,
        skill_space: SkillSpace,
        encoder_view: str | None,
        encoder_lr: float,
        policy_class: type[DirectedPolicy] = DirectedPolicy,
        **rest: Any,
    ):
        check("learner", encoder_lr=(encoder_lr, "(0, inf)"))
        seen = spec.obs.select(encoder_view)
        super().__init__(spec, skill_space=skill_space, policy_class=policy_class, encoder_obs=seen, **rest)
        self.skill_space, self.encoder_columns = skill_space, spec.obs.columns(seen)
        self.encoder_optimizer = Adam(self.policy.encoder.parameters(), encoder_lr)

    def normalizers(self) -> list[tuple[Any, list[int] | None]]:
        return [*super().normalizers(), (self.policy.goal_normalizer, self.encoder_columns)]

    def seen(self, obs: Tensor) -> Tensor:
        """φ's view of whole observations."""
        return obs[..., columns_on(self.encoder_columns, obs.device)]

    def step_in_phi(self, batch: Batch) -> Tensor:
        """φ(s') − φ(s), (B, direction_dim)."""
        phi, next_phi = self.policy.phi(self.seen(torch.stack([batch["obs"], batch["next_obs"]])))
        return next_phi - phi

    def along(self, step: Tensor, z: Tensor) -> Tensor:
        """How far a step in φ goes along z, (B,)."""
        return (step * self.skill_space.direction(z)).sum(-1)

    def intrinsic_reward(self, batch: Batch) -> Tensor:
        return self.along(self.step_in_phi(batch), batch["z"])
