"""What is a second thread worth when another process needs a core?"""

import os
import subprocess
import sys
import time

from alternate import Benchmark, Column, Contender, Measure, main
from measured import Row


def beside_a_busy_process(threads: int) -> Measure:
    """Updates a second on two cores, of which the second is wanted by a process that never waits."""
    import ours

    from skillrl.training import learn

    wide = ["learner=diayn", "env=half_cheetah", "learner.hidden_dims=[256,256]", "learner.batch_size=256"]
    few = ["pretrain.warmup=512", "pretrain.capacity=10000", f"runtime.threads={threads}"]
    state = ours.begun([*wide, *few])
    ours.go_on(state, 512)
    core = max(os.sched_getaffinity(0))

    def measure(seconds: float) -> Row:
        busy = subprocess.Popen(
            [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, [{core}])\nwhile True: pass"]
        )
        try:
            time.sleep(0.3)  # until it is
            count, start = 0, time.perf_counter()
            while time.perf_counter() < start + seconds:
                learn(state)
                count += state.schedule.updates
            spent = time.perf_counter() - start
        finally:
            busy.kill()
            busy.wait()
        return {"rate": count / spent, "ms": 1e3 * spent / count}

    return measure


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "DIAYN with 50 skills at HalfCheetah's sizes, two layers of 256, batch 256, while a process that never waits "
        "is pinned to the second core. With that core idle, two threads are worth 1.2 to 1.7 times one (above). "
        "This is why `runtime.threads=auto` is 1 with fewer than four cores to itself."
    ),
    cases={
        "two cores, one of them busy": [
            Contender("one thread", beside_a_busy_process, {"threads": 1}, cores=2, threads=1),
            Contender("two threads", beside_a_busy_process, {"threads": 2}, cores=2, threads=2),
        ]
    },
    columns=[Column("rate", "updates/s", "{:.1f}"), Column("ms", "ms an update", "{:.1f}")],
    seconds=1.5,
)

if __name__ == "__main__":
    main(BENCHMARK)
