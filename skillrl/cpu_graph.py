"""Updates on a CPU, one of them noted and done again: what a CUDA graph is on a GPU.

Up to half the time of a small network's update is Python, views of tensors and autograd's books. None of it is needed
twice where every update does the same: fixed shapes, no Python branch on a tensor's value, draws from the learner's
generator, as the contract asks of ``update`` for the GPU anyway. Before a list of operations is trusted, one update is
made both ways, and both must come to the same bits.
"""

import logging
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from skillrl.data.replay import Replay
from skillrl.learners.base import Learner
from skillrl.noted import Noted, Watching
from skillrl.spec import Metrics, Need
from skillrl.training import Updating, one_by_one

log = logging.getLogger(__name__)

WARMUP = 3  # updates before one is noted: optimisers make their moments


class CpuGraph:
    """In place of ``updating``: the same updates, one of them noted, with the drawing of its data, and done again from
    then on."""

    def __init__(self, updating: Updating = one_by_one) -> None:
        self.updating = updating
        self.of: Any = None
        self.noted: Noted | None = None
        self.trusted = False

    def __call__(self, learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
        if any(need.fresh for need in needs.values()):
            return self.updating(learner, data, needs, count)
        if self.of != (of := (learner, data, dict(needs))):
            self.of, self.made, self.noted, self.trusted = of, 0, None, False
        metrics: Metrics = {}
        for _ in range(count):
            metrics = self.update(learner, partial(self.updating, learner, data, needs, 1))
        return {name: value.clone() for name, value in metrics.items()}  # the next update writes over them

    def update(self, learner: Learner, anew: Callable[[], Metrics]) -> Metrics:
        if self.noted is not None:
            return self.noted() if self.trusted else self.prove(learner, self.noted, anew)
        self.made += 1
        return self.note(learner, anew) if self.made == WARMUP + 1 else anew()

    def note(self, learner: Learner, anew: Callable[[], Metrics]) -> Metrics:
        """An update like any other, watched."""
        with Watching() as watching:
            metrics = anew()
        if watching.obstacle:
            self.give_up(learner, watching.obstacle)
        elif not watching.too_large:
            self.noted = Noted(watching.operations, metrics, [*learner.parameters(), *learner.buffers()])
        return metrics

    def prove(self, learner: Learner, noted: Noted, anew: Callable[[], Metrics]) -> Metrics:
        """An update made anew, then taken back and done as noted: both must come to the same."""
        before = noted.state()
        metrics = anew()
        after = noted.state()
        noted.restore(before)
        found = noted()
        self.trusted = all(map(same, [*after, *metrics.values()], [*noted.state(), *found.values()]))
        if not self.trusted:
            noted.restore(after)
            self.noted = None
            self.give_up(learner, "they do not do the same each time")
        return metrics

    def give_up(self, learner: Learner, why: str) -> None:
        name = type(learner).__name__
        log.warning("runtime.graph: updates of %s are made anew each time, slower: %s", name, why)


def same(one: Tensor, other: Tensor) -> bool:
    """To the bit; what is no number is like any other."""
    return torch.equal(one, other) or torch.allclose(one, other, rtol=0, atol=0, equal_nan=True)
