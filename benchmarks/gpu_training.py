"""Where does the time of a METRA-sized run go on a GPU?"""

import time
from collections.abc import Callable
from typing import Any

from alternate import Benchmark, Column, Contender, Measure, main
from measured import Row

METRA = ["learner=metra", "env=ant", "env.num_envs=16", "pretrain.warmup=3200"]
ROUNDS = ["pretrain.collect=3200", "pretrain.updates=100", "runtime=gpu", "runtime.workers=16"]


def skillrl(graph: bool) -> Measure:
    import ours

    state = ours.begun([*METRA, *ROUNDS, f"runtime.graph={str(graph).lower()}"])
    watch = Watch()
    env = state.collector.env
    env.step_async, env.step_wait = watch("physics", env.step_async), watch("physics", env.step_wait)
    state.updating = watch("updates", state.updating)
    ours.go_on(state, 5 * 3200)  # past the capture

    def measure(seconds: float) -> Row:
        watch.spent.clear()
        count, begun = 0, time.perf_counter()
        while time.perf_counter() < begun + seconds:
            count += ours.go_on(state, 3200)
        wall = time.perf_counter() - begun
        shares = {name: spent / wall for name, spent in watch.spent.items()}
        rest = 1 - sum(shares.values())
        return {"rate": count / wall, **shares, "rest": rest, "ms_update": 1e3 * 32 * watch.spent["updates"] / count}

    return measure


class Watch:
    """Wall time within functions, until the GPU is done with what they asked of it."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def __call__(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        import torch

        def timed(*arguments: Any) -> Any:
            torch.cuda.synchronize()
            begun = time.perf_counter()
            result = function(*arguments)
            torch.cuda.synchronize()
            self.spent[name] = self.spent.get(name, 0.0) + time.perf_counter() - begun
            return result

        return timed


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "METRA on the Ant at its paper's sizes: two layers of 1024, batch 256, one update for every 32 env steps; 16 "
        "environments in 16 processes, rounds of 3,200 env steps and 100 updates. Physics is the wait for their step "
        "(observation and reward included); the rest is choosing actions, the option loop and the replay."
    ),
    cases={
        "one GPU": [
            Contender("one graph a round", skillrl, {"graph": True}),
            Contender("no graph", skillrl, {"graph": False}),
        ]
    },
    columns=[
        Column("rate", "env steps/s"),
        Column("physics", "physics", "{:.2f}"),
        Column("updates", "updates", "{:.2f}"),
        Column("rest", "rest", "{:.2f}"),
        Column("ms_update", "ms an update", "{:.2f}"),
    ],
    seconds=5.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
