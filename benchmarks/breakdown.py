"""Where does the time of a pretraining go?"""

import time
from collections.abc import Callable
from typing import Any

from alternate import Benchmark, Column, Contender, Goal, Measure, main
from measured import Row

PRODUCTS = ("aten::mm", "aten::addmm", "aten::_addmm", "aten::bmm", "aten::baddbmm", "mkldnn::")
OPTIMISERS = ("aten::_fused_adam", "aten::_foreach_", "Optimizer.")
"""Starts of operations' names; the latter are Adam's steps and the target network's."""
CLOCKED, PROFILED = 400, 80  # env steps in a slice


class Clock:
    """Wall seconds inside some methods of objects; what a nested one spends is not counted in the outer."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}
        self._inner = [0.0]

    def watch(self, owner: Any, method: str, name: str) -> None:
        call: Callable[..., Any] = getattr(owner, method)
        self.spent.setdefault(name, 0.0)

        def timed(*given: Any, **named: Any) -> Any:
            start = time.perf_counter()
            self._inner.append(0.0)
            try:
                return call(*given, **named)
            finally:
                took = time.perf_counter() - start
                self.spent[name] += took - self._inner.pop()
                self._inner[-1] += took

        setattr(owner, method, timed)

    def take(self) -> dict[str, float]:
        taken = dict(self.spent)
        self.spent.update(dict.fromkeys(self.spent, 0.0))
        return taken


def watched(state: Any) -> Clock:
    """The stages of a round. The env's rows live in this process, so that their physics can be watched."""
    clock, collector = Clock(), state.collector
    clock.watch(collector.env._rows._slice._simulator, "step", "physics")
    clock.watch(collector.env, "step_async", "env")
    clock.watch(collector.env, "step_wait", "env")
    for method in ("send", "receive"):
        clock.watch(collector, method, "acting")
    clock.watch(state.data, "add", "replay")
    clock.watch(state.updating, "update", "update")
    return clock


def breakdown(overrides: list[str]) -> Measure:
    """In turn: rounds on the clock, and some in the profiler, of which only the operations' own time is used."""
    from ours import go_on, training
    from torch.profiler import ProfilerActivity, profile

    state, _ = training(overrides)
    clock = watched(state)

    def measure(seconds: float) -> Row:
        steps, profiled, wall = 0, 0, 0.0
        own: dict[str, float] = {}
        stages = dict.fromkeys(clock.spent, 0.0)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            clock.take()
            start = time.perf_counter()
            steps += go_on(state, CLOCKED)
            wall += time.perf_counter() - start
            stages = {name: stages[name] + spent for name, spent in clock.take().items()}
            with profile(activities=[ProfilerActivity.CPU]) as profiler:
                profiled += go_on(state, PROFILED)
            for event in profiler.key_averages():
                own[event.key] = own.get(event.key, 0.0) + 1e-3 * event.self_cpu_time_total
        shares = {f"stage_{name}": spent / wall for name, spent in stages.items()}
        a_step = 1e3 * wall / steps  # ms
        for kind in ("products", "optimisers", "kernels"):
            shares[f"kind_{kind}"] = sum(ms for name, ms in own.items() if kind_of(name) == kind) / profiled / a_step
        a_round = profiled / state.schedule.collect
        longest = sorted(own, key=own.__getitem__, reverse=True)[:16]
        known = shares["stage_physics"] + shares["kind_products"] + shares["kind_optimisers"]
        return shares | {
            "rate": steps / wall,
            "outside_env": 1 - known - shares["stage_env"],
            "outside": 1 - known,
            "wall_s": wall,
            "count": steps,
            **{f"op {name}": own[name] / a_round for name in longest},
        }

    return measure


def kind_of(operation: str) -> str:
    if operation.startswith(PRODUCTS):
        return "products"
    return "optimisers" if operation.startswith(OPTIMISERS) else "kernels"


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "`python train.py` with its defaults, and with `env=half_cheetah`: DIAYN, 8 environments in the training's "
        "own process, an update each 8 env steps, one core and one thread. Stages add up to the round; kinds cut it "
        "the other way. An update draws its own data, replay is what is put there. Physics is the simulator's step "
        "(the point's few lines of numpy, HalfCheetah's `mj_step` and the copying of its state), the rest of the env "
        "step observation, reward, autoreset and infos. Optimisers are Adam and the target network. Operations' own "
        "times are the profiler's, which slows the small ones: *other operations* is too large and Python's share, "
        "what remains, too small."
    ),
    cases={
        "python train.py": [Contender("skillrl", breakdown, {"overrides": []}, cores=1)],
        "python train.py env=half_cheetah": [
            Contender("skillrl", breakdown, {"overrides": ["env=half_cheetah"]}, cores=1)
        ],
    },
    columns=[
        Column("rate", "env steps/s"),
        Column("stage_physics", "physics", "{:.0%}"),
        Column("stage_env", "rest of the env step", "{:.0%}"),
        Column("stage_acting", "acting", "{:.0%}"),
        Column("stage_replay", "replay", "{:.0%}"),
        Column("stage_update", "update", "{:.0%}"),
        Column("kind_products", "of all: matrix products", "{:.0%}"),
        Column("kind_optimisers", "optimisers", "{:.0%}"),
        Column("kind_kernels", "other operations", "{:.0%}"),
        Column("outside", "outside physics, products, optimisers", "{:.0%}"),
        Column("outside_env", "outside env step, products, optimisers", "{:.0%}", Goal(0.25, at_most=True)),
    ],
    drawn=("stage_physics", "stage_env", "stage_acting", "stage_replay", "stage_update", "kind_products",
           "kind_optimisers", "kind_kernels"),
    listed=("op ", "ms a round: an update and 8 env steps"),
)  # fmt: skip

if __name__ == "__main__":
    main(BENCHMARK)
