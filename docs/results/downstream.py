"""The matrix, docs/results/downstream.md: control over the skills of several learners, on several sparse tasks.

    python docs/results/prove.py half_cheetah_goal    # the runs of one of its tasks
    python docs/results/downstream.py                 # the page and its figure, of what is there

Each task is a study of its own, with its own page and curves; here they stand side by side.
"""

import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from judge import Found, judge, scores_of
from seeds import complete, read_study
from studies import DATA, RESULTS, find_study
from study import Study

from skillrl.comparison.markdown import picture, table
from skillrl.errors import BadInput, exit_code
from skillrl.evaluation.statistics import mean_and_se
from skillrl.evaluation.theme import save

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TASKS = {
    "half_cheetah_goal": "HalfCheetah, a goal on its line",
    "ant_multi_goals": "Ant, moving goals",
    "point_maze": "Point, a maze",
}
LEARNT = {"ours": "DIAYN", "metra": "METRA", "csf": "CSF"}
AGAINST = {"flat_sac": "flat SAC", "untrained": "untrained skills"}
ROWS = LEARNT | {
    "untrained": "Untrained skill network",
    "flat_sac": "Flat SAC",
    "flat_ppo": "Flat PPO",
    "action_repeat": "SAC with action repeat",
}
ABOUT = """# Control over learnt skills, on sparse tasks

A controller chooses among frozen skills, on tasks that pay 1 in a goal and 0 elsewhere; beside it, the same controller
over the skill network as it was initialised (DIAYN's, also where METRA's and CSF's skills are compared with it), and
agents without skills. All have the same body, task, network widths, env steps on the task (300,000) and updates per env
step there (1/16); pretraining comes on top of it, and each task's page has curves with and without it counted. Scores
are of 48 deterministic episodes after training, env steps inside the goal or, in a maze, the share that reached it:
mean and standard error over seeds 0 to 4, or the seeds alone where some are missing. On the Ant METRA and CSF were
left out: METRA's skills stayed where they were (that task's page says so), as both learners' do on
[the board](board.md)."""

ELSEWHERE = """That control over skills learnt without reward solves sparse tasks which flat RL does not holds here for
one MuJoCo body of two: on HalfCheetah's line, and **not** on the Ant, where DIAYN's skills do not come far enough in
the time that a goal stays, and METRA's and CSF's were not learnt within these budgets. The maze is a point's, with
physics of our own, and needs no skills: action repeat reaches every goal, flat PPO on four seeds of five. METRA's and
CSF's hurdles stood where the goals on HalfCheetah's line stand now, and were [given up](half_cheetah_goal.md): skills
and action repeat passed one each. Outside of this table, with 160,000 env steps on the task, it holds as well for [a
Swimmer's goals](quickstart.md) (DIAYN: 6.5 pooled standard errors above flat SAC, 7.5 above untrained skills).

Of skills without a controller there are [their own way to a goal](point_zero_shot.md), and [the best of them trained
further](finetune.md), which does not hold."""


@dataclass(frozen=True)
class Column:
    """A task: its study, and what is there of it."""

    name: str
    study: Study
    found: Found

    def mean(self, arm: str) -> float | None:
        """Over what seeds are there."""
        return float(np.mean(scores_of(self.found[arm]))) if self.found.get(arm) else None

    def told(self, arm: str) -> str:
        if arm not in self.study.arms:
            return "–"
        seeds, told = self.found[arm], self.study.measure.told
        if not seeds:
            return "not run"
        if not complete(self.study, seeds):
            return f"{' '.join(told(score) for score in scores_of(seeds))} (of {len(self.study.seeds)})"
        mean, se = mean_and_se(scores_of(seeds))
        return f"{told(mean)} ± {told(se)}"


def columns(data: Path) -> list[Column]:
    """Of the tasks that have data."""
    studies = {name: find_study(name) for name in TASKS}
    read = [Column(name, study, read_study(study, data / name)) for name, study in studies.items()]
    return [column for column in read if any(column.found.values())]


def page(tasks: list[Column]) -> str:
    """Errors: BadInput where there is none."""
    if not tasks:
        raise BadInput(f"no task of the matrix has data: run python docs/results/prove.py {next(iter(TASKS))}")
    head = ["", *(f"[{TASKS[task.name]}]({task.name}.md)" for task in tasks)]
    rows = [[title, *(task.told(arm) for task in tasks)] for arm, title in ROWS.items() if known(arm, tasks)]
    parts = [
        ABOUT,
        picture("figures/downstream", "The mean score of each arm on each task"),
        "Colours are shares of a task's best mean." + absent(tasks),
        table(head, rows),
        "## Do skills help?",
        "Claim: control over learnt skills is above flat SAC, and above the same controller over the untrained skill "
        "network, by at least 3 pooled standard errors, over seeds 0 to 4.",
        table(["Skills", "Task", *(f"Against {title}" for title in AGAINST.values()), "Holds"], claims(tasks)),
        ELSEWHERE,
        "## How this page was made",
        "    python docs/results/prove.py half_cheetah_goal    # and the others\n    python docs/results/downstream.py",
    ]
    return "\n\n".join(parts) + "\n"


def absent(tasks: list[Column]) -> str:
    """A sentence on the learners that no task has yet."""
    missing = [title for arm, title in LEARNT.items() if not known(arm, tasks)]
    return f" Not there yet: the skills of {' and '.join(missing)}." if missing else ""


def known(arm: str, tasks: list[Column]) -> bool:
    return any(arm in task.study.arms for task in tasks)


def claims(tasks: list[Column]) -> list[list[str]]:
    """A line for the skills of each learner on each task."""
    lines = []
    for arm, title in LEARNT.items():
        for task in tasks:
            if task.found.get(arm):
                lines.append([title, TASKS[task.name], *claim(replace(task.study, ours=arm), task.found)])
    return lines


def claim(study: Study, found: Mapping[str, Any]) -> list[str]:
    """The gap to each of ``AGAINST`` in pooled standard errors, and whether both suffice."""
    judged = {arm: judge(replace(study, against=(arm,)), found) for arm in AGAINST if arm in study.arms}
    gaps = [judged[arm].claims[arm] if arm in judged and judged[arm].claims else None for arm in AGAINST]
    cells = [f"{gap.cells[0]}, {gap.cells[-1]} SE" if gap else "not settled" for gap in gaps]
    if None in gaps:
        return [*cells, "not settled"]
    return [*cells, "yes" if all(gap and gap.holds for gap in gaps) else "**no**"]


def heat_map(tasks: list[Column], ink: dict[str, Any]) -> "Figure":
    """Arms by tasks; a cell's colour is its share of the task's best mean."""
    from matplotlib.colors import LinearSegmentedColormap
    from matplotlib.figure import Figure

    arms = [arm for arm in ROWS if known(arm, tasks)]
    means = np.array([[np.nan if (m := task.mean(arm)) is None else m for task in tasks] for arm in arms])
    shares = np.clip(means / np.nanmax(means, axis=0), 0, 1)
    figure = Figure(figsize=(2.4 + 2.1 * len(tasks), 0.9 + 0.42 * len(arms)), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("share", ink["map"]), vmin=0, vmax=1, aspect="auto")
    axes.set_xticks(range(len(tasks)), [TASKS[task.name].replace(", ", ",\n") for task in tasks])
    axes.set_yticks(range(len(arms)), [ROWS[arm] for arm in arms])
    axes.xaxis.tick_top()
    axes.tick_params(length=0)
    axes.spines[:].set_visible(False)
    axes.grid(visible=False)
    for (i, j), mean in np.ndenumerate(means):
        if np.isfinite(mean):
            colour = ink["map"][0] if shares[i, j] > 0.55 else ink["text"]
            axes.text(j, i, tasks[j].study.measure.told(mean), ha="center", va="center", color=colour, fontsize=9.5)
    return figure


def make(data: Path = DATA, out: Path = RESULTS) -> Path:
    """Write the page and its figure. Errors: BadInput where there is no data."""
    tasks = columns(data)
    text = page(tasks)
    save(partial(heat_map, tasks), out / "figures" / "downstream.png")
    path = out / "downstream.md"
    path.write_text(text)
    return path


if __name__ == "__main__":
    try:
        print(make())
    except Exception as error:
        sys.exit(exit_code(error))
