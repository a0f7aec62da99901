"""How much of a core's matrix-product rate does a SAC update reach?"""

import time
from collections.abc import Callable
from itertools import pairwise
from typing import Any

from alternate import Benchmark, Column, Contender, Goal, Measure, main
from least import Shape, gflop, multiplying, stepping
from measured import Row

OBS, ACTION, HIDDEN, BATCH = 17, 6, 256, 256


def products() -> list[Shape]:
    """(m, k, n) of every matrix product that the maths of one update needs.

    Forward, weight gradient and input gradient once each where they are needed: the actor acts on obs and next_obs and
    is differentiated once; each of two critics sees the target's, the batch's and the actor's actions, is
    differentiated once for its weights and once for the action.
    """
    actor = list(pairwise([OBS, HIDDEN, HIDDEN, 2 * ACTION]))
    critic = list(pairwise([OBS + ACTION, HIDDEN, HIDDEN, 1]))
    return (
        2 * _forward(actor) + _weights(actor) + _inputs(actor[1:])
        + 2 * (3 * _forward(critic) + _weights(critic) + _inputs(critic[1:]) + _inputs(critic))
    )  # fmt: skip


def _forward(layers: list[tuple[int, int]]) -> list[Shape]:
    return [(BATCH, fan_in, fan_out) for fan_in, fan_out in layers]


def _weights(layers: list[tuple[int, int]]) -> list[Shape]:
    return [(fan_in, BATCH, fan_out) for fan_in, fan_out in layers]


def _inputs(layers: list[tuple[int, int]]) -> list[Shape]:
    return [(fan_in, fan_out, BATCH) for fan_in, fan_out in layers]  # as wide as the batch, which is faster


def share(update: Callable[[], Any]) -> Measure:
    """Update and square product in slices of 50 ms, in turn, in this process; CPU time, which others barely move."""
    square = multiplying([(BATCH, HIDDEN, HIDDEN)])

    def measure(seconds: float) -> Row:
        works = {"update": update, "square": square}
        spent, done = dict.fromkeys(works, 0.0), dict.fromkeys(works, 0)
        until = time.perf_counter() + seconds
        while time.perf_counter() < until:
            for name, work in works.items():
                start = time.process_time()
                while time.process_time() < start + 0.05:
                    work()
                    done[name] += 1
                spent[name] += time.process_time() - start
        each = {name: spent[name] / done[name] for name in works}
        core = gflop([(BATCH, HIDDEN, HIDDEN)]) / each["square"]
        return {
            "rate": 1 / each["update"],
            "ms": 1e3 * each["update"],
            "share": gflop(products()) / each["update"] / core,
            "core_gflops": core,
            "count": done["update"],
        }

    return measure


def begun(graph: bool = True) -> tuple[Any, Callable[[], Any]]:
    """A run's State, and an update of its learner on one batch."""
    import ours
    import torch

    from skillrl.spec import Batch

    small = ["env.num_envs=1", "pretrain.collect=1", "pretrain.capacity=1000"]
    state = ours.begun([*ours.SAC, *small, f"runtime.graph={str(graph).lower()}"])
    batch = Batch(
        obs=torch.randn(BATCH, OBS),
        next_obs=torch.randn(BATCH, OBS),
        action=2 * torch.rand(BATCH, ACTION) - 1,
        reward=torch.randn(BATCH),
        discount=torch.full((BATCH,), 0.99),
        terminated=torch.zeros(BATCH, dtype=torch.bool),
        z=state.learner.policy.space.sample(BATCH),
    )
    return state, ours.updates(state, lambda: {"batch": batch})


def skillrl(graph: bool = True, compiled: bool = False) -> Measure:
    state, update = begun(graph)
    if compiled:
        agent = state.learner.agent
        for network in (agent.actor.net, agent.critic, agent.target_critic):
            network.compile(dynamic=False)
    for _ in range(8):  # by then it is noted
        update()
    return share(update)


def peer(library: str) -> Measure:
    import torch
    from peers import sac
    from stable_baselines3.common.logger import Logger
    from stable_baselines3.common.type_aliases import ReplayBufferSamples

    model = sac(library, threads=1)
    model.set_logger(Logger(None, []))
    drawn = torch.randn(BATCH, OBS), 2 * torch.rand(BATCH, ACTION) - 1, torch.randn(BATCH, OBS)
    batch = ReplayBufferSamples(*drawn, torch.zeros(BATCH, 1), torch.randn(BATCH, 1))
    model.replay_buffer.sample = lambda *_, **__: batch  # the update alone, as ours
    return share(lambda: model.train(gradient_steps=1, batch_size=BATCH))


def alone(optimisers: bool = False) -> Measure:
    multiply = multiplying(products())
    if not optimisers:
        return share(multiply)
    _, update = begun()
    update()
    step = stepping(update)

    def work() -> None:
        multiply()
        step()

    return share(work)


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "SAC at HalfCheetah's sizes (17 observations, 6 actions, two layers of 256, batch 256, float32) on one batch, "
        "pinned to one core with one thread; times are CPU times. The maths needs "
        f"{gflop(products()):.2f} GFLOP of matrix products an update. The core's rate is that of its largest product, "
        "256 x 256 x 256, measured in slices between those of the update. A run notes the operations of an update once "
        "and does them again (`runtime.graph`, `skillrl/cpu_graph.py`), to the same bits as made anew each time. The "
        "products of an update alone, by torch, one by one and of the shapes that they have in it, with its steps of "
        "Adam and of the target network, are the least time for whoever computes them so; SBX is compiled by XLA, "
        "which has products of its own. Networks compiled by `torch.compile` are slower here, so a run does not "
        "compile them: there is no such option."
    ),
    cases={
        "one thread": [
            Contender("skillrl", skillrl, cores=1),
            Contender("skillrl, each made anew", skillrl, {"graph": False}, cores=1),
            Contender("skillrl, its networks compiled", skillrl, {"graph": False, "compiled": True}, cores=1),
            Contender("Stable-Baselines3", peer, {"library": "sb3"}, cores=1),
            Contender("SBX", peer, {"library": "sbx"}, cores=1, needs="sbx"),
            Contender("its products alone", alone, cores=1),
            Contender("its products and optimisers alone", alone, {"optimisers": True}, cores=1, limit=True),
        ]
    },
    columns=[
        Column("rate", "updates/s", "{:.1f}"),
        Column("ms", "ms", "{:.2f}"),
        Column("share", "share of the core's rate", "{:.2f}", Goal(0.6)),
        Column("core_gflops", "the core's GFLOP/s", "{:.0f}"),
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
