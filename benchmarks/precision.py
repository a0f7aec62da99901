"""How much faster is an update in bfloat16?"""

from alternate import Benchmark, Column, Contender, Measure, main, timed

FEW = ["env.num_envs=8", "pretrain.collect=8", "pretrain.warmup=512", "pretrain.capacity=10000"]
SIZES = {"two layers of 256": ("learner=diayn", 256), "two layers of 1024": ("learner=metra", 1024)}


def updates(learner: str, width: int, precision: str) -> Measure:
    """With the drawing of its batch; the core has what it says where bfloat16 is not slower."""
    import ours

    from skillrl.training import learn

    wide = [learner, "env=half_cheetah", f"learner.hidden_dims=[{width},{width}]", "learner.batch_size=256"]
    state = ours.begun([*wide, *FEW, f"runtime.precision={precision}"])
    ours.go_on(state, 512)

    def work() -> int:
        learn(state)
        return state.schedule.updates

    return timed(work)


def case(learner: str, width: int) -> list[Contender]:
    given = {"learner": learner, "width": width}
    names = ("bfloat16", "float32")
    return [Contender(name, updates, {**given, "precision": name}, cores=1) for name in names]


BENCHMARK = Benchmark(
    script=__file__,
    question=__doc__,
    notes=(
        "`runtime.precision=bfloat16`: the products of hidden layers, where a gradient passes through them; rewards, "
        "targets, first and last layers stay float32. DIAYN with 50 skills at two layers of 256, METRA at its paper's "
        "two of 1024; HalfCheetah's sizes, batch 256, drawing it included, one core, one thread. It pays where the "
        "processor multiplies bfloat16 (AVX512-BF16, AMX; GPUs since Ampere), as this one does; elsewhere it is slower."
    ),
    cases={name: case(*of) for name, of in SIZES.items()},
    columns=[Column("cpu_ms", "CPU ms an update", "{:.2f}"), Column("rate", "updates/s", "{:.1f}")],
    seconds=3.0,
)

if __name__ == "__main__":
    main(BENCHMARK)
