"""Contenders that take turns: each in a process of its own, round after round, and the ratio of every round.

Speeds of a machine drift, so two of them mean something only side by side. In each round all contenders of a case are
measured one after the other (every second round in reverse), the others idle meanwhile; the ratio is taken within the
round, and the median of the rounds is what is reported. All rows are kept.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from measured import HERE, Results, Row, about_this, is_installed

Measure = Callable[[float], Row]
"""Seconds to measure for → what was found. A first, shorter call warms up and is thrown away."""


@dataclass(frozen=True)
class Goal:
    """What the project holds itself to."""

    limit: float
    at_most: bool = False

    def judge(self, value: float) -> str:
        met = value <= self.limit if self.at_most else value >= self.limit
        return f"{'≤' if self.at_most else '≥'} {self.limit:g}, {'met' if met else 'missed'}"


@dataclass(frozen=True)
class Column:
    """A quantity of the rows. Its goal is for the first contender of a case."""

    key: str
    title: str
    form: str = "{:,.0f}"
    goal: Goal | None = None


@dataclass(frozen=True)
class Contender:
    """Args:
    prepare: called once in the contender's process with ``arguments``; imports what it needs itself.
    goal: for the first contender's value over this one's.
    cores: that its process is pinned to; None leaves it free.
    threads: of BLAS and OpenMP.
    copies: processes that are measured at the same time; the row is their mean.
    needs: the module without which it is skipped.
    limit: it does only what nobody can leave out: where it misses a goal, the first contender cannot meet it.
    """

    name: str
    prepare: Callable[..., Measure]
    arguments: Mapping[str, Any] = field(default_factory=dict)
    goal: Goal | None = None
    cores: int | None = None
    threads: int = 1
    copies: int = 1
    needs: str = ""
    limit: bool = False

    def missing(self) -> bool:
        return bool(self.needs) and not is_installed(self.needs)


@dataclass(frozen=True)
class Benchmark:
    """Cases of contenders, ours first, compared by the first column.

    drawn: columns that the picture shows of the first contender, instead of the first column of all contenders.
    listed: start of the keys that make a list of their own, and what their values are.
    rounds_are: what a round stands for, where each is shown by itself.
    """

    script: str
    question: str
    notes: str
    cases: Mapping[str, Sequence[Contender]]
    columns: Sequence[Column]
    seconds: float = 2.0
    drawn: Sequence[str] = ()
    listed: tuple[str, str] | None = None
    rounds_are: str = ""

    @property
    def name(self) -> str:
        return Path(self.script).stem


# ---- in a contender's process


def timed(work: Callable[[], float]) -> Measure:
    """``work`` again and again; it returns how much it did. CPU seconds include those of child processes."""

    def measure(seconds: float) -> Row:
        count, wall, cpu = 0.0, time.perf_counter(), cpu_seconds()
        while not count or time.perf_counter() < wall + seconds:  # once at least, however late it was begun
            count += work()
        wall, cpu = time.perf_counter() - wall, cpu_seconds() - cpu
        return {"rate": count / wall, "cpu_ms": 1e3 * cpu / count, "wall_s": wall, "cpu_s": cpu, "count": count}

    return measure


def cpu_seconds() -> float:
    """Of this process, all its threads and its living children (in units of the kernel's clock, 10 ms)."""
    total = time.process_time()
    for task in Path("/proc/self/task").glob("*/children"):
        for child in task.read_text().split():
            with suppress(OSError):  # it has just ended
                fields = Path(f"/proc/{child}/stat").read_text().rpartition(")")[2].split()
                total += (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return total


def serve(contender: Contender) -> None:
    """The contender's side: says that it is ready, then measures for as long as each line that it reads says."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print must not look like an answer
    if contender.cores:
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[: contender.cores])
    measure = contender.prepare(**contender.arguments)
    measure(0.3)
    print("{}", file=answers)
    for line in sys.stdin:
        print(json.dumps(measure(float(line))), file=answers)
    answers.close()
    os._exit(0)  # peers' threads and workers need no farewell


# ---- in the process that calls them up


class Running:
    """A contender's processes: idle until they are measured."""

    def __init__(self, script: str, case: str, contender: Contender):
        command = [sys.executable, script, "--contender", case, contender.name]
        names = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        env = {**os.environ, **dict.fromkeys(names, str(contender.threads))}
        self.name, self.log = contender.name, tempfile.TemporaryFile("w+")  # noqa: SIM115  # closed in `close`
        self.processes = [
            subprocess.Popen(
                command, env=env, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.log
            )
            for _ in range(contender.copies)
        ]
        for process in self.processes:
            self._answer(process)

    def measure(self, seconds: float) -> Row:
        for process in self.processes:
            pipe(process.stdin).write(f"{seconds}\n")
            pipe(process.stdin).flush()
        rows = [self._answer(process) for process in self.processes]
        return {key: statistics.fmean(row[key] for row in rows) for key in rows[0]}

    def _answer(self, process: subprocess.Popen) -> Row:
        line = pipe(process.stdout).readline()
        if not line:
            self.log.seek(0)
            raise RuntimeError(f"contender {self.name} ended:\n{self.log.read()[-3000:]}")
        return json.loads(line)

    def close(self) -> None:
        for process in self.processes:
            pipe(process.stdin).close()
            try:
                process.wait(timeout=10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            pipe(process.stdout).close()
        self.log.close()


def pipe(stream: IO[str] | None) -> IO[str]:
    assert stream is not None
    return stream


def alternate(benchmark: Benchmark, rounds: int, seconds: float) -> tuple[list[Row], dict[str, str]]:
    """All rounds of all cases; contenders whose package is missing are left out, and so are peers that cannot start,
    with what they said last."""
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for case, contenders in benchmark.cases.items():
        with ExitStack() as stack:
            running = []
            for contender in contenders:
                if contender.missing():
                    continue
                try:
                    running.append(Running(benchmark.script, case, contender))
                except RuntimeError as error:
                    if not contender.needs:
                        raise
                    failed[contender.name] = str(error).strip().splitlines()[-1]
                else:
                    stack.callback(running[-1].close)
            for number in range(rounds):
                for each in running if number % 2 == 0 else reversed(running):
                    about: Row = {"case": case, "contender": each.name, "round": number}
                    rows.append(about | each.measure(seconds))
    return rows, failed


# ---- a script's command line


def main(benchmark: Benchmark) -> None:
    parser = argparse.ArgumentParser(description=benchmark.question)
    parser.add_argument("--rounds", type=int, default=5, help="alternations (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=benchmark.seconds, help="each (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=HERE / "data", help="folder of the CSV and the picture")
    parser.add_argument("--contender", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        case, name = arguments.contender
        return serve(next(each for each in benchmark.cases[case] if each.name == name))
    if arguments.rounds < 1 or arguments.seconds <= 0:
        parser.error("--rounds must be at least 1, --seconds above 0")
    report(benchmark, arguments.rounds, arguments.seconds, arguments.out)


def report(benchmark: Benchmark, rounds: int, seconds: float, out: Path) -> None:
    """Measure, print the tables, write the CSV and the picture."""
    from chart import draw
    from tables import each_round, goals, listing, table

    from skillrl.comparison.markdown import table as markdown
    from skillrl.evaluation.theme import save

    skipped = sorted({each.name for case in benchmark.cases.values() for each in case if each.missing()})
    for name in skipped:
        print(f"skipped: {name} is not installed (benchmarks/requirements.txt)")
    load = os.getloadavg()[0]
    results = Results(about_this(skipped) | {"load": round(load, 2)})
    results.rows, failed = alternate(benchmark, rounds, seconds)
    results.about |= {"failed": failed} if failed else {}
    for name, reason in failed.items():
        print(f"left out: {name}: {reason}")
    print(f"{benchmark.question}\n{rounds} rounds of {seconds:g} s; load before: {load:.1f}")
    for case in benchmark.cases:
        print(f"\n{case}\n{markdown(*table(benchmark, results.rows, case))}")
        if benchmark.rounds_are:
            print(f"\n{markdown(*each_round(benchmark, results.rows, case))}")
        if found := listing(benchmark, results.rows, case):
            print(f"\n{markdown(['operation', *(benchmark.listed or ())[1:]], found)}")
        for what, value, verdict, limit in goals(benchmark, results.rows, case):
            print(f"\ngoal: {what}: {value} ({verdict}{limit and f'; at the limit {limit}'})")
    results.write(out / f"{benchmark.name}.csv")
    save(lambda ink: draw(benchmark, results.rows, ink), out / f"{benchmark.name}.png")
    print(f"\nwritten: {out / benchmark.name}.csv, .png")
