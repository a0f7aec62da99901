"""Figures of a run, each drawn twice: for light and for dark pages (``name.png``, ``name.dark.png``).

Everything is drawn from the run's own files, so that figures can be made again without a rollout.
"""

import json
import math
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.evaluation import panels
from skillrl.evaluation.curves import STEPS, USES, axis_of, baselines, curves_of, read_curves, slug
from skillrl.evaluation.metrics import coverage_so_far, of_each
from skillrl.evaluation.theme import BAD, GOOD, blank, save, skill_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from skillrl.evaluation.theme import Draw


ENDS = "os^DvP*X"
"""The marks at the ends of the first, second, ... agent's paths."""


def draw_all(run_dir: Path) -> None:
    """Writes to ``eval/figures`` every figure for which the run has data."""
    arrays = dict(np.load(run_dir / "eval" / "trajectories.npz"))
    scores = json.loads((run_dir / "eval" / "metrics.json").read_text())
    rows = read_curves(run_dir / "metrics.csv")
    wanted = _of_rollouts(arrays, scores) | _of_training(rows, scores)
    for name, draw in wanted.items():
        save(draw, run_dir / "eval" / "figures" / f"{name}.png")


def _of_rollouts(arrays: dict[str, np.ndarray], scores: dict[str, Any]) -> "dict[str, Draw]":
    wanted: dict[str, Draw] = {}
    classed, spread, cell = arrays["label"] >= 0, arrays["spread"], scores.get("coverage_cell")
    if arrays["coordinates"].shape[-1]:
        wanted["trajectories"] = partial(trajectories, arrays, scores)
    if arrays["coordinates"].shape[-1] and cell:
        visited = coverage_so_far(arrays["coordinates"][spread], arrays["length"][spread], cell)
        wanted["coverage"] = partial(panels.coverage, visited, arrays.get("untrained_coverage"))
    if "returns" in arrays and classed.any():
        wanted["returns"] = partial(panels.returns, arrays["returns"][classed], arrays["label"][classed])
    if "confusion" in arrays:
        wanted["confusion"] = partial(confusion, arrays["confusion"])
    if "control_coordinates" in arrays and arrays["control_coordinates"].shape[-1]:
        wanted["control_trajectories"] = partial(control_trajectories, arrays)
    if "foresight_error" in arrays:
        error, of_mean, known = (arrays[f"foresight_{name}"] for name in ("error", "mean_error", "seen"))
        wanted["foresight_error"] = partial(panels.foreseen, error, of_mean, int(known))
        obs, model, steps = (arrays[f"foresight_{name}"] for name in ("obs", "model", "steps"))
        if obs.ndim == 5:
            wanted["foresight"] = partial(panels.foreseen_pictures, obs, model, steps, int(known))
        elif obs.shape[-1]:
            wanted["foresight"] = partial(panels.foreseen_paths, obs, model, steps, int(known))
    if "imitation_log_q" in arrays:
        log_q, distance = arrays["imitation_log_q"], arrays["imitation_distance"]
        wanted["imitation"] = partial(panels.imitation, log_q, distance, scores["imitation_skill"])
    return wanted


def _of_training(rows: list[dict[str, str]], scores: dict[str, Any]) -> "dict[str, Draw]":
    """A panel for each curve; what is compared with a baseline is drawn larger."""
    wanted: dict[str, Draw] = {}
    for phase in ("pretrain", *USES):
        over = STEPS[axis_of(rows, phase)]
        for name, (steps, values) in curves_of(rows, phase).items():
            levels = baselines(name, scores) if phase in USES else []
            size = panels.LARGE if levels else panels.SMALL
            draw = partial(panels.curve, name, steps, values, over=over, levels=levels, size=size)
            wanted[f"{phase}_{slug(name)}"] = draw
    return wanted


def trajectories(arrays: dict[str, np.ndarray], scores: dict[str, Any], ink: dict[str, Any]) -> "Figure":
    """All rollouts of the skills in the plane, or x over time for a body that moves along a line."""
    classed = bool((arrays["label"] >= 0).any())
    rows = np.flatnonzero(arrays["label"] >= 0) if classed else arrays["spread"]
    labels = arrays["label"][rows] if classed else np.zeros(len(rows), dtype=int)
    teams = moving(of_each(arrays["coordinates"], int(arrays.get("agents", 1))))  # (agents, R, T + 1, D)
    figure, axes = blank(4.2, 4.8)
    colours = skill_colours(int(labels.max()) + 1)
    order = np.random.default_rng(0).permutation(len(rows))  # no skill lies on top of all the others
    for agent, coordinates in enumerate(teams):
        paths = []
        for row, label in zip(rows[order], labels[order], strict=True):
            path = coordinates[row, : arrays["length"][row] + 1]  # (t + 1, D)
            paths.append((_curve(path), colours[label]))
        _draw(axes, paths, paths, agent)
    _frame(axes, np.concatenate(teams[:, rows]), scores.get("coverage_cell"), ink)
    if len(colours) > 1:
        _legend(figure, axes, colours)
    return figure


def control_trajectories(arrays: dict[str, np.ndarray], ink: dict[str, Any]) -> "Figure":
    """The controller's episodes: the colour is the skill in use, a ring the goal (green when it was reached)."""
    from matplotlib.patches import Circle

    teams = moving(of_each(arrays["control_coordinates"], int(arrays.get("agents", 1))))  # (agents, R, T + 1, D)
    z = arrays["control_z"]
    figure, axes = blank(4.2, 4.8)
    discrete = z.ndim == 2 and np.issubdtype(z.dtype, np.integer)
    count = int(max(z.max(), arrays["label"].max())) + 1 if discrete else 1
    colours = skill_colours(count)
    for agent, coordinates in enumerate(teams):
        pieces, last = [], []
        for row, length in enumerate(arrays["control_length"]):
            used = z[row, :length] if discrete else np.zeros(length, dtype=int)
            for start, stop in runs(used):
                pieces.append((_curve(coordinates[row, start : stop + 1], start), colours[used[start]]))
            last.append(pieces[-1])
        _draw(axes, pieces, last, agent)
    coordinates = np.concatenate(teams)
    goal, success, radius = (arrays[f"control_{name}"] for name in ("goal", "success", "goal_radius"))
    if goal.shape[-1] == 2 and coordinates.shape[-1] == 2 and len(success):
        places = np.unique(goal, axis=0)
        for place in places:
            share = success[(goal == place).all(-1)].mean()
            ring = GOOD if share > 0.5 else BAD
            axes.add_patch(Circle(place, float(radius), fill=False, edgecolor=ring, linewidth=1.5, zorder=6))
            if len(places) < len(goal):  # of one episode each, the colour says it
                axes.annotate(f"{share:.0%}", place, ha="center", va="center", color=ring, zorder=6)
        coordinates = np.concatenate([coordinates, goal[:, None] - radius, goal[:, None] + radius], 1)
    _frame(axes, coordinates, None, ink)
    if count > 1:
        _legend(figure, axes, colours)
    return figure


def confusion(shares: np.ndarray, ink: dict[str, Any]) -> "Figure":
    """(K, K): the rollouts of a skill (row) that the fresh classifier took for each skill (column)."""
    from matplotlib.colors import LinearSegmentedColormap

    k = len(shares)
    figure, axes = blank(4.0, 4.0)
    axes.imshow(shares, cmap=LinearSegmentedColormap.from_list("shares", ink["map"]), vmin=0, vmax=1)
    axes.set(xlabel="taken for skill", ylabel="skill")
    ticks = np.arange(0, k, max(1, math.ceil(k / 16)))
    axes.set_xticks(ticks)
    axes.set_yticks(ticks)
    axes.tick_params(length=0)
    axes.grid(False)
    if k <= 12:
        for i, j in zip(*np.nonzero(shares >= 0.005), strict=True):
            colour = ink["map"][0] if shares[i, j] > 0.5 else ink["text"]
            axes.text(j, i, f"{shares[i, j]:.0%}"[:-1], ha="center", va="center", color=colour, fontsize=8)
    axes.set_title("% of held-out rollouts", color=ink["faint"], fontsize=9)
    return figure


def moving(coordinates: np.ndarray) -> np.ndarray:
    """(..., R, T + 1, D) without the y of a body that moves along x only: it is drawn over time."""
    on_a_line = coordinates.shape[-1] == 2 and np.ptp(coordinates[..., 1]) == 0
    return coordinates[..., :1] if on_a_line else coordinates


def runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    return zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True)


def _curve(path: np.ndarray, first: int = 0) -> np.ndarray:
    """(t, 2) points to draw: the path in the plane, or x over time for a body on a line."""
    return path if path.shape[1] == 2 else np.column_stack([first + np.arange(len(path)), path[:, 0]])


Path2D = tuple[np.ndarray, str]  # (t, 2) points and their colour


def _draw(axes: "Axes", paths: Sequence[Path2D], ended: Sequence[Path2D], agent: int = 0) -> None:
    """Lines in their colours, and a mark where each of ``ended`` ends: a dot, or another for another agent."""
    from matplotlib.collections import LineCollection

    points, shades = zip(*paths, strict=True)
    axes.add_collection(LineCollection(points, colors=shades, lw=1.1, alpha=0.75, capstyle="round", zorder=3))
    ends = np.array([curve[-1] for curve, _ in ended])
    mark, colours = ENDS[agent % len(ENDS)], [colour for _, colour in ended]
    axes.scatter(ends[:, 0], ends[:, 1], s=11, c=colours, marker=mark, linewidths=0, zorder=4)
    axes.autoscale_view()


def _frame(axes: "Axes", coordinates: np.ndarray, cell: float | None, ink: dict[str, Any]) -> None:
    """Labels and limits; in the plane equal axes, the start, and the coverage cells while they can be told apart."""
    if coordinates.shape[-1] != 2:
        axes.set(xlabel="env step", ylabel="x")
        return
    low, high = coordinates.min((0, 1)), coordinates.max((0, 1))
    centre, half = (low + high) / 2, 0.56 * max(float((high - low).max()), 1e-3)
    (left, bottom), (right, top) = centre - half, centre + half
    axes.set(xlim=(left, right), ylim=(bottom, top), xlabel="x", ylabel="y")
    axes.set_aspect("equal")
    axes.plot(*np.median(coordinates[:, 0], axis=0), "+", ms=9, color=ink["text"], zorder=5)
    axes.grid(False)
    if cell and 2 * half / cell <= 60:
        for axis, middle in ((axes.axvline, centre[0]), (axes.axhline, centre[1])):
            for i in range(math.ceil((middle - half) / cell), math.floor((middle + half) / cell) + 1):
                axis(i * cell, color=ink["line"], lw=0.6, zorder=0)


def _legend(figure: "Figure", axes: "Axes", colours: Sequence[str]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap
    from matplotlib.lines import Line2D

    if len(colours) <= 20:
        lines = math.ceil(len(colours) / 10)
        columns = math.ceil(len(colours) / lines)
        # matplotlib fills columns, people read lines
        order = [i for column in range(columns) for i in range(column, len(colours), columns)]
        marks = [Line2D([], [], color=colours[i], lw=4) for i in order]
        # Below, so that a narrow screen does not shrink the picture for the legend's sake.
        figure.legend(marks, [str(i) for i in order], loc="outside lower center", frameon=False, fontsize=9,
                      handlelength=1, handletextpad=0.4, columnspacing=1.1, title="skill", ncols=columns)  # fmt: skip
        return
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    bar = figure.colorbar(
        ScalarMappable(norm, ListedColormap(list(colours))), ax=axes, label="skill", location="bottom", shrink=0.8
    )
    bar.set_ticks(range(0, len(colours), math.ceil(len(colours) / 10)))
    bar.minorticks_off()
