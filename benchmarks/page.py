"""docs/performance.md, from the CSVs in benchmarks/data.

python benchmarks/page.py
"""

import importlib
from pathlib import Path
from typing import Any

from alternate import Benchmark
from measured import HERE, ROOT, Results
from tables import each_round, goals, listing, table

from skillrl.comparison.markdown import picture
from skillrl.comparison.markdown import table as markdown

ON_CPU = (
    *("env_steps", "sac_update", "learners", "rssm_update", "sac_end_to_end", "diayn_pretraining", "replay"),
    *("breakdown", "jobs", "precision", "precision_learning", "one_hot", "threads"),
)
ON_GPU = ("gpu_update", "gpu_training")
SCRIPTS = ON_CPU + ON_GPU
PAGE = ROOT / "docs" / "performance.md"
HEAD = """# Performance

How fast it is, always beside a peer or the hardware's limit: contenders take turns in one run on one machine, each in a
process of its own, and a ratio is taken within each round. Tables show medians over the rounds; every round stands in
the CSV beside the picture, and is a dot in it.

This page is generated: `python benchmarks/page.py`. All of it is measured anew, in about a quarter of an hour on two
idle cores, by

    pip install -c requirements.txt -r benchmarks/requirements.txt
    python benchmarks/all.py

What needs a GPU is measured only where there is one."""
AT_THE_LIMIT = """*At the limit* is the same measure of what does only what nobody can leave out, in the same rounds:
physics, or matrix products, optimisers and physics, or the bytes of what must be kept. The tables say which it is.
Where it falls short of a goal itself, the goal cannot be met this way; how far we are from it is what is left to
gain. Products alone have their operands at hand as no update has: it is a bound, not what can be reached."""
AUTO = """## What auto takes

`runtime.threads=auto` and `runtime.workers=auto` choose by the cores of this machine, the runs of a sweep that share
them (`hydra.launcher.n_jobs`), the device, the networks' widths and the env's rows. What else is busy is not looked at,
so that a command takes the same each time. The run says in a line what it took and why; `run.json` keeps it.

- `threads` is 2 on a CPU with at least 4 cores of the run's own and a layer of at least 256, else 1. Two threads are
  worth 1.2 to 1.7 times one on two idle cores (SAC and DIAYN, above), at 1.2 to 1.6 times the core time; a second
  thread that waits for its core makes updates slower than one.
- `workers` is half of the run's cores, at most one for each 16 rows, with at least 4 cores of its own, 32 rows and an
  env that has worker processes; else 0. Calling a second process up costs 0.17 ms a step, as much as 6 rows of
  HalfCheetah.

On two cores that is 1 and 0, the defaults: a run is never slower with `auto`, whatever runs beside it. That it pays on
more cores is reckoned from the two-core tables here, not measured."""
LIMITS = """## Limits

- Speeds are of the machine named at each table; ratios carry over to like machines, absolute numbers don't. What else
  ran is told by the load before the first round: on an idle machine it is near 0.
- Two threads differ from process to process (SAC on two cores, above: 105 to 163 env steps a second by the round), and
  at times within one that goes on doing the same. Profiled in both states, what reads what the other core wrote is
  slower in one of them: Adam and copies most, products least. So it seems to be the way between the cores' caches.
  Where a virtual machine's cores lie is not ours to choose; peers have it too.
- Peers run with their defaults but for what each section names; they may be faster with settings of their own.
- A first call's costs (imports, compilation) are left out, for all contenders.
- CPU times of worker processes are in units of 10 ms of the kernel's clock, per measurement and process."""


def page(data: Path) -> str:
    benchmarks = [importlib.import_module(name).BENCHMARK for name in SCRIPTS]
    found = {each.name: Results.read(path) for each in benchmarks if (path := data / f"{each.name}.csv").exists()}
    parts = [HEAD, *glance(benchmarks, found)]
    for each in benchmarks:
        parts += section(each, found.get(each.name))
    return "\n\n".join([*parts, AUTO, LIMITS]) + "\n"


def glance(benchmarks: list[Benchmark], found: dict[str, Results]) -> list[str]:
    """What the project holds itself to, and whether it is so."""
    lines = [
        [f"[{each.name}](#{anchor(each)})", *line]
        for each in benchmarks
        if each.name in found
        for case in each.cases
        for line in goals(each, found[each.name].rows, case)
    ]
    head = ["benchmark", "measure", "median", "goal", "at the limit"]
    return ["## Goals", AT_THE_LIMIT, markdown(head, lines)] if lines else []


def section(benchmark: Benchmark, results: Results | None) -> list[str]:
    parts = [f"## {benchmark.question}", benchmark.notes]
    if results is None:
        return [*parts, f"Not measured yet: `python benchmarks/{benchmark.name}.py`."]
    for case in benchmark.cases:
        parts += [f"**{case}**", markdown(*table(benchmark, results.rows, case))]
        if benchmark.rounds_are:
            parts.append(markdown(*each_round(benchmark, results.rows, case)))
        if lines := listing(benchmark, results.rows, case):
            parts.append(markdown(["operation", *(benchmark.listed or ())[1:]], lines))
    return [*parts, picture(f"../benchmarks/data/{benchmark.name}", benchmark.question), provenance(results)]


def provenance(results: Results) -> str:
    about: dict[str, Any] = results.about
    machine, versions = about["machine"], about["versions"]
    rounds = 1 + max(int(row["round"]) for row in results.rows)
    where = f"{machine['cpu']}, {machine['cores']} cores, {machine['memory_gib']} GiB; load before {about['load']}"
    names = ("python", "torch", "mujoco", "gymnasium", "numpy", "stable-baselines3", "sbx-rl", "jax", "envpool")
    of = ", ".join(f"{name} {versions[name]}" for name in names if name in versions)
    commit = f"{(about['commit'] or 'unknown')[:12]}{' with uncommitted changes' if about['dirty'] else ''}"
    lines = [f"    {about['command']}", f"{about['date'][:10]}, {rounds} rounds. {where}. Commit {commit}; {of}."]
    if about["skipped"]:
        lines.append(f"Left out, because not installed: {', '.join(about['skipped'])}.")
    lines += [
        f"Left out, because it could not start: {name} (`{why}`)." for name, why in about.get("failed", {}).items()
    ]
    return "\n\n".join(lines)


def anchor(benchmark: Benchmark) -> str:
    """Of its heading, as GitHub makes it."""
    kept = "".join(c for c in benchmark.question.lower() if c.isalnum() or c in " -")
    return kept.replace(" ", "-")


if __name__ == "__main__":
    PAGE.write_text(page(HERE / "data"))
    print(f"written: {PAGE.relative_to(ROOT)}")
