"""How fast does DIAYN pretrain, with the discriminator in, against plain SAC elsewhere?"""

from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed
from least import LIMIT, alone

DIAYN = ["learner=diayn", "env=half_cheetah", "learner.hidden_dims=[256,256]", "learner.batch_size=256"]
BATCHED = ["pretrain.collect=8", "pretrain.updates=8", "pretrain.warmup=256"]  # the default 8 environments


def ours(threads: int) -> Measure:
    from ours import training

    return timed(training(overrides(threads))[1])


def least(threads: int) -> Measure:
    return alone(overrides(threads))


def overrides(threads: int) -> list[str]:
    return [*DIAYN, *BATCHED, f"runtime.threads={threads}"]


def stable_baselines(threads: int) -> Measure:
    from peers import training

    return timed(training("sb3", threads))


def case(cores: int) -> list[Contender]:
    at = {"threads": cores}
    return [
        Contender("DIAYN of skillrl", ours, at, None, cores, cores),
        Contender("SAC of Stable-Baselines3", stable_baselines, at, Goal(1.5), cores, cores),
        Contender(LIMIT, least, at, None, cores, cores, limit=True),
    ]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "HalfCheetah, one update an env step (Stable-Baselines3's ratio), batch 256, two layers of 256. Ours learns 50 "
        "skills with a discriminator of the same widths on its default of 8 environments, 8 updates after each step of "
        "all; Stable-Baselines3 learns no skills, on its default of one environment. Its products and physics alone "
        "are a step of ours without anything else."
    ),
    cases={"one core": case(1), "two cores": case(2)},
    columns=[Column("rate", "env steps/s", "{:.1f}"), Column("cpu_ms", "CPU ms a step", "{:.1f}")],
    seconds=4.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
