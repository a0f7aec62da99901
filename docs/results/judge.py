"""Whether a study's claim holds, by the CSVs alone."""

from collections.abc import Mapping
from dataclasses import dataclass

from claims import Judged
from seeds import Seed
from study import Study

Found = Mapping[str, Mapping[int, Seed]]
"""arm → seed → what is there of it."""
ROUNDING = 1.001
"""Env steps that differ by less are equal: a run ends with a round, and a trial of skills with the last one's fall."""


@dataclass(frozen=True)
class Verdict:
    """Why the claim cannot be judged yet (empty where it can), and what it comes to against each other arm."""

    open: list[str]
    claims: dict[str, Judged]


def judge(study: Study, found: Found) -> Verdict:
    """By the rule, and only with every seed of every arm that it is about, at equal env steps."""
    why, about = [], [study.ours, *study.others]
    for arm in about:
        if missing := [str(seed) for seed in study.seeds if seed not in found[arm]]:
            why.append(f"{study.arms[arm].title}: no seed {', '.join(missing)} yet")
    budgets = {steps: arm for arm in about for steps in budgets_of(found[arm])}
    if budgets and max(budgets) > ROUNDING * min(budgets):
        told = " and ".join(f"{steps:,} ({study.arms[arm].title})" for steps, arm in sorted(budgets.items()))
        why.append(f"the arms had unequal env steps on the task: {told}")
    if why:
        return Verdict(why, {})
    ours, told = scores_of(found[study.ours]), study.measure.told
    return Verdict([], {arm: study.claim.judge(ours, scores_of(found[arm]), told) for arm in study.others})


def budgets_of(seeds: Mapping[int, Seed]) -> set[int]:
    """Env steps on the task of an arm's seeds. What learns nothing there takes none, and is compared with any."""
    return {seed.env_steps for seed in seeds.values()} - {0}


def scores_of(seeds: Mapping[int, Seed]) -> list[float]:
    return [seeds[seed].score for seed in sorted(seeds)]


def verdict(study: Study, found: Found) -> str:
    """What is claimed, and whether it holds."""
    budget = ", pretraining not counted" if study.pretraining else ""
    others = ", ".join(study.arms[arm].title for arm in study.others) if study.against else ""
    rule = (
        f"Claim: at equal env steps on the task{budget}, {study.claim.rule(study.measure.title, study.measure.told)}"
        f"{f' ({others})' if others else ''}, over seeds {', '.join(map(str, study.seeds))}."
    )
    judged = judge(study, found)
    if judged.open:
        return f"{rule}\n\n**Not settled.** " + "; ".join(judged.open) + "."
    failed = [study.arms[arm].title for arm, one in judged.claims.items() if not one.holds]
    if failed:
        return f"{rule}\n\n**It does not hold** against: {'; '.join(failed)}."
    return f"{rule}\n\n**It holds.**"
