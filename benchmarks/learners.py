"""What does an update of each learner cost, beside the matrix products in it?"""

import time
from typing import Any

from alternate import Benchmark, Column, Contender, Measure, main
from hydra.core.override_parser.overrides_parser import OverridesParser
from measured import ROOT, Row
from omegaconf import OmegaConf

COLLECTED = 3200  # env steps: 16 whole episodes
SIDE = 256  # of the square product that the core's rate is measured by


def learners() -> list[str]:
    """Those of the preset sweep=learners_x_seeds, behind SAC's own."""
    preset = OmegaConf.load(ROOT / "conf/sweep/learners_x_seeds.yaml").hydra.sweeper.params.learner
    names = sorted(path.stem for path in (ROOT / "conf/learner").glob("*.yaml"))
    return ["flat", *OverridesParser.create().parse_override(f"learner={preset}").value().filter(names)]  # type: ignore[union-attr]


def overrides(learner: str) -> list[str]:
    """As on the board, where each learner has two layers of 256 and batches of 256, or what it needs instead."""
    own = f"board/half_cheetah/{learner}"
    experiment = own if (ROOT / f"conf/experiment/{own}.yaml").exists() else "board/half_cheetah"
    return [f"experiment={experiment}", f"learner={learner}", "pretrain.warmup=100000", "pretrain.capacity=16000"]


def updating(learner: str) -> Measure:
    """Updates from one sample, and the square product, in turn; CPU time, which other processes barely move."""
    import ours
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    state = ours.begun(overrides(learner))
    ours.go_on(state, COLLECTED)
    batches = state.data.sample(state.learner.needs())
    state.learner.look(state.data)

    update = ours.updates(state, lambda: batches)
    with FlopCounterMode(display=False) as counter:
        update()
    needed = counter.get_total_flops()
    left, right, out = (torch.randn(SIDE, SIDE) for _ in range(3))

    def cpu_s(work: Any, least: float) -> float:
        """Of one call, over at least so many seconds."""
        start, count = time.process_time(), 0
        while time.process_time() < start + least or not count:
            work()
            count += 1
        return (time.process_time() - start) / count

    def measure(seconds: float) -> Row:
        updates, squares = list[float](), list[float]()
        until = time.perf_counter() + seconds
        while time.perf_counter() < until or not updates:
            updates.append(cpu_s(update, 0.1))
            squares.append(cpu_s(lambda: torch.mm(left, right, out=out), 0.05))
        spent, core = sum(updates) / len(updates), 2 * SIDE**3 / (sum(squares) / len(squares))
        return {
            "ms": 1e3 * spent,
            "gflop": 1e-9 * needed,
            "products_ms": 1e3 * needed / core,
            "share": needed / core / spent,
            "core_gflops": 1e-9 * core,
        }

    return measure


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "The settings of the board's HalfCheetah: two layers of 256, batches of 256, one update as its learner makes "
        "it (DADS's is 72 gradient steps, VALOR's is of 1,600 env steps, Choreographer has its small sizes). One "
        "core, one thread, CPU time, updates from one sample of the replay. The products of an update are those that "
        "torch's counter saw; their time is what they would take at the core's rate, that of a product 256 x 256 x "
        "256 measured in between; those of an LSTM it does not see, so VALOR's share is told too low. The rest are "
        "optimisers, small operations and Python: its share is the larger, the narrower a learner's networks."
    ),
    cases={"HalfCheetah, one thread": [Contender(name, updating, {"learner": name}, cores=1) for name in learners()]},
    columns=[
        Column("share", "products, of an update's time", "{:.0%}"),
        Column("ms", "ms an update", "{:.1f}"),
        Column("gflop", "GFLOP of products", "{:.2f}"),
        Column("products_ms", "ms of these at the core's rate", "{:.1f}"),
        Column("core_gflops", "the core's GFLOP/s"),
    ],
)

if __name__ == "__main__":
    main(BENCHMARK)
