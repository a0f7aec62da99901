"""How many updates a second does a GPU make?"""

from collections.abc import Callable
from typing import Any

from alternate import Benchmark, Column, Contender, Goal, Measure, main, timed
from diayn_pretraining import DIAYN
from ours import SAC

OBS, ACTION, BATCH = 17, 6, 256
FEW_ENVS = ["env.num_envs=8", "pretrain.collect=8", "pretrain.warmup=256", "pretrain.capacity=100000"]
ON_GPU = ["runtime=gpu", "learner.hidden_dims=[256,256]", "learner.batch_size=256", *FEW_ENVS]


def skillrl(overrides: list[str], graph: bool, updates: int) -> Measure:
    """Sampling from the replay on the GPU is part of it."""
    import ours

    from skillrl.training import learn

    state = ours.begun([*overrides, *ON_GPU, f"pretrain.updates={updates}", f"runtime.graph={str(graph).lower()}"])
    ours.go_on(state, 1024)
    return finished(lambda: learn(state), updates)


def leanrl(compile: bool) -> Measure:
    import torch
    from leanrl_sac import updating

    batch = {
        "observations": torch.randn(BATCH, OBS, device="cuda"),
        "next_observations": torch.randn(BATCH, OBS, device="cuda"),
        "actions": 2 * torch.rand(BATCH, ACTION, device="cuda") - 1,
        "rewards": torch.randn(BATCH, device="cuda"),
        "dones": torch.zeros(BATCH, dtype=torch.bool, device="cuda"),
    }
    return finished(updating(batch, compile=compile, cudagraphs=True), 1)


def finished(work: Callable[[], Any], updates: int, calls: int = 100) -> Measure:
    """Many calls, until the GPU is done with them."""
    import torch

    def done() -> float:
        for _ in range(max(1, calls // updates)):
            work()
        torch.cuda.synchronize()
        return updates * max(1, calls // updates)

    return timed(done)


def mine(name: str, overrides: list[str], *, graph: bool = True, updates: int = 1) -> Contender:
    return Contender(name, skillrl, {"overrides": overrides, "graph": graph, "updates": updates})


FLAT = ["learner=flat", *SAC[1:]]
BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "HalfCheetah's sizes (17 observations, 6 actions, two layers of 256, batch 256, float32). DIAYN learns 50 "
        "skills, with a discriminator of the same widths; its batches are drawn from the replay on the GPU as part of "
        "the update, peers are handed theirs. LeanRL is its own script's update, captured in CUDA graphs (critic and "
        "actor apart), and compiled besides (tensordict 0.11; with 0.14 its script does not compile on this torch)."
    ),
    cases={
        "one GPU": [
            mine("DIAYN of skillrl, 50 updates a graph", DIAYN, updates=50),
            mine("DIAYN of skillrl, one update a graph", DIAYN),
            mine("DIAYN of skillrl, no graph", DIAYN, graph=False),
            mine("SAC of skillrl, 50 updates a graph", FLAT, updates=50),
            Contender("SAC of LeanRL, graphs", leanrl, {"compile": False}, Goal(1.0), needs="leanrl"),
            Contender("SAC of LeanRL, graphs, compiled", leanrl, {"compile": True}, Goal(1.0), needs="leanrl"),
        ]
    },
    columns=[Column("rate", "updates/s"), Column("cpu_ms", "CPU ms an update", "{:.2f}")],
    seconds=2.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
