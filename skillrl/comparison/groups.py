"""Runs of the same settings are a group: its seeds. Groups are named by the settings in which they differ."""

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillrl.comparison.runs import LeftOut, Scored, find, read
from skillrl.errors import BadInput
from skillrl.settings import MISSING

FIRST = ("learner", "env", "task", "downstream", "controller", "pretrain")
ALONE = ("learner", "env", "task", "controller")
HEADLINE = ("success_rate", "return_mean", "discriminability", "effective_skills", "state_coverage",
            "displacement_median")  # fmt: skip


@dataclass(frozen=True)
class Group:
    """letter: short, for figures. seeds: seed → its run; empty where none can be counted."""

    letter: str
    name: str
    seeds: dict[int, Scored]

    def points(self, metric: str) -> list[float]:
        """One number for each seed that has the metric, in the order of seeds."""
        return [run.scores[metric] for run in self.seeds.values() if metric in run.scores]


@dataclass(frozen=True)
class Comparison:
    """Groups in the order of their names, and the runs that are not counted."""

    groups: list[Group]
    left_out: list[LeftOut]

    @property
    def seeds(self) -> list[int]:
        """Every seed that any group has."""
        return sorted({seed for group in self.groups for seed in group.seeds})

    @property
    def metrics(self) -> list[str]:
        """Every number of any evaluation, the headline's first."""
        found = {name for group in self.groups for run in group.seeds.values() for name in run.scores}
        return [name for name in HEADLINE if name in found] + sorted(found - set(HEADLINE))

    @property
    def headline(self) -> list[str]:
        return [name for name in HEADLINE if name in self.metrics]

    def notes(self) -> list[str]:
        """What a reader of the numbers must know: who is missing, who is left out, what is no number."""
        odd = [
            f"no number: {group.letter} ({group.name}), {metric} of seed {seed} is {run.scores[metric]}"
            for group in self.groups
            for seed, run in group.seeds.items()
            for metric in self.metrics
            if not math.isfinite(run.scores.get(metric, 0.0))
        ]
        return [*(f"left out: {run.folder} is {run.why}" for run in self.left_out), *self.missing(), *odd]

    def missing(self) -> list[str]:
        """A phrase for each group that lacks seeds which another one has."""
        lacking = [(group, [str(seed) for seed in self.seeds if seed not in group.seeds]) for group in self.groups]
        return [f"missing: {one.letter} ({one.name}) has no seed {', '.join(seeds)}" for one, seeds in lacking if seeds]


def compare(pattern: str) -> tuple[Comparison, list[Path]]:
    """The runs that a glob finds, in groups; and where they are.

    Errors: BadInput where there is no run, or none that can be counted.
    """
    folders = find(pattern)
    comparison = group([read(folder) for folder in folders])
    if not comparison.seeds:
        first = comparison.left_out[0]
        raise BadInput(f"runs={pattern}: of {len(folders)} runs none can be counted; {first.folder} is {first.why}")
    return comparison, folders


def group(found: Sequence[Scored | LeftOut]) -> Comparison:
    """By settings alone. Of two runs of one seed the one that was started first counts."""
    by_settings: dict[str, dict[str, Any]] = {}
    for run in found:
        if run.settings is not None:
            by_settings.setdefault(identity(run.settings), run.settings)
    seeds: dict[str, dict[int, Scored]] = {key: {} for key in by_settings}
    left_out = [run for run in found if isinstance(run, LeftOut)]
    for scored in sorted((run for run in found if isinstance(run, Scored)), key=lambda run: (run.started, run.folder)):
        mine = seeds[identity(scored.settings)]
        if scored.seed in mine:
            why = f"seed {scored.seed} once more: {mine[scored.seed].folder} was started first and is counted"
            left_out.append(LeftOut(scored.folder, why, scored.settings, scored.seed))
        else:
            mine[scored.seed] = scored
    told = sorted(zip(names(list(by_settings.values())), by_settings), key=lambda pair: natural(pair[0]))
    groups = [Group(letters(i), name, dict(sorted(seeds[key].items()))) for i, (name, key) in enumerate(told)]
    return Comparison(groups, sorted(left_out, key=lambda run: run.folder))


# ---- names


def same(value: Any) -> str:
    """JSON that is equal for equal settings: 1 and 1.0 are."""
    if isinstance(value, list):
        return f"[{','.join(map(same, value))}]"
    return json.dumps(int(value) if isinstance(value, float) and value.is_integer() else value, sort_keys=True)


def identity(settings: dict[str, Any]) -> str:
    """What is the same for runs of one group."""
    return json.dumps({key: same(value) for key, value in sorted(settings.items())})


def names(groups: Sequence[dict[str, Any]]) -> list[str]:
    """For the settings of each group, those of them that differ: ``learner=diayn, learner.skill_space.n=8``.

    Where two groups have different classes at a key, that tells them apart, and what stands below it does so only
    among groups of the same class. A group that is alone is called by its learner, env, task and controller.
    """
    flat = [{key.removesuffix("._target_"): value for key, value in one.items()} for one in groups]
    keys = sorted(dict.fromkeys(key for one in flat for key in one), key=_rank)
    if len(flat) == 1:
        told = [key for key in ALONE if flat[0].get(key) is not None]
        return [", ".join(f"{key}={short(key, flat[0][key], flat)}" for key in told)]
    found = [", ".join(_phrases(one, flat, keys)) for one in flat]
    if len(set(found)) == len(found):
        return found
    return [", ".join(_phrases(one, flat, keys, unset=True)) for one in flat]  # one lacks a key, of another version


def _phrases(
    one: dict[str, Any], flat: Sequence[dict[str, Any]], keys: Sequence[str], unset: bool = False
) -> list[str]:
    """unset: whether to tell, too, that a key is not there."""
    told = []
    for key in keys if unset else [key for key in keys if key in one]:
        above = [key[: dot.start()] for dot in re.finditer(r"\.", key)]
        alike = [other for other in flat if all(_same(one, other, node) for node in above) and (unset or key in other)]
        if not all(_same(one, other, key) for other in alike):
            told.append(f"{key}={short(key, one[key], flat) if key in one else MISSING}")
    return told


def _same(one: dict[str, Any], other: dict[str, Any], key: str) -> bool:
    return (key in one) == (key in other) and same(one.get(key)) == same(other.get(key))


def _rank(key: str) -> int:
    root = key.split(".")[0]
    return FIRST.index(root) if root in FIRST else len(FIRST)


def short(key: str, value: Any, flat: Sequence[dict[str, Any]]) -> str:
    """As it would be typed. A class goes by its name in snake case, unless another one at this key has that name."""
    if isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*(\.\w+)+", value):
        others = {str(one[key]) for one in flat if isinstance(one.get(key), str)}
        return _snake(value) if [_snake(other) for other in others].count(_snake(value)) == 1 else value
    if isinstance(value, str):
        return value
    return same(value)


def _snake(target: str) -> str:
    """skillrl.learners.diayn.DIAYN → diayn, envs.half_cheetah.HalfCheetah → half_cheetah."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", target.rpartition(".")[2]).lower()


def natural(name: str) -> list[Any]:
    """A key for sorting: 4 before 16, 1e-05 before 0.1."""
    return [float(part) if i % 2 else part for i, part in enumerate(re.split(r"(\d+\.?\d*(?:e[+-]?\d+)?)", name))]


def letters(i: int) -> str:
    """A to Z, then AA, AB, ..."""
    return (letters(i // 26 - 1) if i >= 26 else "") + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"[i % 26]
