"""Make the pages docs/results/<study>.md and their figures, from the CSVs in docs/results/data alone.

python docs/results/make.py              # every study that has data
python docs/results/make.py quickstart
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from curves import draw
from judge import Found, budgets_of, judge, scores_of, verdict
from seeds import Seed, complete, read_study
from studies import DATA, RESULTS, STUDIES, find_study
from study import Study

from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.protocol import EPISODES
from skillrl.evaluation.statistics import mean_and_se


def make(name: str, data: Path = DATA, out: Path = RESULTS) -> Path:
    """Write the page of a study and its figures, and return the page's path.

    Errors: BadInput where there is no data, or some that does not belong.
    """
    study, folder = find_study(name), data / name
    found = read_study(study, folder)
    if not any(found.values()):
        raise BadInput(f"{folder} holds no CSV: run python docs/results/prove.py {name}")
    draw(study, found, out / "figures", name)
    path = out / f"{name}.md"
    path.write_text(page(name, study, found))
    return path


def page(name: str, study: Study, found: Found) -> str:
    """The whole Markdown text."""
    what = study.measure.short.capitalize()
    parts = [
        f"# {study.title}",
        study.about,
        verdict(study, found),
        scores(study, found),
        gaps(study, found),
        "## Learning",
        picture(f"figures/{name}", f"{what} against env steps on the task"),
        learning(study, found),
    ]
    if study.pretraining:
        parts += [
            "## With pretraining counted",
            counted(study, found),
            picture(f"figures/{name}-with-pretraining", f"{what} against all env steps, pretraining counted"),
        ]
    parts += [
        "## How this page was made",
        f"The numbers are in [`data/{name}/`](data/{name}), one CSV for each seed. Everything here is made from them:",
        f"    python docs/results/prove.py {name}   # the runs: hours; it can be stopped and goes on\n"
        f"    python docs/results/make.py {name}    # this page",
    ]
    return "\n\n".join(parts) + "\n"


# ---- tables


def scores(study: Study, found: Found) -> str:
    """Every seed of every arm."""
    spent = ["Pretraining", "On the task"] if study.pretraining else ["Env steps"]
    head = ["Arm", *spent, *(f"Seed {seed}" for seed in study.seeds), "Mean ± SE"]
    rows = [[study.arms[arm].title, *score_row(study, found[arm])] for arm in study.arms]
    told = f"{study.measure.title.capitalize()} in "
    if study.last_tenth:
        told += "the training episodes, with exploration, that ended in the last tenth of the env steps"
    else:
        told += f"{EPISODES} deterministic episodes after training; env steps before it"
    return f"{told}.\n\n{table(head, rows)}"


def score_row(study: Study, seeds: Mapping[int, Seed]) -> list[str]:
    told = study.measure.told
    each = [told(seeds[seed].score) if seed in seeds else "missing" for seed in study.seeds]
    spent = [numbers({seed.pretrain_env_steps for seed in seeds.values()})] if study.pretraining else []
    spent.append(numbers({seed.env_steps for seed in seeds.values()}))
    if not complete(study, seeds):  # of fewer seeds: the seeds, and nothing more
        return [*spent, *each, ""]
    mean, se = mean_and_se(scores_of(seeds))
    return [*spent, *each, f"{told(mean)} ± {told(se)}"]


def numbers(some: set[int]) -> str:
    return " / ".join(f"{n:,}" for n in sorted(some))


def gaps(study: Study, found: Found) -> str:
    """Ours against each other arm; nothing but that it is open where the claim cannot be judged yet."""
    head = ["Ours against", *study.claim.head, "Holds"]
    claims = judge(study, found).claims
    rows = []
    for arm in study.others:
        told = [*[""] * len(study.claim.head), "not settled"]
        if arm in claims:
            told = [*claims[arm].cells, "yes" if claims[arm].holds else "**no**"]
        rows.append([study.arms[arm].title, *told])
    return table(head, rows)


# ---- the rest


def learning(study: Study, found: Found) -> str:
    """What the first figure shows."""
    told = (
        f"Thin lines are seeds, thick ones their mean: {study.measure.short} of the training episodes, with "
        "exploration, smoothed over a tenth of the curve"
    )
    curves = [len(seed.steps) for seeds in found.values() for seed in seeds.values() if len(seed.steps)]
    told += " but at least three points. " if curves and min(curves) < 30 else ". "
    if any(seeds and not budgets_of(seeds) for seeds in found.values()):
        told += "The dashed line is the evaluation of what does not learn on the task. "
    each = "score, the mean of the last tenth of the curve" if study.last_tenth else "evaluation"
    return f"{told}At the right, each seed's {each}; with every seed there, their mean and its standard error."


def counted(study: Study, found: Found) -> str:
    """What the second figure shows, and what it cannot."""
    totals = {
        arm: max(seed.pretrain_env_steps + seed.env_steps for seed in found[arm].values())
        for arm in study.arms
        if any(budgets_of(found[arm]))
    }
    told = "; ".join(f"{study.arms[arm].title} {steps:,}" for arm, steps in totals.items())
    told = f" Env steps in all: {told}." if totals else ""
    return (
        "Shown, not claimed: skills are pretrained once and serve many tasks, but for this one task alone their env "
        f"steps count too.{told} The arms without pretraining were not run beyond the common "
        "budget, so the figure does not tell where they would be by then."
    )


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="*", metavar="STUDY", help=", ".join(STUDIES))
    parser.add_argument("--data", type=Path, default=DATA, help="where the CSVs are")
    parser.add_argument("--out", type=Path, default=RESULTS, help="where the page goes")
    given = parser.parse_args(arguments)
    try:
        for name in given.studies or [name for name in STUDIES if (given.data / name).is_dir()]:
            print(make(name, given.data, given.out))
    except Exception as error:
        return exit_code(error)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
