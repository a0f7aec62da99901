"""What does a transition cost to keep, and what does it cost to draw?"""

import time

from alternate import Benchmark, Column, Contender, Goal, Measure, main
from measured import Row

ANT = ["learner=diayn", "env=ant", "learner.hidden_dims=[256,256]", "learner.batch_size=256"]
CONTACTS = ["env.observe=[xy,joints,velocities,contacts]"]


def ours(overrides: list[str]) -> Measure:
    """Its bytes, and the CPU time of drawing and of learning, in turn on the same batches."""
    from ours import training, updates

    state, _ = training(overrides)
    needs = state.learner.needs()

    def measure(seconds: float) -> Row:
        draw = learn = 0.0
        count, until = 0, time.perf_counter() + seconds
        update = updates(state, lambda: batches)
        while time.perf_counter() < until:
            start = time.process_time()
            batches = state.data.sample(needs)
            middle = time.process_time()
            update()
            draw, learn, count = draw + middle - start, learn + time.process_time() - middle, count + 1
        return {
            "bytes": state.data.bytes_per_transition(),
            "draw_ms": 1e3 * draw / count,
            "draw_share": draw / (draw + learn),
            "count": count,
        }

    return measure


def twice(overrides: list[str]) -> Measure:
    """The same transitions as our learner sees them, with obs and next_obs each, and no index."""
    from ours import training

    state, _ = training(overrides)
    (batch,) = state.data.sample(state.learner.needs()).values()
    kept = [value[0] for name, value in batch.items() if name != "discount"]
    return lambda seconds: {"bytes": sum(value.element_size() * value.numel() for value in kept)}


def once(overrides: list[str]) -> Measure:
    """The same with each observation once: no index to find it by."""
    from ours import training

    state, _ = training(overrides)
    steps = state.data.steps.data.values()
    return lambda seconds: {"bytes": sum(value.element_size() * value[0].numel() for value in steps)}


def case(*more: str) -> list[Contender]:
    at = {"overrides": [*ANT, *more]}
    held = Goal(0.6, at_most=True)
    return [
        Contender("skillrl", ours, at, cores=1),
        Contender("the same with obs and next_obs", twice, at, held, cores=1),
        Contender("each observation once, no index", once, at, cores=1, limit=True),
    ]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "DIAYN on Ant (50 skills). Bytes are all that is allocated, indexes included, over the transitions that it "
        "holds. Drawing is a batch of 256, its share that of drawing and update (two layers of 256) together, on one "
        "core with one thread, in CPU time."
    ),
    cases={"Ant, 29 observations": case(), "Ant, 107 observations (with contact forces)": case(*CONTACTS)},
    columns=[
        Column("bytes", "bytes a transition", "{:.0f}"),
        Column("draw_ms", "ms a draw", "{:.2f}"),
        Column("draw_share", "drawing's share", "{:.1%}", Goal(0.05, at_most=True)),
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
