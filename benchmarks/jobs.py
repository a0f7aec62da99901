"""What does a small run cost when others run beside it on the same two cores?"""

from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed

from skillrl import runtime

SMALL = ["experiment=small/diayn"]


def job(usual_turns: bool = False) -> Measure:
    from ours import training

    if usual_turns:
        runtime.take_long_turns = lambda: None
    return timed(training(SMALL, chunk=400)[1])


def beside(name: str, copies: int) -> list[Contender]:
    held = Goal(1.15, at_most=True)
    return [
        Contender(name, job, cores=2, copies=copies),
        Contender("alone", job, goal=held, cores=2),
        Contender(f"{name}, with turns as usual", job, {"usual_turns": True}, cores=2, copies=copies),
    ]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "`experiment=small/diayn` (DIAYN on the point, two layers of 64), as many processes at once as a sweep would "
        "start. Core time is the CPU time of a job for one env step: beside it stand the env steps a second of each. "
        f"A run asks Linux for turns of {runtime.TURN} ms (`skillrl/runtime.py`); as usual they were of 1.4 ms here, "
        "and each begins by filling the caches anew."
    ),
    cases={
        "eight at once": beside("each of eight", 8),
        "two at once": beside("each of two", 2),
    },
    columns=[Column("cpu_ms", "core ms an env step", "{:.3f}"), Column("rate", "env steps/s of each")],
    seconds=4.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
