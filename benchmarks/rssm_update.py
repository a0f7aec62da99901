"""What does an update of the world model cost, beside its own matrix products?"""

import time
from collections.abc import Callable
from typing import Any

from alternate import Benchmark, Column, Contender, Measure, main
from least import gflop, multiplying, products
from measured import Row

OBS, ACTION, SEQUENCES, LENGTH = 18, 6, 50, 50
SIZES: dict[str, Any] = {"hidden_dims": [400] * 4, "depth": 48, "deter": 200, "stoch": 32, "classes": 32, "hidden": 200}
"""Choreographer's defaults; depth is of pictures, which are not here."""


def updating(compiled: bool) -> Measure:
    """An update and its products in turn; CPU time, which other processes barely move."""
    import torch

    from skillrl.models.timeline import Timeline
    from skillrl.models.world_model import WorldModel
    from skillrl.optim import Adam, descend
    from skillrl.spec import Field

    torch.manual_seed(0)
    world, generator = WorldModel(Field((OBS,)), ACTION, **SIZES), torch.Generator().manual_seed(0)
    optimizer = Adam(world.parameters(), 3e-4, 1e-5)
    nothing, first = torch.zeros(SEQUENCES, LENGTH), torch.zeros(SEQUENCES, LENGTH, dtype=torch.bool)
    first[:, 0] = True
    obs, action = torch.randn(SEQUENCES, LENGTH, OBS), 2 * torch.rand(SEQUENCES, LENGTH, ACTION) - 1
    line = Timeline(obs, action, nothing, nothing.bool(), first, ~nothing.bool())

    def update() -> None:
        loss, _, _ = world.loss(line, world.observe(line, generator), balance=0.8, free=1.0)
        descend(optimizer, loss, max_norm=100.0, weight_decay=1e-6)

    sizes = products(update)
    if compiled:  # the step, of which there are 50: the loop around it would take minutes to compile
        world.rssm._seen = torch.compile(world.rssm._seen, dynamic=False)  # type: ignore[method-assign]
        update()
    multiply = multiplying(sizes)

    def cpu_s(work: Callable[[], None]) -> float:
        start = time.process_time()
        work()
        return time.process_time() - start

    def measure(seconds: float) -> Row:
        updates, alone = list[float](), list[float]()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or not updates:
            updates.append(cpu_s(update))
            alone.append(cpu_s(multiply))
        spent, least = sum(updates) / len(updates), sum(alone) / len(alone)
        return {
            "rate": 1 / spent,
            "ms": 1e3 * spent,
            "products_ms": 1e3 * least,
            "share": least / spent,
            "gflop": gflop(sizes),
            "core_gflops": gflop(sizes) / least,
            "count": len(updates),
        }

    return measure


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        f"A step of the recurrent state-space model with encoder, decoder and Adam, at Choreographer's sizes, on "
        f"{SEQUENCES} sequences of {LENGTH} steps of states as wide as HalfCheetah's; float32, one core, one thread, "
        "CPU time. Its products are all that one update asked torch for, of their shapes, done again one by one and "
        "in turn with the updates. Compiled is the recurrent step alone, by `torch.compile`; the loop over the steps "
        "stays as it is. A run does not compile: there is no such option."
    ),
    cases={
        "one thread": [
            Contender("as it is", updating, {"compiled": False}, cores=1),
            Contender("its step compiled", updating, {"compiled": True}, cores=1),
        ]
    },
    columns=[
        Column("rate", "updates/s", "{:.2f}"),
        Column("ms", "ms"),
        Column("products_ms", "ms of its products alone"),
        Column("share", "share", "{:.0%}"),
        Column("gflop", "GFLOP of products", "{:.1f}"),
        Column("core_gflops", "GFLOP/s of these"),
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
