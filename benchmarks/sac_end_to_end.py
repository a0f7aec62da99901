"""How fast does SAC train, env steps and updates together?"""

import peers
from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed
from least import LIMIT, alone
from ours import ONE_TO_ONE, SAC, training


def skillrl(overrides: list[str]) -> Measure:
    return timed(training(overrides)[1])


def peer(library: str, threads: int) -> Measure:
    return timed(peers.training(library, threads))


def case(cores: int, sb3: float, sbx: float) -> list[Contender]:
    at, of = {"threads": cores}, {"overrides": [*SAC, *ONE_TO_ONE, f"runtime.threads={cores}"]}
    return [
        Contender("skillrl", skillrl, of, None, cores, cores),
        Contender("Stable-Baselines3", peer, at | {"library": "sb3"}, Goal(sb3), cores, cores),
        Contender("SBX", peer, at | {"library": "sbx"}, Goal(sbx), cores, cores, needs="sbx"),
        Contender(LIMIT, alone, of, None, cores, cores, limit=True),
    ]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "HalfCheetah-v5, one environment, one update an env step, two layers of 256, batch 256, float32, after the "
        "warm-up (and SBX's compilation). Ours is what `python train.py learner=flat env=half_cheetah env.horizon=1000 "
        "'env.observe=[joints,velocities]' env.num_envs=1 pretrain.collect=1 pretrain.updates=1` trains, through "
        "`skillrl.train`. Processes are pinned to the cores, with as many threads for matrix products. Its products, "
        "optimisers and physics alone are a step without anything else; SBX's products are XLA's, and need not take as "
        "long."
    ),
    cases={"one core": case(1, 1.8, 1.2), "two cores": case(2, 2.0, 1.2)},
    columns=[Column("rate", "env steps/s", "{:.1f}"), Column("cpu_ms", "CPU ms a step", "{:.1f}")],
    seconds=4.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
