"""Updates in bfloat16: the products of hidden layers, where a gradient passes through them. They are most of the work.

What is learnt *from* stays exact. Rewards and targets are computed without a gradient, and so in float32 throughout;
in float32 are also the first and the last layer of each network (what is observed; values, features, and the numbers
of a distribution), losses, gradients, parameters and optimisers. So are layers that stand in no ``nn.Sequential``, as
those of recurrent models, convolutions, and products that are no layer's.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from skillrl.cpu_graph import CpuAct, CpuGraph
from skillrl.cuda_graph import CudaGraph
from skillrl.data.replay import Replay
from skillrl.learners.base import Learner
from skillrl.runtime import Runtime
from skillrl.spec import Metrics, Need
from skillrl.training import State, Updating, one_by_one


def equip(state: State, runtime: Runtime) -> None:
    """How a run's updates and actions are made on this machine."""
    state.updating = updating(runtime)
    if runtime.graph and runtime.device == "cpu" and state.collector is not None:
        state.collector.act = CpuAct(state.collector.policy)


def updating(runtime: Runtime) -> Updating:
    """How a round's updates are made on this machine; to be asked anew for each learner."""
    each = in_bfloat16 if runtime.precision == "bfloat16" else one_by_one
    if not runtime.graph:
        return each
    return CpuGraph(each) if runtime.device == "cpu" else CudaGraph(each)


def in_bfloat16(learner: Learner, data: Replay, needs: Mapping[str, Need], count: int) -> Metrics:
    """``one_by_one``, with the products of hidden layers rounded."""
    with rounded(hidden_layers(learner)):
        return one_by_one(learner, data, needs, count)


def hidden_layers(network: nn.Module) -> Iterator[nn.Linear]:
    """Linear layers that have another before them and another behind them."""
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            yield from [layer for layer in module if isinstance(layer, nn.Linear)][1:-1]


@contextmanager
def rounded(layers: Iterable[nn.Linear]) -> Iterator[None]:
    """While entered, ``layers`` multiply in bfloat16 where a gradient is asked for."""
    changed = list(layers)
    for layer in changed:
        layer.forward = partial(product, layer)  # type: ignore[method-assign]  # of this instance alone
    try:
        yield
    finally:
        for layer in changed:
            del layer.forward


def product(layer: nn.Linear, inputs: Tensor) -> Tensor:
    """x Wᵀ + b: factors and result rounded to bfloat16, summed in float32 in between; float32 comes and goes."""
    if not torch.is_grad_enabled():
        return F.linear(inputs, layer.weight, layer.bias)
    bias = None if layer.bias is None else layer.bias.bfloat16()
    return F.linear(inputs.bfloat16(), layer.weight.bfloat16(), bias).float()
