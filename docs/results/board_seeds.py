"""The board's bodies, and what the CSV of a seed of a learner on one of them holds.

    body,learner,seed,settings,phase,env_steps,num_skills,...,visited,...,path,hue,x,y
    point,metra,0,5be1c0de,end,50016,,...,401,...
    point,metra,0,5be1c0de,training,1024,,...,12,...
    point,metra,0,5be1c0de,path,10,,...,3,0.25,1.200,-0.731

One row of the end, with all scores; rows of the training; and places along some rollouts of the skills.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from claims import Claim, SureRatio
from rows import write_rows

from skillrl.errors import BadInput

NAME = "board"
PATHS, POINTS = 24, 11  # rollouts that are drawn, and places of each


@dataclass(frozen=True)
class Claimed:
    """Of the coverage of each of ``learners``, beside that of ``against``. why: what is known of those for whom it does
    not hold."""

    learners: tuple[str, ...]
    against: str
    claim: Claim
    why: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Body:
    """env: of ``conf/env``. learners: None is all that there are but those of teams. axes: what is drawn, and which
    coordinates that is: one is drawn over time."""

    env: str
    title: str
    env_steps: int
    learners: tuple[str, ...] | None = None
    axes: tuple[tuple[str, int], ...] = (("x", 0), ("y", 1))
    seeds: tuple[int, ...] = (0, 1, 2)
    claim: Claimed | None = None

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.env_steps:,} env steps"

    @property
    def line(self) -> bool:
        """Paths are drawn over time."""
        return len(self.axes) == 1

    @property
    def part(self) -> str:
        """Of the observation: where the body is."""
        return "x" if self.line else "xy"


LINE = (("x", 0),)
CSF_BEGINS_LATE = (
    "Why CSF is behind: it begins late. Its reward is small (steps in φ shrink, ‖Δφ‖² from 0.004 to below 0.0001), its "
    "contrast stays what a guess would cost (5 log 256 = 27.73 nats), and meanwhile entropy pays the actor more than "
    "going anywhere: the temperature falls from 0.01 to a tenth of it in some 750,000 steps. On seeds 2 and 3 all that "
    "turned at about 1,500,000 steps, when it was 0.0001: the body moved, ‖Δφ‖² grew to 0.009 and 0.003, and 13 and 18 "
    "cells were reached by the end, still rising. On seeds 1 and 4 it was about to turn (0.00016, 0.00008), on seed 0 "
    "not. METRA's steps in φ are held near the size of 1 by its constraint; it begins at 900,000 to 1,400,000 steps."
)
BODIES = {
    "point": Body("point", "Point", 50_000),
    "sides": Body("sides", "Two on a line", 64_000, ("masd",), axes=(("x of one", 0), ("x of the other", 2))),
    "half_cheetah": Body("half_cheetah", "HalfCheetah", 300_000, axes=LINE),
    "ant": Body("ant", "Ant", 1_000_000, ("csf", "dads", "diayn", "lsd", "metra")),
    "half_cheetah_2m": Body(
        "half_cheetah",
        "HalfCheetah",
        2_000_000,
        ("csf", "diayn", "metra"),
        axes=LINE,
        seeds=(0, 1, 2, 3, 4),
        claim=Claimed(("metra", "csf"), "diayn", SureRatio(1.5), {"csf": CSF_BEGINS_LATE}),
    ),
}
SEEDS = sorted({seed for body in BODIES.values() for seed in body.seeds})
SCORES = (
    *("num_skills", "coverage_cell", "state_coverage", "state_coverage_untrained", "visited"),
    *("discriminability", "discriminability_untrained", "discriminability_permuted", "discriminability_alone"),
    "effective_skills",
    *("goal_distance", "seconds"),
)
CONSTANT = ("body", "learner", "seed", "settings")
COLUMNS = (*CONSTANT, "phase", "env_steps", *SCORES, "path", "hue", "x", "y")
Row = dict[str, str]


@dataclass(frozen=True)
class Seed:
    """scores: what was measured, of ``SCORES``. training: env steps and visited cells. paths: (hue, places (P, D))."""

    body: str
    learner: str
    seed: int
    settings: str
    scores: Mapping[str, float]
    training: tuple[np.ndarray, np.ndarray]
    paths: Sequence[tuple[float, np.ndarray]]


Found = Mapping[str, Mapping[str, Sequence[Seed]]]  # body → learner → seeds


def name_of(body: str, learner: str, seed: int) -> str:
    return f"{body}-{learner}-s{seed}"


# ---- the CSVs


write_seed = partial(write_rows, COLUMNS)


def read_seed(path: Path) -> Seed:
    """Errors: BadInput naming the file where it is not what ``write_seed`` wrote for that name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        ((body, learner, seed, settings),) = {tuple(row[key] for key in CONSTANT) for row in rows}
        if body not in BODIES or path.stem != name_of(body, learner, int(seed)):
            raise ValueError(f"{body}, {learner}, seed {seed}")
        of = {phase: [row for row in rows if row["phase"] == phase] for phase in ("end", "training", "path")}
        (end,) = of["end"]
        scores = {name: float(end[name]) for name in SCORES if end.get(name)}
        steps, visited = (np.array([float(r[key]) for r in of["training"]]) for key in ("env_steps", "visited"))
        return Seed(body, learner, int(seed), settings, scores, (steps, visited), paths_of(of["path"]))
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not the CSV of a seed: {error}") from error


def paths_of(rows: Sequence[Row]) -> list[tuple[float, np.ndarray]]:
    """A line has a length, and time as its second axis."""
    found: dict[str, tuple[float, list[tuple[float, float]]]] = {}
    for row in rows:
        found.setdefault(row["path"], (float(row["hue"]), []))[1].append(
            (float(row["x"]), float(row["y"])) if row["y"] else (float(row["env_steps"]), float(row["x"]))
        )
    return [(hue, np.array(places)) for hue, places in found.values()]


def read_all(folder: Path) -> Found:
    """All that is there. Errors: BadInput naming what was made with other settings than its other seeds."""
    found: dict[str, dict[str, list[Seed]]] = {body: {} for body in BODIES}
    for one in sorted(map(read_seed, folder.glob("*.csv")), key=lambda one: (one.learner, one.seed)):
        same = found[one.body].setdefault(one.learner, [])
        if any(other.settings != one.settings for other in same):
            raise BadInput(f"{folder}: the seeds of {one.learner} on {one.body} were made with different settings")
        same.append(one)
    return found
