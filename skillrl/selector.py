"""Selectors: who gives z, and for how long. The prior is one; so is every controller."""

from typing import Protocol, runtime_checkable

import torch
from torch import Generator, Tensor

from skillrl.skill_spaces import SkillSpace
from skillrl.spec import Carry, Selection, Spec


class Selector:
    """The contract, with the usual answers.

    hold: env steps for which a z is kept; None keeps it until the episode ends.
    """

    hold: int | None = None

    def initial(self, n: int) -> Carry:
        """A carry of its own for ``n`` fresh episodes; () if it has none."""
        return ()

    def observe(self, obs: Tensor, prev_action: Tensor, first: Tensor, carry: Carry) -> Carry:
        """Every row, every env step, before ``select``."""
        return carry

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        """For the due rows only: obs (n, ...) of the env, the rows' carries, first (n,) → z (n, ...)."""
        raise NotImplementedError(f"{type(self).__name__} selects nothing")

    def due(self, obs: Tensor, z: Tensor, skill_step: Tensor, stop: Tensor | None) -> Tensor:
        """Which rows (N,) want a new z, asked after every step: obs is what the step led to,
        skill_step (N,) how long z has been held, stop (N,) whether the skill policy ended it."""
        held = torch.zeros_like(skill_step, dtype=torch.bool) if self.hold is None else skill_step >= self.hold
        return held if stop is None else held | stop

    def advance(self, obs: Tensor, z: Tensor, next_obs: Tensor) -> Tensor:
        """What z becomes within a hold (a relative goal moves as the body does)."""
        return z


@runtime_checkable
class BringsSelector(Protocol):
    """A skill policy that was learnt together with who chooses among its skills, and holds both."""

    def selector(self, spec: Spec) -> Selector:
        """For an env of ``spec``. Errors: ValueError where it does not see there what it wants to."""
        ...


class Prior(Selector):
    """z from the space's own prior."""

    def __init__(self, space: SkillSpace, *, hold: int | None = None):
        if hold is not None and hold < 1:
            raise ValueError(f"hold is {hold}: it must be at least 1 env step, or null for the whole episode")
        self.space, self.hold = space, hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        return Selection(self.space.sample(len(first), generator))


class Fixed(Selector):
    """Row i always gets z[i]: what an evaluation deals out."""

    def __init__(self, z: Tensor):
        self.z = z

    def initial(self, n: int) -> Carry:
        """Which row it is."""
        if n != len(self.z):
            raise ValueError(f"{len(self.z)} skills were dealt to {n} rows")
        return (torch.arange(n, device=self.z.device),)

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        return Selection(self.z[carry[0]], carry)


class Always(Selector):
    """Every row gets the same z, a tensor without a leading axis."""

    def __init__(self, z: Tensor, *, hold: int | None = None):
        self.z, self.hold = z, hold

    def select(
        self, obs: Tensor, carry: Carry, policy_carry: Carry, first: Tensor, generator: Generator, deterministic: bool
    ) -> Selection:
        return Selection(self.z.expand(len(first), *self.z.shape))
