"""Figures of a run, each drawn twice: for light and for dark pages (``name.png``, ``name.dark.png``).

Everything is drawn from the run's own files, so that figures can be made again without a rollout.
"""

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.evaluation.curves import curves_of, read_curves, smooth

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    Draw = Callable[[dict[str, Any]], Figure]

# Ten hues that stay apart on white and on black, also for most colour-blind readers (Observable 10).
PALETTE = (
    "#4269d0", "#efb118", "#ff725c", "#6cc5b0", "#3ca951", "#ff8ab7", "#a463f2", "#97bbf5", "#9c6b4e", "#9498a0",
)  # fmt: skip
INK = {
    "light": {"text": "#1f2933", "faint": "#7b8794", "line": "#dfe4ea", "map": ("#ffffff", "#1d4ed8")},
    "dark": {"text": "#e6eaf0", "faint": "#8a94a3", "line": "#39414d", "map": ("#191d24", "#8fb4ff")},
}
GOOD, BAD = "#2ea043", "#e5534b"
DPI = 170


def skill_colours(n: int) -> list[str]:
    """A colour for each skill, the same everywhere. Above ten, a circle of hues of equal lightness (OKLCH)."""
    return list(PALETTE[:n]) if n <= len(PALETTE) else [_oklch(0.72, 0.14, 2 * math.pi * i / n) for i in range(n)]


def draw_all(run_dir: Path) -> None:
    """Writes to ``eval/figures`` every figure for which the run has data."""
    arrays = dict(np.load(run_dir / "eval" / "trajectories.npz"))
    scores = json.loads((run_dir / "eval" / "metrics.json").read_text())
    rows = read_curves(run_dir / "metrics.csv")
    wanted: dict[str, Draw] = {}
    if arrays["coordinates"].shape[-1]:
        wanted["trajectories"] = partial(trajectories, arrays, scores)
    if "confusion" in arrays:
        wanted["confusion"] = partial(confusion, arrays["confusion"])
    if "control_coordinates" in arrays and arrays["control_coordinates"].shape[-1]:
        wanted["control_trajectories"] = partial(control_trajectories, arrays)
    if "imitation_log_q" in arrays:
        wanted["imitation"] = partial(imitation, arrays, scores)
    for phase in ("pretrain", "control", "finetune"):
        found = curves_of(rows, phase)
        if found:
            wanted[f"{phase}_curves"] = partial(curves, found)
    for name, draw in wanted.items():
        save(draw, run_dir / "eval" / "figures" / f"{name}.png")


def save(draw: "Draw", path: Path) -> None:
    """Draws for both themes, on a transparent ground."""
    path.parent.mkdir(parents=True, exist_ok=True)
    for theme, ink in INK.items():
        with _style(ink):
            figure = draw(ink)
            target = path if theme == "light" else path.with_suffix(".dark.png")
            figure.savefig(target, dpi=DPI, transparent=True, bbox_inches="tight", metadata={"Software": None})


def trajectories(arrays: dict[str, np.ndarray], scores: dict[str, Any], ink: dict[str, Any]) -> "Figure":
    """All rollouts of the skills in the plane, or x over time for a body that moves along a line."""
    classed = bool((arrays["label"] >= 0).any())
    rows = np.flatnonzero(arrays["label"] >= 0) if classed else arrays["spread"]
    labels = arrays["label"][rows] if classed else np.zeros(len(rows), dtype=int)
    figure, axes = _figure(6.4, 5.2)
    colours = skill_colours(int(labels.max()) + 1)
    paths = []
    order = np.random.default_rng(0).permutation(len(rows))  # no skill lies on top of all the others
    for row, label in zip(rows[order], labels[order], strict=True):
        path = arrays["coordinates"][row, : arrays["length"][row] + 1]  # (t + 1, D)
        paths.append((_curve(path), colours[label]))
    _draw(axes, paths, paths)
    _frame(axes, arrays["coordinates"][rows], scores.get("coverage_cell"), ink)
    if len(colours) > 1:
        _legend(figure, axes, colours)
    return figure


def control_trajectories(arrays: dict[str, np.ndarray], ink: dict[str, Any]) -> "Figure":
    """The controller's episodes: the colour is the skill in use, a ring the goal (green when it was reached)."""
    from matplotlib.patches import Circle

    coordinates, z = arrays["control_coordinates"], arrays["control_z"]
    figure, axes = _figure(5.6, 4.6)
    discrete = z.ndim == 2 and np.issubdtype(z.dtype, np.integer)
    count = int(max(z.max(), arrays["label"].max())) + 1 if discrete else 1
    colours = skill_colours(count)
    pieces, last = [], []
    for row, length in enumerate(arrays["control_length"]):
        used = z[row, :length] if discrete else np.zeros(length, dtype=int)
        for start, stop in runs(used):
            pieces.append((_curve(coordinates[row, start : stop + 1], start), colours[used[start]]))
        last.append(pieces[-1])
    _draw(axes, pieces, last)
    goal, success, radius = (arrays[f"control_{name}"] for name in ("goal", "success", "goal_radius"))
    if goal.shape[-1] == 2 and coordinates.shape[-1] == 2 and len(success):
        for place in np.unique(goal, axis=0):
            share = success[(goal == place).all(-1)].mean()
            ring = GOOD if share > 0.5 else BAD
            axes.add_patch(Circle(place, float(radius), fill=False, edgecolor=ring, linewidth=1.5, zorder=6))
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
    figure, axes = _figure(4.4, 4.4)
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


def imitation(arrays: dict[str, np.ndarray], scores: dict[str, Any], ink: dict[str, Any]) -> "Figure":
    """For each skill, how well it explains the expert's observations, and how far from the expert it goes."""
    figure, (left, right) = _grid(1, 2)
    skills, chosen = np.arange(len(arrays["imitation_log_q"])), scores["imitation_skill"]
    colours = [PALETTE[0] if skill == chosen else ink["faint"] for skill in skills]
    left.bar(skills, arrays["imitation_log_q"], color=colours)
    left.set_title("mean log q(z | s) along the expert", loc="left", fontsize=10, color=ink["text"])
    right.bar(skills, arrays["imitation_distance"], color=colours)
    right.set_title("distance to the expert", loc="left", fontsize=10, color=ink["text"])
    for axes in (left, right):
        axes.set_xlabel("skill")
        axes.set_xticks(skills[:: max(1, math.ceil(len(skills) / 10))])
        axes.grid(axis="x", visible=False)
    return figure


def curves(found: dict[str, tuple[np.ndarray, np.ndarray]], ink: dict[str, Any]) -> "Figure":
    """One small panel for each column of metrics.csv, over env steps."""
    from matplotlib.ticker import EngFormatter, MaxNLocator

    columns = min(3, len(found))
    lines = math.ceil(len(found) / columns)
    figure, grid = _grid(lines, columns)
    for axes in grid[len(found) :]:
        axes.set_visible(False)
    for axes, (name, (steps, values)) in zip(grid, found.items(), strict=False):
        axes.plot(steps, values, color=PALETTE[0], alpha=0.3, lw=1)
        axes.plot(steps, smooth(values), color=PALETTE[0], lw=1.8)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10, color=ink["text"])
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.yaxis.set_major_locator(MaxNLocator(4))
        axes.grid(axis="x", visible=False)
    figure.supxlabel("env steps", fontsize=9, color=ink["faint"])
    return figure


def runs(values: np.ndarray) -> Iterator[tuple[int, int]]:
    """(start, stop) of each stretch of equal values."""
    edges = np.flatnonzero(np.diff(values)) + 1
    return zip([0, *edges.tolist()], [*edges.tolist(), len(values)], strict=True)


def _curve(path: np.ndarray, first: int = 0) -> np.ndarray:
    """(t, 2) points to draw: the path in the plane, or x over time for a body on a line."""
    return path if path.shape[1] == 2 else np.column_stack([first + np.arange(len(path)), path[:, 0]])


Path2D = tuple[np.ndarray, str]  # (t, 2) points and their colour


def _draw(axes: "Axes", paths: Sequence[Path2D], ended: Sequence[Path2D]) -> None:
    """Lines in their colours, and a dot where each of ``ended`` ends."""
    from matplotlib.collections import LineCollection

    points, colours = zip(*paths, strict=True)
    axes.add_collection(LineCollection(points, colors=colours, lw=1.1, alpha=0.75, capstyle="round", zorder=3))
    ends = np.array([curve[-1] for curve, _ in ended])
    axes.scatter(ends[:, 0], ends[:, 1], s=11, c=[colour for _, colour in ended], linewidths=0, zorder=4)
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
        lines = [Line2D([], [], color=colour, lw=3) for colour in colours]
        names = [f"skill {i}" for i in range(len(colours))]
        axes.legend(lines, names, loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, fontsize=9,
                    handlelength=1.2, ncols=1 if len(colours) <= 10 else 2)  # fmt: skip
        return
    norm = BoundaryNorm(np.arange(len(colours) + 1) - 0.5, len(colours))
    bar = figure.colorbar(ScalarMappable(norm, ListedColormap(list(colours))), ax=axes, label="skill", shrink=0.8)
    bar.set_ticks(range(0, len(colours), math.ceil(len(colours) / 10)))
    bar.minorticks_off()


def _figure(width: float, height: float) -> "tuple[Figure, Axes]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.add_subplot()


def _grid(lines: int, columns: int) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    figure = Figure(figsize=(3.2 * columns, 2.2 * lines), layout="constrained")
    return figure, list(figure.subplots(lines, columns, squeeze=False).flat)


@contextmanager
def _style(ink: dict[str, Any]) -> Iterator[None]:
    """One look for all figures. Figures are made without pyplot, so no window system is ever asked."""
    import matplotlib

    rc: Any = {
        "font.family": "DejaVu Sans", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False,
        "axes.edgecolor": ink["faint"], "axes.labelcolor": ink["faint"], "xtick.color": ink["faint"],
        "ytick.color": ink["faint"], "text.color": ink["text"], "axes.grid": True, "grid.color": ink["line"],
        "grid.linewidth": 0.6, "axes.linewidth": 0.8, "axes.axisbelow": True, "figure.facecolor": "none",
        "axes.facecolor": "none",
    }  # fmt: skip
    with matplotlib.rc_context(rc):
        yield


def _oklch(lightness: float, chroma: float, hue: float) -> str:
    """sRGB hex of an OKLCH colour (Ottosson 2020)."""
    a, b = chroma * math.cos(hue), chroma * math.sin(hue)
    lms = np.array(
        [[1, 0.3963377774, 0.2158037573], [1, -0.1055613458, -0.0638541728], [1, -0.0894841775, -1.2914855480]]
    )
    rgb = np.array(
        [[4.0767416621, -3.3077115913, 0.2309699292], [-1.2684380046, 2.6097574011, -0.3413193965],
         [-0.0041960863, -0.7034186147, 1.7076147010]]
    ) @ (lms @ [lightness, a, b]) ** 3  # fmt: skip
    rgb = np.clip(rgb, 0, 1)
    srgb = np.where(rgb <= 0.0031308, 12.92 * rgb, 1.055 * rgb ** (1 / 2.4) - 0.055)
    return "#" + "".join(f"{round(255 * value):02x}" for value in srgb.tolist())
