"""Figures of a comparison: scores, learning curves, performance profiles. A group is a colour and a letter."""

import math
import textwrap
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from skillrl.comparison.groups import Comparison, Group
from skillrl.evaluation.curves import all_curves, first, smooth
from skillrl.evaluation.statistics import FEWEST_SEEDS, estimate, profile
from skillrl.evaluation.theme import skill_colours

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Ink = dict[str, Any]
Curve = tuple[np.ndarray, np.ndarray]  # env steps and values, (t,) each
Draw = Callable[[Ink], "Figure"]
COLUMNS, GRID = 3, 120  # panels beside each other; env steps at which an interval is worked out
MOST_LINES = 12  # groups that can be told apart in one panel
LETTERS_AN_INCH = 14
PLAIN = ["#4269d0", "#e08a00", "#3ca951", "#a463f2", "#e0457b", "#13a3b5", "#9c6b4e", "#8a8f98"]


def colours(n: int) -> list[str]:
    """One for each group: eight that differ in lightness too, for colour-blind readers; beyond, hues alone."""
    return PLAIN[:n] if n <= len(PLAIN) else skill_colours(n)


def all_figures(comparison: Comparison) -> dict[str, tuple[Draw, str]]:
    """stem → how it is drawn, and its caption, of all that the runs have data for."""
    found: dict[str, tuple[Draw, str]] = {}
    if comparison.headline:
        told = f"A dot is a seed. {_rule(comparison, 'a bar', 'a line')}"
        found["scores"] = partial(scores, comparison), told
    if len(comparison.groups) > MOST_LINES:
        return found
    for phase in phases(comparison):
        curves = curves_of(comparison, phase)
        if curves:
            told = f"{phase.capitalize()}: a line is a seed, smoothed over a tenth of the curve. "
            told += _rule(comparison, "a thick line", "a band")
            found[f"{phase}_curves"] = partial(learning_curves, comparison, curves), told
    if comparison.headline:
        told = "Performance profiles: the fraction of a group's runs that score above what stands below."
        found["profiles"] = partial(profiles, comparison), told
    return found


def undrawn(comparison: Comparison) -> list[str]:
    """A sentence, if there are more groups than can be drawn as lines."""
    if len(comparison.groups) <= MOST_LINES:
        return []
    return [f"not drawn: curves and profiles of more than {MOST_LINES} groups; compare fewer with a narrower glob"]


def _rule(comparison: Comparison, bar: str, line: str) -> str:
    if any(len(group.seeds) >= FEWEST_SEEDS for group in comparison.groups):
        return f"From {FEWEST_SEEDS} seeds on {bar} is their interquartile mean, {line} its 95 % interval."
    return f"With fewer than {FEWEST_SEEDS} seeds there is nothing more to show."


# ---- scores


def scores(comparison: Comparison, ink: Ink) -> "Figure":
    """A panel for each headline metric, a line for each group."""
    labels = [label(group, 38) for group in comparison.groups]
    height = 0.12 + 0.14 * max(text.count("\n") + 1 for text in labels)
    figure, grid = _panels(len(comparison.headline), 2.6, max(1.0, height * len(labels)) + 0.5, sharey=True)
    tones = colours(len(labels))
    for axes, metric in zip(grid, comparison.headline, strict=False):
        for i, group in enumerate(comparison.groups):
            _strip(axes, i, np.array(group.points(metric)), tones[i], ink)
        axes.set_title(metric.replace("_", " "), loc="left", fontsize=10, color=ink["text"])
        axes.set_ylim(len(labels) - 0.5, -0.5)
        axes.set_yticks(range(len(labels)), labels)
        axes.tick_params(axis="y", length=0, labelsize=8.5, labelcolor=ink["text"])
        axes.spines["left"].set_visible(False)
        axes.grid(axis="y", visible=False)
        _widen(axes.set_xlim, [x for group in comparison.groups for x in group.points(metric)])
        _few_ticks(axes.xaxis)
    return figure


def _strip(axes: "Axes", place: int, points: np.ndarray, colour: str, ink: Ink) -> None:
    points = points[np.isfinite(points)]
    offsets = np.linspace(-0.22, 0.22, len(points)) if len(points) > 1 else np.zeros(len(points))
    axes.scatter(points, place + offsets, s=20, color=colour, alpha=0.85, linewidths=0, zorder=6, clip_on=False)
    found = estimate(points)
    if found is not None:
        axes.plot([found.low, found.high], [place, place], color=ink["text"], lw=1.2, zorder=4)
        axes.plot([found.iqm] * 2, [place - 0.3, place + 0.3], color=ink["text"], lw=2.0, zorder=5)


# ---- learning curves


def phases(comparison: Comparison) -> list[str]:
    """In the order in which they were trained."""
    rows = (row for group in comparison.groups for run in group.seeds.values() for row in run.rows)
    return list(dict.fromkeys(row.get("phase", "pretrain") for row in rows))


def curves_of(comparison: Comparison, phase: str) -> dict[str, list[list[Curve]]]:
    """metric → group → seeds' curves: at most six metrics that move in any run, those that say most first."""
    found = [[all_curves(run.rows, phase) for run in group.seeds.values()] for group in comparison.groups]
    names = dict.fromkeys(name for seeds in found for curves in seeds for name in curves)
    curves = {
        name: [[one[name] for one in seeds if name in one and len(one[name][0])] for seeds in found] for name in names
    }
    return {name: curves[name] for name in first(name for name in names if _moves(curves[name]))}


def _moves(groups: Sequence[Sequence[Curve]]) -> bool:
    values = np.concatenate([np.zeros(0), *(values for seeds in groups for _, values in seeds)])
    values = values[np.isfinite(values)]
    return len(values) > 1 and float(np.ptp(values)) > 0


def learning_curves(comparison: Comparison, curves: dict[str, list[list[Curve]]], ink: Ink) -> "Figure":
    """A panel for each metric, over env steps."""
    figure, grid = _panels(len(curves), 3.3, 2.4)
    tones = colours(len(comparison.groups))
    for axes, (name, groups) in zip(grid, curves.items(), strict=False):
        ends = [_lines(axes, seeds, tone) for seeds, tone in zip(groups, tones, strict=True)]
        _letter_ends(axes, ends, comparison.groups, tones)
        axes.set_title(name.replace("_", " "), loc="left", fontsize=10, color=ink["text"])
        _few_ticks(axes.xaxis, steps=True)
        axes.set_xlabel("env steps", fontsize=8, labelpad=1)
        _few_ticks(axes.yaxis)
        axes.grid(axis="x", visible=False)
    drawn = [i for i in range(len(tones)) if any(groups[i] for groups in curves.values())]
    _key(figure, [comparison.groups[i] for i in drawn], [tones[i] for i in drawn])
    return figure


def _lines(axes: "Axes", seeds: Sequence[Curve], colour: str) -> tuple[float, float] | None:
    """Draws a group, and returns where it ends."""
    curves = [(steps, smooth(values)) for steps, values in seeds]
    together = over_seeds(curves)
    found = None if together is None else estimate(together[1])
    width, alpha = (0.7, 0.3) if found is not None else (1.3, 0.85)
    for steps, values in curves:
        axes.plot(steps, values, color=colour, lw=width, alpha=alpha, zorder=2, marker="." if len(steps) == 1 else None)
    if found is not None and together is not None:
        axes.fill_between(together[0], found.low, found.high, color=colour, alpha=0.18, lw=0, zorder=1)
        axes.plot(together[0], found.iqm, color=colour, lw=2.2, zorder=3, solid_capstyle="round")
        return float(together[0][-1]), float(found.iqm[-1])
    ends = [(float(steps[-1]), float(values[-1])) for steps, values in curves if np.isfinite(values[-1])]
    return (max(x for x, _ in ends), float(np.median([y for _, y in ends]))) if ends else None


def over_seeds(curves: Sequence[Curve]) -> Curve | None:
    """(t,) env steps that all seeds span, and (n, t) their values there; None where there are no such steps."""
    if not curves:
        return None
    low, high = max(steps[0] for steps, _ in curves), min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= low) & (grid <= high)]
    if not len(grid):
        return None
    grid = grid[np.unique(np.linspace(0, len(grid) - 1, GRID).round().astype(int))]
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])


def _letter_ends(axes: "Axes", ends: Sequence[Any], groups: Sequence[Group], tones: Sequence[str]) -> None:
    """Each group's letter at the right of its line, no two on top of each other."""
    here = [(end[1], i) for i, end in enumerate(ends) if end is not None]
    if not here:
        return
    right = max(end[0] for end in ends if end is not None)
    bottom, top = axes.get_ylim()
    heights = spread([y for y, _ in here], gap=(top - bottom) * min(0.085, 1 / len(here)), low=bottom, high=top)
    for height, (_, i) in zip(heights, here, strict=True):
        axes.annotate(groups[i].letter, (right, height), xytext=(4, 0), textcoords="offset points", va="center",
                      color=tones[i], fontsize=9, fontweight="bold", annotation_clip=False)  # fmt: skip


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """The places, moved so that two neighbours are ``gap`` apart, in the same order, from ``low`` to ``high``."""
    order = sorted(range(len(places)), key=lambda i: places[i])
    moved = [0.0] * len(places)
    last = low - gap / 2
    for i in order:
        last = moved[i] = max(places[i], last + gap)
    last = high + gap / 2
    for i in reversed(order):
        last = moved[i] = min(moved[i], last - gap)
    return moved


# ---- performance profiles


def profiles(comparison: Comparison, ink: Ink) -> "Figure":
    """A panel for each headline metric: the fraction of runs above each threshold."""
    from matplotlib.ticker import PercentFormatter

    figure, grid = _panels(len(comparison.headline), 3.3, 2.2, sharey=True)
    tones = colours(len(comparison.groups))
    for axes, metric in zip(grid, comparison.headline, strict=False):
        points = [[x for x in group.points(metric) if math.isfinite(x)] for group in comparison.groups]
        low, high = _widen(axes.set_xlim, [x for one in points for x in one])
        taus = np.linspace(low, high, 1001)
        for i, one in enumerate(points):
            if one:
                shares = profile(one, taus)
                axes.plot(taus, shares, color=tones[i], lw=1.7, alpha=0.9, zorder=2)
                height = (i + 1) / (len(points) + 1)
                where = float(taus[np.argmax(shares < height)])
                axes.annotate(comparison.groups[i].letter, (where, height), xytext=(3, 0), textcoords="offset points",
                              va="center", color=tones[i], fontsize=9, fontweight="bold")  # fmt: skip
        axes.set_title(metric.replace("_", " "), loc="left", fontsize=10, color=ink["text"])
        axes.set_ylim(-0.03, 1.03)
        axes.yaxis.set_major_formatter(PercentFormatter(1.0))
        axes.grid(axis="x", visible=False)
        _few_ticks(axes.xaxis)
    _key(figure, comparison.groups, tones)
    return figure


# ---- what they share


def label(group: Group, width: int) -> str:
    """Letter and name, broken after its commas and cut after three lines."""
    lines = textwrap.wrap(group.name, width, break_on_hyphens=False)
    if len(lines) > 3:
        lines = [*lines[:2], lines[2][: width - 1] + "…"]
    return f"{group.letter}  " + "\n".join(lines)


def _panels(count: int, width: float, height: float, **shared: Any) -> "tuple[Figure, list[Axes]]":
    from matplotlib.figure import Figure

    columns = min(COLUMNS, count)
    rows = math.ceil(count / columns)
    figure = Figure(figsize=(width * columns + 0.4, height * rows + 0.3), layout="constrained")
    grid = list(figure.subplots(rows, columns, squeeze=False, **shared).flat)
    for axes in grid[count:]:
        axes.set_visible(False)
    return figure, grid


def _widen(set_limits: Callable[[float, float], Any], points: Sequence[float]) -> tuple[float, float]:
    """Limits with room round all finite points, also where they are one."""
    finite = [x for x in points if math.isfinite(x)] or [0.0]
    room = 0.07 * (max(finite) - min(finite)) or 0.1 * abs(finite[0]) or 0.1
    set_limits(min(finite) - room, max(finite) + room)
    return min(finite) - room, max(finite) + room


def _few_ticks(axis: Any, steps: bool = False) -> None:
    from matplotlib.ticker import EngFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(4))
    if steps:
        axis.set_major_formatter(EngFormatter(sep=""))


def _key(figure: "Figure", groups: Sequence[Group], tones: Sequence[str]) -> None:
    """Which letter and colour is which group."""
    from matplotlib.lines import Line2D

    lines = [Line2D([], [], color=tone, lw=2.4) for tone in tones]
    columns = 2 if len(groups) > 2 else 1
    width = int(LETTERS_AN_INCH * figure.get_size_inches()[0] / columns) - 10
    names = [label(group, width) for group in groups]
    figure.legend(lines, names, loc="outside lower left", ncols=columns, frameon=False, fontsize=8.5, handlelength=1.6)
