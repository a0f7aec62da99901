"""Make the pages docs/results/<study>.md and their figures, from the CSVs in docs/results/data alone.

python docs/results/make.py              # every study that has data
python docs/results/make.py quickstart
"""

import argparse
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from curves import draw
from seeds import Seed, complete, read_study
from studies import DATA, RESULTS, STUDIES, Study, find_study

from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.protocol import EPISODES
from skillrl.evaluation.statistics import ERRORS, Claim, claim, mean_and_se

Found = Mapping[str, Mapping[int, Seed]]


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
    parts = [
        f"# {study.title}",
        study.about,
        verdict(study, found),
        scores(study, found),
        gaps(study, found),
        "## Learning",
        picture(f"figures/{name}", "Success against env steps on the task"),
        "Thin lines are seeds, thick ones their mean: success of the training episodes, with exploration, smoothed "
        "over a tenth of the curve. The dashed line is the evaluation of what does not learn on the task. At the "
        "right, each seed's evaluation; with every seed there, their mean and its standard error.",
        "## With pretraining counted",
        counted(study, found),
        picture(f"figures/{name}-with-pretraining", "Success against all env steps, pretraining counted"),
        "## How this page was made",
        f"The numbers are in [`data/{name}/`](data/{name}), one CSV for each seed. Everything here is made from them:",
        f"    python docs/results/prove.py {name}   # the runs: hours; it can be stopped and goes on\n"
        f"    python docs/results/make.py {name}    # this page",
    ]
    return "\n\n".join(parts) + "\n"


# ---- the claim


@dataclass(frozen=True)
class Verdict:
    """Why the claim cannot be judged yet (empty where it can), and what it comes to against each other arm."""

    open: list[str]
    claims: dict[str, Claim]


def judge(study: Study, found: Found) -> Verdict:
    """By the rule, and only with every seed of every arm, at equal env steps."""
    why = []
    for arm in study.arms:
        if missing := [str(seed) for seed in study.seeds if seed not in found[arm]]:
            why.append(f"{study.arms[arm].title}: no seed {', '.join(missing)} yet")
    budgets = {steps: arm for arm in study.arms for steps in budgets_of(found[arm])}
    if len(budgets) > 1:
        told = " and ".join(f"{steps:,} ({study.arms[arm].title})" for steps, arm in sorted(budgets.items()))
        why.append(f"the arms had unequal env steps on the task: {told}")
    if why:
        return Verdict(why, {})
    ours = evaluated(found[study.ours])
    claims = {arm: claim(ours, evaluated(found[arm]), study.effect) for arm in study.others}
    return Verdict([], {arm: judged for arm, judged in claims.items() if judged is not None})


def budgets_of(seeds: Mapping[int, Seed]) -> set[int]:
    """Env steps on the task of an arm's seeds. What learns nothing there takes none, and is compared with any."""
    return {seed.env_steps for seed in seeds.values()} - {0}


def evaluated(seeds: Mapping[int, Seed]) -> list[float]:
    return [seeds[seed].evaluated for seed in sorted(seeds)]


def verdict(study: Study, found: Found) -> str:
    """What is claimed, and whether it holds."""
    rule = (
        f"Claim: at equal env steps on the task, pretraining not counted, the success rate is at least "
        f"{study.effect:g} above that of every other arm, and at least {ERRORS:g} pooled standard errors, over seeds "
        f"{', '.join(map(str, study.seeds))}."
    )
    judged = judge(study, found)
    if judged.open:
        return f"{rule}\n\n**Not settled.** " + "; ".join(judged.open) + "."
    failed = [study.arms[arm].title for arm, one in judged.claims.items() if not one.holds]
    if failed:
        return f"{rule}\n\n**It does not hold** against: {'; '.join(failed)}."
    return f"{rule}\n\n**It holds.**"


# ---- tables


def scores(study: Study, found: Found) -> str:
    """Every seed of every arm."""
    head = ["Arm", "Pretraining", "On the task", *(f"Seed {seed}" for seed in study.seeds), "Mean ± SE"]
    rows = [[study.arms[arm].title, *score_row(study, found[arm])] for arm in study.arms]
    told = f"Success rate in {EPISODES} deterministic episodes after training; env steps before it."
    return f"{told}\n\n{table(head, rows)}"


def score_row(study: Study, seeds: Mapping[int, Seed]) -> list[str]:
    each = [f"{seeds[seed].evaluated:.3f}" if seed in seeds else "missing" for seed in study.seeds]
    if not seeds:
        return ["", "", *each, ""]
    mean, se = mean_and_se(evaluated(seeds))
    told = f"{mean:.3f} ± {se:.3f}" if complete(study, seeds) else ""  # of fewer seeds: the seeds, and nothing more
    spent = [" / ".join(f"{n:,}" for n in sorted(some)) for some in (
        {seed.pretrain_env_steps for seed in seeds.values()}, {seed.env_steps for seed in seeds.values()})]  # fmt: skip
    return [*spent, *each, told]


def gaps(study: Study, found: Found) -> str:
    """Ours against each other arm; nothing but that it is open where the claim cannot be judged yet."""
    head = ["Ours against", "Gap", "Pooled SE", "Gap / SE", "Holds"]
    claims = judge(study, found).claims
    rows = []
    for arm in study.others:
        if arm in claims:
            one = claims[arm]
            told = [f"{one.gap:+.3f}", f"{one.se:.3f}", f"{one.gap_in_se:.1f}", "yes" if one.holds else "**no**"]
        else:
            told = ["", "", "", "not settled"]
        rows.append([study.arms[arm].title, *told])
    return table(head, rows)


# ---- the rest


def counted(study: Study, found: Found) -> str:
    """What the second figure shows, and what it cannot."""
    totals = {
        arm: max(seed.pretrain_env_steps + seed.env_steps for seed in found[arm].values())
        for arm in study.arms
        if any(budgets_of(found[arm]))
    }
    told = "; ".join(f"{study.arms[arm].title} {steps:,}" for arm, steps in totals.items())
    return (
        "Shown, not claimed: skills are pretrained once and serve many tasks, but for this one task alone their env "
        f"steps count too. Env steps in all: {told}. The arms without pretraining were not run beyond the common "
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
