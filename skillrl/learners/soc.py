"""SoC: Separation of Concerns in Reinforcement Learning (van Seijen et al. 2017, arXiv:1612.05159).

Objective: n agents share one env, and each maximises its own return E[Σ γ_i^t r_i]. Agent i sees its own part x_i of
the state and what the others said in the step before, and chooses (b_i, c_i), a part in the env's action and a word:

    Q_i(x_i, heard; b, c)  →  r_i + γ_i (1 − terminated) max_{b', c'} Q_i'(x_i', said; b', c'),    a = f(b_1, …, b_n)

Each learns by itself and takes the others for a part of its world; where who hears whom has no circle, each converges
once those that it hears have. f is the aggregator. An agent that only speaks is a level above those that hear it.

The agents are an axis of the batch, (B, A, ...), over which one DQN learns: their networks share nothing, reward and
discount are each one's own. With one agent that says nothing this is DQN, bit for bit.

The paper came without code, and its constants here are from memory: γ of 0.99 above and 0.65 below, and a small pay
for doing what was asked for. What differs, and why:
- Observations are vectors and networks small, where the paper has pictures and convolutions; unequal ones are padded.
- Every agent may speak at every step; the paper's upper agent speaks every few steps.
- The gradient's norm, by which DQN clips, is of all agents together.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Generator, Tensor, nn
from torch.nn import functional as F

from skillrl.agents.base import check, check_whole
from skillrl.agents.dqn import DQN
from skillrl.aggregators import Aggregator, last_alone
from skillrl.distributions import EpsilonGreedyChoice
from skillrl.layers import mlp
from skillrl.learners.base import Batches, Learner
from skillrl.networks import EpsilonGreedy
from skillrl.skill_policy import SkillPolicy
from skillrl.skill_spaces import Discrete as OneSkill
from skillrl.skill_spaces import SkillSpace, one_hot
from skillrl.spec import Batch, Carry, Discrete, Field, Metrics, Need, Spec


@dataclass(frozen=True)
class Concern:
    """One agent.

    sees: parts and views of the observation; None is all of it. pays: its column of ``info/concerns``, which the env
    must record; None is the env's reward. gamma: its discount. words: how many it has to say one of at each step; with
    one it says nothing. hears: the agents whose words it hears. follow: what it is paid for choosing, in the env, what
    the first of these asked for: the choice of the word's number.
    """

    sees: Sequence[str] | None = None
    pays: int | None = None
    gamma: float = 0.99
    words: int = 1
    hears: Sequence[int] = ()
    follow: float = 0.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "hears", tuple(self.hears))
        object.__setattr__(self, "sees", None if self.sees is None else tuple(self.sees))
        check("learner.concerns", gamma=(self.gamma, "[0, 1]"), follow=(self.follow, "[0, inf)"))
        check_whole("learner.concerns", words=self.words)


class Minds(nn.Module):
    """Q_i(inputs_i, ·), a network each: (..., A, width) → (1, ..., A, most choices), −∞ where an agent has fewer."""

    def __init__(self, widths: Sequence[int], choices: Sequence[int], hidden_dims: Sequence[int]):
        super().__init__()
        self.widths, self.choices, self.most = list(widths), list(choices), max(choices)
        self.nets = nn.ModuleList(mlp(width, hidden_dims, n) for width, n in zip(widths, choices, strict=True))

    def forward(self, inputs: Tensor, z: Tensor) -> Tensor:
        alike: dict[tuple[int, int], list[int]] = {}  # agents whose networks have one shape
        for i, shape in enumerate(zip(self.widths, self.choices, strict=True)):
            alike.setdefault(shape, []).append(i)
        values: dict[int, Tensor] = {}
        for (width, n), agents in alike.items():
            own = side_by_side([self.nets[i] for i in agents], inputs[..., agents, :width])
            padded = F.pad(own, (0, self.most - n), value=-math.inf)
            values |= dict(zip(agents, padded.unbind(-2), strict=True))
        return torch.stack([values[i] for i in range(len(self.nets))], -2).unsqueeze(0)


def side_by_side(nets: Sequence[Any], inputs: Tensor) -> Tensor:
    """Networks of one shape, each on its own inputs (..., A, width), in one product a layer: (..., A, n)."""
    if len(nets) == 1:
        return nets[0](inputs)
    x = inputs.flatten(0, -3).transpose(0, 1)  # (A, B, width)
    for layers in zip(*nets, strict=True):
        if isinstance(layers[0], nn.Linear):
            weight, bias = (torch.stack([getattr(one, name) for one in layers]) for name in ("weight", "bias"))
            x = torch.baddbmm(bias.unsqueeze(1), x, weight.transpose(1, 2))
        else:
            x = layers[0](x)
    return x.transpose(0, 1).unflatten(0, inputs.shape[:-2])


class Choosers(EpsilonGreedy):
    """All agents' values, and the ε that their Q-learner anneals."""

    critic: Minds


class SoCPolicy(SkillPolicy):
    """All agents and their aggregator. What was said in the step before is its carry, (N, A) words."""

    index: Tensor

    def __init__(
        self,
        *,
        obs: Field,
        action: Field | Discrete,
        space: SkillSpace,
        hidden_dims: Sequence[int],
        concerns: Sequence[Concern],
        aggregator: Aggregator,
    ):
        given = {"hidden_dims": list(hidden_dims), "concerns": list(concerns), "aggregator": aggregator}
        super().__init__(obs=obs, action=action, space=space, **given)
        self.concerns, self.aggregator = list(concerns), aggregator
        self.words = [concern.words for concern in self.concerns]
        self.parts = aggregator.choices(action, len(self.concerns))
        columns = [self.columns(concern) for concern in self.concerns]
        self.width = obs.dim + sum(self.words)  # and a zero after it
        widest = max(map(len, columns))
        padded = [own + [self.width] * (widest - len(own)) for own in columns]
        self.register_buffer("index", torch.tensor(padded), persistent=False)  # (A, widest)
        choices = [part * words for part, words in zip(self.parts, self.words, strict=True)]
        self.actor = Choosers(Minds([len(own) for own in columns], choices, hidden_dims))

    def columns(self, concern: Concern) -> list[int]:
        """Of [obs, everybody's words one-hot]: what this agent sees and hears."""
        own = list(range(self.obs.dim))
        if concern.sees is not None:
            parts = [part for view in concern.sees for part in self.obs.parts(view)]
            own = [column for part in parts for column in range(*self.obs.names[part])]
        for other in concern.hears:
            if not 0 <= other < len(self.words):
                raise ValueError(f"learner.concerns: hears {other}, but there are only {len(self.words)} agents")
            start = self.obs.dim + sum(self.words[:other])
            own += range(start, start + self.words[other] if self.words[other] > 1 else start)
        return own

    def inputs(self, obs: Tensor, heard: Tensor) -> Tensor:
        """obs (B, obs_dim), the words of all agents (B, A) → what each of them is given, (B, A, widest)."""
        said = [one_hot(heard[..., i], words) for i, words in enumerate(self.words)]
        nothing = torch.zeros_like(obs[..., :1])
        return torch.cat([obs.float(), *said, nothing.float()], -1)[..., self.index]

    def initial(self, n: int) -> Carry:
        return (torch.zeros(n, len(self.words), dtype=torch.int64, device=self.index.device),)

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        return (torch.where(first[:, None], 0, carry[0]),)

    def act(
        self,
        obs: Tensor,
        z: Tensor,
        carry: Carry = (),
        *,
        deterministic: bool = False,
        generator: Generator | None = None,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        def pick(values: Tensor) -> Tensor:
            dist = EpsilonGreedyChoice(values, self.actor.epsilon)
            return dist.mode() if deterministic else dist.sample(generator)[0]

        (heard,) = carry or self.initial(len(obs))
        values = self.actor.critic(self.inputs(obs, heard), z).amin(0)  # (N, A, most)
        pairs = [
            values[:, i, : part * words].unflatten(-1, (part, words))
            for i, (part, words) in enumerate(zip(self.parts, self.words, strict=True))
        ]
        parts, action = self.aggregator.join([pair.amax(-1) for pair in pairs], pick)
        choices = []
        for part, pair, words in zip(parts.unbind(-1), pairs, self.words, strict=True):
            of_part = torch.take_along_dim(pair, part[:, None, None], 1).squeeze(1)  # (N, words)
            choices.append(part * words + (pick(of_part) if words > 1 else 0))
        return action, {"heard": heard, "choice": torch.stack(choices, -1)}

    def said(self, choice: Tensor) -> Tensor:
        """The words in choices, both (..., A)."""
        return torch.stack([choice[..., i] % words for i, words in enumerate(self.words)], -1)

    def remember(self, extras: dict[str, Tensor], carry: Carry) -> Carry:
        return (self.said(extras["choice"]),)


ABOVE, BELOW = Concern(gamma=0.99, words=3), Concern(gamma=0.65, hears=(0,), follow=0.05)


class SoC(Learner):
    """Several agents in place of one.

    Args:
        concerns: the agents.
        aggregator: what makes the env's action of their parts; None: the last agent alone acts, the others speak.
        agent: a Q-learner.
        hidden_dims: widths of each agent's network.
        batch_size: transitions an update, from which all agents learn.
    """

    policy: SoCPolicy
    gammas: Tensor

    def __init__(
        self,
        spec: Spec,
        *,
        concerns: Sequence[Concern] = (ABOVE, BELOW),
        aggregator: Aggregator | None = None,
        agent: Callable[..., DQN] = DQN,
        hidden_dims: Sequence[int] = (256, 256),
        batch_size: int = 128,
    ):
        super().__init__(spec)
        if not concerns or spec.agents != 1:
            raise ValueError("learner.concerns: it needs at least one, and an env that is one agent's")
        kind: Any = getattr(agent, "func", agent)
        if not issubclass(kind, DQN):
            raise ValueError("learner soc needs a Q-learner: take agent dqn")
        self.policy = SoCPolicy(
            obs=spec.obs,
            action=spec.action,
            space=OneSkill(1),
            hidden_dims=hidden_dims,
            concerns=concerns,
            aggregator=aggregator or last_alone(spec.action, len(concerns)),
        )
        counted = Spec(spec.obs, Discrete(self.policy.actor.critic.most), horizon=spec.horizon)
        self.agent = agent(counted, actor=self.policy.actor, critic=self.policy.actor.critic)
        self.batch_size = batch_size
        self.register_buffer("gammas", torch.tensor([concern.gamma for concern in concerns]))
        self.gamma = max(concern.gamma for concern in concerns)  # the batch's own is each agent's, below

    def kept_critic(self) -> nn.Module:
        return self.policy.actor.critic

    def needs(self) -> dict[str, Need]:
        return {"batch": self.agent.need("transitions", self.batch_size)}

    def reward(self, batch: Batch) -> Tensor:
        """Each agent's own, (B, A)."""
        policy, rewards = self.policy, []
        for i, concern in enumerate(policy.concerns):
            if concern.pays is not None and "info/concerns" not in batch:
                raise ValueError("learner.concerns: pays is given, but the env does not record concerns: env.record")
            own = batch["reward"] if concern.pays is None else batch["info/concerns"][:, concern.pays].float()
            if concern.follow > 0 and concern.hears and policy.words[concern.hears[0]] > 1:
                part = batch["choice"][:, i] // policy.words[i]
                own = own + concern.follow * (part == batch["heard"][:, concern.hears[0]])
            rewards.append(own)
        return torch.stack(rewards, -1)

    def relabel(self, batch: Batch) -> Batch:
        """What the agents see: (B, A, ...) throughout; next they hear what is said now."""
        policy = self.policy
        return batch.replace(
            obs=policy.inputs(batch["obs"], batch["heard"]),
            next_obs=policy.inputs(batch["next_obs"], policy.said(batch["choice"])),
            action=batch["choice"],
            reward=self.reward(batch),
            discount=self.gammas * (1 - batch["terminated"].float()).unsqueeze(-1),
            next_z=batch["z"],
        )

    def update(self, batches: Batches) -> Metrics:
        batch = batches["batch"]
        assert isinstance(batch, Batch)
        relabelled = self.relabel(batch)
        own = relabelled["reward"].mean(0)
        metrics = self.agent.update(relabelled, self.generator)
        return metrics | {f"reward/agent_{i}": value for i, value in enumerate(own.unbind())}

    def adopt(self, i: int, other: "SoC", j: int) -> None:
        """Agent i goes on as agent j of ``other`` is: how what was learnt is taken elsewhere."""
        learnt = other.policy.actor.critic.nets[j].state_dict()
        self.policy.actor.critic.nets[i].load_state_dict(learnt)
        self.agent.target_critic.load_state_dict(self.policy.actor.critic.state_dict())
