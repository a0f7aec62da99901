"""What nobody can leave out: the matrix products of an update, and the physics of an env step."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from alternate import Measure, timed

Shape = tuple[int, int, int]
LIMIT = "its products and physics alone"


def products(work: Callable[[], Any]) -> list[Shape]:
    """(m, k, n) of the matrix products that ``work`` asks torch for, in their order."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    found: list[Shape] = []

    class Watching(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            pair = {torch.ops.aten.mm: args[:2], torch.ops.aten.addmm: args[1:3]}.get(func.overloadpacket)
            if pair:
                found.append((*pair[0].shape, pair[1].shape[1]))
            return func(*args, **(kwargs or {}))

    with Watching():
        work()
    return found


def gflop(sizes: Iterable[Shape]) -> float:
    return sum(2 * m * k * n for m, k, n in sizes) / 1e9


def multiplying(sizes: Sequence[Shape]) -> Callable[[], None]:
    """All of them, one by one, each with operands of its own: in an update too, they are not what was just in use."""
    import torch

    operands = [(torch.randn(m, k), torch.randn(k, n), torch.empty(m, n)) for m, k, n in sizes]

    def work() -> None:
        for a, b, out in operands:
            torch.mm(a, b, out=out)

    return work


def alone(overrides: list[str]) -> Measure:
    """Of that training, round by round: the products that it asks for, and the physics of its rows."""
    from ours import go_on, training

    state, _ = training(overrides)
    collect, simulator = state.schedule.collect, state.collector.env._rows._slice._simulator
    multiply = multiplying(products(lambda: go_on(state, collect)))
    rows = range(state.collector.env.num_envs)
    control = simulator.control(state.collector.env.single_action_space.sample()[None].repeat(len(rows), 0))

    def work() -> int:
        multiply()
        for _ in range(collect // len(rows)):
            simulator.step(control, rows)
        return collect

    return timed(work)
