"""What does bfloat16 do to learning?"""

from typing import Any

from alternate import Benchmark, Column, Contender, Measure, main
from measured import Row

SMALL = ["experiment=small/diayn"]
ENV_STEPS = 40_000
ROLLOUTS, STEPS = 12, 50
"""Of each skill to be told apart, and of all skills to see what they are paid."""


def trainings(precision: str, env_steps: int = ENV_STEPS) -> Measure:
    """One a round, of the seed that is the round's number; the call that warms up trains nothing."""
    seeds = iter([None, *range(1_000)])

    def measure(seconds: float) -> Row:
        seed = next(seeds)
        return {} if seed is None else trained(precision, seed, env_steps)

    return measure


def trained(precision: str, seed: int, env_steps: int) -> Row:
    import ours

    state = ours.begun([*SMALL, f"runtime.precision={precision}", f"seed={seed}"])
    ours.go_on(state, env_steps)
    return {"discriminability": discriminability(state, seed), "reward": mean_reward(state, seed)}


def rows_of(state: Any, num_envs: int) -> Any:
    import ours

    from train import build

    return build(ours.composed(SMALL)["env"] | {"num_envs": num_envs})


def discriminability(state: Any, seed: int) -> float:
    """A fresh classifier's, of the cells that sampled actions lead to. (Mean actions of this deterministic env repeat
    themselves exactly, and then any drift tells skills apart.)"""
    import torch

    from skillrl.evaluation.metrics import cell_table, recognise
    from skillrl.evaluation.rollouts import rollout

    n = state.learner.policy.space.n
    labels = torch.arange(ROLLOUTS * n) % n
    env = rows_of(state, len(labels))
    told = rollout(env, state.learner.policy, labels, seed=seed, deterministic=False)
    cells = cell_table(told.coordinates, told.length, env.metadata["coverage"]["cell"])
    return recognise(cells, labels.numpy(), n, seed=seed).accuracy


def mean_reward(state: Any, seed: int) -> float:
    """Nats a step, over fresh rollouts."""
    import torch

    from skillrl.data.collector import Collector

    learner = state.learner
    env = rows_of(state, ROLLOUTS * learner.policy.space.n)
    collector = Collector(env, learner.policy, learner.prior(), spec=learner.spec, seed=seed + 1)
    collector.reset(seed + 1)
    with torch.no_grad():
        paid = [learner.intrinsic_reward(collector.tick()[0]).mean() for _ in range(STEPS)]
    return float(torch.stack(paid).mean())


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        f"`experiment=small/diayn` (8 skills on the point env, two layers of 64), {ENV_STEPS:,} env steps; round n is "
        "seed n, for both. Intrinsic reward is in nats a step, over fresh rollouts, and at most log 8 = 2.08; "
        "discriminability is a fresh classifier's, of the cells that sampled actions lead to; chance is 0.125."
    ),
    cases={
        "8 skills": [Contender(name, trainings, {"precision": name}, cores=1) for name in ("bfloat16", "float32")],
    },
    columns=[Column("reward", "intrinsic reward", "{:.3f}"), Column("discriminability", "discriminability", "{:.3f}")],
    rounds_are="seed",
)

if __name__ == "__main__":
    main(BENCHMARK)
