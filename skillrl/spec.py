"""What crosses a seam: an env's shapes (Spec), the data of an update (Batch, Need), a choice of skills (Selection).

Nothing here knows an algorithm, an env or a network.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
from torch import Tensor

Metrics = dict[str, Tensor]
"""What an update returns: ``group/name`` → detached 0-d tensor. They become floats only when they are logged."""

Carry = tuple[Tensor, ...]
"""Recurrent state, a tuple of (N, ...) tensors; ``()`` for what is feed-forward."""


class Batch(dict[str, Tensor]):
    """Tensors by name, with leading (B,), or (B, T) for sequences.

    Always: obs, next_obs, action, reward, terminated, truncated, discount = γ^k·(1 − terminated), first, z, skill_step.
    Where a Need, a policy or the env's ``record`` asks: mask, goal, duration, raw_action, log_prob, value, ``info/*``.
    """

    def replace(self, **changes: Tensor) -> "Batch":
        """A copy with some entries exchanged or added; the tensors themselves are shared."""
        return Batch({**self, **changes})

    def as_one(self) -> "Batch":
        """A team's batch as that of one body, for who has one discount for all of it: what the agents observe side by
        side, and the sum of their rewards."""
        seen = {name: self[name].flatten(-2) for name in ("obs", "next_obs")}
        return self.replace(reward=self["reward"].sum(-1), discount=self["discount"][..., 0], **seen)

    def flat(self) -> "Batch":
        """The real entries of rollouts (N, T, ...), row after row: (B, ...). What has no ``mask`` is that already."""
        if "mask" not in self:
            return self
        return Batch({name: value[self["mask"]] for name, value in self.items() if name != "mask"})

    def unflat(self, values: Tensor) -> Tensor:
        """``values`` (B, ...) of the entries of ``flat()`` where these stand here: (N, T, ...), 0 in the padding."""
        if "mask" not in self:
            return values
        whole = values.new_zeros((*self["mask"].shape, *values.shape[1:]))
        whole[self["mask"]] = values
        return whole


@dataclass(frozen=True)
class Discrete:
    """An action that is one of ``n``."""

    n: int


@dataclass(frozen=True)
class Field:
    """A tensor's shape without its leading axes, and what its columns are called.

    names: part → (start, stop) over the last axis. views: view → names of its parts.
    """

    shape: tuple[int, ...]
    dtype: str = "float32"
    names: Mapping[str, tuple[int, int]] = field(default_factory=dict)
    views: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Tuples throughout, so that a Field read back from JSON equals the one that was written."""
        object.__setattr__(self, "shape", tuple(self.shape))
        object.__setattr__(self, "names", {part: (int(a), int(b)) for part, (a, b) in self.names.items()})
        object.__setattr__(self, "views", {view: tuple(parts) for view, parts in self.views.items()})

    @property
    def dim(self) -> int:
        """Length of the last axis."""
        return self.shape[-1]

    def as_one(self) -> "Field":
        """A team's as one: (agents, D) → (agents · D,), agent by agent; the parts lose their names."""
        return Field((math.prod(self.shape),), self.dtype)

    def parts(self, view: str | None) -> tuple[str, ...]:
        """The part names of a view; ``None`` is everything, and a part's own name is a view of that part."""
        if view is None:
            return tuple(self.names)
        if view in self.views:
            return tuple(self.views[view])
        if view in self.names:
            return (view,)
        known = sorted({*self.views, *self.names})
        raise ValueError(f"view {view!r} is not known to this env: it has {', '.join(known) or 'no named parts'}")

    def select(self, view: str | None) -> "Field":
        """The Field that is left when only ``view`` is kept, its parts in order."""
        if view is None:
            return self
        names, start = {}, 0
        for part in self.parts(view):
            first, last = self.names[part]
            names[part] = (start, start + last - first)
            start += last - first
        return Field((*self.shape[:-1], start), self.dtype, names)

    def columns(self, wanted: "Field") -> list[int] | None:
        """Which of my columns make up ``wanted``, by name; ``None`` when that is all of them, as they stand.

        Errors: ValueError that names the first part which is missing here or is of another width.
        """
        if not wanted.names:
            if wanted.shape != self.shape:
                raise ValueError(f"an observation of shape {wanted.shape} is wanted, this env gives {self.shape}")
            return None
        columns: list[int] = []
        for part, (start, stop) in wanted.names.items():
            if part not in self.names:
                raise ValueError(f"observation part {part!r} is wanted, this env has {', '.join(self.names) or 'none'}")
            first, last = self.names[part]
            if last - first != stop - start:
                raise ValueError(f"part {part!r} is wanted {stop - start} wide, in this env it is {last - first}")
            columns.extend(range(first, last))
        return None if columns == list(range(self.dim)) else columns


@dataclass(frozen=True)
class Spec:
    """What a learner may know of an env; a box action lies in [-1, 1].

    With ``agents`` > 1 a row of the env is a team: obs is (agents, D), action (agents, A) and reward (agents,).
    """

    obs: Field
    action: Field | Discrete
    agents: int = 1
    horizon: int = 1000

    @classmethod
    def from_env(cls, env: Any) -> "Spec":
        """Read a ``gymnasium.vector.VectorEnv`` of ours: its single spaces and its ``metadata``."""
        space, meta = env.single_observation_space, env.metadata
        actions = env.single_action_space
        action: Field | Discrete = Discrete(int(actions.n)) if hasattr(actions, "n") else Field(tuple(actions.shape))
        obs = Field(tuple(space.shape), np.dtype(space.dtype).name, meta.get("obs_names", {}), meta.get("views", {}))
        return cls(obs, action, int(meta.get("agents", 1)), int(meta["horizon"]))


Source = Literal["transitions", "sequences", "episodes", "fresh", "decisions", "fresh_decisions"]


@dataclass(frozen=True)
class Need:
    """What a learner wants in one update.

    source: transitions (B,); sequences (B, length), which may cross episode ends, marked by ``first`` and ``mask``;
        episodes (B, horizon), whole and padded; fresh (num_envs, T), in order, all that was collected since the last
        update, once that is at least ``batch_size`` over all envs; decisions (B,), one row a finished choice of skill,
        with its primitive obs and action padded to (B, length) as ``step_obs``, ``step_action``, ``step_mask`` when
        length > 1; fresh_decisions (num_envs, T), those that finished since the last update, in order, padded and
        marked by ``mask``, once they are at least ``batch_size``.
    future: adds ``goal``: an observation of the same episode, Geometric(1 − future) steps ahead (transitions only).
    repeats: that many batches an update, as a list.
    """

    source: Source
    batch_size: int = 256
    length: int = 1
    future: float | None = None
    repeats: int = 1

    def __post_init__(self) -> None:
        for name in ("batch_size", "length", "repeats"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} is {value!r}: it must be a whole number of at least 1")

    @property
    def fresh(self) -> bool:
        """Whether it is served once, and never again."""
        return self.source in ("fresh", "fresh_decisions")

    @property
    def decisions(self) -> bool:
        """Whether its rows are choices of a skill."""
        return self.source in ("decisions", "fresh_decisions")


@dataclass
class Selection:
    """What a selector answers for the rows that are due: z (n, ...), its new carry, and what else is to be stored."""

    z: Tensor
    carry: Carry = ()
    extras: dict[str, Tensor] = field(default_factory=dict)
