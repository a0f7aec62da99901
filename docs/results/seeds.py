"""One seed of one arm, as a CSV: all that the pages are made from.

    arm,seed,settings,pretrain_env_steps,phase,env_steps,success,episode_return,episode_length
    ours,0,5be1c0de,80000,control,1000,0.125,0.125,181.3
    ours,0,5be1c0de,80000,evaluation,40000,0.8125,0.8125,71.2

A row of control is the mean of the training episodes that ended since the row before; that of the evaluation, which
comes last, the mean of the final, deterministic episodes.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from studies import Study

from skillrl.atomic import write
from skillrl.errors import BadInput

COLUMNS = (
    "arm", "seed", "settings", "pretrain_env_steps", "phase",
    "env_steps", "success", "episode_return", "episode_length",
)  # fmt: skip
Row = dict[str, str]


@dataclass(frozen=True)
class Seed:
    """settings: a fingerprint. steps, success: (rows,) of training. env_steps, evaluated: at the end of it."""

    arm: str
    seed: int
    settings: str
    pretrain_env_steps: int
    steps: np.ndarray
    success: np.ndarray
    env_steps: int
    evaluated: float


def write_seed(path: Path, rows: Sequence[Row]) -> None:
    """Whole or not at all."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    path.parent.mkdir(parents=True, exist_ok=True)
    write(path, text.getvalue())


def read_seed(path: Path) -> Seed:
    """Errors: BadInput naming the file where it is not what ``write_seed`` wrote for that name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        *training, end = rows
        constant = {(row["arm"], row["seed"], row["settings"], row["pretrain_env_steps"]) for row in rows}
        if len(constant) > 1 or {row["phase"] for row in training} > {"control"} or end["phase"] != "evaluation":
            raise ValueError("rows of control, then one of the evaluation, all of one run")
        found = Seed(
            arm=end["arm"],
            seed=int(end["seed"]),
            settings=end["settings"],
            pretrain_env_steps=int(end["pretrain_env_steps"]),
            steps=np.array([int(row["env_steps"]) for row in training]),
            success=np.array([float(row["success"]) for row in training]),
            env_steps=int(end["env_steps"]),
            evaluated=float(end["success"]),
        )
        if path.stem != f"{found.arm}-s{found.seed}" or not 0 <= found.evaluated <= 1:
            raise ValueError(f"a success rate of {found.arm}-s{found.seed}")
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not the CSV of a seed: {error}") from error
    return found


def read_study(study: Study, folder: Path) -> dict[str, dict[int, Seed]]:
    """arm → seed → what is there of it, in the study's order.

    Errors: BadInput naming the file that is not of the study, or was made with other settings than its arm's others.
    """
    found: dict[str, dict[int, Seed]] = {arm: {} for arm in study.arms}
    for path in sorted(folder.glob("*.csv")):
        one = read_seed(path)
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
