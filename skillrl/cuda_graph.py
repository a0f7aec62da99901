"""All updates of a round as one CUDA graph: the kernels follow each other without the host between them.

It needs what the contract asks of ``update`` and of the replay's sampling anyway: fixed shapes, no Python branch on a
tensor's value, draws from a device generator. What is fresh has no fixed shape, and is learnt from as on a CPU.
"""

from collections.abc import Mapping

import torch
from torch import Generator, Tensor

from skillrl.data.replay import Replay
from skillrl.learners.base import Learner
from skillrl.spec import Metrics, Need
from skillrl.training import Updating, one_by_one

WARMUP = 3  # rounds before the capture: optimisers make their moments, libraries their workspaces


class CudaGraph:
    """In place of ``updating``: the same updates, captured once and replayed from then on."""

    def __init__(self, updating: Updating = one_by_one) -> None:
        self.updating = updating
        self.captured: tuple[dict[str, Need], int] | None = None
        self.rounds = 0

    def __call__(self, learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
        if any(need.fresh for need in needs.values()):
            return self.updating(learner, data, needs, count)
        if self.captured != (dict(needs), count):
            self.captured, self.rounds = (dict(needs), count), 0
        self.rounds += 1
        if self.rounds <= WARMUP:
            return self.aside(learner, data, needs, count)
        if self.rounds == WARMUP + 1:
            self.capture(learner, data, needs, count)
        self.graph.replay()
        return dict(zip(self.names, self.values.clone().unbind(), strict=True))  # the next replay writes over them

    def aside(self, learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
        """On a stream of its own, as PyTorch asks of what will be captured."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            metrics = self.updating(learner, data, needs, count)
        torch.cuda.current_stream().wait_stream(stream)
        return metrics

    def capture(self, learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> None:
        self.graph = torch.cuda.CUDAGraph()
        for generator in generators(learner, data):
            self.graph.register_generator_state(generator)
        with torch.cuda.graph(self.graph):
            metrics = self.updating(learner, data, needs, count)
            self.values: Tensor = torch.stack([value.float() for value in metrics.values()])
        self.names = list(metrics)


def generators(learner: Learner, data: Replay) -> list[Generator]:
    """That an update draws from, each once."""
    found = [data.generator, *(getattr(module, "generator", None) for module in learner.modules())]
    return list({id(one): one for one in found if isinstance(one, Generator)}.values())
