"""Aggregators: what becomes of the parts that several agents have in one action (van Seijen et al. 2017)."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from skillrl.spec import Discrete, Field

Pick = Callable[[Tensor], Tensor]
"""values (N, n) → a choice of the n for each row (N,): the best, or any now and then."""


class Aggregator(Protocol):
    """f: what comes of the agents' parts."""

    def choices(self, action: Field | Discrete, agents: int) -> list[int]:
        """How many parts b each agent has to choose from; 1 if it has no say. Errors: ValueError that names the key."""
        ...

    def join(self, values: list[Tensor], pick: Pick) -> tuple[Tensor, Tensor]:
        """Each agent's values of its parts, (N, b_i) → the parts (N, A), and the env's action (N, ...)."""
        ...


@dataclass(frozen=True)
class Preferences:
    """Of one discrete action: that of the highest Σ w_i Q_i, which is then each agent's part. Weight 0: no say."""

    weights: Sequence[float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(self.weights))

    def choices(self, action: Field | Discrete, agents: int) -> list[int]:
        if not isinstance(action, Discrete):
            raise ValueError("learner.aggregator Preferences needs a discrete action, not a box: take Actuators")
        if len(self.weights) != agents or min(self.weights) < 0 or max(self.weights) == 0:
            raise ValueError(f"learner.aggregator.weights is {self.weights}: one for each of {agents} agents, some > 0")
        return [action.n if weight > 0 else 1 for weight in self.weights]

    def join(self, values: list[Tensor], pick: Pick) -> tuple[Tensor, Tensor]:
        say = [(weight, value) for weight, value in zip(self.weights, values, strict=True) if weight > 0]
        action = pick(torch.stack([weight * value for weight, value in say]).sum(0))
        return torch.stack([action if weight > 0 else action * 0 for weight in self.weights], -1), action


@dataclass(frozen=True)
class Actuators:
    """Of a box: each agent sets the axes that it owns, each to one of ``levels`` from −1 to 1."""

    axes: Sequence[Sequence[int]]
    levels: int = 3

    def __post_init__(self) -> None:
        object.__setattr__(self, "axes", tuple(tuple(own) for own in self.axes))
        if not isinstance(self.levels, int) or self.levels < 2:
            raise ValueError(f"learner.aggregator.levels is {self.levels!r}: it must be a whole number of at least 2")

    def choices(self, action: Field | Discrete, agents: int) -> list[int]:
        if isinstance(action, Discrete):
            raise ValueError("learner.aggregator Actuators needs a box action, not a discrete one: take Preferences")
        if len(self.axes) != agents or sorted(axis for own in self.axes for axis in own) != list(range(action.dim)):
            raise ValueError(
                f"learner.aggregator.axes is {self.axes}: a list for each of {agents} agents, in which each of "
                f"{action.dim} axes stands once"
            )
        return [self.levels ** len(own) for own in self.axes]

    def join(self, values: list[Tensor], pick: Pick) -> tuple[Tensor, Tensor]:
        parts = [pick(value) if own else value.new_zeros(len(value)).long() for own, value in zip(self.axes, values)]
        columns: dict[int, Tensor] = {}
        for own, part in zip(self.axes, parts, strict=True):
            for place, axis in enumerate(own):
                columns[axis] = (part // self.levels**place % self.levels) * (2 / (self.levels - 1)) - 1
        return torch.stack(parts, -1), torch.stack([columns[axis] for axis in sorted(columns)], -1).float()


def last_alone(action: Field | Discrete, agents: int) -> Aggregator:
    """The last agent acts, the others only speak."""
    if isinstance(action, Discrete):
        return Preferences([0.0] * (agents - 1) + [1.0])
    return Actuators([()] * (agents - 1) + [range(action.dim)])
