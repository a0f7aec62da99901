"""The page of the training dynamics: what the CSV of a seed holds, and the text and the figures that are made of it.

    body,view,seed,settings,num_skills,coverage_cell,phase,env_steps,discriminator_accuracy,intrinsic_reward,discriminability,...
    ant,xy,0,5be1c0de,8,1.0,training,5008,0.41,0.93,,...
    ant,xy,0,5be1c0de,8,1.0,evaluation,50000,,,0.77,...
    ant,xy,0,5be1c0de,8,1.0,untrained,0,,,0.14,...

A row of training is the mean of the updates since the row before; one of the evaluation belongs to the skills as they
were saved then. The last row is the mean of three fresh networks.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rows import write_rows

from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput
from skillrl.evaluation.theme import PALETTE, save

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

NAME = "dynamics"
BODIES = {
    "point": "Point",
    "half_cheetah": "HalfCheetah",
    "hopper": "Hopper",
    "walker2d": "Walker2d",
    "ant": "Ant",
    "swimmer": "Swimmer",
    "humanoid": "Humanoid",
}
VIEWS = {"all": "all of the observation", "xy": "x,y alone"}
"""What the discriminator sees."""
SEEDS = (0, 1, 2)

CONSTANT = ("body", "view", "seed", "settings", "num_skills", "coverage_cell")
TRAINED = ("discriminator_accuracy", "intrinsic_reward")
UNTRAINED = ("discriminability", "state_coverage", "displacement_median")
MEASURED = (*UNTRAINED, "discriminability_permuted", "effective_skills")
PHASES = {"training": TRAINED, "evaluation": MEASURED, "untrained": UNTRAINED}
COLUMNS = (*CONSTANT, "phase", "env_steps", *TRAINED, *MEASURED)

COLOURS = {"all": PALETTE[0], "xy": PALETTE[2]}
DASHED, DOTTED = (0, (4, 3)), (0, (1, 2))
Row = dict[str, str]
Ink = dict[str, Any]
Curve = tuple[np.ndarray, np.ndarray]  # env steps and values, (rows,) each


@dataclass(frozen=True)
class Seed:
    """curves: column → env steps and values, of the training or of the evaluations. untrained: column → value."""

    body: str
    view: str
    seed: int
    settings: str
    num_skills: int
    cell: float
    curves: Mapping[str, Curve]
    untrained: Mapping[str, float]

    @property
    def env_steps(self) -> int:
        return int(self.curves["discriminability"][0][-1])

    def end(self, column: str) -> float:
        return float(self.curves[column][1][-1])


Found = Mapping[str, Mapping[str, Mapping[int, Seed]]]  # body → view → seed


def views_of(body: str) -> list[str]:
    """The point's observation is x,y and nothing else: its two views are one."""
    return [view for view in VIEWS if body != "point" or view == "all"]


def name_of(body: str, view: str, seed: int) -> str:
    return f"{body}-s{seed}" if view == "all" else f"{body}-{view}-s{seed}"


# ---- the CSVs


write_seed = partial(write_rows, COLUMNS)


def read_seed(path: Path) -> Seed:
    """Errors: BadInput naming the file where it is not what ``write_seed`` wrote for that name."""
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    try:
        (constant,) = {tuple(row[key] for key in CONSTANT) for row in rows}
        body, view, seed, settings, num_skills, cell = constant
        if body not in BODIES or view not in views_of(body) or path.stem != name_of(body, view, int(seed)):
            raise ValueError(f"{body}, {view}, seed {seed}")
        of = {phase: [row for row in rows if row["phase"] == phase] for phase in PHASES}
        (untrained,) = of["untrained"]
        curves = {name: curve(of[phase], name) for phase in ("training", "evaluation") for name in PHASES[phase]}
        return Seed(
            body=body,
            view=view,
            seed=int(seed),
            settings=settings,
            num_skills=int(num_skills),
            cell=float(cell),
            curves=curves,
            untrained={name: float(untrained[name]) for name in UNTRAINED},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise BadInput(f"{path} is not the CSV of a seed: {error}") from error


def curve(rows: Sequence[Row], column: str) -> Curve:
    """Errors: ValueError where there is no row, or one without a number."""
    if not rows:
        raise ValueError(f"there is no {column}")
    return np.array([int(row["env_steps"]) for row in rows]), np.array([float(row[column]) for row in rows])


def read_all(folder: Path) -> Found:
    """All that is there, in the page's order. Errors: BadInput naming what was made with other settings than the rest.

    A seed that nobody asked for, of a body and a view that are here, is shown too.
    """
    found: dict[str, dict[str, dict[int, Seed]]] = {body: {view: {} for view in views_of(body)} for body in BODIES}
    seeds = sorted((read_seed(path) for path in folder.glob("*.csv")), key=lambda one: one.seed)
    for one in seeds:
        same = found[one.body][one.view]
        for other in same.values():
            if one.settings != other.settings:
                names = [name_of(it.body, it.view, it.seed) for it in (one, other)]
                raise BadInput(f"{folder}: {names[0]}.csv and {names[1]}.csv were made with different settings")
        same[one.seed] = one
    return found


# ---- the page


def make(data: Path, out: Path) -> Path:
    """Write the page and its figures, and return the page's path. Errors: BadInput where there is no data."""
    found = read_all(data / NAME)
    if not any(seeds for views in found.values() for seeds in views.values()):
        raise BadInput(f"{data / NAME} holds no CSV: run python docs/results/dynamics.py run")
    for body, views in found.items():
        if any(views.values()):
            save(partial(figure_of, views), out / "figures" / f"{NAME}-{body}.png")
    path = out / f"{NAME}.md"
    path.write_text(page(found))
    return path


def page(found: Found) -> str:
    """The whole Markdown text."""
    there = [body for body, views in found.items() if any(views.values())]
    parts = [
        "# DIAYN's training, body by body",
        about(found),
        missing(found),
        *(part for body in there for part in of_body(body, found[body])),
        "## How this page was made",
        f"The numbers are in [`data/{NAME}/`](data/{NAME}), one CSV for each seed. Everything here is made from them:",
        "    python docs/results/dynamics.py run    # the runs: hours; it can be stopped and goes on\n"
        "    python docs/results/dynamics.py page   # this page",
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def about(found: Found) -> str:
    """What is shown, in words and with the numbers that are the same for all."""
    every = [seed for views in found.values() for seeds in views.values() for seed in seeds.values()]
    steps = " / ".join(f"{n:,}" for n in sorted({seed.env_steps for seed in every}))
    skills = " / ".join(str(n) for n in sorted({seed.num_skills for seed in every}))
    return (
        f"`experiment=diayn/dynamics`: {steps} env steps, one update every 16 of them, {skills} skills; the "
        "learner's other settings are the paper's. There is no claim here: each thin line is a seed. The "
        f"discriminator, and with it the reward, sees {VIEWS['all']} (position included), or {VIEWS['xy']} (x alone "
        "where the body keeps to a line), the paper's choice for navigation; the policy sees everything in both.\n\n"
        "- **Discriminability**: how often a fresh classifier that sees only which cells a rollout visited names its "
        "skill; 12 deterministic rollouts a skill, half of them held out. Dotted: chance.\n"
        "- **Intrinsic reward**: log q(z | s') − log p(z), mean of the training batches. Dotted: log K, the most there "
        "can be.\n"
        "- **Coverage**: distinct cells that 48 deterministic rollouts visited, skills dealt evenly.\n\n"
        "Dashed: untrained networks of the same shape (the mean of three, and of the seeds). The first point of an "
        "evaluation is the run's own network before its first update. Skills that the discriminator tells apart by "
        "their pose need not lead anywhere: the reward can rise while discriminability stays near the dashed line."
    )


def missing(found: Found) -> str:
    """The seeds that are not there yet."""
    gaps = {
        f"{BODIES[body]}, {VIEWS[view]}": [str(seed) for seed in SEEDS if seed not in seeds]
        for body, views in found.items()
        for view, seeds in views.items()
    }
    told = [f"{which} (seed {', '.join(lost)})" for which, lost in gaps.items() if lost]
    return f"**Missing:** {'; '.join(told)}." if told else ""


def of_body(body: str, views: Mapping[str, Mapping[int, Seed]]) -> list[str]:
    """Heading, figure and table."""
    some = next(seed for seeds in views.values() for seed in seeds.values())
    head = ["The discriminator sees", "Seed", "Its accuracy", "Reward", "Discriminability", "Permuted labels"]
    head += [f"Coverage, cells of {some.cell:g}", "Displacement", f"Effective skills of {some.num_skills}"]
    rows = [[VIEWS[view], *row_of(seed)] for view, seeds in views.items() for seed in seeds.values()]
    return [
        f"## {BODIES[body]}",
        picture(f"figures/{NAME}-{body}", f"{BODIES[body]}: discriminability, intrinsic reward and coverage"),
        "At the end of training; after the stroke, untrained networks.",
        table(head, rows),
    ]


def row_of(seed: Seed) -> list[str]:
    """The end of each curve."""
    return [
        str(seed.seed),
        f"{seed.end('discriminator_accuracy'):.3f}",
        f"{seed.end('intrinsic_reward'):.2f}",
        f"{seed.end('discriminability'):.3f} / {seed.untrained['discriminability']:.3f}",
        f"{seed.end('discriminability_permuted'):.3f}",
        f"{seed.end('state_coverage'):.0f} / {seed.untrained['state_coverage']:.1f}",
        f"{seed.end('displacement_median'):.2f} / {seed.untrained['displacement_median']:.2f}",
        f"{seed.end('effective_skills'):.1f}",
    ]


# ---- the figures


def figure_of(views: Mapping[str, Mapping[int, Seed]], ink: Ink) -> "Figure":
    """Of one body: discriminability, intrinsic reward and coverage over env steps."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.6, 2.7), layout="constrained")
    told, paid, covered = figure.subplots(1, 3)
    seeds = [seed for some in views.values() for seed in some.values()]
    for axes, column in ((told, "discriminability"), (paid, "intrinsic_reward"), (covered, "state_coverage")):
        for seed in seeds:
            marker = None if column in TRAINED else "."
            axes.plot(*seed.curves[column], color=COLOURS[seed.view], lw=1.0, alpha=0.8, marker=marker, ms=4, zorder=3)
        if column in UNTRAINED:
            level = float(np.mean([seed.untrained[column] for seed in seeds]))
            axes.axhline(level, color=ink["faint"], lw=1.2, ls=DASHED, zorder=2)
    told.axhline(1 / seeds[0].num_skills, color=ink["faint"], lw=1.0, ls=DOTTED, zorder=1)
    paid.axhline(math.log(seeds[0].num_skills), color=ink["faint"], lw=1.0, ls=DOTTED, zorder=1)
    _finish(told, paid, covered, seeds[0], ink)
    _legend(figure, [view for view, some in views.items() if some], ink)
    return figure


def _finish(told: "Axes", paid: "Axes", covered: "Axes", seed: Seed, ink: Ink) -> None:
    from matplotlib.ticker import EngFormatter, PercentFormatter

    for axes, title in (
        (told, "Discriminability"), (paid, "Intrinsic reward, nats"), (covered, f"Coverage, cells of {seed.cell:g}")
    ):  # fmt: skip
        axes.set_title(title, loc="left", fontsize=9.5, color=ink["text"])
        axes.set_xlim(left=0)
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.set_xlabel("env steps")
        axes.grid(axis="x", visible=False)
    told.set_ylim(-0.03, 1.03)
    told.yaxis.set_major_formatter(PercentFormatter(1.0))
    covered.set_ylim(bottom=0)


def _legend(figure: "Figure", views: Sequence[str], ink: Ink) -> None:
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=COLOURS[view], lw=1.6) for view in views]
    lines += [Line2D([], [], color=ink["faint"], lw=1.2, ls=style) for style in (DASHED, DOTTED)]
    titles = [f"discriminator sees {VIEWS[view]}" for view in views] + ["untrained", "chance; log K"]
    figure.legend(lines, titles, loc="outside lower left", ncols=4, frameon=False, fontsize=8, handlelength=1.8)
