"""The page of the board: the text and the figures that are made of the CSVs."""

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from board_seeds import BODIES, NAME, Body, Found, Seed, read_all

from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput
from skillrl.evaluation.theme import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Ink = dict[str, Any]
COLUMNS_OF_PANELS = 4


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
  learners that know a way to a goal.
- **Minutes**: of the clock, for training. Two ran at a time on two cores, at times with other work beside them or
  halted for it: upper bounds. Speeds are compared in [performance](../performance.md)."""


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
        judged(body, learners),
    ]


def judged(body: Body, learners: Mapping[str, Sequence[Seed]]) -> str:
    """What is claimed of the coverage, and whether it holds: judged with every seed there."""
    if body.claim is None:
        return ""
    claim, against, told = body.claim.claim, body.claim.against, "{:.1f}".format
    seeds = ", ".join(map(str, body.seeds))
    who = " and ".join(body.claim.learners)
    rule = f"Claim of {who}, each: {claim.rule('coverage', told, f'that of {against}')}, over seeds {seeds}."
    cells = {name: [one.scores["state_coverage"] for one in found] for name, found in learners.items()}
    rows, why = [], []
    for name in body.claim.learners:
        if any(len(cells.get(one, ())) < len(body.seeds) for one in (name, against)):
            rows.append([name, *[""] * len(claim.head), "not settled: seeds are missing"])
            continue
        verdict = claim.judge(cells[name], cells[against], told)
        rows.append([name, *verdict.cells, "yes" if verdict.holds else "**no**"])
        why += [] if verdict.holds else [body.claim.why.get(name, "")]
    return "\n\n".join([rule, table([f"Against {against}", *claim.head, "Holds"], rows), *filter(None, why)])


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
    axes.set(xlabel="cells that training had been to", ylim=(len(learners) - 0.5, -0.5))
    axes.set_xlim(left=0)
    axes.grid(axis="y", visible=False)
    return figure
