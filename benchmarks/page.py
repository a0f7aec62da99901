"""docs/performance.md, from the CSVs in benchmarks/data.

python benchmarks/page.py
"""

import importlib
from pathlib import Path
from typing import Any

from alternate import HERE, ROOT, Benchmark, Results
from tables import each_round, goals, listing, table

from skillrl.comparison.markdown import picture
from skillrl.comparison.markdown import table as markdown

ON_CPU = (
    *("env_steps", "sac_update", "sac_end_to_end", "diayn_pretraining", "replay", "breakdown", "learners", "jobs"),
    *("precision", "precision_learning", "one_hot"),
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
LIMITS = """## Limits

- Speeds are of the machine named at each table; ratios carry over to like machines, absolute numbers don't. What else
  ran is told by the load before the first round: on an idle machine it is near 0.
- Peers run with their defaults but for what each section names; they may be faster with settings of their own.
- A first call's costs (imports, compilation) are left out, for all contenders.
- CPU times of worker processes are in units of 10 ms of the kernel's clock, per measurement and process."""


def page(data: Path) -> str:
    benchmarks = [importlib.import_module(name).BENCHMARK for name in SCRIPTS]
    found = {each.name: Results.read(path) for each in benchmarks if (path := data / f"{each.name}.csv").exists()}
    parts = [HEAD, *glance(benchmarks, found)]
    for each in benchmarks:
        parts += section(each, found.get(each.name))
    return "\n\n".join([*parts, LIMITS]) + "\n"


def glance(benchmarks: list[Benchmark], found: dict[str, Results]) -> list[str]:
    """What the project holds itself to, and whether it is so."""
    lines = [
        [f"[{each.name}](#{anchor(each)})", *line]
        for each in benchmarks
        if each.name in found
        for case in each.cases
        for line in goals(each, found[each.name].rows, case)
    ]
    return ["## Goals", markdown(["benchmark", "measure", "median", "goal"], lines)] if lines else []


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
