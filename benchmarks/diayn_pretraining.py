"""How fast does DIAYN pretrain, with the discriminator in, against plain SAC elsewhere?"""

import peers
from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed
from least import LIMIT, alone
from ours import training

DIAYN = ["learner=diayn", "env=half_cheetah", "learner.hidden_dims=[256,256]", "learner.batch_size=256"]
BATCHED = ["pretrain.collect=8", "pretrain.updates=8", "pretrain.warmup=256"]  # the default 8 environments


def skillrl(overrides: list[str]) -> Measure:
    return timed(training(overrides)[1])


def stable_baselines(threads: int) -> Measure:
    return timed(peers.training("sb3", threads))


def case(cores: int) -> list[Contender]:
    at, of = {"threads": cores}, {"overrides": [*DIAYN, *BATCHED, f"runtime.threads={cores}"]}
    return [
        Contender("DIAYN of skillrl", skillrl, of, None, cores, cores),
        Contender("SAC of Stable-Baselines3", stable_baselines, at, Goal(1.5), cores, cores),
        Contender(LIMIT, alone, of, None, cores, cores, limit=True),
    ]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "HalfCheetah, one update an env step (Stable-Baselines3's ratio), batch 256, two layers of 256. Ours learns 50 "
        "skills with a discriminator of the same widths on its default of 8 environments, 8 updates after each step of "
        "all; Stable-Baselines3 learns no skills, on its default of one environment. Its products, optimisers and "
        "physics alone are a step of ours without anything else."
    ),
    cases={"one core": case(1), "two cores": case(2)},
    columns=[Column("rate", "env steps/s", "{:.1f}"), Column("cpu_ms", "CPU ms a step", "{:.1f}")],
    seconds=4.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
