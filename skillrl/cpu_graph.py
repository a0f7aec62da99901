"""Work on a CPU that is the same each time, noted once and done again: what a CUDA graph is on a GPU.

Up to half the time of a small network's update is Python, views of tensors and autograd's books; of acting for a few
rows it is most. None of it is needed twice where the same is done each time: fixed shapes, no Python branch on a
tensor's value or on what changes meanwhile, draws from a given generator. The contract asks that of ``update`` for the
GPU anyway. Before a list of operations is trusted, the same is made both ways, and both must come to the same bits.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from skillrl.data.replay import Replay
from skillrl.learners.base import Learner
from skillrl.noted import Noted, Watching
from skillrl.operations import outside
from skillrl.skill_policy import SkillPolicy
from skillrl.spec import Carry, Metrics, Need
from skillrl.training import Updating, one_by_one

log = logging.getLogger(__name__)

WARMUP = 3  # times before it is noted: optimisers make their moments


class Repeated:
    """Something that is the same each time. Called with how it is made anew, it does that, or what was noted of it.

    what: for who is told that it can't be noted. module: whose parameters and buffers it may change. closed: refuse
    it if it takes anything from outside torch, be it the same twice: a choice of numpy's often is.
    """

    def __init__(self, what: str, module: nn.Module, closed: bool = False) -> None:
        self.what, self.module, self.closed = what, module, closed
        self.made = 0
        self.noted: Noted | None = None
        self.trusted = False

    def __call__(self, anew: Callable[[], Metrics]) -> Metrics:
        """The next call may write over what is returned."""
        if self.noted is not None:
            return self.noted() if self.trusted else self.prove(self.noted, anew)
        self.made += 1
        return self.note(anew) if self.made == WARMUP + 1 else anew()

    def note(self, anew: Callable[[], Metrics]) -> Metrics:
        """Made like any other time, and watched."""
        with Watching() as watching:
            results = anew()
        if watching.obstacle:
            self.give_up(watching.obstacle)
        elif not watching.too_large:
            owned = [*self.module.parameters(), *self.module.buffers()]
            self.noted = Noted(watching.operations, results, owned)
        return results

    def prove(self, noted: Noted, anew: Callable[[], Metrics]) -> Metrics:
        """Made anew, then taken back and done as noted: both must come to the same."""
        before = noted.state()
        with Watching() as watching:
            results = anew()
        after = noted.state()
        noted.restore(before)
        found = noted()
        self.trusted = all(map(same, [*after, *results.values()], [*noted.state(), *found.values()]))
        if self.closed:
            self.trusted = self.trusted and noted.outside == outside(watching.operations)
        if not self.trusted:
            noted.restore(after)
            self.noted = None
            self.give_up("they do not do the same each time")
        return results

    def give_up(self, why: str) -> None:
        log.warning("runtime.graph: %s are made anew each time, slower: %s", self.what, why)


class CpuGraph:
    """In place of ``updating``: the same updates, one of them noted, with the drawing of its data, and done again from
    then on."""

    def __init__(self, updating: Updating = one_by_one) -> None:
        self.updating = updating
        self.of: Any = None

    def __call__(self, learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
        if any(need.fresh for need in needs.values()):
            return self.updating(learner, data, needs, count)
        if self.of != (of := (learner, data, dict(needs))):
            self.of, self.update = of, Repeated(f"updates of {type(learner).__name__}", learner)
        metrics: Metrics = {}
        for _ in range(count):
            metrics = self.update(partial(self.updating, learner, data, needs, 1))
        return {name: value.clone() for name, value in metrics.items()}  # the next update writes over them


class CpuAct:
    """In place of a policy's ``act``: the same actions. With a carry they are made anew."""

    def __init__(self, policy: SkillPolicy) -> None:
        self.policy = policy
        self.of: Any = None

    def __call__(self, obs: Tensor, z: Tensor, carry: Carry = (), **how: Any) -> tuple[Tensor, dict[str, Tensor]]:
        if carry:
            return self.policy.act(obs, z, carry, **how)
        if self.of != (of := (obs.shape, obs.dtype, z.shape, z.dtype, how, self.policy.training)):
            self.of, self.act = of, Repeated(f"actions of {type(self.policy).__name__}", self.policy, closed=True)
            self.given = torch.empty_like(obs), torch.empty_like(z)

        def anew() -> Metrics:
            action, extras = self.policy.act(*self.given, **how)
            return {"action": action} | extras

        self.given[0].copy_(obs)
        self.given[1].copy_(z)
        results = {name: value.clone() for name, value in self.act(anew).items()}
        return results.pop("action"), results


def same(one: Tensor, other: Tensor) -> bool:
    """To the bit; what is no number is like any other."""
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
