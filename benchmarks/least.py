"""What nobody can leave out: the matrix products of an update, its steps of Adam and of target networks, and the
physics of an env step."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from alternate import Measure, timed

Shape = tuple[int, int, int]
LIMIT = "its products, optimisers and physics alone"


def asked(work: Callable[[], Any]) -> list[tuple[Any, Any, Any]]:
    """(operation, its arguments, those with names) of all that ``work`` asks torch for, in their order."""
    from torch.utils._python_dispatch import TorchDispatchMode

    found = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            found.append((func, args, kwargs or {}))
            return func(*args, **(kwargs or {}))

    with Watching():
        work()
    return found


def products(work: Callable[[], Any]) -> list[Shape]:
    """(m, k, n) of its matrix products."""
    import torch

    first = {torch.ops.aten.mm: 0, torch.ops.aten.addmm: 1}
    pairs = [args[first[op.overloadpacket] :][:2] for op, args, _ in asked(work) if op.overloadpacket in first]
    return [(*left.shape, right.shape[1]) for left, right in pairs]


def stepping(work: Callable[[], Any]) -> Callable[[], None]:
    """Its steps of Adam and of target networks, done again to copies."""
    import torch
    from torch.utils._pytree import tree_map_only

    which = (torch.ops.aten._fused_adam_, torch.ops.aten._foreach_lerp_)
    steps = [
        partial(op, *tree_map_only(torch.Tensor, torch.clone, args), **tree_map_only(torch.Tensor, torch.clone, named))
        for op, args, named in asked(work)
        if op.overloadpacket in which
    ]

    @torch.no_grad()
    def again() -> None:
        for step in steps:
            step()

    return again


def gflop(sizes: Iterable[Shape]) -> float:
    return sum(2 * m * k * n for m, k, n in sizes) / 1e9


def multiplying(sizes: Sequence[Shape]) -> Callable[[], None]:
    """All of them, one by one. Those of a shape share operands: nearer in the caches than those of an update."""
    import torch

    each = {(m, k, n): (torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in set(sizes)}
    operands = [each[size] for size in sizes]

    def work() -> None:
        for a, b, out in operands:
            torch.mm(a, b, out=out)

    return work


def alone(overrides: list[str]) -> Measure:
    """Of that training, round by round: its products and optimisers, and the physics of its rows."""
    from ours import go_on, training

    state, _ = training(overrides)
    collect, simulator = state.schedule.collect, state.collector.env._rows._slice._simulator
    a_round = partial(go_on, state, collect)
    multiply, step = multiplying(products(a_round)), stepping(a_round)
    rows = range(state.collector.env.num_envs)
    control = simulator.control(state.collector.env.single_action_space.sample()[None].repeat(len(rows), 0))

    def work() -> int:
        multiply()
        step()
        for _ in range(collect // len(rows)):
            simulator.step(control, rows)
        return collect

    return timed(work)
