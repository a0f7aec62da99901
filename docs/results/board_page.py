"""The page of the board: what the CSV of a seed holds, and the text and the figures that are made of it.

    body,learner,seed,settings,phase,env_steps,num_skills,...,visited,...,path,hue,x,y
    point,metra,0,5be1c0de,end,50016,,...,401,...
    point,metra,0,5be1c0de,training,1024,,...,12,...
    point,metra,0,5be1c0de,path,10,,...,3,0.25,1.200,-0.731

One row of the end, with all scores; rows of the training; and places along some rollouts of the skills.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.atomic import write
from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput
from skillrl.evaluation.statistics import ERRORS, claim, mean_and_se
from skillrl.evaluation.theme import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "board"
PATHS, POINTS = 24, 11  # rollouts that are drawn, and places of each
COLUMNS_OF_PANELS = 4


@dataclass(frozen=True)
class Claimed:
    """Each of ``learners`` covers ``least`` times the cells of ``against``, and surely more."""

    learners: tuple[str, ...]
    against: str
    least: float


@dataclass(frozen=True)
class Body:
    """env: of ``conf/env``. learners: None is all that there are but those of teams. part: of the observation, where it
    is. axes: what is drawn, and which coordinates that is: one is drawn over time."""

    env: str
    title: str
    env_steps: int
    learners: tuple[str, ...] | None = None
    part: str = "xy"
    axes: tuple[tuple[str, int], ...] = (("x", 0), ("y", 1))
    hidden_dims: tuple[int, ...] = (256, 256)
    seeds: tuple[int, ...] = (0, 1, 2)
    claim: Claimed | None = None

    @property
    def heading(self) -> str:
        return f"{self.title}, {self.env_steps:,} env steps"

    @property
    def line(self) -> bool:
        """Paths are drawn over time."""
        return len(self.axes) == 1


LINE = (("x", 0),)
BODIES = {
    "point": Body("point", "Point", 50_000),
    "sides": Body(
        "sides",
        "Two on a line",
        64_000,
        ("masd",),
        axes=(("x of one", 0), ("x of the other", 2)),
        hidden_dims=(64, 64),
    ),
    "half_cheetah": Body("half_cheetah", "HalfCheetah", 300_000, part="x", axes=LINE),
    "ant": Body("ant", "Ant", 1_000_000, ("csf", "dads", "diayn", "lsd", "metra")),
    "half_cheetah_2m": Body(
        "half_cheetah",
        "HalfCheetah",
        2_000_000,
        ("csf", "diayn", "metra"),
        part="x",
        axes=LINE,
        seeds=(0, 1, 2, 3, 4),
        claim=Claimed(("metra", "csf"), "diayn", least=1.5),
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
Ink = dict[str, Any]


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


# ---- the page


def make(data: Path, out: Path) -> Path:
    """Write the page and its figures, and return the page's path. Errors: BadInput where there is no data."""
    found = read_all(data / NAME)
    there = [body for body in BODIES if found[body]]
    if not there:
        raise BadInput(f"{data / NAME} holds no CSV: run python docs/results/board.py run")
    for body in there:
        save(partial(figure_of_paths, BODIES[body], found[body]), out / "figures" / f"{NAME}-{body}-paths.png")
        if len(found[body]) > 1:
            save(partial(figure_of_coverage, found[body]), out / "figures" / f"{NAME}-{body}-coverage.png")
    path = out / f"{NAME}.md"
    path.write_text(page(found))
    return path


def page(found: Found) -> str:
    there = [body for body in BODIES if found[body]]
    parts = [
        "# The board",
        ABOUT,
        *(part for body in there for part in of_body(body, found[body])),
        missing(found),
        "## How this page was made",
        f"The numbers are in [`data/{NAME}/`](data/{NAME}), one CSV for each seed. Everything here is made from them:",
        "    python docs/results/board.py run    # the runs: hours; it can be stopped and goes on\n"
        "    python docs/results/board.py page   # this page",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


ABOUT = """Every learner on the same bodies, with the same widths (256/256; the team's 64/64), batch (256) and updates
for an env step (1/32), and all else as its paper has it: `experiment=board/<body> learner=<name>`. **This is a picture,
not a claim**, but for what is called one: each number of a cell is a seed, no learner was tuned for these budgets, and
papers train for ten to a hundred times as long.

- **Coverage**: distinct cells that 48 deterministic rollouts visited, skills dealt evenly; after the stroke, an
  untrained network's.
- **Visited**: distinct cells that training had been to by its end, exploration included.
- **Discriminability**: how often a fresh classifier that sees only which cells a rollout visited names its skill (for a
  continuous z, one of 16 fixed draws); after the strokes, an untrained network's, and with labels permuted.
  Of a team, both are of all agents together; *alone* is by the best single one.
- **Goal distance**: zero-shot, how far from its goal an episode ends over how far it began; the median of 32. Only for
  learners that know a way to a goal."""


def missing(found: Found) -> str:
    """The seeds of a learner that was begun and is not whole; and bodies of which there is nothing."""
    gaps = [f"{body.heading}: no run yet" for name, body in BODIES.items() if not found[name]]
    for name, learners in found.items():
        lacking: dict[str, list[str]] = {}
        for learner in (BODIES[name].learners or learners) if learners else ():
            lost = [str(s) for s in BODIES[name].seeds if s not in {one.seed for one in learners.get(learner, ())}]
            lacking.setdefault(", ".join(lost), []).append(learner)
        gaps += [f"{BODIES[name].heading}, {', '.join(who)}: seed {lost}" for lost, who in lacking.items() if lost]
    return f"**Missing:** {'; '.join(gaps)}." if gaps else ""


def of_body(name: str, learners: Mapping[str, Sequence[Seed]]) -> list[str]:
    """Heading, figures and table."""
    body, some = BODIES[name], next(iter(learners.values()))[0]
    head = ["Learner", f"Coverage, cells of {some.scores['coverage_cell']:g}", "Visited", "Discriminability"]
    head += ["Effective skills", "Goal distance", "Minutes"]
    rows = [[learner, *cells_of(seeds)] for learner, seeds in learners.items()]
    visited = picture(f"figures/{NAME}-{name}-coverage", f"{body.title}: cells visited by training, learner by learner")
    first = min(one.seed for seeds in learners.values() for one in seeds)
    return [
        f"## {body.heading}",
        picture(f"figures/{NAME}-{name}-paths", f"{body.title}: rollouts of each learner's skills"),
        f"Rollouts of seed {first}, coloured by skill; where z is continuous, by its direction.",
        visited if len(learners) > 1 else "",
        table(head, rows),
        judged(body.claim, learners) if body.claim else "",
    ]


def judged(claimed: Claimed, learners: Mapping[str, Sequence[Seed]]) -> str:
    """What is claimed of the coverage, and whether it holds."""
    rule = (
        f"Claim: {' and '.join(claimed.learners)} each have at least {claimed.least:g} times the coverage of "
        f"{claimed.against}, by the means of the seeds, and more by at least {ERRORS:g} pooled standard errors."
    )
    of = {name: [one.scores["state_coverage"] for one in seeds] for name, seeds in learners.items()}
    rows, other = [], of.get(claimed.against, [])
    for name in claimed.learners:
        found = claim(of.get(name, []), other, (claimed.least - 1) * mean_and_se(other)[0]) if other else None
        if found is None:
            return f"{rule}\n\n**Not settled**: seeds are missing."
        ratio = mean_and_se(of[name])[0] / mean_and_se(other)[0]
        told = [f"{ratio:.2f}", f"{found.gap:+.1f}", f"{found.se:.1f}", f"{found.gap_in_se:.1f}"]
        rows.append([name, *told, "yes" if found.holds else "**no**"])
    head = [f"Against {claimed.against}", "Ratio", "Gap", "Pooled SE", "Gap / SE", "Holds"]
    return f"{rule}\n\n{table(head, rows)}"


def cells_of(seeds: Sequence[Seed]) -> list[str]:
    def told(name: str, form: str) -> str:
        return ", ".join(form.format(s.scores[name]) if name in s.scores else "–" for s in seeds)

    def mean(name: str, form: str) -> str:
        values = [s.scores[name] for s in seeds if name in s.scores]
        return form.format(np.mean(values)) if values else "–"

    team = any("discriminability_alone" in s.scores for s in seeds)
    alone = f"; alone {told('discriminability_alone', '{:.2f}')}" if team else ""
    return [
        f"{told('state_coverage', '{:.0f}')} / {mean('state_coverage_untrained', '{:.1f}')}",
        told("visited", "{:.0f}"),
        f"{told('discriminability', '{:.2f}')} / {mean('discriminability_untrained', '{:.2f}')} / "
        f"{mean('discriminability_permuted', '{:.2f}')}{alone}",
        told("effective_skills", "{:.1f}"),
        told("goal_distance", "{:.2f}") if any("goal_distance" in s.scores for s in seeds) else "",
        ", ".join(f"{s.scores['seconds'] / 60:.1f}" for s in seeds),
    ]


# ---- the figures


def figure_of_paths(body: Body, learners: Mapping[str, Sequence[Seed]], ink: Ink) -> "Figure":
    """A panel for each learner, all of one scale: the plane, or x over time."""
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    columns = min(COLUMNS_OF_PANELS, len(learners))
    rows = -(-len(learners) // columns)
    figure = Figure(figsize=(1.9 * columns + (columns == 1), 1.95 * rows + 0.2), layout="constrained")
    grid = figure.subplots(rows, columns, squeeze=False, sharex=True, sharey=True).ravel()
    colours = colormaps["hsv"]
    for axes, (learner, seeds) in zip(grid, learners.items(), strict=False):
        for hue, places in seeds[0].paths:
            axes.plot(*places.T, color=colours(0.93 * hue), lw=0.9, alpha=0.85)
            axes.plot(*places[-1], ".", color=colours(0.93 * hue), ms=3)
        axes.set_title(learner, loc="left", fontsize=9, color=ink["text"])
    for axes in grid[len(learners) :]:
        axes.set_axis_off()
    for axes in grid:
        axes.tick_params(labelsize=7)
        if not body.line:
            axes.set_aspect("equal", adjustable="box")
    names = ["env step"] * body.line + [name for name, _ in body.axes]
    figure.supxlabel(names[0], fontsize=8)
    figure.supylabel(names[1], fontsize=8)
    return figure


def figure_of_coverage(learners: Mapping[str, Sequence[Seed]], ink: Ink) -> "Figure":
    """Visited cells at the end: a point for each seed."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 0.26 * len(learners) + 0.7), layout="constrained")
    axes = figure.subplots()
    for place, seeds in enumerate(learners.values()):
        values = [one.scores["visited"] for one in seeds]
        axes.plot(values, [place] * len(values), "o", color=ink["accent"], ms=5, alpha=0.8)
    axes.set_yticks(range(len(learners)), list(learners), fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(left=0)
    axes.set_xlabel("cells that training had been to")
    axes.grid(axis="y", visible=False)
    return figure
