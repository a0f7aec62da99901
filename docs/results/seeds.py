"""One seed of one arm, as a CSV: all that the pages are made from.

    arm,seed,settings,pretrain_env_steps,phase,env_steps,success,episode_return,episode_length
    ours,0,5be1c0de,80000,control,1000,0.125,0.125,181.3
    ours,0,5be1c0de,80000,evaluation,40000,0.8125,0.8125,71.2

A row of training, by the name of its phase, is the mean of the episodes that ended since the row before; that of the
evaluation, which comes last, the mean of the final, deterministic episodes. Where a task knows no success it is empty.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from rows import write_rows
from study import Study

from skillrl.errors import BadInput

COLUMNS = (
    "arm", "seed", "settings", "pretrain_env_steps", "phase",
    "env_steps", "success", "episode_return", "episode_length",
)  # fmt: skip
Row = dict[str, str]


@dataclass(frozen=True)
class Seed:
    """settings: a fingerprint. steps, curve: (rows,) of training. env_steps: at its end. score: as the study has it."""

    arm: str
    seed: int
    settings: str
    pretrain_env_steps: int
    steps: np.ndarray
    curve: np.ndarray
    env_steps: int
    score: float


write_seed = partial(write_rows, COLUMNS)


def read_seed(path: Path, study: Study) -> Seed:
    """Errors: BadInput naming the file where it is not what ``write_seed`` wrote for that name and this study."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        *training, end = rows
        check(path, training, end)
        column, total = study.measure.column, int(end["env_steps"])
        steps = np.array([int(row["env_steps"]) for row in training])
        curve = np.array([float(row[column]) for row in training])
        final = float(end[column])
        if study.measure.share and not 0 <= final <= 1:
            raise ValueError(f"a {study.measure.title} of {final:g}")
        return Seed(
            arm=end["arm"],
            seed=int(end["seed"]),
            settings=end["settings"],
            pretrain_env_steps=int(end["pretrain_env_steps"]),
            steps=steps,
            curve=curve,
            env_steps=total,
            score=last_tenth(steps, curve, total) if study.last_tenth else final,
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not the CSV of a seed: {error}") from error


def check(path: Path, training: Sequence[Row], end: Row) -> None:
    """Errors: ValueError where the rows are not those of one run, the one that the file is named after."""
    keys = ("arm", "seed", "settings", "pretrain_env_steps")
    phases = {row["phase"] for row in training}
    if len({tuple(row[key] for key in keys) for row in (*training, end)}) > 1 or len(phases) > 1:
        raise ValueError("its rows are not of one run")
    if end["phase"] != "evaluation" or "evaluation" in phases:
        raise ValueError("the last row, and no other, must be the evaluation's")
    if path.stem != f"{end['arm']}-s{end['seed']}":
        raise ValueError(f"its rows are those of {end['arm']}-s{end['seed']}")


def last_tenth(steps: np.ndarray, curve: np.ndarray, total: int) -> float:
    """The mean of the rows after nine tenths of all env steps. Errors: ValueError where there is none."""
    late = curve[steps > 0.9 * total]
    if not len(late):
        raise ValueError("no training episode ended in the last tenth of its env steps")
    return float(late.mean())


def read_study(study: Study, folder: Path) -> dict[str, dict[int, Seed]]:
    """arm → seed → what is there of it, in the study's order.

    Errors: BadInput naming the file that is not of the study, or was made with other settings than its arm's others.
    """
    found: dict[str, dict[int, Seed]] = {arm: {} for arm in study.arms}
    for path in sorted(folder.glob("*.csv")):
        one = read_seed(path, study)
        if one.arm not in found or one.seed not in study.seeds:
            raise BadInput(f"{path} is not of the study: its arms are {', '.join(found)}, its seeds {study.seeds}")
        for other in found[one.arm].values():
            if (one.settings, one.pretrain_env_steps) != (other.settings, other.pretrain_env_steps):
                raise BadInput(f"{path} and {other.arm}-s{other.seed}.csv were made with different settings")
        found[one.arm][one.seed] = one
    return found


def complete(study: Study, seeds: Mapping[int, Seed]) -> bool:
    """Whether every seed of the study is there: before that there is no mean, no error and no claim to show."""
    return set(study.seeds) <= set(seeds)
